//! SAs.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::form::{EncapsulationSpec, FormSpec};
use crate::latch::ModeSpec;
use crate::selector::SelectorView;
use crate::spec::DirectionSpec;
use crate::view::page;
use crate::words::words;

page! {
    /// SAs.
    Sas {
        /// The SAs: two of a pair after each other, inbound first; then those of one direction, oldest first.
        sas: SaRow
    }
}

/// One SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SaRow {
    /// The pair it belongs to; null for an SA of one direction, a state of `latchway xfrm`.
    pub pair: Option<u64>,
    /// What it protects: what we receive or what we send.
    pub direction: DirectionSpec,
    /// Its SPI.
    pub spi: u32,
    /// Tunnel or transport.
    pub mode: ModeSpec,
    /// Whether its packets travel in UDP.
    pub encapsulation: EncapsulationSpec,
    /// Its suite; that of an AH SA says so.
    pub suite: String,
    /// The AH around it, of a bundle.
    pub header: Option<HeaderView>,
    /// In what form its packets travel.
    pub form: FormSpec,
    /// The peer's identity.
    pub peer: String,
    /// Whether it is in use.
    pub usage: SaUsage,
    /// Who asked for it.
    pub origin: Origin,
    /// Whether its soft lifetime is over: time for a new one.
    pub soft_expired: bool,
    /// Whether its hard lifetime is over, and its keys gone.
    pub expired: bool,
    /// Inner packets carried.
    pub packets: u64,
    /// Octets that the cipher was applied to.
    pub octets: u64,
    /// How many sequence numbers were passed whose packets did not come (RFC 4303 3.4.3); null for outbound SAs, and where replays
    /// are not checked.
    pub lost: Option<u64>,
    /// Where its soft lifetime ends.
    pub soft: LifetimeView,
    /// Where its hard lifetime ends.
    pub hard: LifetimeView,
    /// Whether sequence numbers have 64 bits.
    pub esn: bool,
    /// The size of the replay window in packets, 0 where replays are not checked; null for outbound SAs.
    pub replay_window: Option<u32>,
    /// Where protected packets go; null for an SA of one direction that receives.
    pub path: Option<PathView>,
    /// The inner flows it may carry.
    pub selectors: Vec<SelectorView>,
    /// The congruence class; null for an SA of one direction that makes no pair with another.
    pub class: Option<u32>,
    /// How long ago it was installed.
    pub age: u64,
    /// How long ago a packet passed; null where none has.
    pub idle: Option<u64>,
}

words! {
    /// Whether a pair of SAs is in use.
    SaUsage {
        /// It becomes visible to the workers; latches that stand against it break (L-74).
        Pending = "pending",
        /// It receives and does not send.
        Standby = "standby",
        /// It receives and sends.
        Active = "active",
        /// It receives what is still under way.
        Retired = "retired",
    }
}

words! {
    /// Who asked for something that the gateway holds.
    Origin {
        /// The configuration: a reload changes it.
        Configuration = "configuration",
        /// An operator or a provider of SAs: a reload leaves it alone.
        Hand = "hand",
        /// A latch that somebody asked for: it goes with the latch. Of rules only.
        Latch = "latch",
        /// `latchway xfrm`, which alone changes it.
        Xfrm = "xfrm",
    }
}

/// The AH SA around an ESP SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HeaderView {
    /// Its SPI.
    pub spi: u32,
    /// Its suite.
    pub suite: String,
}

/// A lifetime (RFC 4301 4.4.2.1); null is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LifetimeView {
    /// Octets that the cipher was applied to.
    pub octets: Option<u64>,
    /// Inner packets.
    pub packets: Option<u64>,
    /// Milliseconds that are left.
    pub left: Option<u64>,
    /// Milliseconds that it lasts from its first packet on, which has not passed yet.
    pub from_first_use: Option<u64>,
}

/// Where protected packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PathView {
    /// Our address.
    #[cfg_attr(test, schemars(with = "String"))]
    pub from: IpAddr,
    /// The peer's address and UDP port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub to: SocketAddr,
    /// The largest outer IP packet that it is configured to take.
    pub mtu: u16,
    /// The largest outer IP packet that is sent: what it was found to take.
    pub in_force: u16,
    /// Whether that is said to be too much, and nobody at the other end has answered what would prove or disprove it.
    pub suspected: bool,
}
