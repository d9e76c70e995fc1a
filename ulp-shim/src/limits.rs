//! How much the Latch Database holds and how long it remembers: every bound is chosen at construction.

use std::time::Duration;

use latchway_datapath::flow::protocol;
use latchway_datapath::latching::LatchState;

use crate::entry::{Entry, Kind};
use crate::progress::Progress;

/// Sizes and times. The defaults are within RFC 5382 (TCP) and RFC 4787 (UDP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows remembered at a time; a new one beyond is refused (T37 i). One takes [`OCTETS_PER_FLOW`].
    pub flows: u32,
    /// Latches at a time whose connection only one side has spoken on, so that SYN floods leave room for others.
    pub half_open: u32,
    /// The same of one peer, so that its flood leaves room for others (T41).
    pub half_open_of_peer: u32,
    /// Unlatched flows cached at a time; those beyond pass uncached.
    pub unlatched: u32,
    /// Classes at a time of which the peer is known.
    pub classes: usize,
    /// The maximum segment lifetime of RFC 9293; tombstones stay at least twice as long.
    pub msl: Duration,
    /// Idle time of an established TCP connection (RFC 5382 REQ-5: at least 2 h 4 min), and of an SCTP association.
    pub tcp_established: Duration,
    /// Idle time of an opening or closing TCP connection (RFC 5382 REQ-5: at least 4 min).
    pub tcp_transitory: Duration,
    /// Idle time of a UDP flow (RFC 4787 REQ-5: at least 2 min).
    pub udp: Duration,
    /// Idle time of an ICMP echo identifier (RFC 5508 REQ-1: at least 60 s).
    pub echo: Duration,
    /// Idle time of a cached unlatched flow.
    pub unlatched_idle: Duration,
    /// How long a latch may stay LARVAL (C-20).
    pub larval: Duration,
}

/// Memory per flow, index included.
pub const OCTETS_PER_FLOW: usize = 168;

/// A limit that the RFCs, or arithmetic, forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// No flow, or more than a slot number can tell apart.
    #[error("the number of flows must lie between 1 and 2147483648")]
    Flows,
    /// RFC 5382 REQ-5.
    #[error("established TCP connections must be remembered for at least 2 h 4 min (RFC 5382 REQ-5)")]
    TcpEstablished,
    /// RFC 5382 REQ-5.
    #[error("opening and closing TCP connections must be remembered for at least 4 min (RFC 5382 REQ-5)")]
    TcpTransitory,
    /// RFC 4787 REQ-5.
    #[error("UDP flows must be remembered for at least 2 min (RFC 4787 REQ-5)")]
    Udp,
    /// RFC 5508 REQ-1.
    #[error("ICMP echo identifiers must be remembered for at least 60 s (RFC 5508 REQ-1)")]
    Echo,
}

impl Default for Limits {
    fn default() -> Self {
        Self::for_flows(65_536)
    }
}

impl Limits {
    /// The default times, with room for `flows`: a quarter of it may be half open, a quarter of
    /// that by one peer, and half of it unlatched.
    #[must_use]
    pub const fn for_flows(flows: u32) -> Self {
        Self {
            flows,
            half_open: flows.div_ceil(4),
            half_open_of_peer: flows.div_ceil(16),
            unlatched: flows.div_ceil(2),
            classes: 65_536,
            msl: Duration::from_secs(60),
            tcp_established: TCP_ESTABLISHED,
            tcp_transitory: TCP_TRANSITORY,
            udp: Duration::from_secs(5 * 60),
            echo: ECHO_LEAST,
            unlatched_idle: Duration::from_secs(60),
            larval: Duration::from_secs(75),
        }
    }

    pub(crate) fn check(&self) -> Result<(), LimitsError> {
        match self {
            Self { flows: 0 | 0x8000_0001.., .. } => Err(LimitsError::Flows),
            _ if self.tcp_established < TCP_ESTABLISHED => Err(LimitsError::TcpEstablished),
            _ if self.tcp_transitory < TCP_TRANSITORY => Err(LimitsError::TcpTransitory),
            _ if self.udp < UDP_LEAST => Err(LimitsError::Udp),
            _ if self.echo < ECHO_LEAST => Err(LimitsError::Echo),
            _ => Ok(()),
        }
    }

    /// How long an entry stays after its last packet or change. A latch that ended while its connection may live
    /// stays as long as the connection would have been remembered, so that nobody else gets the 5-tuple meanwhile.
    pub(crate) fn stay(&self, entry: &Entry, protocol: u8) -> Duration {
        let tombstone = self.msl.saturating_mul(2);
        match entry.kind {
            Kind::Unlatched => self.unlatched_idle,
            Kind::Latched(LatchState::Larval) => self.larval,
            Kind::Latched(LatchState::Listener) => Duration::MAX,
            Kind::Latched(state) => {
                let idle = self.idle(entry.progress, protocol);
                if state == LatchState::Established { idle } else { idle.max(tombstone) }
            }
        }
    }

    fn idle(&self, progress: Progress, protocol: u8) -> Duration {
        match progress {
            Progress::TimeWait | Progress::Ended => self.msl.saturating_mul(2),
            Progress::Both if shakes_hands(protocol) => self.tcp_established,
            _ if shakes_hands(protocol) => self.tcp_transitory,
            _ if matches!(protocol, protocol::ICMP | protocol::ICMPV6) => self.echo,
            _ => self.udp,
        }
    }
}

/// Whether connections of the protocol are opened and closed.
const fn shakes_hands(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::SCTP)
}

const TCP_ESTABLISHED: Duration = Duration::from_secs(2 * 3600 + 4 * 60);
const TCP_TRANSITORY: Duration = Duration::from_secs(4 * 60);
const UDP_LEAST: Duration = Duration::from_secs(2 * 60);
const ECHO_LEAST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_5382_rfc_4787_and_rfc_5508_shorter_memories_are_refused() {
        let base = Limits::default();
        assert_eq!(base.check(), Ok(()));
        let less = |time: Duration| time - Duration::from_secs(1);
        for (limits, error) in [
            (Limits { flows: 0, ..base }, LimitsError::Flows),
            (Limits { flows: u32::MAX, ..base }, LimitsError::Flows),
            (Limits { tcp_established: less(TCP_ESTABLISHED), ..base }, LimitsError::TcpEstablished),
            (Limits { tcp_transitory: less(TCP_TRANSITORY), ..base }, LimitsError::TcpTransitory),
            (Limits { udp: less(UDP_LEAST), ..base }, LimitsError::Udp),
            (Limits { echo: less(ECHO_LEAST), ..base }, LimitsError::Echo),
        ] {
            assert_eq!(limits.check(), Err(error));
        }
    }
}
