//! Packets that the gateway itself sends: to an inner host, or to a peer under protection of a class that it names.
//!
//! Others queue them and the worker sends them between batches. The queue is bounded and nobody waits for it; a packet on
//! its way pays for it with one look at a counter per batch.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use latchway_tagging::{ClassId, Demand, OutboundTag};
use rustix::event::{EventfdFlags, eventfd};

use crate::drop::{Direction, DropReason};
use crate::gateway::Datapath;
use crate::packet::IpPacket;
use crate::send_batch::SendBatch;
use crate::spd::Action;
use crate::spending::Packets;
use crate::ulp::Ulp;

/// An IP packet of the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Injection {
    /// To the inner host that it is addressed to, as it is.
    ToInner {
        /// The packet.
        packet: Box<[u8]>,
    },
    /// To a peer, under an SA of this class or not at all (L-99): a reset must neither leave in the clear, nor under the
    /// SA of somebody else, who would learn sequence numbers by it.
    ToPeer {
        /// The packet.
        packet: Box<[u8]>,
        /// The class.
        class: ClassId,
    },
}

/// The sending end; clones send to the same worker.
#[derive(Clone, Debug)]
pub struct Injector {
    sender: Sender<Injection>,
    wake: Arc<OwnedFd>,
}

/// The worker's end.
#[derive(Debug)]
pub struct Injections {
    receiver: Receiver<Injection>,
    wake: Arc<OwnedFd>,
}

/// Why a packet was not queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// There is no room now; here is the packet again.
    #[error("the worker has too many packets to inject already; try again in a moment")]
    Full(Injection),
    /// The worker is gone.
    #[error("the worker has ended")]
    Ended,
}

/// How many packets may wait to be injected.
pub const INJECTION_QUEUE: usize = 1024;

/// A queue of packets to inject, for one worker.
///
/// # Errors
/// Where the system has no descriptor left.
pub fn injection_queue() -> io::Result<(Injector, Injections)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let (sender, receiver) = bounded(INJECTION_QUEUE);
    Ok((Injector { sender, wake: Arc::clone(&wake) }, Injections { receiver, wake }))
}

impl Injector {
    /// Queues a packet, and wakes the worker if it sleeps. Never waits.
    ///
    /// # Errors
    /// [`InjectError`]
    pub fn inject(&self, injection: Injection) -> Result<(), InjectError> {
        self.sender.try_send(injection).map_err(|refused| match refused {
            TrySendError::Full(injection) => InjectError::Full(injection),
            TrySendError::Disconnected(_) => InjectError::Ended,
        })?;
        // A worker that cannot be woken finds the packet when its nap is over.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        Ok(())
    }
}

impl Injections {
    /// The next packet, if there is one.
    #[inline]
    pub(crate) fn next(&self) -> Option<Injection> {
        if self.receiver.is_empty() { None } else { self.receiver.try_recv().ok() }
    }

    /// Takes note of having been woken: the next packet wakes again.
    pub(crate) fn woken(&self) {
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
    }
}

impl AsFd for Injections {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl<U: Ulp> Datapath<U> {
    /// Seals a packet of the gateway's own into `batch`, under an active SA of `class` that admits its flow. Returns
    /// whether it did; otherwise it is dropped and counted.
    pub fn send_under(&mut self, class: ClassId, packet: &[u8], batch: &mut SendBatch) -> bool {
        let sealed = self.seal_under(class, packet, batch);
        let street = self.counters.street(Direction::Outbound);
        match sealed {
            Ok(len) => {
                street.packets.add(1);
                street.octets.add(len as u64);
            }
            Err(reason) => street.drop(reason, 1),
        }
        sealed.is_ok()
    }

    fn seal_under(
        &mut self,
        class: ClassId,
        packet: &[u8],
        batch: &mut SendBatch,
    ) -> Result<usize, DropReason> {
        let packet = IpPacket::parse(packet, Direction::Outbound)?;
        // What policy has come to discard, nobody sends (RFC 4301 5.1).
        match self.snapshot.spd.action(packet.traffic(), Direction::Outbound) {
            Some(Action::Protect(_) | Action::Bypass) => {}
            Some(Action::Discard) => return Err(DropReason::PolicyDiscard),
            None => return Err(DropReason::NoPolicy),
        }
        let slot = self.snapshot.sad.select(packet.traffic(), Some(class), None);
        let entry = &slot.ok_or(DropReason::NoOutboundSa)?.entry;
        if entry.use_.is_expired() {
            return Err(DropReason::HardExpired);
        }
        let (sa, octets) = (entry.sa, packet.octets());
        let wrapping = self.sas.sealing(sa, &mut self.headers)?.wrap(&packet, octets.len())?;
        if octets.len() > wrapping.most {
            return Err(DropReason::TooBig);
        }
        if !batch.has_room_for(1, wrapping.room) {
            return Err(DropReason::NoBuffer);
        }
        let tag = OutboundTag { demand: Demand::Class(class), ..OutboundTag::default() };
        let mut numbers = self.spend(&wrapping, Packets::one(octets.len()), (packet.flow(), tag))?;
        let number = numbers.next_number().ok_or(DropReason::SeqExhausted)?;
        let mut sealing = self.sas.sealing(sa, &mut self.headers)?;
        sealing.seal_into(batch, number, &wrapping, |payload| {
            payload.get_mut(..octets.len())?.copy_from_slice(octets);
            Some(octets.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reset::Reset;
    use crate::testing::{Host, Open, joined};
    use crate::time::Time;

    fn reset() -> Vec<u8> {
        let ends = ["10.0.1.10:40000", "10.0.2.20:80"].map(|end| end.parse().unwrap());
        Reset { seq: 7, ack: None }.packet(ends[0], ends[1]).unwrap().octets().to_vec()
    }

    /// What leaves of a packet that is injected under a class.
    fn under(host: &mut Host<Open>, class: u32, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut batch = SendBatch::new();
        host.datapath.begin(Time::default());
        let sealed = host.datapath.send_under(ClassId::from_raw(class), packet, &mut batch);
        let datagrams: Vec<_> =
            batch.runs().flat_map(|run| run.datagrams().map(<[u8]>::to_vec).collect::<Vec<_>>()).collect();
        assert_eq!(sealed, datagrams.len() == 1);
        datagrams
    }

    /// D.5, L-99: a reset to the remote leaves under an SA of the connection's class, and arrives there.
    #[test]
    fn l_99_what_is_injected_for_a_peer_leaves_under_its_class_only() {
        let (mut one, mut two) = joined(Open, Open);
        let sent = under(&mut one, 1, &reset());
        assert_eq!(two.receive(&sent[0], Time::default()), [reset()]);
        assert_eq!(one.drops(), []);
        assert_eq!(one.datapath.counters().street(Direction::Outbound).packets.get(), 1);
        assert_eq!(under(&mut one, 2, &reset()), Vec::<Vec<u8>>::new());
        assert_eq!(one.drops(), [(Direction::Outbound, DropReason::NoOutboundSa, 1)]);
    }

    #[test]
    fn l_99_what_the_sa_does_not_admit_or_policy_does_not_know_is_not_sent() {
        let (mut one, _two) = joined(Open, Open);
        let ends = ["10.0.9.10:40000", "10.0.2.20:80"].map(|end| end.parse().unwrap());
        let foreign = Reset { seq: 7, ack: None }.packet(ends[0], ends[1]).unwrap();
        for packet in [foreign.octets(), &[], &[0x45; 20], &vec![0; 70_000]] {
            assert_eq!(under(&mut one, 1, packet), Vec::<Vec<u8>>::new());
        }
        assert_eq!(one.dropped(Direction::Outbound, DropReason::NoPolicy), 1);
        assert_eq!(one.datapath.counters().street(Direction::Outbound).packets.get(), 0);
    }

    #[test]
    fn the_queue_is_bounded_and_gives_back_what_it_has_no_room_for() {
        let (injector, injections) = injection_queue().unwrap();
        let one = Injection::ToInner { packet: reset().into() };
        for _ in 0..INJECTION_QUEUE {
            injector.inject(one.clone()).unwrap();
        }
        assert_eq!(injector.inject(one.clone()), Err(InjectError::Full(one.clone())));
        assert_eq!(injections.next(), Some(one.clone()));
        assert_eq!(injector.inject(one.clone()), Ok(()));
        drop(injections);
        assert_eq!(injector.inject(one), Err(InjectError::Ended));
    }
}
