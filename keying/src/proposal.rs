//! Proposals of SA pairs, and the answer a provider gets before it promises anything to the peer (L-69, L-70).

use std::fmt;

use latchway_datapath::flow::FlowKey;
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::spd::Reqid;
use latchway_datapath::time::Time;
use latchway_esp::{Protocol, Suite};
use latchway_tagging::{
    Algorithms, AuthMethod, ClassId, Identity, IdentityError, Mode, NoIdentity, TooManyClasses, Transform,
    Transforms,
};

use crate::evidence::{Evidence, EvidenceError};
use crate::interned::ClassRefused;
use crate::nat::Nat;
use crate::ticket::Ticket;

/// A pair of SAs that a provider could make: with whom, for what, and how well protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The identity that the peer asserts.
    pub peer: Identity,
    /// How it proved that.
    pub method: AuthMethod,
    /// Who we are towards it.
    pub local: Identity,
    /// The flows to carry: local is ours, remote is theirs.
    pub selectors: Vec<Selector>,
    /// Whether the answer may carry less than was proposed (L-73).
    pub narrowing: Narrowing,
    /// Tunnel or transport (L-7).
    pub mode: Mode,
    /// The suites of both directions (L-8, L-9), of ESP or of AH.
    pub suites: Suites,
    /// Those of the AH around ESP, of a bundle (L-6, RFC 4301 section 4.3).
    pub header: Option<Suites>,
    /// Whether our inbound SA refuses replays (L-10).
    pub replay_checked: bool,
    /// The rules that the pair is to serve.
    pub reqid: Reqid,
    /// What the peer proved its identity with.
    pub evidence: Evidence,
    /// What we proved ours with, where the provider says so: what a channel is bound to needs both keys (C-15).
    pub local_evidence: Evidence,
    /// Whether addresses are translated on the way (L-32).
    pub nat: Nat,
}

/// Whether a proposal may be answered with less than it asks for. A rekey may not (C-25, RFC 7296 section 2.9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrowing {
    /// All or nothing.
    Forbidden,
    /// The part that the PAD allows will do (L-73).
    Allowed,
}

/// The suites of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suites {
    /// Of what we receive.
    pub inbound: Suite,
    /// Of what we send.
    pub outbound: Suite,
}

/// What the key manager would accept.
#[derive(Debug)]
pub struct Offer {
    /// The right to install such a pair, once, and not for ever.
    pub ticket: Ticket,
    /// The flows that the pair may carry.
    pub selectors: Box<[Selector]>,
    /// The class that the pair will have.
    pub class: ClassId,
    /// From when on the ticket is void.
    pub expires: Time,
    /// The latches that installing would break (L-74): strict ones, of which the tag model of latching-04 section 2.2 has
    /// none, since there the tag tells packets of two peers at one address apart.
    pub latches_that_would_break: Vec<LatchConflict>,
}

/// A latch that stands against a proposed SA (L-72).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatchConflict {
    /// The connection.
    pub flow: FlowKey,
    /// The class it is latched to.
    pub latched: ClassId,
}

/// Why a proposal is not accepted, and what could be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No entry of the PAD speaks of the peer (RFC 4301 4.4.3).
    #[error("no PAD entry speaks of {peer}; add one if this peer is to be trusted")]
    UnknownPeer {
        /// What the peer asserts to be.
        peer: Identity,
    },
    /// The text of an identity is not what its kind says.
    #[error("{0} {NoIdentity}")]
    NoIdentity(Identity),
    /// What the peer proved itself with is not of its method, or not of the peer (L-30, L-31).
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// There is no room for more evidence.
    #[error(
        "the evidence of live peers takes {0} octets already; remove pairs of peers that are no longer needed"
    )]
    TooMuchEvidence(usize),
    /// The peer's entry wants other proof (RFC 4301 4.4.3.2).
    #[error("PAD entry \"{entry}\" does not accept {}, only {}; authenticate so, or list the method", method.name(), Methods(accepted))]
    MethodNotAccepted {
        /// The name of the entry.
        entry: String,
        /// How the peer authenticated.
        method: AuthMethod,
        /// What the entry accepts.
        accepted: Vec<AuthMethod>,
    },
    /// We are someone else towards this peer.
    #[error("PAD entry \"{entry}\" wants us to be {expected}, not {proposed}; propose that local identity")]
    WrongLocalIdentity {
        /// The name of the entry.
        entry: String,
        /// Who the entry says we are.
        expected: Identity,
        /// Who the proposal says we are.
        proposed: Identity,
    },
    /// The peer may not claim these addresses (RFC 4301 4.4.3.3).
    #[error(
        "PAD entry \"{entry}\" does not let its peer claim {claimed}, only {}; propose less, allow narrowing, or extend the entry",
        Ranges(allowed)
    )]
    OutsideRanges {
        /// The name of the entry.
        entry: String,
        /// What the proposal claims for the peer.
        claimed: AddressRange,
        /// What the entry allows.
        allowed: Vec<AddressRange>,
    },
    /// There is no flow that the pair could carry.
    #[error("the proposal has no selector; say which flows the SAs are to carry")]
    NoSelectors,
    /// One side of a selector is IPv4 and the other IPv6.
    #[error("no flow runs between {local} and {remote}; give both sides ranges of one address family")]
    MixedFamilies {
        /// Our side.
        local: AddressRange,
        /// Their side.
        remote: AddressRange,
    },
    /// More selectors than a peer could be told (RFC 7296 section 3.13).
    #[error("{0} selectors are more than the 255 of one SA; join neighbouring ranges or use several SAs")]
    TooManySelectors(usize),
    /// The headers do not go around each other like this.
    #[error(
        "both directions have ESP, perhaps with AH around it, or both AH alone; propose suites of one kind, and for the \
         header around ESP suites of AH"
    )]
    Nesting,
    /// A connection is latched to a peer that proved better who it is (L-70).
    #[error(
        "{} is latched to {holder}, proven by {}, and does not give way to a peer proven by {} alone; propose \
         selectors without this connection, have the peer authenticate better, or wait until it has ended",
        Between(flow), needed.name(), offered.name()
    )]
    LesserStanding {
        /// The connection.
        flow: FlowKey,
        /// The peer that it is latched to.
        holder: String,
        /// The standing of that peer.
        needed: AuthMethod,
        /// The standing of the peer that was proposed.
        offered: AuthMethod,
    },
    /// A connection is latched, and its rule lets no newcomer take its place (L-110).
    #[error(
        "{} is latched to {holder}, and its rule rejects newcomers; propose selectors without this connection, close \
         its latch, or wait until it has ended",
        Between(flow)
    )]
    HolderKeeps {
        /// The connection.
        flow: FlowKey,
        /// The peer that it is latched to.
        holder: String,
    },
    /// The identity cannot be interned.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The class cannot be interned.
    #[error(transparent)]
    Class(#[from] TooManyClasses),
    /// Whoever must know of the class has no room for it.
    #[error(transparent)]
    ClassRefused(#[from] ClassRefused),
    /// A ticket would not be unguessable.
    #[error("the system gives no random numbers ({0}), so that no ticket can be made; try again later")]
    NoRandomness(getrandom::Error),
    /// Too many proposals wait for their keys.
    #[error("{0} offers wait for their keys already; install or drop some, or wait until they expire")]
    TooManyOffers(usize),
}

impl Proposal {
    /// The algorithms as a class compares them (L-6, L-8, L-9): those of a bundle are of both its headers.
    #[must_use]
    pub fn algorithms(&self) -> Algorithms {
        let Algorithms { inbound, outbound } = self.suites.algorithms();
        let around = self.header.map(Suites::algorithms);
        let nested = |within: Transforms, around: Option<Transforms>| Transforms {
            authentication_header: around.map_or(within, |around| around).authentication_header,
            ..within
        };
        Algorithms {
            inbound: nested(inbound, around.map(|around| around.inbound)),
            outbound: nested(outbound, around.map(|around| around.outbound)),
        }
    }

    /// Whether both directions have the same headers, and AH goes around ESP alone.
    pub(crate) fn nests(&self) -> bool {
        let is = |suites: Suites, protocol| {
            [suites.inbound, suites.outbound].into_iter().all(|suite| suite.protocol() == protocol)
        };
        match self.header {
            Some(header) => is(header, Protocol::Ah) && is(self.suites, Protocol::Esp),
            None => is(self.suites, Protocol::Esp) || is(self.suites, Protocol::Ah),
        }
    }
}

impl Suites {
    /// One suite for both directions.
    #[must_use]
    pub const fn both(suite: Suite) -> Self {
        Self { inbound: suite, outbound: suite }
    }

    /// The suites as a class compares them (L-6, L-8, L-9).
    #[must_use]
    pub fn algorithms(self) -> Algorithms {
        let transforms = |suite: Suite| {
            let transform = |(id, key_bits)| Transform { id, key_bits };
            // NULL hides nothing, and neither does GMAC: their transforms of encryption are none.
            let encryption = suite.encryption_transform().filter(|_| suite.is_confidential()).map(transform);
            let integrity = suite.integrity_transform().map(transform);
            match suite.protocol() {
                Protocol::Esp => Transforms { encryption, integrity, authentication_header: None },
                Protocol::Ah => Transforms { encryption, integrity: None, authentication_header: integrity },
            }
        };
        Algorithms { inbound: transforms(self.inbound), outbound: transforms(self.outbound) }
    }
}

struct Between<'a>(&'a FlowKey);

impl fmt::Display for Between<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection of {} with {}", self.0.local(), self.0.remote())
    }
}

struct Methods<'a>(&'a [AuthMethod]);

impl fmt::Display for Methods<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0.iter().map(|method| method.name()))
    }
}

struct Ranges<'a>(&'a [AddressRange]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0)
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: impl IntoIterator<Item = T>) -> fmt::Result {
    for (place, item) in items.into_iter().enumerate() {
        let separator = if place == 0 { "" } else { ", " };
        write!(f, "{separator}{item}")?;
    }
    Ok(())
}
