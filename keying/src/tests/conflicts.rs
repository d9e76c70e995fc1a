//! Conflicts of latches with SAs, policies and peers: found, broken, told in order, and gone again (latching-04 2.1).

use std::net::IpAddr;
use std::sync::Arc;

use latchway_datapath::drop::Direction;
use latchway_datapath::event::{Event, event_queue};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{
    BreakReason, LatchId, LatchState, LatchTerms, Model, Offender, OnConflict, OnPolicyChange,
};
use latchway_datapath::packet::IpPacket;
use latchway_datapath::sad::{Sad, Usage};
use latchway_datapath::selector::{AddressRange, PortRange, Selector};
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::spd::{Action, Latching, Protection, Reqid, Rule, Spd};
use latchway_datapath::traffic::Traffic;
use latchway_datapath::ulp::{Context, Ulp};
use latchway_esp::Suite;
use latchway_tagging::{AuthMethod, ClassId, Feedback, SaIndex, SaRef, StateVersion, WorkerId};
use latchway_ulp_shim::Shim;

use crate::testing::{at, entry, fqdn, keying, keys, proposal, range};
use crate::{
    Change, Commitment, Gone, InstallError, Keying, Keys, Narrowing, NewPair, Op, Pad, PairId, PeerGone,
    Problem, Proposal, Refusal, Start, Suites, Transaction,
};

const STRICT: LatchTerms = LatchTerms {
    model: Model::Strict,
    on_conflict: OnConflict::Terminate,
    on_policy_change: OnPolicyChange::Break,
    unlatchable: latchway_datapath::latching::Unlatchable::Refuse,
    sticky: false,
};

fn flow(port: u16) -> FlowKey {
    FlowKey::new(protocol::TCP, ([10, 0, 0, 1], port).into(), ([10, 1, 0, 1], 80).into())
}

/// A pair in force.
fn joined(keying: &mut Keying, peer: &str, spi: u32) -> (PairId, ClassId) {
    let offer = keying.propose(proposal(peer), at(0)).unwrap();
    let class = offer.class;
    let id = keying.install(offer.ticket, keys(spi, Suite::AES_128_GCM), at(0)).unwrap();
    settle(keying);
    (id, class)
}

/// As a worker makes it, of the first packet.
fn latch(keying: &Keying, port: u16, class: ClassId, terms: LatchTerms) -> LatchId {
    let sad = keying.snapshot().sad.clone();
    assert!(!keying.snapshot().bars(&flow(port), class, terms.model));
    born(keying, sad, &flow(port), (class, terms))
}

/// As a worker made it before the SAs that bar it now.
fn latch_of(keying: &Keying, port: u16, class: ClassId) -> LatchId {
    born(keying, Sad::default(), &flow(port), (class, STRICT))
}

fn born(keying: &Keying, sad: Sad, flow: &FlowKey, (class, terms): (ClassId, LatchTerms)) -> LatchId {
    let protection = Protection { reqid: None, template: None, latching: Latching::On(terms) };
    let spd = Spd::new(vec![rule(Action::Protect(protection))]);
    let snapshot = Snapshot { id: keying.snapshot().id, sad, spd, pending: None };
    let version = StateVersion::default();
    let context = Context { snapshot: &snapshot, version, now: at(0) };
    let mut shim = Shim::new(Arc::clone(keying.database()), WorkerId(0), event_queue().0);
    let octets = syn(flow);
    shim.outbound(&IpPacket::parse(&octets, Direction::Outbound).unwrap(), &context).unwrap();
    let sa = SaRef { index: SaIndex::new(0), generation: 1 };
    shim.feedback(flow, Feedback::Protected { class, sa, version }, &context).unwrap();
    keying.database().find(flow).unwrap()
}

fn syn(flow: &FlowKey) -> Vec<u8> {
    let (IpAddr::V4(local), IpAddr::V4(remote)) = (flow.local().ip(), flow.remote().ip()) else { panic!() };
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol::TCP, 0, 0];
    packet.extend(local.octets());
    packet.extend(remote.octets());
    packet.extend(flow.local_port().to_be_bytes());
    packet.extend(flow.remote_port().to_be_bytes());
    packet.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    packet
}

fn state(keying: &Keying, id: LatchId) -> (LatchState, Option<BreakReason>) {
    let view = keying.database().inquire(id).unwrap();
    (view.state, view.reason)
}

const IN_FORCE: (LatchState, Option<BreakReason>) = (LatchState::Established, None);

/// Lets everything come into force. Returns the breaks that were told.
fn settle(keying: &mut Keying) -> Vec<Event> {
    assert!((0..100).any(|_| !keying.poll(at(0)).settling), "a worker is in the middle of a batch");
    told(keying)
}

fn told(keying: &mut Keying) -> Vec<Event> {
    let mut told = Vec::new();
    while let Some(event) = keying.next_broken() {
        told.push(event);
        keying.broken_told();
    }
    told
}

fn broken(id: LatchId, port: u16, class: ClassId, reason: BreakReason, offender: Option<ClassId>) -> Event {
    let offender = offender.map(|class| Offender { class, sa: None });
    Event::LatchBroken { latch: id, flow: flow(port), latched: Some(class), reason, offender }
}

fn rule(action: Action) -> Rule {
    Rule::new(Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4), None, action)
}

const PROTECT: Action = Action::Protect(Protection { reqid: None, template: None, latching: Latching::Off });

fn configure(keying: &mut Keying, rules: Vec<Rule>) -> Vec<Event> {
    let committed = keying.commit(Transaction::new(vec![Op::SetSpd(Spd::new(rules))]), at(0)).unwrap();
    assert_eq!(committed, Commitment::Staged);
    settle(keying)
}

/// L-45, L-74, T37 d: pending; grace; broken; grace; told; in force. Each only after the one before.
#[test]
fn l_74_a_latch_is_broken_and_told_of_before_the_sa_that_it_conflicts_with_is_in_force() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let id = latch(&keying, 5, bob, STRICT);
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let offer = keying.propose(proposal("mallory"), at(0)).unwrap();
    let mallory = offer.class;
    let flows: Vec<_> = offer.latches_that_would_break.iter().map(|conflict| conflict.flow).collect();
    assert_eq!(flows, [flow(5)]);
    let pair = keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
    let usage = |keying: &Keying| keying.pairs().iter().find(|view| view.id == pair).unwrap().usage;
    for _ in 0..3 {
        assert!(keying.poll(at(0)).settling);
        assert_eq!((state(&keying, id), usage(&keying)), (IN_FORCE, Usage::Pending));
    }
    // No other such latch is born from now on.
    assert!(worker.adopt().0.bars(&flow(6), bob, Model::Strict));
    assert!(!worker.adopt().0.bars(&flow(6), bob, Model::Tag));
    for _ in 0..3 {
        assert!(keying.poll(at(0)).settling);
        let broken = (LatchState::Broken, Some(BreakReason::Conflict));
        assert_eq!(
            (state(&keying, id), usage(&keying), keying.next_broken()),
            (broken, Usage::Pending, None)
        );
    }
    let id_of_cache = keying.snapshot().id;
    assert_eq!(worker.adopt().0.id, id_of_cache, "what was looked up stays good");
    let progress = keying.poll(at(0));
    assert_eq!((progress.settled, usage(&keying)), (vec![pair], Usage::Active));
    assert_eq!(told(&mut keying), [broken(id, 5, bob, BreakReason::Conflict, Some(mallory))]);
    worker.adopt();
    assert_eq!(settle(&mut keying), [], "once");
}

/// The alert is queued before the SA is in force, whoever reads it when.
#[test]
fn l_74_nobody_is_waited_for_who_reads_of_breaks() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let ids: Vec<_> = (1..=600).map(|port| latch(&keying, port, bob, STRICT)).collect();
    let offer = keying.propose(proposal("mallory"), at(0)).unwrap();
    assert_eq!(offer.latches_that_would_break.len(), 600);
    keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
    assert!((0..100).any(|_| !keying.poll(at(0)).settling));
    assert!(keying.pairs().iter().all(|pair| pair.usage == Usage::Active));
    let mut told: Vec<_> = told(&mut keying)
        .into_iter()
        .map(|event| if let Event::LatchBroken { latch, .. } = event { latch } else { panic!() })
        .collect();
    told.sort_unstable();
    let mut expected = ids;
    expected.sort_unstable();
    assert_eq!(told, expected);
}

/// T37 e: the same peer with the same parameters is no conflict, and neither is the end of an SA.
#[test]
fn r_2_r_3_t37_e_a_rekey_breaks_nothing_and_an_end_without_successor_neither() {
    let mut keying = keying();
    let (old, bob) = joined(&mut keying, "bob", 0x1000);
    let id = latch(&keying, 5, bob, STRICT);
    let before = keying.database().inquire(id);
    let new = keying.rekey(old, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
    assert_eq!(settle(&mut keying), []);
    keying.commit(Transaction::replace(old, new), at(0)).unwrap();
    keying.commit(Transaction::new(vec![Op::Remove(old), Op::Remove(new)]), at(0)).unwrap();
    assert_eq!(settle(&mut keying), []);
    assert_eq!(keying.database().inquire(id), before);
    // L-57, R-3: the latch waits for its class, and another's SA is still a conflict.
    joined(&mut keying, "bob", 0x1002);
    assert_eq!(keying.database().inquire(id), before);
}

/// T37 d: weaker protection by the same peer breaks, too; nothing migrates (L-37).
#[test]
fn t37_d_other_protection_of_the_same_peer_breaks_a_strict_latch_and_changes_it_in_nothing() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let (strict, tagged) =
        (latch(&keying, 5, bob, STRICT), latch(&keying, 6, bob, LatchTerms { model: Model::Tag, ..STRICT }));
    let weaker = Proposal { suites: Suites::both(Suite::AES_128_CBC_HMAC_SHA_256), ..proposal("bob") };
    let offer = keying.propose(weaker, at(0)).unwrap();
    let other = offer.class;
    keying.install(offer.ticket, keys(0x1001, Suite::AES_128_CBC_HMAC_SHA_256), at(0)).unwrap();
    assert_eq!(settle(&mut keying), [broken(strict, 5, bob, BreakReason::Conflict, Some(other))]);
    assert_eq!(state(&keying, tagged), IN_FORCE, "the tag tells their packets apart");
    assert_eq!(keying.database().inquire(strict).unwrap().class, Some(bob));
    // L-71: under both, no strict latch is born any more.
    assert!(
        keying.snapshot().bars(&flow(7), bob, Model::Strict)
            && keying.snapshot().bars(&flow(7), other, Model::Strict)
    );
    assert!(!keying.snapshot().bars(&flow(7), bob, Model::Tag));
}

/// L-110: by the terms of the latch.
#[test]
fn l_110_a_latch_may_stand_or_have_the_newcomer_refused() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let terms = |on_conflict| LatchTerms { on_conflict, ..STRICT };
    let stands = latch(&keying, 5, bob, terms(OnConflict::DropNewcomer));
    let offer = keying.propose(proposal("mallory"), at(0)).unwrap();
    assert_eq!(offer.latches_that_would_break, []);
    let keeps = latch(&keying, 6, bob, terms(OnConflict::RejectNewcomer));
    let refusal = keying.propose(proposal("mallory"), at(0)).unwrap_err();
    assert_eq!(refusal, Refusal::HolderKeeps { flow: flow(6), holder: "fqdn:bob".to_owned() });
    assert!(refusal.to_string().contains("10.0.0.1:6 with 10.1.0.1:80 is latched to fqdn:bob"), "{refusal}");
    // The offer stands, and is looked at again when it is made real.
    let pair = keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
    let progress = keying.poll(at(0));
    assert_eq!(progress.refused, [(pair, InstallError::LatchStands(flow(6)))]);
    assert_eq!((keying.pairs().len(), keying.snapshot().sad.iter().count()), (1, 2));
    keying.database().close(keeps, BreakReason::Administrative, at(0));
    let (pair, _) = joined(&mut keying, "mallory", 0x1002);
    assert_eq!(keying.pairs().last().map(|view| (view.id, view.usage)), Some((pair, Usage::Active)));
    assert_eq!((state(&keying, stands), told(&mut keying)), (IN_FORCE, vec![]));
}

/// L-70: BTNS and leap of faith break nobody's latch who proved more.
#[test]
fn l_70_a_peer_of_lesser_standing_is_refused_and_one_of_greater_is_not() {
    let with = |methods: [AuthMethod; 2]| {
        let mut entries = vec![
            entry(1, "bob", "10.1.0.0", "10.1.0.255"),
            entry(2, "mallory", "10.1.0.0", "10.1.0.255"),
            entry(3, "carol", "10.3.0.0", "10.3.0.255"),
        ];
        for (entry, method) in entries.iter_mut().zip(methods) {
            entry.methods = vec![method];
        }
        let mut keying = keying();
        let change = Change { pad: Some(Pad::new(entries).unwrap()), ..Change::default() };
        keying.begin_change(change, at(0)).unwrap();
        settle(&mut keying);
        let of = |peer, method| Proposal { method, ..proposal(peer) };
        let offer = keying.propose(of("bob", methods[0]), at(0)).unwrap();
        let bob = offer.class;
        keying.install(offer.ticket, keys(0x1000, Suite::AES_128_GCM), at(0)).unwrap();
        settle(&mut keying);
        latch(&keying, 5, bob, STRICT);
        let newcomer = of("mallory", methods[1]);
        let narrowed = Proposal { narrowing: Narrowing::Allowed, ..newcomer.clone() };
        assert_eq!(
            keying.propose(newcomer.clone(), at(0)).is_ok(),
            keying.propose(narrowed, at(0)).is_ok(),
            "nothing is narrowed for whom everything is refused"
        );
        let add = vec![NewPair { proposal: newcomer.clone(), keys: keys(0x1001, Suite::AES_128_GCM) }];
        let checked = keying.check_change(&Change { add, ..Change::default() });
        let proposed = keying.propose(newcomer, at(0)).map(|offer| offer.latches_that_would_break.len());
        match (&checked, &proposed) {
            (Ok(outline), Ok(breaks)) => assert_eq!((outline.breaks, *breaks), (1, 1)),
            (Err(error), Err(refusal)) => {
                assert_eq!(error.faults[0].problem, Problem::Refused(refusal.clone()));
            }
            other => panic!("{other:?}"),
        }
        proposed
    };
    use AuthMethod::{LeapOfFaith, Manual, PreSharedKey};
    let refusal = with([PreSharedKey, Manual]).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::LesserStanding {
            flow: flow(5),
            holder: "fqdn:bob".into(),
            needed: PreSharedKey,
            offered: Manual
        }
    );
    assert!(refusal.to_string().contains("proven by pre-shared-key"), "{refusal}");
    assert_eq!(with([Manual, PreSharedKey]), Ok(1));
    assert_eq!(with([Manual, Manual]), Ok(1), "L-109");
    assert!(matches!(
        with([Manual, LeapOfFaith]),
        Err(Refusal::LesserStanding { .. } | Refusal::Evidence(_))
    ));
}

/// L-73, C-25: narrowed where that is allowed and possible, and never on a rekey.
#[test]
fn l_62_l_73_c_25_a_proposal_is_narrowed_around_latches() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let id = latch(&keying, 5, bob, STRICT);
    let narrowed = |peer: &str| Proposal { narrowing: Narrowing::Allowed, ..proposal(peer) };
    let offer = keying.propose(narrowed("mallory"), at(0)).unwrap();
    assert_eq!(offer.latches_that_would_break, []);
    let admits = |flow: &FlowKey| offer.selectors.iter().any(|selector| selector.admits(&Traffic::of(flow)));
    assert!(!admits(&flow(5)) && admits(&flow(6)));
    let pair = keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
    assert_eq!((settle(&mut keying), state(&keying, id)), (vec![], IN_FORCE));
    assert!(!keying.snapshot().bars(&flow(5), bob, Model::Strict));
    // A rekey has the selectors that there were, whatever is latched by then.
    let before = keying.pairs().last().unwrap().selectors.clone();
    let next = keying.rekey(pair, keys(0x1002, Suite::AES_128_GCM), at(0)).unwrap();
    settle(&mut keying);
    assert_eq!(keying.pairs().iter().find(|view| view.id == next).unwrap().selectors, before);
    // More connections than selectors can leave out: they break.
    let ids: Vec<_> = (1000..1800).step_by(2).map(|port| latch_of(&keying, port, bob)).collect();
    let offer = keying.propose(narrowed("mallory"), at(0)).unwrap();
    assert_eq!(offer.latches_that_would_break.len(), ids.len() + 1);
}

/// R-9, C-26: what waits comes back when the conflict is gone, under its own class and with a newer version.
#[test]
fn r_9_a_latch_that_waits_is_in_force_again_when_all_conflicts_are_gone() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let waits = LatchTerms { on_conflict: OnConflict::Wait, ..STRICT };
    let (id, ends) = (latch(&keying, 5, bob, waits), latch(&keying, 6, bob, STRICT));
    let (mallory, other) = joined(&mut keying, "mallory", 0x1001);
    assert_eq!(state(&keying, id), (LatchState::Broken, Some(BreakReason::Conflict)));
    let (second, _) = joined(&mut keying, "mallory", 0x1002);
    keying.commit(Transaction::new(vec![Op::Remove(mallory)]), at(0)).unwrap();
    settle(&mut keying);
    assert_eq!(state(&keying, id).0, LatchState::Broken, "the other conflict is still there");
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let before = keying.database().inquire(id).unwrap();
    keying.commit(Transaction::new(vec![Op::Remove(second)]), at(0)).unwrap();
    assert!(keying.poll(at(0)).settling);
    assert_eq!(state(&keying, id).0, LatchState::Broken, "a worker may still use it");
    worker.adopt();
    settle(&mut keying);
    let after = keying.database().inquire(id).unwrap();
    assert_eq!((after.state, after.reason, after.class), (LatchState::Established, None, Some(bob)));
    assert!(after.changed_at > before.changed_at, "L-89");
    assert_eq!(state(&keying, ends).0, LatchState::Broken, "whose terms are to end");
    // A packet of another peer broke it: the same.
    keying.database().suspend(id, BreakReason::OtherPeer, Some(other), at(0));
    keying.note(&broken(id, 5, bob, BreakReason::OtherPeer, Some(other)));
    worker.adopt();
    settle(&mut keying);
    assert_eq!(state(&keying, id), IN_FORCE);
}

/// R-9, L-76, R-6: a worker may break a latch for another peer's packet after it was looked at and before it is broken
/// for what does not pass with that peer. It does not come back with the peer gone.
#[test]
fn r_9_l_76_r_6_a_latch_that_a_packet_broke_just_before_does_not_come_back_without_its_policy_or_peer() {
    for (reason, comes_back) in [
        (BreakReason::Policy, false),
        (BreakReason::Withdrawn, false),
        (BreakReason::PeerGone, false),
        (BreakReason::Conflict, true),
    ] {
        let mut keying = keying();
        let (_, bob) = joined(&mut keying, "bob", 0x1000);
        let waits = LatchTerms { on_conflict: OnConflict::Wait, ..STRICT };
        let id = latch(&keying, 5, bob, waits);
        let looked_at = keying.database().inquire(id).unwrap();
        assert!(keying.database().suspend(id, BreakReason::OtherPeer, None, at(0)));
        keying.break_latch(&looked_at, reason, None, at(0));
        keying.fence();
        keying.note(&broken(id, 5, bob, BreakReason::OtherPeer, None));
        let told = settle(&mut keying);
        let expected = if comes_back { IN_FORCE } else { (LatchState::Closed, Some(reason)) };
        assert_eq!(state(&keying, id), expected);
        let closed = (!comes_back).then_some(broken(id, 5, bob, reason, None));
        assert_eq!(told, Vec::from_iter(closed), "whoever holds it is told");
    }
}

/// L-75, L-76, L-77, C-24, T37 j: a change of policy breaks what it would change, by whatever call it comes, unless the
/// latch is to be preserved; and touches nothing else.
#[test]
fn l_76_l_77_c_24_t37_j_a_latch_that_policy_would_change_is_broken_before_or_preserved() {
    let by_calls: [fn(&mut Keying, Action); 4] = [
        |keying, action| {
            keying.add_rule(vec![rule(action)], None).unwrap();
        },
        |keying, action| {
            let spd = Spd::new(vec![rule(action)]);
            keying.commit(Transaction::new(vec![Op::SetSpd(spd)]), at(0)).unwrap();
        },
        |keying, action| {
            let rules = Some(vec![rule(action), rule(Action::Discard)]);
            keying.begin_change(Change { rules, ..Change::default() }, at(0)).unwrap();
        },
        |keying, action| {
            let number = keying.add_rule(vec![rule(PROTECT)], None).unwrap();
            settle(keying);
            keying.commit(Transaction::new(vec![Op::SetSpd(Spd::new(vec![rule(action)]))]), at(0)).unwrap();
            settle(keying);
            keying.delete_rule(number).unwrap();
        },
    ];
    let serves = |reqid| Action::Protect(Protection { reqid: Some(Reqid(reqid)), ..Protection::UNLATCHED });
    for (place, call) in by_calls.iter().enumerate() {
        for (action, breaks) in [
            (Action::Bypass, true),
            (Action::Discard, true),
            (serves(9), true),
            (serves(1), false),
            (Action::Protect(Protection::LATCHED), false),
        ] {
            let mut keying = keying();
            let (_, bob) = joined(&mut keying, "bob", 0x1000);
            assert_eq!(configure(&mut keying, vec![rule(PROTECT)]), []);
            let preserved = LatchTerms { on_policy_change: OnPolicyChange::Preserve, ..STRICT };
            let (id, kept) = (latch(&keying, 5, bob, STRICT), latch(&keying, 6, bob, preserved));
            let mut worker = keying.publisher().reader();
            worker.adopt();
            if place < 3 {
                call(&mut keying, action);
                assert!(keying.is_changing());
                let in_force = keying.snapshot().spd.clone();
                keying.poll(at(0));
                assert_eq!((state(&keying, id), keying.snapshot().spd == in_force), (IN_FORCE, true));
                // L-71 for policy: what is about to be keeps latches from being born that it would break.
                assert_eq!(worker.adopt().0.bars(&flow(7), bob, Model::Tag), breaks, "{place} {action:?}");
                keying.poll(at(0));
                assert_eq!(state(&keying, id).0 == LatchState::Broken, breaks, "{place} {action:?}");
                assert_eq!((keying.snapshot().spd == in_force, keying.next_broken()), (breaks, None));
            }
            drop(worker);
            if place == 3 {
                call(&mut keying, action);
            }
            let expected = [broken(id, 5, bob, BreakReason::Policy, None)];
            assert_eq!(settle(&mut keying), expected[..usize::from(breaks)], "{place} {action:?}");
            assert_eq!((state(&keying, kept), keying.is_changing()), (IN_FORCE, false));
            assert_eq!(keying.snapshot().pending, None);
            let view = keying.database().inquire(id).unwrap();
            assert_eq!((view.class, view.terms), (Some(bob), STRICT), "L-37, L-77");
        }
    }
}

/// L-76: only what is about flows of the latch, and one change of policy at a time.
#[test]
fn l_76_policy_for_other_flows_breaks_nothing_and_one_change_waits_for_another() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    configure(&mut keying, vec![rule(PROTECT)]);
    let id = latch(&keying, 5, bob, STRICT);
    let ssh = Selector {
        remote_ports: PortRange::new(&(22..=22)),
        ..Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4)
    };
    let number = keying.add_rule(vec![Rule::new(ssh, None, Action::Discard)], None).unwrap();
    assert_eq!(keying.add_rule(vec![rule(Action::Discard)], None), Err(crate::RuleError::Busy));
    assert_eq!(keying.delete_rule(number), Err(crate::RuleError::Busy));
    let spd = Transaction::new(vec![Op::SetSpd(Spd::default())]);
    assert_eq!(keying.commit(spd, at(0)), Err(crate::CommitError::Busy));
    assert_eq!((settle(&mut keying), state(&keying, id)), (vec![], IN_FORCE));
    keying.delete_rule(number).unwrap();
    assert_eq!((settle(&mut keying), state(&keying, id)), (vec![], IN_FORCE));
}

/// L-74: whatever happens between the steps, nothing is told twice or never, and nothing comes into force early.
#[test]
fn l_74_a_pair_that_is_removed_between_the_steps_and_a_restart_at_any_of_them() {
    for (step, removed, restarts) in
        (0..4).flat_map(|step| [(step, false, true), (step, true, false), (step, true, true)])
    {
        let mut keying = keying();
        let (_, bob) = joined(&mut keying, "bob", 0x1000);
        let waits = LatchTerms { on_conflict: OnConflict::Wait, ..STRICT };
        let (id, waiting) = (latch(&keying, 5, bob, STRICT), latch(&keying, 6, bob, waits));
        let mut worker = keying.publisher().reader();
        worker.adopt();
        let offer = keying.propose(proposal("mallory"), at(0)).unwrap();
        let other = offer.class;
        let pair = keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
        for _ in 0..step {
            keying.poll(at(0));
            worker.adopt();
        }
        if restarts {
            keying.recover(at(0));
        }
        let was_broken = state(&keying, id).0 == LatchState::Broken;
        assert_eq!(was_broken, step >= 2, "{step}");
        if removed {
            keying.commit(Transaction::new(vec![Op::Remove(pair)]), at(0)).unwrap();
        }
        drop(worker);
        let mut breaks = settle(&mut keying);
        breaks
            .sort_by_key(|event| if let Event::LatchBroken { latch, .. } = event { latch.raw() } else { 0 });
        let breaks: Vec<_> = breaks.into_iter().collect();
        let mut expected = vec![
            broken(id, 5, bob, BreakReason::Conflict, Some(other)),
            broken(waiting, 6, bob, BreakReason::Conflict, Some(other)),
        ];
        expected
            .sort_by_key(|event| if let Event::LatchBroken { latch, .. } = event { latch.raw() } else { 0 });
        if removed && !was_broken {
            expected.clear();
        }
        assert_eq!(breaks, expected, "{step} {removed} {restarts}");
        let back = removed;
        assert_eq!(state(&keying, waiting).0 == LatchState::Established, back, "{step} {removed} {restarts}");
    }
}

/// Two pairs of which each conflicts with the other: there is no latch in view of which they do, and none is born.
#[test]
fn l_71_two_pairs_that_are_pending_at_once_conflict_only_in_view_of_a_latch() {
    let mut keying = keying();
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let offers = ["bob", "mallory"].map(|peer| keying.propose(proposal(peer), at(0)).unwrap());
    let classes = offers.each_ref().map(|offer| offer.class);
    for (spi, offer) in (0x1000..).zip(offers) {
        keying.install(offer.ticket, keys(spi, Suite::AES_128_GCM), at(0)).unwrap();
    }
    worker.adopt();
    assert_eq!(settle_with(&mut keying, &mut worker), []);
    assert!(keying.pairs().iter().all(|pair| pair.usage == Usage::Active));
    assert!(classes.iter().all(|class| keying.snapshot().bars(&flow(5), *class, Model::Strict)));
    // Both conflict with a third one's latch: it is told of before either is in force.
    let mut keying = crate::testing::keying();
    let (_, bob) = joined(&mut keying, "bob", 0x2000);
    let id = latch(&keying, 5, bob, STRICT);
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let weaker = Proposal { suites: Suites::both(Suite::AES_256_GCM), ..proposal("bob") };
    for (proposal, suite, spi) in
        [(proposal("mallory"), Suite::AES_128_GCM, 0x2001), (weaker, Suite::AES_256_GCM, 0x2002)]
    {
        let offer = keying.propose(proposal, at(0)).unwrap();
        keying.install(offer.ticket, keys(spi, suite), at(0)).unwrap();
        worker.adopt();
        keying.poll(at(0));
    }
    assert_eq!((state(&keying, id).0, told(&mut keying).len()), (LatchState::Broken, 1));
    assert!(keying.pairs().iter().all(|pair| pair.usage == Usage::Active));
    assert_eq!(settle_with(&mut keying, &mut worker), [], "once");
}

fn settle_with(
    keying: &mut Keying,
    worker: &mut latchway_datapath::low::publish::Reader<latchway_datapath::snapshot::Snapshot>,
) -> Vec<Event> {
    let mut events = Vec::new();
    while keying.poll(at(0)).settling {
        let before = told(keying);
        events.extend(before);
        worker.adopt();
    }
    worker.adopt();
    events.extend(settle(keying));
    events
}

/// a peer that is gone takes its latches and its pairs with it, those of the last batch included.
#[test]
fn r_6_the_latches_of_a_peer_that_is_gone_break_whatever_their_terms() {
    for (why, reason) in [
        (PeerGone::Dead, BreakReason::PeerGone),
        (PeerGone::InitialContact, BreakReason::PeerGone),
        (PeerGone::Withdrawn, BreakReason::Withdrawn),
    ] {
        let mut keying = keying();
        let (pair, bob) = joined(&mut keying, "bob", 0x1000);
        let (_, carol) = joined(&mut keying, "carol", 0x1001);
        let of = |on_conflict, model| LatchTerms { on_conflict, model, ..STRICT };
        let ids = [
            latch(&keying, 5, bob, STRICT),
            latch(&keying, 6, bob, of(OnConflict::RejectNewcomer, Model::Tag)),
            latch(&keying, 7, bob, of(OnConflict::Wait, Model::Strict)),
        ];
        let elsewhere = FlowKey::new(protocol::TCP, ([10, 0, 0, 1], 5).into(), ([10, 3, 0, 1], 80).into());
        let other = born(&keying, keying.snapshot().sad.clone(), &elsewhere, (carol, STRICT));
        let mut worker = keying.publisher().reader();
        worker.adopt();
        assert_eq!(keying.peer_gone(&fqdn("bob"), why, at(0)), Gone { latches: 3, pairs: vec![pair] });
        let states = ids.map(|id| state(&keying, id).0);
        assert_eq!(states, [LatchState::Broken, LatchState::Broken, LatchState::Closed]);
        // The worker is in the middle of a batch, under the SAs of before.
        let late = latch_of(&keying, 8, bob);
        worker.adopt();
        let told = settle_with(&mut keying, &mut worker);
        assert_eq!(told.len(), 4);
        assert!(
            told.iter().all(|event| matches!(event, Event::LatchBroken { reason: of, .. } if *of == reason))
        );
        assert_eq!(state(&keying, late).0, LatchState::Broken);
        assert_eq!((state(&keying, other), keying.pairs().len()), (IN_FORCE, 1));
        assert_eq!(keying.peer_gone(&fqdn("nobody"), why, at(0)), Gone::default());
        drop(worker);
        joined(&mut keying, "bob", 0x1003);
        assert!(
            ids.iter().all(|id| state(&keying, *id).0 != LatchState::Established),
            "it does not come back"
        );
    }
}

/// RFC 4301 4.4.3: whom the PAD does not allow any more, or not there, keeps no latch, though its SAs be gone already.
#[test]
fn latches_that_a_new_pad_does_not_allow_are_withdrawn() {
    type Edit = fn(&mut Vec<crate::PadEntry>);
    let edits: [(Edit, bool); 4] = [
        (|entries| entries.retain(|entry| entry.name != "bob"), true),
        (|entries| entries[0].ranges = vec![range("10.1.0.128", "10.1.0.255")], true),
        (|entries| entries[0].ranges = vec![range("10.1.0.0", "10.1.0.7")], false),
        (|entries| entries.retain(|entry| entry.name != "carol"), false),
    ];
    for (edit, withdrawn) in edits {
        let mut keying = keying();
        let (pair, bob) = joined(&mut keying, "bob", 0x1000);
        let id = latch(&keying, 5, bob, LatchTerms { model: Model::Tag, ..STRICT });
        keying.commit(Transaction::new(vec![Op::Remove(pair)]), at(0)).unwrap();
        let mut entries = vec![
            entry(1, "bob", "10.1.0.0", "10.1.0.255"),
            entry(2, "mallory", "10.1.0.0", "10.1.0.255"),
            entry(3, "carol", "10.3.0.0", "10.3.0.255"),
        ];
        edit(&mut entries);
        let change = || Change { pad: Some(Pad::new(entries.clone()).unwrap()), ..Change::default() };
        let outline = keying.check_change(&change()).unwrap();
        assert_eq!(
            (outline.breaks, outline.breaking.len()),
            (usize::from(withdrawn), usize::from(withdrawn))
        );
        keying.begin_change(change(), at(0)).unwrap();
        let expected = [broken(id, 5, bob, BreakReason::Withdrawn, None)];
        assert_eq!(settle(&mut keying), expected[..usize::from(withdrawn)]);
        assert_eq!(state(&keying, id).0 == LatchState::Broken, withdrawn);
    }
}

/// latches of whom nobody knows any more whose they are.
#[test]
fn r_14_latches_to_lost_identities_are_closed_by_a_recovery() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let id = latch(&keying, 5, bob, STRICT);
    let mut other = crate::Keying::new(
        keying.pad().clone(),
        crate::Settings::default(),
        Arc::new(latchway_tagging::StateClock::new()),
        Arc::clone(keying.database()),
        Arc::new(crate::Unobserved),
    );
    other.recover(at(0));
    assert_eq!(state(&keying, id), (LatchState::Closed, Some(BreakReason::IdentityLost)));
    assert_eq!(settle(&mut other), [broken(id, 5, bob, BreakReason::IdentityLost, None)]);
    keying.recover(at(0));
    assert_eq!(settle(&mut keying), []);
}

/// L-45, L-76: a dry run says what would break, by its pairs and by its policy, each once.
#[test]
fn a_dry_run_says_which_connections_would_break() {
    let mut keying = keying();
    let (pair, bob) = joined(&mut keying, "bob", 0x1000);
    configure(&mut keying, vec![rule(PROTECT)]);
    for port in 1..=150 {
        latch(&keying, port, bob, STRICT);
    }
    let add = || vec![NewPair { proposal: proposal("mallory"), keys: keys(0x1001, Suite::AES_128_GCM) }];
    let rules = || Some(vec![rule(Action::Bypass)]);
    for change in [
        Change { add: add(), ..Change::default() },
        Change { rules: rules(), ..Change::default() },
        Change { add: add(), rules: rules(), remove: vec![pair], ..Change::default() },
    ] {
        let outline = keying.check_change(&change).unwrap();
        assert_eq!((outline.breaks, outline.breaking.len()), (150, 100));
    }
    let same = Proposal { reqid: Reqid(1), ..proposal("bob") };
    let again = Keys { start: Start::Standby, ..keys(0x1002, Suite::AES_128_GCM) };
    let change = Change { add: vec![NewPair { proposal: same, keys: again }], ..Change::default() };
    assert_eq!(keying.check_change(&change).unwrap().breaks, 0);
}
