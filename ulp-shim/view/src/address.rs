//! Addresses of PF_SHIM sockets: a handle, or one of IPv4 or IPv6. The socket beneath has one of IPv6 (K-2, K-7).

use std::net::{Ipv4Addr, Ipv6Addr};

use libc::{in6_addr, sa_family_t, sockaddr_in6};

use crate::failure::Failure;
use crate::handle::{Endpoint, Handle};
use crate::kept::kept;
use crate::names::PF_SHIM;

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is ours: to bind to.
    Own,
    /// It is the other end's.
    Remote,
}

/// What the kernel is to be told.
#[derive(Clone, Copy, Debug)]
pub enum Address {
    /// What the caller gave.
    AsGiven,
    /// This instead.
    Instead(sockaddr_in6),
}

/// Reads the octets of an address. What is none of ours, nor of IPv4, the kernel says something about.
pub fn address(octets: &[u8], usage: Use) -> Result<Address, Failure> {
    let Some((family, rest)) = octets.split_first_chunk() else { return Ok(Address::AsGiven) };
    let family = sa_family_t::from_ne_bytes(*family);
    if family == FAMILY {
        return handle(rest, usage).map(Address::Instead);
    }
    if family == IPV4 {
        return Ok(internet(rest).map_or(Address::AsGiven, Address::Instead));
    }
    Ok(Address::AsGiven)
}

/// The octets of a `struct sockaddr_shim`.
pub fn handle_octets(handle: Handle, port: [u8; 2]) -> [u8; LENGTH] {
    let mut octets = [0; LENGTH];
    let said = FAMILY.to_ne_bytes().into_iter().chain(port).chain([0; 4]).chain(handle.0.to_ne_bytes());
    octets.iter_mut().zip(said).for_each(|(place, octet)| *place = octet);
    octets
}

/// The endpoint and the port in the octets of a `struct sockaddr_in` or `sockaddr_in6`.
pub fn endpoint(octets: &[u8]) -> Option<(Endpoint, [u8; 2])> {
    let (family, rest) = octets.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let family = sa_family_t::from_ne_bytes(*family);
    if family == IPV4 {
        let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
        return Some((Endpoint { address: address.to_ipv6_mapped(), scope: 0 }, *port));
    }
    if family != IPV6 {
        return None;
    }
    let (_flow, rest) = rest.split_first_chunk::<4>()?;
    let (address, rest) = rest.split_first_chunk::<16>()?;
    let scope = u32::from_ne_bytes(*rest.first_chunk()?);
    Some((Endpoint { address: Ipv6Addr::from(*address), scope }, *port))
}

/// A `struct sockaddr_shim` after its family.
fn handle(octets: &[u8], usage: Use) -> Result<sockaddr_in6, Failure> {
    let (port, octets) = octets.split_first_chunk::<2>().ok_or(TOO_SHORT)?;
    let (reserved, octets) = octets.split_first_chunk::<4>().ok_or(TOO_SHORT)?;
    let handle = Handle(u64::from_ne_bytes(*octets.first_chunk().ok_or(TOO_SHORT)?));
    if *reserved != [0; 4] {
        return Err(RESERVED);
    }
    let endpoint = match (handle, usage) {
        (Handle::ANY, Use::Own) => Endpoint { address: Ipv6Addr::UNSPECIFIED, scope: 0 },
        (handle, _) => kept().handles.endpoint(handle).ok_or(NO_HANDLE)?,
    };
    Ok(socket_address(endpoint, *port))
}

/// A `struct sockaddr_in` after its family; `None` where it is too short.
fn internet(octets: &[u8]) -> Option<sockaddr_in6> {
    let (port, octets) = octets.split_first_chunk::<2>()?;
    let (address, octets) = octets.split_first_chunk::<4>()?;
    // The rest is nothing, and there.
    octets.first_chunk::<8>()?;
    let address = Ipv4Addr::from(*address).to_ipv6_mapped();
    Some(socket_address(Endpoint { address, scope: 0 }, *port))
}

/// The port comes in the order of the network, and stays in it.
fn socket_address(endpoint: Endpoint, port: [u8; 2]) -> sockaddr_in6 {
    sockaddr_in6 {
        sin6_family: IPV6,
        sin6_port: u16::from_ne_bytes(port),
        sin6_flowinfo: 0,
        sin6_addr: in6_addr { s6_addr: endpoint.address.octets() },
        sin6_scope_id: endpoint.scope,
    }
}

/// Of a `struct sockaddr_shim`. Those of IPv4 and IPv6 are as long, or longer.
pub const LENGTH: usize = 16;

/// Families are small numbers; the header's tests say so.
const FAMILY: sa_family_t = PF_SHIM as sa_family_t;
const IPV4: sa_family_t = libc::AF_INET as sa_family_t;
const IPV6: sa_family_t = libc::AF_INET6 as sa_family_t;

const TOO_SHORT: Failure = Failure::new(libc::EINVAL, "the address is shorter than struct sockaddr_shim");
const RESERVED: Failure = Failure::new(libc::EINVAL, "ss_reserved is not 0");
const NO_HANDLE: Failure = Failure::new(
    libc::EADDRNOTAVAIL,
    "the handle is none that getaddrinfo() gave to this process; resolve the name here, with AI_SHIM",
);

#[cfg(test)]
mod tests {
    use super::*;

    fn instead(octets: &[u8], usage: Use) -> (Ipv6Addr, u16) {
        match address(octets, usage).unwrap() {
            Address::Instead(there) => (there.sin6_addr.s6_addr.into(), u16::from_be(there.sin6_port)),
            Address::AsGiven => panic!("as it was given"),
        }
    }

    fn of_ipv4() -> Vec<u8> {
        [&IPV4.to_ne_bytes()[..], &80_u16.to_be_bytes(), &[192, 0, 2, 1], &[0; 8]].concat()
    }

    /// K-2: one socket has both kinds of addresses.
    #[test]
    fn k_2_addresses_of_ipv4_are_those_of_the_socket_beneath() {
        assert_eq!(instead(&of_ipv4(), Use::Remote), ("::ffff:192.0.2.1".parse().unwrap(), 80));
        let ipv6 = [&IPV6.to_ne_bytes()[..], &[0; 26]].concat();
        for as_given in [&ipv6[..], &[], &[2], &of_ipv4()[..15], &[0; 16], &libc::AF_UNIX.to_ne_bytes()] {
            assert!(matches!(address(as_given, Use::Remote).unwrap(), Address::AsGiven), "{as_given:?}");
        }
    }

    /// K-7, K-8: a handle is resolved where it was given, and is nothing if made up.
    #[test]
    fn k_7_k_8_a_handle_is_an_address_here_and_nothing_elsewhere() {
        let (there, port) = endpoint(&of_ipv4()).unwrap();
        let given = kept().handles.give(there).unwrap();
        let octets = handle_octets(given, port);
        assert_eq!(instead(&octets, Use::Remote), ("::ffff:192.0.2.1".parse().unwrap(), 80));
        let errno = |octets: &[u8], usage| address(octets, usage).unwrap_err().errno();
        let made_up = handle_octets(Handle(given.0 ^ 1), port);
        assert_eq!(errno(&made_up, Use::Remote), libc::EADDRNOTAVAIL);
        let any = handle_octets(Handle::ANY, port);
        assert_eq!(errno(&any, Use::Remote), libc::EADDRNOTAVAIL);
        assert_eq!(instead(&any, Use::Own), (Ipv6Addr::UNSPECIFIED, 80));
        assert_eq!(errno(&octets[..15], Use::Remote), libc::EINVAL);
        let mut reserved = octets;
        reserved[7] = 1;
        assert_eq!(errno(&reserved, Use::Remote), libc::EINVAL);
    }

    #[test]
    fn an_endpoint_is_read_with_its_scope() {
        let octets = [&IPV6.to_ne_bytes()[..], &[0, 7], &[0; 4], &[0xfe; 16], &3_u32.to_ne_bytes()].concat();
        let (there, port) = endpoint(&octets).unwrap();
        assert_eq!((there.address.octets(), there.scope, port), ([0xfe; 16], 3, [0, 7]));
        assert_eq!(endpoint(&octets[..27]), None);
        assert_eq!(endpoint(&[]), None);
        assert_eq!(endpoint(&libc::AF_UNIX.to_ne_bytes()), None);
    }
}
