//! The supervisor: makes the program's sockets, and waits for the end (T38, seccomp_unotify(2)).

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::asked::Asked;
use crate::ended::Ended;
use crate::error::LaunchError;
use crate::launch::Requiring;
use crate::low::{self, Call, Reply};
use crate::signals::{Came, Signals};

/// A network namespace: its device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(u64, u64);

impl Network {
    /// The one that we are in.
    pub fn ours() -> io::Result<Self> {
        Self::at(Path::new("/proc/self/ns/net"))
    }

    fn at(namespace: &Path) -> io::Result<Self> {
        fs::metadata(namespace).map(|found| Self(found.dev(), found.ino()))
    }
}

/// What answers the calls of a program and of all that it starts.
pub struct Supervisor<'a> {
    listener: OwnedFd,
    signals: Signals,
    program: Pid,
    requiring: &'a mut dyn Requiring,
    /// Ours, which is the one that sockets are made in.
    network: Network,
    ended: Option<Ended>,
}

impl<'a> Supervisor<'a> {
    pub fn new(
        (listener, signals): (OwnedFd, Signals),
        program: Pid,
        network: Network,
        requiring: &'a mut dyn Requiring,
    ) -> Self {
        Self { listener, signals, program, requiring, network, ended: None }
    }

    /// Answers until nobody is left who could ask.
    pub fn run(mut self) -> Result<Ended, LaunchError> {
        let failed = || LaunchError::system("supervising the program; it has no sockets any more");
        loop {
            let (asked, signalled) = self.wait().map_err(failed())?;
            if signalled.contains(PollFlags::IN) {
                self.hear().map_err(failed())?;
            }
            if asked.contains(PollFlags::IN) {
                self.answer().map_err(failed())?;
            } else if !asked.is_empty() {
                return self.bury().map_err(failed());
            }
        }
    }

    fn wait(&self) -> io::Result<(PollFlags, PollFlags)> {
        let mut awaited =
            [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        match poll(&mut awaited, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [asked, signalled] = awaited;
        Ok((asked.revents(), signalled.revents()))
    }

    /// Answers one call.
    fn answer(&mut self) -> io::Result<()> {
        let Some(call) = low::receive(self.listener.as_fd())? else { return Ok(()) };
        let judged = match call.number {
            libc::SYS_socket => self.make(&call),
            _ => self.other_end(&call).map(|()| Some(Reply::Continue)),
        };
        match judged {
            Ok(None) => Ok(()),
            Ok(Some(reply)) => low::reply(self.listener.as_fd(), call.id, reply),
            Err(errno) => low::reply(self.listener.as_fd(), call.id, Reply::Refuse(errno)),
        }
    }

    /// Makes a socket, has something required of it, and gives it to whoever asked; then nothing is left to reply.
    fn make(&mut self, call: &Call) -> Result<Option<Reply>, Errno> {
        let asked = Asked::read(&call.arguments)?;
        self.refuse_other_networks(call)?;
        let socket = asked.make()?;
        self.requiring.require(socket.as_fd()).map_err(Errno::from_raw_os_error)?;
        match low::give(self.listener.as_fd(), call.id, socket.as_fd(), asked.cloexec) {
            // It has gone, and the socket with it.
            Ok(()) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Sees that something is required of a socket before it connects or listens.
    fn other_end(&mut self, call: &Call) -> Result<(), Errno> {
        let [number, ..] = call.arguments;
        // A descriptor is an int.
        let number = RawFd::try_from(number & u64::from(u32::MAX)).map_err(|_| Errno::BADF)?;
        let socket = self.descriptor(call, number)?;
        match socket_domain(&socket) {
            Ok(AddressFamily::INET | AddressFamily::INET6) => {
                self.requiring.ensure(socket.as_fd()).map_err(Errno::from_raw_os_error)
            }
            // The kernel says what is wrong with what is no socket.
            Ok(AddressFamily::UNIX | AddressFamily::NETLINK) | Err(Errno::NOTSOCK) => Ok(()),
            Ok(_) => Err(Errno::ACCESS),
            Err(errno) => Err(errno),
        }
    }

    /// Whoever left our network means to have none of it, or another; both would be got around by a socket of ours.
    fn refuse_other_networks(&self, call: &Call) -> Result<(), Errno> {
        let theirs = Network::at(&of(call.thread, "ns/net")).map_err(|_| Errno::ACCESS)?;
        self.refuse_gone(call)?;
        if theirs == self.network { Ok(()) } else { Err(Errno::ACCESS) }
    }

    /// A copy of a descriptor of a thread that waits.
    fn descriptor(&self, call: &Call, number: RawFd) -> Result<OwnedFd, Errno> {
        let denied = |errno| if errno == Errno::BADF { errno } else { Errno::ACCESS };
        let thread = rustix::process::Pid::from_raw(call.thread).ok_or(Errno::ACCESS)?;
        let copy = match pidfd_open(thread, THREAD) {
            Ok(thread) => pidfd_getfd(thread, number, PidfdGetfdFlags::empty()).map_err(denied)?,
            // Before Linux 6.9 processes can be named, and no threads.
            Err(Errno::INVAL) => of_leader(call.thread, number).map_err(denied)?,
            Err(_) => return Err(Errno::ACCESS),
        };
        self.refuse_gone(call)?;
        Ok(copy)
    }

    /// What was learnt of a thread is of one that has the same number by now, if it waits no more.
    fn refuse_gone(&self, call: &Call) -> Result<(), Errno> {
        if low::is_waiting(self.listener.as_fd(), call.id) { Ok(()) } else { Err(Errno::INTR) }
    }

    /// Takes the signals that have come.
    fn hear(&mut self) -> io::Result<()> {
        while let Some(came) = self.signals.next()? {
            if let Came::PassOn(signal) = came
                && self.ended.is_none()
            {
                // It may have ended this moment.
                let _passed = kill(self.program, signal);
            }
        }
        self.reap()
    }

    /// Takes the ends of the program and of what it left behind.
    fn reap(&mut self) -> io::Result<()> {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return Ok(()),
                Ok(WaitStatus::Stopped(stopped, signal)) if stopped == self.program => {
                    // Whoever waits for us sees that the job has stopped. Who stops the program alone, continues it alone.
                    if signal != Signal::SIGSTOP {
                        kill(getpid(), Signal::SIGSTOP)?;
                    }
                }
                Ok(status) => self.note(status),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn note(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::Exited(who, code) if who == self.program => {
                self.ended = Some(Ended::Exited(u8::try_from(code & 0xff).unwrap_or_default()));
            }
            WaitStatus::Signaled(who, signal, _) if who == self.program => {
                self.ended = Some(Ended::Killed(signal as i32));
            }
            _ => {}
        }
    }

    /// Nobody can ask any more: the program has ended, and perhaps its end has not been taken.
    fn bury(mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.ended {
                self.signals.give_back()?;
                return Ok(ended);
            }
            match waitpid(self.program, None) {
                Ok(status) => self.note(status),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The descriptor of the process that a thread is of. A thread may have others, under the same numbers.
fn of_leader(thread: i32, number: RawFd) -> Result<OwnedFd, Errno> {
    let status = fs::read_to_string(of(thread, "status")).map_err(|_| Errno::ACCESS)?;
    let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    let leader =
        leader.and_then(|leader| leader.trim().parse().ok()).and_then(rustix::process::Pid::from_raw);
    let process = pidfd_open(leader.ok_or(Errno::ACCESS)?, PidfdFlags::empty())?;
    let copy = pidfd_getfd(process, number, PidfdGetfdFlags::empty())?;
    let theirs = fs::metadata(of(thread, &format!("fd/{number}"))).map_err(|_| Errno::ACCESS)?;
    let ours = fstat(&copy)?;
    if (ours.st_dev, ours.st_ino) == (theirs.dev(), theirs.ino()) { Ok(copy) } else { Err(Errno::ACCESS) }
}

/// A file about a thread.
fn of(thread: i32, file: &str) -> PathBuf {
    Path::new("/proc").join(thread.to_string()).join(file)
}

/// PIDFD_THREAD (Linux 6.9).
const THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.unsigned_abs());
