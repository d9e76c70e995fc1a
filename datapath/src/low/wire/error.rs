//! Why the wire could not be bound, and what to do about it.

use std::net::{IpAddr, SocketAddr};
use std::{fmt, io};

use latchway_esp::Protocol;
use rustix::io::Errno;

/// Each says what was tried and what helps.
#[derive(Debug)]
#[non_exhaustive]
pub enum WireError {
    /// Another socket has the port.
    Busy(SocketAddr),
    /// Another socket receives the protocol at the address.
    Taken {
        /// The address.
        address: IpAddr,
        /// The protocol.
        protocol: Protocol,
    },
    /// The address is not one of this host.
    AddressMissing(SocketAddr),
    /// The port is not for this user.
    Permission(SocketAddr),
    /// Raw sockets are not for this user.
    RawPermission(IpAddr),
    /// The host does not speak this family.
    NoFamily(SocketAddr),
    /// The system refused a step for a reason of its own.
    System {
        /// What was to be bound.
        local: SocketAddr,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl WireError {
    pub(super) fn new(local: SocketAddr, what: &'static str, errno: Errno) -> WireError {
        match errno {
            Errno::ADDRINUSE => WireError::Busy(local),
            Errno::ADDRNOTAVAIL => WireError::AddressMissing(local),
            Errno::ACCESS | Errno::PERM => WireError::Permission(local),
            Errno::AFNOSUPPORT => WireError::NoFamily(local),
            _ => WireError::System { local, what, source: errno.into() },
        }
    }

    /// Of a raw socket, which has no port.
    pub(super) fn raw(local: SocketAddr, what: &'static str, errno: Errno) -> WireError {
        match errno {
            Errno::ACCESS | Errno::PERM => WireError::RawPermission(local.ip()),
            _ => WireError::new(local, what, errno),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Busy(local) => write!(
                f,
                "UDP port {} is in use at {local}, by another gateway or IKE daemon; `ss -uapn 'sport = {}'` names it: \
                 stop it, or choose another address or port",
                local.port(),
                local.port()
            ),
            WireError::Taken { address, protocol } => write!(
                f,
                "IP protocol {} ({protocol}) is in use at {address}, by another gateway; `ss -wapn` names it: stop it, or \
                 choose another address",
                protocol.number()
            ),
            WireError::RawPermission(address) => write!(
                f,
                "may not receive ESP and AH at {address}: raw sockets take CAP_NET_RAW when the gateway starts; give it \
                 that, or use UDP"
            ),
            WireError::AddressMissing(local) => write!(
                f,
                "cannot bind {}: {} is not an address of this network namespace; add it (ip address add), or \
                 wait for duplicate address detection to end if it is IPv6",
                place(local),
                local.ip()
            ),
            WireError::Permission(local) => write!(
                f,
                "may not bind {local}: ports below 1024 need CAP_NET_BIND_SERVICE, or a lower \
                 net.ipv4.ip_unprivileged_port_start"
            ),
            WireError::NoFamily(local) => {
                let family = if local.is_ipv4() { "IPv4" } else { "IPv6" };
                write!(f, "cannot bind {}: this host does not have {family} enabled", place(local))
            }
            WireError::System { local, what, source } => {
                write!(f, "wire {}: could not {what}: {source}", place(local))
            }
        }
    }
}

/// An address, with its port where it has one.
fn place(local: &SocketAddr) -> String {
    if local.port() == 0 { local.ip().to_string() } else { local.to_string() }
}

impl std::error::Error for WireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WireError::System { source, .. } => Some(source),
            _ => None,
        }
    }
}
