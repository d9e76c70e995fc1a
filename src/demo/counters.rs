//! Drop counters before and after, and what moved between.

use std::collections::BTreeMap;

use latchway_control::DropRow;
use serde::Serialize;

use super::failure::Failure;
use super::gateways::Gateway;

/// All drop counters of one gateway at one moment.
#[derive(Clone, Debug)]
pub struct Counters(BTreeMap<Name, u64>);

/// By how much each counter moved; those that did not are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Moved(BTreeMap<String, u64>);

/// "inbound" or "outbound", and the reason.
type Name = (String, String);

impl Counters {
    /// Reads them.
    pub fn of(gateway: &Gateway) -> Result<Self, Failure> {
        let name = |row: &DropRow| (row.direction.to_string(), row.reason.clone());
        let rows = gateway.drops()?.drops;
        Ok(Self(rows.iter().map(|row| (name(row), row.packets)).collect()))
    }

    /// What moved between an earlier moment and this one.
    pub fn since(&self, earlier: &Self) -> Moved {
        let moved = self.0.iter().filter_map(|(name, packets)| {
            let by = packets.wrapping_sub(earlier.0.get(name).copied().unwrap_or_default());
            (by > 0).then(|| (format!("{} {}", name.0, name.1), by))
        });
        Moved(moved.collect())
    }
}

impl Moved {
    /// By how much one counter moved, such as "inbound latch_mismatch".
    pub fn by(&self, counter: &str) -> u64 {
        self.0.get(counter).copied().unwrap_or_default()
    }

    /// By how much all counters moved together.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Whether no counter moved but these.
    pub fn only(&self, counters: &[&str]) -> bool {
        self.0.keys().all(|name| counters.contains(&name.as_str()))
    }

    /// Whether no counter moved.
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        if self.is_nothing() {
            return "no drop counter moved".to_owned();
        }
        self.0.iter().map(|(name, by)| format!("{name} +{by}")).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_is_told_from_what_was_there() {
        let name = |reason: &str| ("inbound".to_owned(), reason.to_owned());
        let before = Counters(BTreeMap::from([(name("no_sa"), 7), (name("replayed"), 1)]));
        let after = Counters(BTreeMap::from([(name("no_sa"), 7), (name("replayed"), 3), (name("runt"), 1)]));
        let moved = after.since(&before);
        assert_eq!((moved.by("inbound replayed"), moved.by("inbound no_sa"), moved.total()), (2, 0, 3));
        assert!(moved.only(&["inbound replayed", "inbound runt"]) && !moved.only(&["inbound replayed"]));
        assert!(after.since(&after).is_nothing() && !moved.is_nothing());
    }
}
