//! Whose a flow is: asked of the kernel of the applications' network namespace, synchronously, when a flow begins while
//! something is required of anybody.
//!
//! sock_diag(7) answers within the call that asks, so that nothing is waited for: a few microseconds. A question that is not
//! answered at once leaves the owner unknown.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::IpAddr;

use latchway_datapath::drop::Direction;
use latchway_datapath::flow::{FlowKey, protocol};
use netlink_sys::protocols::{NETLINK_ROUTE, NETLINK_SOCK_DIAG};
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};

use crate::requirements::{Cookie, Owner};

/// Says whose flows are.
pub trait Owners: Send + fmt::Debug {
    /// Whose flow this is, of which a packet is at hand that goes in this direction.
    fn owner(&self, flow: &FlowKey, direction: Direction) -> Owner;
}

/// The sockets of one network namespace, whose packets come and go by one device.
pub struct SocketOwners {
    sockets: Asking,
    routes: Asking,
    /// The namespace.
    space: u64,
    /// The device: without it the kernel does not find a socket that is bound to it (SO_BINDTODEVICE).
    device: u32,
}

/// A netlink socket that one question at a time is asked of.
struct Asking {
    socket: Socket,
    sequence: Cell<u32>,
}

/// What the kernel said.
enum Said {
    /// What follows the header of its answer, of this type.
    Answer(u16, [u8; ANSWER]),
    /// By which errno it does not answer.
    Error(i32),
}

/// A socket that was found.
struct Found {
    state: u8,
    cookie: u64,
}

impl SocketOwners {
    /// The sockets of the network namespace of the calling thread, which has this cookie, and where packets come by the device
    /// with this index.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(space: u64, device: u32) -> io::Result<Self> {
        Ok(Self {
            sockets: Asking::open(NETLINK_SOCK_DIAG)?,
            routes: Asking::open(NETLINK_ROUTE)?,
            space,
            device,
        })
    }

    /// Whether an address is the namespace's own; `None` where the kernel does not say.
    #[must_use]
    pub fn have(&self, address: IpAddr) -> Option<bool> {
        self.is_own(address).ok()
    }

    /// The socket that has the flow. A SYN that comes is for whoever listens, whatever is left of another connection.
    fn holder(&self, flow: &FlowKey, direction: Direction) -> io::Result<Option<Found>> {
        let found = self.find(flow)?;
        let is_left_over =
            |found: &Found| ![state::SYN_SENT, state::LISTEN, state::ESTABLISHED].contains(&found.state);
        let asks_listener = flow.protocol() == protocol::TCP && direction == Direction::Inbound;
        match found {
            Some(found) if asks_listener && is_left_over(&found) => {
                let nobody = if flow.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
                self.find(&FlowKey::new(protocol::TCP, flow.local(), (nobody, 0).into()))
            }
            found => Ok(found),
        }
    }

    fn find(&self, flow: &FlowKey) -> io::Result<Option<Found>> {
        match self.sockets.ask(SOCK_DIAG_BY_FAMILY, &socket_question(flow, self.device))? {
            Said::Answer(SOCK_DIAG_BY_FAMILY, answer) => {
                Found::read(&answer).map(Some).ok_or_else(unexpected)
            }
            Said::Answer(..) => Err(unexpected()),
            Said::Error(ENOENT) => Ok(None),
            Said::Error(error) => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Whether an address is one of the namespace's own.
    fn is_own(&self, address: IpAddr) -> io::Result<bool> {
        match self.routes.ask(RTM_GETROUTE, &route_question(address))? {
            Said::Answer(RTM_NEWROUTE, answer) => {
                Ok(answer.get(ROUTE_TYPE).is_some_and(|kind| (RTN_LOCAL..=RTN_ANYCAST).contains(kind)))
            }
            // What cannot be reached is not here.
            Said::Error(error) if NO_ROUTE.contains(&error) => Ok(false),
            Said::Error(error) => Err(io::Error::from_raw_os_error(error)),
            Said::Answer(..) => Err(unexpected()),
        }
    }
}

impl Owners for SocketOwners {
    fn owner(&self, flow: &FlowKey, direction: Direction) -> Owner {
        match self.holder(flow, direction) {
            Ok(Some(found)) => Owner::Socket(Cookie { space: self.space, socket: found.cookie }),
            Ok(None) => match self.is_own(flow.local().ip()) {
                Ok(true) => Owner::Gone,
                Ok(false) => Owner::Nobody,
                Err(_) => Owner::Unknown,
            },
            Err(_) => Owner::Unknown,
        }
    }
}

impl Asking {
    fn open(of: isize) -> io::Result<Self> {
        let mut socket = Socket::new(of)?;
        socket.bind_auto()?;
        socket.connect(&NetlinkAddress::new(0, 0))?;
        Ok(Self { socket, sequence: Cell::new(0) })
    }

    /// Asks one question. The answer is there when it was asked, or there is none.
    fn ask(&self, kind: u16, question: &[u8]) -> io::Result<Said> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let mut message = [0; HEADER + MOST_QUESTION];
        let len = HEADER + question.len();
        let header = header(len as u32, kind, sequence);
        message.iter_mut().zip(header.iter().chain(question)).for_each(|(place, octet)| *place = *octet);
        self.socket.send(message.get(..len).unwrap_or_default(), 0)?;
        loop {
            let mut octets = [0; HEADER + MOST_ANSWER];
            let mut room: &mut [u8] = &mut octets;
            let read = self.socket.recv(&mut room, MSG_DONTWAIT)?;
            let answer = octets.get(..read.min(HEADER + MOST_ANSWER)).unwrap_or_default();
            let (kind, of, body) = split(answer).ok_or_else(unexpected)?;
            // One that came too late for the question before is none to this.
            if of == sequence {
                return said(kind, body).ok_or_else(unexpected);
            }
        }
    }
}

impl Found {
    /// Reads `struct inet_diag_msg` of linux/inet_diag.h.
    fn read(answer: &[u8]) -> Option<Self> {
        let word = |at: usize| answer.get(at..)?.first_chunk().map(|octets| u32::from_ne_bytes(*octets));
        let (low, high) = (word(COOKIE)?, word(COOKIE + 4)?);
        Some(Self { state: *answer.get(1)?, cookie: u64::from(high) << 32 | u64::from(low) })
    }
}

/// `struct inet_diag_req_v2`: who has this flow?
fn socket_question(flow: &FlowKey, device: u32) -> [u8; SOCKET_QUESTION] {
    // The kernel looks a UDP socket up with both ends in the order of a packet that it receives.
    let (source, destination) = match flow.protocol() {
        protocol::UDP => (flow.remote(), flow.local()),
        _ => (flow.local(), flow.remote()),
    };
    let family = if flow.is_ipv4() { AF_INET } else { AF_INET6 };
    let start = [family, flow.protocol(), 0, 0].into_iter().chain([0xff; 4]);
    let ports = source.port().to_be_bytes().into_iter().chain(destination.port().to_be_bytes());
    let addresses = octets(source.ip()).into_iter().chain(octets(destination.ip()));
    let end = device.to_ne_bytes().into_iter().chain([0xff; 8]);
    filled(start.chain(ports).chain(addresses).chain(end))
}

/// `struct rtmsg` and RTA_DST of linux/rtnetlink.h: by what way is this address reached?
fn route_question(address: IpAddr) -> Vec<u8> {
    let (family, len) = if address.is_ipv4() { (AF_INET, 4_u8) } else { (AF_INET6, 16) };
    let start = [family, len * 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let attribute = [u16::from(len + 4).to_ne_bytes(), RTA_DST.to_ne_bytes()];
    let address = octets(address).into_iter().take(len.into());
    start.into_iter().chain(attribute.into_iter().flatten()).chain(address).collect()
}

/// An address in the 16 octets of `struct inet_diag_sockid`.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => filled(address.octets().into_iter()),
        IpAddr::V6(address) => address.octets(),
    }
}

fn filled<const N: usize>(octets: impl Iterator<Item = u8>) -> [u8; N] {
    let mut filled = [0; N];
    filled.iter_mut().zip(octets).for_each(|(place, octet)| *place = octet);
    filled
}

/// `struct nlmsghdr` of linux/netlink.h.
fn header(len: u32, kind: u16, sequence: u32) -> [u8; HEADER] {
    let (len, kind, flags) = (len.to_ne_bytes(), kind.to_ne_bytes(), NLM_F_REQUEST.to_ne_bytes());
    filled(len.into_iter().chain(kind).chain(flags).chain(sequence.to_ne_bytes()))
}

/// Type, sequence number and body of a message.
fn split(message: &[u8]) -> Option<(u16, u32, &[u8])> {
    let (header, body) = message.split_first_chunk::<HEADER>()?;
    let kind = u16::from_ne_bytes(*header.get(4..)?.first_chunk()?);
    let sequence = u32::from_ne_bytes(*header.get(8..)?.first_chunk()?);
    Some((kind, sequence, body))
}

fn said(kind: u16, body: &[u8]) -> Option<Said> {
    if kind == NLMSG_ERROR {
        return body.first_chunk().map(|error| Said::Error(i32::from_ne_bytes(*error).wrapping_neg()));
    }
    Some(Said::Answer(kind, filled(body.iter().copied())))
}

fn unexpected() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl fmt::Debug for SocketOwners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketOwners").field("device", &self.device).finish_non_exhaustive()
    }
}

/// States of a TCP socket, from net/tcp_states.h.
mod state {
    pub(super) const ESTABLISHED: u8 = 1;
    pub(super) const SYN_SENT: u8 = 2;
    pub(super) const LISTEN: u8 = 10;
}

const HEADER: usize = 16;
const SOCKET_QUESTION: usize = 56;
const MOST_QUESTION: usize = 64;
/// As much of an answer as is looked at.
const ANSWER: usize = 72;
/// Longer ones are cut.
const MOST_ANSWER: usize = 1024;
/// Where the cookie is in `struct inet_diag_msg`, and the type of a route in `struct rtmsg`.
const COOKIE: usize = 44;
const ROUTE_TYPE: usize = 7;

// The kernel's numbers, from linux/netlink.h, linux/sock_diag.h, linux/rtnetlink.h, linux/socket.h, asm-generic/errno.h.
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_ANYCAST: u8 = 4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const MSG_DONTWAIT: i32 = 0x40;
const ENOENT: i32 = 2;
/// EACCES, EINVAL, ENETUNREACH, EHOSTUNREACH: routes that prohibit, that swallow, that are missing, that say unreachable.
const NO_ROUTE: [i32; 4] = [13, 22, 101, 113];
