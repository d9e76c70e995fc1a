//! A rule as a box, and a packet as a point in it: what the search for the first matching rule compares.
//!
//! Ports and ICMP messages are numbers with one more for OPAQUE, which ANY holds besides (RFC 4301 section 4.4.1).
//! Families are kept apart before: within one, a box holds the point of just those packets that its rule speaks of.

use crate::drop::Direction;
use crate::selector::{AddressRange, IcmpRange, PortRange, Selector, has_ports};
use crate::spd::Rule;
use crate::traffic::Traffic;

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

/// Along what a tree cuts: a dimension, of an address one half. Every value is a word then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    LocalHigh,
    LocalLow,
    RemoteHigh,
    RemoteLow,
    Protocol,
    LocalPort,
    RemotePort,
    Message,
    Direction,
}

/// Where a packet lies along each axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values([u64; Axis::ALL.len()]);

const DIMENSIONS: usize = 7;
pub(super) const LOCAL: usize = 0;
pub(super) const REMOTE: usize = 1;

/// What stands for the ports of what has none, and for the message of what is no ICMP.
const OPAQUE: u128 = 1 << 16;
const ONLY_OPAQUE: Span = Span { first: OPAQUE, last: OPAQUE };

impl Axis {
    pub(super) const ALL: [Self; 9] = [
        Self::LocalHigh,
        Self::LocalLow,
        Self::RemoteHigh,
        Self::RemoteLow,
        Self::Protocol,
        Self::LocalPort,
        Self::RemotePort,
        Self::Message,
        Self::Direction,
    ];

    const fn dimension(self) -> usize {
        match self {
            Self::LocalHigh | Self::LocalLow => LOCAL,
            Self::RemoteHigh | Self::RemoteLow => REMOTE,
            Self::Protocol => 2,
            Self::LocalPort => 3,
            Self::RemotePort => 4,
            Self::Message => 5,
            Self::Direction => 6,
        }
    }

    /// Whether it is the upper half of an address.
    const fn is_high(self) -> bool {
        matches!(self, Self::LocalHigh | Self::RemoteHigh)
    }

    /// A value of its dimension along it.
    const fn word(self, value: u128) -> u64 {
        if self.is_high() { (value >> 64) as u64 } else { value as u64 }
    }
}

impl Values {
    /// Of a packet.
    #[inline]
    pub(super) fn of(traffic: &Traffic, direction: Direction) -> Self {
        let flow = &traffic.flow;
        let ([local_high, local_low, remote_high, remote_low, last], opaque) = (flow.words(), OPAQUE as u64);
        let seen = has_ports(flow.protocol());
        let port = |port: u64| if seen { port & 0xffff } else { opaque };
        let message = traffic.icmp.map_or(opaque, |at| message(at) as u64);
        Self([
            local_high,
            local_low,
            remote_high,
            remote_low,
            u64::from(flow.protocol()),
            port(last >> 16),
            port(last),
            message,
            direction as u64,
        ])
    }

    /// Along one axis.
    #[inline]
    pub(super) fn along(&self, axis: Axis) -> u64 {
        self.0.get(axis as usize).copied().unwrap_or(0)
    }
}

impl Extent {
    /// Everything between addresses of families, IPv4 or not.
    pub(super) fn between([local_v4, remote_v4]: [bool; 2]) -> Self {
        let family = |v4| {
            let (first, last) = if v4 { AddressRange::ANY_V4 } else { AddressRange::ANY_V6 }.numbers();
            Span { first, last }
        };
        let [_, _, protocol, local_port, remote_port, message, direction] = Self::ALL.spans;
        Self {
            spans: [
                family(local_v4),
                family(remote_v4),
                protocol,
                local_port,
                remote_port,
                message,
                direction,
            ],
        }
    }

    /// Everything there is.
    const ALL: Self = {
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

    /// The first and the last value along an axis; `None` along the lower half of addresses whose upper half is not one.
    pub(super) fn along(&self, axis: Axis) -> Option<(u64, u64)> {
        let Span { first, last } = self.span(axis.dimension());
        let one_word = axis.is_high() || first >> 64 == last >> 64;
        one_word.then(|| (axis.word(first), axis.word(last)))
    }

    /// Where a box within this one begins and ends along an axis that this one has.
    pub(super) fn within(&self, other: &Self, axis: Axis) -> (u64, u64) {
        let (own, other) = (self.span(axis.dimension()), other.span(axis.dimension()));
        (axis.word(own.first.max(other.first)), axis.word(own.last.min(other.last)))
    }

    /// The part of the box from one value to another along an axis that it has.
    pub(super) fn between_values(&self, axis: Axis, (from, to): (u64, u64)) -> Self {
        let Span { first, last } = self.span(axis.dimension());
        let span = if axis.is_high() {
            let (from, to) = (u128::from(from) << 64, u128::from(to) << 64 | u128::from(u64::MAX));
            Span { first: first.max(from), last: last.min(to) }
        } else {
            let high = first >> 64 << 64;
            Span { first: first.max(high | u128::from(from)), last: last.min(high | u128::from(to)) }
        };
        let mut part = *self;
        part.spans.get_mut(axis.dimension()).into_iter().for_each(|place| *place = span);
        part
    }

    /// Whether every point of `other` is in this box.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.spans
            .iter()
            .zip(&other.spans)
            .all(|(own, other)| own.first <= other.first && other.last <= own.last)
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
