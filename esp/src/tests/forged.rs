//! What a forger can move: nothing (T08, RFC 4303 section 3.4.3).

use proptest::prelude::*;

use crate::error::{OpenError, ReplayError};
use crate::suite::Suite;
use crate::{AntiReplay, EspHeader, InboundSa, SequenceKind};

use super::{KINDS, esp, inbound, outbound, sealed, seeded, window};

/// Everything a receiver can be seen to remember, near its top and far from it.
fn memory(sa: &InboundSa) -> Vec<Result<crate::SeqNum, ReplayError>> {
    let near = (0..200).chain((0..64).map(|shift| 1_u64 << shift));
    near.map(|distance| sa.check(crate::SeqNum(sa.top().0.wrapping_sub(100).wrapping_add(distance)).low()))
        .collect()
}

/// T08: forged packets with any number never move the window.
#[test]
fn window_moves_only_after_icv_verifies() {
    for suite in esp() {
        for kind in KINDS {
            for anti_replay in [window(64), AntiReplay::Off] {
                let mut sa = inbound(suite, kind, anti_replay, 500);
                let sender = outbound(suite, kind, 1);
                for number in [501, 503, 510] {
                    let mut packet = sealed(&sender, number, 30);
                    let seq = sa.check(EspHeader::parse(&packet).unwrap().seq).unwrap();
                    let verified = sa.open(seq, &mut packet).unwrap().1;
                    sa.commit(verified).unwrap();
                }
                let (top, before) = (sa.top(), memory(&sa));
                for number in [502, 504, 511, 100_000, 0x7fff_ffff, 0xffff_ff00_u32] {
                    let mut packet = sealed(&sender, 511, 30);
                    packet[4..8].copy_from_slice(&number.to_be_bytes());
                    let seq = sa.check(EspHeader::parse(&packet).unwrap().seq);
                    // The last of them belongs to no subspace at all where numbers are extended.
                    let Ok(seq) = seq else { continue };
                    if number != 511 {
                        assert_eq!(sa.open(seq, &mut packet).map(drop), Err(OpenError::IcvMismatch));
                    }
                    assert_eq!((sa.top(), memory(&sa)), (top, before.clone()));
                }
            }
        }
    }
}

/// T08: a batch that opens two copies before it commits either accepts one.
#[test]
fn of_two_copies_opened_together_one_is_committed() {
    let mut sa = inbound(Suite::AES_128_GCM, SequenceKind::Seq32, window(64), 0);
    let packet = sealed(&outbound(Suite::AES_128_GCM, SequenceKind::Seq32, 1), 9, 30);
    let (mut first, mut second) = (packet.clone(), packet);
    let seq = sa.check(EspHeader::parse(&first).unwrap().seq).unwrap();
    let (_, once) = sa.open(seq, &mut first).unwrap();
    let (_, twice) = sa.open(seq, &mut second).unwrap();
    assert_eq!(sa.commit(once), Ok(()));
    assert_eq!(sa.commit(twice), Err(ReplayError::Replayed));
}

/// T08: a batch whose last packet moves the window past its first does not accept the first.
#[test]
fn a_packet_that_fell_out_of_the_window_while_open_is_too_old() {
    let mut sa = inbound(Suite::AES_128_GCM, SequenceKind::Seq32, window(64), 0);
    let sender = outbound(Suite::AES_128_GCM, SequenceKind::Seq32, 1);
    let (mut early, mut late) = (sealed(&sender, 1, 30), sealed(&sender, 65, 30));
    let (_, early) = sa.open(crate::SeqNum(1), &mut early).unwrap();
    let (_, late) = sa.open(crate::SeqNum(65), &mut late).unwrap();
    assert_eq!(sa.commit(late), Ok(()));
    assert_eq!(sa.commit(early), Err(ReplayError::TooOld));
}

proptest! {
    #![proptest_config(seeded(500))]

    /// T04: bytes from anywhere are refused and do no harm.
    #[test]
    fn arbitrary_bytes_are_refused(
        suite in prop::sample::select(esp().collect::<Vec<_>>()),
        kind in prop::sample::select(&KINDS[..]),
        mut packet in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let sa = inbound(suite, kind, window(64), 0);
        if let Ok(header) = EspHeader::parse(&packet)
            && let Ok(seq) = sa.check(header.seq)
        {
            prop_assert!(sa.open(seq, &mut packet).is_err());
        }
    }

    /// RFC 4303 section 3.3.2: what is sealed is opened, whatever it is.
    #[test]
    fn any_payload_comes_back(
        suite in prop::sample::select(esp().collect::<Vec<_>>()),
        kind in prop::sample::select(&KINDS[..]),
        payload in prop::collection::vec(any::<u8>(), 0..2000),
        next_header in 0_u8..59,
        number in 1_u64..=0xffff_ffff,
    ) {
        let sender = outbound(suite, kind, 1);
        let mut packet = vec![0; sender.sealed_len(payload.len())];
        packet[sender.payload_offset()..][..payload.len()].copy_from_slice(&payload);
        let next_header = crate::NextHeader(next_header);
        sender.seal(super::fresh(number), next_header, &mut packet, payload.len()).unwrap();
        let sa = inbound(suite, kind, window(64), number - 1);
        let seq = sa.check(EspHeader::parse(&packet).unwrap().seq).unwrap();
        let inner = sa.open(seq, &mut packet).unwrap().0.decapsulate().unwrap();
        prop_assert_eq!((inner.next_header, &*inner.payload), (next_header, &payload[..]));
    }
}
