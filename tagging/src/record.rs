//! Records of identities, interned: asserted and authorised together with what proved them, so that equality of
//! latched peers is equality of one integer (L-11, R-1, RFC 5660 2.6).

use std::collections::HashMap;
use std::fmt;

use crate::{AuthMethod, Identity, IdentityId, PadEntryId};

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
    /// What, besides, makes it the same peer another time.
    pub credential: Credential,
}

/// What makes a peer the same when it proves itself again (L-11): not the certificate, which is renewed, but who vouches
/// for it, and of a bare key the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Credential {
    /// Nothing that could be compared: a shared secret, or the operator's word.
    #[default]
    None,
    /// A public key: the SHA-256 hash of its SubjectPublicKeyInfo. For raw keys, BTNS and leap of faith, where the key must
    /// stay what it is (RFC 5386 section 3).
    Key([u8; 32]),
    /// Of ourselves, where both ends' keys are known: the SHA-256 hash of the two, to which channels are bound (RFC 5056). So SAs
    /// that were proven with other keys are of another class.
    EndPoints([u8; 32]),
    /// A trust anchor, to which the certificate was validated.
    Anchor {
        /// Its distinguished name, as RFC 4514 writes it.
        subject: String,
        /// The SHA-256 hash of its SubjectPublicKeyInfo.
        key: [u8; 32],
    },
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

    /// The live ids and their records, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (IdentityId, &IdentityRecord)> {
        self.records.iter().map(|(id, interned)| (*id, &interned.record))
    }

    /// The record of a live id.
    #[must_use]
    pub fn record(&self, id: IdentityId) -> Option<&IdentityRecord> {
        self.records.get(&id).map(|interned| &interned.record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, entry: u32) -> IdentityRecord {
        IdentityRecord {
            asserted: Identity::Fqdn(name.into()),
            authorised: Some(PadEntryId(entry)),
            method: AuthMethod::Manual,
            credential: Credential::None,
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

    /// L-11 and RFC 5386 section 3: another key, or another anchor, is another peer; a renewed certificate of the
    /// same anchor is not, since the record does not hold it.
    #[test]
    fn l_11_another_key_or_anchor_is_another_identity() {
        let mut table = IdentityTable::new(IdentityLimit::default());
        let with = |credential| IdentityRecord { credential, ..record("bob", 1) };
        let anchor = |subject: &str, key| Credential::Anchor { subject: subject.into(), key: [key; 32] };
        let records = [
            with(Credential::None),
            with(Credential::Key([1; 32])),
            with(Credential::Key([2; 32])),
            with(anchor("CN=a", 1)),
            with(anchor("CN=a", 2)),
            with(anchor("CN=b", 1)),
        ];
        let ids: Vec<_> = records.iter().map(|record| table.acquire(record).unwrap()).collect();
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), records.len());
        assert_eq!(table.acquire(&records[3]).unwrap(), ids[3]);
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
