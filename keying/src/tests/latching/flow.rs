//! What is known of a flow, for who has only its socket.

use super::*;
use crate::{FlowInquiry, Parameters};

/// Who is on the other end, by what is known.
fn peer(known: &FlowInquiry) -> Option<String> {
    match &known.parameters {
        Some(Parameters::Latched { peer, .. }) => Some(peer.record.asserted.to_string()),
        _ => None,
    }
}

#[test]
fn q_46_a_flow_has_what_its_latch_holds_it_to() {
    let mut world = World::new();
    let latches = [5, 6].map(|port| world.connect(&to(1, port)).unwrap().latch);
    assert_eq!(peer(&world.keying.inquire_flow(&flow(1, 5))), None, "it waits for an SA");
    world.install(wide("bob", 1, Suite::AES_256_GCM));
    let [one, other] = [5, 6].map(|port| world.keying.inquire_flow(&flow(1, port)));
    assert_eq!(one.latch.as_ref().map(|latch| latch.latch.id), Some(latches[0]));
    assert_eq!(one.latch.as_deref(), world.keying.inquire_latch(latches[0]).ok().as_ref());
    assert_eq!(peer(&one).as_deref(), Some("fqdn:bob"));
    // Q-52, C-16: what two are compared by.
    assert!(one.group.is_some() && one.rule.is_some());
    assert_eq!((one.group, &one.rule), (other.group, &other.rule));
    world.install(wide("peer8", 8, Suite::AES_256_GCM));
    let third = world.keying.inquire_flow(&flow(8, 5));
    assert!(third.group != one.group && third.rule != one.rule);
}

#[test]
fn q_46_a_flow_without_a_latch_has_what_policy_gives_it_now() {
    let mut world = World::new();
    assert_eq!(peer(&world.keying.inquire_flow(&flow(8, 5))), None, "no SA");
    let pair = world.install(wide("peer8", 8, Suite::AES_256_GCM));
    let known = world.keying.inquire_flow(&flow(8, 5));
    assert!(known.latch.is_none() && known.group.is_some());
    assert_eq!(peer(&known).as_deref(), Some("fqdn:peer8"));
    crate::testing::commit(&mut world.keying, vec![crate::Op::Remove(pair)]);
    assert_eq!(peer(&world.keying.inquire_flow(&flow(8, 5))), None, "the SA is gone");
    for (net, action) in [(5, Some(Action::Bypass)), (7, Some(Action::Discard)), (9, None)] {
        let known = world.keying.inquire_flow(&flow(net, 5));
        assert_eq!(known.rule.map(|rule| rule.rule.action), action);
        assert!(known.latch.is_none() && known.parameters.is_none() && known.group.is_none());
    }
}
