//! The path MTU of an outbound SA (RFC 4301 section 8.2): what its path is configured to take is the most it is believed
//! to.

use std::net::IpAddr;

use latchway_esp::{Protocol, SeqLow, Spi};

use crate::gateway::Datapath;
use crate::ulp::Ulp;

/// What an ICMP error says of a packet that the gateway sent: anybody may have written it (RFC 4301 section 8.2.1, T18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The SPI in the packet that the error encloses.
    pub spi: Spi,
    /// Its protocol.
    pub protocol: Protocol,
    /// The sequence number in it, where the error encloses so much.
    pub low_seq: Option<SeqLow>,
    /// The largest outer IP packet that is said to pass.
    pub claimed: u16,
    /// Who says so.
    pub reporter: IpAddr,
}

/// How an outbound SA makes packets fit its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizing {
    /// How it learns what the path takes.
    pub pmtu: Pmtu,
    /// Where packets that are too long are cut.
    pub fragment: Fragment,
    /// Whether TCP connections through it are kept to segments that fit.
    pub clamp_mss: bool,
}

/// How an SA learns what its path takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pmtu {
    /// What makes it ask.
    pub discovery: Discovery,
    /// The octets of inner packet for which it keeps room, whatever it learns.
    pub floor: u16,
    /// Between whom it asks; `None` is between inner hosts that were heard of lately.
    pub probe: Option<ProbeEnds>,
}

/// The inner ends of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeEnds {
    /// In whose name the gateway asks: an address on our side that the SA's selectors admit. What is answered to it is
    /// taken by the gateway.
    pub from: IpAddr,
    /// Who answers: an address on the peer's side.
    pub to: IpAddr,
}

/// What makes an SA ask for what its path takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// Nothing: the configured MTU stands.
    Off,
    /// ICMP errors about its packets.
    #[default]
    Hints,
    /// Besides, the passage of time (RFC 8899 section 4).
    Probes,
}

/// Where packets are cut that do not fit and may be cut (RFC 4301 section 8.2.1 case 2, RFC 4303 section 3.3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// Before they are sealed: each fragment is a packet of the SA.
    #[default]
    Before,
    /// Sealed whole, the outer packet is cut.
    After,
}

impl Default for Pmtu {
    fn default() -> Self {
        Self { discovery: Discovery::default(), floor: LEAST_INNER, probe: None }
    }
}

impl<U: Ulp> Datapath<U> {
    /// Takes note of an ICMP error about a packet of the gateway's, which changes nothing by itself (T18).
    pub fn hint_mtu(&mut self, hint: Hint) {
        let _ = hint;
        self.counters.mtu_hints.add(1);
    }
}

/// What every IPv6 link takes (RFC 8200 section 5).
pub const LEAST_INNER: u16 = 1280;
