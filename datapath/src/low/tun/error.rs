//! Why a TUN could not be opened, and what to do about it.

use std::{fmt, io};

use super::TunConfig;

/// Each says what was tried and what helps.
#[derive(Debug)]
#[non_exhaustive]
pub enum TunError {
    /// There is no TUN driver to open.
    NoNode {
        /// What opening the device node said.
        source: io::Error,
    },
    /// The device node may not be opened.
    NodePermission,
    /// The interface may not be made, or not be attached to.
    Permission {
        /// Its name.
        name: String,
    },
    /// Somebody else is attached.
    Busy {
        /// Its name.
        name: String,
    },
    /// Something else has the name.
    NotATun {
        /// The name.
        name: String,
    },
    /// No interface can have this name.
    Name {
        /// The name.
        name: String,
    },
    /// The system refused a step for a reason of its own.
    System {
        /// The interface's name.
        name: String,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl TunError {
    /// What the kernel's answer to TUNSETIFF means.
    pub(super) fn attach(config: &TunConfig, what: &'static str, source: io::Error) -> TunError {
        let name = config.name.clone();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => TunError::Permission { name },
            Some(libc::EBUSY) => TunError::Busy { name },
            Some(libc::EINVAL) if interface_exists(&name) => TunError::NotATun { name },
            _ => TunError::System { name, what, source },
        }
    }
}

impl fmt::Display for TunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TunError::NoNode { source } => write!(
                f,
                "cannot open /dev/net/tun: {source}; load the driver (modprobe tun), or give the container the device"
            ),
            TunError::NodePermission => f.write_str(
                "cannot open /dev/net/tun: permission denied; let this user read and write it (usual mode is 0666), \
                 or allow the device in the container's device rules",
            ),
            TunError::Permission { name } => write!(
                f,
                "may not attach to TUN {name}: this needs CAP_NET_ADMIN in the user namespace that owns the network \
                 namespace, or a TUN made for this user (ip tuntap add {name} mode tun user USER)"
            ),
            TunError::Busy { name } => write!(
                f,
                "TUN {name} is in use by another process; stop that one, or choose another name (ip -d link show \
                 {name} tells whether it is attached)"
            ),
            TunError::NotATun { name } => write!(
                f,
                "cannot attach to {name}: an interface of that name exists and is not a TUN with one queue; remove \
                 it (ip link del {name}), or choose another name"
            ),
            TunError::Name { name } => write!(
                f,
                "{name:?} cannot be the name of an interface: use 1 to 15 characters without blanks, '/' and ':'"
            ),
            TunError::System { name, what, source } => write!(f, "TUN {name}: could not {what}: {source}"),
        }
    }
}

impl std::error::Error for TunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TunError::NoNode { source } | TunError::System { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn interface_exists(name: &str) -> bool {
    rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
        .and_then(|socket| rustix::net::netdevice::name_to_index(&socket, name))
        .is_ok()
}
