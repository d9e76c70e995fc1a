//! Bodies of the fuzz targets for inner packets and for everything behind authentication, as plain functions.

use latchway_esp::{KeyMaterial, NextHeader, OutboundConfig, OutboundSa, SequenceKind, Spi, Suite};

use crate::drop::Direction;
use crate::packet::IpPacket;
use crate::testing::{Host, Open, SaOptions, inbound_entry, selectors};
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

/// Any octets on the wire: nothing is delivered, since nobody can forge an ICV (T03).
pub fn wire(data: &[u8]) {
    // The seeds were sealed under another suite's key for this SPI, so they are forgeries, too.
    let mut host = Host::new(2, 1, Open);
    host.insert(inbound_entry(2, 1, &SaOptions { suite: Suite::AES_256_GCM, ..SaOptions::new(SPI, 0) }));
    host.publish();
    assert!(host.receive(data, Time::default()).is_empty());
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
