//! Keys of SAs, for who explicitly asks to see them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::spec::Secret;

/// Parameters of [`crate::Call::ShowKeys`]: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ShowKeys {}

/// The SAs whose lifetime is not over, with their keys.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ShownKeys {
    /// Each SA, one direction each.
    pub sas: Vec<KeyedSa>,
}

/// An SA with its key.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct KeyedSa {
    /// `esp` or `ah`.
    pub protocol: String,
    /// The outer source of its packets.
    #[cfg_attr(test, schemars(with = "String"))]
    pub source: IpAddr,
    /// Their outer destination.
    #[cfg_attr(test, schemars(with = "String"))]
    pub destination: IpAddr,
    /// Its SPI.
    pub spi: u32,
    /// The name of its suite.
    pub suite: String,
    /// Whether its sequence numbers are extended to 64 bits.
    pub esn: bool,
    /// The encryption key with its salt or nonce behind it, in hexadecimal; empty where there is none.
    #[cfg_attr(test, schemars(with = "String"))]
    pub encryption: Secret,
    /// The integrity key with its salt behind it, in hexadecimal; empty where there is none apart from encryption.
    #[cfg_attr(test, schemars(with = "String"))]
    pub integrity: Secret,
}
