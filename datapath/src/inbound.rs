//! Inbound, from the wire to the TUN: RFC 4301 section 5.2, RFC 4303 section 3.4.
//!
//! The street reads as the list in the design: unwrap, find the SA, check the number, open, commit, charge,
//! decapsulate, check the selectors, ask the upper layer. Receiving comes before it; coalescing and one write per
//! super-packet after it. Nothing changes before the integrity check has passed.

use std::ops::Range;

use latchway_esp::{
    Decapsulated, Encapsulated, EspHeader, NextHeader, OpenError, Protocol, ReplayError, classify,
};
use latchway_tagging::InboundTag;

use crate::arrival::Arrival;
use crate::coalesce::Coalescer;
use crate::drop::{Direction, DropReason};
use crate::gateway::{Datapath, context};
use crate::lifetime::HardExpired;
use crate::packet::{Authenticated, IpPacket};
use crate::ulp::Ulp;

impl<U: Ulp> Datapath<U> {
    /// Takes one received unit, and hands what may pass to `units`, as ranges of `buffer`, where it was decrypted.
    #[inline]
    pub fn inbound(&mut self, buffer: &mut [u8], arrival: &Arrival, units: &mut Coalescer) {
        let (mut start, len) = (0, buffer.len());
        if len == 0 {
            // An empty datagram is one, too: nothing is dropped silently (T03).
            self.counters.street(Direction::Inbound).drop(DropReason::Runt, 1);
        }
        while start < len {
            let end = len.min(start + arrival.segment_size.max(1));
            let accepted =
                buffer.get_mut(start..end).ok_or(DropReason::Runt).and_then(|one| self.accept(one));
            let handed_on = accepted.and_then(|inner| {
                if inner.is_empty() {
                    return Ok(());
                }
                units.push(buffer, start + inner.start..start + inner.end).map_err(|_| DropReason::NoBuffer)
            });
            if let Err(reason) = handed_on {
                self.counters.street(Direction::Inbound).drop(reason, 1);
                self.audit_inbound(reason, buffer.get(start..end).unwrap_or_default(), arrival);
            }
            start = end;
        }
    }

    /// The street, for one datagram: to where its inner packet lies in it; nowhere if that waits.
    fn accept(&mut self, datagram: &mut [u8]) -> Result<Range<usize>, DropReason> {
        let header = unwrap(datagram)?;
        let owned = self.sas.inbound(self.snapshot.sad.find(Protocol::Esp, header.spi))?;
        let number = owned.sa.check(header.seq).map_err(late_or_replayed)?;
        let (opened, verified) = owned.sa.open(number, datagram).map_err(forged)?;
        owned.sa.commit(verified).map_err(late_or_replayed)?;
        let sa = owned.entry.sa;
        match owned.charge(opened.encrypted_len() as u64, self.now) {
            Ok(soft) => self.soft_reached |= soft,
            Err(HardExpired) => {
                self.sas.bury(sa);
                return Err(DropReason::HardExpired);
            }
        }
        let inner = opened.decapsulate().map_err(|_| DropReason::BadPadding)?;
        let tag = InboundTag { class: owned.entry.class, sa, version: self.version };
        let packet = parse_inner(&inner)?;
        let packet = self
            .inbound_fragments
            .resolve(packet, Some(tag), self.now, |packet| owned.admit(packet.traffic()))?;
        let Some(packet) = packet else { return Ok(Range::default()) };
        if self.is_probe_answer(&packet, tag.class) {
            return Err(DropReason::ProbeAnswer);
        }
        let (len, opens) = (packet.octets().len(), packet.opens_connection());
        self.ask_upper_layer(&Authenticated::new(packet, tag))?;
        let street = self.counters.street(Direction::Inbound);
        street.packets.add(1);
        street.octets.add(len as u64);
        let inner = inner.offset..inner.offset + len;
        if opens {
            self.keep_short(sa, datagram.get_mut(inner.clone()));
        }
        Ok(inner)
    }

    /// The upper layer decides last, and a peer whose connection is over is told so (L-103).
    pub(crate) fn ask_upper_layer(&mut self, packet: &Authenticated<'_>) -> Result<(), DropReason> {
        let context = context(&self.snapshot, self.version, self.now);
        self.ulp.inbound(packet, &context).inspect_err(|&reason| {
            if reason == DropReason::LatchBroken && self.ulp.is_over_for(packet) {
                self.replies.answer(packet, self.now);
            }
        })
    }
}

/// UDP encapsulation (RFC 3948): ESP is told from keepalives and from key exchange.
#[inline]
fn unwrap(datagram: &[u8]) -> Result<EspHeader, DropReason> {
    match classify(datagram) {
        Encapsulated::Esp(header) => Ok(header),
        Encapsulated::ReservedSpi(_) => Err(DropReason::ReservedSpi),
        Encapsulated::Keepalive => Err(DropReason::Keepalive),
        Encapsulated::NonEsp(_) => Err(DropReason::NonEsp),
        Encapsulated::Runt => Err(DropReason::Runt),
    }
}

/// RFC 4303 3.4.3: "late" is never confused with "seen before".
const fn late_or_replayed(error: ReplayError) -> DropReason {
    match error {
        ReplayError::TooOld => DropReason::TooOld,
        ReplayError::Replayed | ReplayError::Zero => DropReason::Replayed,
    }
}

const fn forged(error: OpenError) -> DropReason {
    match error {
        OpenError::Runt { .. } | OpenError::Header(_) => DropReason::Runt,
        OpenError::Unaligned { .. } | OpenError::AhLength { .. } => DropReason::BadLength,
        OpenError::IcvMismatch => DropReason::IcvMismatch,
        OpenError::Headers(_) => DropReason::BadIpHeader,
        // An SPI names an SA of its own protocol alone.
        OpenError::WrongProtocol(_) => DropReason::NoSa,
    }
}

/// Tunnel mode: the payload is the IP packet that the next header says (RFC 4303 2.6), or a dummy.
#[inline]
fn parse_inner<'p>(inner: &'p Decapsulated<'_>) -> Result<IpPacket<'p>, DropReason> {
    let version = inner.payload.first().map(|octet| octet >> 4);
    match (inner.next_header, version) {
        (NextHeader::DUMMY, _) => Err(DropReason::Dummy),
        (NextHeader::IPV4, Some(4)) | (NextHeader::IPV6, Some(6)) => {
            IpPacket::parse(inner.payload, Direction::Inbound)
        }
        _ => Err(DropReason::BadNextHeader),
    }
}
