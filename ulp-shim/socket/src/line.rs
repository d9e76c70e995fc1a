//! A connection to a gateway, and how calls are made on it by a thread that waits.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use latchway_control::app::MAX_APP_SOCKETS;
use latchway_control::call::Method;
use rustix::event::PollFlags;
use rustix::fs::fstat;
use rustix::io::{Errno, IoSlice, fcntl_dupfd_cloexec};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, socket_with,
};
use rustix::process::geteuid;

use crate::answer::NoGateway;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::{Exchange, Trouble};

/// A connection to a gateway.
#[derive(Debug)]
pub(crate) struct Line {
    stream: Option<OwnedFd>,
    /// Which file the descriptor is of: a program may close descriptors that it does not know, and open others.
    file: (u64, u64),
}

/// Whom to believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Whoever listens there: the program named the place.
    Anyone,
    /// Root, ourselves, or the user whom root gave the place to (T40).
    OursAlone {
        /// Who the place belongs to.
        owner: u32,
    },
}

impl Line {
    /// Connects to the gateway at a place.
    ///
    /// # Errors
    /// There is none, or it does not take the connection in time.
    pub(crate) fn open(path: &Path, trust: Trust, deadline: Deadline) -> Result<Self> {
        loop {
            match Self::dial(path, trust) {
                // Its backlog is full, for which there is nothing to wait.
                Err(error) if error.kind() == ErrorKind::Busy => {
                    let left = deadline.left()?.unwrap_or(RETRY);
                    std::thread::sleep(RETRY.min(left));
                }
                other => return other,
            }
        }
    }

    /// Connects without waiting: a full backlog is [`ErrorKind::Busy`].
    pub(crate) fn dial(path: &Path, trust: Trust) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let failed = |errno| match errno {
            Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR => Error::absent(NoGateway::NoSocket),
            Errno::AGAIN => {
                Error::new(ErrorKind::Busy, "the gateway has more callers than it can take; ask again")
            }
            errno => Error::system(&format!("connecting to {}", path.display()), errno),
        };
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let stream = stream.and_then(beyond_standard).map_err(failed)?;
        connect(&stream, &SocketAddrUnix::new(path).map_err(failed)?).map_err(failed)?;
        if let Trust::OursAlone { owner } = trust {
            let listens = socket_peercred(&stream).map_err(failed)?.uid;
            if !listens.is_root() && listens != geteuid() && listens.as_raw() != owner {
                return Err(Error::absent(NoGateway::NoSocket));
            }
        }
        let file = file_of(stream.as_fd()).ok_or_else(|| failed(Errno::BADF))?;
        Ok(Self { stream: Some(stream), file })
    }

    /// Says a call, with the sockets that it is about, and waits for its one reply.
    pub(crate) fn call<M: Method>(
        &mut self,
        exchange: &mut Exchange<M>,
        sockets: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> std::result::Result<M::Reply, Trouble> {
        self.say(exchange, sockets, deadline)?;
        let reply = self.hear(exchange, deadline);
        if matches!(reply, Ok(_) | Err(Trouble::Refused(_))) && !exchange.is_over() {
            return Err(Trouble::Failed(Error::protocol("it says more than was asked")));
        }
        reply
    }

    /// Says a call. A gateway that does not listen any more may have said why: that is not told here.
    pub(crate) fn say<M: Method>(
        &mut self,
        exchange: &mut Exchange<M>,
        sockets: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> std::result::Result<(), Trouble> {
        while !exchange.to_send().is_empty() {
            let stream = self.own()?;
            match send(stream, exchange, sockets) {
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => deadline.wait(stream, PollFlags::OUT).map_err(Trouble::Failed)?,
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                Err(errno) => return Err(Trouble::Failed(Error::system("asking the gateway", errno))),
            }
        }
        Ok(())
    }

    /// Waits for a reply. What is there already is heard even where there is no time left.
    pub(crate) fn hear<M: Method>(
        &mut self,
        exchange: &mut Exchange<M>,
        deadline: Deadline,
    ) -> std::result::Result<M::Reply, Trouble> {
        let mut heard = false;
        loop {
            if let Some(reply) = exchange.reply()? {
                return Ok(reply);
            }
            if heard {
                deadline.left().map_err(Trouble::Failed)?;
            }
            // While this waited, the number may have become another file's.
            let stream = self.own()?;
            match receive(stream, exchange) {
                Ok(0) | Err(Errno::CONNRESET) => return Err(exchange.ended()),
                Ok(_) | Err(Errno::INTR) => heard = true,
                Err(Errno::AGAIN) => deadline.wait(stream, PollFlags::IN).map_err(Trouble::Failed)?,
                Err(errno) => return Err(Trouble::Failed(Error::system("hearing the gateway", errno))),
            }
        }
    }

    /// Whether the descriptor is still ours.
    pub(crate) fn is_open(&mut self) -> bool {
        self.own().is_ok()
    }

    /// The descriptor, for whoever polls it.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    /// The descriptor, for whoever drives it otherwise.
    #[cfg(feature = "tokio")]
    pub(crate) fn into_stream(mut self) -> Option<OwnedFd> {
        self.stream.take()
    }

    /// The descriptor, while it is ours: somebody else's is let go, and not closed.
    fn own(&mut self) -> std::result::Result<BorrowedFd<'_>, Trouble> {
        if self.stream.as_ref().is_some_and(|stream| file_of(stream.as_fd()) != Some(self.file)) {
            let _somebody_elses = self.stream.take().map(IntoRawFd::into_raw_fd);
        }
        self.stream.as_ref().map(AsFd::as_fd).ok_or(Trouble::Dead)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _closed_elsewhere = self.own().is_err();
    }
}

/// Sends what can be sent now, the sockets with the first octet.
pub(crate) fn send<M: Method>(
    stream: BorrowedFd<'_>,
    exchange: &mut Exchange<M>,
    sockets: &[BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_APP_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let go_along = exchange.is_first() && !sockets.is_empty();
    if go_along && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = sendmsg(stream, &[IoSlice::new(exchange.to_send())], &mut control, flags)?;
    exchange.sent(sent);
    Ok(())
}

/// Receives what is there now. Descriptors that come along are not taken: the kernel closes them.
pub(crate) fn receive<M: Method>(
    stream: BorrowedFd<'_>,
    exchange: &mut Exchange<M>,
) -> rustix::io::Result<usize> {
    let mut octets = [0; AT_A_TIME];
    let (came, _) = recv(stream, &mut octets[..], RecvFlags::DONTWAIT)?;
    exchange.received(octets.get(..came).unwrap_or_default());
    Ok(came)
}

/// The same with a number behind those of standard input, output and error: what is printed to those is not for a gateway.
fn beyond_standard(stream: OwnedFd) -> rustix::io::Result<OwnedFd> {
    if stream.as_raw_fd() > LAST_STANDARD {
        return Ok(stream);
    }
    fcntl_dupfd_cloexec(&stream, LAST_STANDARD + 1)
}

fn file_of(stream: BorrowedFd<'_>) -> Option<(u64, u64)> {
    let facts = fstat(stream).ok()?;
    Some((facts.st_dev, facts.st_ino))
}

/// How long a full backlog is given before the next attempt.
pub(crate) const RETRY: Duration = Duration::from_millis(5);
const AT_A_TIME: usize = 4096;
/// Standard error.
const LAST_STANDARD: i32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    const OURS: Trust = Trust::OursAlone { owner: 0 };

    /// K-10: what has come is told to whoever polls and then asks no time, and an event at a time.
    #[test]
    fn k10_what_is_there_is_heard_without_any_time() {
        let (own, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let stream = OwnedFd::from(own);
        let file = file_of(stream.as_fd()).unwrap();
        let mut line = Line { stream: Some(stream), file };
        let mut exchange = Exchange::more(&latchway_control::app::Watch {}).unwrap();
        let none = Deadline::after(Duration::ZERO);
        let mut hear = || match line.hear(&mut exchange, none) {
            Ok(event) => Some(event.time),
            Err(Trouble::Failed(error)) if error.kind() == ErrorKind::TimedOut => None,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(hear(), None);
        for time in [1, 2] {
            let event = format!(
                "{{\"parameters\":{{\"event\":\"ending\",\"time\":{time},\"text\":\"t\"}},\"continues\":true}}\0"
            );
            theirs.write_all(event.as_bytes()).unwrap();
        }
        assert_eq!([hear(), hear(), hear()], [Some(1), Some(2), None]);
    }

    /// What another part of a program opened under our number while we waited is not read from.
    #[test]
    fn a_number_that_became_anothers_during_a_wait_is_not_read_from() {
        let (own, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (others, mut writes) = std::os::unix::net::UnixStream::pair().unwrap();
        // A number that no other test comes by.
        let stream = fcntl_dupfd_cloexec(&own, 700).unwrap();
        drop(own);
        let number = stream.as_raw_fd();
        let file = file_of(stream.as_fd()).unwrap();
        let mut line = Line { stream: Some(stream), file };
        let (says, hears) = std::sync::mpsc::channel();
        let waits = std::thread::spawn(move || {
            let mut exchange = Exchange::one(&latchway_control::app::Gateway {}).unwrap();
            says.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
            line.hear(&mut exchange, Deadline::after(Duration::from_secs(60))).unwrap_err()
        });
        let thread = hears.recv().unwrap();
        let sleeps = || {
            let stat = std::fs::read_to_string(std::path::Path::new("/proc").join(&thread).join("stat"));
            stat.unwrap().rsplit(')').next().unwrap().trim_start().starts_with('S')
        };
        while !sleeps() {
            std::thread::yield_now();
        }
        others.set_nonblocking(true).unwrap();
        nix::unistd::close(number).unwrap();
        let under_our_number = fcntl_dupfd_cloexec(&others, number).unwrap();
        assert_eq!(under_our_number.as_raw_fd(), number);
        writes.write_all(b"not for us").unwrap();
        theirs.write_all(b"{").unwrap();
        assert_eq!(waits.join().unwrap(), Trouble::Dead);
        let mut came = [0; 16];
        assert_eq!((&others).read(&mut came).unwrap(), 10, "nobody took them");
    }

    /// A program that closes descriptors which it does not know, and opens others in their place, loses the connection and
    /// nothing else.
    #[test]
    fn a_descriptor_that_became_somebody_elses_is_neither_used_nor_closed() {
        let folder = std::env::temp_dir().join(format!("latchway-line-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("app.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut line = Line::open(&path, OURS, Deadline::after(Duration::from_secs(2))).unwrap();
        assert!(line.is_open());
        let other = File::open("/dev/null").unwrap();
        let number = line.stream.as_ref().unwrap().as_raw_fd();
        rustix::io::dup2(&other, line.stream.as_mut().unwrap()).unwrap();
        assert!(!line.is_open());
        drop(line);
        let theirs = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        assert_eq!(theirs.to_str(), Some("/dev/null"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
