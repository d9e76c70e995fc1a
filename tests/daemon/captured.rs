//! `latchway capture`: what a gateway has in hand, in a file that other programs read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::Block;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;

use crate::site::{Side, Site, Terms};
use crate::{eventually, scenario};

/// A capture that runs.
struct Capturing {
    child: Child,
    file: PathBuf,
}

impl Capturing {
    fn start(site: &Site, name: &str, words: &[&str]) -> Self {
        let file = site.a.folder().join(name);
        let mut command = site.a.verb(&["capture"]);
        let child = command.arg("-w").arg(&file).args(words).stderr(Stdio::piped()).spawn().unwrap();
        eventually("the capture stands", || file.metadata().is_ok_and(|file| file.len() > 100));
        Self { child, file }
    }

    /// Its packets so far.
    fn so_far(&self) -> Vec<Packet> {
        packets(&self.file).0
    }

    /// Ends it by a signal. Returns its packets, and what it said.
    fn end(self) -> (Vec<Packet>, String) {
        let _ = kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT);
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let (packets, whole) = packets(&self.file);
        assert!(whole, "the file ends within a packet");
        (packets, String::from_utf8(output.stderr).unwrap())
    }
}

struct Packet {
    interface: String,
    comment: String,
    octets: Vec<u8>,
}

/// The packets of a file, by a reader of pcapng, and whether it is whole: one that is written meanwhile may not be.
fn packets(file: &PathBuf) -> (Vec<Packet>, bool) {
    let mut reader = PcapNgReader::new(File::open(file).unwrap()).unwrap();
    let (mut interfaces, mut packets) = (HashMap::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        let Ok(block) = block else { return (packets, false) };
        match block.into_owned() {
            Block::InterfaceDescription(interface) => {
                assert_eq!(interface.linktype, DataLink::RAW);
                let name = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                interfaces.insert(interfaces.len() as u32, name.unwrap());
            }
            Block::EnhancedPacket(packet) => {
                let since = packet.timestamp;
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
                assert!(now.abs_diff(since) < Duration::from_secs(600), "{since:?} at {now:?}");
                let comment = packet.options.iter().find_map(|option| match option {
                    EnhancedPacketOption::Comment(text) => Some(text.to_string()),
                    _ => None,
                });
                packets.push(Packet {
                    interface: interfaces[&packet.interface_id].clone(),
                    comment: comment.unwrap(),
                    octets: Cow::into_owned(packet.data),
                });
            }
            _ => {}
        }
    }
    (packets, true)
}

/// Both sides of the transform, each packet with its verdict, SPI and tag; a signal ends the capture and the file is whole.
#[test]
fn a_capture_shows_both_sides_of_the_transform() {
    scenario("captured::a_capture_shows_both_sides_of_the_transform", || {
        let site = Site::start(&Terms::default());
        let capturing = Capturing::start(&site, "both.pcapng", &[]);
        site.passes();
        let both = [("outbound", "0x00001001"), ("inbound", "0x00002001")]
            .map(|(direction, spi)| format!("latchway: {direction} passed, SPI {spi}, tag class "));
        eventually("both sides are in the file", || {
            let packets = capturing.so_far();
            both.iter()
                .all(|begin| ["inner", "wire"].iter().all(|side| seen(&packets, side, begin).is_some()))
        });
        let (packets, said) = capturing.end();
        assert!(said.contains(", 0 lost"), "{said}");
        for begin in &both {
            let [inner, wire] = ["inner", "wire"].map(|side| seen(&packets, side, begin).unwrap());
            assert_eq!(inner.octets[0] >> 4, wire.octets[0] >> 4, "both are IP packets");
            // In the clear inside, ESP in UDP (port 4500) outside.
            assert_eq!((inner.octets[9] == 17, wire.octets[9]), (false, 17));
            assert_eq!(wire.octets[22..24], 4500_u16.to_be_bytes());
        }
    });
}

/// Only what is dropped, with the reason that is counted; as many as were asked for.
#[test]
fn a_capture_of_drops_names_the_reason() {
    scenario("captured::a_capture_of_drops_names_the_reason", || {
        let site = Site::start(&Terms::default());
        let capturing = Capturing::start(&site, "drops.pcapng", &["--dropped", "--count", "1"]);
        site.passes();
        let stranger = site.at(Side::B).outer.run(|| UdpSocket::bind("192.0.2.2:0")).unwrap().unwrap();
        eventually("a packet is dropped", || {
            stranger.send_to(&[0, 0, 0x99, 0x99, 0, 0, 0, 1, 7, 7], "192.0.2.1:4500").unwrap();
            capturing.so_far().len() == 1
        });
        let (packets, said) = capturing.end();
        assert!(said.starts_with("1 packets captured"), "{said}");
        assert_eq!(packets[0].comment, "latchway: inbound dropped (no_sa), SPI 0x00009999");
        assert_eq!(packets[0].octets[12..20], [192, 0, 2, 2, 192, 0, 2, 1]);
        // RFC 4303 section 3.4.2: it is auditable, too.
        let audited = "audit: inbound no_sa from 192.0.2.2:";
        eventually("it is in the log", || {
            let log = site.a.log();
            log.contains(audited) && log.contains(" spi 0x00009999 seq 1")
        });
    });
}

/// The first packet on an interface of which this is said.
fn seen<'p>(packets: &'p [Packet], interface: &str, comment: &str) -> Option<&'p Packet> {
    packets.iter().find(|packet| packet.interface == interface && packet.comment.starts_with(comment))
}
