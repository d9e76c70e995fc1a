//! Which extended sequence number a packet means, from the half it carries (RFC 4303 appendix A2.2).

use crate::number::{EsnHigh, SeqLow, SeqNum};
use crate::replay::WindowSize;

/// The full number a packet that carries `low` must mean, given the highest number received and the window.
///
/// `None` where the high half would lie below 0 or above 2^32 - 1: no sender can have sent that.
// RFC 4303 appendix A2.2, cases A and B; arithmetic on low halves is modulo 2^32.
#[inline]
pub fn infer(top: SeqNum, window: WindowSize, low: SeqLow) -> Option<SeqNum> {
    infer_within(top, window.get() - 1, low)
}

/// The same where a packet may be `reach` below the highest number received.
#[inline]
pub(crate) fn infer_within(top: SeqNum, reach: u32, low: SeqLow) -> Option<SeqNum> {
    let top_low = top.low().0;
    let bottom_low = top_low.wrapping_sub(reach);
    let high = top.high().0;
    let window_within_one_subspace = top_low >= reach;
    let high = match (window_within_one_subspace, low.0 >= bottom_low) {
        (true, true) | (false, false) => high,
        (true, false) => high.checked_add(1)?,
        (false, true) => high.checked_sub(1)?,
    };
    Some(SeqNum::from_halves(EsnHigh(high), low))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const W: u32 = 64;

    fn inferred(top: u64, low: u32) -> Option<u64> {
        infer(SeqNum(top), WindowSize::new(W).unwrap(), SeqLow(low)).map(|seq| seq.0)
    }

    /// RFC 4303 A2.2, case A: the window lies in one subspace.
    #[test]
    fn case_a_at_or_above_the_bottom_stays_in_the_subspace() {
        let top = (5 << 32) | 1000;
        assert_eq!(inferred(top, 1000 - 63), Some((5 << 32) | 937));
        assert_eq!(inferred(top, 1000), Some(top));
        assert_eq!(inferred(top, u32::MAX), Some((5 << 32) | 0xffff_ffff));
    }

    /// RFC 4303 A2.2, case A.
    #[test]
    fn case_a_below_the_bottom_is_the_next_subspace() {
        let top = (5 << 32) | 1000;
        assert_eq!(inferred(top, 936), Some((6 << 32) | 936));
        assert_eq!(inferred(top, 0), Some(6 << 32));
    }

    /// RFC 4303 A2.2, case B: the window spans two subspaces.
    #[test]
    fn case_b_at_or_above_the_bottom_is_the_previous_subspace() {
        let top = (5 << 32) | 10;
        let bottom_low = 10_u32.wrapping_sub(63);
        assert_eq!(inferred(top, bottom_low), Some((4 << 32) | u64::from(bottom_low)));
        assert_eq!(inferred(top, u32::MAX), Some((4 << 32) | 0xffff_ffff));
    }

    /// RFC 4303 A2.2, case B.
    #[test]
    fn case_b_below_the_bottom_stays_in_the_subspace() {
        let top = (5 << 32) | 10;
        let bottom_low = 10_u32.wrapping_sub(63);
        assert_eq!(inferred(top, bottom_low - 1), Some((5 << 32) | u64::from(bottom_low - 1)));
        assert_eq!(inferred(top, 10), Some(top));
        assert_eq!(inferred(top, 0), Some(5 << 32));
    }

    /// RFC 4303 A2.2, case A with Th = 0.
    #[test]
    fn case_a_with_th_0_at_or_above_the_bottom_is_the_first_subspace() {
        assert_eq!(inferred(1000, 937), Some(937));
        assert_eq!(inferred(1000, u32::MAX), Some(0xffff_ffff));
        assert_eq!(inferred(63, 0), Some(0));
    }

    /// RFC 4303 A2.2, case A with Th = 0.
    #[test]
    fn case_a_with_th_0_below_the_bottom_is_the_second_subspace() {
        assert_eq!(inferred(1000, 936), Some((1 << 32) | 936));
        assert_eq!(inferred(0xffff_ffff, 0), Some(1 << 32));
    }

    /// RFC 4303 A2.2, case B with Th = 0: the high half would be -1.
    #[test]
    fn case_b_with_th_0_at_or_above_the_bottom_is_no_number() {
        assert_eq!(inferred(0, 0_u32.wrapping_sub(63)), None);
        assert_eq!(inferred(10, u32::MAX), None);
        assert_eq!(inferred(62, u32::MAX), None);
    }

    /// RFC 4303 A2.2, case B with Th = 0: the start of every SA.
    #[test]
    fn case_b_with_th_0_below_the_bottom_is_the_first_subspace() {
        assert_eq!(inferred(0, 1), Some(1));
        assert_eq!(inferred(0, 0_u32.wrapping_sub(64)), Some(0xffff_ffc0));
        assert_eq!(inferred(62, 62), Some(62));
    }

    /// RFC 4303 A2.2: behind the last subspace there is none.
    #[test]
    fn beyond_the_last_subspace_is_no_number() {
        assert_eq!(inferred(u64::MAX, 5), None);
        assert_eq!(inferred(u64::MAX, u32::MAX), Some(u64::MAX));
    }

    proptest! {
        #![proptest_config(crate::tests::seeded(2000))]

        /// RFC 4303 A2.2: of the 2^32 numbers from the window's bottom on, each is found exactly; those no sender
        /// can have sent are refused.
        #[test]
        fn every_number_within_reach_is_found(
            near in prop_oneof![Just(0_u64), Just(1 << 32), Just(2 << 32), Just(u64::MAX), any::<u64>()],
            off in 0_u64..200_000,
            below: bool,
            window in 32_u32..=65536,
            ahead: u32,
        ) {
            let top = if below { near.saturating_sub(off) } else { near.saturating_add(off) };
            let meant = i128::from(top) - (i128::from(window) - 1) + i128::from(ahead);
            let low = SeqLow(meant.rem_euclid(1 << 32) as u32);
            let expected = u64::try_from(meant).ok().map(SeqNum);
            prop_assert_eq!(infer(SeqNum(top), WindowSize::new(window).unwrap(), low), expected);
        }
    }
}
