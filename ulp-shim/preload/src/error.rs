//! Why a program was not started.

use std::io;

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It would have a socket that nothing is required of.
    #[error(
        "descriptor {descriptor} is {what}, which the program would have without a requirement; close it, as by {descriptor}<&-"
    )]
    Inherited {
        /// Its number.
        descriptor: i32,
        /// What it is.
        what: &'static str,
    },
    /// Only a process without threads can become two.
    #[error("the launcher has threads; this is a defect of latchway")]
    Threads,
    /// A process can have one supervisor of its system calls.
    #[error(
        "something else supervises the system calls of this process already, as a container or another `latchway preload` does; \
         start it outside of that, or use `latchway exec`"
    )]
    Supervised,
    /// The kernel cannot put a socket into a process and answer it in one step, or has no filters at all.
    #[error(
        "this kernel cannot hold a program's sockets, which Linux 5.14 and later can; use `latchway exec`"
    )]
    Kernel,
    /// The system refused.
    #[error("{doing}: {source}")]
    System {
        /// What was to be done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The program is not there, or is none.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

impl LaunchError {
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}
