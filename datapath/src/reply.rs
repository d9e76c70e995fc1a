//! What a remote end is told that speaks on a connection which is over here: a reset, under the SA's own class (latching-04
//! section 2.3; L-103, R-13).
//!
//! The reset that the gateway sends when it ends a connection may be lost, or not be exact (RFC 5961 section 3.2). What the
//! remote end says next, under protection, tells the number that it takes.

use latchway_tagging::ClassId;

use crate::gateway::Datapath;
use crate::limit::Limit;
use crate::packet::{Authenticated, Upper, flags};
use crate::reset::{Reset, ResetPacket};
use crate::send_batch::SendBatch;
use crate::time::Time;
use crate::ulp::Ulp;

/// Resets that wait for the batch at hand to end.
pub(crate) struct Replies {
    waiting: Vec<(ResetPacket, ClassId)>,
    limit: Limit,
}

/// Resets for one batch. The peers speak again.
const ROOM: usize = 32;

impl Replies {
    pub(crate) fn new() -> Self {
        Self { waiting: Vec::with_capacity(ROOM), limit: Limit::full() }
    }

    /// Makes the reset that answers a packet, if there is one to be made.
    #[cold]
    pub(crate) fn answer(&mut self, packet: &Authenticated<'_>, now: Time) {
        let flow = packet.packet().flow();
        let Upper::Tcp(segment) = packet.packet().upper() else { return };
        // A SYN begins another connection: it comes again, and may then find its way.
        let Some(reset) = Reset::answering(segment).filter(|_| segment.flags & flags::SYN == 0) else {
            return;
        };
        if self.waiting.len() < ROOM
            && self.limit.allows(now)
            && let Some(reset) = reset.packet(flow.local(), flow.remote())
        {
            self.waiting.push((reset, packet.tag().class));
        }
    }
}

impl<U: Ulp> Datapath<U> {
    /// Seals what is to be said to remote ends on whose connections nothing passes any more. Returns whether there was
    /// anything.
    #[inline]
    pub fn reply(&mut self, batch: &mut SendBatch) -> bool {
        if self.replies.waiting.is_empty() {
            return false;
        }
        self.reply_all(batch);
        true
    }

    #[cold]
    fn reply_all(&mut self, batch: &mut SendBatch) {
        while let Some((reset, class)) = self.replies.waiting.pop() {
            self.send_under(class, reset.octets(), batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drop::{Direction, DropReason};
    use crate::flow::FlowKey;
    use crate::packet::{IpPacket, Unprotected};
    use crate::spd::Action;
    use crate::testing::joined;
    use crate::ulp::Context;
    use latchway_netns::packet::{self, Segment};
    use latchway_tagging::{Feedback, OutboundTag};

    const NOW: Time = Time::from_nanos(1_000_000_000);
    const ENDS: [[&str; 2]; 2] =
        [["10.0.1.10:40000", "10.0.2.20:80"], ["[fd00:1::10]:40000", "[fd00:2::20]:80"]];

    /// An upper layer through which everything passes, or nothing inward that is of a connection of before.
    struct Layer {
        shut: bool,
        /// Whether what comes is under the class of the connection.
        own: bool,
    }

    impl Ulp for Layer {
        fn outbound(&mut self, _: &IpPacket<'_>, _: &Context<'_>) -> Result<OutboundTag, DropReason> {
            Ok(OutboundTag::default())
        }

        fn feedback(&mut self, _: &FlowKey, _: Feedback, _: &Context<'_>) -> Result<(), DropReason> {
            Ok(())
        }

        fn inbound(&mut self, _: &Authenticated<'_>, _: &Context<'_>) -> Result<(), DropReason> {
            if self.shut { Err(DropReason::LatchBroken) } else { Ok(()) }
        }

        fn unprotected(
            &mut self,
            _: &Unprotected<'_>,
            _: Option<Action>,
            _: &Context<'_>,
        ) -> Result<(), DropReason> {
            Err(DropReason::LatchUnprotected)
        }

        fn is_over_for(&self, _: &Authenticated<'_>) -> bool {
            self.own
        }
    }

    /// What the first of two hosts hears that sends a segment so many times on a connection which is over at the second.
    fn heard(own: bool, ends: [&str; 2], segment: &Segment<'_>, times: usize) -> Vec<Vec<u8>> {
        let (mut one, mut two) = joined(Layer { shut: false, own }, Layer { shut: true, own });
        let [from, to] = ends.map(|end| end.parse().unwrap());
        for _ in 0..times {
            let (sealed, _) = one.send(&packet::tcp(from, to, segment).unwrap(), NOW);
            for datagram in sealed {
                assert!(two.receive(&datagram, NOW).is_empty());
            }
        }
        assert_eq!(two.drops(), [(Direction::Inbound, DropReason::LatchBroken, times as u64)]);
        let mut batch = SendBatch::new();
        assert_eq!(two.datapath.reply(&mut batch), !batch.is_empty());
        assert!(!two.datapath.reply(&mut SendBatch::new()), "once");
        let sent: Vec<_> =
            batch.runs().flat_map(|run| run.datagrams().map(<[u8]>::to_vec).collect::<Vec<_>>()).collect();
        sent.iter().flat_map(|datagram| one.receive(datagram, NOW)).collect()
    }

    fn data() -> Segment<'static> {
        Segment { sequence: 1000, acknowledgement: Some(2000), payload: b"data", ..Segment::default() }
    }

    /// L-103, RFC 5961 3.2: who speaks under the class of its connection hears a reset that it takes, under that class.
    #[test]
    fn l_103_the_remote_end_of_a_connection_that_is_over_is_reset_under_its_own_class() {
        for ends in ENDS {
            let [near, far] = ends.map(|end| end.parse().unwrap());
            let reset = Reset { seq: 2000, ack: None }.packet(far, near).unwrap();
            assert_eq!(heard(true, ends, &data(), 1), [reset.octets()]);
        }
    }

    /// L-99: nobody else hears anything; nor does who sent a reset, or a SYN that is to begin another connection.
    #[test]
    fn l_99_nothing_is_said_under_another_class_or_to_resets_or_syns() {
        let none = Vec::<Vec<u8>>::new();
        let [ends, _] = ENDS;
        assert_eq!(heard(false, ends, &data(), 1), none);
        assert_eq!(heard(true, ends, &Segment { rst: true, ..data() }, 1), none);
        let syn = Segment { syn: true, acknowledgement: None, payload: b"", ..data() };
        assert_eq!(heard(true, ends, &syn, 1), none);
    }

    /// T41: one batch is answered only so often.
    #[test]
    fn t41_replies_are_bounded() {
        let [ends, _] = ENDS;
        assert_eq!(heard(true, ends, &data(), 1000).len(), ROOM);
    }
}
