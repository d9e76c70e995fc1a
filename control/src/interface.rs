//! The interfaces that the gateway's sockets serve, in Varlink's own language, and what they say of themselves.

use serde::{Deserialize, Serialize};

use crate::call::Method;
use crate::failure::Failure;

/// An interface and its description.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// Its name.
    pub name: &'static str,
    /// Its description.
    pub description: &'static str,
}

/// The interface that every socket serves: which others there are.
pub(crate) const SERVICE: Interface =
    Interface { name: "org.varlink.service", description: include_str!("../org.varlink.service.varlink") };

/// What control.sock serves.
pub const INTERFACES: [Interface; 2] = [
    SERVICE,
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

impl Method for GetInfo {
    const NAME: &'static str = "org.varlink.service.GetInfo";
    type Reply = ServiceInfo;
}

impl Method for GetInterfaceDescription {
    const NAME: &'static str = "org.varlink.service.GetInterfaceDescription";
    type Reply = InterfaceDescription;
}

impl ServiceInfo {
    /// What a gateway says of itself on a socket that serves these interfaces.
    #[must_use]
    pub fn own(interfaces: &[Interface]) -> Self {
        Self {
            vendor: "Latchway".into(),
            product: "latchway".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            url: env!("CARGO_PKG_REPOSITORY").into(),
            interfaces: interfaces.iter().map(|interface| interface.name.into()).collect(),
        }
    }
}

impl GetInterfaceDescription {
    /// The description that is asked for, on a socket that serves these interfaces.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn answer(&self, interfaces: &[Interface]) -> Result<InterfaceDescription, Failure> {
        let found = interfaces.iter().find(|interface| interface.name == self.interface);
        found
            .map(|interface| InterfaceDescription { description: interface.description.into() })
            .ok_or_else(|| Failure::interface_not_found(&self.interface))
    }
}
