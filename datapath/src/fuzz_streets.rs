//! Bodies of the fuzz targets for inner packets and for everything behind authentication, as plain functions.

use latchway_esp::{Integrity, NextHeader, OutboundSa, Protocol, Suite};
use latchway_tagging::Mode;

use crate::arrival::{Arrival, Carrier};
use crate::drop::Direction;
use crate::native::{HeaderSource, OuterHeader, header_len};
use crate::packet::IpPacket;
use crate::sad::{Follow, Role};
use crate::testing::{
    Host, Open, SaOptions, arrival, inbound_entry, outbound_entry, outer, outer_end, selectors,
};
use crate::time::Time;

/// Any octets as an inner packet: what is accepted lies within them, and is as long as it says (T02, T21).
pub fn packet(data: &[u8]) {
    for direction in [Direction::Inbound, Direction::Outbound] {
        let Ok(packet) = IpPacket::parse(data, direction) else { continue };
        assert!(packet.octets().len() <= data.len());
        let again = IpPacket::parse(packet.octets(), direction).map(|again| *again.flow());
        assert_eq!(again, Ok(*packet.flow()));
    }
}

/// Any octets as a packet whose segments are to be kept short (T20).
pub fn mss(data: &[u8]) {
    crate::mss::fuzz(data);
}

/// Any octets as what a peer with the right key sends: next header, then payload. Only packets that the SA's
/// selectors admit come out, exactly as they went in (T01, T02, T15).
pub fn inbound(data: &[u8]) {
    let Some((&next_header, payload)) = data.split_first() else { return };
    let Some(sealed) = seal(next_header, payload) else { return };
    let mut host = Host::new(2, 1, Open);
    host.insert(inbound_entry(2, 1, &SaOptions::new(SPI, 0)));
    host.publish();
    let delivered = host.receive(&sealed, Time::default());
    // A fragment without its first waits, and not for long.
    host.datapath.begin(Time::from_nanos(u64::MAX));
    let dropped: u64 = host.drops().iter().map(|(_, _, count)| count).sum();
    assert_eq!(delivered.len() as u64 + dropped, 1, "one packet is delivered or counted");
    for inner in delivered {
        assert!(payload.starts_with(&inner));
        let traffic = IpPacket::parse(&inner, Direction::Inbound).map(|packet| *packet.traffic());
        assert!(
            traffic.is_ok_and(|traffic| selectors(2, 1).iter().any(|selector| selector.admits(&traffic)))
        );
    }
}

/// Any octets on the wire, as a datagram, as a train of them, and as an IP packet: nothing is delivered, since nobody can forge
/// an ICV, and everything is counted (T03, T04).
pub fn wire(data: &[u8]) {
    // The seeds were sealed under another suite's key for this SPI, so they are forgeries, too.
    let suite = Suite::AES_256_GCM;
    let carried = |carrier, mode, place| {
        let spi = SPI + place;
        SaOptions { suite, carrier, mode, follow: Follow::Follow, ..SaOptions::new(spi, place) }
    };
    let ah = "ah-hmac-sha-256".parse::<Suite>().ok();
    let sas = [
        carried(Carrier::Udp, Mode::Tunnel, 0),
        carried(Carrier::Native, Mode::Tunnel, 1),
        SaOptions { outer_v6: true, ..carried(Carrier::Native, Mode::Transport, 2) },
        SaOptions { suite: ah.unwrap_or(suite), ..carried(Carrier::Native, Mode::Tunnel, 3) },
        carried(Carrier::Udp, Mode::Transport, 4),
    ];
    let mut host = Host::new(2, 1, Open);
    sas.iter().for_each(|options| host.insert(inbound_entry(2, 1, options)));
    host.publish();
    let segment_size = data.first().map_or(1, |octet| usize::from(*octet) + 1);
    let udp = |segment_size| Arrival::udp(segment_size, outer(1));
    let native = Arrival { carrier: Carrier::Native, ..Arrival::udp(data.len(), outer(1)) };
    for arrival in [udp(data.len()), udp(segment_size), native] {
        let dropped = |host: &Host<Open>| host.drops().iter().map(|(_, _, count)| count).sum::<u64>();
        let before = dropped(&host);
        assert!(host.receive_as(data, &arrival, Time::default()).is_empty());
        let datagrams = data.len().div_ceil(arrival.segment_size.max(1)).max(1);
        assert_eq!(dropped(&host) - before, datagrams as u64, "each is counted, once");
    }
}

/// Any octets under SAs of every form. The first octet is the form; the others are an inner packet on its way out (T20, T21),
/// what a peer with the right key protects, the second saying what it is (T01, T02), and what a stranger sends (T03, T22).
pub fn modes(data: &[u8]) {
    let Some((&form, rest)) = data.split_first() else { return };
    let form = Form::of(form);
    form.pair(rest);
    if let Some((&next_header, payload)) = rest.split_first() {
        form.keyed(next_header, payload);
    }
    let delivered = form.receiver().receive_as(rest, &form.arrival(rest.len()), Time::default());
    assert!(delivered.is_empty(), "nobody can forge an ICV");
}

const SPI: u32 = 0x1001;
const AH_SPI: u32 = 0x2002;

/// One SA, or two of a bundle.
struct Form {
    own: SaOptions,
    around: Option<SaOptions>,
}

impl Form {
    fn of(octet: u8) -> Self {
        let ah = Suite::ah(Integrity::HmacSha256);
        let mode = if octet & 1 == 0 { Mode::Tunnel } else { Mode::Transport };
        let esp = SaOptions { mode, outer_v6: octet & 2 != 0, ..SaOptions::new(SPI, 0) };
        let native = SaOptions { carrier: Carrier::Native, ..esp.clone() };
        match octet >> 2 & 3 {
            0 => Self { own: esp, around: None },
            1 => Self { own: native, around: None },
            2 => Self { own: SaOptions { suite: ah, ..native }, around: None },
            _ => {
                let around = SaOptions { mode: Mode::Transport, suite: ah, spi: AH_SPI, ..native.clone() };
                let around = SaOptions { nested: Some(0), index: 1, ..around };
                Self { own: SaOptions { nested: Some(1), ..native }, around: Some(around) }
            }
        }
    }

    fn receiver(&self) -> Host<Open> {
        let mut host = Host::new(2, 1, Open);
        for options in [Some(&self.own), self.around.as_ref()].into_iter().flatten() {
            host.insert(inbound_entry(2, 1, options));
        }
        host.publish();
        host
    }

    fn arrival(&self, len: usize) -> Arrival {
        arrival(1, len, &self.own)
    }

    /// Whatever leaves arrives, or is counted.
    fn pair(&self, packet: &[u8]) {
        let (mut one, mut two) = (Host::new(1, 2, Open), self.receiver());
        for options in [Some(&self.own), self.around.as_ref()].into_iter().flatten() {
            one.insert(outbound_entry(1, 2, options));
        }
        one.publish();
        let (datagrams, bypass) = one.send(packet, Time::default());
        assert!(!bypass);
        for datagram in &datagrams {
            let delivered = two.receive_as(datagram, &self.arrival(datagram.len()), Time::default());
            two.datapath.begin(Time::from_nanos(u64::MAX));
            let dropped: u64 = two.drops().iter().map(|(_, _, count)| count).sum();
            assert!(delivered.len() as u64 + dropped > 0, "nothing is lost without a word");
            assert!(self.own.mode == Mode::Transport || delivered.iter().all(|inner| !inner.is_empty()));
        }
    }

    /// One packet is delivered or counted, and what is delivered is what was protected.
    fn keyed(&self, next_header: u8, payload: &[u8]) {
        let Some(octets) = self.protect(next_header, payload) else { return };
        let mut host = self.receiver();
        let delivered = host.receive_as(&octets, &self.arrival(octets.len()), Time::default());
        host.datapath.begin(Time::from_nanos(u64::MAX));
        let dropped: u64 = host.drops().iter().map(|(_, _, count)| count).sum();
        assert_eq!(delivered.len() as u64 + dropped, 1, "one packet is delivered or counted");
        for inner in delivered {
            match self.own.mode {
                Mode::Tunnel => assert!(payload.starts_with(&inner)),
                Mode::Transport => assert!(inner.ends_with(payload), "behind a header of its own"),
            }
        }
    }

    /// What a peer with the keys sends.
    fn protect(&self, next_header: u8, payload: &[u8]) -> Option<Vec<u8>> {
        let is_ah = self.own.suite.protocol() == Protocol::Ah;
        let protected = if is_ah { payload.to_vec() } else { seal(next_header, payload)? };
        if self.own.carrier == Carrier::Udp {
            return Some(protected);
        }
        let around = if is_ah { Some(&self.own) } else { self.around.as_ref() };
        let [from, to] = [1, 2].map(|host| outer_end(host, self.own.outer_v6, Carrier::Native));
        let at = header_len(&to);
        let mut sa = around.and_then(outbound_sa);
        let mut packet = vec![0; at + sa.as_ref().map_or(0, |sa| sa.ah_len(self.own.outer_v6))];
        packet.extend_from_slice(&protected);
        let header = OuterHeader {
            from: from.ip(),
            to: to.ip(),
            traffic_class: 0,
            may_fragment: false,
            ttl: 64,
            flow_label: 0,
        };
        let protocol = if sa.is_some() { Protocol::Ah } else { Protocol::Esp };
        header.write(&mut packet, protocol.number(), &mut HeaderSource::new())?;
        if let Some(sa) = &mut sa {
            let next_header = if is_ah { next_header } else { Protocol::Esp.number() };
            let number = sa.take(1).ok()?.next_seq()?;
            sa.authenticate(number, &mut packet, at, NextHeader(next_header)).ok()?;
        }
        Some(packet)
    }
}

fn outbound_sa(options: &SaOptions) -> Option<OutboundSa> {
    let entry = outbound_entry(1, 2, options)?;
    match &entry.role {
        Role::Outbound { sa, .. } => sa.take(),
        Role::Inbound { .. } => None,
    }
}

fn seal(next_header: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let mut sa = outbound_sa(&SaOptions::new(SPI, 0))?;
    let mut packet = vec![0; sa.sealed_len(payload.len())];
    packet.get_mut(sa.payload_offset()..)?.get_mut(..payload.len())?.copy_from_slice(payload);
    let number = sa.take(1).ok()?.next_seq()?;
    let len = sa.seal(number, NextHeader(next_header), &mut packet, payload.len()).ok()?;
    packet.truncate(len);
    Some(packet)
}
