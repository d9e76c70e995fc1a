//! All that there is to say of one latch.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::latch::{MethodSpec, ModeSpec};
use crate::provider::AnchorSpec;
use crate::view::{CertificateView, LatchState, PolicyRow, TagView};
use crate::words::words;

/// A latch by its handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LatchNamed {
    /// The handle, by which other calls name the latch.
    pub latch: String,
    /// The flow: protocol, local, remote. A listener's has no remote end.
    pub flow: String,
    /// Its state.
    pub state: LatchState,
}

/// A latch with everything that is known of it (L-12, L-28 to L-32, L-67).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LatchDetail {
    /// Its handle.
    pub latch: String,
    /// The flow: protocol, local, remote. A listener's has no remote end.
    pub flow: String,
    /// The number of its protocol.
    pub protocol: u8,
    /// Local address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub local: SocketAddr,
    /// Remote address and port; null for a listener's.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub remote: Option<SocketAddr>,
    /// Its state.
    pub state: LatchState,
    /// Who holds it.
    pub owner: OwnerView,
    /// What was asked for beyond the policy, a demand each.
    pub demands: Vec<String>,
    /// What it holds its connection to; null while nothing decided that.
    pub held: Option<HeldView>,
    /// Whether its parameters are not decided, as its demands admit several.
    pub indeterminate: bool,
    /// Where the SAs lead that its packets use; null where none serves it now.
    pub tunnel: Option<TunnelView>,
    /// The rule of the policy that stands for it while it lives (L-77, L-115); null where its packets are judged by the
    /// policy's own rule.
    pub rule: Option<PolicyRow>,
    /// Why it is not established, and what became of the connection.
    pub reason: Option<String>,
    /// The identity of the peer that broke it.
    pub offender: Option<String>,
    /// Whether a channel may be bound to it (L-43).
    pub binding: bool,
    /// Why no channel may be bound to it.
    pub unbindable: Option<String>,
    /// The tag of the last inbound packet.
    pub last_tag: Option<TagView>,
    /// How long ago it was made.
    pub age: u64,
    /// How long ago a packet passed or the state changed.
    pub idle: u64,
}

/// What a latch holds its connection to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HeldView {
    /// The congruence class; null where its packets pass in the clear.
    pub class: Option<u32>,
    /// In words, as "esp tunnel aes-128-gcm", or "bypass".
    pub protection: String,
    /// Tunnel or transport mode.
    pub mode: Option<ModeSpec>,
    /// The suite of what we receive.
    pub inbound_suite: Option<String>,
    /// The suite of what we send.
    pub outbound_suite: Option<String>,
    /// Whether replays are refused.
    pub replay_checked: Option<bool>,
    /// The peer.
    pub peer: Option<IdentityView>,
    /// Ourselves, as the peer knows us.
    pub identity: Option<IdentityView>,
}

/// Who somebody is, and how that is known (L-29 to L-31).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IdentityView {
    /// What was asserted.
    pub asserted: String,
    /// Its type: "fqdn", "mail", "address", "distinguished-name", "key-id", "public-key" or "none".
    pub kind: String,
    /// How it was proven; null for ourselves.
    pub method: Option<MethodSpec>,
    /// The entry of the PAD that authorises it.
    pub entry: Option<String>,
    /// The certificate by which it was proven (L-30).
    pub certificate: Option<CertificateView>,
    /// The same in DER, in base64.
    pub certificate_der: Option<String>,
    /// The trust anchor that the certificate was validated to (L-31).
    pub trust_anchor: Option<AnchorSpec>,
    /// The public key as SubjectPublicKeyInfo in DER, in base64.
    pub public_key: Option<String>,
    /// When it was proven last.
    pub authenticated: Option<u64>,
}

/// Where the SAs of a latch lead (L-32, R-5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TunnelView {
    /// Our outer address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub local: SocketAddr,
    /// The peer's outer address and port, as packets go there.
    #[cfg_attr(test, schemars(with = "String"))]
    pub remote: SocketAddr,
    /// Whether we are behind a NAT; null where nobody said.
    pub local_nat: Option<bool>,
    /// Whether the peer is behind a NAT; null where nobody said.
    pub remote_nat: Option<bool>,
    /// Our own address and port behind our NAT.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub local_inner: Option<SocketAddr>,
    /// The peer's own address and port behind its NAT.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub remote_inner: Option<SocketAddr>,
}

/// Who holds a latch (L-21).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OwnerView {
    /// What it is.
    pub kind: OwnerKind,
    /// The process, where it is one or where one is connected.
    pub pid: Option<u32>,
    /// The handle of the listener's latch that the latch was made by.
    pub listener: Option<String>,
}

words! {
    /// What holds a latch.
    OwnerKind {
        /// The connection whose packets it was inferred from.
        Packets = "packets",
        /// A connection to control.sock.
        Control = "control",
        /// A process.
        Process = "process",
    }
}
