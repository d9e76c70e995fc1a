//! Inbound, from the wire to the TUN: RFC 4301 section 5.2, RFC 4303 section 3.4.
//!
//! The street reads as the list in the design: find the protection header, open under its SA (check the number, open,
//! commit, charge), decapsulate, check the selectors, ask the upper layer. Receiving comes before it; coalescing and one
//! write per super-packet after it. Nothing changes before the integrity check has passed.

use latchway_esp::Protocol;
use latchway_tagging::{InboundTag, Mode};

use crate::arrival::{Arrival, Carrier};
use crate::coalesce::Coalescer;
use crate::drop::{Direction, DropReason};
use crate::gateway::{Datapath, context};
use crate::opening::Opened;
use crate::outer::traffic_class;
use crate::packet::{Authenticated, IpPacket};
use crate::ulp::Ulp;
use crate::unwrapping::{Carried, Inner, restore};

/// A packet that may go on.
struct Judged {
    /// Its length, of which nothing is left where it waits.
    len: usize,
    /// Whether it opens a connection, or accepts one.
    opens: bool,
}

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
            let accepted = buffer.get_mut(start..end).ok_or(DropReason::Runt);
            let handed_on = accepted
                .and_then(|datagram| self.accept(datagram, arrival))
                .and_then(|inner| self.hand_on(inner, buffer, start, units));
            if let Err(reason) = handed_on {
                self.counters.street(Direction::Inbound).drop(reason, 1);
                self.audit_inbound(reason, buffer.get(start..end).unwrap_or_default(), arrival);
            }
            start = end;
        }
    }

    /// The street, for one datagram or packet: to what is left of it.
    fn accept(&mut self, datagram: &mut [u8], arrival: &Arrival) -> Result<Inner, DropReason> {
        let carried = Carried::find(datagram, arrival.carrier)?;
        let opened = match carried.protocol {
            Protocol::Esp => self.open(&carried, None, datagram, arrival)?,
            Protocol::Ah => self.verify(&carried, datagram, arrival)?,
        };
        let inner = self.decapsulate(&opened, &carried, datagram, arrival)?;
        if inner.header_len > 0 {
            return self.judge_restored(&opened, inner, datagram);
        }
        let octets = datagram.get(inner.octets.clone()).ok_or(DropReason::Runt)?;
        let Judged { len, opens } = self.judge(&opened, octets)?;
        let octets = inner.octets.start..inner.octets.start + len;
        if opens {
            self.keep_short(opened.sa, datagram.get_mut(octets.clone()));
        }
        Ok(Inner { octets, ..inner })
    }

    /// Takes off what travelled around the inner packet.
    #[inline]
    fn decapsulate(
        &mut self,
        opened: &Opened,
        carried: &Carried,
        datagram: &mut [u8],
        arrival: &Arrival,
    ) -> Result<Inner, DropReason> {
        let owned = self.sas.inbound(Some(opened.sa.index))?;
        let (next_header, octets) = (opened.next_header, opened.payload.clone());
        match (opened.mode, arrival.carrier) {
            (Mode::Tunnel, carrier) => {
                let outer_class = match carrier {
                    Carrier::Udp => arrival.traffic_class,
                    Carrier::Native => traffic_class(datagram),
                };
                let packet = datagram.get_mut(octets.clone()).ok_or(DropReason::Runt)?;
                if owned.leave_tunnel(next_header, packet, outer_class)? {
                    self.counters.ecn_unusual.add(1);
                }
                Ok(Inner { octets, header_len: 0 })
            }
            (Mode::Transport, Carrier::Native) => {
                let octets = restore(datagram, carried.place, (next_header, octets))?;
                Ok(Inner { octets, header_len: 0 })
            }
            (Mode::Transport, Carrier::Udp) => {
                let payload = datagram.get_mut(octets.clone()).ok_or(DropReason::Runt)?;
                let beside = (self.scratch.as_mut(), &mut self.headers);
                let header_len = owned.restore_from_udp((next_header, payload), arrival, beside)?;
                Ok(Inner { octets, header_len })
            }
        }
    }

    /// Whether a packet may go on: the SA admits it, and so does the upper layer.
    // As with `open`.
    #[inline(always)]
    fn judge(&mut self, opened: &Opened, octets: &[u8]) -> Result<Judged, DropReason> {
        let owned = self.sas.inbound(Some(opened.sa.index))?;
        // Read where it was written: it is large.
        let mut parsed = IpPacket::parse(octets, Direction::Inbound);
        let packet = parsed.as_mut().map_err(|reason| *reason)?;
        match opened.mode {
            Mode::Transport => owned.joins(packet)?,
            // What means something on one link only came from another (RFC 4291 2.5.6): neighbours are no peers.
            Mode::Tunnel if packet.flow().is_link_local() => return Err(DropReason::LinkLocal),
            Mode::Tunnel => {}
        }
        let tag = InboundTag { class: owned.entry.class, sa: opened.sa, version: self.version };
        let admit = |packet: &IpPacket<'_>| owned.entry.may_bring(packet, &self.snapshot.spd);
        if !self.inbound_fragments.resolve(packet, Some(tag), self.now, admit)? {
            return Ok(Judged { len: 0, opens: false });
        }
        let (len, opens) = (packet.octets().len(), packet.opens_connection());
        let asked = if self.is_probe_answer(packet, tag.class) {
            Err(DropReason::ProbeAnswer)
        } else {
            self.ask_upper_layer(&Authenticated::new(packet, tag))
        };
        asked.inspect_err(|_| self.inbound_fragments.forget(packet, Some(tag.class)))?;
        let street = self.counters.street(Direction::Inbound);
        street.packets.add(1);
        street.octets.add(len as u64);
        Ok(Judged { len, opens })
    }

    /// The same for a packet whose header is not where its payload is, but beside it in one piece.
    #[inline(never)]
    fn judge_restored(
        &mut self,
        opened: &Opened,
        inner: Inner,
        datagram: &mut [u8],
    ) -> Result<Inner, DropReason> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let octets = scratch.get_mut(..inner.header_len + inner.octets.len()).unwrap_or_default();
        let judged = self.judge(opened, octets);
        if judged.as_ref().is_ok_and(|judged| judged.opens) {
            self.keep_short(opened.sa, Some(octets));
            let payload = datagram.get_mut(inner.octets.clone()).into_iter().flatten();
            payload.zip(octets.iter().skip(inner.header_len)).for_each(|(to, from)| *to = *from);
        }
        self.scratch = scratch;
        let waits = |judged: Judged| judged.len == 0;
        judged.map(|judged| if waits(judged) { Inner { octets: 0..0, header_len: 0 } } else { inner })
    }

    /// Puts what is left of a datagram at `start` among the units for the TUN.
    #[inline]
    fn hand_on(
        &self,
        inner: Inner,
        buffer: &[u8],
        start: usize,
        units: &mut Coalescer,
    ) -> Result<(), DropReason> {
        let octets = start + inner.octets.start..start + inner.octets.end;
        let pushed = match self.scratch.get(..inner.header_len) {
            Some(header) if !header.is_empty() => units.push_headed(header, octets),
            _ => units.push(buffer, octets),
        };
        pushed.map_err(|_| DropReason::NoBuffer)
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
