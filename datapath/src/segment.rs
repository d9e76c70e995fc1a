//! Outbound: what one TUN read returns, checked, and cut into the packets that were meant.
//!
//! A super-packet is up to 64 KiB of one TCP or UDP flow with a virtio header in front that says how to cut it
//! (virtio 1.2, section 5.1.6.2). The header comes from outside the process and is believed in nothing: every offset is
//! proven against the packet, and what does not fit is an error (T28). [`Segmenter`] writes each packet straight where
//! the caller wants it, so the payload is copied once and summed once.

use std::fmt;

use zerocopy::FromBytes;

use crate::checksum::Sum;
use crate::virtio::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VirtioNetHdr};

pub(crate) mod header;

use header::{Layout, Place, Template, Upper, Version};

/// One read from the TUN: a packet, or many of one flow under one header.
#[derive(Debug)]
pub struct SuperPacket<'a> {
    packet: &'a [u8],
    cut: Option<Cut>,
}

impl<'a> SuperPacket<'a> {
    /// Checks `buf`, a virtio header and an IP packet as read from the TUN, and completes the checksum of a packet that
    /// is not to be cut (virtio 1.2, section 5.1.6.2).
    pub fn parse(buf: &'a mut [u8]) -> Result<SuperPacket<'a>, SuperPacketError> {
        let (virtio, packet) = VirtioNetHdr::mut_from_prefix(buf).map_err(|_| SuperPacketError::Truncated)?;
        if packet.is_empty() || usize::from(virtio.hdr_len.get()) > packet.len() {
            return Err(SuperPacketError::Truncated);
        }
        if virtio.gso_type & !GSO_ECN == GSO_NONE {
            if virtio.flags & NEEDS_CSUM != 0 {
                complete_checksum(virtio, packet)?;
                // A packet that is parsed again, on its way to another port, must not be completed twice.
                virtio.flags &= !NEEDS_CSUM;
            }
            return Ok(SuperPacket { packet, cut: None });
        }
        let cut = Cut::parse(virtio, packet)?;
        Ok(SuperPacket { packet, cut: Some(cut) })
    }

    /// The packets, ready to be written one after the other.
    #[inline]
    pub fn segments(&self) -> Segmenter<'a> {
        let total = self.segment_count();
        // A layout was proven on this very packet, so a cut always has its template.
        let template = self.cut.as_ref().and_then(|cut| Template::new(self.packet, cut.layout, 1));
        let segment_size = self.cut.as_ref().map_or(self.packet.len(), |cut| cut.segment_size);
        let header_len = self.cut.as_ref().map_or(0, |cut| cut.layout.header_len);
        let payload = self.packet.get(header_len..).unwrap_or_default();
        Segmenter { payload, template, segment_size, total, index: 0, overflowed: false }
    }

    /// The whole IP packet with its headers. Where it is to be cut, lengths and checksums are the super-packet's own.
    #[inline]
    pub fn packet(&self) -> &[u8] {
        self.packet
    }

    /// How many packets this is; at least one.
    #[inline]
    pub fn segment_count(&self) -> usize {
        self.cut.as_ref().map_or(1, |cut| self.total_payload().div_ceil(cut.segment_size).max(1))
    }

    /// Length of all the packets it becomes together: its headers once for each, its payload once.
    #[inline]
    pub fn total_len(&self) -> usize {
        let headers = self.packet.len() - self.total_payload();
        self.total_payload() + headers * self.segment_count()
    }

    /// Length of the longest packet it becomes, IP header included.
    #[inline]
    pub fn max_segment_len(&self) -> usize {
        self.cut.as_ref().map_or(self.packet.len(), |cut| {
            cut.layout.header_len + cut.segment_size.min(self.total_payload())
        })
    }

    /// Upper-layer payload bytes of a super-packet; of a single packet, everything.
    #[inline]
    pub fn total_payload(&self) -> usize {
        self.packet.len() - self.cut.as_ref().map_or(0, |cut| cut.layout.header_len)
    }
}

/// Writes the packets of one [`SuperPacket`] in order.
#[derive(Debug)]
pub struct Segmenter<'a> {
    payload: &'a [u8],
    /// None where the payload is the whole packet.
    template: Option<Template>,
    segment_size: usize,
    total: usize,
    index: usize,
    overflowed: bool,
}

impl Segmenter<'_> {
    /// Writes the next complete IP packet to the front of `out` and returns its length. None at the end, and for ever
    /// once `out` was too short: see [`Segmenter::overflowed`].
    #[inline]
    pub fn write_next(&mut self, out: &mut [u8]) -> Option<usize> {
        if self.index >= self.total || self.overflowed {
            return None;
        }
        let written = self.write(out);
        self.overflowed = written.is_none();
        self.index += 1;
        written
    }

    /// How many packets are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.total - self.index
    }

    /// Whether a packet was lost because the caller's buffer was too short for it.
    #[inline]
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    #[inline]
    fn write(&self, out: &mut [u8]) -> Option<usize> {
        let offset = self.index * self.segment_size;
        let end = self.payload.len().min(offset + self.segment_size);
        let payload = self.payload.get(offset..end)?;
        let header_len = self.template.as_ref().map_or(0, Template::header_len);
        let segment = out.get_mut(..header_len + payload.len())?;
        let (header, body) = segment.split_at_mut_checked(header_len)?;
        body.copy_from_slice(payload);
        if let Some(template) = &self.template {
            // Summed from the copy: it is the one in the nearest cache.
            template.write(
                header,
                body,
                Place { index: self.index, offset, last: self.index + 1 == self.total },
            )?;
        }
        Some(header_len + payload.len())
    }
}

/// What makes a read from the TUN unusable (T28). It is dropped and counted, never repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuperPacketError {
    /// Too short for the headers it claims.
    Truncated,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// A length in its headers is not the length of what was read.
    BadLength,
    /// A fragment: fragments are neither cut nor merged.
    Fragment,
    /// Neither TCP nor UDP directly after the IP header.
    Protocol(u8),
    /// To be cut in a way that is not known, or that does not fit its protocol.
    GsoType(u8),
    /// To be cut into segments of no bytes.
    ZeroSegment,
    /// The checksum lies outside the packet, or not where its protocol keeps it.
    ChecksumPlace,
}

impl fmt::Display for SuperPacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SuperPacketError::Truncated => f.write_str("too short for the headers it claims"),
            SuperPacketError::NotIp => f.write_str("neither IPv4 nor IPv6"),
            SuperPacketError::BadLength => f.write_str("its headers claim another length"),
            SuperPacketError::Fragment => f.write_str("a fragment cannot be segmented"),
            SuperPacketError::Protocol(number) => write!(f, "protocol {number} cannot be segmented"),
            SuperPacketError::GsoType(gso_type) => {
                write!(f, "segmentation type {gso_type:#04x} does not fit it")
            }
            SuperPacketError::ZeroSegment => f.write_str("asks for segments of no bytes"),
            SuperPacketError::ChecksumPlace => f.write_str("its checksum lies outside of it"),
        }
    }
}

impl std::error::Error for SuperPacketError {}

/// How a super-packet is to be cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    layout: Layout,
    segment_size: usize,
}

impl Cut {
    fn parse(virtio: &VirtioNetHdr, packet: &[u8]) -> Result<Cut, SuperPacketError> {
        let layout = Layout::parse(packet)?;
        let gso_type = virtio.gso_type & !GSO_ECN;
        let fits = match gso_type {
            GSO_TCPV4 => layout.version == Version::V4 && layout.upper == Upper::Tcp,
            GSO_TCPV6 => layout.version == Version::V6 && layout.upper == Upper::Tcp,
            GSO_UDP_L4 => layout.upper == Upper::Udp,
            _ => false,
        };
        if !fits {
            return Err(SuperPacketError::GsoType(gso_type));
        }
        let segment_size = usize::from(virtio.gso_size.get());
        if segment_size == 0 {
            return Err(SuperPacketError::ZeroSegment);
        }
        let at = (usize::from(virtio.csum_start.get()), usize::from(virtio.csum_offset.get()));
        if virtio.flags & NEEDS_CSUM != 0 && at != (layout.upper_start, layout.upper.checksum_offset()) {
            return Err(SuperPacketError::ChecksumPlace);
        }
        Ok(Cut { layout, segment_size })
    }
}

/// The field holds the pseudo-header's sum already, so summing from `csum_start` to the end includes it.
fn complete_checksum(virtio: &VirtioNetHdr, packet: &mut [u8]) -> Result<(), SuperPacketError> {
    let (start, offset) = (usize::from(virtio.csum_start.get()), usize::from(virtio.csum_offset.get()));
    let summed = packet.get_mut(start..).ok_or(SuperPacketError::ChecksumPlace)?;
    // All ones and zero are the same number to TCP, and UDP must not send zero (RFC 768).
    let checksum = Sum::ZERO.bytes(summed).udp_checksum();
    let field = summed.get_mut(offset..).and_then(|rest| rest.first_chunk_mut());
    *field.ok_or(SuperPacketError::ChecksumPlace)? = checksum;
    Ok(())
}
