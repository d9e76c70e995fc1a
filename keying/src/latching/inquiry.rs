//! What an inquiry tells (INQUIRE_LATCH, L-12, L-28 to L-32, L-67): all that is known of a latch, in every state.

use latchway_datapath::sad::Path;
use latchway_datapath::spd::Action;
use latchway_tagging::{Class, ClassId, Credential, GroupId, IdentityId, IdentityRecord, SaRef};
use latchway_ulp_shim::LatchView;

use crate::binding::binding;
use crate::evidence::Evidence;
use crate::latching::{Constraints, Holder};
use crate::nat::Nat;
use crate::policy::RuleView;

/// A latch with everything that is known of it, at the moment at which it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// What the Latch Database says: connection, state, reason, offender.
    pub latch: LatchView,
    /// What it holds its connection to.
    pub parameters: Parameters,
    /// Who broke it.
    pub offender: Option<Party>,
    /// Where its packets go now; `None` where no SA serves it.
    pub path: Option<Path>,
    /// The SA that its packets go under now: another where they have new keys. `None` where none serves it.
    pub sa: Option<SaRef>,
    /// Whether the peer is behind a NAT (L-32), as the provider of its SAs found out.
    pub nat: Option<Nat>,
    /// Who holds it; `None` where it was inferred from packets, so that its connection does.
    pub holder: Option<Holder>,
    /// What was asked with it. Of an inferred latch, nothing.
    pub constraints: Option<Constraints>,
    /// The entry that stands for it at the head of the SPD (L-77, L-115), where policy's own rules say otherwise.
    pub entry: Option<RuleView>,
    /// Whether a channel in the sense of RFC 5056 may be bound to it (L-43, L-105, L-121): not where it was only inferred
    /// from packets. Whether the other end latched, too, is not known here, since nothing on the wire tells.
    pub fit_for_channel_binding: bool,
}

/// What is known of a flow: by its latch, or where it has none, by policy alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowInquiry {
    /// Its latch with everything that is known of it.
    pub latch: Option<Box<Inquiry>>,
    /// What its latch holds it to; where it has none, what its next packet would leave under by policy. `None` where that
    /// is nothing.
    pub parameters: Option<Parameters>,
    /// The group of the class of those, by which protections are compared (C-16).
    pub group: Option<GroupId>,
    /// The rule of the policy that decides about such packets, whatever its latch says.
    pub rule: Option<RuleView>,
    /// What policy does with packets of it that come in, which another rule may decide.
    pub inbound: Option<Action>,
}

/// What a latch holds its connection to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameters {
    /// These, for its whole life (L-37).
    Latched {
        /// The class.
        id: ClassId,
        /// What it stands for.
        class: Class,
        /// The peer, asserted and authorised, and how it proved that (L-29).
        peer: Box<Party>,
        /// Ourselves, towards it (C-23).
        local: Box<Party>,
    },
    /// What one quality is that was asked for, before there is an SA of it.
    Wanted,
    /// Several qualities would do, and there is no SA yet.
    Indeterminate,
    /// None: it was granted bypass (L-112).
    Bypass,
    /// They were forgotten with the last who had them.
    Forgotten(ClassId),
}

/// One end of a connection, and how it is known (L-29).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Its number.
    pub id: IdentityId,
    /// What it asserted, what authorised it, and by which method.
    pub record: IdentityRecord,
    /// The name of the entry of the PAD that authorised it.
    pub entry: Option<String>,
    /// What it proved that with: certificate, trust anchor, key (L-30, L-31).
    pub evidence: Option<Evidence>,
}

impl Party {
    /// What a channel can be bound to (RFC 5056, C-15), of ourselves as the class has us: made of the keys that its SAs were proven
    /// with, whatever is known of either end since. `None` where a key is not known.
    #[must_use]
    pub fn channel_binding(&self) -> Option<String> {
        match self.record.credential {
            Credential::EndPoints(end_points) => Some(binding(end_points)),
            _ => None,
        }
    }
}
