//! Puts packets on a link or into the stack that no application would send: forged, malformed, out of order.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, send, sendto, socket,
};
use socket2::SockRef;

use crate::{Error, Namespace, Result, packet_socket};

/// Sends frames through one interface, past the namespace's routing.
///
/// On a veth, a frame begins with its Ethernet header ([`packet::ethernet`](crate::packet::ethernet), the addresses
/// from [`Links::mac`](crate::Links::mac)), is sent byte for byte as given, and comes out at the other end.
///
/// On a TUN, it is an IP packet, and whoever has the TUN open reads it as if an application of the namespace had sent
/// it. The TUN is up; for IPv6, a route leads to it. The kernel fills in only what raw(7) says: IPv4 length, checksum,
/// and identification if 0.
#[derive(Debug)]
pub struct Injector {
    way: Way,
    attempt: String,
}

#[derive(Debug)]
enum Way {
    Frames(OwnedFd),
    Packets { ipv4: OwnedFd, ipv6: OwnedFd },
}

impl Injector {
    /// Opens an interface to send on.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let way = match packet_socket::sending(namespace, interface)? {
            Some(socket) => Way::Frames(socket),
            None => Way::Packets {
                ipv4: raw_socket(namespace, AddressFamily::Inet, Some(interface))?,
                ipv6: raw_socket(namespace, AddressFamily::Inet6, Some(interface))?,
            },
        };
        Ok(Self { way, attempt: format!("injecting on {interface} in {}", namespace.label()) })
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let attempt = || format!("{}, {} bytes", self.attempt, frame.len());
        match &self.way {
            Way::Frames(socket) => {
                complete(send(socket.as_raw_fd(), frame, MsgFlags::empty()), frame.len(), attempt)
            }
            Way::Packets { ipv4, ipv6 } => match destination(frame)? {
                address @ IpAddr::V4(_) => send_raw(ipv4, address, frame, attempt),
                address @ IpAddr::V6(_) => send_raw(ipv6, address, frame, attempt),
            },
        }
    }
}

/// Sends a whole IP packet the way an application's packet goes: through the namespace's output filter and routes, but
/// with any source address and content. The kernel fills in only what raw(7) says: IPv4 length, checksum, and
/// identification if 0.
pub fn as_application(namespace: &Namespace, packet: &[u8]) -> Result<()> {
    let destination = destination(packet)?;
    let family = if destination.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = raw_socket(namespace, family, None)?;
    let attempt = || format!("sending a raw packet to {destination} in {}", namespace.label());
    send_raw(&socket, destination, packet, attempt)
}

/// A socket that takes whole IP packets.
fn raw_socket(namespace: &Namespace, family: AddressFamily, interface: Option<&str>) -> Result<OwnedFd> {
    let attempt = || format!("opening a raw socket in {}", namespace.label());
    let socket = namespace
        .run(|| socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw))?
        .map_err(|errno| Error::refused(attempt(), errno))?;
    if let Some(name) = interface {
        let bound = SockRef::from(&socket).bind_device(Some(name.as_bytes()));
        bound.map_err(|source| Error::refused(format!("{}, on {name}", attempt()), source))?;
    }
    Ok(socket)
}

fn send_raw(
    socket: &OwnedFd,
    destination: IpAddr,
    packet: &[u8],
    attempt: impl FnOnce() -> String,
) -> Result<()> {
    let address = SockaddrStorage::from(SocketAddr::new(destination, 0));
    complete(sendto(socket.as_raw_fd(), packet, &address, MsgFlags::empty()), packet.len(), attempt)
}

fn destination(packet: &[u8]) -> Result<IpAddr> {
    let header = match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet
            .get(16..20)
            .and_then(|octets| octets.first_chunk::<4>())
            .map(|octets| IpAddr::from(*octets)),
        Some(6) => packet
            .get(24..40)
            .and_then(|octets| octets.first_chunk::<16>())
            .map(|octets| IpAddr::from(*octets)),
        _ => None,
    };
    header.ok_or_else(|| Error::Malformed("not an IP packet: no destination address".to_owned()))
}

fn complete(sent: nix::Result<usize>, length: usize, attempt: impl FnOnce() -> String) -> Result<()> {
    match sent {
        Ok(taken) if taken == length => Ok(()),
        Ok(taken) => Err(Error::Malformed(format!("{}: only {taken} bytes were taken", attempt()))),
        Err(errno) => Err(Error::refused(attempt(), errno)),
    }
}
