//! One change of everything: every fault told and nothing done, or all of it in one publication (L-74, RFC 4301 4.4.3).

use std::sync::Arc;

use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::sad::Usage;
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::spd::{Action, Protection, Rule};
use latchway_datapath::traffic::Traffic;
use latchway_esp::{Protocol, Spi, Suite};
use latchway_tagging::{AuthMethod, ClassLimit, Mode, StateClock};

use crate::testing::{any_entry, at, entry, fqdn, keying, keys, proposal, range};
use crate::{
    Change, CommitError, Element, InstallError, KeyOrigin, Keying, Keys, NewPair, Notice, Op, Origin,
    Outline, Pad, PadChange, PadEntry, PairId, Problem, Refusal, Settings, SpdChange, Start, Transaction,
    Unobserved,
};

/// What a reload does to the entries of the PAD.
type Edit = fn(&mut Vec<PadEntry>);

fn rule(action: Action) -> Rule {
    let selector = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
    Rule::new(selector, None, action)
}

fn new_pair(peer: &str, spi: u32) -> NewPair {
    NewPair { proposal: proposal(peer), keys: keys(spi, Suite::AES_128_GCM) }
}

fn installed(keying: &mut Keying, peer: &str, spi: u32) -> PairId {
    let offer = keying.propose(proposal(peer), at(0)).unwrap();
    let id = keying.install(offer.ticket, keys(spi, Suite::AES_128_GCM), at(0)).unwrap();
    keying.poll(at(0));
    id
}

/// The world of the tests, with or without some of its peers, and whatever `edit` does to the entries.
fn pad(edit: impl Fn(&mut Vec<PadEntry>)) -> Pad {
    let mut entries = vec![
        entry(1, "bob", "10.1.0.0", "10.1.0.255"),
        entry(2, "mallory", "10.1.0.0", "10.1.0.255"),
        entry(3, "carol", "10.3.0.0", "10.3.0.255"),
    ];
    edit(&mut entries);
    Pad::new(entries).unwrap()
}

/// Everything that a refused change must leave alone.
fn state(keying: &Keying) -> impl PartialEq + std::fmt::Debug + use<> {
    let snapshot = keying.snapshot();
    (
        snapshot.id,
        snapshot.spd.clone(),
        keying.pairs(),
        keying.counts(),
        keying.pad().clone(),
        keying.policy(),
    )
}

fn elements(keying: &Keying, change: &Change) -> Vec<(Element, Problem)> {
    let error = keying.check_change(change).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("nothing was changed\n") && text.lines().count() == 1 + error.faults.len());
    error.faults.into_iter().map(|fault| (fault.element, fault.problem)).collect()
}

/// The SPI by which a packet to 10.1.0.1 would leave.
fn leaves_by(keying: &Keying) -> Option<u32> {
    let flow = FlowKey::new(protocol::TCP, "10.0.0.1:5".parse().unwrap(), "10.1.0.1:80".parse().unwrap());
    keying.snapshot().sad.select(&Traffic::of(&flow), None, None).map(|slot| slot.entry.spi.get() & 0xffff)
}

#[test]
fn l_74_a_change_is_pending_until_every_worker_has_seen_it_and_then_in_force_in_one_snapshot() {
    let mut keying = keying();
    let (old, kept) = (installed(&mut keying, "bob", 0x1000), installed(&mut keying, "carol", 0x1001));
    let before = keying.pairs().into_iter().find(|pair| pair.id == kept).unwrap();
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let change = Change {
        pad: Some(pad(|entries| entries.push(entry(4, "dave", "10.4.0.0", "10.4.0.255")))),
        rules: Some(vec![rule(Action::Protect(Protection::LATCHED))]),
        add: vec![new_pair("bob", 0x1002)],
        remove: vec![old],
        ..Change::default()
    };
    let outline = keying.check_change(&change).unwrap();
    let dave = PadChange { added: vec!["dave".into()], ..PadChange::default() };
    let spd = SpdChange { added: 1, removed: 0 };
    let expected =
        Outline { added: 1, removed: vec![old], spd: Some(spd), pad: Some(dave), ..Outline::default() };
    assert_eq!(outline, expected);
    keying.take_notices().for_each(drop);
    keying.begin_change(change, at(0)).unwrap();
    let pending = keying.snapshot().id;
    for _ in 0..3 {
        let progress = keying.poll(at(0));
        assert!(progress.settling && progress.changed.is_none());
        assert_eq!((keying.snapshot().id, leaves_by(&keying)), (pending, Some(0x1000)));
        assert_eq!(keying.snapshot().spd.rules(), []);
    }
    let seen = Arc::clone(worker.adopt().0);
    assert_eq!(seen.sad.iter().filter(|slot| slot.usage == Usage::Pending).count(), 2);
    let changed = keying.poll(at(0)).changed.unwrap();
    assert_eq!(changed.outline, outline);
    assert_eq!((changed.snapshot.raw(), keying.snapshot().id), (pending.raw() + 1, changed.snapshot));
    assert_eq!(leaves_by(&keying), Some(0x1002));
    assert_eq!(keying.snapshot().spd.rules().len(), 1);
    let usages: Vec<_> = keying.pairs().iter().map(|pair| (pair.id, pair.usage, pair.origin)).collect();
    let [new] = changed.added[..] else { panic!("{changed:?}") };
    assert_eq!(
        usages,
        [
            (old, Usage::Retired, Origin::Hand),
            (kept, Usage::Active, Origin::Hand),
            (new, Usage::Active, Origin::Configuration)
        ]
    );
    assert_eq!(keying.pairs()[1], before, "what is not named is not touched");
    assert!(keying.peers().iter().any(|peer| peer.name == "dave"));
    let notices: Vec<_> = keying.take_notices().collect();
    let class = keying.pairs().iter().find(|pair| pair.id == new).unwrap().class;
    assert!(notices.contains(&Notice::PairAdded { pair: new, peer: fqdn("bob"), class }), "{notices:?}");
    assert!(notices.contains(&Notice::PadChanged) && notices.contains(&Notice::PolicyChanged(spd)));
}

/// what is under way by the old SA arrives.
#[test]
fn a_pair_that_is_replaced_receives_for_its_time_to_drain_and_its_spi_is_not_free_meanwhile() {
    let mut keying = keying();
    let old = installed(&mut keying, "bob", 0x1000);
    let spi = Spi::new(0x1000).unwrap();
    let same_spi = Change { add: vec![new_pair("bob", 0x1000)], remove: vec![old], ..Change::default() };
    let problems: Vec<_> = elements(&keying, &same_spi).into_iter().map(|(_, problem)| problem).collect();
    assert_eq!(problems, [Problem::Install(InstallError::DrainingSpi(spi))]);
    assert!(problems[0].to_string().contains("a new key needs a new SPI"), "{}", problems[0]);

    let change = Change { add: vec![new_pair("bob", 0x1001)], remove: vec![old], ..Change::default() };
    keying.begin_change(change, at(100)).unwrap();
    keying.poll(at(100));
    let receives = |keying: &Keying| {
        let index = keying.snapshot().sad.find(Protocol::Esp, spi)?;
        keying.snapshot().sad.slot(index).map(|slot| slot.usage)
    };
    assert_eq!(keying.pairs()[0].drained_at, Some(at(110)));
    // Asking again does not make it stay longer.
    keying.commit(Transaction::new(vec![Op::Drain(old)]), at(105)).unwrap();
    assert_eq!(keying.poll(at(109)).drained, []);
    assert_eq!((receives(&keying), keying.counts().draining), (Some(Usage::Retired), 1));
    assert_eq!(
        elements(&keying, &Change { add: vec![new_pair("bob", 0x1000)], ..Change::default() }).len(),
        1
    );
    assert_eq!(keying.poll(at(110)).drained, [old]);
    assert_eq!((receives(&keying), keying.counts().draining), (None, 0));
    assert!(!keying.is_free(spi), "it rests");
    keying.poll(at(230));
    assert!(keying.is_free(spi));
}

#[test]
fn a_pair_on_its_way_out_stays_if_it_is_wanted_again() {
    let mut keying = keying();
    let pair = installed(&mut keying, "bob", 0x1000);
    for op in [Op::Activate(pair), Op::Retire(pair)] {
        keying.commit(Transaction::new(vec![Op::Drain(pair)]), at(0)).unwrap();
        assert_eq!(keying.pairs()[0].drained_at, Some(at(10)));
        keying.commit(Transaction::new(vec![op]), at(5)).unwrap();
        assert_eq!(keying.poll(at(100)).drained, []);
        assert_eq!(keying.pairs()[0].drained_at, None);
    }
}

#[test]
fn every_fault_of_a_change_is_told_and_nothing_of_it_is_done() {
    let mut keying = keying();
    let (bob, carol) = (installed(&mut keying, "bob", 0x1000), installed(&mut keying, "carol", 0x1001));
    let worker = keying.publisher().reader();
    let (nobody, before) = (PairId::from_raw(99), state(&keying));
    let mut stranger = new_pair("bob", 0x2000);
    stranger.proposal.peer = fqdn("eve");
    let mut transport = new_pair("bob", 0x2001);
    transport.proposal.mode = Mode::Transport;
    let mut greedy = new_pair("bob", 0x2002);
    greedy.proposal.selectors[0].remote = range("10.0.0.0", "10.255.255.255");
    let mut other_suite = new_pair("bob", 0x2003);
    other_suite.keys = keys(0x1001, Suite::AES_256_GCM);
    let mut forbidden = new_pair("bob", 0x2004);
    forbidden.keys.origin = KeyOrigin::Static;
    let twin = Keys { start: Start::Standby, ..keys(0x2000, Suite::AES_128_GCM) };
    let twin = NewPair { proposal: proposal("bob"), keys: twin };
    let change = Change {
        rules: Some(vec![rule(Action::Bypass)]),
        add: vec![stranger, transport, greedy, other_suite, forbidden, twin, new_pair("bob", 0x2005)],
        activate: vec![nobody, carol],
        remove: vec![bob],
        cut: vec![bob],
        ..Change::default()
    };
    let found = elements(&keying, &change);
    let of = |index: usize| -> Vec<_> {
        let is = |element: &Element| matches!(element, Element::Added { index: of, .. } if *of == index);
        found.iter().filter(|(element, _)| is(element)).map(|(_, problem)| problem.clone()).collect()
    };
    assert_eq!(found[0], (Element::Missing(nobody), Problem::Commit(CommitError::UnknownPair(nobody))));
    let twice = Element::Pair { pair: bob, peer: fqdn("bob"), spi: Spi::new(0x1000).unwrap() };
    assert_eq!(found[1], (twice, Problem::NamedTwice));
    assert!(matches!(of(0)[..], [Problem::Refused(Refusal::UnknownPeer { .. })]));
    assert_eq!(of(1), [Problem::Install(InstallError::NoSource)]);
    assert!(matches!(of(2)[..], [Problem::Refused(Refusal::OutsideRanges { .. })]));
    let spi = Spi::new(0x1001).unwrap();
    assert!(
        matches!(of(3)[..], [Problem::Install(InstallError::OtherSuite { .. }), Problem::Install(InstallError::DuplicateSpi(of))] if of == spi)
    );
    assert!(matches!(of(4)[..], [Problem::Install(InstallError::StaticCounterMode(_))]));
    assert_eq!(of(5), [Problem::Install(InstallError::DuplicateSpi(Spi::new(0x2000).unwrap()))], "its twin");
    assert_eq!((of(6), found.len()), (vec![], 9));
    assert_eq!(
        keying.begin_change(change, at(0)),
        Err(crate::ChangeError {
            faults: found.into_iter().map(|(element, problem)| crate::Fault { element, problem }).collect()
        })
    );
    assert_eq!(state(&keying), before);
    assert!(!keying.is_changing());
    drop(worker);
}

#[test]
fn t11_one_key_for_two_pairs_of_a_change_is_refused() {
    let keying = keying();
    let key = |spi: u32| {
        crate::SaKeys::from_octets(spi, Suite::AES_128_GCM, &[9; 20], latchway_esp::SequenceKind::Extended)
            .unwrap()
    };
    let (mut one, mut other) = (new_pair("bob", 0x1000), new_pair("bob", 0x1001));
    (one.keys.inbound, other.keys.outbound) = (key(0x1000), key(0x8000_1001));
    let found = elements(&keying, &Change { add: vec![one, other], ..Change::default() });
    let repeated = Problem::Install(InstallError::RepeatedKey(Spi::new(0x8000_1001).unwrap()));
    assert!(matches!(&found[..], [(Element::Added { index: 1, .. }, problem)] if *problem == repeated));
}

/// RFC 4301 4.4.3.
#[test]
fn a_pad_that_does_not_allow_a_pair_any_more_is_refused_unless_the_pair_goes() {
    let edits: [(&str, Edit); 5] = [
        ("peer gone", |entries| entries.retain(|entry| entry.name != "bob")),
        ("ranges narrower", |entries| entries[0].ranges = vec![range("10.1.0.0", "10.1.0.7")]),
        ("method not accepted", |entries| entries[0].methods = vec![AuthMethod::Certificate]),
        ("we are someone else", |entries| entries[0].local = fqdn("elsewhere")),
        ("another entry", |entries| entries[0].id = latchway_tagging::PadEntryId(77)),
    ];
    for (what, edit) in edits {
        let mut keying = keying();
        let (bob, carol) = (installed(&mut keying, "bob", 0x1000), installed(&mut keying, "carol", 0x1001));
        let class = keying.pairs()[1].class;
        let change = || Change { pad: Some(pad(edit)), ..Change::default() };
        let found = elements(&keying, &change());
        let [(Element::Pair { pair, .. }, problem)] = &found[..] else { panic!("{what}: {found:?}") };
        assert_eq!(*pair, bob, "{what}");
        assert!(
            matches!(problem, Problem::NoLongerAllowed(_)) != (what == "another entry"),
            "{what}: {problem:?}"
        );
        let before = state(&keying);
        assert!(keying.begin_change(change(), at(0)).is_err());
        assert_eq!(state(&keying), before, "{what}");
        // What is not allowed any more does not drain.
        keying.begin_change(Change { remove: vec![bob], ..change() }, at(0)).unwrap();
        let changed = keying.poll(at(0)).changed.unwrap();
        assert_eq!(changed.outline.removed, [bob]);
        let left: Vec<_> = keying.pairs().iter().map(|pair| (pair.id, pair.usage, pair.class)).collect();
        assert_eq!(left.last(), Some(&(carol, Usage::Active, class)), "{what}");
        assert_eq!(left.len(), 1, "{what}");
    }
}

/// RFC 5386 section 2: anybody may come to be behind an address, so that tags keep nobody apart there. Rules made by hand
/// stay when the PAD changes, and are judged by the new one.
#[test]
fn rfc_5386_2_a_pad_that_lets_anybody_serve_a_rule_by_hand_that_latches_by_tag_is_refused_by_its_number() {
    let mut keying = keying();
    let of = |remote, protection| {
        Rule::new(Selector::between(AddressRange::ANY_V4, remote), None, Action::Protect(protection))
    };
    let near = range("10.9.0.0", "10.9.0.255");
    let elsewhere = of(range("10.1.0.0", "10.1.0.255"), Protection::LATCHED_BY_TAG);
    for rule in [elsewhere, of(near, Protection::LATCHED), of(near, Protection::UNLATCHED)] {
        keying.add_rule(vec![rule], None).unwrap();
        keying.poll(at(0));
        keying.poll(at(0));
    }
    let anybody = || Change { pad: Some(pad(|entries| entries.push(any_entry(9)))), ..Change::default() };
    assert!(keying.check_change(&anybody()).is_ok(), "none of these is served by anybody and latches by tag");
    let first = keying.policy()[0].number;
    let number = keying.add_rule(vec![of(near, Protection::LATCHED_BY_TAG)], Some(first)).unwrap();
    keying.poll(at(0));
    keying.poll(at(0));
    let before = state(&keying);
    let problem = Problem::ByTag { rule: number, entry: "any".into() };
    assert!(problem.to_string().contains(&format!("rule {number}")), "{problem}");
    assert_eq!(elements(&keying, &anybody()), [(Element::Whole, problem)]);
    keying.begin_change(anybody(), at(0)).unwrap_err();
    assert_eq!(state(&keying), before);
    keying.delete_rule(number).unwrap();
    keying.poll(at(0));
    keying.poll(at(0));
    keying.begin_change(anybody(), at(0)).unwrap();
}

#[test]
fn offers_and_pairs_on_their_way_out_go_with_the_pad_that_allowed_them() {
    let mut keying = keying();
    let pair = installed(&mut keying, "bob", 0x1000);
    keying.commit(Transaction::new(vec![Op::Drain(pair)]), at(0)).unwrap();
    let offer = keying.propose(proposal("bob"), at(0)).unwrap();
    let other = keying.propose(proposal("carol"), at(0)).unwrap();
    keying.take_notices().for_each(drop);
    let without_bob = pad(|entries| entries.retain(|entry| entry.name != "bob"));
    keying.begin_change(Change { pad: Some(without_bob), ..Change::default() }, at(0)).unwrap();
    let install = keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0));
    assert_eq!(install, Err(InstallError::TicketSpent));
    assert!(keying.poll(at(0)).changed.is_some());
    assert_eq!(keying.pairs(), [], "it does not drain under a PAD that does not know its peer");
    assert!(keying.install(other.ticket, keys(0x1002, Suite::AES_128_GCM), at(0)).is_ok());
    let notices: Vec<_> = keying.take_notices().collect();
    assert!(matches!(notices[0], Notice::OfferExpired { .. }), "{notices:?}");
    assert!(notices.contains(&Notice::PairRemoved { pair, peer: fqdn("bob") }));
}

#[test]
fn what_happens_between_a_change_and_its_being_in_force_is_not_undone() {
    let mut keying = keying();
    let (gone, kept) = (installed(&mut keying, "bob", 0x1000), installed(&mut keying, "carol", 0x1001));
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let change = Change {
        rules: Some(vec![rule(Action::Bypass)]),
        add: vec![new_pair("bob", 0x1002), new_pair("bob", 0x1003)],
        retire: vec![gone, kept],
        ..Change::default()
    };
    keying.begin_change(change, at(0)).unwrap();
    assert!(matches!(keying.check_change(&Change::default()).unwrap_err().faults[0].problem, Problem::Busy));
    assert_eq!(keying.begin_change(Change::default(), at(0)).unwrap_err().faults[0].problem, Problem::Busy);
    let added = keying.pairs()[2].id;
    let pending = keying.commit(Transaction::new(vec![Op::Activate(added)]), at(0));
    assert_eq!(pending, Err(CommitError::StillPending(added)));
    assert_eq!(keying.add_rule(vec![rule(Action::Discard)], None), Err(crate::RuleError::Busy));
    let later = latchway_datapath::spd::Spd::new(vec![rule(Action::Protect(Protection::LATCHED))]);
    let refused = keying.commit(Transaction::new(vec![Op::Remove(gone), Op::SetSpd(later)]), at(0));
    assert_eq!(refused, Err(CommitError::Busy));
    let ops = vec![Op::Remove(gone), Op::Remove(added)];
    keying.commit(Transaction::new(ops), at(0)).unwrap();
    worker.adopt();
    let changed = keying.poll(at(0)).changed.unwrap();
    let left: Vec<_> = keying.pairs().iter().map(|pair| (pair.id, pair.usage)).collect();
    assert_eq!(left, [(kept, Usage::Retired), (changed.added[0], Usage::Active)]);
    let rules: Vec<_> = keying.policy().iter().map(|view| (view.origin, view.rule.action)).collect();
    assert_eq!(rules, [(Origin::Configuration, Action::Bypass)]);
}

/// The dry run knows of caps, too.
#[test]
fn a_change_that_would_pass_a_cap_is_refused_before_anything_is_taken() {
    let observer = Arc::new(Unobserved);
    let settings = Settings { pairs: 2, classes: ClassLimit(1), ..Settings::default() };
    let keying = crate::testing::keying_with(pad(|_| {}), settings, Arc::new(StateClock::new()), observer);
    let add = vec![new_pair("bob", 0x1000), new_pair("carol", 0x1001), new_pair("bob", 0x1002)];
    let found = elements(&keying, &Change { add, ..Change::default() });
    assert!(matches!(
        &found[..],
        [
            (Element::Added { index: 1, .. }, Problem::Refused(Refusal::Class(_))),
            (Element::Added { index: 2, .. }, Problem::Install(InstallError::Full))
        ]
    ));
}

#[test]
fn an_empty_change_is_in_force_and_publishes_nothing() {
    let mut keying = keying();
    let before = keying.snapshot().id;
    let same = Change { pad: Some(pad(|_| {})), rules: Some(vec![]), ..Change::default() };
    for change in [Change::default(), same] {
        assert!(keying.check_change(&change).unwrap().is_empty());
        keying.begin_change(change, at(0)).unwrap();
        assert_eq!(keying.poll(at(0)).changed.unwrap().snapshot, before);
    }
    assert!(Change::default().is_empty());
}
