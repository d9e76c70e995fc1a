//! Datagrams with tokens, both ways (section 2.3.4): what a message demands is held to before it is sent, and what is known of
//! one that came goes along with it.

use std::ffi::c_int;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use latchway_socket::{Claims, DatagramTag, DatagramTags, Gateway, source, stamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::net::sockopt::{socket_cookie, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType, bind};

use crate::address::{self, Place};
use crate::ancillary::{self, Reference};
use crate::descriptor;
use crate::failure::Failure;
use crate::kept::{hear_of_forks, kept};
use crate::protection::ProtectionToken;
use crate::socket::timeout;
use crate::template::requirement;
use crate::token::{self, Handle, Token};
use crate::wrapped::{Received, Wrapped};

/// What is asked of the system of a socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamping {
    /// The program did not ask for times, nor for places: it is not told of them.
    hidden: latchway_socket::Stamped,
    /// Nothing is left in its queue that is older than its times being asked for.
    drained: bool,
}

/// Puts a token into the ancillary data of a message, and gives the length that is then in use.
pub fn attach(control: &mut [u8], handle: Handle) -> Result<usize, Failure> {
    let token = token::protection(handle)?;
    hear_of_forks()?;
    // What cannot be required of anything is refused here, and not when it is sent.
    requirement(&token)?;
    let reference = kept().references.refer(&token);
    ancillary::put(control, reference)
}

/// Fills a token with what is known of a message. A failure leaves it as it was.
pub fn fill(control: &[u8], handle: Handle) -> Result<(), Failure> {
    token::protection(handle)?;
    let reference = ancillary::find(control)?.ok_or(NO_TOKEN)?;
    let held = referred(reference)?;
    token::change(handle, |token| {
        *token = Token::Protection(held);
        Ok(())
    })
}

/// Sends a message; where it demands something, to who is demanded, protected as is demanded, and otherwise not at all.
pub fn send(fd: c_int, message: &Wrapped<'_>, flags: c_int) -> Result<libc::ssize_t, Failure> {
    let Some(reference) = ancillary::find(message.control())? else { return message.send(fd, None, flags) };
    let requirement = requirement(&*referred(reference)?)?;
    let socket = UdpSocket::from(descriptor::socket(fd)?);
    let family = internet_datagrams(&socket)?.ok_or(NO_DATAGRAMS)?;
    let to = match message.name() {
        Some(name) => address::read(name).ok_or(NO_ADDRESS)?,
        None => socket.peer_addr().map_err(|_| NO_DESTINATION)?,
    };
    let (mut control, place) = address::split(message.control())?;
    let from = from(&socket, family, to, place)?;
    CLAIMS.clone().with_timeout(timeout()).claim(&socket, to, from, &requirement)?;
    control.extend(address::pinned(family, from.ip(), place.interface(to)));
    message.send(socket.as_raw_fd(), Some(&control), flags)
}

/// Receives a message, with what is known of it in its ancillary data (Q-49, N-6). `None` is a socket of which nothing can be
/// known.
pub fn receive(fd: c_int, message: &Wrapped<'_>, flags: c_int) -> Result<Option<Received>, Failure> {
    let socket = UdpSocket::from(descriptor::socket(fd)?);
    if flags & libc::MSG_ERRQUEUE != 0 || internet_datagrams(&socket)?.is_none() {
        return Ok(None);
    }
    // Nothing that may fail comes behind the datagram's coming.
    hear_of_forks()?;
    let cookie = socket_cookie(&socket).map_err(|errno| system("asking who the socket is", errno))?;
    let stamping = stamping(&socket, cookie)?;
    let (mut received, called) = wait_for(&socket, message, flags)?;
    let told = address::Told::read(&received.control)?;
    let at = told.at.filter(|at| *at < called);
    if at.is_none() && flags & libc::MSG_PEEK != 0 {
        // The system gives it a time of now, which it keeps.
        kept().stamped.entry(cookie).and_modify(|stamping| stamping.drained = false);
    }
    let (at_to, room) = (told.to.zip(at), message.room());
    let (shown, all) = told.shown(stamping.hidden, room);
    received.control = shown;
    if !all {
        received.flags |= libc::MSG_CTRUNC;
    }
    let flow = address::read(&received.from).zip(at_to).filter(|_| stamping.drained && room > 0);
    if let Some((from, (to, at))) = flow {
        let to = SocketAddr::new(to, socket.local_addr().map_or(0, |local| local.port()));
        let tags = TAGS.clone().with_timeout(timeout());
        if let DatagramTag::Certain(protection) = tags.of(&socket, from, to, at) {
            append(&mut received, ProtectionToken::Held(Box::new(protection)), room)?;
        }
    }
    Ok(Some(received))
}

/// Refers to a token in what a caller gets, if they have the room.
fn append(received: &mut Received, token: ProtectionToken, room: usize) -> Result<(), Failure> {
    if received.control.len().saturating_add(ancillary::SPACE) > room {
        received.flags |= libc::MSG_CTRUNC;
        return Ok(());
    }
    let reference = kept().references.refer(&Arc::new(token));
    let used = received.control.len();
    received.control.resize(used.saturating_add(ancillary::SPACE), 0);
    ancillary::put(&mut received.control, reference).map(|_| ())
}

fn referred(reference: Reference) -> Result<Arc<ProtectionToken>, Failure> {
    kept().references.token(reference).ok_or(NOT_KEPT)
}

/// The address that a datagram shall leave from; the socket has a port then.
fn from(
    socket: &UdpSocket,
    family: AddressFamily,
    to: SocketAddr,
    place: Place,
) -> Result<SocketAddr, Failure> {
    let local = || socket.local_addr().map_err(|error| failed("asking where the socket is", &error));
    if local()?.port() == 0 {
        bind(socket, &address::anywhere(family))
            .map_err(|errno| system("giving the socket a port", errno))?;
    }
    match place.address {
        Some(address) => Ok(SocketAddr::new(address, local()?.port())),
        None => Ok(source(socket, to)?),
    }
}

/// The family of a socket, if it has datagrams of IPv4 or IPv6.
fn internet_datagrams(socket: &UdpSocket) -> Result<Option<AddressFamily>, Failure> {
    let asking = |errno| system("asking what the socket is", errno);
    let family = socket_domain(socket).map_err(asking)?;
    let internet = family == AddressFamily::INET || family == AddressFamily::INET6;
    let datagrams = socket_type(socket).map_err(asking)? == SocketType::DGRAM;
    Ok((internet && datagrams).then_some(family))
}

/// Has the system say when datagrams come and where to, from the first time on that this is asked of a socket.
fn stamping(socket: &UdpSocket, cookie: u64) -> Result<Stamping, Failure> {
    let before = kept().stamped.get(&cookie).copied();
    let mut stamping = match before {
        Some(stamping) => stamping,
        None => Stamping { hidden: stamp(socket)?, drained: false },
    };
    if !stamping.drained {
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut ready = [PollFd::new(socket, PollFlags::IN)];
        stamping.drained = matches!(poll(&mut ready, Some(&none)), Ok(0));
    }
    let mut kept = kept();
    if kept.stamped.len() >= MOST_SOCKETS && !kept.stamped.contains_key(&cookie) {
        kept.stamped.clear();
    }
    kept.stamped.insert(cookie, stamping);
    Ok(stamping)
}

/// The next datagram, waited for as the socket and the flags say; and the moment before the call that it came by.
fn wait_for(socket: &UdpSocket, message: &Wrapped<'_>, flags: c_int) -> Result<(Received, u64), Failure> {
    let asking = |errno| system("asking how the socket waits", errno);
    let never =
        flags & libc::MSG_DONTWAIT != 0 || fcntl_getfl(socket).map_err(asking)?.contains(OFlags::NONBLOCK);
    let timeout =
        socket.read_timeout().map_err(|error| failed("asking how long the socket waits", &error))?;
    let end = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let called = now();
        let came = message.receive(socket.as_fd(), address::MORE_ROOM, flags | libc::MSG_DONTWAIT);
        match came {
            Err(failure) if failure.errno() == libc::EAGAIN && !never => {
                let left = end.map(|end| end.saturating_duration_since(Instant::now()));
                if left.is_some_and(|left| left.is_zero()) {
                    return Err(failure);
                }
                let left = left.map(timespec);
                let mut ready = [PollFd::new(socket, PollFlags::IN)];
                poll(&mut ready, left.as_ref()).map_err(|errno| system("receiving", errno))?;
            }
            came => return Ok((came?, called)),
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() }
}

/// In nanoseconds since 1970-01-01T00:00Z; 0, before which nothing came, where the clock says nothing.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or_default()
}

fn failed(doing: &str, error: &io::Error) -> Failure {
    Failure::saying(error.raw_os_error().unwrap_or(libc::EIO), format!("{doing}: {error}"))
}

fn system(doing: &str, errno: rustix::io::Errno) -> Failure {
    failed(doing, &errno.into())
}

static CLAIMS: LazyLock<Claims> = LazyLock::new(|| Claims::new(Gateway::of_process()));
static TAGS: LazyLock<DatagramTags> = LazyLock::new(|| DatagramTags::new(Gateway::of_process()));

/// Of sockets that are remembered.
const MOST_SOCKETS: usize = 65_536;

const NO_TOKEN: Failure = Failure::new(
    libc::ENOMSG,
    "the message carries no token: it was not received by ipsec_latchway_recvmsg(), or nothing is certain of it",
);
const NOT_KEPT: Failure = Failure::new(
    libc::ENOMSG,
    "the message's token is not kept any more, or is another process's; put it in again, or fetch it before 4096 others",
);
const NO_DATAGRAMS: Failure = Failure::new(
    libc::EPROTONOSUPPORT,
    "only datagrams of UDP carry tokens; attach them to other sockets with ipsec_set_socket_pToken()",
);
const NO_ADDRESS: Failure =
    Failure::new(libc::EAFNOSUPPORT, "msg_name is no address of IPv4 or IPv6, or not all of one");
const NO_DESTINATION: Failure = Failure::new(
    libc::EDESTADDRREQ,
    "the message says nowhere to go, and the socket is not connected; set msg_name",
);
