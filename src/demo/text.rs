//! Figures as people read them.

use std::time::Duration;

/// Octets per second as bits per second.
pub fn rate(octets: u64, within: Duration) -> String {
    let bits = bits_per_second(octets, within);
    if bits >= 1e9 { format!("{:.2} Gbit/s", bits / 1e9) } else { format!("{:.0} Mbit/s", bits / 1e6) }
}

/// Bits per second.
#[expect(clippy::cast_precision_loss, reason = "a figure for people; 52 bits of octets are petabytes")]
pub fn bits_per_second(octets: u64, within: Duration) -> f64 {
    octets as f64 * 8.0 / within.as_secs_f64().max(1e-9)
}

/// Octets in the largest unit that leaves a whole number of digits.
pub fn size(octets: u64) -> String {
    if octets >= 10_000_000 { format!("{} MB", octets / 1_000_000) } else { format!("{} kB", octets / 1000) }
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// SPIs in hexadecimal, as ESP dissectors print them.
pub fn spis(spis: &[u32]) -> String {
    spis.iter().map(|spi| format!("0x{spi:08x}")).collect::<Vec<_>>().join(" ")
}
