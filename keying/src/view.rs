//! What status output may know of pairs: everything but keys.

use latchway_datapath::fitting::Fitting;
use latchway_datapath::lifetime::Limits;
use latchway_datapath::pmtu::{PathMtu, Sizing};
use latchway_datapath::sad::{Follow, Path, SadEntry, Shape, Usage};
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::spd::Reqid;
use latchway_datapath::time::Time;
use latchway_esp::{Align, AntiReplay, SequenceKind, Spi, Suite};
use latchway_tagging::{
    AuthMethod, ClassId, Identity, IdentityId, IdentityRecord, Mode, PadEntryId, PeerPattern, SaRef, WorkerId,
};

use crate::evidence::Evidence;
use crate::install::KeyOrigin;
use crate::nat::Nat;
use crate::origin::Origin;
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
    /// Tunnel or transport.
    pub mode: Mode,
    /// What a latch compares.
    pub class: ClassId,
    /// The flows it may carry.
    pub selectors: Vec<Selector>,
    /// The rules it serves.
    pub reqid: Reqid,
    /// Whether it is in use.
    pub usage: Usage,
    /// When it is gone, if it is on its way out: until then it receives what is under way.
    pub drained_at: Option<Time>,
    /// Where the pair came from, which decides what a reload does with it.
    pub origin: Origin,
    /// Where its keys came from.
    pub key_origin: KeyOrigin,
    /// Whether it refuses replays, and how far back it looks.
    pub anti_replay: AntiReplay,
    /// The worker that owns both SAs.
    pub worker: WorkerId,
    /// What we receive by.
    pub inbound: SaView,
    /// What we send by.
    pub outbound: SaView,
    /// The AH SAs around both, of a bundle, inbound first.
    pub header: Option<[SaView; 2]>,
    /// Where we send.
    pub path: Path,
    /// How long its packets become on that path.
    pub fitting: Fitting,
    /// How they are made to fit.
    pub sizing: Sizing,
    /// What our packets look like from outside.
    pub shape: Shape,
    /// What becomes of packets from elsewhere.
    pub follow: Follow,
    /// How long its AH headers are a multiple of.
    pub align: Align,
    /// What that path takes, as far as it was found out, and whether it is in doubt.
    pub path_mtu: PathMtu,
    /// Whether addresses are translated on the way (L-32).
    pub nat: Nat,
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
    /// How wide its numbers are.
    pub sequence: SequenceKind,
    /// Its lifetime, soft and hard.
    pub limits: Limits,
    /// When it was added, from which its lifetime counts.
    pub added: Time,
    /// Inner packets so far.
    pub packets: u64,
    /// Their octets.
    pub octets: u64,
    /// When it carried its first packet, from which its lifetime counts too; `None` where it never did.
    pub first_used: Option<Time>,
    /// When it carried a packet last; `None` where it never did.
    pub last_used: Option<Time>,
    /// How many numbers were passed whose packets did not come, or were not the peer's (RFC 4303 section 3.4.3): of an inbound
    /// SA of a pair that refuses replays.
    pub lost: Option<u64>,
    /// Whether its soft lifetime is over, and a successor wanted (T36).
    pub soft_expired: bool,
    /// Whether its hard lifetime is over, and its keys gone.
    pub expired: bool,
}

impl SaView {
    /// Of an SA as the SAD holds it.
    pub(crate) fn of(entry: &SadEntry, suite: Suite, sequence: SequenceKind, expired: bool) -> Self {
        Self {
            sa: entry.sa,
            spi: entry.spi,
            suite,
            sequence,
            limits: entry.limits,
            added: entry.added,
            packets: entry.use_.packets.get(),
            octets: entry.use_.octets.get(),
            first_used: entry.use_.first_used(),
            last_used: entry.use_.last_used(),
            lost: None,
            soft_expired: entry.use_.is_soft_expired(),
            expired,
        }
    }
}

/// An entry of the PAD, with the pairs that it allowed (RFC 4301 section 4.4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// What the operator calls it.
    pub name: String,
    /// Its id.
    pub entry: PadEntryId,
    /// Which identities it speaks of.
    pub peer: PeerPattern,
    /// How such an identity may be proven, best first.
    pub methods: Vec<AuthMethod>,
    /// Its standing: the highest that a peer of it has that has a pair. `None` while there is no pair.
    pub standing: Option<AuthMethod>,
    /// The inner addresses it may claim.
    pub ranges: Vec<AddressRange>,
    /// Who we are towards it.
    pub local: Identity,
    /// Its pairs, oldest first.
    pub pairs: Vec<PairId>,
    /// Its peers that SAs, offers or latches are of, oldest first.
    pub identities: Vec<IdentityView>,
}

/// A live identity, and what proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityView {
    /// Its id.
    pub id: IdentityId,
    /// What a latch compares of it.
    pub record: IdentityRecord,
    /// What it was proven with last (L-29 to L-31).
    pub evidence: Evidence,
}

/// How much the key manager holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Pairs of SAs.
    pub pairs: usize,
    /// Pairs that are not settled yet.
    pub settling: usize,
    /// Pairs on their way out.
    pub draining: usize,
    /// Offers whose keys did not come yet.
    pub offers: usize,
    /// Interned classes.
    pub classes: usize,
    /// Those who may hold latches.
    pub holders: usize,
    /// Latches that are held.
    pub held: usize,
    /// Slots of the SAD at rest.
    pub resting_slots: usize,
    /// SPIs at rest.
    pub resting_spis: usize,
    /// Slots of the SAD that were ever used.
    pub slots_ever_used: u32,
}
