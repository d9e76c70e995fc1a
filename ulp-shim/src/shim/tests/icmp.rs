//! ICMP beside latches: what policy tells apart that one flow does not, and errors from routers.

use latchway_datapath::drop::DropReason::{LatchMismatch, NoPolicy, PolicyDiscard};
use latchway_datapath::flow::protocol;
use latchway_datapath::selector::{AddressRange, IcmpRange, Selector};
use latchway_datapath::spd::{Action, Protection, Rule};

use super::bed::{A, B, Bed};

fn host(last: u8) -> AddressRange {
    AddressRange::single([10, 0, 0, last].into())
}

/// RFC 4301 4.4.1.1: all messages between two hosts that are no echo are of one flow, and policy may still discard some of
/// them; what passed before says nothing of what comes after.
#[test]
fn rfc_4301_4_4_1_1_messages_of_one_flow_are_told_apart_by_policy_every_time() {
    let timestamps = Selector {
        protocol: Some(protocol::ICMP),
        icmp: Some(IcmpRange::new(&(13..=14), &(0..=255))),
        ..Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4)
    };
    let all = Selector::between(host(1), host(2));
    let mut bed = Bed::new();
    bed.rules_of(vec![
        Rule::new(timestamps, None, Action::Discard),
        Rule::new(all, None, Action::Protect(Protection::UNLATCHED)),
    ]);
    for _ in 0..2 {
        assert_eq!(bed.echo_in(17, A), Ok(()));
        assert_eq!(bed.echo_in(13, A), Err(PolicyDiscard));
    }
}

/// RFC 4301 6.2, T19: an error from a router that no rule knows is taken by what it quotes: a latched flow under its own class
/// only, another one where policy protects it.
#[test]
fn t19_rfc_4301_6_2_an_error_from_a_router_is_judged_by_what_it_quotes() {
    let mut bed = Bed::established(A);
    let protect =
        |protection| vec![Rule::new(Selector::between(host(1), host(2)), None, Action::Protect(protection))];
    bed.rules_of(protect(Protection::LATCHED));
    assert_eq!(bed.router_error_in(protocol::TCP, A), Ok(()));
    assert_eq!(bed.router_error_in(protocol::TCP, B), Err(LatchMismatch));
    bed.rules_of(protect(Protection::UNLATCHED));
    assert_eq!(bed.to(3).router_error_in(protocol::UDP, B), Ok(()));
    bed.rules_of(vec![]);
    assert_eq!(bed.to(3).router_error_in(protocol::UDP, B), Err(NoPolicy));
    assert_eq!(bed.router_error_in(protocol::UDP, A), Err(NoPolicy));
}
