//! The key manager: SPD, PAD, SAD metadata, and where SAs come from.
//!
//! "The key manager decides, the datapath obeys": a provider of SAs [`propose`](Keying::propose)s before it promises
//! anything to a peer, [`install`](Keying::install)s the keys under the ticket it got, and
//! [`commit`](Keying::commit)s changes of SAs and policy in one published snapshot. A reload of the configuration is one
//! [`Change`] of PAD, policy and pairs, all of it or none. [`Keying`] is the decision maker, without threads or clock;
//! [`KeyManager`] is the one thread that owns it, and can be restarted while packets flow. Covers RFC 4301 section 4.4 and
//! the key-manager side of draft-ietf-btns-connection-latching-04 section 2.1 (L-69 to L-74, L-89).

#![forbid(unsafe_code)]

pub mod ephemeral;
pub mod reservations;

mod archive;
mod binding;
mod carve;
mod change;
mod conflict;
mod evidence;
mod explain;
mod install;
mod interned;
mod judge;
mod keying;
mod latching;
mod manager;
mod narrow;
mod nat;
mod notice;
mod origin;
mod outbox;
mod pad;
mod pad_ids;
mod pair;
mod policy;
mod proposal;
mod resting;
mod secrets;
mod settings;
mod single;
mod slots;
mod spent_keys;
mod spis;
mod ticket;
mod transaction;
mod view;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use archive::EvidenceLimit;
pub use change::{
    Change, ChangeError, Changed, Element, Fault, NewPair, Outline, PadChange, Problem, RevisedPair,
};
pub use evidence::{Certificate, Evidence, EvidenceError, Fingerprint, PublicKey, TrustAnchor};
pub use explain::{Carrier, Explanation, Question, RuleMiss, SaMiss, SaOwner, Verdict};
pub use install::{HeaderKeys, InstallError, KeyOrigin, Keys, Resumption, SaKeys, Start};
pub use interned::{ClassObserver, ClassRefused, Unobserved};
pub use keying::{Gone, Keying, PeerGone, Progress, RekeyError};
pub use latching::{
    AlertKind, Alerts, Asked, BadTuple, ConnectionRequest, Constraints, Created, Delivery, FlowInquiry,
    Holder, Inquiry, LatchAlert, LatchError, ListenerRequest, Parameters, Party, Privilege,
};
pub use latchway_tagging::PeerPattern;
pub use manager::{Inputs, KeyManager, KeyManagerClient, Stopped};
pub use nat::Nat;
pub use notice::{Notice, Wanted};
pub use origin::Origin;
pub use pad::{Pad, PadEntry, PadError};
pub use pad_ids::PadEntryIds;
pub use pair::PairId;
pub use policy::{RuleError, RuleNumber, RuleView};
pub use proposal::{LatchConflict, Narrowing, Offer, Proposal, Refusal, Suites};
pub use secrets::ShownSa;
pub use settings::{HolderLimits, Settings};
pub use single::{
    NewSingle, RevisedEnd, Revision, SingleChange, SingleError, SingleFault, SingleId, SingleSa,
    SingleSending, SingleView, Way,
};
pub use ticket::{NoTicket, Ticket, TicketText};
pub use transaction::{CommitError, Commitment, Committed, Op, SpdChange, Transaction};
pub use view::{Counts, IdentityView, PairView, PeerView, SaView};
