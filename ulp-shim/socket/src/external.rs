//! Identities as text that can be kept (C-10, P-13, N-12): one line of ASCII, each identity in exactly one spelling.
//!
//! `latchway-itoken:1;id=fqdn:b.example;method=certificate;anchor=CN%3Droot,<hash>;key=<hash>;dn=..;ca=..;spki=..`: the
//! fields in this order, those that say nothing left out, all octets but `A-Za-z0-9.:@=_-` written as `%XX`.

use std::fmt::{self, Write};

use base64ct::{Base64UrlUnpadded, Encoding};
use latchway_control::MethodSpec;
use latchway_tagging::Identity;

use crate::error::{Error, ErrorKind};
use crate::identity::{Anchor, LONGEST_KEY, PeerIdentity, canonical_name, hash, printable, sha256};

/// A text that is no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError(&'static str);

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what) = self;
        write!(f, "the text is not an identity as `export` writes one: {what}; import it unchanged")
    }
}

impl std::error::Error for ImportError {}

impl From<ImportError> for Error {
    fn from(error: ImportError) -> Self {
        Self::new(ErrorKind::Invalid, error.to_string())
    }
}

impl PeerIdentity {
    /// The identity as text. Where that would be longer than [`LONGEST_TEXT`], names of the certificate and the key itself are
    /// left out; what it is known by again stays.
    #[must_use]
    pub fn export(&self) -> String {
        let mut said = self.clone();
        let leave_out: [fn(&mut Self); 3] =
            [|said| said.public_key = None, |said| said.authority = None, |said| said.subject = None];
        let mut text = said.text();
        for leave_out in leave_out {
            if text.len() > LONGEST_TEXT {
                leave_out(&mut said);
                text = said.text();
            }
        }
        text
    }

    /// Reads what [`export`](Self::export) wrote.
    ///
    /// # Errors
    /// The text is anything else: every identity has one spelling.
    pub fn import(text: &str) -> Result<Self, ImportError> {
        if text.len() > LONGEST_TEXT {
            return Err(ImportError("it is too long"));
        }
        let fields = text.strip_prefix(BEGIN).ok_or(ImportError("it does not begin as one"))?;
        let read = Fields { rest: Some(fields) }.identity()?;
        // Fields that repeat, in another order, or spelled another way all end here.
        if read.text() == text { Ok(read) } else { Err(ImportError("it is spelled another way")) }
    }

    fn text(&self) -> String {
        let mut text = String::from(BEGIN);
        field(&mut text, "id", &percent(&self.asserted.to_string()));
        if let Some(method) = self.method {
            field(&mut text, "method", method.name());
        }
        if let Some(Anchor { subject, key }) = &self.anchor {
            field(&mut text, "anchor", &format!("{},{}", percent(subject), hex::encode(key)));
        }
        if let Some(key) = &self.key {
            field(&mut text, "key", &hex::encode(key));
        }
        for (name, value) in [("dn", &self.subject), ("ca", &self.authority)] {
            if let Some(value) = value {
                field(&mut text, name, &percent(value));
            }
        }
        if let Some(der) = &self.public_key {
            field(&mut text, "spki", &Base64UrlUnpadded::encode_string(der));
        }
        text
    }
}

/// The fields that are left to read.
struct Fields<'t> {
    rest: Option<&'t str>,
}

impl<'t> Fields<'t> {
    fn identity(mut self) -> Result<PeerIdentity, ImportError> {
        let asserted = self.take("id").and_then(unpercent).ok_or(ImportError("it does not say who"))?;
        let asserted: Identity = asserted.parse().map_err(|_| ImportError("who it names is nobody"))?;
        let method = self.read("method", method, "there is no such method")?;
        let anchor = self.read("anchor", anchor, "its trust anchor is none")?;
        let key = self.read("key", hash, "the hash of its key is none")?;
        let name = |text: &str| unpercent(text).and_then(|text| printable(&text));
        let subject = self.read("dn", name, "the name in its certificate is none")?;
        let authority = self.read("ca", name, "its issuer's name is none")?;
        let public_key = self.read("spki", public_key, "its key is none")?;
        if self.rest.is_some() {
            return Err(ImportError("there is more than belongs there"));
        }
        if public_key.as_deref().is_some_and(|der| key != Some(sha256(der))) {
            return Err(ImportError("its key is not the one of its hash"));
        }
        Ok(PeerIdentity { asserted, method, anchor, key, subject, authority, public_key })
    }

    /// The field of this name, read, where it comes next.
    fn read<T>(
        &mut self,
        name: &str,
        read: impl Fn(&'t str) -> Option<T>,
        or: &'static str,
    ) -> Result<Option<T>, ImportError> {
        self.take(name).map(|value| read(value).ok_or(ImportError(or))).transpose()
    }

    fn take(&mut self, name: &str) -> Option<&'t str> {
        let rest = self.rest?.strip_prefix(name)?.strip_prefix('=')?;
        let (value, rest) = rest.split_once(';').map_or((rest, None), |(value, rest)| (value, Some(rest)));
        self.rest = rest;
        Some(value)
    }
}

fn field(text: &mut String, name: &str, value: &str) {
    if text.len() > BEGIN.len() {
        text.push(';');
    }
    text.extend([name, "=", value]);
}

fn method(name: &str) -> Option<MethodSpec> {
    MethodSpec::ALL.iter().copied().find(|method| method.name() == name)
}

fn anchor(text: &str) -> Option<Anchor> {
    let (subject, key) = text.split_once(',')?;
    Some(Anchor { subject: canonical_name(&unpercent(subject)?)?, key: hash(key)? })
}

fn public_key(text: &str) -> Option<Vec<u8>> {
    let octets = Base64UrlUnpadded::decode_vec(text).ok()?;
    (1..=LONGEST_KEY).contains(&octets.len()).then_some(octets)
}

fn percent(text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b".:@=_-".contains(&octet) {
            said.push(char::from(octet));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(said, "%{octet:02X}");
        }
    }
    said
}

fn unpercent(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut octets = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        let mut octet = [0];
        hex::decode_to_slice(digits, &mut octet).ok()?;
        octets.extend(octet);
        octets.extend(rest.as_bytes());
    }
    String::from_utf8(octets).ok()
}

/// How the text begins; the number is that of the form.
const BEGIN: &str = "latchway-itoken:1;";

/// The longest text, in octets.
pub const LONGEST_TEXT: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    /// Random identities, the same ones each time.
    fn runner() -> TestRunner {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
        TestRunner::new_with_rng(Config { cases: 96, failure_persistence: None, ..Config::default() }, rng)
    }

    fn identities() -> impl Strategy<Value = PeerIdentity> {
        let asserted = prop_oneof![
            "[a-z0-9]{1,10}(\\.[a-z0-9-]{1,10}){0,3}".prop_map(Identity::Fqdn),
            "[a-zA-Z0-9!#%;=+]{1,10}@[a-z]{1,10}".prop_map(Identity::Email),
            any::<std::net::Ipv4Addr>().prop_map(|address| Identity::Address(address.into())),
            any::<std::net::Ipv6Addr>().prop_map(|address| Identity::Address(address.into())),
            "CN=[a-z \u{e4};%]{1,20}x".prop_map(Identity::DistinguishedName),
            prop::collection::vec(any::<u8>(), 1..4096).prop_map(Identity::KeyId),
            prop::collection::vec(any::<u8>(), 1..4096).prop_map(Identity::PublicKey),
        ];
        let method = prop::option::of(prop::sample::select(MethodSpec::ALL));
        let name = "[ -~\u{a1}-\u{ff}]{1,4000}".prop_filter_map("name", |name| printable(&name));
        let anchor = ("CN=[a-zA-Z]{1,60}", any::<[u8; 32]>());
        let anchor = prop::option::of(anchor.prop_map(|(subject, key)| Anchor { subject, key }));
        let der = prop::option::of(prop::collection::vec(any::<u8>(), 1..LONGEST_KEY));
        let names = (prop::option::of(name.clone()), prop::option::of(name));
        (asserted, method, anchor, prop::option::of(any::<[u8; 32]>()), names, der).prop_filter_map(
            "an identity",
            |(asserted, method, anchor, key, (subject, authority), public_key)| {
                let asserted = asserted.canonical()?;
                let key = public_key.as_deref().map(sha256).or(key);
                Some(PeerIdentity { asserted, method, anchor, key, subject, authority, public_key })
            },
        )
    }

    /// C-10, N-12: every identity is text of bounded length that is read back as what it was, in the same spelling.
    #[test]
    fn c10_n12_identities_are_kept_as_text_and_read_back() {
        let check = |identity: PeerIdentity| {
            let text = identity.export();
            prop_assert!(text.is_ascii() && !text.contains(|c: char| c.is_control() || c == ' '));
            prop_assert!(text.len() <= LONGEST_TEXT);
            let read = PeerIdentity::import(&text).unwrap();
            prop_assert_eq!(read.export(), text);
            prop_assert_eq!(&read.asserted, &identity.asserted);
            prop_assert_eq!(
                (read.method, &read.anchor, read.key),
                (identity.method, &identity.anchor, identity.key)
            );
            if read.public_key.is_some() {
                prop_assert_eq!(read, identity);
            }
            Ok(())
        };
        runner().run(&identities(), check).unwrap();
    }

    /// C-10: whatever is read is spelled as it would be written: one identity has one text.
    #[test]
    fn c10_what_is_changed_anywhere_is_another_text_or_none() {
        let text = "[ -~]{0,3}".prop_map(|inserted| inserted);
        let changes = (identities(), any::<prop::sample::Index>(), 0_usize..3, text);
        let check = |(identity, at, cut, insert): (PeerIdentity, prop::sample::Index, usize, String)| {
            let mut text = identity.export();
            let at = at.index(text.len());
            let end = (at + cut).min(text.len());
            text.replace_range(at..end, &insert);
            if let Ok(read) = PeerIdentity::import(&text) {
                prop_assert_eq!(read.export(), text);
            }
            Ok(())
        };
        runner().run(&changes, check).unwrap();
    }

    #[test]
    fn c10_only_the_one_spelling_is_read() {
        let zeros = "0".repeat(64);
        let text = format!(
            "latchway-itoken:1;id=fqdn:b.example;method=certificate;anchor=CN=Root%20X,{zeros};dn=CN=b"
        );
        let identity = PeerIdentity::import(&text).unwrap();
        assert_eq!(identity.export(), text);
        assert_eq!(identity.method, Some(MethodSpec::Certificate));
        assert_eq!(identity.audit(), "fqdn:b.example, proven by certificate of CN=Root X");
        for wrong in [
            "".into(),
            "latchway-itoken:1".into(),
            "latchway-itoken:1;".into(),
            text.replace(":1;", ":2;"),
            text.replace("fqdn:b", "b"),
            text.replace("b.example", "B.example"),
            text.replace("fqdn:", "fqdn%3A"),
            text.replace("%20", " "),
            text.replace("%20", "%2"),
            text.replace("%20", "%ff"),
            text.replace("CN=Root", "cn=Root"),
            text.replace("certificate", "trust-me"),
            text.replace("000;", "00;"),
            text.replace(";method", ";id=fqdn:a;method"),
            format!("{text};"),
            format!("{text}\n"),
            format!("{text}\0"),
            format!("{text};key={zeros}"),
            format!("{text};spki=AAAA"),
            format!("{text};spki=AA=="),
            format!("{text}{}", "x".repeat(LONGEST_TEXT)),
        ] {
            PeerIdentity::import(&wrong).expect_err(&wrong);
        }
    }

    /// P-13: a bare key is the one that was seen, and its hash belongs to it.
    #[test]
    fn p13_a_key_and_its_hash_belong_together() {
        let hash = hex::encode(sha256(&[0, 0, 0]));
        let text = format!("latchway-itoken:1;id=fqdn:b.example;method=leap-of-faith;key={hash};spki=AAAA");
        assert_eq!(PeerIdentity::import(&text).unwrap().public_key(), Some(&[0, 0, 0][..]));
        PeerIdentity::import(&text.replace("AAAA", "AAAB")).unwrap_err();
    }
}
