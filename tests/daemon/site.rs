//! Two gateways with their hosts, and the wire between them.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use latchway_netns::ping::{self, Echo};
use latchway_netns::{Links, Namespace, links};

use crate::gateway::{Folder, Gateway};
use crate::{PATIENCE, eventually};

pub const TUN: &str = "lw0";
pub const WIRE: &str = "wire";

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// Where one end's hosts and wire are.
pub struct Place {
    pub inner: Namespace,
    pub outer: Namespace,
}

/// Two gateways and their places.
pub struct Site {
    pub places: [Place; 2],
    pub a: Gateway,
    pub b: Gateway,
    _folder: Folder,
}

/// What differs between configurations of one gateway.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Lines before the first table.
    pub head: String,
    /// Lines of `[tun]`.
    pub tun: String,
    /// The SAs with the other end: a number of each, from which SPIs and keys are made, and further lines.
    pub sas: Vec<(u8, String)>,
    /// The number of the SAs with a third peer, if there is one.
    pub third: Option<u8>,
    /// Tables after that.
    pub tail: String,
}

impl Side {
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub const fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    /// The address of its hosts.
    pub fn address(self) -> IpAddr {
        Ipv4Addr::new(10, self.number(), 0, 1).into()
    }
}

impl Default for Terms {
    fn default() -> Self {
        let sas = vec![(1, String::new())];
        Self { head: String::new(), tun: String::new(), sas, third: None, tail: String::new() }
    }
}

impl Terms {
    /// The same, with a third peer that has one pair of SAs of this number, and nobody behind it.
    pub fn with_third_peer(mut self, number: u8) -> Self {
        self.third = Some(number);
        self.with_tail(&format!(
            "[[peer]]\nidentity = \"3.example\"\nendpoint = \"192.0.2.3:4500\"\ninner = [\"10.3.0.0/24\"]\n\
             sa = {{ inbound = {{ spi = 0x3{number:03x}, key_file = \"3.key\" }}, \
             outbound = {{ spi = 0x4{number:03x}, key_file = \"4.key\" }} }}\n"
        ))
    }

    /// The same, with these SAs.
    pub fn with_sas(mut self, numbers: &[u8]) -> Self {
        self.sas = numbers.iter().map(|&number| (number, String::new())).collect();
        self
    }

    pub fn with_head(mut self, line: &str) -> Self {
        writeln!(self.head, "{line}").unwrap();
        self
    }

    pub fn with_tail(mut self, table: &str) -> Self {
        writeln!(self.tail, "{table}").unwrap();
        self
    }

    /// The configuration of one end.
    pub fn text(&self, side: Side, inner: &Namespace) -> String {
        let (own, far) = (side.number(), side.other().number());
        let Self { head, tun, sas, tail, third: _ } = self;
        let mut text = format!(
            "name = \"gateway{own}\"\nidentity = \"{own}.example\"\ninner = {{ path = \"{}\" }}\n\
             addresses = [\"10.{own}.0.1/24\"]\nlisten = [\"192.0.2.{own}:4500\"]\ncontrol = \"control.sock\"\n{head}\n\
             [tun]\nname = \"{TUN}\"\n{tun}\n[[peer]]\nidentity = \"{far}.example\"\nendpoint = \"192.0.2.{far}:4500\"\n\
             inner = [\"10.{far}.0.0/24\"]\n\n",
            inner.proc_path().display()
        );
        for (n, lines) in sas {
            writeln!(
                text,
                "[[peer.sa]]\ninbound = {{ spi = 0x{far}{n:03x}, key_file = \"{far}{n}.key\" }}\n\
                 outbound = {{ spi = 0x{own}{n:03x}, key_file = \"{own}{n}.key\" }}\n{lines}\n"
            )
            .unwrap();
        }
        text + tail
    }
}

impl Site {
    /// Gateways that stand, with hosts whose packets pass.
    pub fn start(terms: &Terms) -> Self {
        let site = Self::prepare(terms);
        site.started()
    }

    /// The same, where only a is configured so, and b by default.
    pub fn start_a(terms: &Terms) -> Self {
        let site = Self::prepare(&Terms::default());
        site.configure(Side::A, terms);
        site.started()
    }

    /// Gateways that could be started.
    pub fn prepare(terms: &Terms) -> Self {
        let places = places();
        let [at_a, at_b] = &places;
        let folder = Folder::make();
        let (a, b) =
            (Gateway::new(&at_a.outer, folder.join("a")), Gateway::new(&at_b.outer, folder.join("b")));
        let site = Self { places, a, b, _folder: folder };
        site.configure(Side::A, terms);
        site.configure(Side::B, terms);
        site
    }

    /// The same, with both gateways started.
    pub fn started(self) -> Self {
        self.started_between(Side::A.address(), Side::B.address())
    }

    /// The same, where hosts have these addresses.
    pub fn started_between(mut self, source: IpAddr, destination: IpAddr) -> Self {
        self.a.start();
        self.b.start();
        let timeout = Duration::from_millis(300);
        let echo = Echo { source: Some(source), destination, timeout, ..Echo::default() };
        eventually("an echo returns", || {
            ping::echo(&self.at(Side::A).inner, &echo).is_ok_and(|report| report.received == 1)
        });
        self
    }

    /// Writes the configuration of one end again, with its keys.
    pub fn configure(&self, side: Side, terms: &Terms) {
        let gateway = if side == Side::A { &self.a } else { &self.b };
        gateway.configure(&terms.text(side, &self.at(side).inner));
        for (number, _) in &terms.sas {
            for end in [side.number(), side.other().number()] {
                gateway.write(&format!("{end}{number}.key"), &key(end, *number));
            }
        }
        if let Some(number) = terms.third {
            gateway.write("3.key", &key(3, number));
            gateway.write("4.key", &key(4, number));
        }
    }

    /// Where an end is.
    pub const fn at(&self, side: Side) -> &Place {
        let [a, b] = &self.places;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    /// Whether one echo from a's hosts returns from this address.
    pub fn reaches(&self, destination: IpAddr, timeout: Duration) -> bool {
        let echo = Echo { source: Some(Side::A.address()), destination, timeout, ..Echo::default() };
        ping::echo(&self.at(Side::A).inner, &echo).is_ok_and(|report| report.received == 1)
    }

    /// Waits until a's hosts reach b's.
    pub fn passes(&self) {
        eventually("an echo returns", || self.reaches(Side::B.address(), Duration::from_millis(300)));
    }
}

/// The namespaces of both ends, with a wire between the outer ones.
pub fn places() -> [Place; 2] {
    let place = |outer: &str, inner: &str| Place {
        inner: Namespace::create(inner).unwrap(),
        outer: Namespace::create(outer).unwrap(),
    };
    let places = [place("a", "hosts of a"), place("b", "hosts of b")];
    let [a, b] = &places;
    wire(&a.outer, &b.outer);
    places
}

/// Joins two namespaces, 192.0.2.1 and 192.0.2.2.
pub fn wire(a: &Namespace, b: &Namespace) {
    links::veth(a, WIRE, b, WIRE).unwrap();
    for (namespace, own) in [(a, "192.0.2.1/24"), (b, "192.0.2.2/24")] {
        let links = Links::of(namespace).unwrap();
        links.set_up(WIRE).unwrap();
        links.add_address(WIRE, own.parse().unwrap()).unwrap();
    }
    for namespace in [a, b] {
        Links::of(namespace).unwrap().wait_ready(WIRE, PATIENCE).unwrap();
    }
}

/// AES-256 with HMAC-SHA-256-128: 64 octets, by the sending end and the number of the SA.
pub fn key(end: u8, number: u8) -> String {
    let octets = [end, number].into_iter().chain((2..64_u8).map(|n| n.wrapping_mul(7)));
    octets.map(|octet| format!("{octet:02x}")).collect()
}
