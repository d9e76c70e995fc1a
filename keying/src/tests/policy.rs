//! Rules of the configuration and rules made by hand (RFC 4301 4.4.1).

use latchway_datapath::selector::{AddressRange, PortRange, Selector};
use latchway_datapath::spd::{Action, Rule};

use crate::testing::{at, keying};
use crate::{Change, Keying, Origin, RuleError, RuleNumber};

/// A rule that its port tells from others.
fn rule(port: u16) -> Rule {
    let any = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
    let selector = Selector { remote_ports: PortRange::new(&(port..=port)), ..any };
    Rule::new(selector, None, Action::Discard)
}

fn configure(keying: &mut Keying, ports: &[u16]) {
    let rules = Some(ports.iter().map(|port| rule(*port)).collect());
    keying.begin_change(Change { rules, ..Change::default() }, at(0)).unwrap();
    assert!(keying.poll(at(0)).changed.is_some());
}

fn add(keying: &mut Keying, port: u16, before: Option<u64>) -> u64 {
    let number = keying.add_rule(vec![rule(port)], before.map(RuleNumber::from_raw)).unwrap();
    assert!(keying.poll(at(0)).changed.is_some());
    number.raw()
}

fn numbers(keying: &Keying) -> Vec<u64> {
    let views = keying.policy();
    let rules: Vec<_> = views.iter().map(|view| view.rule.clone()).collect();
    assert_eq!(keying.snapshot().spd.rules(), rules, "what is shown is what is published");
    views.iter().map(|view| view.number.raw()).collect()
}

#[test]
fn rules_made_by_hand_come_first_and_a_reload_leaves_them() {
    let mut keying = keying();
    configure(&mut keying, &[10, 20]);
    assert_eq!(numbers(&keying), [1, 2]);
    assert_eq!(add(&mut keying, 1, None), 3);
    assert_eq!(add(&mut keying, 2, None), 4);
    assert_eq!(add(&mut keying, 3, Some(4)), 5);
    assert_eq!(add(&mut keying, 4, Some(2)), 6);
    assert_eq!(numbers(&keying), [3, 5, 4, 6, 1, 2]);
    // A rule that stays keeps its number, and one that comes back gets another.
    configure(&mut keying, &[30, 20]);
    assert_eq!(numbers(&keying), [3, 5, 4, 6, 7, 2]);
    configure(&mut keying, &[10, 30, 30]);
    assert_eq!(numbers(&keying), [3, 5, 4, 6, 8, 7, 9]);
    let origins: Vec<_> = keying.policy().iter().map(|view| view.origin).collect();
    assert_eq!(origins[..4], [Origin::Hand; 4]);
    assert_eq!(origins[4..], [Origin::Configuration; 3]);
}

/// RFC 4301 4.4.1: a rule stands before the one that is named, or is refused; never before another.
#[test]
fn rfc_4301_4_4_1_a_rule_by_hand_stands_before_the_one_that_is_named() {
    let mut keying = keying();
    configure(&mut keying, &[10]);
    let (first, second) = (add(&mut keying, 1, None), add(&mut keying, 2, None));
    keying.replace_templated(&[rule(5), rule(6)]).unwrap();
    keying.poll(at(0));
    let [templated, other] = [numbers(&keying)[2], numbers(&keying)[3]].map(RuleNumber::from_raw);
    for named in [templated, other] {
        let refused = keying.add_rule(vec![rule(3)], Some(named)).unwrap_err();
        assert_eq!(refused, RuleError::BeforeTemplated(named));
        assert!(refused.to_string().contains("smaller priority"), "{refused}");
    }
    keying.delete_rule(RuleNumber::from_raw(first)).unwrap();
    keying.poll(at(0));
    let gone = RuleNumber::from_raw(first);
    assert_eq!(keying.add_rule(vec![rule(3)], Some(gone)), Err(RuleError::Unknown(gone)));
    let third = add(&mut keying, 3, Some(second));
    let last = add(&mut keying, 4, Some(1));
    assert_eq!(numbers(&keying), [third, second, last, templated.raw(), other.raw(), 1]);
}

#[test]
fn only_rules_made_by_hand_are_deleted_by_hand() {
    let mut keying = keying();
    configure(&mut keying, &[10]);
    let by_hand = RuleNumber::from_raw(add(&mut keying, 1, None));
    let (configured, nobody) = (RuleNumber::from_raw(1), RuleNumber::from_raw(77));
    let before = keying.snapshot().id;
    assert_eq!(keying.delete_rule(configured), Err(RuleError::Configured(configured)));
    assert_eq!(keying.delete_rule(nobody), Err(RuleError::Unknown(nobody)));
    assert_eq!(keying.snapshot().id, before);
    assert_eq!(keying.delete_rule(by_hand), Ok(vec![rule(1)]));
    keying.poll(at(0));
    assert_eq!(numbers(&keying), [1]);
    assert_eq!(keying.delete_rule(by_hand), Err(RuleError::Unknown(by_hand)));
}

/// One rule of several selectors is asked in one place, and goes as one.
#[test]
fn rfc_4301_4_4_1_2_a_rule_by_hand_with_several_selectors_has_one_number() {
    let mut keying = keying();
    configure(&mut keying, &[10]);
    let several = keying.add_rule(vec![rule(1), rule(2), rule(3)], None).unwrap();
    assert!(keying.poll(at(0)).changed.is_some());
    assert_eq!(numbers(&keying), [2, 2, 2, 1]);
    assert_eq!(add(&mut keying, 4, None), 3);
    assert_eq!(add(&mut keying, 5, Some(2)), 4);
    assert_eq!(numbers(&keying), [4, 2, 2, 2, 3, 1]);
    assert_eq!(keying.delete_rule(several), Ok(vec![rule(1), rule(2), rule(3)]));
    keying.poll(at(0));
    assert_eq!(numbers(&keying), [4, 3, 1]);
}
