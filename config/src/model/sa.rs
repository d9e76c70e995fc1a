//! Pairs of SAs, as a configuration has them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use latchway_esp::{Align, AntiReplay, Spi, Suite};
use latchway_tagging::Mode;

use crate::model::Position;
use crate::range::Selector;

/// A pair of SAs (RFC 4301 section 4.4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sa {
    /// Tunnel or transport (RFC 4301 section 4.1).
    pub mode: Mode,
    /// Whether packets travel in UDP. Not those of AH.
    pub encapsulation: Encapsulation,
    /// How packets are protected; by AH, where there is no ESP.
    pub suite: Suite,
    /// The SA for what we receive.
    pub inbound: SaDirection,
    /// The SA for what we send.
    pub outbound: SaDirection,
    /// The AH around ESP, of a bundle of SAs (RFC 4301 section 4.3); there is none where [`Sa::suite`] is AH's.
    pub header: Option<Header>,
    /// How long a header of AH is a multiple of.
    pub align: Align,
    /// Whether sequence numbers are extended to 64 bits (RFC 4303 section 2.2.1).
    pub esn: bool,
    /// Whether replays are refused (RFC 4303 section 3.4.3).
    pub anti_replay: AntiReplay,
    /// The largest outer packet on the path.
    pub mtu: u16,
    /// The listen address to send from; `None` is the first of the endpoint's family. It is one of
    /// [`Config::listen`](super::Config::listen), and of the endpoint's family. In transport mode and without UDP the
    /// address that is sent from is always a single one.
    pub from: Option<IpAddr>,
    /// Whether the peer's address and port follow what it authenticates (T34); else what comes from elsewhere is dropped.
    pub follow: bool,
    /// How often the NAT is kept open while nothing is sent (RFC 3948 section 4); in UDP alone.
    pub keepalive: Option<Duration>,
    /// The fields of outer headers.
    pub outer: Outer,
    /// How much is said of the traffic that it carries.
    pub hiding: Hiding,
    /// How packets are made to fit.
    pub sizing: Sizing,
    /// The inner flows that it may carry; in transport mode those between its ends.
    pub selectors: Vec<Selector>,
    /// When someone is told that its life ends. Below `hard` where both say something.
    pub soft: Lifetime,
    /// When its life ends.
    pub hard: Lifetime,
}

impl Sa {
    /// Its SAs, each with its name among the keys of the file and its suite.
    pub fn directions(&self) -> impl Iterator<Item = (&'static str, Suite, &SaDirection)> {
        let inner = [("inbound", self.suite, &self.inbound), ("outbound", self.suite, &self.outbound)];
        let header = self.header.iter().flat_map(|Header { suite, inbound, outbound }| {
            [("ah.inbound", *suite, inbound), ("ah.outbound", *suite, outbound)]
        });
        inner.into_iter().chain(header)
    }
}

/// One direction of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaDirection {
    /// Its SPI: not reserved, and in this direction no other SA's.
    pub spi: Spi,
    /// Where its key is; no other SA's.
    pub key_file: KeyFile,
}

/// A reference to a key. The key itself is nowhere in a configuration (T40).
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// The file, relative to the folder of the configuration.
    pub path: PathBuf,
    /// Where the configuration names it. Two references to one file are equal wherever they stand.
    pub at: Position,
}

impl PartialEq for KeyFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for KeyFile {}

/// Bounds of an SA's life (RFC 4301 section 4.4.2.1); `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// Octets that the cipher was applied to.
    pub octets: Option<u64>,
    /// Inner packets.
    pub packets: Option<u64>,
    /// Seconds since it was installed.
    pub seconds: Option<u64>,
    /// Seconds since it carried its first packet.
    pub since_first_use: Option<u64>,
}

/// Whether protected packets travel in UDP (RFC 3948), or are IP packets of protocol 50 or 51.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encapsulation {
    /// In UDP.
    #[default]
    Udp,
    /// They are not.
    None,
}

/// The AH of a bundle (RFC 4302), outside of ESP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its integrity algorithm.
    pub suite: Suite,
    /// Of what we receive.
    pub inbound: SaDirection,
    /// Of what we send.
    pub outbound: SaDirection,
}

/// The fields of the outer headers of a tunnel (RFC 4301 section 5.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Where the DSCP comes from (RFC 2983).
    pub dscp: Dscp,
    /// Whether the inner DSCP of what is received becomes the outer one.
    pub decapsulate_dscp: bool,
    /// What becomes of ECN (RFC 6040).
    pub ecn: Ecn,
    /// Where DF comes from; `None` is the usual, set in UDP and copied without.
    pub df: Option<Df>,
    /// The outer TTL or hop limit.
    pub ttl: u8,
    /// Where the flow label of IPv6 comes from; `None` is the usual, zero in UDP and of the flow without.
    pub flow_label: Option<FlowLabel>,
}

impl Default for Outer {
    fn default() -> Self {
        Self {
            dscp: Dscp::Copy,
            decapsulate_dscp: false,
            ecn: Ecn::Normal,
            df: None,
            ttl: 64,
            flow_label: None,
        }
    }
}

/// Where the outer DSCP comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dscp {
    /// From the inner header.
    #[default]
    Copy,
    /// It is always this one.
    Set(u8),
    /// From the inner one by these pairs; what is in none of them is copied.
    Map(Vec<(u8, u8)>),
}

/// What becomes of ECN on the way out (RFC 6040 section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ecn {
    /// It is copied.
    #[default]
    Normal,
    /// The outer header says that there is none.
    Compatibility,
}

/// Where the outer DF bit comes from (RFC 4301 section 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Df {
    /// From the inner header.
    Copy,
    /// It is set.
    Set,
    /// It is clear.
    Clear,
}

/// Where the outer flow label comes from (RFC 6438).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowLabel {
    /// It is zero.
    Zero,
    /// From the inner header.
    Copy,
    /// From the inner flow.
    Hash,
}

/// Confidentiality of the traffic's flow (RFC 4303 sections 2.6 and 2.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hiding {
    /// What sizes packets have.
    pub tfc: Tfc,
    /// How often a dummy packet is sent while nothing else is.
    pub dummies: Option<Duration>,
}

/// What sizes packets have (RFC 4303 section 2.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tfc {
    /// Their own.
    #[default]
    None,
    /// A multiple of so many octets.
    Multiple(u16),
    /// The largest that the path takes.
    Mtu,
}

/// How packets are made to fit the path (RFC 4301 section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    /// How it is learnt what the path takes.
    pub discovery: Discovery,
    /// The octets of inner packet that the path is always taken to have room for.
    pub floor: u16,
    /// Between whom it is tried what the path takes; `None` is between inner hosts that were heard of lately.
    pub probe: Option<Probe>,
    /// Where packets that may be cut are cut.
    pub fragment: Fragment,
    /// Whether TCP connections are kept to segments that fit.
    pub clamp_mss: bool,
}

impl Default for Sizing {
    fn default() -> Self {
        let (discovery, fragment) = (Discovery::default(), Fragment::default());
        Self { discovery, floor: USUAL_FLOOR, probe: None, fragment, clamp_mss: false }
    }
}

/// The inner ends of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// In whose name we ask: an address of ours that the SA may carry.
    pub from: IpAddr,
    /// Who answers: one of the peer's.
    pub to: IpAddr,
}

/// How it is learnt what a path takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// It is not.
    Fixed,
    /// It is tried when an ICMP error says that it takes less (T18).
    #[default]
    Learn,
    /// It is tried from time to time as well (RFC 8899).
    Probe,
}

/// Where packets are cut (RFC 4301 section 8.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// Before they are sealed.
    #[default]
    Before,
    /// After.
    After,
}

/// What every IPv6 link takes (RFC 8200 section 5).
const USUAL_FLOOR: u16 = 1280;
