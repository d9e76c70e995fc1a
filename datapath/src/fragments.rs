//! Which flow a later fragment belongs to: remembered from its first fragment, for a while, in fixed memory.
//!
//! Selectors and latches speak of ports, and only the first fragment has them (RFC 4301 section 7). A later fragment
//! whose first was not seen is dropped. The inner host reassembles by addresses, protocol and identification alone, so
//! an identification belongs to the class that used it first for as long as the host may be reassembling: fragments
//! under another SA, or under none, never join a datagram that they are not of (T20).

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::RandomState;
use latchway_tagging::ClassId;

use crate::drop::DropReason;
use crate::flow::FlowKey;
use crate::packet::{FragmentId, IpPacket, Upper};
use crate::time::Time;
use crate::traffic::Traffic;

/// Remembers the flows of datagrams whose fragments are passing.
#[derive(Debug)]
pub struct FragmentFlows {
    seen: Box<[Option<Seen>]>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    datagram: Datagram,
    class: Option<ClassId>,
    traffic: Traffic,
    at: Time,
}

/// What a host reassembles by: addresses and protocol (as a flow without ports), and identification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Datagram {
    portless: FlowKey,
    id: FragmentId,
}

/// Datagrams remembered at a time. When two fall on one place, the later takes it if it is of the same class, and is
/// refused if it is not.
const PLACES: usize = 8192;

/// How long fragments may trail their first: as long as a host may be reassembling (RFC 8200 4.5).
const TRAIL: Duration = Duration::from_secs(60);

impl FragmentFlows {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { seen: vec![None; PLACES].into_boxed_slice(), hasher: RandomState::default() }
    }

    /// The packet with its flow known, if `admit` lets it pass: for a later fragment the flow comes from memory,
    /// and a first one is remembered only once it is admitted.
    ///
    /// # Errors
    /// What `admit` says; [`DropReason::FragmentUnresolved`] where the first fragment was not seen;
    /// [`DropReason::FragmentConflict`] where another class holds the identification.
    #[inline]
    pub fn resolve<'p>(
        &mut self,
        packet: IpPacket<'p>,
        class: Option<ClassId>,
        now: Time,
        admit: impl FnOnce(&IpPacket<'p>) -> Result<(), DropReason>,
    ) -> Result<IpPacket<'p>, DropReason> {
        let resolved = match *packet.upper() {
            Upper::LaterFragment(id) => {
                let traffic = self.recall(Datagram::of(packet.flow(), id), class, now);
                packet.resolved_to(traffic.ok_or(DropReason::FragmentUnresolved)?)
            }
            _ => packet,
        };
        admit(&resolved)?;
        if let Upper::FirstFragment(id) = *packet.upper() {
            let (datagram, traffic) = (Datagram::of(packet.flow(), id), *packet.traffic());
            self.remember(Seen { datagram, class, traffic, at: now })?;
        }
        Ok(resolved)
    }

    fn remember(&mut self, first: Seen) -> Result<(), DropReason> {
        let place = self.place(&first.datagram).ok_or(DropReason::FragmentConflict)?;
        let held = |seen: &Seen| seen.class != first.class && first.at.since(seen.at) <= TRAIL;
        if place.as_ref().is_some_and(held) {
            return Err(DropReason::FragmentConflict);
        }
        *place = Some(first);
        Ok(())
    }

    fn recall(&mut self, datagram: Datagram, class: Option<ClassId>, now: Time) -> Option<Traffic> {
        let seen = (*self.place(&datagram)?)?;
        let is_of = seen.datagram == datagram && seen.class == class && now.since(seen.at) <= TRAIL;
        is_of.then_some(seen.traffic)
    }

    fn place(&mut self, datagram: &Datagram) -> Option<&mut Option<Seen>> {
        let hash = usize::try_from(self.hasher.hash_one(datagram) % PLACES as u64).ok()?;
        self.seen.get_mut(hash)
    }
}

impl Default for FragmentFlows {
    fn default() -> Self {
        Self::new()
    }
}

impl Datagram {
    fn of(flow: &FlowKey, id: FragmentId) -> Self {
        let [a, b, c, d, last] = flow.words();
        Self { portless: FlowKey::from_words([a, b, c, d, last & !0xffff_ffff]), id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drop::Direction;
    use etherparse::PacketBuilder;

    fn fragment(offset: u16, more: bool, id: u16) -> Vec<u8> {
        let mut octets = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(7, 8).write(&mut octets, &[0; 64]).unwrap();
        octets[4..6].copy_from_slice(&id.to_be_bytes());
        octets[6..8].copy_from_slice(&(offset | if more { 0x2000 } else { 0 }).to_be_bytes());
        octets
    }

    fn resolve(
        flows: &mut FragmentFlows,
        octets: &[u8],
        class: Option<u32>,
        at: u64,
    ) -> Result<FlowKey, DropReason> {
        let packet = IpPacket::parse(octets, Direction::Outbound).unwrap();
        let now = Time::from_nanos(at * 1_000_000_000);
        let resolved = flows.resolve(packet, class.map(ClassId::from_raw), now, |_| Ok(()));
        resolved.map(|packet| *packet.flow())
    }

    #[test]
    fn t20_a_later_fragment_follows_its_first_under_the_same_class_for_a_while() {
        let mut flows = FragmentFlows::new();
        let (first, later) = (fragment(0, true, 9), fragment(8, false, 9));
        let unresolved = Err(DropReason::FragmentUnresolved);
        assert_eq!(resolve(&mut flows, &later, Some(1), 0), unresolved, "before its first");
        let flow = resolve(&mut flows, &first, Some(1), 0).unwrap();
        assert_eq!((flow.local_port(), flow.remote_port()), (7, 8));
        assert_eq!(resolve(&mut flows, &later, Some(1), 1), Ok(flow));
        assert_eq!(resolve(&mut flows, &later, Some(2), 1), unresolved, "under another class");
        assert_eq!(resolve(&mut flows, &later, None, 1), unresolved, "in the clear");
        assert_eq!(resolve(&mut flows, &fragment(8, false, 10), Some(1), 1), unresolved, "another datagram");
        assert_eq!(resolve(&mut flows, &later, Some(1), 61), unresolved, "too late");
    }

    /// A peer must not take identifications in the name of addresses that are not its own.
    #[test]
    fn t20_a_first_fragment_that_is_not_admitted_takes_no_place() {
        let mut flows = FragmentFlows::new();
        let first = fragment(0, true, 9);
        let packet = IpPacket::parse(&first, Direction::Inbound).unwrap();
        let refuse = |_: &IpPacket<'_>| Err(DropReason::SelectorMismatch);
        let refused = flows.resolve(packet, Some(ClassId::from_raw(2)), Time::default(), refuse);
        assert_eq!(refused.unwrap_err(), DropReason::SelectorMismatch);
        assert!(resolve(&mut flows, &first, Some(1), 0).is_ok());
    }

    /// The inner host would put fragments of two classes together, since it knows of none.
    #[test]
    fn t20_an_identification_belongs_to_the_class_that_used_it_until_the_host_has_given_up() {
        let mut flows = FragmentFlows::new();
        let (first, later) = (fragment(0, true, 9), fragment(8, false, 9));
        let flow = resolve(&mut flows, &first, Some(1), 0).unwrap();
        for other in [Some(2), None] {
            assert_eq!(resolve(&mut flows, &first, other, 60), Err(DropReason::FragmentConflict));
            assert_eq!(resolve(&mut flows, &later, other, 60), Err(DropReason::FragmentUnresolved));
        }
        assert_eq!(resolve(&mut flows, &later, Some(1), 60), Ok(flow), "its own are none the worse for it");
        assert_eq!(resolve(&mut flows, &first, Some(2), 61), Ok(flow));
        assert_eq!(resolve(&mut flows, &later, Some(1), 61), Err(DropReason::FragmentUnresolved));
    }
}
