//! Keys that were installed before: none comes twice in a process's life (RFC 4106 section 2, RFC 7634 section 2, T11).
//!
//! A key that came back would begin at sequence number 1 again, and one that served both directions would be sealed
//! under at both ends: either way nonces repeat. What is kept is a fingerprint of eight octets, never a key; it is kept for
//! good, since an SA's end does not make its numbers unused (a million rekeys take some 20 MB).

use std::collections::HashSet;
use std::hash::RandomState;

use crate::install::{InstallError, Keys};

/// The fingerprints of every key that was ever installed, whether its SA is still there or not.
#[derive(Default)]
pub(crate) struct SpentKeys {
    secret: RandomState,
    spent: HashSet<u64>,
}

impl SpentKeys {
    /// Whether both keys are fresh, and not one and the same.
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
        let [inbound, outbound] = self.fingerprints(keys);
        let [fresh_inbound, fresh_outbound] =
            [inbound, outbound].map(|key| !self.spent.contains(&key) && together.insert(key));
        match (fresh_inbound, fresh_outbound) {
            (false, _) => Err(InstallError::RepeatedKey(keys.inbound.spi)),
            (_, false) => Err(InstallError::RepeatedKey(keys.outbound.spi)),
            (true, true) => Ok(()),
        }
    }

    /// Remembers both keys for good.
    pub(crate) fn spend(&mut self, keys: &Keys) {
        self.spent.extend(self.fingerprints(keys));
    }

    fn fingerprints(&self, keys: &Keys) -> [u64; 2] {
        [&keys.inbound, &keys.outbound].map(|direction| direction.material.fingerprint(&self.secret))
    }
}

impl std::fmt::Debug for SpentKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpentKeys").field("spent", &self.spent.len()).finish_non_exhaustive()
    }
}
