//! The gateway's clock: monotonic, and 0 when it started.

use std::time::Instant;

use latchway_datapath::time::Time;

/// The time now, of a gateway that started then.
pub fn since(started: Instant) -> Time {
    Time::from_nanos(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX))
}
