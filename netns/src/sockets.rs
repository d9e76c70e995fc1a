//! The TCP and UDP sockets of a namespace, whoever has them, as sock_diag(7) tells them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use nix::sys::socket::SockProtocol;

use crate::netlink::Netlink;
use crate::{Error, Namespace, Result};

/// A socket that is bound or connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InetSocket {
    /// What names it among all sockets of the machine: `socket:[INODE]` in `/proc/PID/fd`.
    pub inode: u64,
    /// The number of its protocol: TCP's or UDP's.
    pub protocol: u8,
    /// Its own address and port; the unspecified address is any.
    pub local: SocketAddr,
    /// The other end, where it is connected or was.
    pub remote: Option<SocketAddr>,
    /// Whether it waits for connections.
    pub listens: bool,
}

/// The sockets of a namespace that are bound or connected. Those that are neither have no place in it, and are not told.
///
/// # Errors
/// The namespace cannot be entered, or the kernel does not tell.
pub fn of(namespace: &Namespace) -> Result<Vec<InetSocket>> {
    let refused = |source| Error::refused(format!("listing the sockets of {}", namespace.label()), source);
    namespace.run(|| {
        let mut netlink =
            Netlink::<SockDiagMessage>::open_for(SockProtocol::NetlinkSockDiag).map_err(refused)?;
        let mut sockets = Vec::new();
        for (family, protocol) in
            [AF_INET, AF_INET6].into_iter().flat_map(|family| [(family, TCP), (family, UDP)])
        {
            let told =
                netlink.dump(SockDiagMessage::InetRequest(everything(family, protocol))).map_err(refused)?;
            sockets.extend(told.iter().filter_map(|answer| match answer {
                SockDiagMessage::InetResponse(found) => Some(read(protocol, &found.header)),
                _ => None,
            }));
        }
        Ok(sockets)
    })?
}

fn read(protocol: u8, found: &InetResponseHeader) -> InetSocket {
    let end = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
    let SocketId { source_address, source_port, destination_address, destination_port, .. } = found.socket_id;
    let remote = end(destination_address, destination_port);
    InetSocket {
        inode: u64::from(found.inode),
        protocol,
        local: end(source_address, source_port),
        remote: Some(remote).filter(|remote| remote.port() != 0),
        listens: protocol == TCP && found.state == LISTEN,
    }
}

fn everything(family: u8, protocol: u8) -> InetRequest {
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let socket_id = SocketId {
        source_port: 0,
        destination_port: 0,
        source_address: nowhere,
        destination_address: nowhere,
        interface_id: 0,
        cookie: [0xff; 8],
    };
    InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id,
    }
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The kernel's number of TCP's state LISTEN (net/tcp_states.h).
const LISTEN: u8 = 10;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::{AsRawFd, RawFd};

    use super::*;

    fn inode(descriptor: RawFd) -> u64 {
        let link = fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap();
        let link = link.to_str().unwrap();
        link.strip_prefix("socket:[").and_then(|link| link.strip_suffix(']')).unwrap().parse().unwrap()
    }

    #[test]
    fn sockets_are_told_with_their_ends_and_inodes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let stream = TcpStream::connect(there).unwrap();
        let datagrams = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).unwrap();
        let told = of(&Namespace::current().unwrap()).unwrap();
        let socket = |descriptor| *told.iter().find(|found| found.inode == inode(descriptor)).unwrap();
        let listening = socket(listener.as_raw_fd());
        assert_eq!((listening.local, listening.remote, listening.listens), (there, None, true));
        let connected = socket(stream.as_raw_fd());
        assert_eq!((connected.local, connected.remote), (stream.local_addr().unwrap(), Some(there)));
        assert_eq!((connected.protocol, connected.listens), (TCP, false));
        let unconnected = socket(datagrams.as_raw_fd());
        assert_eq!((unconnected.protocol, unconnected.local), (UDP, datagrams.local_addr().unwrap()));
        assert_eq!(unconnected.remote, None);
    }
}
