//! Programs that know nothing of tagged sockets: each socket that such a program makes is born with a requirement (K-9, T38).
//!
//! The program runs under a seccomp filter whose supervisor we are. Where it asks for a socket of the Internet, the kernel
//! asks us instead; we make the socket, have something required for it, and put it among the program's descriptors. There
//! is no moment at which the program has it and nothing is required. It does not matter what asks: the C library or
//! another, a program that is linked statically, one that makes system calls itself, or whatever it starts. What the
//! filter cannot hold is refused, and without the supervisor there are no sockets.
//!
//! This is no prison: a program that means to get out can ask processes of the same user, which are not held, to send for
//! it. A namespace of its own holds that one, too (`latchway exec`).

#![deny(unsafe_code)]

mod asked;
mod ended;
mod error;
mod filter;
mod inherited;
mod launch;
mod low;
mod signals;
mod supervisor;

pub use crate::ended::Ended;
pub use crate::error::LaunchError;
pub use crate::launch::{Requiring, run};
