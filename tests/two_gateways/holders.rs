//! Latches that somebody asked for, as packets meet them (latching-04 sections 2.1 and 3).

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::latching::{BreakReason, LatchId, LatchState};
use latchway_datapath::outbound::Outbound;
use latchway_datapath::send_batch::SendBatch;
use latchway_datapath::spd::{Action, Freedom, Protection, Reqid, Rule, Spd};
use latchway_datapath::time::Time;
use latchway_esp::Suite;
use latchway_keying::{
    AlertKind, Alerts, Asked, ConnectionRequest, Constraints, Created, LatchError, ListenerRequest, Op,
    Parameters, Privilege,
};
use latchway_tagging::Identity;
use latchway_ulp_shim::Listening;

use crate::support::gateway::{Gateway, Terms};
use crate::support::net::{ALICE, BOB, Net, join};
use crate::support::packet::{Flow, with_header};
use crate::{drops, only, open, tcp};

/// Lets applications ask for anything where the policy of a gateway is this.
pub fn free(net: &mut Net, action: Action) {
    let now = net.now;
    for (gateway, peer) in [(&mut net.alice, BOB), (&mut net.bob, ALICE)] {
        let selectors = gateway.host.selectors(peer).into_iter();
        let rule = |selector| Rule { freedom: Freedom::Bypass, ..Rule::new(selector, None, action) };
        gateway.commit(vec![Op::SetSpd(Spd::new(selectors.map(rule).collect()))], now);
        (0..4).for_each(|_| drop(gateway.settle(now)));
    }
}

fn connect(gateway: &mut Gateway, alerts: &Alerts, flow: Flow, constraints: Constraints) -> Created {
    let request = ConnectionRequest { flow: flow.key(), constraints, on_conflict: None, report_after: None };
    let now = Time::default();
    gateway.keying.create_connection_latch(&request, alerts.holder(), Privilege::Operator, now).unwrap()
}

fn asking(protection: Asked) -> Constraints {
    Constraints { protection, ..Constraints::default() }
}

/// What a holder was told.
fn told(alerts: &Alerts) -> Vec<(LatchId, LatchState, Option<LatchId>)> {
    alerts.take().alerts.iter().map(|alert| (alert.latch, alert.state, alert.listener)).collect()
}

/// L-22, L-23, L-38, L-63: nothing leaves and nothing comes in while a latch is LARVAL, and the same packet passes once
/// there is an SA that it waited for.
#[test]
fn l_22_l_23_l_38_l_63_nothing_passes_until_the_latch_that_was_asked_for_is_established() {
    let mut net = Net::new(Protection::LATCHED);
    let alerts = net.alice.keying.open_holder().unwrap();
    let latch = connect(&mut net.alice, &alerts, tcp(), Constraints::default()).latch;
    assert_eq!(net.send(ALICE, &tcp().syn()), vec![]);
    drops(&net.alice, Direction::Outbound, DropReason::LatchLarval, 1);
    assert_eq!(told(&alerts), [], "L-38: loss, and nothing else");
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    assert_eq!(told(&alerts), [(latch, LatchState::Established, None)]);
    assert_eq!(net.send(ALICE, &tcp().syn()), only("bob", tcp().syn()));
    assert_eq!(net.send(BOB, &tcp().reversed().syn_ack()), only("alice", tcp().reversed().syn_ack()));
    // L-64: afterwards nothing of the connection goes on, in the clear or otherwise.
    net.alice.keying.release_latch(latch, alerts.holder(), net.now).unwrap();
    assert_eq!(net.send(ALICE, &tcp().data(1, b"more")), vec![]);
    assert_eq!(net.send(BOB, &tcp().reversed().data(1, b"more")), vec![]);
}

/// L-53, L-54, L-80, L-81: who comes to a listener under SAs that are what it asks for is latched and its holder told
/// before the packet passes; others are refused. L-86: one that the holder turns away has no latch any more.
#[test]
fn l_53_l_54_l_81_a_listener_gets_those_who_are_what_it_asks_for_and_hears_of_each() {
    let mut net = Net::new(Protection::LATCHED);
    free(&mut net, Action::Protect(Protection::LATCHED));
    let alerts = net.bob.keying.open_holder().unwrap();
    let local = tcp().remote;
    let listening = Listening { address: local.ip(), protocol: 6, port: local.port() };
    let constraints = Constraints { suites: vec![Suite::CHACHA20_POLY1305], ..Constraints::default() };
    let request = ListenerRequest { listening, constraints, on_conflict: None };
    let keying = &mut net.bob.keying;
    let made =
        keying.create_listener_latch(&request, alerts.holder(), Privilege::Application, net.now).unwrap();
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    assert_eq!(net.send(ALICE, &tcp().syn()), vec![]);
    drops(&net.bob, Direction::Inbound, DropReason::ListenerRefused, 1);
    assert_eq!((net.bob.latch(tcp().reversed()), told(&alerts)), (None, vec![]));
    let mut net = Net::new(Protection::LATCHED);
    free(&mut net, Action::Protect(Protection::LATCHED));
    let alerts = net.bob.keying.open_holder().unwrap();
    let keying = &mut net.bob.keying;
    let listener = keying
        .create_listener_latch(&request, alerts.holder(), Privilege::Application, net.now)
        .unwrap()
        .latch;
    let terms = Terms { suite: Suite::CHACHA20_POLY1305, ..Terms::default() };
    join(&mut net.alice, &mut net.bob, &terms, net.now);
    assert_eq!(net.send(ALICE, &tcp().syn()), only("bob", tcp().syn()));
    let latch = net.bob.latch(tcp().reversed()).unwrap();
    assert_eq!(latch.state, LatchState::Established);
    net.bob.events();
    assert_eq!(told(&alerts), [(latch.id, LatchState::Established, Some(listener))]);
    assert_ne!(latch.id, made.latch);
    net.bob.keying.release_latch(latch.id, alerts.holder(), net.now).unwrap();
    assert_eq!(net.send(ALICE, &tcp().data(1, b"")), vec![]);
}

/// L-111, L-26: protection where policy says BYPASS, for the connection that asked for it and no other.
#[test]
fn l_111_a_connection_is_protected_against_a_policy_of_bypass_if_its_application_wants_that() {
    let mut net = Net::new(Protection::LATCHED);
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    free(&mut net, Action::Bypass);
    let alerts = net.alice.keying.open_holder().unwrap();
    let flow = tcp();
    let latch = connect(&mut net.alice, &alerts, flow, asking(Asked::Confidential)).latch;
    net.alice.settle(net.now);
    assert_eq!(told(&alerts), [(latch, LatchState::Established, None)]);
    assert_eq!(net.alice.send(&flow.syn(), net.now).len(), 1, "sealed");
    assert!(!net.alice.receive_unprotected(&flow.reversed().syn_ack(), net.now), "L-26");
    let other = Flow::tcp("10.0.1.10:40001", "10.0.2.20:80");
    let mut batch = SendBatch::new();
    let outcome = net.alice.datapath.outbound(&mut with_header(&other.syn()), &mut batch);
    assert_eq!(outcome, Outbound::Bypass);
    assert!(net.alice.receive_unprotected(&other.reversed().syn_ack(), net.now));
}

/// L-112, L-115 to L-118: bypass where policy says PROTECT, for one 5-tuple and as long as the latch lives.
#[test]
fn l_112_l_115_to_l_118_bypass_is_for_exactly_one_connection_and_ends_with_its_latch() {
    let mut net = Net::new(Protection::LATCHED);
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    free(&mut net, Action::Protect(Protection::LATCHED));
    let alerts = net.alice.keying.open_holder().unwrap();
    let flow = tcp();
    let created = connect(&mut net.alice, &alerts, flow, asking(Asked::Bypass));
    assert_eq!(created.state, LatchState::Established);
    let mut batch = SendBatch::new();
    let mut leave = |net: &mut Net, flow: Flow| {
        net.alice.datapath.begin(net.now);
        net.alice.datapath.outbound(&mut with_header(&flow.syn()), &mut batch)
    };
    assert_eq!(leave(&mut net, flow), Outbound::Bypass);
    assert!(net.alice.receive_unprotected(&flow.reversed().syn_ack(), net.now));
    let neighbour = Flow::tcp("10.0.1.10:40001", "10.0.2.20:80");
    assert_eq!(leave(&mut net, neighbour), Outbound::Sealed);
    assert!(!net.alice.receive_unprotected(&neighbour.reversed().syn_ack(), net.now));
    // By the end of the holder, not only by its wish.
    drop(alerts);
    net.alice.settle(net.now);
    assert_ne!(leave(&mut net, flow), Outbound::Bypass);
    assert!(!net.alice.receive_unprotected(&flow.reversed().syn_ack(), net.now));
}

/// L-119, L-120: connections to one address may be latched to different peers, and each tells to whom.
#[test]
fn l_119_l_120_connections_to_one_address_tell_their_peers_apart() {
    let mut net = Net::new(Protection::LATCHED_BY_TAG);
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    join(&mut net.alice, &mut net.mallory, &Terms::default(), net.now);
    let action = Action::Protect(Protection::LATCHED_BY_TAG);
    free(&mut net, action);
    let alerts = net.alice.keying.open_holder().unwrap();
    let peers: Vec<_> = ["bob", "mallory"]
        .into_iter()
        .zip([40_001, 40_002])
        .map(|(name, port)| {
            let flow = Flow::tcp(&format!("10.0.1.10:{port}"), "10.0.2.20:80");
            let peer = Identity::Fqdn(name.to_owned());
            let wanted = Constraints { peer: Some(peer.clone()), ..Constraints::default() };
            let latch = connect(&mut net.alice, &alerts, flow, wanted).latch;
            net.alice.settle(net.now);
            let inquiry = net.alice.keying.inquire_latch(latch).unwrap();
            let Parameters::Latched { peer: party, .. } = inquiry.parameters else { panic!("{inquiry:?}") };
            assert_eq!(party.record.asserted, peer);
            party.id
        })
        .collect();
    assert_ne!(peers[0], peers[1]);
    let kinds = alerts.take().alerts.iter().map(|alert| alert.kind).collect::<Vec<_>>();
    assert_eq!(kinds, [AlertKind::Changed, AlertKind::Changed]);
}

/// L-113: by tags, too, what leaves is at least what policy wants: where that is more than before, nothing does.
#[test]
fn l_113_by_tags_no_packet_leaves_with_less_than_policy_wants() {
    let mut net = Net::new(Protection::LATCHED_BY_TAG);
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    open(&mut net);
    let wants =
        |reqid| Action::Protect(Protection { reqid: Some(Reqid(reqid)), ..Protection::LATCHED_BY_TAG });
    let now = net.now;
    for (reqid, leaves) in [(1, true), (2, false)] {
        net.alice.set_policy(&[(BOB, wants(reqid))], now);
        (0..4).for_each(|_| drop(net.alice.settle(now)));
        let sent = net.alice.send(&tcp().data(1, b"by which SA?"), now);
        assert_eq!(!sent.is_empty(), leaves, "the SA has reqid 1");
    }
    assert_eq!(net.alice.latch(tcp()).unwrap().reason, Some(BreakReason::Policy));
}

/// whether the other end latches changes nothing that can be seen here, neither what is sent nor what is told.
#[test]
fn r_18_nothing_tells_whether_the_other_end_latches() {
    let seen = |of_bob: Protection| {
        let mut net = Net::new(Protection::LATCHED);
        let now = net.now;
        net.bob.set_policy(&[(ALICE, Action::Protect(of_bob))], now);
        join(&mut net.alice, &mut net.bob, &Terms::default(), now);
        open(&mut net);
        assert_eq!(net.bob.latch(tcp().reversed()).is_some(), of_bob == Protection::LATCHED);
        let sent = net.alice.send(&tcp().data(1, b"do you?"), now);
        let latch = net.alice.latch(tcp()).unwrap().id;
        (sent, net.alice.keying.inquire_latch(latch).unwrap())
    };
    assert_eq!(seen(Protection::LATCHED), seen(Protection::UNLATCHED));
}

/// L-64: a handle that was released is void, also where the latch was closed before.
#[test]
fn l_64_a_latch_that_was_closed_is_unknown_once_it_is_released() {
    let mut net = Net::new(Protection::LATCHED);
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    let alerts = net.alice.keying.open_holder().unwrap();
    let latch = connect(&mut net.alice, &alerts, tcp(), Constraints::default()).latch;
    net.alice.settle(net.now);
    let keying = &mut net.alice.keying;
    keying.close_latch(latch, net.now).unwrap();
    assert_eq!(keying.inquire_latch(latch).map(|inquiry| inquiry.latch.state), Ok(LatchState::Closed));
    keying.release_latch(latch, alerts.holder(), net.now).unwrap();
    assert_eq!(keying.inquire_latch(latch), Err(LatchError::UnknownLatch(latch)));
    assert_eq!(keying.find_latch(&tcp().key()), None);
    assert_eq!(
        net.send(ALICE, &tcp().data(1, b"more")),
        vec![],
        "L-22: what is late passes no more than before"
    );
}
