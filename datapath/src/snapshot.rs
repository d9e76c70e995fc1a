//! What workers read of policy and SAs: one immutable snapshot, replaced whole.

use latchway_tagging::SnapshotId;

use crate::sad::Sad;
use crate::spd::Spd;

/// SAD and SPD, swapped together. A worker adopts one at the start of a batch and keeps to it until the next.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Names this snapshot; caches made under another one are misses.
    pub id: SnapshotId,
    /// The SAs.
    pub sad: Sad,
    /// The policy.
    pub spd: Spd,
}
