//! Two gateways on a path that takes less than it is configured to, or is said to.

use std::net::IpAddr;
use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use latchway_esp::{Integrity, Protocol, SeqLow, Spi, Suite};
use latchway_tagging::Mode;

use crate::arrival::Carrier;
use crate::drop::{Direction, DropReason};
use crate::event::Event;
use crate::pmtu::{Discovery, Hint, PathMtu, Pmtu, ProbeEnds, Sizing};
use crate::sad::{Role, Shape, Tfc};
use crate::send_batch::SendBatch;
use crate::testing::{Host, Open, SaOptions, inbound_entry, joined, outbound_entry};
use crate::time::Time;
use latchway_netns::packet;

/// Two gateways, and between them what drops datagrams that are too long.
struct World {
    one: Host<Open>,
    two: Host<Open>,
    /// What the path takes, UDP and IP headers included.
    takes: usize,
    /// Whether the inner host behind the second answers.
    answers: bool,
    /// Whether it speaks by itself, once a second.
    talks: bool,
    /// What reached the first one's inner hosts.
    delivered: Vec<Vec<u8>>,
    probes: usize,
    now: Time,
}

const OUTER: usize = 20 + 8;

impl World {
    fn new() -> Self {
        Self::with(Sizing::default())
    }

    fn with(sizing: Sizing) -> Self {
        let (mut one, two) = joined(Open, Open);
        revise(&mut one, |_, shape| shape.sizing = sizing);
        let mut world = Self {
            one,
            two,
            takes: 1500,
            answers: true,
            talks: true,
            delivered: Vec::new(),
            probes: 0,
            now: Time::from_nanos(1_000_000_000),
        };
        world.send(100, true);
        world
    }

    /// The second's inner host sends a datagram to the first's.
    fn speak(&mut self) {
        let ends = ["10.0.2.20:53", "10.0.1.10:40000"].map(|end| end.parse().unwrap());
        let packet = packet::udp(ends[0], ends[1], b"hello").unwrap();
        let (sealed, _) = self.two.send(&packet, self.now);
        for datagram in sealed {
            assert_eq!(self.one.receive(&datagram, self.now), std::slice::from_ref(&packet));
        }
    }

    fn hint(&mut self, claimed: u16) {
        let hint = Hint {
            spi: Spi::new(0x1001).unwrap(),
            protocol: Protocol::Esp,
            low_seq: None,
            claimed,
            reporter: "203.0.113.9".parse().unwrap(),
        };
        self.one.datapath.begin(self.now);
        self.one.datapath.hint_mtu(hint);
    }

    /// Lets so much time pass, in turns of 50 ms.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let mut batch = SendBatch::new();
            if self.talks && self.now.as_nanos().is_multiple_of(1_000_000_000) {
                self.speak();
            }
            self.one.datapath.begin(self.now);
            let any = self.one.datapath.probe(&mut batch);
            assert_eq!(any, !batch.is_empty());
            assert!(batch.runs().all(|run| run.len() == 1), "short and long ones are lost together");
            for datagram in datagrams(&batch) {
                self.probes += 1;
                if datagram.len() + OUTER <= self.takes {
                    self.arrive(&datagram);
                }
            }
            self.now = self.now + Duration::from_millis(50);
        }
    }

    /// A datagram reaches the second gateway, and its inner host answers what it is asked.
    fn arrive(&mut self, datagram: &[u8]) {
        for request in self.two.receive(datagram, self.now) {
            let Some(answer) = answer(&request).filter(|_| self.answers) else { continue };
            for datagram in self.two.send(&answer, self.now).0 {
                self.delivered.extend(self.one.receive(&datagram, self.now));
            }
        }
    }

    /// What the first gateway tells of its outbound SA.
    fn shown(&self) -> Option<PathMtu> {
        let slot = self.one.snapshot.sad.iter().find(|slot| !slot.entry.is_inbound());
        slot.unwrap().entry.use_.path_mtu()
    }

    /// The longest datagram in a DF packet that leaves.
    fn longest(&mut self) -> usize {
        (1200..1600).rev().find(|&len| !self.send(len, true).is_empty()).unwrap()
    }

    fn send(&mut self, len: usize, df: bool) -> Vec<Vec<u8>> {
        self.one.send(&inner(len, df), self.now).0
    }

    fn events(&self) -> Vec<(u16, bool)> {
        let of = |event| match event {
            Event::PathMtu { mtu, suspected, .. } => Some((mtu, suspected)),
            _ => None,
        };
        self.one.events.try_iter().filter_map(of).collect()
    }
}

/// Changes the path or the shape of a host's outbound SA.
fn revise(host: &mut Host<Open>, change: impl FnOnce(&mut crate::sad::Path, &mut crate::sad::Shape)) {
    let slot = host.snapshot.sad.iter().find(|slot| !slot.entry.is_inbound()).unwrap();
    let mut entry = (*slot.entry).clone();
    let Role::Outbound { path, shape, .. } = &mut entry.role else { panic!("inbound") };
    change(path, shape);
    assert!(host.snapshot.sad.revise(entry.into()));
    host.publish();
}

fn datagrams(batch: &SendBatch) -> Vec<Vec<u8>> {
    batch.runs().flat_map(|run| run.datagrams().map(<[u8]>::to_vec).collect::<Vec<_>>()).collect()
}

fn inner(len: usize, df: bool) -> Vec<u8> {
    let mut octets = Vec::new();
    let ip = PacketBuilder::ipv4([10, 0, 1, 10], [10, 0, 2, 20], 64);
    ip.udp(7, 8).write(&mut octets, &vec![5; len - 28]).unwrap();
    if !df {
        octets[6] &= !0x40;
    }
    octets
}

/// What a host answers to an echo request.
fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let sliced = SlicedPacket::from_ip(request).unwrap();
    let mut octets = Vec::new();
    match (sliced.net?, sliced.transport?) {
        (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
            let [a, b, c, d] = icmp.bytes5to8();
            let (id, seq) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let header = ip.header();
            PacketBuilder::ipv4(header.destination(), header.source(), 64)
                .icmpv4_echo_reply(id, seq)
                .write(&mut octets, icmp.payload())
                .unwrap();
        }
        (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
            let [a, b, c, d] = icmp.bytes5to8();
            let (id, seq) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let header = ip.header();
            PacketBuilder::ipv6(header.destination(), header.source(), 64)
                .icmpv6_echo_reply(id, seq)
                .write(&mut octets, icmp.payload())
                .unwrap();
        }
        _ => return None,
    }
    Some(octets)
}

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// T18: what a stranger says is asked about, found wrong, and changes nothing; no inner host sees any of it.
#[test]
fn t18_a_forged_hint_triggers_a_probe_and_nothing_else() {
    let mut world = World::new();
    let before = world.longest();
    for _ in 0..100 {
        world.hint(1400);
        world.pass(SECOND);
    }
    assert_eq!((world.longest(), before), (1438, 1438));
    assert_eq!(world.shown(), Some(PathMtu { in_force: 1500, suspected: false }));
    assert!((2..=2 * 10).contains(&world.probes), "{} probes in 100 seconds", world.probes);
    assert_eq!(world.delivered, Vec::<Vec<u8>>::new());
    let answered = world.one.dropped(Direction::Inbound, DropReason::ProbeAnswer);
    assert_eq!(answered, world.probes as u64, "each answer is counted");
    assert_eq!(world.one.datapath.counters().mtu_probes_answered.get(), answered);
    assert_eq!(world.one.datapath.counters().mtu_hints.get(), 100);
    assert_eq!(world.events()[..2], [(1500, true), (1500, false)], "and told of");
}

/// T18: hints about SAs that are not ours, numbers that were not sent lately, or sizes that cannot be, ask nothing.
#[test]
fn t18_hints_that_cannot_be_are_counted_and_that_is_all() {
    let mut world = World::new();
    let good = Hint {
        spi: Spi::new(0x1001).unwrap(),
        protocol: Protocol::Esp,
        low_seq: Some(SeqLow(1)),
        claimed: 1400,
        reporter: "203.0.113.9".parse().unwrap(),
    };
    let bad = [
        Hint { spi: Spi::new(0x1002).unwrap(), ..good },
        Hint { spi: Spi::new(0xdead_beef).unwrap(), ..good },
        Hint { protocol: Protocol::Ah, ..good },
        Hint { low_seq: Some(SeqLow(2)), ..good },
        Hint { low_seq: Some(SeqLow(u32::MAX)), ..good },
        Hint { claimed: 1500, ..good },
        Hint { claimed: 1343, ..good },
        Hint { claimed: 68, ..good },
        Hint { claimed: 0, reporter: "2001:db8::9".parse().unwrap(), ..good },
    ];
    for hint in bad {
        world.one.datapath.hint_mtu(hint);
        world.pass(5 * SECOND);
        assert_eq!((world.probes, world.shown()), (0, None), "{hint:?}");
    }
    assert_eq!(world.one.datapath.counters().mtu_hints.get(), bad.len() as u64);
    world.one.datapath.hint_mtu(good);
    world.pass(2 * SECOND);
    assert_eq!(world.probes, 2);
}

/// RFC 1191 5: of a router too old to say how much it takes, as many octets as always must fit are what is asked for, and the
/// search goes up from there.
#[test]
fn rfc_1191_5_what_a_router_that_names_no_size_takes_is_searched_for() {
    for takes in [1344, 1400, 1492] {
        let mut world = World::new();
        world.takes = takes;
        world.hint(0);
        world.pass(MINUTE);
        let found = world.shown().unwrap();
        assert!(!found.suspected && usize::from(found.in_force) <= takes, "{takes}: {found:?}");
        assert!(takes - usize::from(found.in_force) < 12, "{takes}: {found:?}");
    }
    let mut world = World::new();
    world.hint(0);
    world.pass(MINUTE);
    let unharmed = PathMtu { in_force: 1500, suspected: false };
    assert!(world.shown().is_none_or(|found| found == unharmed), "a forged one is found to be wrong (T18)");
}

/// RFC 4301 8.2, 8.2.1: a path that narrowed is found, inner senders are told the exact size, and what may be cut is.
#[test]
fn rfc_4301_8_2_a_narrower_path_is_found_and_inner_senders_hear_of_it() {
    for takes in [1400, 1401, 1407, 1499, 1344, 1350] {
        let mut world = World::new();
        world.takes = takes;
        world.hint(u16::try_from(takes).unwrap());
        world.pass(MINUTE);
        let found = world.shown().unwrap();
        assert!(!found.suspected && usize::from(found.in_force) <= takes, "{takes}: {found:?}");
        // GCM pads to four octets: the exact claim is found exactly.
        assert!(takes - usize::from(found.in_force) < 4, "{takes}: {found:?}");
        let most = world.longest();
        assert!(most <= takes - 62 && most + 4 > takes - 62, "{takes}: {most}");
        world.pass(SECOND);
        let told = world.one.told();
        assert!(world.send(most + 1, true).is_empty());
        assert_eq!(world.one.told(), told + 1, "the sender of the first that is too long");
        let answer = world.one.datapath.answer();
        assert_eq!(usize::from(u16::from_be_bytes([answer[26], answer[27]])), most);
        let fragments = world.send(most + 1, false);
        assert_eq!(fragments.len(), 2);
        assert!(fragments.iter().all(|one| one.len() + OUTER <= takes));
        assert_eq!(world.delivered, Vec::<Vec<u8>>::new());
    }
}

/// RFC 8899 5.1.1: ten minutes later more is tried, up to what is configured.
#[test]
fn rfc_8899_5_1_1_a_path_that_widens_is_used_again() {
    let mut world = World::new();
    world.takes = 1400;
    world.hint(1400);
    world.pass(MINUTE);
    assert_eq!(world.shown().unwrap().in_force, 1400);
    world.takes = 9000;
    world.pass(10 * MINUTE);
    assert_eq!(world.shown(), Some(PathMtu { in_force: 1500, suspected: false }));
    assert_eq!(world.longest(), 1438);
    assert_eq!(world.events(), [(1500, true), (1400, false), (1500, false)]);
}

/// Silence proves nothing: the size stays, and the doubt is shown.
#[test]
fn t18_where_no_probe_is_answered_the_size_stays_and_is_suspected() {
    let mut world = World::new();
    (world.takes, world.answers) = (1400, false);
    world.hint(1400);
    world.pass(MINUTE);
    assert_eq!(world.shown(), Some(PathMtu { in_force: 1500, suspected: true }));
    assert_eq!(world.longest(), 1438);
    world.answers = true;
    world.pass(10 * MINUTE);
    assert_eq!(world.shown(), Some(PathMtu { in_force: 1400, suspected: false }));
}

/// RFC 4301 8.2: where all that is sent is too long, nothing returns from which anybody could be heard of. Then those are asked
/// to whom packets go.
#[test]
fn rfc_4301_8_2_a_path_that_swallows_all_packets_is_asked_between_their_ends() {
    let mut world = World::new();
    (world.talks, world.takes) = (false, 1400);
    world.hint(1400);
    world.pass(5 * SECOND);
    assert_eq!(world.probes, 0, "what was sent before is forgotten");
    assert_eq!(world.send(1438, true).len(), 1);
    world.pass(5 * SECOND);
    assert_eq!(world.shown(), Some(PathMtu { in_force: 1400, suspected: false }));
    world.pass(MINUTE);
    assert_eq!(world.longest(), 1338);
}

/// Who was heard of is asked rather than who was only sent to, from whom nothing may ever come, and is asked as often.
#[test]
fn t18_who_is_heard_of_is_asked_instead_of_who_was_sent_to() {
    let mut world = World::new();
    (world.talks, world.takes) = (false, 1400);
    world.hint(1400);
    let ends = ["10.0.1.10:40000", "10.0.2.99:53"].map(|end| end.parse().unwrap());
    let nobody = packet::udp(ends[0], ends[1], b"anybody there?").unwrap();
    world.one.send(&nobody, world.now);
    world.answers = false;
    world.pass(2 * SECOND);
    assert!(world.probes >= 2 && world.shown().is_some_and(|found| found.suspected));
    world.answers = true;
    world.speak();
    world.pass(2 * SECOND);
    assert_eq!(world.shown(), Some(PathMtu { in_force: 1500, suspected: true }), "not asked three times");
    world.pass(2 * SECOND);
    assert_eq!(world.shown(), Some(PathMtu { in_force: 1400, suspected: false }));
}

/// Nobody was heard of or sent to since, and nobody is configured: nothing can be asked until somebody is.
#[test]
fn t18_nobody_is_asked_who_was_not_heard_of_or_named() {
    let mut world = World::new();
    (world.talks, world.takes) = (false, 1400);
    world.hint(1400);
    world.pass(5 * SECOND);
    assert_eq!((world.probes, world.shown()), (0, Some(PathMtu { in_force: 1500, suspected: true })));
    world.speak();
    world.pass(10 * SECOND);
    assert_eq!(world.shown(), Some(PathMtu { in_force: 1400, suspected: false }));

    let end = |host: u8| -> IpAddr { format!("fd00:{host}::7").parse().unwrap() };
    let pmtu = Pmtu { probe: Some(ProbeEnds { from: end(1), to: end(2) }), ..Pmtu::default() };
    let mut world = World::with(Sizing { pmtu, ..Sizing::default() });
    (world.talks, world.takes) = (false, 1400);
    world.hint(1400);
    world.pass(10 * SECOND);
    assert_eq!(world.shown(), Some(PathMtu { in_force: 1400, suspected: false }));
}

/// RFC 4301 5.1, 4.4.2.1: neither policy nor the SA's selectors are passed by.
#[test]
fn rfc_4301_5_1_what_policy_or_selectors_forbid_is_not_asked() {
    let ends = |from: &str, to: &str| ProbeEnds { from: from.parse().unwrap(), to: to.parse().unwrap() };
    for foreign in [ends("10.0.9.1", "10.0.2.1"), ends("10.0.1.1", "10.0.9.1"), ends("fd00:1::1", "10.0.2.1")]
    {
        let pmtu = Pmtu { probe: Some(foreign), ..Pmtu::default() };
        let mut world = World::with(Sizing { pmtu, ..Sizing::default() });
        world.hint(1400);
        world.pass(5 * SECOND);
        assert_eq!(world.probes, 0, "{foreign:?}");
    }
    let mut world = World::new();
    world.hint(1400);
    world.talks = false;
    world.speak();
    world.one.snapshot.spd = crate::spd::Spd::new(Vec::new());
    world.one.publish();
    world.pass(5 * SECOND);
    assert_eq!(world.probes, 0);
}

/// RFC 8899 4.3: without any hint, where that is wanted, and only there.
#[test]
fn rfc_8899_4_3_a_black_hole_is_found_only_where_time_is_reason_to_ask() {
    let discovery = |discovery| Sizing { pmtu: Pmtu { discovery, ..Pmtu::default() }, ..Sizing::default() };
    for (sizing, finds) in [
        (discovery(Discovery::Probes), true),
        (discovery(Discovery::Hints), false),
        (discovery(Discovery::Off), false),
    ] {
        let mut world = World::with(sizing);
        world.takes = 1400;
        world.pass(3 * MINUTE);
        assert_eq!(
            world.shown().is_some_and(|found| (1393..=1400).contains(&found.in_force)),
            finds,
            "{sizing:?}"
        );
        if sizing.pmtu.discovery == Discovery::Off {
            world.hint(1400);
            world.pass(MINUTE);
            assert_eq!((world.probes, world.shown()), (0, None));
        }
    }
}

/// What an SA found, its successor on the same path knows; an SA that is led elsewhere begins anew.
#[test]
fn rfc_4301_8_2_a_rekeyed_sa_keeps_to_what_its_predecessor_found() {
    let mut world = World::new();
    world.takes = 1400;
    world.hint(1400);
    world.pass(MINUTE);
    assert_eq!(world.longest(), 1338);
    let old = world.one.snapshot.sad.iter().find(|slot| !slot.entry.is_inbound()).unwrap().entry.sa;
    let successor = outbound_entry(1, 2, &SaOptions::new(0x2001, 2));
    let sa = successor.as_ref().unwrap().sa;
    world.one.insert(successor);
    world.one.publish();
    world.pass(SECOND);
    world.one.snapshot.sad.remove(old);
    world.one.publish();
    assert_eq!(world.longest(), 1338);
    let shown = world.one.snapshot.sad.get(sa).unwrap().entry.use_.path_mtu();
    assert_eq!(shown, Some(PathMtu { in_force: 1400, suspected: false }));

    revise(&mut world.one, |path, _| path.mtu = 1450);
    world.pass(SECOND);
    assert_eq!((world.longest(), world.shown()), (1386, None));
}

/// RFC 4301 4.3, 8.2: of a bundle routers see AH; what they say of it is asked of the ESP SA within, with both headers in the
/// sum, and what is hidden by padding stays as long as was asked.
#[test]
fn rfc_4301_4_3_a_hint_about_the_ah_of_a_bundle_asks_for_what_is_within() {
    for tfc in [Tfc::None, Tfc::Mtu, Tfc::Multiple(512)] {
        let native = |spi, index| SaOptions { carrier: Carrier::Native, ..SaOptions::new(spi, index) };
        let shape = Shape { tfc, ..Shape::default() };
        let esp = SaOptions { nested: Some(1), shape, ..native(0x1001, 0) };
        let suite = Suite::ah(Integrity::HmacSha256);
        let ah = SaOptions { nested: Some(0), mode: Mode::Transport, suite, ..native(0x1002, 1) };
        let mut one = Host::new(1, 2, Open);
        for options in [&esp, &ah] {
            one.insert(outbound_entry(1, 2, options));
        }
        one.insert(inbound_entry(1, 2, &SaOptions::new(0x1003, 2)));
        let ends = ProbeEnds { from: "10.0.1.9".parse().unwrap(), to: "10.0.2.9".parse().unwrap() };
        revise(&mut one, |_, shape| shape.sizing.pmtu.probe = Some(ends));
        let now = Time::from_nanos(1_000_000_000);
        one.send(&inner(100, true), now);
        let spi = Spi::new(0x1002).unwrap();
        let reporter = ends.to;
        one.datapath.hint_mtu(Hint { spi, protocol: Protocol::Ah, low_seq: None, claimed: 1420, reporter });
        let mut batch = SendBatch::new();
        assert!(one.datapath.probe(&mut batch), "{tfc:?}");
        let lens: Vec<_> = datagrams(&batch).iter().map(Vec::len).collect();
        // 20 of IP, 28 of AH, and of ESP 34 and what makes it a multiple of 4.
        assert_eq!(lens, [1500, 1420], "{tfc:?}");
    }
}
