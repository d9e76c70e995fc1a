//! What an operator and a provider of SAs do with a gateway in memory, and what they are shown of it.

use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use latchway_control::{
    ActionSpec, Bond, Commit, DirectionSpec, EventKind, Failure, FlowRow, InstallSpec, KeysSpec, LatchState,
    Origin, PeerRow, PolicyRow, ProposalSpec, RekeySpec, RuleSpec, SaRow, SaUsage, Verdict, Whois, call,
};
use latchway_datapath::drop::Direction;
use latchway_datapath::event::Event;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::packet::IpPacket;
use latchway_datapath::ulp::{Context, Ulp};
use latchway_keying::KeyOrigin;
use latchway_keying::reservations::Reservations;
use latchway_tagging::{Feedback, WorkerId};
use latchway_ulp_shim::Shim;
use serde_json::json;

use super::testing::World;
use crate::gateway::clock::since;
use crate::gateway::convert;
use crate::gateway::operator::{Answer, Gateway, Rows};
use crate::gateway::records::Records;

/// All rows of a list.
fn all<R>(list: impl FnOnce(Rows<'_, R>) -> Answer<()>) -> Vec<R> {
    let mut rows = Vec::new();
    list(&mut |row| {
        rows.push(row);
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

impl World {
    fn sas(&self) -> Vec<SaRow> {
        all(|rows| self.state.sas(rows))
    }

    fn policies(&self) -> Vec<PolicyRow> {
        all(|rows| self.state.policies(rows))
    }

    /// A pair with a peer, installed as a provider does.
    fn provide(&self, peer: &str, remote: &str, spi: u32) -> u64 {
        let offered = self.state.propose(&proposal(peer, remote)).unwrap();
        let spec = InstallSpec { ticket: offered.ticket, keys: keys(spi) };
        self.state.install(&spec).unwrap().pair
    }
}

fn proposal(peer: &str, remote: &str) -> ProposalSpec {
    serde_json::from_value(json!({
        "peer": peer, "selectors": [{"local": "10.1.0.0/24", "remote": remote}],
        "inbound_suite": "aes-128-gcm", "outbound_suite": "aes-128-gcm",
    }))
    .unwrap()
}

/// Keys of which no two are alike, for an SPI and the next one.
fn keys(spi: u32) -> KeysSpec {
    let sa = |spi: u32| json!({"spi": spi, "key": format!("{spi:08x}").repeat(5)});
    serde_json::from_value(json!({
        "inbound": sa(spi), "outbound": sa(spi + 1), "inbound_suite": "aes-128-gcm", "outbound_suite": "aes-128-gcm",
        "path": {"from": "192.0.2.1", "to": "192.0.2.2:4500"}, "usage": "active",
    }))
    .unwrap()
}

fn rule(remote: &str, action: &str) -> RuleSpec {
    let selector = json!({"local": "10.1.0.0/24", "remote": remote});
    serde_json::from_value(json!({"selector": selector, "action": action})).unwrap()
}

fn question(remote: &str, octets: Option<u32>) -> call::Explain {
    serde_json::from_value(json!({
        "protocol": 17, "local": "10.1.0.1", "local_port": 5000, "remote": remote, "remote_port": 53, "octets": octets,
    }))
    .unwrap()
}

fn says(failure: &Failure, kind: &str, text: &str) {
    assert!(failure.error.ends_with(kind), "{failure:?}");
    assert!(failure.to_string().contains(text), "{failure}");
}

/// L-69 to L-74: what a provider does, from the proposal to the last pair's end, and what an operator hears of it.
#[test]
fn l_69_l_74_a_provider_proposes_installs_rekeys_and_removes() {
    let world = World::new();
    let offered = world.state.propose(&proposal("b.example", "10.2.0.0/24")).unwrap();
    assert_eq!((offered.selectors[0].remote.as_str(), offered.breaks.len()), ("10.2.0.0-10.2.0.255", 0));
    assert!(offered.expires > 0 && world.sas().is_empty());
    let install = |keys| InstallSpec { ticket: offered.ticket.clone(), keys };
    let first = world.state.install(&install(keys(0x1000))).unwrap().pair;
    assert_eq!(world.hear(EventKind::PairAdded).pair, Some(first));
    let sas = world.sas();
    assert_eq!(
        sas.iter().map(|sa| (sa.pair, sa.spi)).collect::<Vec<_>>(),
        [(Some(first), 0x1000), (Some(first), 0x1001)]
    );
    assert!(
        sas.iter().all(|sa| sa.origin == Origin::Hand && sa.usage == SaUsage::Active && sa.idle.is_none())
    );
    let again = world.state.install(&install(keys(0x1010))).unwrap_err();
    says(&again, "Refused", "ticket");

    let used_up = world.state.rekey(&RekeySpec { pair: first, keys: keys(0x1000) }).unwrap_err();
    says(&used_up, "Refused", "");
    let second = world.state.rekey(&RekeySpec { pair: first, keys: keys(0x2000) }).unwrap().pair;
    assert_eq!(world.hear(EventKind::PairAdded).pair, Some(second));
    let old_and_new: Vec<_> = world.sas().iter().map(|sa| sa.pair).collect();
    assert_eq!(old_and_new, [first, first, second, second].map(Some));

    assert!(
        world.sas().iter().all(|sa| (sa.usage == SaUsage::Active) == (sa.pair == Some(first))),
        "not yet in its place"
    );

    let replaced = Commit { activate: vec![second], retire: vec![first], ..Commit::default() };
    world.state.commit(&replaced).unwrap();
    assert_eq!(world.hear(EventKind::PairActivated).pair, Some(second));
    assert_eq!(world.hear(EventKind::PairRetired).pair, Some(first));
    world.state.delete_pair(first).unwrap();
    assert_eq!(world.hear(EventKind::PairRemoved).pair, Some(first));
    let left: Vec<_> = world.sas().iter().map(|sa| (sa.pair, sa.usage)).collect();
    assert_eq!(left, [(Some(second), SaUsage::Active); 2]);
    says(&world.state.delete_pair(first).unwrap_err(), "Refused", &first.to_string());
    let peers: Vec<PeerRow> = all(|rows| world.state.peers(rows));
    assert_eq!((&peers[0].pairs[..], peers[0].last_heard), (&[second][..], None));
    assert!(peers[1].pairs.is_empty());
}

/// T12: what begins at 1 has no key that the record knows.
#[test]
fn t12_no_key_on_record_serves_a_pair_by_hand() {
    let world = World::new();
    let folder = std::env::temp_dir().join(format!("latchway-by-hand-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    Reservations::create(&folder).unwrap().close().unwrap();
    let mut recorded = convert::keys(&keys(0x1000), &world.state.devices.listen).unwrap();
    recorded.origin = KeyOrigin::Static;
    let mut store = Reservations::open(&folder).unwrap();
    store.enrol_outbound(&recorded.outbound).unwrap();
    store.close().unwrap();
    world.state.xfrm().recorded_in(Arc::new(Records::open(&folder, |_| {}).unwrap()));
    std::fs::remove_dir_all(&folder).unwrap();

    let ticket = world.state.propose(&proposal("b.example", "10.2.0.0/24")).unwrap().ticket;
    let install = |keys| InstallSpec { ticket: ticket.clone(), keys };
    says(&world.state.install(&install(keys(0x1000))).unwrap_err(), "Refused", "used before");
    let pair = world.state.install(&install(keys(0x1010))).unwrap().pair;
    says(&world.state.rekey(&RekeySpec { pair, keys: keys(0x1000) }).unwrap_err(), "Refused", "used before");
    world.state.rekey(&RekeySpec { pair, keys: keys(0x1020) }).unwrap();
}

/// What the PAD does not allow is refused before any key is asked for, and nothing changes.
#[test]
fn l_69_what_the_pad_does_not_allow_is_refused() {
    let world = World::new();
    let beyond = world.state.propose(&proposal("b.example", "10.3.0.0/24")).unwrap_err();
    says(&beyond, "Refused", "10.3.0.0");
    says(&world.state.propose(&proposal("x.example", "10.2.0.0/24")).unwrap_err(), "Refused", "x.example");
    let unknown = InstallSpec { ticket: "no ticket".into(), keys: keys(0x1000) };
    says(&world.state.install(&unknown).unwrap_err(), "Refused", "ticket");
    says(&world.state.rekey(&RekeySpec { pair: 7, keys: keys(0x1000) }).unwrap_err(), "Refused", "7");
    assert!(world.sas().is_empty());
}

#[test]
fn rfc_4301_4_4_1_rules_made_by_hand_stand_before_the_configurations_in_the_order_asked_for() {
    let world = World::new();
    world.hear(EventKind::PolicyChanged);
    let [configured] = &world.policies()[..] else { panic!("one rule") };
    assert_eq!(configured.origin, Origin::Configuration);
    let add = |remote, action, before| {
        let added = call::AddRule { rule: rule(remote, action), before };
        world.state.add_rule(&added).map(|added| added.number)
    };
    let discard = add("10.2.0.0/24", "discard", None).unwrap();
    world.hear(EventKind::PolicyChanged);
    let bypass = add("10.2.0.7/32", "bypass", Some(discard)).unwrap();
    let last = add("10.3.0.0/24", "discard", Some(configured.number)).unwrap();
    let order: Vec<_> = world.policies().iter().map(|rule| rule.number).collect();
    assert_eq!(order, [bypass, discard, last, configured.number]);
    assert!(world.policies()[..3].iter().all(|rule| rule.origin == Origin::Hand));
    assert_eq!(world.policies()[0].action, ActionSpec::Bypass);
    says(&add("10.2.0.0/24", "discard", Some(4711)).unwrap_err(), "NotFound", "4711");
    says(&add("fd00::/64", "discard", None).unwrap_err(), "Refused", "mixes");

    world.state.delete_rule(discard).unwrap();
    let order: Vec<_> = world.policies().iter().map(|rule| rule.number).collect();
    assert_eq!(order, [bypass, last, configured.number]);
    says(&world.state.delete_rule(discard).unwrap_err(), "Refused", &discard.to_string());
}

#[test]
fn rfc_4301_5_1_an_explanation_names_rule_sa_size_and_reason() {
    let world = World::new();
    let without = world.state.explain(&question("10.2.0.1", None)).unwrap();
    assert_eq!((without.verdict, without.drop.as_deref()), (Verdict::Drop, Some("no_outbound_sa")));
    let pair = world.provide("b.example", "10.2.0.0/24", 0x1000);
    let with = world.state.explain(&question("10.2.0.1", Some(9000))).unwrap();
    let sa = with.sa.unwrap();
    assert_eq!((with.verdict, sa.pair, sa.spi), (Verdict::Protect, Some(pair), 0x1001));
    assert_eq!(
        (sa.peer.as_str(), with.policy.unwrap().number),
        ("fqdn:b.example", world.policies()[0].number)
    );
    let mtu = with.mtu.unwrap();
    assert!((1400..1480).contains(&mtu), "{mtu}");
    assert!(with.why.contains(&format!("9000 octets are more than the {mtu} that fit in one packet")));

    for peer in ["b.example", "fqdn:b.example"] {
        let sums = world.state.mtu(&call::Mtu { peer: peer.into() }).unwrap();
        let [sum] = &sums.sas[..] else { panic!("{sums:?}") };
        let parts = sum.parts.iter().map(|part| part.octets).sum::<u32>();
        assert_eq!((sum.inner, sum.outer, sum.path.in_force), (mtu, parts, 1500));
        assert!(sum.outer <= 1500 && sum.floor > 1280, "{sum:?}");
        assert_eq!((sum.mss_v4, sum.mss_v6), (Some(mtu - 40), Some(mtu - 60)));
    }
    let nobody = call::Mtu { peer: "c.example".into() };
    says(&world.state.mtu(&nobody).unwrap_err(), "NotFound", "c.example");

    let inbound = call::Explain { direction: DirectionSpec::Inbound, ..question("10.2.0.1", None) };
    assert_eq!(world.state.explain(&inbound).unwrap().sa.unwrap().spi, 0x1000);
    let nobodys = world.state.explain(&question("192.0.2.77", None)).unwrap();
    assert_eq!((nobodys.verdict, nobodys.drop.as_deref()), (Verdict::Drop, Some("no_policy")));
    let mixed = call::Explain { local: "fd00::1".parse().unwrap(), ..question("10.2.0.1", None) };
    says(&world.state.explain(&mixed).unwrap_err(), "BadCall", "two families");
}

/// L-12, L-60: a flow is shown with its latch, its peer and the SA that it leaves by; once it is latched, explanations go
/// by the latch, and its SA's end is told with the pair's name.
#[test]
fn l_12_l_60_a_flow_is_listed_with_its_latch_and_the_sa_in_use() {
    let world = World::new();
    let pair = world.provide("b.example", "10.2.0.0/24", 0x1000);
    let flow = send_datagram(&world);
    let [row]: [FlowRow; 1] = all(|rows| world.state.flows(rows)).try_into().unwrap();
    assert_eq!((row.flow, row.protocol, row.local), (flow.to_string(), protocol::UDP, flow.local()));
    assert_eq!((row.latch, row.peer.as_deref()), (Some(LatchState::Established), Some("fqdn:b.example")));
    assert_eq!(
        (row.progress.as_str(), row.sa.map(|sa| (sa.pair, sa.spi))),
        ("local-only", Some((Some(pair), 0x1001)))
    );
    let latches = all(|rows| world.state.latches(rows));
    assert_eq!(
        (latches[0].peer.as_str(), latches[0].protection.as_str()),
        ("fqdn:b.example", "esp tunnel aes-128-gcm")
    );
    let explained = world.state.explain(&question("10.2.0.1", None)).unwrap();
    assert_eq!((explained.latch, explained.verdict), (Some(LatchState::Established), Verdict::Protect));
    assert!(explained.why[0].contains("the policy is not asked"), "{:?}", explained.why);

    let sa = world.manager.client().pairs().unwrap()[0].outbound.sa;
    assert!(world.events.send(Event::SoftExpired { sa, direction: Direction::Outbound }));
    let soft = world.hear(EventKind::SoftExpired);
    assert_eq!((soft.pair, soft.direction), (Some(pair), Some(DirectionSpec::Outbound)));
    assert!(world.events.send(Event::HardExpired { sa, direction: Direction::Outbound }));
    assert_eq!(world.hear(EventKind::HardExpired).peer.as_deref(), Some("fqdn:b.example"));
    assert!(world.events.send(Event::Acquire { flow, required: None }));
    let wanted = world.hear(EventKind::Acquire);
    assert_eq!(
        (wanted.flow.clone(), wanted.policy),
        (Some(flow.to_string()), Some(world.policies()[0].number))
    );

    world.state.delete_pair(pair).unwrap();
    let [row]: [FlowRow; 1] = all(|rows| world.state.flows(rows)).try_into().unwrap();
    assert_eq!((row.sa, row.latch), (None, Some(LatchState::Established)), "the latch outlives its SA (R-2)");
    assert_eq!(row.peer.as_deref(), Some("fqdn:b.example"));
}

/// a connection that began without a latch is not taken up in the middle by a policy that wants one, and whoever
/// asks is told so: it is not protected.
#[test]
fn r_12_a_connection_that_began_before_its_rule_latched_is_told_to_be_dropped() {
    let world = World::new();
    world.provide("b.example", "10.2.0.0/24", 0x1000);
    let rule = RuleSpec { latch: false, ..rule("10.2.0.0/24", "protect") };
    let added = world.state.add_rule(&call::AddRule { rule, before: None }).unwrap();
    world.hear(EventKind::PolicyChanged);
    world.hear(EventKind::PolicyChanged);
    let flow = send_syn(&world);
    let asked = Whois { endpoint: flow.local(), other: Some(flow.remote()), protocol: Some(protocol::TCP) };
    let bond = |world: &World| {
        let row = world.state.whois(&asked).unwrap().connections.remove(0);
        (row.bond, row.text)
    };
    let (before, text) = bond(&world);
    assert_eq!(before, Bond::Protected, "{text}");
    world.state.delete_rule(added.number).unwrap();
    world.hear(EventKind::PolicyChanged);
    let (after, text) = bond(&world);
    assert_eq!(after, Bond::Dropped, "{text}");
    assert!(text.contains("mid_stream"), "{text}");
}

/// A SYN to the peer leaves, as a worker would let it.
fn send_syn(world: &World) -> FlowKey {
    let mut octets = [0; 40];
    octets[..4].copy_from_slice(&[0x45, 0, 0, 40]);
    (octets[8], octets[9]) = (64, protocol::TCP);
    octets[12..20].copy_from_slice(&[10, 1, 0, 1, 10, 2, 0, 1]);
    octets[20..24].copy_from_slice(&[0x13, 0x88, 0, 53]);
    (octets[32], octets[33]) = (0x50, 2);
    send(world, &octets)
}

/// A datagram to the peer leaves, as a worker would let it.
fn send_datagram(world: &World) -> FlowKey {
    let mut octets = [0; 28];
    octets[..4].copy_from_slice(&[0x45, 0, 0, 28]);
    (octets[8], octets[9]) = (64, protocol::UDP);
    octets[12..20].copy_from_slice(&[10, 1, 0, 1, 10, 2, 0, 1]);
    octets[20..26].copy_from_slice(&[0x13, 0x88, 0, 53, 0, 8]);
    send(world, &octets)
}

fn send(world: &World, octets: &[u8]) -> FlowKey {
    let mut reader = world.publisher.reader();
    let snapshot = reader.adopt().0.clone();
    let version = world.clock.now();
    let context = Context { snapshot: &snapshot, version, now: since(world.state.started) };
    let packet = IpPacket::parse(octets, Direction::Outbound).unwrap();
    let mut shim = Shim::new(world.database.clone(), WorkerId(0), world.events.clone());
    assert!(shim.outbound(&packet, &context).unwrap().feedback);
    let pair = world.manager.client().pairs().unwrap().remove(0);
    let feedback = Feedback::Protected { class: pair.class, sa: pair.outbound.sa, version };
    shim.feedback(packet.flow(), feedback, &context).unwrap();
    *packet.flow()
}

/// A caller is told that the key manager is gone, and what that means.
#[test]
fn without_a_key_manager_the_caller_is_told_so() {
    let World { state, manager, .. } = World::new();
    drop(manager);
    let failure = state.propose(&proposal("b.example", "10.2.0.0/24")).unwrap_err();
    says(&failure, "Failed", "the key manager has stopped");
    says(&state.status().unwrap_err(), "Failed", "the key manager has stopped");
    assert!(state.drops().is_ok(), "what the datapath dropped is known all the same");
}
