//! The one word of a slot by which everything about its entry changes.

/// Generation, life and what the entry says of itself, compared and swapped together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head(u64);

/// Where a slot is in its cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Holds nothing.
    Free,
    /// Holds an entry that is not confirmed to be its flow's only one.
    Tentative,
    /// Holds an entry.
    Live,
    /// Is being emptied by whoever set this.
    Retiring,
}

impl Head {
    /// A slot that never held anything. Generations start at 1, so that no handle is all zero.
    pub(super) const FRESH: Self = Self(1 << GENERATION);

    #[inline]
    pub(super) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    #[inline]
    pub(super) const fn word(self) -> u64 {
        self.0
    }

    /// The same generation in another life, saying `detail` (30 bits).
    #[inline]
    pub(crate) const fn with(self, life: Life, detail: u32) -> Self {
        let kept = self.0 >> GENERATION << GENERATION;
        Self(kept | ((detail as u64 & DETAIL_MASK) << DETAIL) | life as u64)
    }

    /// The empty slot of the next generation.
    pub(super) const fn recycled(self) -> Self {
        let next = (self.generation().wrapping_add(1) as u64) << GENERATION;
        if next == 0 { Self::FRESH } else { Self(next) }
    }

    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> GENERATION) as u32
    }

    #[inline]
    pub(crate) const fn life(self) -> Life {
        match self.0 & 3 {
            0 => Life::Free,
            1 => Life::Tentative,
            2 => Life::Live,
            _ => Life::Retiring,
        }
    }

    #[inline]
    pub(crate) const fn detail(self) -> u32 {
        ((self.0 >> DETAIL) & DETAIL_MASK) as u32
    }
}

const DETAIL: u32 = 2;
const DETAIL_MASK: u64 = (1 << 30) - 1;
const GENERATION: u32 = 32;
