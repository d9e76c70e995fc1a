//! iTokens: who an end is, and by which methods it may prove it (section 2.1).

use latchway_socket::{Identity, PeerIdentity, Protection, Unbindable};

use crate::attribute::{Attribute, Choice, Method, Value};
use crate::failure::Failure;

/// What an iToken holds.
#[derive(Clone, Debug, PartialEq)]
pub enum IdentityToken {
    /// Made by the constructor: it names nobody, and says by which methods a peer, whoever it is, may prove itself.
    Template([Choice; Method::ALL.len()]),
    /// Had from a connection, or read from text: somebody (C-29). It does not change any more (P-41).
    Known(Box<PeerIdentity>, Binding),
}

/// What an application may bind itself to, beside the identity that it goes with.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// This.
    Is(String),
    /// Nothing, and why.
    None(Unbindable),
    /// It is of no connection: text does not say.
    Unsaid,
}

impl Default for IdentityToken {
    fn default() -> Self {
        Self::Template([Choice::Any; Method::ALL.len()])
    }
}

impl IdentityToken {
    /// The peer of a connection.
    pub fn of_peer(protection: &Protection) -> Self {
        let binding = match protection.channel_binding() {
            Ok(binding) => Binding::Is(binding.to_string()),
            Err(why) => Binding::None(why),
        };
        Self::Known(Box::new(protection.peer_identity().clone()), binding)
    }

    /// Our own end of a connection, where the gateway says who we are.
    pub fn of_ourselves(protection: &Protection) -> Option<Self> {
        protection.local_identity().map(|local| Self::Known(Box::new(local.clone()), Binding::Unsaid))
    }

    /// The text by which it can be kept (P-13, C-10).
    pub fn export(&self) -> Result<String, Failure> {
        self.known().map(PeerIdentity::export).ok_or(NOT_KNOWN)
    }

    /// Reads that text again.
    pub fn import(text: &str) -> Result<Self, Failure> {
        let peer =
            PeerIdentity::import(text).map_err(|error| Failure::saying(libc::EINVAL, error.to_string()))?;
        Ok(Self::Known(Box::new(peer), Binding::Unsaid))
    }

    /// Reads an attribute.
    pub fn read(&self, attribute: Attribute) -> Result<Value, Failure> {
        let text = |text: Option<&str>| text.map(|text| Value::Text(text.to_owned())).ok_or(NOT_KNOWN);
        let known = || self.known().ok_or(NOT_KNOWN);
        match attribute {
            Attribute::Audit => Ok(Value::Text(self.audit())),
            Attribute::Method(method) => self.choice(method).map(Value::Choice),
            Attribute::AuthenticationMethod => {
                let method = known()?.method().and_then(Method::of).ok_or(NOT_KNOWN)?;
                Ok(Value::Count(method.number()))
            }
            Attribute::CertificateAuthority => text(known()?.certificate_authority()),
            Attribute::CertificateSubject => text(known()?.certificate_subject()),
            Attribute::PublicKey => {
                known()?.public_key().map(|key| Value::Octets(key.to_vec())).ok_or(NOT_KNOWN)
            }
            Attribute::ChannelBinding => self.binding(),
            Attribute::IdentityType => {
                identity_type(known()?.asserted()).map(Value::Count).ok_or(NO_SUCH_TYPE)
            }
            _ => Err(NOT_KNOWN),
        }
    }

    /// Writes an attribute of a template (Q-17, Q-23, P-41).
    pub fn write(&mut self, attribute: Attribute, value: &Value) -> Result<(), Failure> {
        match (self, attribute, value) {
            (Self::Template(methods), Attribute::Method(method), Value::Choice(choice)) => {
                if let Some(kept) = methods.get_mut(method as usize) {
                    *kept = *choice;
                }
                Ok(())
            }
            _ => Err(FILLED),
        }
    }

    /// Somebody, where it is one.
    pub fn known(&self) -> Option<&PeerIdentity> {
        match self {
            Self::Template(_) => None,
            Self::Known(peer, _) => Some(peer),
        }
    }

    /// The methods that will do; none where any will. Some that are enabled are these alone, otherwise all but those that
    /// are disabled.
    pub fn methods(&self) -> Vec<Method> {
        let Self::Template(methods) = self else { return Vec::new() };
        let with = |wanted: fn(Choice) -> bool| {
            let both = Method::ALL.into_iter().zip(methods);
            both.filter(|(_, choice)| wanted(**choice)).map(|(method, _)| method).collect::<Vec<Method>>()
        };
        let enabled = with(|choice| choice == Choice::Enable);
        match with(|choice| choice != Choice::Disable) {
            _ if !enabled.is_empty() => enabled,
            rest if rest.len() == methods.len() => Vec::new(),
            rest => rest,
        }
    }

    /// Whether nothing at all will do.
    pub fn is_impossible(&self) -> bool {
        matches!(self, Self::Template(methods) if methods.iter().all(|choice| *choice == Choice::Disable))
    }

    fn choice(&self, method: Method) -> Result<Choice, Failure> {
        match self {
            Self::Template(methods) => Ok(methods.get(method as usize).copied().unwrap_or_default()),
            Self::Known(peer, _) => {
                let used = peer.method().ok_or(NOT_KNOWN)?;
                Ok(Choice::of(method.known() == Some(used)))
            }
        }
    }

    fn binding(&self) -> Result<Value, Failure> {
        match self {
            Self::Known(_, Binding::Is(binding)) => Ok(Value::Text(binding.clone())),
            Self::Known(_, Binding::None(why)) => {
                let said = match why {
                    Unbindable::Clear => "nothing protects the connection",
                    Unbindable::Manual => "the keys were placed by hand, so none was proven",
                    Unbindable::Inferred => {
                        "nobody required the protection: attach a token to the socket before it connects or listens"
                    }
                    Unbindable::NoLocalKey => "the gateway does not know our own public key, or the peer's",
                };
                Err(Failure::saying(libc::ENOTSUP, format!("no channel can be bound: {said}")))
            }
            Self::Known(_, Binding::Unsaid) | Self::Template(_) => Err(NOT_KNOWN),
        }
    }

    fn audit(&self) -> String {
        if let Some(known) = self.known() {
            return known.audit();
        }
        let names: Vec<&str> =
            self.methods().into_iter().filter_map(Method::known).map(latchway_socket::Method::name).collect();
        match names.as_slice() {
            _ if self.is_impossible() => "nobody: every method is disabled".to_owned(),
            [] => "any peer".to_owned(),
            names => format!("any peer that proves itself by {}", names.join(" or ")),
        }
    }
}

/// RFC 2367 section 3.4: the types of identities that it has (N-14).
const fn identity_type(identity: &Identity) -> Option<u16> {
    match identity {
        Identity::Address(_) => Some(1),
        Identity::Fqdn(_) => Some(2),
        Identity::Email(_) => Some(3),
        Identity::DistinguishedName(_) | Identity::KeyId(_) | Identity::PublicKey(_) => None,
    }
}

const NOT_KNOWN: Failure = Failure::new(
    libc::ENODATA,
    "the token does not say: it names nobody, or the gateway knows no such thing of the peer",
);
const NO_SUCH_TYPE: Failure =
    Failure::new(libc::ENODATA, "RFC 2367 has no number for identities of this kind");
const FILLED: Failure = Failure::new(
    libc::EPERM,
    "the token is somebody's identity and does not change; write to one that ipsec_create_iToken() made",
);

#[cfg(test)]
mod tests {
    use super::*;

    fn enabled(choices: &[(Method, Choice)]) -> Vec<Method> {
        let mut token = IdentityToken::default();
        for (method, choice) in choices {
            token.write(Attribute::Method(*method), &Value::Choice(*choice)).unwrap();
        }
        token.methods()
    }

    #[test]
    fn q_17_methods_that_are_enabled_are_all_that_will_do() {
        assert_eq!(enabled(&[]), [], "any");
        assert_eq!(
            enabled(&[(Method::Btns, Choice::Enable), (Method::Eap, Choice::Disable)]),
            [Method::Btns]
        );
        let but_one = enabled(&[(Method::None, Choice::Disable)]);
        assert_eq!(but_one, Method::ALL.get(1..).unwrap());
        assert_eq!(enabled(&[(Method::None, Choice::Disable), (Method::None, Choice::Any)]), []);
    }

    /// P-17: made by the constructor, a token names nobody.
    #[test]
    fn p_17_an_identity_template_says_nothing_of_who() {
        let token = IdentityToken::default();
        assert_eq!(token.read(Attribute::Audit), Ok(Value::Text("any peer".to_owned())));
        assert_eq!(token.read(Attribute::Method(Method::Eap)), Ok(Value::Choice(Choice::Any)));
        for attribute in [
            Attribute::AuthenticationMethod,
            Attribute::CertificateAuthority,
            Attribute::CertificateSubject,
            Attribute::PublicKey,
            Attribute::ChannelBinding,
        ] {
            assert_eq!(token.read(attribute).unwrap_err().errno(), libc::ENODATA);
        }
    }

    #[test]
    fn q_17_with_every_method_disabled_there_is_nobody() {
        let mut token = IdentityToken::default();
        for method in Method::ALL {
            assert!(!token.is_impossible());
            token.write(Attribute::Method(method), &Value::Choice(Choice::Disable)).unwrap();
        }
        assert!(token.is_impossible());
    }

    /// P-13, C-10, C-29: from text there is somebody, who reads as what was kept and does not change.
    #[test]
    fn p_13_p_41_an_identity_from_text_is_somebody_and_stays_so() {
        let text = "latchway-itoken:1;id=fqdn:b.example;method=leap-of-faith;dn=CN=b;ca=CN=x";
        let mut token = IdentityToken::import(text).unwrap();
        assert_eq!(token.export(), Ok(text.to_owned()));
        let read = |attribute| token.read(attribute);
        assert_eq!(read(Attribute::AuthenticationMethod), Ok(Value::Count(Method::LeapOfFaith.number())));
        assert_eq!(read(Attribute::Method(Method::LeapOfFaith)), Ok(Value::Choice(Choice::Enable)));
        assert_eq!(read(Attribute::Method(Method::Btns)), Ok(Value::Choice(Choice::Disable)));
        assert_eq!(read(Attribute::CertificateSubject), Ok(Value::Text("CN=b".to_owned())));
        assert_eq!(read(Attribute::CertificateAuthority), Ok(Value::Text("CN=x".to_owned())));
        assert_eq!(read(Attribute::IdentityType), Ok(Value::Count(2)));
        assert_eq!(read(Attribute::ChannelBinding).unwrap_err().errno(), libc::ENODATA);
        assert_eq!(read(Attribute::PublicKey).unwrap_err().errno(), libc::ENODATA);
        let written = token.write(Attribute::Method(Method::Btns), &Value::Choice(Choice::Enable));
        assert_eq!(written.unwrap_err().errno(), libc::EPERM);
        assert_eq!(IdentityToken::import("somebody").unwrap_err().errno(), libc::EINVAL);
        assert_eq!(IdentityToken::default().export().unwrap_err().errno(), libc::ENODATA);
    }
}
