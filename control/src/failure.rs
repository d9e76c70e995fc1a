//! Why a call was not answered as asked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What happened, and what to do about it: a Varlink error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The error's full name.
    pub error: String,
    /// What it says.
    pub parameters: Box<FailureParameters>,
}

/// What an error says. Those of org.latchway.Control and org.latchway.App have message and hint; those of org.varlink.service what Varlink
/// gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureParameters {
    /// What happened, a sentence or two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The method that there is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The interface that there is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// The errors of org.latchway.Control, each with message and hint.
#[cfg(test)]
pub(crate) const ERRORS: [(&str, &str); 11] = [
    ("BadCall", "The call cannot be understood, or its parameters cannot be used."),
    ("NotFound", "What the call speaks of is not there."),
    ("Refused", "The gateway does not do this, and changed nothing."),
    ("Busy", "The gateway serves as many callers as it can."),
    ("Failed", "The gateway could not do this."),
    ("BadTuple", "No connection and no listener can have these addresses, protocol and ports."),
    ("Conflict", "Another latch, or SAs that are there, stand against the latch."),
    ("Full", "There is no room for another."),
    ("NotOwner", "The latch is somebody else's."),
    ("PolicyForbids", "The policy does not let anybody ask for this."),
    ("PrivilegeNeeded", "The policy lets only a privileged caller ask for this."),
];

/// The errors of org.latchway.App, each with message and hint.
#[cfg(test)]
pub(crate) const APP_ERRORS: [(&str, &str); 11] = [
    ("BadCall", "The call cannot be understood, or its parameters cannot be used."),
    ("NotASocket", "The descriptor that came with the call is not a socket, or none came."),
    ("WrongSocket", "The socket is of a kind that nothing can be said of or required for."),
    ("NotHere", "The socket is not one of those that the gateway serves."),
    ("Unsatisfied", "What protects the connection that is there, if anything does, is not what is required."),
    ("PolicyForbids", "The policy does not let anybody ask for this."),
    ("NotFound", "What the call speaks of is not there."),
    ("Refused", "The gateway does not do this, and changed nothing."),
    ("Busy", "The gateway serves as many callers as it can."),
    ("Full", "There is no room for another."),
    ("Failed", "The gateway could not do this."),
];

impl Failure {
    /// The call cannot be understood, or its parameters cannot be used.
    #[must_use]
    pub fn bad_call(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::control("BadCall", message, hint)
    }

    /// What the call speaks of is not there.
    #[must_use]
    pub fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::control("NotFound", message, hint)
    }

    /// The gateway does not do this, and changed nothing.
    #[must_use]
    pub fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::control("Refused", message, hint)
    }

    /// The gateway serves as many callers as it can.
    #[must_use]
    pub fn busy(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::control("Busy", message, hint)
    }

    /// The gateway could not do this.
    #[must_use]
    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::control("Failed", message, hint)
    }

    /// No connection and no listener can have these addresses, protocol and ports.
    #[must_use]
    pub fn bad_tuple(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::control("BadTuple", message, hint)
    }

    /// Another latch, or SAs that are there, stand against the latch.
    #[must_use]
    pub fn conflict(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::control("Conflict", message, hint)
    }

    /// There is no room for another.
    #[must_use]
    pub fn full(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::control("Full", message, hint)
    }

    /// The latch is somebody else's.
    #[must_use]
    pub fn not_owner(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::control("NotOwner", message, hint)
    }

    /// The policy does not let anybody ask for this.
    #[must_use]
    pub fn policy_forbids(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::control("PolicyForbids", message, hint)
    }

    /// The policy lets only a privileged caller ask for this.
    #[must_use]
    pub fn privilege_needed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::control("PrivilegeNeeded", message, hint)
    }

    /// What came with a call is not a socket, or nothing came.
    #[must_use]
    pub fn not_a_socket(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::named(APP, "NotASocket", message, hint)
    }

    /// The socket is of a kind that nothing can be said of or required for.
    #[must_use]
    pub fn wrong_socket(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::named(APP, "WrongSocket", message, hint)
    }

    /// The socket is not one of those that the gateway serves.
    #[must_use]
    pub fn not_here(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::named(APP, "NotHere", message, hint)
    }

    /// What protects the connection that is there is not what is required.
    #[must_use]
    pub fn unsatisfied(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::named(APP, "Unsatisfied", message, hint)
    }

    /// The same as org.latchway.App has it, where control.sock says it, too.
    #[must_use]
    pub fn of_app(self) -> Self {
        match self.error.strip_prefix(CONTROL).and_then(|rest| rest.strip_prefix('.')) {
            Some(word) => Self { error: format!("{APP}.{word}"), parameters: self.parameters },
            None => self,
        }
    }

    /// The error's name without its interface: `Busy`, for example.
    #[must_use]
    pub fn word(&self) -> &str {
        self.error.rsplit_once('.').map_or(&self.error, |(_, word)| word)
    }

    /// There is no such method.
    #[must_use]
    pub fn method_not_found(method: &str) -> Self {
        Self::service("MethodNotFound", Some(method), None)
    }

    /// There is such a method, but this gateway does not have it.
    #[must_use]
    pub fn method_not_implemented(method: &str) -> Self {
        Self::service("MethodNotImplemented", Some(method), None)
    }

    /// There is no such interface.
    #[must_use]
    pub fn interface_not_found(interface: &str) -> Self {
        Self::service("InterfaceNotFound", None, Some(interface))
    }

    /// The call must allow more than one reply.
    #[must_use]
    pub fn expected_more() -> Self {
        Self::service("ExpectedMore", None, None)
    }

    fn control(name: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::named(CONTROL, name, message, hint)
    }

    fn named(interface: &str, name: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let (message, hint) = (Some(message.into()), Some(hint.into()).filter(|hint| !hint.is_empty()));
        let parameters = FailureParameters { message, hint, ..FailureParameters::default() };
        Self { error: format!("{interface}.{name}"), parameters: Box::new(parameters) }
    }

    fn service(name: &str, method: Option<&str>, interface: Option<&str>) -> Self {
        let (method, interface) = (method.map(str::to_owned), interface.map(str::to_owned));
        let parameters = FailureParameters { method, interface, ..FailureParameters::default() };
        Self { error: format!("org.varlink.service.{name}"), parameters: Box::new(parameters) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FailureParameters { message, hint, method, interface } = &*self.parameters;
        match (message, method, interface) {
            (Some(message), ..) => write!(f, "{message}")?,
            (None, Some(method), _) => write!(f, "this gateway has no method {method}")?,
            (None, None, Some(interface)) => write!(f, "this gateway has no interface {interface:?}")?,
            (None, None, None) => write!(f, "{}", self.error)?,
        }
        hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for Failure {}

const CONTROL: &str = "org.latchway.Control";
const APP: &str = "org.latchway.App";
