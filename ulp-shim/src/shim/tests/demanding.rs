//! What is required of a socket, as its packets meet it (Q-44, L-33).

use std::cell::Cell;
use std::sync::Arc;

use latchway_datapath::drop::Direction;
use latchway_datapath::drop::DropReason::{LatchMismatch, OwnerUnknown, RequirementUnmet};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{LatchTerms, OnConflict, Unlatchable};
use latchway_datapath::packet::flags::{ACK, SYN};
use latchway_datapath::spd::{Action, Protection};
use latchway_datapath::time::Time;

use super::bed::{A, A_OTHER_QOP, Asked, B, Bed};
use crate::owners::Owners;
use crate::{ConstraintId, Cookie, LatchDatabase, LatchState, Owner, Requirement, RequirementId};

const SOCKET: Cookie = Cookie { space: 1, socket: 7 };
const OTHER: Cookie = Cookie { space: 1, socket: 8 };

fn wanted() -> ConstraintId {
    ConstraintId::new(5).unwrap()
}

/// Requires A of a socket, which has every flow.
fn requiring(protocol: u8) -> (Bed, Asked) {
    let (bed, asked) = Bed::asking(Owner::Socket(SOCKET));
    require(&bed, SOCKET, protocol);
    (bed, asked)
}

fn require(bed: &Bed, socket: Cookie, protocol: u8) {
    require_at(bed, socket, protocol, (protocol == protocol::UDP).then_some(40_000));
}

fn require_at(bed: &Bed, socket: Cookie, protocol: u8, port: Option<u16>) {
    bed.database.peers().set_accepts(A, wanted().bit());
    let requirement = Requirement {
        id: RequirementId(1),
        constraint: wanted(),
        on_conflict: None,
        protocol,
        port,
        shares: false,
    };
    bed.database.requirements().set(socket, requirement, bed.now());
}

fn now_of(asked: &Asked, owner: Owner) {
    asked.0.lock().unwrap().0 = owner;
}

fn times(asked: &Asked) -> u32 {
    asked.0.lock().unwrap().1
}

#[test]
fn q_44_l_33_the_first_syn_leaves_under_what_is_required_or_not_at_all() {
    let (mut bed, asked) = requiring(protocol::TCP);
    for class in [B, A_OTHER_QOP] {
        assert_eq!(bed.tcp_out(1000, 0, SYN, class), Err(RequirementUnmet));
        assert!(bed.latch().is_none());
    }
    bed.judge_out(1000, 0, SYN).unwrap();
    assert_eq!(bed.feedback_unprotected(), Err(RequirementUnmet), "nor in the clear");
    assert!(bed.is_told((1000, 0, SYN), RequirementUnmet), "and need not wait for a time-out");
    assert_eq!(bed.tcp_out(1000, 0, SYN, A), Ok(A));
    let latch = bed.latch().unwrap();
    assert_eq!((latch.state, latch.class), (LatchState::Established, Some(A)));
    // Another socket's flow is as policy has it.
    now_of(&asked, Owner::Socket(OTHER));
    assert_eq!(bed.to(2).tcp_out(1000, 0, SYN, B), Ok(B));
    now_of(&asked, Owner::Nobody);
    assert_eq!(bed.to(3).tcp_out(1000, 0, SYN, B), Ok(B));
}

#[test]
fn q_44_what_is_required_is_latched_whatever_the_rule_has_of_latches() {
    for policy in [Some(Protection::UNLATCHED), None] {
        let (mut bed, _) = requiring(protocol::TCP);
        bed.policy(policy);
        bed.judge_out(1000, 0, SYN).unwrap();
        assert_eq!(bed.feedback_unprotected(), Err(RequirementUnmet));
        assert_eq!(bed.tcp_out(1000, 0, SYN, B), Err(RequirementUnmet));
        assert_eq!(bed.tcp_out(1000, 0, SYN, A), Ok(A));
        assert_eq!(bed.latch().unwrap().class, Some(A));
        assert_eq!(bed.tcp_out(1001, 9001, ACK, B), Ok(A), "L-99");
        assert_eq!(bed.to(2).tcp_out(1001, 9001, ACK, A), Err(RequirementUnmet), "R-12: none in the middle");
        assert!(bed.is_told((1001, 9001, ACK), RequirementUnmet));
    }
}

#[test]
fn r_17_a_requirement_says_what_becomes_of_its_connections_and_never_lets_them_pass_unlatched() {
    let (mut bed, _) = requiring(protocol::TCP);
    let on_conflict = Some(OnConflict::Wait);
    let requirement = Requirement { on_conflict, ..bed.database.requirements().of(&SOCKET).unwrap() };
    bed.database.requirements().set(SOCKET, requirement, bed.now());
    bed.terms(LatchTerms { unlatchable: Unlatchable::Pass, sticky: true, ..LatchTerms::default() });
    bed.tcp_out(1000, 0, SYN, A).unwrap();
    let terms = LatchTerms { on_conflict: OnConflict::Wait, sticky: true, ..LatchTerms::default() };
    assert_eq!(bed.latch().unwrap().terms, terms);
}

#[test]
fn l_17_what_waits_for_an_sa_is_held_to_what_is_required_when_there_is_one() {
    let (mut bed, _) = requiring(protocol::TCP);
    bed.unserved_out(1000, 0, SYN).unwrap();
    assert_eq!(bed.latch().unwrap().state, LatchState::Larval);
    assert_eq!(bed.tcp_out(1000, 0, SYN, B), Err(RequirementUnmet));
    assert_eq!(bed.tcp_in(9000, 0, SYN, B), Err(RequirementUnmet), "R-15");
    assert_eq!(bed.latch().unwrap().state, LatchState::Larval);
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()));
    assert_eq!(bed.latch().unwrap().class, Some(A));
}

#[test]
fn q_44_who_comes_to_a_listening_socket_is_what_it_requires_or_does_not_reach_it() {
    for policy in [Some(Protection::LATCHED), Some(Protection::UNLATCHED)] {
        let (mut bed, _) = requiring(protocol::TCP);
        bed.policy(policy);
        assert_eq!(bed.tcp_in(9000, 0, SYN, B), Err(RequirementUnmet));
        assert_eq!(bed.unprotected(9000, 0, SYN), Err(RequirementUnmet));
        assert!(bed.latch().is_none());
        assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()));
        assert_eq!(bed.latch().unwrap().class, Some(A));
        assert_eq!(bed.tcp_in(9000, 0, SYN, B), Err(LatchMismatch));
    }
}

#[test]
fn whoever_is_not_known_for_certain_gets_nothing() {
    let (mut bed, asked) = requiring(protocol::TCP);
    now_of(&asked, Owner::Unknown);
    assert_eq!(bed.tcp_out(1000, 0, SYN, A), Err(OwnerUnknown));
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Err(OwnerUnknown));
    assert_eq!(bed.udp_out(A), Err(OwnerUnknown));
    assert_eq!(bed.unprotected_datagram(), Err(OwnerUnknown));
    assert!(!bed.is_told((1000, 0, SYN), OwnerUnknown), "it is loss");
    now_of(&asked, Owner::Gone);
    assert_eq!(bed.tcp_out(1000, 0, SYN, A), Err(OwnerUnknown), "its socket is closed already");
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()), "the kernel resets it");
    assert_eq!(bed.udp_out(A), Ok(A), "nothing is required of any UDP socket");
    require(&bed, OTHER, protocol::UDP);
    bed.to(2);
    assert_eq!(bed.udp_out(A), Err(OwnerUnknown), "one at this port may have sent it");
    assert_eq!(bed.udp_in(A), Err(OwnerUnknown));
    assert_eq!(bed.unprotected_datagram(), Err(OwnerUnknown));
    assert!(!bed.any_latch());
}

#[test]
fn nobody_is_asked_while_nothing_is_required_or_where_a_connection_stands() {
    let (mut bed, asked) = Bed::asking(Owner::Socket(SOCKET));
    bed.establish(B);
    bed.to(2).udp_out(B).unwrap();
    bed.to(3).tcp_in(9000, 0, SYN, B).unwrap();
    assert_eq!(times(&asked), 0);
    require(&bed, SOCKET, protocol::TCP);
    for _ in 0..3 {
        assert_eq!(bed.to(1).tcp_out(1001, 9001, ACK, B), Ok(B), "L-37");
        assert_eq!(bed.tcp_in(9001, 1001, ACK, B), Ok(()));
        assert_eq!(bed.to(2).udp_out(B), Ok(B));
    }
    assert_eq!(times(&asked), 0);
    bed.database.requirements().remove(&SOCKET, bed.now());
    bed.to(4).tcp_out(1000, 0, SYN, B).unwrap();
    assert_eq!(times(&asked), 0);
}

/// L-33: of two sockets that have a port, one with a requirement, the kernel names either; and the one that has it next is
/// named for what was sent before.
#[test]
fn l_33_a_datagram_is_not_taken_for_that_of_another_socket_at_its_port() {
    let (mut bed, asked) = requiring(protocol::UDP);
    now_of(&asked, Owner::Socket(OTHER));
    assert_eq!(bed.udp_out(A), Err(OwnerUnknown));
    assert_eq!(bed.udp_in(A), Err(OwnerUnknown));
    bed.database.requirements().gone(&SOCKET, Some(40_000), bed.now());
    assert_eq!(bed.udp_out(A), Err(OwnerUnknown));
    bed.pass(2);
    assert_eq!(bed.udp_out(A), Ok(A));
    now_of(&asked, Owner::Nobody);
    assert_eq!(bed.to(2).udp_out(B), Ok(B), "a forwarded one is none of theirs");
}

/// Finds a socket, which is gone by the time that anybody hears of it, and takes along what was required of it.
#[derive(Debug)]
struct Ending {
    database: Arc<LatchDatabase>,
    /// How many more end like this, the one that is found next first.
    more: Cell<u64>,
}

impl Owners for Ending {
    fn owner(&self, _: &FlowKey, _: Direction) -> Owner {
        let socket = Cookie { space: 1, socket: self.more.get() };
        if self.more.get() == 0 {
            return Owner::Gone;
        }
        self.more.set(self.more.get() - 1);
        self.database.requirements().gone(&socket, None, Time::default());
        Owner::Socket(socket)
    }
}

/// L-33: a socket that ends between the answer whose the flow is and the look at what is required of it.
#[test]
fn l_33_a_socket_that_ends_while_it_is_asked_about_frees_nothing() {
    for sockets in [1, 3, 40] {
        for protocol in [protocol::TCP, protocol::UDP] {
            let mut bed = Bed::asking_those(|database| Ending { database, more: Cell::new(sockets) });
            (1..=sockets).for_each(|socket| require(&bed, Cookie { space: 1, socket }, protocol));
            let judged = match protocol {
                protocol::TCP => bed.tcp_out(1000, 0, SYN, B),
                _ => bed.udp_out(B),
            };
            assert_eq!(judged, Err(OwnerUnknown), "{sockets} sockets");
        }
    }
}

#[test]
fn a_handshake_where_a_flow_stands_is_asked_about_again() {
    let (mut bed, _) = Bed::asking(Owner::Socket(SOCKET));
    bed.establish(B);
    bed.policy(None);
    bed.to(2).judge_out(1000, 0, SYN).unwrap();
    bed.feedback_unprotected().unwrap();
    bed.policy(Some(Protection::LATCHED));
    bed.to(3).tcp_in(9000, 0, SYN, B).unwrap();
    require(&bed, SOCKET, protocol::TCP);
    assert_eq!(bed.to(1).tcp_out(5000, 0, SYN, B), Err(RequirementUnmet), "the 5-tuple of one before");
    assert_eq!(bed.tcp_in(5000, 0, SYN, B), Err(RequirementUnmet));
    assert_eq!(bed.to(2).tcp_out(1000, 0, SYN, B), Err(RequirementUnmet), "what passed unlatched");
    assert_eq!(bed.tcp_out(1000, 0, SYN, A), Ok(A));
    assert_eq!(bed.to(3).tcp_in(9000, 0, SYN, B), Err(RequirementUnmet));
}

#[test]
fn a_udp_flow_that_may_be_anothers_by_now_is_asked_about_once() {
    let (mut bed, asked) = Bed::asking(Owner::Socket(OTHER));
    bed.udp_out(B).unwrap();
    bed.to(2).udp_out(A).unwrap();
    bed.policy(Some(Protection::UNLATCHED));
    bed.to(3).udp_out(B).unwrap();
    bed.to(4).udp_in(B).unwrap();
    bed.policy(Some(Protection::LATCHED));
    bed.pass(1);
    require_at(&bed, SOCKET, protocol::UDP, None);
    bed.pass(1);
    assert_eq!(bed.to(1).udp_out(B), Ok(B), "another's still");
    assert_eq!((bed.udp_in(B), times(&asked)), (Ok(()), 1));
    bed.database.requirements().owner_changed(Some(40_000), bed.now());
    now_of(&asked, Owner::Socket(SOCKET));
    bed.pass(1);
    assert_eq!(bed.to(1).udp_in(B), Err(RequirementUnmet));
    assert_eq!(bed.latch_of(protocol::UDP), None);
    assert_eq!(bed.udp_out(B), Err(RequirementUnmet));
    assert_eq!(bed.udp_in(A), Ok(()));
    let before = times(&asked);
    assert_eq!((bed.to(2).udp_out(A), bed.udp_out(A), bed.udp_in(A)), (Ok(A), Ok(A), Ok(())));
    assert_eq!(times(&asked), before + 1);
    for port in [3, 4] {
        assert_eq!(bed.to(port).udp_in(B), Err(RequirementUnmet), "what was not latched is");
        assert_eq!(bed.unprotected_datagram(), Err(RequirementUnmet));
        assert_eq!(bed.udp_out(B), Err(RequirementUnmet));
        assert_eq!(bed.udp_out(A), Ok(A));
    }
}

#[test]
fn a_later_piece_of_a_datagram_begins_nothing_that_is_required() {
    let (mut bed, _) = requiring(protocol::UDP);
    bed.rules(&[Action::Protect(Protection::UNLATCHED)]);
    assert_eq!(bed.fragment_in(protocol::UDP, false, A), Err(RequirementUnmet));
    assert_eq!(bed.fragment_in(protocol::UDP, true, A), Ok(()));
}

/// L-43, L-105: a latch says whether its connection began under what somebody required, of its socket or by the latch of its
/// listener, or was only inferred; and says so as long as the socket is the same.
#[test]
fn l_43_l_105_a_latch_says_whether_it_was_required() {
    let (mut bed, asked) = requiring(protocol::TCP);
    let required = |bed: &Bed| bed.latch().unwrap().required;
    bed.tcp_out(1000, 0, SYN, A).unwrap();
    assert!(required(&bed));
    bed.to(2).tcp_in(9000, 0, SYN, A).unwrap();
    assert!(required(&bed));
    bed.to(3).unserved_out(1000, 0, SYN).unwrap();
    bed.tcp_out(1000, 0, SYN, A).unwrap();
    assert!(required(&bed), "what waited for its SA");
    bed.to(4).unserved_out(1000, 0, SYN).unwrap();
    bed.tcp_in(9000, 0, SYN, A).unwrap();
    assert!(required(&bed), "R-15");
    // Of whom nothing is required.
    now_of(&asked, Owner::Socket(OTHER));
    bed.to(5).tcp_out(1000, 0, SYN, A).unwrap();
    assert!(!required(&bed));
    bed.to(6).tcp_in(9000, 0, SYN, A).unwrap();
    assert!(!required(&bed));
    now_of(&asked, Owner::Socket(SOCKET));
    bed.tcp_in(9000, 0, SYN, A).unwrap();
    assert!(required(&bed), "it begins again, with another socket");
    now_of(&asked, Owner::Socket(OTHER));
    bed.tcp_in(9000, 0, SYN, A).unwrap();
    assert!(!required(&bed));
}

/// L-43: the flow of a UDP socket is what was required as long as that socket has it.
#[test]
fn l_43_a_udp_latch_is_required_while_its_socket_has_it() {
    let (mut bed, asked) = requiring(protocol::UDP);
    let required = |bed: &Bed| bed.latch_of(protocol::UDP).unwrap().required;
    bed.udp_out(A).unwrap();
    assert!(required(&bed));
    for (owner, is_required) in [(OTHER, false), (SOCKET, true)] {
        now_of(&asked, Owner::Socket(owner));
        bed.pass(1);
        match is_required {
            true => require(&bed, SOCKET, protocol::UDP),
            false => bed.database.requirements().gone(&SOCKET, Some(40_000), bed.now()),
        }
        bed.pass(1);
        bed.udp_out(A).unwrap();
        assert_eq!(required(&bed), is_required);
    }
}
