//! Narrowing: what of a proposal's selectors the PAD lets the peer have (RFC 4301 section 4.4.3.3, L-73).

use latchway_datapath::selector::Selector;

use crate::pad::PadEntry;
use crate::proposal::{Narrowing, Proposal, Refusal};

/// The selectors under which the proposal can be accepted: all of them, or, where the proposal allows it, the part
/// whose remote side lies in the entry's ranges.
///
/// # Errors
/// [`Refusal`] where there is nothing to accept, or less than was proposed and narrowing is forbidden.
pub(crate) fn narrow(proposal: &Proposal, entry: &PadEntry) -> Result<Vec<Selector>, Refusal> {
    let mut accepted = Vec::new();
    for selector in &proposal.selectors {
        if selector.local.is_ipv4() != selector.remote.is_ipv4() {
            return Err(Refusal::MixedFamilies { local: selector.local, remote: selector.remote });
        }
        if entry.ranges.iter().any(|range| range.covers(&selector.remote)) {
            accepted.push(selector.clone());
        } else if proposal.narrowing == Narrowing::Forbidden {
            return Err(outside(selector, entry));
        } else {
            let parts = entry.ranges.iter().filter_map(|range| range.intersection(&selector.remote));
            accepted.extend(parts.map(|remote| Selector { remote, ..selector.clone() }));
        }
    }
    match (proposal.selectors.first(), accepted.len()) {
        (None, _) => Err(Refusal::NoSelectors),
        (Some(first), 0) => Err(outside(first, entry)),
        (Some(_), 1..=MOST_SELECTORS) => Ok(accepted),
        (Some(_), count) => Err(Refusal::TooManySelectors(count)),
    }
}

fn outside(selector: &Selector, entry: &PadEntry) -> Refusal {
    Refusal::OutsideRanges {
        entry: entry.name.clone(),
        claimed: selector.remote,
        allowed: entry.ranges.clone(),
    }
}

/// How many selectors a traffic selector payload can tell of (RFC 7296 section 3.13).
pub(crate) const MOST_SELECTORS: usize = 255;
