//! Socket addresses as the kernel has them.

#![expect(unsafe_code, reason = "the kernel's address is a union")]

use std::mem::zeroed;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// The longest.
pub(super) const NAME_LEN: libc::socklen_t = size_of::<Name>() as libc::socklen_t;

impl Name {
    /// No address yet.
    #[inline]
    pub(super) fn none() -> Name {
        // SAFETY: a union of plain address structures, for which all zeros is a value.
        unsafe { zeroed() }
    }

    /// An address, and how much of it counts.
    #[inline]
    pub(super) fn from(address: SocketAddr) -> (Name, libc::socklen_t) {
        let mut name = Name::none();
        match address {
            SocketAddr::V4(address) => {
                name.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(address) => {
                name.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// The address, if it is of a family that we speak.
    #[inline]
    pub(super) fn address(&self) -> Option<SocketAddr> {
        // SAFETY: the union began as zeros, so every byte of every variant is initialised, and every variant is plain
        // data that is valid whatever the bytes are; all begin with the family.
        unsafe {
            match libc::c_int::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes());
                    Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(self.v4.sin_port))))
                }
                libc::AF_INET6 => {
                    let ip = Ipv6Addr::from(self.v6.sin6_addr.s6_addr);
                    let port = u16::from_be(self.v6.sin6_port);
                    // The flow label is the packet's, not the peer's: left out, so that addresses compare equal.
                    Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, self.v6.sin6_scope_id)))
                }
                _ => None,
            }
        }
    }
}
