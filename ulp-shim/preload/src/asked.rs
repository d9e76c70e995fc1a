//! What socket a program asks for, and which of them it gets (T38).

use std::num::NonZero;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, socket_with};

/// A socket that a program asks for: of TCP or UDP, for nothing else can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    family: AddressFamily,
    kind: SocketType,
    protocol: Option<Protocol>,
    nonblocking: bool,
    /// Whether it closes when the program becomes another.
    pub cloexec: bool,
}

impl Asked {
    /// Reads the arguments of socket(2): of each, what the kernel would look at.
    pub fn read(arguments: &[u64; 6]) -> Result<Self, Errno> {
        let [family, kind, protocol, ..] = arguments.map(low_half);
        let family = u16::try_from(family).map(AddressFamily::from_raw).map_err(|_| Errno::AFNOSUPPORT)?;
        if family != AddressFamily::INET && family != AddressFamily::INET6 {
            return Err(Errno::ACCESS);
        }
        let flags = SocketFlags::from_bits_retain(kind & !KIND);
        if !(SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).contains(flags) {
            return Err(Errno::INVAL);
        }
        let kind = SocketType::from_raw(kind & KIND);
        let protocol = NonZero::new(protocol).map(Protocol::from_raw);
        match (kind, protocol) {
            (SocketType::STREAM, None | Some(ipproto::TCP)) => {}
            (SocketType::DGRAM, None | Some(ipproto::UDP)) => {}
            // As of a kernel without it: programs then use TCP.
            (SocketType::STREAM, Some(ipproto::MPTCP)) => return Err(Errno::PROTONOSUPPORT),
            _ => return Err(Errno::ACCESS),
        }
        let has = |flag| flags.contains(flag);
        Ok(Self {
            family,
            kind,
            protocol,
            nonblocking: has(SocketFlags::NONBLOCK),
            cloexec: has(SocketFlags::CLOEXEC),
        })
    }

    /// Makes it. Ours is closed in whatever we start.
    pub fn make(&self) -> Result<OwnedFd, Errno> {
        let nonblocking = if self.nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        socket_with(self.family, self.kind, SocketFlags::CLOEXEC | nonblocking, self.protocol)
    }
}

/// What is an int to the kernel is so to us.
fn low_half(argument: u64) -> u32 {
    u32::try_from(argument & u64::from(u32::MAX)).unwrap_or_default()
}

/// The part of socket(2)'s type that is one (SOCK_TYPE_MASK).
const KIND: u32 = 0xf;

#[cfg(test)]
mod tests {
    use super::*;
    use libc::{
        AF_INET, AF_INET6, AF_PACKET, AF_VSOCK, IPPROTO_ICMP, IPPROTO_MPTCP, IPPROTO_RAW, IPPROTO_SCTP,
        IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_RAW,
        SOCK_SEQPACKET, SOCK_STREAM,
    };
    use rustix::io::{FdFlags, fcntl_getfd};
    use rustix::net::sockopt::{socket_domain, socket_protocol, socket_type};

    fn read(family: i32, kind: i32, protocol: i32) -> Result<Asked, Errno> {
        let wide = |argument: i32| 0x55_0000_0000 | u64::from(argument.unsigned_abs());
        Asked::read(&[wide(family), wide(kind), wide(protocol), 0, 0, 0])
    }

    /// T38: only what an owner can be found of is made; the rest is refused, and never made another way.
    #[test]
    fn t38_tcp_and_udp_are_made_and_nothing_else() {
        for family in [AF_INET, AF_INET6] {
            for (kind, protocol, made) in [
                (SOCK_STREAM, 0, IPPROTO_TCP),
                (SOCK_STREAM, IPPROTO_TCP, IPPROTO_TCP),
                (SOCK_DGRAM, 0, IPPROTO_UDP),
                (SOCK_DGRAM, IPPROTO_UDP, IPPROTO_UDP),
            ] {
                let socket = read(family, kind | SOCK_NONBLOCK, protocol).unwrap().make().unwrap();
                assert_eq!(socket_domain(&socket).unwrap().as_raw(), u16::try_from(family).unwrap());
                assert_eq!(socket_type(&socket).unwrap().as_raw(), kind.unsigned_abs());
                let protocol = socket_protocol(&socket).unwrap().unwrap();
                assert_eq!(protocol.as_raw().get(), made.unsigned_abs());
                assert_eq!(fcntl_getfd(&socket).unwrap(), FdFlags::CLOEXEC);
            }
            for (kind, protocol, errno) in [
                (SOCK_RAW, IPPROTO_RAW, Errno::ACCESS),
                (SOCK_RAW, IPPROTO_UDP, Errno::ACCESS),
                (SOCK_DGRAM, IPPROTO_ICMP, Errno::ACCESS),
                (SOCK_DGRAM, IPPROTO_UDPLITE, Errno::ACCESS),
                (SOCK_STREAM, IPPROTO_SCTP, Errno::ACCESS),
                (SOCK_SEQPACKET, IPPROTO_SCTP, Errno::ACCESS),
                (SOCK_STREAM, IPPROTO_MPTCP, Errno::PROTONOSUPPORT),
                (SOCK_STREAM | 0x100, 0, Errno::INVAL),
            ] {
                assert_eq!(read(family, kind, protocol), Err(errno), "{kind} {protocol}");
            }
        }
        for family in [AF_PACKET, AF_VSOCK, 0, 44] {
            assert_eq!(read(family, SOCK_DGRAM, 0), Err(Errno::ACCESS));
        }
        assert_eq!(read(0x1_0002, SOCK_DGRAM, 0), Err(Errno::AFNOSUPPORT), "no family is as large");
    }

    #[test]
    fn flags_are_kept() {
        let plain = read(AF_INET, SOCK_STREAM, 0).unwrap();
        let both = read(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0).unwrap();
        assert_eq!((plain.cloexec, plain.nonblocking), (false, false));
        assert_eq!((both.cloexec, both.nonblocking), (true, true));
    }
}
