//! How much is moved.

use std::time::Duration;

/// Amounts of data and packets.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Octets of a transfer whose rate is measured, each way.
    pub transfer: u64,
    /// When such a transfer ends though not all was sent.
    pub transfer_time: Duration,
    /// Octets of a transfer of which the sniffers see every frame, each way.
    pub sniffed: u64,
    /// Octets that each new SA must carry before a rekey counts as survived.
    pub after_rekey: u64,
    /// Datagrams that the SA may carry before it expires.
    pub before_expiry: u64,
    /// Datagrams that enter the TUN after it expired.
    pub after_expiry: u64,
    /// Echo requests per ping.
    pub pings: u16,
}

impl Sizes {
    /// For a demo, or for a test.
    pub const fn new(quick: bool) -> Self {
        if quick { Self::QUICK } else { Self::FULL }
    }

    const FULL: Self = Self {
        transfer: 200_000_000,
        transfer_time: Duration::from_millis(2000),
        sniffed: 16 << 20,
        after_rekey: 16_000_000,
        before_expiry: 32,
        after_expiry: 250,
        pings: 10,
    };

    const QUICK: Self = Self {
        transfer: 10_000_000,
        transfer_time: Duration::from_millis(1000),
        sniffed: 1 << 20,
        after_rekey: 300_000,
        before_expiry: 8,
        after_expiry: 120,
        pings: 3,
    };
}
