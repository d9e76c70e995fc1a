//! How the packets of one super-packet are wrapped on their way out: which headers stand in front of what is protected, and
//! what they say (RFC 4301 section 5.1.2, RFC 4303 section 3.1).
//!
//! Worked out once for a super-packet, whose packets differ in nothing that matters here. Where ESP travels through a tunnel
//! in UDP the system writes the outer header, so that there is nothing to wrap: each packet is sealed where it was written.

use latchway_esp::{NextHeader, Protocol, SealError};
use latchway_tagging::{Mode, SaRef};

use crate::arrival::Carrier;
use crate::drop::DropReason;
use crate::mss;
use crate::native::{HeaderSource, OuterHeader, amend, header_len};
use crate::outer::own_marks;
use crate::owned::OwnedOutbound;
use crate::packet::IpPacket;
use crate::sad::Tfc;
use crate::send_batch::{Marks, SendBatch, Target};
use crate::spending::Number;
use crate::transport::{self, Place};

/// The wrapping of one super-packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wrapping {
    /// The SA that protects.
    pub(crate) sa: SaRef,
    /// The largest inner packet that fits the path.
    pub(crate) most: usize,
    /// The room that each packet takes while it is sealed.
    pub(crate) room: usize,
    marks: Marks,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// The system writes the outer header.
    InUdp,
    /// The gateway writes it, with this flow label.
    Native { flow_label: u32 },
    /// The packet's own stays in front.
    Transport(Place),
    /// The system writes one like the packet's own.
    TransportInUdp(Place),
}

/// What packets are sealed with: their SA, the one that goes around it in a bundle (RFC 4301 section 4.3), and what the
/// headers take that the gateway writes.
pub(crate) struct Sealing<'s> {
    pub(crate) own: &'s mut OwnedOutbound,
    pub(crate) around: Option<&'s mut OwnedOutbound>,
    pub(crate) source: &'s mut HeaderSource,
}

impl Sealing<'_> {
    /// Works out the wrapping of a packet, or of a super-packet by its first header, of which no packet is longer than
    /// `longest`.
    ///
    /// # Errors
    /// In transport mode [`DropReason::TransportEnds`], [`DropReason::TransportFragment`] or
    /// [`DropReason::TransportHeader`].
    #[inline]
    pub(crate) fn wrap(&self, packet: &IpPacket<'_>, longest: usize) -> Result<Wrapping, DropReason> {
        let own = &*self.own;
        let marks = own.shape.outer.marks(packet.octets());
        let (most, room) = (own.max_payload, own.sa.sealed_len(longest));
        let wrapping = Wrapping { sa: own.entry.sa, most, room, marks, form: Form::InUdp };
        if own.plain { Ok(wrapping) } else { self.wrap_otherwise(packet, longest, wrapping) }
    }

    /// Keeps as much room for each packet as inner ones of up to `longest` octets take.
    pub(crate) fn make_room(&self, wrapping: &mut Wrapping, longest: usize) {
        wrapping.room = self.room(wrapping, longest);
    }

    fn room(&self, wrapping: &Wrapping, longest: usize) -> usize {
        let sealed = self.sealed_len(wrapping.payload_len(self.own, longest));
        match wrapping.form {
            // Its own header is written, too, and taken away before it is sealed.
            Form::TransportInUdp(place) => place.at + sealed,
            _ => self.header_len(wrapping) + self.around_len() + sealed,
        }
    }

    /// Has `write` write an IP packet straight into the send buffer, and seals it there. Returns the packet's length.
    ///
    /// # Errors
    /// [`DropReason::NoBuffer`] or [`DropReason::BadOffload`].
    #[inline]
    pub(crate) fn seal_into(
        &mut self,
        batch: &mut SendBatch,
        number: Number,
        wrapping: &Wrapping,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<usize, DropReason> {
        let (path, marks) = (&self.own.path, wrapping.marks);
        let target = Target { to: path.to, wire: path.wire, marks };
        let datagram = batch.reserve(target, wrapping.room).ok_or(DropReason::NoBuffer)?;
        let (len, sealed) = if self.own.plain {
            self.own.seal_tunnel(number.own, datagram, write)?
        } else {
            self.seal_wrapped(number, wrapping, datagram, write)?
        };
        batch.commit(sealed);
        Ok(len)
    }

    #[inline(never)]
    fn wrap_otherwise(
        &self,
        packet: &IpPacket<'_>,
        longest: usize,
        mut wrapping: Wrapping,
    ) -> Result<Wrapping, DropReason> {
        let own = &*self.own;
        wrapping.form = match (own.entry.mode, own.path.carrier) {
            // Only ESP travels in UDP (RFC 3948 section 1).
            (_, Carrier::Udp) if self.has_ah() => return Err(DropReason::NoOutboundSa),
            (Mode::Tunnel, Carrier::Udp) => Form::InUdp,
            (Mode::Tunnel, Carrier::Native) => Form::Native { flow_label: self.flow_label(packet) },
            (Mode::Transport, carrier) => {
                own.joins(packet)?;
                let place = Place::for_protection(packet.octets())?;
                wrapping.marks = own_marks(packet.octets());
                match carrier {
                    Carrier::Native => Form::Transport(place),
                    Carrier::Udp if place.at == header_len(&own.path.to) => Form::TransportInUdp(place),
                    Carrier::Udp => return Err(DropReason::TransportHeader),
                }
            }
        };
        let around = self.around_len();
        let fitting = if around > 0 { own.fitting().behind(around) } else { own.fitting() };
        wrapping.most = fitting.max_inner(own.path.mtu.into(), wrapping.kept());
        self.make_room(&mut wrapping, longest);
        Ok(wrapping)
    }

    fn flow_label(&self, packet: &IpPacket<'_>) -> u32 {
        self.source.label(self.own.shape.outer.flow_label, packet.octets(), packet.flow())
    }

    fn outer_header(&self, marks: Marks, flow_label: u32) -> OuterHeader {
        let (path, outer) = (&self.own.path, &self.own.shape.outer);
        let Marks { traffic_class, may_fragment } = marks;
        let (from, to, ttl) = (path.from, path.to.ip(), outer.ttl);
        OuterHeader { from, to, traffic_class, may_fragment, ttl, flow_label }
    }

    fn has_ah(&self) -> bool {
        self.around.is_some() || self.own.entry.protocol == Protocol::Ah
    }

    /// Octets of the outer header, where the gateway writes it.
    fn header_len(&self, wrapping: &Wrapping) -> usize {
        match wrapping.form {
            Form::InUdp | Form::TransportInUdp(_) => 0,
            Form::Native { .. } => header_len(&self.own.path.to),
            Form::Transport(place) => place.at,
        }
    }

    const fn is_v6(&self) -> bool {
        self.own.path.to.is_ipv6()
    }

    /// Octets of the AH header around ESP.
    fn around_len(&self) -> usize {
        self.around.as_ref().map_or(0, |around| around.sa.ah_len(self.is_v6()))
    }

    /// What the SA itself makes in front of what it protects.
    fn offset(&self) -> usize {
        match self.own.entry.protocol {
            Protocol::Esp => self.own.sa.payload_offset(),
            Protocol::Ah => self.own.sa.ah_len(self.is_v6()),
        }
    }

    pub(crate) fn sealed_len(&self, payload_len: usize) -> usize {
        match self.own.entry.protocol {
            Protocol::Esp => self.own.sa.sealed_len(payload_len),
            Protocol::Ah => self.offset() + payload_len,
        }
    }

    /// Returns the length of the inner packet, and of what it became.
    fn seal_wrapped(
        &mut self,
        number: Number,
        wrapping: &Wrapping,
        datagram: &mut [u8],
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<(usize, usize), DropReason> {
        let front = self.header_len(wrapping) + self.around_len();
        let payload_at = front + self.offset();
        // A header that stays is written so far back that what it heads is where it is sealed.
        let written_at = match wrapping.form {
            Form::Transport(place) => payload_at - place.at,
            _ => payload_at,
        };
        let written = datagram.get_mut(written_at..).ok_or(DropReason::NoBuffer)?;
        let len = write(written).ok_or(DropReason::BadOffload)?;
        if self.own.clamp_mss
            && let Some(packet) = written.get_mut(..len)
        {
            mss::clamp(packet, wrapping.most);
        }
        let (next_header, payload_len) = wrapping.payload(written, len)?;
        match wrapping.form {
            Form::Transport(place) => datagram.copy_within(written_at..written_at + place.at, 0),
            Form::TransportInUdp(place) => {
                let payload = payload_at + place.at..payload_at + place.at + payload_len;
                datagram.copy_within(payload, payload_at);
            }
            Form::InUdp | Form::Native { .. } => {}
        }
        let end = front + self.sealed_len(wrapping.payload_len(self.own, payload_len + wrapping.kept()));
        let packet = datagram.get_mut(..end).ok_or(DropReason::NoBuffer)?;
        self.protect(number, wrapping, packet, (front, next_header, payload_len))?;
        Ok((len, end))
    }

    /// Protects what is in a packet that is as long as it leaves, from the inside out.
    fn protect(
        &mut self,
        number: Number,
        wrapping: &Wrapping,
        packet: &mut [u8],
        (front, next_header, payload_len): (usize, NextHeader, usize),
    ) -> Result<(), DropReason> {
        let (own, at) = (&*self.own, self.header_len(wrapping));
        let outermost = if self.has_ah() { Protocol::Ah } else { Protocol::Esp };
        let outer = match wrapping.form {
            Form::Native { flow_label } => Some(self.outer_header(wrapping.marks, flow_label)),
            _ => None,
        };
        let mut head = |packet: &mut [u8]| match (outer, wrapping.form) {
            (Some(header), _) => header.write(packet, outermost.number(), self.source),
            (None, Form::Transport(place)) => {
                self.source.identify(packet);
                amend(packet, (place.next_header_at, outermost.number()))
            }
            (None, _) => Some(()),
        };
        if own.entry.protocol == Protocol::Ah {
            head(packet).ok_or(DropReason::NoBuffer)?;
            return own.sa.authenticate(number.own, packet, at, next_header).map_err(unsealed);
        }
        let padding = wrapping.payload_len(own, payload_len + wrapping.kept()) - payload_len;
        let esp = packet.get_mut(front..).ok_or(DropReason::NoBuffer)?;
        own.sa.seal_padded(number.own, next_header, esp, payload_len, padding).map_err(unsealed)?;
        head(packet).ok_or(DropReason::NoBuffer)?;
        let Some(around) = &self.around else { return Ok(()) };
        let number = number.around.ok_or(DropReason::SeqExhausted)?;
        let next_header = NextHeader(Protocol::Esp.number());
        around.sa.authenticate(number, packet, at, next_header).map_err(unsealed)
    }
}

/// Room and headers were worked out before; what does not fit all the same is not sent.
const fn unsealed(_: SealError) -> DropReason {
    DropReason::NoBuffer
}

impl Wrapping {
    /// Lets the outer packet be cut on its way, or not.
    pub(crate) const fn let_be_cut(&mut self, may_fragment: bool) {
        self.marks.may_fragment = may_fragment;
    }

    /// Whether a packet's own header stays in front of it. Such packets are protected whole (RFC 4303 section 3.3.4).
    pub(crate) fn is_transport(&self) -> bool {
        matches!(self.form, Form::Transport(_) | Form::TransportInUdp(_))
    }

    /// Octets of an inner packet that are not protected: its own header in transport mode.
    fn kept(&self) -> usize {
        match &self.form {
            Form::Transport(place) | Form::TransportInUdp(place) => place.at,
            Form::InUdp | Form::Native { .. } => 0,
        }
    }

    /// Octets that are protected of an inner packet, with those that hide its length (RFC 4303 section 2.7). They do so in
    /// tunnel mode: there alone the receiver can always tell them from the packet. Whoever reads AH reads lengths, too.
    pub(crate) fn payload_len(&self, own: &OwnedOutbound, inner_len: usize) -> usize {
        let hides = own.shape.tfc != Tfc::None && own.entry.protocol == Protocol::Esp && !self.is_transport();
        let len = if hides { own.fitting().hidden_len(inner_len, self.most) } else { inner_len };
        len.saturating_sub(self.kept())
    }

    /// What of a packet is protected: what it is, and how long. What follows a packet in what was read is no part of it, and
    /// in transport mode would become part of the upper layer's data.
    fn payload(&self, packet: &[u8], len: usize) -> Result<(NextHeader, usize), DropReason> {
        match &self.form {
            Form::Transport(place) | Form::TransportInUdp(place) => {
                let payload_len = transport::length(packet)?.min(len).checked_sub(place.at);
                Ok((NextHeader(place.next_header), payload_len.ok_or(DropReason::Runt)?))
            }
            Form::InUdp | Form::Native { .. } => Ok((inner_header(packet), len)),
        }
    }
}

/// What a tunnel says of an inner packet (RFC 4303 section 2.6).
#[inline]
pub(crate) fn inner_header(packet: &[u8]) -> NextHeader {
    let is_v4 = packet.first().is_some_and(|octet| octet >> 4 == 4);
    if is_v4 { NextHeader::IPV4 } else { NextHeader::IPV6 }
}
