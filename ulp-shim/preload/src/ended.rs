//! How a program ended, and how we end the same way.

use std::process::ExitCode;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise};

use crate::low;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Killed(i32),
}

impl Ended {
    /// Ends as the program did: by the same signal, if one ended it. Where that signal does not end us, the code is what a
    /// shell makes of it.
    #[must_use]
    pub fn follow(self) -> ExitCode {
        let number = match self {
            Self::Exited(code) => return ExitCode::from(code),
            Self::Killed(number) => number,
        };
        if let Ok(signal) = Signal::try_from(number) {
            // One core is enough, and that is the program's.
            let _kept = setrlimit(Resource::RLIMIT_CORE, 0, 0);
            let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
            let _default = low::act(signal, &default);
            let _open = SigSet::from_iter([signal]).thread_unblock();
            let _ended = raise(signal);
        }
        ExitCode::from(u8::try_from(number).unwrap_or_default().saturating_add(128))
    }
}
