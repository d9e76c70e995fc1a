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

/// Octets of packets in one reply, and what is said of each besides: it stays below what a reply may be, written in base64.
const PAGE: usize = 1 << 20;
const BESIDES: usize = 512;

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
        let packets = up_to_a_page(patience, |wait| self.capture.next(wait));
        let packets = packets.iter().map(|captured| self.shown(captured)).collect();
        CapturedPackets { packets, lost: self.capture.take_lost() }
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

/// As many packets as fit one reply, of which only the first is waited for.
fn up_to_a_page(patience: Duration, mut next: impl FnMut(Duration) -> Option<Captured>) -> Vec<Captured> {
    let (mut wait, mut octets, mut packets) = (patience, 0, Vec::new());
    while octets < PAGE
        && let Some(captured) = next(wait)
    {
        octets += captured.octets.len() + BESIDES;
        packets.push(captured);
        wait = Duration::ZERO;
    }
    packets
}

#[cfg(test)]
mod tests {
    use latchway_control::MAX_REPLY;
    use latchway_datapath::time::Time;

    use super::*;

    /// T41: packets may come faster than they are written down, and little may be wanted of each.
    #[test]
    fn t41_a_reply_ends_however_many_packets_come() {
        let captured = |len: usize| Captured {
            at: Time::default(),
            side: Side::Inner,
            direction: Direction::Outbound,
            len,
            octets: vec![0; len].into(),
            verdict: Verdict::Dropped(latchway_datapath::drop::DropReason::FragmentUnresolved),
            sa: None,
        };
        let taps = Taps::default();
        let capturing = Capturing::begin(&taps, &CaptureSpec::default(), SystemTime::UNIX_EPOCH);
        for len in [0, 20, 1400, 65_575] {
            let packets = up_to_a_page(Duration::ZERO, |_| Some(captured(len)));
            let packets: Vec<_> = packets.iter().map(|captured| capturing.shown(captured)).collect();
            let reply = serde_json::to_vec(&packets).unwrap_or_default();
            assert!((1 << 18..MAX_REPLY).contains(&(reply.len() as u64)), "{len}: {}", reply.len());
        }
    }
}
