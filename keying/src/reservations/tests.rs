//! Tests of the store: what it refuses, what it does on a real disk, and what it survives on a simulated one.

use latchway_esp::{SequenceKind, Suite};

use crate::SaKeys;

mod directory;
mod enrolment;
mod kills;
mod simulated;

/// One direction under the key number `n` of a suite.
pub(super) fn of(suite: Suite, spi: u32, n: u8) -> SaKeys {
    let octets = vec![n; suite.key_len() + suite.salt_len()];
    SaKeys::from_octets(spi, suite, &octets, SequenceKind::Extended).unwrap()
}

pub(super) fn gcm(spi: u32, n: u8) -> SaKeys {
    of(Suite::AES_128_GCM, spi, n)
}
