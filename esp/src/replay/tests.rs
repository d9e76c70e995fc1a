//! The window against RFC 4303 appendix A2.1, by hand and against a set of numbers.

use proptest::prelude::*;

use super::*;
use crate::fuzz::Oracle;

fn size(packets: u32) -> WindowSize {
    WindowSize::new(packets).unwrap()
}

fn commit(window: &mut ReplayWindow, seq: u64) -> Result<(), ReplayError> {
    window.commit(Verified::new(SeqNum(seq)))
}

/// Sizes at, beside and between word boundaries and powers of two.
const SIZES: [u32; 14] = [32, 33, 63, 64, 65, 100, 127, 128, 129, 1000, 4095, 4096, 4097, 65536];

/// T07, RFC 4303 section 3.4.3: 32 at least; 0 is no size, `AntiReplay::Off` says what it would mean.
#[test]
fn sizes_outside_32_to_65536_are_refused() {
    for packets in [0, 1, 31, 65537, 1 << 20, u32::MAX] {
        assert_eq!(WindowSize::new(packets), Err(ConfigError::WindowSize(packets)));
    }
    for packets in SIZES {
        assert_eq!(WindowSize::new(packets).map(WindowSize::get), Ok(packets));
        assert_eq!(ReplayWindow::new(size(packets)).size().get(), packets);
    }
    assert_eq!(WindowSize::default().get(), 4096);
}

/// RFC 4303 section 2.2.
#[test]
fn number_0_is_refused_before_and_after_the_first_packet() {
    let mut window = ReplayWindow::new(WindowSize::MIN);
    assert_eq!(window.check(SeqNum(0)), Err(ReplayError::Zero));
    assert_eq!(commit(&mut window, 0), Err(ReplayError::Zero));
    assert_eq!(commit(&mut window, 1), Ok(()));
    assert_eq!(window.check(SeqNum(0)), Err(ReplayError::Zero));
}

/// T08, RFC 4303 A2.1: B = T - W + 1 is the last number inside, T - W the first outside, for every size and wherever
/// in a word the top lies.
#[test]
fn the_window_spans_exactly_w_numbers() {
    for packets in SIZES {
        let w = u64::from(packets);
        for top in (w + 1..w + 130).chain([(1 << 32) - 1, 1 << 32, (1 << 32) + 77, u64::MAX]) {
            let mut window = ReplayWindow::new(size(packets));
            commit(&mut window, top).unwrap();
            assert_eq!(window.check(SeqNum(top - w)), Err(ReplayError::TooOld), "W {w} T {top}");
            assert_eq!(commit(&mut window, top - w), Err(ReplayError::TooOld), "W {w} T {top}");
            assert_eq!(commit(&mut window, top - w + 1), Ok(()), "W {w} T {top}");
            assert_eq!(commit(&mut window, top - w + 1), Err(ReplayError::Replayed), "W {w} T {top}");
            assert_eq!(commit(&mut window, top), Err(ReplayError::Replayed), "W {w} T {top}");
            assert_eq!(window.top(), SeqNum(top));
        }
    }
}

/// RFC 4303 A2.1: while T < W the window begins below 1, and every number is inside.
#[test]
fn a_young_window_refuses_nothing_new() {
    for packets in SIZES {
        let mut window = ReplayWindow::new(size(packets));
        for seq in (1..=u64::from(packets)).rev() {
            assert_eq!(commit(&mut window, seq), Ok(()), "W {packets}");
        }
        for seq in 1..=u64::from(packets) {
            assert_eq!(commit(&mut window, seq), Err(ReplayError::Replayed), "W {packets}");
        }
    }
}

/// T08: long runs in the orders that shifting windows get wrong.
#[test]
fn runs_in_every_order_are_accepted_once() {
    for packets in SIZES {
        let w = u64::from(packets);
        let base = 3 * w + 17;
        let ascending: Vec<u64> = (base..base + 3 * w).collect();
        let evens_then_odds = (base..base + w).step_by(2).chain((base + 1..base + w).step_by(2)).collect();
        let descending = (base..base + w).rev().collect();
        let inside_out = (0..w / 2).flat_map(|off| [base + w / 2 + off, base + w / 2 - off - 1]).collect();
        for run in [ascending, evens_then_odds, descending, inside_out] {
            let mut window = ReplayWindow::new(size(packets));
            for &seq in &run {
                assert_eq!(commit(&mut window, seq), Ok(()), "W {w} {seq}");
                assert_eq!(window.check(SeqNum(seq)), Err(ReplayError::Replayed), "W {w} {seq}");
            }
            for &seq in &run {
                assert!(window.check(SeqNum(seq)).is_err(), "W {w} {seq}");
            }
        }
    }
}

/// T08: a jump clears what it passes, all of it, and no more. The jumps are those at which rings and shifts break.
#[test]
fn a_jump_forgets_what_it_leaves_and_keeps_what_it_does_not() {
    for packets in SIZES {
        let w = u64::from(packets);
        let words = 2 * w / 64 + 2;
        let jumps =
            (1..=words).step_by(1 + words as usize / 40).flat_map(|k| [k * 64 - 1, k * 64, k * 64 + 1]);
        let far = [w - 1, w, w + 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, 1 << 63];
        for jump in jumps.chain(far) {
            let start = 2 * w + 5;
            let mut window = ReplayWindow::new(size(packets));
            let mut oracle = Oracle::resume_after(size(packets), SeqNum(0));
            for seq in (start - w..=start).step_by(3 + packets as usize / 200).chain([start]) {
                oracle.compare(&mut window, SeqNum(seq), true);
            }
            oracle.compare(&mut window, SeqNum(start + jump), true);
            let near = [0, 1, 2, 62, 63, 64, 65, 66, w / 2, w - 2, w - 1, w, w + 1];
            for below in near.into_iter().chain((0..w).step_by(61 + packets as usize / 70)) {
                oracle.compare(&mut window, SeqNum((start + jump).saturating_sub(below)), false);
                oracle.compare(&mut window, SeqNum((start + jump).saturating_sub(below)), true);
            }
        }
    }
}

/// The end of all numbers is no special case.
#[test]
fn the_last_number_is_taken_once() {
    for packets in SIZES {
        let mut window = ReplayWindow::resume_after(size(packets), SeqNum(u64::MAX - 5));
        for seq in [u64::MAX, u64::MAX - 1, u64::MAX - 4] {
            assert_eq!(commit(&mut window, seq), Ok(()));
            assert_eq!(commit(&mut window, seq), Err(ReplayError::Replayed));
        }
        assert_eq!(commit(&mut window, u64::MAX - 5), Err(ReplayError::Replayed));
    }
}

/// What a packet does to the number it carries, told as a distance from the top.
#[derive(Clone, Debug)]
enum Operation {
    Ahead(u64),
    Behind(u64),
    Again(prop::sample::Index),
    Anywhere(u64),
}

fn distance() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 1_u64..=3,
        4 => 0_u64..300,
        2 => (0_u64..1100, 0_u64..3).prop_map(|(k, off)| (k * 64 + off).saturating_sub(1)),
        1 => (0_u64..5).prop_map(|off| (1 << 31) - 2 + off),
        1 => (0_u64..5).prop_map(|off| (1 << 32) - 2 + off),
    ]
}

fn operation() -> impl Strategy<Value = (Operation, bool)> {
    let kind = prop_oneof![
        5 => distance().prop_map(Operation::Ahead),
        5 => distance().prop_map(Operation::Behind),
        3 => any::<prop::sample::Index>().prop_map(Operation::Again),
        1 => prop_oneof![0_u64..2000, any::<u64>()].prop_map(Operation::Anywhere),
    ];
    // One in five is forged: looked at, never committed.
    (kind, prop::bool::weighted(0.8))
}

proptest! {
    #![proptest_config(crate::tests::seeded(1000))]

    /// T08, T10: any order, duplicates, jumps of k * 64 ± 1, 2^31 and 2^32, forgeries between.
    #[test]
    fn the_window_is_the_set_of_numbers_of_a2_1(
        packets in prop_oneof![prop::sample::select(&SIZES[..]), 32_u32..=5000],
        start in prop_oneof![Just(0), 0_u64..200, Just((1 << 32) - 50), Just(u64::MAX - (1 << 33)), any::<u64>()],
        operations in prop::collection::vec(operation(), 1..200),
    ) {
        let mut window = ReplayWindow::resume_after(size(packets), SeqNum(start));
        let mut oracle = Oracle::resume_after(size(packets), SeqNum(start));
        let mut sent = vec![start];
        for (operation, verified) in operations {
            let top = window.top().0;
            let seq = match operation {
                Operation::Ahead(distance) => top.saturating_add(distance),
                Operation::Behind(distance) => top.saturating_sub(distance),
                Operation::Again(index) => *index.get(&sent),
                Operation::Anywhere(seq) => seq,
            };
            sent.push(seq);
            oracle.compare(&mut window, SeqNum(seq), verified);
        }
    }

    /// T08: packets in a random order within the window: every number accepted once, in whatever order.
    #[test]
    fn a_shuffled_run_is_accepted_whole(
        run in Just((1_u64..=500).collect::<Vec<_>>()).prop_shuffle(),
        start in 1_u64 << 32..1 << 40,
    ) {
        let mut window = ReplayWindow::resume_after(size(512), SeqNum(start));
        for off in &run {
            prop_assert_eq!(commit(&mut window, start + off), Ok(()));
        }
        for off in &run {
            prop_assert_eq!(commit(&mut window, start + off), Err(ReplayError::Replayed));
        }
    }
}
