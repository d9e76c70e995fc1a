//! Wireshark reads our packets: given the keys, it finds every ICV right and every payload as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use latchway_esp::{Protocol, SequenceKind, Suite};
use latchway_netns::skip;

use crate::gateway::Folder;
use crate::guest::fetched;
use crate::sample::{SPI, Sample, samples};

/// RFC 4303: with 32 bits of numbers, which is all that Wireshark 4.0 knows of.
#[test]
fn wireshark_reads_what_we_seal() {
    let test = "tshark::wireshark_reads_what_we_seal";
    let Some(tshark) = Tshark::find() else {
        skip::report(test, "no tshark: run `tests/interop/fetch tshark`");
        return;
    };
    let folder = Folder::make();
    let mut read = 0;
    for suite in Suite::all().filter(|suite| suite.protocol() == Protocol::Esp) {
        let Some(names) = names(suite) else { continue };
        let samples: Vec<_> =
            samples(suite).into_iter().filter(|sample| sample.sequence == SequenceKind::Seq32).collect();
        let packets: Vec<_> = samples.iter().map(|sample| sample.outer(&sample.seal())).collect();
        let damaged = packets.iter().map(|packet| {
            let mut packet = packet.clone();
            *packet.last_mut().unwrap() ^= 1;
            packet
        });
        let damaged: Vec<_> = damaged.collect();
        let all = [packets, damaged].concat();
        let found = tshark.read(&folder, &samples, &names, &all);
        for (number, sample) in samples.iter().enumerate() {
            let seen = &found[&(number + 1)];
            assert!(
                seen.good,
                "{suite}, {} octets, udp {}: the ICV is wrong",
                sample.payload.len(),
                sample.udp
            );
            if !sample.data().is_empty() {
                assert_eq!(seen.data, hex::encode(sample.data()), "{suite}");
            }
            let damaged = &found[&(samples.len() + number + 1)];
            assert!(!damaged.good, "{suite}: a damaged packet is taken for a good one");
        }
        eprintln!("{:32} {} packets", suite.name(), samples.len());
        read += samples.len();
    }
    assert!(read > 0);
}

/// Wireshark's names of a suite's encryption, with the octets of its key, and of its integrity.
fn names(suite: Suite) -> Option<(String, usize, &'static str)> {
    const INTEGRITY: [(&str, &str); 4] = [
        ("hmac-sha-1", "HMAC-SHA-1-96 [RFC2404]"),
        ("hmac-sha-256", "HMAC-SHA-256-128 [RFC4868]"),
        ("hmac-sha-384", "HMAC-SHA-384-192 [RFC4868]"),
        ("hmac-sha-512", "HMAC-SHA-512-256 [RFC4868]"),
    ];
    let name = suite.name();
    let key = match name.split('-').nth(1) {
        Some("128") => 16,
        Some("192") => 24,
        _ => 32,
    };
    if name.ends_with("-iiv") {
        return None;
    }
    if name.contains("-gcm") {
        return Some((format!("AES-GCM with {} octet ICV [RFC4106]", suite.icv_len()), key + 4, "NULL"));
    }
    let (_, integrity) = INTEGRITY.into_iter().find(|(own, _)| name.ends_with(own))?;
    match name.split('-').nth(2) {
        _ if name.starts_with("null-") => Some(("NULL".to_owned(), 0, integrity)),
        Some("cbc") => Some(("AES-CBC [RFC3602]".to_owned(), key, integrity)),
        Some("ctr") => Some(("AES-CTR [RFC3686]".to_owned(), key + 4, integrity)),
        _ => None,
    }
}

/// What it says of a packet.
struct Seen {
    good: bool,
    /// The payload of the innermost UDP datagram that has one, in hexadecimal.
    data: String,
}

pub struct Tshark {
    command: fn() -> Command,
}

impl Tshark {
    /// The one that was fetched.
    pub fn find() -> Option<Self> {
        let command = || {
            let root = fetched("tshark");
            let mut command = Command::new(root.join("usr/bin/tshark"));
            command.env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"));
            command.env("WIRESHARK_DATA_DIR", root.join("usr/share/wireshark"));
            command.env("WIRESHARK_PLUGIN_DIR", "/nonexistent").env("HOME", "/nonexistent");
            command
        };
        fetched("tshark").join("usr/bin/tshark").exists().then_some(Self { command })
    }

    /// The program, to be told what to read.
    pub fn command(&self) -> Command {
        (self.command)()
    }

    /// What it says of these packets, by their number from 1 on.
    fn read(
        &self,
        folder: &Folder,
        samples: &[Sample],
        (encryption, len, integrity): &(String, usize, &str),
        packets: &[Vec<u8>],
    ) -> BTreeMap<usize, Seen> {
        let file = folder.join("packets");
        write(&file, packets);
        let mut command = (self.command)();
        command.arg("-n").arg("-r").arg(&file);
        for option in [
            "enable_encryption_decode:TRUE",
            "enable_authentication_check:TRUE",
            "do_esp_sequence_analysis:FALSE",
        ] {
            command.args(["-o", &format!("esp.{option}")]);
        }
        let key = hex::encode(&samples[0].key);
        let (own, other) = key.split_at(2 * len);
        let given = |key: &str| if key.is_empty() { String::new() } else { format!("0x{key}") };
        for family in ["IPv4", "IPv6"] {
            let sa = format!(
                "\"{family}\",\"*\",\"*\",\"{:#x}\",\"{encryption}\",\"{}\",\"{integrity}\",\"{}\"",
                SPI.get(),
                given(own),
                given(other)
            );
            command.args(["-o", &format!("uat:esp_sa:{sa}")]);
        }
        command.args(["-T", "fields", "-E", "occurrence=l", "-E", "separator=|"]);
        for field in ["frame.number", "esp.icv_good", "udp.payload"] {
            command.args(["-e", field]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let rows = text.lines().map(|line| {
            let fields: Vec<_> = line.split('|').collect();
            let good = matches!(fields[1], "1" | "True");
            (fields[0].parse().unwrap(), Seen { good, data: fields[2].replace(':', "") })
        });
        rows.collect()
    }
}

/// A capture of whole IP packets.
fn write(file: &Path, packets: &[Vec<u8>]) {
    const RAW_IP: u32 = 101;
    let mut octets = Vec::new();
    for field in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, RAW_IP] {
        octets.extend(field.to_le_bytes());
    }
    for packet in packets {
        let len = packet.len() as u32;
        for field in [0, 0, len, len] {
            octets.extend(field.to_le_bytes());
        }
        octets.extend(packet);
    }
    fs::write(file, octets).unwrap();
}
