//! One pair of SAs between us and a stranger, in the words of both: our configuration, and `ip xfrm`.

use std::fmt::{Display, Formatter, Result, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::guest::LINK;
use crate::suite::Suite;

/// What one pair of SAs is. Its number makes its addresses, SPIs and keys its own.
#[derive(Clone, Debug)]
pub struct Case {
    pub number: u16,
    pub suite: Suite,
    pub tunnel: bool,
    pub outer: Family,
    /// In transport mode, the same.
    pub inner: Family,
    pub udp: bool,
    pub esn: bool,
    /// AH around ESP.
    pub ah: Option<Suite>,
    /// Whether AH over IPv4 is a multiple of 4 octets, as RFC 4302 has it, or of 8.
    pub align4: bool,
    /// The number that both SAs have behind them, where both sides are told by `ip xfrm`.
    pub behind: u64,
    /// Further words of `ip xfrm state add`, for the SA that the kernel receives with, and the other.
    pub words: [String; 2],
    /// Further lines of our configuration.
    pub lines: String,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The address of our gateway on the wire.
    pub fn gateway(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 9, 0, 1).into(),
            Self::V6 => Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1).into(),
        }
    }

    /// The address of the hosts behind our gateway.
    pub fn host(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 1, 0, 1).into(),
            Self::V6 => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1).into(),
        }
    }

    /// The network on the wire.
    pub const fn wire(self) -> u8 {
        match self {
            Self::V4 => 16,
            Self::V6 => 64,
        }
    }

    /// What follows an address that is to be there at once.
    const fn at_once(self) -> &'static str {
        match self {
            Self::V4 => "",
            Self::V6 => " nodad",
        }
    }

    /// The network of our hosts.
    pub const fn inner(self) -> u8 {
        match self {
            Self::V4 => 16,
            Self::V6 => 32,
        }
    }

    /// How long one address is as a prefix.
    pub const fn single(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl Case {
    /// A tunnel over UDP and IPv4, for IPv4.
    pub fn new(number: u16, suite: Suite) -> Self {
        Self {
            number,
            suite,
            tunnel: true,
            outer: Family::V4,
            inner: Family::V4,
            udp: true,
            esn: true,
            ah: None,
            align4: true,
            behind: 0,
            words: [String::new(), String::new()],
            lines: String::new(),
        }
    }

    /// The stranger's address on the wire.
    pub fn stranger(&self) -> IpAddr {
        let [high, low] = self.number.to_be_bytes();
        match self.outer {
            Family::V4 => Ipv4Addr::new(10, 9, 1 + high, low).into(),
            Family::V6 => Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 1, self.number).into(),
        }
    }

    /// The address of whom we talk to, and who talks: the stranger's host, and ours.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        let [high, low] = self.number.to_be_bytes();
        match self.inner {
            _ if !self.tunnel => (self.stranger(), self.outer.gateway()),
            Family::V4 => (Ipv4Addr::new(10, 128 + high, low, 1).into(), self.inner.host()),
            Family::V6 => (Ipv6Addr::new(0xfd00, 2, self.number, 0, 0, 0, 0, 1).into(), self.inner.host()),
        }
    }

    /// What `ip -batch` is told to be the other end.
    pub fn kernel(&self) -> String {
        let Self { outer, inner, .. } = self;
        let theirs = self.stranger();
        let (host, remote) = self.ends();
        let mut text = format!("address add {theirs}/{} dev {LINK}{}\n", outer.wire(), outer.at_once());
        if self.tunnel {
            writeln!(text, "address add {host}/{} dev lo{}", inner.single(), inner.at_once()).unwrap();
            writeln!(text, "route replace {remote}/{} dev {LINK} src {host}", inner.single()).unwrap();
        }
        text += &self.states(&self.words);
        // In transport mode the policy is about the datagrams of UDP, too, which come without more around them.
        if self.udp && !self.tunnel {
            writeln!(text, "xfrm policy add src {remote} dst {host} proto udp dport 4500 dir in priority 1")
                .unwrap();
        }
        if !self.tunnel && self.outer == Family::V6 {
            // Neighbours must find each other before they can protect anything (RFC 4301 section 5).
            for (src, dst, way) in [(host, remote, "out"), (remote, host, "in")] {
                for kind in [135, 136] {
                    let neighbours = format!("src {src} dst {dst} proto ipv6-icmp type {kind} dir {way}");
                    writeln!(text, "xfrm policy add {neighbours} priority 1").unwrap();
                }
            }
        }
        text + &self.policy(Way::FromStranger, "out") + &self.policy(Way::ToStranger, "in")
    }

    /// What `latchway xfrm -batch` is told to be this end: of states, what the kernel is told.
    pub fn ours(&self) -> String {
        let states = self.states(&[const { String::new() }; 2]);
        states + &self.policy(Way::ToStranger, "out") + &self.policy(Way::FromStranger, "in")
    }

    /// The states of both directions, each with some more words.
    fn states(&self, words: &[String; 2]) -> String {
        let (number, mode) = (self.number, self.mode());
        let (theirs, ours) = (self.stranger(), self.outer.gateway());
        let udp = if self.udp { " encap espinudp 4500 4500 0.0.0.0" } else { "" };
        let window = if self.esn { 128 } else { 32 };
        let mut text = String::new();
        for suite in std::iter::once(&self.suite).chain(&self.ah) {
            let flags = self.flags(suite);
            for (way, (src, dst), words) in
                [(Way::ToStranger, (ours, theirs), &words[0]), (Way::FromStranger, (theirs, ours), &words[1])]
            {
                let (spi, key) = (self.spi(way), suite.kernel(&self.key_of(suite, way)));
                let behind = self.numbers();
                writeln!(
                    text,
                    "xfrm state add src {src} dst {dst} proto {} spi {spi:#x} reqid {number} mode {mode} \
                     replay-window {window}{flags}{behind}{key}{udp} {words}",
                    protocol(suite)
                )
                .unwrap();
            }
        }
        text
    }

    fn flags(&self, suite: &Suite) -> String {
        let all = [("esn", self.esn), ("af-unspec", self.tunnel), ("align4", suite.is_ah() && self.align4)];
        let set: String = all.iter().filter(|(_, set)| *set).map(|(flag, _)| format!(" {flag}")).collect();
        if set.is_empty() { set } else { format!(" flag{set}") }
    }

    /// What `ip xfrm` calls the numbers that were.
    fn numbers(&self) -> String {
        let (high, low) = (self.behind >> 32, self.behind & 0xffff_ffff);
        match self.behind {
            0 => String::new(),
            _ if self.esn => {
                format!(" replay-seq {low} replay-seq-hi {high} replay-oseq {low} replay-oseq-hi {high}")
            }
            _ => format!(" replay-seq {low} replay-oseq {low}"),
        }
    }

    /// The policy of one side about what goes this way.
    fn policy(&self, way: Way, direction: &str) -> String {
        let (host, remote) = self.ends();
        let (theirs, ours) = (self.stranger(), self.outer.gateway());
        let ((src, dst), (from, to)) = match way {
            Way::ToStranger => ((remote, host), (ours, theirs)),
            Way::FromStranger => ((host, remote), (theirs, ours)),
        };
        let (number, mode) = (self.number, self.mode());
        let ends = if self.tunnel { format!("src {from} dst {to} ") } else { String::new() };
        let template = |suite| format!(" tmpl {ends}proto {} reqid {number} mode {mode}", protocol(suite));
        let templates: String = std::iter::once(&self.suite).chain(&self.ah).map(template).collect();
        format!("xfrm policy add src {src} dst {dst} dir {direction} priority 9{templates}\n")
    }

    /// What our configuration says of the other end.
    pub fn peer(&self) -> Peer {
        let Self { number, suite, esn, lines, .. } = self;
        let (host, _) = self.ends();
        let sa = |way| (self.spi(way), self.key_of(suite, way));
        let align = if self.align4 { "" } else { "align = 8\n" };
        let mut peer = Peer::new(
            &format!("{number}.example"),
            (self.stranger(), &format!("{host}/{}", self.inner.single())),
            (&suite.name, [sa(Way::FromStranger), sa(Way::ToStranger)]),
            self.udp,
            &format!("esn = {esn}\nmode = {:?}\n{align}{lines}", self.mode()),
        );
        if let Some(ah) = &self.ah {
            let [inbound, outbound] = [Way::FromStranger, Way::ToStranger].map(|way| {
                let spi = self.spi(way);
                peer.files.push((format!("{spi:x}.ah"), self.key_of(ah, way)));
                format!("{{ spi = {spi:#x}, key_file = \"{spi:x}.ah\" }}")
            });
            let ah = &ah.name;
            writeln!(peer.text, "ah = {{ suite = \"{ah}\", inbound = {inbound}, outbound = {outbound} }}\n")
                .unwrap();
        }
        peer
    }

    const fn mode(&self) -> &'static str {
        if self.tunnel { "tunnel" } else { "transport" }
    }

    pub fn spi(&self, way: Way) -> u32 {
        let base = match way {
            Way::ToStranger => 0x2000_0000,
            Way::FromStranger => 0x1000_0000,
        };
        base + u32::from(self.number)
    }

    /// The keying material of one direction, in hexadecimal.
    pub fn key(&self, way: Way) -> String {
        self.key_of(&self.suite, way)
    }

    /// The keying material of one direction, for the suite of ESP or that of the AH around it, in hexadecimal.
    fn key_of(&self, suite: &Suite, way: Way) -> String {
        let seed = u64::from(self.spi(way)) << 1 | u64::from(suite.is_ah());
        let mut random = fastrand::Rng::with_seed(seed);
        let mut key = String::new();
        for _ in 0..suite.key_len() {
            write!(key, "{:02x}", random.u8(..)).unwrap();
        }
        key
    }
}

/// What the kernel calls the protocol of a suite.
fn protocol(suite: &Suite) -> &'static str {
    if suite.is_ah() { "ah" } else { "esp" }
}

/// A peer of our configuration with one pair of SAs, and the key files that it names.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: IpAddr,
    pub native: bool,
    pub text: String,
    pub files: Vec<(String, String)>,
}

impl Peer {
    /// A peer at an address with a network behind it, a suite with SPI and key of the SAs inbound and outbound, whether they
    /// are in UDP, and further lines of these.
    pub fn new(
        identity: &str,
        (address, network): (IpAddr, &str),
        (suite, sas): (&str, [(u32, String); 2]),
        udp: bool,
        lines: &str,
    ) -> Self {
        let [inbound, outbound] =
            [&sas[0], &sas[1]].map(|(spi, _)| format!("{{ spi = {spi:#x}, key_file = \"{spi:x}.key\" }}"));
        let encapsulation = if udp { "udp" } else { "none" };
        let text = format!(
            "[[peer]]\nidentity = \"{identity}\"\nendpoint = \"{address}\"\ninner = [\"{network}\"]\n\n\
             [[peer.sa]]\nsuite = \"{suite}\"\ninbound = {inbound}\noutbound = {outbound}\nencapsulation = \"{encapsulation}\"\n{lines}\n\n"
        );
        Self {
            address,
            native: !udp,
            text,
            files: sas.map(|(spi, key)| (format!("{spi:x}.key"), key)).into(),
        }
    }
}

/// The direction of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToStranger,
    FromStranger,
}

impl Display for Case {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        let number = |family| if family == Family::V4 { 4 } else { 6 };
        let mode = self.mode();
        let carrier = if self.udp { "udp" } else { "native" };
        let esn = if self.esn { "esn" } else { "32 bits" };
        let (inner, outer) = (number(self.inner), number(self.outer));
        let ah = self.ah.as_ref().map(|ah| format!("  within {}", ah.name)).unwrap_or_default();
        let eight = if self.align4 { "" } else { "  multiples of 8" };
        write!(formatter, "{:32} {mode:9} {inner}o{outer}  {carrier:6}  {esn:7}{ah}{eight}", self.suite.name)
    }
}
