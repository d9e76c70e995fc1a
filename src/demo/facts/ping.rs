//! Ping: echo requests between inner addresses, over either outer IP version.

use std::fmt;
use std::time::Duration;

use latchway_netns::ping::{self, Echo};
use latchway_netns::watch::{Direction, Frame, Sniffer};
use serde::Serialize;

use super::on_wire::OnWire;
use crate::demo::cast::Cast;
use crate::demo::failure::{Failure, expect};
use crate::demo::network::{ALICE, BOB, Family, TO_BOB};
use crate::demo::patience::SOON;
use crate::demo::sizes::Sizes;
use crate::demo::text;

/// What came back.
#[derive(Debug, Serialize)]
pub struct Pinged {
    sent: u16,
    received: u16,
    rtt_median_us: u128,
    esp_frames: u64,
    spis: [u32; 2],
    outer: String,
}

/// Pings bob from alice; every request must be answered, and travel as ESP between the outer addresses of the path.
pub fn show(cast: &Cast, inner: Family, sizes: Sizes) -> Result<Pinged, Failure> {
    let association = cast.association()?;
    let sniffer = Sniffer::start(&cast.network.alice.outer, TO_BOB.at_alice)?;
    let echo = Echo {
        source: Some(ALICE.address(inner)),
        destination: BOB.address(inner),
        count: sizes.pings,
        interval: Duration::from_millis(5),
        timeout: SOON,
        ..Echo::default()
    };
    let report = ping::echo(&cast.network.alice.inner, &echo)?;
    let captured = sniffer.stop()?;
    let all = report.sent == sizes.pings && report.received == report.sent;
    let clean = all && report.duplicates == 0 && report.corrupted == 0;
    expect(clean, &format!("{} requests answered once and unchanged", sizes.pings), || {
        format!("{report:?}")
    })?;
    let on_wire = OnWire::sort(&captured)?;
    on_wire.expect_only(association.spis)?;
    let (alice, bob) =
        (association.family.of(&TO_BOB.alice).addr(), association.family.of(&TO_BOB.peer).addr());
    let on_path = |frame: &Frame| match frame.direction {
        Direction::Outbound => (frame.source, frame.destination) == (Some(alice), Some(bob)),
        Direction::Inbound => (frame.source, frame.destination) == (Some(bob), Some(alice)),
    };
    let stray = captured.frames.iter().find(|frame| frame.esp().is_some() && !on_path(frame));
    expect(stray.is_none(), &format!("ESP between {alice} and {bob}"), || format!("{stray:?}"))?;
    let mut rtts = report.rtts;
    rtts.sort_unstable();
    let median = rtts.get(rtts.len() / 2).copied().unwrap_or_default();
    let [out, back] = association.spis;
    Ok(Pinged {
        sent: report.sent,
        received: report.received,
        rtt_median_us: median.as_micros(),
        esp_frames: on_wire.sent(out) + on_wire.came(back),
        spis: association.spis,
        outer: format!("{alice} to {bob}"),
    })
}

impl fmt::Display for Pinged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, received, rtt_median_us, esp_frames, spis, outer } = self;
        let rtt = Duration::from_micros(u64::try_from(*rtt_median_us).unwrap_or(u64::MAX));
        write!(f, "{received} of {sent}, median {}, ", text::milliseconds(rtt))?;
        write!(f, "{esp_frames} ESP frames {outer}, SPIs {}", text::spis(spis))
    }
}
