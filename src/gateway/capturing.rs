//! A capture under way, as control.sock shows it.

use std::time::{Duration, SystemTime};

use base64ct::{Base64, Encoding};
use latchway_control::{
    CaptureSpec, CapturedPacket, CapturedPackets, CapturedVerdict, DirectionSpec, SideSpec,
};
use latchway_datapath::capture::{Capture, Captured, CapturedSa, Side, Taps, Verdict, Wanted};
use latchway_datapath::drop::Direction;

/// Packets from here on, until dropped.
pub struct Capturing {
    capture: Capture,
    started_at: SystemTime,
}

/// Octets of packets in one reply: it stays below what a reply may be, written in base64.
const PAGE: usize = 1 << 20;

impl Capturing {
    /// Begins to capture in a gateway that started then.
    pub fn begin(taps: &Taps, wanted: &CaptureSpec, started_at: SystemTime) -> Self {
        let wanted = Wanted {
            side: wanted.side.map(|side| match side {
                SideSpec::Inner => Side::Inner,
                SideSpec::Wire => Side::Wire,
            }),
            dropped: wanted.dropped,
            snap_len: usize::try_from(wanted.snap_len).unwrap_or(usize::MAX),
        };
        Self { capture: taps.open(wanted), started_at }
    }

    /// What there is, or what comes first if that is soon enough.
    pub fn next_page(&self, patience: Duration) -> CapturedPackets {
        let mut page = CapturedPackets::default();
        let (mut wait, mut octets) = (patience, 0);
        while octets < PAGE
            && let Some(captured) = self.capture.next(wait)
        {
            octets += captured.octets.len();
            page.packets.push(self.shown(&captured));
            wait = Duration::ZERO;
        }
        page.lost = self.capture.take_lost();
        page
    }

    fn shown(&self, captured: &Captured) -> CapturedPacket {
        let Captured { at, side, direction, len, octets, verdict, sa } = captured;
        let time = self.started_at + Duration::from_nanos(at.as_nanos());
        let time = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (verdict, reason) = match verdict {
            Verdict::Passed => (CapturedVerdict::Passed, None),
            Verdict::Bypassed => (CapturedVerdict::Bypassed, None),
            Verdict::Dropped(reason) => (CapturedVerdict::Dropped, Some(reason.to_string())),
        };
        let tag = sa.and_then(|CapturedSa { tag, .. }| tag);
        CapturedPacket {
            time: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            side: match side {
                Side::Inner => SideSpec::Inner,
                Side::Wire => SideSpec::Wire,
            },
            direction: match direction {
                Direction::Inbound => DirectionSpec::Inbound,
                Direction::Outbound => DirectionSpec::Outbound,
            },
            len: u32::try_from(*len).unwrap_or(u32::MAX),
            octets: Base64::encode_string(octets),
            verdict,
            reason,
            spi: sa.map(|sa| sa.spi.get()),
            class: tag.map(|(class, _)| class.raw()),
            sa: tag.map(|(_, sa)| (u32::try_from(sa.index.get()).unwrap_or(u32::MAX), sa.generation)),
        }
    }
}
