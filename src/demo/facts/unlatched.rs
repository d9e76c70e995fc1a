//! What latching is worth: with a policy that does not latch, mallory's bytes do reach alice's application.

use std::fmt;
use std::io::Read;

use serde::Serialize;

use super::forgery;
use crate::demo::cast::Cast;
use crate::demo::connection::Connection;
use crate::demo::counters::{Counters, Moved};
use crate::demo::failure::{Failure, expect, refused};
use crate::demo::network::Family;

/// What got in.
#[derive(Debug, Serialize)]
pub struct TakenOver {
    authentic_packets: u64,
    octets_to_application: u64,
    read: String,
    alice_drops: Moved,
    latched: bool,
}

/// Commits a policy without latching at alice, lets mallory try, and restores the policy.
pub fn show(cast: &Cast, spi: u32) -> Result<TakenOver, Failure> {
    cast.latch_at_alice(false)?;
    let taken = try_it(cast, spi);
    cast.latch_at_alice(true)?;
    cast.settle()?;
    taken
}

fn try_it(cast: &Cast, spi: u32) -> Result<TakenOver, Failure> {
    let connection = Connection::open(cast, Family::V4)?;
    let numbers = forgery::learn(cast, &connection)?;
    cast.settle()?;
    let latch = connection.latch(&cast.alice)?;
    expect(latch.is_none(), "no latch under a policy without latching", || format!("{latch:?}"))?;
    let before = Counters::of(&cast.alice)?;
    let authentic_before = Cast::sa(&cast.alice, spi)?.packets;
    forgery::send_as_mallory(cast, &forgery::data(&connection, numbers, FORGED)?)?;
    let mut octets = vec![0; 2 * FORGED.len()];
    let length = (&connection.alice).read(&mut octets).map_err(refused("reading at alice, unlatched"))?;
    octets.truncate(length);
    let read = String::from_utf8_lossy(&octets).into_owned();
    expect(octets == FORGED, "the forged octets at the application", || read.clone())?;
    let taken = TakenOver {
        authentic_packets: Cast::sa(&cast.alice, spi)?.packets - authentic_before,
        octets_to_application: length as u64,
        read,
        alice_drops: Counters::of(&cast.alice)?.since(&before),
        latched: latch.is_some(),
    };
    connection.abort()?;
    let nothing = taken.alice_drops.is_nothing();
    expect(nothing, "no drop counter to move at alice", || taken.alice_drops.text())?;
    Ok(taken)
}

impl fmt::Display for TakenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { authentic_packets, octets_to_application, read, alice_drops, .. } = self;
        write!(f, "latching off: {authentic_packets} authentic packet, ")?;
        write!(f, "{octets_to_application} octets to the application ({read:?}), {}", alice_drops.text())
    }
}

/// The same octets as in the takeover of a latched connection.
pub const FORGED: &[u8] = b"mallory was here";
