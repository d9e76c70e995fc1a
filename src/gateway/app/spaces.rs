//! The network namespaces whose sockets the gateway speaks of.

use std::io;
use std::os::unix::net::UnixDatagram;

use latchway_datapath::low::socket_facts::netns_cookie;
use latchway_netns::Namespace;

/// The namespaces whose flows come to the gateway, each by the cookie that the kernel has for it.
///
/// A socket of any other is not spoken of: in a namespace of one's own, anybody can have a socket with the addresses and
/// ports of another's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spaces {
    inner: u64,
}

impl Spaces {
    /// The inner namespace alone. It is entered to learn its cookie.
    ///
    /// # Errors
    /// It cannot be entered, or the kernel has no cookies of namespaces (Linux before 5.14).
    pub fn of(inner: &Namespace) -> io::Result<Self> {
        let cookie =
            inner.run(|| UnixDatagram::unbound().and_then(netns_cookie)).map_err(io::Error::other)??;
        Ok(Self::of_cookie(cookie))
    }

    /// The namespace of this cookie alone.
    pub(super) const fn of_cookie(inner: u64) -> Self {
        Self { inner }
    }

    /// The cookie of the inner namespace.
    pub const fn inner(&self) -> u64 {
        self.inner
    }

    /// Whether sockets of the namespace of this cookie are spoken of.
    pub const fn hold(&self, cookie: u64) -> bool {
        self.inner == cookie
    }
}
