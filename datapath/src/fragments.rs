//! Which flow a later fragment belongs to: remembered from its first fragment, for a while, in fixed memory.
//!
//! Selectors and latches speak of ports, and only the first fragment has them (RFC 4301 section 7). A later fragment
//! whose first was not seen is dropped. The class that protected the first is part of the key, so fragments under
//! another SA, or under none, never join a datagram that they are not of.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::RandomState;
use latchway_tagging::ClassId;

use crate::drop::DropReason;
use crate::flow::FlowKey;
use crate::packet::{FragmentId, IpPacket, Upper};
use crate::time::Time;

/// Remembers the flows of datagrams whose fragments are passing.
#[derive(Debug)]
pub struct FragmentFlows {
    seen: Box<[Option<Seen>]>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    datagram: Datagram,
    flow: FlowKey,
    at: Time,
}

/// Addresses and protocol (as a flow without ports), identification and class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Datagram {
    portless: FlowKey,
    id: FragmentId,
    class: Option<ClassId>,
}

/// Datagrams remembered at a time. When two fall on one place, the older one's fragments are dropped.
const PLACES: usize = 1024;

/// How long fragments may trail their first (RFC 8200 4.5 gives a receiver 60 seconds; a gateway needs less).
const TRAIL: Duration = Duration::from_secs(15);

impl FragmentFlows {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { seen: vec![None; PLACES].into_boxed_slice(), hasher: RandomState::default() }
    }

    /// The packet with its flow known: at once for a whole one, from memory for a later fragment.
    ///
    /// # Errors
    /// [`DropReason::FragmentUnresolved`] where the first fragment was not seen.
    #[inline]
    pub fn resolve<'p>(
        &mut self,
        packet: IpPacket<'p>,
        class: Option<ClassId>,
        now: Time,
    ) -> Result<IpPacket<'p>, DropReason> {
        match *packet.upper() {
            Upper::FirstFragment(id) => {
                self.remember(Datagram::of(packet.flow(), id, class), *packet.flow(), now);
                Ok(packet)
            }
            Upper::LaterFragment(id) => {
                let flow = self.recall(Datagram::of(packet.flow(), id, class), now);
                flow.map(|flow| packet.resolved_to(flow)).ok_or(DropReason::FragmentUnresolved)
            }
            _ => Ok(packet),
        }
    }

    fn remember(&mut self, datagram: Datagram, flow: FlowKey, now: Time) {
        if let Some(place) = self.place(&datagram) {
            *place = Some(Seen { datagram, flow, at: now });
        }
    }

    fn recall(&mut self, datagram: Datagram, now: Time) -> Option<FlowKey> {
        let seen = (*self.place(&datagram)?)?;
        (seen.datagram == datagram && now.since(seen.at) <= TRAIL).then_some(seen.flow)
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
    fn of(flow: &FlowKey, id: FragmentId, class: Option<ClassId>) -> Self {
        let [a, b, c, d, last] = flow.words();
        Self { portless: FlowKey::from_words([a, b, c, d, last & !0xffff_ffff]), id, class }
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
        flows.resolve(packet, class.map(ClassId::from_raw), now).map(|packet| *packet.flow())
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
        assert_eq!(resolve(&mut flows, &later, Some(1), 60), unresolved, "too late");
    }
}
