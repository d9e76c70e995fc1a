//! Ends a connection in the kernel: SOCK_DESTROY of sock_diag(7), on exactly one socket.
//!
//! The socket is looked up by its 5-tuple first, and destroyed by 5-tuple and cookie, so that a listener or a later
//! socket of the same ports is never hit. Synchronous, and off the packet path.

use std::io;
use std::net::IpAddr;

use latchway_datapath::flow::{FlowKey, protocol};

use crate::sock_diag::{Held, Seen, SockDiag};

/// Destroys sockets of the network namespace that it was opened in.
#[derive(Debug)]
pub struct SocketDestroyer {
    sockets: SockDiag,
}

/// Why a socket was not destroyed.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// No socket is connected with this 5-tuple.
    #[error("no socket in this namespace is connected with this 5-tuple")]
    NoSuchSocket,
    /// CAP_NET_ADMIN is missing.
    #[error("destroying a socket needs CAP_NET_ADMIN over its network namespace")]
    NotPermitted,
    /// The kernel cannot do it, for any socket or for this protocol.
    #[error(
        "this kernel cannot destroy such sockets; it needs CONFIG_INET_DIAG_DESTROY, and for UDP CONFIG_INET_UDP_DIAG"
    )]
    NotSupported,
    /// Something else went wrong.
    #[error("sock_diag: {0}")]
    Other(#[from] io::Error),
}

impl SocketDestroyer {
    /// Opens a netlink socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> io::Result<Self> {
        Ok(Self { sockets: SockDiag::open()? })
    }

    /// Destroys the socket that is connected from `flow.local()` to `flow.remote()`.
    ///
    /// # Errors
    /// [`DestroyError`]
    pub fn destroy(&mut self, flow: &FlowKey) -> Result<(), DestroyError> {
        let seen = self.see(flow)?.ok_or(DestroyError::NoSuchSocket)?;
        self.destroy_seen(flow, &seen)
    }

    /// Whether a socket of this namespace is given the packets of a flow (L-104): one that is connected with it, or, for
    /// UDP, one that is bound to its local end.
    ///
    /// # Errors
    /// [`DestroyError`]
    pub fn is_held(&mut self, flow: &FlowKey) -> Result<bool, DestroyError> {
        Ok(match self.sockets.look_up(flow)? {
            Held::Connected(_) => true,
            Held::Bound => flow.protocol() == protocol::UDP,
            Held::Nothing => false,
        })
    }

    /// Destroys every connection, and every connected UDP socket, between one of `addresses` and somewhere else, and says
    /// how many there were: those that a gateway finds when it starts have no latch, and none is made up for them (L-40).
    ///
    /// # Errors
    /// [`DestroyError`] of the first that could not be destroyed.
    pub fn destroy_all(&mut self, addresses: &[IpAddr]) -> Result<usize, DestroyError> {
        let is_ours = |address: IpAddr| addresses.contains(&address.to_canonical());
        let mut destroyed = 0;
        for protocol in [protocol::TCP, protocol::UDP] {
            for v6 in [false, true] {
                let found = match self.sockets.connections(protocol, v6) {
                    // A kernel that cannot list its UDP sockets.
                    Err(DestroyError::NoSuchSocket | DestroyError::NotSupported)
                        if protocol == protocol::UDP =>
                    {
                        continue;
                    }
                    found => found?,
                };
                for (flow, seen) in found {
                    if !is_ours(flow.local().ip()) || is_ours(flow.remote().ip()) {
                        continue;
                    }
                    match self.destroy_seen(&flow, &seen) {
                        Ok(()) => destroyed += 1,
                        // It ended by itself meanwhile.
                        Err(DestroyError::NoSuchSocket) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(destroyed)
    }

    /// The socket that is connected with exactly this 5-tuple.
    pub(crate) fn see(&mut self, flow: &FlowKey) -> Result<Option<Seen>, DestroyError> {
        Ok(match self.sockets.look_up(flow)? {
            Held::Connected(seen) => Some(seen),
            Held::Bound | Held::Nothing => None,
        })
    }

    /// Destroys a socket that was seen, and no later one of the same 5-tuple.
    pub(crate) fn destroy_seen(&mut self, flow: &FlowKey, seen: &Seen) -> Result<(), DestroyError> {
        self.sockets.destroy(flow, seen)
    }
}

impl DestroyError {
    /// The kernel's error, by its name where it has one.
    pub(crate) fn named(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(ENOENT) => Self::NoSuchSocket,
            Some(EPERM | EACCES) => Self::NotPermitted,
            Some(EOPNOTSUPP | EPROTONOSUPPORT) => Self::NotSupported,
            _ => Self::Other(error),
        }
    }
}

// The kernel's numbers, from asm-generic/errno.h.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EPROTONOSUPPORT: i32 = 93;
const EOPNOTSUPP: i32 = 95;
