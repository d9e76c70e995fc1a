//! AH over whole IP packets: what it covers, against a naive reference that zeroes a copy (RFC 4302 section 3.3.3, T22).

use hmac::{Hmac, KeyInit, Mac as _};
use proptest::prelude::*;
use sha2::Sha256;

use crate::error::{BadHeaders, OpenError, ReplayError, SealError};
use crate::number::SeqNum;
use crate::protocol::Protocol;
use crate::suite::Suite;
use crate::{AhHeader, Align, InboundSa, NextHeader, OutboundSa, SequenceKind};

use super::{KINDS, ah, fresh, inbound, keys, outbound, payload, seeded, window};

const SUITE: Suite = Suite::AH_HMAC_SHA_256;
const TCP: NextHeader = NextHeader(6);

/// An IPv4 header with these options, room for AH, and a payload; and where AH stands.
fn v4(options: &[u8], ah: usize, len: usize) -> (Vec<u8>, usize) {
    let at = 20 + options.len();
    let total = u16::try_from(at + ah + len).unwrap().to_be_bytes();
    let ihl = 0x40 | u8::try_from(at / 4).unwrap();
    let fixed =
        [ihl, 0xb9, total[0], total[1], 0x12, 0x34, 0x40, 0, 63, 51, 0xab, 0xcd, 10, 9, 0, 1, 10, 9, 0, 2];
    ([&fixed[..], options, &vec![0xee; ah], &payload(len)].concat(), at)
}

/// An IPv6 header with these extension headers, each with its type, room for AH, and a payload; and where AH stands.
fn v6(chain: &[(u8, Vec<u8>)], ah: usize, len: usize) -> (Vec<u8>, usize) {
    let mut kinds: Vec<u8> = chain.iter().map(|(kind, _)| *kind).collect();
    kinds.push(51);
    let extensions: Vec<u8> =
        chain.iter().zip(&kinds[1..]).flat_map(|((_, body), next)| [&[*next][..], body].concat()).collect();
    let at = 40 + extensions.len();
    let length = u16::try_from(extensions.len() + ah + len).unwrap().to_be_bytes();
    let fixed = [0x6b, 0x91, 0x23, 0x45, length[0], length[1], kinds[0], 63];
    ([&fixed[..], &address(1), &address(2), &extensions, &vec![0xee; ah], &payload(len)].concat(), at)
}

fn address(last: u8) -> [u8; 16] {
    let mut address = [0xfd; 16];
    address[15] = last;
    address
}

fn authenticated(sa: &OutboundSa, number: u64, (mut packet, at): (Vec<u8>, usize)) -> Vec<u8> {
    sa.authenticate(fresh(number), &mut packet, at, TCP).unwrap();
    packet
}

/// HMAC-SHA-256 over a packet that was zeroed by hand, the high half behind it.
fn reference(covered: &[u8], high: Option<u32>) -> [u8; 16] {
    let keys = keys(SUITE);
    let mut mac = Hmac::<Sha256>::new_from_slice(keys.integrity_key()).unwrap();
    mac.update(covered);
    mac.update(&high.map(u32::to_be_bytes).unwrap_or_default()[..if high.is_some() { 4 } else { 0 }]);
    *mac.finalize().into_bytes().first_chunk().unwrap()
}

/// The same packet with what routers change zeroed: the fixed fields and the ICV.
fn zeroed(packet: &[u8], at: usize) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let mutable: &[usize] = if packet[0] >> 4 == 4 { &[1, 6, 7, 8, 10, 11] } else { &[1, 2, 3, 7] };
    mutable.iter().for_each(|&octet| packet[octet] = 0);
    if packet[0] >> 4 == 6 {
        packet[0] = 0x60;
    }
    packet[at + 12..at + 28].fill(0);
    packet
}

fn opens(sa: &InboundSa, number: u64, packet: &[u8], at: usize) -> Result<usize, OpenError> {
    sa.verify(SeqNum(number), packet, at).map(|(verified, seq)| {
        assert_eq!(*seq.get(), SeqNum(number));
        assert_eq!((verified.next_header, verified.authenticated_len), (TCP, packet.len()));
        verified.payload
    })
}

/// RFC 4302 sections 2 and 3.3.3, T23: every suite, family, alignment and width, with its exact length and the payload
/// untouched.
#[test]
fn what_one_end_authenticates_the_other_verifies() {
    for suite in ah() {
        for kind in KINDS {
            for align in [Align::Rfc, Align::Eight] {
                let sa = outbound(suite, kind, 1).aligned(align);
                let peer = inbound(suite, kind, window(64), 0).aligned(align);
                for len in (0..=40).chain([99, 1400]) {
                    for family in [false, true] {
                        let ah_len = sa.ah_len(family);
                        let (packet, at) = if family { v6(&[], ah_len, len) } else { v4(&[], ah_len, len) };
                        let sealed = authenticated(&sa, 7, (packet.clone(), at));
                        assert_eq!(sealed[..at], packet[..at]);
                        assert_eq!(sealed[at + ah_len..], payload(len));
                        let header = AhHeader::parse(&sealed[at..]).unwrap();
                        assert_eq!((header.len, header.next_header, header.seq.0), (ah_len, TCP, 7));
                        assert_eq!(sealed[at + 2..at + 4], [0, 0], "reserved");
                        assert_eq!(opens(&peer, 7, &sealed, at), Ok(at + ah_len), "{suite} {align:?} {len}");
                    }
                }
            }
        }
    }
}

/// RFC 4302 section 3.3.3.1.1.1 and 3.3.3.1.2.1, and section 3.3.3.2.2: the ICV is over the packet with what routers change
/// zeroed, and the high half behind it.
#[test]
fn the_icv_is_over_a_copy_with_mutable_fields_zeroed() {
    for kind in KINDS {
        for number in [1, 0xffff_ffff, 0x5_0000_0001] {
            if kind == SequenceKind::Seq32 && number > 0xffff_ffff {
                continue;
            }
            let sa = outbound(SUITE, kind, 1);
            let high = (kind == SequenceKind::Extended).then_some((number >> 32) as u32);
            for (packet, at) in [v4(&[], 28, 77), v6(&[], 32, 77)] {
                let sealed = authenticated(&sa, number, (packet, at));
                let expected = reference(&zeroed(&sealed, at), high);
                assert_eq!(sealed[at + 12..at + 28], expected);
            }
        }
    }
}

/// RFC 4302 section 3.3.3.1: what routers change does not matter, and every other bit does.
#[test]
fn every_bit_matters_but_those_that_routers_change() {
    for suite in [SUITE, Suite::ah_gmac(crate::AesKey::Aes128)] {
        let sa = outbound(suite, SequenceKind::Seq32, 1);
        let peer = inbound(suite, SequenceKind::Seq32, window(64), 0);
        for ((packet, at), mutable) in [
            (v4(&[], sa.ah_len(false), 20), &[1, 6, 7, 8, 10, 11][..]),
            (v6(&[], sa.ah_len(true), 20), &[1, 2, 3, 7][..]),
        ] {
            let sealed = authenticated(&sa, 1, (packet, at));
            for bit in 0..sealed.len() * 8 {
                let mut changed = sealed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let fragment = sealed[0] >> 4 == 4 && (bit / 8 == 7 || (bit / 8 == 6 && bit % 8 < 6));
                // The traffic class begins in the version's octet.
                let free = mutable.contains(&(bit / 8)) || (sealed[0] >> 4 == 6 && bit < 4);
                let opened = opens(&peer, 1, &changed, at);
                assert_eq!(opened.is_ok(), free && !fragment, "{suite} bit {bit}: {opened:?}");
            }
        }
    }
}

/// RFC 4302 appendix A1: each option there is, covered as it is or as zeros.
#[test]
fn ipv4_options_are_covered_by_their_class() {
    let immutable = [130, 133, 134, 148, 149];
    let sa = outbound(SUITE, SequenceKind::Seq32, 1);
    for kind in 2..=255_u8 {
        if [131, 137].contains(&kind) {
            continue;
        }
        let options = [1, kind, 6, 0xa1, 0xa2, 0xa3, 0xa4, 0];
        let sealed = authenticated(&sa, 1, v4(&options, 28, 33));
        let mut covered = zeroed(&sealed, 28);
        if !immutable.contains(&kind) {
            covered[21..27].fill(0);
        }
        assert_eq!(sealed[28 + 12..28 + 28], reference(&covered, None), "option {kind}");
    }
}

/// RFC 4302 appendix A1: what is behind the end of the list is covered, so that nothing hides there.
#[test]
fn what_is_behind_the_end_of_options_is_covered() {
    let sa = outbound(SUITE, SequenceKind::Seq32, 1);
    let sealed = authenticated(&sa, 1, v4(&[1, 0, 7, 99], 28, 5));
    assert_eq!(sealed[24 + 12..24 + 28], reference(&zeroed(&sealed, 24), None));
}

/// RFC 4302 section 3.3.3.1.1.1: on its way by a source route, a packet is authenticated for where it ends.
#[test]
fn a_source_route_is_authenticated_for_its_final_destination() {
    for kind in [131, 137] {
        let (sa, peer) =
            (outbound(SUITE, SequenceKind::Seq32, 1), inbound(SUITE, SequenceKind::Seq32, window(64), 0));
        let options = [kind, 11, 4, 192, 0, 2, 1, 192, 0, 2, 2, 0];
        let mut sealed = authenticated(&sa, 1, v4(&options, 28, 9));
        let mut covered = zeroed(&sealed, 32);
        covered[16..20].copy_from_slice(&[192, 0, 2, 2]);
        covered[20..31].fill(0);
        assert_eq!(sealed[32 + 12..32 + 28], reference(&covered, None));
        assert!(opens(&peer, 1, &sealed, 32).is_ok(), "at the sender");
        // Two routers later: each put its own address where the next one stood (RFC 791 section 3.1).
        sealed[16..20].copy_from_slice(&[192, 0, 2, 2]);
        sealed[22] = 12;
        sealed[23..31].copy_from_slice(&[203, 0, 113, 1, 203, 0, 113, 2]);
        assert!(opens(&peer, 1, &sealed, 32).is_ok(), "at the receiver");
        sealed[19] = 3;
        assert_eq!(opens(&peer, 1, &sealed, 32), Err(OpenError::IcvMismatch), "at another receiver");
    }
}

/// RFC 4302 section 3.3.3.1.2.2: of an option that may change, only the contents may.
#[test]
fn ipv6_options_are_covered_by_their_mutable_bit() {
    for kind in [0, 60] {
        let body = vec![1, 0, 0x1e, 4, 1, 2, 3, 4, 0x3e, 2, 5, 6, 1, 1, 0];
        let sa = outbound(SUITE, SequenceKind::Seq32, 1);
        let sealed = authenticated(&sa, 1, v6(&[(kind, body)], 32, 12));
        let mut covered = zeroed(&sealed, 56);
        assert_eq!(covered[49..53], [0x3e, 2, 5, 6]);
        covered[51..53].fill(0);
        assert_eq!(sealed[56 + 12..56 + 28], reference(&covered, None));
    }
}

/// RFC 4302 appendix A2: a routing header is authenticated as it will be at the receiver, wherever the packet is.
#[test]
fn a_routing_header_is_authenticated_in_its_final_arrangement() {
    let (sa, peer) =
        (outbound(SUITE, SequenceKind::Seq32, 1), inbound(SUITE, SequenceKind::Seq32, window(64), 0));
    let body = [&[6, 0, 3, 0, 0, 0, 0][..], &address(0xa), &address(0xb), &address(0xc)].concat();
    let mut sealed = authenticated(&sa, 1, v6(&[(43, body)], 32, 12));
    let at = 40 + 56;
    let mut arrived = zeroed(&sealed, at);
    arrived[43] = 0;
    for (place, who) in [(24, 0xc), (48, 2), (64, 0xa), (80, 0xb)] {
        arrived[place..place + 16].copy_from_slice(&address(who));
    }
    assert_eq!(sealed[at + 12..at + 28], reference(&arrived, None));
    // RFC 2460 section 4.4: each router exchanges the destination with the next address.
    for hop in 0..3 {
        assert!(opens(&peer, 1, &sealed, at).is_ok(), "after {hop} hops");
        let next = 48 + 16 * hop;
        let destination: Vec<u8> = sealed[24..40].to_vec();
        sealed.copy_within(next..next + 16, 24);
        sealed[next..next + 16].copy_from_slice(&destination);
        sealed[43] -= 1;
    }
    assert_eq!(zeroed(&sealed, at), {
        arrived[at + 12..at + 28].fill(0);
        arrived
    });
    assert!(opens(&peer, 1, &sealed, at).is_ok(), "at the receiver");
    sealed[43] = 4;
    assert_eq!(opens(&peer, 1, &sealed, at), Err(OpenError::Headers(BadHeaders::Route)));
}

/// RFC 4302 appendix A2: other routing headers are as they are once they lead nowhere any more, and unforeseeable before.
#[test]
fn an_unknown_routing_header_is_covered_only_at_its_end() {
    let sa = outbound(SUITE, SequenceKind::Seq32, 1);
    let body = |left| vec![0, 4, left, 1, 2, 3, 4];
    let sealed = authenticated(&sa, 1, v6(&[(43, body(0))], 32, 12));
    assert_eq!(sealed[48 + 12..48 + 28], reference(&zeroed(&sealed, 48), None));
    let (mut packet, at) = v6(&[(43, body(1))], 32, 12);
    let refused = sa.authenticate(fresh(1), &mut packet, at, TCP);
    assert_eq!(refused, Err(SealError::Headers(BadHeaders::Route)));
}

/// RFC 4302 appendix A2: a fragment header of a whole packet is as if it were not there.
#[test]
fn a_whole_packets_fragment_header_is_passed_over() {
    let (sa, peer) =
        (outbound(SUITE, SequenceKind::Seq32, 1), inbound(SUITE, SequenceKind::Seq32, window(64), 0));
    let options = || (60, vec![0, 1, 4, 0, 0, 0, 0]);
    let plain = authenticated(&sa, 1, v6(&[options()], 32, 12));
    let fragment = |more| (44, vec![0, 0, more, 0, 0, 0, 7]);
    for chain in [[fragment(0), options()], [options(), fragment(0)]] {
        let sealed = authenticated(&sa, 1, v6(&chain, 32, 12));
        assert_eq!(sealed[56..], plain[48..]);
        assert!(opens(&peer, 1, &sealed, 56).is_ok());
    }
    let (mut packet, at) = v6(&[fragment(1)], 32, 12);
    let refused = sa.authenticate(fresh(1), &mut packet, at, TCP);
    assert_eq!(refused, Err(SealError::Headers(BadHeaders::Fragment)));
}

/// T22: headers that cannot be read are refused by name, before any number moves.
#[test]
fn headers_that_cannot_be_read_are_refused() {
    let peer = inbound(SUITE, SequenceKind::Seq32, window(64), 0);
    let sa = outbound(SUITE, SequenceKind::Seq32, 1);
    let changed = |(packet, at): (Vec<u8>, usize), change: &dyn Fn(&mut Vec<u8>)| {
        let mut sealed = packet;
        sealed[at + 1] = if sealed[0] >> 4 == 4 { 5 } else { 6 };
        sealed[at + 4..at + 8].copy_from_slice(&super::SPI.to_be_bytes());
        change(&mut sealed);
        let by_sender = sa.authenticate(fresh(1), &mut sealed.clone(), at, TCP);
        let by_receiver = opens(&peer, 1, &sealed, at).map(drop);
        match by_receiver {
            Err(OpenError::Headers(reason)) => {
                assert_eq!(by_sender, Err(SealError::Headers(reason)));
                reason
            }
            other => panic!("{other:?}"),
        }
    };
    let (plain4, plain6) = (|| v4(&[], 28, 9), || v6(&[], 32, 9));
    assert_eq!(changed(plain4(), &|packet| packet[3] += 1), BadHeaders::Length);
    assert_eq!(changed(plain4(), &|packet| packet[9] = 50), BadHeaders::Chain);
    assert_eq!(changed(plain4(), &|packet| packet[0] = 0x46), BadHeaders::Chain);
    assert_eq!(changed(plain4(), &|packet| packet[6] = 0x20), BadHeaders::Fragment);
    assert_eq!(changed(plain4(), &|packet| packet[7] = 1), BadHeaders::Fragment);
    assert_eq!(changed(plain6(), &|packet| packet[5] += 1), BadHeaders::Length);
    assert_eq!(changed(plain6(), &|packet| packet[6] = 17), BadHeaders::Chain);
    assert_eq!(changed(plain6(), &|packet| packet[6] = 0), BadHeaders::Truncated);
    for (options, reason) in [
        ([7, 0, 0, 0], BadHeaders::Option),
        ([7, 1, 0, 0], BadHeaders::Option),
        ([7, 5, 0, 0], BadHeaders::Option),
        ([1, 1, 1, 7], BadHeaders::Option),
    ] {
        assert_eq!(changed(v4(&options, 28, 9), &|_| {}), reason, "{options:?}");
    }
    for (body, reason) in
        [(vec![0, 1, 5, 0, 0, 0, 0], BadHeaders::Option), (vec![0, 1, 2, 0, 0, 0, 9], BadHeaders::Option)]
    {
        assert_eq!(changed(v6(&[(60, body)], 32, 9), &|_| {}), reason);
    }
    let long = |packet: &mut Vec<u8>| packet[41] = 255;
    assert_eq!(changed(v6(&[(60, vec![0, 1, 4, 0, 0, 0, 0])], 32, 9), &long), BadHeaders::Truncated);
}

/// T22, RFC 4302 section 3.3.3.2.1: a header longer or shorter than the SA's is refused by its own name.
#[test]
fn a_header_of_another_length_is_refused() {
    let peer = inbound(SUITE, SequenceKind::Seq32, window(64), 0);
    let sealed = authenticated(&outbound(SUITE, SequenceKind::Seq32, 1), 1, v4(&[], 28, 1200));
    for field in 0..=255 {
        let mut changed = sealed.clone();
        changed[21] = field;
        let len = (usize::from(field) + 2) * 4;
        let expected = match len {
            28 => Ok(48),
            0..12 => Err(OpenError::Header(crate::ParseError::AhLength(len))),
            _ => Err(OpenError::AhLength { needed: 28, got: len }),
        };
        assert_eq!(opens(&peer, 1, &changed, 20), expected);
    }
    let linux = outbound(SUITE, SequenceKind::Seq32, 1).aligned(Align::Eight);
    let padded = authenticated(&linux, 1, v4(&[], 32, 9));
    assert_eq!(opens(&peer, 1, &padded, 20), Err(OpenError::AhLength { needed: 28, got: 32 }));
    assert_eq!(opens(&peer.aligned(Align::Eight), 1, &padded, 20), Ok(52));
}

/// T03, T22: every cut of a packet, and every place where AH might stand, is refused.
#[test]
fn every_cut_and_every_place_is_refused() {
    for suite in ah() {
        let sa = outbound(suite, SequenceKind::Seq32, 1);
        let peer = inbound(suite, SequenceKind::Seq32, window(64), 0);
        for (packet, at) in [v4(&[148, 4, 0, 0], sa.ah_len(false), 5), v6(&[], sa.ah_len(true), 5)] {
            let sealed = authenticated(&sa, 1, (packet, at));
            for len in 0..sealed.len() {
                assert!(opens(&peer, 1, &sealed[..len], at).is_err());
                let mut cut = sealed[..len].to_vec();
                assert!(sa.authenticate(fresh(1), &mut cut, at, TCP).is_err());
            }
            for other in (0..sealed.len() + 40).chain([usize::MAX]).filter(|&other| other != at) {
                assert!(opens(&peer, 1, &sealed, other).is_err());
                assert!(sa.authenticate(fresh(1), &mut sealed.clone(), other, TCP).is_err());
            }
        }
    }
}

/// RFC 4301 section 4.1: an SA is of one protocol.
#[test]
fn an_sa_of_one_protocol_does_nothing_of_the_other() {
    let (esp, esp_peer) = (
        outbound(Suite::AES_128_GCM, SequenceKind::Seq32, 1),
        inbound(Suite::AES_128_GCM, SequenceKind::Seq32, window(64), 0),
    );
    let (mut packet, at) = v4(&[], 28, 9);
    let refused = esp.authenticate(fresh(1), &mut packet, at, TCP);
    assert_eq!(refused, Err(SealError::WrongProtocol(Protocol::Esp)));
    assert_eq!(opens(&esp_peer, 1, &packet, at), Err(OpenError::WrongProtocol(Protocol::Esp)));
    for suite in ah() {
        let (sa, peer) =
            (outbound(suite, SequenceKind::Seq32, 1), inbound(suite, SequenceKind::Seq32, window(64), 0));
        let mut packet = vec![0; 200];
        assert_eq!(
            sa.seal(fresh(1), NextHeader::IPV4, &mut packet, 20),
            Err(SealError::WrongProtocol(Protocol::Ah))
        );
        let opened = peer.open(SeqNum(1), &mut packet).map(drop);
        assert_eq!(opened, Err(OpenError::WrongProtocol(Protocol::Ah)));
    }
}

/// RFC 4302 section 3.4.3: AH has the window of ESP, and it moves after the ICV verified.
#[test]
fn the_window_moves_only_after_the_icv_verifies() {
    let sa = outbound(SUITE, SequenceKind::Extended, 1);
    let mut peer = inbound(SUITE, SequenceKind::Extended, window(64), 0xffff_fff0);
    let number = 0x1_0000_0003;
    let sealed = authenticated(&sa, number, v6(&[], 32, 5));
    let seq = peer.check(AhHeader::parse(&sealed[40..]).unwrap().seq).unwrap();
    let mut forged = sealed.clone();
    forged[75] ^= 1;
    assert!(peer.verify(seq, &forged, 40).is_err());
    assert_eq!(peer.top(), SeqNum(0xffff_fff0));
    let (_, verified) = peer.verify(seq, &sealed, 40).unwrap();
    assert_eq!(peer.commit(verified), Ok(()));
    assert_eq!((peer.top(), peer.check(seq.low())), (SeqNum(number), Err(ReplayError::Replayed)));
}

/// RFC 4543 section 4: IV and ICV share the field; no IV comes twice, and a high half that is not sent is covered.
#[test]
fn gmac_puts_its_iv_before_the_icv() {
    for key in crate::AesKey::ALL {
        let suite = Suite::ah_gmac(key);
        let sealed = authenticated(&outbound(suite, SequenceKind::Extended, 1), 5 << 32 | 9, v6(&[], 40, 5));
        assert_eq!(sealed[52..60], (5_u64 << 32 | 9).to_be_bytes());
        assert_eq!(sealed[76..80], [0; 4], "padding");
        let peer = inbound(suite, SequenceKind::Extended, window(64), 5 << 32);
        assert!(opens(&peer, 5 << 32 | 9, &sealed, 40).is_ok());
        assert!(peer.verify(SeqNum(6 << 32 | 9), &sealed, 40).is_err());
    }
}

proptest! {
    #![proptest_config(seeded(2000))]

    /// T22: bytes from anywhere, and IP headers of any fields, are refused and do no harm.
    #[test]
    fn arbitrary_packets_are_refused(
        suite in prop::sample::select(ah().collect::<Vec<_>>()),
        mut packet in prop::collection::vec(any::<u8>(), 0..200),
        version in prop::sample::select(&[0x45_u8, 0x46, 0x4f, 0x60, 0x00][..]),
        at in 0_usize..220,
    ) {
        if let Some(first) = packet.first_mut() {
            *first = version;
        }
        let peer = inbound(suite, SequenceKind::Seq32, window(64), 0);
        prop_assert!(peer.verify(SeqNum(1), &packet, at).is_err());
        let _ = outbound(suite, SequenceKind::Seq32, 1).authenticate(fresh(1), &mut packet, at, TCP);
    }
}
