//! Which peers an entry of the PAD speaks of (RFC 4301 section 4.4.3.1): one identity, a part of a tree of names, a
//! range of addresses, or anybody (RFC 5386).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::distinguished;
use crate::identity::{AuthMethod, Identity, NoIdentity, canonical_domain, is_unmapped};

/// A set of identities. Its text, as [`fmt::Display`] shows it, can be read again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerPattern {
    /// This one.
    Exact(Identity),
    /// Every domain name below this one, at any depth, and not this one itself: `*.branch.example`.
    Subdomains(String),
    /// Every mail address at this domain: `*@example.com`.
    Mailboxes(String),
    /// Every distinguished name below this one, and not this one itself: `dn:*,O=Example,C=DE`.
    Subtree(String),
    /// Every address of a range.
    Addresses {
        /// The lowest.
        first: IpAddr,
        /// The highest, of the same family.
        last: IpAddr,
    },
    /// Anybody: the last entry of a PAD at most (RFC 5386 section 3).
    Any,
}

impl PeerPattern {
    /// Whether the pattern speaks of `peer`, which is in the spelling that [`Identity::canonical`] gives.
    #[must_use]
    pub fn matches(&self, peer: &Identity) -> bool {
        match (self, peer) {
            (Self::Exact(identity), _) => identity == peer,
            (Self::Subdomains(domain), Identity::Fqdn(name)) => is_below(name, '.', domain),
            (Self::Mailboxes(domain), Identity::Email(address)) => is_below(address, '@', domain),
            (Self::Subtree(top), Identity::DistinguishedName(name)) => {
                distinguished::parents(name).any(|parent| parent == top)
            }
            (Self::Addresses { first, last }, Identity::Address(address)) => {
                (first..=last).contains(&address)
            }
            (Self::Any, _) => true,
            _ => false,
        }
    }

    /// Whether the pattern speaks of everybody that `other` speaks of.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Exact(identity)) => self.matches(identity),
            (Self::Addresses { first, last }, Self::Addresses { first: low, last: high }) => {
                first.is_ipv4() == low.is_ipv4() && first <= low && high <= last
            }
            _ => self == other || other.wider().contains(self),
        }
    }

    /// The patterns of trees of names that cover this one, the narrowest first.
    #[must_use]
    pub fn wider(&self) -> Vec<Self> {
        let domains = |name: &str| {
            let places = name.match_indices('.').filter_map(|(at, _)| name.get(at + 1..));
            places.map(|parent| Self::Subdomains(parent.to_owned())).collect()
        };
        let names = |name: &str| {
            distinguished::parents(name).map(|parent| Self::Subtree(parent.to_owned())).collect()
        };
        match self {
            Self::Exact(Identity::Fqdn(name)) | Self::Subdomains(name) => domains(name),
            Self::Exact(Identity::DistinguishedName(name)) | Self::Subtree(name) => names(name),
            Self::Exact(Identity::Email(address)) => {
                let domain = address.rsplit_once('@').map(|(_, domain)| Self::Mailboxes(domain.to_owned()));
                domain.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// How such peers prove themselves where nobody says it: by hand, and anybody as RFC 5386 has it.
    #[must_use]
    pub const fn usual_methods(&self) -> &'static [AuthMethod] {
        match self {
            Self::Any => &[AuthMethod::Btns, AuthMethod::LeapOfFaith],
            _ => &[AuthMethod::Manual],
        }
    }

    /// The identity that it speaks of, where that is one alone.
    #[must_use]
    pub const fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Exact(identity) => Some(identity),
            _ => None,
        }
    }

    /// The same pattern, in the spelling in which identities are compared; `None` where it speaks of nothing that could
    /// be.
    #[must_use]
    pub fn canonical(&self) -> Option<Self> {
        match self {
            Self::Exact(identity) => identity.canonical().map(Self::Exact),
            Self::Subdomains(domain) => canonical_domain(domain).map(Self::Subdomains),
            Self::Mailboxes(domain) => canonical_domain(domain).map(Self::Mailboxes),
            Self::Subtree(name) => distinguished::canonical(name).map(Self::Subtree),
            Self::Addresses { first, last } => addresses(*first, *last),
            Self::Any => Some(Self::Any),
        }
    }
}

impl From<Identity> for PeerPattern {
    fn from(identity: Identity) -> Self {
        Self::Exact(identity)
    }
}

impl fmt::Display for PeerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(identity) => identity.fmt(f),
            Self::Subdomains(domain) => write!(f, "fqdn:*.{domain}"),
            Self::Mailboxes(domain) => write!(f, "email:*@{domain}"),
            Self::Subtree(name) => write!(f, "dn:*,{name}"),
            Self::Addresses { first, last } => write!(f, "address:{first}-{last}"),
            Self::Any => f.write_str("any"),
        }
    }
}

impl FromStr for PeerPattern {
    type Err = NoIdentity;

    fn from_str(text: &str) -> Result<Self, NoIdentity> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let tree = match text.split_once(':') {
            Some(("fqdn", name)) => name.strip_prefix("*.").map(|domain| Self::Subdomains(domain.to_owned())),
            Some(("email", name)) => name.strip_prefix("*@").map(|domain| Self::Mailboxes(domain.to_owned())),
            Some(("dn", name)) => name.strip_prefix("*,").map(|top| Self::Subtree(top.to_owned())),
            Some(("address", name)) => range(name),
            _ => {
                let domain = text.strip_prefix("*.").map(|domain| Self::Subdomains(domain.to_owned()));
                let mail = || text.strip_prefix("*@").map(|domain| Self::Mailboxes(domain.to_owned()));
                domain.or_else(mail).or_else(|| range(text))
            }
        };
        match tree {
            Some(pattern) => pattern.canonical().ok_or(NoIdentity),
            None => text.parse().map(Self::Exact),
        }
    }
}

/// Whether a name has something, then the separator, then the domain.
fn is_below(name: &str, separator: char, domain: &str) -> bool {
    let above = name.strip_suffix(domain).and_then(|name| name.strip_suffix(separator));
    above.is_some_and(|above| !above.is_empty())
}

/// A range as "first-last" or as a prefix.
fn range(text: &str) -> Option<PeerPattern> {
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (first.trim_end().parse().ok()?, last.trim_start().parse().ok()?);
        return Some(PeerPattern::Addresses { first, last });
    }
    let (first, length) = text.split_once('/')?;
    let (first, length): (IpAddr, u32) = (first.parse().ok()?, length.parse().ok()?);
    let last = match first {
        IpAddr::V4(first) => {
            let rest = u32::MAX.checked_shr(length).unwrap_or(0);
            (length <= 32 && first.to_bits() & rest == 0).then(|| IpAddr::V4((first.to_bits() | rest).into()))
        }
        IpAddr::V6(first) => {
            let rest = u128::MAX.checked_shr(length).unwrap_or(0);
            (length <= 128 && first.to_bits() & rest == 0)
                .then(|| IpAddr::V6((first.to_bits() | rest).into()))
        }
    };
    last.map(|last| PeerPattern::Addresses { first, last })
}

/// A range that has addresses of one family. One of a single address is that address.
fn addresses(first: IpAddr, last: IpAddr) -> Option<PeerPattern> {
    let fits =
        first.is_ipv4() == last.is_ipv4() && first <= last && is_unmapped(&first) && is_unmapped(&last);
    let single = PeerPattern::Exact(Identity::Address(first));
    fits.then_some(if first == last { single } else { PeerPattern::Addresses { first, last } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PeerPattern {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    /// RFC 4301 4.4.3.1, a row for each type: what it speaks of, and what it nearly does.
    #[test]
    fn rfc_4301_4_4_3_1_each_type_matches_what_it_says_and_no_near_miss() {
        let rows: [(&str, &[&str], &[&str]); 11] = [
            ("a.example", &["a.example", "A.Example"], &["b.a.example", "example", "email:x@a.example"]),
            (
                "*.branch.example",
                &["x.branch.example", "X.y.BRANCH.example"],
                &["branch.example", "xbranch.example", "x.branch.example.org", "email:x@x.branch.example"],
            ),
            ("j@a.example", &["j@A.example"], &["J@a.example", "j@b.a.example", "fqdn:a.example"]),
            ("*@a.example", &["j@a.example", "J@A.EXAMPLE"], &["j@b.a.example", "a.example", "j@xa.example"]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.8", "2001:db8::7", "fqdn:192.0.2.7"]),
            ("192.0.2.0/29", &["192.0.2.0", "192.0.2.7"], &["192.0.2.8", "192.0.1.255", "::c000:201"]),
            ("2001:db8::1-2001:db8::9", &["2001:db8::1", "2001:db8::9"], &["2001:db8::a", "0.0.0.1"]),
            (
                "dn:CN=a,O=Ex,C=DE",
                &["dn:cn=a, o=Ex, c=DE"],
                &["dn:CN=a,O=Ex", "dn:CN=a,O=ex,C=DE", "dn:O=Ex,CN=a,C=DE"],
            ),
            (
                "dn:*,O=Ex,C=DE",
                &["dn:CN=a,O=Ex,C=DE", "dn:CN=a,OU=b,O=Ex,C=DE"],
                &["dn:O=Ex,C=DE", "dn:CN=a\\,O\\=Ex,C=DE", "dn:CN=a+O=Ex,C=DE", "dn:CN=a,O=Ex,C=DE,ST=x"],
            ),
            ("keyid:00ff", &["keyid:00FF"], &["keyid:00ff00", "keyid:00", "publickey:00ff"]),
            ("publickey:3000", &["publickey:3000"], &["publickey:3001", "keyid:3000"]),
        ];
        for (text, speaks_of, near_misses) in rows {
            let pattern = pattern(text);
            assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()), "as it is shown it can be written");
            let matches = |peer: &str| pattern.matches(&peer.parse().unwrap());
            assert!(speaks_of.iter().all(|peer| matches(peer)), "{text}");
            assert!(near_misses.iter().all(|peer| !matches(peer)), "{text}");
            assert!(PeerPattern::Any.matches(&speaks_of[0].parse().unwrap()));
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let (long, label) = ("a.".repeat(127) + "example", "a".repeat(64));
        let wrong = [
            "",
            "*",
            "*.",
            "*..a",
            "a.*",
            "*.*.a",
            "*@",
            "*@*.a",
            "a@*",
            "@a",
            "*a.example",
            "*.a.example.",
            "a.example.",
            "*.\u{e4}.example",
            "*.a\0.example",
            "*.a b",
            "dn:*",
            "dn:*,",
            "dn:*,O",
            "dn:*,O=a\\00",
            "10.0.0.9-10.0.0.1",
            "10.0.0.1-::1",
            "10.0.0.1/24",
            "10.0.0.0/33",
            "::ffff:0:0/96",
            "keyid:*",
            "publickey:*",
            &long,
            &label,
        ];
        for text in wrong {
            assert_eq!(text.parse::<PeerPattern>(), Err(NoIdentity), "{text:?}");
        }
    }

    #[test]
    fn covering_is_speaking_of_all_that_the_other_speaks_of() {
        let all = [
            "any",
            "*.example",
            "*.b.example",
            "a.b.example",
            "*@example",
            "j@example",
            "dn:*,C=DE",
            "dn:*,O=a,C=DE",
            "dn:CN=x,O=a,C=DE",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.0.1",
            "::/0",
            "fd00::1",
            "keyid:01",
            "publickey:01",
        ];
        let within = [
            ("*.example", "*.b.example"),
            ("*.example", "a.b.example"),
            ("*.b.example", "a.b.example"),
            ("*@example", "j@example"),
            ("dn:*,C=DE", "dn:*,O=a,C=DE"),
            ("dn:*,C=DE", "dn:CN=x,O=a,C=DE"),
            ("dn:*,O=a,C=DE", "dn:CN=x,O=a,C=DE"),
            ("10.0.0.0/8", "10.1.0.0/16"),
            ("10.0.0.0/8", "10.1.0.1"),
            ("10.1.0.0/16", "10.1.0.1"),
            ("::/0", "fd00::1"),
        ];
        for wide in all {
            for narrow in all {
                let expected = wide == "any" || wide == narrow || within.contains(&(wide, narrow));
                assert_eq!(pattern(wide).covers(&pattern(narrow)), expected, "{wide} {narrow}");
            }
        }
    }
}
