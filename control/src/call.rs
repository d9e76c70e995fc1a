//! Every call: its name, its parameters, its answer.

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::capture::{CaptureSpec, CapturedPackets};
use crate::failure::Failure;
use crate::interface::{INTERFACES, Interface};
use crate::keys::{ShowKeys, ShownKeys};
use crate::latch::{
    CloseLatch, ConnectSpec, FindLatch, InquireLatch, ListenSpec, PeerGoneSpec, ReleaseLatch, WatchLatches,
    Whois,
};
use crate::provider::{InstallSpec, Offered, ProposalSpec, RekeySpec};
use crate::spec::{DirectionSpec, PairSpec, RuleSpec};
use crate::view;
use crate::xfrm::{XfrmEvent, XfrmStep};

/// The parameters of one method, from which its name and its answer follow.
pub trait Method: Serialize {
    /// The method's full name.
    const NAME: &'static str;

    /// What answers it.
    type Reply: Serialize + DeserializeOwned;
}

/// Declares all calls of an interface in one table, with those of org.varlink.service.
macro_rules! calls {
    (
        $(#[$enum_doc:meta])* $calls:ident of $interfaces:ident;
        $($(#[doc = $doc:literal])* $call:ident = $name:literal: $parameters:ty => $reply:ty;)+
    ) => {
        $(#[$enum_doc])*
        #[derive(Debug)]
        pub enum $calls {
            /// Who serves this socket (org.varlink.service).
            GetInfo(Box<$crate::interface::GetInfo>),
            /// An interface in Varlink's own language (org.varlink.service).
            GetInterfaceDescription(Box<$crate::interface::GetInterfaceDescription>),
            $($(#[doc = $doc])* $call(Box<$parameters>),)+
        }

        $(impl $crate::call::Method for $parameters {
            const NAME: &'static str = $name;
            type Reply = $reply;
        })+

        impl $calls {
            /// The full names of all methods.
            pub const NAMES: &'static [&'static str] = &[
                <$crate::interface::GetInfo as $crate::call::Method>::NAME,
                <$crate::interface::GetInterfaceDescription as $crate::call::Method>::NAME,
                $($name,)+
            ];

            /// The full name of the method.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    Self::GetInfo(_) => <$crate::interface::GetInfo as $crate::call::Method>::NAME,
                    Self::GetInterfaceDescription(_) => {
                        <$crate::interface::GetInterfaceDescription as $crate::call::Method>::NAME
                    }
                    $(Self::$call(_) => $name,)+
                }
            }

            /// Reads the parameters of the method of this name; missing ones are an empty object.
            ///
            /// # Errors
            /// A [`Failure`](crate::Failure) that says which method or interface is not there, or what is wrong with the
            /// parameters.
            pub fn read(
                name: &str,
                parameters: Option<&serde_json::value::RawValue>,
            ) -> Result<Self, $crate::failure::Failure> {
                use $crate::call::{Method, understood, unknown};
                use $crate::interface::{GetInfo, GetInterfaceDescription};

                let parameters = parameters.map_or("{}", serde_json::value::RawValue::get);
                match name {
                    GetInfo::NAME => understood(name, parameters).map(|read| Self::GetInfo(Box::new(read))),
                    GetInterfaceDescription::NAME => {
                        understood(name, parameters).map(|read| Self::GetInterfaceDescription(Box::new(read)))
                    }
                    $($name => understood(name, parameters).map(|read| Self::$call(Box::new(read))),)+
                    _ => Err(unknown(name, &$interfaces)),
                }
            }
        }

        #[cfg(any(test, feature = "fuzz"))]
        impl $calls {
            /// The parameters once more, as they are said.
            pub(crate) fn parameters(&self) -> serde_json::Result<serde_json::Value> {
                match self {
                    Self::GetInfo(parameters) => serde_json::to_value(parameters),
                    Self::GetInterfaceDescription(parameters) => serde_json::to_value(parameters),
                    $(Self::$call(parameters) => serde_json::to_value(parameters),)+
                }
            }
        }

        /// Name, text, parameters and answer of every method of the interface itself.
        #[cfg(test)]
        pub(crate) fn described(maker: &schemars::SchemaGenerator) -> Vec<$crate::schema::Described> {
            vec![$($crate::schema::Described {
                name: $name,
                text: concat!($($doc, "\n",)*),
                parameters: maker.clone().into_root_schema_for::<$parameters>(),
                reply: maker.clone().into_root_schema_for::<$reply>(),
            },)+]
        }
    };
}

pub(crate) use calls;

calls! {
    /// What an operator or a provider of SAs asks of a gateway.
    Call of INTERFACES;
    /// How the gateway is and what it moved.
    Status = "org.latchway.Control.Status": Status => view::StatusView;
    /// Its SAs. With `more`, all of them, page by page.
    Sas = "org.latchway.Control.Sas": Sas => view::Sas;
    /// Its policy. With `more`, all of it, page by page.
    Policies = "org.latchway.Control.Policies": Policies => view::Policies;
    /// Its peers. With `more`, all of them, page by page.
    Peers = "org.latchway.Control.Peers": Peers => view::Peers;
    /// Its latches. With `more`, all of them, page by page.
    Latches = "org.latchway.Control.Latches": Latches => view::Latches;
    /// The flows that it tracks. With `more`, all of them, page by page.
    Flows = "org.latchway.Control.Flows": Flows => view::Flows;
    /// What it dropped and why.
    Drops = "org.latchway.Control.Drops": Drops => view::Drops;
    /// What would become of a packet: which rule, SA, latch and MTU it would meet, and why.
    Explain = "org.latchway.Control.Explain": Explain => view::Explanation;
    /// How long the packets to a peer may be, and the sum that this follows from.
    Mtu = "org.latchway.Control.Mtu": Mtu => view::MtuView;
    /// What happens, as it happens. Needs `more`; the first reply says that the subscription stands.
    Events = "org.latchway.Control.Events": Events => view::EventView;
    /// Reads the configuration again and applies what differs, all of it or nothing.
    Reload = "org.latchway.Control.Reload": Reload => view::Reloaded;
    /// Proposes and installs a pair of SAs by hand.
    AddPair = "org.latchway.Control.AddPair": PairSpec => PairAdded;
    /// Removes a pair of SAs.
    DeletePair = "org.latchway.Control.DeletePair": DeletePair => Done;
    /// Adds a rule to the policy by hand.
    AddRule = "org.latchway.Control.AddRule": AddRule => RuleAdded;
    /// Removes a rule from the policy.
    DeleteRule = "org.latchway.Control.DeleteRule": DeleteRule => Done;
    /// Asks whether a pair of SAs would be accepted, before anything is promised to the peer (L-69).
    Propose = "org.latchway.Control.Propose": ProposalSpec => Offered;
    /// Makes an offer real with SPIs and keys.
    Install = "org.latchway.Control.Install": InstallSpec => PairAdded;
    /// Makes a successor of a pair, under the same terms, with new SPIs and keys.
    Rekey = "org.latchway.Control.Rekey": RekeySpec => PairAdded;
    /// Changes which pairs are used, and the policy, in one step: all of it becomes visible at once, or none.
    Commit = "org.latchway.Control.Commit": Commit => Done;
    /// Makes a listener's latch: connections to its address and port are latched with what it demands
    /// (CREATE_LISTENER_LATCH).
    ListenLatch = "org.latchway.Control.ListenLatch": ListenSpec => view::LatchNamed;
    /// Makes a connection's latch before its first packet (CREATE_CONNECTION_LATCH).
    ConnectLatch = "org.latchway.Control.ConnectLatch": ConnectSpec => view::LatchNamed;
    /// Gives up a latch that the caller owns: it is closed, and its handle void (RELEASE_LATCH).
    ReleaseLatch = "org.latchway.Control.ReleaseLatch": ReleaseLatch => Done;
    /// All that is known of a latch (INQUIRE_LATCH).
    InquireLatch = "org.latchway.Control.InquireLatch": InquireLatch => view::LatchDetail;
    /// The latch of a connection, or of a listener (FIND_LATCH).
    FindLatch = "org.latchway.Control.FindLatch": FindLatch => view::LatchNamed;
    /// Closes a latch by order of an operator, whoever owns it: its connection is reset.
    CloseLatch = "org.latchway.Control.CloseLatch": CloseLatch => Done;
    /// What becomes of latches, as it happens (ALERT). Needs `more`; the first reply says that it is watched.
    WatchLatches = "org.latchway.Control.WatchLatches": WatchLatches => view::AlertView;
    /// Breaks the latches of a peer that is gone, and removes its pairs.
    PeerGone = "org.latchway.Control.PeerGone": PeerGoneSpec => PeerForgotten;
    /// Who is on the other end of a connection.
    Whois = "org.latchway.Control.Whois": Whois => view::WhoisAnswer;
    /// Shows packets on both sides of the transform, with what became of them. Needs `more`; the first reply says that the
    /// capture stands, and one follows at least every second.
    Capture = "org.latchway.Control.Capture": CaptureSpec => CapturedPackets;
    /// Changes states and policies in the terms of ip-xfrm(8): all the steps in one, or none.
    XfrmApply = "org.latchway.Control.XfrmApply": XfrmApply => XfrmApplied;
    /// The states, as ip-xfrm(8) knows them. With `more`, all of them, page by page.
    XfrmStates = "org.latchway.Control.XfrmStates": XfrmStates => crate::xfrm::XfrmStates;
    /// The policies, as ip-xfrm(8) knows them. With `more`, all of them, page by page.
    XfrmPolicies = "org.latchway.Control.XfrmPolicies": XfrmPolicies => crate::xfrm::XfrmPolicies;
    /// What happens to states and policies, as it happens. Needs `more`; the first reply says that the subscription
    /// stands.
    XfrmMonitor = "org.latchway.Control.XfrmMonitor": XfrmMonitor => XfrmEvent;
    /// Shows the keys of all SAs, to dissect captures with. That somebody asked is logged and told.
    ShowKeys = "org.latchway.Control.ShowKeys": ShowKeys => ShownKeys;
    /// Ends the gateway.
    Stop = "org.latchway.Control.Stop": Stop => Done;
}

/// Declares parameters that say nothing.
macro_rules! unparameterised {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct $name {}
    )+};
}

unparameterised! {
    /// Parameters of [`Call::Status`]: none.
    Status
    /// Parameters of [`Call::Drops`]: none.
    Drops
    /// Parameters of [`Call::Events`]: none.
    Events
    /// Parameters of [`Call::XfrmMonitor`]: none.
    XfrmMonitor
    /// Parameters of [`Call::Stop`]: none.
    Stop
}

/// Declares parameters of a list.
macro_rules! list {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The most rows to answer with; null is as many as a reply holds, or all of them with `more`.
            #[serde(default)]
            pub limit: Option<u64>,
        }
    )+};
}

list! {
    /// Parameters of [`Call::Sas`].
    Sas
    /// Parameters of [`Call::Policies`].
    Policies
    /// Parameters of [`Call::Peers`].
    Peers
    /// Parameters of [`Call::Latches`].
    Latches
    /// Parameters of [`Call::Flows`].
    Flows
    /// Parameters of [`Call::XfrmPolicies`].
    XfrmPolicies
}

/// Parameters of [`Call::XfrmStates`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XfrmStates {
    /// The most rows to answer with; null is as many as a reply holds, or all of them with `more`.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Whether keys are wanted, which is logged.
    #[serde(default)]
    pub keys: bool,
}

/// Parameters of [`Call::XfrmApply`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XfrmApply {
    /// What is to be done, one after the other.
    pub steps: Vec<XfrmStep>,
    /// Whether the keys of counter-mode suites are said to be fresh: made for this, and used by nobody before (RFC 8221
    /// section 3).
    #[serde(default)]
    pub ephemeral_keys: bool,
    /// The line that each step is of, in the caller's file: where one cannot be done, that line is named.
    #[serde(default)]
    pub lines: Vec<u64>,
}

/// Parameters of [`Call::Mtu`]: a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Mtu {
    /// The peer's identity, or its name in the configuration.
    pub peer: String,
}

/// Parameters of [`Call::Explain`]: a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// Whether it would come from the wire or go there.
    #[serde(default = "outbound")]
    pub direction: DirectionSpec,
    /// The number of its upper-layer protocol.
    pub protocol: u8,
    /// Its address on this gateway's side.
    #[cfg_attr(test, schemars(with = "String"))]
    pub local: IpAddr,
    /// Its port on this side, where the protocol has ports.
    #[serde(default)]
    pub local_port: Option<u16>,
    /// Its address on the peer's side.
    #[cfg_attr(test, schemars(with = "String"))]
    pub remote: IpAddr,
    /// Its port on the peer's side, where the protocol has ports.
    #[serde(default)]
    pub remote_port: Option<u16>,
    /// Its length in octets, IP header included, to learn whether it fits.
    #[serde(default)]
    pub octets: Option<u32>,
}

/// Parameters of [`Call::Reload`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// Parameters of [`Call::DeletePair`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeletePair {
    /// The pair's number.
    pub pair: u64,
}

/// Parameters of [`Call::AddRule`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AddRule {
    /// The rule.
    pub rule: RuleSpec,
    /// The number of the rule that it is to stand before; null is behind all rules made by hand, which stand before
    /// those of the configuration. One before a policy of `latchway xfrm` is refused.
    #[serde(default)]
    pub before: Option<u64>,
}

/// Parameters of [`Call::DeleteRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeleteRule {
    /// The rule's number.
    pub number: u64,
}

/// Parameters of [`Call::Commit`]: a transaction.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Pairs that shall send.
    #[serde(default)]
    pub activate: Vec<u64>,
    /// Pairs that shall only receive what is still under way.
    #[serde(default)]
    pub retire: Vec<u64>,
    /// Pairs that shall go.
    #[serde(default)]
    pub remove: Vec<u64>,
    /// The whole new policy.
    #[serde(default)]
    pub policy: Option<Vec<RuleSpec>>,
}

/// The number of a new pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PairAdded {
    /// The number by which other calls name the pair.
    pub pair: u64,
}

/// What came of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct XfrmApplied {
    /// How many states came, went or changed.
    pub states: u64,
    /// How many policies did.
    pub policies: u64,
}

/// The number of a new rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RuleAdded {
    /// The number by which other calls name the rule.
    pub number: u64,
}

/// What went with a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerForgotten {
    /// How many latches broke.
    pub latches: u64,
    /// The pairs that were removed.
    pub pairs: Vec<u64>,
}

/// Done, and nothing more to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Done {}

const fn outbound() -> DirectionSpec {
    DirectionSpec::Outbound
}

/// The parameters of a method.
pub(crate) fn understood<'a, T: Deserialize<'a>>(name: &str, parameters: &'a str) -> Result<T, Failure> {
    serde_json::from_str(parameters).map_err(|error| {
        Failure::bad_call(
            format!("the parameters of {name} are not right: {error}"),
            "org.varlink.service.GetInterfaceDescription says what they must be",
        )
    })
}

/// Which of method and interface there is not.
pub(crate) fn unknown(name: &str, interfaces: &[Interface]) -> Failure {
    let interface = name.rsplit_once('.').map_or("", |(interface, _)| interface);
    if interfaces.iter().any(|known| known.name == interface) {
        Failure::method_not_found(name)
    } else {
        Failure::interface_not_found(interface)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn read(name: &str, parameters: &str) -> Result<Call, Failure> {
        Call::read(name, Some(&RawValue::from_string(parameters.into()).unwrap()))
    }

    #[test]
    fn calls_are_read_by_their_names() {
        assert!(matches!(Call::read("org.latchway.Control.Status", None), Ok(Call::Status(_))));
        let call = read("org.latchway.Control.Commit", r#"{"activate":[1]}"#).unwrap();
        assert!(matches!(&call, Call::Commit(commit) if commit.activate == [1]));
        assert_eq!(call.name(), Commit::NAME);
    }

    #[test]
    fn what_is_not_there_is_said_as_varlink_has_it() {
        let error = |name: &str| Call::read(name, None).unwrap_err().error;
        assert_eq!(error("org.latchway.Control.Dance"), "org.varlink.service.MethodNotFound");
        assert_eq!(error("org.varlink.service.Dance"), "org.varlink.service.MethodNotFound");
        assert_eq!(error("com.example.Dance"), "org.varlink.service.InterfaceNotFound");
        assert_eq!(error(""), "org.varlink.service.InterfaceNotFound");
    }

    #[test]
    fn parameters_that_are_not_there_are_named() {
        let failure = read("org.latchway.Control.Reload", r#"{"dryrun":true}"#).unwrap_err();
        assert_eq!(failure.error, "org.latchway.Control.BadCall");
        assert!(failure.to_string().contains("dryrun"), "{failure}");
    }
}
