//! Pairs of SAs: one for what we receive, one for what we send, of one peer and one class (RFC 4301 section 4.1).

use std::fmt;
use std::net::SocketAddr;

use latchway_datapath::fitting::Fitting;
use latchway_datapath::sad::{Path, Role, Sad, SadEntry, Usage};
use latchway_datapath::time::Time;
use latchway_esp::{Align, AntiReplay, Protocol, SequenceKind, Spi};
use latchway_tagging::{ClassId, PadEntryId, SaRef, WorkerId};

use crate::install::{KeyOrigin, Received, Start};
use crate::keying::Stage;
use crate::origin::Origin;
use crate::proposal::Proposal;
use crate::secrets::Secrets;
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
    /// The AH SAs around both, of a bundle.
    pub(crate) header: Option<HeaderSas>,
    pub(crate) terms: Proposal,
    pub(crate) entry: PadEntryId,
    pub(crate) class: ClassId,
    pub(crate) origin: Origin,
    pub(crate) key_origin: KeyOrigin,
    pub(crate) anti_replay: AntiReplay,
    /// How AH is aligned.
    pub(crate) align: Align,
    /// How wide the numbers are, inbound and outbound.
    pub(crate) sequence: (SequenceKind, SequenceKind),
    pub(crate) worker: WorkerId,
    pub(crate) path: Path,
    /// Where that was last said to lead, wherever the peer moved to since.
    pub(crate) said: SocketAddr,
    pub(crate) received: Received,
    pub(crate) usage: Usage,
    /// How it begins once it is settled.
    pub(crate) start: Start,
    /// How far it is on its way into force, if it goes that way by itself.
    pub(crate) settling: Option<Stage>,
    /// When it is gone, if it is on its way out.
    pub(crate) drained_at: Option<Time>,
    pub(crate) secrets: Secrets,
    pub(crate) inbound_expired: bool,
    pub(crate) outbound_expired: bool,
}

/// The AH SAs of a bundle (RFC 4301 section 4.3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderSas {
    pub(crate) inbound: SaRef,
    pub(crate) inbound_spi: Spi,
    pub(crate) outbound: SaRef,
    pub(crate) outbound_spi: Spi,
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
        let expired = noted || self.sas().any(over);
        PairState { sas: self.places(), usage: self.usage, expired }
    }

    /// Its SAs: two, and four of a bundle.
    pub(crate) fn sas(&self) -> impl Iterator<Item = SaRef> + use<> {
        self.places().into_iter().flatten()
    }

    /// What its inbound SAs are known by.
    pub(crate) fn inbound_names(&self) -> impl Iterator<Item = (Protocol, Spi)> + use<> {
        let header = self.header.map(|header| (Protocol::Ah, header.inbound_spi));
        [(self.terms.suites.inbound.protocol(), self.inbound_spi)].into_iter().chain(header)
    }

    /// What the peer knows its outbound SAs by.
    pub(crate) fn outbound_names(&self) -> impl Iterator<Item = (Protocol, Spi, SocketAddr)> + use<> {
        self.outbound_names_at(self.path.to)
    }

    /// What it would know them by at another address.
    pub(crate) fn outbound_names_at(
        &self,
        to: SocketAddr,
    ) -> impl Iterator<Item = (Protocol, Spi, SocketAddr)> + use<> {
        let header = self.header.map(|header| (Protocol::Ah, header.outbound_spi));
        let names = [(self.terms.suites.outbound.protocol(), self.outbound_spi)].into_iter().chain(header);
        names.map(move |(protocol, spi)| (protocol, spi, to))
    }

    const fn places(&self) -> [Option<SaRef>; 4] {
        let (inbound, outbound) = (Some(self.inbound), Some(self.outbound));
        match self.header {
            Some(header) => [inbound, outbound, Some(header.inbound), Some(header.outbound)],
            None => [inbound, outbound, None, None],
        }
    }

    /// Makes it so in a database: `None` is gone.
    pub(crate) fn turn(&self, sad: &mut Sad, usage: Option<Usage>) {
        for sa in self.sas() {
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

    /// How long its packets become, AH around them included.
    pub(crate) fn fitting(&self, sending: &SadEntry) -> Option<Fitting> {
        let suite = self.terms.suites.outbound;
        // AH that goes around nothing is aligned as it is itself.
        let around = self.terms.header.map_or(suite, |header| header.outbound);
        Some(Fitting::of(sending, suite)?.within(around, self.align))
    }

    /// What status output may know of it; `None` where it is not in the SAD.
    pub(crate) fn view(&self, id: PairId, sad: &Sad) -> Option<PairView> {
        let view = |sa, suite, sequence, expired| {
            let entry = &sad.get(sa)?.entry;
            Some(SaView::of(entry, suite, sequence, expired || entry.use_.is_expired()))
        };
        let (terms, sending) = (self.terms.clone(), &sad.get(self.outbound)?.entry);
        let (inbound, outbound) = self.sequence;
        let header = match self.header.zip(terms.header) {
            None => None,
            Some((sas, suites)) => Some([
                view(sas.inbound, suites.inbound, inbound, self.inbound_expired)?,
                view(sas.outbound, suites.outbound, outbound, self.outbound_expired)?,
            ]),
        };
        let Role::Outbound { shape, .. } = &sad.get(self.outbound)?.entry.role else { return None };
        let Role::Inbound { from, .. } = &sad.get(self.inbound)?.entry.role else { return None };
        let (shape, follow) = (shape.clone(), from.follow);
        let came = view(self.inbound, terms.suites.inbound, inbound, self.inbound_expired)?;
        // Without a window, what comes twice counts twice.
        let checked = self.anti_replay != AntiReplay::Off;
        Some(PairView {
            id,
            peer: terms.peer,
            method: terms.method,
            entry: self.entry,
            local: terms.local,
            mode: terms.mode,
            class: self.class,
            selectors: terms.selectors,
            reqid: terms.reqid,
            usage: self.usage,
            drained_at: self.drained_at,
            origin: self.origin,
            key_origin: self.key_origin,
            anti_replay: self.anti_replay,
            worker: self.worker,
            inbound: SaView { lost: checked.then(|| self.received.lost(came.packets)).flatten(), ..came },
            outbound: view(self.outbound, terms.suites.outbound, outbound, self.outbound_expired)?,
            header,
            path: self.path,
            fitting: self.fitting(sending)?,
            sizing: sending.role.sizing(),
            path_mtu: sending.mtu()?,
            shape,
            follow,
            align: self.align,
            nat: terms.nat,
        })
    }
}
