//! Traffic selectors as they are said and shown (RFC 4301 section 4.4.1.1).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::words::words;

/// A traffic selector. Addresses of different families have no packet in common and select nothing together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SelectorSpec {
    /// Addresses behind this gateway: prefixes, addresses, or first and last with a dash between. One of them may stand
    /// without a list.
    #[serde(deserialize_with = "one_or_more")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub local: Vec<RangeSpec>,
    /// Addresses behind the peer, in the same way.
    #[serde(deserialize_with = "one_or_more")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub remote: Vec<RangeSpec>,
    /// The upper-layer protocol; any where it is missing.
    #[serde(default)]
    pub protocol: Option<u8>,
    /// ICMP messages: `type` and `code`, each first and last; or "opaque", for what shows no type. Any where it is missing.
    #[serde(default)]
    pub icmp: Option<IcmpSpec>,
    /// First and last local port, or a list of such pairs; or "opaque", for what shows no ports. Any where it is missing.
    #[serde(default)]
    pub local_ports: Option<PortsSpec>,
    /// Remote ports, in the same way.
    #[serde(default)]
    pub remote_ports: Option<PortsSpec>,
}

/// A traffic selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SelectorView {
    /// Addresses behind this gateway: a prefix, an address, or first and last with a dash between.
    pub local: String,
    /// Addresses behind the peer, in the same way.
    pub remote: String,
    /// The number of the upper-layer protocol; null is any.
    pub protocol: Option<u8>,
    /// ICMP messages: `type` and `code`, each first and last; "opaque" is what shows no type; null is any.
    #[serde(default)]
    pub icmp: Option<IcmpSpec>,
    /// First and last local port; "opaque" is what shows no ports; null is any.
    pub local_ports: Option<PortsView>,
    /// First and last remote port, in the same way.
    pub remote_ports: Option<PortsView>,
}

/// A range of addresses of one family, both ends included. Its text is a prefix, an address, or both ends with a dash
/// between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeSpec {
    first: IpAddr,
    last: IpAddr,
}

/// The text is no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRange;

/// Ports of one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(untagged, expecting = "ports are first and last, as [80, 80], a list of such pairs, or \"opaque\"")]
pub enum PortsSpec {
    /// First and last.
    Between(u16, u16),
    /// Several ranges.
    Several(Vec<(u16, u16)>),
    /// None that can be seen.
    Unseen(Unseen),
}

/// Ports of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(untagged)]
pub enum PortsView {
    /// First and last.
    Between(u16, u16),
    /// None that can be seen.
    Unseen(Unseen),
}

/// ICMP messages, or types of Mobility Header messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(
    untagged,
    expecting = "ICMP messages are {\"type\": [8, 8]}, for one type also {\"type\": [3, 3], \"code\": [0, 3]}, or \"opaque\""
)]
pub enum IcmpSpec {
    /// Types, or codes of one type.
    Messages(MessagesSpec),
    /// No type that can be seen.
    Unseen(Unseen),
}

/// Types of ICMP messages with all their codes, or codes of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MessagesSpec {
    /// First and last type.
    #[serde(rename = "type")]
    pub types: (u8, u8),
    /// First and last code; all of them where it is missing.
    #[serde(rename = "code", default = "every_code")]
    pub codes: (u8, u8),
}

words! {
    /// What a packet does not show (RFC 4301 4.4.1).
    Unseen {
        /// It is not there, or cannot be read.
        Opaque = "opaque",
    }
}

impl SelectorSpec {
    /// Everything between two ranges.
    #[must_use]
    pub fn between(local: impl Into<RangeSpec>, remote: impl Into<RangeSpec>) -> Self {
        Self {
            local: vec![local.into()],
            remote: vec![remote.into()],
            protocol: None,
            icmp: None,
            local_ports: None,
            remote_ports: None,
        }
    }
}

impl RangeSpec {
    /// The first and the last address.
    #[must_use]
    pub const fn ends(self) -> (IpAddr, IpAddr) {
        (self.first, self.last)
    }
}

impl From<IpNet> for RangeSpec {
    fn from(prefix: IpNet) -> Self {
        Self { first: prefix.network(), last: prefix.broadcast() }
    }
}

impl FromStr for RangeSpec {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (first.trim().parse().ok(), last.trim().parse().ok()),
            None => {
                let prefix = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
                let range = prefix.ok().map(Self::from);
                (range.map(|range| range.first), range.map(|range| range.last))
            }
        };
        let (first, last) = first.zip(last).ok_or(NoRange)?;
        let ordered = first <= last && first.is_ipv4() == last.is_ipv4();
        // T15: an IPv4 address in its IPv6 form would pass for the IPv4 address.
        let unmapped = [first, last].iter().all(|end| end.to_canonical() == *end);
        if ordered && unmapped { Ok(Self { first, last }) } else { Err(NoRange) }
    }
}

impl fmt::Display for RangeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        let mut prefixes = match (first, last) {
            _ if first == last => return write!(f, "{first}"),
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Ipv4Subnets::new(*first, *last, 0).map(IpNet::V4).take(2).collect::<Vec<_>>()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Ipv6Subnets::new(*first, *last, 0).map(IpNet::V6).take(2).collect()
            }
            _ => Vec::new(),
        };
        match (prefixes.pop(), prefixes.pop()) {
            (Some(prefix), None) => write!(f, "{prefix}"),
            _ => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for NoRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write a prefix, as 10.1.0.0/24, an address, or first and last, as 10.1.0.8-10.1.0.15")
    }
}

impl std::error::Error for NoRange {}

impl Serialize for RangeSpec {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RangeSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl PortsSpec {
    /// What shows no ports.
    pub const OPAQUE: Self = Self::Unseen(Unseen::Opaque);
}

impl PortsView {
    /// What shows no ports.
    pub const OPAQUE: Self = Self::Unseen(Unseen::Opaque);
}

impl fmt::Display for PortsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Between(first, last) if first == last => write!(f, "port {first}"),
            Self::Between(first, last) => write!(f, "ports {first}-{last}"),
            Self::Unseen(unseen) => write!(f, "ports {unseen}"),
        }
    }
}

impl IcmpSpec {
    /// What shows no type.
    pub const OPAQUE: Self = Self::Unseen(Unseen::Opaque);
}

impl fmt::Display for IcmpSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |(first, last): (u8, u8)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        match *self {
            Self::Unseen(unseen) => write!(f, "type {unseen}"),
            Self::Messages(MessagesSpec { types, codes }) => {
                write!(f, "type {}", range(types))?;
                if codes == every_code() { Ok(()) } else { write!(f, " code {}", range(codes)) }
            }
        }
    }
}

const fn every_code() -> (u8, u8) {
    (0, u8::MAX)
}

/// A list of ranges, or one alone.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RangeSpec>, D::Error> {
    struct OneOrMore;

    impl<'de> serde::de::Visitor<'de> for OneOrMore {
        type Value = Vec<RangeSpec>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a range of addresses, or a list of them")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            // What was found is not said: it may be a key in the wrong place (T40).
            let range = text.parse().map_err(E::custom)?;
            Ok(vec![range])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut ranges = Vec::new();
            while let Some(range) = list.next_element()? {
                ranges.push(range);
            }
            Ok(ranges)
        }
    }

    from.deserialize_any(OneOrMore)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn rfc_4301_4_4_1_1_a_range_is_a_prefix_an_address_or_both_ends() {
        for (text, shown, ends) in [
            ("10.1.0.0/24", "10.1.0.0/24", ("10.1.0.0", "10.1.0.255")),
            ("10.1.0.7", "10.1.0.7", ("10.1.0.7", "10.1.0.7")),
            ("10.1.0.7/32", "10.1.0.7", ("10.1.0.7", "10.1.0.7")),
            ("10.1.0.0 - 10.1.0.255", "10.1.0.0/24", ("10.1.0.0", "10.1.0.255")),
            ("10.1.0.1-10.1.0.4", "10.1.0.1-10.1.0.4", ("10.1.0.1", "10.1.0.4")),
            ("::/0", "::/0", ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
        ] {
            let range: RangeSpec = text.parse().unwrap();
            assert_eq!(range.to_string(), shown);
            assert_eq!(range.ends(), (ends.0.parse().unwrap(), ends.1.parse().unwrap()));
            assert_eq!(shown.parse(), Ok(range));
        }
        for text in ["", "10.1.0.0/33", "10.1.0.9-10.1.0.1", "10.0.0.1-::1", "-", "10.1.0.1-", "ten"] {
            assert_eq!(text.parse::<RangeSpec>(), Err(NoRange), "{text}");
        }
        for mapped in ["::ffff:10.0.0.1", "::ffff:10.0.0.0/120", "::-::ffff:10.0.0.1"] {
            assert_eq!(mapped.parse::<RangeSpec>(), Err(NoRange), "T15: {mapped}");
        }
    }

    fn read(more: &Value) -> Result<SelectorSpec, String> {
        let mut selector = json!({"local": "10.1.0.0/24", "remote": ["10.2.0.0/24", "10.3.0.1-10.3.0.9"]});
        selector.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(selector).map_err(|error| error.to_string())
    }

    #[test]
    fn rfc_4301_4_4_1_1_a_selector_says_what_a_file_can_say() {
        let said = read(&json!({
            "protocol": 6, "local_ports": [80, 90], "remote_ports": [[1, 2], [3, 4]], "icmp": null,
        }))
        .unwrap();
        assert_eq!((said.local.len(), said.remote.len()), (1, 2));
        assert_eq!(said.local_ports, Some(PortsSpec::Between(80, 90)));
        assert_eq!(said.remote_ports, Some(PortsSpec::Several(vec![(1, 2), (3, 4)])));
        let opaque =
            read(&json!({"local_ports": "opaque", "remote_ports": "opaque", "icmp": "opaque"})).unwrap();
        assert_eq!((opaque.local_ports, opaque.icmp), (Some(PortsSpec::OPAQUE), Some(IcmpSpec::OPAQUE)));
        let echo = read(&json!({"protocol": 1, "icmp": {"type": [8, 8]}})).unwrap();
        let messages = MessagesSpec { types: (8, 8), codes: (0, 255) };
        assert_eq!(echo.icmp, Some(IcmpSpec::Messages(messages)));
        for spec in [said, echo] {
            let again: SelectorSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
            assert_eq!(again, spec);
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_what_would_be_one() {
        for (more, says) in [
            (json!({"local": "ten"}), "write a prefix"),
            (json!({"remote": ["10.0.0.0/8", "::1-10.0.0.1"]}), "write a prefix"),
            (json!({"local": 7}), "a range of addresses, or a list"),
            (json!({"local_ports": "opqaue"}), "opaque"),
            (json!({"local_ports": 80}), "first and last"),
            (json!({"local_ports": [80, 65536]}), "first and last"),
            (json!({"icmp": {"type": [8, 8], "codes": [0, 0]}}), "ICMP messages are"),
            (json!({"icmp": {"code": [0, 0]}}), "ICMP messages are"),
        ] {
            let error = read(&more).unwrap_err();
            assert!(error.contains(says), "{more}: {error}");
        }
    }
}
