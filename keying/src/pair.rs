//! Pairs of SAs: one for what we receive, one for what we send, of one peer and one class (RFC 4301 section 4.1).

use std::fmt;

use latchway_datapath::fitting::Fitting;
use latchway_datapath::sad::{Path, Sad, Usage};
use latchway_datapath::time::Time;
use latchway_esp::{AntiReplay, SequenceKind, Spi};
use latchway_tagging::{ClassId, PadEntryId, SaRef, WorkerId};

use crate::install::{KeyOrigin, Start};
use crate::keying::Stage;
use crate::origin::Origin;
use crate::proposal::Proposal;
use crate::transaction::PairState;
use crate::view::{PairView, SaView};

/// A pair of SAs, for as long as the process lives: ids are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairId(u64);

/// What the key manager knows of a pair beside what the SAD says of its SAs.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) inbound: SaRef,
    pub(crate) inbound_spi: Spi,
    pub(crate) outbound: SaRef,
    pub(crate) outbound_spi: Spi,
    pub(crate) terms: Proposal,
    pub(crate) entry: PadEntryId,
    pub(crate) class: ClassId,
    pub(crate) origin: Origin,
    pub(crate) key_origin: KeyOrigin,
    pub(crate) anti_replay: AntiReplay,
    /// How wide the numbers are, inbound and outbound.
    pub(crate) sequence: (SequenceKind, SequenceKind),
    pub(crate) worker: WorkerId,
    pub(crate) path: Path,
    pub(crate) usage: Usage,
    /// How it begins once it is settled.
    pub(crate) start: Start,
    /// How far it is on its way into force, if it goes that way by itself.
    pub(crate) settling: Option<Stage>,
    /// When it is gone, if it is on its way out.
    pub(crate) drained_at: Option<Time>,
    pub(crate) inbound_expired: bool,
    pub(crate) outbound_expired: bool,
}

impl fmt::Display for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl PairId {
    /// The pair with this number, as status output showed it.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl Pair {
    /// What a transaction needs to know of it.
    pub(crate) fn state(&self, sad: &Sad) -> PairState {
        let over = |sa| sad.get(sa).is_some_and(|slot| slot.entry.use_.is_expired());
        let noted = self.inbound_expired || self.outbound_expired;
        let expired = noted || over(self.inbound) || over(self.outbound);
        PairState { inbound: self.inbound, outbound: self.outbound, usage: self.usage, expired }
    }

    /// Makes it so in a database: `None` is gone.
    pub(crate) fn turn(&self, sad: &mut Sad, usage: Option<Usage>) {
        for sa in [self.inbound, self.outbound] {
            match usage {
                Some(usage) => {
                    sad.set_usage(sa, usage);
                }
                None => {
                    sad.remove(sa);
                }
            }
        }
    }

    /// What status output may know of it; `None` where it is not in the SAD.
    pub(crate) fn view(&self, id: PairId, sad: &Sad) -> Option<PairView> {
        let view = |sa, suite, sequence, expired| {
            let entry = &sad.get(sa)?.entry;
            let expired = expired || entry.use_.is_expired();
            let (packets, octets) = (entry.use_.packets.get(), entry.use_.octets.get());
            let (limits, added, soft_expired) = (entry.limits, entry.added, entry.use_.is_soft_expired());
            Some(SaView {
                sa,
                spi: entry.spi,
                suite,
                sequence,
                limits,
                added,
                packets,
                octets,
                first_used: entry.use_.first_used(),
                last_used: entry.use_.last_used(),
                soft_expired,
                expired,
            })
        };
        let (terms, sending) = (self.terms.clone(), &sad.get(self.outbound)?.entry);
        let (inbound, outbound) = self.sequence;
        Some(PairView {
            id,
            peer: terms.peer,
            method: terms.method,
            entry: self.entry,
            local: terms.local,
            class: self.class,
            selectors: terms.selectors,
            reqid: terms.reqid,
            usage: self.usage,
            drained_at: self.drained_at,
            origin: self.origin,
            key_origin: self.key_origin,
            anti_replay: self.anti_replay,
            worker: self.worker,
            inbound: view(self.inbound, terms.suites.inbound, inbound, self.inbound_expired)?,
            outbound: view(self.outbound, terms.suites.outbound, outbound, self.outbound_expired)?,
            path: self.path,
            fitting: Fitting::of(sending, terms.suites.outbound)?,
            sizing: sending.role.sizing(),
            path_mtu: sending.mtu()?,
            nat: terms.nat,
        })
    }
}
