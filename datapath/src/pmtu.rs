//! The path MTU of an outbound SA (RFC 4301 section 8.2): what its path is configured to take is the most it is believed
//! to, and less only what was proven through the tunnel itself.
//!
//! An ICMP error is a hint that anybody may have written. It makes the gateway ask, with packets of the sizes in question,
//! and what the peer's SAs authenticate in answer decides (T18).

mod search;
mod tracked;

use std::net::IpAddr;

use latchway_esp::{Protocol, SeqLow, Spi};
use latchway_tagging::{ClassId, Demand, OutboundTag, SaRef};

use crate::drop::Direction;
use crate::event::Event;
use crate::fitting::Fitting;
use crate::flow::{FlowKey, protocol};
use crate::gateway::Datapath;
use crate::owned::{OwnedOutbound, OwnedSas};
use crate::packet::IpPacket;
use crate::probe::{Probe, Secrets};
use crate::sad::{Role, Sad, Tfc};
use crate::send_batch::SendBatch;
use crate::spd::Action;
use crate::spending::Packets;
use crate::traffic::Traffic;
use crate::ulp::Ulp;

use self::search::Step;
use self::tracked::Tracked;

pub(crate) use self::tracked::Paths;

/// What an ICMP error says of a packet that the gateway sent: anybody may have written it (RFC 4301 section 8.2.1, T18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The SPI in the packet that the error encloses.
    pub spi: Spi,
    /// Its protocol.
    pub protocol: Protocol,
    /// The sequence number in it, where the error encloses so much.
    pub low_seq: Option<SeqLow>,
    /// The largest outer IP packet that is said to pass; 0 where it is not said (RFC 1191 section 5).
    pub claimed: u16,
    /// Who says so.
    pub reporter: IpAddr,
}

/// How an outbound SA makes packets fit its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizing {
    /// How it learns what the path takes.
    pub pmtu: Pmtu,
    /// Where packets that are too long are cut.
    pub fragment: Fragment,
    /// Whether TCP connections through it are kept to segments that fit.
    pub clamp_mss: bool,
}

/// How an SA learns what its path takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pmtu {
    /// What makes it ask.
    pub discovery: Discovery,
    /// The octets of inner packet for which it keeps room, whatever it learns.
    pub floor: u16,
    /// Between whom it asks; `None` is between inner hosts that were heard of lately.
    pub probe: Option<ProbeEnds>,
}

/// The inner ends of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeEnds {
    /// In whose name the gateway asks: an address on our side that the SA's selectors admit. What is answered to it is
    /// taken by the gateway.
    pub from: IpAddr,
    /// Who answers: an address on the peer's side.
    pub to: IpAddr,
}

/// What an SA found its path to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// The largest outer IP packet that it sends.
    pub in_force: u16,
    /// Whether that is in doubt: it was said to be too much, and nobody at the other end has answered what would prove or
    /// disprove it.
    pub suspected: bool,
}

/// What makes an SA ask for what its path takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// Nothing: the configured MTU stands.
    Off,
    /// ICMP errors about its packets.
    #[default]
    Hints,
    /// Besides, the passage of time (RFC 8899 section 4).
    Probes,
}

/// Where packets are cut that do not fit and may be cut (RFC 4301 section 8.2.1 case 2, RFC 4303 section 3.3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// Before they are sealed: each fragment is a packet of the SA.
    #[default]
    Before,
    /// Sealed whole, the outer packet is cut.
    After,
}

impl Default for Pmtu {
    fn default() -> Self {
        Self { discovery: Discovery::default(), floor: LEAST_INNER, probe: None }
    }
}

impl<U: Ulp> Datapath<U> {
    /// Takes note of an ICMP error about a packet of the gateway's. By itself it changes nothing: it has the path asked, if
    /// what it says could be (T18).
    pub fn hint_mtu(&mut self, hint: Hint) {
        self.counters.mtu_hints.add(1);
        let mut paths = std::mem::take(&mut self.paths);
        for sa in paths.index.candidates(&hint, &self.snapshot, self.now) {
            let Some(owned) = self.sas.outbound(sa) else { continue };
            // The SAs of a bundle count for themselves.
            let low = hint.low_seq.filter(|_| owned.entry.protocol == hint.protocol);
            if !owned.has_sent(low) || owned.entry.role.discovery() == Discovery::Off {
                continue;
            }
            // RFC 1191 section 5: a router that is older than that document does not say how much it takes.
            let names_none = hint.claimed == 0 && hint.reporter.is_ipv4();
            let claimed = if names_none { self.sas.floor(sa).unwrap_or(0) } else { hint.claimed };
            if let Some(tracked) = paths.track(&mut self.sas, sa, (claimed, self.now)) {
                tracked.search.hint(claimed, self.now);
            }
        }
        self.paths = paths;
        self.settle();
    }

    /// Asks what is to be asked by now (RFC 8899 section 5). Returns whether there was anything to send.
    #[inline]
    pub fn probe(&mut self, batch: &mut SendBatch) -> bool {
        self.paths.next.is_some_and(|next| self.now >= next) && self.probe_all(batch)
    }

    /// Whether an authenticated packet says that a probe arrived, and so is the gateway's own.
    #[inline]
    pub(crate) fn is_probe_answer(&mut self, packet: &IpPacket<'_>, class: ClassId) -> bool {
        self.paths.attends() && self.hear(packet, class)
    }

    /// Looks at a packet that is about to leave by an SA, where nobody is known who could be asked.
    #[inline]
    pub(crate) fn show_leaving(&mut self, packet: &IpPacket<'_>, sa: SaRef) {
        if self.paths.seeks(sa) {
            self.paths.see(packet, sa, self.now);
        }
    }

    /// Takes over what the new SAs are, after the worker did.
    pub(crate) fn adopt_paths(&mut self, old: &Sad) {
        let mut paths = std::mem::take(&mut self.paths);
        paths.adopt(&mut self.sas, (old, &self.snapshot.sad), self.now);
        self.paths = paths;
        self.settle();
    }

    #[cold]
    fn hear(&mut self, packet: &IpPacket<'_>, class: ClassId) -> bool {
        let heard = self.paths.hear(packet, class, self.now);
        if heard {
            self.counters.mtu_probes_answered.add(1);
            self.settle();
        }
        heard
    }

    #[cold]
    fn probe_all(&mut self, batch: &mut SendBatch) -> bool {
        let mut paths = std::mem::take(&mut self.paths);
        let (mut any, secrets) = (false, &mut paths.secrets);
        for tracked in &mut paths.all {
            let Step::Ask { size, also } = tracked.search.step(self.now) else {
                tracked.try_others();
                continue;
            };
            let mut asked = false;
            for size in [Some(size), also].into_iter().flatten() {
                asked |= self.ask(tracked, size, secrets, batch).is_some();
            }
            if !asked {
                tracked.search.unable(self.now);
            }
            any |= asked;
        }
        paths.all.retain_mut(|tracked| !tracked.search.is_forgettable(self.now));
        self.paths = paths;
        self.settle();
        any
    }

    /// Sends one probe, as the SA and policy have it.
    fn ask(
        &mut self,
        tracked: &mut Tracked,
        size: u16,
        secrets: &mut Secrets,
        batch: &mut SendBatch,
    ) -> Option<()> {
        let ends = tracked.ends?;
        let traffic = request_between(&ends);
        if !self.sas.outbound(tracked.sa)?.entry.admits(&traffic) {
            tracked.forget_ends();
            return None;
        }
        let fitting = self.sas.fitting(tracked.sa)?;
        let front = fitting.usual_front();
        let inner = fitting.max_inner(size.into(), front);
        let octets = u16::try_from(fitting.outer_len(inner, front)).ok()?;
        let action = self.snapshot.spd.action(&traffic, Direction::Outbound);
        if !matches!(action, Some(Action::Protect(_))) {
            return None;
        }
        let probe = Probe::new(ends, (size, octets), secrets);
        let mut scratch = std::mem::take(&mut self.scratch);
        let written = probe.write(inner, &mut scratch).and_then(|len| scratch.get(..len));
        let sealed = written.and_then(|packet| self.seal_probe(tracked, packet, batch));
        self.scratch = scratch;
        sealed?;
        tracked.remember(probe, self.now);
        self.counters.mtu_probes.add(1);
        Some(())
    }

    /// Seals a probe, which may be longer than what is in force.
    fn seal_probe(&mut self, tracked: &Tracked, packet: &[u8], batch: &mut SendBatch) -> Option<()> {
        let packet = IpPacket::parse(packet, Direction::Outbound).ok()?;
        let (sa, octets) = (tracked.sa, packet.octets());
        let sealing = self.sas.sealing(sa, &mut self.headers).ok()?;
        let mut wrapping = sealing.wrap(&packet, octets.len()).ok()?;
        // Neither padded to what is in force, nor cut to pass all the same.
        wrapping.most = octets.len();
        wrapping.let_be_cut(false);
        sealing.make_room(&mut wrapping, octets.len());
        if !batch.has_room_for(1, wrapping.room) {
            return None;
        }
        let tag = OutboundTag { demand: Demand::Class(tracked.class()), ..OutboundTag::default() };
        let mut numbers = self.spend(&wrapping, Packets::one(octets.len()), (packet.flow(), tag)).ok()?;
        let number = numbers.next_number()?;
        let mut sealing = self.sas.sealing(sa, &mut self.headers).ok()?;
        let write = |payload: &mut [u8]| {
            payload.get_mut(..octets.len())?.copy_from_slice(octets);
            Some(octets.len())
        };
        // A short one that left in a run with a long one would be lost with it.
        batch.end_run();
        let sealed = sealing.seal_into(batch, number, &wrapping, write);
        batch.end_run();
        sealed.ok()?;
        Some(())
    }

    /// Puts in force what was found, and tells of it.
    fn settle(&mut self) {
        let mut paths = std::mem::take(&mut self.paths);
        for tracked in &mut paths.all {
            let Some(found) = tracked.news() else { continue };
            let Some(owned) = self.sas.outbound(tracked.sa) else { continue };
            owned.set_mtu(found);
            tracked.told = Some(found);
            let PathMtu { in_force: mtu, suspected } = found;
            self.tell(Event::PathMtu { sa: tracked.sa, mtu, suspected });
        }
        paths.plan(self.now);
        self.paths = paths;
    }
}

impl OwnedSas {
    /// How long an SA's packets become, AH around them included where there is one (RFC 4301 section 4.3).
    pub(crate) fn fitting(&mut self, sa: SaRef) -> Option<Fitting> {
        let owned = self.outbound(sa)?;
        let (fitting, v6) = (owned.fitting(), owned.path.to.is_ipv6());
        let around = owned.entry.nested.filter(|_| owned.entry.protocol == Protocol::Esp);
        match around {
            Some(around) => Some(fitting.behind(self.outbound(around)?.sa.ah_len(v6))),
            None => Some(fitting),
        }
    }

    /// The longest inner packet that fits what an SA's path takes, where its own header has no options.
    pub(crate) fn longest_inner(&mut self, sa: SaRef) -> Option<usize> {
        let (fitting, mtu) = (self.fitting(sa)?, self.outbound(sa)?.path.mtu);
        Some(fitting.max_inner(mtu.into(), fitting.usual_front()))
    }

    /// The size of outer packet below which an SA believes nothing: room for so many octets of inner packet.
    fn floor(&mut self, sa: SaRef) -> Option<u16> {
        let (fitting, inner) = (self.fitting(sa)?, self.outbound(sa)?.sizing().pmtu.floor);
        let floor = fitting.outer_len(inner.into(), fitting.usual_front());
        Some(u16::try_from(floor).unwrap_or(u16::MAX))
    }
}

impl OwnedOutbound {
    /// How it makes packets fit.
    #[must_use]
    pub fn sizing(&self) -> Sizing {
        self.entry.role.sizing()
    }

    /// How long its packets become.
    #[must_use]
    pub fn fitting(&self) -> Fitting {
        let tfc = match &self.entry.role {
            Role::Outbound { shape, .. } => shape.tfc,
            Role::Inbound { .. } => Tfc::None,
        };
        let fitting = Fitting::new(self.sa.suite(), self.entry.mode, &self.path).hiding(tfc);
        match self.entry.protocol {
            Protocol::Esp => fitting,
            Protocol::Ah => fitting.behind(self.sa.ah_len(self.path.to.is_ipv6())),
        }
    }

    /// Keeps its packets to what was found, and shows it.
    fn set_mtu(&mut self, found: PathMtu) {
        self.path.mtu = found.in_force;
        self.entry.use_.learn_path_mtu(found);
        self.fit();
    }

    /// Keeps its packets to what its path is configured to take: nothing else is known.
    fn forget_mtu(&mut self) {
        if let Role::Outbound { path, .. } = &self.entry.role {
            self.path.mtu = path.mtu;
        }
        self.entry.use_.forget_path_mtu();
        self.fit();
    }

    /// Keeps its packets to what its path takes.
    pub(crate) fn fit(&mut self) {
        let fitting = self.fitting();
        self.max_payload = fitting.max_inner(self.path.mtu.into(), fitting.usual_front());
        self.clamp_mss = self.sizing().clamp_mss;
    }

    /// Whether it sent a packet of this number lately; where no number is known, whether it sent any.
    fn has_sent(&self, low: Option<SeqLow>) -> bool {
        let taken = self.sa.counter().taken();
        let age = low.map_or(0, |SeqLow(low)| taken.low().0.wrapping_sub(low));
        age <= LATELY && u64::from(age) < taken.0
    }
}

/// What selectors and policy see of a probe: an echo request.
fn request_between(ends: &ProbeEnds) -> Traffic {
    let protocol = if ends.from.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
    Traffic::of(&FlowKey::new(protocol, (ends.from, 0).into(), (ends.to, 0).into()))
}

/// What every IPv6 link takes (RFC 8200 section 5).
pub const LEAST_INNER: u16 = 1280;

/// Packets that may have left since the one that an error speaks of: what a fast SA sends in a second or so.
const LATELY: u32 = 1 << 20;

#[cfg(test)]
mod tests;
