//! What is required of all that has an address, as its packets meet it (L-33, T38).

use latchway_datapath::drop::DropReason::{LatchMismatch, MidStream, RequirementUnmet};
use latchway_datapath::flow::protocol;
use latchway_datapath::packet::flags::{ACK, SYN};
use latchway_datapath::selector::AddressRange;
use latchway_datapath::spd::{Action, Protection};

use super::bed::{A, A_OTHER_QOP, B, Bed};
use crate::{ConstraintId, Owner, RequirementId, RoomDemand};

/// The address that all flows of a bed have, and their other end.
const ROOM: [u8; 4] = [10, 0, 0, 1];
const THERE: [u8; 4] = [10, 0, 0, 2];

/// An INIT of SCTP.
const INIT: (u8, u32, u32) = (1, 0, 7);

fn demand(to: Option<[u8; 4]>) -> RoomDemand {
    let constraint = ConstraintId::new(5).unwrap();
    let to = to.map(|to| AddressRange::single(to.into()));
    RoomDemand { id: RequirementId(1), to, constraint, on_conflict: None }
}

/// Requires A of the room.
fn hold(bed: &Bed) {
    hold_to(bed, vec![demand(None)]);
}

fn hold_to(bed: &Bed, demands: Vec<RoomDemand>) {
    bed.database.peers().set_accepts(A, demand(None).constraint.bit());
    let requirements = bed.database.requirements();
    requirements.rooms().set(ROOM.into(), demands);
    requirements.owner_changed(None, bed.now());
    bed.database.forget_flows_of(ROOM.into());
}

/// Every protocol that has flows, whatever the rule says of latches: under what is required, or not at all. And nobody is
/// asked whose it is.
#[test]
fn t38_l_33_all_that_begins_in_a_room_is_what_is_required_or_does_not_leave() {
    for policy in [Some(Protection::LATCHED), Some(Protection::UNLATCHED), None] {
        let (mut bed, asked) = Bed::asking(Owner::Nobody);
        hold(&bed);
        bed.policy(policy);
        for class in [B, A_OTHER_QOP] {
            assert_eq!(bed.tcp_out(1000, 0, SYN, class), Err(RequirementUnmet));
            assert_eq!(bed.udp_out(class), Err(RequirementUnmet));
            assert_eq!(bed.echo_out(8, class), Err(RequirementUnmet));
            assert_eq!(bed.sctp_out(INIT, class), Err(RequirementUnmet));
        }
        bed.judge_out(1000, 0, SYN).unwrap();
        assert_eq!(bed.feedback_unprotected(), Err(RequirementUnmet), "nor in the clear");
        assert!(bed.is_told((1000, 0, SYN), RequirementUnmet), "and need not wait for a time-out");
        assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Err(RequirementUnmet), "R-12: none in the middle");
        assert_eq!(bed.echo_out(13, A), Err(RequirementUnmet), "what has no flows has no latch");
        assert_eq!(bed.database.dump().count(), 0);
        assert_eq!(bed.tcp_out(1000, 0, SYN, A), Ok(A));
        assert_eq!(bed.udp_out(A), Ok(A));
        assert_eq!(bed.echo_out(8, A), Ok(A));
        assert_eq!(bed.sctp_out(INIT, A), Ok(A));
        for class in [A, B] {
            assert_eq!(bed.udp_out(class), Ok(A), "L-99");
            assert_eq!(bed.echo_out(8, class), Ok(A));
        }
        assert_eq!(asked.0.lock().unwrap().1, 0);
    }
}

#[test]
fn t38_l_33_what_comes_to_a_room_is_what_is_required_or_does_not_come_in() {
    for policy in [Some(Protection::LATCHED), Some(Protection::UNLATCHED)] {
        let mut bed = Bed::new();
        hold(&bed);
        bed.policy(policy);
        assert_eq!(bed.tcp_in(9000, 0, SYN, B), Err(RequirementUnmet));
        assert_eq!(bed.udp_in(B), Err(RequirementUnmet));
        assert_eq!(bed.echo_in(8, B), Err(RequirementUnmet));
        assert_eq!(bed.echo_in(13, A), Err(RequirementUnmet));
        assert_eq!(bed.sctp_in(INIT, B), Err(RequirementUnmet));
        assert_eq!(bed.unprotected(9000, 0, SYN), Err(RequirementUnmet));
        assert_eq!(bed.unprotected_datagram(), Err(RequirementUnmet));
        assert_eq!(bed.database.dump().count(), 0);
        bed.tcp_in(9000, 0, SYN, A).unwrap();
        bed.udp_in(A).unwrap();
        bed.echo_in(8, A).unwrap();
        assert_eq!(bed.udp_in(B), Err(LatchMismatch));
        assert_eq!(bed.tcp_out(1000, 9001, SYN | ACK, B), Ok(A), "and is answered so");
        assert_eq!(bed.echo_out(0, B), Ok(A));
    }
}

/// L-33: what the other end of no demand is, nobody reaches and nobody is reached by.
#[test]
fn l_33_to_whom_nothing_is_required_nothing_passes() {
    let mut bed = Bed::new();
    for demands in [vec![], vec![demand(Some([10, 0, 0, 3]))]] {
        hold_to(&bed, demands);
        assert_eq!(bed.tcp_out(1000, 0, SYN, A), Err(RequirementUnmet));
        assert_eq!(bed.udp_in(A), Err(RequirementUnmet));
    }
    hold_to(&bed, vec![demand(Some([10, 0, 0, 3])), demand(Some(THERE))]);
    assert_eq!(bed.tcp_out(1000, 0, SYN, A), Ok(A));
    assert_eq!(bed.udp_in(A), Ok(()));
    bed.database.requirements().rooms().remove(ROOM.into());
    assert_eq!(bed.to(3).tcp_out(1000, 0, SYN, B), Ok(B), "as policy has it");
}

/// What an address had before it was this room's does not serve it.
#[test]
fn l_33_flows_of_before_are_none_of_the_rooms() {
    for protection in [Protection::LATCHED, Protection::UNLATCHED] {
        let mut bed = Bed::new();
        bed.policy(Some(protection));
        bed.establish(B);
        bed.udp_out(B).unwrap();
        bed.echo_out(8, B).unwrap();
        bed.sctp_out(INIT, B).unwrap();
        hold(&bed);
        assert_eq!(bed.database.flows().count(), 0);
        assert_eq!(bed.tcp_out(1001, 9001, ACK, B), Err(RequirementUnmet));
        assert_eq!(bed.tcp_in(9001, 1001, ACK, B), Err(RequirementUnmet));
        assert_eq!(bed.udp_out(B), Err(RequirementUnmet));
        assert_eq!(bed.echo_out(8, B), Err(RequirementUnmet));
        assert_eq!(bed.sctp_out(INIT, B), Err(RequirementUnmet));
    }
    // A datagram that a worker was about to let pass when the room came.
    let mut bed = Bed::new();
    bed.udp_out(B).unwrap();
    bed.database.peers().set_accepts(A, demand(None).constraint.bit());
    bed.database.requirements().rooms().set(ROOM.into(), vec![demand(None)]);
    bed.database.requirements().owner_changed(None, bed.now());
    assert_eq!(bed.udp_out(B), Err(RequirementUnmet));
    assert_eq!(bed.udp_in(B), Err(RequirementUnmet));
    assert_eq!(bed.udp_out(A), Ok(A));
}

/// RFC 4301 6.2: an error about a connection of the room passes under the connection's class, from a router, too, and opens
/// nothing for other messages.
#[test]
fn t37_f_errors_pass_by_what_they_quote_and_nothing_else_does() {
    let mut bed = Bed::new();
    bed.rules(&[Action::Protect(Protection::LATCHED)]);
    hold(&bed);
    assert!(bed.error_in(protocol::TCP, A).is_err(), "about no connection");
    assert_eq!(bed.error_out(), Err(MidStream));
    bed.establish(A);
    for _ in 0..2 {
        assert_eq!(bed.error_in(protocol::TCP, A), Ok(()));
        assert_eq!(bed.router_error_in(protocol::TCP, A), Ok(()));
        assert_eq!(bed.error_in(protocol::TCP, B), Err(LatchMismatch));
        assert_eq!(bed.error_out(), Ok(Some(A)));
        assert_eq!(bed.echo_out(13, A), Err(RequirementUnmet));
        assert_eq!(bed.echo_in(13, A), Err(RequirementUnmet));
    }
}

/// An error about another's connection would take what a room says to that one's peer.
#[test]
fn t38_of_anothers_connection_a_room_says_nothing() {
    let mut bed = Bed::new();
    bed.establish(B);
    let room = [10, 0, 0, 9];
    assert_eq!(bed.error_out_from(room), Ok(Some(B)), "of a router of the inner network's");
    bed.database.peers().set_accepts(A, demand(None).constraint.bit());
    bed.database.requirements().rooms().set(room.into(), vec![demand(None)]);
    assert_eq!(bed.error_out_from(room), Err(RequirementUnmet));
    assert_eq!(bed.error_out(), Ok(Some(B)));
}
