//! SAs and policies as the Linux kernel's users know them: one direction each, in the terms of ip-xfrm(8).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::spec::Secret;
use crate::view::page;
use crate::words::words;

words! {
    /// What protects: XFRM-PROTO.
    XfrmProtocol {
        /// RFC 4303.
        Esp = "esp",
        /// RFC 4302.
        Ah = "ah",
    }
}

words! {
    /// MODE.
    #[derive(Default)]
    XfrmMode {
        /// Between the SA's own ends. What a state or template has that does not say.
        #[default]
        Transport = "transport",
        /// A whole packet inside another.
        Tunnel = "tunnel",
    }
}

words! {
    /// DIR of a policy.
    XfrmDirection {
        /// From the wire to this gateway.
        In = "in",
        /// To the wire.
        Out = "out",
        /// From the wire to hosts behind this gateway.
        Fwd = "fwd",
    }
}

words! {
    /// ACTION of a policy.
    #[derive(Default)]
    XfrmAction {
        /// By the templates, or in the clear where there are none.
        #[default]
        Allow = "allow",
        /// Not at all.
        Block = "block",
    }
}

words! {
    /// FLAG of a state.
    XfrmStateFlag {
        /// The outer ECN field does not reach the inner header.
        NoEcn = "noecn",
        /// The outer DSCP replaces the inner one.
        DecapDscp = "decap-dscp",
        /// Outer packets may be fragmented on their way.
        NoPmtuDisc = "nopmtudisc",
        /// Of Mobile IPv6; nothing here.
        WildRecv = "wildrecv",
        /// ICMP errors may be judged by the packet they enclose, as they always are here (RFC 4301 section 6).
        Icmp = "icmp",
        /// Inner packets may be of the other address family.
        AfUnspec = "af-unspec",
        /// AH is aligned to four octets in IPv4, as RFC 4302 has it, and not to eight.
        Align4 = "align4",
        /// Sequence numbers have 64 bits.
        Esn = "esn",
        /// The outer DSCP is 0, whatever the inner one is. An EXTRA-FLAG.
        DontEncapDscp = "dont-encap-dscp",
    }
}

words! {
    /// FLAG of a policy.
    XfrmPolicyFlag {
        /// An application may override it.
        LocalOk = "localok",
        /// ICMP errors may be judged by the packet they enclose.
        Icmp = "icmp",
    }
}

words! {
    /// The kind of an ALGO.
    XfrmAlgorithmKind {
        /// Encryption.
        Enc = "enc",
        /// Integrity, cut to the length that is usual in the kernel.
        Auth = "auth",
        /// Integrity, cut to a length that is said.
        AuthTrunc = "auth-trunc",
        /// Both in one.
        Aead = "aead",
    }
}

words! {
    /// LEVEL of a template.
    #[derive(Default)]
    XfrmLevel {
        /// Protected so, or not at all.
        #[default]
        Required = "required",
        /// Inbound, protected so or not protected.
        Use = "use",
    }
}

/// What names a state: ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XfrmStateId {
    /// The sender's address, which may be left out where a state is looked for.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub src: Option<IpAddr>,
    /// The receiver's address.
    #[cfg_attr(test, schemars(with = "String"))]
    pub dst: IpAddr,
    /// ESP or AH.
    pub protocol: XfrmProtocol,
    /// Its SPI.
    #[serde(deserialize_with = "spi")]
    pub spi: u32,
}

/// A state: one SA, one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XfrmState {
    /// The sender's address.
    #[cfg_attr(test, schemars(with = "String"))]
    pub src: IpAddr,
    /// The receiver's address.
    #[cfg_attr(test, schemars(with = "String"))]
    pub dst: IpAddr,
    /// ESP or AH.
    pub protocol: XfrmProtocol,
    /// Its SPI.
    #[serde(deserialize_with = "spi")]
    pub spi: u32,
    /// The policies it serves, by their templates; 0 where it is not said.
    #[serde(default)]
    pub reqid: u32,
    /// Transport or tunnel.
    #[serde(default)]
    pub mode: XfrmMode,
    /// The number of the ACQUIRE that it answers.
    #[serde(default)]
    pub seq: u32,
    /// The size of the replay window in packets, 0 is off; null where it was not said, which means 4096.
    #[serde(default)]
    pub replay_window: Option<u32>,
    /// The highest sequence number that was received already.
    #[serde(default)]
    pub replay_seq: u64,
    /// The last sequence number that was sent already.
    #[serde(default)]
    pub replay_oseq: u64,
    /// Its flags.
    #[serde(default)]
    pub flags: Vec<XfrmStateFlag>,
    /// Its algorithms with their keys.
    pub algorithms: Vec<XfrmAlgorithm>,
    /// The inner flows it may carry; any where it is missing.
    #[serde(default)]
    pub selector: Option<XfrmSelector>,
    /// Its lifetimes.
    #[serde(default)]
    pub limits: XfrmLimits,
    /// Its UDP encapsulation (RFC 3948); none where it is missing.
    #[serde(default)]
    pub encap: Option<XfrmEncap>,
    /// What payloads are padded to (RFC 4303 section 2.7); 0 is nothing.
    #[serde(default)]
    pub tfcpad: u32,
}

/// An ALGO of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XfrmAlgorithm {
    /// What it is for.
    pub kind: XfrmAlgorithmKind,
    /// The kernel's name for it.
    #[serde(deserialize_with = "algorithm_name")]
    pub name: String,
    /// Its key in hexadecimal, salt or nonce at its end.
    #[cfg_attr(test, schemars(with = "String"))]
    pub key: Secret,
    /// The length of what is left of the integrity check value in bits, of `aead` and `auth-trunc`.
    #[serde(default)]
    pub bits: Option<u32>,
}

/// A SELECTOR. Both sides are of one address family.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XfrmSelector {
    /// Where packets come from.
    #[cfg_attr(test, schemars(with = "String"))]
    pub src: IpNet,
    /// Where they go.
    #[cfg_attr(test, schemars(with = "String"))]
    pub dst: IpNet,
    /// The upper-layer protocol; 0 is any.
    #[serde(default)]
    pub protocol: u8,
    /// What is said of the upper layer beyond that.
    #[serde(default, skip_serializing_if = "XfrmUpper::is_any")]
    pub upper: XfrmUpper,
    /// The device that they pass; any where it is missing.
    #[serde(default)]
    pub dev: Option<String>,
}

/// What an UPSPEC says beyond the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum XfrmUpper {
    /// Nothing, which is said by leaving it out.
    #[default]
    #[serde(skip)]
    Any,
    /// Ports, source and destination; null is any.
    Ports(Option<u16>, Option<u16>),
    /// ICMP or mobility header type, and code; null is any.
    Icmp(Option<u8>, Option<u8>),
    /// The key of GRE.
    #[serde(rename = "gre_key")]
    Key(u32),
}

/// LIMITs. What is missing is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct XfrmLimits {
    /// Soft, in octets.
    pub byte_soft: Option<u64>,
    /// Hard, in octets.
    pub byte_hard: Option<u64>,
    /// Soft, in packets.
    pub packet_soft: Option<u64>,
    /// Hard, in packets.
    pub packet_hard: Option<u64>,
    /// Soft, in seconds since it was added.
    pub time_soft: Option<u64>,
    /// Hard, in seconds since it was added.
    pub time_hard: Option<u64>,
    /// Soft, in seconds since it was used first.
    pub time_use_soft: Option<u64>,
    /// Hard, in seconds since it was used first.
    pub time_use_hard: Option<u64>,
}

/// ENCAP: ESP in UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XfrmEncap {
    /// The UDP port it leaves by.
    pub sport: u16,
    /// The UDP port it goes to.
    pub dport: u16,
    /// The sender's original address; unspecified where it is not known.
    #[cfg_attr(test, schemars(with = "String"))]
    pub oa: IpAddr,
}

/// What names a policy: its selector or its index, and its direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XfrmPolicyId {
    /// Its direction.
    pub direction: XfrmDirection,
    /// Its selector or its index.
    pub by: XfrmPolicyBy,
}

/// By what a policy is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum XfrmPolicyBy {
    /// The same selector.
    Selector(XfrmSelector),
    /// This index.
    Index(u32),
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XfrmPolicy {
    /// The packets it speaks of.
    pub selector: XfrmSelector,
    /// Their direction.
    pub direction: XfrmDirection,
    /// What becomes of them.
    #[serde(default)]
    pub action: XfrmAction,
    /// Smaller ones decide before greater ones.
    #[serde(default)]
    pub priority: u32,
    /// By which it can be named; 0 lets the gateway choose.
    #[serde(default)]
    pub index: u32,
    /// Its flags.
    #[serde(default)]
    pub flags: Vec<XfrmPolicyFlag>,
    /// Its lifetimes.
    #[serde(default)]
    pub limits: XfrmLimits,
    /// How packets are to be protected, innermost first.
    #[serde(default)]
    pub templates: Vec<XfrmTemplate>,
}

/// A TMPL: which states will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XfrmTemplate {
    /// The sender's address; unspecified is any, of transport mode.
    #[cfg_attr(test, schemars(with = "String"))]
    pub src: IpAddr,
    /// The receiver's address; unspecified is any, of transport mode.
    #[cfg_attr(test, schemars(with = "String"))]
    pub dst: IpAddr,
    /// ESP or AH.
    pub protocol: XfrmProtocol,
    /// Its SPI; 0 is any.
    #[serde(default)]
    pub spi: u32,
    /// Its reqid; 0 is any.
    #[serde(default)]
    pub reqid: u32,
    /// Its mode.
    #[serde(default)]
    pub mode: XfrmMode,
    /// Whether it may be missing.
    #[serde(default)]
    pub level: XfrmLevel,
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum XfrmStep {
    /// Adds a state.
    AddState(Box<XfrmState>),
    /// Changes a state; what was counted stands unless its keys are others.
    UpdateState(Box<XfrmState>),
    /// Deletes a state.
    DeleteState(XfrmStateId),
    /// Deletes all states, or all of a protocol.
    FlushStates {
        /// The protocol; null is all.
        protocol: Option<XfrmProtocol>,
    },
    /// Adds a policy.
    AddPolicy(Box<XfrmPolicy>),
    /// Adds a policy, in the place of the one with the same selector and direction if there is one.
    UpdatePolicy(Box<XfrmPolicy>),
    /// Deletes a policy.
    DeletePolicy(Box<XfrmPolicyId>),
    /// Deletes all policies.
    FlushPolicies {},
}

page! {
    /// States.
    XfrmStates {
        /// The states, newest first.
        states: XfrmStateRow
    }
}

page! {
    /// Policies.
    XfrmPolicies {
        /// The policies, newest first.
        policies: XfrmPolicyRow
    }
}

/// A state as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct XfrmStateRow {
    /// What was asked for, with empty keys unless they were asked for. Its numbers are those of now.
    pub state: XfrmState,
    /// What it carried.
    pub used: XfrmUsed,
    /// Whether it makes a pair with a state of the other direction, by which connections may be latched.
    pub paired: bool,
}

/// A policy as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct XfrmPolicyRow {
    /// What was asked for, with its index.
    pub policy: XfrmPolicy,
    /// When it was added, in milliseconds since 1970-01-01T00:00Z.
    pub added: u64,
}

/// What a state carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct XfrmUsed {
    /// Octets.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
    /// When it was added, in milliseconds since 1970-01-01T00:00Z.
    pub added: u64,
    /// When it was used last; null is never.
    pub last_used: Option<u64>,
    /// Whether its soft lifetime is over.
    pub soft_expired: bool,
    /// Whether its hard lifetime is over.
    pub expired: bool,
}

words! {
    /// The kind of an [`XfrmEvent`].
    XfrmEventKind {
        /// The subscription stands: what happens from now on follows.
        Begun = "begun",
        /// A state was added.
        StateAdded = "state_added",
        /// A state was changed.
        StateUpdated = "state_updated",
        /// A state was deleted.
        StateDeleted = "state_deleted",
        /// The soft lifetime of a state is over.
        SoftExpired = "soft_expired",
        /// The hard lifetime of a state is over.
        HardExpired = "hard_expired",
        /// States were flushed.
        StatesFlushed = "states_flushed",
        /// A policy was added.
        PolicyAdded = "policy_added",
        /// A policy was changed.
        PolicyUpdated = "policy_updated",
        /// A policy was deleted.
        PolicyDeleted = "policy_deleted",
        /// Policies were flushed.
        PoliciesFlushed = "policies_flushed",
        /// A packet needs a state that is not there.
        Acquire = "acquire",
        /// Events were lost, since they were not read in time.
        Lost = "lost",
    }
}

/// Something that happened to states and policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct XfrmEvent {
    /// What.
    pub kind: XfrmEventKind,
    /// When, in milliseconds since 1970-01-01T00:00Z.
    pub at: u64,
    /// The state, without its keys.
    #[serde(default)]
    pub state: Option<XfrmStateRow>,
    /// The policy; of an ACQUIRE, the one whose template is not met.
    #[serde(default)]
    pub policy: Option<XfrmPolicyRow>,
    /// The packet of an ACQUIRE.
    #[serde(default)]
    pub flow: Option<XfrmSelector>,
}

impl XfrmEvent {
    /// An event that concerns nothing in particular.
    #[must_use]
    pub const fn of(kind: XfrmEventKind, at: u64) -> Self {
        Self { kind, at, state: None, policy: None, flow: None }
    }
}

impl XfrmState {
    /// What names it.
    #[must_use]
    pub const fn id(&self) -> XfrmStateId {
        XfrmStateId { src: Some(self.src), dst: self.dst, protocol: self.protocol, spi: self.spi }
    }

    /// The size of its replay window: 4096 where nothing was said (only a written 0 turns the check off).
    #[must_use]
    pub fn window(&self) -> u32 {
        self.replay_window.unwrap_or(DEFAULT_WINDOW)
    }

    /// Whether it has a flag.
    #[must_use]
    pub fn has(&self, flag: XfrmStateFlag) -> bool {
        self.flags.contains(&flag)
    }

    /// The same with empty keys.
    #[must_use]
    pub fn without_keys(&self) -> Self {
        let hidden = |algorithm: &XfrmAlgorithm| XfrmAlgorithm {
            kind: algorithm.kind,
            name: algorithm.name.clone(),
            key: Secret::new(String::new()),
            bits: algorithm.bits,
        };
        let algorithms = self.algorithms.iter().map(hidden).collect();
        Self { algorithms, selector: self.selector.clone(), flags: self.flags.clone(), ..*self }
    }
}

impl XfrmUpper {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

impl XfrmStateId {
    /// Whether it names this state.
    #[must_use]
    pub fn names(&self, state: &XfrmState) -> bool {
        let sender = self.src.is_none_or(|src| src.is_unspecified() || src == state.src);
        sender && (self.dst, self.protocol, self.spi) == (state.dst, state.protocol, state.spi)
    }
}

impl XfrmPolicy {
    /// What names it.
    #[must_use]
    pub fn id(&self) -> XfrmPolicyId {
        XfrmPolicyId { direction: self.direction, by: XfrmPolicyBy::Selector(self.selector.clone()) }
    }
}

impl XfrmPolicyId {
    /// Whether it names this policy.
    #[must_use]
    pub fn names(&self, policy: &XfrmPolicy) -> bool {
        self.direction == policy.direction
            && match &self.by {
                XfrmPolicyBy::Selector(selector) => *selector == policy.selector,
                XfrmPolicyBy::Index(index) => *index == policy.index,
            }
    }
}

/// The size of a replay window of which nothing is said.
const DEFAULT_WINDOW: u32 = 4096;

/// As long as the kernel's field.
const MOST_NAME: usize = 63;

/// T40: serde's own errors quote what they found, which may be a key in the wrong place.
fn spi<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    u32::deserialize(from).map_err(|_| D::Error::custom("an SPI is a whole number below 2^32"))
}

fn algorithm_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let unfit = || D::Error::custom("the name of an algorithm is a string of at most 63 octets");
    let name = String::deserialize(from).map_err(|_| unfit())?;
    if name.len() > MOST_NAME { Err(unfit()) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{"src":"192.0.2.1","dst":"192.0.2.2","protocol":"esp","spi":256,"algorithms":
        [{"kind":"aead","name":"rfc4106(gcm(aes))","key":"c0ffee","bits":128}]}"#;

    #[test]
    fn a_missing_window_means_4096_and_only_a_written_0_is_off() {
        let mut state: XfrmState = serde_json::from_str(STATE).unwrap();
        assert_eq!(state.window(), 4096);
        state.replay_window = Some(0);
        assert_eq!(state.window(), 0);
    }

    #[test]
    fn t40_keys_are_not_shown() {
        let state: XfrmState = serde_json::from_str(STATE).unwrap();
        assert!(!format!("{state:?}").contains("c0ffee"));
        assert!(!serde_json::to_string(&state.without_keys()).unwrap().contains("c0ffee"));
        for (wrong, of) in [(r#""spi":256"#, r#""spi":"c0ffee""#), (r#""rfc4106(gcm(aes))""#, "12648430")] {
            let error = serde_json::from_str::<XfrmState>(&STATE.replace(wrong, of)).unwrap_err().to_string();
            assert!(!error.contains("c0ffee") && !error.contains("12648430"), "{error}");
        }
    }

    #[test]
    fn an_id_names_what_it_is_of() {
        let state: XfrmState = serde_json::from_str(STATE).unwrap();
        assert!(state.id().names(&state));
        assert!(XfrmStateId { src: None, ..state.id() }.names(&state));
        assert!(!XfrmStateId { spi: 257, ..state.id() }.names(&state));
        assert!(!XfrmStateId { protocol: XfrmProtocol::Ah, ..state.id() }.names(&state));
    }
}
