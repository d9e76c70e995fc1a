use super::*;
use crate::drop::Direction;
use crate::flow::protocol;
use crate::packet::{Authenticated, Unprotected};
use crate::spd::Action;
use crate::testing::{Host, Open, joined};
use crate::ulp::{Context, Ulp};
use crate::virtio::VNET_HDR_LEN;
use etherparse::PacketBuilder;
use latchway_tagging::{Feedback, OutboundTag, SaIndex, SaRef, StateVersion};

/// UDP from port 7 to 8.
fn fragment(offset: u16, more: bool, id: u16) -> Vec<u8> {
    let mut octets = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(7, 8).write(&mut octets, &[0; 64]).unwrap();
    octets[4..6].copy_from_slice(&id.to_be_bytes());
    octets[6..8].copy_from_slice(&(offset | if more { 0x2000 } else { 0 }).to_be_bytes());
    octets
}

fn tag(class: u32) -> InboundTag {
    let sa = SaRef { index: SaIndex::new(class), generation: 1 };
    InboundTag { class: ClassId::from_raw(class), sa, version: StateVersion::default() }
}

fn at(seconds: u64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

/// `None` where it waits.
fn resolve(
    flows: &mut FragmentFlows,
    octets: &[u8],
    class: Option<u32>,
    seconds: u64,
) -> Result<Option<FlowKey>, DropReason> {
    let mut packet = IpPacket::parse(octets, Direction::Outbound).unwrap();
    let goes_on = flows.resolve(&mut packet, class.map(tag), at(seconds), |_| Ok(()))?;
    Ok(goes_on.then(|| *packet.flow()))
}

/// What waited and may go on, with the class that it came under.
fn released(flows: &mut FragmentFlows) -> Vec<(Vec<u8>, Option<u32>)> {
    let mut buffer = vec![0; 70_000];
    let next = || {
        let (len, tag) = flows.next(&mut buffer)?;
        Some((buffer[..len].to_vec(), tag.map(|tag| tag.class.raw())))
    };
    std::iter::from_fn(next).collect()
}

const UNRESOLVED: Result<Option<FlowKey>, DropReason> = Err(DropReason::FragmentUnresolved);
const OVERLAP: Result<Option<FlowKey>, DropReason> = Err(DropReason::FragmentOverlap);

/// RFC 4301 7.4, D.4: a rule about ports that discards or bypasses decides about whole datagrams, in whatever order the later
/// fragments come, in both directions; what is bypassed is bypassed whole, and of what is discarded no fragment passes.
#[test]
fn rfc_4301_7_4_rules_about_ports_bypass_and_discard_fragments_as_their_datagram() {
    use crate::selector::{AddressRange, PortRange, Selector};
    use crate::spd::{Action, Rule, Spd};
    for v6 in [false, true] {
        let any = if v6 { AddressRange::ANY_V6 } else { AddressRange::ANY_V4 };
        let parts = datagram(v6);
        for order in [[0, 1, 2], [0, 2, 1]] {
            for (port, action, passes) in
                [(8, Action::Bypass, true), (9, Action::Bypass, false), (8, Action::Discard, false)]
            {
                for direction in [Direction::Outbound, Direction::Inbound] {
                    let (mut one, mut two) = joined(Open, Open);
                    let mut selector = Selector::between(any, any);
                    let ports = PortRange::new(&(port..=port));
                    match direction {
                        Direction::Outbound => selector.remote_ports = ports,
                        Direction::Inbound => selector.local_ports = ports,
                    }
                    let host = if direction == Direction::Outbound { &mut one } else { &mut two };
                    host.snapshot.spd = Spd::new(vec![Rule::new(selector, None, action)]);
                    host.publish();
                    for place in order {
                        let passed = match direction {
                            Direction::Outbound => host.send(&parts[place], at(1)),
                            Direction::Inbound => {
                                let mut octets = vec![0; VNET_HDR_LEN];
                                octets.extend(&parts[place]);
                                host.datapath.begin(at(1));
                                (vec![], host.datapath.unprotected(&mut octets))
                            }
                        };
                        assert_eq!(passed, (vec![], passes), "{direction:?} {action:?} {place}");
                    }
                }
            }
        }
    }
}

#[test]
fn t20_a_later_fragment_follows_its_first_under_the_same_class_for_a_while() {
    let mut flows = FragmentFlows::new();
    let (first, later) = (fragment(0, true, 9), |place: u16| fragment(9 * place, true, 9));
    let flow = resolve(&mut flows, &first, Some(1), 0).unwrap().unwrap();
    assert_eq!((flow.local_port(), flow.remote_port()), (7, 8));
    assert_eq!(resolve(&mut flows, &later(1), Some(1), 1), Ok(Some(flow)));
    assert_eq!(resolve(&mut flows, &later(2), Some(2), 1), UNRESOLVED, "under another class");
    assert_eq!(resolve(&mut flows, &later(2), None, 1), UNRESOLVED, "in the clear");
    assert_eq!(resolve(&mut flows, &fragment(9, false, 10), Some(1), 1), Ok(None), "another datagram");
    assert_eq!(resolve(&mut flows, &later(3), Some(1), 60), Ok(Some(flow)));
    assert_eq!(resolve(&mut flows, &later(2), Some(1), 61), Ok(None), "too late");
}

/// T20: what comes before its first goes on after it, in order, and only under the class that both came by.
#[test]
fn t20_what_comes_before_its_first_waits_for_it() {
    let mut flows = FragmentFlows::new();
    let parts = [fragment(18, false, 9), fragment(9, true, 9)];
    for part in &parts {
        assert_eq!(resolve(&mut flows, part, Some(1), 0), Ok(None));
    }
    assert_eq!(resolve(&mut flows, &parts[1], Some(2), 0), Ok(None));
    assert_eq!(resolve(&mut flows, &parts[1], None, 0), Ok(None));
    assert_eq!(resolve(&mut flows, &fragment(0, true, 8), Some(1), 0).map(|flow| flow.is_some()), Ok(true));
    assert_eq!(released(&mut flows), [], "another datagram's first");
    let flow = resolve(&mut flows, &fragment(0, true, 9), Some(1), 1).unwrap();
    assert_eq!(released(&mut flows), parts.clone().map(|part| (part, Some(1))));
    assert_eq!(released(&mut flows), []);
    for part in &parts {
        assert_eq!(resolve(&mut flows, part, Some(1), 1), Ok(flow));
    }
    assert_eq!(flows.expire(at(2)), 0);
    assert_eq!(flows.expire(at(3)), 2, "of other classes");
    assert_eq!(flows.expire(at(100)), 0);
}

/// T20, T41: memory is bounded in fragments and octets, for each class and in all, and comes back.
#[test]
fn t20_t41_no_class_takes_more_than_its_share_of_the_room_to_wait() {
    let mut flows = FragmentFlows::new();
    let mut long = fragment(9, false, 0);
    long.resize(20 + 60_000, 1);
    let len = u16::try_from(long.len()).unwrap();
    long[2..4].copy_from_slice(&len.to_be_bytes());
    for round in 0..3 {
        let now = round * 10;
        flows.expire(at(now));
        let mut waits = |octets: &[u8], class, times: u16| {
            let mut octets = octets.to_vec();
            let mut hold = |id: u16| {
                octets[4..6].copy_from_slice(&id.to_be_bytes());
                resolve(&mut flows, &octets, Some(class), now) == Ok(None)
            };
            (0..times).filter(|&id| hold(id)).count()
        };
        assert_eq!(waits(&fragment(9, false, 0), 1, 1000), waiting::MOST / waiting::SHARE);
        // 118 chunks each, of 256.
        assert_eq!(waits(&long, 2, 1000), 2);
        assert_eq!(waits(&long, 3, 1000), 2);
        assert_eq!(waits(&long, 4, 1000), 2);
        // 252 chunks are left.
        assert_eq!(waits(&long, 5, 1000), 2);
        assert_eq!(waits(&long, 6, 1000), 0, "no octets left");
        assert_eq!(waits(&fragment(9, false, 0), 7, 1000), 16);
    }
    assert_eq!(flows.expire(at(100)) as usize, waiting::MOST / waiting::SHARE + 8 + 16);
}

/// T20, T41: a class that sends nothing but fragments which wait in vain leaves the others their room, in fragments and in
/// octets; and where all are of one class, it has all of it.
#[test]
fn t20_t41_a_flood_of_one_class_lets_another_wait() {
    for len in [84, 8192] {
        let part = |offset: u16, id: u16| {
            let mut part = fragment(offset, false, id);
            part.resize(len, 1);
            let total = u16::try_from(len).unwrap();
            part[2..4].copy_from_slice(&total.to_be_bytes());
            part
        };
        let flood = |flows: &mut FragmentFlows, class| {
            (1000..3000).filter(|&id| resolve(flows, &part(9, id), class, 0) == Ok(None)).count()
        };
        let mut flows = FragmentFlows::new();
        let held = flood(&mut flows, Some(1));
        for id in 0..10 {
            assert_eq!(resolve(&mut flows, &part(9, id), Some(2), 0), Ok(None), "{len} {id}");
            assert!(resolve(&mut flows, &fragment(0, true, id), Some(2), 0).unwrap().is_some());
            assert_eq!(released(&mut flows), [(part(9, id), Some(2))]);
            assert_eq!(flood(&mut flows, Some(1)), 0, "it has its share");
        }
        assert_eq!(flows.expire(at(100)) as usize, held);
        let mut flows = FragmentFlows::of_one_class();
        assert_eq!(flood(&mut flows, None), held * waiting::SHARE);
    }
}

/// T20, T41: whoever sends first fragments and never the rest has a share of what is remembered, and leaves the others theirs.
#[test]
fn t20_t41_no_class_takes_more_than_its_share_of_what_is_remembered() {
    let mut flows = FragmentFlows::new();
    // Datagrams of some other hosts.
    let of = |host: u16, offset: u16, id: u16| {
        let mut octets = fragment(offset, offset == 0, id);
        octets[14..16].copy_from_slice(&host.to_be_bytes());
        octets
    };
    for id in 0..u16::MAX {
        assert!(resolve(&mut flows, &of(1, 0, id), Some(1), 0).is_ok(), "its latest take its oldest's place");
    }
    let mut passed = 0;
    for id in 0..1000 {
        let flow = resolve(&mut flows, &of(2, 0, id), Some(2), 1).unwrap();
        passed += usize::from(resolve(&mut flows, &of(2, 9, id), Some(2), 1) == Ok(flow));
    }
    assert_eq!(passed, 1000);
    let seen: Vec<_> = flows.rows.iter().flatten().flatten().collect();
    assert_eq!(seen.iter().filter(|seen| seen.class == tag(1).class.into()).count(), ROWS * SHARE);
    // Where all are of one class, they have all the room.
    let mut flows = FragmentFlows::of_one_class();
    for id in 0..u16::MAX {
        assert!(resolve(&mut flows, &of(1, 0, id), None, 0).is_ok());
    }
    assert_eq!(flows.rows.iter().flatten().flatten().count(), ROWS * PLACES);
}

/// T20: what waited in many chunks comes back as it was, whatever went before it.
#[test]
fn t20_what_waited_is_what_came() {
    let mut flows = FragmentFlows::new();
    let mut state = 1_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..300 {
        let ids: Vec<_> = (0..1 + draw(6) as u16).map(|place| round * 8 + place).collect();
        let part = |&id: &u16| {
            let mut part = fragment(9, false, id);
            part.resize(28 + draw(9000) as usize, draw(256) as u8);
            let len = u16::try_from(part.len()).unwrap();
            part[2..4].copy_from_slice(&len.to_be_bytes());
            part
        };
        let mut parts: Vec<_> = ids.iter().map(part).collect();
        for part in &parts {
            assert_eq!(resolve(&mut flows, part, Some(1), 0), Ok(None));
        }
        while !parts.is_empty() {
            let part = parts.swap_remove(draw(parts.len() as u64) as usize);
            let first = fragment(0, true, u16::from_be_bytes([part[4], part[5]]));
            assert!(resolve(&mut flows, &first, Some(1), 0).unwrap().is_some());
            assert_eq!(released(&mut flows), [(part, Some(1))]);
        }
    }
}

/// RFC 5722 4, RFC 1858 4: what overlaps ends its datagram, what repeats only itself; until the identification comes anew.
#[test]
fn t20_rfc_5722_4_fragments_that_overlap_end_their_datagram() {
    let mut flows = FragmentFlows::new();
    let (first, next) = (fragment(0, true, 9), fragment(9, true, 9));
    let flow = resolve(&mut flows, &first, Some(1), 0).unwrap();
    assert_eq!(resolve(&mut flows, &next, Some(1), 0), Ok(flow));
    assert_eq!(resolve(&mut flows, &next, Some(1), 0), OVERLAP, "a duplicate");
    assert_eq!(resolve(&mut flows, &first, Some(1), 0), OVERLAP, "a duplicate");
    assert_eq!(resolve(&mut flows, &fragment(18, true, 9), Some(1), 0), Ok(flow), "is none the worse for it");
    assert_eq!(resolve(&mut flows, &fragment(1, true, 9), Some(1), 0), OVERLAP, "within what has passed");
    assert_eq!(resolve(&mut flows, &fragment(20, true, 9), Some(1), 0), OVERLAP, "half of it");
    assert_eq!(resolve(&mut flows, &fragment(36, true, 9), Some(1), 0), OVERLAP, "and so nothing more");
    assert_eq!(resolve(&mut flows, &fragment(0, true, 9), Some(1), 0), OVERLAP);
    assert_eq!(resolve(&mut flows, &fragment(0, true, 9), Some(1), 1), Ok(flow), "another datagram");
    assert_eq!(resolve(&mut flows, &fragment(9, false, 9), Some(1), 1), Ok(flow));
    // Whole, so that what follows at once repeats it, and what follows later is of the next.
    assert_eq!(resolve(&mut flows, &fragment(9, false, 9), Some(1), 1), OVERLAP);
    assert_eq!(resolve(&mut flows, &fragment(9, false, 9), Some(1), 2), Ok(None));
}

/// A peer must not take identifications in the name of addresses that are not its own.
#[test]
fn t20_a_first_fragment_that_is_not_admitted_takes_no_place() {
    let mut flows = FragmentFlows::new();
    let first = fragment(0, true, 9);
    let mut packet = IpPacket::parse(&first, Direction::Inbound).unwrap();
    let refuse = |_: &IpPacket<'_>| Err(DropReason::SelectorMismatch);
    let refused = flows.resolve(&mut packet, Some(tag(2)), Time::default(), refuse);
    assert_eq!(refused.unwrap_err(), DropReason::SelectorMismatch);
    assert!(resolve(&mut flows, &first, Some(1), 0).is_ok());
}

/// The inner host would put fragments of two classes together, since it knows of none.
#[test]
fn t20_an_identification_belongs_to_the_class_that_used_it_until_the_host_has_given_up() {
    let mut flows = FragmentFlows::new();
    let (first, later) = (fragment(0, true, 9), fragment(9, false, 9));
    let flow = resolve(&mut flows, &first, Some(1), 0).unwrap();
    for other in [Some(2), None] {
        assert_eq!(resolve(&mut flows, &first, other, 60), Err(DropReason::FragmentConflict));
        assert_eq!(resolve(&mut flows, &later, other, 60), UNRESOLVED);
    }
    assert_eq!(resolve(&mut flows, &later, Some(1), 60), Ok(flow), "its own are none the worse for it");
    assert_eq!(resolve(&mut flows, &first, Some(2), 61), Ok(flow));
    assert_eq!(resolve(&mut flows, &later, Some(1), 61), UNRESOLVED);
}

/// An inner datagram of 3000 octets cut at 1024, from one host's network to the other's.
fn datagram(v6: bool) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let payload: Vec<u8> = (0..3000_u16).map(|n| n as u8).collect();
    if v6 {
        let [from, to] =
            ["fd00:1::10", "fd00:2::20"].map(|end| end.parse::<std::net::Ipv6Addr>().unwrap().octets());
        PacketBuilder::ipv6(from, to, 64).udp(7, 8).write(&mut whole, &payload).unwrap();
    } else {
        PacketBuilder::ipv4([10, 0, 1, 10], [10, 0, 2, 20], 64)
            .udp(7, 8)
            .write(&mut whole, &payload)
            .unwrap();
    }
    let (header, data) = whole.split_at(if v6 { 40 } else { 20 });
    let cut = |(place, part): (usize, &[u8])| {
        let (start, more) = (place as u16 * 1024, data.len() > (place + 1) * 1024);
        let mut octets = header.to_vec();
        if v6 {
            octets[6] = 44;
            octets[4..6].copy_from_slice(&(part.len() as u16 + 8).to_be_bytes());
            octets.extend([17, 0]);
            octets.extend((start | u16::from(more)).to_be_bytes());
            octets.extend([0, 0, 0, 77]);
        } else {
            octets[2..4].copy_from_slice(&(part.len() as u16 + 20).to_be_bytes());
            octets[4..6].copy_from_slice(&[0, 77]);
            octets[6..8].copy_from_slice(&((start / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
        }
        octets.extend(part);
        octets
    };
    data.chunks(1024).enumerate().map(cut).collect()
}

/// Everything that leaves for a packet from the inner side, and for those that it lets go on.
fn send<U: Ulp>(host: &mut Host<U>, packet: &[u8]) -> Vec<Vec<u8>> {
    let (mut sent, _) = host.send(packet, at(1));
    let mut buffer = vec![0; 70_000];
    while let Some(len) = host.datapath.release_outbound(&mut buffer) {
        sent.extend(host.send(&buffer[VNET_HDR_LEN..len], at(1)).0);
    }
    sent
}

/// Everything that reaches the inner side.
fn receive<U: Ulp>(host: &mut Host<U>, datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut received = host.receive(datagram, at(1));
    let mut buffer = vec![0; 70_000];
    while let Some(len) = host.datapath.release_inbound(&mut buffer) {
        received.push(buffer[..len].to_vec());
    }
    received
}

/// RFC 4301 7, T20: in whatever order fragments come, all arrive: through the outbound street, and through the inbound one.
#[test]
fn t20_rfc_4301_7_fragments_in_any_order_pass_both_streets() {
    for v6 in [false, true] {
        let parts = datagram(v6);
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            // Out of order before the first gateway.
            let (mut one, mut two) = joined(Open, Open);
            let sealed: Vec<_> = order.iter().flat_map(|&place| send(&mut one, &parts[place])).collect();
            let mut got: Vec<_> = sealed.iter().flat_map(|datagram| receive(&mut two, datagram)).collect();
            assert_eq!(got.iter().find(|part| **part == parts[0]), got.first(), "the first goes first");
            got.sort_by_key(|part| parts.iter().position(|whole| whole == part));
            assert_eq!(got, parts);
            assert_eq!((one.drops(), two.drops()), (vec![], vec![]));
            // Out of order between the two.
            let (mut one, mut two) = joined(Open, Open);
            let sealed: Vec<_> = parts.iter().flat_map(|part| send(&mut one, part)).collect();
            let mut got: Vec<_> = order.iter().flat_map(|&place| receive(&mut two, &sealed[place])).collect();
            got.sort_by_key(|part| parts.iter().position(|whole| whole == part));
            assert_eq!(got, parts);
            assert_eq!(two.drops(), []);
            assert_eq!(two.datapath.counters().street(Direction::Inbound).packets.get(), 3);
        }
    }
}

/// An upper layer that refuses what comes from a port.
struct Shut(u16);

impl Ulp for Shut {
    fn outbound(&mut self, _: &IpPacket<'_>, _: &Context<'_>) -> Result<OutboundTag, DropReason> {
        Ok(OutboundTag::default())
    }

    fn feedback(&mut self, _: &FlowKey, _: Feedback, _: &Context<'_>) -> Result<(), DropReason> {
        Ok(())
    }

    fn inbound(&mut self, packet: &Authenticated<'_>, _: &Context<'_>) -> Result<(), DropReason> {
        let is_shut = packet.packet().flow().remote_port() == self.0;
        if is_shut { Err(DropReason::LatchMismatch) } else { Ok(()) }
    }

    fn unprotected(
        &mut self,
        _: &Unprotected<'_>,
        policy: Option<Action>,
        _: &Context<'_>,
    ) -> Result<(), DropReason> {
        crate::bypass::admit(policy)
    }
}

/// T20: of a datagram whose first fragment the upper layer refuses no other passes, whether it came before or comes after; and
/// its identification is free for whoever uses it next.
#[test]
fn t20_a_first_fragment_that_the_upper_layer_refuses_keeps_no_identification() {
    for v6 in [false, true] {
        let parts = datagram(v6);
        for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0]] {
            let (mut one, mut two) = joined(Shut(9), Shut(7));
            let sealed: Vec<_> = parts.iter().flat_map(|part| send(&mut one, part)).collect();
            let reached: Vec<_> = order.iter().flat_map(|&place| receive(&mut two, &sealed[place])).collect();
            assert_eq!(reached, Vec::<Vec<u8>>::new());
            assert_eq!(two.dropped(Direction::Inbound, DropReason::LatchMismatch), 1);
            assert_eq!(
                two.datapath.inbound_fragments.rows.iter().flatten().flatten().count(),
                0,
                "{order:?}"
            );
            // Whoever is let pass has the identification to himself.
            let other = two.datapath.inbound_fragments.resolve(
                &mut IpPacket::parse(&parts[0], Direction::Inbound).unwrap(),
                Some(tag(2)),
                at(1),
                |_| Ok(()),
            );
            assert_eq!(other, Ok(true));
            two.datapath.begin(at(4));
            assert_eq!(two.dropped(Direction::Inbound, DropReason::FragmentUnresolved), 2);
            assert_eq!(two.datapath.counters().street(Direction::Inbound).packets.get(), 0);
        }
    }
}

/// T20: a fragment whose first never comes is dropped, by name, when its time is over; and one of foreign addresses, when its
/// first is.
#[test]
fn t20_what_waits_in_vain_is_a_drop() {
    let (mut one, mut two) = joined(Open, Open);
    let parts = datagram(false);
    let (mut sealed, _) = one.send(&parts[0], at(1));
    sealed.extend(one.send(&parts[1], at(1)).0);
    assert!(two.receive(&sealed[1], at(1)).is_empty());
    assert_eq!(two.drops(), []);
    two.datapath.begin(at(4));
    assert_eq!(two.drops(), [(Direction::Inbound, DropReason::FragmentUnresolved, 1)]);
    assert_eq!(two.receive(&sealed[0], at(4)), [parts[0].clone()]);
    assert_eq!(two.datapath.release_inbound(&mut vec![0; 70_000]), None);
    // What the sender's side never got the first of.
    let (mut one, _) = joined(Open, Open);
    assert!(send(&mut one, &parts[2]).is_empty());
    one.datapath.begin(at(4));
    assert_eq!(one.drops(), [(Direction::Outbound, DropReason::FragmentUnresolved, 1)]);
}

/// T20, RFC 1858 3, RFC 7112: a first fragment that policy cannot judge is dropped by name, whatever it hides.
#[test]
fn t20_rfc_1858_3_a_tiny_first_fragment_is_dropped() {
    let tiny = |packet: &[u8]| IpPacket::parse(packet, Direction::Inbound).unwrap_err();
    let mut tcp = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1, 2, 3, 4).write(&mut tcp, &[0; 12]).unwrap();
    for len in [8_u16, 16] {
        let mut cut = tcp[..20 + usize::from(len)].to_vec();
        cut[2..4].copy_from_slice(&(20 + len).to_be_bytes());
        cut[6] = 0x20;
        assert_eq!(tiny(&cut), DropReason::FragmentTiny, "{len}");
    }
    // Options that say they are longer than what is there.
    let mut cut = tcp[..20 + 24].to_vec();
    cut.truncate(44);
    cut[2..4].copy_from_slice(&44_u16.to_be_bytes());
    cut[6] = 0x20;
    cut[20 + 12] = 0xf0;
    assert_eq!(tiny(&cut), DropReason::FragmentTiny);
    // The upper layer behind destination options that go on in the next fragment.
    let mut v6 = datagram(true)[0][..56].to_vec();
    v6[4..6].copy_from_slice(&16_u16.to_be_bytes());
    v6[40] = 60;
    v6[48..56].copy_from_slice(&[17, 1, 1, 4, 0, 0, 0, 0]);
    assert_eq!(tiny(&v6), DropReason::FragmentTiny);
}

/// T20: pieces that no datagram has: beyond 65535 octets, empty, or not ending where another can begin.
#[test]
fn t20_fragments_that_no_datagram_has_are_refused() {
    let bad = |packet: &[u8]| IpPacket::parse(packet, Direction::Inbound).unwrap_err();
    assert_eq!(bad(&fragment(0x1fff, false, 1)), DropReason::BadIpHeader, "65535 octets and more");
    assert!(IpPacket::parse(&fragment(0x1fff - 11, false, 1), Direction::Inbound).is_ok());
    assert_eq!(bad(&fragment(0x1fff - 10, false, 1)), DropReason::BadIpHeader);
    let mut odd = fragment(1, true, 1);
    odd.truncate(20 + 63);
    odd[2..4].copy_from_slice(&83_u16.to_be_bytes());
    assert_eq!(bad(&odd), DropReason::BadIpHeader);
    odd.truncate(20);
    odd[2..4].copy_from_slice(&20_u16.to_be_bytes());
    assert_eq!(bad(&odd), DropReason::BadIpHeader);
    // A fragment header behind another.
    let mut twice = datagram(true)[0].clone();
    let header: [u8; 8] = twice[40..48].try_into().unwrap();
    twice[40] = 44;
    twice.splice(48..48, header);
    let len = (twice.len() - 40) as u16;
    twice[4..6].copy_from_slice(&len.to_be_bytes());
    assert_eq!(bad(&twice), DropReason::BadIpHeader);
}

/// RFC 6946: an IPv6 packet with a fragment header that is whole has nothing to do with fragments of its identification.
#[test]
fn t20_rfc_6946_an_atomic_fragment_is_whole() {
    let (mut one, mut two) = joined(Open, Open);
    let mut atomic = datagram(true)[0].clone();
    atomic[42..44].copy_from_slice(&[0, 0]);
    for packet in [datagram(true)[0].clone(), atomic.clone(), atomic, datagram(true)[1].clone()] {
        let got: Vec<_> =
            send(&mut one, &packet).iter().flat_map(|sealed| receive(&mut two, sealed)).collect();
        assert_eq!(got, [packet]);
    }
    assert_eq!((one.drops(), two.drops()), (vec![], vec![]));
}

/// T20, RFC 8200 4.5: an IPv6 host reassembles by addresses and identification alone, whatever each fragment says of what follows.
#[test]
fn t20_fragments_of_ipv6_are_of_one_datagram_whatever_they_say_follows() {
    let fragment = |next: u8, offset: u16, more: bool, payload: &[u8]| {
        let mut octets = Vec::new();
        let builder = PacketBuilder::ipv6([0xfd; 16], [0xfc; 16], 64);
        builder.udp(7, 8).write(&mut octets, payload).unwrap();
        let upper = octets.split_off(40);
        octets[4..6].copy_from_slice(&u16::try_from(8 + upper.len()).unwrap().to_be_bytes());
        octets[6] = 44;
        let [high, low] = (offset | u16::from(more)).to_be_bytes();
        octets.extend([next, 0, high, low, 0, 0, 0, 9]);
        [octets, upper].concat()
    };
    let mut flows = FragmentFlows::new();
    let flow = resolve(&mut flows, &fragment(protocol::UDP, 0, true, &[0; 64]), Some(1), 0).unwrap();
    assert!(flow.is_some());
    assert_eq!(resolve(&mut flows, &fragment(60, 72, false, &[0; 64]), Some(1), 0), Ok(flow));
    let conflict = resolve(&mut flows, &fragment(protocol::ICMPV6, 0, true, &[0; 64]), None, 0);
    assert_eq!(conflict, Err(DropReason::FragmentConflict), "another class's, though of another protocol");
    assert!(resolve(&mut flows, &fragment(protocol::ICMPV6, 144, false, &[0; 64]), None, 0).is_err());
}
