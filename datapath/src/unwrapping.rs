//! What protected packets are taken out of, on their way in: where the protection header is, and what is left when it and all
//! that came with it is gone (RFC 4301 section 5.2, RFC 4303 section 3.4).
//!
//! Whatever comes out lies where it was received. Only in transport mode in UDP there was no header to keep, so that one is
//! made; and what has a new header is looked at beside the buffer.

use std::net::IpAddr;
use std::ops::Range;

use latchway_esp::{
    AhHeader, Encapsulated, EspHeader, NextHeader, ParseError, Protocol, SeqLow, Spi, classify,
};

use crate::arrival::{Arrival, Carrier};
use crate::checksum::Sum;
use crate::drop::DropReason;
use crate::native::{HeaderSource, IPV4_LEN, IPV6_LEN, OuterHeader, amend};
use crate::owned::OwnedInbound;
use crate::transport::{Found, Place, recompute_checksum};

/// A protection header, by which an SA is found. Nothing of it is authentic yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried {
    pub(crate) protocol: Protocol,
    pub(crate) spi: Spi,
    pub(crate) seq: SeqLow,
    /// Where it is. In UDP nothing is in front of it.
    pub(crate) place: Place,
    /// Where what it protects ends.
    pub(crate) end: usize,
}

/// What is left of a packet.
#[derive(Clone, Debug)]
pub(crate) struct Inner {
    /// Where it lies.
    pub(crate) octets: Range<usize>,
    /// How many octets of header it was given, which lie elsewhere.
    pub(crate) header_len: usize,
}

impl Carried {
    /// Finds the protection header of one received datagram or packet.
    #[inline]
    pub(crate) fn find(datagram: &[u8], carrier: Carrier) -> Result<Self, DropReason> {
        match carrier {
            Carrier::Udp => {
                let EspHeader { spi, seq } = unwrap(datagram)?;
                let place = Place { at: 0, next_header_at: 0, next_header: Protocol::Esp.number() };
                Ok(Self { protocol: Protocol::Esp, spi, seq, place, end: datagram.len() })
            }
            Carrier::Native => Self::find_in_packet(datagram),
        }
    }

    /// The header of ESP directly within AH, which has been verified.
    pub(crate) fn in_ah(packet: &[u8], payload: Range<usize>) -> Result<Self, DropReason> {
        let (at, end) = (payload.start, payload.end);
        let header = packet.get(payload).ok_or(DropReason::Runt)?;
        let EspHeader { spi, seq } = EspHeader::parse(header).map_err(no_header)?;
        let place = Place { at, next_header_at: at, next_header: Protocol::Esp.number() };
        Ok(Self { protocol: Protocol::Esp, spi, seq, place, end })
    }

    fn find_in_packet(packet: &[u8]) -> Result<Self, DropReason> {
        let Found { protocol, place, len } = Found::in_packet(packet)?;
        let header = packet.get(place.at..len).ok_or(DropReason::Runt)?;
        let (spi, seq) = match protocol {
            Protocol::Esp => EspHeader::parse(header).map(|EspHeader { spi, seq }| (spi, seq)),
            Protocol::Ah => AhHeader::parse(header).map(|AhHeader { spi, seq, .. }| (spi, seq)),
        }
        .map_err(no_header)?;
        Ok(Self { protocol, spi, seq, place, end: len })
    }
}

impl OwnedInbound {
    /// Whether a packet that was authenticated came from the peer. A peer that may move comes from anywhere.
    ///
    /// # Errors
    /// [`DropReason::OuterMismatch`]
    #[inline(always)]
    pub(crate) fn comes_from_peer(&self, arrival: &Arrival) -> Result<(), DropReason> {
        let from = arrival.from.ip();
        if from == self.from.address || self.may_come_from(from) {
            return Ok(());
        }
        Err(DropReason::OuterMismatch)
    }

    /// Takes a packet out of a tunnel: it is what the next header says (RFC 4303 2.6), and learns of congestion on the way
    /// (RFC 6040). Returns whether its ECN field and the outer one never come together by themselves.
    ///
    /// # Errors
    /// [`DropReason::Dummy`], [`DropReason::BadNextHeader`] or [`DropReason::EcnCeNotEct`].
    #[inline]
    pub(crate) fn leave_tunnel(
        &self,
        next_header: NextHeader,
        packet: &mut [u8],
        outer_class: u8,
    ) -> Result<bool, DropReason> {
        match (next_header, packet.first().map(|octet| octet >> 4)) {
            (NextHeader::DUMMY, _) => Err(DropReason::Dummy),
            (NextHeader::IPV4, Some(4)) | (NextHeader::IPV6, Some(6)) => {
                self.outer.decapsulate(packet, outer_class)
            }
            _ => Err(DropReason::BadNextHeader),
        }
    }

    /// Gives what came in transport mode in UDP the header that it was protected under. It and its payload are written to
    /// `scratch`; the payload stays where it is besides.
    pub(crate) fn restore_from_udp(
        &self,
        (next_header, payload): (NextHeader, &mut [u8]),
        arrival: &Arrival,
        (scratch, source): (&mut [u8], &mut HeaderSource),
    ) -> Result<usize, DropReason> {
        if next_header == NextHeader::DUMMY {
            return Err(DropReason::Dummy);
        }
        let NextHeader(protocol) = next_header;
        let (from, to) = (arrival.from.ip().to_canonical(), self.from.local.to_canonical());
        let (header_len, addresses) = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (IPV4_LEN, Sum::pseudo_v4(from, to, 0)),
            (IpAddr::V6(from), IpAddr::V6(to)) => (IPV6_LEN, Sum::pseudo_v6(from, to, 0)),
            _ => return Err(DropReason::TransportEnds),
        };
        if self.from.translated {
            recompute_checksum(addresses, from.is_ipv6(), protocol, payload);
        }
        let packet = scratch.get_mut(..header_len + payload.len()).ok_or(DropReason::NoBuffer)?;
        packet.get_mut(header_len..).ok_or(DropReason::NoBuffer)?.copy_from_slice(payload);
        let (traffic_class, ttl) = (arrival.traffic_class, RESTORED_TTL);
        let header = OuterHeader { from, to, traffic_class, may_fragment: false, ttl, flow_label: 0 };
        header.write(packet, protocol, source).ok_or(DropReason::BadIpHeader)?;
        Ok(header_len)
    }
}

/// Puts the header of a transport mode packet in front of what it protected again, over what is no longer needed.
pub(crate) fn restore(
    packet: &mut [u8],
    place: Place,
    (next_header, payload): (NextHeader, Range<usize>),
) -> Result<Range<usize>, DropReason> {
    if next_header == NextHeader::DUMMY {
        return Err(DropReason::Dummy);
    }
    let start = payload.start.checked_sub(place.at).ok_or(DropReason::Runt)?;
    packet.copy_within(..place.at, start);
    let restored = packet.get_mut(start..payload.end).ok_or(DropReason::Runt)?;
    amend(restored, (place.next_header_at, next_header.0)).ok_or(DropReason::BadIpHeader)?;
    Ok(start..payload.end)
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

/// RFC 4303 2.1: SPI 0 is for local use and never on the wire.
const fn no_header(error: ParseError) -> DropReason {
    match error {
        ParseError::SpiReserved(_) | ParseError::SpiZero => DropReason::ReservedSpi,
        ParseError::Runt { .. } => DropReason::Runt,
        ParseError::AhLength(_) => DropReason::BadLength,
    }
}

/// The hop count of a packet whose own did not travel with it: it is at its end.
const RESTORED_TTL: u8 = 64;
