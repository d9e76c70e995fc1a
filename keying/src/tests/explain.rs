//! What would become of a packet, and that the packet paths would say the same (RFC 4301 5.1, 5.2, RFC 5660 2.4).

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::sad::Usage;
use latchway_datapath::selector::{AddressRange, PortRange, Selector};
use latchway_datapath::spd::{Action, Protection, Reqid, Rule, Spd};
use latchway_datapath::traffic::Traffic;
use latchway_esp::Suite;
use latchway_tagging::ClassId;

use crate::testing::{at, commit, keying, keys, proposal};
use crate::{Keying, Op, PairId, Question, RuleMiss, SaMiss, SaOwner, Transaction, Verdict};

fn installed(keying: &mut Keying, peer: &str, spi: u32) -> PairId {
    let offer = keying.propose(proposal(peer), at(0)).unwrap();
    let id = keying.install(offer.ticket, keys(spi, Suite::AES_128_GCM), at(0)).unwrap();
    keying.poll(at(0));
    id
}

const fn of(pair: PairId) -> SaOwner {
    SaOwner::Pair(pair)
}

fn flow(remote: &str) -> FlowKey {
    FlowKey::new(protocol::TCP, "10.0.0.1:5".parse().unwrap(), remote.parse().unwrap())
}

fn ask(remote: &str, direction: Direction) -> Question {
    Question { flow: flow(remote), direction, required: None }
}

/// DISCARD to port 23, BYPASS to 10.9/16 outbound, PROTECT to the rest.
fn world() -> (Keying, [PairId; 3]) {
    let mut keying = keying();
    let any = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
    let telnet = Selector { remote_ports: PortRange::new(&(23..=23)), ..any.clone() };
    let nine = AddressRange::new("10.9.0.0".parse().unwrap(), "10.9.255.255".parse().unwrap()).unwrap();
    let nine = Selector::between(AddressRange::ANY_V4, nine);
    let out = Some(Direction::Outbound);
    let protect = Action::Protect(Protection { reqid: Some(Reqid(1)), ..Protection::LATCHED });
    let rules = vec![
        Rule::new(telnet, None, Action::Discard),
        Rule::new(nine, out, Action::Bypass),
        Rule::new(any, None, protect),
    ];
    commit(&mut keying, vec![Op::SetSpd(Spd::new(rules))]);
    let pairs = [("bob", 0x1000), ("mallory", 0x1001), ("carol", 0x1002)];
    let pairs = pairs.map(|(peer, spi)| installed(&mut keying, peer, spi));
    (keying, pairs)
}

#[test]
fn rfc_4301_5_1_an_explanation_names_the_rule_and_the_sa_and_what_was_passed_over() {
    let (keying, [bob, mallory, carol]) = world();
    let explanation = keying.explain(&ask("10.1.0.1:80", Direction::Outbound));
    assert_eq!(explanation.rule.as_ref().unwrap().number.raw(), 3);
    let misses: Vec<_> =
        explanation.rules_passed_over.iter().map(|(number, miss)| (number.raw(), *miss)).collect();
    assert_eq!(misses, [(1, RuleMiss::Ports), (2, RuleMiss::Remote)]);
    let Verdict::Protected(carrier) = &explanation.verdict else { panic!("{explanation:?}") };
    let view = &keying.pairs()[1];
    assert_eq!((carrier.owner, carrier.sa, carrier.spi), (of(mallory), view.outbound.sa, view.outbound.spi));
    assert_eq!((carrier.class, &carrier.peer), (Some(view.class), &view.peer));
    assert_eq!(carrier.max_inner, Suite::AES_128_GCM.max_payload(1500 - 28));
    assert_eq!(explanation.sas_passed_over, [(of(bob), SaMiss::Older), (of(carol), SaMiss::Selectors)]);
    let chosen =
        keying.snapshot().sad.select(&Traffic::of(&flow("10.1.0.1:80")), None, Some(Reqid(1))).unwrap();
    assert_eq!(chosen.entry.sa, carrier.sa, "the packet path says the same");
}

#[test]
fn rfc_5660_2_4_a_latched_flow_is_not_asked_of_policy_and_takes_its_class_alone() {
    let (keying, [bob, mallory, _]) = world();
    let class = keying.pairs()[0].class;
    let question = Question { required: Some(class), ..ask("10.1.0.1:23", Direction::Outbound) };
    let explanation = keying.explain(&question);
    assert_eq!((explanation.rule, explanation.rules_passed_over), (None, vec![]));
    assert!(matches!(&explanation.verdict, Verdict::Protected(carrier) if carrier.owner == of(bob)));
    assert!(explanation.sas_passed_over.contains(&(of(mallory), SaMiss::OtherClass)));
    let orphan = Question { required: Some(ClassId::from_raw(999)), ..question };
    assert_eq!(keying.explain(&orphan).verdict, Verdict::Dropped(DropReason::NoOutboundSa));
}

#[test]
fn every_verdict_has_its_reason() {
    let (mut keying, [bob, mallory, carol]) = world();
    let verdict = |keying: &Keying, remote: &str, direction| keying.explain(&ask(remote, direction)).verdict;
    let (out, back) = (Direction::Outbound, Direction::Inbound);
    assert_eq!(verdict(&keying, "10.1.0.1:23", out), Verdict::Dropped(DropReason::PolicyDiscard));
    assert_eq!(verdict(&keying, "10.9.0.1:80", out), Verdict::Bypassed);
    assert_eq!(verdict(&keying, "10.9.0.1:80", back), Verdict::Dropped(DropReason::NoSa));
    assert_eq!(verdict(&keying, "10.2.0.1:80", out), Verdict::Dropped(DropReason::NoOutboundSa));
    assert_eq!(verdict(&keying, "169.254.0.1:80", out), Verdict::Dropped(DropReason::LinkLocal));
    assert!(
        matches!(verdict(&keying, "10.3.0.1:80", back), Verdict::Protected(by) if by.owner == of(carol) && by.max_inner.is_none())
    );
    let ops = vec![Op::Retire(bob), Op::Remove(mallory)];
    keying.commit(Transaction::new(ops), at(0)).unwrap();
    let explanation = keying.explain(&ask("10.1.0.1:80", out));
    assert_eq!(explanation.verdict, Verdict::Dropped(DropReason::NoOutboundSa));
    assert_eq!(explanation.sas_passed_over[0], (of(bob), SaMiss::NotInForce(Usage::Retired)));
    assert!(
        matches!(verdict(&keying, "10.1.0.1:80", back), Verdict::Protected(by) if by.owner == of(bob)),
        "what is under way"
    );
    commit(&mut keying, vec![Op::SetSpd(Spd::default())]);
    assert_eq!(verdict(&keying, "10.1.0.1:80", out), Verdict::Dropped(DropReason::NoPolicy));
}

#[test]
fn an_explanation_stays_readable_however_many_rules_there_are() {
    let (mut keying, _) = world();
    let elsewhere = AddressRange::single("10.77.0.1".parse().unwrap());
    let selector = Selector::between(elsewhere, AddressRange::ANY_V4);
    let rules = (0..100).map(|_| Rule::new(selector.clone(), None, Action::Discard));
    let spd = Spd::new(rules.collect());
    commit(&mut keying, vec![Op::SetSpd(spd)]);
    let explanation = keying.explain(&ask("10.1.0.1:80", Direction::Outbound));
    assert_eq!(explanation.rules_passed_over.len(), 32);
    assert_eq!(explanation.more, 68);
    assert_eq!(explanation.rules_passed_over[0].1, RuleMiss::Local);
}
