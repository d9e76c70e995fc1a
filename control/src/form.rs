//! In what form an SA's packets travel: outer headers, sizes, and what is sent besides.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::spec::SaSpec;
use crate::view::{DiscoverySpec, FragmentSpec};
use crate::words::words;

/// The form of a pair's packets. Without anything said, it is the usual one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct FormSpec {
    /// The outer DSCP of every packet, 0 to 63; where it is missing, that of the inner header (RFC 2983).
    pub dscp: Option<u8>,
    /// Pairs of inner and outer DSCP, for those that are not copied.
    pub dscp_map: Vec<(u8, u8)>,
    /// Whether the inner DSCP of what is received becomes the outer one.
    pub decapsulate_dscp: bool,
    /// What becomes of ECN (RFC 6040).
    pub ecn: EcnSpec,
    /// The outer DF bit; where it is missing, set in UDP and copied without.
    pub df: Option<DfSpec>,
    /// The outer TTL or hop limit, without UDP; 64 where it is missing.
    pub ttl: Option<u8>,
    /// The outer flow label, over IPv6 without UDP; that of the inner flow where it is missing.
    pub flow_label: Option<FlowLabelSpec>,
    /// How long packets are made (RFC 4303 2.7).
    pub tfc: TfcSpec,
    /// A multiple of so many octets, instead.
    pub tfc_multiple: Option<u16>,
    /// After how many milliseconds without a packet a dummy is sent (RFC 4303 2.6).
    pub dummies: Option<u64>,
    /// After how many milliseconds without a packet a NAT is reminded of the path (RFC 3948 4).
    pub keepalive: Option<u64>,
    /// Whether the peer's address follows what it authenticates (T34); else what comes from elsewhere is dropped.
    pub follow: bool,
    /// Where packets are cut that do not fit (RFC 4301 8.2.1); before they are sealed where it is missing, and after in transport
    /// mode.
    pub fragment: Option<FragmentSpec>,
    /// How it is learnt what the path takes; by what ICMP errors say where it is missing.
    pub pmtu: Option<DiscoverySpec>,
    /// The length of inner packet that always fits; 1280 where it is missing.
    pub pmtu_floor: Option<u16>,
    /// Between whom it is tried what the path takes.
    pub probe: Option<ProbeSpec>,
    /// Whether TCP connections are kept to segments that fit.
    pub mss_clamp: bool,
    /// Whether AH headers over IPv4 are multiples of 8 octets, as those of a Linux kernel without `align4`.
    pub align8: bool,
}

/// The AH around ESP, of a bundle (RFC 4301 4.3).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HeaderSpec {
    /// The name of its suite, of AH.
    pub suite: String,
    /// The SA that protects what we receive.
    pub inbound: SaSpec,
    /// The SA that protects what we send.
    pub outbound: SaSpec,
}

/// The inner ends of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// In whose name we ask.
    #[cfg_attr(test, schemars(with = "String"))]
    pub from: IpAddr,
    /// Who answers.
    #[cfg_attr(test, schemars(with = "String"))]
    pub to: IpAddr,
}

words! {
    /// Whether protected packets travel in UDP.
    #[derive(Default)]
    EncapsulationSpec {
        /// ESP in UDP (RFC 3948).
        #[default]
        Udp = "udp",
        /// IP protocols 50 and 51.
        None = "none",
    }
}

words! {
    /// What becomes of ECN on the way out (RFC 6040 4.1).
    #[derive(Default)]
    EcnSpec {
        /// It is copied.
        #[default]
        Normal = "normal",
        /// The outer header says that there is none.
        Compatibility = "compatibility",
    }
}

words! {
    /// Where the outer DF bit comes from (RFC 4301 8.1).
    DfSpec {
        /// From the inner header.
        Copy = "copy",
        /// It is set.
        Set = "set",
        /// It is clear.
        Clear = "clear",
    }
}

words! {
    /// Where the outer flow label comes from (RFC 6438).
    FlowLabelSpec {
        /// It is zero.
        Zero = "zero",
        /// From the inner header.
        Copy = "copy",
        /// From the inner flow.
        Hash = "hash",
    }
}

words! {
    /// How long packets are made (RFC 4303 2.7).
    #[derive(Default)]
    TfcSpec {
        /// As long as they are.
        #[default]
        None = "none",
        /// As long as the path takes.
        Mtu = "mtu",
    }
}
