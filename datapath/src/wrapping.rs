//! How the packets of one super-packet are wrapped on their way out: which headers stand in front of what is protected, and
//! what they say (RFC 4301 section 5.1.2, RFC 4303 section 3.1).
//!
//! Worked out once for a super-packet, whose packets differ in nothing that matters here. Where ESP travels through a tunnel
//! in UDP the system writes the outer header, so that there is nothing to wrap: each packet is sealed where it was written.

use latchway_esp::{FreshSeq, NextHeader, Protocol};
use latchway_tagging::{Mode, SaRef};

use crate::arrival::Carrier;
use crate::drop::DropReason;
use crate::native::{HeaderSource, OuterHeader, amend, header_len};
use crate::outer::traffic_class;
use crate::owned::OwnedOutbound;
use crate::packet::IpPacket;
use crate::segment::SuperPacket;
use crate::send_batch::{Marks, SendBatch, Target};
use crate::transport::{self, Place};

/// The wrapping of one super-packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wrapping {
    /// The SA that protects.
    pub(crate) sa: SaRef,
    /// The largest inner packet that fits the path.
    pub(crate) most: usize,
    target: Target,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// The system writes the outer header.
    InUdp,
    /// The gateway writes it.
    Native(OuterHeader),
    /// The packet's own stays in front.
    Transport(Place),
    /// The system writes one like the packet's own.
    TransportInUdp(Place),
}

/// What packets are sealed with: their SA, and what the headers take that the gateway writes.
pub(crate) struct Sealing<'s> {
    pub(crate) own: &'s OwnedOutbound,
    pub(crate) source: &'s mut HeaderSource,
}

impl Sealing<'_> {
    /// Works out the wrapping of a packet, or of a super-packet by its first header.
    ///
    /// # Errors
    /// In transport mode [`DropReason::TransportEnds`], [`DropReason::TransportFragment`] or
    /// [`DropReason::TransportHeader`].
    #[inline]
    pub(crate) fn wrap(&self, packet: &IpPacket<'_>) -> Result<Wrapping, DropReason> {
        let own = self.own;
        let marks = own.shape.outer.marks(packet.octets());
        let target = Target { to: own.path.to, wire: own.path.wire, marks };
        let wrapping = Wrapping { sa: own.entry.sa, most: own.max_payload, target, form: Form::InUdp };
        if own.plain { Ok(wrapping) } else { self.wrap_otherwise(packet, wrapping) }
    }

    /// The room that inner packets of up to `longest` octets take while they are sealed.
    #[inline]
    pub(crate) fn room(&self, wrapping: &Wrapping, longest: usize) -> usize {
        if self.own.plain {
            return self.own.sa.sealed_len(longest);
        }
        let sealed = self.own.sa.sealed_len(longest.saturating_sub(wrapping.kept()));
        match wrapping.form {
            // Its own header is written, too, and taken away before it is sealed.
            Form::TransportInUdp(place) => place.at + sealed,
            _ => wrapping.in_front() + sealed,
        }
    }

    /// Octets that the cipher is applied to when every packet of a super-packet is sealed, which lifetimes count.
    #[inline]
    pub(crate) fn protected_len(&self, wrapping: &Wrapping, super_packet: &SuperPacket<'_>) -> u64 {
        let (count, longest) = (super_packet.segment_count(), super_packet.max_segment_len());
        // The last segment may be shorter than the others.
        let last = super_packet.total_len() - longest * (count - 1);
        (self.protected(wrapping, longest) * (count - 1) + self.protected(wrapping, last)) as u64
    }

    /// The same for one inner packet.
    #[inline]
    pub(crate) fn protected(&self, wrapping: &Wrapping, inner_len: usize) -> usize {
        self.own.sa.suite().encrypted_len(inner_len.saturating_sub(wrapping.kept()))
    }

    /// Has `write` write an IP packet straight into the send buffer, where it may take up to `room` octets once sealed,
    /// and seals it there. Returns the packet's length.
    ///
    /// # Errors
    /// [`DropReason::NoBuffer`] or [`DropReason::BadOffload`].
    #[inline]
    pub(crate) fn seal_into(
        &mut self,
        batch: &mut SendBatch,
        number: FreshSeq,
        (wrapping, room): (&Wrapping, usize),
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<usize, DropReason> {
        let datagram = batch.reserve(wrapping.target, room).ok_or(DropReason::NoBuffer)?;
        let (len, sealed) = if self.own.plain {
            self.own.seal_tunnel(number, datagram, write)?
        } else {
            self.seal_wrapped(number, wrapping, datagram, write)?
        };
        batch.commit(sealed);
        Ok(len)
    }

    #[inline(never)]
    fn wrap_otherwise(&self, packet: &IpPacket<'_>, mut wrapping: Wrapping) -> Result<Wrapping, DropReason> {
        let own = self.own;
        wrapping.form = match (own.entry.mode, own.path.carrier) {
            (Mode::Tunnel, Carrier::Udp) => Form::InUdp,
            (Mode::Tunnel, Carrier::Native) => Form::Native(self.outer_header(packet, wrapping.target.marks)),
            (Mode::Transport, carrier) => {
                own.joins(packet)?;
                let place = Place::for_protection(packet.octets())?;
                // The packet's own header is the outer one, so nothing of it is set.
                wrapping.target.marks.traffic_class = traffic_class(packet.octets());
                match carrier {
                    Carrier::Native => Form::Transport(place),
                    Carrier::Udp if place.at == header_len(&own.path.to) => Form::TransportInUdp(place),
                    Carrier::Udp => return Err(DropReason::TransportHeader),
                }
            }
        };
        wrapping.most = own.fitting().max_inner(own.path.mtu.into(), wrapping.kept());
        Ok(wrapping)
    }

    fn outer_header(&self, packet: &IpPacket<'_>, marks: Marks) -> OuterHeader {
        let (path, outer) = (&self.own.path, &self.own.shape.outer);
        OuterHeader {
            from: path.from,
            to: path.to.ip(),
            traffic_class: marks.traffic_class,
            may_fragment: marks.may_fragment,
            ttl: outer.ttl,
            flow_label: self.source.label(outer.flow_label, packet.octets(), packet.flow()),
        }
    }

    /// Returns the length of the inner packet, and of what it became.
    fn seal_wrapped(
        &mut self,
        number: FreshSeq,
        wrapping: &Wrapping,
        datagram: &mut [u8],
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<(usize, usize), DropReason> {
        let sa = &self.own.sa;
        let (front, payload_at) = (wrapping.in_front(), wrapping.in_front() + sa.payload_offset());
        // A header that stays is written so far back that what it heads is where it is sealed.
        let written_at = match wrapping.form {
            Form::Transport(place) => payload_at - place.at,
            _ => payload_at,
        };
        let written = datagram.get_mut(written_at..).ok_or(DropReason::NoBuffer)?;
        let len = write(written).ok_or(DropReason::BadOffload)?;
        if self.own.clamp_mss {
            self.own.keep_short(written.get_mut(..len));
        }
        let (next_header, payload_len) = wrapping.payload(written, len)?;
        match wrapping.form {
            Form::Transport(place) => datagram.copy_within(written_at..written_at + place.at, 0),
            Form::TransportInUdp(place) => {
                let payload = payload_at + place.at..payload_at + place.at + payload_len;
                datagram.copy_within(payload, payload_at);
            }
            Form::InUdp | Form::Native(_) => {}
        }
        let protected = datagram.get_mut(front..).ok_or(DropReason::NoBuffer)?;
        let sealed = sa.seal(number, next_header, protected, payload_len);
        let end = front + sealed.map_err(|_| DropReason::NoBuffer)?;
        let packet = datagram.get_mut(..end).ok_or(DropReason::NoBuffer)?;
        wrapping.head(packet, Protocol::Esp.number(), self.source).ok_or(DropReason::NoBuffer)?;
        Ok((len, end))
    }
}

impl Wrapping {
    /// Whether a packet's own header stays in front of it. Such packets are protected whole (RFC 4303 section 3.3.4).
    pub(crate) fn is_transport(&self) -> bool {
        matches!(self.form, Form::Transport(_) | Form::TransportInUdp(_))
    }

    /// Octets of the outer header, where the gateway writes it.
    fn in_front(&self) -> usize {
        match &self.form {
            Form::InUdp | Form::TransportInUdp(_) => 0,
            Form::Native(_) => header_len(&self.target.to),
            Form::Transport(place) => place.at,
        }
    }

    /// Octets of an inner packet that are not protected: its own header in transport mode.
    fn kept(&self) -> usize {
        match &self.form {
            Form::Transport(place) | Form::TransportInUdp(place) => place.at,
            Form::InUdp | Form::Native(_) => 0,
        }
    }

    /// What of a packet is protected: what it is, and how long. What follows a packet in what was read is no part of it, and
    /// in transport mode would become part of the upper layer's data.
    fn payload(&self, packet: &[u8], len: usize) -> Result<(NextHeader, usize), DropReason> {
        match &self.form {
            Form::Transport(place) | Form::TransportInUdp(place) => {
                let payload_len = transport::length(packet)?.min(len).checked_sub(place.at);
                Ok((NextHeader(place.next_header), payload_len.ok_or(DropReason::Runt)?))
            }
            Form::InUdp | Form::Native(_) => Ok((inner_header(packet), len)),
        }
    }

    /// Completes the header in front.
    fn head(&self, packet: &mut [u8], protocol: u8, source: &mut HeaderSource) -> Option<()> {
        match &self.form {
            Form::InUdp | Form::TransportInUdp(_) => Some(()),
            Form::Native(header) => header.write(packet, protocol, source),
            Form::Transport(place) => amend(packet, (place.next_header_at, protocol)),
        }
    }
}

/// What a tunnel says of an inner packet (RFC 4303 section 2.6).
#[inline]
pub(crate) fn inner_header(packet: &[u8]) -> NextHeader {
    let is_v4 = packet.first().is_some_and(|octet| octet >> 4 == 4);
    if is_v4 { NextHeader::IPV4 } else { NextHeader::IPV6 }
}
