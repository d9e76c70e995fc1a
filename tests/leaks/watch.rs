//! Sniffers on every interface by which inner octets could leave, and what they say in the end.

use ipnet::IpNet;
use latchway_netns::Namespace;
use latchway_netns::watch::{Captured, Direction, Frame, Mark, Options, Sniffer};

use crate::site::{INNER, Side};

/// In every payload of an inner host.
pub const MARKER: &[u8] = b"octets of an inner host";

/// The group that inner hosts send to.
pub const GROUP_V4: [u8; 4] = [239, 77, 1, 3];
pub const GROUP_V6: [u8; 16] = [0xff, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77, 0x77, 1, 3];

/// Everything that passes by some interfaces.
pub struct Watch(Vec<(String, Sniffer, Mark)>);

/// What inner hosts show of themselves on an interface, packet by packet.
#[derive(Debug, Default)]
pub struct Seen {
    /// Packets of inner hosts: of which kind, and more in words.
    pub inner: Vec<(String, String)>,
    /// Where their octets were found, and how often.
    pub found: Vec<String>,
    /// Datagrams of ESP.
    pub esp: usize,
}

impl Watch {
    /// Watches these interfaces from here on.
    pub fn start(places: &[(&Namespace, &str)]) -> Self {
        let start = |&(namespace, interface): &(&Namespace, &str)| {
            let mut options = Options::searching(&[MARKER, &octets(Side::A), &octets(Side::B)]);
            (options.frames, options.snap) = (1 << 20, 160);
            let sniffer = Sniffer::start_with(namespace, interface, options).unwrap();
            let start = sniffer.mark();
            (format!("{interface} of {}", namespace.label()), sniffer, start)
        };
        Self(places.iter().map(start).collect())
    }

    /// How many datagrams of ESP were seen so far.
    pub fn esp(&self) -> usize {
        self.0.iter().map(|(_, sniffer, start)| esp(&sniffer.frames_since(*start).unwrap())).sum()
    }

    /// The numbers of the packets of an SA that left by the first of the interfaces.
    pub fn sealed(&self, spi: u32) -> Vec<u32> {
        let frames = self.0.first().map(|(_, sniffer, start)| sniffer.frames_since(*start).unwrap());
        let sent = frames.iter().flatten().filter(|frame| frame.direction == Direction::Outbound);
        sent.filter_map(Frame::esp).filter(|(of, _)| *of == spi).map(|(_, number)| number).collect()
    }

    /// Ends it, and says what was seen. No frame was missed.
    pub fn end(self) -> Seen {
        let mut seen = Seen::default();
        for (place, sniffer, _) in self.0 {
            let captured = sniffer.stop().unwrap();
            let frames = captured.complete().unwrap();
            seen.esp += esp(frames);
            let inner = frames.iter().filter(|frame| is_inner(frame));
            seen.inner.extend(inner.map(|frame| (kind(frame), say(&place, frame))));
            seen.found.extend(found(&place, &captured));
        }
        seen
    }
}

impl Seen {
    /// T13: not one octet, and the sniffers were not asleep.
    pub fn nothing_leaked(&self) {
        let first: Vec<_> = self.inner.iter().take(10).collect();
        assert!(self.inner.is_empty(), "{} packets in the clear, the first: {first:#?}", self.inner.len());
        assert!(self.found.is_empty(), "octets of inner hosts: {:?}", self.found);
        assert!(self.esp > 0, "the sniffers saw nothing at all");
    }
}

fn found(place: &str, captured: &Captured) -> Option<String> {
    let hits = &captured.pattern_hits;
    hits.iter().any(|hits| *hits > 0).then(|| format!("{place}: marker and inner addresses {hits:?}"))
}

/// What T13 calls a packet, with the version of IP.
fn kind(frame: &Frame) -> String {
    let octet = |at: usize| frame.bytes.get(at).copied().unwrap_or_default();
    let (family, upper) = match octet(ETHERNET) >> 4 {
        4 => ("IPv4", ETHERNET + 20),
        6 => ("IPv6", ETHERNET + 40),
        _ => return "ARP".into(),
    };
    let fragment = match family {
        "IPv4" => octet(ETHERNET + 6) & 0x3f != 0 || octet(ETHERNET + 7) != 0,
        _ => octet(ETHERNET + 6) == 44,
    };
    let header = usize::from(octet(upper + 12) >> 4) * 4;
    let (flags, window) = (octet(upper + 13), (octet(upper + 14), octet(upper + 15)));
    let kind = match frame.protocol {
        _ if fragment => "fragment",
        _ if frame.destination.is_some_and(|to| to.is_multicast()) => "multicast",
        Some(6) if flags & 0x04 != 0 => "reset",
        Some(6) if flags & 0x02 != 0 => "begin",
        Some(6) if flags & 0x01 != 0 => "end",
        Some(6) if frame.length > upper + header => "data",
        Some(6) if window == (0, 0) => "zero window",
        Some(6) => "acknowledgement",
        Some(17) => "datagram",
        Some(58) if matches!(octet(upper), 135 | 136) => "neighbour",
        Some(1 | 58) => "echo",
        _ => "other",
    };
    format!("{family} {kind}")
}

fn esp(frames: &[Frame]) -> usize {
    frames.iter().filter(|frame| frame.esp().is_some()).count()
}

/// Whether a frame is from or to an inner host, or its group, or speaks of one in ARP.
fn is_inner(frame: &Frame) -> bool {
    let inner: Vec<IpNet> = INNER.iter().map(|prefix| prefix.parse().unwrap()).collect();
    let addresses = [frame.source, frame.destination].into_iter().flatten();
    let groups = [GROUP_V4.into(), GROUP_V6.into()];
    let mut addresses = addresses
        .filter(|address| inner.iter().any(|prefix| prefix.contains(address)) || groups.contains(address));
    addresses.next().is_some() || arp_speaks_of_inner(&frame.bytes)
}

/// RFC 826: the addresses are behind the Ethernet header, 14 octets in and 24 octets in.
fn arp_speaks_of_inner(octets: &[u8]) -> bool {
    let Some((header, arp)) = octets.split_at_checked(ETHERNET) else { return false };
    let address = |at: usize| arp.get(at..at + 2);
    header.ends_with(&[0x08, 0x06])
        && [address(14), address(24)].into_iter().flatten().any(|two| two == [10, 1] || two == [10, 2])
}

fn say(place: &str, frame: &Frame) -> String {
    let Frame { source, destination, protocol, ports, length, .. } = frame;
    format!("{place}: {source:?} to {destination:?}, protocol {protocol:?}, ports {ports:?}, {length} octets")
}

/// The IPv6 address of an inner host: long enough not to occur in ciphertext.
fn octets(side: Side) -> [u8; 16] {
    side.v6().octets()
}

/// The octets of an Ethernet header.
const ETHERNET: usize = 14;
