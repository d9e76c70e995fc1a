//! On which terms rules latch, and what applications may ask for: from a configuration's words and from those of
//! control.sock, and to them.

use latchway_config as config;
use latchway_control::{
    ApplicationsSpec, ConflictSpec, LatchTermsSpec, LatchTermsView, ModelSpec, PolicyChangeSpec,
    UnlatchableSpec,
};
use latchway_datapath::latching::{LatchTerms, Model, OnConflict, OnPolicyChange, Unlatchable};
use latchway_datapath::spd::Freedom;

/// The terms that a policy has.
pub const fn configured(terms: config::LatchTerms) -> LatchTerms {
    let config::LatchTerms { model, on_conflict, on_policy_change, unlatchable, sticky } = terms;
    LatchTerms {
        model: match model {
            config::Model::Strict => Model::Strict,
            config::Model::Tag => Model::Tag,
        },
        on_conflict: match on_conflict {
            config::OnConflict::Terminate => OnConflict::Terminate,
            config::OnConflict::DropNewcomer => OnConflict::DropNewcomer,
            config::OnConflict::RejectNewcomer => OnConflict::RejectNewcomer,
            config::OnConflict::Wait => OnConflict::Wait,
        },
        on_policy_change: match on_policy_change {
            config::OnPolicyChange::Break => OnPolicyChange::Break,
            config::OnPolicyChange::Preserve => OnPolicyChange::Preserve,
        },
        unlatchable: match unlatchable {
            config::Unlatchable::Refuse => Unlatchable::Refuse,
            config::Unlatchable::Pass => Unlatchable::Pass,
        },
        sticky,
    }
}

/// What a policy lets applications ask for.
pub const fn freedom(applications: config::Applications) -> Freedom {
    match applications {
        config::Applications::Nothing => Freedom::None,
        config::Applications::More => Freedom::Stronger,
        config::Applications::Bypass => Freedom::Bypass,
    }
}

/// The terms that a described rule has.
pub const fn described(spec: LatchTermsSpec) -> LatchTerms {
    LatchTerms {
        model: match spec.model {
            ModelSpec::Strict => Model::Strict,
            ModelSpec::Tag => Model::Tag,
        },
        on_conflict: match spec.on_conflict {
            ConflictSpec::Terminate => OnConflict::Terminate,
            ConflictSpec::DropNewcomer => OnConflict::DropNewcomer,
            ConflictSpec::RejectNewcomer => OnConflict::RejectNewcomer,
            ConflictSpec::Wait => OnConflict::Wait,
        },
        on_policy_change: match spec.on_policy_change {
            PolicyChangeSpec::Break => OnPolicyChange::Break,
            PolicyChangeSpec::Preserve => OnPolicyChange::Preserve,
        },
        unlatchable: match spec.unlatchable {
            UnlatchableSpec::Refuse => Unlatchable::Refuse,
            UnlatchableSpec::Pass => Unlatchable::Pass,
        },
        sticky: spec.sticky,
    }
}

/// What a described rule lets applications ask for.
pub const fn described_freedom(spec: ApplicationsSpec) -> Freedom {
    match spec {
        ApplicationsSpec::Nothing => Freedom::None,
        ApplicationsSpec::More => Freedom::Stronger,
        ApplicationsSpec::Bypass => Freedom::Bypass,
    }
}

/// Terms, as control.sock says them.
pub const fn shown(terms: LatchTerms) -> LatchTermsView {
    LatchTermsView {
        model: match terms.model {
            Model::Strict => ModelSpec::Strict,
            Model::Tag => ModelSpec::Tag,
        },
        on_conflict: match terms.on_conflict {
            OnConflict::Terminate => ConflictSpec::Terminate,
            OnConflict::DropNewcomer => ConflictSpec::DropNewcomer,
            OnConflict::RejectNewcomer => ConflictSpec::RejectNewcomer,
            OnConflict::Wait => ConflictSpec::Wait,
        },
        on_policy_change: match terms.on_policy_change {
            OnPolicyChange::Break => PolicyChangeSpec::Break,
            OnPolicyChange::Preserve => PolicyChangeSpec::Preserve,
        },
        unlatchable: match terms.unlatchable {
            Unlatchable::Refuse => UnlatchableSpec::Refuse,
            Unlatchable::Pass => UnlatchableSpec::Pass,
        },
        sticky: terms.sticky,
    }
}

/// What applications may ask for, as control.sock says it.
pub const fn shown_freedom(freedom: Freedom) -> ApplicationsSpec {
    match freedom {
        Freedom::None => ApplicationsSpec::Nothing,
        Freedom::Stronger => ApplicationsSpec::More,
        Freedom::Bypass => ApplicationsSpec::Bypass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(terms: LatchTermsView) -> LatchTermsSpec {
        serde_json::from_value(serde_json::to_value(terms).unwrap()).unwrap()
    }

    /// Whatever a rule is told by control.sock is shown of it.
    #[test]
    fn l_110_terms_are_shown_as_they_were_said() {
        for bits in 0..1 << LatchTerms::BITS {
            let terms = LatchTerms::from_bits(bits);
            assert_eq!(described(said(shown(terms))), terms);
        }
        for &word in ApplicationsSpec::ALL {
            assert_eq!(shown_freedom(described_freedom(word)), word);
            assert_eq!(described_freedom(word).name(), word.name());
        }
        assert_eq!(configured(config::LatchTerms::default()), LatchTerms::default());
    }
}
