//! What a sniffer on an outer veth saw: ESP in UDP, neighbour discovery, and anything else, which must not be.

use std::collections::BTreeMap;

use latchway_netns::watch::{Captured, Direction, Frame};

use crate::demo::failure::{Failure, expect};
use crate::demo::network::ESP_PORT;

/// Frames of one capture, sorted.
#[derive(Debug, Default)]
pub struct OnWire {
    /// Frames of ESP in UDP between ports 4500, by direction and SPI. One frame may be a super-packet of several ESP
    /// packets of one SPI.
    pub esp: BTreeMap<(bool, u32), u64>,
    /// ARP and IPv6 neighbour discovery.
    pub neighbour: u64,
    /// Anything else, described.
    pub other: Vec<String>,
}

impl OnWire {
    /// Sorts the frames of a capture that missed none.
    pub fn sort(captured: &Captured) -> Result<Self, Failure> {
        Ok(Self::sort_frames(captured.complete()?))
    }

    /// Sorts frames.
    pub fn sort_frames(frames: &[Frame]) -> Self {
        let mut sorted = Self::default();
        for frame in frames {
            match frame.esp() {
                Some((spi, _)) if is_encapsulated(frame) => {
                    *sorted.esp.entry((frame.direction == Direction::Outbound, spi)).or_default() += 1;
                }
                _ if is_neighbour_discovery(frame) => sorted.neighbour += 1,
                _ => sorted.other.push(describe(frame)),
            }
        }
        sorted
    }

    /// Frames of ESP that the host sent under an SPI.
    pub fn sent(&self, spi: u32) -> u64 {
        self.esp.get(&(true, spi)).copied().unwrap_or_default()
    }

    /// Frames of ESP that came to the host under an SPI.
    pub fn came(&self, spi: u32) -> u64 {
        self.esp.get(&(false, spi)).copied().unwrap_or_default()
    }

    /// Fails unless ESP under these two SPIs, each in its direction, is all there was, and both occurred.
    pub fn expect_only(&self, [sent, came]: [u32; 2]) -> Result<(), Failure> {
        let ours = self.esp.keys().all(|key| *key == (true, sent) || *key == (false, came));
        let holds = ours && self.other.is_empty() && self.sent(sent) > 0 && self.came(came) > 0;
        let expected = format!("only ESP in UDP {ESP_PORT}, SPI 0x{sent:08x} out and 0x{came:08x} in");
        expect(holds, &expected, || format!("{:x?}, besides {}", self.esp, self.others()))
    }

    /// What else there was, the first of it.
    pub fn others(&self) -> String {
        match self.other.first() {
            Some(first) => format!("{} others, such as {first}", self.other.len()),
            None => "nothing".to_owned(),
        }
    }
}

fn is_encapsulated(frame: &Frame) -> bool {
    frame.protocol == Some(UDP) && frame.ports == Some((ESP_PORT, ESP_PORT))
}

/// ARP, or ICMPv6 of types 133 to 137 (RFC 4861) or 143 (RFC 9777).
fn is_neighbour_discovery(frame: &Frame) -> bool {
    let ether_type = frame.bytes.get(12..14);
    let icmp_type = frame.head.first().filter(|_| frame.protocol == Some(ICMPV6));
    ether_type == Some(&[0x08, 0x06]) || icmp_type.is_some_and(|kind| matches!(kind, 133..=137 | 143))
}

fn describe(frame: &Frame) -> String {
    let Frame { direction, protocol, source, destination, ports, length, .. } = frame;
    let address = |address: &Option<std::net::IpAddr>| {
        address.map_or_else(|| "no IP address".to_owned(), |address| address.to_string())
    };
    let (source, destination) = (address(source), address(destination));
    format!("{direction:?} protocol {protocol:?} {source} to {destination} ports {ports:?}, {length} octets")
}

const UDP: u8 = 17;
const ICMPV6: u8 = 58;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn frame(direction: Direction, protocol: u8, port: u16, head: &[u8]) -> Frame {
        let address = Some(std::net::IpAddr::from([198, 51, 100, 1]));
        Frame {
            at: Instant::now(),
            direction,
            length: 100,
            source: address,
            destination: address,
            protocol: Some(protocol),
            ports: Some((port, port)),
            head: head.to_vec().into(),
            bytes: vec![0; 100].into(),
        }
    }

    fn esp(direction: Direction, spi: u32) -> Frame {
        frame(direction, UDP, ESP_PORT, &[spi.to_be_bytes(), 1u32.to_be_bytes()].concat())
    }

    #[test]
    fn only_the_two_sas_in_their_directions_pass() {
        let (out, back) = (esp(Direction::Outbound, 0x1000), esp(Direction::Inbound, 0x2000));
        let neighbour = frame(Direction::Outbound, ICMPV6, 0, &[135]);
        let right = [out.clone(), back.clone(), neighbour];
        OnWire::sort_frames(&right).expect_only([0x1000, 0x2000]).unwrap();
        let strays = [
            esp(Direction::Outbound, 0x2000),
            esp(Direction::Inbound, 0x3000),
            frame(Direction::Outbound, 6, 80, b"GET / HT"),
            frame(Direction::Outbound, ICMPV6, 0, &[1]),
            frame(Direction::Outbound, UDP, 53, &[0, 0, 0x10, 0, 0, 0, 0, 1]),
        ];
        for stray in strays {
            let sorted = OnWire::sort_frames(&[out.clone(), back.clone(), stray.clone()]);
            assert!(sorted.expect_only([0x1000, 0x2000]).is_err(), "{stray:?}");
        }
        assert!(OnWire::sort_frames(&[out]).expect_only([0x1000, 0x2000]).is_err(), "nothing came back");
    }
}
