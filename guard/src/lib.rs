//! What keeps a gateway's packets where they belong while the gateway runs, and when it does not.
//!
//! A TUN alone guards nothing: set down, its routes are gone and the next best ones take over (T13); and in a namespace
//! that has other interfaces the kernel delivers a clear packet for an inner address from any of them (T16). So there are
//!
//! * [blackhole routes](Blackholes) for every protected prefix, in the inner and the outer namespace;
//! * in host mode, [packet filters](HostGuard) that let inner addresses in and out by the TUN only;
//! * the [inner side](InnerSide), set up in the order that leaves no gap;
//! * the [port for what is bypassed](BypassPort), and [rooms](Room) for programs that reach nothing but the gateway;
//! * [locks](Lock), so that no two gateways share a TUN or a state directory;
//! * a [monitor](Monitor) that says when any of it was taken away.
//!
//! All of it goes through netlink and `/proc/sys`. Routes and filters outlive the process that made them, are found again
//! by the next one, and are taken away only by asking for it.

#![forbid(unsafe_code)]

mod blackholes;
mod bypass;
mod error;
mod host;
mod inner;
mod lock;
mod monitor;
mod room;
mod setting;
mod steering;

pub use blackholes::Blackholes;
pub use bypass::BypassPort;
pub use error::GuardError;
pub use host::{Discarded, HostGuard, Tables};
pub use inner::{InnerSide, Missing, QUEUE};
pub use lock::Lock;
pub use monitor::{Change, Guarded, Lack, Monitor, Prefixes};
pub use room::Room;
pub use setting::SettingChange;

/// What every fallible call of this crate returns.
pub type Result<T> = std::result::Result<T, GuardError>;

/// The metric of routes into the TUN: better than what a DHCP client or a router advertisement gives, and the same in both
/// IP versions (IPv6 makes 1024 of none).
pub const ROUTE_METRIC: u32 = 100;

/// The metric of the blackholes: worse than what anything gives a route that it wants to be used.
pub const BLACKHOLE_METRIC: u32 = 1_000_000_000;
