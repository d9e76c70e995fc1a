//! The habits of ip-xfrm(8): what people and scripts say to a Linux kernel about SAs and policies, read into what
//! control.sock takes, and shown again as `ip xfrm` shows it.
//!
//! A crate of its own, since it is pure: words in, values out. It knows no gateway, and the fuzzer drives all of it. What
//! `ip xfrm` takes is either served or [refused](GrammarError::Refused) by its name with a reason; nothing is passed over
//! in silence that would make a difference.

#![forbid(unsafe_code)]

mod algorithm;
mod batch;
mod command;
mod error;
mod filter;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod import;
mod limit;
mod number;
mod options;
mod policy;
mod prefix;
mod print;
mod protocol;
mod selector;
mod state;
mod template;
mod words;

pub use algorithm::{SuiteError, suite};
pub use batch::lines;
pub use command::{Command, Objects};
pub use error::GrammarError;
pub use filter::{PolicyFilter, StateFilter};
pub use import::{ImportError, Imported, import};
pub use options::{Family, Invocation, Options, Source};
pub use print::{Shown, event, policy, policy_count, state, state_count};

#[cfg(test)]
mod tests;
