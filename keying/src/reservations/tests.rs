//! Tests of the store: what it refuses, what it does on a real disk, and what it survives on a simulated one.

use latchway_esp::{KeyMaterial, Spi, Suite};

mod directory;
mod enrolment;
mod kills;
mod simulated;

/// The key number `n` of a suite.
pub(super) fn key(suite: Suite, n: u8) -> KeyMaterial {
    KeyMaterial::new(suite, &vec![n; suite.key_len() + suite.salt_len()]).unwrap()
}

pub(super) fn gcm(n: u8) -> KeyMaterial {
    key(Suite::Aes128Gcm, n)
}

pub(super) fn spi(n: u32) -> Spi {
    Spi::new(n).unwrap()
}
