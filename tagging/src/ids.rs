//! The numbers by which packets, latches and SAs refer to each other, each in a space of its own.

use std::fmt;

/// An interned congruence [`Class`](crate::Class). Equality of ids is equality of classes; an id is never reused in a
/// process's life (RFC 5660 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(u32);

impl ClassId {
    /// The id with this number, as a latch stores it in an atomic word.
    #[inline]
    #[must_use]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The number, for storage in an atomic word.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

/// The coarser group of classes that `ipsec_cmp_pToken` takes for equal (C-16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub(crate) u32);

impl GroupId {
    /// The number, to be shown and compared.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

/// An interned [`IdentityRecord`](crate::IdentityRecord).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityId(pub(crate) u32);

impl IdentityId {
    /// The number, for storage in an atomic word.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

/// The entry of the Peer Authorization Database that authorised an identity (RFC 4301 4.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PadEntryId(pub u32);

/// The slot of an SA in the SAD, one SA per direction (L-91).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SaIndex(u32);

impl SaIndex {
    /// The slot with this number.
    #[inline]
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The slot's number, to index a table of slots.
    #[inline]
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// An SA as a tag remembers it: its slot, and the generation the slot had. A reference whose generation is no longer
/// the slot's refers to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SaRef {
    /// The slot in the SAD.
    pub index: SaIndex,
    /// How many SAs had the slot before this one. Starts at 1, so that the packed form is never 0.
    pub generation: u32,
}

impl SaRef {
    /// Both halves in one word, never 0, for storage in an atomic.
    #[inline]
    #[must_use]
    pub const fn pack(self) -> u64 {
        ((self.generation as u64) << 32) | self.index.0 as u64
    }

    /// The reference that [`pack`](Self::pack) made; `None` for the empty word 0.
    #[inline]
    #[must_use]
    pub const fn unpack(word: u64) -> Option<Self> {
        match (word >> 32) as u32 {
            0 => None,
            generation => Some(Self { index: SaIndex(word as u32), generation }),
        }
    }
}

impl fmt::Display for SaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index.0, self.generation)
    }
}

/// A worker thread: the one owner of its queue, socket, counters and SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_sa_reference_comes_back_and_is_never_the_empty_word() {
        for (index, generation) in [(0, 1), (u32::MAX, 1), (7, u32::MAX)] {
            let sa = SaRef { index: SaIndex::new(index), generation };
            assert_ne!(sa.pack(), 0);
            assert_eq!(SaRef::unpack(sa.pack()), Some(sa));
        }
        assert_eq!(SaRef::unpack(0), None);
    }
}
