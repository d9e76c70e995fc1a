//! The SAs that a worker owns: numbers, windows and lifetimes, in plain memory with one writer.
//!
//! Built from each snapshot on adoption, and only from the chunks that changed. An SA that expires loses its keys at
//! once; its entry stays until the key manager removes it, so that drops can say why.

mod following;
mod upkeep;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use latchway_esp::{FreshSeq, InboundSa, OutboundSa, Protocol};
use latchway_tagging::{Mode, SaIndex, SaRef, WorkerId};

use crate::arrival::Carrier;
use crate::drop::{Direction, DropReason};
use crate::event::Event;
use crate::lifetime::{HardExpired, Lifetime};
use crate::native::HeaderSource;
use crate::outer::{Df, OuterPolicy};
use crate::packet::IpPacket;
use crate::sad::{Follow, Path, Peer, Role, Sad, SadEntry, Shape, Slot, Tfc, Usage};
use crate::time::Time;
use crate::wrapping::{Sealing, inner_header};

use self::upkeep::Upkeep;

/// One worker's SAs, by slot.
pub struct OwnedSas {
    worker: WorkerId,
    slots: Vec<Option<Owned>>,
    /// When a limit by time is next reached, or something is still to be told.
    next_look: Option<Time>,
    /// When an SA next sends something by itself.
    next_upkeep: Option<Time>,
}

/// An SA in this worker's hands.
enum Owned {
    Inbound(OwnedInbound),
    Outbound(OwnedOutbound),
    /// Its lifetime is over and its keys are gone.
    Expired {
        entry: Arc<SadEntry>,
        told: bool,
    },
}

/// An inbound SA in its worker's hands.
pub struct OwnedInbound {
    /// Its entry in the SAD.
    pub entry: Arc<SadEntry>,
    /// Key and window.
    pub sa: InboundSa,
    /// Who sends.
    pub from: Peer,
    /// What becomes of the outer header's fields.
    pub outer: OuterPolicy,
    /// From where its newest packet came, if that was followed.
    heard: Option<SocketAddr>,
    lifetime: Lifetime,
    soft_told: bool,
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
    /// What packets look like from outside.
    pub shape: Shape,
    /// Whether that is all the system's business: ESP through a tunnel in UDP. Such packets are sealed where they were
    /// written.
    pub plain: bool,
    /// The largest inner packet that fits the path after encapsulation, where that does not depend on the packet.
    pub max_payload: usize,
    /// Whether the TCP connections that begin through it are kept to segments that fit.
    pub(crate) clamp_mss: bool,
    /// When its peer was last found elsewhere.
    moved: Option<Time>,
    upkeep: Upkeep,
    lifetime: Lifetime,
    soft_told: bool,
    usage: Usage,
}

/// How soon what nobody heard is told again.
const RETRY: Duration = Duration::from_millis(100);

impl OwnedSas {
    /// A worker that owns nothing yet.
    #[must_use]
    pub const fn new(worker: WorkerId) -> Self {
        Self { worker, slots: Vec::new(), next_look: None, next_upkeep: None }
    }

    /// Takes what `new` gives this worker and lets go of what it no longer holds.
    pub fn adopt(&mut self, old: &Sad, new: &Sad) {
        new.for_each_change(old, |index, slot| self.adopt_slot(index, slot));
        self.next_look = self.next_look.into_iter().chain(self.next_moment()).min();
        self.plan_upkeep();
    }

    /// The inbound SA of a slot.
    ///
    /// # Errors
    /// [`DropReason::NoSa`], [`DropReason::SaPending`] or [`DropReason::HardExpired`].
    #[inline]
    pub fn inbound(&mut self, index: Option<SaIndex>) -> Result<&mut OwnedInbound, DropReason> {
        let slot = index.and_then(|index| self.slots.get_mut(index.get()));
        match slot {
            Some(Some(Owned::Expired { .. })) => Err(DropReason::HardExpired),
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

    /// What seals under the outbound SA that a reference means.
    ///
    /// # Errors
    /// [`DropReason::NoOutboundSa`] or [`DropReason::HardExpired`]
    #[inline]
    pub(crate) fn sealing<'s>(
        &'s mut self,
        sa: SaRef,
        source: &'s mut HeaderSource,
    ) -> Result<Sealing<'s>, DropReason> {
        let own = self.outbound(sa).ok_or(DropReason::NoOutboundSa)?;
        if !own.plain
            && let Some(other) = own.entry.nested
        {
            let [own, around] = self.bundle(sa, other)?;
            return Ok(Sealing { own, around: Some(around), source });
        }
        let own = self.outbound(sa).ok_or(DropReason::NoOutboundSa)?;
        Ok(Sealing { own, around: None, source })
    }

    /// An ESP SA and the AH SA that must go around it (RFC 4301 4.3). A bundle of which half is missing sends nothing.
    #[inline(never)]
    fn bundle(&mut self, own: SaRef, around: SaRef) -> Result<[&mut OwnedOutbound; 2], DropReason> {
        if let Some(Some(Owned::Expired { entry, .. })) = self.slots.get(around.index.get())
            && entry.sa == around
        {
            return Err(DropReason::HardExpired);
        }
        match self.slots.get_disjoint_mut([own.index.get(), around.index.get()]) {
            Ok([Some(Owned::Outbound(own)), Some(Owned::Outbound(other))])
                if other.entry.sa == around
                    && other.usage == Usage::Active
                    && other.entry.is_around(&own.entry) =>
            {
                Ok([own, other])
            }
            _ => Err(DropReason::NoOutboundSa),
        }
    }

    /// Ends every SA whose time is over, packets or not, and tells of each SA that reached a limit, once. `tell` returns
    /// whether it was heard; what was not is told again in a while.
    pub fn look(&mut self, now: Time, mut tell: impl FnMut(Event) -> bool) {
        if self.next_look.is_none_or(|moment| now < moment) {
            return;
        }
        let mut all_heard = true;
        for owned in self.slots.iter_mut().flatten() {
            all_heard &= owned.look(now, &mut tell);
        }
        let again = (!all_heard).then(|| now + RETRY);
        self.next_look = self.next_moment().into_iter().chain(again).min();
    }

    /// Makes the next [`look`](Self::look) see to every SA, since one reached a limit by what it carried.
    pub const fn look_soon(&mut self) {
        self.next_look = Some(Time::from_nanos(0));
    }

    /// Lets go of the keys of an SA whose lifetime is over.
    pub fn bury(&mut self, sa: SaRef) {
        if let Some(Some(owned)) = self.slots.get_mut(sa.index.get())
            && owned.entry().sa == sa
        {
            owned.bury();
            self.look_soon();
        }
    }

    /// The same, for what tells why.
    pub(crate) fn end(&mut self, sa: SaRef) -> DropReason {
        self.bury(sa);
        DropReason::HardExpired
    }

    fn next_moment(&self) -> Option<Time> {
        let moment = |owned: &Owned| owned.lifetime().and_then(Lifetime::next_moment);
        self.slots.iter().flatten().filter_map(moment).min()
    }

    fn adopt_slot(&mut self, index: SaIndex, slot: Option<&Slot>) {
        if self.slots.len() <= index.get() {
            self.slots.resize_with(index.get() + 1, || None);
        }
        let Some(place) = self.slots.get_mut(index.get()) else { return };
        match (place.as_mut(), slot) {
            (Some(owned), Some(slot)) if owned.entry().sa == slot.entry.sa => {
                let followed = owned.follows();
                owned.revise(slot);
                if followed && !owned.follows() {
                    self.come_back(slot.entry.partner);
                }
            }
            (_, Some(slot)) if slot.entry.worker == self.worker => *place = Owned::take(slot),
            (_, _) => *place = None,
        }
    }
}

impl Owned {
    fn take(slot: &Slot) -> Option<Self> {
        let entry = Arc::clone(&slot.entry);
        let (lifetime, usage) = (Lifetime::new(&entry.limits, entry.added), slot.usage);
        match &slot.entry.role {
            Role::Inbound { sa, from, outer } => {
                let (sa, from, outer) = (sa.take()?, *from, outer.clone());
                let (heard, soft_told) = (None, false);
                Some(Self::Inbound(OwnedInbound {
                    entry,
                    sa,
                    from,
                    outer,
                    heard,
                    lifetime,
                    soft_told,
                    usage,
                }))
            }
            Role::Outbound { sa, path, shape } => {
                let (sa, path, shape) = (sa.take()?, *path, shape.clone());
                let (moved, upkeep, soft_told) = (None, Upkeep::default(), false);
                let (plain, max_payload) = (false, 0);
                let mut owned = OwnedOutbound {
                    entry,
                    sa,
                    path,
                    shape,
                    plain,
                    max_payload,
                    clamp_mss: false,
                    moved,
                    upkeep,
                    lifetime,
                    soft_told,
                    usage,
                };
                owned.measure();
                Some(Self::Outbound(owned))
            }
        }
    }

    /// Takes over what is said of the SA now. Numbers, window and what it used stay.
    fn revise(&mut self, slot: &Slot) {
        self.set_usage(slot.usage);
        if Arc::ptr_eq(self.entry(), &slot.entry) {
            return;
        }
        match self {
            Self::Inbound(owned) => {
                owned.soft_told &= !revise_limits(&mut owned.lifetime, &owned.entry, &slot.entry);
                if let Role::Inbound { from, outer, .. } = &slot.entry.role {
                    (owned.from, owned.outer, owned.heard) = (*from, outer.clone(), None);
                }
                owned.entry = Arc::clone(&slot.entry);
            }
            Self::Outbound(owned) => {
                owned.soft_told &= !revise_limits(&mut owned.lifetime, &owned.entry, &slot.entry);
                owned.lead(&slot.entry);
                owned.entry = Arc::clone(&slot.entry);
                owned.measure();
            }
            Self::Expired { entry, .. } => *entry = Arc::clone(&slot.entry),
        }
    }

    fn follows(&self) -> bool {
        matches!(self, Self::Inbound(owned) if owned.from.follow == Follow::Follow)
    }

    const fn entry(&self) -> &Arc<SadEntry> {
        match self {
            Self::Inbound(owned) => &owned.entry,
            Self::Outbound(owned) => &owned.entry,
            Self::Expired { entry, .. } => entry,
        }
    }

    const fn lifetime(&self) -> Option<&Lifetime> {
        match self {
            Self::Inbound(owned) => Some(&owned.lifetime),
            Self::Outbound(owned) => Some(&owned.lifetime),
            Self::Expired { .. } => None,
        }
    }

    /// Tells of limits that are reached and were not told of. Returns whether nothing is left to tell.
    fn look(&mut self, now: Time, tell: &mut impl FnMut(Event) -> bool) -> bool {
        if self.lifetime().is_some_and(|lifetime| lifetime.is_past(now)) {
            self.bury();
        }
        let direction = if self.entry().is_inbound() { Direction::Inbound } else { Direction::Outbound };
        let (entry, lifetime, told) = match self {
            Self::Inbound(owned) => (&owned.entry, &mut owned.lifetime, &mut owned.soft_told),
            Self::Outbound(owned) => (&owned.entry, &mut owned.lifetime, &mut owned.soft_told),
            Self::Expired { entry, told } => {
                *told = *told || tell(Event::HardExpired { sa: entry.sa, direction });
                return *told;
            }
        };
        if !lifetime.reach_soft(now) || *told {
            return true;
        }
        entry.use_.expire_soft();
        *told = tell(Event::SoftExpired { sa: entry.sa, direction });
        *told
    }

    const fn set_usage(&mut self, usage: Usage) {
        match self {
            Self::Inbound(owned) => owned.usage = usage,
            Self::Outbound(owned) => owned.usage = usage,
            Self::Expired { .. } => {}
        }
    }

    fn bury(&mut self) {
        if let Self::Inbound(OwnedInbound { entry, .. }) | Self::Outbound(OwnedOutbound { entry, .. }) = self
        {
            entry.use_.expire();
            *self = Self::Expired { entry: Arc::clone(entry), told: false };
        }
    }
}

/// Returns whether the limits of a revised entry are others.
fn revise_limits(lifetime: &mut Lifetime, old: &SadEntry, revised: &SadEntry) -> bool {
    let others = old.limits != revised.limits;
    if others {
        lifetime.revise(&revised.limits, revised.added, revised.use_.first_used());
        revised.use_.renew();
    }
    others
}

impl OwnedInbound {
    /// In transport mode a packet's own ends are those of the SA (RFC 4301 4.1).
    ///
    /// # Errors
    /// [`DropReason::TransportEnds`]
    pub(crate) fn joins(&self, packet: &IpPacket<'_>) -> Result<(), DropReason> {
        let (local, remote) = (packet.flow().local().ip(), packet.flow().remote().ip());
        let ends = local == self.from.local.to_canonical()
            && (remote == self.from.address || self.may_come_from(remote));
        if ends { Ok(()) } else { Err(DropReason::TransportEnds) }
    }

    /// Whether the peer, known by another address, may be at this one: it may move, it may be anywhere, or the address is the
    /// same written otherwise.
    pub(crate) fn may_come_from(&self, address: IpAddr) -> bool {
        let Peer { address: known, follow, .. } = self.from;
        follow == Follow::Follow || known.is_unspecified() || address.to_canonical() == known.to_canonical()
    }

    /// Charges one authenticated packet. Returns whether the SA is to be looked at.
    ///
    /// # Errors
    /// [`HardExpired`]
    #[inline(always)]
    pub fn charge(&mut self, octets: u64, now: Time) -> Result<bool, HardExpired> {
        let soft = self.lifetime.charge(1, octets, now)?;
        self.entry.use_.charge(1, octets, now);
        Ok(soft)
    }
}

impl OwnedOutbound {
    /// Sends as a revised entry says from here on. What the path was found to be by itself stays where it is not revised.
    fn lead(&mut self, revised: &SadEntry) {
        let (Role::Outbound { path: old, .. }, Role::Outbound { path, shape, .. }) =
            (&self.entry.role, &revised.role)
        else {
            return;
        };
        self.shape = shape.clone();
        if old != path {
            self.path = *path;
        }
    }

    /// Works out how its packets are wrapped, and what fits.
    fn measure(&mut self) {
        let (tunnel, in_udp) = (self.entry.mode == Mode::Tunnel, self.path.carrier == Carrier::Udp);
        let alone = self.entry.protocol == Protocol::Esp && self.entry.nested.is_none();
        self.plain = tunnel && in_udp && alone && self.shape.tfc == Tfc::None;
        // Nobody on the way cuts what has an IPv6 header (RFC 8200 section 5).
        if self.path.to.is_ipv6() {
            self.shape.outer.df = Df::Set;
        }
        self.fit();
    }

    /// In transport mode a packet's own ends must be those of the SA (RFC 4301 4.1): its header is the outer one.
    ///
    /// # Errors
    /// [`DropReason::TransportEnds`]
    pub fn joins(&self, packet: &IpPacket<'_>) -> Result<(), DropReason> {
        let (local, remote) = (packet.flow().local().ip(), packet.flow().remote().ip());
        let ends = local == self.path.from.to_canonical() && remote == self.path.to.ip().to_canonical();
        if ends { Ok(()) } else { Err(DropReason::TransportEnds) }
    }

    /// Charges packets that are about to be sealed. Returns whether the SA is to be looked at.
    ///
    /// # Errors
    /// [`HardExpired`]
    #[inline]
    pub fn charge(&mut self, packets: u64, octets: u64, now: Time) -> Result<bool, HardExpired> {
        let soft = self.lifetime.charge(packets, octets, now)?;
        self.entry.use_.charge(packets, octets, now);
        Ok(soft)
    }

    /// Has `write` write an IP packet where its payload is in `packet`, and seals it there. Returns its length, and that of
    /// what it became.
    ///
    /// # Errors
    /// [`DropReason::NoBuffer`] or [`DropReason::BadOffload`]
    #[inline]
    pub(crate) fn seal_tunnel(
        &self,
        number: FreshSeq,
        packet: &mut [u8],
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<(usize, usize), DropReason> {
        let payload = packet.get_mut(self.sa.payload_offset()..).ok_or(DropReason::NoBuffer)?;
        let len = write(payload).ok_or(DropReason::BadOffload)?;
        if self.clamp_mss {
            self.keep_short(payload.get_mut(..len));
        }
        let next_header = inner_header(payload);
        let sealed = self.sa.seal(number, next_header, packet, len).map_err(|_| DropReason::NoBuffer)?;
        Ok((len, sealed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifetime::{Bounds, Limits};
    use crate::testing::{SaOptions, inbound_entry, outbound_entry};

    /// A worker's SAs of one second's soft and two seconds' hard lifetime, one of each direction.
    fn adopted() -> (OwnedSas, Sad) {
        let time = |seconds| Bounds { time: Some(Duration::from_secs(seconds)), ..Bounds::default() };
        let limits = Limits::new(time(1), time(2)).unwrap();
        let mut sad = Sad::default();
        let options = |index| SaOptions { limits, ..SaOptions::new(0x1001 + index, index) };
        sad.insert(outbound_entry(1, 2, &options(0)).unwrap(), Usage::Active).unwrap();
        sad.insert(inbound_entry(1, 2, &options(1)).unwrap(), Usage::Active).unwrap();
        let mut sas = OwnedSas::new(WorkerId(0));
        sas.adopt(&Sad::default(), &sad);
        (sas, sad)
    }

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn told(sas: &mut OwnedSas, now: Time, heard: bool) -> Vec<Event> {
        let mut events = Vec::new();
        sas.look(now, |event| {
            events.push(event);
            heard
        });
        events
    }

    /// T36: each fires once, also where nothing is sent, and shows in the entry.
    #[test]
    fn t36_an_idle_sa_reaches_both_limits_by_time_once_each() {
        let (mut sas, sad) = adopted();
        assert_eq!(told(&mut sas, at(999), true), []);
        let soft = told(&mut sas, at(1000), true);
        assert!(matches!(soft[..], [Event::SoftExpired { .. }, Event::SoftExpired { .. }]), "{soft:?}");
        assert!(sad.iter().all(|slot| slot.entry.use_.is_soft_expired() && !slot.entry.use_.is_expired()));
        assert_eq!(told(&mut sas, at(1999), true), []);
        let hard = told(&mut sas, at(2000), true);
        assert!(matches!(hard[..], [Event::HardExpired { .. }, Event::HardExpired { .. }]), "{hard:?}");
        assert!(sad.iter().all(|slot| slot.entry.use_.is_expired()));
        assert_eq!(told(&mut sas, at(9000), true), []);
    }

    /// T36: what a full queue lost is told again in a while, and not once it was heard.
    #[test]
    fn t36_what_nobody_heard_is_told_again() {
        let (mut sas, _sad) = adopted();
        assert_eq!(told(&mut sas, at(1000), false).len(), 2);
        assert_eq!(told(&mut sas, at(1099), false), [], "not with every batch");
        assert_eq!(told(&mut sas, at(1100), false).len(), 2);
        assert_eq!(told(&mut sas, at(1200), true).len(), 2);
        assert_eq!(told(&mut sas, at(1900), true), []);
        assert_eq!(told(&mut sas, at(2000), false).len(), 2);
        assert_eq!(told(&mut sas, at(2100), true).len(), 2);
        assert_eq!(told(&mut sas, at(2200), true), []);
    }

    /// T36: the first packet sets the moments, whichever batch it is in, and an unused SA lasts.
    #[test]
    fn t36_time_since_first_use_ends_an_sa_that_falls_idle_again() {
        let used =
            |seconds| Bounds { since_first_use: Some(Duration::from_secs(seconds)), ..Bounds::default() };
        let limits = Limits::new(used(1), used(2)).unwrap();
        let mut sad = Sad::default();
        let options = SaOptions { limits, ..SaOptions::new(0x1001, 0) };
        sad.insert(outbound_entry(1, 2, &options).unwrap(), Usage::Active).unwrap();
        let mut sas = OwnedSas::new(WorkerId(0));
        sas.adopt(&Sad::default(), &sad);
        assert_eq!(told(&mut sas, at(60_000), true), [], "never used");
        let sa = sad.iter().next().unwrap().entry.sa;
        assert!(sas.outbound(sa).unwrap().charge(1, 100, at(60_000)).unwrap(), "to be looked at");
        sas.look_soon();
        assert_eq!(told(&mut sas, at(60_000), true), []);
        assert!(matches!(told(&mut sas, at(61_000), true)[..], [Event::SoftExpired { .. }]));
        assert!(matches!(told(&mut sas, at(62_000), true)[..], [Event::HardExpired { .. }]));
        assert_eq!(sad.iter().next().unwrap().entry.use_.first_used(), Some(at(60_000)));
    }

    /// A change of other SAs forgets nothing that is still to be told.
    #[test]
    fn t36_what_nobody_heard_survives_the_next_snapshot() {
        let (mut sas, sad) = adopted();
        assert_eq!(told(&mut sas, at(2000), false).len(), 2);
        let mut next = sad.clone();
        next.insert(outbound_entry(1, 2, &SaOptions::new(0x2000, 2)).unwrap(), Usage::Active).unwrap();
        sas.adopt(&sad, &next);
        assert_eq!(told(&mut sas, at(2100), true).len(), 2);
    }
}
