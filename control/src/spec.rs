//! How a gateway and its SAs are described, in a message or in a file.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::form::{EncapsulationSpec, FormSpec, HeaderSpec};
use crate::latch::{ConflictSpec, MethodSpec, ModeSpec};
use crate::selector::SelectorSpec;
use crate::wire::WireSpec;
use crate::words::words;

/// A gateway: where it stands, whom it knows, what its policy is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySpec {
    /// What the gateway is called in status output.
    pub name: String,
    /// The inner network namespace, where the TUN is made; `None` is the namespace of the process.
    #[serde(default)]
    pub inner: Option<PathBuf>,
    /// The outer network namespace, where the wire sockets are; `None` is the namespace of the process.
    #[serde(default)]
    pub outer: Option<PathBuf>,
    /// Take it that nothing guards the inner addresses where inner and outer namespace are one: clear packets reach
    /// them on other interfaces, and when the gateway goes, their traffic takes other routes. For benchmarks.
    #[serde(default)]
    pub unguarded: bool,
    /// The TUN towards the inner hosts.
    pub tun: TunSpec,
    /// What the wire sockets are bound to, by number.
    pub listen: Vec<WireSpec>,
    /// Our own identity, as a fully qualified domain name.
    pub identity: String,
    /// The peers (the PAD).
    pub peers: Vec<PeerSpec>,
    /// The policy (the SPD), first match first.
    pub policy: Vec<RuleSpec>,
    /// SAs to begin with.
    #[serde(default)]
    pub sas: Vec<PairSpec>,
    /// The control socket to offer.
    pub control: PathBuf,
    /// End when standard input ends: how a gateway goes with whoever started it.
    #[serde(default)]
    pub end_with_stdin: bool,
}

/// A TUN device.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunSpec {
    /// Its name.
    pub name: String,
    /// Super-packets or one packet per system call.
    #[serde(default)]
    pub backend: TunBackendSpec,
    /// The MTU of the inner side; computed from the paths' overhead where it is missing.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Addresses to give it, with their prefixes. Empty leaves addresses, MTU and state to someone else.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// Prefixes to route through it.
    #[serde(default)]
    pub routes: Vec<IpNet>,
}

/// How the TUN is driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunBackendSpec {
    /// Super-packets where the kernel can.
    #[default]
    Auto,
    /// Super-packets, or fail.
    Offload,
    /// One packet per system call.
    Plain,
}

/// An entry of the PAD.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSpec {
    /// The peer's identity, or a pattern of identities, as the configuration file has them.
    pub identity: String,
    /// The inner addresses that the peer may claim.
    pub inner: Vec<InnerRange>,
    /// How it may prove its identity; where it is empty, by hand, and for anybody as RFC 5386 has it.
    #[serde(default)]
    pub methods: Vec<MethodSpec>,
}

/// A prefix of inner addresses.
pub type InnerRange = IpNet;

/// A rule of the SPD.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// The flows it speaks of. Each combination of its ranges is a row of the policy, with the number of the rule.
    pub selector: SelectorSpec,
    /// The direction it speaks of; both where it is missing.
    #[serde(default)]
    pub direction: Option<DirectionSpec>,
    /// What it wants.
    pub action: ActionSpec,
    /// Whether a PROTECT rule latches connections.
    #[serde(default = "yes")]
    pub latch: bool,
    /// On which terms it does.
    #[serde(default)]
    pub terms: LatchTermsSpec,
    /// What applications may ask for beyond the rule.
    #[serde(default)]
    pub applications: ApplicationsSpec,
}

/// The terms on which a rule's connections are latched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LatchTermsSpec {
    /// What counts as a conflict.
    #[serde(default)]
    pub model: ModelSpec,
    /// What becomes of a connection whose addresses another peer claims (L-109, L-110).
    #[serde(default)]
    pub on_conflict: ConflictSpec,
    /// What becomes of a latch that a change of policy would alter (L-76).
    #[serde(default)]
    pub on_policy_change: PolicyChangeSpec,
    /// What becomes of a connection that cannot be latched (L-81, L-83).
    #[serde(default)]
    pub unlatchable: UnlatchableSpec,
    /// Whether a UDP flow that is idle for too long stays latched for as long as a socket has it.
    #[serde(default)]
    pub sticky: bool,
}

words! {
    /// What counts as a conflict.
    #[derive(Default)]
    ModelSpec {
        /// An SA that covers a latched flow, from its proposal on (latching-04 2.1).
        #[default]
        Strict = "strict",
        /// A packet alone: SAs of several peers may overlap (latching-04 2.2).
        Tag = "tag",
    }
}

words! {
    /// What becomes of a latch that a change of policy would alter.
    #[derive(Default)]
    PolicyChangeSpec {
        /// It breaks.
        #[default]
        Break = "break",
        /// It stands.
        Preserve = "preserve",
    }
}

words! {
    /// What becomes of a connection that cannot be latched.
    #[derive(Default)]
    UnlatchableSpec {
        /// It does not come about.
        #[default]
        Refuse = "refuse",
        /// It passes without a latch.
        Pass = "pass",
    }
}

words! {
    /// What applications may ask for beyond a rule (L-36, L-111, L-112).
    #[derive(Default)]
    ApplicationsSpec {
        /// Nothing.
        #[default]
        Nothing = "nothing",
        /// More protection, or a certain peer.
        More = "more",
        /// That, and for privileged ones traffic in the clear.
        Bypass = "bypass",
    }
}

words! {
    /// PROTECT, BYPASS or DISCARD (RFC 4301 4.4.1).
    ActionSpec {
        /// ESP, and nothing less.
        Protect = "protect",
        /// In the clear.
        Bypass = "bypass",
        /// Not at all.
        Discard = "discard",
    }
}

words! {
    /// A direction.
    DirectionSpec {
        /// From the wire.
        Inbound = "inbound",
        /// To the wire.
        Outbound = "outbound",
    }
}

/// A pair of SAs with one peer. The keys are fresh, made for this pair alone, and used by one run of one gateway.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PairSpec {
    /// The identity of the peer.
    pub peer: String,
    /// Tunnel or transport.
    #[serde(default = "tunnel")]
    pub mode: ModeSpec,
    /// The suite's name, of ESP or of AH.
    pub suite: String,
    /// The SA that protects what we receive.
    pub inbound: SaSpec,
    /// The SA that protects what we send.
    pub outbound: SaSpec,
    /// The AH around ESP, of a bundle.
    #[serde(default)]
    pub header: Option<HeaderSpec>,
    /// In what form its packets travel.
    #[serde(default)]
    pub form: FormSpec,
    /// Whether sequence numbers are extended to 64 bits.
    #[serde(default = "yes")]
    pub esn: bool,
    /// The size of the replay window in packets; 0 turns the check off.
    #[serde(default = "default_window")]
    pub replay_window: u32,
    /// Where protected packets go.
    pub path: PathSpec,
    /// The inner flows it may carry.
    pub selectors: Vec<SelectorSpec>,
    /// Its soft lifetime, after which a successor is asked for. Not beyond the hard one.
    #[serde(default)]
    pub soft: LifetimeSpec,
    /// Its hard lifetime, after which nothing passes.
    #[serde(default)]
    pub hard: LifetimeSpec,
    /// Whether it sends from the start.
    #[serde(default)]
    pub usage: UsageSpec,
}

/// One SA of a pair.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SaSpec {
    /// Its SPI.
    #[serde(deserialize_with = "spi")]
    pub spi: u32,
    /// Key and salt in hexadecimal, as RFC 4106 8.1 and RFC 7634 2 lay them out.
    #[cfg_attr(test, schemars(with = "String"))]
    pub key: Secret,
}

/// Where protected packets go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PathSpec {
    /// Our address: which wire socket sends.
    #[cfg_attr(test, schemars(with = "String"))]
    pub from: IpAddr,
    /// The peer's address and UDP port. Without UDP the port says nothing.
    #[cfg_attr(test, schemars(with = "String"))]
    pub to: SocketAddr,
    /// The largest outer IP packet.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Whether it leads through UDP.
    #[serde(default)]
    pub encapsulation: EncapsulationSpec,
}

impl PathSpec {
    /// A path in UDP.
    #[must_use]
    pub const fn udp(from: IpAddr, to: SocketAddr, mtu: u16) -> Self {
        Self { from, to, mtu, encapsulation: EncapsulationSpec::Udp }
    }
}

/// A lifetime; what is missing is no limit.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LifetimeSpec {
    /// Octets that the cipher was applied to: inner packets with padding and trailer (RFC 4301 4.4.2.1).
    #[serde(default)]
    pub octets: Option<u64>,
    /// Inner packets.
    #[serde(default)]
    pub packets: Option<u64>,
    /// Milliseconds from now.
    #[serde(default)]
    pub milliseconds: Option<u64>,
    /// Milliseconds from the first packet on.
    #[serde(default)]
    pub milliseconds_since_first_use: Option<u64>,
}

/// Whether a new pair sends from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UsageSpec {
    /// It receives only, until a commit activates it.
    Standby,
    /// It receives and sends.
    #[default]
    Active,
}

/// A key in hexadecimal. Wiped when dropped; never shown.
#[derive(Clone, Serialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Holds a key in hexadecimal.
    #[must_use]
    pub const fn new(hexadecimal: String) -> Self {
        Self(hexadecimal)
    }

    /// The key, to be made an SA of.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Takes as long wherever the two differ (T25).
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let differ = |differ, (own, other): (u8, u8)| differ | (own ^ other);
        self.0.len() == other.0.len() && self.0.bytes().zip(other.0.bytes()).fold(0, differ) == 0
    }
}

impl Eq for Secret {}

// T40: serde's own errors quote what they found, which may be a key in the wrong place.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)
            .map(Self)
            .map_err(|_| D::Error::custom("a key is a string of hexadecimal digits"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// As for [`Secret`]: where an SPI is expected, a key may be found.
fn spi<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    u32::deserialize(from).map_err(|_| D::Error::custom("an SPI is a whole number below 2^32"))
}

const fn yes() -> bool {
    true
}

const fn default_window() -> u32 {
    4096
}

const fn tunnel() -> ModeSpec {
    ModeSpec::Tunnel
}

const fn default_mtu() -> u16 {
    1500
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t40_a_key_is_not_shown() {
        let sa = SaSpec { spi: 0x1000, key: Secret::new("c0ffee".into()) };
        assert!(!format!("{sa:?}").contains("c0ffee"));
    }

    #[test]
    fn t40_an_error_does_not_quote_a_key_in_the_wrong_place() {
        for sa in [
            r#"{"spi":"c0ffee00c0ffee00","key":4096}"#,
            r#"{"spi":4096,"key":["c0ffee00"]}"#,
            r#"{"spi":4096,"key":12648430}"#,
            r#"{"spi":12648430126484301264,"key":"00"}"#,
        ] {
            let error = serde_json::from_str::<SaSpec>(sa).unwrap_err().to_string();
            assert!(!error.contains("c0ffee") && !error.contains("12648430"), "{error}");
            assert!(error.contains("line 1"), "{error}");
        }
        assert_eq!(serde_json::from_str::<SaSpec>(r#"{"spi":4096,"key":"00"}"#).unwrap().key.expose(), "00");
    }

    #[test]
    fn unknown_keys_are_refused() {
        let rule = r#"{"selector":{"local":"10.0.0.0/24","remote":"10.0.1.0/24"},"action":"protect","latched":true}"#;
        let error = serde_json::from_str::<RuleSpec>(rule).unwrap_err();
        assert!(error.to_string().contains("latched"), "{error}");
    }
}
