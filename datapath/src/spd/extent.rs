//! A rule as a box, and a packet as a point in it: what the search for the first matching rule compares.
//!
//! Ports and ICMP messages are numbers with one more for OPAQUE, which ANY holds besides (RFC 4301 section 4.4.1).
//! Families are kept apart before: within one, a box holds the point of just those packets that its rule speaks of.

use crate::drop::Direction;
use crate::selector::{IcmpRange, PortRange, Selector, has_ports};
use crate::spd::Rule;
use crate::traffic::Traffic;

/// A packet as a point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point<'t> {
    pub(super) traffic: &'t Traffic,
    pub(super) direction: Direction,
}

/// From the first to the last value in each dimension: local and remote address, protocol, local and remote port, ICMP message,
/// direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    spans: [Span; DIMENSIONS],
}

/// Values of one dimension, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) first: u128,
    pub(super) last: u128,
}

pub(super) const DIMENSIONS: usize = 7;
pub(super) const LOCAL: usize = 0;
pub(super) const REMOTE: usize = 1;

/// What stands for the ports of what has none, and for the message of what is no ICMP.
const OPAQUE: u128 = 1 << 16;
const ONLY_OPAQUE: Span = Span { first: OPAQUE, last: OPAQUE };

impl Extent {
    /// Everything there is.
    pub(super) const ALL: Self = {
        let spans = [
            Span { first: 0, last: u128::MAX },
            Span { first: 0, last: u128::MAX },
            Span { first: 0, last: 255 },
            Span { first: 0, last: OPAQUE },
            Span { first: 0, last: OPAQUE },
            Span { first: 0, last: OPAQUE },
            Span { first: 0, last: 1 },
        ];
        Self { spans }
    };

    /// Of a rule. `None` where no packet is in it.
    pub(super) fn of(rule: &Rule) -> Option<Self> {
        let Selector { local, remote, protocol, local_ports, remote_ports, icmp } = &rule.selector;
        let address = |(first, last)| Span { first, last };
        let number =
            |number: Option<u128>, most| Span { first: number.unwrap_or(0), last: number.unwrap_or(most) };
        let icmp = match *icmp {
            None => Span { first: 0, last: OPAQUE },
            Some(IcmpRange::OPAQUE) => ONLY_OPAQUE,
            Some(range) => {
                let (first, last) = range.ends()?;
                Span { first: message(first), last: message(last) }
            }
        };
        let spans = [
            address(local.numbers()),
            address(remote.numbers()),
            number(protocol.map(u128::from), 255),
            ports(*local_ports)?,
            ports(*remote_ports)?,
            icmp,
            number(rule.direction.map(|direction| direction as u128), 1),
        ];
        spans.iter().all(|span| span.first <= span.last).then_some(Self { spans })
    }

    /// The values in one dimension.
    pub(super) fn span(&self, dimension: usize) -> Span {
        self.spans.get(dimension).copied().unwrap_or(Span { first: 0, last: 0 })
    }

    /// The same box up to a value of one dimension, and beyond it.
    pub(super) fn cut(&self, dimension: usize, at: u128) -> (Self, Self) {
        let (mut below, mut above) = (*self, *self);
        below.spans.get_mut(dimension).into_iter().for_each(|span| span.last = at);
        above.spans.get_mut(dimension).into_iter().for_each(|span| span.first = at.saturating_add(1));
        (below, above)
    }

    /// Whether every point of `other` is in this box.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.spans
            .iter()
            .zip(&other.spans)
            .all(|(own, other)| own.first <= other.first && other.last <= own.last)
    }
}

impl Point<'_> {
    /// Where the packet lies in one dimension.
    #[inline]
    pub(super) fn value(&self, dimension: usize) -> u128 {
        let flow = &self.traffic.flow;
        let port = |port: u16| if has_ports(flow.protocol()) { u128::from(port) } else { OPAQUE };
        match dimension {
            LOCAL => flow.local_number(),
            REMOTE => flow.remote_number(),
            2 => u128::from(flow.protocol()),
            3 => port(flow.local_port()),
            4 => port(flow.remote_port()),
            5 => self.traffic.icmp.map_or(OPAQUE, message),
            _ => self.direction as u128,
        }
    }
}

fn message((kind, code): (u8, u8)) -> u128 {
    u128::from(u16::from_be_bytes([kind, code]))
}

fn ports(range: PortRange) -> Option<Span> {
    if range == PortRange::OPAQUE {
        return Some(ONLY_OPAQUE);
    }
    let (first, last) = range.ends()?;
    let last = if range == PortRange::ANY { OPAQUE } else { u128::from(last) };
    Some(Span { first: u128::from(first), last })
}
