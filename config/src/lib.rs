//! The configuration file: what a gateway is told, as types that hold no contradiction.
//!
//! [`load`] reads a file and the keys it refers to, and finds every problem in them; [`parse`] takes text alone;
//! [`compare`] says what differs between two.

#![forbid(unsafe_code)]

mod check;
mod compare;
mod document;
pub mod documentation;
mod file;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod keyring;
mod model;
mod position;
mod problem;
mod range;
mod read;
mod reference;
#[cfg(test)]
mod tests;
mod value;

pub use compare::{Changes, RevisedSa, compare};
pub use file::{LoadError, Loaded, load};
pub use keyring::{Key, Keyring, read_keys};
pub use model::{
    Action, AppSocket, Applications, Backend, Config, Df, Direction, Discovery, Dscp, Ecn, Encapsulation,
    FlowLabel, Fragment, Guard, Header, Hiding, KeyFile, LatchTerms, Latches, Lifetime, Listen, Model,
    NamespaceRef, OnConflict, OnPolicyChange, Outer, Peer, Place, Policy, Position, Probe, Sa, SaDirection,
    Sizing, StateDirectory, Tfc, Tun, Unlatchable,
};
pub use problem::{Problem, Report, Severity};
pub use range::{AddressRange, IcmpRange, PortRange, Selector, SimpleSelector};
pub use read::{Parsed, parse, parse_named};
