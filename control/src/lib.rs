//! The control protocol: what is said on control.sock and on app.sock, and how it is framed.
//!
//! Messages are those of Varlink: one JSON object, ended by a NUL octet; `{"method", "parameters"}` there,
//! `{"parameters"}` or `{"error", "parameters"}` back, several times where the call says `more`. The interface of
//! control.sock is `org.latchway.Control`, that of app.sock `org.latchway.App` ([`app`]); each is described in a file of
//! that name, which is made from the types here. Types only: who listens and who connects is elsewhere.

#![forbid(unsafe_code)]

pub mod app;
pub mod call;
mod capture;
mod failure;
mod form;
mod frame;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod interface;
mod keys;
mod latch;
mod message;
mod provider;
#[cfg(test)]
mod schema;
mod selector;
mod spec;
mod view;
mod wire;
mod words;
mod xfrm;

pub use call::{Call, Commit, Done, Method, PairAdded, PeerForgotten, RuleAdded};
pub use capture::{CaptureSpec, CapturedPacket, CapturedPackets, CapturedVerdict, SideSpec};
pub use failure::{Failure, FailureParameters};
pub use form::{DfSpec, EcnSpec, EncapsulationSpec, FlowLabelSpec, FormSpec, HeaderSpec, ProbeSpec, TfcSpec};
pub use frame::{FrameError, Frames, MAX_MESSAGE, MAX_REPLY, write_message};
pub use interface::{
    GetInfo, GetInterfaceDescription, INTERFACES, Interface, InterfaceDescription, ServiceInfo,
};
pub use keys::{KeyedSa, ShowKeys, ShownKeys};
pub use latch::{
    CloseLatch, ConflictSpec, ConnectSpec, ConstraintsSpec, FindLatch, GoneSpec, InquireLatch, ListenSpec,
    MethodSpec, ModeSpec, OwnerSpec, PeerGoneSpec, ProtectionSpec, ReleaseLatch, WatchLatches, Whois,
};
pub use message::{Answering, Asking, Reply, Request};
pub use provider::{
    AnchorSpec, EvidenceSpec, InstallSpec, KeysSpec, NatSpec, Offered, ProposalSpec, RekeySpec,
};
pub use selector::{
    IcmpSpec, MessagesSpec, NoRange, PortsSpec, PortsView, RangeSpec, SelectorSpec, SelectorView, Unseen,
};
pub use spec::{
    ActionSpec, ApplicationsSpec, DirectionSpec, GatewaySpec, InnerRange, LatchTermsSpec, LifetimeSpec,
    ModelSpec, PairSpec, PathSpec, PeerSpec, PolicyChangeSpec, RuleSpec, SaSpec, Secret, TunBackendSpec,
    TunSpec, UnlatchableSpec, UsageSpec,
};
pub use view::{
    AlertKind, AlertView, Bond, CertificateView, ChangeKind, ChangeRow, DiscoverySpec, DropRow, Drops,
    EventKind, EventView, Explanation, FlowRow, Flows, FragmentSpec, HeaderView, HeldView, IdentityView,
    LatchCounts, LatchDetail, LatchNamed, LatchRow, LatchState, LatchTermsView, Latches, LifetimeView, Mode,
    MtuPart, MtuRow, MtuView, Origin, OwnerKind, OwnerView, Page, PartKind, PathView, PeerRow, Peers,
    Policies, PolicyRow, ProvenRow, ReloadHistory, ReloadOutcome, Reloaded, SaRow, SaUsage, SaUsed, Sas,
    Severity, StateHealth, StatusView, StreetView, TagView, Traffic, TunView, TunnelView, Verdict,
    WhoisAnswer, WhoisRow,
};
pub use wire::{NoWire, WireSpec};
pub use xfrm::{
    XfrmAction, XfrmAlgorithm, XfrmAlgorithmKind, XfrmDirection, XfrmEncap, XfrmEvent, XfrmEventKind,
    XfrmLevel, XfrmLimits, XfrmMode, XfrmPolicies, XfrmPolicy, XfrmPolicyBy, XfrmPolicyFlag, XfrmPolicyId,
    XfrmPolicyRow, XfrmProtocol, XfrmSelector, XfrmState, XfrmStateFlag, XfrmStateId, XfrmStateRow,
    XfrmStates, XfrmStep, XfrmTemplate, XfrmUpper, XfrmUsed,
};
