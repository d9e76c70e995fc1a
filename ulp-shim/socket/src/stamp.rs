//! What the system knows of datagrams: when and where to one came, and from which address one leaves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::{AddressFamily, getsockname};

use crate::error::{Error, Result};

/// What the system was not asked for before, and says of each datagram of a socket now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamped {
    /// When it came (`SO_TIMESTAMPNS`).
    pub times: bool,
    /// Where to it came (`IP_PKTINFO`, `IPV6_RECVPKTINFO`).
    pub places: bool,
}

/// Has the system say of each datagram of a socket when it came and where to. Times that the program has asked for by
/// `SO_TIMESTAMP`, in microseconds, stay as they are.
///
/// # Errors
/// It is no socket of IPv4 or IPv6.
pub fn stamp(socket: impl AsFd) -> Result<Stamped> {
    let failed = |errno: nix::Error| {
        let errno = Errno::from_raw_os_error(errno as i32);
        Error::system("asking when datagrams come", errno)
    };
    let family = rustix::net::sockopt::socket_domain(&socket);
    let v4 =
        family.map_err(|errno| Error::system("asking what the socket is", errno))? == AddressFamily::INET;
    let times = !getsockopt(&socket, sockopt::ReceiveTimestampns).map_err(failed)?
        && !getsockopt(&socket, sockopt::ReceiveTimestamp).map_err(failed)?;
    if times {
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).map_err(failed)?;
    }
    let places = if v4 {
        let places = !getsockopt(&socket, sockopt::Ipv4PacketInfo).map_err(failed)?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).map_err(failed)?;
        places
    } else {
        let places = !getsockopt(&socket, sockopt::Ipv6RecvPacketInfo).map_err(failed)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).map_err(failed)?;
        places
    };
    Ok(Stamped { times, places })
}

/// The address from which a datagram of a socket to another leaves: what the socket is bound to, or what the routes say now.
///
/// # Errors
/// There is no way there, or it is no socket of IPv4 or IPv6.
pub fn source(socket: impl AsFd, to: SocketAddr) -> Result<SocketAddr> {
    let doing = format!("finding the way to {to}");
    let own = getsockname(&socket).and_then(SocketAddr::try_from);
    let own = own.map_err(|errno| Error::system(&doing, errno))?;
    let bound = SocketAddr::new(own.ip().to_canonical(), own.port());
    if !bound.ip().is_unspecified() {
        return Ok(bound);
    }
    let failed = |error| Error::io(&doing, &error);
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { own.ip() };
    let scratch = UdpSocket::bind((any, 0)).map_err(failed)?;
    scratch.connect(to).map_err(failed)?;
    let source = scratch.local_addr().map_err(failed)?;
    Ok(SocketAddr::new(source.ip(), own.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program has asked for itself is told apart, and nothing is asked for twice.
    #[test]
    fn n17_what_was_asked_for_before_is_not_ours() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            assert_eq!(stamp(&socket).unwrap(), Stamped { times: true, places: true }, "{address}");
            assert_eq!(stamp(&socket).unwrap(), Stamped::default());
            let theirs = UdpSocket::bind(address).unwrap();
            setsockopt(&theirs, sockopt::ReceiveTimestamp, &true).unwrap();
            assert_eq!(stamp(&theirs).unwrap(), Stamped { times: false, places: true });
            assert!(getsockopt(&theirs, sockopt::ReceiveTimestamp).unwrap());
        }
    }

    #[test]
    fn q48_a_datagram_leaves_from_where_it_is_bound_or_from_where_the_way_begins() {
        let bound = UdpSocket::bind("127.0.0.7:0").unwrap();
        let to = "127.0.0.1:9".parse().unwrap();
        assert_eq!(source(&bound, to).unwrap(), bound.local_addr().unwrap());
        let anywhere = UdpSocket::bind("[::]:0").unwrap();
        let port = anywhere.local_addr().unwrap().port();
        assert_eq!(source(&anywhere, to).unwrap(), SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        let away = "[::1]:9".parse().unwrap();
        assert!(source(&anywhere, away).unwrap().ip().is_loopback());
    }
}
