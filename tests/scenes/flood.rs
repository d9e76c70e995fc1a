//! Floods of whatever an authenticated peer, or anybody, can send, while a connection of another peer goes on (T41).

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use latchway_esp::{KeyMaterial, NextHeader, OutboundConfig, OutboundSa, SequenceKind, Spi, Suite};
use latchway_netns::packet::{self, Segment};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::alone;
use crate::gateway::Gateway;
use crate::load::connect;
use crate::provider::{Provider, key};
use crate::site::{Site, Terms, wires};

/// How long the good flow is measured, with a flood and without, in turn.
const SLICE: Duration = Duration::from_millis(120);

/// How many slices there are of each kind of flood.
const ROUNDS: usize = 7;

/// How many there are at most. A machine that does other work, too, is slow now and then: what looks like a flood's doing is
/// measured for longer before it is believed.
const MOST_ROUNDS: usize = 60;

/// What a flood leaves at least.
const SHARE: f64 = 0.8;

/// Packets of a flood in each millisecond.
const PACE: u32 = 10;

/// How much the gateway's memory may grow meanwhile.
const GROWTH: u64 = 32 << 20;

const PORT: u16 = 7001;

/// T41: one authenticated peer sends what begins connections, datagrams and fragments, each of another flow, and besides
/// replays, forgeries and SPIs that nobody has. The connection of another peer keeps four fifths of what it moves while
/// there is no flood, and its latch; the gateway's memory stays what it was.
#[test]
fn t41_floods_leave_a_good_flow_its_goodput_and_its_latch() {
    alone("flood::t41_floods_leave_a_good_flow_its_goodput_and_its_latch", || {
        let mut site = Site::start(&[("good.example", 2), ("hostile.example", 3)], &Terms::default());
        Provider::between(&site, 0).join();
        let mut hostile = Hostile::take_over(&mut site, 1);
        let (centre, good) = (&site.centre, &site.around[0]);
        let (accepted, connected) = connect(&good.inner, &centre.inner, centre.at(PORT));
        let flow = Flow::start(accepted, connected);
        let latch = || latch(&centre.gateway, good.host());
        let (latched, resident) = (latch(), resident(&centre.gateway));

        // What moves in calm slices and in flooded ones, of one length each.
        let mut moved: BTreeMap<Kind, [f64; 2]> = BTreeMap::new();
        for round in 0..MOST_ROUNDS {
            for kind in Kind::ALL {
                let [calm, flooded] = moved.entry(kind).or_default();
                if round >= ROUNDS && *flooded >= SHARE * *calm {
                    continue;
                }
                let packets = hostile.packets(kind, PACE * SLICE.as_millis() as u32);
                *calm += flow.rate(|| thread::sleep(SLICE));
                *flooded += flow.rate(|| hostile.send(&packets));
            }
        }

        let grown = self::resident(&centre.gateway).saturating_sub(resident);
        assert!(grown < GROWTH, "{grown} octets more");
        assert_eq!(latch(), latched, "the good flow's latch moved");
        for (kind, [calm, flooded]) in moved {
            println!("{kind:?} left {:.2}", flooded / calm);
            assert!(flooded >= SHARE * calm, "{kind:?} left {flooded:.0} of {calm:.0}");
        }
        // It took what is its own share, and left that of others.
        drop(connect(&good.inner, &centre.inner, centre.at(PORT + 1)));
        for reason in ["flow_table_full", "replayed", "icv_mismatch", "no_sa"] {
            assert!(centre.gateway.drops("inbound", reason) > 0, "no flood met {reason}");
        }
    });
}

/// What is sent, again and again in other forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Segments that begin connections, each another.
    Begins,
    /// Datagrams, each of another flow.
    Datagrams,
    /// First fragments, each of another datagram.
    Fragments,
    /// One packet that came before.
    Replays,
    /// Packets whose ICV is not right.
    Forgeries,
    /// Packets of SAs that nobody has.
    Strange,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Begins, Self::Datagrams, Self::Fragments, Self::Replays, Self::Forgeries, Self::Strange];
}

/// A peer that has SAs with the centre and keeps to nothing.
struct Hostile {
    wire: UdpSocket,
    sa: OutboundSa,
    here: u8,
    there: u8,
    drawn: u32,
}

impl Hostile {
    /// In the place of the gateway of this number, with SAs that it agreed on.
    fn take_over(site: &mut Site, number: usize) -> Self {
        let spi = Provider::between(site, number).join().spis[0];
        let end = &mut site.around[number];
        end.gateway.end_by(Signal::SIGKILL);
        let [centre, own] = wires(number);
        let wire = end.outer.run(|| UdpSocket::bind((own, 4500))).unwrap().unwrap();
        wire.connect((centre, 4500)).unwrap();
        let keys = KeyMaterial::new(Suite::AES_128_GCM, &key(spi)).unwrap();
        let (spi, suite, sequence) = (Spi::new(spi).unwrap(), Suite::AES_128_GCM, SequenceKind::Extended);
        let sa = OutboundSa::new(OutboundConfig { spi, suite, keys: &keys, sequence, reservation: None });
        Self { wire, sa: sa.unwrap(), here: end.network, there: site.centre.network, drawn: 0 }
    }

    /// So many packets of a flood, as they are on the wire.
    fn packets(&mut self, kind: Kind, count: u32) -> Vec<Vec<u8>> {
        if kind == Kind::Replays {
            return vec![self.packet(kind); count as usize];
        }
        (0..count).map(|_| self.packet(kind)).collect()
    }

    fn packet(&mut self, kind: Kind) -> Vec<u8> {
        self.drawn += 1;
        let (from, to) = self.flow();
        match kind {
            Kind::Begins => {
                let syn = Segment { syn: true, sequence: self.drawn, window: 512, ..Segment::default() };
                self.seal(&packet::tcp(from, to, &syn).unwrap())
            }
            Kind::Datagrams | Kind::Replays => self.seal(&packet::udp(from, to, &[7; 64]).unwrap()),
            Kind::Fragments => {
                let mut packet = packet::udp(from, to, &[7; 64]).unwrap();
                packet[6] = 0x20;
                packet[4..6].copy_from_slice(&self.drawn.to_be_bytes()[2..]);
                self.seal(&packet)
            }
            Kind::Forgeries => {
                let mut packet = self.seal(&packet::udp(from, to, &[7; 64]).unwrap());
                *packet.last_mut().unwrap() ^= 1;
                packet
            }
            Kind::Strange => [&(0x7000_0000 + self.drawn).to_be_bytes()[..], &[7; 120]].concat(),
        }
    }

    /// From one of its own addresses to one behind the centre, where mostly nobody is.
    fn flow(&self) -> (SocketAddr, SocketAddr) {
        let [_, port @ .., host] = self.drawn.to_be_bytes();
        let address = |network, host: u8| IpAddr::from(Ipv4Addr::new(10, 0, network, host.max(2)));
        (
            SocketAddr::new(address(self.here, host), u16::from_be_bytes(port) | 0x8000),
            SocketAddr::new(address(self.there, host), 80),
        )
    }

    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; self.sa.sealed_len(packet.len())];
        let at = self.sa.payload_offset();
        sealed[at..at + packet.len()].copy_from_slice(packet);
        let number = self.sa.take(1).unwrap().next_seq().unwrap();
        self.sa.seal(number, NextHeader(4), &mut sealed, packet.len()).unwrap();
        sealed
    }

    /// Sends them at the pace of floods.
    fn send(&self, packets: &[Vec<u8>]) {
        let mut due = Instant::now();
        for some in packets.chunks(PACE as usize) {
            some.iter().for_each(|packet| drop(self.wire.send(packet)));
            due += Duration::from_millis(1);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}

/// A connection that has something to send each millisecond, and no more than the way could take by far: what it moves
/// shall tell of floods, and not of what else the machine does.
struct Flow {
    moved: Arc<AtomicU64>,
}

impl Flow {
    /// It ends with the process.
    fn start(mut accepted: TcpStream, mut connected: TcpStream) -> Self {
        let moved = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&moved);
        thread::spawn(move || {
            while connected.write_all(&[7; 8 << 10]).is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        });
        thread::spawn(move || {
            let mut octets = [0; 16 << 10];
            while let Ok(length @ 1..) = accepted.read(&mut octets) {
                counted.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
        Self { moved }
    }

    /// How many octets a second it moves while something is done.
    fn rate(&self, done: impl FnOnce()) -> f64 {
        let (before, since) = (self.moved.load(Ordering::Relaxed), Instant::now());
        done();
        (self.moved.load(Ordering::Relaxed) - before) as f64 / since.elapsed().as_secs_f64()
    }
}

/// What keeps the flow with a host: its class and its state.
fn latch(gateway: &Gateway, host: IpAddr) -> Vec<Value> {
    let rows = gateway.rows("latch list").into_iter();
    rows.filter(|row| row["remote"].as_str().unwrap().starts_with(&host.to_string()))
        .map(|row| serde_json::json!([row["flow"], row["class"], row["state"]]))
        .collect()
}

/// How much memory a gateway has.
fn resident(gateway: &Gateway) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let row = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    row.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}
