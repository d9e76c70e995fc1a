//! Starts a program under the filter, and stays as its supervisor.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl::{set_child_subreaper, set_dumpable, set_no_new_privs};
use nix::sys::wait::waitpid;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::ended::Ended;
use crate::error::LaunchError;
use crate::signals::Signals;
use crate::supervisor::{Network, Supervisor};
use crate::{filter, inherited, low};

/// Has something required of sockets. An error is the one that the program is told (errno(3)), and then it has no socket, or
/// the socket gets no other end.
pub trait Requiring {
    /// Of a socket that was just made.
    ///
    /// # Errors
    /// An errno
    fn require(&mut self, socket: BorrowedFd<'_>) -> Result<(), i32>;

    /// Of one that is to connect or to listen, and of which it may be required already: one that came by accept(2) and was
    /// unconnected is new to everybody.
    ///
    /// # Errors
    /// An errno
    fn ensure(&mut self, socket: BorrowedFd<'_>) -> Result<(), i32>;
}

/// Runs a program, and has something required of every socket that it, or what it starts, makes. Returns when the last of
/// them has ended. To be called by a process without threads.
///
/// # Errors
/// [`LaunchError`]; the program was not started then.
pub fn run(command: &mut Command, requiring: &mut dyn Requiring) -> Result<Ended, LaunchError> {
    refuse_threads()?;
    inherited::refuse()?;
    let preparing = || LaunchError::system("preparing to start a program");
    let (mut ours, theirs) = UnixStream::pair().map_err(preparing())?;
    let signals = Signals::take().map_err(io::Error::from).map_err(preparing())?;
    let network = Network::ours().map_err(preparing())?;
    // What the program leaves behind stays below us, and so we may look at its descriptors (ptrace(2), Yama).
    set_child_subreaper(true).map_err(io::Error::from).map_err(preparing())?;
    let Some(program) = low::fork().map_err(io::Error::from).map_err(preparing())? else {
        drop(ours);
        become_program(command, theirs, &signals)
    };
    drop(theirs);
    // We are not under the filter: nobody of the same user may write into our memory (/proc/PID/mem).
    set_dumpable(false).map_err(io::Error::from).map_err(preparing())?;
    match hold(&mut ours, command.get_program()) {
        Ok(listener) => Supervisor::new((listener, signals), program, network, requiring).run(),
        Err(error) => {
            // It waits for our word, and ends when there is nobody to say it.
            drop(ours);
            let _ended = waitpid(program, None);
            let _back = signals.give_back();
            Err(error)
        }
    }
}

/// Takes the listener from the process that is to become the program, lets it go on, and sees that it did.
fn hold(link: &mut UnixStream, program: &OsStr) -> Result<OwnedFd, LaunchError> {
    let (said, listener) = hear(link).map_err(LaunchError::system("holding the program's sockets"))?;
    let listener = listener.ok_or_else(|| refused(said))?;
    if !low::can_give(listener.as_fd()) {
        return Err(LaunchError::Kernel);
    }
    let started = link.write_all(&[GO]).and_then(|()| {
        let mut errno = Vec::new();
        link.read_to_end(&mut errno).map(|_| errno)
    });
    // The end of it closes where the program begins.
    match started.map_err(LaunchError::system("starting the program"))?.first_chunk() {
        None => Ok(listener),
        Some(errno) => Err(LaunchError::Start {
            program: program.to_string_lossy().into_owned(),
            source: io::Error::from_raw_os_error(i32::from_ne_bytes(*errno)),
        }),
    }
}

/// Why there is no listener.
fn refused(errno: i32) -> LaunchError {
    match errno {
        libc::EBUSY => LaunchError::Supervised,
        libc::ENOSYS | libc::EINVAL => LaunchError::Kernel,
        other => LaunchError::System {
            doing: "holding the program's sockets",
            source: io::Error::from_raw_os_error(other),
        },
    }
}

/// Goes under the filter, and becomes the program once it is told to.
fn become_program(command: &mut Command, mut link: UnixStream, signals: &Signals) -> ! {
    let told = hold_ourselves(&link, signals).and_then(|()| link.read_exact(&mut [0]));
    let error = match told {
        Ok(()) => command.exec(),
        Err(error) => error,
    };
    let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
    // Nobody is there to tell it, or there is.
    let _told = link.write_all(&errno.to_ne_bytes());
    low::leave(1)
}

fn hold_ourselves(link: &UnixStream, signals: &Signals) -> io::Result<()> {
    signals.give_back()?;
    set_no_new_privs()?;
    let listener = low::install(&filter::program())?;
    let rights = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&rights));
    sendmsg(link, &[IoSlice::new(&0_i32.to_ne_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// What the new process says: the listener, or an errno.
fn hear(link: &UnixStream) -> io::Result<(i32, Option<OwnedFd>)> {
    let (mut said, mut space) = ([0; 4], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let came = recvmsg(link, &mut [IoSliceMut::new(&mut said)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if came.bytes < said.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let listener = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    Ok((i32::from_ne_bytes(said), listener))
}

/// With threads, the new process could wait for ever for what one of them holds.
fn refuse_threads() -> Result<(), LaunchError> {
    let threads = fs::read_dir("/proc/self/task").map_err(LaunchError::system("reading /proc"))?.count();
    if threads == 1 { Ok(()) } else { Err(LaunchError::Threads) }
}

/// The word by which the new process becomes the program.
const GO: u8 = 1;
