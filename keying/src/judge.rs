//! What the PAD says of a proposal (RFC 4301 section 4.4.3), before anything else is looked at.

use latchway_datapath::selector::Selector;
use latchway_tagging::{Mode, PadEntryId};

use crate::narrow::narrow;
use crate::pad::Pad;
use crate::proposal::{Narrowing, Proposal, Refusal};

/// A proposal that the PAD allows.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// The entry that does.
    pub(crate) entry: PadEntryId,
    /// Its name.
    pub(crate) name: String,
    /// What of the proposal's selectors the peer may have.
    pub(crate) selectors: Vec<Selector>,
}

/// Whether `pad` allows the proposal, and how much of it.
///
/// # Errors
/// [`Refusal`], which says what to do.
pub(crate) fn judge(pad: &Pad, proposal: &Proposal) -> Result<Judged, Refusal> {
    let entry = pad.authorise(&proposal.peer, proposal.method)?;
    if entry.local != proposal.local {
        let (entry, expected) = (entry.name.clone(), entry.local.clone());
        return Err(Refusal::WrongLocalIdentity { entry, expected, proposed: proposal.local.clone() });
    }
    let selectors = narrow(proposal, entry)?;
    if proposal.mode == Mode::Transport {
        return Err(Refusal::TransportMode);
    }
    Ok(Judged { entry: entry.id, name: entry.name.clone(), selectors })
}

/// Whether `pad` still allows terms that were accepted once: all of them, or not (C-25).
///
/// # Errors
/// [`Refusal`], which says what to do.
pub(crate) fn judge_again(pad: &Pad, terms: &Proposal) -> Result<Judged, Refusal> {
    judge(pad, &Proposal { narrowing: Narrowing::Forbidden, ..terms.clone() })
}

/// Whether `pad` still allows terms that `entry` accepted once, and by that entry: under another one the peer is
/// another (L-11).
pub(crate) fn still_allows(pad: &Pad, terms: &Proposal, entry: PadEntryId) -> bool {
    judge_again(pad, terms).is_ok_and(|judged| judged.entry == entry)
}
