//! Templates: what an application may demand, and the requirement that it becomes.

use std::sync::Arc;

use latchway_socket::{Method as Known, Mode, Protected, Protection, Requirement, Strength};

use crate::attribute::{Attribute, Choice, Method, Value};
use crate::failure::Failure;
use crate::identity::IdentityToken;
use crate::protection::ProtectionToken;

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

/// What a token demands of a socket that it is attached to: a template what is written in it, one that was had from a socket
/// what protects that.
pub fn requirement(token: &ProtectionToken) -> Result<Requirement, Failure> {
    match token {
        ProtectionToken::Template(template) => template.requirement(),
        ProtectionToken::Held(protection) => Ok(the_same(protection)),
        ProtectionToken::Clear => Err(NO_CLEAR),
    }
}

impl Template {
    /// Reads an attribute.
    pub fn read(&self, attribute: Attribute) -> Result<Value, Failure> {
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
            Attribute::Audit => Ok(Value::Text("a demand, not a connection".to_owned())),
            // C-28: before anything is established, there is nothing to say of it.
            _ => Err(NOT_SET),
        }
    }

    /// Writes an attribute.
    pub fn write(&mut self, attribute: Attribute, value: &Value) -> Result<(), Failure> {
        match (attribute, value) {
            (Attribute::Privacy, Value::Choice(choice)) => self.privacy = *choice,
            (Attribute::Integrity, Value::Choice(choice)) => self.integrity = *choice,
            (Attribute::Compression, Value::Choice(choice)) => self.compression = *choice,
            (Attribute::TunnelMode, Value::Choice(choice)) => self.tunnel_mode = *choice,
            (Attribute::OptionsProtected, Value::Choice(choice)) => self.options_protected = *choice,
            (Attribute::ReplayChecked, Value::Choice(choice)) => self.replay_checked = *choice,
            (Attribute::KeyBits, Value::Count(bits)) => self.key_bits = Some(*bits),
            (Attribute::PolicyName, Value::Text(name)) => self.policy_name = Some(name.clone()),
            (Attribute::Suites, Value::Text(names)) => self.suites = Some(names.clone()),
            (Attribute::PeerIdentity, Value::Identity(token)) => self.peer = Some(Arc::clone(token)),
            (Attribute::LocalIdentity, Value::Identity(token)) => self.local = Some(Arc::clone(token)),
            _ => return Err(MISFIT),
        }
        Ok(())
    }

    fn requirement(&self) -> Result<Requirement, Failure> {
        if self.compression.demanded() != Strength::None {
            return Err(NO_COMPRESSION);
        }
        if self.policy_name.is_some() {
            return Err(NO_POLICY_NAME);
        }
        let requirement = self.require_strength(Requirement::new())?;
        let requirement = self.require_header(requirement);
        self.require_identities(requirement)
    }

    /// levels, suites, keys.
    fn require_strength(&self, requirement: Requirement) -> Result<Requirement, Failure> {
        let (privacy, integrity) = (self.privacy.demanded(), self.integrity.demanded());
        let key_bits = self.key_bits.unwrap_or_default().max(privacy.key_bits());
        let mut requirement = match (privacy, integrity) {
            _ if key_bits > 0 => requirement.protection(Protected::Confidential).key_bits(key_bits),
            (Strength::None, Strength::None) if self.is_clear() => return Err(NO_CLEAR),
            (Strength::None, Strength::None) => requirement,
            (Strength::None, _) => requirement.protection(Protected::Authenticated),
            _ => requirement.protection(Protected::Confidential),
        };
        let authentic = integrity.suites_of_integrity();
        if let Some(named) = self.named_suites()? {
            let fits = |name: &&str| authentic.is_empty() || authentic.iter().any(|suite| suite == name);
            let fitting: Vec<&str> = named.into_iter().filter(fits).collect();
            if fitting.is_empty() {
                return Err(NO_SUITE);
            }
            requirement = requirement.suites(fitting);
        } else if !authentic.is_empty() {
            requirement = requirement.suites(authentic);
        }
        Ok(requirement)
    }

    /// what becomes of the IP header; L-10.
    fn require_header(&self, mut requirement: Requirement) -> Requirement {
        match self.tunnel_mode {
            Choice::Enable => requirement = requirement.mode(Mode::Tunnel),
            Choice::Disable => requirement = requirement.mode(Mode::Transport),
            _ => {}
        }
        if self.options_protected == Choice::Enable {
            requirement = requirement.options_protected();
        }
        if self.replay_checked == Choice::Enable {
            requirement = requirement.replay_checked();
        }
        requirement
    }

    /// C-5, C-29: who it must be, and how that must be proven.
    fn require_identities(&self, mut requirement: Requirement) -> Result<Requirement, Failure> {
        if let Some(peer) = &self.peer {
            requirement = match peer.known() {
                Some(known) => requirement.peer(known),
                None => requirement.methods(known_methods(peer)?),
            };
        }
        match &self.local {
            None => Ok(requirement),
            Some(local) => local.known().map(|own| requirement.local(own.asserted())).ok_or(NOBODY),
        }
    }

    /// Both are disabled: in the clear is what is wanted, which is not for a socket to choose (L-112).
    fn is_clear(&self) -> bool {
        self.privacy == Choice::Disable && self.integrity == Choice::Disable
    }

    fn named_suites(&self) -> Result<Option<Vec<&str>>, Failure> {
        let Some(suites) = &self.suites else { return Ok(None) };
        let names: Vec<&str> = suites.split(',').map(str::trim).collect();
        if names.iter().any(|name| name.is_empty()) { Err(NO_SUITE) } else { Ok(Some(names)) }
    }
}

/// The methods that will do, as the gateway calls them; none where any will.
fn known_methods(peer: &IdentityToken) -> Result<Vec<Known>, Failure> {
    let methods = peer.methods();
    let known: Vec<Known> = methods.iter().copied().filter_map(Method::known).collect();
    if peer.is_impossible() || (known.is_empty() && !methods.is_empty()) { Err(NO_METHOD) } else { Ok(known) }
}

/// The same again: this peer, and no protection that is weaker or other.
fn the_same(held: &Protection) -> Requirement {
    let mut requirement = Requirement::new().peer(held.peer_identity()).mode(held.mode());
    requirement = match held.confidential() {
        Strength::None => requirement.protection(Protected::Authenticated),
        strength => requirement.protection(Protected::Confidential).key_bits(strength.key_bits()),
    };
    requirement = requirement.suites([held.inbound_suite(), held.outbound_suite()]);
    if let Some(own) = held.local_identity() {
        requirement = requirement.local(own.asserted());
    }
    if held.options_protected() {
        requirement = requirement.options_protected();
    }
    if held.replay_checked() { requirement.replay_checked() } else { requirement }
}

const NOT_SET: Failure = Failure::new(
    libc::ENODATA,
    "the token does not say: the attribute was not set, or there is no connection yet to say it of",
);
const MISFIT: Failure =
    Failure::new(libc::EINVAL, "the attribute has no such value; see ipsec_get_token_attr(3)");
const NO_CLEAR: Failure = Failure::new(
    libc::ENOTSUP,
    "whether a socket passes in the clear is for the policy to say; leave privacy or integrity at ANY",
);
const NO_COMPRESSION: Failure =
    Failure::new(libc::ENOTSUP, "nothing is compressed here; leave compressionAvailable at ANY or DISABLE");
const NO_POLICY_NAME: Failure = Failure::new(
    libc::ENOTSUP,
    "a policy cannot be required by its name; leave policyName unset, and require what the policy is wanted for",
);
const NO_SUITE: Failure = Failure::new(
    libc::EINVAL,
    "no suite is left to use: name suites with commas between, and such as have the integrity that is demanded",
);
const NO_METHOD: Failure = Failure::new(
    libc::ENOTSUP,
    "the gateway knows none of the methods that are enabled; it has NONE, BTNS, LEAPOFFFAITH, PRESHAREDKEY, PKIX_TRUSTED \
     and PKIX_OFFLINE",
);
const NOBODY: Failure = Failure::new(
    libc::EINVAL,
    "remote_iToken names nobody: who we are can be required with a token from a connection or from text",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::TABLE;

    fn with(written: &[(Attribute, Value)]) -> Template {
        let mut template = Template::default();
        for (attribute, value) in written {
            template.write(*attribute, value).unwrap();
        }
        template
    }

    fn choice(attribute: Attribute, choice: Choice) -> (Attribute, Value) {
        (attribute, Value::Choice(choice))
    }

    /// P-53, Q-33, Q-40: what is written is read back, and nothing else changes.
    #[test]
    fn p_53_a_template_keeps_what_is_written() {
        let peer = Arc::new(IdentityToken::default());
        let written = [
            choice(Attribute::Privacy, Choice::High),
            choice(Attribute::Integrity, Choice::Enable),
            choice(Attribute::Compression, Choice::Disable),
            choice(Attribute::TunnelMode, Choice::Disable),
            choice(Attribute::OptionsProtected, Choice::Enable),
            choice(Attribute::ReplayChecked, Choice::Enable),
            (Attribute::KeyBits, Value::Count(192)),
            (Attribute::PolicyName, Value::Text("rule 3".to_owned())),
            (Attribute::Suites, Value::Text("aes-256-gcm".to_owned())),
            (Attribute::PeerIdentity, Value::Identity(Arc::clone(&peer))),
            (Attribute::LocalIdentity, Value::Identity(peer)),
        ];
        let rows = TABLE.iter().filter(|row| row.writable && !matches!(row.attribute, Attribute::Method(_)));
        assert_eq!(rows.count(), written.len(), "every one that can be written");
        for (attribute, value) in written {
            let changed = with(&[(attribute, value.clone())]);
            assert_eq!(changed.read(attribute), Ok(value));
            assert_ne!(changed, Template::default());
            for row in TABLE.iter().filter(|row| row.attribute != attribute) {
                assert_eq!(changed.read(row.attribute), Template::default().read(row.attribute), "{row:?}");
            }
        }
    }

    /// C-28: a template informs nobody.
    #[test]
    fn c_28_a_template_has_no_information() {
        for attribute in
            [Attribute::Information, Attribute::Latch, Attribute::PolicyName, Attribute::PeerIdentity]
        {
            assert_eq!(Template::default().read(attribute).unwrap_err().errno(), libc::ENODATA);
        }
    }

    /// L-112: levels and what they require.
    #[test]
    fn q_32_levels_become_requirements() {
        let required = |written: &[(Attribute, Value)]| with(written).requirement().unwrap();
        let confidential = Requirement::new().protection(Protected::Confidential);
        assert_eq!(required(&[]), Requirement::new());
        assert_eq!(
            required(&[choice(Attribute::Privacy, Choice::Disable)]),
            Requirement::new(),
            "should not, but may"
        );
        assert_eq!(
            required(&[choice(Attribute::Privacy, Choice::Enable)]),
            confidential.clone().key_bits(128)
        );
        assert_eq!(
            required(&[choice(Attribute::Privacy, Choice::Medium)]),
            confidential.clone().key_bits(192)
        );
        assert_eq!(required(&[(Attribute::KeyBits, Value::Count(256))]), confidential.key_bits(256));
        let authentic = Requirement::new().protection(Protected::Authenticated);
        assert_eq!(required(&[choice(Attribute::Integrity, Choice::Low)]), authentic);
        let strong = Strength::High.suites_of_integrity();
        assert_eq!(required(&[choice(Attribute::Integrity, Choice::High)]), authentic.suites(strong));
        let both =
            [choice(Attribute::Privacy, Choice::Disable), choice(Attribute::Integrity, Choice::Disable)];
        assert_eq!(
            with(&both).requirement().unwrap_err().errno(),
            libc::ENOTSUP,
            "L-112: the operator's word"
        );
    }

    /// What cannot be had is refused when it is attached, and never left out.
    #[test]
    fn q_45_what_cannot_be_required_is_refused() {
        let errno = |written: &[(Attribute, Value)]| with(written).requirement().unwrap_err().errno();
        assert_eq!(errno(&[choice(Attribute::Compression, Choice::Enable)]), libc::ENOTSUP);
        assert_eq!(errno(&[(Attribute::PolicyName, Value::Text("rule 1".to_owned()))]), libc::ENOTSUP);
        assert_eq!(errno(&[(Attribute::Suites, Value::Text("aes-128-gcm,".to_owned()))]), libc::EINVAL);
        let weak = [(Attribute::Suites, Value::Text("aes-128-gcm-8".to_owned()))];
        assert_eq!(errno(&[choice(Attribute::Integrity, Choice::Medium), weak[0].clone()]), libc::EINVAL);
        let mut eap = IdentityToken::default();
        eap.write(Attribute::Method(Method::Eap), &Value::Choice(Choice::Enable)).unwrap();
        assert_eq!(errno(&[(Attribute::PeerIdentity, Value::Identity(Arc::new(eap)))]), libc::ENOTSUP);
        let nobody = Value::Identity(Arc::new(IdentityToken::default()));
        assert_eq!(errno(&[(Attribute::LocalIdentity, nobody)]), libc::EINVAL);
    }

    /// P-13, Q-5, C-29: the peer of an earlier connection, by method.
    #[test]
    fn p_13_a_peer_from_text_is_required() {
        let text = "latchway-itoken:1;id=fqdn:b.example;method=pre-shared-key";
        let token = IdentityToken::import(text).unwrap();
        let expected = Requirement::new().peer(token.known().unwrap());
        let template = with(&[(Attribute::PeerIdentity, Value::Identity(Arc::new(token)))]);
        assert_eq!(template.requirement(), Ok(expected));
    }
}
