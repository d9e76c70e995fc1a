//! How long packets become, measured on packets that were sealed, and what becomes of those that are too long.

use std::net::SocketAddr;

use latchway_esp::{Align, Integrity, Protocol, SequenceKind, Suite};
use latchway_tagging::Mode;

use super::{NOW, udp};
use crate::arrival::Carrier;
use crate::drop::{Direction, DropReason};
use crate::fitting::Fitting;
use crate::lifetime::{Bounds, Limits};
use crate::outbound::Outbound;
use crate::outer::{Df, OuterPolicy};
use crate::pmtu::{Discovery, Fragment, Sizing};
use crate::sad::{Path, Shape};
use crate::send_batch::SendBatch;
use crate::testing::{Host, Open, SaOptions, joined_by, outbound_entry, outbound_entry_at, outer_end};
use crate::virtio::{GSO_UDP_L4, NEEDS_CSUM, VNET_HDR_LEN};

/// Every place that a suite can protect in: mode, carrier, whether between IPv6 addresses.
fn places(suite: Suite) -> Vec<SaOptions> {
    let mut all = Vec::new();
    for mode in [Mode::Tunnel, Mode::Transport] {
        for carrier in [Carrier::Udp, Carrier::Native] {
            for outer_v6 in [false, true] {
                let outer = if carrier == Carrier::Native { OuterPolicy::NATIVE } else { OuterPolicy::UDP };
                let shape = Shape { outer, ..Shape::default() };
                if suite.protocol() == Protocol::Esp || carrier == Carrier::Native {
                    let plain = SaOptions::new(0x1001, 0);
                    all.push(SaOptions { suite, mode, carrier, outer_v6, shape, ..plain });
                }
            }
        }
    }
    all
}

/// What is in front of what the gateway hands to the wire.
fn by_the_system(options: &SaOptions) -> usize {
    match options.carrier {
        Carrier::Native => 0,
        Carrier::Udp if options.outer_v6 => 40 + 8,
        Carrier::Udp => 20 + 8,
    }
}

fn fitting(options: &SaOptions) -> Fitting {
    let to = outer_end(2, options.outer_v6, options.carrier);
    let path = Path { carrier: options.carrier, ..Path::udp(0, to, 1500) };
    Fitting::new(options.suite, options.mode, &path)
}

/// A packet of `len` octets that the SA carries; `v6` is for tunnels.
fn inner(options: &SaOptions, len: usize, v6: bool) -> Vec<u8> {
    let v6 = if options.mode == Mode::Transport { options.outer_v6 } else { v6 };
    let end = |host: u8| -> SocketAddr {
        match (options.mode, v6) {
            (Mode::Transport, _) => (outer_end(host, v6, Carrier::Native).ip(), 7).into(),
            (Mode::Tunnel, true) => format!("[fd00:{host}::7]:7").parse().unwrap(),
            (Mode::Tunnel, false) => format!("10.0.{host}.7:7").parse().unwrap(),
        }
    };
    udp(&end(1).to_string(), &end(2).to_string(), &vec![5; len - if v6 { 48 } else { 28 }])
}

/// The lengths of the outer packets that a packet becomes, and whether they may be cut.
fn outer_lens(host: &mut Host<Open>, packet: &[u8], options: &SaOptions) -> Vec<(usize, bool)> {
    let mut octets = [&[0; VNET_HDR_LEN], packet].concat();
    let mut batch = SendBatch::new();
    host.datapath.begin(NOW);
    let _ = host.datapath.outbound(&mut octets, &mut batch);
    let all = batch.runs().flat_map(|run| {
        let of = |datagram: &[u8]| (datagram.len() + by_the_system(options), run.marks.may_fragment);
        run.datagrams().map(of).collect::<Vec<_>>()
    });
    all.collect()
}

fn without_df(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] &= !0x40;
    packet
}

fn with_df(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] |= 0x40;
    packet
}

/// T23: every suite in every place. All remainders that padding can leave, at the beginning and around an MTU; for what
/// everybody uses, every payload from 1 to 1500.
#[test]
fn t23_what_is_sealed_is_as_long_as_was_worked_out() {
    for suite in Suite::all() {
        for options in places(suite) {
            let (mut one, _) = joined_by(&options);
            let fitting = fitting(&options);
            let front = fitting.usual_front();
            let least = if options.mode == Mode::Transport && options.outer_v6 { 48 } else { 28 };
            let most = fitting.max_inner(1500, front);
            let usual = suite == Suite::AES_128_GCM || suite == Suite::AES_256_CBC_HMAC_SHA_256;
            let lens: Vec<_> = if usual {
                (least..=most).collect()
            } else {
                (least..least + 17).chain(most - 17..=most).collect()
            };
            for len in lens {
                let packet = inner(&options, len, false);
                let lens: Vec<_> =
                    outer_lens(&mut one, &packet, &options).into_iter().map(|(len, _)| len).collect();
                assert_eq!(lens, [fitting.outer_len(len, front)], "{suite} {options:?} {len}");
                assert_eq!(fitting.parts(len, 1500).total(), lens[0]);
                one.datapath.begin(NOW);
            }
        }
    }
}

/// RFC 4301 4.3: AH around ESP is in the sum.
#[test]
fn t23_a_bundle_is_as_long_as_was_worked_out() {
    for options in places(Suite::AES_128_GCM).into_iter().filter(|one| one.carrier == Carrier::Native) {
        let around = SaOptions {
            spi: 0x2001,
            index: 9,
            suite: Suite::ah(Integrity::HmacSha256),
            mode: Mode::Transport,
            nested: Some(0),
            ..options.clone()
        };
        let esp = SaOptions { nested: Some(9), ..options.clone() };
        let mut one = Host::new(1, 2, Open);
        one.insert(outbound_entry(1, 2, &esp));
        one.insert(outbound_entry(1, 2, &around));
        one.publish();
        let fitting = fitting(&options).within(around.suite, Align::Rfc);
        let front = fitting.usual_front();
        for len in 100..=fitting.max_inner(1500, front) {
            let lens = outer_lens(&mut one, &inner(&options, len, false), &options);
            assert_eq!(lens[..], [(fitting.outer_len(len, front), lens[0].1)], "{options:?} {len}");
        }
        let longer = with_df_if_v4(inner(&options, fitting.max_inner(1500, front) + 1, false));
        assert_eq!(outer_lens(&mut one, &longer, &options), []);
    }
}

fn with_df_if_v4(packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 { with_df(packet) } else { packet }
}

/// T20, T06, RFC 4301 8.2.1: every size from 1200 to 1600, of both families, with and without DF, in every place: what fits
/// leaves whole; what does not is cut before it is sealed or after, or its sender is told exactly what would fit.
#[test]
fn t20_every_size_leaves_whole_or_in_pieces_or_its_sender_is_told() {
    for suite in [Suite::AES_128_GCM, Suite::AES_128_CBC_HMAC_SHA_256, Suite::ah(Integrity::HmacSha256)] {
        for options in places(suite) {
            for fragment in [Fragment::Before, Fragment::After] {
                for v6 in [false, true] {
                    every_size(&options, fragment, v6);
                }
            }
        }
    }
}

fn every_size(options: &SaOptions, fragment: Fragment, v6: bool) {
    let transport = options.mode == Mode::Transport;
    let sizing = Sizing { fragment, ..Sizing::default() };
    let options = SaOptions { shape: Shape { sizing, ..options.shape.clone() }, ..options.clone() };
    let (mut one, _) = joined_by(&options);
    let fitting = fitting(&options);
    let most = fitting.max_inner(1500, fitting.usual_front());
    let is_v6 = if transport { options.outer_v6 } else { v6 };
    for len in 1200..=1600 {
        let packet = inner(&options, len, v6);
        let kinds = if is_v6 {
            vec![(packet, true)]
        } else {
            vec![(with_df(packet.clone()), true), (without_df(packet), false)]
        };
        for (packet, df) in kinds {
            let (told, dropped) = (one.told(), one.dropped(Direction::Outbound, DropReason::TooBig));
            // So that no sender is left untold for the many that were.
            one.datapath.too_big =
                crate::packet_too_big::PacketTooBig::new(crate::oversize::Oversize::default());
            let sent = outer_lens(&mut one, &packet, &options);
            let case =
                format!("{:?} {:?} {} {fragment:?} {len} {df}", options.mode, options.carrier, options.suite);
            let front = fitting.usual_front();
            if len <= most {
                assert_eq!(
                    sent.iter().map(|(len, _)| *len).collect::<Vec<_>>(),
                    [fitting.outer_len(len, front)],
                    "{case}"
                );
                assert!(sent[0].0 <= 1500, "{case}");
            } else if df {
                assert_eq!(
                    (sent.len(), one.told(), one.dropped(Direction::Outbound, DropReason::TooBig)),
                    (0, told + 1, dropped + 1),
                    "{case}"
                );
                let answer = one.datapath.answer();
                let mtu = if is_v6 { [answer[46], answer[47]] } else { [answer[26], answer[27]] };
                assert_eq!(usize::from(u16::from_be_bytes(mtu)), most, "{case}");
            } else if transport || fragment == Fragment::After {
                assert_eq!(sent, [(fitting.outer_len(len, front), true)], "{case}");
            } else {
                assert_eq!(sent.len(), 2, "{case}");
                assert!(sent.iter().all(|(len, _)| *len <= 1500), "{case} {sent:?}");
            }
        }
    }
}

/// RFC 2473 7.1 b, RFC 8200 5: no sender of IPv6 makes packets of 1280 octets shorter; where the path has no room for them they
/// are sealed whole, and cut as outer packets.
#[test]
fn rfc_8200_5_what_every_link_must_take_passes_a_path_that_takes_less() {
    for suite in [Suite::AES_128_GCM, Suite::AES_128_CBC_HMAC_SHA_256, Suite::ah(Integrity::HmacSha256)] {
        for options in places(suite) {
            if options.mode == Mode::Transport && !options.outer_v6 {
                continue;
            }
            let options = SaOptions { mtu: 1280, ..options };
            let (mut one, _) = joined_by(&options);
            let fitting = fitting(&options);
            let front = fitting.usual_front();
            for len in 1200..=1281 {
                let sent = outer_lens(&mut one, &inner(&options, len, true), &options);
                let outer = fitting.outer_len(len, front);
                let expected = if len > 1280 { vec![] } else { vec![(outer, outer > 1280)] };
                assert_eq!(sent, expected, "{:?} {:?} {suite} {len}", options.mode, options.carrier);
            }
            assert_eq!(one.dropped(Direction::Outbound, DropReason::TooBig), 1);
        }
    }
}

/// RFC 6946, RFC 8200 5: the same with a fragment header, of a packet that is whole.
#[test]
fn rfc_6946_5_an_atomic_fragment_that_every_link_must_take_passes_a_path_that_takes_less() {
    let options = places(Suite::AES_128_GCM).into_iter();
    for options in
        options.filter(|one| one.mode == Mode::Transport && one.carrier == Carrier::Native && one.outer_v6)
    {
        let (mut one, _) = joined_by(&SaOptions { mtu: 1280, ..options.clone() });
        for len in [1272, 1280] {
            let mut packet = inner(&options, len - 8, true);
            packet.splice(40..40, [17, 0, 0, 0, 1, 2, 3, 4]);
            packet[6] = 44;
            packet[4..6].copy_from_slice(&u16::try_from(len - 40).unwrap().to_be_bytes());
            let sent = outer_lens(&mut one, &packet, &options);
            assert!(matches!(sent[..], [(1281.., true)]), "{sent:?} {:?}", one.drops());
        }
    }
}

/// T29, RFC 4301 4.4.2.1: of a super-packet whose packets are cut each leaves with all of its fragments or is dropped, and is
/// counted once; whatever it is that ends in its middle.
#[test]
fn t29_of_a_super_packet_that_fails_halfway_each_packet_is_counted_once() {
    let hard = |packets| {
        Limits::new(Bounds::default(), Bounds { packets: Some(packets), ..Bounds::default() }).unwrap()
    };
    let plain = SaOptions { sequence: SequenceKind::Seq32, ..SaOptions::new(0x1001, 0) };
    // Of three packets, two have two fragments and the last is whole: so many pass.
    for (left, [packets, fragments]) in [(1, [0, 0]), (2, [1, 2]), (3, [1, 2]), (4, [2, 4]), (5, [3, 5])] {
        let numbers = outbound_entry_at(1, 2, &plain, (1 << 32) - left);
        let lifetime = outbound_entry(1, 2, &SaOptions { limits: hard(left), ..plain.clone() });
        for (entry, reason) in [(numbers, DropReason::SeqExhausted), (lifetime, DropReason::HardExpired)] {
            let mut one = Host::new(1, 2, Open);
            one.insert(entry);
            one.publish();
            let mut octets = vec![0; VNET_HDR_LEN];
            (octets[0], octets[1]) = (NEEDS_CSUM, GSO_UDP_L4);
            octets[4..6].copy_from_slice(&2000u16.to_ne_bytes());
            octets[6..8].copy_from_slice(&20u16.to_ne_bytes());
            octets[8..10].copy_from_slice(&6u16.to_ne_bytes());
            octets.extend(without_df(udp("10.0.1.1:1", "10.0.2.2:2", &[7; 5000])));
            one.datapath.begin(NOW);
            let mut batch = SendBatch::new();
            let outcome = one.datapath.outbound(&mut octets, &mut batch);
            let expected = if packets > 0 { Outbound::Sealed } else { Outbound::Dropped };
            assert_eq!(
                (outcome, batch.runs().map(|run| run.len() as u64).sum::<u64>()),
                (expected, fragments),
                "{left}"
            );
            let street = one.datapath.counters().street(Direction::Outbound);
            assert_eq!(street.packets.get(), fragments);
            assert_eq!(
                (street.dropped(reason), one.drops().len()),
                (3 - packets, usize::from(packets < 3)),
                "{left}"
            );
            assert_eq!(one.datapath.counters().fragmented.get(), packets.min(2));
        }
    }
}

/// RFC 8200 5: nobody cuts an outer packet of IPv6 on its way, so that what fits is never marked to be cut, and how much
/// fits is learnt whatever the SA says of DF.
#[test]
fn rfc_8200_5_df_says_nothing_of_outer_packets_of_ipv6() {
    for options in places(Suite::AES_128_GCM).into_iter().filter(|one| one.outer_v6) {
        for df in [Df::Copy, Df::Set, Df::Clear] {
            let shape =
                Shape { outer: OuterPolicy { df, ..options.shape.outer.clone() }, ..options.shape.clone() };
            let options = SaOptions { shape, ..options.clone() };
            let (mut one, _) = joined_by(&options);
            for packet in [inner(&options, 1300, true), inner(&options, 1300, false)] {
                let sent = outer_lens(&mut one, &packet, &options);
                assert!(sent.len() == 1 && !sent[0].1, "{df:?} {sent:?}");
            }
            let entry = outbound_entry(1, 2, &options).unwrap();
            assert_eq!(entry.role.discovery(), Discovery::Hints);
        }
    }
}

/// RFC 4301 8.1: where the SA lets its own packets be cut, so may be what its inner senders would not have.
#[test]
fn rfc_4301_8_1_an_sa_whose_packets_may_be_cut_cuts_any() {
    let options = places(Suite::AES_128_GCM).remove(0);
    for (df, fragment, leaves) in [
        (Df::Clear, Fragment::After, true),
        (Df::Clear, Fragment::Before, false),
        (Df::Set, Fragment::After, false),
    ] {
        let sizing = Sizing { fragment, ..Sizing::default() };
        let shape = Shape { sizing, outer: OuterPolicy { df, ..OuterPolicy::UDP }, ..Shape::default() };
        let (mut one, _) = joined_by(&SaOptions { shape, ..options.clone() });
        let sent = outer_lens(&mut one, &with_df(inner(&options, 1500, false)), &options);
        assert_eq!(!sent.is_empty(), leaves, "{df:?} {fragment:?}");
        assert!(sent.iter().all(|(len, may_be_cut)| *len > 1500 && *may_be_cut));
    }
}
