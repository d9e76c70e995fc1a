//! What status output may know of pairs: everything but keys.

use latchway_datapath::sad::{Path, Usage};
use latchway_datapath::selector::Selector;
use latchway_datapath::spd::Reqid;
use latchway_esp::{Spi, Suite};
use latchway_tagging::{AuthMethod, ClassId, Identity, PadEntryId, SaRef, WorkerId};

use crate::install::KeyOrigin;
use crate::pair::PairId;

/// A pair of SAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairView {
    /// The pair.
    pub id: PairId,
    /// Who the peer asserted to be.
    pub peer: Identity,
    /// How it proved that, which is its standing.
    pub method: AuthMethod,
    /// The entry of the PAD that authorised it.
    pub entry: PadEntryId,
    /// Who we are towards it.
    pub local: Identity,
    /// What a latch compares.
    pub class: ClassId,
    /// The flows it may carry.
    pub selectors: Vec<Selector>,
    /// The rules it serves.
    pub reqid: Reqid,
    /// Whether it is in use.
    pub usage: Usage,
    /// Where the keys came from.
    pub origin: KeyOrigin,
    /// The worker that owns both SAs.
    pub worker: WorkerId,
    /// What we receive by.
    pub inbound: SaView,
    /// What we send by.
    pub outbound: SaView,
    /// Where we send.
    pub path: Path,
}

/// One direction of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaView {
    /// Its slot and generation.
    pub sa: SaRef,
    /// Its SPI.
    pub spi: Spi,
    /// How packets are protected; it shows as its name.
    pub suite: Suite,
    /// Inner packets so far.
    pub packets: u64,
    /// Their octets.
    pub octets: u64,
    /// Whether its hard lifetime is over, and its keys gone.
    pub expired: bool,
}

/// How much the key manager holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Pairs of SAs.
    pub pairs: usize,
    /// Pairs that are not settled yet.
    pub settling: usize,
    /// Offers whose keys did not come yet.
    pub offers: usize,
    /// Interned classes.
    pub classes: usize,
    /// Slots of the SAD at rest.
    pub resting_slots: usize,
    /// SPIs at rest.
    pub resting_spis: usize,
    /// Slots of the SAD that were ever used.
    pub slots_ever_used: u32,
}
