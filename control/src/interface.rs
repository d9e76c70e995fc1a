//! The interfaces that a control socket serves, in Varlink's own language, and what it says of itself.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// An interface and its description.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// Its name.
    pub name: &'static str,
    /// Its description.
    pub description: &'static str,
}

/// What is served.
pub const INTERFACES: [Interface; 2] = [
    Interface { name: "org.varlink.service", description: include_str!("../org.varlink.service.varlink") },
    Interface { name: "org.latchway.Control", description: include_str!("../org.latchway.Control.varlink") },
];

/// Parameters of org.varlink.service.GetInfo: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GetInfo {}

/// Parameters of org.varlink.service.GetInterfaceDescription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GetInterfaceDescription {
    /// The name of the interface.
    pub interface: String,
}

/// Who serves a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServiceInfo {
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Where to read more.
    pub url: String,
    /// The interfaces.
    pub interfaces: Vec<String>,
}

/// An interface in Varlink's own language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InterfaceDescription {
    /// The text.
    pub description: String,
}

impl ServiceInfo {
    /// What a gateway says of itself.
    #[must_use]
    pub fn own() -> Self {
        Self {
            vendor: "Latchway".into(),
            product: "latchway".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            url: env!("CARGO_PKG_REPOSITORY").into(),
            interfaces: INTERFACES.iter().map(|interface| interface.name.into()).collect(),
        }
    }
}

impl GetInterfaceDescription {
    /// The description that is asked for.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn answer(&self) -> Result<InterfaceDescription, Failure> {
        let found = INTERFACES.iter().find(|interface| interface.name == self.interface);
        found
            .map(|interface| InterfaceDescription { description: interface.description.into() })
            .ok_or_else(|| Failure::interface_not_found(&self.interface))
    }
}
