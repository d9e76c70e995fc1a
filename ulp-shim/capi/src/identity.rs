//! iTokens: who an end is, and by which methods it may prove it (section 2.1).

use crate::attribute::{Attribute, Choice, Method, Value};
use crate::failure::Failure;

/// What an iToken holds. One that was made by the constructor names nobody: it says by which methods a peer, whoever it is,
/// may prove itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IdentityToken {
    methods: [Choice; Method::ALL.len()],
}

impl IdentityToken {
    /// Reads an attribute.
    pub fn read(&self, attribute: Attribute) -> Result<Value, Failure> {
        match attribute {
            Attribute::Method(method) => Ok(Value::Choice(self.choice(method))),
            Attribute::Audit => Ok(Value::Text(self.audit())),
            _ => Err(NOT_KNOWN),
        }
    }

    /// Writes an attribute of a template (Q-17, Q-23, P-41).
    pub fn write(&mut self, attribute: Attribute, value: Value) -> Result<(), Failure> {
        if let (Attribute::Method(method), Value::Choice(choice)) = (attribute, value)
            && let Some(kept) = self.methods.get_mut(method as usize)
        {
            *kept = choice;
        }
        Ok(())
    }

    fn choice(&self, method: Method) -> Choice {
        self.methods.get(method as usize).copied().unwrap_or_default()
    }

    /// The methods that will do; none where any will. Some that are enabled are these alone, otherwise all but those that
    /// are disabled.
    pub fn methods(&self) -> Vec<Method> {
        let with =
            |wanted: Choice| Method::ALL.into_iter().filter(move |method| self.choice(*method) == wanted);
        if with(Choice::Enable).next().is_some() {
            with(Choice::Enable).collect()
        } else if with(Choice::Disable).next().is_some() {
            Method::ALL.into_iter().filter(|method| self.choice(*method) != Choice::Disable).collect()
        } else {
            Vec::new()
        }
    }

    fn audit(&self) -> String {
        let names: Vec<&str> = self
            .methods()
            .into_iter()
            .map(|method| method.known().map_or("unknown", |known| known.name()))
            .collect();
        match names.as_slice() {
            [] => "any peer".to_owned(),
            names => format!("any peer that proves itself by {}", names.join(" or ")),
        }
    }
}

const NOT_KNOWN: Failure = Failure::new(
    libc::ENODATA,
    "the token does not say: it names nobody, or the gateway knows no such thing of the peer",
);

#[cfg(test)]
mod tests {
    use super::*;

    fn enabled(choices: &[(Method, Choice)]) -> Vec<Method> {
        let mut token = IdentityToken::default();
        for (method, choice) in choices {
            token.write(Attribute::Method(*method), Value::Choice(*choice)).unwrap();
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
}
