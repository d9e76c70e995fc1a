//! Connections of other protocols than TCP, and idle ones (latching-04 section 2.3).

use std::time::Duration;

use latchway_datapath::drop::DropReason::{LatchMismatch, MidStream, NoPolicy};
use latchway_datapath::event::Event;
use latchway_datapath::flow::protocol;
use latchway_datapath::latching::{BreakReason, LatchTerms};
use latchway_datapath::packet::chunk;
use latchway_datapath::packet::flags::{ACK, FIN, SYN};
use latchway_datapath::spd::Protection;

use super::bed::{A, B, Bed};
use crate::{LatchState, Progress};

const REQUEST: u8 = 8;
const REPLY: u8 = 0;

#[test]
fn l_102_echo_of_one_identifier_is_a_connection() {
    let mut bed = Bed::new();
    assert_eq!(bed.echo_in(REPLY, A), Err(MidStream), "to no request");
    assert_eq!(bed.echo_out(REPLY, A), Err(MidStream));
    assert_eq!(bed.echo_out(REQUEST, A), Ok(A));
    assert_eq!(bed.echo_in(REPLY, A), Ok(()));
    assert_eq!(bed.echo_out(REQUEST, B), Ok(A), "L-25");
    assert_eq!(bed.to(2).echo_in(REQUEST, B), Ok(()), "another identifier");
    assert_eq!(bed.to(2).echo_out(REPLY, A), Ok(B));
    assert_eq!(bed.to(1).echo_in(REPLY, B), Err(LatchMismatch));
    assert_eq!(bed.database.counts().established, 1);
    bed.pass(60);
    bed.sweep();
    assert_eq!(bed.to(2).echo_in(REPLY, A), Err(MidStream), "RFC 5508 REQ-1: idle for long enough");
}

#[test]
fn l_102_an_sctp_association_is_a_connection() {
    let mut bed = Bed::new();
    assert_eq!(bed.sctp_in((chunk::COOKIE_ECHO, 7, 0), A), Err(MidStream));
    assert_eq!(bed.sctp_in((chunk::INIT, 0, 9), A), Ok(()));
    assert_eq!(bed.sctp_out((chunk::COOKIE_ECHO, 9, 0), A), Err(MidStream), "L-40: of a socket from before");
    assert_eq!(bed.sctp_out((chunk::INIT_ACK, 9, 7), B), Ok(A), "L-25");
    assert_eq!(bed.sctp_in((chunk::COOKIE_ECHO, 7, 0), A), Ok(()));
    assert_eq!(bed.latch_of(protocol::SCTP).unwrap().progress, Progress::Both);
    assert_eq!(bed.sctp_in((chunk::ABORT, 7, 0), B), Err(LatchMismatch));
    let mut bed = Bed::new();
    bed.sctp_out((chunk::INIT, 0, 7), A).unwrap();
    bed.sctp_in((chunk::INIT_ACK, 7, 9), A).unwrap();
    bed.sctp_out((chunk::COOKIE_ECHO, 9, 0), A).unwrap();
    bed.sctp_in((chunk::COOKIE_ACK, 7, 0), A).unwrap();
    bed.sctp_in((chunk::ABORT, 7, 0), A).unwrap();
    let view = bed.latch_of(protocol::SCTP).unwrap();
    assert_eq!((view.state, view.progress), (LatchState::Closed, Progress::Ended), "R-16");
    assert_eq!(bed.sctp_in((chunk::INIT, 0, 10), B), Ok(()), "T37 g");
}

/// The gateway asks once whether a socket has the connection; the answer decides, and silence does after a minute.
#[test]
fn l_104_d_5_an_idle_connection_is_asked_about_before_its_latch_goes() {
    for answer in [Some(true), Some(false), None] {
        let mut bed = Bed::established(A);
        let (latch, flow) = (bed.latch().unwrap().id, bed.flow(protocol::TCP));
        bed.pass(7440);
        bed.sweep();
        bed.sweep();
        assert_eq!(bed.events(), [Event::LatchIdle { latch, flow }], "once");
        match answer {
            Some(true) => assert!(bed.database.keep(latch, bed.now())),
            Some(false) => {
                assert!(bed.database.forget(latch, bed.now()) && !bed.database.forget(latch, bed.now()))
            }
            None => {}
        }
        bed.pass(59);
        bed.sweep();
        assert_eq!(bed.latch().is_some(), answer != Some(false));
        bed.pass(1);
        bed.sweep();
        assert_eq!(bed.latch().is_some(), answer == Some(true));
        assert_eq!(bed.events(), []);
    }
}

/// L-104: a question that there was no room for is asked later, and silence counts only from then on.
#[test]
fn l_104_no_latch_goes_before_anybody_could_say_that_its_connection_lives() {
    let mut bed = Bed::established(A);
    bed.fill_events();
    bed.pass(7440);
    bed.sweep();
    bed.pass(600);
    bed.sweep();
    assert!(bed.latch().is_some());
    bed.drain_events();
    let (latch, flow) = (bed.latch().unwrap().id, bed.flow(protocol::TCP));
    bed.sweep();
    assert_eq!(bed.events(), [Event::LatchIdle { latch, flow }]);
    bed.pass(59);
    bed.sweep();
    assert!(bed.latch().is_some());
    bed.pass(1);
    bed.sweep();
    assert!(bed.latch().is_none());
}

/// L-84: both FINs leave the latch as it is, and so does TIME-WAIT; what is retransmitted there prolongs it (RFC 9293 3.6.1).
#[test]
fn l_84_a_latch_goes_after_time_wait_and_not_at_the_fin() {
    let mut bed = Bed::established(A);
    let id = bed.latch().unwrap().id;
    bed.tcp_out(1001, 9001, FIN | ACK, A).unwrap();
    assert_eq!(bed.latch().unwrap().state, LatchState::Established, "half closed");
    bed.pass(200);
    bed.sweep();
    assert_eq!(bed.tcp_in(9001, 1002, FIN | ACK, A), Ok(()), "the other side may take its time");
    assert_eq!(bed.tcp_out(1002, 9002, ACK, A), Ok(A));
    let time_wait = bed.limits().msl.as_secs() * 2;
    bed.pass(time_wait - 1);
    bed.sweep();
    assert_eq!(bed.tcp_in(9001, 1002, FIN | ACK, A), Ok(()));
    assert_eq!(bed.tcp_in(9001, 1002, FIN | ACK, B), Err(LatchMismatch), "nobody else's");
    bed.pass(time_wait - 1);
    bed.sweep();
    let latch = bed.latch().unwrap();
    assert_eq!((latch.id, latch.state, latch.progress), (id, LatchState::Established, Progress::TimeWait));
    bed.pass(1);
    bed.sweep();
    assert_eq!((bed.latch(), bed.database.inquire(id)), (None, None));
    assert_eq!(bed.database.peers().latches(A), 0);
}

/// L-104, L-22: an answer speaks of the connection that was asked about. What is late forgets nothing.
#[test]
fn l_104_l_22_a_late_answer_forgets_no_latch_that_packets_passed_or_that_broke() {
    let mut bed = Bed::established(A);
    let id = bed.latch().unwrap().id;
    bed.pass(7440);
    bed.sweep();
    bed.tcp_in(9001, 1001, ACK, A).unwrap();
    assert!(!bed.database.forget(id, bed.now()), "it passed since");
    let mut bed = Bed::established(A);
    let id = bed.latch().unwrap().id;
    bed.pass(7440);
    bed.sweep();
    bed.database.suspend(id, BreakReason::PeerGone, None, bed.now());
    assert!(!bed.database.forget(id, bed.now()));
    bed.pass(7440);
    assert!(!bed.database.forget(id, bed.now()), "what is broken was not asked about");
    assert_eq!(bed.latch().map(|latch| latch.state), Some(LatchState::Broken));
}

#[test]
fn l_104_a_packet_after_the_question_keeps_the_latch() {
    let mut bed = Bed::established(A);
    let id = bed.latch().unwrap().id;
    bed.pass(7440);
    bed.sweep();
    bed.tcp_in(9001, 1001, ACK, A).unwrap();
    bed.sweep();
    assert!(!bed.database.forget(id, bed.now()), "the answer is late");
    bed.pass(60);
    bed.sweep();
    assert!(bed.latch().is_some());
    bed.pass(7400);
    bed.sweep();
    assert_eq!(bed.events().len(), 2, "and is asked about again");
}

#[test]
fn d_7_a_sticky_udp_latch_stays_until_its_socket_is_known_to_be_gone() {
    let mut bed = Bed::new();
    bed.udp_in(A).unwrap();
    bed.pass(300);
    bed.sweep();
    assert_eq!((bed.latch_of(protocol::UDP), bed.events()), (None, vec![]));
    bed.terms(LatchTerms { sticky: true, ..LatchTerms::default() });
    bed.udp_in(A).unwrap();
    let latch = bed.latch_of(protocol::UDP).unwrap().id;
    bed.pass(300);
    for round in 0..5 {
        bed.sweep();
        assert_eq!(bed.events().len(), 1, "{round}: asked each minute");
        bed.pass(60);
        bed.sweep();
    }
    assert_eq!(bed.udp_in(B), Err(LatchMismatch), "nobody else gets it meanwhile");
    let mut bed = Bed::new();
    bed.terms(LatchTerms { sticky: true, ..LatchTerms::default() });
    bed.udp_in(A).unwrap();
    bed.pass(300);
    bed.sweep();
    let found = bed.latch_of(protocol::UDP).unwrap();
    assert_eq!((found.id.index(), bed.now().since(found.seen)), (latch.index(), Duration::from_secs(300)));
    assert!(bed.database.forget(found.id, bed.now()));
    assert_eq!(bed.udp_in(B), Ok(()));
}

#[test]
fn t37_b_without_a_policy_nothing_passes_and_nothing_is_latched() {
    let mut bed = Bed::new();
    bed.rules(&[]);
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Err(NoPolicy));
    assert_eq!(bed.udp_in(A), Err(NoPolicy));
    assert_eq!(bed.echo_in(REQUEST, A), Err(NoPolicy));
    assert_eq!(bed.database.dump().count(), 0);
}

#[test]
fn t37_h_datagrams_without_a_latch_are_each_judged_by_their_own_tag() {
    let mut bed = Bed::new();
    bed.policy(Some(Protection::UNLATCHED));
    for class in [A, B, A] {
        assert_eq!(bed.udp_in(class), Ok(()));
    }
    bed.policy(Some(Protection::LATCHED));
    assert_eq!(bed.udp_in(A), Ok(()));
    assert_eq!(bed.udp_in(B), Err(LatchMismatch));
}

/// RFC 7413: what a SYN carries is delivered, or leaves, with the latch and not before.
#[test]
fn d_7_data_of_a_syn_goes_no_further_than_the_syn() {
    let mut bed = Bed::new();
    bed.data = b"early";
    assert_eq!(bed.unserved_out(1000, 0, SYN), Ok(()));
    assert_eq!(bed.latch().unwrap().state, LatchState::Larval);
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()));
    assert_eq!(bed.latch().unwrap().state, LatchState::Established);
    assert_eq!(bed.tcp_in(9000, 0, SYN, B), Err(LatchMismatch));
    let mut bed = Bed::new();
    bed.data = b"early";
    bed.tcp_in(9000, 0, SYN, A).unwrap();
    assert_eq!(bed.tcp_out(1000, 9006, SYN | ACK, A), Ok(A), "with the data acknowledged");
    assert_eq!(bed.tcp_in(9006, 1006, ACK, A), Ok(()));
    assert_eq!(bed.latch().unwrap().progress, Progress::Both);
}
