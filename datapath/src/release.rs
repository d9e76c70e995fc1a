//! Fragments that waited for the first of their datagram: each goes on as if it had come just now (RFC 4301 section 7).

use latchway_tagging::InboundTag;

use crate::drop::{Direction, DropReason};
use crate::gateway::Datapath;
use crate::packet::{Authenticated, IpPacket};
use crate::ulp::Ulp;
use crate::virtio::VNET_HDR_LEN;

impl<U: Ulp> Datapath<U> {
    /// The next outbound fragment that may go on: to the front of `buffer`, virtio header first, as it was read. It is to be
    /// given to [`outbound`](Self::outbound) again.
    #[inline]
    pub fn release_outbound(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let (header, packet) = buffer.split_at_mut_checked(VNET_HDR_LEN)?;
        let (len, _) = self.outbound_fragments.next(packet)?;
        header.fill(0);
        Some(VNET_HDR_LEN + len)
    }

    /// The next inbound fragment that may go on, judged as any packet is: to the front of `buffer`, to be written to the
    /// TUN after what came before.
    #[inline]
    pub fn release_inbound(&mut self, buffer: &mut [u8]) -> Option<usize> {
        while let Some((len, tag)) = self.inbound_fragments.next(buffer) {
            let octets = buffer.get(..len).unwrap_or_default();
            match self.judge_again(octets, tag) {
                Ok(true) => {
                    let street = self.counters.street(Direction::Inbound);
                    street.packets.add(1);
                    street.octets.add(len as u64);
                    return Some(len);
                }
                Ok(false) => {}
                Err(reason) => {
                    self.counters.street(Direction::Inbound).drop(reason, 1);
                    self.audit_packet(Direction::Inbound, reason, octets);
                }
            }
        }
        None
    }

    /// Lets go of fragments whose first did not come in time.
    #[inline]
    pub(crate) fn expire_fragments(&mut self) {
        let (inbound, outbound) = (&mut self.inbound_fragments, &mut self.outbound_fragments);
        for (direction, fragments) in [(Direction::Inbound, inbound), (Direction::Outbound, outbound)] {
            if !fragments.wait() {
                continue;
            }
            let count = fragments.expire(self.now);
            if count > 0 {
                self.counters.street(direction).drop(DropReason::FragmentUnresolved, count);
            }
        }
    }

    /// Whether a fragment passes now: under the SA that it came by, if there still is one.
    #[cold]
    fn judge_again(&mut self, octets: &[u8], tag: Option<InboundTag>) -> Result<bool, DropReason> {
        let Some(tag) = tag else { return self.admit_unprotected(octets) };
        let mut packet = IpPacket::parse(octets, Direction::Inbound)?;
        let (entry, spd) =
            (&self.snapshot.sad.get(tag.sa).ok_or(DropReason::NoSa)?.entry, &self.snapshot.spd);
        let admit = |packet: &IpPacket<'_>| entry.may_bring(packet, spd);
        if !self.inbound_fragments.resolve(&mut packet, Some(tag), self.now, admit)? {
            return Ok(false);
        }
        if self.is_probe_answer(&packet, tag.class) {
            return Err(DropReason::ProbeAnswer);
        }
        self.ask_upper_layer(&Authenticated::new(&packet, tag))?;
        Ok(true)
    }
}
