//! The gateway's sockets: who may speak, how many at a time, and what is answered (T40). What is behind a socket is a
//! [`Door`]: the operator's here, that of applications in [`crate::gateway::app`].

pub mod callers;
pub mod conversation;
mod latches;
mod pages;
pub mod passing;
pub mod processes;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use latchway_control::{Answering, Failure, FrameError, write_message};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{getsockopt, shutdown, sockopt};

use crate::gateway::GatewayError;
use crate::gateway::events::EventHub;
use crate::gateway::operator::{Answer, Gateway};
use crate::gateway::serve::callers::{Caller, Callers, Limits};
use crate::gateway::serve::conversation::converse;
use crate::gateway::serve::processes::Processes;
use crate::gateway::serve::socket::SocketFile;

/// What is behind a socket: who is let in, and what is said with them.
pub trait Door: Send + Sync + 'static {
    /// How many are served at a time.
    const LIMITS: Limits;

    /// The name of its threads.
    const NAME: &'static str;

    /// Which part of all descriptors there may be in use when somebody is let in: a half, for example, leaves the other to
    /// other sockets and to the gateway itself.
    const SHARE: u64;

    /// Held for as long as somebody is served.
    type Place: Send;

    /// Lets somebody in, or not: with a word to them, or without.
    fn admit(&self, stream: &UnixStream) -> Option<Answer<Self::Place>>;

    /// Whose place it is; `None` of the privileged.
    fn user(place: &Self::Place) -> Option<u32>;

    /// A failure as callers of this socket know it.
    fn in_its_words(failure: Failure) -> Failure;

    /// Answers calls until the other side is done.
    ///
    /// # Errors
    /// The connection is of no use any more.
    fn converse(&self, stream: &UnixStream, caller: &Caller, place: &Self::Place) -> Result<(), FrameError>;

    /// Tells who listens that the gateway ends.
    fn end(&self);
}

/// What a control socket serves.
pub struct Service {
    /// Answers calls.
    pub gateway: Arc<dyn Gateway>,
    /// Tells what happens.
    pub events: Arc<EventHub>,
    /// The processes that own latches.
    pub processes: Processes,
    /// Called when the gateway is asked to end.
    pub stop: Box<dyn Fn() + Send + Sync>,
}

/// A socket that nobody is served on yet.
pub struct Server {
    file: SocketFile,
    listener: UnixListener,
}

/// A socket in service. Dropped, it serves nobody any more, listeners have heard that the gateway ends, and the
/// socket's file is gone.
pub struct Serving {
    _file: SocketFile,
    listener: Arc<UnixListener>,
    ending: Arc<AtomicBool>,
    end: Box<dyn Fn() + Send + Sync>,
    callers: Arc<Callers>,
    thread: Option<JoinHandle<()>>,
}

/// Descriptors of callers, of the processes that own latches, and of everything else. What applications pass is not among
/// them: it is in tables of its own.
const DESCRIPTORS: u64 = 8192;

/// How long a caller may take to read what it was sent before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long calls under way may take when the gateway ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long no connection is accepted after one could not be.
const BREATH: Duration = Duration::from_millis(100);

/// Makes room for the descriptors of as many callers as are served, as far as the system lets us.
///
/// # Errors
/// What the system says.
pub fn make_room_for_callers() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.max(DESCRIPTORS.min(hard)), hard)?)
}

impl Server {
    /// Offers the socket at `path`, to its owner alone.
    ///
    /// # Errors
    /// [`GatewayError::Control`]
    pub fn bind(path: &Path) -> Result<Self, GatewayError> {
        Self::offer(path, OWNER)
    }

    /// Offers the socket at `path`, to whoever may enter its folder.
    ///
    /// # Errors
    /// [`GatewayError::Control`]
    pub fn bind_for_all(path: &Path) -> Result<Self, GatewayError> {
        Self::offer(path, ALL)
    }

    fn offer(path: &Path, mode: u32) -> Result<Self, GatewayError> {
        let error = |source| GatewayError::Control { path: path.into(), source };
        let (file, listener) = SocketFile::offer(path, mode).map_err(error)?;
        Ok(Self { file, listener })
    }

    /// Serves callers until dropped.
    ///
    /// # Errors
    /// The system gave no thread.
    pub fn start<D: Door>(self, door: D) -> io::Result<Serving> {
        let (listener, ending) = (Arc::new(self.listener), Arc::new(AtomicBool::new(false)));
        let (door, callers) = (Arc::new(door), Arc::new(Callers::new(D::LIMITS)));
        let told = Arc::clone(&door);
        let mut serving = Serving {
            _file: self.file,
            listener: Arc::clone(&listener),
            ending: Arc::clone(&ending),
            end: Box::new(move || told.end()),
            callers: Arc::clone(&callers),
            thread: None,
        };
        let (most, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let most = most / D::SHARE;
        let thread = named::<D>().spawn(move || {
            for stream in listener.incoming() {
                if ending.load(Ordering::Acquire) {
                    return;
                }
                match stream {
                    // The lowest number that is free is given: so many are in use.
                    Ok(stream) if u64::try_from(stream.as_raw_fd()).is_ok_and(|number| number >= most) => {
                        refuse::<D>(&stream, all_busy());
                    }
                    Ok(stream) => receive(stream, &door, &callers),
                    // Out of descriptors, mostly: asking again at once would only burn the processor.
                    Err(_) => thread::sleep(BREATH),
                }
            }
        })?;
        serving.thread = Some(thread);
        Ok(serving)
    }
}

impl Serving {
    /// Ends the thread that accepts connections.
    fn accept_no_more(&mut self) {
        self.ending.store(true, Ordering::Release);
        // Wakes the thread from its wait for a connection.
        let woken = shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.accept_no_more();
        (self.end)();
        self.callers.dismiss(FAREWELL);
    }
}

/// Serves a new connection in a thread of its own, if it may speak and there is a place.
fn receive<D: Door>(stream: UnixStream, door: &Arc<D>, callers: &Arc<Callers>) {
    let stream = Arc::new(stream);
    if stream.set_write_timeout(Some(PATIENCE)).is_err() {
        return;
    }
    let place = match door.admit(&stream) {
        Some(Ok(place)) => place,
        Some(Err(failure)) => return refuse::<D>(&stream, failure),
        None => return,
    };
    let Some(caller) = callers.admit(Arc::clone(&stream), D::user(&place)) else {
        return refuse::<D>(&stream, all_busy());
    };
    let door = Arc::clone(door);
    let serve = move || {
        // A connection that is of no use any more is not told so.
        let _ = door.converse(&stream, &caller, &place);
        let _ = stream.shutdown(Shutdown::Both);
    };
    // Where there is no thread, the caller's place is free again and the connection closed.
    let _ = named::<D>().spawn(serve);
}

/// Nothing was written before, so there is room, and nothing is waited for.
fn refuse<D: Door>(mut stream: &UnixStream, failure: Failure) {
    let _ = write_message(&mut stream, &Answering::failure(&D::in_its_words(failure)));
}

fn all_busy() -> Failure {
    Failure::busy("the gateway serves as many callers as it can", "try again in a moment")
}

fn named<D: Door>() -> thread::Builder {
    thread::Builder::new().name(D::NAME.into())
}

impl Door for Service {
    const LIMITS: Limits = Limits {
        connections: MAX_CONNECTIONS,
        kept: 0,
        per_user: MAX_CONNECTIONS,
        listeners: MAX_CONNECTIONS / 2,
        holders: MAX_HOLDERS,
    };
    const NAME: &'static str = "control";
    const SHARE: u64 = 1;
    type Place = ();

    /// Only the gateway's own user and root may speak, whatever the file's mode became.
    fn admit(&self, stream: &UnixStream) -> Option<Answer<()>> {
        let own = nix::unistd::geteuid().as_raw();
        let peer = getsockopt(stream, sockopt::PeerCredentials).ok()?;
        (peer.uid() == own || peer.uid() == 0).then_some(Ok(()))
    }

    fn user((): &()) -> Option<u32> {
        None
    }

    fn in_its_words(failure: Failure) -> Failure {
        failure
    }

    fn converse(&self, stream: &UnixStream, caller: &Caller, &(): &()) -> Result<(), FrameError> {
        converse(stream, caller, self)
    }

    fn end(&self) {
        self.events.end();
    }
}

/// Operators served at a time.
const MAX_CONNECTIONS: usize = 64;

/// Connections of operators that may hold latches at a time, beside those that only call.
const MAX_HOLDERS: usize = 1024;

/// The modes of sockets: for their owner, and for all.
const OWNER: u32 = 0o600;
const ALL: u32 = 0o666;
