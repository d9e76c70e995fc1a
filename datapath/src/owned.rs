//! The SAs that a worker owns: numbers, windows and lifetimes, in plain memory with one writer.
//!
//! Built from each snapshot on adoption, and only from the chunks that changed. An SA that expires loses its keys at
//! once; its entry stays until the key manager removes it, so that drops can say why.

use std::sync::Arc;

use latchway_esp::{InboundSa, OutboundSa};
use latchway_tagging::{SaIndex, SaRef, WorkerId};

use crate::drop::DropReason;
use crate::flow::FlowKey;
use crate::lifetime::Lifetime;
use crate::sad::{Path, Role, Sad, SadEntry, Slot, Usage};
use crate::segment::SuperPacket;
use crate::time::Time;

/// One worker's SAs, by slot.
pub struct OwnedSas {
    worker: WorkerId,
    slots: Vec<Option<Owned>>,
    next_expiry: Option<Time>,
}

/// An SA in this worker's hands.
enum Owned {
    Inbound(OwnedInbound),
    Outbound(OwnedOutbound),
    /// Its lifetime is over and its keys are gone.
    Expired(Arc<SadEntry>),
}

/// An inbound SA in its worker's hands.
pub struct OwnedInbound {
    /// Its entry in the SAD.
    pub entry: Arc<SadEntry>,
    /// Key and window.
    pub sa: InboundSa,
    lifetime: Lifetime,
    usage: Usage,
}

/// An outbound SA in its worker's hands.
pub struct OwnedOutbound {
    /// Its entry in the SAD.
    pub entry: Arc<SadEntry>,
    /// Key and numbers.
    pub sa: OutboundSa,
    /// Where it sends.
    pub path: Path,
    /// The largest inner packet that fits the path after encapsulation.
    pub max_payload: usize,
    lifetime: Lifetime,
    usage: Usage,
}

/// The SA's lifetime is over, for the first time if `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The SA.
    pub sa: SaRef,
    /// Whether this is the first sign of it, so that it is told once.
    pub first: bool,
}

impl OwnedSas {
    /// A worker that owns nothing yet.
    #[must_use]
    pub const fn new(worker: WorkerId) -> Self {
        Self { worker, slots: Vec::new(), next_expiry: None }
    }

    /// Takes what `new` gives this worker and lets go of what it no longer holds.
    pub fn adopt(&mut self, old: &Sad, new: &Sad) {
        new.for_each_change(old, |index, slot| self.adopt_slot(index, slot));
        self.next_expiry = self.slots.iter().flatten().filter_map(Owned::expires_at).min();
    }

    /// The inbound SA of a slot.
    ///
    /// # Errors
    /// [`DropReason::NoSa`], [`DropReason::SaPending`] or [`DropReason::HardExpired`].
    #[inline]
    pub fn inbound(&mut self, index: Option<SaIndex>) -> Result<&mut OwnedInbound, DropReason> {
        let slot = index.and_then(|index| self.slots.get_mut(index.get()));
        match slot {
            Some(Some(Owned::Expired(_))) => Err(DropReason::HardExpired),
            Some(Some(Owned::Inbound(owned))) if owned.usage == Usage::Pending => Err(DropReason::SaPending),
            Some(Some(Owned::Inbound(owned))) => Ok(owned),
            _ => Err(DropReason::NoSa),
        }
    }

    /// The outbound SA that a reference means, if it is still that SA and still in force.
    #[inline]
    pub fn outbound(&mut self, sa: SaRef) -> Option<&mut OwnedOutbound> {
        match self.slots.get_mut(sa.index.get()) {
            Some(Some(Owned::Outbound(owned))) if owned.entry.sa == sa && owned.usage == Usage::Active => {
                Some(owned)
            }
            _ => None,
        }
    }

    /// Ends every SA whose time is over, packets or not, and calls `expired` for each once.
    pub fn expire(&mut self, now: Time, mut expired: impl FnMut(&SadEntry)) {
        if self.next_expiry.is_none_or(|moment| now < moment) {
            return;
        }
        for owned in self.slots.iter_mut().flatten() {
            if owned.lifetime().is_some_and(|lifetime| lifetime.is_past(now)) {
                if owned.entry().use_.expire() {
                    expired(owned.entry());
                }
                owned.bury();
            }
        }
        let pending = |owned: &Owned| owned.expires_at().filter(|&moment| moment > now);
        self.next_expiry = self.slots.iter().flatten().filter_map(pending).min();
    }

    /// Lets go of the keys of an SA whose lifetime is over.
    pub fn bury(&mut self, sa: SaRef) {
        if let Some(Some(owned)) = self.slots.get_mut(sa.index.get())
            && owned.entry().sa == sa
        {
            owned.bury();
        }
    }

    fn adopt_slot(&mut self, index: SaIndex, slot: Option<&Slot>) {
        if self.slots.len() <= index.get() {
            self.slots.resize_with(index.get() + 1, || None);
        }
        let Some(place) = self.slots.get_mut(index.get()) else { return };
        match (place.as_mut(), slot) {
            (Some(owned), Some(slot)) if owned.entry().sa == slot.entry.sa => owned.set_usage(slot.usage),
            (_, Some(slot)) if slot.entry.worker == self.worker => *place = Owned::take(slot),
            (_, _) => *place = None,
        }
    }
}

impl Owned {
    fn take(slot: &Slot) -> Option<Self> {
        let entry = Arc::clone(&slot.entry);
        let (lifetime, usage) = (Lifetime::new(entry.limits), slot.usage);
        match &slot.entry.role {
            Role::Inbound(sa) => {
                let sa = sa.take()?;
                Some(Self::Inbound(OwnedInbound { entry, sa, lifetime, usage }))
            }
            Role::Outbound { sa, path } => {
                let (sa, path) = (sa.take()?, *path);
                let max_payload = sa.suite().max_payload(path.room()).unwrap_or(0);
                Some(Self::Outbound(OwnedOutbound { entry, sa, path, max_payload, lifetime, usage }))
            }
        }
    }

    const fn entry(&self) -> &Arc<SadEntry> {
        match self {
            Self::Inbound(owned) => &owned.entry,
            Self::Outbound(owned) => &owned.entry,
            Self::Expired(entry) => entry,
        }
    }

    const fn lifetime(&self) -> Option<&Lifetime> {
        match self {
            Self::Inbound(owned) => Some(&owned.lifetime),
            Self::Outbound(owned) => Some(&owned.lifetime),
            Self::Expired(_) => None,
        }
    }

    fn expires_at(&self) -> Option<Time> {
        self.lifetime().and_then(Lifetime::expires_at)
    }

    const fn set_usage(&mut self, usage: Usage) {
        match self {
            Self::Inbound(owned) => owned.usage = usage,
            Self::Outbound(owned) => owned.usage = usage,
            Self::Expired(_) => {}
        }
    }

    fn bury(&mut self) {
        let entry = Arc::clone(self.entry());
        *self = Self::Expired(entry);
    }
}

impl OwnedInbound {
    /// The SA's own selectors must admit what it carried (RFC 4301 5.2).
    ///
    /// # Errors
    /// [`DropReason::SelectorMismatch`]
    #[inline]
    pub fn admit(&self, flow: &FlowKey) -> Result<(), DropReason> {
        if self.entry.admits(flow) { Ok(()) } else { Err(DropReason::SelectorMismatch) }
    }

    /// Charges one authenticated packet.
    ///
    /// # Errors
    /// [`Expired`] where the SA's lifetime is over.
    #[inline]
    pub fn charge(&mut self, octets: u64, now: Time) -> Result<(), Expired> {
        charge(&mut self.lifetime, &self.entry, 1, octets, now)
    }
}

impl OwnedOutbound {
    /// Charges every segment of a super-packet that is about to be sealed.
    ///
    /// # Errors
    /// [`Expired`] where the SA's lifetime is over.
    #[inline]
    pub fn charge_super_packet(&mut self, super_packet: &SuperPacket<'_>, now: Time) -> Result<(), Expired> {
        let (count, longest) = (super_packet.segment_count(), super_packet.max_segment_len());
        // Its headers once per segment, its payload once: the last segment may be shorter than the others.
        let headers = super_packet.packet().len() - super_packet.total_payload();
        let total = super_packet.total_payload() + headers * count;
        let last = total - longest * (count - 1);
        let suite = self.sa.suite();
        let octets = suite.encrypted_len(longest) * (count - 1) + suite.encrypted_len(last);
        charge(&mut self.lifetime, &self.entry, count as u64, octets as u64, now)
    }
}

#[inline]
fn charge(
    lifetime: &mut Lifetime,
    entry: &SadEntry,
    packets: u64,
    octets: u64,
    now: Time,
) -> Result<(), Expired> {
    if lifetime.charge(packets, octets, now).is_err() {
        return Err(Expired { sa: entry.sa, first: entry.use_.expire() });
    }
    entry.use_.packets.add(packets);
    entry.use_.octets.add(octets);
    Ok(())
}
