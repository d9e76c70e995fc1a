//! A provider of SAs, which reaches the control sockets of both ends: what a key exchange would do, as `docs/control.md` says.

use std::os::unix::net::UnixStream;

use latchway_control::{Frames, MAX_REPLY, write_message};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::site::{Site, wires};

pub const SUITE: &str = "aes-128-gcm";

/// Somebody who asks one gateway.
pub struct Asks(Frames<UnixStream>);

/// Makes SAs between the centre and one gateway around it.
pub struct Provider {
    ends: [Asks; 2],
    peers: [&'static str; 2],
    networks: [String; 2],
    paths: [Value; 2],
    /// How the other end has proven to each who it is, and what it knows of itself; nothing where keys alone say it.
    pub proofs: [Value; 2],
    /// From which SPIs and keys are made: each is fresh.
    number: u32,
}

/// A pair of SAs, as both ends number it; the centre's end first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub numbers: [u64; 2],
    /// The SPI of what the centre receives, and of what the other end does.
    pub spis: [u32; 2],
}

impl Asks {
    pub fn of(gateway: &Gateway) -> Self {
        Self(Frames::new(UnixStream::connect(gateway.control()).unwrap(), MAX_REPLY))
    }

    /// What a gateway answers, or the name and the text of its refusal.
    pub fn ask(&mut self, method: &str, parameters: &Value) -> Result<Value, String> {
        let call = json!({"method": format!("org.latchway.Control.{method}"), "parameters": parameters});
        write_message(self.0.connection(), &call).unwrap();
        let reply: Value = serde_json::from_slice(self.0.next_message().unwrap().unwrap()).unwrap();
        match reply.get("error") {
            Some(error) => Err(format!("{error}: {}", reply["parameters"])),
            None => Ok(reply["parameters"].clone()),
        }
    }

    /// What a gateway answers that must not refuse.
    pub fn must(&mut self, method: &str, parameters: &Value) -> Value {
        self.ask(method, parameters).unwrap_or_else(|refusal| panic!("{method}: {refusal}"))
    }
}

impl Provider {
    /// Between the centre and the gateway of this number around it.
    pub fn between(site: &Site, number: usize) -> Self {
        let (centre, end) = (&site.centre, &site.around[number]);
        let [near, far] = wires(number);
        let path = |from, to| json!({"from": from, "to": format!("{to}:4500")});
        Self {
            ends: [Asks::of(&centre.gateway), Asks::of(&end.gateway)],
            peers: [end.identity, centre.identity],
            networks: [centre.prefix(), end.prefix()],
            paths: [path(near, far), path(far, near)],
            proofs: [json!({}), json!({})],
            number: 0x1_0000 * (u32::try_from(number).unwrap() + 1),
        }
    }

    /// One end; the centre is 0.
    pub fn end(&mut self, end: usize) -> &mut Asks {
        &mut self.ends[end]
    }

    /// What one end answers to a proposal of everything between both networks.
    pub fn propose(&mut self, end: usize) -> Result<Value, String> {
        let selectors = json!([{"local": self.networks[end], "remote": self.networks[1 - end]}]);
        let mut proposal = json!({"peer": self.peers[end], "selectors": selectors, "inbound_suite": SUITE, "outbound_suite": SUITE});
        proposal.as_object_mut().unwrap().extend(self.proofs[end].as_object().unwrap().clone());
        self.ends[end].ask("Propose", &proposal)
    }

    /// A pair on both ends, over which nobody sends yet; or what an end has against it.
    pub fn install(&mut self) -> Result<Pair, String> {
        let keys = self.draw();
        let mut numbers = [0; 2];
        for (end, number) in numbers.iter_mut().enumerate() {
            let ticket = self.propose(end)?["ticket"].clone();
            let install = json!({"ticket": ticket, "keys": keys.of(self, end)});
            *number = self.ends[end].ask("Install", &install)?["pair"].as_u64().unwrap();
        }
        Ok(Pair { numbers, spis: keys.spis })
    }

    /// A pair on both ends, which both use.
    pub fn join(&mut self) -> Pair {
        let pair = self.install().unwrap();
        self.commit(&pair, "activate");
        pair
    }

    /// Makes a successor of a pair, and lets it send, and the old pair receive only.
    pub fn rekey(&mut self, pair: &Pair) -> Pair {
        let keys = self.draw();
        let mut numbers = [0; 2];
        for (end, number) in numbers.iter_mut().enumerate() {
            let rekey = json!({"pair": pair.numbers[end], "keys": keys.of(self, end)});
            *number = self.ends[end].must("Rekey", &rekey)["pair"].as_u64().unwrap();
        }
        for (asks, (new, old)) in self.ends.iter_mut().zip(numbers.into_iter().zip(pair.numbers)) {
            asks.must("Commit", &json!({"activate": [new], "retire": [old]}));
        }
        Pair { numbers, spis: keys.spis }
    }

    /// What becomes of a pair at both ends: "activate", "retire" or "remove".
    pub fn commit(&mut self, pair: &Pair, what: &str) {
        for (asks, number) in self.ends.iter_mut().zip(pair.numbers) {
            asks.must("Commit", &json!({what: [number]}));
        }
    }

    /// How many packets each pair carried: for each end, how many it received, and how many the other end sent.
    pub fn carried(&mut self, pairs: &[Pair]) -> Vec<[(u64, u64); 2]> {
        let rows = [0, 1].map(|end| self.ends[end].must("Sas", &json!({}))["sas"].clone());
        let packets = |end: usize, direction: &str, spi: u32| {
            let wanted = |row: &&Value| row["direction"] == direction && row["spi"] == spi;
            rows[end].as_array().unwrap().iter().find(wanted).unwrap()["packets"].as_u64().unwrap()
        };
        let one_way = |end: usize, spi| (packets(end, "inbound", spi), packets(1 - end, "outbound", spi));
        pairs.iter().map(|pair| [one_way(0, pair.spis[0]), one_way(1, pair.spis[1])]).collect()
    }

    fn draw(&mut self) -> Drawn {
        self.number += 2;
        Drawn { spis: [self.number, self.number + 1] }
    }
}

/// SPIs of a new pair; the keys follow from them.
struct Drawn {
    spis: [u32; 2],
}

impl Drawn {
    /// What one end is told.
    fn of(&self, provider: &Provider, end: usize) -> Value {
        let sa = |spi: u32| json!({"spi": spi, "key": hex::encode(key(spi))});
        json!({
            "inbound": sa(self.spis[end]), "outbound": sa(self.spis[1 - end]),
            "inbound_suite": SUITE, "outbound_suite": SUITE, "path": provider.paths[end], "usage": "standby",
        })
    }
}

/// The key and salt of the SA with this SPI: another for each, and each SPI is drawn once.
pub fn key(spi: u32) -> [u8; 20] {
    let mut key = [0x5a; 20];
    key[..4].copy_from_slice(&spi.to_be_bytes());
    key
}
