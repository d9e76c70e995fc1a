//! Traffic selectors as people write them: lists of ranges (RFC 4301 section 4.4.1.1).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// Which flows a policy or an SA speaks of. Each list holds at least one range.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// Addresses behind this gateway.
    pub local: Vec<AddressRange>,
    /// Addresses behind the peer.
    pub remote: Vec<AddressRange>,
    /// The upper-layer protocol; `None` is ANY.
    pub protocol: Option<u8>,
    /// The messages of ICMP or ICMPv6; `None` is ANY.
    pub icmp: Option<IcmpRange>,
    /// Ports of the local side.
    pub local_ports: Vec<PortRange>,
    /// Ports of the remote side.
    pub remote_ports: Vec<PortRange>,
}

impl Selector {
    /// Everything between these addresses.
    #[must_use]
    pub fn between(local: Vec<AddressRange>, remote: Vec<AddressRange>) -> Self {
        let any = || vec![PortRange::Any];
        Self { local, remote, protocol: None, icmp: None, local_ports: any(), remote_ports: any() }
    }

    /// How many selectors [`Selector::simple`] gives at most.
    #[must_use]
    pub fn combinations(&self) -> usize {
        let lists = [self.local.len(), self.remote.len(), self.local_ports.len(), self.remote_ports.len()];
        lists.into_iter().fold(1, usize::saturating_mul)
    }

    /// The selectors of one range on each side that are the same together, in the order in which they were written.
    /// Ranges of different families have no packet in common and make none.
    pub fn simple(&self) -> impl Iterator<Item = SimpleSelector> {
        self.local.iter().flat_map(move |&local| {
            let same_family = move |remote: &&AddressRange| remote.is_ipv4() == local.is_ipv4();
            self.remote.iter().filter(same_family).flat_map(move |&remote| {
                self.local_ports.iter().flat_map(move |&local_ports| {
                    self.remote_ports.iter().map(move |&remote_ports| SimpleSelector {
                        local,
                        remote,
                        protocol: self.protocol,
                        icmp: self.icmp,
                        local_ports,
                        remote_ports,
                    })
                })
            })
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |addresses: &[AddressRange], ports: &[PortRange]| {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
            let ports = if ports == ["any"] { String::new() } else { format!(" port {}", ports.join(",")) };
            format!("{}{ports}", addresses.join(","))
        };
        let protocol = self.protocol.map(crate::value::protocol_name);
        protocol.map_or(Ok(()), |protocol| write!(f, "{protocol} "))?;
        self.icmp.map_or(Ok(()), |icmp| write!(f, "{icmp} "))?;
        let (local, remote) = (side(&self.local, &self.local_ports), side(&self.remote, &self.remote_ports));
        write!(f, "{local} <-> {remote}")
    }
}

/// The same addresses as few ranges in their order: those that overlap or touch become one.
pub(crate) fn merge(mut ranges: Vec<AddressRange>) -> Vec<AddressRange> {
    ranges.sort_unstable();
    let mut merged: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut().and_then(|last| Some((last.joined(&range)?, last))) {
            Some((joined, last)) => *last = joined,
            None => merged.push(range),
        }
    }
    merged
}

/// Whether every address of `range` lies in these, which [`merge`] made.
pub(crate) fn holds(merged: &[AddressRange], range: &AddressRange) -> bool {
    let behind = merged
        .partition_point(|other| (!other.is_ipv4(), other.first()) <= (!range.is_ipv4(), range.first()));
    behind.checked_sub(1).and_then(|at| merged.get(at)).is_some_and(|other| other.covers(range))
}

/// One range on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SimpleSelector {
    /// Addresses behind this gateway.
    pub local: AddressRange,
    /// Addresses behind the peer.
    pub remote: AddressRange,
    /// The upper-layer protocol; `None` is ANY.
    pub protocol: Option<u8>,
    /// The messages of ICMP or ICMPv6; `None` is ANY.
    pub icmp: Option<IcmpRange>,
    /// Ports of the local side.
    pub local_ports: PortRange,
    /// Ports of the remote side.
    pub remote_ports: PortRange,
}

/// An inclusive range of addresses of one family, the lower end first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange(Ends);

/// One field per family, so that no range has two.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl AddressRange {
    /// Every IPv4 address.
    pub const ANY_V4: Self = Self(Ends::V4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    /// Every IPv6 address.
    pub const ANY_V6: Self = Self(Ends::V6(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from_bits(u128::MAX)));

    /// The range from `first` to `last`; `None` where the families differ or the order is wrong.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (first <= last).then_some(Self(Ends::V4(first, last))),
            (IpAddr::V6(first), IpAddr::V6(last)) => (first <= last).then_some(Self(Ends::V6(first, last))),
            _ => None,
        }
    }

    /// The lowest address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        match self.0 {
            Ends::V4(first, _) => IpAddr::V4(first),
            Ends::V6(first, _) => IpAddr::V6(first),
        }
    }

    /// The highest address.
    #[must_use]
    pub const fn last(&self) -> IpAddr {
        match self.0 {
            Ends::V4(_, last) => IpAddr::V4(last),
            Ends::V6(_, last) => IpAddr::V6(last),
        }
    }

    /// Whether the addresses are IPv4 ones.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        matches!(self.0, Ends::V4(..))
    }

    /// Whether every address of `other` lies in this range.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.first() <= other.first() && other.last() <= self.last()
    }

    /// Whether the address lies in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, address).is_some_and(|single| self.covers(&single))
    }

    /// Whether any address lies in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.first() <= other.last() && other.first() <= self.last()
    }

    /// Both as one range, where they overlap or touch and `other` does not begin in front of this one.
    fn joined(&self, other: &Self) -> Option<Self> {
        match (self.0, other.0) {
            (Ends::V4(first, last), Ends::V4(from, to)) => {
                let touch = u64::from(from.to_bits()) <= u64::from(last.to_bits()) + 1;
                touch.then_some(Self(Ends::V4(first, last.max(to))))
            }
            (Ends::V6(first, last), Ends::V6(from, to)) => {
                let touch = from.to_bits() <= last.to_bits().saturating_add(1);
                touch.then_some(Self(Ends::V6(first, last.max(to))))
            }
            _ => None,
        }
    }

    /// The fewest prefixes that hold the same addresses: what is routed.
    #[must_use]
    pub fn prefixes(&self) -> Vec<IpNet> {
        match self.0 {
            Ends::V4(first, last) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
            Ends::V6(first, last) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
        }
    }
}

impl From<IpNet> for AddressRange {
    fn from(prefix: IpNet) -> Self {
        match prefix {
            IpNet::V4(prefix) => Self(Ends::V4(prefix.network(), prefix.broadcast())),
            IpNet::V6(prefix) => Self(Ends::V6(prefix.network(), prefix.broadcast())),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut prefixes = match self.0 {
            Ends::V4(first, last) => {
                Ipv4Subnets::new(first, last, 0).map(IpNet::V4).take(2).collect::<Vec<_>>()
            }
            Ends::V6(first, last) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).take(2).collect(),
        };
        match (prefixes.pop(), prefixes.pop()) {
            (Some(prefix), None) => write!(f, "{prefix}"),
            _ => write!(f, "{}-{}", self.first(), self.last()),
        }
    }
}

impl fmt::Debug for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// ICMP messages (RFC 4301 section 4.4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IcmpRange {
    /// None, but every packet of which no type can be seen.
    Opaque,
    /// Types with all of their codes, or codes of one type. Lower ends first.
    Messages {
        /// The first and the last type.
        types: (u8, u8),
        /// The first and the last code.
        codes: (u8, u8),
    },
}

impl IcmpRange {
    /// Whether everything of `other` is in the range.
    #[must_use]
    pub const fn covers(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Self::Opaque, Self::Opaque) => true,
            (Self::Messages { types, codes }, Self::Messages { types: of_other, codes: its }) => {
                types.0 <= of_other.0 && of_other.1 <= types.1 && codes.0 <= its.0 && its.1 <= codes.1
            }
            _ => false,
        }
    }

    /// Whether anything is in both.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Self::Opaque, Self::Opaque) => true,
            (Self::Messages { types, codes }, Self::Messages { types: of_other, codes: its }) => {
                types.0 <= of_other.1 && of_other.0 <= types.1 && codes.0 <= its.1 && its.0 <= codes.1
            }
            _ => false,
        }
    }
}

impl fmt::Display for IcmpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |(first, last): (u8, u8)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        let Self::Messages { types, codes } = *self else { return f.write_str("type opaque") };
        write!(f, "type {}", range(types))?;
        if codes == (0, u8::MAX) { Ok(()) } else { write!(f, " code {}", range(codes)) }
    }
}

/// Ports of one side (RFC 4301 section 4.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortRange {
    /// Every port, and what has none.
    Any,
    /// No port, but everything of which no ports can be seen.
    Opaque,
    /// An inclusive range, the lower end first.
    Between(u16, u16),
}

impl PortRange {
    /// The range from `first` to `last`; `None` where the order is wrong. That of every port is [`Any`](Self::Any).
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        match (first, last) {
            (0, u16::MAX) => Some(Self::Any),
            _ if first <= last => Some(Self::Between(first, last)),
            _ => None,
        }
    }

    /// Whether everything of `other` lies in this range.
    #[must_use]
    pub const fn covers(&self, other: &Self) -> bool {
        let ((first, last), (from, to)) = (self.ends(), other.ends());
        first <= from && to <= last
    }

    /// Whether anything lies in both.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        let ((first, last), (from, to)) = (self.ends(), other.ends());
        first <= to && from <= last
    }

    /// Where it begins and ends, with OPAQUE as the number beyond the last port.
    pub(crate) const fn ends(&self) -> (u32, u32) {
        match *self {
            Self::Any => (0, OPAQUE),
            Self::Opaque => (OPAQUE, OPAQUE),
            Self::Between(first, last) => (first as u32, last as u32),
        }
    }
}

const OPAQUE: u32 = 1 << 16;

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Any => f.write_str("any"),
            Self::Opaque => f.write_str("opaque"),
            Self::Between(first, last) if first == last => write!(f, "{first}"),
            Self::Between(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Debug for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
