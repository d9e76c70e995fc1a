//! Latches that somebody asked for, LARVAL ones, and those that grant bypass (latching-04 sections 2.1 and 3).

use latchway_datapath::drop::DropReason::{
    LatchBroken, LatchLarval, LatchMismatch, LatchUnprotected, MidStream, PolicyDiscard, Unprotected,
};
use latchway_datapath::event::Event;
use latchway_datapath::flow::protocol;
use latchway_datapath::packet::flags::{ACK, FIN, RST, SYN};
use latchway_datapath::spd::{Action, Protection};
use latchway_tagging::{ClassId, Demand};

use super::bed::{A, A_OTHER_QOP, B, Bed, UNKNOWN};
use crate::{Begin, BreakReason, CreateError, LatchState, Progress};

/// L-38: to the connection, an SA that is not there is loss.
#[test]
fn l_17_l_22_l_23_l_38_a_connection_that_no_sa_serves_is_larval_and_nothing_passes() {
    let mut bed = Bed::new();
    assert_eq!(bed.unserved_out(1000, 0, SYN), Ok(()));
    let larval = bed.latch().unwrap();
    assert_eq!((larval.state, larval.class, larval.owned), (LatchState::Larval, None, false));
    assert_eq!(bed.database.counts().half_open, 1);
    for flags in [ACK, RST, FIN | ACK, SYN | ACK] {
        assert_eq!(bed.tcp_out(1001, 9001, flags, A), Err(LatchLarval), "{flags:#x}");
        assert_eq!(bed.tcp_in(9001, 1001, flags, A), Err(LatchLarval), "{flags:#x}");
    }
    assert_eq!(bed.unprotected(9000, 1001, SYN | ACK), Err(LatchUnprotected));
    assert_eq!(bed.unserved_out(1000, 0, SYN), Ok(()), "again, and still no SA");
    assert_eq!((bed.latch(), bed.events()), (Some(larval), vec![]));

    assert_eq!(bed.tcp_out(1000, 0, SYN, A), Ok(A), "the SA is there");
    let latch = bed.latch().unwrap();
    assert_eq!((latch.id, latch.state, latch.class), (larval.id, LatchState::Established, Some(A)), "L-63");
    assert_eq!(bed.tcp_in(9000, 1001, SYN | ACK, A), Ok(()));
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Ok(A));
    assert_eq!((bed.latch().unwrap().progress, bed.database.counts().half_open), (Progress::Both, 0));
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A_OTHER_QOP), Err(LatchMismatch), "L-37");
}

#[test]
fn c_20_a_larval_latch_of_a_flow_goes_at_its_deadline() {
    let mut bed = Bed::new();
    bed.unserved_out(1000, 0, SYN).unwrap();
    bed.pass(74);
    bed.sweep();
    assert_eq!(bed.latch().unwrap().state, LatchState::Larval);
    bed.pass(1);
    bed.sweep();
    assert_eq!((bed.latch(), bed.events(), bed.database.counts().half_open), (None, vec![], 0));
}

/// Both SYNs cross: one latch, if both are of one class.
#[test]
fn r_15_simultaneous_open_makes_one_latch_and_the_first_class_stays() {
    let mut bed = Bed::new();
    bed.unserved_out(1000, 0, SYN).unwrap();
    let id = bed.latch().unwrap().id;
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()));
    let latch = bed.latch().unwrap();
    assert_eq!((latch.id, latch.state, latch.class), (id, LatchState::Established, Some(A)));
    assert_eq!(bed.tcp_in(9000, 0, SYN, B), Err(LatchMismatch), "different: it fails");
    let mut bed = Bed::new();
    bed.unserved_out(1000, 0, SYN).unwrap();
    bed.tcp_in(9000, 0, SYN, A).unwrap();
    assert_eq!(bed.tcp_out(1000, 0, SYN, B), Ok(A), "the latch chooses");
    assert_eq!(bed.tcp_out(1000, 9001, SYN | ACK, B), Ok(A));
    assert_eq!(bed.tcp_in(9000, 1001, SYN | ACK, A), Ok(()));
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Ok(()));
    assert_eq!((bed.database.dump().count(), bed.latch().unwrap().progress), (1, Progress::Both));
}

#[test]
fn r_15_a_syn_that_was_judged_before_the_other_sides_came_leaves_under_one_class_only() {
    let mut bed = Bed::new();
    bed.unserved_out(1000, 0, SYN).unwrap();
    bed.judge_out(1000, 0, SYN).unwrap();
    bed.tcp_in(9000, 0, SYN, B).unwrap();
    assert_eq!(bed.feedback(A), Err(LatchMismatch));
    bed.judge_out(1000, 0, SYN).unwrap();
    assert_eq!(bed.latch().unwrap().class, Some(B));
}

#[test]
fn l_54_l_58_l_63_a_latch_that_was_asked_for_is_established_by_the_key_manager_alone() {
    let mut bed = Bed::new();
    let id = bed.connect(Begin::Larval).unwrap();
    assert_eq!(bed.database.inquire(id).unwrap().state, LatchState::Larval);
    assert_eq!(bed.tcp_out(1000, 0, SYN, A), Err(LatchLarval));
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Err(LatchLarval));
    let before = bed.version();
    assert!(!bed.database.establish(id, UNKNOWN, bed.now()), "of a class that nobody knows");
    assert!(bed.database.establish(id, A, bed.now()));
    assert!(!bed.database.establish(id, B, bed.now()), "L-37");
    let view = bed.database.inquire(id).unwrap();
    assert_eq!((view.state, view.class, view.owned), (LatchState::Established, Some(A), true));
    assert!(view.changed_at > before, "L-88");
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Err(MidStream), "R-12: no connection from before");
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Err(MidStream));
    assert_eq!(bed.tcp_out(1000, 0, SYN, B), Ok(A), "L-25");
    assert_eq!(bed.tcp_in(9000, 1001, SYN | ACK, A), Ok(()));
    assert_eq!(bed.tcp_out(1001, 9001, ACK, B), Ok(A));
    assert_eq!(bed.latch().unwrap().progress, Progress::Both);
    bed.pass(30_000);
    bed.sweep();
    assert_eq!(
        bed.database.inquire(id).unwrap().state,
        LatchState::Established,
        "L-21: until it is released"
    );
    assert_eq!(bed.events(), []);
}

#[test]
fn l_56_l_59_l_64_one_latch_for_each_5_tuple_until_it_is_closed() {
    let bed = Bed::new();
    let version = bed.version();
    let established = Begin::Established { class: A, version };
    let id = bed.connect(established).unwrap();
    assert_eq!(bed.database.inquire(id).unwrap().class, Some(A));
    for begin in [Begin::Larval, established, Begin::Bypass] {
        assert_eq!(bed.connect(begin), Err(CreateError::Exists));
    }
    assert_eq!(bed.connect(Begin::Established { class: UNKNOWN, version }), Err(CreateError::UnknownClass));
    assert!(bed.database.close(id, BreakReason::Administrative, bed.now()));
    let next = bed.connect(Begin::Larval).unwrap();
    assert_eq!(
        (bed.database.inquire(id), bed.database.is_latched(A)),
        (None, false),
        "the handle names nothing"
    );
    assert!(!bed.database.release(id, bed.now()) && !bed.database.establish(id, A, bed.now()));
    assert!(bed.database.release(next, bed.now()));
    assert_eq!(bed.database.find(&bed.flow(protocol::TCP)), None, "nothing had passed");
    assert!(bed.connect(Begin::Larval).is_ok());
}

#[test]
fn c_20_a_latch_that_was_asked_for_and_never_established_is_closed_and_its_owner_told() {
    let mut bed = Bed::new();
    let latch = bed.connect(Begin::Larval).unwrap();
    bed.pass(75);
    bed.sweep();
    let (flow, reason) = (bed.flow(protocol::TCP), Some(BreakReason::TimedOut));
    assert_eq!(bed.events(), [Event::LatchChanged { latch, flow, state: LatchState::Closed, reason }]);
    let view = bed.database.inquire(latch).unwrap();
    assert_eq!((view.state, view.reason), (LatchState::Closed, reason));
    assert!(!bed.database.establish(latch, A, bed.now()));
}

/// The connection may go on for all its owner knows: it does not do so unlatched, or with another peer.
#[test]
fn l_21_l_64_what_is_left_of_a_released_latch_lets_nothing_pass() {
    let mut bed = Bed::new();
    let id = bed.connect(Begin::Established { class: A, version: bed.version() }).unwrap();
    bed.establish(A);
    assert!(bed.database.release(id, bed.now()));
    let view = bed.database.inquire(id).unwrap();
    assert_eq!(
        (view.state, view.reason, view.owned),
        (LatchState::Closed, Some(BreakReason::Released), false)
    );
    bed.policy(None);
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Err(LatchBroken));
    assert_eq!(bed.unprotected(9001, 1001, ACK), Err(LatchUnprotected));
    bed.policy(Some(Protection::LATCHED));
    assert_eq!(bed.tcp_out(1000, 0, SYN, B), Ok(B), "the next connection");
    assert_eq!(bed.database.inquire(id), None);
}

#[test]
fn l_111_a_latch_protects_what_policy_bypasses() {
    let mut bed = Bed::new();
    bed.policy(None);
    bed.connect(Begin::Established { class: A, version: bed.version() }).unwrap();
    let (tag, _) = bed.judge_out(1000, 0, SYN).unwrap();
    assert_eq!(tag.demand, Demand::Class(A));
    assert_eq!(bed.unprotected(9000, 1001, SYN | ACK), Err(LatchUnprotected), "L-26");
    assert_eq!(bed.tcp_in(9000, 1001, SYN | ACK, A), Ok(()));
}

/// L-22: what was asked for stays asked for until it is released. A SYN that comes again, or a socket that tries again
/// from the same port, does not go by policy, which asks for less.
#[test]
fn l_21_l_22_l_111_a_closed_latch_that_is_held_yet_lets_no_connection_begin_by_policy_alone() {
    for protection in [None, Some(Protection::LATCHED)] {
        let mut bed = Bed::new();
        bed.policy(protection);
        let larval = bed.connect(Begin::Larval).unwrap();
        bed.pass(75);
        bed.sweep();
        assert_eq!(bed.database.inquire(larval).unwrap().state, LatchState::Closed);
        assert_eq!(bed.judge_out(1000, 0, SYN), Err(LatchBroken), "{protection:?}");
        assert_eq!(bed.tcp_in(9000, 0, SYN, B), Err(LatchBroken), "{protection:?}");
        bed.database.release(larval, bed.now());
        assert!(bed.judge_out(1000, 0, SYN).is_ok(), "{protection:?}");

        let mut bed = Bed::new();
        bed.policy(protection);
        let id = bed.connect(Begin::Established { class: A, version: bed.version() }).unwrap();
        bed.tcp_out(1000, 0, SYN, A).unwrap();
        bed.tcp_in(0, 1001, RST | ACK, A).unwrap();
        assert_eq!(bed.database.inquire(id).unwrap().state, LatchState::Closed, "refused");
        assert_eq!(bed.judge_out(2000, 0, SYN), Err(LatchBroken), "{protection:?}");
        assert_eq!(bed.unprotected(9000, 2001, SYN | ACK), Err(LatchUnprotected));
        bed.database.release(id, bed.now());
        assert!(bed.judge_out(2000, 0, SYN).is_ok(), "{protection:?}");
    }
}

/// L-21: in TIME-WAIT a held latch is in force yet, and the next connection from the same port is held to it.
#[test]
fn l_21_l_25_the_next_connection_under_a_held_latch_is_of_its_class() {
    let mut bed = Bed::new();
    bed.policy(None);
    let id = bed.connect(Begin::Established { class: A, version: bed.version() }).unwrap();
    bed.establish(A);
    bed.tcp_out(1001, 9001, FIN | ACK, A).unwrap();
    bed.tcp_in(9001, 1002, FIN | ACK, A).unwrap();
    bed.tcp_out(1002, 9002, ACK, A).unwrap();
    assert_eq!(bed.latch().unwrap().progress, Progress::TimeWait);
    let (tag, _) = bed.judge_out(5000, 0, SYN).unwrap();
    assert_eq!(tag.demand, Demand::Class(A));
    assert_eq!(bed.tcp_in(7000, 5001, SYN | ACK, B), Err(LatchMismatch));
    assert_eq!((bed.latch().unwrap().id, bed.latch().unwrap().class), (id, Some(A)));
}

/// RFC 4301 section 5.2: nor does the other side's SYN, once policy discards it.
#[test]
fn l_75_a_larval_latch_of_before_is_not_joined_against_policy() {
    let mut bed = Bed::new();
    bed.unserved_out(1000, 0, SYN).unwrap();
    bed.rules(&[Action::Discard]);
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Err(PolicyDiscard));
    assert_eq!(bed.latch().unwrap().state, LatchState::Larval);
}

/// Latching-04 section 3: for exactly its 5-tuple, from its making to its release.
#[test]
fn l_112_l_115_l_116_l_117_a_latch_that_grants_bypass_lets_its_5_tuple_and_no_other_be_unprotected() {
    let mut bed = Bed::new();
    bed.clear = Some(Action::Protect(Protection::LATCHED));
    assert_eq!(bed.unprotected(9000, 0, SYN), Err(Unprotected));
    let id = bed.connect(Begin::Bypass).unwrap();
    let view = bed.database.inquire(id).unwrap();
    assert_eq!((view.state, view.class, view.bypass), (LatchState::Established, None, true));
    let (tag, _) = bed.judge_out(1000, 0, SYN).unwrap();
    assert_eq!((tag.demand, tag.feedback, tag.hint), (Demand::Bypass, false, None));
    assert_eq!(bed.unprotected(9000, 1001, SYN | ACK), Ok(()));
    assert_eq!(bed.to(2).unprotected(9000, 0, SYN), Err(Unprotected));
    assert_eq!(bed.to(2).judge_out(1000, 0, SYN).unwrap().0.demand, Demand::Policy);
    bed.to(1);
    for class in [A, B] {
        assert_eq!(bed.tcp_in(9001, 1001, ACK, class), Err(LatchMismatch), "protected is not what was asked");
    }
    assert_eq!((bed.latch().unwrap().state, bed.events()), (LatchState::Established, vec![]));
    bed.clear = Some(Action::Discard);
    assert_eq!(bed.unprotected(9001, 1001, ACK), Err(PolicyDiscard), "that it was not granted");

    bed.clear = Some(Action::Protect(Protection::LATCHED));
    assert!(bed.database.release(id, bed.now()));
    assert_eq!((bed.database.inquire(id), bed.latch()), (None, None), "L-118: nothing is left");
    assert_eq!(bed.unprotected(9001, 1001, ACK), Err(Unprotected));
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Err(MidStream));
}

#[test]
fn l_112_r_12_a_broken_grant_of_bypass_grants_nothing_and_comes_back_as_it_was() {
    let mut bed = Bed::new();
    let id = bed.connect(Begin::Bypass).unwrap();
    bed.judge_out(1000, 0, SYN).unwrap();
    assert!(bed.database.suspend(id, BreakReason::Policy, None, bed.now()));
    assert_eq!(bed.judge_out(1001, 9001, ACK), Err(LatchBroken));
    assert_eq!(bed.unprotected(9000, 1001, SYN | ACK), Err(LatchBroken));
    assert!(bed.database.restore(id, bed.now()));
    assert_eq!(bed.judge_out(1000, 0, SYN).unwrap().0.demand, Demand::Bypass);
    assert_eq!(bed.database.inquire(id).unwrap().class, None::<ClassId>);
}

/// RFC 4301 section 5.2: what leaves does not open the way in.
#[test]
fn rfc_4301_5_2_an_unlatched_flow_that_leaves_admits_nothing_that_policy_discards() {
    let mut bed = Bed::new();
    let leaves = Action::Protect(Protection::UNLATCHED);
    for clean in [true, false] {
        bed.each_way(leaves, if clean { Action::Discard } else { leaves });
        bed.tcp_out(1000, 0, SYN, A).unwrap();
        bed.each_way(leaves, Action::Discard);
        bed.tcp_out(1000, 0, SYN, A).unwrap();
        assert_eq!(bed.tcp_in(9000, 1001, SYN | ACK, A), Err(PolicyDiscard));
    }
}
