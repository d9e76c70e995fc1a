//! Identities of peers, and how they are proven (RFC 4301 section 4.4.3.1, RFC 5386).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::distinguished;

/// An identity as RFC 4301 section 4.4.3.1 names its kinds, and the raw public key of BTNS (RFC 5386). It is compared in
/// the spelling that [`canonical`](Self::canonical) gives; its text, as [`fmt::Display`] shows it, can be read again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A fully qualified domain name (ID_FQDN).
    Fqdn(String),
    /// An electronic mail address (ID_RFC822_ADDR).
    Email(String),
    /// An IPv4 or IPv6 address (ID_IPV4_ADDR, ID_IPV6_ADDR).
    Address(IpAddr),
    /// A distinguished name, in the text form of RFC 4514 (ID_DER_ASN1_DN).
    DistinguishedName(String),
    /// An opaque octet string (ID_KEY_ID).
    KeyId(Vec<u8>),
    /// A public key as SubjectPublicKeyInfo in DER (BTNS PUBLICKEY).
    PublicKey(Vec<u8>),
}

/// A text that is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoIdentity;

impl fmt::Display for NoIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "is no identity; write a domain name, a mail address, an IP address, or one with its kind in front: fqdn:, \
             email:, address:, dn:, keyid: or publickey:",
        )
    }
}

impl std::error::Error for NoIdentity {}

impl Identity {
    /// The same identity in the one spelling in which it is compared: domain names in small letters (RFC 4343),
    /// distinguished names as RFC 4514 writes them. `None` where it is not what its kind says: empty, too long, with a NUL
    /// in it, a domain name with a dot at its end or with letters that DNS does not have.
    #[must_use]
    pub fn canonical(&self) -> Option<Self> {
        match self {
            Self::Fqdn(name) => canonical_domain(name).map(Self::Fqdn),
            Self::Email(address) => canonical_mail(address).map(Self::Email),
            Self::Address(address) => is_unmapped(address).then_some(Self::Address(*address)),
            Self::DistinguishedName(name) => distinguished::canonical(name).map(Self::DistinguishedName),
            Self::KeyId(octets) | Self::PublicKey(octets) => {
                (1..=LONGEST_OCTETS).contains(&octets.len()).then(|| self.clone())
            }
        }
    }
}

impl FromStr for Identity {
    type Err = NoIdentity;

    fn from_str(text: &str) -> Result<Self, NoIdentity> {
        let identity = match text.split_once(':') {
            Some(("fqdn", name)) => Some(Self::Fqdn(name.to_owned())),
            Some(("email", address)) => Some(Self::Email(address.to_owned())),
            Some(("address", address)) => address.parse().ok().map(Self::Address),
            Some(("dn", name)) => Some(Self::DistinguishedName(name.to_owned())),
            Some(("keyid", id)) => from_hex(id).map(Self::KeyId),
            Some(("publickey", der)) => from_hex(der).map(Self::PublicKey),
            _ => match text.parse() {
                Ok(address) => Some(Self::Address(address)),
                Err(_) if text.contains('@') => Some(Self::Email(text.to_owned())),
                Err(_) => Some(Self::Fqdn(text.to_owned())),
            },
        };
        identity.and_then(|identity| identity.canonical()).ok_or(NoIdentity)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fqdn(name) => write!(f, "fqdn:{name}"),
            Self::Email(address) => write!(f, "email:{address}"),
            Self::Address(address) => write!(f, "address:{address}"),
            Self::DistinguishedName(name) => write!(f, "dn:{name}"),
            Self::KeyId(octets) => write_hex(f, "keyid:", octets),
            Self::PublicKey(der) => write_hex(f, "publickey:", der),
        }
    }
}

/// How an identity was authenticated. The order is the order of standing in the PAD: a peer of lesser standing can
/// never break the latch of one of greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuthMethod {
    /// Better-Than-Nothing Security: any key, unknown peer (RFC 5386).
    Btns,
    /// A key first seen inline and remembered since.
    LeapOfFaith,
    /// Keys placed by hand or by a provider that proves no identity: the operator's word stands for the peer.
    Manual,
    /// A shared secret.
    PreSharedKey,
    /// A raw public key that the PAD lists.
    PublicKey,
    /// A certificate validated to a trust anchor.
    Certificate,
}

impl AuthMethod {
    /// Every method, in the order of standing.
    pub const ALL: [Self; 6] =
        [Self::Btns, Self::LeapOfFaith, Self::Manual, Self::PreSharedKey, Self::PublicKey, Self::Certificate];

    /// The stable name of the method, as status output and events show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Btns => "btns",
            Self::LeapOfFaith => "leap-of-faith",
            Self::Manual => "manual",
            Self::PreSharedKey => "pre-shared-key",
            Self::PublicKey => "public-key",
            Self::Certificate => "certificate",
        }
    }
}

/// A domain name in small letters: RFC 1035 section 2.3.1, and the underscores that are used besides. RFC 7296 section 3.5
/// has no terminator behind it.
pub(crate) fn canonical_domain(name: &str) -> Option<String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    (name.len() <= 253 && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

/// Whether an address is not an IPv4 address in an IPv6 one's clothes, which would be another identity of the same host.
pub(crate) const fn is_unmapped(address: &IpAddr) -> bool {
    !matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// A mail address whose domain is in small letters. Whose mailbox `J` is, and whether it is that of `j`, its host alone
/// knows (RFC 5321 section 2.4).
fn canonical_mail(address: &str) -> Option<String> {
    let (mailbox, host) = address.rsplit_once('@')?;
    let fits = |c: char| c.is_ascii_graphic() && c != '@';
    let fits = (1..=64).contains(&mailbox.len()) && mailbox.chars().all(fits);
    fits.then(|| Some(format!("{mailbox}@{}", canonical_domain(host)?)))?
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

fn write_hex(f: &mut fmt::Formatter<'_>, prefix: &str, octets: &[u8]) -> fmt::Result {
    f.write_str(prefix)?;
    octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
}

/// Of a key id or a public key. The largest keys that are in use have some two thousand.
const LONGEST_OCTETS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_as_they_are_shown_and_in_one_spelling() {
        for (text, shown) in [
            ("a.example", "fqdn:a.example"),
            ("A.Example", "fqdn:a.example"),
            ("fqdn:10.0.0.1", "fqdn:10.0.0.1"),
            ("10.0.0.1", "address:10.0.0.1"),
            ("2001:DB8::1", "address:2001:db8::1"),
            ("J.Doe@A.Example", "email:J.Doe@a.example"),
            ("dn:cn=a, o=\u{e4}", "dn:CN=a,O=\u{e4}"),
            ("keyid:00FF", "keyid:00ff"),
            ("publickey:30", "publickey:30"),
            ("xn--bcher-kva.example", "fqdn:xn--bcher-kva.example"),
        ] {
            let identity: Identity = text.parse().unwrap();
            assert_eq!(identity.to_string(), shown);
            assert_eq!(shown.parse(), Ok(identity.clone()));
            assert_eq!(identity.canonical(), Some(identity));
        }
    }

    /// Rows for hostile identities: a NUL within, a dot at the end, letters that DNS does not have, huge, empty.
    #[test]
    fn rfc_7296_3_5_what_is_not_what_its_kind_says_is_refused() {
        let huge = "a".repeat(254);
        let (label, key) = ("a".repeat(64), "00".repeat(LONGEST_OCTETS + 1));
        for text in [
            "",
            "a..b",
            "a.",
            ".a",
            "a b",
            "a\0.example",
            "b\u{fc}cher.example",
            "*.example",
            "@a",
            "a@",
            "a@b@c",
            "a@b.",
            "j\0@a.example",
            "x:y",
            "fqdn:",
            "email:a",
            "address:a",
            "address:",
            "::ffff:10.0.0.1",
            "dn:",
            "dn:CN=a\0",
            "keyid:",
            "keyid:0",
            "keyid:0g",
            "publickey:",
            "publickey:+1",
            &huge,
            &label,
            &format!("keyid:{key}"),
            &format!("{label}a@example"),
        ] {
            assert_eq!(text.parse::<Identity>(), Err(NoIdentity), "{text:?}");
        }
        let nul = Identity::Fqdn("bank.example\0.evil.example".into());
        assert_eq!(nul.canonical(), None);
    }

    #[test]
    fn methods_stand_in_their_order() {
        assert!(AuthMethod::ALL.is_sorted());
    }
}
