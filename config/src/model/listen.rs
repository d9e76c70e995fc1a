//! What wire sockets are bound to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What a wire socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// ESP in UDP (RFC 3948), at an address and a port.
    Udp(SocketAddr),
    /// ESP and AH as IP protocols 50 and 51, at a single address.
    Native(IpAddr),
}

impl Listen {
    /// Its address.
    #[must_use]
    pub const fn ip(&self) -> IpAddr {
        match self {
            Self::Udp(address) => address.ip(),
            Self::Native(address) => *address,
        }
    }

    /// Whether that is an IPv4 address.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.ip().is_ipv4()
    }

    /// Whether packets come without UDP.
    #[must_use]
    pub const fn is_native(&self) -> bool {
        matches!(self, Self::Native(_))
    }

    /// As the sockets of status output have it: without a port where there is no UDP.
    #[must_use]
    pub const fn socket_address(&self) -> SocketAddr {
        match self {
            Self::Udp(address) => *address,
            Self::Native(address) => SocketAddr::new(*address, 0),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "{address}"),
            Self::Native(address) => write!(f, "{NATIVE}{address}"),
        }
    }
}

/// In front of an address that is listened on without UDP.
pub(crate) const NATIVE: &str = "native:";
