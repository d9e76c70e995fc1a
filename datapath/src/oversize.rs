//! What becomes of outbound packets that do not fit the path after encapsulation (RFC 4301 section 8.2.1): IPv4 packets
//! that may be fragmented are, and then sealed; of the others, the sender is told.

use latchway_tagging::OutboundTag;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::drop::{Direction, DropReason};
use crate::flow::FlowKey;
use crate::gateway::Datapath;
use crate::outbound::{Lost, Outbound};
use crate::outer::has_df;
use crate::packet::IpPacket;
use crate::packet_too_big::LEAST_MTU_V6;
use crate::pmtu::Fragment;
use crate::refragment::Fragments;
use crate::segment::SuperPacket;
use crate::send_batch::SendBatch;
use crate::spending::Packets;
use crate::ulp::Ulp;
use crate::wrapping::Wrapping;

/// How packets that do not fit their SA are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversize {
    /// In whose name IPv4 senders are told. Where there is no address, that of the packet's destination stands in. It
    /// must not be an address of the inner host itself, such as one on the TUN: no kernel takes from outside what claims
    /// to come from itself.
    pub source_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub source_v6: Option<Ipv6Addr>,
    /// Whether IPv4 packets that may be fragmented are, before they are sealed (RFC 4301 5.1, 8.2.1 case 2), rather than
    /// dropped.
    pub fragments: bool,
}

fn is_v6(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6)
}

/// Of IPv4, with options; and no AH header is longer.
const LONGEST_HEADER: usize = 60;

impl Default for Oversize {
    fn default() -> Self {
        Self { source_v4: None, source_v6: None, fragments: true }
    }
}

impl Oversize {
    /// In whose name the sender of a packet to `to` is told something.
    pub(crate) fn source(&self, to: IpAddr) -> IpAddr {
        let own = match to {
            IpAddr::V4(_) => self.source_v4.map(IpAddr::from),
            IpAddr::V6(_) => self.source_v6.map(IpAddr::from),
        };
        own.unwrap_or(to)
    }
}

impl<U: Ulp> Datapath<U> {
    /// What is to be written to the TUN after [`Outbound::Answered`]: a packet to the sender of what was dropped.
    #[must_use]
    pub fn answer(&self) -> &[u8] {
        self.answer.octets()
    }

    /// Whether fragments of at most `most` octets may be made of a packet.
    pub(crate) fn may_fragment(&self, super_packet: &SuperPacket<'_>, most: usize) -> bool {
        self.too_big.settings().fragments && Fragments::of(super_packet.packet(), most).is_some()
    }

    /// Whether packets that do not fit are sealed whole all the same, and cut as outer packets: where their sender lets them
    /// be cut and the SA cuts after it seals, as in transport mode it always does (RFC 4303 section 3.3.4); and those of IPv6
    /// that no sender makes shorter (RFC 2473 section 7.1 b, RFC 8200 section 5).
    #[cold]
    pub(crate) fn is_cut_after(
        &mut self,
        wrapping: &mut Wrapping,
        super_packet: &SuperPacket<'_>,
    ) -> Result<bool, DropReason> {
        let owned = self.owned(wrapping.sa)?;
        let transport = wrapping.is_transport();
        let after = transport || owned.sizing().fragment == Fragment::After;
        // What the SA's packets are let, its inner packets need not be; in transport mode both are the same packet.
        let may_be_cut = !has_df(super_packet.packet()) || (!transport && owned.entry.role.lets_be_cut());
        let least = is_v6(super_packet.packet()) && super_packet.max_segment_len() <= LEAST_MTU_V6;
        let outer_len = owned.fitting().outer_len(super_packet.max_segment_len(), LONGEST_HEADER);
        let is_cut = (least || after && may_be_cut) && outer_len + LONGEST_HEADER <= usize::from(u16::MAX);
        if is_cut {
            wrapping.let_be_cut(true);
        }
        Ok(is_cut)
    }

    /// Drops a super-packet of which no segment longer than `most` octets fits, and tells its sender if that is allowed.
    #[cold]
    pub(crate) fn refuse(&mut self, super_packet: &SuperPacket<'_>, most: usize) -> Outbound {
        let segments = super_packet.segment_count() as u64;
        self.counters.street(Direction::Outbound).drop(DropReason::TooBig, segments);
        // The sender knows packets, and of a super-packet what the first of them would have been.
        let first = super_packet.segments().write_next(&mut self.scratch).unwrap_or(0);
        let packet = self.scratch.get(..first).unwrap_or_default();
        if self.too_big.write(packet, most, self.now, &mut self.answer) {
            self.counters.told_too_big.add(1);
            return Outbound::Answered;
        }
        Outbound::Dropped
    }

    /// Seals a super-packet in fragments of at most `most` octets. Each of its packets is charged, numbered and sealed by itself,
    /// with all of its fragments or not at all.
    #[cold]
    pub(crate) fn seal_in_fragments(
        &mut self,
        wrapping: &Wrapping,
        asked_by: (&FlowKey, OutboundTag),
        super_packet: &SuperPacket<'_>,
        batch: &mut SendBatch,
    ) -> Result<Outbound, Lost> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut segments = super_packet.segments();
        let (mut outcome, mut sealed) = (Ok(Outbound::Sealed), 0);
        while let (Ok(_), Some(len)) = (&outcome, segments.write_next(&mut scratch)) {
            let packet = scratch.get(..len).unwrap_or_default();
            match self.seal_fragments(wrapping, asked_by, packet, batch) {
                Ok(()) => sealed += 1,
                Err(reason) => outcome = Err(Lost { reason, sealed }),
            }
        }
        self.scratch = scratch;
        outcome
    }

    fn seal_fragments(
        &mut self,
        wrapping: &Wrapping,
        asked_by: (&FlowKey, OutboundTag),
        packet: &[u8],
        batch: &mut SendBatch,
    ) -> Result<(), DropReason> {
        // What follows a packet in what was read is no part of it, and must not become data.
        let packet = IpPacket::parse(packet, Direction::Outbound)?.octets();
        let (mut wrapping, most) = (*wrapping, wrapping.most);
        let mut fragments = Fragments::of(packet, most).ok_or(DropReason::TooBig)?;
        let packets = Packets::cut(&fragments);
        self.sas.sealing(wrapping.sa, &mut self.headers)?.make_room(&mut wrapping, most);
        if !batch.has_room_for(fragments.count(), wrapping.room) {
            return Err(DropReason::NoBuffer);
        }
        let mut numbers = self.spend(&wrapping, packets, asked_by)?;
        self.counters.fragmented.add((fragments.count() > 1).into());
        let mut sealing = self.sas.sealing(wrapping.sa, &mut self.headers)?;
        let street = self.counters.street(Direction::Outbound);
        while let Some(number) = numbers.next_number() {
            let write = |payload: &mut [u8]| fragments.write_next(payload);
            let len = sealing.seal_into(batch, number, &wrapping, write)?;
            street.packets.add(1);
            street.octets.add(len as u64);
        }
        Ok(())
    }
}
