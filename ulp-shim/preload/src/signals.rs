//! Signals for the launcher: those that are for the program are passed on to it.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// Signals as a descriptor.
#[derive(Debug)]
pub struct Signals {
    descriptor: SignalFd,
    /// What was blocked before.
    before: SigSet,
}

impl Signals {
    /// Takes those that are of interest.
    pub fn take() -> nix::Result<Self> {
        let taken = SigSet::from_iter(OURS.into_iter().chain(PASSED_ON));
        let before = taken.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let descriptor = SignalFd::with_flags(&taken, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { descriptor, before })
    }

    /// Lets all of them come as they did before.
    pub fn give_back(&self) -> nix::Result<()> {
        self.before.thread_set_mask()
    }

    /// Takes what has come. `None` where that is all. Says which one is to be passed on.
    pub fn next(&self) -> nix::Result<Option<Came>> {
        let Some(came) = self.descriptor.read_signal()? else { return Ok(None) };
        let signal = i32::try_from(came.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        // What a terminal sends, it sends to the program, too.
        let meant = signal.filter(|signal| PASSED_ON.contains(signal) && came.ssi_code <= 0);
        Ok(Some(meant.map_or(Came::Ours, Came::PassOn)))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// For us, or for nobody.
    Ours,
    /// Sent to us by somebody who means the program.
    PassOn(Signal),
}

/// A process ended or stopped; and where the terminal stops the program, we stop when it has (so that a program that goes on
/// is not without its supervisor).
const OURS: [Signal; 4] = [Signal::SIGCHLD, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// What is sent to a process to tell it something.
const PASSED_ON: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
];
