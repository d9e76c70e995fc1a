//! A packet as one writes it on the command line: `tcp 10.1.0.1:40000 10.2.0.1:80`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use latchway_datapath::selector::has_ports;

/// A packet to ask about. What it is made of has been checked to belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketSpec {
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
    size: Option<u32>,
}

/// What is wrong with the words, and how to write them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// A part is missing.
    #[error("{0} is missing; write PROTOCOL SOURCE DESTINATION, as in `tcp 10.1.0.1:40000 10.2.0.1:80`")]
    Missing(&'static str),
    /// More words than parts.
    #[error("{0:?} is too much; after the destination comes `size OCTETS`, or nothing")]
    Excess(String),
    /// No protocol has this name.
    #[error("{0:?} is no protocol that is known by name; use {names} or a number up to 255", names = names())]
    Protocol(String),
    /// Neither an address nor an address with a port.
    #[error("{0:?} is no address; write 10.1.0.1, 10.1.0.1:80, fd00::1 or [fd00::1]:80, not a name")]
    Address(String),
    /// The protocol has ports.
    #[error("{protocol} has ports, and {address} has none; write {}", with_port(*address))]
    NoPort {
        /// The protocol.
        protocol: &'static str,
        /// The address without one.
        address: IpAddr,
    },
    /// The protocol has no ports.
    #[error("{protocol} has no ports, and {end} has one; write {}", end.ip())]
    Port {
        /// The protocol.
        protocol: String,
        /// The address with one.
        end: SocketAddr,
    },
    /// Source and destination of different families.
    #[error("{0} and {1} are of different families; a packet has two addresses of one")]
    Families(IpAddr, IpAddr),
    /// ICMP of the other family.
    #[error("{0} is not spoken over the family of {1}; write icmp, which means the one that is")]
    Icmp(&'static str, IpAddr),
    /// No size of an IP packet.
    #[error("{0:?} is no size of a packet in octets; write a number from 20 to 65535")]
    Size(String),
}

/// Protocols with a name here (IANA's Assigned Internet Protocol Numbers).
const NAMES: [(&str, u8); 12] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("icmpv6", ICMPV6),
    ("ospf", 89),
    ("pim", 103),
    ("sctp", 132),
    ("udplite", 136),
];

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

impl PacketSpec {
    /// The protocol's number.
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Whether its protocol has ports.
    pub const fn has_ports(&self) -> bool {
        has_ports(self.protocol)
    }

    /// Where it comes from; port 0 where the protocol has none.
    pub const fn source(&self) -> SocketAddr {
        self.source
    }

    /// Where it goes.
    pub const fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// How long it is, in octets, where that was said.
    pub const fn size(&self) -> Option<u32> {
        self.size
    }
}

impl FromStr for PacketSpec {
    type Err = BadPacket;

    fn from_str(text: &str) -> Result<Self, BadPacket> {
        let mut words = text.split_whitespace().filter(|word| !matches!(*word, ">" | "->" | "to"));
        let protocol = words.next().ok_or(BadPacket::Missing("the protocol"))?;
        let protocol = protocol_number(protocol)?;
        let source = End::parse(words.next().ok_or(BadPacket::Missing("the source"))?)?;
        let destination = End::parse(words.next().ok_or(BadPacket::Missing("the destination"))?)?;
        let size = match words.next() {
            Some("size") => Some(size(words.next().unwrap_or_default())?),
            Some(other) => return Err(BadPacket::Excess(other.into())),
            None => None,
        };
        if let Some(other) = words.next() {
            return Err(BadPacket::Excess(other.into()));
        }
        if source.address.is_ipv4() != destination.address.is_ipv4() {
            return Err(BadPacket::Families(source.address, destination.address));
        }
        let protocol = of_family(protocol, source.address)?;
        let (source, destination) = (source.of(protocol)?, destination.of(protocol)?);
        Ok(Self { protocol, source, destination, size })
    }
}

impl fmt::Display for PacketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", protocol_name(self.protocol))?;
        for end in [self.source, self.destination] {
            if has_ports(self.protocol) {
                write!(f, " {end}")?;
            } else {
                write!(f, " {}", end.ip())?;
            }
        }
        match self.size {
            Some(size) => write!(f, " size {size}"),
            None => Ok(()),
        }
    }
}

/// The protocol's name, or its number where it has none here.
pub fn protocol_name(number: u8) -> String {
    NAMES
        .iter()
        .find(|(_, known)| *known == number)
        .map_or_else(|| number.to_string(), |(name, _)| (*name).into())
}

/// The number of a protocol by name or number.
pub fn protocol_number(text: &str) -> Result<u8, BadPacket> {
    let lower = text.to_ascii_lowercase();
    let alias = if lower == "icmp6" { "icmpv6" } else { &lower };
    let named = NAMES.iter().find(|(name, _)| *name == alias).map(|(_, number)| *number);
    named.or_else(|| lower.parse().ok()).ok_or_else(|| BadPacket::Protocol(text.into()))
}

/// "icmp" is the one of the addresses' family.
fn of_family(protocol: u8, address: IpAddr) -> Result<u8, BadPacket> {
    match protocol {
        ICMP if address.is_ipv6() => Ok(ICMPV6),
        ICMPV6 if address.is_ipv4() => Err(BadPacket::Icmp("icmpv6", address)),
        other => Ok(other),
    }
}

fn size(text: &str) -> Result<u32, BadPacket> {
    let size = text.parse().ok().filter(|size| (20..=65_535).contains(size));
    size.ok_or_else(|| BadPacket::Size(text.into()))
}

/// One end, before it is known whether there must be a port.
struct End {
    address: IpAddr,
    port: Option<u16>,
}

impl End {
    fn parse(text: &str) -> Result<Self, BadPacket> {
        if let Ok(end) = text.parse::<SocketAddr>()
            && no_scope(&end)
        {
            return Ok(Self { address: end.ip(), port: Some(end.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address = bare.parse().map_err(|_| BadPacket::Address(text.into()))?;
        Ok(Self { address, port: None })
    }

    fn of(&self, protocol: u8) -> Result<SocketAddr, BadPacket> {
        match (has_ports(protocol), self.port) {
            (true, Some(port)) => Ok(SocketAddr::new(self.address, port)),
            (false, None) => Ok(SocketAddr::new(self.address, 0)),
            (true, None) => {
                let protocol =
                    NAMES.iter().find(|(_, number)| *number == protocol).map_or("it", |(name, _)| name);
                Err(BadPacket::NoPort { protocol, address: self.address })
            }
            (false, Some(port)) => Err(BadPacket::Port {
                protocol: protocol_name(protocol),
                end: SocketAddr::new(self.address, port),
            }),
        }
    }
}

/// An address of a link, as `[fe80::1%2]:80`, says nothing to a gateway.
fn no_scope(end: &SocketAddr) -> bool {
    matches!(end, SocketAddr::V4(_)) || matches!(end, SocketAddr::V6(end) if end.scope_id() == 0)
}

fn with_port(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:PORT"),
        IpAddr::V6(address) => format!("[{address}]:PORT"),
    }
}

fn names() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        text.parse::<PacketSpec>().unwrap().to_string()
    }

    #[test]
    fn packets_are_written_in_several_ways() {
        for (written, normal_form) in [
            ("tcp 10.1.0.1:40000 10.2.0.1:80", "tcp 10.1.0.1:40000 10.2.0.1:80"),
            ("  TCP 10.1.0.1:40000 -> 10.2.0.1:80 ", "tcp 10.1.0.1:40000 10.2.0.1:80"),
            ("udp [fd00::1]:53 > [fd01::2]:1024", "udp [fd00::1]:53 [fd01::2]:1024"),
            ("icmp 10.1.0.1 to 10.2.0.1 size 1400", "icmp 10.1.0.1 10.2.0.1 size 1400"),
            ("icmp fd00::1 [fd01::2]", "icmpv6 fd00::1 fd01::2"),
            ("icmp6 fd00::1 fd01::2", "icmpv6 fd00::1 fd01::2"),
            ("6 10.1.0.1:1 10.2.0.1:2", "tcp 10.1.0.1:1 10.2.0.1:2"),
            ("253 10.1.0.1 10.2.0.1", "253 10.1.0.1 10.2.0.1"),
        ] {
            assert_eq!(normal(written), normal_form);
        }
    }

    #[test]
    fn bad_packets_say_what_is_wrong() {
        for (written, says) in [
            ("", "the protocol is missing"),
            ("tcp", "the source is missing"),
            ("tcp 10.1.0.1:1 >", "the destination is missing"),
            ("tpc 10.1.0.1:1 10.2.0.1:2", "\"tpc\" is no protocol"),
            ("256 10.1.0.1 10.2.0.1", "\"256\" is no protocol"),
            ("tcp host.example:80 10.2.0.1:2", "\"host.example:80\" is no address"),
            ("tcp 10.1.0.1:99999 10.2.0.1:2", "\"10.1.0.1:99999\" is no address"),
            ("udp [fe80::1%1]:53 [fe80::2]:53", "\"[fe80::1%1]:53\" is no address"),
            ("tcp 10.1.0.1 10.2.0.1:2", "write 10.1.0.1:PORT"),
            ("udp fd00::1:53 fd00::2", "write [fd00::1:53]:PORT"),
            ("icmp 10.1.0.1:8 10.2.0.1", "write 10.1.0.1"),
            ("tcp 10.1.0.1:1 [fd00::1]:2", "different families"),
            ("icmpv6 10.1.0.1 10.2.0.1", "write icmp"),
            ("tcp 10.1.0.1:1 10.2.0.1:2 80", "\"80\" is too much"),
            ("tcp 10.1.0.1:1 10.2.0.1:2 size", "no size"),
            ("tcp 10.1.0.1:1 10.2.0.1:2 size 65536", "no size"),
            ("tcp 10.1.0.1:1 10.2.0.1:2 size 100 x", "\"x\" is too much"),
        ] {
            let error = written.parse::<PacketSpec>().unwrap_err().to_string();
            assert!(error.contains(says), "{written}: {error}");
        }
    }

    /// What is shown is understood again, for any packet; and no text makes the parser fall over.
    #[test]
    fn any_packet_survives_being_written_and_read() {
        let mut random = fastrand::Rng::with_seed(0x4c57);
        for _ in 0..20_000 {
            let protocol = random.u8(..);
            let v6 = random.bool() && protocol != ICMP || protocol == ICMPV6;
            let mut end = || {
                let address: IpAddr = if v6 {
                    random.u128(..).to_be_bytes().into()
                } else {
                    random.u32(..).to_be_bytes().into()
                };
                SocketAddr::new(address, if has_ports(protocol) { random.u16(..) } else { 0 })
            };
            let (source, destination) = (end(), end());
            let size = random.bool().then(|| random.u32(20..=65_535));
            let packet = PacketSpec { protocol, source, destination, size };
            let text = packet.to_string();
            assert_eq!(text.parse(), Ok(packet), "{text}");
            let mut octets = text.into_bytes();
            let at = random.usize(..octets.len());
            octets[at] = random.u8(..);
            let _ = String::from_utf8_lossy(&octets).parse::<PacketSpec>().map(|packet| packet.to_string());
        }
    }
}
