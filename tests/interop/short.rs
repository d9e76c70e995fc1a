//! The shortest packets of ESP in UDP, which a Linux kernel does not take over IPv6.

use std::collections::BTreeSet;
use std::net::UdpSocket;

use latchway_netns::watch::{Frame, Sniffer};
use serde_json::{Value, json};

use crate::case::{Case, Family, Way};
use crate::guest::{ECHO, Guest, guest};
use crate::scapy::Scapy;
use crate::site::Site;
use crate::suite::Suite;
use crate::{PATIENCE, scenario};

/// RFC 3948 section 3.1.1: over IPv4 every datagram comes back, however short the ESP packet around it. Over IPv6 a Linux kernel
/// drops those of less than 40 octets before it looks for an SA (`xfrm6_udp_encap_rcv` holds the length from the UDP header on
/// against that of both headers). What it drops is right in every respect: its length; its checksum, since the kernel counts it
/// among the datagrams that UDP took; and to scapy, which has the keys.
#[test]
fn what_a_kernel_does_not_take_is_right_all_the_same() {
    let test = "short::what_a_kernel_does_not_take_is_right_all_the_same";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let Some(mut scapy) = Scapy::start(test) else { return };
        let mut cases = Vec::new();
        for suite in ["null-aes-cmac", "aes-192-ccm-8", "aes-128-gcm-8"] {
            for outer in Family::BOTH {
                let number = u16::try_from(cases.len()).unwrap() + 1;
                let case = Case::new(number, Suite::named(suite));
                cases.push(Case { tunnel: false, outer, inner: outer, ..case });
            }
        }
        let site = Site::start(&mut guest, &cases);
        for case in &cases {
            let before = counted(&mut guest);
            let (answered, frames) = exchange(&site, &guest, case);
            let after = counted(&mut guest);
            let lens: Vec<_> = frames.iter().map(esp_len).collect();
            assert_eq!(lens.len(), usize::from(LONGEST) + 1, "{case}");
            assert!(lens.iter().any(|len| *len < LEAST) && lens.contains(&LEAST), "{lens:?}");
            let places = 0..=LONGEST;
            let missing: BTreeSet<_> = places.filter(|length| !answered.contains(length)).collect();
            let short = (0..=LONGEST).filter(|&length| lens[usize::from(length)] < LEAST);
            let expected: BTreeSet<_> =
                if case.outer == Family::V6 { short.collect() } else { BTreeSet::new() };
            // A kernel that takes them all is no error of ours.
            assert!(missing.is_empty() || missing == expected, "{case}: {missing:?}, not {expected:?}");
            eprintln!("{case}  {} of {} come back", answered.len(), lens.len());
            if case.outer == Family::V6 {
                // All of UDP, and the inner ones of those that were opened; the sure ones among both.
                let sure = lens.len() + 1;
                let taken = (lens.len() + sure + answered.len() + sure) as u64;
                assert_eq!((after.0 - before.0, after.1 - before.1), (taken, 0), "{case}");
            }
            for (frame, length) in frames.iter().zip(0..=LONGEST) {
                let answer = scapy.ask(&order(case, frame));
                let opened = hex::decode(answer["packet"].as_str().unwrap_or_default()).unwrap();
                assert!(opened.ends_with(&data(length)), "{case}: {length}: {answer}");
            }
        }
        assert_eq!(guest.refusals(), "", "no SA refused anything");
    });
}

/// Sends a datagram of every length, each followed by one that the kernel is sure to take and whose echo is awaited: it answers
/// one after the other. Virtual devices may swap two packets where a thread changes its CPU, so an answer counts in whichever
/// round it comes, a last round awaits what the one before left behind, and packets are put in the order of their numbers.
/// Returns which were answered, and each packet as the kernel got it.
fn exchange(site: &Site, guest: &Guest, case: &Case) -> (BTreeSet<u8>, Vec<Frame>) {
    let (theirs, ours) = case.ends();
    let wire: Sniffer = guest.watch();
    let mark = wire.mark();
    let socket = site.inner.run(|| UdpSocket::bind((ours, 0))).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect((theirs, ECHO)).unwrap();
    let mut answered = BTreeSet::new();
    for length in (0..=LONGEST).map(Some).chain([None]) {
        if let Some(length) = length {
            socket.send(&data(length)).unwrap();
        }
        socket.send(&[0; SURE]).unwrap();
        let mut back = [0; SURE + 1];
        loop {
            let len = socket.recv(&mut back).unwrap();
            if len == SURE {
                break;
            }
            answered.insert(u8::try_from(len).unwrap());
        }
    }
    let spi = case.spi(Way::ToStranger).to_be_bytes();
    let mut frames = wire.frames_since(mark).unwrap();
    frames.retain(|frame| frame.head.starts_with(&spi) && frame.length < SURE);
    frames.sort_by_key(seq);
    (answered, frames)
}

/// How scapy is asked to open a packet.
fn order(case: &Case, frame: &Frame) -> Value {
    json!({
        "do": "unprotect", "suite": case.suite.name, "key": case.key(Way::ToStranger), "spi": case.spi(Way::ToStranger),
        "seq": seq(frame), "esn": case.esn, "udp": true, "packet": hex::encode(&frame.bytes[14..]), "tunnel": Value::Null,
    })
}

/// The sequence number of the ESP packet in a frame (RFC 4303 section 2.2).
fn seq(frame: &Frame) -> u32 {
    u32::from_be_bytes(frame.head[4..8].try_into().unwrap())
}

/// How long the ESP packet in a frame is, by the length that UDP says (RFC 768).
fn esp_len(frame: &Frame) -> usize {
    let udp = 14 + if frame.bytes[12] == 0x86 { 40 } else { 20 };
    let len = usize::from(u16::from_be_bytes([frame.bytes[udp + 4], frame.bytes[udp + 5]]));
    assert_eq!(len, frame.length - udp);
    len - 8
}

/// How many datagrams the kernel took over IPv6, and how many it found wrong.
fn counted(guest: &mut Guest) -> (u64, u64) {
    let text = guest.read("/proc/net/snmp6");
    let count = |name: &str| {
        let row = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        row.unwrap_or_else(|| panic!("no {name}: {text}"))
    };
    (count("Udp6InDatagrams"), count("Udp6InErrors") + count("Udp6InCsumErrors"))
}

fn data(length: u8) -> Vec<u8> {
    (0..length).map(|place| place ^ 0x5a).collect()
}

/// The longest datagram that is tried.
const LONGEST: u8 = 16;
/// How long a datagram is that the kernel takes whatever protects it.
const SURE: usize = 200;
/// The shortest ESP packet in UDP over IPv6 that every Linux kernel takes.
const LEAST: usize = 40;
