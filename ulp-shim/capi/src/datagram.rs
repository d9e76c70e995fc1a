//! Datagrams with tokens (section 2.3.4): what is known of one that came goes along with it.

use std::ffi::c_int;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use latchway_socket::{Called, DatagramTag, DatagramTags, Gateway};

use crate::address::{self, Told};
use crate::ancillary::{self, Reference};
use crate::descriptor;
use crate::failure::Failure;
use crate::kept::{hear_of_forks, kept};
use crate::options::{self, Ready};
use crate::protection::ProtectionToken;
use crate::socket::timeout;
use crate::token::{self, Handle, Token};
use crate::wrapped::{Received, Wrapped};

/// Has the system say of each datagram of a socket what its token is known by. It must not be bound yet: nothing that it receives
/// is older then.
pub fn tag(fd: c_int) -> Result<(), Failure> {
    let socket = UdpSocket::from(descriptor::socket(fd)?);
    let domain = options::domain(socket.as_fd())?.ok_or(NO_DATAGRAMS)?;
    let local = socket.local_addr().map_err(|error| failed("asking where the socket is", &error))?;
    if local.port() != 0 {
        return Err(BOUND);
    }
    options::tell_all(socket.as_fd(), domain)
}

/// Fills a token with what is known of a message. A failure leaves it as it was.
pub fn fill(control: &[u8], handle: Handle) -> Result<(), Failure> {
    token::protection(handle)?;
    let reference = ancillary::find(control)?.ok_or(NO_TOKEN)?;
    let held = kept().references.token(reference).ok_or(NOT_KEPT)?;
    token::change(handle, |token| {
        *token = Token::Protection(held);
        Ok(())
    })
}

/// Receives a message, with what is known of it in its ancillary data (Q-49, N-6). `None` is one of which nothing can be known.
pub fn receive(fd: c_int, message: &Wrapped<'_>, flags: c_int) -> Result<Option<Received>, Failure> {
    let socket = UdpSocket::from(descriptor::socket(fd)?);
    let Some(domain) = options::domain(socket.as_fd())? else { return Ok(None) };
    let looks_elsewhere = flags & (libc::MSG_ERRQUEUE | libc::MSG_PEEK) != 0;
    if looks_elsewhere || !options::tells_all(socket.as_fd(), domain)? {
        return Ok(None);
    }
    // Nothing that may fail comes behind the datagram's coming.
    hear_of_forks()?;
    let waits = flags & libc::MSG_DONTWAIT == 0 && !options::is_nonblocking(socket.as_fd())?;
    let (mut received, called) = wait_for(&socket, message, flags, waits)?;
    let told = Told::read(&received.control);
    let is_whole = received.flags & libc::MSG_CTRUNC == 0;
    let arrived = told.arrived(address::read(&received.from).filter(|_| is_whole), &called);
    let tag = arrived.map(|arrived| {
        let tags = tags().with_timeout(timeout());
        if waits { tags } else { tags.in_haste() }.of(&socket, &arrived)
    });
    let token = match tag {
        Some(DatagramTag::Certain(protection)) => Some(ProtectionToken::Held(Box::new(protection))),
        Some(DatagramTag::Unknown(_)) | None => None,
    };
    received.show(told, token.map(|token| kept().references.refer(&Arc::new(token))), message.room());
    Ok(Some(received))
}

/// What gateways said of datagrams.
pub fn tags() -> DatagramTags {
    static TAGS: LazyLock<DatagramTags> = LazyLock::new(|| DatagramTags::new(Gateway::of_process()));
    TAGS.clone()
}

impl Received {
    /// Puts the token first, and behind it what the system says, as far as there is room.
    fn show(&mut self, told: Told, token: Option<Reference>, room: usize) {
        let token = token.map(ancillary::token);
        let pieces = token.iter().chain(&told.pieces);
        let mut shown = Vec::new();
        for piece in pieces {
            if shown.len().saturating_add(piece.len()) > room {
                self.flags |= libc::MSG_CTRUNC;
                break;
            }
            shown.extend_from_slice(piece);
        }
        self.control = shown;
    }
}

/// The next datagram, and when the call was made that it came by: it is waited for before it is received, so that its stamp can be
/// told to be older than that. Where something else has come, as the end of the socket or an error to be read, the system is
/// left to wait as it does.
fn wait_for(
    socket: &UdpSocket,
    message: &Wrapped<'_>,
    flags: c_int,
    waits: bool,
) -> Result<(Received, Called), Failure> {
    let timeout =
        socket.read_timeout().map_err(|error| failed("asking how long the socket waits", &error))?;
    let end = timeout.map(|timeout| Instant::now() + timeout);
    let mut was_said_to_be_there = false;
    loop {
        let called = Called::now();
        match message.receive(socket.as_fd(), flags | libc::MSG_DONTWAIT) {
            Err(failure) if failure.errno() == libc::EAGAIN && waits => {}
            came => return Ok((came?, called)),
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Failure::new(libc::EAGAIN, "no datagram came in the time of the socket"));
        }
        match options::wait(socket.as_fd(), left)? {
            Ready::Datagram if !was_said_to_be_there => was_said_to_be_there = true,
            Ready::Nothing => was_said_to_be_there = false,
            Ready::Datagram | Ready::Other => {
                let called = Called::now();
                return Ok((message.receive(socket.as_fd(), flags)?, called));
            }
        }
    }
}

fn failed(doing: &str, error: &io::Error) -> Failure {
    Failure::saying(error.raw_os_error().unwrap_or(libc::EIO), format!("{doing}: {error}"))
}

/// What is left of a time, as poll() has it: rather too long than too short.
pub fn milliseconds(left: Option<Duration>) -> c_int {
    left.map_or(-1, |left| {
        let whole = left.as_millis().saturating_add(1);
        c_int::try_from(whole).unwrap_or(c_int::MAX)
    })
}

const NO_TOKEN: Failure = Failure::new(
    libc::ENOMSG,
    "the message carries no token: it was not received by ipsec_latchway_recvmsg(), or nothing is certain of it",
);
const NOT_KEPT: Failure = Failure::new(
    libc::ENOMSG,
    "the message's token is not kept any more, or is another process's; fetch it before 4096 others",
);
const NO_DATAGRAMS: Failure = Failure::new(
    libc::EPROTONOSUPPORT,
    "only datagrams of UDP carry tokens; ask about other sockets with ipsec_get_socket_pToken()",
);
const BOUND: Failure = Failure::new(
    libc::EINVAL,
    "the socket is bound already, and may have received what is older; call this before bind()",
);
