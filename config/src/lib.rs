//! The configuration file: what a gateway is told, as types that hold no contradiction.

#![forbid(unsafe_code)]

mod model;
mod range;

pub use model::{
    Action, Backend, Config, Direction, Guard, KeyFile, Lifetime, NamespaceRef, Peer, Place, Policy,
    Position, Sa, SaDirection, StateDirectory, Tun,
};
pub use range::{AddressRange, PortRange, Selector, SimpleSelector};
