//! Where the IVs of CBC come from.

use super::*;

/// T11, RFC 3602 section 3: IVs do not follow from one another, nor from the number, nor come twice; another SA's are
/// others.
#[test]
fn ivs_are_unpredictable_and_do_not_come_twice() {
    let (one, other) = (IvKey::random().unwrap(), IvKey::random().unwrap());
    let mut seen = std::collections::HashSet::new();
    let (mut previous, mut flipped) = (one.iv(SeqNum(0)), 0);
    for number in 1..=4096 {
        let iv = one.iv(SeqNum(number));
        assert!(seen.insert(iv) && seen.insert(other.iv(SeqNum(number))));
        flipped += iv.iter().zip(previous).map(|(one, other)| (one ^ other).count_ones()).sum::<u32>();
        previous = iv;
    }
    // Of 2^19 bits half change; ten standard deviations to either side.
    assert!((262_144 - 3620..262_144 + 3620).contains(&flipped), "{flipped}");
    assert_eq!(one.iv(SeqNum(7)), one.iv(SeqNum(7)));
    assert_ne!(one.iv(SeqNum(1)), one.iv(SeqNum(1 << 32)));
}
