//! The shim as the datapath drives it, row by row, and against a naive model.

mod bed;
mod conflicts;
mod demanding;
mod icmp;
mod listeners;
mod model;
mod requests;
mod rooms;
mod tracked;

use latchway_datapath::drop::DropReason::{
    FlowTableFull, LatchBarred, LatchBroken, LatchMismatch, LatchUnprotected, MidStream, NoPolicy,
    PolicyDiscard, StaleVersion,
};
use latchway_datapath::event::Event;
use latchway_datapath::flow::protocol;
use latchway_datapath::packet::flags::{ACK, FIN, RST, SYN};
use latchway_datapath::spd::{Action, Protection};
use latchway_tagging::Demand;

use self::bed::{A, A_OTHER_QOP, B, Bed, UNKNOWN};
use crate::{BreakReason, LatchState, Limits, Progress};

#[test]
fn l_1_flows_that_differ_in_one_member_have_latches_of_their_own() {
    let mut bed = Bed::new();
    for port in [1, 2] {
        bed.to(port).tcp_in(9000, 0, SYN, A).unwrap();
        bed.to(port).udp_in(A).unwrap();
    }
    let mut ids: Vec<_> = bed.database.dump().map(|view| view.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn l_4_l_95_l_96_an_outbound_syn_is_latched_to_the_sa_it_leaves_under() {
    let mut bed = Bed::new();
    let (first, _) = bed.judge_out(1000, 0, SYN).unwrap();
    assert!(first.feedback && first.demand == Demand::Policy);
    assert!(bed.latch().is_none(), "not before the SA is known");
    assert_eq!(bed.tcp_out(1000, 0, SYN, A), Ok(A));
    let latch = bed.latch().unwrap();
    assert_eq!(
        (latch.state, latch.class, latch.progress),
        (LatchState::Established, Some(A), Progress::LocalOnly)
    );
}

#[test]
fn l_5_l_97_an_inbound_syn_is_latched_to_its_own_tag() {
    let mut bed = Bed::new();
    bed.tcp_in(9000, 0, SYN, A).unwrap();
    let latch = bed.latch().unwrap();
    assert_eq!((latch.state, latch.class), (LatchState::Established, Some(A)));
    assert_eq!(latch.last_inbound.map(|tag| tag.class), Some(A));
    assert_eq!(
        latch.changed_at,
        latch.last_inbound.unwrap().version,
        "L-88: the tag's version, not a newer one"
    );
}

#[test]
fn l_22_nothing_leaves_where_a_latch_is_wanted_and_none_can_be() {
    let mut bed = Bed::new();
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Err(MidStream), "R-12: no pick-up in the middle");
    assert_eq!(bed.tcp_out(1000, 9001, SYN | ACK, A), Err(MidStream));
    assert_eq!(bed.tcp_out(1000, 0, RST, A), Err(MidStream));
    bed.judge_out(1000, 0, SYN).unwrap();
    assert!(bed.feedback_unprotected().is_err());
    assert!(bed.latch().is_none());
}

#[test]
fn l_23_l_40_inbound_segments_without_latch_are_dropped() {
    let mut bed = Bed::new();
    for flags in [ACK, SYN | ACK, RST, FIN | ACK, SYN | RST, SYN | FIN] {
        assert_eq!(bed.tcp_in(9000, 1001, flags, A), Err(MidStream), "{flags:#x}");
    }
    assert!(bed.latch().is_none());
}

#[test]
fn l_24_l_25_l_99_every_outbound_packet_carries_the_latched_class() {
    let mut bed = Bed::established(A);
    for flags in [ACK, FIN | ACK, ACK, RST | ACK] {
        let (tag, _) = bed.judge_out(1001, 9001, flags).unwrap();
        assert_eq!(tag.demand, Demand::Class(A), "{flags:#x}");
    }
    let mut bed = Bed::established(A);
    bed.rekey();
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Ok(A));
    bed.judge_out(1001, 9001, ACK).unwrap();
    bed.rekey();
    bed.judge_out(1001, 9001, ACK).unwrap();
    assert_eq!(bed.feedback(B), Err(LatchMismatch), "feedback of another class refuses the packet");
}

#[test]
fn l_26_t37_c_c_19_an_unprotected_packet_is_dropped_and_harms_no_latch() {
    let mut bed = Bed::established(A);
    let before = bed.latch().unwrap();
    assert_eq!(bed.unprotected(9001, 1001, RST | ACK), Err(LatchUnprotected));
    assert_eq!(bed.latch(), Some(before));
    assert_eq!(bed.events(), []);
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Ok(()));
    assert_eq!(bed.to(9).unprotected(1, 0, SYN), Ok(()), "without a latch policy decides");
}

#[test]
fn l_27_l_98_c_19_another_quality_of_protection_is_dropped_and_harms_no_latch() {
    let mut bed = Bed::established(A);
    let before = bed.latch().unwrap();
    for flags in [SYN, ACK, RST | ACK, FIN | ACK] {
        assert_eq!(bed.tcp_in(9001, 1001, flags, A_OTHER_QOP), Err(LatchMismatch));
    }
    assert_eq!(bed.latch(), Some(before));
    assert_eq!(bed.events(), []);
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Ok(()));
}

#[test]
fn l_37_t37_j_policy_that_changes_leaves_the_class_as_it_was() {
    let mut bed = Bed::established(A);
    for protection in [None, Some(Protection::UNLATCHED), Some(Protection::LATCHED)] {
        bed.policy(protection);
        let (tag, _) = bed.judge_out(1001, 9001, ACK).unwrap();
        assert_eq!(tag.demand, Demand::Class(A));
        assert_eq!(bed.tcp_in(9001, 1001, ACK, A_OTHER_QOP), Err(LatchMismatch));
        assert_eq!(bed.unprotected(9001, 1001, ACK), Err(LatchUnprotected));
    }
}

#[test]
fn l_100_l_109_t37_d_another_peer_breaks_the_latch_and_it_is_told_once() {
    let mut bed = Bed::established(A);
    assert_eq!(bed.tcp_in(9001, 1001, ACK, B), Err(LatchMismatch));
    let latch = bed.latch().unwrap();
    assert_eq!(
        (latch.state, latch.class, latch.reason),
        (LatchState::Broken, Some(A), Some(BreakReason::OtherPeer))
    );
    assert_eq!(latch.offender.map(|offender| offender.class), Some(B));
    assert_eq!(bed.tcp_in(9001, 1001, ACK, B), Err(LatchBroken));
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Err(LatchBroken), "R-12: matching ones too");
    assert_eq!(bed.tcp_out(1001, 9001, RST, A), Err(LatchBroken), "the reset of the destroyed socket");
    let events = bed.events();
    assert!(
        matches!(events[..], [Event::LatchBroken { latched: Some(A), offender: Some(offender), .. }] if offender.class == B),
        "{events:?}"
    );
    bed.pass(bed.limits().msl.as_secs() * 2);
    assert_eq!(bed.tcp_in(9001, 1001, SYN, B), Err(LatchBroken), "the tombstone outlasts what may be late");
}

#[test]
fn l_70_a_class_of_unknown_peer_is_another_peers_of_no_standing() {
    let mut bed = Bed::established(A);
    assert_eq!(bed.tcp_in(9001, 1001, ACK, UNKNOWN), Err(LatchMismatch));
    assert_eq!(bed.latch().unwrap().state, LatchState::Established);
    assert_eq!(bed.to(2).tcp_in(9000, 0, SYN, UNKNOWN), Err(LatchBarred), "nobody could say whose it is");
}

#[test]
fn l_109_an_event_that_finds_the_queue_full_is_sent_by_a_later_packet_or_sweep() {
    for sweep in [false, true] {
        let mut bed = Bed::established(A);
        bed.fill_events();
        assert_eq!(bed.tcp_in(9001, 1001, ACK, B), Err(LatchMismatch));
        bed.drain_events();
        assert_eq!(bed.latch().unwrap().state, LatchState::Broken);
        if sweep {
            bed.sweep();
        } else {
            assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Err(LatchBroken));
        }
        assert_eq!(bed.events().len(), 1);
        bed.sweep();
        assert_eq!(bed.events(), []);
    }
}

/// Peer A holds a connection and vanishes; peer B gets A's address and sends a SYN on the same 5-tuple.
#[test]
fn l_106_l_108_a_newcomer_at_the_same_address_does_not_get_the_connection() {
    let mut bed = Bed::established(A);
    assert_eq!(bed.tcp_in(5000, 0, SYN, B), Err(LatchMismatch));
    let latch = bed.latch().unwrap();
    assert_eq!(latch.state, LatchState::Broken);
    assert_eq!(bed.tcp_in(5000, 0, SYN, B), Err(LatchBroken));
    assert!(bed.database.ended(latch.id, bed.now()), "the socket is destroyed");
    assert_eq!(bed.tcp_out(1001, 9001, RST, A), Err(LatchBroken), "its reset goes nowhere");
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Err(LatchBroken), "what is late of A neither");
    assert_eq!(bed.tcp_in(5000, 0, SYN, B), Ok(()));
    let fresh = bed.latch().unwrap();
    assert_eq!((fresh.class, fresh.state), (Some(B), LatchState::Established));
    assert_ne!(fresh.id, latch.id);
    assert_eq!(bed.database.inquire(latch.id), None, "L-64");
}

/// The gateway was started anew, or the connection was idle for too long: a socket lives of which no latch is left. A
/// SYN of another peer on its 5-tuple gets neither its octets nor its challenge ACK, and nothing gets to it.
#[test]
fn l_40_l_104_a_syn_does_not_take_over_a_socket_that_the_gateway_does_not_know() {
    let mut bed = Bed::new();
    assert_eq!(bed.tcp_in(5000, 0, SYN, B), Ok(()));
    for flags in [ACK, ACK | FIN, RST, RST | ACK, SYN | ACK] {
        assert_eq!(
            bed.tcp_out(1001, 900_001, flags, B),
            Err(MidStream),
            "of the socket that lives: {flags:#x}"
        );
    }
    for (ack, flags) in [(1001, ACK), (0, ACK), (1001, RST | ACK), (1001, FIN | ACK), (1001, SYN | ACK)] {
        assert_eq!(bed.tcp_in(900_001, ack, flags, B), Err(MidStream), "{flags:#x}");
    }
    assert_eq!(bed.fragment_in(6, true, B), Err(MidStream));
    assert_eq!(bed.latch().unwrap().progress, Progress::RemoteOnly);
    assert_eq!(bed.tcp_in(5000, 0, SYN, B), Ok(()), "it may ask again");
    assert_eq!(bed.tcp_out(7000, 5001, SYN | ACK, B), Ok(B), "a listener took it up");
    assert_eq!(bed.tcp_in(5001, 7001, ACK, B), Ok(()));
    assert_eq!(bed.tcp_out(7001, 5001, ACK, B), Ok(B));
    assert_eq!(bed.latch().unwrap().progress, Progress::Both);
}

#[test]
fn l_40_a_host_without_such_a_socket_refuses_the_syn() {
    let mut bed = Bed::new();
    bed.tcp_in(5000, 0, SYN, B).unwrap();
    assert_eq!(bed.tcp_out(0, 5001, RST | ACK, B), Ok(B));
    assert_eq!(bed.latch().unwrap().progress, Progress::Ended);
}

/// RFC 9293 3.6.1: TIME-WAIT may answer a SYN with an ACK, and the same peer may have it.
#[test]
fn t37_g_the_same_peer_hears_what_is_left_of_its_last_connection() {
    let mut bed = Bed::established(A);
    bed.tcp_in(9001, 1001, RST, A).unwrap();
    assert_eq!(bed.tcp_in(20_000, 0, SYN, A), Ok(()));
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Ok(A));
    let mut bed = Bed::established(A);
    bed.tcp_in(9001, 1001, RST, A).unwrap();
    assert_eq!(bed.tcp_in(20_000, 0, SYN, B), Ok(()));
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Err(MidStream), "another must not");
}

/// L-100: what the ended socket had queued before its end does not follow the 5-tuple to the next peer.
#[test]
fn l_100_the_reset_of_an_ended_socket_does_not_leave_under_the_next_latch() {
    let mut bed = Bed::established(A);
    bed.tcp_in(9001, 1001, ACK, B).unwrap_err();
    let id = bed.latch().unwrap().id;
    bed.database.ended(id, bed.now());
    assert_eq!(bed.tcp_in(5000, 0, SYN, B), Ok(()));
    assert_eq!(bed.tcp_out(1001, 900_001, ACK, B), Err(MidStream));
    assert_eq!(bed.tcp_out(1001, 900_001, RST | ACK, B), Err(MidStream));
    assert_eq!(bed.tcp_out(7000, 5001, SYN | ACK, B), Ok(B));
}

#[test]
fn r_2_t37_e_rekeying_within_a_class_changes_nothing_and_renews_the_hint() {
    let mut bed = Bed::established(A);
    let before = bed.latch().unwrap();
    let old = bed.judge_out(1001, 9001, ACK).unwrap().0;
    assert!(old.hint.is_some() && !old.feedback);
    bed.rekey();
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Ok(()), "what the new SA protects");
    let (stale, _) = bed.judge_out(1001, 9001, ACK).unwrap();
    assert!(stale.feedback && stale.hint.is_none() && stale.demand == Demand::Class(A));
    bed.feedback(A).unwrap();
    let (fresh, _) = bed.judge_out(1001, 9001, ACK).unwrap();
    assert!(!fresh.feedback && fresh.hint.is_some() && fresh.hint != old.hint);
    let after = bed.latch().unwrap();
    assert_eq!((after.id, after.state, after.changed_at), (before.id, before.state, before.changed_at));
}

#[test]
fn r_9_c_31_a_restored_latch_takes_no_packet_opened_before() {
    let mut bed = Bed::established(A);
    let id = bed.latch().unwrap().id;
    let before = bed.version();
    assert!(bed.database.suspend(id, BreakReason::Conflict, None, bed.now()));
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Err(LatchBroken));
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Err(LatchBroken));
    assert!(bed.database.restore(id, bed.now()));
    assert_eq!(bed.tcp_in_at(before, (9001, 1001, ACK), A), Err(StaleVersion));
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Ok(()));
    bed.tcp_in(9001, 1001, ACK, B).unwrap_err();
    assert!(!bed.database.restore(id, bed.now()), "another peer was there: the connection ends");
}

#[test]
fn c_31_changes_of_other_latches_do_not_make_a_packet_stale() {
    let mut bed = Bed::established(A);
    let before = bed.version();
    for port in 50..60 {
        bed.to(port).tcp_in(1, 0, SYN, A).unwrap();
    }
    assert!(bed.version() > before, "L-89: each creation counts");
    assert_eq!(bed.to(1).tcp_in_at(before, (9001, 1001, ACK), A), Ok(()));
}

#[test]
fn r_10_an_administrator_closes_a_latch_and_nobody_else_gets_the_socket() {
    let mut bed = Bed::established(A);
    let id = bed.latch().unwrap().id;
    assert!(bed.database.close(id, BreakReason::Administrative, bed.now()));
    assert!(!bed.database.close(id, BreakReason::Administrative, bed.now()), "it is closed");
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Err(LatchBroken));
    assert_eq!(bed.tcp_in(5000, 0, SYN, B), Err(LatchBroken), "the socket may live");
    assert_eq!(bed.tcp_out(7000, 0, SYN, B), Ok(B), "a new local connection says that it does not");
}

#[test]
fn t37_a_two_sas_race_for_a_new_flow_and_one_wins() {
    let mut bed = Bed::new();
    bed.judge_out(1000, 0, SYN).unwrap();
    bed.tcp_in(9000, 0, SYN, B).unwrap();
    assert_eq!(bed.feedback(A), Err(LatchMismatch), "the loser's packet does not leave");
    assert_eq!(bed.latch().unwrap().class, Some(B));
}

#[test]
fn t37_g_port_reuse_after_time_wait_or_reset_starts_a_fresh_latch() {
    let mut bed = Bed::established(A);
    bed.tcp_out(1001, 9001, FIN | ACK, A).unwrap();
    bed.tcp_in(9001, 1002, FIN | ACK, A).unwrap();
    bed.tcp_out(1002, 9002, ACK, A).unwrap();
    let old = bed.latch().unwrap();
    assert_eq!((old.progress, old.state), (Progress::TimeWait, LatchState::Established));
    assert_eq!(bed.tcp_in(9001, 1002, FIN | ACK, A), Ok(()), "a retransmission still passes");
    assert_eq!(bed.tcp_in(9001, 1002, ACK, B), Err(LatchMismatch));
    assert_eq!(
        bed.tcp_in(100, 0, SYN, B),
        Err(LatchMismatch),
        "RFC 9293 3.6.1: a number of the old connection"
    );
    assert_eq!(bed.events(), [], "there is nothing left to end");
    assert_eq!(bed.tcp_in(20_000, 0, SYN, B), Ok(()));
    assert_eq!(bed.latch().unwrap().class, Some(B));
    let mut bed = Bed::established(A);
    bed.tcp_out(1001, 9001, RST | ACK, A).unwrap();
    assert_eq!(bed.latch().unwrap().state, LatchState::Closed, "R-16");
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Err(LatchBroken));
    assert_eq!(bed.tcp_in(20_000, 0, SYN, B), Ok(()));
}

#[test]
fn rfc_5961_3_2_a_socket_that_survives_a_reset_keeps_its_5_tuple() {
    let mut bed = Bed::established(A);
    bed.tcp_in(9001, 1001, RST, A).unwrap();
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Err(LatchBroken), "a challenge ACK");
    assert_eq!(bed.tcp_in(20_000, 0, SYN, B), Err(LatchBroken));
}

/// T37 g: what the local side sent before it heard of the reset keeps the 5-tuple from others, not from the peer itself.
#[test]
fn t37_g_a_peer_that_reset_a_connection_begins_another_whatever_crossed_the_reset() {
    let mut bed = Bed::established(A);
    let before = bed.latch().unwrap().id;
    bed.tcp_in(9001, 1001, RST, A).unwrap();
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Err(LatchBroken), "it crossed the reset");
    assert_eq!(bed.tcp_in(9002, 1001, ACK, A), Err(LatchBroken));
    assert_eq!(bed.tcp_in(20_000, 0, SYN, A_OTHER_QOP), Err(LatchBroken));
    assert_eq!(bed.tcp_in(20_000, 0, SYN, A), Ok(()));
    let latch = bed.latch().unwrap();
    assert_eq!((latch.class, latch.state), (Some(A), LatchState::Established));
    assert_ne!(latch.id, before);
}

#[test]
fn rfc_5961_3_2_the_challenge_to_a_reset_behind_a_loss_reaches_the_peer() {
    let mut bed = Bed::established(A);
    bed.tcp_in(9501, 1001, FIN | ACK, A).unwrap();
    assert_eq!(bed.tcp_in(9502, 1001, RST, A), Ok(()));
    assert_eq!(bed.latch().unwrap().state, LatchState::Established);
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Ok(A), "the challenge");
    assert_eq!(bed.tcp_in(5000, 0, SYN, B), Err(LatchMismatch), "the 5-tuple is not free");
    let mut bed = Bed::established(A);
    bed.tcp_in(9501, 1001, FIN | ACK, A).unwrap();
    bed.tcp_in(9502, 1001, RST, A).unwrap();
    assert_eq!(bed.tcp_in(9001, 0, RST, A), Ok(()));
    assert_eq!(bed.latch().unwrap().state, LatchState::Closed, "R-16");
}

#[test]
fn t37_i_a_full_table_refuses_new_flows_and_keeps_the_old() {
    let limits = Limits { half_open: 100, half_open_of_peer: 100, ..Limits::for_flows(8) };
    let mut bed = Bed::with(limits);
    for port in 0..8 {
        bed.to(port).udp_in(A).unwrap();
    }
    assert_eq!(bed.to(8).udp_in(A), Err(FlowTableFull));
    assert_eq!(bed.to(8).tcp_out(1000, 0, SYN, A), Err(FlowTableFull));
    assert_eq!(bed.to(0).udp_in(B), Err(LatchMismatch));
    assert_eq!(bed.to(7).udp_in(A), Ok(()));
}

#[test]
fn a_flood_of_syns_leaves_room_for_connections_that_answer() {
    let mut bed = Bed::with(Limits { half_open: 4, half_open_of_peer: 64, ..Limits::for_flows(64) });
    bed.establish(A);
    for port in 100..104 {
        bed.to(port).tcp_in(1, 0, SYN, A).unwrap();
    }
    assert_eq!(bed.to(104).tcp_in(1, 0, SYN, A), Err(FlowTableFull));
    assert_eq!(bed.database.counts().half_open, 4);
    bed.to(100).tcp_out(1, 2, SYN | ACK, A).unwrap();
    bed.to(100).tcp_in(2, 2, ACK, A).unwrap();
    assert_eq!(bed.to(104).tcp_in(1, 0, SYN, A), Ok(()));
    bed.pass(bed.limits().tcp_transitory.as_secs());
    bed.sweep();
    assert_eq!(bed.database.counts().half_open, 0);
}

#[test]
fn l_104_rfc_5382_rfc_4787_idle_flows_are_reclaimed_and_not_before() {
    let mut bed = Bed::established(A);
    bed.to(2).udp_in(A).unwrap();
    bed.to(3).tcp_in(1, 0, SYN, A).unwrap();
    let found = |bed: &mut Bed| [1, 2, 3].map(|port| bed.to(port).any_latch());
    bed.to(1);
    for (seconds, left) in [
        (239, [true, true, true]),
        (1, [true, true, false]),
        (59, [true, true, false]),
        (1, [true, false, false]),
        (7139, [true, false, false]),
        (1, [true, false, false]),
        (59, [true, false, false]),
        (1, [false, false, false]),
    ] {
        bed.pass(seconds);
        bed.sweep();
        assert_eq!(found(&mut bed), left, "after {seconds} more");
    }
    assert_eq!(bed.to(1).tcp_in(9001, 1001, ACK, A), Err(MidStream), "L-40: never taken up again");
}

#[test]
fn c_20_rfc_9293_tombstones_stay_for_twice_the_segment_lifetime() {
    let mut bed = Bed::established(A);
    bed.tcp_out(1001, 9001, RST | ACK, A).unwrap();
    bed.pass(119);
    bed.sweep();
    assert_eq!(bed.latch().unwrap().state, LatchState::Closed);
    bed.pass(1);
    bed.sweep();
    assert_eq!(bed.latch(), None);
}

/// RFC 4301 6.2: an error is judged by what it quotes.
#[test]
fn t37_f_an_icmp_error_counts_only_under_the_latch_of_what_it_quotes() {
    let mut bed = Bed::established(A);
    bed.udp_out(A).unwrap();
    for protocol in [6, 17] {
        assert_eq!(bed.error_in(protocol, B), Err(LatchMismatch));
        assert_eq!(bed.error_in(protocol, A_OTHER_QOP), Err(LatchMismatch));
        assert_eq!(bed.error_in(protocol, A), Ok(()));
    }
    assert!(bed.error_in_pieces(B).is_err() && bed.error_in_pieces(A).is_err(), "nobody sends such");
    assert_eq!(bed.error_unprotected(), Err(LatchUnprotected));
    assert_eq!(bed.latch().unwrap().state, LatchState::Established, "C-19: it harms no latch");
    assert_eq!(bed.events(), []);
    assert_eq!(bed.to(2).error_in(6, A), Err(MidStream), "of a connection that the gateway does not know");
    bed.to(2).tcp_in(5000, 0, SYN, B).unwrap();
    assert_eq!(bed.to(2).error_in(6, B), Err(MidStream), "nor by way of a SYN that nobody answered");
    bed.policy(Some(Protection::UNLATCHED));
    assert_eq!(bed.to(3).error_in(6, B), Ok(()));
}

/// What an error quotes was under a latch, and leaves under no other.
#[test]
fn t37_f_l_25_an_icmp_error_leaves_under_the_latch_of_what_it_quotes() {
    let mut bed = Bed::established(A);
    assert_eq!(bed.error_out(), Ok(Some(A)));
    bed.tcp_in(9001, 1001, ACK, B).unwrap_err();
    assert_eq!(bed.error_out(), Err(LatchBroken));
    assert_eq!(bed.to(2).error_out(), Err(MidStream));
    bed.policy(Some(Protection::UNLATCHED));
    assert_eq!(bed.to(3).error_out(), Ok(None));
}

#[test]
fn r_4_an_unlatched_flow_asks_policy_once_per_snapshot() {
    let mut bed = Bed::new();
    bed.policy(Some(Protection::UNLATCHED));
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Ok(A));
    let (cached, _) = bed.judge_out(1001, 9001, ACK).unwrap();
    assert!(cached.hint.is_some() && !cached.feedback && cached.demand == Demand::Policy);
    assert_eq!(bed.tcp_in(9001, 1001, ACK, B), Ok(()), "a connection may change peers");
    assert_eq!(bed.database.counts().unlatched, 1);
    bed.policy(Some(Protection::LATCHED));
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Err(MidStream), "policy wants a latch now");
    assert_eq!(bed.tcp_out(1001, 9001, ACK, A), Err(MidStream));
    assert_eq!(bed.tcp_in(9001, 0, SYN, A), Ok(()));
    assert_eq!((bed.latch().unwrap().class, bed.database.counts().unlatched), (Some(A), 0));
}

/// An SA's selectors know no order, so that they may admit what an earlier rule discards.
#[test]
fn rfc_4301_5_2_an_authentic_packet_begins_nothing_that_policy_discards() {
    let protect = Action::Protect(Protection::UNLATCHED);
    for (rules, reason) in [(&[Action::Discard, protect][..], PolicyDiscard), (&[], NoPolicy)] {
        let mut bed = Bed::new();
        bed.rules(rules);
        for flags in [SYN, ACK] {
            assert_eq!(bed.tcp_in(9000, 0, flags, A), Err(reason));
        }
        assert_eq!(bed.udp_in(A), Err(reason));
        assert_eq!(bed.database.counts().unlatched, 0);
        bed.rules(&[protect]);
        assert_eq!(bed.udp_in(A), Ok(()));
        bed.rules(rules);
        assert_eq!(bed.udp_in(A), Err(reason), "what was cached under another policy is asked again");
    }
}

#[test]
fn r_4_flows_are_listed_with_a_latch_and_without_with_the_sa_they_leave_by() {
    let mut bed = Bed::established(A);
    bed.policy(Some(Protection::UNLATCHED));
    bed.pass(5);
    bed.udp_out(B).unwrap();
    let mut flows: Vec<_> = bed.database.flows().collect();
    flows.sort_by_key(|view| view.flow.protocol());
    let [tcp, udp] = flows[..] else { panic!("{flows:?}") };
    assert_eq!((tcp.flow, udp.flow), (bed.flow(protocol::TCP), bed.flow(protocol::UDP)));
    assert_eq!((tcp.latch, tcp.class, udp.latch), (Some(LatchState::Established), Some(A), None));
    assert_eq!((tcp.progress, udp.progress), (Progress::Both, Progress::Untracked));
    assert_eq!((tcp.outbound.unwrap().index, udp.outbound), (bed.sa(A).index, Some(bed.sa(B))));
    assert_eq!((tcp.inbound.unwrap().index, udp.inbound), (bed.sa(A).index, None));
    assert_eq!((bed.now().since(tcp.seen).as_secs(), bed.now().since(udp.seen).as_secs()), (5, 0));

    bed.pass(3600);
    bed.sweep();
    assert!(
        bed.database.flows().all(|view| view.flow.protocol() == protocol::TCP),
        "what is gone is not listed"
    );
}

#[test]
fn r_4_unlatched_flows_beyond_their_share_pass_uncached() {
    let mut bed = Bed::with(Limits { unlatched: 2, ..Limits::for_flows(8) });
    bed.policy(Some(Protection::UNLATCHED));
    for port in 0..4 {
        assert_eq!(bed.to(port).tcp_in(1, 1, ACK, A), Ok(()));
    }
    assert_eq!(bed.database.counts().unlatched, 2);
    bed.pass(60);
    bed.sweep();
    assert_eq!(bed.database.counts().unlatched, 0);
}

#[test]
fn rfc_4301_7_fragments_are_enforced_and_only_a_first_datagram_fragment_begins_a_flow() {
    let mut bed = Bed::new();
    assert_eq!(bed.fragment_in(6, true, A), Err(MidStream));
    assert_eq!(bed.fragment_in(17, false, A), Err(MidStream));
    assert_eq!(bed.fragment_in(17, true, A), Ok(()));
    assert_eq!(bed.fragment_in(17, false, A), Ok(()));
    assert_eq!(bed.fragment_in(17, false, B), Err(LatchMismatch));
    bed.establish(A);
    assert_eq!(bed.fragment_in(6, false, A), Ok(()));
    assert_eq!(bed.fragment_in(6, true, A_OTHER_QOP), Err(LatchMismatch));
}
