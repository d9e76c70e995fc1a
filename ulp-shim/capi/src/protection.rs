//! pTokens: what must protect a connection, and what does (section 2.3).

use std::sync::Arc;

use latchway_socket::{Mode, Protection};

use crate::attribute::{Attribute, Choice, Value};
use crate::failure::Failure;
use crate::identity::IdentityToken;
use crate::template::Template;

/// What a pToken holds.
#[derive(Clone, Debug, PartialEq)]
pub enum ProtectionToken {
    /// Made by the constructor: what an application may demand. It has no effect until it is attached.
    Template(Template),
    /// Had from a socket: what protects it. It does not change any more (N-16, P-41).
    Held(Box<Protection>),
    /// Had from a socket: nothing protects it.
    Clear,
}

impl Default for ProtectionToken {
    fn default() -> Self {
        Self::Template(Template::default())
    }
}

impl ProtectionToken {
    /// Reads an attribute.
    pub fn read(&self, attribute: Attribute) -> Result<Value, Failure> {
        match self {
            Self::Template(template) => template.read(attribute),
            Self::Held(protection) => held(protection, attribute),
            Self::Clear => clear(attribute),
        }
    }

    /// Writes an attribute of a template (Q-23, P-41).
    pub fn write(&mut self, attribute: Attribute, value: &Value) -> Result<(), Failure> {
        match self {
            Self::Template(template) => template.write(attribute, value),
            Self::Held(_) | Self::Clear => Err(FILLED),
        }
    }

    /// Whether they stand for the same: identical ranges of the SPD and equivalent cryptography, or the same demand
    /// (Q-52, C-16). Of connections in the clear nobody knows what decides about them: each is equal to itself alone.
    pub fn is_equivalent(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other)
            || match (self.as_ref(), other.as_ref()) {
                (Self::Template(one), Self::Template(other)) => one == other,
                (Self::Held(one), Self::Held(other)) => one.equivalent(other),
                _ => false,
            }
    }
}

fn held(protection: &Protection, attribute: Attribute) -> Result<Value, Failure> {
    let text = |text: Option<&str>| text.map(|text| Value::Text(text.to_owned())).ok_or(NOT_KNOWN);
    match attribute {
        Attribute::Privacy => Ok(Value::Choice(Choice::level(protection.confidential()))),
        Attribute::Integrity => Ok(Value::Choice(Choice::level(protection.integrity()))),
        // what is sent is what is on the wire; there is no IPComp.
        Attribute::Compression => Ok(Value::Choice(Choice::Disable)),
        Attribute::PolicyName => text(protection.policy_name()),
        Attribute::PeerIdentity => Ok(Value::Identity(Arc::new(IdentityToken::of_peer(protection)))),
        Attribute::LocalIdentity => {
            IdentityToken::of_ourselves(protection).map(|own| Value::Identity(Arc::new(own))).ok_or(NOT_KNOWN)
        }
        Attribute::TunnelMode => Ok(Value::Choice(Choice::of(protection.mode() == Mode::Tunnel))),
        Attribute::OptionsProtected => Ok(Value::Choice(Choice::of(protection.options_protected()))),
        Attribute::Audit => Ok(Value::Text(protection.audit().to_owned())),
        Attribute::Information => text(protection.information()),
        Attribute::Suites => {
            Ok(Value::Text(match (protection.inbound_suite(), protection.outbound_suite()) {
                (inbound, outbound) if inbound == outbound => inbound.to_owned(),
                (inbound, outbound) => format!("{inbound},{outbound}"),
            }))
        }
        Attribute::KeyBits => Ok(Value::Count(protection.confidential().key_bits())),
        Attribute::ReplayChecked => Ok(Value::Choice(Choice::of(protection.replay_checked()))),
        Attribute::Latch => text(protection.latch()),
        _ => Err(NOT_KNOWN),
    }
}

/// of what nothing protects.
fn clear(attribute: Attribute) -> Result<Value, Failure> {
    match attribute {
        Attribute::Privacy
        | Attribute::Integrity
        | Attribute::Compression
        | Attribute::TunnelMode
        | Attribute::OptionsProtected
        | Attribute::ReplayChecked => Ok(Value::Choice(Choice::Disable)),
        Attribute::KeyBits => Ok(Value::Count(0)),
        Attribute::Audit => Ok(Value::Text("in the clear: anybody may be there".to_owned())),
        _ => Err(NOT_KNOWN),
    }
}

const NOT_KNOWN: Failure =
    Failure::new(libc::ENODATA, "the gateway says no such thing of the connection, or nothing protects it");
const FILLED: Failure = Failure::new(
    libc::EPERM,
    "the token says what protects a connection and does not change; write to one that ipsec_create_pToken() made",
);

#[cfg(test)]
mod tests {
    use super::*;

    /// nothing protects it, and it says so.
    #[test]
    fn q_34_q_35_a_connection_in_the_clear_reads_disable() {
        let clear = ProtectionToken::Clear;
        for attribute in [Attribute::Privacy, Attribute::Integrity, Attribute::Compression] {
            assert_eq!(clear.read(attribute), Ok(Value::Choice(Choice::Disable)));
        }
        assert_eq!(clear.read(Attribute::PeerIdentity).unwrap_err().errno(), libc::ENODATA);
        let written = ProtectionToken::Clear.write(Attribute::Privacy, &Value::Choice(Choice::High));
        assert_eq!(written.unwrap_err().errno(), libc::EPERM);
        let (one, other) = (Arc::new(ProtectionToken::Clear), Arc::new(ProtectionToken::Clear));
        assert!(one.is_equivalent(&one) && !one.is_equivalent(&other));
    }

    #[test]
    fn q_52_two_templates_are_equal_if_they_demand_the_same() {
        let one = Arc::new(ProtectionToken::default());
        let mut other = ProtectionToken::default();
        assert!(one.is_equivalent(&Arc::new(other.clone())));
        other.write(Attribute::Privacy, &Value::Choice(Choice::Low)).unwrap();
        assert!(!one.is_equivalent(&Arc::new(other)));
        assert!(!one.is_equivalent(&Arc::new(ProtectionToken::Clear)));
    }
}
