//! The control socket: who may speak, how many at a time, and what is answered (T40).

mod callers;
mod conversation;
mod latches;
mod pages;
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

use latchway_control::{Answering, Failure, write_message};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{getsockopt, shutdown, sockopt};

use crate::gateway::GatewayError;
use crate::gateway::events::EventHub;
use crate::gateway::operator::Gateway;
use crate::gateway::serve::callers::{Caller, Callers};
use crate::gateway::serve::conversation::converse;
use crate::gateway::serve::processes::Processes;
use crate::gateway::serve::socket::SocketFile;

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

/// A control socket that nobody is served on yet.
pub struct Server {
    file: SocketFile,
    listener: UnixListener,
}

/// A control socket in service. Dropped, it serves nobody any more, listeners have heard that the gateway ends, and the
/// socket's file is gone.
pub struct Serving {
    _file: SocketFile,
    listener: Arc<UnixListener>,
    ending: Arc<AtomicBool>,
    service: Arc<Service>,
    callers: Arc<Callers>,
    thread: Option<JoinHandle<()>>,
}

/// Descriptors of callers, of the processes that own latches, and of everything else.
const DESCRIPTORS: u64 = 4096;

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
        let error = |source| GatewayError::Control { path: path.into(), source };
        let (file, listener) = SocketFile::offer(path).map_err(error)?;
        Ok(Self { file, listener })
    }

    /// Serves callers until dropped.
    ///
    /// # Errors
    /// The system gave no thread.
    pub fn start(self, service: Service) -> io::Result<Serving> {
        let (listener, ending) = (Arc::new(self.listener), Arc::new(AtomicBool::new(false)));
        let (service, callers) = (Arc::new(service), Arc::new(Callers::default()));
        let mut serving = Serving {
            _file: self.file,
            listener: Arc::clone(&listener),
            ending: Arc::clone(&ending),
            service: Arc::clone(&service),
            callers: Arc::clone(&callers),
            thread: None,
        };
        let thread = named().spawn(move || {
            for stream in listener.incoming() {
                if ending.load(Ordering::Acquire) {
                    return;
                }
                match stream {
                    Ok(stream) => receive(stream, &service, &callers),
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
        self.service.events.end();
        self.callers.dismiss(FAREWELL);
    }
}

/// Serves a new connection in a thread of its own, if it may speak and there is a place.
fn receive(stream: UnixStream, service: &Arc<Service>, callers: &Arc<Callers>) {
    let stream = Arc::new(stream);
    if !is_ours(&stream) || stream.set_write_timeout(Some(PATIENCE)).is_err() {
        return;
    }
    let Some(caller) = callers.admit(Arc::clone(&stream)) else {
        let failure = Failure::busy("the gateway serves as many callers as it can", "try again in a moment");
        // Nothing was written before, so there is room, and nothing is waited for.
        let _ = write_message(&mut &*stream, &Answering::failure(&failure));
        return;
    };
    let service = Arc::clone(service);
    // Where there is no thread, the caller's place is free again and the connection closed.
    let _ = named().spawn(move || serve(&stream, &caller, &service));
}

fn serve(stream: &UnixStream, caller: &Caller, service: &Service) {
    let _ = converse(stream, caller, service);
    let _ = stream.shutdown(Shutdown::Both);
}

fn named() -> thread::Builder {
    thread::Builder::new().name("control".into())
}

/// Only the gateway's own user and root may speak, whatever the file's mode became.
fn is_ours(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    getsockopt(stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}
