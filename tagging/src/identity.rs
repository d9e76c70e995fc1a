//! Identities, interned: asserted and authorised together, so that equality of latched peers is equality of one
//! integer (L-11, R-1, RFC 5660 2.6).

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use crate::{IdentityId, PadEntryId};

/// An identity as RFC 4301 section 4.4.3.1 names its kinds, and the raw public key of BTNS (RFC 5386).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// Everything about one end that a latch compares: the identity it asserted, the PAD entry that authorised it, and
/// how (L-11). Two records differ if any member differs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdentityRecord {
    /// What the end said it is.
    pub asserted: Identity,
    /// The entry of the PAD that authorised it; `None` for our own end.
    pub authorised: Option<PadEntryId>,
    /// How it was authenticated.
    pub method: AuthMethod,
}

/// Interns [`IdentityRecord`]s. Ids count up and are never reused; live ones are capped per PAD entry, so that one
/// peer cannot fill the table by asserting ever new names.
#[derive(Clone, Debug)]
pub struct IdentityTable {
    records: HashMap<IdentityId, Interned>,
    ids: HashMap<IdentityRecord, IdentityId>,
    /// How many are live for each entry.
    live: HashMap<PadEntryId, usize>,
    next: u32,
    limit: IdentityLimit,
}

/// How many identities may be live for one PAD entry at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityLimit(pub usize);

impl Default for IdentityLimit {
    fn default() -> Self {
        Self(4096)
    }
}

/// Why an identity could not be interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// The PAD entry has as many live identities as its cap allows.
    TooManyForEntry,
    /// Every id of this process's life was given out.
    IdsSpent,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyForEntry => f.write_str(
                "this PAD entry already has as many live identities as its cap allows; delete SAs of old ones first",
            ),
            Self::IdsSpent => f.write_str("every identity number of this process was used; restart the gateway"),
        }
    }
}

impl std::error::Error for IdentityError {}

#[derive(Clone, Debug)]
struct Interned {
    record: IdentityRecord,
    holders: usize,
}

impl IdentityTable {
    /// An empty table with a cap per PAD entry.
    #[must_use]
    pub fn new(limit: IdentityLimit) -> Self {
        Self { records: HashMap::new(), ids: HashMap::new(), live: HashMap::new(), next: 0, limit }
    }

    /// The id of `record`, new or known, with one more holder.
    ///
    /// # Errors
    /// [`IdentityError`] where the record is new and the cap or the id space is reached; nothing changes then.
    pub fn acquire(&mut self, record: &IdentityRecord) -> Result<IdentityId, IdentityError> {
        if let Some(&id) = self.ids.get(record) {
            if let Some(interned) = self.records.get_mut(&id) {
                interned.holders += 1;
            }
            return Ok(id);
        }
        let live = record.authorised.map_or(0, |entry| self.live.get(&entry).copied().unwrap_or(0));
        if record.authorised.is_some() && live >= self.limit.0 {
            return Err(IdentityError::TooManyForEntry);
        }
        let id = IdentityId(self.next);
        self.next = self.next.checked_add(1).ok_or(IdentityError::IdsSpent)?;
        if let Some(entry) = record.authorised {
            self.live.insert(entry, live + 1);
        }
        self.ids.insert(record.clone(), id);
        self.records.insert(id, Interned { record: record.clone(), holders: 1 });
        Ok(id)
    }

    /// Gives back one hold on `id`; the last one forgets the record, and its id is never used again.
    pub fn release(&mut self, id: IdentityId) {
        let Some(interned) = self.records.get_mut(&id) else { return };
        interned.holders = interned.holders.saturating_sub(1);
        if interned.holders == 0
            && let Some(interned) = self.records.remove(&id)
        {
            self.ids.remove(&interned.record);
            self.forget_one(interned.record.authorised);
        }
    }

    fn forget_one(&mut self, entry: Option<PadEntryId>) {
        let Some(entry) = entry else { return };
        let left = self.live.get(&entry).copied().unwrap_or(0).saturating_sub(1);
        if left == 0 {
            self.live.remove(&entry);
        } else {
            self.live.insert(entry, left);
        }
    }

    /// The record of a live id.
    #[must_use]
    pub fn record(&self, id: IdentityId) -> Option<&IdentityRecord> {
        self.records.get(&id).map(|interned| &interned.record)
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, prefix: &str, octets: &[u8]) -> fmt::Result {
    f.write_str(prefix)?;
    octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, entry: u32) -> IdentityRecord {
        IdentityRecord {
            asserted: Identity::Fqdn(name.into()),
            authorised: Some(PadEntryId(entry)),
            method: AuthMethod::Manual,
        }
    }

    #[test]
    fn l_11_the_same_asserted_id_under_another_pad_entry_or_method_is_another_identity() {
        let mut table = IdentityTable::new(IdentityLimit::default());
        let bob = table.acquire(&record("bob", 1)).unwrap();
        assert_eq!(table.acquire(&record("bob", 1)).unwrap(), bob);
        assert_ne!(table.acquire(&record("bob", 2)).unwrap(), bob);
        assert_ne!(table.acquire(&record("eve", 1)).unwrap(), bob);
        let other_method = IdentityRecord { method: AuthMethod::Btns, ..record("bob", 1) };
        assert_ne!(table.acquire(&other_method).unwrap(), bob);
    }

    #[test]
    fn ids_are_never_reused_and_live_ones_are_capped_per_pad_entry() {
        let mut table = IdentityTable::new(IdentityLimit(2));
        let first = table.acquire(&record("a", 1)).unwrap();
        table.acquire(&record("b", 1)).unwrap();
        assert_eq!(table.acquire(&record("c", 1)), Err(IdentityError::TooManyForEntry));
        assert!(table.acquire(&record("c", 2)).is_ok(), "another entry has a cap of its own");
        table.release(first);
        assert_eq!(table.record(first), None);
        let again = table.acquire(&record("a", 1)).unwrap();
        assert_ne!(again, first);
    }

    #[test]
    fn a_record_lives_as_long_as_its_last_holder() {
        let mut table = IdentityTable::new(IdentityLimit::default());
        let id = table.acquire(&record("a", 1)).unwrap();
        table.acquire(&record("a", 1)).unwrap();
        table.release(id);
        assert!(table.record(id).is_some());
        table.release(id);
        table.release(id);
        assert!(table.record(id).is_none());
    }
}
