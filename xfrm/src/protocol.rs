//! Names of upper-layer protocols, as /etc/protocols has them.

use crate::number::number;

/// The number of a protocol by its name or number; `any` is 0.
pub(crate) fn protocol(word: &str) -> Option<u8> {
    let named = |(name, alias, _): &&(&str, &str, u8)| *name == word || *alias == word;
    match word {
        "any" => Some(0),
        _ => NAMES.iter().find(named).map(|(_, _, number)| *number).or_else(|| number(word)),
    }
}

/// The name of a protocol, or its number.
pub(crate) fn name(number: u8) -> String {
    let known = NAMES.iter().find(|(_, _, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _, _)| (*name).to_owned())
}

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const DCCP: u8 = 33;
pub(crate) const GRE: u8 = 47;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;
pub(crate) const MOBILITY: u8 = 135;

/// Name, other name, number.
const NAMES: [(&str, &str, u8); 31] = [
    ("ip", "IP", 0),
    ("icmp", "ICMP", ICMP),
    ("igmp", "IGMP", 2),
    ("ggp", "GGP", 3),
    ("ipencap", "IP-ENCAP", 4),
    ("st", "ST", 5),
    ("tcp", "TCP", TCP),
    ("egp", "EGP", 8),
    ("igp", "IGP", 9),
    ("pup", "PUP", 12),
    ("udp", "UDP", UDP),
    ("dccp", "DCCP", DCCP),
    ("ipv6", "IPv6", 41),
    ("ipv6-route", "IPv6-Route", 43),
    ("ipv6-frag", "IPv6-Frag", 44),
    ("rsvp", "RSVP", 46),
    ("gre", "GRE", GRE),
    ("esp", "IPSEC-ESP", 50),
    ("ah", "IPSEC-AH", 51),
    ("ipv6-icmp", "IPv6-ICMP", ICMPV6),
    ("ipv6-nonxt", "IPv6-NoNxt", 59),
    ("ipv6-opts", "IPv6-Opts", 60),
    ("eigrp", "EIGRP", 88),
    ("ospf", "OSPFIGP", 89),
    ("ipip", "IPIP", 94),
    ("etherip", "ETHERIP", 97),
    ("pim", "PIM", 103),
    ("ipcomp", "IPCOMP", 108),
    ("vrrp", "VRRP", 112),
    ("sctp", "SCTP", SCTP),
    ("mobility-header", "Mobility-Header", MOBILITY),
];
