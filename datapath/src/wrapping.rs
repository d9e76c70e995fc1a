//! How the packets of one super-packet are wrapped on their way out: which headers stand in front of what is protected, and
//! what they say (RFC 4301 section 5.1.2, RFC 4303 section 3.1).
//!
//! Worked out once for a super-packet, whose packets differ in nothing that matters here. Where ESP travels through a tunnel
//! in UDP the system writes the outer header, so that there is nothing to wrap: each packet is sealed where it was written.

use latchway_esp::{FreshSeq, FreshSeqs, NextHeader, Protocol, SealError};
use latchway_tagging::{Mode, SaRef};

use crate::arrival::Carrier;
use crate::drop::DropReason;
use crate::mss;
use crate::native::{HeaderSource, OuterHeader, amend, header_len};
use crate::outer::own_marks;
use crate::owned::OwnedOutbound;
use crate::packet::IpPacket;
use crate::sad::Tfc;
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

/// What packets are sealed with: their SA, the one that goes around it in a bundle (RFC 4301 section 4.3), and what the
/// headers take that the gateway writes.
pub(crate) struct Sealing<'s> {
    pub(crate) own: &'s OwnedOutbound,
    pub(crate) around: Option<&'s OwnedOutbound>,
    pub(crate) source: &'s mut HeaderSource,
}

/// The numbers of packets to be sealed: as many of each SA.
pub(crate) struct Numbers {
    pub(crate) own: FreshSeqs,
    pub(crate) around: Option<FreshSeqs>,
}

/// The numbers of one packet.
pub(crate) struct Number {
    own: FreshSeq,
    around: Option<FreshSeq>,
}

/// Octets that are protected, which lifetimes count, of each SA.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Protected {
    pub(crate) own: u64,
    pub(crate) around: u64,
}

impl Numbers {
    /// Those of the next packet.
    #[inline]
    pub(crate) fn next_number(&mut self) -> Option<Number> {
        let own = self.own.next_seq()?;
        Some(Number { own, around: self.around.as_mut().and_then(FreshSeqs::next_seq) })
    }
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
        let sealed = self.sealed_len(wrapping, wrapping.payload_len(self.own, longest));
        match wrapping.form {
            // Its own header is written, too, and taken away before it is sealed.
            Form::TransportInUdp(place) => place.at + sealed,
            _ => wrapping.header_len() + self.around_len(wrapping) + sealed,
        }
    }

    /// What is protected when every packet of a super-packet is sealed.
    #[inline]
    pub(crate) fn protected_len(&self, wrapping: &Wrapping, super_packet: &SuperPacket<'_>) -> Protected {
        let (count, longest) = (super_packet.segment_count(), super_packet.max_segment_len());
        // The last segment may be shorter than the others.
        let last = super_packet.total_len() - longest * (count - 1);
        let (longest, last) = (self.protected(wrapping, longest), self.protected(wrapping, last));
        let all = |longest: u64, last: u64| longest * (count as u64 - 1) + last;
        Protected { own: all(longest.own, last.own), around: all(longest.around, last.around) }
    }

    /// The same for one inner packet.
    #[inline]
    pub(crate) fn protected(&self, wrapping: &Wrapping, inner_len: usize) -> Protected {
        if self.own.plain {
            return Protected { own: self.own.sa.encrypted_len(inner_len) as u64, around: 0 };
        }
        self.protected_otherwise(wrapping, inner_len)
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
        number: Number,
        (wrapping, room): (&Wrapping, usize),
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<usize, DropReason> {
        let datagram = batch.reserve(wrapping.target, room).ok_or(DropReason::NoBuffer)?;
        let (len, sealed) = if self.own.plain {
            self.own.seal_tunnel(number.own, datagram, write)?
        } else {
            self.seal_wrapped(number, wrapping, datagram, write)?
        };
        batch.commit(sealed);
        Ok(len)
    }

    /// Of AH it is what stands behind its header.
    #[inline(never)]
    fn protected_otherwise(&self, wrapping: &Wrapping, inner_len: usize) -> Protected {
        let payload_len = wrapping.payload_len(self.own, inner_len);
        let own = match self.own.entry.protocol {
            Protocol::Esp => self.own.sa.encrypted_len(payload_len),
            Protocol::Ah => payload_len,
        };
        let around = self.around.map_or(0, |_| self.sealed_len(wrapping, payload_len));
        Protected { own: own as u64, around: around as u64 }
    }

    #[inline(never)]
    fn wrap_otherwise(&self, packet: &IpPacket<'_>, mut wrapping: Wrapping) -> Result<Wrapping, DropReason> {
        let own = self.own;
        wrapping.form = match (own.entry.mode, own.path.carrier) {
            // Only ESP travels in UDP (RFC 3948 section 1).
            (_, Carrier::Udp) if self.has_ah() => return Err(DropReason::NoOutboundSa),
            (Mode::Tunnel, Carrier::Udp) => Form::InUdp,
            (Mode::Tunnel, Carrier::Native) => Form::Native(self.outer_header(packet, wrapping.target.marks)),
            (Mode::Transport, carrier) => {
                own.joins(packet)?;
                let place = Place::for_protection(packet.octets())?;
                wrapping.target.marks = own_marks(packet.octets());
                match carrier {
                    Carrier::Native => Form::Transport(place),
                    Carrier::Udp if place.at == header_len(&own.path.to) => Form::TransportInUdp(place),
                    Carrier::Udp => return Err(DropReason::TransportHeader),
                }
            }
        };
        let around = self.around_len(&wrapping);
        let fitting = if around > 0 { own.fitting().behind(around) } else { own.fitting() };
        wrapping.most = fitting.max_inner(own.path.mtu.into(), wrapping.kept());
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

    fn has_ah(&self) -> bool {
        self.around.is_some() || self.own.entry.protocol == Protocol::Ah
    }

    /// Octets of the AH header around ESP.
    fn around_len(&self, wrapping: &Wrapping) -> usize {
        self.around.map_or(0, |around| around.sa.ah_len(wrapping.is_v6()))
    }

    /// What the SA itself makes in front of what it protects.
    fn offset(&self, wrapping: &Wrapping) -> usize {
        match self.own.entry.protocol {
            Protocol::Esp => self.own.sa.payload_offset(),
            Protocol::Ah => self.own.sa.ah_len(wrapping.is_v6()),
        }
    }

    fn sealed_len(&self, wrapping: &Wrapping, payload_len: usize) -> usize {
        match self.own.entry.protocol {
            Protocol::Esp => self.own.sa.sealed_len(payload_len),
            Protocol::Ah => self.offset(wrapping) + payload_len,
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
        let front = wrapping.header_len() + self.around_len(wrapping);
        let payload_at = front + self.offset(wrapping);
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
            Form::InUdp | Form::Native(_) => {}
        }
        let end =
            front + self.sealed_len(wrapping, wrapping.payload_len(self.own, payload_len + wrapping.kept()));
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
        let (own, at) = (self.own, wrapping.header_len());
        let outermost = if self.has_ah() { Protocol::Ah } else { Protocol::Esp };
        let mut head = |packet: &mut [u8]| wrapping.head(packet, outermost.number(), self.source);
        if own.entry.protocol == Protocol::Ah {
            head(packet).ok_or(DropReason::NoBuffer)?;
            return own.sa.authenticate(number.own, packet, at, next_header).map_err(unsealed);
        }
        let padding = wrapping.payload_len(own, payload_len + wrapping.kept()) - payload_len;
        let esp = packet.get_mut(front..).ok_or(DropReason::NoBuffer)?;
        own.sa.seal_padded(number.own, next_header, esp, payload_len, padding).map_err(unsealed)?;
        head(packet).ok_or(DropReason::NoBuffer)?;
        let Some(around) = self.around else { return Ok(()) };
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
        self.target.marks.may_fragment = may_fragment;
        if let Form::Native(header) = &mut self.form {
            header.may_fragment = may_fragment;
        }
    }

    /// Whether a packet's own header stays in front of it. Such packets are protected whole (RFC 4303 section 3.3.4).
    pub(crate) fn is_transport(&self) -> bool {
        matches!(self.form, Form::Transport(_) | Form::TransportInUdp(_))
    }

    /// Octets of the outer header, where the gateway writes it.
    fn header_len(&self) -> usize {
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

    /// Octets that are protected of an inner packet, with those that hide its length (RFC 4303 section 2.7). They do so in
    /// tunnel mode: there alone the receiver can always tell them from the packet. Whoever reads AH reads lengths, too.
    fn payload_len(&self, own: &OwnedOutbound, inner_len: usize) -> usize {
        let hides = own.shape.tfc != Tfc::None && own.entry.protocol == Protocol::Esp && !self.is_transport();
        let len = if hides { own.fitting().hidden_len(inner_len, self.most) } else { inner_len };
        len.saturating_sub(self.kept())
    }

    const fn is_v6(&self) -> bool {
        self.target.to.is_ipv6()
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
            Form::Transport(place) => {
                source.identify(packet);
                amend(packet, (place.next_header_at, protocol))
            }
        }
    }
}

/// What a tunnel says of an inner packet (RFC 4303 section 2.6).
#[inline]
pub(crate) fn inner_header(packet: &[u8]) -> NextHeader {
    let is_v4 = packet.first().is_some_and(|octet| octet >> 4 == 4);
    if is_v4 { NextHeader::IPV4 } else { NextHeader::IPV6 }
}
