//! scapy as the judge of single packets, both directions: what it protects we open, what we protect it opens, and neither
//! takes what was changed on the way.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use latchway_esp::{Protocol, SequenceKind, Suite};
use latchway_netns::skip;
use serde_json::{Value, json};

use crate::guest::fetched;
use crate::sample::{SPI, Sample, UDP, header_len, ip, samples};

/// RFC 4303, RFC 4106, RFC 4309, RFC 4543, RFC 7634, RFC 8750: every suite of ESP, at every edge of the numbers.
#[test]
fn esp_is_what_scapy_takes_it_for() {
    let Some(mut scapy) = Scapy::start("scapy::esp_is_what_scapy_takes_it_for") else { return };
    let mut judged = 0;
    for suite in Suite::all().filter(|suite| suite.protocol() == Protocol::Esp) {
        let mut unknown = false;
        for sample in samples(suite) {
            unknown = !sample.is_agreed_on(&mut scapy);
            if unknown {
                break;
            }
            judged += 1;
        }
        eprintln!("{:32} {}", suite.name(), if unknown { "is not known to scapy" } else { "agrees" });
    }
    assert!(judged > 1000 || Suite::all().count() < 20, "only {judged} packets were judged");
}

impl Sample {
    /// Whether scapy knows the suite; if it does, it has to agree.
    fn is_agreed_on(&self, scapy: &mut Scapy) -> bool {
        let what = format!("{} {} {:?} udp {}", self.suite, self.seq, self.sequence, self.udp);
        let sealed = self.seal();
        let answer = scapy.ask(&self.order("unprotect", &self.outer(&sealed)));
        if answer["unknown"].is_string() {
            return false;
        }
        assert_eq!(self.inner_of(&answer), self.payload, "{what}: what scapy opened: {answer}");
        let protected =
            hex::decode(scapy.ask(&self.order("protect", &self.whole()))["packet"].as_str().unwrap());
        let mut protected = protected.unwrap().split_off(self.outer_len());
        let mut changed = damaged(&protected);
        assert_eq!(self.open(&mut protected).as_deref(), Ok(&self.payload[..]), "{what}: what we opened");
        assert!(self.open(&mut changed).is_err(), "{what}: we opened what was changed");
        let answer = scapy.ask(&self.order("unprotect", &self.outer(&damaged(&sealed))));
        assert!(answer["refused"].is_string(), "{what}: scapy opened what was changed: {answer}");
        true
    }

    /// What scapy is asked to do with a packet.
    fn order(&self, verb: &str, packet: &[u8]) -> Value {
        let ends = [self.outer.gateway(), self.outer.host()];
        json!({
            "do": verb, "suite": self.suite.name(), "key": hex::encode(&self.key), "spi": SPI.get(), "seq": self.seq,
            "esn": self.sequence == SequenceKind::Extended, "udp": self.udp, "packet": hex::encode(packet),
            "tunnel": if self.is_tunnel() { json!(ends) } else { Value::Null },
        })
    }

    /// The packet before protection, as scapy is to protect it.
    fn whole(&self) -> Vec<u8> {
        if self.is_tunnel() { self.payload.clone() } else { ip(self.outer, UDP, &self.payload) }
    }

    /// What scapy opened, without the header that transport mode leaves on it.
    fn inner_of(&self, answer: &Value) -> Vec<u8> {
        let mut inner = hex::decode(answer["packet"].as_str().unwrap_or_default()).unwrap();
        if self.is_tunnel() { inner } else { inner.split_off(header_len(self.outer).min(inner.len())) }
    }
}

/// The process that answers.
pub struct Scapy {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Scapy {
    /// Starts it; `None`, loudly, where there is no scapy.
    pub fn start(test: &str) -> Option<Self> {
        let python = fetched("scapy").join("bin/python");
        if !python.exists() {
            skip::report(test, "no scapy: run `tests/interop/fetch scapy`");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/oracle.py");
        let child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, orders, answers })
    }

    /// Gives an order of `oracle.py`, and returns its answer.
    pub fn ask(&mut self, order: &Value) -> Value {
        writeln!(self.orders, "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer)
            .unwrap_or_else(|_| panic!("scapy does not answer to {order}: {answer:?}"))
    }
}

impl Drop for Scapy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same ESP packet with one bit changed behind its header.
fn damaged(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let place = fastrand::Rng::with_seed(packet.len() as u64).usize(8..packet.len());
    packet[place] ^= 1 << (place % 8);
    packet
}
