//! Keys that were installed before: none comes twice in a process's life (RFC 4106 section 2, RFC 7634 section 2, T11).
//!
//! A key that came back would begin at sequence number 1 again, and one that served both directions would be sealed
//! under at both ends: either way nonces repeat. What is kept is a fingerprint of eight octets, never a key; it is kept for
//! good, since an SA's end does not make its numbers unused (a million rekeys take some 20 MB).

use std::collections::HashSet;
use std::hash::RandomState;

use crate::install::{InstallError, Keys};
use crate::single::NewSingle;

/// The fingerprints of every key that was ever installed, whether its SA is still there or not.
#[derive(Default)]
pub(crate) struct SpentKeys {
    secret: RandomState,
    /// Keys whose numbers begin at 1, and so may never begin again.
    spent: HashSet<u64>,
    /// Keys whose numbers are on record. They may come again, to go on where the record says.
    on_record: HashSet<u64>,
}

impl SpentKeys {
    /// Whether the keys are fresh, or on record, and no two the same.
    ///
    /// # Errors
    /// [`InstallError::RepeatedKey`]
    pub(crate) fn check(&self, keys: &Keys) -> Result<(), InstallError> {
        self.check_with(keys, &mut HashSet::new())
    }

    /// The same, where the keys of others in `together` are to be installed too. These come to be among them.
    ///
    /// # Errors
    /// [`InstallError::RepeatedKey`]
    pub(crate) fn check_with(&self, keys: &Keys, together: &mut HashSet<u64>) -> Result<(), InstallError> {
        let usable = |key| {
            let began = self.spent.contains(&key);
            !began && (keys.resumption.is_some() || !self.on_record.contains(&key))
        };
        let mut repeated = None;
        for direction in keys.each() {
            let key = direction.material.fingerprint(&self.secret);
            if !(usable(key) && together.insert(key)) {
                repeated = repeated.or(Some(direction.spi));
            }
        }
        repeated.map_or(Ok(()), |spi| Err(InstallError::RepeatedKey(spi)))
    }

    /// Remembers the keys for good.
    pub(crate) fn spend(&mut self, keys: &Keys) {
        let fingerprints: Vec<_> =
            keys.each().map(|direction| direction.material.fingerprint(&self.secret)).collect();
        let kept = if keys.resumption.is_some() { &mut self.on_record } else { &mut self.spent };
        kept.extend(fingerprints);
    }

    /// Whether the key of a single SA may be used, beside those in `together`. Without a record, numbers begin where they are
    /// said to: a counter-mode key that came before, or twice, would repeat them, whatever was said. A key of another suite
    /// may be placed again, as people place them.
    ///
    /// # Errors
    /// [`InstallError::RepeatedKey`]
    pub(crate) fn check_single(
        &self,
        new: &NewSingle,
        together: &mut HashSet<u64>,
    ) -> Result<(), InstallError> {
        if !new.keys.material.suite().is_counter_mode() {
            return Ok(());
        }
        let key = new.keys.material.fingerprint(&self.secret);
        let began = self.spent.contains(&key) || !new.is_on_record() && self.on_record.contains(&key);
        if began || !together.insert(key) { Err(InstallError::RepeatedKey(new.keys.spi)) } else { Ok(()) }
    }

    /// Remembers the key of a single SA for good.
    pub(crate) fn spend_single(&mut self, new: &NewSingle) {
        let key = new.keys.material.fingerprint(&self.secret);
        if new.keys.material.suite().is_counter_mode() {
            let kept = if new.is_on_record() { &mut self.on_record } else { &mut self.spent };
            kept.insert(key);
        }
    }
}

impl std::fmt::Debug for SpentKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = self.spent.len() + self.on_record.len();
        f.debug_struct("SpentKeys").field("kept", &kept).finish_non_exhaustive()
    }
}
