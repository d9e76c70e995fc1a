//! Stable ids for entries of the PAD: a name keeps its id through every reload, and no other name ever gets it (L-11).

use std::collections::HashMap;

use latchway_tagging::PadEntryId;

/// The ids of all names there ever were. It must outlive every [`Pad`](crate::Pad) made with it: whoever reads the
/// configuration keeps it beside the configuration.
#[derive(Clone, Debug, Default)]
pub struct PadEntryIds {
    ids: HashMap<String, PadEntryId>,
}

impl PadEntryIds {
    /// No name known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of the entry with this name, the same each time.
    pub fn id(&mut self, name: &str) -> PadEntryId {
        // More names than an id can tell apart fit no memory; they would be refused as duplicates.
        let next = PadEntryId(u32::try_from(self.ids.len()).unwrap_or(u32::MAX));
        *self.ids.entry(name.to_owned()).or_insert(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l_11_a_name_keeps_its_id_and_no_other_gets_it() {
        let mut ids = PadEntryIds::new();
        let (bob, carol) = (ids.id("bob"), ids.id("carol"));
        assert_ne!(bob, carol);
        // A reload without bob, then one with him again and a newcomer before him.
        assert_eq!(ids.id("carol"), carol);
        let dave = ids.id("dave");
        assert_eq!((ids.id("bob"), ids.id("carol")), (bob, carol));
        assert!(dave != bob && dave != carol);
    }
}
