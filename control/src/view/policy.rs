//! The policy.

use serde::{Deserialize, Serialize};

use crate::latch::ConflictSpec;
use crate::selector::SelectorView;
use crate::spec::{
    ActionSpec, ApplicationsSpec, DirectionSpec, ModelSpec, PolicyChangeSpec, UnlatchableSpec,
};
use crate::view::Origin;
use crate::view::page;

page! {
    /// The policy (the SPD).
    Policies {
        /// The rules in their order: the first that matches decides. Where none does, the packet is dropped.
        policies: PolicyRow
    }
}

/// A rule of the SPD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PolicyRow {
    /// Its number, by which it can be deleted. It does not change when other rules come and go. A rule that was made by hand
    /// with several ranges has a row for each combination of them.
    pub number: u64,
    /// What it is called; null where it has no name.
    #[serde(default)]
    pub name: Option<String>,
    /// Who asked for it.
    pub origin: Origin,
    /// The flows it speaks of.
    pub selector: SelectorView,
    /// The direction it speaks of; null is both.
    pub direction: Option<DirectionSpec>,
    /// What it wants.
    pub action: ActionSpec,
    /// Whether connections under it are latched; only where it protects.
    pub latch: bool,
    /// On which terms they are; null where they are not.
    #[serde(default)]
    pub terms: Option<LatchTermsView>,
    /// What applications may ask for beyond it.
    #[serde(default)]
    pub applications: ApplicationsSpec,
}

/// The terms on which a rule's connections are latched, as in the rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LatchTermsView {
    /// What counts as a conflict.
    pub model: ModelSpec,
    /// What becomes of a connection whose addresses another peer claims (L-109, L-110).
    pub on_conflict: ConflictSpec,
    /// What becomes of a latch that a change of policy would alter (L-76).
    pub on_policy_change: PolicyChangeSpec,
    /// What becomes of a connection that cannot be latched (L-81, L-83).
    pub unlatchable: UnlatchableSpec,
    /// Whether a UDP flow that is idle for too long stays latched for as long as a socket has it.
    pub sticky: bool,
}
