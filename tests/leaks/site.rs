//! Two gateways with their hosts, the wire between them, and ways around the gateways wherever the kernel would take one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use latchway_netns::ping::{self, Echo};
use latchway_netns::{Links, Namespace, links};

use crate::gateway::{Folder, Gateway, PROGRAM};
use crate::traffic::Traffic;
use crate::watch::Watch;
use crate::{PATIENCE, eventually};

/// The networks of the inner hosts, of both families.
pub const INNER: [&str; 4] = ["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64", "fd00:2::/64"];

pub const TUN: &str = "lw0";
pub const WIRE: &str = "wire";
/// The way around the gateway that inner namespaces have in split mode.
pub const AROUND: &str = "around";

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// How gateways are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Two namespaces; the inner one has a default route by another interface as well.
    Split,
    /// Two namespaces; the inner one has nothing but the TUN.
    Alone,
    /// One namespace, with a default route by the wire.
    Host,
}

/// Where one end's hosts and wire are; in host mode, the same.
pub struct Place {
    pub inner: Namespace,
    pub outer: Namespace,
}

/// Two gateways at work, under watch.
pub struct Site {
    pub mode: Mode,
    pub places: [Place; 2],
    pub a: Gateway,
    pub b: Gateway,
    pub traffic: Traffic,
    watch: Watch,
    _folder: Folder,
}

/// What differs between configurations of one gateway.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The folder with the state directory of each end, if numbers are on record.
    pub state: Option<PathBuf>,
    /// How many octets a key has.
    pub key: u8,
    /// Lines of the SA.
    pub sa: String,
    /// Whether there is a peer.
    pub peer: bool,
    /// Whether it has SAs.
    pub sas: bool,
    /// What comes last.
    pub tail: String,
    /// The number of the SAs: their SPIs and keys are made from it.
    pub number: u8,
}

impl Side {
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, self.number().into(), 0, 0, 0, 0, 0, 1)
    }

    pub fn address(self, v6: bool) -> IpAddr {
        if v6 { self.v6().into() } else { Ipv4Addr::new(10, self.number(), 0, 1).into() }
    }

    pub const fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }
}

impl Default for Terms {
    fn default() -> Self {
        // Numbers that begin anew after a restart are no replays, and no wrap: the other end goes on as before.
        let sa = "replay_window = \"off\"\nesn = false".to_owned();
        Self { state: None, key: 64, sa, peer: true, sas: true, tail: String::new(), number: 1 }
    }
}

impl Terms {
    /// SAs in counter mode, whose numbers are on record below a folder.
    pub fn enrolled(state: &Path) -> Self {
        let sa = "suite = \"aes-128-gcm\"".to_owned();
        Self { state: Some(state.to_owned()), key: 20, sa, ..Self::default() }
    }
}

impl Site {
    /// Gateways that stand, with hosts whose packets pass, all of it watched.
    pub fn start(mode: Mode, terms: &Terms) -> Self {
        let places = places(mode);
        let [at_a, at_b] = &places;
        let watch = watch(mode, &places);
        let folder = Folder::make();
        let mut a = Gateway::new(&at_a.outer, folder.join("a"));
        let mut b = Gateway::new(&at_b.outer, folder.join("b"));
        configure(&a, Side::A, mode, at_a, terms);
        configure(&b, Side::B, mode, at_b, terms);
        a.start();
        b.start();
        passes(&places);
        let by = if mode == Mode::Host { WIRE } else { TUN };
        let traffic = Traffic::between(&at_a.inner, &at_b.inner, by);
        traffic.goes_on(5);
        assert!(watch.esp() > 0, "nothing is protected");
        Self { mode, places, a, b, traffic, watch, _folder: folder }
    }

    /// Writes a's configuration again.
    pub fn configure_a(&self, terms: &Terms) {
        configure(&self.a, Side::A, self.mode, self.at(Side::A), terms);
    }

    /// Writes b's configuration again.
    pub fn configure_b(&self, terms: &Terms) {
        configure(&self.b, Side::B, self.mode, self.at(Side::B), terms);
    }

    /// Where an end is.
    pub fn at(&self, side: Side) -> &Place {
        let [a, b] = &self.places;
        if side == Side::A { a } else { b }
    }

    /// The links of a's hosts.
    pub fn links(&self) -> Links {
        Links::of(&self.at(Side::A).inner).unwrap()
    }

    /// Waits until packets pass again, of both families.
    pub fn passes(&self) {
        passes(&self.places);
    }

    /// Whether a new echo of one end returns from the other, this once.
    pub fn echo(&self, side: Side, v6: bool) -> bool {
        echo(&self.places, side, v6)
    }

    /// Waits until every host has tried everything again and again: long enough for the kernel to send again, twice, what
    /// nobody acknowledged.
    pub fn holds_out(&self) {
        self.traffic.goes_on(10);
    }

    /// How many datagrams of ESP were seen so far.
    pub fn esp(&self) -> usize {
        self.watch.esp()
    }

    /// The low halves of the numbers that a sealed packets with so far, in their order.
    pub fn sealed_by_a(&self) -> Vec<u32> {
        self.watch.sealed(0x1001)
    }

    /// T13: ends everything, and not one octet of an inner host was seen.
    pub fn nothing_leaked(self) {
        let Self { traffic, watch, a, b, .. } = self;
        drop(traffic);
        drop((a, b));
        watch.end().nothing_leaked();
    }
}

/// The namespaces of both ends and all links but the TUNs.
pub fn places(mode: Mode) -> [Place; 2] {
    let place = |outer: &str, inner: &str| {
        let outer = Namespace::create(outer).unwrap();
        let inner = if mode == Mode::Host { outer.clone() } else { Namespace::create(inner).unwrap() };
        Place { inner, outer }
    };
    let places = [place("a", "hosts of a"), place("b", "hosts of b")];
    let [a, b] = &places;
    join(&a.outer, &b.outer, WIRE, ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64", "2001:db8::2/64"]);
    if mode == Mode::Split {
        let net = ["198.51.100.1/24", "198.51.100.2/24", "2001:db8:a::1/64", "2001:db8:a::2/64"];
        join(&a.inner, &b.inner, AROUND, net);
    }
    places
}

/// Joins two namespaces, each the other's way to everywhere.
fn join(a: &Namespace, b: &Namespace, name: &str, [a4, b4, a6, b6]: [&str; 4]) {
    links::veth(a, name, b, name).unwrap();
    for (namespace, own) in [(a, [a4, a6]), (b, [b4, b6])] {
        let links = Links::of(namespace).unwrap();
        links.set_up(name).unwrap();
        own.iter().for_each(|address| links.add_address(name, address.parse().unwrap()).unwrap());
    }
    for (namespace, other) in [(a, [b4, b6]), (b, [a4, a6])] {
        let links = Links::of(namespace).unwrap();
        links.wait_ready(name, PATIENCE).unwrap();
        for (to, via) in ["0.0.0.0/0", "::/0"].into_iter().zip(other) {
            let via = via.split('/').next().unwrap().parse().unwrap();
            links.add_route(to.parse().unwrap(), Some(via), name, 500).unwrap();
        }
    }
}

/// Watches every interface but the TUNs, from both ends.
pub fn watch(mode: Mode, places: &[Place; 2]) -> Watch {
    let mut all: Vec<(&Namespace, &str)> = places.iter().map(|place| (&place.outer, WIRE)).collect();
    if mode == Mode::Split {
        all.extend(places.iter().map(|place| (&place.inner, AROUND)));
    }
    Watch::start(&all)
}

/// Waits until each end's hosts reach the other's, of both families.
fn passes(places: &[Place; 2]) {
    for v6 in [false, true] {
        for side in [Side::A, Side::B] {
            let what = format!("an echo to {} returns", side.other().address(v6));
            eventually(&what, || echo(places, side, v6));
        }
    }
}

/// Whether a new echo of one end returns from the other.
fn echo([a, b]: &[Place; 2], side: Side, v6: bool) -> bool {
    let place = if side == Side::A { a } else { b };
    let echo = Echo {
        source: Some(side.address(v6)),
        destination: side.other().address(v6),
        timeout: Duration::from_secs(1),
        ..Echo::default()
    };
    ping::echo(&place.inner, &echo).is_ok_and(|report| report.received == 1)
}

/// Writes the configuration of one end, and its keys.
pub fn configure(gateway: &Gateway, side: Side, mode: Mode, place: &Place, terms: &Terms) {
    let (own, far, n) = (side.number(), side.other().number(), terms.number);
    let mode = match mode {
        Mode::Host => "mode = \"host\"".to_owned(),
        Mode::Split | Mode::Alone => {
            format!("inner = {{ path = \"{}\" }}", place.inner.proc_path().display())
        }
    };
    let state = terms
        .state
        .as_ref()
        .map(|state| format!("state = \"{}/{own}\"\ncounter_mode_static = true\n", state.display()));
    let mut text = format!(
        "name = \"gateway{own}\"\nidentity = \"{own}.example\"\n{mode}\n\
         addresses = [\"10.{own}.0.1/24\", \"fd00:{own}::1/64\"]\nlisten = [\"192.0.2.{own}:4500\"]\n\
         control = \"control.sock\"\n{}\n[tun]\nname = \"{TUN}\"\n",
        state.unwrap_or_default()
    );
    if terms.peer {
        text += &format!(
            "\n[[peer]]\nidentity = \"{far}.example\"\nendpoint = \"192.0.2.{far}:4500\"\n\
             inner = [\"10.{far}.0.0/24\", \"fd00:{far}::/64\"]\n"
        );
    }
    if terms.peer && terms.sas {
        text += &format!(
            "\n[[peer.sa]]\ninbound = {{ spi = 0x{far}{n:03x}, key_file = \"{far}{n}.key\" }}\n\
             outbound = {{ spi = 0x{own}{n:03x}, key_file = \"{own}{n}.key\" }}\n{}\n",
            terms.sa
        );
    }
    text += &format!("\n{}\n", terms.tail);
    gateway.write("gateway.toml", &text);
    for end in [own, far] {
        gateway.write(&format!("{end}{n}.key"), &key(end, n, terms.key));
    }
}

/// So many octets, by the sending end and the number of the SA.
fn key(end: u8, number: u8, len: u8) -> String {
    let octets = (0..len).map(|n| n.wrapping_mul(7) ^ end.wrapping_mul(31) ^ number.wrapping_mul(101));
    octets.map(|octet| format!("{octet:02x}")).collect()
}

/// Makes a record of numbers in a folder.
pub fn enrol(folder: &Path) {
    let output = Command::new(PROGRAM).arg("enrol").arg(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
