//! Whole packets through a pair of SAs: lengths, room, trailers (RFC 4303 sections 2 and 3.3.2).

use crate::crypto::{Backend, SealingKey};
use crate::error::{BadPadding, ConfigError, OpenError, ReplayError, SealError, TakeError};
use crate::number::SeqNum;
use crate::suite::Suite;
use crate::udp_encap::{Encapsulated, classify};
use crate::{
    AntiReplay, EspHeader, InboundConfig, InboundSa, NextHeader, OutboundConfig, OutboundSa, PaddingContents,
    SequenceKind, Spi,
};

use super::{KINDS, SPI, by_name, esp, fresh, inbound, keys, outbound, payload, sealed, window};

/// T23 and T06: every payload up to beyond an MTU has its exact length on the wire and touches nothing behind it.
#[test]
fn every_payload_length_seals_to_its_exact_length_and_opens() {
    const CANARY: [u8; 32] = [0xa5; 32];
    for suite in esp() {
        for kind in KINDS {
            let sa = outbound(suite, kind, 1);
            let peer = inbound(suite, kind, window(64), 0);
            // Every length where it is quick, and for the others every place in a block.
            let step = if Suite::RECOMMENDED.contains(&suite) { 1 } else { 47 };
            for len in (0..40).chain((40..=1500_usize + 64).step_by(step)) {
                let (iv, block, icv) = by_name(suite);
                let exact = 8 + iv + (len + 2).div_ceil(block) * block + icv;
                let mut buffer = [sealed(&sa, 7, len), CANARY.to_vec()].concat();
                assert_eq!(buffer.len(), exact + 32, "{suite} {len}");

                buffer[8 + iv..][..len].copy_from_slice(&payload(len));
                assert_eq!(sa.seal(fresh(7), NextHeader::IPV6, &mut buffer, len), Ok(exact));
                assert_eq!(buffer[exact..], CANARY, "{suite} {len}");

                let (opened, seq) = peer.open(SeqNum(7), &mut buffer[..exact]).unwrap();
                assert_eq!(*seq.get(), SeqNum(7));
                let inner = opened.decapsulate().unwrap();
                assert_eq!((inner.next_header, inner.offset), (NextHeader::IPV6, 8 + iv));
                assert_eq!(inner.payload, payload(len), "{suite} {len}");
                assert_eq!(buffer[exact..], CANARY, "{suite} {len}");
            }
        }
    }
}

/// T06: a buffer one byte short is refused, and stays as it was.
#[test]
fn a_buffer_without_tailroom_is_refused_untouched() {
    for suite in esp() {
        let sa = outbound(suite, SequenceKind::Seq32, 1);
        for len in 0..=300 {
            let needed = sa.sealed_len(len);
            for got in [0, 8, 16, 16 + len, needed - 1].map(|got| got.min(needed - 1)) {
                let mut buffer = vec![0x5a; got];
                let refused = sa.seal(fresh(1), NextHeader::IPV4, &mut buffer, len);
                assert_eq!(refused, Err(SealError::NoRoom { needed, got }));
                assert!(buffer.iter().all(|&byte| byte == 0x5a));
            }
        }
        for len in [usize::MAX, usize::MAX - 3, usize::MAX / 2] {
            assert!(sa.seal(fresh(1), NextHeader::IPV4, &mut [0; 64], len).is_err());
        }
    }
}

/// RFC 4303 section 2: SPI and low half are where they belong. RFC 4106 section 3.1: the IV of an AEAD is the whole number.
#[test]
fn header_and_iv_carry_the_number() {
    let number = 0x0102_0304_a1a2_a3a4;
    for suite in esp() {
        let packet = sealed(&outbound(suite, SequenceKind::Extended, 1), number, 40);
        assert_eq!(packet[..4], SPI.to_be_bytes());
        assert_eq!(packet[4..8], [0xa1, 0xa2, 0xa3, 0xa4]);
        assert_eq!(packet[8..16] == number.to_be_bytes(), by_name(suite).0 == 8, "{suite}");
    }
}

/// T03: every length that cannot be a packet is a runt, raw and encapsulated, and the next one is merely wrong.
#[test]
fn every_short_length_is_a_runt() {
    for suite in esp() {
        for kind in KINDS {
            let sa = inbound(suite, kind, window(64), 0);
            let (iv, block, icv) = by_name(suite);
            let smallest = 8 + iv + if block == 16 { 16 } else { 2 } + icv;
            for fill in [0x00, 0xff, 0x41] {
                for got in 0..smallest {
                    let mut packet = vec![fill; got];
                    let refused = sa.open(SeqNum(1), &mut packet).map(drop);
                    assert_eq!(refused, Err(OpenError::Runt { needed: smallest, got }));
                    match classify(&packet) {
                        Encapsulated::Keepalive => assert_eq!((fill, got), (0xff, 1)),
                        Encapsulated::NonEsp(rest) => assert_eq!((fill, got), (0, rest.len() + 4)),
                        Encapsulated::Esp(header) => assert!(got >= 8 && !header.spi.is_reserved()),
                        Encapsulated::Runt => assert!(got < 8),
                        Encapsulated::ReservedSpi(spi) => panic!("{spi}"),
                    }
                }
                for got in smallest..smallest + 40 {
                    let refused = sa.open(SeqNum(1), &mut vec![fill; got]).map(drop);
                    let expected = match (got - smallest) % 16 {
                        1.. if block == 16 => OpenError::Unaligned { block: 16, got: got - smallest + 16 },
                        _ => OpenError::IcvMismatch,
                    };
                    assert_eq!(refused, Err(expected));
                }
            }
            let mut empty = sealed(&outbound(suite, kind, 1), 1, 0);
            assert!(sa.open(SeqNum(1), &mut empty).unwrap().0.decapsulate().unwrap().payload.is_empty());
        }
    }
}

/// A packet with any plaintext under a right ICV, as a peer with the key could send it.
fn authentic(suite: Suite, number: u64, plaintext: &[u8]) -> Vec<u8> {
    let seq = SeqNum(number);
    let header = EspHeader { spi: Spi::new(SPI).unwrap(), seq: seq.low() }.to_bytes();
    let mut packet = [&header[..], &vec![0; suite.iv_len()], plaintext, &vec![0; suite.icv_len()]].concat();
    SealingKey::<Backend>::new(&keys(suite)).unwrap().seal(seq, None, &mut packet).unwrap();
    packet
}

/// T01, behind a valid ICV: pad length above, at, and one below what precedes it, and 255. The number is burnt in
/// every case (RFC 4303 section 3.4.4.2).
#[test]
fn a_bad_trailer_behind_a_valid_icv_is_refused_and_burns_its_number() {
    for suite in esp().filter(|suite| by_name(*suite).1 == 4) {
        let mut sa = inbound(suite, SequenceKind::Seq32, window(64), 0);
        let mut number = 0;
        let mut receive = |plaintext: &[u8]| {
            number += 1;
            let mut packet = authentic(suite, number, plaintext);
            let seq = sa.check(EspHeader::parse(&packet).unwrap().seq).unwrap();
            let (opened, verified) = sa.open(seq, &mut packet).unwrap();
            let committed = sa.commit(verified);
            assert_eq!((committed, sa.check(seq.low())), (Ok(()), Err(ReplayError::Replayed)));
            opened.decapsulate().map(|inner| inner.payload.to_vec())
        };
        assert_eq!(receive(&[1, 2, 2, 4]), Ok(vec![]));
        assert_eq!(receive(&[9, 1, 1, 4]), Ok(vec![9]));
        assert_eq!(receive(&[1, 2, 3, 4]), Err(BadPadding::Length { pad: 3, available: 2 }));
        assert_eq!(receive(&[1, 2, 255, 4]), Err(BadPadding::Length { pad: 255, available: 2 }));
        assert_eq!(receive(&[0, 0, 2, 4]), Err(BadPadding::Contents));
        assert_eq!(receive(&[0, 4]), Ok(vec![]));
        assert_eq!(receive(&[1, 4]), Err(BadPadding::Length { pad: 1, available: 0 }));
    }
}

/// RFC 4303 section 2.6.
#[test]
fn a_dummy_is_told_from_a_packet_by_its_next_header_alone() {
    for suite in esp() {
        let sa = outbound(suite, SequenceKind::Seq32, 1);
        let mut packet = vec![0x77; sa.sealed_len(100)];
        assert_eq!(sa.seal_dummy(fresh(1), &mut packet, 100), Ok(packet.len()));
        let peer = inbound(suite, SequenceKind::Seq32, window(64), 0);
        let inner = peer.open(SeqNum(1), &mut packet).unwrap().0.decapsulate().unwrap();
        assert_eq!(inner.next_header, NextHeader::DUMMY);

        let mut packet = authentic(suite, 2, &[&[0xde; 14][..], &[255, 59]].concat());
        let inner = peer.open(SeqNum(2), &mut packet).unwrap().0.decapsulate().unwrap();
        assert_eq!(inner.next_header, NextHeader::DUMMY);
    }
}

/// T23 and T06, RFC 4303 section 2.7: padding that hides the length stands behind the payload, is zeros whatever the buffer
/// held, and makes the packet as long as a payload of both would.
#[test]
fn a_payload_is_padded_to_any_length() {
    for suite in esp() {
        let sa = outbound(suite, SequenceKind::Extended, 1);
        let peer = inbound(suite, SequenceKind::Extended, window(64), 0);
        for (len, tfc) in [(0, 0), (0, 1), (20, 0), (20, 3), (21, 300), (1, 1399), (40, 65_000)] {
            let exact = sa.sealed_len(len + tfc);
            let mut buffer = vec![0xa5; exact + 32];
            let offset = sa.payload_offset();
            buffer[offset..offset + len].copy_from_slice(&payload(len));
            assert_eq!(sa.seal_padded(fresh(7), NextHeader::IPV4, &mut buffer, len, tfc), Ok(exact));
            assert!(buffer[exact..].iter().all(|&octet| octet == 0xa5));
            let inner = peer.open(SeqNum(7), &mut buffer[..exact]).unwrap().0.decapsulate().unwrap();
            assert_eq!(inner.next_header, NextHeader::IPV4);
            assert_eq!(*inner.payload, [payload(len), vec![0; tfc]].concat(), "{suite} {len} {tfc}");

            let mut short = vec![0xa5; exact - 1];
            let refused = sa.seal_padded(fresh(7), NextHeader::IPV4, &mut short, len, tfc);
            assert_eq!(refused, Err(SealError::NoRoom { needed: exact, got: exact - 1 }));
            assert!(short.iter().all(|&octet| octet == 0xa5));
        }
        for (len, tfc) in [(usize::MAX, 1), (1, usize::MAX), (usize::MAX / 2, usize::MAX / 2)] {
            assert!(sa.seal_padded(fresh(1), NextHeader::IPV4, &mut [0; 64], len, tfc).is_err());
        }
    }
}

/// RFC 4303 section 2.4: padding that does not count is refused, or taken where the SA says so, behind a valid ICV either
/// way.
#[test]
fn padding_that_does_not_count_is_for_the_sa_to_take() {
    for suite in esp() {
        let mut plaintext = payload(32);
        plaintext[27..].copy_from_slice(&[9, 8, 7, 3, 4]);
        for (contents, expected) in
            [(PaddingContents::Counting, Err(BadPadding::Contents)), (PaddingContents::Any, Ok(27))]
        {
            let peer = inbound(suite, SequenceKind::Seq32, window(64), 0).padded(contents);
            let mut packet = authentic(suite, 1, &plaintext);
            let opened = peer.open(SeqNum(1), &mut packet).unwrap().0;
            assert_eq!(opened.decapsulate().map(|inner| inner.payload.len()), expected, "{suite}");
        }
    }
}

/// RFC 4303 section 2.1; and an SA is made with its own suite's keys or not at all.
#[test]
fn an_sa_that_cannot_be_is_refused() {
    let (suite, sequence) = (Suite::AES_256_GCM, SequenceKind::Extended);
    let make = |spi: u32, suite, keys: &crate::KeyMaterial| {
        let spi = Spi::new(spi).unwrap();
        let out = OutboundSa::new(OutboundConfig { spi, suite, keys, sequence, reservation: None }).map(drop);
        let anti_replay = AntiReplay::Off;
        let inb =
            InboundSa::new(InboundConfig { spi, suite, keys, sequence, anti_replay, top: None }).map(drop);
        assert_eq!(out, inb);
        out
    };
    assert_eq!(make(256, suite, &keys(suite)), Ok(()));
    assert_eq!(make(255, suite, &keys(suite)), Err(ConfigError::ReservedSpi(Spi::new(255).unwrap())));
    let other = Suite::CHACHA20_POLY1305;
    assert_eq!(make(256, suite, &keys(other)), Err(ConfigError::SuiteMismatch { suite, keys: other }));
}

/// T40: what a log can show of an SA holds none of its 36 octets, in whatever notation.
#[test]
fn debug_output_of_an_sa_shows_no_key_octet() {
    let suite = Suite::AES_256_GCM;
    let keys = crate::KeyMaterial::new(suite, &[0xd7; 36]).unwrap();
    let (spi, sequence, anti_replay) = (Spi::new(256).unwrap(), SequenceKind::Extended, window(64));
    let out_config = OutboundConfig { spi, suite, keys: &keys, sequence, reservation: None };
    let in_config = InboundConfig { spi, suite, keys: &keys, sequence, anti_replay, top: None };
    let mut shown = format!("{out_config:?} {out_config:#?} {in_config:?} {in_config:#?}");
    shown += &format!("{:?}", OutboundSa::new(out_config).unwrap());
    shown += &format!("{:?}", InboundSa::new(in_config).unwrap());
    assert!(shown.contains("redacted") && shown.contains("Extended"));
    for octet in ["215", "d7", "D7"] {
        assert!(!shown.contains(octet), "{shown}");
    }
}

/// T11: over a life that ends at the limit, no number and no IV comes twice.
#[test]
fn no_nonce_comes_twice() {
    for (kind, last) in [(SequenceKind::Seq32, u64::from(u32::MAX)), (SequenceKind::Extended, u64::MAX)] {
        let mut sa = outbound(Suite::AES_128_GCM, kind, last - 999);
        let mut seen = std::collections::HashSet::new();
        let mut sizes = [1, 7, 0, 64, 3].into_iter().cycle();
        loop {
            let mut run = match sa.take(sizes.next().unwrap()) {
                Ok(run) => run,
                Err(TakeError::Unreserved { reserved }) => panic!("{reserved}"),
                Err(TakeError::Exhausted { remaining }) => match u32::try_from(remaining).unwrap() {
                    0 => break,
                    rest => sa.take(rest).unwrap(),
                },
            };
            while let Some(seq) = run.next_seq() {
                let mut packet = [0; 36];
                assert_eq!(sa.seal(seq, NextHeader::DUMMY, &mut packet, 0), Ok(36));
                assert!(seen.insert(packet[8..16].to_vec()));
            }
        }
        assert_eq!(seen.len(), 1000);
        assert_eq!(sa.counter().taken(), SeqNum(last));
    }
}
