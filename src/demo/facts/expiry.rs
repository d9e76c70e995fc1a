//! Fail closed: the SA expires hard, and what enters the TUN afterwards is counted by its reason and never leaves
//! (RFC 4301 section 4.4.2.1).

use std::fmt;
use std::net::{SocketAddr, UdpSocket};

use latchway_control::LifetimeSpec;
use latchway_esp::Suite;
use latchway_netns::watch::{Direction, Frame, Sniffer};
use serde::Serialize;

use super::on_wire::OnWire;
use crate::demo::cast::Cast;
use crate::demo::counters::{Counters, Moved};
use crate::demo::failure::{Failure, expect, refused};
use crate::demo::network::{ALICE, BOB, Family, TO_BOB, TUN};
use crate::demo::patience::{SOON, wait_for};
use crate::demo::sizes::Sizes;

/// What became of the datagrams.
#[derive(Debug, Serialize)]
pub struct Closed {
    spi: u32,
    packets_before: u64,
    received_before: u64,
    esp_frames_before: u64,
    entered_tun_after: u64,
    alice_drops_after: Moved,
    frames_on_wire_after: u64,
}

/// Puts in SAs that may carry so many packets, uses them up, and goes on sending.
pub fn show(cast: &Cast, suite: Suite, sizes: Sizes) -> Result<Closed, Failure> {
    let hard = LifetimeSpec { packets: Some(sizes.before_expiry), ..LifetimeSpec::default() };
    let spi = cast.switch(suite, Family::V4, hard)?.spis[0];
    let (alice, bob) = sockets(cast)?;
    let tun = Sniffer::start(&cast.network.alice.inner, TUN)?;
    let wire = Sniffer::start(&cast.network.alice.outer, TO_BOB.at_alice)?;
    let received_before = one_by_one(&alice, &bob, sizes.before_expiry)?;
    let esp_frames_before = OnWire::sort(&wire.stop()?)?.sent(spi);
    expect(esp_frames_before > 0, "ESP on the wire before the expiry", || "none".to_owned())?;
    let wire = Sniffer::start(&cast.network.alice.outer, TO_BOB.at_alice)?;
    let before = Counters::of(&cast.alice)?;
    let (mark, local) = (tun.mark(), alice.local_addr().map_err(refused("sending datagrams"))?);
    for _ in 0..sizes.after_expiry {
        alice.send(DATAGRAM).map_err(refused("sending datagrams"))?;
    }
    let dropped = wait_for("every datagram in the counter hard_expired", || {
        let moved = Counters::of(&cast.alice)?.since(&before);
        Ok((moved.by(EXPIRED) >= sizes.after_expiry).then_some(moved))
    })?;
    let ours =
        |frame: &&Frame| frame.direction == Direction::Outbound && frame.source_socket() == Some(local);
    let entered = tun.frames_since(mark)?.iter().filter(ours).count() as u64;
    let equal = entered == sizes.after_expiry && dropped.by(EXPIRED) == entered && dropped.only(&[EXPIRED]);
    let expected = format!("{} in the TUN, and {EXPIRED} +{0} alone", sizes.after_expiry);
    expect(equal, &expected, || format!("{entered} in the TUN; {}", dropped.text()))?;
    let on_wire = OnWire::sort(&wire.stop()?)?;
    let frames = on_wire.esp.values().sum::<u64>() + on_wire.other.len() as u64;
    expect(frames == 0, "no frame on the wire", || format!("{frames}: {}", on_wire.others()))?;
    let row = Cast::sa(&cast.alice, spi)?;
    expect(row.expired, "the SA shown as expired", || format!("{row:?}"))?;
    Ok(Closed {
        spi,
        packets_before: row.packets,
        received_before,
        esp_frames_before,
        entered_tun_after: entered,
        alice_drops_after: dropped,
        frames_on_wire_after: frames,
    })
}

/// A datagram socket of alice, connected to one of bob.
fn sockets(cast: &Cast) -> Result<(UdpSocket, UdpSocket), Failure> {
    let attempt = "opening datagram sockets";
    let bind = |address| UdpSocket::bind(SocketAddr::new(address, 0));
    let bob = cast.network.bob.inner.run(|| bind(BOB.address(Family::V4)))?.map_err(refused(attempt))?;
    let alice =
        cast.network.alice.inner.run(|| bind(ALICE.address(Family::V4)))?.map_err(refused(attempt))?;
    bob.set_read_timeout(Some(SOON)).map_err(refused(attempt))?;
    let remote = bob.local_addr().map_err(refused(attempt))?;
    alice.connect(remote).map_err(refused(attempt))?;
    Ok((alice, bob))
}

/// Sends datagrams, each after the one before was read. Returns how many were.
fn one_by_one(alice: &UdpSocket, bob: &UdpSocket, count: u64) -> Result<u64, Failure> {
    let mut octets = [0; 256];
    for _ in 0..count {
        alice.send(DATAGRAM).map_err(refused("sending a datagram before the expiry"))?;
        bob.recv(&mut octets).map_err(refused("reading a datagram before the expiry"))?;
    }
    Ok(count)
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spi, packets_before, entered_tun_after, alice_drops_after, frames_on_wire_after, .. } =
            self;
        write!(
            f,
            "SPI 0x{spi:08x} over after {packets_before} packets; then {entered_tun_after} entered the TUN, "
        )?;
        write!(f, "{}, {frames_on_wire_after} frames on the wire", alice_drops_after.text())
    }
}

const DATAGRAM: &[u8] = b"one of many";
const EXPIRED: &str = "outbound hard_expired";
