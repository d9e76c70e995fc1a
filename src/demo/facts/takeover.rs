//! The takeover (RFC 5660 section 2.4): mallory, whom policy allows bob's inner address, sends for the 5-tuple of a
//! connection that alice has with bob. The packet is authentic and its SA admits it; only the latch tells (L-106), and
//! it ends the connection rather than hand it over (L-109).

use std::fmt;
use std::io::{self, ErrorKind, Read};

use latchway_control::LatchState;
use latchway_netns::watch::Sniffer;
use serde::Serialize;

use super::forgery;
use super::on_wire::OnWire;
use super::unlatched::FORGED;
use crate::demo::cast::Cast;
use crate::demo::connection::Connection;
use crate::demo::counters::{Counters, Moved};
use crate::demo::failure::{Failure, expect};
use crate::demo::network::{Family, MALLORY, TO_BOB, TO_MALLORY};
use crate::demo::patience::wait_for;

/// What mallory sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The next data segment, over IPv4.
    Data,
    /// A SYN, over IPv6 inside.
    Syn,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Refused {
    flow: String,
    authentic_packets: u64,
    alice_drops: Moved,
    octets_to_application: u64,
    application_error: String,
    answers_to_mallory: u64,
    resets_to_bob: u64,
    latch: String,
    reason: String,
}

/// Lets mallory try.
pub fn show(cast: &Cast, kind: Kind, spi: u32) -> Result<Refused, Failure> {
    let family = if kind == Kind::Data { Family::V4 } else { Family::V6 };
    let connection = Connection::open(cast, family)?;
    let numbers = forgery::learn(cast, &connection)?;
    cast.settle()?;
    let latched = connection.expect_latch(&cast.alice)?;
    expect(latched.state == LatchState::Established, "an ESTABLISHED latch before", || {
        format!("{latched:?}")
    })?;
    let before = counters(cast)?;
    let authentic_before = Cast::sa(&cast.alice, spi)?.packets;
    let wires = [sniff(cast, TO_BOB.at_alice)?, sniff(cast, TO_MALLORY.at_alice)?];
    let packet = match kind {
        Kind::Data => forgery::data(&connection, numbers, FORGED)?,
        Kind::Syn => forgery::syn(&connection, numbers)?,
    };
    forgery::send_as_mallory(cast, &packet)?;
    let application_error = expect_end(&connection)?;
    let alice_drops = wait_for("inbound latch_mismatch and the reset of the ended socket", || {
        let moved = Counters::of(&cast.alice)?.since(&before.alice);
        Ok((moved.by(MISMATCH) > 0 && moved.by(OWN_RESET) > 0).then_some(moved))
    })?;
    let authentic_packets = Cast::sa(&cast.alice, spi)?.packets - authentic_before;
    let latch = connection.expect_latch(&cast.alice)?;
    expect_reset(&connection)?;
    let [to_bob, to_mallory] = wires.map(sent);
    let (resets_to_bob, answers_to_mallory) = (to_bob?, to_mallory?);
    expect_dropped(cast, &before, &alice_drops, authentic_packets)?;
    expect(answers_to_mallory == 0, "no packet from alice to mallory", || format!("{answers_to_mallory}"))?;
    expect(resets_to_bob == 1, "one packet from alice to bob, the reset", || format!("{resets_to_bob}"))?;
    let reason = latch.reason.clone().filter(|reason| reason.contains(MALLORY.identity));
    // CLOSED follows BROKEN once the socket has ended.
    let ended = matches!(latch.state, LatchState::Broken | LatchState::Closed);
    let expected = format!("a BROKEN or CLOSED latch that names {}", MALLORY.identity);
    let Some(reason) = reason.filter(|_| ended) else {
        return Err(Failure::unmet(expected, format!("{latch:?}")));
    };
    connection.abort()?;
    cast.settle()?;
    Ok(Refused {
        flow: latch.flow,
        authentic_packets,
        alice_drops,
        octets_to_application: 0,
        application_error,
        answers_to_mallory,
        resets_to_bob,
        latch: latch.state.to_string(),
        reason,
    })
}

/// Counters of the three gateways.
struct All {
    alice: Counters,
    others: [Counters; 2],
}

fn counters(cast: &Cast) -> Result<All, Failure> {
    Ok(All {
        alice: Counters::of(&cast.alice)?,
        others: [Counters::of(&cast.bob)?, Counters::of(&cast.mallory)?],
    })
}

fn sniff(cast: &Cast, interface: &str) -> Result<Sniffer, Failure> {
    Ok(Sniffer::start(&cast.network.alice.outer, interface)?)
}

/// What alice sent on a wire since the sniffer started, neighbour discovery aside.
fn sent(wire: Sniffer) -> Result<u64, Failure> {
    let on_wire = OnWire::sort(&wire.stop()?)?;
    let esp: u64 = on_wire.esp.iter().filter(|((outbound, _), _)| *outbound).map(|(_, frames)| frames).sum();
    Ok(esp + on_wire.other.len() as u64)
}

/// The other end of the connection is told too, under the SA that the connection is latched to.
fn expect_reset(connection: &Connection) -> Result<(), Failure> {
    let expected = "the read at bob to end with ECONNRESET";
    match (&connection.bob).read(&mut [0; 256]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Ok(read) => Err(Failure::unmet(expected, format!("{read} octets read"))),
        Err(error) => Err(Failure::unmet(expected, error.to_string())),
    }
}

/// The application must read an error, and not one octet. Returns the error.
fn expect_end(connection: &Connection) -> Result<String, Failure> {
    let expected = "the application's read to end with ECONNABORTED or ECONNRESET";
    let mut octets = [0; 256];
    match (&connection.alice).read(&mut octets) {
        Ok(read) => Err(Failure::unmet(expected, format!("{read} octets read"))),
        Err(error) => named(&error).ok_or_else(|| Failure::unmet(expected, error.to_string())),
    }
}

fn named(error: &io::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::ConnectionAborted => Some("ECONNABORTED".to_owned()),
        ErrorKind::ConnectionReset => Some("ECONNRESET".to_owned()),
        _ => None,
    }
}

fn expect_dropped(cast: &Cast, before: &All, alice: &Moved, authentic: u64) -> Result<(), Failure> {
    expect(authentic == 1, "one authentic packet under mallory's SA", || format!("{authentic}"))?;
    let alone = alice.by(MISMATCH) == authentic && alice.only(&[MISMATCH, OWN_RESET]);
    let expected = format!("{MISMATCH} +1, and {OWN_RESET} for the ended socket's own reset alone");
    expect(alone, &expected, || alice.text())?;
    for (gateway, before) in [&cast.bob, &cast.mallory].iter().zip(&before.others) {
        let moved = Counters::of(gateway)?.since(before);
        let expected = format!("no drop counter to move at {}", gateway.host());
        expect(moved.is_nothing(), &expected, || moved.text())?;
    }
    Ok(())
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { authentic_packets, alice_drops, application_error, latch, reason, .. } = self;
        write!(
            f,
            "{authentic_packets} authentic packet; {} (outbound: the ended socket's own reset), ",
            alice_drops.text()
        )?;
        write!(
            f,
            "{} octets to the application, which got {application_error}; ",
            self.octets_to_application
        )?;
        let Self { answers_to_mallory, resets_to_bob, .. } = self;
        write!(
            f,
            "{answers_to_mallory} answers to mallory, {resets_to_bob} reset to bob; latch {latch}: {reason}"
        )
    }
}

const MISMATCH: &str = "inbound latch_mismatch";
const OWN_RESET: &str = "outbound latch_broken";
