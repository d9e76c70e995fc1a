//! What a packet remembers of its protection: ids, congruence classes, inbound and outbound tags.
//!
//! Tags are `Copy`, own no heap, live beside the packet and never in it (L-92), and are never looked up again: the
//! class travels in the tag, so a recycled slot in the SAD cannot lie about a packet opened before.
//! Covers draft-ietf-btns-connection-latching-04 section 2.2 (L-91 to L-99).

#![forbid(unsafe_code)]

mod class;
mod distinguished;
mod identity;
mod ids;
mod pattern;
mod record;
mod sync;
mod tag;
mod version;

pub use class::{Algorithms, Class, ClassLimit, ClassTable, Mode, TooManyClasses, Transform, Transforms};
pub use identity::{AuthMethod, Identity, NoIdentity};
pub use ids::{ClassId, GroupId, IdentityId, PadEntryId, SaIndex, SaRef, WorkerId};
pub use pattern::PeerPattern;
pub use record::{Credential, IdentityError, IdentityLimit, IdentityRecord, IdentityTable};
pub use tag::{Demand, Feedback, InboundTag, OutboundTag};
pub use version::{SnapshotId, StateClock, StateVersion};
