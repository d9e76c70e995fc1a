//! Latches of listeners, and those that are born from them (latching-04 section 2.1).

use latchway_datapath::drop::DropReason::{LatchUnprotected, ListenerRefused, MidStream, Unprotected};
use latchway_datapath::event::Event;
use latchway_datapath::flow::protocol;
use latchway_datapath::latching::{LatchTerms, Model, OnConflict, Unlatchable};
use latchway_datapath::packet::flags::{ACK, SYN};
use latchway_datapath::spd::{Action, Protection};

use super::bed::{A, B, Bed};
use crate::{ConstraintId, CreateError, LatchState};

const HERE: [u8; 4] = [10, 0, 0, 1];
const ANYWHERE: [u8; 4] = [0, 0, 0, 0];

fn terms() -> LatchTerms {
    LatchTerms::default()
}

#[test]
fn l_16_l_46_l_47_a_listener_has_a_latch_of_its_own() {
    let bed = Bed::new();
    let id = bed.listen(HERE, ConstraintId::new(5), terms()).unwrap();
    let view = bed.database.inquire(id).unwrap();
    assert_eq!((view.state, view.class, view.owned), (LatchState::Listener, None, true));
    assert_eq!((view.flow.protocol(), view.flow.local()), (protocol::TCP, ([10, 0, 0, 1], 40_000).into()));
    assert_eq!((view.flow.remote(), view.constraint), (([0, 0, 0, 0], 0).into(), ConstraintId::new(5)));
    assert_eq!(bed.database.counts().listener, 1);
    assert_eq!(bed.database.flows().count(), 0, "it is no flow");
}

#[test]
fn l_48_l_50_one_listener_for_each_3_tuple_and_all_addresses_are_one() {
    let bed = Bed::new();
    let first = bed.listen(HERE, None, terms()).unwrap();
    assert_eq!(bed.listen(HERE, None, terms()), Err(CreateError::Exists));
    let wide = bed.listen(ANYWHERE, None, terms()).unwrap();
    assert_eq!(bed.listen(ANYWHERE, None, terms()), Err(CreateError::Exists));
    assert!(bed.database.release(first, bed.now()));
    assert_eq!(bed.database.inquire(first), None, "L-64, L-85");
    assert!(!bed.database.release(first, bed.now()));
    assert!(bed.listen(HERE, None, terms()).is_ok());
    assert!(bed.database.release(wide, bed.now()));
}

#[test]
fn l_53_c_22_the_holder_is_told_of_a_connection_before_its_first_packet_passes() {
    let mut bed = Bed::new();
    let listener = bed.listen(ANYWHERE, None, terms()).unwrap();
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()));
    let (view, flow) = (bed.latch().unwrap(), bed.flow(protocol::TCP));
    assert_eq!((view.state, view.class, view.owned), (LatchState::Established, Some(A), false));
    let told = Event::LatchSpawned { listener, latch: view.id, flow, class: A };
    assert_eq!(bed.events(), [told]);
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()), "again");
    assert_eq!(bed.events(), []);
    bed.to(2).tcp_out(1000, 0, SYN, A).unwrap();
    assert_eq!(bed.events(), [], "L-52: not what the local side begins");
}

#[test]
fn l_53_a_connection_of_which_the_holder_cannot_be_told_does_not_come_about() {
    let mut bed = Bed::new();
    bed.listen(HERE, None, terms()).unwrap();
    bed.fill_events();
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Err(ListenerRefused));
    assert_eq!(bed.latch(), None);
    assert_eq!((bed.database.counts().half_open, bed.database.is_latched(A)), (0, false));
    bed.drain_events();
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()), "the peer sends it again");
}

#[test]
fn l_46_l_80_a_class_that_is_not_what_the_listener_demands_has_no_connection() {
    let mut bed = Bed::new();
    let constraint = ConstraintId::new(1).unwrap();
    bed.database.peers().set_accepts(A, constraint.bit());
    bed.database.peers().set_accepts(B, ConstraintId::new(2).unwrap().bit());
    bed.listen(HERE, Some(constraint), terms()).unwrap();
    assert_eq!(bed.tcp_in(9000, 0, SYN, B), Err(ListenerRefused));
    assert_eq!((bed.latch(), bed.events()), (None, vec![]));
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()));
    assert_eq!(bed.events().len(), 1);
}

/// D.4: the specific address before all addresses, and its terms before the rule's.
#[test]
fn r_17_d_4_a_connection_has_the_terms_of_its_most_specific_listener() {
    let mut bed = Bed::new();
    let wide = LatchTerms { on_conflict: OnConflict::Wait, ..terms() };
    let exact = LatchTerms { model: Model::Tag, on_conflict: OnConflict::DropNewcomer, ..terms() };
    bed.listen(ANYWHERE, None, wide).unwrap();
    bed.tcp_in(9000, 0, SYN, A).unwrap();
    assert_eq!(bed.latch().unwrap().terms, wide);
    let id = bed.listen(HERE, None, exact).unwrap();
    bed.to(2).tcp_in(9000, 0, SYN, A).unwrap();
    assert_eq!(bed.latch().unwrap().terms, exact);
    bed.database.release(id, bed.now());
    bed.to(3).tcp_in(9000, 0, SYN, A).unwrap();
    assert_eq!(bed.latch().unwrap().terms, wide);
}

/// Where policy protects without latching, and where it bypasses, a listener's connections are latched all the same.
#[test]
fn l_15_l_111_a_listener_latches_what_policy_does_not() {
    for policy in [Some(Protection::UNLATCHED), None] {
        let mut bed = Bed::new();
        bed.policy(policy);
        bed.listen(HERE, None, terms()).unwrap();
        assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()));
        assert_eq!(bed.latch().unwrap().class, Some(A));
        assert_eq!(bed.unprotected(9001, 0, ACK), Err(LatchUnprotected));
    }
}

#[test]
fn l_81_a_listener_refuses_what_nothing_protects_unless_it_says_otherwise() {
    let lenient = LatchTerms { unlatchable: Unlatchable::Pass, ..terms() };
    for (constraint, terms, passes) in
        [(None, terms(), false), (None, lenient, true), (ConstraintId::new(1), lenient, false)]
    {
        let mut bed = Bed::new();
        bed.policy(None);
        assert_eq!(bed.unprotected(9000, 0, SYN), Ok(()));
        bed.listen(HERE, constraint, terms).unwrap();
        assert_eq!(bed.unprotected(9000, 0, SYN).is_ok(), passes);
        assert_eq!(bed.unprotected(9001, 7, ACK), Ok(()), "of a connection from before");
    }
}

/// L-101: what comes without a tag begins no connection that is to be latched, whoever wants it latched.
#[test]
fn l_101_nothing_without_a_tag_begins_a_connection_that_is_to_be_latched() {
    let mut bed = Bed::new();
    bed.clear = Some(Action::Protect(Protection::LATCHED));
    assert_eq!(bed.unprotected(9000, 0, SYN), Err(Unprotected));
    bed.clear = Some(Action::Bypass);
    bed.policy(None);
    bed.listen(HERE, None, terms()).unwrap();
    assert_eq!(bed.unprotected(9000, 0, SYN), Err(LatchUnprotected));
    assert_eq!((bed.latch(), bed.events()), (None, vec![]));
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()), "with a tag it does");
    assert_eq!(bed.latch().unwrap().class, Some(A));
}

/// L-111: a SYN in pieces is one.
#[test]
fn l_111_a_listener_refuses_what_nothing_protects_in_pieces_too() {
    let mut bed = Bed::new();
    bed.policy(None);
    assert_eq!(bed.unprotected_piece(), Ok(()));
    bed.listen(HERE, ConstraintId::new(1), terms()).unwrap();
    assert_eq!(bed.unprotected_piece(), Err(LatchUnprotected));
}

/// L-46, L-53: a flow that somebody kept going while nobody listened is no way past what the listener demands.
#[test]
fn l_46_l_53_a_flow_from_before_the_listener_is_no_way_around_it() {
    for (policy, changes) in [(Some(Protection::UNLATCHED), false), (Some(Protection::UNLATCHED), true)] {
        let mut bed = Bed::new();
        bed.policy(policy);
        assert_eq!(bed.tcp_in(9000, 0, ACK, B), Ok(()), "a stray segment");
        assert_eq!(bed.udp_in(B), Ok(()));
        let constraint = ConstraintId::new(1).unwrap();
        bed.database.peers().set_accepts(A, constraint.bit());
        bed.listen(HERE, Some(constraint), terms()).unwrap();
        if changes {
            bed.policy(policy);
        }
        assert_eq!(bed.fragment_in(protocol::TCP, true, B), Err(MidStream));
        assert_eq!(bed.tcp_in(9000, 0, SYN, B), Err(ListenerRefused));
        assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()));
        assert_eq!((bed.latch().unwrap().class, bed.events().len()), (Some(A), 1));
        assert_eq!(bed.udp_in(B), Ok(()), "nobody listens there");
    }
}

/// L-46: nor is the latch of a connection whose host forgot it.
#[test]
fn l_46_a_latch_from_before_the_listener_is_no_way_around_it() {
    let mut bed = Bed::new();
    bed.establish(B);
    let constraint = ConstraintId::new(1).unwrap();
    bed.database.peers().set_accepts(A, constraint.bit());
    bed.listen(HERE, Some(constraint), terms()).unwrap();
    assert_eq!(bed.tcp_in(9001, 1001, ACK, B), Ok(()), "the connection from before");
    assert_eq!(bed.tcp_in(20_000, 0, SYN, B), Err(ListenerRefused));
    assert_eq!(bed.tcp_in(9001, 1001, ACK, B), Ok(()));
}
