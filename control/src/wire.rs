//! What wire sockets are bound to, as one string.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a wire socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireSpec {
    /// ESP in UDP, at an address and a port: `192.0.2.1:4500`.
    Udp(SocketAddr),
    /// IP protocols 50 and 51, at an address: `native:192.0.2.1`.
    Native(IpAddr),
}

impl From<SocketAddr> for WireSpec {
    fn from(address: SocketAddr) -> Self {
        Self::Udp(address)
    }
}

impl fmt::Display for WireSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "{address}"),
            Self::Native(address) => write!(f, "{NATIVE}{address}"),
        }
    }
}

impl FromStr for WireSpec {
    type Err = NoWire;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(NATIVE) {
            Some(address) => address.parse().map(Self::Native).map_err(|_| NoWire),
            None => text.parse().map(Self::Udp).map_err(|_| NoWire),
        }
    }
}

/// A text is nothing to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write an address with its UDP port, as 192.0.2.1:4500, or native:192.0.2.1 for ESP and AH without UDP"
)]
pub struct NoWire;

impl Serialize for WireSpec {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        into.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WireSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// In front of an address that is listened on without UDP.
const NATIVE: &str = "native:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listened_on_is_read_as_it_is_shown() {
        for text in ["192.0.2.1:4500", "[2001:db8::1]:4500", "native:192.0.2.1", "native:2001:db8::1"] {
            let listen: WireSpec = text.parse().unwrap();
            assert_eq!(listen.to_string(), text);
            assert_eq!(serde_json::to_string(&listen).unwrap(), format!("\"{text}\""));
        }
        for text in ["", "192.0.2.1", "native:192.0.2.1:4500", "esp:192.0.2.1", "native:"] {
            assert_eq!(text.parse::<WireSpec>(), Err(NoWire), "{text}");
        }
    }
}
