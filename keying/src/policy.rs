//! The rules of the SPD by where they come from: those made by hand come first, and a reload leaves them alone
//! (RFC 4301 section 4.4.1).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use latchway_datapath::spd::{Rule, Spd};

use crate::origin::Origin;

/// The rules in their order, each with its number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    by_hand: Vec<Numbered>,
    /// Those that single SAs serve.
    templated: Vec<Numbered>,
    configured: Vec<Numbered>,
    last: u64,
}

/// Names a rule for as long as the process lives: numbers are not reused, and a reload that leaves a rule as it was
/// leaves it its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleNumber(u64);

/// A rule as status output shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleView {
    /// By which it can be deleted.
    pub number: RuleNumber,
    /// Where it comes from.
    pub origin: Origin,
    /// What it says.
    pub rule: Rule,
}

impl RuleView {
    fn of((origin, numbered): (Origin, &Numbered)) -> Self {
        let Numbered { number, rule } = numbered.clone();
        Self { number, origin, rule }
    }
}

/// Why a rule cannot be added or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// There is no rule with this number.
    #[error("there is no rule {0}; list the policy to see the numbers")]
    Unknown(RuleNumber),
    /// A reload would bring it back.
    #[error("rule {0} is of the configuration; take it out there and reload")]
    Configured(RuleNumber),
    /// It is not of the policy, but of a latch that somebody asked for.
    #[error("rule {0} stands for a latch and goes with it; release or close the latch")]
    Latched(RuleNumber),
    /// Policies of `latchway xfrm` have an order of their own, which their priorities make.
    #[error(
        "rule {0} is a policy of `latchway xfrm`, and rules by hand stand before all of those: leave the rule's number out, or \
         add this one there, by `latchway xfrm policy add` with a smaller priority"
    )]
    BeforeTemplated(RuleNumber),
    /// It is of a list that is replaced as a whole.
    #[error("rule {0} is a policy of `latchway xfrm`; delete it there")]
    Templated(RuleNumber),
    /// Another change of policy waits for its grace.
    #[error("another change is being brought into force; try again when it is answered")]
    Busy,
}

#[derive(Clone, Debug)]
struct Numbered {
    number: RuleNumber,
    rule: Rule,
}

impl RuleNumber {
    /// The rule with this number, as status output showed it.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for RuleNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl Policy {
    /// The policy with these configured rules. A rule that was among them before keeps its number.
    pub(crate) fn with_configured(&self, rules: &[Rule]) -> Self {
        let mut policy = self.clone();
        let before = std::mem::take(&mut policy.configured);
        policy.configured = policy.renumbered(before, rules);
        policy
    }

    /// The policy with these rules for single SAs to serve, behind those made by hand. One that was there keeps its number.
    pub(crate) fn with_templated(&self, rules: &[Rule]) -> Self {
        let mut policy = self.clone();
        let before = std::mem::take(&mut policy.templated);
        policy.templated = policy.renumbered(before, rules);
        policy
    }

    /// Rules with their numbers: those that they had before, and new ones.
    fn renumbered(&mut self, before: Vec<Numbered>, rules: &[Rule]) -> Vec<Numbered> {
        let (numbers, before): (Vec<_>, Vec<_>) =
            before.into_iter().map(|Numbered { number, rule }| (number, rule)).unzip();
        let kept = places(&before, rules).map(|place| numbers.get(place?).copied()).collect::<Vec<_>>();
        let numbered = |(rule, kept): (&Rule, Option<RuleNumber>)| Numbered {
            number: kept.unwrap_or_else(|| self.draw_number()),
            rule: rule.clone(),
        };
        rules.iter().zip(kept).map(numbered).collect()
    }

    /// A number for a new rule.
    pub(crate) fn draw_number(&mut self) -> RuleNumber {
        self.last += 1;
        RuleNumber(self.last)
    }

    /// The policy with a rule made by hand, at a place among those. With several selectors it is several, which have one number.
    pub(crate) fn with(&self, number: RuleNumber, rules: Vec<Rule>, place: usize) -> Self {
        let mut policy = self.clone();
        let place = place.min(policy.by_hand.len());
        policy.by_hand.splice(place..place, rules.into_iter().map(|rule| Numbered { number, rule }));
        policy
    }

    /// Where a rule made by hand is to stand, among those, to come before another; behind all of them, where that is of the
    /// configuration.
    ///
    /// # Errors
    /// [`RuleError`], where the other is none, or of those that single SAs serve.
    pub(crate) fn place_before(&self, other: Option<RuleNumber>) -> Result<usize, RuleError> {
        let last = self.by_hand.len();
        let Some(other) = other else { return Ok(last) };
        let is = |numbered: &Numbered| numbered.number == other;
        match self.by_hand.iter().position(is) {
            Some(place) => Ok(place),
            None if self.configured.iter().any(is) => Ok(last),
            None if self.templated.iter().any(is) => Err(RuleError::BeforeTemplated(other)),
            None => Err(RuleError::Unknown(other)),
        }
    }

    /// The policy without a rule made by hand, and what was taken out.
    ///
    /// # Errors
    /// [`RuleError`]
    pub(crate) fn without(&self, number: RuleNumber) -> Result<(Self, Vec<Rule>), RuleError> {
        let mut policy = self.clone();
        let (gone, left): (Vec<_>, Vec<_>) =
            policy.by_hand.into_iter().partition(|numbered| numbered.number == number);
        policy.by_hand = left;
        if !gone.is_empty() {
            return Ok((policy, gone.into_iter().map(|numbered| numbered.rule).collect()));
        }
        let among = |rules: &[Numbered]| rules.iter().any(|numbered| numbered.number == number);
        Err(match (among(&self.configured), among(&self.templated)) {
            (true, _) => RuleError::Configured(number),
            (_, true) => RuleError::Templated(number),
            _ => RuleError::Unknown(number),
        })
    }

    /// The rules as workers read them.
    pub(crate) fn spd(&self) -> Spd {
        Spd::new(self.numbered().map(|(_, numbered)| numbered.rule.clone()).collect())
    }

    /// Every rule in its order, in step with [`spd`](Self::spd).
    pub(crate) fn views(&self) -> Vec<RuleView> {
        self.numbered().map(RuleView::of).collect()
    }

    /// The rule at a place of the order.
    pub(crate) fn view_at(&self, place: usize) -> Option<RuleView> {
        self.numbered().nth(place).map(RuleView::of)
    }

    /// Counts every rule as configured.
    pub(crate) fn forget_by_hand(&mut self) {
        self.configured.splice(0..0, std::mem::take(&mut self.templated));
        self.configured.splice(0..0, std::mem::take(&mut self.by_hand));
    }

    /// How many rules were made by hand.
    pub(crate) fn by_hand(&self) -> usize {
        self.by_hand.len() + self.templated.len()
    }

    fn numbered(&self) -> impl Iterator<Item = (Origin, &Numbered)> {
        let by_hand = self.by_hand.iter().map(|numbered| (Origin::Hand, numbered));
        let templated = self.templated.iter().map(|numbered| (Origin::Hand, numbered));
        by_hand
            .chain(templated)
            .chain(self.configured.iter().map(|numbered| (Origin::Configuration, numbered)))
    }
}

/// Where each of these was before, if it was; of equal ones, each has a place of its own.
fn places<'t, T: Eq + Hash>(before: &'t [T], these: &'t [T]) -> impl Iterator<Item = Option<usize>> {
    let mut left: HashMap<&T, VecDeque<usize>> = HashMap::with_capacity(before.len());
    for (place, one) in before.iter().enumerate() {
        left.entry(one).or_default().push_back(place);
    }
    these.iter().map(move |one| left.get_mut(one)?.pop_front())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Counted, compared};

    #[test]
    fn what_stays_is_found_without_comparing_each_with_each() {
        let before: Vec<_> = (0..10_000).map(Counted).collect();
        let turned: Vec<_> = (0..10_100).rev().map(Counted).collect();
        let (found, effort) = compared(|| places(&before, &turned).collect::<Vec<_>>());
        assert!(
            found
                .iter()
                .zip(&turned)
                .all(|(place, one)| *place == (one.0 < 10_000).then_some(one.0 as usize))
        );
        assert!(effort < 100_000, "{effort}");
        let twice: Vec<_> = places(&[5, 6, 5], &[5, 5, 5, 6]).collect();
        assert_eq!(twice, [Some(0), Some(2), None, Some(1)]);
    }
}
