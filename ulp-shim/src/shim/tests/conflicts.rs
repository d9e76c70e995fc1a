//! What other peers, SAs and policies do to a latch, by its terms (latching-04 sections 2.1 and 2.4).

use latchway_datapath::drop::DropReason::{FlowTableFull, LatchBarred, LatchBroken, LatchMismatch};
use latchway_datapath::event::Event;
use latchway_datapath::flow::protocol;
use latchway_datapath::latching::{LatchTerms, Model, Offender, OnConflict, Unlatchable};
use latchway_datapath::packet::flags::{ACK, SYN};
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::spd::{Action, Protection};

use super::bed::{A, A_OTHER_QOP, B, Bed, LESSER};
use crate::{BreakReason, LatchState, Limits};

fn with(on_conflict: OnConflict) -> Bed {
    let mut bed = Bed::new();
    bed.terms(LatchTerms { on_conflict, ..LatchTerms::default() });
    bed.establish(A);
    bed
}

#[test]
fn l_70_a_peer_of_lesser_standing_never_breaks_a_latch() {
    let mut bed = Bed::established(A);
    for flags in [SYN, ACK] {
        assert_eq!(bed.tcp_in(9001, 1001, flags, LESSER), Err(LatchMismatch));
    }
    assert_eq!((bed.latch().unwrap().state, bed.events()), (LatchState::Established, vec![]));
    let mut bed = Bed::established(LESSER);
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Err(LatchMismatch));
    assert_eq!(bed.latch().unwrap().state, LatchState::Broken, "one of greater standing does");
}

#[test]
fn l_108_l_109_l_110_the_terms_say_whether_the_connection_or_the_newcomer_ends() {
    for (on_conflict, state) in [
        (OnConflict::Terminate, LatchState::Broken),
        (OnConflict::DropNewcomer, LatchState::Established),
        (OnConflict::RejectNewcomer, LatchState::Established),
        (OnConflict::Wait, LatchState::Broken),
    ] {
        let mut bed = with(on_conflict);
        assert_eq!(bed.tcp_in(9001, 1001, ACK, B), Err(LatchMismatch), "{on_conflict:?}: always");
        assert_eq!(bed.latch().unwrap().state, state, "{on_conflict:?}");
        assert_eq!(bed.events().len(), usize::from(state == LatchState::Broken));
        let goes_on = bed.tcp_in(9001, 1001, ACK, A);
        assert_eq!(goes_on.is_ok(), state == LatchState::Established, "{on_conflict:?}");
    }
}

#[test]
fn r_9_r_12_a_latch_that_waits_is_broken_until_the_conflict_is_gone() {
    let mut bed = with(OnConflict::Wait);
    bed.tcp_in(9001, 1001, ACK, B).unwrap_err();
    let view = bed.latch().unwrap();
    let sa = Some(bed.sa(B));
    assert_eq!((view.reason, view.offender), (Some(BreakReason::OtherPeer), Some(Offender { class: B, sa })));
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Err(LatchBroken));
    assert!(bed.database.restore(view.id, bed.now()));
    assert_eq!(bed.latch().unwrap().offender, None);
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Ok(()));
    bed.tcp_in(9001, 1001, ACK, B).unwrap_err();
    assert_eq!(bed.events().len(), 2, "each break is told");
}

#[test]
fn l_74_r_11_the_key_manager_breaks_a_latch_for_a_reason_and_says_whom_it_met() {
    let mut bed = Bed::established(A);
    let id = bed.latch().unwrap().id;
    for reason in [BreakReason::Conflict, BreakReason::Policy] {
        assert!(bed.database.suspend(id, reason, Some(B), bed.now()));
        assert!(!bed.database.suspend(id, reason, Some(B), bed.now()), "it is broken");
        let view = bed.latch().unwrap();
        assert_eq!((view.reason, view.offender), (Some(reason), Some(Offender { class: B, sa: None })));
        assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Err(LatchBroken));
        assert!(bed.database.restore(id, bed.now()));
    }
    for reason in [BreakReason::PeerGone, BreakReason::Withdrawn, BreakReason::IdentityLost] {
        let bed = Bed::established(A);
        let id = bed.latch().unwrap().id;
        bed.database.suspend(id, reason, None, bed.now());
        assert!(!bed.database.restore(id, bed.now()), "{reason:?} does not pass");
    }
    bed.sweep();
    assert_eq!(bed.events(), [], "the telling is the key manager's");
}

#[test]
fn l_71_d_3_no_latch_is_born_that_the_policy_about_to_be_would_break() {
    for pending in [Action::Bypass, Action::Discard] {
        let mut bed = Bed::new();
        bed.pending(Some(pending));
        assert_eq!(bed.tcp_in(9000, 0, SYN, A), Err(LatchBarred));
        assert_eq!(bed.tcp_out(1000, 0, SYN, A), Err(LatchBarred));
        assert_eq!(bed.udp_in(A), Err(LatchBarred));
        assert_eq!((bed.database.dump().count(), bed.database.is_latched(A)), (0, false));
        bed.pending(Some(Action::Protect(Protection::UNLATCHED)));
        assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()), "this one would not");
    }
}

#[test]
fn l_81_l_83_what_cannot_be_latched_passes_where_the_terms_say_so_and_is_told_from_a_latch() {
    let mut bed = Bed::new();
    bed.terms(LatchTerms { unlatchable: Unlatchable::Pass, ..LatchTerms::default() });
    bed.pending(Some(Action::Discard));
    assert_eq!(bed.tcp_in(9000, 0, SYN, A), Ok(()));
    assert_eq!(bed.latch(), None);
    bed.pending(None);
    assert_eq!(bed.tcp_out(1000, 9001, SYN | ACK, B), Ok(B), "it goes on as it began");
    assert_eq!(bed.tcp_in(9001, 1001, ACK, A), Ok(()));
    assert_eq!(bed.database.counts().unlatched, 1);
    bed.terms(LatchTerms::default());
    assert!(bed.tcp_in(9001, 1001, ACK, A).is_err(), "policy no longer lets it");
}

#[test]
fn l_83_t41_too_many_half_open_ones_pass_unlatched_where_the_terms_say_so() {
    let limits = Limits { half_open: 1, half_open_of_peer: 9, ..Limits::for_flows(64) };
    let mut bed = Bed::with(limits);
    bed.terms(LatchTerms { unlatchable: Unlatchable::Pass, ..LatchTerms::default() });
    bed.to(2).tcp_in(9000, 0, SYN, A).unwrap();
    assert_eq!(bed.to(3).tcp_in(9000, 0, SYN, A), Ok(()));
    assert_eq!(bed.latch(), None);
    assert_eq!(bed.tcp_in(9001, 7, ACK, A), Ok(()));
}

#[test]
fn d_2_l_72_conflicting_latches_are_found_and_none_is_known_at_once() {
    let mut bed = Bed::established(A);
    let any = [Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4)];
    let elsewhere = [Selector::between(AddressRange::ANY_V6, AddressRange::ANY_V6)];
    let database = |bed: &Bed| std::sync::Arc::clone(&bed.database);
    let found = |bed: &Bed, class| database(bed).conflicting(&any, class).len();
    assert_eq!((found(&bed, A), found(&bed, A_OTHER_QOP), found(&bed, B)), (0, 1, 1));
    assert_eq!(bed.database.conflicting(&elsewhere, B).len(), 0, "selectors do not cover it");
    assert!(!bed.database.strict_others(A) && bed.database.strict_others(B));
    let id = bed.latch().unwrap().id;
    bed.database.suspend(id, BreakReason::Conflict, Some(B), bed.now());
    assert!(!bed.database.strict_others(B), "it is not in force");
    assert!(bed.database.is_latched(A));
    bed.database.restore(id, bed.now());
    assert!(bed.database.strict_others(B));
    bed.terms(LatchTerms { model: Model::Tag, ..LatchTerms::default() });
    bed.to(2).establish(B);
    assert!(!bed.database.strict_others(A), "the model of tags conflicts with no SA");
    assert_eq!(found(&bed, B), 1);
    bed.pass(30_000);
    bed.sweep();
    bed.pass(60);
    bed.sweep();
    assert!(!bed.database.strict_others(B) && !bed.database.is_latched(A) && !bed.database.is_latched(B));
}

#[test]
fn r_6_l_120_the_latches_of_a_peer_and_of_selectors_are_found() {
    let mut bed = Bed::established(A);
    bed.to(2).udp_in(A_OTHER_QOP).unwrap();
    bed.to(3).udp_in(B).unwrap();
    bed.listen([10, 0, 0, 1], None, LatchTerms::default()).unwrap();
    let mut covered = Vec::new();
    let udp = Selector {
        protocol: Some(protocol::UDP),
        ..Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4)
    };
    bed.database.covered(&[udp], |view| covered.extend(view.class));
    covered.sort();
    assert_eq!(covered, [A_OTHER_QOP, B]);
    let mut of_peer: Vec<_> = bed.database.of_peer(bed.peer).filter_map(|view| view.class).collect();
    of_peer.sort();
    assert_eq!(of_peer, [A, A_OTHER_QOP]);
}

/// T41: a peer's flood costs it its own connections, the oldest first, and leaves room for those of others.
#[test]
fn d_7_t41_a_peer_at_its_cap_loses_its_own_oldest_half_open_connection() {
    let limits = Limits { half_open: 100, half_open_of_peer: 3, ..Limits::for_flows(16) };
    let mut bed = Bed::with(limits);
    bed.establish(A);
    for port in 10..13 {
        bed.pass(1);
        bed.to(port).tcp_in(9000, 0, SYN, A).unwrap();
    }
    bed.to(20).tcp_in(9000, 0, SYN, B).unwrap();
    bed.pass(1);
    assert_eq!(bed.to(13).tcp_in(9000, 0, SYN, A_OTHER_QOP), Ok(()), "of the same peer");
    let found = |bed: &mut Bed| [10, 11, 12, 13, 20].map(|port| bed.to(port).latch().is_some());
    assert_eq!(found(&mut bed), [false, true, true, true, true]);
    assert_eq!(bed.database.counts().half_open, 4);
    assert_eq!(bed.database.peers().half_open(A), 3);
    bed.to(11).tcp_out(7000, 9001, SYN | ACK, A).unwrap();
    bed.to(11).tcp_in(9001, 7001, ACK, A).unwrap();
    assert_eq!(bed.database.peers().half_open(A), 2, "one was answered");
    assert!(bed.to(1).latch().is_some());
}

#[test]
fn t41_where_all_may_be_half_open_no_more_others_are_refused() {
    let limits = Limits { half_open: 2, half_open_of_peer: 2, ..Limits::for_flows(64) };
    let mut bed = Bed::with(limits);
    for port in [2, 3] {
        bed.to(port).tcp_in(9000, 0, SYN, A).unwrap();
    }
    assert_eq!(bed.to(4).tcp_in(9000, 0, SYN, B), Err(FlowTableFull), "nobody's but its own is taken");
    assert_eq!(bed.to(4).tcp_in(9000, 0, SYN, A), Ok(()));
    assert_eq!((bed.database.counts().half_open, bed.database.is_latched(B)), (2, false));
}

/// L-68: who watches sees what becomes of each latch.
#[test]
fn l_68_changes_are_told_while_somebody_watches() {
    let mut bed = Bed::established(A);
    assert_eq!(bed.events(), []);
    bed.database.watch(true);
    bed.to(2).unserved_out(1000, 0, SYN).unwrap();
    bed.tcp_out(1000, 0, SYN, A).unwrap();
    bed.tcp_in(0, 1001, latchway_datapath::packet::flags::RST | ACK, A).unwrap();
    bed.pass(30_000);
    bed.sweep();
    bed.pass(60);
    bed.sweep();
    let states: Vec<_> = bed
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::LatchChanged { state, reason, .. } => Some((*state, *reason)),
            _ => None,
        })
        .collect();
    let ended = Some(BreakReason::ConnectionEnded);
    assert_eq!(
        states,
        [
            (LatchState::Larval, None),
            (LatchState::Established, None),
            (LatchState::Closed, ended),
            (LatchState::Closed, Some(BreakReason::TimedOut)),
        ]
    );
}
