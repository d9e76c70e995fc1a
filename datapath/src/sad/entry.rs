//! One SA as the SAD holds it (RFC 4301 section 4.4.2.1), and what its worker and others tell each other by it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use latchway_esp::{InboundSa, OutboundSa, Protocol, Spi};
use latchway_tagging::{ClassId, Mode, SaRef, WorkerId};

use crate::arrival::Carrier;
use crate::drop::{Counter, Direction, DropReason};
use crate::lifetime::Limits;
use crate::outer::{Df, OuterPolicy};
use crate::packet::IpPacket;
use crate::pmtu::{Discovery, PathMtu, Sizing};
use crate::sad::path::{Path, Peer, Shape};
use crate::selector::Selector;
use crate::spd::{Action, Protection, Reqid, Spd, Template};
use crate::time::Time;
use crate::traffic::Traffic;

/// One SA, one direction. A clone is the same SA, so that it can be revised: both share what it carries and is made of.
#[derive(Clone, Debug)]
pub struct SadEntry {
    /// Its slot and generation.
    pub sa: SaRef,
    /// Its SPI.
    pub spi: Spi,
    /// ESP or AH, each with a space of SPIs of its own (RFC 4301 4.1).
    pub protocol: Protocol,
    /// Tunnel or transport (RFC 4301 4.1).
    pub mode: Mode,
    /// The congruence class of the pair it belongs to.
    pub class: ClassId,
    /// The inner flows it may carry; any one suffices (RFC 4301 4.4.2.1).
    pub selectors: Box<[Selector]>,
    /// What an inner packet has to meet besides the selectors.
    pub scope: Scope,
    /// The rules it serves.
    pub reqid: Reqid,
    /// The one worker that owns it.
    pub worker: WorkerId,
    /// Its soft and hard lifetime.
    pub limits: Limits,
    /// When it was added, from which its lifetime by time counts.
    pub added: Time,
    /// The SA of the other direction.
    pub partner: Option<SaRef>,
    /// The other SA of a bundle (RFC 4301 4.3), in the same direction: of an ESP SA, the AH SA that goes around it; of an
    /// AH SA, the ESP SA that must be within it. What comes with one of them alone is dropped.
    pub nested: Option<SaRef>,
    /// Its direction, and what only that direction has.
    pub role: Role,
    /// What it carried so far.
    pub use_: Arc<SaUse>,
}

/// What an inner packet has to meet besides the SA's selectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Nothing: the SA was negotiated for these selectors.
    #[default]
    Selectors,
    /// A PROTECT rule that this SA serves, as policy says of it now (RFC 4301 5.2).
    Policy,
}

/// The direction of an SA. The cryptographic state is handed over to the owning worker once.
#[derive(Clone, Debug)]
pub enum Role {
    /// Protects what we receive.
    Inbound {
        /// Window and key.
        sa: Handover<InboundSa>,
        /// Who sends, and how it comes.
        from: Peer,
        /// What becomes of the outer header's fields.
        outer: OuterPolicy,
    },
    /// Protects what we send.
    Outbound {
        /// Numbers and key.
        sa: Handover<OutboundSa>,
        /// Where protected packets go.
        path: Path,
        /// What they look like from outside.
        shape: Shape,
    },
}

/// What an SA carried, written by its worker and read by status output.
#[derive(Debug, Default)]
pub struct SaUse {
    /// Inner packets.
    pub packets: Counter,
    /// Octets that the cipher was applied to.
    pub octets: Counter,
    first_used: AtomicU64,
    last_used: AtomicU64,
    soft_expired: AtomicBool,
    expired: AtomicBool,
    /// 0 where nothing is known; else the path MTU in force, and above it whether it is in doubt.
    path_mtu: AtomicU32,
}

/// Something that is given away once, from the key manager to the worker that will own it. Clones share it.
pub struct Handover<T>(Arc<Mutex<Option<T>>>);

impl SadEntry {
    /// Whether the SA may carry the traffic (RFC 4301 5.2).
    #[inline]
    #[must_use]
    pub fn admits(&self, traffic: &Traffic) -> bool {
        match &self.selectors[..] {
            // Most have one, and a loop prepares for many.
            [one] => one.admits(traffic),
            many => many.iter().any(|selector| selector.admits(traffic)),
        }
    }

    /// How its packets travel.
    #[must_use]
    pub const fn carrier(&self) -> Carrier {
        match &self.role {
            Role::Inbound { from, .. } => from.carrier,
            Role::Outbound { path, .. } => path.carrier,
        }
    }

    /// Whether this SA and `within` are a bundle (RFC 4301 4.3): AH directly around ESP, so in transport mode.
    #[must_use]
    pub fn is_around(&self, within: &Self) -> bool {
        self.protocol == Protocol::Ah
            && within.protocol == Protocol::Esp
            && self.mode == Mode::Transport
            && within.nested == Some(self.sa)
    }

    /// Whether it carries nothing alone: it is what goes around another.
    #[must_use]
    pub fn is_for_another(&self) -> bool {
        self.protocol == Protocol::Ah && self.nested.is_some()
    }

    /// Whether it serves a PROTECT rule: by its reqid and by what it is.
    #[must_use]
    pub fn serves(&self, protection: &Protection) -> bool {
        let Protection { reqid, template, .. } = protection;
        reqid.is_none_or(|reqid| reqid == self.reqid) && template.is_none_or(|template| self.meets(&template))
    }

    /// Whether it is what a template asks for. Ends matter in tunnel mode; in transport mode they are the packet's own. Which
    /// AH goes around is settled where the bundle is made.
    fn meets(&self, template: &Template) -> bool {
        let Template { ends, protocol, mode, around } = *template;
        let (ours, theirs) = match &self.role {
            Role::Inbound { from, .. } => (from.local, from.address),
            Role::Outbound { path, .. } => (path.from, path.to.ip()),
        };
        protocol.is_none_or(|protocol| protocol == self.protocol)
            && mode.is_none_or(|mode| mode == self.mode)
            && (self.mode == Mode::Transport || ends.is_none_or(|ends| ends == (ours, theirs)))
            && (around.is_none() || self.nested.is_some())
    }

    /// Whether policy lets the SA bring this packet (RFC 4301 5.2): its selectors do, and where that is its scope, a rule
    /// that it serves.
    ///
    /// # Errors
    /// [`DropReason::SelectorMismatch`], [`DropReason::PolicyMismatch`], [`DropReason::PolicyDiscard`] or
    /// [`DropReason::NoPolicy`].
    #[inline]
    pub fn may_bring(&self, packet: &IpPacket<'_>, spd: &Spd) -> Result<(), DropReason> {
        if !self.admits_packet(packet) {
            return Err(DropReason::SelectorMismatch);
        }
        match self.scope {
            Scope::Selectors => Ok(()),
            Scope::Policy => self.is_as_policy_says(spd.action_on(packet, Direction::Inbound)),
        }
    }

    fn is_as_policy_says(&self, action: Option<Action>) -> Result<(), DropReason> {
        match action {
            Some(Action::Protect(protection)) if self.serves(&protection) => Ok(()),
            Some(Action::Protect(_) | Action::Bypass) => Err(DropReason::PolicyMismatch),
            Some(Action::Discard) => Err(DropReason::PolicyDiscard),
            None => Err(DropReason::NoPolicy),
        }
    }

    /// Whether this is a revision of `other`: the same SA in the same hands, whatever else is said of it.
    #[must_use]
    pub fn revises(&self, other: &Self) -> bool {
        let same_state = match (&self.role, &other.role) {
            (Role::Inbound { sa, .. }, Role::Inbound { sa: other, .. }) => sa.is(other),
            (Role::Outbound { sa, .. }, Role::Outbound { sa: other, .. }) => sa.is(other),
            _ => false,
        };
        let names = |entry: &Self| (entry.sa, entry.spi, entry.protocol, entry.mode, entry.worker);
        same_state && names(self) == names(other) && Arc::ptr_eq(&self.use_, &other.use_)
    }

    /// The largest outer packet that an outbound SA sends now: what its path was found to take, or is configured to.
    #[must_use]
    pub fn mtu(&self) -> Option<PathMtu> {
        match &self.role {
            Role::Inbound { .. } => None,
            Role::Outbound { path, .. } => {
                let configured = PathMtu { in_force: path.mtu, suspected: false };
                Some(self.use_.path_mtu().unwrap_or(configured))
            }
        }
    }

    /// Whether the SA protects what we receive.
    #[must_use]
    pub const fn is_inbound(&self) -> bool {
        matches!(self.role, Role::Inbound { .. })
    }
}

impl Role {
    /// What makes the SA ask for what its path takes.
    #[must_use]
    pub fn discovery(&self) -> Discovery {
        match self {
            Self::Inbound { .. } => Discovery::Off,
            // What may be cut on its way arrives, whatever the path takes.
            Self::Outbound { path, shape, .. } if path.to.is_ipv4() && shape.outer.df == Df::Clear => {
                Discovery::Off
            }
            Self::Outbound { shape, .. } => shape.sizing.pmtu.discovery,
        }
    }

    /// Whether all packets of an outbound SA may be cut once they are sealed.
    #[must_use]
    pub fn lets_be_cut(&self) -> bool {
        matches!(self, Self::Outbound { shape, .. } if shape.outer.df == Df::Clear)
    }

    /// How an outbound SA makes packets fit.
    #[must_use]
    pub fn sizing(&self) -> Sizing {
        match self {
            Self::Inbound { .. } => Sizing::default(),
            Self::Outbound { shape, .. } => shape.sizing,
        }
    }
}

impl SaUse {
    /// When it carried its first packet: the time of that packet's batch. `None` where it never did.
    #[must_use]
    pub fn first_used(&self) -> Option<Time> {
        (self.packets.get() > 0).then(|| Time::from_nanos(self.first_used.load(Ordering::Relaxed)))
    }

    /// When it carried a packet last: the time of that packet's batch. `None` where it never did.
    #[must_use]
    pub fn last_used(&self) -> Option<Time> {
        (self.packets.get() > 0).then(|| Time::from_nanos(self.last_used.load(Ordering::Relaxed)))
    }

    /// Whether the soft limit is reached, so that a successor is wanted.
    #[must_use]
    pub fn is_soft_expired(&self) -> bool {
        self.soft_expired.load(Ordering::Relaxed)
    }

    /// Whether the hard lifetime is over.
    #[inline]
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// What the SA found its path to take; `None` where that is what it is configured to take, as far as is known.
    #[must_use]
    pub fn path_mtu(&self) -> Option<PathMtu> {
        let [suspected, _, high, low] = self.path_mtu.load(Ordering::Relaxed).to_be_bytes();
        let in_force = u16::from_be_bytes([high, low]);
        (in_force > 0).then_some(PathMtu { in_force, suspected: suspected > 0 })
    }

    /// Shows what was found. Only the owning worker calls this, as it does the next.
    pub(crate) fn learn_path_mtu(&self, PathMtu { in_force, suspected }: PathMtu) {
        let [high, low] = in_force.to_be_bytes();
        self.path_mtu.store(u32::from_be_bytes([suspected.into(), 0, high, low]), Ordering::Relaxed);
    }

    /// Shows that nothing is known any more.
    pub(crate) fn forget_path_mtu(&self) {
        self.path_mtu.store(0, Ordering::Relaxed);
    }

    /// Counts what was charged. Only the owning worker calls this, as it does the two below.
    #[inline]
    pub(crate) fn charge(&self, packets: u64, octets: u64, now: Time) {
        if self.packets.get() == 0 {
            self.first_used.store(now.as_nanos(), Ordering::Relaxed);
        }
        self.last_used.store(now.as_nanos(), Ordering::Relaxed);
        self.packets.add(packets);
        self.octets.add(octets);
    }

    /// Marks the soft limit as reached.
    pub(crate) fn expire_soft(&self) {
        self.soft_expired.store(true, Ordering::Relaxed);
    }

    /// The soft limit is another, and not reached as far as is known.
    pub(crate) fn renew(&self) {
        self.soft_expired.store(false, Ordering::Relaxed);
    }

    /// Marks the hard lifetime as over.
    pub(crate) fn expire(&self) {
        self.expired.store(true, Ordering::Relaxed);
    }
}

impl<T> Handover<T> {
    /// Holds `value` until someone takes it.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(Some(value))))
    }

    /// Whether both hold the same.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Gives the value away, once.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Clone for Handover<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Handover<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handover(..)")
    }
}
