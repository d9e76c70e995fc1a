//! pTokens: what must protect a connection, and what does (section 2.3).

use std::sync::Arc;

use crate::attribute::{Attribute, Choice, Value};
use crate::failure::Failure;
use crate::identity::IdentityToken;

/// What a pToken holds.
#[derive(Clone, Debug, PartialEq)]
pub enum ProtectionToken {
    /// What an application may demand. It has no effect until it is attached.
    Template(Template),
}

impl Default for ProtectionToken {
    fn default() -> Self {
        Self::Template(Template::default())
    }
}

/// A demand, attribute by attribute; what is not written is as the system has it (P-43).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    privacy: Choice,
    integrity: Choice,
    compression: Choice,
    tunnel_mode: Choice,
    options_protected: Choice,
    replay_checked: Choice,
    key_bits: Option<u16>,
    policy_name: Option<String>,
    suites: Option<String>,
    peer: Option<Arc<IdentityToken>>,
    local: Option<Arc<IdentityToken>>,
}

impl ProtectionToken {
    /// Reads an attribute.
    pub fn read(&self, attribute: Attribute) -> Result<Value, Failure> {
        match self {
            Self::Template(template) => template.read(attribute),
        }
    }

    /// Writes an attribute of a template (Q-23, P-41).
    pub fn write(&mut self, attribute: Attribute, value: Value) -> Result<(), Failure> {
        match self {
            Self::Template(template) => template.write(attribute, value),
        }
    }

    /// Whether they stand for the same: identical ranges of the SPD and equivalent cryptography, or the same demand
    /// (Q-52, C-16).
    pub fn is_equivalent(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Template(one), Self::Template(other)) => one == other,
        }
    }
}

impl Template {
    fn read(&self, attribute: Attribute) -> Result<Value, Failure> {
        let text = |text: &Option<String>| text.clone().map(Value::Text).ok_or(NOT_SET);
        let identity = |token: &Option<Arc<IdentityToken>>| token.clone().map(Value::Identity).ok_or(NOT_SET);
        match attribute {
            Attribute::Privacy => Ok(Value::Choice(self.privacy)),
            Attribute::Integrity => Ok(Value::Choice(self.integrity)),
            Attribute::Compression => Ok(Value::Choice(self.compression)),
            Attribute::TunnelMode => Ok(Value::Choice(self.tunnel_mode)),
            Attribute::OptionsProtected => Ok(Value::Choice(self.options_protected)),
            Attribute::ReplayChecked => Ok(Value::Choice(self.replay_checked)),
            Attribute::KeyBits => self.key_bits.map(Value::Count).ok_or(NOT_SET),
            Attribute::PolicyName => text(&self.policy_name),
            Attribute::Suites => text(&self.suites),
            Attribute::PeerIdentity => identity(&self.peer),
            Attribute::LocalIdentity => identity(&self.local),
            Attribute::Audit => Ok(Value::Text("a demand, attached to nothing".to_owned())),
            // C-28: before anything is established, there is nothing to say of it.
            _ => Err(NOT_SET),
        }
    }

    fn write(&mut self, attribute: Attribute, value: Value) -> Result<(), Failure> {
        match (attribute, value) {
            (Attribute::Privacy, Value::Choice(choice)) => self.privacy = choice,
            (Attribute::Integrity, Value::Choice(choice)) => self.integrity = choice,
            (Attribute::Compression, Value::Choice(choice)) => self.compression = choice,
            (Attribute::TunnelMode, Value::Choice(choice)) => self.tunnel_mode = choice,
            (Attribute::OptionsProtected, Value::Choice(choice)) => self.options_protected = choice,
            (Attribute::ReplayChecked, Value::Choice(choice)) => self.replay_checked = choice,
            (Attribute::KeyBits, Value::Count(bits)) => self.key_bits = Some(bits),
            (Attribute::PolicyName, Value::Text(name)) => self.policy_name = Some(name),
            (Attribute::Suites, Value::Text(names)) => self.suites = Some(names),
            (Attribute::PeerIdentity, Value::Identity(token)) => self.peer = Some(token),
            (Attribute::LocalIdentity, Value::Identity(token)) => self.local = Some(token),
            _ => return Err(MISFIT),
        }
        Ok(())
    }
}

const NOT_SET: Failure = Failure::new(
    libc::ENODATA,
    "the token does not say: the attribute was not set, or there is no connection yet to say it of",
);
const MISFIT: Failure =
    Failure::new(libc::EINVAL, "the attribute has no such value; see ipsec_get_token_attr(3)");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::TABLE;

    fn template() -> Template {
        Template::default()
    }

    /// P-53, Q-33, Q-40: what is written is read back, and nothing else changes.
    #[test]
    fn p_53_a_template_keeps_what_is_written() {
        let peer = Arc::new(IdentityToken::default());
        let written = [
            (Attribute::Privacy, Value::Choice(Choice::High)),
            (Attribute::Integrity, Value::Choice(Choice::Enable)),
            (Attribute::Compression, Value::Choice(Choice::Disable)),
            (Attribute::TunnelMode, Value::Choice(Choice::Disable)),
            (Attribute::OptionsProtected, Value::Choice(Choice::Enable)),
            (Attribute::ReplayChecked, Value::Choice(Choice::Enable)),
            (Attribute::KeyBits, Value::Count(192)),
            (Attribute::PolicyName, Value::Text("rule 3".to_owned())),
            (Attribute::Suites, Value::Text("aes-256-gcm".to_owned())),
            (Attribute::PeerIdentity, Value::Identity(Arc::clone(&peer))),
            (Attribute::LocalIdentity, Value::Identity(peer)),
        ];
        let rows = TABLE.iter().filter(|row| row.writable && !matches!(row.attribute, Attribute::Method(_)));
        assert_eq!(rows.count(), written.len(), "every one that can be written");
        for (attribute, value) in written {
            let mut changed = template();
            changed.write(attribute, value.clone()).unwrap();
            assert_eq!(changed.read(attribute), Ok(value));
            assert_ne!(changed, template());
            for row in TABLE.iter().filter(|row| row.attribute != attribute) {
                assert_eq!(changed.read(row.attribute), template().read(row.attribute), "{row:?}");
            }
        }
    }

    /// C-28: a template informs nobody.
    #[test]
    fn c_28_a_template_has_no_information() {
        for attribute in
            [Attribute::Information, Attribute::Latch, Attribute::PolicyName, Attribute::PeerIdentity]
        {
            assert_eq!(template().read(attribute).unwrap_err().errno(), libc::ENODATA);
        }
    }

    #[test]
    fn q_52_two_templates_are_equal_if_they_demand_the_same() {
        let mut other = template();
        let one = ProtectionToken::default();
        assert!(one.is_equivalent(&ProtectionToken::Template(other.clone())));
        other.write(Attribute::Privacy, Value::Choice(Choice::Low)).unwrap();
        assert!(!one.is_equivalent(&ProtectionToken::Template(other)));
    }
}
