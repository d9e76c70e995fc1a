//! Bodies of the fuzz targets for inner packets and for everything behind authentication, as plain functions.

use latchway_esp::{KeyMaterial, NextHeader, OutboundConfig, OutboundSa, SequenceKind, Spi, Suite};
use latchway_tagging::Mode;

use crate::arrival::{Arrival, Carrier};
use crate::drop::Direction;
use crate::packet::IpPacket;
use crate::sad::Follow;
use crate::testing::{Host, Open, SaOptions, inbound_entry, outer, selectors};
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

const SPI: u32 = 0x1001;

fn seal(next_header: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let suite = Suite::AES_128_GCM;
    let octets: Vec<u8> = (0..20u32).map(|place| place.wrapping_add(SPI) as u8).collect();
    let keys = KeyMaterial::new(suite, &octets).ok()?;
    let spi = Spi::new(SPI)?;
    let mut sa = OutboundSa::new(OutboundConfig {
        spi,
        suite,
        keys: &keys,
        sequence: SequenceKind::Extended,
        reservation: None,
    })
    .ok()?;
    let mut packet = vec![0; sa.sealed_len(payload.len())];
    packet.get_mut(sa.payload_offset()..)?.get_mut(..payload.len())?.copy_from_slice(payload);
    let number = sa.take(1).ok()?.next_seq()?;
    let len = sa.seal(number, NextHeader(next_header), &mut packet, payload.len()).ok()?;
    packet.truncate(len);
    Some(packet)
}
