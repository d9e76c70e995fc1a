//! One unit while it grows, when it is complete, and when it has to be taken apart again.

use std::ops::Range;

use zerocopy::{FromBytes, IntoBytes, U16};

use crate::coalesce::candidate::{Candidate, FlowKey};
use crate::coalesce::{MAX_PARTS, MAX_UNIT_HEADER, MAX_UNIT_LEN};
use crate::segment::header::{DONT_FRAGMENT, Ipv4, Ipv6, Layout, PSH, Place, Tcp, Template, Upper, Version};
use crate::virtio::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VNET_HDR_LEN, VirtioNetHdr};

/// One TUN write: the header's bytes, then the caller's buffer at each range of the payload.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// A virtio header and, where packets were merged, the IP and upper-layer header of them all.
    pub header: &'a [u8],
    /// Where the rest lies in the buffer that was given to `push`.
    pub payload: &'a [Range<usize>],
    merged: Option<Merged>,
}

impl<'a> Unit<'a> {
    /// Whether this is more than one packet.
    #[inline]
    pub fn is_merged(&self) -> bool {
        self.merged.is_some()
    }

    /// Whether what was merged is UDP datagrams.
    #[inline]
    pub fn is_udp(&self) -> bool {
        self.merged.is_some_and(|merged| merged.layout.upper == Upper::Udp)
    }

    /// The packets this was merged from, to be written one by one where the kernel does not take them together (T28).
    pub fn parts(&self) -> UnitParts<'a> {
        let headers = self.header.get(VNET_HDR_LEN..).unwrap_or_default();
        let template = self.merged.and_then(|merged| Template::new(headers, merged.layout, merged.id_step));
        UnitParts { payload: self.payload, template, index: 0, offset: 0, header: [0; MAX_UNIT_HEADER] }
    }
}

/// Takes a [`Unit`] apart.
#[derive(Debug)]
pub struct UnitParts<'a> {
    payload: &'a [Range<usize>],
    template: Option<Template>,
    index: usize,
    offset: usize,
    header: [u8; MAX_UNIT_HEADER],
}

impl UnitParts<'_> {
    /// The next packet, from the `buffer` that was given to `push`.
    pub fn next_part<'p>(&'p mut self, buffer: &'p [u8]) -> Option<UnitPart<'p>> {
        let payload = buffer.get(self.payload.get(self.index)?.clone())?;
        let header_len = VNET_HDR_LEN + self.template.as_ref().map_or(0, Template::header_len);
        let header = self.header.get_mut(..header_len)?;
        if let Some(template) = &self.template {
            let last = self.index + 1 == self.payload.len();
            let place = Place { index: self.index, offset: self.offset, last };
            template.write(header.get_mut(VNET_HDR_LEN..)?, payload, place)?;
        }
        self.index += 1;
        self.offset += payload.len();
        Some(UnitPart { header, payload })
    }
}

/// One packet of a [`Unit`].
#[derive(Clone, Copy, Debug)]
pub struct UnitPart<'a> {
    /// A virtio header and, where packets had been merged, this packet's own headers.
    pub header: &'a [u8],
    /// The rest.
    pub payload: &'a [u8],
}

/// A unit under construction.
#[derive(Debug)]
pub(super) struct Slot {
    flow: FlowKey,
    layout: Option<Layout>,
    header: [u8; MAX_UNIT_HEADER],
    header_len: usize,
    parts: [Range<usize>; MAX_PARTS],
    parts_len: usize,
    segment_size: usize,
    payload_len: usize,
    next_seq: u32,
    id_step: u16,
    closed: bool,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot {
            flow: FlowKey::default(),
            layout: None,
            header: [0; MAX_UNIT_HEADER],
            header_len: 0,
            parts: [const { 0..0 }; MAX_PARTS],
            parts_len: 0,
            segment_size: 0,
            payload_len: 0,
            next_seq: 0,
            id_step: 1,
            closed: false,
        }
    }
}

impl Slot {
    /// A packet that stays as it is.
    pub(super) fn begin_alone(&mut self, packet: Range<usize>) {
        self.layout = None;
        self.set_single(packet);
    }

    /// A packet whose header is given beside its payload. Returns whether there is room for one so long.
    pub(super) fn begin_headed(&mut self, header: &[u8], payload: Range<usize>) -> bool {
        self.begin_alone(payload);
        let Some(place) = self.header.get_mut(VNET_HDR_LEN..VNET_HDR_LEN + header.len()) else {
            return false;
        };
        place.copy_from_slice(header);
        self.header_len = VNET_HDR_LEN + header.len();
        true
    }

    /// The first packet of what may become more.
    #[inline]
    pub(super) fn begin(&mut self, bytes: &[u8], candidate: &Candidate, start: usize) {
        self.set_single(start..start + bytes.len());
        self.flow = candidate.flow;
        self.layout = Some(candidate.layout);
        let header_len = candidate.layout.header_len;
        let to = self.header.get_mut(VNET_HDR_LEN..VNET_HDR_LEN + header_len);
        if let (Some(to), Some(from)) = (to, bytes.get(..header_len)) {
            to.copy_from_slice(from);
        }
        self.segment_size = candidate.payload_len;
        self.payload_len = candidate.payload_len;
        self.next_seq = candidate.seq.wrapping_add(candidate.payload_len as u32);
        self.id_step = 1;
        self.closed = candidate.push;
    }

    #[inline]
    pub(super) fn holds(&self, flow: &FlowKey) -> bool {
        self.flow == *flow
    }

    /// Adds a packet of the same flow, if segmentation would restore exactly it.
    #[inline]
    pub(super) fn append(&mut self, bytes: &[u8], candidate: &Candidate, start: usize) -> bool {
        let header_len = candidate.layout.header_len;
        let fits = !self.closed
            && self.layout == Some(candidate.layout)
            && candidate.payload_len <= self.segment_size
            && self.parts_len < MAX_PARTS
            && header_len + self.payload_len + candidate.payload_len <= MAX_UNIT_LEN;
        let Some(id_step) = fits.then(|| self.admits(bytes, candidate)).flatten() else { return false };
        if self.parts_len == 1
            && let Some(first) = self.parts.first_mut()
        {
            // Until now it was a packet with its header; from now on the header is the unit's.
            first.start += header_len;
            self.header_len = VNET_HDR_LEN + header_len;
        }
        let Some(part) = self.parts.get_mut(self.parts_len) else { return false };
        *part = start + header_len..start + bytes.len();
        self.parts_len += 1;
        self.id_step = id_step;
        self.payload_len += candidate.payload_len;
        self.next_seq = candidate.seq.wrapping_add(candidate.payload_len as u32);
        self.closed = candidate.push || candidate.payload_len < self.segment_size;
        if candidate.push {
            self.set_push(candidate.layout.upper_start);
        }
        true
    }

    /// Writes what only the whole unit knows: virtio header, lengths, checksums. A single packet has its own already.
    pub(super) fn complete(&mut self) {
        let (Some(layout), 2..) = (self.layout, self.parts_len) else { return };
        let Some((virtio, headers)) = self.header.split_at_mut_checked(VNET_HDR_LEN) else { return };
        let Some(headers) = headers.get_mut(..layout.header_len) else { return };
        // All of these are below 2^16: `append` keeps a unit within MAX_UNIT_LEN.
        let upper_len = (layout.header_len - layout.upper_start + self.payload_len) as u16;
        let checksum_offset = layout.upper.checksum_offset();
        layout.set_lengths(headers, upper_len);
        let partial = layout.pseudo_sum(headers).u16(upper_len).partial();
        let field =
            headers.get_mut(layout.upper_start + checksum_offset..).and_then(|rest| rest.first_chunk_mut());
        if let Some(field) = field {
            *field = partial;
        }
        let gso_type = match (layout.upper, layout.version) {
            (Upper::Tcp, Version::V4) => GSO_TCPV4,
            (Upper::Tcp, Version::V6) => GSO_TCPV6,
            (Upper::Udp, _) => GSO_UDP_L4,
        };
        let header = VirtioNetHdr {
            flags: NEEDS_CSUM,
            gso_type,
            hdr_len: U16::new(layout.header_len as u16),
            gso_size: U16::new(self.segment_size as u16),
            csum_start: U16::new(layout.upper_start as u16),
            csum_offset: U16::new(checksum_offset as u16),
        };
        virtio.copy_from_slice(header.as_bytes());
    }

    #[inline]
    pub(super) fn unit(&self) -> Unit<'_> {
        let merged = self.layout.filter(|_| self.parts_len > 1);
        Unit {
            header: self.header.get(..self.header_len).unwrap_or_default(),
            payload: self.parts.get(..self.parts_len).unwrap_or_default(),
            merged: merged.map(|layout| Merged { layout, id_step: self.id_step }),
        }
    }

    fn set_single(&mut self, packet: Range<usize>) {
        for byte in self.header.iter_mut().take(VNET_HDR_LEN) {
            *byte = 0;
        }
        self.header_len = VNET_HDR_LEN;
        if let Some(first) = self.parts.first_mut() {
            *first = packet;
        }
        self.parts_len = 1;
    }

    /// Whether the headers agree in all that segmentation copies; if so, the step of the identification.
    #[inline]
    fn admits(&self, bytes: &[u8], candidate: &Candidate) -> Option<u16> {
        let layout = candidate.layout;
        let headers = self.header.get(VNET_HDR_LEN..VNET_HDR_LEN + layout.header_len)?;
        let id_step = match layout.version {
            Version::V4 => self.admits_v4(headers, bytes)?,
            Version::V6 => {
                let (ours, _) = Ipv6::ref_from_prefix(headers).ok()?;
                let (theirs, _) = Ipv6::ref_from_prefix(bytes).ok()?;
                let same = ours.version_class_label == theirs.version_class_label
                    && ours.hop_limit == theirs.hop_limit;
                same.then_some(self.id_step)?
            }
        };
        if layout.upper == Upper::Udp {
            return Some(id_step);
        }
        let (ours, our_options) = Tcp::ref_from_prefix(headers.get(layout.upper_start..)?).ok()?;
        let (theirs, rest) = Tcp::ref_from_prefix(bytes.get(layout.upper_start..)?).ok()?;
        let same = candidate.seq == self.next_seq
            && ours.ack == theirs.ack
            && ours.window == theirs.window
            && rest.get(..our_options.len()) == Some(our_options);
        same.then_some(id_step)
    }

    /// The identification counts up or, in a packet that is never fragmented, may stand still (RFC 6864 section 4.1).
    #[inline]
    fn admits_v4(&self, headers: &[u8], bytes: &[u8]) -> Option<u16> {
        let (ours, _) = Ipv4::ref_from_prefix(headers).ok()?;
        let (theirs, _) = Ipv4::ref_from_prefix(bytes).ok()?;
        if ours.tos != theirs.tos || ours.ttl != theirs.ttl || ours.fragment != theirs.fragment {
            return None;
        }
        let atomic = ours.fragment.get() & DONT_FRAGMENT != 0;
        let distance = theirs.id.get().wrapping_sub(ours.id.get());
        let step_of = |step: u16| distance == step.wrapping_mul(self.parts_len as u16);
        match self.parts_len {
            1 if step_of(1) => Some(1),
            1 if atomic && step_of(0) => Some(0),
            1 => None,
            _ => step_of(self.id_step).then_some(self.id_step),
        }
    }

    fn set_push(&mut self, upper_start: usize) {
        let upper = self.header.get_mut(VNET_HDR_LEN + upper_start..).unwrap_or_default();
        if let Ok((tcp, _)) = Tcp::mut_from_prefix(upper) {
            tcp.flags |= PSH;
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Merged {
    layout: Layout,
    id_step: u16,
}
