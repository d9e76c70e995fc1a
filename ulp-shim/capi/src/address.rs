//! Addresses and times as the system has them in messages: `struct sockaddr`, `IP_PKTINFO`, `SO_TIMESTAMPNS`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use latchway_socket::{Arrived, Called};

use crate::ancillary::{self, Message};
use crate::options::{IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE};

/// What the system says of a datagram that came.
#[derive(Debug, Default)]
pub struct Told {
    /// Its messages, each whole.
    pub pieces: Vec<Vec<u8>>,
    at: Option<u64>,
    place: Option<(IpAddr, u32)>,
    in_pieces: bool,
}

/// Reads a `struct sockaddr`. An address of IPv4 in one of IPv6 is one of IPv4.
pub fn read(octets: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = octets.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let address: [u8; 4] = *rest.first_chunk()?;
            Some(SocketAddr::from((address, port)))
        }
        libc::AF_INET6 => {
            let (_flow, rest) = rest.split_first_chunk::<4>()?;
            let (address, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk()?);
            let address = Ipv6Addr::from(*address);
            Some(match address.to_ipv4_mapped() {
                Some(address) => SocketAddr::from((address, port)),
                None => SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope)),
            })
        }
        _ => None,
    }
}

impl Told {
    /// Reads ancillary data that came; that which is not whole says nothing.
    pub fn read(control: &[u8]) -> Self {
        let mut told = Self::default();
        let messages = ancillary::messages(control).unwrap_or_default();
        // A message of ours cannot come from the system.
        for message in messages.iter().filter(|message| !message.is_ours()) {
            told.note(message);
            told.pieces.push(message.whole.to_vec());
        }
        told
    }

    /// The datagram, which came from there by a call of a socket that says all of this.
    pub fn arrived(&self, from: Option<SocketAddr>, called: &Called) -> Option<Arrived> {
        let at = self.at.and_then(|at| called.stamp(at));
        from.map(|from| Arrived { from, at, place: self.place, in_pieces: Some(self.in_pieces) })
    }

    fn note(&mut self, message: &Message<'_>) {
        let data = message.data;
        match (message.level, message.kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => self.at = time(data),
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // `struct in_pktinfo`: the device, the address of the socket, the one of the header.
                let to = data.last_chunk::<4>().map(|to| IpAddr::from(*to));
                self.place = to.zip(data.first_chunk().map(|device| u32::from_ne_bytes(*device)));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let to = data.first_chunk::<16>().map(|to| IpAddr::from(*to).to_canonical());
                self.place = to.zip(data.last_chunk().map(|device| u32::from_ne_bytes(*device)));
            }
            // Several datagrams in one have one stamp.
            (libc::SOL_UDP, libc::UDP_GRO)
            | (libc::IPPROTO_IP, IP_RECVFRAGSIZE)
            | (libc::IPPROTO_IPV6, IPV6_RECVFRAGSIZE) => self.in_pieces = true,
            _ => {}
        }
    }
}

/// `struct timespec`.
fn time(data: &[u8]) -> Option<u64> {
    let (seconds, rest) = data.split_first_chunk()?;
    let nanoseconds = u64::try_from(i64::from_ne_bytes(*rest.first_chunk()?)).ok()?;
    let seconds = u64::try_from(i64::from_ne_bytes(*seconds)).ok()?.checked_mul(1_000_000_000)?;
    seconds.checked_add(nanoseconds)
}

/// Of what the system says beside what a caller has room for: a time, a place, and sizes of pieces.
pub const MORE_ROOM: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the addresses that there are, those that are whole, and no others.
    #[test]
    fn addresses_are_read_as_the_system_writes_them() {
        let v4 = [&2_u16.to_ne_bytes()[..], &9_u16.to_be_bytes(), &[192, 0, 2, 1], &[0; 8]].concat();
        assert_eq!(read(&v4), Some("192.0.2.1:9".parse().unwrap()));
        assert_eq!(read(&v4[..7]), None);
        let v6 = |address: &str| {
            let address: Ipv6Addr = address.parse().unwrap();
            let scope = 3_u32.to_ne_bytes();
            let family = 10_u16.to_ne_bytes();
            [&family[..], &9_u16.to_be_bytes(), &[0; 4], &address.octets(), &scope].concat()
        };
        assert_eq!(read(&v6("::ffff:192.0.2.1")), Some("192.0.2.1:9".parse().unwrap()));
        assert_eq!(read(&v6("fe80::1")), Some("[fe80::1%3]:9".parse().unwrap()));
        assert_eq!(read(&v6("fe80::1")[..27]), None);
        assert_eq!(read(&[0, 0, 0, 9, 1, 2, 3, 4]), None);
        assert_eq!(read(&[]), None);
    }

    /// N-17: what the system says of a datagram is read, and all of it is passed on.
    #[test]
    fn n_17_what_the_system_says_is_read() {
        let stamp = [3_i64.to_ne_bytes(), 5_i64.to_ne_bytes()].concat();
        let time = ancillary::message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &stamp);
        let to: IpAddr = [192, 0, 2, 1].into();
        let v4 = [&4_u32.to_ne_bytes()[..], &[9; 4], &[192, 0, 2, 1]].concat();
        let v4 = ancillary::message(libc::IPPROTO_IP, libc::IP_PKTINFO, &v4);
        let mapped = Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x201]).octets();
        let v6 = [&mapped[..], &4_u32.to_ne_bytes()].concat();
        let v6 = ancillary::message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &v6);
        for place in [v4, v6] {
            let control = [time.clone(), place.clone()].concat();
            let told = Told::read(&control);
            assert_eq!((told.at, told.place, told.in_pieces), (Some(3_000_000_005), Some((to, 4)), false));
            assert_eq!(told.pieces, [time.clone(), place]);
            let told = Told::read(&control[..control.len() - 9]);
            assert!(told.at.is_none() && told.place.is_none() && told.pieces.is_empty());
        }
        let pieces = ancillary::message(libc::IPPROTO_IPV6, IPV6_RECVFRAGSIZE, &[0; 4]);
        assert!(Told::read(&pieces).in_pieces);
        let before = ancillary::message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &[0xff; 16]);
        assert_eq!(Told::read(&before).at, None);
        let from = "192.0.2.2:9".parse().unwrap();
        let arrived = Told::read(&time).arrived(Some(from), &Called::now()).unwrap();
        assert_eq!((arrived.at, arrived.place, arrived.in_pieces), (Some(3_000_000_005), None, Some(false)));
        let late = [i64::MAX / 2_000_000_000, 5].map(i64::to_ne_bytes).concat();
        let late = ancillary::message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &late);
        assert_eq!(
            Told::read(&late).arrived(Some(from), &Called::now()).unwrap().at,
            None,
            "of the call itself"
        );
    }
}
