//! Extended sequence numbers between two SAs: around 2^32, over losses, with anti-replay off (T10, RFC 4303
//! section 2.2.1 and appendix A2.2).

use crate::error::{OpenError, ReplayError};
use crate::number::SeqNum;
use crate::suite::Suite;
use crate::{AntiReplay, EspHeader, InboundSa, SequenceKind};

use super::{inbound, outbound, sealed, window};

const SUITE: Suite = Suite::AES_128_GCM;

/// What becomes of the packet with this number at a receiver.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Accepted,
    Refused(ReplayError),
    Forged,
}

fn deliver(sa: &mut InboundSa, number: u64) -> Fate {
    let kind = sa.sequence();
    let mut packet = sealed(&outbound(SUITE, kind, 1), number, 20);
    let seq = match sa.check(EspHeader::parse(&packet).unwrap().seq) {
        Ok(seq) => seq,
        Err(refused) => return Fate::Refused(refused),
    };
    let verified = match sa.open(seq, &mut packet) {
        Ok((_, verified)) => verified,
        Err(OpenError::IcvMismatch) => return Fate::Forged,
        Err(runt) => panic!("{runt}"),
    };
    match sa.commit(verified) {
        Ok(()) => Fate::Accepted,
        Err(refused) => Fate::Refused(refused),
    }
}

fn receiver(anti_replay: AntiReplay, top: u64) -> InboundSa {
    inbound(SUITE, SequenceKind::Extended, anti_replay, top)
}

/// T12: what is told for the record follows the window, and nothing but the window.
#[test]
fn the_top_on_record_is_that_of_the_window() {
    for anti_replay in [window(64), AntiReplay::Off] {
        let top = crate::ReceivedTop::new();
        let config = crate::InboundConfig {
            spi: crate::Spi::new(crate::tests::SPI).unwrap(),
            suite: SUITE,
            keys: &crate::tests::keys(SUITE),
            sequence: SequenceKind::Extended,
            anti_replay,
            top: Some(top.clone()),
        };
        let mut sa = InboundSa::resume_after(config, SeqNum(100)).unwrap();
        assert_eq!(top.seq(), SeqNum(100));
        for (number, fate, after) in [
            (103, Fate::Accepted, 103),
            (101, Fate::Accepted, 103),
            (1 << 33, Fate::Forged, 103),
            (5000, Fate::Accepted, 5000),
        ] {
            assert_eq!(deliver(&mut sa, number), fate);
            assert_eq!((top.seq(), sa.top()), (SeqNum(after), SeqNum(after)));
        }
    }
}

/// T10: every number around the first and the second line of subspaces, in order and again as a replay.
#[test]
fn packets_pass_the_subspace_lines() {
    for line in [1_u64 << 32, 2 << 32] {
        for anti_replay in [window(64), window(4096), AntiReplay::Off] {
            let mut sa = receiver(anti_replay, line - 101);
            for number in line - 100..line + 100 {
                assert_eq!(deliver(&mut sa, number), Fate::Accepted, "{number:#x}");
                assert_eq!(sa.top(), SeqNum(number));
            }
            let again = match anti_replay {
                AntiReplay::Off => Fate::Accepted,
                AntiReplay::Window(_) => Fate::Refused(ReplayError::Replayed),
            };
            assert_eq!(deliver(&mut sa, line + 50), again);
            assert_eq!(sa.top(), SeqNum(line + 99));
        }
    }
}

/// T10: a receiver across the line still takes stragglers from before it, once.
#[test]
fn stragglers_from_the_previous_subspace_are_taken_once() {
    let line = 1_u64 << 32;
    let mut sa = receiver(window(64), line - 200);
    assert_eq!(deliver(&mut sa, line + 10), Fate::Accepted);
    assert_eq!(deliver(&mut sa, line - 1), Fate::Accepted);
    assert_eq!(deliver(&mut sa, line), Fate::Accepted);
    assert_eq!(deliver(&mut sa, line + 10 - 63), Fate::Accepted);
    assert_eq!(deliver(&mut sa, line - 1), Fate::Refused(ReplayError::Replayed));
    // One below the window: appendix A2.2 takes it for one nearly 2^32 ahead, which the ICV denies.
    assert_eq!(deliver(&mut sa, line + 10 - 64), Fate::Forged);
    assert_eq!(sa.top(), SeqNum(line + 10));
}

/// T10: losses of more than a window, of more than 2^31, and up to the last number appendix A2.2 can reach.
#[test]
fn losses_up_to_2_to_the_32_are_survived() {
    for loss in [65, 5000, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, 3 << 30, (1 << 32) - 64] {
        for top in [1000, (1_u64 << 32) - 100, (1 << 32) + 10, (2 << 32) - 1] {
            let mut sa = receiver(window(64), top);
            assert_eq!(deliver(&mut sa, top + loss), Fate::Accepted, "{top:#x} + {loss:#x}");
            assert_eq!(sa.top(), SeqNum(top + loss));
        }
    }
    // RFC 4303 appendix A3: from there on, synchronisation is lost, and the number falls into the window.
    let mut sa = receiver(window(64), 1000);
    assert_ne!(deliver(&mut sa, 1000 + (1 << 32) - 63), Fate::Accepted);
    assert_eq!(sa.top(), SeqNum(1000));
}

/// T10: 2^33 - 1 and its neighbours.
#[test]
fn the_end_of_the_second_subspace_is_passed() {
    let last = (1_u64 << 33) - 1;
    let mut sa = receiver(window(32), last - 1);
    for (number, fate) in [
        (last, Fate::Accepted),
        (last + 1, Fate::Accepted),
        (last, Fate::Refused(ReplayError::Replayed)),
        (last + 31, Fate::Accepted),
        (last, Fate::Refused(ReplayError::Replayed)),
        (last + 30, Fate::Accepted),
    ] {
        assert_eq!(deliver(&mut sa, number), fate, "{number:#x}");
    }
}

/// RFC 4303 appendix A2.2: at the start of an SA a low half near 2^32 is no earlier subspace, for there is none.
#[test]
fn a_fresh_receiver_knows_no_subspace_below_the_first() {
    for anti_replay in [window(64), AntiReplay::Off] {
        let mut sa = receiver(anti_replay, 0);
        assert_eq!(sa.check(SeqNum(u64::from(u32::MAX)).low()), Err(ReplayError::TooOld));
        assert_eq!(deliver(&mut sa, 1), Fate::Accepted);
    }
}

/// RFC 4303 section 2.2: 0 is never sent; without anti-replay a sender may let its number cycle (section 3.3.3).
#[test]
fn number_0_is_refused_unless_numbers_may_cycle() {
    let zero = SeqNum(0).low();
    for kind in super::KINDS {
        assert_eq!(inbound(SUITE, kind, window(64), 0).check(zero), Err(ReplayError::Zero));
    }
    let mut cycling = inbound(SUITE, SequenceKind::Seq32, AntiReplay::Off, u64::from(u32::MAX));
    assert_eq!(deliver(&mut cycling, 0), Fate::Accepted);
    assert_eq!(deliver(&mut cycling, 1), Fate::Accepted);
}

/// RFC 4303 section 3.4.3: off means off, at any distance and as often as wanted.
#[test]
fn without_anti_replay_nothing_is_refused() {
    let mut sa = inbound(SUITE, SequenceKind::Seq32, AntiReplay::Off, 0);
    for number in [5, 5, 1, 0xffff_ffff, 1, 0xffff_ffff] {
        assert_eq!(deliver(&mut sa, number), Fate::Accepted);
    }
    let mut sa = receiver(AntiReplay::Off, 100_000);
    for number in [100_001, 100_001, 100_001 - 65_535, 100_001] {
        assert_eq!(deliver(&mut sa, number), Fate::Accepted);
    }
}

/// RFC 4303 section 2.2.1: a sender and a receiver that disagree on the width understand nothing.
#[test]
fn the_width_of_numbers_is_authenticated() {
    for suite in super::esp() {
        let packet = sealed(&outbound(suite, SequenceKind::Extended, 1), 1, 20);
        let sa = inbound(suite, SequenceKind::Seq32, window(64), 0);
        assert_eq!(sa.open(SeqNum(1), &mut packet.clone()).map(drop), Err(OpenError::IcvMismatch));
    }
}

/// Numbers an earlier life of the SA may have received are refused, the next ones taken.
#[test]
fn a_resumed_receiver_refuses_everything_up_to_its_top() {
    for top in [0_u64, 1, 63, 64, 65, 1000, (1 << 32) - 1, 1 << 32] {
        let mut sa = receiver(window(100), top);
        for number in top.saturating_sub(99).max(1)..=top {
            assert_eq!(deliver(&mut sa, number), Fate::Refused(ReplayError::Replayed), "{number}");
        }
        for number in (top + 1..top + 300).rev().step_by(7).take(14) {
            assert_eq!(deliver(&mut sa, number), Fate::Accepted, "{top} {number}");
        }
        for number in (top + 1..top + 300).rev().take(99) {
            let expected = if (top + 299 - number).is_multiple_of(7) && top + 299 - number < 98 {
                Fate::Refused(ReplayError::Replayed)
            } else {
                Fate::Accepted
            };
            assert_eq!(deliver(&mut sa, number), expected, "{top} {number}");
        }
    }
    let beyond = crate::InboundConfig {
        spi: crate::Spi::new(super::SPI).unwrap(),
        suite: SUITE,
        keys: &super::keys(SUITE),
        sequence: SequenceKind::Seq32,
        anti_replay: AntiReplay::Off,
        top: None,
    };
    let refused = InboundSa::resume_after(beyond, SeqNum(1 << 32)).map(drop);
    assert_eq!(refused, Err(crate::ConfigError::ResumeOutOfRange(1 << 32)));
}
