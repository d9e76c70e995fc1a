//! The 5-tuple of a flow, as seen from this side: local is the inner host behind this gateway.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The 5-tuple that names a flow (L-1, L-55), the same for both directions. For ICMP echo both ports are the
/// identifier's; where a protocol has no ports they are 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    words: [u64; 5],
}

/// Protocol numbers that the gateway knows by name.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// Mobility Header (RFC 6275).
    pub const MOBILITY: u8 = 135;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

impl FlowKey {
    /// The flow between a local and a remote address of one family.
    #[must_use]
    pub fn new(protocol: u8, local: SocketAddr, remote: SocketAddr) -> Self {
        Self::from_octets(octets(local.ip()), octets(remote.ip()), protocol, (local.port(), remote.port()))
    }

    /// The flow from 16-octet addresses (IPv4 ones mapped, RFC 4291 2.5.5.2) and (local, remote) ports.
    #[inline]
    #[must_use]
    pub fn from_octets(local: [u8; 16], remote: [u8; 16], protocol: u8, ports: (u16, u16)) -> Self {
        let (local, remote) = (u128::from_be_bytes(local), u128::from_be_bytes(remote));
        let last = (u64::from(protocol) << 32) | (u64::from(ports.0) << 16) | u64::from(ports.1);
        Self { words: [(local >> 64) as u64, local as u64, (remote >> 64) as u64, remote as u64, last] }
    }

    /// The flow that [`words`](Self::words) described.
    #[inline]
    #[must_use]
    pub const fn from_words(words: [u64; 5]) -> Self {
        Self { words }
    }

    /// The key as five words, as a flow table keeps them in atomics: local, remote, protocol and ports.
    #[inline]
    #[must_use]
    pub const fn words(&self) -> [u64; 5] {
        self.words
    }

    /// The protocol of the upper layer.
    #[inline]
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        (self.words[4] >> 32) as u8
    }

    /// The local address as a number, IPv4 mapped.
    #[inline]
    #[must_use]
    pub const fn local_number(&self) -> u128 {
        ((self.words[0] as u128) << 64) | self.words[1] as u128
    }

    /// The remote address as a number, IPv4 mapped.
    #[inline]
    #[must_use]
    pub const fn remote_number(&self) -> u128 {
        ((self.words[2] as u128) << 64) | self.words[3] as u128
    }

    /// Whether either address has no meaning beyond one link: 169.254/16, 224.0.0/24, fe80::/10, multicast of that scope or
    /// less, and the unspecified source of duplicate address detection (RFC 3927, RFC 5771, RFC 4291).
    #[inline]
    #[must_use]
    pub const fn is_link_local(&self) -> bool {
        let [local, local_low, remote, remote_low, _] = self.words;
        is_link_local(local, local_low)
            || is_link_local(remote, remote_low)
            || (local | local_low == 0 && remote >> 56 == 0xff)
    }

    /// Whether it is one between IPv4 addresses.
    #[inline]
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.words[0] == 0 && self.words[1] >> 32 == 0xffff
    }

    /// The local address and port.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(address(self.local_number()), self.local_port())
    }

    /// The remote address and port.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(address(self.remote_number()), self.remote_port())
    }

    /// The local port.
    #[inline]
    #[must_use]
    pub const fn local_port(&self) -> u16 {
        (self.words[4] >> 16) as u16
    }

    /// The remote port.
    #[inline]
    #[must_use]
    pub const fn remote_port(&self) -> u16 {
        self.words[4] as u16
    }
}

impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        for word in self.words {
            state.write_u64(word);
        }
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol() {
            protocol::TCP => f.write_str("tcp ")?,
            protocol::UDP => f.write_str("udp ")?,
            protocol::ICMP => f.write_str("icmp ")?,
            protocol::ICMPV6 => f.write_str("icmp6 ")?,
            protocol::SCTP => f.write_str("sctp ")?,
            other => write!(f, "proto-{other} ")?,
        }
        write!(f, "{}-{}", self.local(), self.remote())
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address as a number, IPv4 mapped into IPv6, the order of selectors.
#[must_use]
pub fn number(address: IpAddr) -> u128 {
    u128::from_be_bytes(octets(address))
}

/// An IPv4 address in the mapped form.
#[inline]
#[must_use]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Of an address in two halves, IPv4 mapped.
#[inline]
const fn is_link_local(high: u64, low: u64) -> bool {
    if high == 0 {
        return low >> 16 == 0xffff_a9fe || low >> 8 == 0xff_ffe0_0000;
    }
    // Of multicast whatever its flags are (RFC 4291 section 2.7).
    high >> 54 == 0xfe80 >> 6 || (high >> 56 == 0xff && matches!(high >> 48 & 0xf, 1 | 2))
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn address(number: u128) -> IpAddr {
    let v6 = Ipv6Addr::from(number);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), |v4: Ipv4Addr| IpAddr::V4(v4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4291_2_5_6_link_local_addresses_are_known_in_both_families() {
        let flow = |remote: &str| {
            let local = if remote.starts_with('[') { "[fd00::1]:0" } else { "10.0.0.1:0" };
            FlowKey::new(protocol::UDP, local.parse().unwrap(), remote.parse().unwrap())
        };
        for remote in [
            "169.254.3.4:0",
            "224.0.0.22:0",
            "[fe80::1]:0",
            "[ff02::16]:0",
            "[febf::1]:0",
            "[ff12::1]:0",
            "[ff01::1]:0",
        ] {
            assert!(flow(remote).is_link_local(), "{remote}");
        }
        for remote in [
            "169.253.3.4:0",
            "224.0.1.1:0",
            "[fec0::1]:0",
            "[ff05::2]:0",
            "[ff15::1]:0",
            "10.0.0.2:0",
            "[fd00::2]:0",
        ] {
            assert!(!flow(remote).is_link_local(), "{remote}");
        }
    }

    #[test]
    fn l_1_flows_that_differ_in_any_member_are_different_flows() {
        let base = ("10.0.0.1:10", "10.0.0.2:20");
        let key = |protocol, (local, remote): (&str, &str)| {
            FlowKey::new(protocol, local.parse().unwrap(), remote.parse().unwrap())
        };
        let flow = key(protocol::TCP, base);
        assert_eq!(flow, key(protocol::TCP, base));
        assert_ne!(flow, key(protocol::UDP, base));
        for other in [
            ("10.0.0.3:10", "10.0.0.2:20"),
            ("10.0.0.1:11", "10.0.0.2:20"),
            ("10.0.0.1:10", "10.0.0.3:20"),
            ("10.0.0.1:10", "10.0.0.2:21"),
            ("10.0.0.2:20", "10.0.0.1:10"),
        ] {
            assert_ne!(flow, key(protocol::TCP, other));
        }
        assert_eq!(flow.to_string(), "tcp 10.0.0.1:10-10.0.0.2:20");
        assert_eq!(FlowKey::from_words(flow.words()), flow);
    }
}
