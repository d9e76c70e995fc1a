//! Traffic selectors (RFC 4301 section 4.4.1.1): which flows a policy or an SA speaks of.

mod icmp;

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::flow::{FlowKey, number, protocol};
use crate::traffic::Traffic;

pub use self::icmp::IcmpRange;

/// Ranges of addresses and ports on both sides, a protocol, and for ICMP what messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// Addresses behind this gateway.
    pub local: AddressRange,
    /// Addresses behind the peer.
    pub remote: AddressRange,
    /// The upper-layer protocol; `None` is ANY.
    pub protocol: Option<u8>,
    /// Ports of the local side.
    pub local_ports: PortRange,
    /// Ports of the remote side.
    pub remote_ports: PortRange,
    /// Types and codes of ICMP messages, or types of Mobility Header messages; `None` is ANY.
    pub icmp: Option<IcmpRange>,
}

/// An inclusive range of addresses of one family.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: u128,
    last: u128,
}

/// An inclusive range of ports; or ANY; or OPAQUE, which IKE, too, writes as a range whose ends are the wrong way round
/// (RFC 7296 section 3.13.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// The two ends of a range are of different families, or in the wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRange;

impl fmt::Display for BadRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a range needs two ends of one address family, the lower one first")
    }
}

impl std::error::Error for BadRange {}

impl Selector {
    /// Everything between two ranges of addresses.
    #[must_use]
    pub const fn between(local: AddressRange, remote: AddressRange) -> Self {
        let (local_ports, remote_ports) = (PortRange::ANY, PortRange::ANY);
        Self { local, remote, protocol: None, local_ports, remote_ports, icmp: None }
    }

    /// Whether the traffic is of those that this selector speaks of. Of flows without ports only a selector of any port
    /// does, or one of OPAQUE: what a [`FlowKey`] has in their place (0, or an ICMP identifier) are no ports. Of what is no
    /// ICMP message only a selector of any message does, or one of OPAQUE.
    // RFC 4301 section 4.4.1: where a protocol has no ports or types, they are OPAQUE, which ANY encompasses.
    #[inline]
    #[must_use]
    pub fn admits(&self, traffic: &Traffic) -> bool {
        let flow = &traffic.flow;
        self.local.contains(flow.local_number())
            && self.remote.contains(flow.remote_number())
            && self.protocol.is_none_or(|protocol| protocol == flow.protocol())
            && self.admits_ports(flow)
            && self.icmp.is_none_or(|range| match traffic.icmp {
                Some(message) => range.contains(message),
                None => range == IcmpRange::OPAQUE,
            })
    }

    /// Whether it speaks of a flow's later fragments by themselves, which show neither ports nor type: how a peer keeps
    /// them to an SA of their own (RFC 4301 section 7.2).
    #[must_use]
    pub fn admits_later_fragments(&self, flow: &FlowKey) -> bool {
        self.local.contains(flow.local_number())
            && self.remote.contains(flow.remote_number())
            && self.protocol.is_none_or(|protocol| protocol == flow.protocol())
            && self.admits_unseen_ports()
            && self.icmp.is_none_or(|range| range == IcmpRange::OPAQUE)
    }

    /// Whether it speaks of what shows no ports.
    #[inline]
    #[must_use]
    pub fn admits_unseen_ports(&self) -> bool {
        self.local_ports.admits_unseen() && self.remote_ports.admits_unseen()
    }

    /// The one flow that this selector speaks of, if it is one: an SA for it alone is a narrow one (C-22).
    #[must_use]
    pub fn only_flow(&self) -> Option<FlowKey> {
        let (local, remote) = (self.local.only()?, self.remote.only()?);
        let protocol = self.protocol.filter(|_| self.icmp.is_none())?;
        let only_port = |ports: PortRange| (ports.first == ports.last).then_some(ports.first);
        let ports = if has_ports(protocol) {
            (only_port(self.local_ports)?, only_port(self.remote_ports)?)
        } else {
            self.admits_unseen_ports().then_some((0, 0))?
        };
        Some(FlowKey::from_octets(local.to_be_bytes(), remote.to_be_bytes(), protocol, ports))
    }

    #[inline]
    fn admits_ports(&self, flow: &FlowKey) -> bool {
        if has_ports(flow.protocol()) {
            self.local_ports.contains(flow.local_port()) && self.remote_ports.contains(flow.remote_port())
        } else {
            self.admits_unseen_ports()
        }
    }
}

impl AddressRange {
    /// Every IPv4 address.
    pub const ANY_V4: Self = Self { first: 0xffff_0000_0000, last: 0xffff_ffff_ffff };
    /// Every IPv6 address.
    pub const ANY_V6: Self = Self { first: 0, last: u128::MAX };

    /// The range from `first` to `last`.
    ///
    /// # Errors
    /// [`BadRange`] where the families differ or the order is wrong.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, BadRange> {
        let (first, last) = (number(first), number(last));
        if is_v4(first) != is_v4(last) || first > last {
            return Err(BadRange);
        }
        Ok(Self { first, last })
    }

    /// One address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        Self { first: number(address), last: number(address) }
    }

    /// The first and the last address, as numbers.
    #[must_use]
    pub const fn numbers(&self) -> (u128, u128) {
        (self.first, self.last)
    }

    /// The one address of the range, as a number, if it has one.
    const fn only(&self) -> Option<u128> {
        if self.first == self.last { Some(self.first) } else { None }
    }

    /// Whether the address, as a number, lies in the range. IPv4 addresses are in no IPv6 range, though their mapped
    /// form lies between the ends of some.
    #[inline]
    #[must_use]
    pub const fn contains(&self, number: u128) -> bool {
        self.first <= number && number <= self.last && is_v4(number) == is_v4(self.first)
    }

    /// Whether every address of `other` lies in this range: how the PAD checks what a peer may claim.
    #[must_use]
    pub const fn covers(&self, other: &Self) -> bool {
        self.first <= other.first && other.last <= self.last && is_v4(self.first) == is_v4(other.first)
    }

    /// The addresses that lie in both: how a proposal is narrowed (L-73).
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        self.overlaps(other)
            .then(|| Self { first: self.first.max(other.first), last: self.last.min(other.last) })
    }

    /// The addresses of the range below one of them, given as a number, and those above it (L-73).
    #[must_use]
    pub const fn around(&self, number: u128) -> [Option<Self>; 2] {
        let (first, last) = (self.first, self.last);
        let below = if first < number { Some(Self { first, last: number - 1 }) } else { None };
        let next = number.saturating_add(1);
        // A range of IPv6 addresses does not begin among those that stand for IPv4 ones.
        let next = if is_v4(next) && !is_v4(first) { ((next >> 32) + 1) << 32 } else { next };
        let above = if number < last && next <= last { Some(Self { first: next, last }) } else { None };
        [below, above]
    }

    /// Whether the addresses are IPv4 ones.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        is_v4(self.first)
    }

    /// Whether any address lies in both.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last && is_v4(self.first) == is_v4(other.first)
    }
}

impl fmt::Debug for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |number: u128| {
            let v6 = std::net::Ipv6Addr::from(number);
            v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
        };
        match (*self == Self::ANY_V4, *self == Self::ANY_V6, self.first == self.last) {
            (true, _, _) => f.write_str("0.0.0.0/0"),
            (_, true, _) => f.write_str("::/0"),
            (_, _, true) => write!(f, "{}", show(self.first)),
            _ => write!(f, "{}-{}", show(self.first), show(self.last)),
        }
    }
}

impl PortRange {
    /// Every port, and every packet that has none.
    pub const ANY: Self = Self { first: 0, last: u16::MAX };
    /// No port, but every packet whose ports cannot be seen: its protocol has none that the gateway reads, as ESP has none
    /// (RFC 4301 section 4.4.1).
    pub const OPAQUE: Self = Self { first: u16::MAX, last: 0 };
    /// What matches nothing.
    const NONE: Self = Self { first: 1, last: 0 };

    /// The ports of an inclusive range; an empty range matches nothing. That of every port is [`ANY`](Self::ANY).
    #[must_use]
    pub const fn new(ports: &RangeInclusive<u16>) -> Self {
        let (first, last) = (*ports.start(), *ports.end());
        if first <= last { Self { first, last } } else { Self::NONE }
    }

    /// The first and the last port, of what has any.
    #[must_use]
    pub const fn ends(self) -> Option<(u16, u16)> {
        if self.first <= self.last { Some((self.first, self.last)) } else { None }
    }

    /// Whether packets match whose ports cannot be seen.
    #[inline]
    #[must_use]
    pub fn admits_unseen(self) -> bool {
        self == Self::ANY || self == Self::OPAQUE
    }

    /// The ports of the range below one of them, and those above it (L-73).
    #[must_use]
    pub const fn around(self, port: u16) -> [Option<Self>; 2] {
        let Self { first, last } = self;
        let below = if first < port { Some(Self { first, last: port - 1 }) } else { None };
        let above = if port < last { Some(Self { first: port + 1, last }) } else { None };
        [below, above]
    }

    /// Whether the port lies in the range.
    #[inline]
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Debug for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.ends()) {
            (Self::OPAQUE, _) => f.write_str("opaque"),
            (_, Some((first, last))) => write!(f, "{first}-{last}"),
            (_, None) => f.write_str("none"),
        }
    }
}

/// Whether the flows of a protocol have ports that the gateway reads.
#[inline]
#[must_use]
pub const fn has_ports(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::UDP | protocol::SCTP)
}

#[inline]
const fn is_v4(number: u128) -> bool {
    number >> 32 == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::protocol;

    fn flow(protocol: u8, local: &str, remote: &str) -> FlowKey {
        FlowKey::new(protocol, local.parse().unwrap(), remote.parse().unwrap())
    }

    fn traffic(protocol: u8, local: &str, remote: &str) -> Traffic {
        Traffic::of(&flow(protocol, local, remote))
    }

    fn range(first: &str, last: &str) -> AddressRange {
        AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }

    #[test]
    fn rfc_4301_4_4_1_1_every_member_must_match() {
        let selector = Selector {
            protocol: Some(protocol::TCP),
            remote_ports: PortRange::new(&(80..=90)),
            ..Selector::between(range("10.0.0.0", "10.0.0.255"), range("10.1.0.5", "10.1.0.9"))
        };
        assert!(selector.admits(&traffic(protocol::TCP, "10.0.0.1:5", "10.1.0.5:80")));
        assert!(selector.admits(&traffic(protocol::TCP, "10.0.0.255:5", "10.1.0.9:90")));
        for (protocol, local, remote) in [
            (protocol::UDP, "10.0.0.1:5", "10.1.0.5:80"),
            (protocol::TCP, "10.0.1.0:5", "10.1.0.5:80"),
            (protocol::TCP, "10.0.0.1:5", "10.1.0.4:80"),
            (protocol::TCP, "10.0.0.1:5", "10.1.0.10:80"),
            (protocol::TCP, "10.0.0.1:5", "10.1.0.5:79"),
            (protocol::TCP, "10.0.0.1:5", "10.1.0.5:91"),
        ] {
            assert!(!selector.admits(&traffic(protocol, local, remote)), "{local} {remote}");
        }
    }

    /// An echo identifier or the 0 of a protocol without ports must not pass for a port: a BYPASS rule of port 22 would
    /// let `ping` with that identifier leave in the clear.
    #[test]
    fn rfc_4301_4_4_1_1_a_port_matches_only_flows_that_have_ports() {
        let everywhere = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let low = Selector { remote_ports: PortRange::new(&(0..=1023)), ..everywhere.clone() };
        let (local, remote) = ("10.0.0.1:22", "10.1.0.5:22");
        for with_ports in [protocol::TCP, protocol::UDP, protocol::SCTP] {
            assert!(low.admits(&traffic(with_ports, local, remote)));
        }
        for without in [protocol::ICMP, protocol::ICMPV6, 4, 41, 47, 50] {
            assert!(!low.admits(&traffic(without, local, remote)), "{without}");
            assert!(!low.admits(&traffic(without, "10.0.0.1:0", "10.1.0.5:0")), "{without}");
            assert!(everywhere.admits(&traffic(without, local, remote)), "{without}");
        }
    }

    /// RFC 4301 4.4.1: ANY encompasses OPAQUE, which matches what cannot be seen and nothing else; a range never does.
    #[test]
    fn rfc_4301_4_4_1_opaque_matches_what_cannot_be_seen_and_only_that() {
        let everywhere = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let all_but_one = PortRange::new(&(1..=u16::MAX));
        let ranges = [PortRange::ANY, PortRange::OPAQUE, PortRange::new(&(0..=0)), all_but_one];
        let admits = |range: PortRange, port: Option<u16>| match (range, port) {
            (PortRange::ANY, _) | (PortRange::OPAQUE, None) => true,
            (PortRange::OPAQUE, _) | (_, None) => false,
            (_, Some(port)) => range.contains(port),
        };
        for local_ports in ranges {
            for remote_ports in ranges {
                let selector = Selector { local_ports, remote_ports, ..everywhere.clone() };
                for protocol in 0..=u8::MAX {
                    for port in [0, 1, u16::MAX] {
                        let (local, remote) = (format!("10.0.0.1:{port}"), format!("10.1.0.1:{port}"));
                        let seen = has_ports(protocol).then_some(port);
                        let expected = admits(local_ports, seen) && admits(remote_ports, seen);
                        let traffic = traffic(protocol, &local, &remote);
                        assert_eq!(selector.admits(&traffic), expected, "{selector:?} {traffic:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn rfc_4301_4_4_1_an_opaque_message_is_that_of_what_shows_no_type() {
        let everywhere = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let opaque = Selector { icmp: Some(IcmpRange::OPAQUE), ..everywhere.clone() };
        let all = Selector { icmp: Some(IcmpRange::new(&(0..=255), &(0..=255))), ..everywhere };
        let (local, remote) = ("10.0.0.1:0", "10.1.0.1:0");
        for protocol in [protocol::ICMP, protocol::ICMPV6, protocol::MOBILITY, protocol::TCP, 50] {
            let flow = flow(protocol, local, remote);
            for icmp in [None, Some((0, 0)), Some((8, 0)), Some((255, 0)), Some((255, 255))] {
                let traffic = Traffic { flow, icmp };
                assert_eq!(opaque.admits(&traffic), icmp.is_none(), "{traffic:?}");
                assert_eq!(all.admits(&traffic), icmp.is_some(), "{traffic:?}");
            }
        }
    }

    /// A range that is written the wrong way round is empty, and not OPAQUE.
    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "empty ranges are what is tried")]
    fn rfc_4301_4_4_1_an_empty_range_is_not_opaque() {
        let everywhere = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let ports = PortRange::new(&(u16::MAX..=0));
        let icmp = Some(IcmpRange::new(&(255..=0), &(255..=0)));
        let by_ports = Selector { local_ports: ports, remote_ports: ports, ..everywhere.clone() };
        let by_message = Selector { icmp, ..everywhere };
        for protocol in [protocol::TCP, protocol::ICMP, 50] {
            for port in [0, 1, u16::MAX] {
                let traffic = traffic(protocol, &format!("10.0.0.1:{port}"), &format!("10.1.0.1:{port}"));
                assert!(!by_ports.admits(&traffic) && !by_message.admits(&traffic), "{traffic:?}");
            }
        }
    }

    /// RFC 4301 7.2: an SA for the later fragments of a protocol, whose ports are OPAQUE.
    #[test]
    fn rfc_4301_7_2_an_opaque_selector_speaks_of_later_fragments() {
        let tcp = Selector {
            protocol: Some(protocol::TCP),
            ..Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4)
        };
        let of = |ports| Selector { local_ports: ports, remote_ports: ports, ..tcp.clone() };
        let flow = flow(protocol::TCP, "10.0.0.1:0", "10.1.0.1:0");
        assert!(of(PortRange::OPAQUE).admits_later_fragments(&flow) && tcp.admits_later_fragments(&flow));
        assert!(!of(PortRange::OPAQUE).admits(&Traffic::of(&flow)));
        for ports in [PortRange::new(&(0..=0)), PortRange::new(&(0..=65534))] {
            assert!(!of(ports).admits_later_fragments(&flow), "{ports:?}");
        }
        let echo = Selector { icmp: Some(IcmpRange::of_type(8)), protocol: Some(protocol::ICMP), ..tcp };
        let flow = FlowKey::new(protocol::ICMP, flow.local(), flow.remote());
        assert!(!echo.admits_later_fragments(&flow));
        assert!(
            Selector { icmp: Some(IcmpRange::OPAQUE), ..echo }.admits_later_fragments(&flow),
            "and those of ICMP messages"
        );
    }

    #[test]
    fn c_22_a_selector_of_one_flow_names_it_and_any_other_none() {
        let (local, remote) = (range("10.0.0.1", "10.0.0.1"), range("10.1.0.1", "10.1.0.1"));
        let wide = Selector::between(local, remote);
        let port = |port| PortRange::new(&(port..=port));
        let one = Selector {
            protocol: Some(protocol::TCP),
            local_ports: port(5),
            remote_ports: port(80),
            ..wide.clone()
        };
        assert_eq!(one.only_flow(), Some(flow(protocol::TCP, "10.0.0.1:5", "10.1.0.1:80")));
        for other in [
            wide.clone(),
            Selector { local: range("10.0.0.1", "10.0.0.2"), ..one.clone() },
            Selector { remote: AddressRange::ANY_V4, ..one.clone() },
            Selector { protocol: None, ..one.clone() },
            Selector { local_ports: PortRange::ANY, ..one.clone() },
            Selector { remote_ports: PortRange::new(&(80..=81)), ..one.clone() },
        ] {
            assert_eq!(other.only_flow(), None, "{other:?}");
        }
        let without_ports = Selector { protocol: Some(47), ..wide };
        assert_eq!(without_ports.only_flow(), Some(flow(47, "10.0.0.1:0", "10.1.0.1:0")));
        let opaque = Selector { local_ports: PortRange::OPAQUE, ..without_ports.clone() };
        assert_eq!(opaque.only_flow(), without_ports.only_flow());
        assert_eq!(Selector { local_ports: PortRange::OPAQUE, ..one }.only_flow(), None);
        assert_eq!(Selector { local_ports: port(5), ..without_ports }.only_flow(), None);
    }

    #[test]
    fn l_73_an_intersection_is_what_lies_in_both_ranges() {
        let one = range("10.0.0.10", "10.0.0.20");
        for (other, common) in [
            (range("10.0.0.15", "10.0.0.30"), Some(range("10.0.0.15", "10.0.0.20"))),
            (range("10.0.0.12", "10.0.0.13"), Some(range("10.0.0.12", "10.0.0.13"))),
            (range("10.0.0.20", "10.0.0.20"), Some(range("10.0.0.20", "10.0.0.20"))),
            (range("10.0.0.21", "10.0.0.30"), None),
            (AddressRange::ANY_V4, Some(one)),
            (AddressRange::ANY_V6, None),
        ] {
            assert_eq!(one.intersection(&other), common, "{other}");
            assert_eq!(other.intersection(&one), common, "{other}");
        }
    }

    #[test]
    fn l_73_around_an_address_lies_the_rest_of_its_range_and_of_its_family() {
        let number = |address: &str| crate::flow::number(address.parse().unwrap());
        let whole = range("10.0.0.1", "10.0.0.9");
        assert_eq!(
            whole.around(number("10.0.0.5")),
            [Some(range("10.0.0.1", "10.0.0.4")), Some(range("10.0.0.6", "10.0.0.9"))]
        );
        assert_eq!(whole.around(number("10.0.0.1")), [None, Some(range("10.0.0.2", "10.0.0.9"))]);
        assert_eq!(whole.around(number("10.0.0.9")), [Some(range("10.0.0.1", "10.0.0.8")), None]);
        assert_eq!(AddressRange::ANY_V4.around(number("255.255.255.255"))[1], None);
        let [below, above] = AddressRange::ANY_V6.around(number("::fffe:ffff:ffff"));
        assert!(!below.unwrap().is_ipv4() && !above.unwrap().is_ipv4());
        assert!(above.unwrap().contains(number("::1:0:0:0")));
        assert_eq!(PortRange::ANY.around(0), [None, Some(PortRange::new(&(1..=65535)))]);
        assert_eq!(PortRange::ANY.around(65535), [Some(PortRange::new(&(0..=65534))), None]);
    }

    #[test]
    fn ranges_keep_to_their_family() {
        assert!(AddressRange::new("10.0.0.1".parse().unwrap(), "::1".parse().unwrap()).is_err());
        assert!(AddressRange::new("10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap()).is_err());
        let v6 = Selector::between(range("fd00::", "fd00::ff"), AddressRange::ANY_V6);
        assert!(v6.admits(&traffic(protocol::UDP, "[fd00::1]:1", "[2001:db8::1]:2")));
        let any_v6 = Selector::between(AddressRange::ANY_V6, AddressRange::ANY_V6);
        assert!(!any_v6.admits(&traffic(protocol::UDP, "10.0.0.1:1", "10.0.0.2:2")));
        assert!(!AddressRange::ANY_V6.covers(&AddressRange::ANY_V4));
        let v4 = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        assert!(!v4.admits(&traffic(protocol::UDP, "[fd00::1]:1", "[2001:db8::1]:2")));
    }
}
