//! Addresses and times as the system has them in messages: `struct sockaddr`, `IP_PKTINFO`, `SO_TIMESTAMPNS`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use latchway_socket::Stamped;
use rustix::net::AddressFamily;

use crate::ancillary::{self, Message};
use crate::failure::Failure;

/// Where a datagram shall leave from, as far as a message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub address: Option<IpAddr>,
    interface: u32,
}

/// What the system says of a datagram that came.
#[derive(Debug)]
pub struct Told<'c> {
    messages: Vec<Message<'c>>,
    /// When it came: nanoseconds since 1970-01-01T00:00Z, and rather too many than too few.
    pub at: Option<u64>,
    /// Where to it came.
    pub to: Option<IpAddr>,
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

/// Any address of a family, and any port.
pub const fn anywhere(family: AddressFamily) -> SocketAddr {
    let any = match family {
        AddressFamily::INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(any, 0)
}

/// The ancillary data of a message that is to be sent, without tokens and without where it shall leave from; and that.
pub fn split(control: &[u8]) -> Result<(Vec<u8>, Place), Failure> {
    let (mut others, mut place) = (Vec::new(), Place::default());
    for message in ancillary::messages(control)? {
        match (message.level, message.kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let (interface, rest) = message.data.split_first_chunk().ok_or(SHORT)?;
                let own: [u8; 4] = *rest.first_chunk().ok_or(SHORT)?;
                place = Place::said(Ipv4Addr::from(own).into(), u32::from_ne_bytes(*interface));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let (own, rest) = message.data.split_first_chunk::<16>().ok_or(SHORT)?;
                let interface = u32::from_ne_bytes(*rest.first_chunk().ok_or(SHORT)?);
                place = Place::said(IpAddr::from(*own).to_canonical(), interface);
            }
            _ if message.is_ours() => {}
            _ => others.extend_from_slice(message.whole),
        }
    }
    Ok((others, place))
}

/// Ancillary data by which a datagram leaves from this address and no other.
pub fn pinned(family: AddressFamily, from: IpAddr, interface: u32) -> Vec<u8> {
    let interface = interface.to_ne_bytes();
    match (family, from) {
        (AddressFamily::INET, IpAddr::V4(from)) => {
            let place = [interface, from.octets(), [0; 4]].concat();
            ancillary::message(libc::IPPROTO_IP, libc::IP_PKTINFO, &place)
        }
        (_, from) => {
            let from = match from {
                IpAddr::V4(from) => from.to_ipv6_mapped(),
                IpAddr::V6(from) => from,
            };
            let place = [&from.octets()[..], &interface].concat();
            ancillary::message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &place)
        }
    }
}

impl Place {
    fn said(address: IpAddr, interface: u32) -> Self {
        Self { address: Some(address).filter(|address| !address.is_unspecified()), interface }
    }

    /// The interface to leave by: the one that is said here or in the destination; 0 is any.
    pub const fn interface(self, to: SocketAddr) -> u32 {
        match to {
            SocketAddr::V6(to) if self.interface == 0 => to.scope_id(),
            _ => self.interface,
        }
    }
}

impl<'c> Told<'c> {
    /// Reads ancillary data that came.
    pub fn read(control: &'c [u8]) -> Result<Self, Failure> {
        let messages = ancillary::messages(control)?;
        let (mut at, mut to) = (None, None);
        for message in &messages {
            match (message.level, message.kind) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => at = time(message.data, 1, 0),
                // Microseconds are cut off: it was no later than the last nanosecond of one.
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMP) => at = time(message.data, 1_000, 999),
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let address = message.data.last_chunk::<4>().copied();
                    to = address.map(IpAddr::from);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let address = message.data.first_chunk::<16>().copied();
                    to = address.map(|address| IpAddr::from(address).to_canonical());
                }
                _ => {}
            }
        }
        Ok(Self { messages, at, to })
    }

    /// The whole messages of it that the program asked for and has room for, and whether that is all that it asked for.
    pub fn shown(&self, hidden: Stamped, room: usize) -> (Vec<u8>, bool) {
        let mut shown = Vec::new();
        for message in self.showing(hidden) {
            if shown.len().saturating_add(message.whole.len()) > room {
                return (shown, false);
            }
            shown.extend_from_slice(message.whole);
        }
        (shown, true)
    }

    fn showing(&self, hidden: Stamped) -> impl Iterator<Item = &Message<'c>> {
        self.messages.iter().filter(move |message| match (message.level, message.kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => !hidden.times,
            (libc::IPPROTO_IP, libc::IP_PKTINFO) | (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => !hidden.places,
            // A message of ours cannot come from the system.
            _ => !message.is_ours(),
        })
    }
}

fn time(data: &[u8], unit: u64, more: u64) -> Option<u64> {
    let (seconds, parts) = data.split_first_chunk()?;
    let parts = u64::try_from(i64::from_ne_bytes(*parts.first_chunk()?)).ok()?;
    let seconds = u64::try_from(i64::from_ne_bytes(*seconds)).ok()?.checked_mul(1_000_000_000)?;
    seconds.checked_add(parts.checked_mul(unit)?)?.checked_add(more)
}

/// Of what the system says beside what a caller has room for: a time, and a place of each family.
pub const MORE_ROOM: usize = 128;

const SHORT: Failure =
    Failure::new(libc::EINVAL, "IP_PKTINFO or IPV6_PKTINFO in msg_control is shorter than its structure");

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

    /// what a message says of where it leaves from is kept, and only one says it then.
    #[test]
    fn q_48_the_source_is_said_once() {
        let own = IpAddr::from([192, 0, 2, 1]);
        let other = ancillary::message(libc::IPPROTO_IP, libc::IP_TTL, &[64, 0, 0, 0]);
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            let control = [pinned(family, own, 4), other.clone()].concat();
            let (others, place) = split(&control).unwrap();
            assert_eq!(others, other);
            assert_eq!(place, Place { address: Some(own), interface: 4 });
        }
        let (_, place) = split(&pinned(AddressFamily::INET, [0; 4].into(), 0)).unwrap();
        assert_eq!(place.address, None);
        assert_eq!(place.interface("[fe80::1%3]:9".parse().unwrap()), 3);
        let short = ancillary::message(libc::IPPROTO_IP, libc::IP_PKTINFO, &[0; 7]);
        assert_eq!(split(&short).unwrap_err().errno(), libc::EINVAL);
    }

    /// N-17: what the program did not ask for is not shown to it, and what it did is.
    #[test]
    fn n_17_what_was_not_asked_for_is_hidden() {
        let stamp = [3_i64.to_ne_bytes(), 5_i64.to_ne_bytes()].concat();
        let time = ancillary::message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &stamp);
        let place = pinned(AddressFamily::INET6, [192, 0, 2, 1].into(), 0);
        let other = ancillary::message(libc::IPPROTO_IP, libc::IP_TTL, &[64, 0, 0, 0]);
        let control = [time.clone(), other.clone(), place.clone()].concat();
        let told = Told::read(&control).unwrap();
        assert_eq!((told.at, told.to), (Some(3_000_000_005), Some([192, 0, 2, 1].into())));
        let hidden = |times, places| Stamped { times, places };
        assert_eq!(told.shown(hidden(true, true), 99), (other.clone(), true));
        assert_eq!(told.shown(hidden(true, false), 99), ([other.clone(), place].concat(), true));
        let both = [time.clone(), other.clone()].concat();
        assert_eq!(told.shown(hidden(false, true), both.len()), (both.clone(), true));
        assert_eq!(told.shown(hidden(false, true), both.len() - 1), (time.clone(), false));
        let coarse = ancillary::message(libc::SOL_SOCKET, libc::SCM_TIMESTAMP, &stamp);
        assert_eq!(Told::read(&coarse).unwrap().at, Some(3_000_005_999));
        let before = ancillary::message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &[0xff; 16]);
        assert_eq!(Told::read(&before).unwrap().at, None);
    }
}
