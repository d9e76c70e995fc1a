//! Puts packets on a link or into the stack that no application would send: forged, malformed, out of order.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use etherparse::IpSlice;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, send, sendto, socket,
};

use crate::{Error, Namespace, Result, packet_socket::packet_socket};

/// Sends frames through one interface, byte for byte as given, past the namespace's routing and filtering.
///
/// On a veth, a frame begins with its Ethernet header ([`packet::ethernet`](crate::packet::ethernet), the addresses
/// from [`Links::mac`](crate::Links::mac)) and comes out at the other end. On a TUN, it is an IP packet, and whoever
/// has the TUN open reads it as if an application of the namespace had sent it.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
    interface: String,
}

impl Injector {
    /// Opens an interface to send on.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let (socket, _) = packet_socket(namespace, interface, None)?;
        Ok(Self { socket, interface: interface.to_owned() })
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty());
        complete(sent, frame.len(), || format!("injecting {} bytes on {}", frame.len(), self.interface))
    }
}

/// Sends a whole IP packet the way an application's packet goes: through the namespace's output filter and routes, but with
/// any source address and content. The kernel fills in only what raw(7) says: IPv4 length, checksum, and identification if 0.
pub fn as_application(namespace: &Namespace, packet: &[u8]) -> Result<()> {
    let parsed = IpSlice::from_slice(packet)
        .map_err(|error| Error::Malformed(format!("not an IP packet: {error}")))?;
    let destination = parsed.destination_addr();
    let attempt = || format!("sending a raw packet to {destination} in {}", namespace.label());
    let family = match destination {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = namespace
        .run(|| socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw))?
        .map_err(|errno| Error::refused(attempt(), errno))?;
    let address = SockaddrStorage::from(SocketAddr::new(destination, 0));
    let sent = sendto(socket.as_raw_fd(), packet, &address, MsgFlags::empty());
    complete(sent, packet.len(), attempt)
}

fn complete(sent: nix::Result<usize>, length: usize, attempt: impl FnOnce() -> String) -> Result<()> {
    match sent {
        Ok(taken) if taken == length => Ok(()),
        Ok(taken) => Err(Error::Malformed(format!("{}: only {taken} bytes were taken", attempt()))),
        Err(errno) => Err(Error::refused(attempt(), errno)),
    }
}
