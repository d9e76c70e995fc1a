//! What an SA sends by itself, by the clock: NAT keepalives (RFC 3948 sections 2.3 and 4) and dummy packets (RFC 4303 section
//! 2.6). Nothing here is in a packet's way: the worker looks when the next moment has come.

use std::time::Duration;

use latchway_esp::{FreshSeq, Protocol};

use super::{Owned, OwnedOutbound, OwnedSas};
use crate::arrival::Carrier;
use crate::gateway::Datapath;
use crate::lifetime::HardExpired;
use crate::native::{HeaderSource, OuterHeader, header_len};
use crate::sad::{Tfc, Usage};
use crate::send_batch::{SendBatch, Target};
use crate::time::Time;
use crate::ulp::Ulp;

/// When an SA did last, and does next, what it does by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Upkeep {
    /// Since when the NAT was not reminded.
    reminded: Option<Time>,
    /// When the next dummy is due.
    dummy: Option<Time>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(crate) keepalives: u64,
    pub(crate) dummies: u64,
    /// Whether an SA is to be looked at.
    look: bool,
}

/// How close to one another the moments are at which the worker looks: many SAs share one.
const TICK: Duration = Duration::from_millis(10);

/// A NAT keepalive (RFC 3948 section 2.3).
const KEEPALIVE: u8 = 0xff;

/// Octets of a dummy where no size is set: as many as a small packet has.
const DUMMY_LEN: usize = 64;

/// The inner packet that a dummy pretends to be: nothing of it shows outside but its lack of marks.
const UNMARKED: [u8; 20] = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl<U: Ulp> Datapath<U> {
    /// Sends what SAs send by themselves, as far as it is due: into `batch`. Returns whether there is something.
    #[inline]
    pub fn tend(&mut self, batch: &mut SendBatch) -> bool {
        let Some(sent) = self.sas.tend(self.now, batch, &mut self.headers) else { return false };
        self.counters.keepalives.add(sent.keepalives);
        self.counters.dummies.add(sent.dummies);
        self.soft_reached |= sent.look;
        sent.keepalives + sent.dummies > 0
    }

    /// When [`tend`](Self::tend) next has something to do, if ever.
    #[must_use]
    pub const fn next_tend(&self) -> Option<Time> {
        self.sas.next_upkeep
    }
}

impl OwnedSas {
    /// Has the next [`tend`](Self::tend) see to every SA, if any does something by itself.
    pub(super) fn plan_upkeep(&mut self) {
        let wants = |owned: &Owned| match owned {
            Owned::Outbound(outbound) => {
                outbound.shape.keepalive.is_some() || outbound.shape.dummies.is_some()
            }
            _ => false,
        };
        self.next_upkeep = self.slots.iter().flatten().any(wants).then_some(Time::from_nanos(0));
    }

    /// `None` where nothing was due.
    #[inline]
    fn tend(&mut self, now: Time, batch: &mut SendBatch, headers: &mut HeaderSource) -> Option<Sent> {
        self.next_upkeep.filter(|moment| *moment <= now)?;
        Some(self.tend_all(now, batch, headers))
    }

    #[cold]
    fn tend_all(&mut self, now: Time, batch: &mut SendBatch, headers: &mut HeaderSource) -> Sent {
        let (mut sent, mut next, mut buried) = (Sent::default(), None::<Time>, false);
        for owned in self.slots.iter_mut().flatten() {
            let Owned::Outbound(outbound) = owned else { continue };
            if outbound.usage != Usage::Active {
                continue;
            }
            match outbound.tend(now, (batch, headers), &mut sent) {
                Ok(moment) => next = next.into_iter().chain(moment).min(),
                Err(HardExpired) => {
                    owned.bury();
                    buried = true;
                }
            }
        }
        if buried {
            self.look_soon();
        }
        self.next_upkeep = next.map(|moment| moment.max(now + TICK));
        sent
    }
}

impl OwnedOutbound {
    /// Returns when there is something to do again.
    fn tend(
        &mut self,
        now: Time,
        (batch, headers): (&mut SendBatch, &mut HeaderSource),
        sent: &mut Sent,
    ) -> Result<Option<Time>, HardExpired> {
        let dummy = match self.shape.dummies {
            Some(interval) => self.tend_dummy((now, interval), (batch, headers), sent)?,
            None => None,
        };
        let keepalive = self.shape.keepalive.filter(|_| self.path.carrier == Carrier::Udp);
        let keepalive = keepalive.map(|interval| self.tend_keepalive((now, interval), batch, sent));
        Ok(dummy.into_iter().chain(keepalive).min())
    }

    /// RFC 3948 section 4: the NAT is reminded where nothing else was sent for so long.
    fn tend_keepalive(
        &mut self,
        (now, interval): (Time, Duration),
        batch: &mut SendBatch,
        sent: &mut Sent,
    ) -> Time {
        let reminded = *self.upkeep.reminded.get_or_insert(now);
        let due = self.entry.use_.last_used().map_or(reminded, |used| used.max(reminded)) + interval;
        if now < due {
            return due;
        }
        if let Some([first, ..]) = batch.reserve(Target::new(self.path.to, self.path.wire), 1) {
            *first = KEEPALIVE;
            batch.commit(1);
            sent.keepalives += 1;
        }
        self.upkeep.reminded = Some(now);
        now + interval
    }

    fn tend_dummy(
        &mut self,
        (now, interval): (Time, Duration),
        (batch, headers): (&mut SendBatch, &mut HeaderSource),
        sent: &mut Sent,
    ) -> Result<Option<Time>, HardExpired> {
        // AH has none, and what is nested is not sent bare.
        if self.entry.protocol == Protocol::Ah || self.entry.nested.is_some() {
            return Ok(None);
        }
        let due = *self.upkeep.dummy.get_or_insert(now + interval);
        if now < due {
            return Ok(Some(due));
        }
        // What was missed is not made up for by a burst.
        let next = (due + interval).max(now);
        self.upkeep.dummy = Some(next);
        let len = match self.shape.tfc {
            Tfc::None => DUMMY_LEN,
            Tfc::Multiple(multiple) => multiple.into(),
            Tfc::Mtu => self.max_payload,
        }
        .min(self.max_payload);
        let front = match self.path.carrier {
            Carrier::Udp => 0,
            Carrier::Native => header_len(&self.path.to),
        };
        let room = front + self.sa.sealed_len(len);
        if !batch.has_room_for(1, room) {
            return Ok(Some(next));
        }
        // Where no number is left, what sends packets says so.
        let Some(number) = self.sa.take(1).ok().and_then(|mut numbers| numbers.next_seq()) else {
            return Ok(Some(next));
        };
        sent.look |= self.charge(1, self.sa.encrypted_len(len) as u64, now)?;
        if self.seal_dummy(number, (front, len, room), batch, headers).is_some() {
            sent.dummies += 1;
        }
        Ok(Some(next))
    }

    fn seal_dummy(
        &self,
        number: FreshSeq,
        (front, len, room): (usize, usize, usize),
        batch: &mut SendBatch,
        headers: &mut HeaderSource,
    ) -> Option<()> {
        let marks = self.shape.outer.marks(&UNMARKED);
        let datagram = batch.reserve(Target { to: self.path.to, wire: self.path.wire, marks }, room)?;
        let protected = datagram.get_mut(front..)?;
        // The buffer held other packets: nothing of them may leave, not even under a suite that hides nothing.
        protected.fill(0);
        let sealed = front + self.sa.seal_dummy(number, protected, len).ok()?;
        if front > 0 {
            let header = OuterHeader {
                from: self.path.from,
                to: self.path.to.ip(),
                traffic_class: marks.traffic_class,
                may_fragment: marks.may_fragment,
                ttl: self.shape.outer.ttl,
                flow_label: 0,
            };
            header.write(datagram.get_mut(..sealed)?, Protocol::Esp.number(), headers)?;
        }
        batch.commit(sealed);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drop::{Direction, DropReason};
    use crate::lifetime::{Bounds, Limits};
    use crate::sad::Shape;
    use crate::testing::{Host, Open, SaOptions, arrival, joined_by};
    use etherparse::PacketBuilder;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn options(shape: Shape) -> SaOptions {
        SaOptions { shape, ..SaOptions::new(0x1001, 0) }
    }

    /// What is sent at each of these moments, by itself.
    fn tended(host: &mut Host<Open>, moments: impl IntoIterator<Item = u64>) -> Vec<(u64, Vec<u8>)> {
        let mut sent = Vec::new();
        for millis in moments {
            let mut batch = SendBatch::new();
            host.datapath.begin(at(millis));
            let any = host.datapath.tend(&mut batch);
            let all: Vec<_> = batch.runs().flat_map(|run| run.datagrams()).map(<[u8]>::to_vec).collect();
            assert_eq!(any, !all.is_empty());
            assert!(host.datapath.next_tend().is_none_or(|next| next > at(millis)));
            sent.extend(all.into_iter().map(|one| (millis, one)));
        }
        sent
    }

    fn udp() -> Vec<u8> {
        let mut octets = Vec::new();
        PacketBuilder::ipv4([10, 0, 1, 10], [10, 0, 2, 20], 64)
            .udp(7, 8)
            .write(&mut octets, b"data")
            .unwrap();
        octets
    }

    /// RFC 3948 section 4: after so long without a packet, and not before.
    #[test]
    fn rfc_3948_4_a_nat_is_reminded_where_nothing_else_was_sent() {
        let shape = Shape { keepalive: Some(Duration::from_secs(20)), ..Shape::default() };
        let (mut one, mut two) = joined_by(&options(shape));
        let sent = tended(&mut one, (0..=61_000).step_by(50));
        assert_eq!(sent, [20_000, 40_000, 60_000].map(|millis| (millis, vec![0xff])));
        one.send(&udp(), at(70_000));
        let sent = tended(&mut one, (70_000..=95_000).step_by(50));
        assert_eq!(sent, [(90_000, vec![0xff])], "a packet reminds, too");
        assert_eq!(two.receive(&[0xff], at(0)), Vec::<Vec<u8>>::new());
        assert_eq!(two.drops(), [(Direction::Inbound, DropReason::Keepalive, 1)]);
        assert_eq!(one.datapath.counters().keepalives.get(), 4);
    }

    /// Nothing is sent, and nobody woken, where nothing is asked for; there are no keepalives without UDP.
    #[test]
    fn nothing_is_sent_unasked() {
        let (mut one, _) = joined_by(&options(Shape::default()));
        assert_eq!(tended(&mut one, [0, 100_000]), []);
        assert_eq!(one.datapath.next_tend(), None);
        let shape = Shape { keepalive: Some(Duration::from_secs(20)), ..Shape::default() };
        let native = SaOptions { carrier: Carrier::Native, ..options(shape) };
        let (mut one, _) = joined_by(&native);
        assert_eq!(tended(&mut one, [0, 20_000, 100_000]), []);
        assert_eq!(one.datapath.next_tend(), None);
    }

    /// RFC 4303 section 2.6: dummies leave at their rate, of the size that is set, and the peer drops them without a word. Every
    /// carrier and mode.
    #[test]
    fn rfc_4303_2_6_dummies_leave_at_their_rate() {
        for (tfc, len) in [(Tfc::None, 64), (Tfc::Multiple(256), 256), (Tfc::Mtu, usize::MAX)] {
            for (carrier, outer_v6) in
                [(Carrier::Udp, false), (Carrier::Native, false), (Carrier::Native, true)]
            {
                let shape = Shape { dummies: Some(Duration::from_millis(100)), tfc, ..Shape::default() };
                let options = SaOptions { carrier, outer_v6, ..options(shape) };
                let (mut one, mut two) = joined_by(&options);
                let sent = tended(&mut one, (0..1000).step_by(10));
                assert_eq!(sent.len(), 9);
                for (place, (millis, dummy)) in sent.iter().enumerate() {
                    assert_eq!(*millis, 100 * (place as u64 + 1));
                    assert_eq!(dummy.len(), sent[0].1.len());
                    let arrival = arrival(1, dummy.len(), &options);
                    assert!(two.receive_as(dummy, &arrival, at(*millis)).is_empty());
                }
                assert_eq!(two.drops(), [(Direction::Inbound, DropReason::Dummy, 9)]);
                let owned =
                    one.datapath.sas.outbound(one.snapshot.sad.iter().next().unwrap().entry.sa).unwrap();
                let outer = if carrier == Carrier::Udp { 28 } else { 0 };
                let longest = sent[0].1.len() + outer;
                assert!(longest <= usize::from(owned.path.mtu));
                let front = if carrier == Carrier::Udp { 0 } else { header_len(&owned.path.to) };
                assert_eq!(sent[0].1.len() - front, owned.sa.sealed_len(len.min(owned.max_payload)));
                assert_eq!(one.datapath.counters().dummies.get(), 9);
            }
        }
    }

    /// RFC 4301 section 4.4.2.1: dummies spend an SA as packets do, and its end is told.
    #[test]
    fn dummies_spend_the_lifetime() {
        let packets = |packets| Bounds { packets: Some(packets), ..Bounds::default() };
        let limits = Limits::new(packets(3), packets(5)).unwrap();
        let shape = Shape { dummies: Some(Duration::from_millis(100)), ..Shape::default() };
        let (mut one, _) = joined_by(&SaOptions { limits, ..options(shape) });
        assert_eq!(tended(&mut one, (0..2000).step_by(100)).len(), 5);
        assert!(one.snapshot.sad.iter().all(|slot| slot.entry.use_.is_expired()));
        assert_eq!(one.events.try_iter().count(), 2, "soft and hard");
        assert_eq!(one.datapath.next_tend(), None);
    }

    /// A worker that slept sends one, not all that it missed.
    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let shape = Shape { dummies: Some(Duration::from_millis(100)), ..Shape::default() };
        let (mut one, _) = joined_by(&options(shape));
        assert_eq!(tended(&mut one, [0, 50_000, 50_001]).len(), 1);
    }
}
