//! Tests of the crate as a whole, and what they share.

use proptest::test_runner::{Config, RngSeed};

/// Property tests run the same cases every time.
pub(crate) fn seeded(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(4303), failure_persistence: None, ..Config::default() }
}
