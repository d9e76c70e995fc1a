//! SAs of one direction each, as a kernel keeps them (RFC 4301 section 4.1): nobody negotiated them as a pair, and policy
//! says which flows they serve.

use std::fmt;

use latchway_datapath::arrival::Carrier;
use latchway_datapath::fitting::Fitting;
use latchway_datapath::lifetime::Limits;
use latchway_datapath::outer::OuterPolicy;
use latchway_datapath::pmtu::PathMtu;
use latchway_datapath::sad::{Path, Peer, Shape};
use latchway_datapath::selector::Selector;
use latchway_datapath::spd::Reqid;
use latchway_datapath::time::Time;
use latchway_esp::{
    Align, AntiReplay, ConfigError, InboundConfig, InboundSa, OutboundConfig, OutboundSa, ReceivedTop,
    Reservation, SeqNum, SequenceKind, Suite,
};
use latchway_tagging::{ClassId, Identity, Mode, SaRef, WorkerId};

use crate::install::{InstallError, KeyOrigin, SaKeys};
use crate::proposal::Refusal;
use crate::view::SaView;

/// A single SA, for as long as the process lives: ids are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SingleId(u64);

/// A single SA to be made. It may carry only what a PROTECT rule wants that it serves, and establishes no latch unless it
/// has a partner: one of the other direction with the same ends, reqid, mode and protocol.
#[derive(Debug)]
pub struct NewSingle {
    /// Who is on the other end, proven by nothing but the key: the outer address.
    pub peer: Identity,
    /// Who we are towards it.
    pub local: Identity,
    /// Tunnel or transport.
    pub mode: Mode,
    /// The inner flows it may carry; the PAD may leave less of them.
    pub selectors: Vec<Selector>,
    /// The rules it serves.
    pub reqid: Reqid,
    /// Its SPI, key and limits.
    pub keys: SaKeys,
    /// To what AH is aligned.
    pub align: Align,
    /// Where the key comes from.
    pub origin: KeyOrigin,
    /// The worker that will own it.
    pub worker: WorkerId,
    /// Its direction.
    pub way: Way,
}

/// The direction of a single SA, and what only that direction has.
#[derive(Debug)]
pub enum Way {
    /// Protects what we receive.
    Inbound {
        /// Whether it refuses replays, and how far back it looks.
        anti_replay: AntiReplay,
        /// Who sends.
        from: Peer,
        /// What becomes of the outer header's fields.
        outer: OuterPolicy,
        /// Numbers up to this one count as received.
        after: SeqNum,
        /// Where it tells what it received, if its numbers are on record.
        top: Option<ReceivedTop>,
    },
    /// Protects what we send.
    Outbound {
        /// Where packets go.
        path: Path,
        /// What they look like from outside.
        shape: Shape,
        /// The first number that it takes.
        next: SeqNum,
        /// How far it may count, if its numbers are on record.
        reservation: Option<Reservation>,
    },
}

/// What is to be different, in one snapshot: all of it, or nothing.
#[derive(Debug, Default)]
pub struct SingleChange {
    /// SAs that go, with whatever is under way.
    pub remove: Vec<SingleId>,
    /// SAs that come, in their order.
    pub add: Vec<NewSingle>,
    /// SAs of which something else is said. Their numbers, windows and what they carried stay.
    pub revise: Vec<Revision>,
}

/// What is said anew of a single SA.
#[derive(Debug)]
pub struct Revision {
    /// Which.
    pub single: SingleId,
    /// The inner flows it may carry; the PAD may leave less of them.
    pub selectors: Vec<Selector>,
    /// Its limits.
    pub limits: Limits,
    /// Where its packets go, or come from.
    pub end: RevisedEnd,
}

/// The outer end of a single SA, said anew.
#[derive(Debug)]
pub enum RevisedEnd {
    /// Of what we receive.
    Inbound(Peer, OuterPolicy),
    /// Of what we send.
    Outbound(Path, Shape),
}

/// Why a change of single SAs cannot be. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SingleError {
    /// The PAD does not allow an SA to be added, or to be revised so.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An SA cannot be made.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// There is no such SA.
    #[error("there is no single SA {0}")]
    Unknown(SingleId),
    /// A revision that is of another direction, or changes what cannot be changed while numbers go on.
    #[error("the SA cannot be revised so; delete it and add it anew")]
    NoRevision,
}

/// Which element of a change is at fault, and why: its place among those added, or behind them among those revised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct SingleFault {
    /// The place; `None` where it is one to be removed.
    pub place: Option<usize>,
    /// Why.
    pub error: SingleError,
}

/// What status output may know of a single SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleView {
    /// Its id.
    pub id: SingleId,
    /// The other SA of its pair.
    pub partner: Option<SingleId>,
    /// Inner packets carried.
    pub packets: u64,
    /// Octets that the cipher was applied to.
    pub octets: u64,
    /// When it was added.
    pub added: Time,
    /// When it carried something last.
    pub last_used: Option<Time>,
    /// Whether its soft lifetime is over.
    pub soft_expired: bool,
    /// Whether its hard lifetime is over.
    pub expired: bool,
}

/// A single SA as a whole, as status output shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleSa {
    /// Its id.
    pub id: SingleId,
    /// Who is on the other end.
    pub peer: Identity,
    /// Tunnel or transport.
    pub mode: Mode,
    /// What a latch compares; `None` where it has no partner.
    pub class: Option<ClassId>,
    /// The inner flows it may carry.
    pub selectors: Vec<Selector>,
    /// Whether it refuses replays, and how far back it looks; `None` where it sends.
    pub anti_replay: Option<AntiReplay>,
    /// How its packets travel.
    pub carrier: Carrier,
    /// Its name and what it carried.
    pub sa: SaView,
    /// The AH SA around it, of a bundle (RFC 4301 section 4.3).
    pub header: Option<SaView>,
    /// What its packets look like from outside, and what becomes of outer headers that arrive.
    pub shape: Shape,
    /// To what AH is aligned.
    pub align: Align,
    /// Where it sends; `None` where it receives.
    pub sending: Option<SingleSending>,
}

/// Where a single SA sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SingleSending {
    /// The path.
    pub path: Path,
    /// How long its packets become on that path, AH around them included.
    pub fitting: Fitting,
    /// What that path takes, as far as it was found out.
    pub path_mtu: PathMtu,
}

/// What the key manager knows of a single SA beside what the SAD says of it.
#[derive(Debug)]
pub(crate) struct Single {
    pub(crate) sa: SaRef,
    pub(crate) new: Terms,
    /// The other SA of its pair, and the class of both, of which either is a holder.
    pub(crate) partner: Option<(SingleId, ClassId)>,
    /// The other SA of its bundle, as the SAD says it, too.
    pub(crate) nested: Option<SaRef>,
}

/// What of a [`NewSingle`] decides whom it makes a pair with, and what that pair is.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) peer: Identity,
    pub(crate) local: Identity,
    pub(crate) suite: Suite,
    pub(crate) sequence: SequenceKind,
    pub(crate) align: Align,
    /// Of an inbound SA, whether replays are refused.
    pub(crate) anti_replay: Option<AntiReplay>,
}

impl Terms {
    /// Whether replays are refused, as far as it says.
    pub(crate) fn replay_checked(&self) -> bool {
        self.anti_replay.is_none_or(|anti_replay| anti_replay != AntiReplay::Off)
    }
}

impl SingleId {
    /// The SA with this number.
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

impl fmt::Display for SingleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The cryptographic state of one direction.
pub(crate) enum Built {
    Inbound(InboundSa),
    Outbound(OutboundSa),
}

impl NewSingle {
    /// Whether its numbers are on record.
    #[must_use]
    pub const fn is_on_record(&self) -> bool {
        match &self.way {
            Way::Inbound { top, .. } => top.is_some(),
            Way::Outbound { reservation, .. } => reservation.is_some(),
        }
    }

    /// Whether it may be used so (RFC 8221 section 3, T12).
    pub(crate) fn check(&self) -> Result<(), InstallError> {
        let suite = self.keys.material.suite();
        if self.origin == KeyOrigin::Static && !self.is_on_record() && suite.is_counter_mode() {
            return Err(InstallError::StaticCounterMode(suite));
        }
        Ok(())
    }

    pub(crate) fn build(&self) -> Result<Built, ConfigError> {
        let SaKeys { spi, ref material, sequence, .. } = self.keys;
        let suite = material.suite();
        match &self.way {
            Way::Inbound { anti_replay, after, top, .. } => {
                let (anti_replay, top) = (*anti_replay, top.clone());
                let config = InboundConfig { spi, suite, keys: material, sequence, anti_replay, top };
                InboundSa::resume_after(config, *after).map(|sa| Built::Inbound(sa.aligned(self.align)))
            }
            Way::Outbound { next, reservation, .. } => {
                let reservation = reservation.clone();
                let config = OutboundConfig { spi, suite, keys: material, sequence, reservation };
                OutboundSa::resume_at(config, *next).map(|sa| Built::Outbound(sa.aligned(self.align)))
            }
        }
    }

    pub(crate) fn terms(&self) -> Terms {
        Terms {
            peer: self.peer.clone(),
            local: self.local.clone(),
            suite: self.keys.material.suite(),
            sequence: self.keys.sequence,
            align: self.align,
            anti_replay: match &self.way {
                Way::Inbound { anti_replay, .. } => Some(*anti_replay),
                Way::Outbound { .. } => None,
            },
        }
    }
}
