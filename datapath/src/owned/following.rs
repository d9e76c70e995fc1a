//! A peer that moves: what is sent to it goes where its newest packet came from (T34, RFC 7296 section 2.23, RFC 3948).
//!
//! Only a packet that was opened says so, with a number above all before it: what is forged, repeated or older moves nothing,
//! and neither does anything where the peer is known to stay. The key manager is told, and revises what is said of the
//! pair; a move that it cannot be told of waits for the peer's next packet.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use latchway_esp::SeqNum;
use latchway_tagging::SaRef;

use super::{Owned, OwnedInbound, OwnedOutbound, OwnedSas};
use crate::arrival::{Arrival, Carrier};
use crate::event::Event;
use crate::gateway::Datapath;
use crate::sad::{Follow, Role};
use crate::time::Time;
use crate::ulp::Ulp;

/// How long a peer that moved stays at least: one that seems to be at two places at once does not keep everybody busy.
const STAY: Duration = Duration::from_secs(1);

/// What came of a packet from a new place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// What is sent goes there now, or did before.
    Followed {
        /// Whether it is news.
        news: bool,
    },
    /// Nobody is, or can be, there.
    Nowhere,
    /// Not now.
    Later,
}

impl OwnedInbound {
    /// Whether a packet of this number, which was verified, says that the peer is at a new place. To be asked before the number
    /// is committed.
    #[inline]
    pub(crate) fn hears_anew(&self, number: SeqNum, arrival: &Arrival) -> bool {
        self.from.follow == Follow::Follow && number > self.sa.top() && self.heard != Some(arrival.from)
    }
}

impl<U: Ulp> Datapath<U> {
    /// Sends to the peer of an inbound SA where its newest packet, which was opened, came from.
    #[cold]
    pub(crate) fn follow(&mut self, inbound: SaRef, to: SocketAddr) {
        let (now, events) = (self.now, &self.events);
        if self.sas.follow(inbound, to, now, |event| events.send(event)) {
            self.counters.peers_moved.add(1);
        }
    }
}

impl OwnedSas {
    /// Returns whether the peer has moved.
    fn follow(
        &mut self,
        inbound: SaRef,
        to: SocketAddr,
        now: Time,
        tell: impl FnOnce(Event) -> bool,
    ) -> bool {
        let partner = self.followed(inbound).and_then(|inbound| inbound.entry.partner);
        let slot = partner.and_then(|partner| self.slots.get_mut(partner.index.get()));
        let Some(Some(Owned::Outbound(outbound))) = slot else { return false };
        if Some(outbound.entry.sa) != partner {
            return false;
        }
        let outcome = outbound.move_to(to, now, tell);
        if outcome != Move::Later
            && let Some(inbound) = self.followed(inbound)
        {
            inbound.heard = Some(to);
        }
        outcome == Move::Followed { news: true }
    }

    /// Sends again where the database says: the peer is not followed any more.
    pub(super) fn come_back(&mut self, outbound: Option<SaRef>) {
        let slot = outbound.and_then(|outbound| self.slots.get_mut(outbound.index.get()));
        if let Some(Some(Owned::Outbound(owned))) = slot
            && Some(owned.entry.sa) == outbound
            && let Role::Outbound { path, .. } = &owned.entry.role
        {
            owned.path = *path;
            owned.measure();
        }
    }

    fn followed(&mut self, sa: SaRef) -> Option<&mut OwnedInbound> {
        match self.slots.get_mut(sa.index.get()) {
            Some(Some(Owned::Inbound(inbound))) if inbound.entry.sa == sa => Some(inbound),
            _ => None,
        }
    }
}

impl OwnedOutbound {
    fn move_to(&mut self, to: SocketAddr, now: Time, tell: impl FnOnce(Event) -> bool) -> Move {
        let from = self.path.to;
        if from == to {
            return Move::Followed { news: false };
        }
        let has_port = (to.port() != 0) == (self.path.carrier == Carrier::Udp);
        if from.is_ipv4() != to.is_ipv4() || !has_port || !is_of_one_host(to.ip()) {
            return Move::Nowhere;
        }
        let rests = self.moved.is_some_and(|moved| now.since(moved) < STAY);
        if rests || !tell(Event::PeerMoved { sa: self.entry.sa, from, to }) {
            return Move::Later;
        }
        (self.path.to, self.moved) = (to, Some(now));
        self.measure();
        Move::Followed { news: true }
    }
}

/// Whether packets can be sent to the address, and reach one host by it.
const fn is_of_one_host(address: IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && !matches!(address, IpAddr::V4(address) if address.is_broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drop::{Direction, DropReason};
    use crate::sad::SadEntry;
    use crate::testing::{Host, Open, SaOptions, inbound_entry, outbound_entry, outbound_entry_at, outer};
    use etherparse::PacketBuilder;
    use latchway_esp::AntiReplay;
    use latchway_tagging::SaIndex;
    use std::sync::Arc;

    const ELSEWHERE: &str = "198.51.100.7:61000";

    /// A pair of gateways, of which the first follows the second or not.
    fn gateways(follow: Follow) -> (Host<Open>, Host<Open>) {
        let (mut one, mut two) = (Host::new(1, 2, Open), Host::new(2, 1, Open));
        let options = |spi, index| SaOptions { follow, ..SaOptions::new(spi, index) };
        let with_partner = |entry: Option<Arc<SadEntry>>, index| {
            let entry = entry.unwrap();
            let partner = SaRef { index: SaIndex::new(index), generation: entry.sa.generation };
            Some(Arc::new(SadEntry { partner: Some(partner), ..(*entry).clone() }))
        };
        one.insert(with_partner(outbound_entry(1, 2, &options(0x1001, 0)), 1));
        one.insert(with_partner(inbound_entry(1, 2, &options(0x1002, 1)), 0));
        two.insert(outbound_entry(2, 1, &options(0x1002, 0)));
        one.publish();
        two.publish();
        (one, two)
    }

    fn udp(from: u8, to: u8) -> Vec<u8> {
        let mut octets = Vec::new();
        let builder = PacketBuilder::ipv4([10, 0, from, 10], [10, 0, to, 20], 64).udp(7, 8);
        builder.write(&mut octets, b"data").unwrap();
        octets
    }

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    /// Has the first receive a datagram from somewhere.
    fn receive(one: &mut Host<Open>, datagram: &[u8], from: &str, now: Time) -> usize {
        let arrival = Arrival::udp(datagram.len(), from.parse().unwrap());
        one.receive_as(datagram, &arrival, now).len()
    }

    /// Where the first sends now.
    fn sends_to(one: &mut Host<Open>, now: Time) -> String {
        one.send(&udp(1, 2), now);
        one.targets()[0].to_string()
    }

    fn moved(one: &Host<Open>) -> Vec<(String, String)> {
        let told = one.events.try_iter().filter_map(|event| match event {
            Event::PeerMoved { from, to, .. } => Some((from.to_string(), to.to_string())),
            _ => None,
        });
        told.collect()
    }

    /// T34, RFC 7296 section 2.23: what is sent follows the newest authentic packet, and the key manager is told, once.
    #[test]
    fn t34_what_is_sent_follows_the_newest_authentic_packet() {
        let (mut one, mut two) = gateways(Follow::Follow);
        let known = outer(2).to_string();
        let mut next = |now| two.send(&udp(2, 1), now).0.remove(0);
        assert_eq!(receive(&mut one, &next(at(1)), &known, at(1)), 1);
        assert_eq!((sends_to(&mut one, at(1)), moved(&one)), (known.clone(), vec![]));
        for _ in 0..3 {
            assert_eq!(receive(&mut one, &next(at(2)), ELSEWHERE, at(2)), 1);
            assert_eq!(sends_to(&mut one, at(2)), ELSEWHERE);
        }
        assert_eq!(moved(&one), [(known.clone(), ELSEWHERE.to_owned())]);
        // Another port alone is another place: a NAT has forgotten the mapping.
        let port = "198.51.100.7:61001";
        assert_eq!(receive(&mut one, &next(at(4)), port, at(4)), 1);
        assert_eq!(sends_to(&mut one, at(4)), port);
        assert_eq!(one.datapath.counters().peers_moved.get(), 2);
        assert_eq!(one.drops(), []);
    }

    /// T34: what is forged, repeated or older moves nothing.
    #[test]
    fn t34_forged_repeated_and_older_packets_move_nothing() {
        let (mut one, mut two) = gateways(Follow::Follow);
        let known = outer(2).to_string();
        let packets: Vec<_> = (0..4).map(|_| two.send(&udp(2, 1), at(1)).0.remove(0)).collect();
        assert_eq!(receive(&mut one, &packets[2], &known, at(1)), 1);
        let mut forged = packets[3].clone();
        *forged.last_mut().unwrap() ^= 1;
        for (packet, passes, reason) in [
            (&forged, 0, Some(DropReason::IcvMismatch)),
            (&packets[2], 0, Some(DropReason::Replayed)),
            (&packets[0], 1, None),
        ] {
            assert_eq!(receive(&mut one, packet, ELSEWHERE, at(2)), passes);
            assert_eq!(sends_to(&mut one, at(2)), known);
            if let Some(reason) = reason {
                assert_eq!(one.dropped(Direction::Inbound, reason), 1);
            }
        }
        assert_eq!((moved(&one), one.datapath.counters().peers_moved.get()), (vec![], 0));
    }

    /// T34: a peer that is known to stay is not followed.
    #[test]
    fn t34_a_peer_that_stays_is_not_followed() {
        let (mut one, mut two) = gateways(Follow::Fixed);
        let packet = two.send(&udp(2, 1), at(1)).0.remove(0);
        assert_eq!(receive(&mut one, &packet, ELSEWHERE, at(1)), 0);
        assert_eq!(sends_to(&mut one, at(1)), outer(2).to_string());
        assert_eq!(one.dropped(Direction::Inbound, DropReason::OuterMismatch), 1);
        assert_eq!(moved(&one), []);
    }

    /// T34, T10: a packet so old that its number passes at first for one of the next epoch is taken where nothing is late, and
    /// moves nothing.
    #[test]
    fn t34_a_packet_from_long_ago_moves_nothing_where_replays_are_not_refused() {
        let options = |spi, index| SaOptions {
            anti_replay: AntiReplay::Off,
            follow: Follow::Follow,
            ..SaOptions::new(spi, index)
        };
        let mut one = Host::new(1, 2, Open);
        let inbound = inbound_entry(1, 2, &options(0x1002, 1)).unwrap();
        let partner = Some(SaRef { index: SaIndex::new(0), generation: inbound.sa.generation });
        one.insert(outbound_entry(1, 2, &options(0x1001, 0)));
        one.insert(Some(Arc::new(SadEntry { partner, ..(*inbound).clone() })));
        one.publish();
        let [old, new] = [0x1000, 0x5000_0000].map(|next| {
            let mut two = Host::new(2, 1, Open);
            two.insert(outbound_entry_at(2, 1, &options(0x1002, 0), next));
            two.publish();
            two.send(&udp(2, 1), at(1)).0.remove(0)
        });
        let known = outer(2).to_string();
        for packet in [&old, &new] {
            assert_eq!(receive(&mut one, packet, &known, at(1)), 1);
        }
        assert_eq!(receive(&mut one, &old, ELSEWHERE, at(9)), 1, "authentic, and nothing is late");
        assert_eq!((sends_to(&mut one, at(9)), moved(&one)), (known, vec![]));
    }

    /// T34: nobody is at such places, and a peer that seems to be at two is followed no oftener than once a second.
    #[test]
    fn t34_no_packet_leads_nowhere_or_to_and_fro() {
        let (mut one, mut two) = gateways(Follow::Follow);
        let known = outer(2).to_string();
        let mut next = || two.send(&udp(2, 1), at(1)).0.remove(0);
        for nowhere in
            ["0.0.0.0:4500", "224.0.0.1:4500", "255.255.255.255:4500", "192.0.2.2:0", "[2001:db8::2]:4500"]
        {
            receive(&mut one, &next(), nowhere, at(1));
            assert_eq!(sends_to(&mut one, at(1)), known, "{nowhere}");
        }
        for (place, now, goes_to) in [
            (ELSEWHERE, 5, ELSEWHERE),
            (&*known, 5, ELSEWHERE),
            (ELSEWHERE, 5, ELSEWHERE),
            (&*known, 5, ELSEWHERE),
            (&*known, 6, &*known),
        ] {
            receive(&mut one, &next(), place, at(now));
            assert_eq!(sends_to(&mut one, at(now)), goes_to);
        }
        assert_eq!(moved(&one).len(), 2);
    }

    /// A move that nobody can be told of waits; one that the key manager took note of is not lost by what it says of the pair.
    #[test]
    fn t34_the_key_manager_is_told_and_may_say_otherwise() {
        let (mut one, mut two) = gateways(Follow::Follow);
        let mut next = || two.send(&udp(2, 1), at(1)).0.remove(0);
        receive(&mut one, &next(), ELSEWHERE, at(1));
        let revise = |one: &mut Host<Open>, to: SocketAddr| {
            let slot = one.snapshot.sad.slot(SaIndex::new(0)).unwrap();
            let mut entry = (*slot.entry).clone();
            let crate::sad::Role::Outbound { path, .. } = &mut entry.role else { return };
            path.to = to;
            assert!(one.snapshot.sad.revise(Arc::new(entry)));
            one.publish();
        };
        revise(&mut one, ELSEWHERE.parse().unwrap());
        assert_eq!(sends_to(&mut one, at(1)), ELSEWHERE);
        revise(&mut one, outer(2));
        assert_eq!(sends_to(&mut one, at(1)), outer(2).to_string());

        let mut told = 0;
        let inbound = one.snapshot.sad.slot(SaIndex::new(1)).unwrap().entry.sa;
        for heard in [false, false, true, true] {
            let to = "198.51.100.9:4500".parse().unwrap();
            one.datapath.sas.follow(inbound, to, at(9), |_| {
                told += 1;
                heard
            });
        }
        assert_eq!(told, 3);
    }

    /// T34: where a peer is to stay from now on, what is sent goes to where it was said to be, whoever it followed meanwhile.
    #[test]
    fn t34_a_peer_that_is_followed_no_more_is_sent_to_where_it_was_said_to_be() {
        let (mut one, mut two) = gateways(Follow::Follow);
        let packet = two.send(&udp(2, 1), at(1)).0.remove(0);
        receive(&mut one, &packet, ELSEWHERE, at(1));
        assert_eq!(sends_to(&mut one, at(1)), ELSEWHERE);
        let slot = one.snapshot.sad.slot(SaIndex::new(1)).unwrap();
        let mut entry = (*slot.entry).clone();
        let Role::Inbound { from, .. } = &mut entry.role else { panic!("{entry:?}") };
        from.follow = Follow::Fixed;
        assert!(one.snapshot.sad.revise(Arc::new(entry)));
        one.publish();
        assert_eq!(sends_to(&mut one, at(1)), outer(2).to_string());
    }
}
