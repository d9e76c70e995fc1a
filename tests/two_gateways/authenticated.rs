//! What AH protects is latched as that, and ESP never stands in for it, nor it for ESP (latching-04 section 2, RFC 4302).

use std::net::{IpAddr, SocketAddr};

use latchway_datapath::arrival::{Arrival, Carrier};
use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::sad::Path;
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::spd::{Action, Protection};
use latchway_datapath::time::Time;
use latchway_esp::{Integrity, Suite};
use latchway_keying::{
    Alerts, Asked, ConnectionRequest, Constraints, HeaderKeys, Keys, ListenerRequest, Op, PairId, Privilege,
    Proposal, Suites,
};
use latchway_tagging::Mode;
use latchway_ulp_shim::{LatchId, LatchState, Listening};

use crate::holders::free;
use crate::support::gateway::{Gateway, Terms, keys, proposal};
use crate::support::net::{ALICE, BOB, Net};
use crate::tcp;

/// A kind of protection: what an SA protects with, what is around it, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    suite: Suite,
    around: Option<Suite>,
    mode: Mode,
}

const AH: Suite = Suite::ah(Integrity::HmacSha256);
const ESP: Suite = Suite::AES_128_GCM;

/// AH, ESP and both, in either mode, all as IP packets of their own.
const FORMS: [Form; 6] = [
    Form { suite: AH, around: None, mode: Mode::Tunnel },
    Form { suite: AH, around: None, mode: Mode::Transport },
    Form { suite: ESP, around: Some(AH), mode: Mode::Tunnel },
    Form { suite: ESP, around: Some(AH), mode: Mode::Transport },
    Form { suite: ESP, around: None, mode: Mode::Tunnel },
    Form { suite: ESP, around: None, mode: Mode::Transport },
];

impl Form {
    fn has_ah(self) -> bool {
        self.suite == AH || self.around.is_some()
    }

    fn hides(self) -> bool {
        self.suite == ESP
    }

    /// The outermost protocol.
    fn protocol(self) -> u8 {
        if self.has_ah() { 51 } else { 50 }
    }

    /// Between what SAs are: gateways in tunnel mode, and in transport mode the hosts of the connection.
    fn ends(self) -> [IpAddr; 2] {
        match self.mode {
            Mode::Tunnel => [ALICE.address().ip(), BOB.address().ip()],
            Mode::Transport => [tcp().local.ip(), tcp().remote.ip()],
        }
    }

    /// A pair of SAs between alice and bob, in force at both.
    fn join(self, net: &mut Net) -> [PairId; 2] {
        let now = net.now;
        let [own, far] = self.ends();
        let spis = [net.alice.draw_spi(), net.bob.draw_spi()];
        let around = [net.alice.draw_spi(), net.bob.draw_spi()];
        let install =
            |gateway: &mut Gateway, peer, [from, to]: [IpAddr; 2], [inbound, outbound]: [usize; 2]| {
                let of = |suite, spis: [_; 2]| {
                    let terms = Terms { suite, ..Terms::default() };
                    keys(&terms, spis[inbound], spis[outbound], peer)
                };
                let header = self.around.map(|suite| {
                    let Keys { inbound, outbound, .. } = of(suite, around);
                    HeaderKeys { inbound, outbound }
                });
                let path =
                    Path { from, to: SocketAddr::new(to, 0), carrier: Carrier::Native, ..of(AH, spis).path };
                let selectors = match self.mode {
                    Mode::Tunnel => gateway.host.selectors(peer),
                    Mode::Transport => vec![Selector::between(only(from), only(to))],
                };
                let proposal = Proposal {
                    selectors,
                    mode: self.mode,
                    suites: Suites::both(self.suite),
                    header: self.around.map(Suites::both),
                    ..proposal(gateway.host, peer, &Terms::default())
                };
                let ticket = gateway.keying.propose(proposal, now).unwrap().ticket;
                let keys = Keys { header, path, ..of(self.suite, spis) };
                gateway.keying.install(ticket, keys, now).unwrap()
            };
        let pairs = [
            install(&mut net.alice, BOB, [own, far], [0, 1]),
            install(&mut net.bob, ALICE, [far, own], [1, 0]),
        ];
        assert_eq!(
            (net.alice.settle(now), net.bob.settle(now)),
            (vec![pairs[0]], vec![pairs[1]]),
            "{self:?}"
        );
        pairs
    }

    /// Whether packets look like this on the wire: the outermost protocol, in AH what is inside, and what can be read.
    fn shows(self, octets: &[u8], content: &[u8]) {
        assert_eq!(octets[9], self.protocol(), "{self:?}");
        if self.has_ah() {
            let inside = match (self.around, self.mode) {
                (Some(_), _) => 50,
                (None, Mode::Tunnel) => 4,
                (None, Mode::Transport) => 6,
            };
            assert_eq!(octets[20], inside, "{self:?}");
        }
        assert_eq!(octets.windows(content.len()).any(|part| part == content), !self.hides(), "{self:?}");
        let [own, far] = self.ends();
        let ends =
            [&octets[12..16], &octets[16..20]].map(|end| IpAddr::from(<[u8; 4]>::try_from(end).unwrap()));
        assert!(ends == [own, far] || ends == [far, own], "{self:?}");
    }
}

fn only(end: IpAddr) -> AddressRange {
    AddressRange::new(end, end).unwrap()
}

/// What leaves one gateway for a packet.
fn seal(gateway: &mut Gateway, packet: &[u8], now: Time) -> Vec<Vec<u8>> {
    gateway.send(packet, now).into_iter().map(|datagram| datagram.octets).collect()
}

/// What reaches the hosts behind a gateway of an IP packet from the other.
fn open(gateway: &mut Gateway, octets: &[u8], now: Time) -> Vec<Vec<u8>> {
    let from = IpAddr::from(<[u8; 4]>::try_from(&octets[12..16]).unwrap());
    let arrival =
        Arrival { carrier: Carrier::Native, ..Arrival::udp(octets.len(), SocketAddr::new(from, 0)) };
    gateway.receive_as(octets.to_vec(), &arrival, now)
}

/// Sends a packet from alice to bob, or the other way, which must arrive, and returns what it was on the wire.
fn passes(net: &mut Net, from_alice: bool, packet: &[u8]) -> Vec<u8> {
    let now = net.now;
    let (from, to) = if from_alice { (&mut net.alice, &mut net.bob) } else { (&mut net.bob, &mut net.alice) };
    let sealed = seal(from, packet, now);
    assert_eq!(sealed.len(), 1, "{:?}", from.drops());
    assert_eq!(open(to, &sealed[0], now), [packet], "{:?}", to.drops());
    sealed[0].clone()
}

/// Opens the connection, so that both ends have a latch for it.
fn begin(net: &mut Net) {
    passes(net, true, &tcp().syn());
    passes(net, false, &tcp().reversed().syn_ack());
    passes(net, true, &tcp().data(1, b""));
}

/// How often a gateway dropped for a reason.
fn dropped(gateway: &Gateway, direction: Direction, reason: DropReason) -> u64 {
    let drops = gateway.drops().into_iter();
    drops.filter(|row| (row.0, row.1) == (direction, reason)).map(|row| row.2).sum()
}

/// L-6, L-7, L-96 to L-98: what a tag says of packets in AH is latched at both ends, whichever side begins: whether their header
/// is protected, whether they are hidden, and the mode. What passes is of that kind, in both directions.
#[test]
fn l_6_l_7_l_98_what_ah_protects_is_latched_as_what_it_is() {
    for form in FORMS {
        for from_alice in [true, false] {
            let mut net = Net::new(Protection::LATCHED);
            let pairs = form.join(&mut net);
            let flow = if from_alice { tcp() } else { tcp().reversed() };
            let segments = [
                (from_alice, flow.syn()),
                (!from_alice, flow.reversed().syn_ack()),
                (from_alice, flow.data(1, b"for all to read")),
                (!from_alice, flow.reversed().data(1, b"for all to read")),
            ];
            for (place, (by_alice, packet)) in segments.into_iter().enumerate() {
                let octets = passes(&mut net, by_alice, &packet);
                if place >= 2 {
                    form.shows(&octets, b"for all to read");
                }
            }
            for (gateway, flow, pair) in
                [(&net.alice, tcp(), pairs[0]), (&net.bob, tcp().reversed(), pairs[1])]
            {
                let latch = gateway.latch(flow).unwrap();
                assert_eq!(latch.state, LatchState::Established, "{form:?}");
                assert_eq!(latch.class, Some(gateway.pair(pair).class), "{form:?}");
                assert_eq!(latch.last_inbound.unwrap().sa, gateway.pair(pair).inbound.sa, "{form:?}");
                let class = gateway.keying.class(latch.class.unwrap()).unwrap();
                assert_eq!(class.mode, form.mode);
                for of in [class.algorithms.inbound, class.algorithms.outbound] {
                    assert_eq!((of.header_protected(), of.confidential()), (form.has_ah(), form.hides()));
                }
                assert_eq!(gateway.drops(), [], "{form:?}");
            }
        }
    }
}

/// L-6, L-7, L-24, L-98: a connection that one kind of protection latched goes by no other, though an SA of that is there, newer,
/// and of the same peer: not what leaves, also once there is no SA of its own any more, and not what comes.
#[test]
fn l_6_l_24_l_98_no_other_kind_of_protection_stands_in_for_what_is_latched() {
    for latched in FORMS {
        for other in FORMS.into_iter().filter(|other| *other != latched) {
            let mut net = Net::new(Protection::LATCHED_BY_TAG);
            let now = net.now;
            // Bob has no latches, and sends by what is newest.
            net.bob.set_policy(&[(ALICE, Action::Protect(Protection::UNLATCHED))], now);
            let own = latched.join(&mut net);
            begin(&mut net);
            let theirs = other.join(&mut net);
            assert_ne!(net.alice.pair(own[0]).class, net.alice.pair(theirs[0]).class);
            let latch = net.alice.latch(tcp()).unwrap();
            let data = tcp().data(1, b"which of both?");
            latched.shows(&seal(&mut net.alice, &data, now)[0], b"which of both?");
            let unlatched = tcp().reversed().data(1, b"of another kind");
            let sealed = seal(&mut net.bob, &unlatched, now);
            other.shows(&sealed[0], b"of another kind");
            assert_eq!(
                open(&mut net.alice, &sealed[0], now),
                Vec::<Vec<u8>>::new(),
                "{latched:?} by {other:?}"
            );
            assert_eq!(
                dropped(&net.alice, Direction::Inbound, DropReason::LatchMismatch),
                1,
                "{:?}",
                net.alice.drops()
            );
            let after = net.alice.latch(tcp()).unwrap();
            assert_eq!((after.state, after.class), (latch.state, latch.class), "{latched:?} by {other:?}");

            net.commit(ALICE, vec![Op::Remove(own[0])]);
            net.alice.settle(now);
            assert_eq!(seal(&mut net.alice, &data, now), Vec::<Vec<u8>>::new(), "{latched:?} by {other:?}");
            assert_eq!(
                dropped(&net.alice, Direction::Outbound, DropReason::NoOutboundSa),
                1,
                "{:?}",
                net.alice.drops()
            );
        }
    }
}

/// L-13, L-23, L-63: a latch that demands AH, or ESP, or that nobody can read along, or a mode, waits for SAs that are so, with
/// nothing leaving and nothing coming in meanwhile, whatever others there are.
#[test]
fn l_13_l_63_a_latch_that_demands_ah_or_esp_is_satisfied_by_nothing_else() {
    let mode = |mode| Constraints { mode: Some(mode), ..Constraints::default() };
    let modes: [Demand; 2] = [
        (mode(Mode::Tunnel), |form| form.mode == Mode::Tunnel),
        (mode(Mode::Transport), |form| form.mode == Mode::Transport),
    ];
    for (constraints, satisfies) in qualities().into_iter().chain(modes) {
        for form in FORMS {
            let mut net = Net::new(Protection::LATCHED);
            let now = net.now;
            free(&mut net, Action::Protect(Protection::LATCHED));
            form.join(&mut net);
            let alerts = net.alice.keying.open_holder().unwrap();
            let latch = demanded(&mut net.alice, &alerts, &constraints);
            net.alice.settle(now);
            let satisfied = satisfies(form);
            let expected = if satisfied { LatchState::Established } else { LatchState::Larval };
            assert_eq!(
                net.alice.database.inquire(latch).unwrap().state,
                expected,
                "{form:?}: {constraints:?}"
            );
            if satisfied {
                begin(&mut net);
                continue;
            }
            assert_eq!(seal(&mut net.alice, &tcp().syn(), now), Vec::<Vec<u8>>::new());
            assert_eq!(dropped(&net.alice, Direction::Outbound, DropReason::LatchLarval), 1);
            let came = seal(&mut net.bob, &tcp().reversed().syn(), now);
            assert_eq!(
                open(&mut net.alice, &came[0], now),
                Vec::<Vec<u8>>::new(),
                "{form:?}: {constraints:?}"
            );
            assert_eq!(
                dropped(&net.alice, Direction::Inbound, DropReason::LatchLarval),
                1,
                "{:?}",
                net.alice.drops()
            );
        }
    }
}

/// L-53, L-81: a listener that demands AH, or ESP, or that nobody can read along, gets those who come so, and no others.
#[test]
fn l_53_l_81_a_listener_that_demands_ah_or_esp_gets_nobody_else() {
    for (constraints, satisfies) in qualities() {
        for form in FORMS {
            let (mut net, local) = (Net::new(Protection::LATCHED), tcp().remote);
            let now = net.now;
            free(&mut net, Action::Protect(Protection::LATCHED));
            let alerts = net.bob.keying.open_holder().unwrap();
            let listening = Listening { address: local.ip(), protocol: 6, port: local.port() };
            let request = ListenerRequest { listening, constraints: constraints.clone(), on_conflict: None };
            let keying = &mut net.bob.keying;
            keying.create_listener_latch(&request, alerts.holder(), Privilege::Operator, now).unwrap();
            form.join(&mut net);
            if satisfies(form) {
                begin(&mut net);
                assert_eq!(net.bob.latch(tcp().reversed()).unwrap().state, LatchState::Established);
                continue;
            }
            let came = seal(&mut net.alice, &tcp().syn(), now);
            assert_eq!(open(&mut net.bob, &came[0], now), Vec::<Vec<u8>>::new(), "{form:?}: {constraints:?}");
            assert_eq!(
                dropped(&net.bob, Direction::Inbound, DropReason::ListenerRefused),
                1,
                "{:?}",
                net.bob.drops()
            );
            assert_eq!(net.bob.latch(tcp().reversed()), None);
        }
    }
}

/// What may be demanded, and which forms are that.
type Demand = (Constraints, fn(Form) -> bool);

/// AH alone, ESP alone, and that nobody can read along.
fn qualities() -> [Demand; 3] {
    let suite = |suite| Constraints { suites: vec![suite], ..Constraints::default() };
    let hidden = Constraints { protection: Asked::Confidential, ..Constraints::default() };
    [
        (suite(AH), |form| form.suite == AH),
        (suite(ESP), |form| form.suite == ESP && form.around.is_none()),
        (hidden, Form::hides),
    ]
}

/// A latch for the connection, of which this is demanded.
fn demanded(gateway: &mut Gateway, alerts: &Alerts, constraints: &Constraints) -> LatchId {
    let flow = tcp().key();
    let request =
        ConnectionRequest { flow, constraints: constraints.clone(), on_conflict: None, report_after: None };
    let now = Time::default();
    let keying = &mut gateway.keying;
    keying.create_connection_latch(&request, alerts.holder(), Privilege::Operator, now).unwrap().latch
}
