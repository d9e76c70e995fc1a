//! The wire: a known pattern in a transfer appears on the TUN and never on the outer veth, where all is ESP in UDP 4500
//! under the SPIs of the SAs.
//!
//! The sniffers must see every frame whole, so this transfer goes chunk by chunk, each after the sniffers have seen the
//! one before: what the kernel keeps for a sniffer never overflows. The rate is measured apart from it.

use std::fmt;
use std::net::TcpStream;

use latchway_netns::Namespace;
use latchway_netns::watch::{Captured, Direction, Options, Sniffer};
use serde::Serialize;

use super::on_wire::OnWire;
use crate::demo::cast::Cast;
use crate::demo::connection::{Connection, block, transfer};
use crate::demo::failure::{Failure, expect};
use crate::demo::network::{ESP_PORT, TO_BOB, TUN};
use crate::demo::patience::SOON;
use crate::demo::sizes::Sizes;
use crate::demo::text;

/// What the sniffers saw.
#[derive(Debug, Serialize)]
pub struct Watched {
    octets: u64,
    frames_on_tun: u64,
    pattern_on_tun: u64,
    frames_on_wire: u64,
    pattern_on_wire: u64,
    esp_frames_sent: u64,
    esp_frames_received: u64,
    neighbour_discovery: u64,
    lost_by_sniffers: u64,
    spis: [u32; 2],
}

/// Transfers a pattern each way and watches the TUN and the wire meanwhile.
pub fn show(cast: &Cast, connection: &Connection, sizes: Sizes) -> Result<Watched, Failure> {
    let spis = cast.association()?.spis;
    let tun = Watch::start(&cast.network.alice.inner, TUN)?;
    let wire = Watch::start(&cast.network.alice.outer, TO_BOB.at_alice)?;
    let block = block(PATTERN)?;
    let mut octets = 0;
    for (from, to, direction) in [
        (&connection.alice, &connection.bob, Direction::Outbound),
        (&connection.bob, &connection.alice, Direction::Inbound),
    ] {
        octets += paced(from, to, &block, sizes.sniffed, || wire.passed(direction))?;
    }
    cast.settle()?;
    let (tun, wire) = (tun.stop()?, wire.stop()?);
    let on_wire = OnWire::sort(&wire)?;
    tun.complete()?;
    let (inside, outside) = (hits(&tun)?, hits(&wire)?);
    let expected = "the pattern in the TUN's frames, and in none of the wire's";
    expect(inside > 0 && outside == 0, expected, || format!("{inside} and {outside} frames with it"))?;
    on_wire.expect_only(spis)?;
    let [out, back] = spis;
    Ok(Watched {
        octets,
        frames_on_tun: tun.total,
        pattern_on_tun: inside,
        frames_on_wire: wire.total,
        pattern_on_wire: outside,
        esp_frames_sent: on_wire.sent(out),
        esp_frames_received: on_wire.came(back),
        neighbour_discovery: on_wire.neighbour,
        lost_by_sniffers: tun.dropped + wire.dropped,
        spis,
    })
}

/// A sniffer that keeps what sorts a frame, and looks for the pattern in all of it.
struct Watch(Sniffer);

impl Watch {
    fn start(namespace: &Namespace, interface: &str) -> Result<Self, Failure> {
        let options = Options { snap: 64, frames: 1 << 19, ..Options::searching(&[PATTERN]) };
        Ok(Self(Sniffer::start_with(namespace, interface, options)?))
    }

    /// What returns once frames of a direction were seen after now.
    fn passed(&self, direction: Direction) -> impl FnOnce() -> Result<(), Failure> {
        let mark = self.0.mark();
        move || Ok(self.0.wait_for(mark, |frame| frame.direction == direction, SOON).map(|_| ())?)
    }

    fn stop(self) -> Result<Captured, Failure> {
        Ok(self.0.stop()?)
    }
}

/// Transfers chunk by chunk, and waits for each to have passed. Returns how many octets it were.
fn paced<W: FnOnce() -> Result<(), Failure>>(
    from: &TcpStream,
    to: &TcpStream,
    block: &[u8],
    octets: u64,
    watch: impl Fn() -> W,
) -> Result<u64, Failure> {
    let mut moved = 0;
    while moved < octets {
        for chunk in block.chunks(PACE) {
            let passed = watch();
            moved += transfer(from, to, chunk, |_| true)?.octets;
            passed()?;
            if moved >= octets {
                break;
            }
        }
    }
    Ok(moved)
}

fn hits(captured: &Captured) -> Result<u64, Failure> {
    captured.pattern_hits.first().copied().ok_or_else(|| Failure::Own("no pattern was looked for".to_owned()))
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pattern in {} of {} TUN frames, ", self.pattern_on_tun, self.frames_on_tun)?;
        write!(
            f,
            "in {} of {} wire frames ({}, ",
            self.pattern_on_wire,
            self.frames_on_wire,
            text::size(self.octets)
        )?;
        write!(f, "{} lost to the sniffers); ", self.lost_by_sniffers)?;
        write!(f, "UDP {ESP_PORT} with SPIs {}", text::spis(&self.spis))
    }
}

/// What an eavesdropper would look for.
pub const PATTERN: &[u8] = b"LATCHWAY: a secret of the inside";

/// Much less than the kernel keeps for a sniffer of an unprivileged user.
const PACE: usize = 64 << 10;
