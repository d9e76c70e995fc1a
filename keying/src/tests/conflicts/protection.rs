//! The same peer under other protection, or the same (R-2, R-3, L-6 to L-10, T37 d).

use latchway_datapath::sad::Tfc;
use latchway_esp::{Align, AntiReplay, SequenceKind, WindowSize};
use latchway_tagging::Mode;

use super::*;
use crate::HeaderKeys;
use crate::testing::native_path;

/// T37 e: the same peer with the same parameters is no conflict, and neither is the end of an SA.
#[test]
fn r_2_r_3_t37_e_a_rekey_breaks_nothing_and_an_end_without_successor_neither() {
    let mut keying = keying();
    let (old, bob) = joined(&mut keying, "bob", 0x1000);
    let id = latch(&keying, 5, bob, STRICT);
    let before = keying.database().inquire(id);
    let new = keying.rekey(old, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
    assert_eq!(settle(&mut keying), []);
    keying.commit(Transaction::replace(old, new), at(0)).unwrap();
    keying.commit(Transaction::new(vec![Op::Remove(old), Op::Remove(new)]), at(0)).unwrap();
    assert_eq!(settle(&mut keying), []);
    assert_eq!(keying.database().inquire(id), before);
    // L-57, R-3: the latch waits for its class, and another's SA is still a conflict.
    joined(&mut keying, "bob", 0x1002);
    assert_eq!(keying.database().inquire(id), before);
}

/// T37 d: weaker protection by the same peer breaks, too; nothing migrates (L-37).
#[test]
fn t37_d_other_protection_of_the_same_peer_breaks_a_strict_latch_and_changes_it_in_nothing() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let (strict, tagged) =
        (latch(&keying, 5, bob, STRICT), latch(&keying, 6, bob, LatchTerms { model: Model::Tag, ..STRICT }));
    let weaker = Proposal { suites: Suites::both(Suite::AES_128_CBC_HMAC_SHA_256), ..proposal("bob") };
    let offer = keying.propose(weaker, at(0)).unwrap();
    let other = offer.class;
    keying.install(offer.ticket, keys(0x1001, Suite::AES_128_CBC_HMAC_SHA_256), at(0)).unwrap();
    assert_eq!(settle(&mut keying), [broken(strict, 5, bob, BreakReason::Conflict, Some(other))]);
    assert_eq!(state(&keying, tagged), IN_FORCE, "the tag tells their packets apart");
    assert_eq!(keying.database().inquire(strict).unwrap().class, Some(bob));
    // L-71: under both, no strict latch is born any more.
    assert!(
        keying.snapshot().bars(&flow(7), bob, Model::Strict)
            && keying.snapshot().bars(&flow(7), other, Model::Strict)
    );
    assert!(!keying.snapshot().bars(&flow(7), bob, Model::Tag));
}

/// What one end of a pair with bob may be: all that a class says, but who.
#[derive(Clone, Copy, Debug)]
struct Kind {
    suite: &'static str,
    /// Whether AH goes around it.
    around: bool,
    mode: Mode,
    replay_checked: bool,
}

const USUAL: Kind = Kind { suite: "aes-256-gcm", around: false, mode: Mode::Tunnel, replay_checked: true };

/// A pair between one host of ours and one of bob's, which are the outer ends, too: so it can be of every kind.
fn between_hosts(last: u8, spi: u32, kind: Kind) -> NewPair {
    let suite = kind.suite.parse().unwrap();
    let around = kind.around.then_some(Suite::AH_HMAC_SHA_256);
    let header = around.map(|suite| {
        let Keys { inbound, outbound, .. } = keys(spi, suite);
        HeaderKeys { inbound, outbound }
    });
    let ends = [[10, 0, 0, last], [10, 1, 0, 1]].map(|end| AddressRange::single(end.into()));
    let window = AntiReplay::Window(WindowSize::MIN);
    NewPair {
        proposal: Proposal {
            selectors: vec![Selector::between(ends[0], ends[1])],
            mode: kind.mode,
            suites: Suites::both(suite),
            header: around.map(Suites::both),
            replay_checked: kind.replay_checked,
            ..proposal("bob")
        },
        keys: Keys {
            header,
            anti_replay: if kind.replay_checked { window } else { AntiReplay::Off },
            path: native_path([10, 0, 0, last], [10, 1, 0, 1]),
            ..keys(spi, suite)
        },
    }
}

fn reload(keying: &mut Keying, change: Change) -> Vec<Event> {
    keying.begin_change(change, at(0)).unwrap();
    settle(keying)
}

/// L-6 to L-10, L-74, L-109: a reload that makes a pair of less protection, by whatever part of it, or of more, breaks what was
/// latched to the other and is covered; what had just that already goes on.
#[test]
fn l_6_to_l_10_a_reload_to_other_protection_breaks_what_had_more_and_keeps_what_had_no_more() {
    let others = [
        Kind { around: true, ..USUAL },
        Kind { mode: Mode::Transport, ..USUAL },
        Kind { replay_checked: false, ..USUAL },
        Kind { suite: "aes-128-gcm", ..USUAL },
        Kind { suite: "aes-256-gcm-8", ..USUAL },
        Kind { suite: "aes-256-cbc-hmac-sha-256", ..USUAL },
        Kind { suite: "aes-256-gmac", ..USUAL },
        Kind { suite: "null-hmac-sha-256", ..USUAL },
        Kind { suite: "ah-hmac-sha-256", ..USUAL },
    ];
    let both_ways = others.into_iter().flat_map(|kind| [(USUAL, kind), (kind, USUAL)]);
    for (before, after) in both_ways {
        let mut keying = keying();
        let add = vec![between_hosts(1, 0x1000, before), between_hosts(2, 0x1001, after)];
        assert_eq!(reload(&mut keying, Change { add, ..Change::default() }), []);
        let pairs = keying.pairs();
        let beside = FlowKey::new(protocol::TCP, ([10, 0, 0, 2], 5).into(), ([10, 1, 0, 1], 80).into());
        let sad = keying.snapshot().sad.clone();
        let broken_one = born(&keying, sad.clone(), &flow(5), (pairs[0].class, STRICT));
        let kept = born(&keying, sad, &beside, (pairs[1].class, STRICT));
        let change = || Change {
            add: vec![between_hosts(1, 0x1002, after)],
            remove: vec![pairs[0].id],
            ..Change::default()
        };
        let outline = keying.check_change(&change()).unwrap();
        assert_eq!((outline.breaks, outline.breaking), (1, vec![flow(5)]), "{before:?} {after:?}");
        let expected = broken(broken_one, 5, pairs[0].class, BreakReason::Conflict, Some(pairs[1].class));
        assert_eq!(reload(&mut keying, change()), [expected], "{before:?} {after:?}");
        assert_eq!(state(&keying, kept), IN_FORCE);
        assert_eq!(keying.pairs().last().unwrap().class, pairs[1].class);
        assert_eq!(keying.database().inquire(broken_one).unwrap().class, Some(pairs[0].class), "L-37");
    }
}

/// C-17: what no class says breaks nothing, though it takes new keys.
#[test]
fn c_17_a_reload_to_another_window_numbers_or_form_breaks_nothing() {
    type Edit = fn(&mut Keys);
    let edits: [Edit; 5] = [
        |keys| keys.anti_replay = AntiReplay::Window(WindowSize::default()),
        |keys| keys.align = Align::Eight,
        |keys| keys.path.mtu = 1280,
        |keys| keys.shape.tfc = Tfc::Multiple(128),
        |keys| {
            keys.inbound.sequence = SequenceKind::Seq32;
            keys.outbound.sequence = SequenceKind::Seq32;
        },
    ];
    for (place, edit) in edits.into_iter().enumerate() {
        let mut keying = keying();
        let add = vec![between_hosts(1, 0x1000, USUAL)];
        reload(&mut keying, Change { add, ..Change::default() });
        let pair = keying.pairs().remove(0);
        let id = born(&keying, keying.snapshot().sad.clone(), &flow(5), (pair.class, STRICT));
        let mut new = between_hosts(1, 0x1002, USUAL);
        edit(&mut new.keys);
        let change = Change { add: vec![new], remove: vec![pair.id], ..Change::default() };
        assert_eq!(keying.check_change(&change).unwrap().breaks, 0, "{place}");
        assert_eq!((reload(&mut keying, change), state(&keying, id)), (vec![], IN_FORCE), "{place}");
    }
}
