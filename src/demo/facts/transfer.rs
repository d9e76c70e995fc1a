//! A TCP transfer of real bytes each way, with checksum and rate. Nobody sniffs meanwhile: see [`wire`](super::wire).

use std::fmt;
use std::net::TcpStream;
use std::time::Instant;

use serde::Serialize;

use crate::demo::connection::{Connection, Transferred, block, transfer};
use crate::demo::failure::Failure;
use crate::demo::sizes::Sizes;
use crate::demo::text;

/// One direction.
#[derive(Debug, Serialize)]
pub struct OneWay {
    octets: u64,
    crc32: u32,
    seconds: f64,
    bits_per_second: f64,
    #[serde(skip)]
    text: String,
}

/// Both directions, one after the other.
#[derive(Debug, Serialize)]
pub struct BothWays {
    to_bob: OneWay,
    to_alice: OneWay,
}

/// Transfers from alice to bob, then back.
pub fn show(connection: &Connection, sizes: Sizes) -> Result<BothWays, Failure> {
    let block = block(b"")?;
    let one_way = |from: &TcpStream, to: &TcpStream| {
        let until = Instant::now() + sizes.transfer_time;
        let enough = |octets| octets >= sizes.transfer || Instant::now() >= until;
        transfer(from, to, &block, enough).map(OneWay::of)
    };
    Ok(BothWays {
        to_bob: one_way(&connection.alice, &connection.bob)?,
        to_alice: one_way(&connection.bob, &connection.alice)?,
    })
}

impl OneWay {
    fn of(Transferred { octets, crc32, took }: Transferred) -> Self {
        Self {
            octets,
            crc32,
            seconds: took.as_secs_f64(),
            bits_per_second: text::bits_per_second(octets, took),
            text: format!("{} at {}, CRC {crc32:08x}", text::size(octets), text::rate(octets, took)),
        }
    }
}

impl fmt::Display for BothWays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "out {}; back {}", self.to_bob.text, self.to_alice.text)
    }
}
