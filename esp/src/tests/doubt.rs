//! Extended numbers that the window gets wrong: what is late and what is forged, and the way back after a loss of 2^32
//! packets (T10, RFC 4303 section 3.4.3 and appendix A3).

use crate::error::{OpenError, ReplayError};
use crate::number::SeqNum;
use crate::suite::Suite;
use crate::{AhHeader, AntiReplay, EspHeader, InboundSa, NextHeader, SequenceKind};

use super::{ah, esp, fresh, inbound, outbound, sealed, window};

const ESN: SequenceKind = SequenceKind::Extended;
const LINE: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Accepted(u64),
    Replayed,
    Late,
    Forged,
}

fn suites() -> Vec<Suite> {
    let mut suites = Suite::RECOMMENDED.to_vec();
    suites.extend(esp().filter(|suite| suite.name().contains("iiv") || suite.name().contains("null")));
    suites.extend(ah());
    suites
}

/// What becomes of a packet whose ICV is over `number`, or of one with a wrong ICV.
fn deliver(sa: &mut InboundSa, number: u64, forged: bool) -> Fate {
    let (sender, mut scratch) = (outbound(sa.suite(), ESN, 1), [0; 200]);
    let is_ah = sender.ah_len(false) > 0;
    let mut packet = if is_ah {
        let len = 20 + sender.ah_len(false) + 8;
        let mut packet = vec![0; len];
        packet[..10].copy_from_slice(&[0x45, 0, 0, len as u8, 0, 0, 0, 0, 64, 51]);
        sender.authenticate(fresh(number), &mut packet, 20, NextHeader(17)).unwrap();
        packet
    } else {
        sealed(&sender, number, 20)
    };
    if forged {
        *packet.last_mut().unwrap() ^= 1;
    }
    let low = if is_ah {
        AhHeader::parse(&packet[20..]).unwrap().seq
    } else {
        EspHeader::parse(&packet).unwrap().seq
    };
    let seq = match sa.check(low) {
        Ok(seq) => seq,
        Err(ReplayError::TooOld) => return Fate::Late,
        Err(_) => return Fate::Replayed,
    };
    let result = match (is_ah, sa.is_in_doubt(seq)) {
        (true, true) => sa.verify_in_doubt(seq, &packet, 20).map(|(_, seq)| seq),
        (true, false) => sa.verify(seq, &packet, 20).map(|(_, seq)| seq),
        (false, true) => sa.open_in_doubt(seq, &mut packet, &mut scratch).map(|(_, seq)| seq),
        (false, false) => sa.open(seq, &mut packet).map(|(_, seq)| seq),
    };
    match result {
        Ok(verified) => {
            let number = verified.get().0;
            sa.commit(verified).unwrap();
            Fate::Accepted(number)
        }
        Err(OpenError::Late) => Fate::Late,
        Err(OpenError::IcvMismatch) => {
            sa.count_forged();
            Fate::Forged
        }
        Err(other) => panic!("{other}"),
    }
}

/// T10: an authentic packet from below the window is late, whichever subspace it is from; a forged one is forged.
#[test]
fn what_is_late_is_told_from_what_is_forged() {
    for suite in suites() {
        for top in [1000, LINE + 10, 2 * LINE + 1000, 5 * LINE - 1] {
            let mut sa = inbound(suite, ESN, window(64), top);
            for behind in [64, 65, 500, 1 << 20, (1 << 31) - 1] {
                let Some(number) = top.checked_sub(behind).filter(|&number| number > 0) else { continue };
                assert_eq!(deliver(&mut sa, number, false), Fate::Late, "{suite} {number:#x}");
                assert_eq!(deliver(&mut sa, number, true), Fate::Forged, "{suite} {number:#x}");
            }
            assert_eq!(sa.top(), SeqNum(top));
            assert_eq!(deliver(&mut sa, top + (3 << 30), false), Fate::Accepted(top + (3 << 30)), "{suite}");
        }
    }
}

/// T10: with anti-replay off nothing is late, and the epoch is followed both ways.
#[test]
fn without_a_window_late_packets_are_taken_from_either_subspace() {
    for suite in suites() {
        let mut sa = inbound(suite, ESN, AntiReplay::Off, 3 * LINE + 100);
        for number in [3 * LINE + 99, 3 * LINE - 5, 3 * LINE - (1 << 30) + 101, 2 * LINE + (1 << 31) + 200] {
            assert_eq!(deliver(&mut sa, number, false), Fate::Accepted(number), "{suite} {number:#x}");
            assert_eq!(deliver(&mut sa, number, true), Fate::Forged, "{suite} {number:#x}");
            assert_eq!(sa.top(), SeqNum(3 * LINE + 100));
        }
        let ahead = 3 * LINE + (3 << 30);
        assert_eq!(deliver(&mut sa, ahead, false), Fate::Accepted(ahead));
    }
}

/// RFC 4303 appendix A3.2: after a loss of 2^32 packets or several times that, the receiver finds its way back.
#[test]
fn a_receiver_that_lost_synchronisation_finds_it_again() {
    for suite in suites() {
        for anti_replay in [window(64), AntiReplay::Off] {
            for subspaces in 1..=4 {
                let mut sa = inbound(suite, ESN, anti_replay, 1000);
                let first = 2000 + subspaces * LINE;
                let fates: Vec<Fate> =
                    (first..first + 140).map(|number| deliver(&mut sa, number, false)).collect();
                assert_eq!(fates[..128], [Fate::Forged; 128], "{suite}");
                let accepted = (first + 128..first + 140).map(Fate::Accepted).collect::<Vec<_>>();
                assert_eq!(fates[128..], accepted, "{suite} after {subspaces}");
                assert_eq!(sa.top(), SeqNum(first + 139));
            }
            let mut sa = inbound(suite, ESN, anti_replay, 1000);
            let beyond = 2000 + 5 * LINE;
            assert!((beyond..beyond + 300).all(|number| deliver(&mut sa, number, false) == Fate::Forged));
        }
    }
}

/// RFC 4303 appendix A3: forged packets start the search now and then, find nothing, and move nothing; a packet that
/// verifies ends the count.
#[test]
fn forged_packets_divert_nobody() {
    let mut sa = inbound(Suite::AES_128_GCM, ESN, window(64), 1000);
    let searches = |sa: &mut InboundSa, count: u64| {
        let doubted = |sa: &mut InboundSa, number| {
            let doubted = sa.is_in_doubt(SeqNum(number));
            assert_eq!(deliver(sa, number, true), Fate::Forged);
            usize::from(doubted)
        };
        (0..count).map(|number| doubted(sa, 2000 + number)).sum::<usize>()
    };
    assert_eq!(searches(&mut sa, 12_801), 100);
    assert_eq!(sa.top(), SeqNum(1000));
    assert_eq!(deliver(&mut sa, 1001, false), Fate::Accepted(1001));
    assert_eq!(searches(&mut sa, 128), 0);
}

/// RFC 4303 section 2.2.1: 32 bits leave no doubt.
#[test]
fn numbers_of_32_bits_are_never_in_doubt() {
    let mut sa = inbound(Suite::AES_128_GCM, SequenceKind::Seq32, window(64), 1);
    (0..200).for_each(|_| sa.count_forged());
    assert!(!sa.is_in_doubt(SeqNum(0xffff_ffff)) && !sa.is_in_doubt(SeqNum(2)));
}

/// T05: where nothing verifies, nothing is left, and a scratch that is too short costs the second try alone.
#[test]
fn what_fails_in_doubt_is_wiped() {
    for suite in Suite::RECOMMENDED {
        let sa = inbound(suite, ESN, window(64), LINE + 1000);
        let (front, back) = (suite.payload_offset(), suite.icv_len());
        let late = sealed(&outbound(suite, ESN, 1), LINE + 1, 40);
        let seq = sa.check(EspHeader::parse(&late).unwrap().seq).unwrap();
        for (scratch, flipped, expected) in [
            (200, 0, OpenError::Late),
            (late.len(), 0, OpenError::Late),
            (late.len() - 1, 0, OpenError::IcvMismatch),
            (0, 0, OpenError::IcvMismatch),
            (200, 1, OpenError::IcvMismatch),
        ] {
            let mut packet = late.clone();
            *packet.last_mut().unwrap() ^= flipped;
            let opened = sa.open_in_doubt(seq, &mut packet, &mut vec![0; scratch]).map(drop);
            assert_eq!(opened, Err(expected), "{suite}");
            assert!(packet[front..packet.len() - back].iter().all(|&octet| octet == 0));
        }
    }
}
