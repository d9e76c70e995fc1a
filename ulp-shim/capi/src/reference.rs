//! Tokens that messages refer to (section 2.3.4): a number in ancillary data, a token here.
//!
//! Nobody says when a message is not needed any more, so those used last are kept, and no others: whatever a program does
//! not fetch is lost, and does not grow.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use crate::ancillary::Reference;
use crate::protection::ProtectionToken;

/// The tokens that were referred to last.
#[derive(Debug)]
pub struct References {
    /// The next number: they begin anywhere, so that one of another process means nothing here.
    next: u64,
    /// How often something was used.
    uses: u64,
    tokens: HashMap<u64, (Arc<ProtectionToken>, u64)>,
    /// The numbers, by their last use.
    used: BTreeMap<u64, u64>,
}

impl References {
    /// None.
    pub fn new() -> Self {
        let somewhere = RandomState::new().build_hasher().finish();
        Self { next: somewhere, uses: 0, tokens: HashMap::new(), used: BTreeMap::new() }
    }

    /// A reference to a token; one that was referred to lately keeps its number.
    pub fn refer(&mut self, token: &Arc<ProtectionToken>) -> Reference {
        let lately = self.used.values().rev().take(LATELY).copied();
        let known = lately.into_iter().find(|number| {
            self.tokens.get(number).is_some_and(|(kept, _)| Arc::ptr_eq(kept, token) || kept == token)
        });
        let number = known.unwrap_or_else(|| {
            self.next = self.next.wrapping_add(1);
            self.next
        });
        let token = Arc::clone(token);
        self.use_now(number, token);
        if self.tokens.len() > MOST
            && let Some((_, longest_unused)) = self.used.pop_first()
        {
            self.tokens.remove(&longest_unused);
        }
        Reference(number)
    }

    /// The token of a reference; none where there is none any more, or never was.
    pub fn token(&mut self, reference: Reference) -> Option<Arc<ProtectionToken>> {
        let token = Arc::clone(&self.tokens.get(&reference.0)?.0);
        self.use_now(reference.0, Arc::clone(&token));
        Some(token)
    }

    /// No reference means anything any more.
    pub fn forget(&mut self) {
        self.tokens.clear();
        self.used.clear();
    }

    fn use_now(&mut self, number: u64, token: Arc<ProtectionToken>) {
        self.uses = self.uses.wrapping_add(1);
        if let Some((_, before)) = self.tokens.insert(number, (token, self.uses)) {
            self.used.remove(&before);
        }
        self.used.insert(self.uses, number);
    }
}

/// Of tokens that are kept.
const MOST: usize = 4096;
/// Of tokens among which one is looked for that is the same.
const LATELY: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::{Attribute, Value};

    fn token(bits: u16) -> Arc<ProtectionToken> {
        let mut token = ProtectionToken::default();
        token.write(Attribute::KeyBits, &Value::Count(bits)).unwrap();
        Arc::new(token)
    }

    /// N-6: a burst takes one place, and what is used stays while what is not goes.
    #[test]
    fn n_6_what_was_used_last_is_kept() {
        let mut references = References::new();
        let first = references.refer(&token(1));
        assert_eq!(references.refer(&token(1)), first, "the same");
        let second = references.refer(&token(2));
        assert_ne!(first, second);
        for bits in 3..=4096 {
            references.refer(&token(bits));
        }
        assert!(references.token(first).is_some());
        references.refer(&token(4097));
        assert!(references.token(first).is_some(), "it was used");
        assert!(references.token(second).is_none(), "it was not");
        assert_eq!((references.tokens.len(), references.used.len()), (MOST, MOST));
    }

    /// N-7: neither a child nor another process has them.
    #[test]
    fn n_7_references_mean_nothing_elsewhere() {
        let mut references = References::new();
        let reference = references.refer(&token(1));
        assert!(References::new().token(reference).is_none());
        references.forget();
        assert!(references.token(reference).is_none());
        assert_ne!(references.refer(&token(1)), reference, "and are never given twice");
    }
}
