//! What the PAD says of a proposal (RFC 4301 section 4.4.3), before anything else is looked at.

use latchway_datapath::selector::Selector;
use latchway_tagging::{AuthMethod, Credential, Identity, IdentityRecord, PadEntryId};

use crate::binding::end_points;
use crate::evidence::Evidence;
use crate::narrow::narrow;
use crate::pad::{Pad, PadEntry};
use crate::proposal::{Narrowing, Proposal, Refusal};

/// A proposal that the PAD allows.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// Who the peer is: what it asserted, or, of a BTNS peer, its key (RFC 5386 section 2).
    pub(crate) peer: Identity,
    /// What makes it the same another time (L-11).
    pub(crate) credential: Credential,
    /// The keys of both ends, where they are known, or ours alone: with others we are another.
    pub(crate) local: Credential,
    /// The entry that allows it.
    pub(crate) entry: PadEntryId,
    /// The peer's standing by that entry.
    pub(crate) standing: AuthMethod,
    /// What of the proposal's selectors the peer may have.
    pub(crate) selectors: Vec<Selector>,
}

impl Judged {
    /// The proposal as it was accepted. What the peer proved itself with is kept with its identity, once.
    pub(crate) fn terms(&self, proposal: &Proposal) -> Proposal {
        Proposal {
            peer: self.peer.clone(),
            selectors: self.selectors.clone(),
            evidence: Evidence::default(),
            local_evidence: Evidence::default(),
            ..proposal.clone()
        }
    }
}

/// Whether `pad` allows the proposal, and how much of it.
///
/// # Errors
/// [`Refusal`], which says what to do.
pub(crate) fn judge(pad: &Pad, proposal: &Proposal) -> Result<Judged, Refusal> {
    let peer = named(pad, proposal)?;
    let (entry, selectors) = authorise(pad, &peer, proposal)?;
    let credential = proposal.evidence.credential(&peer, proposal.method)?;
    let local = own_credential(proposal, &peer, &entry.local)?;
    let standing = entry.standing(proposal.method);
    Ok(Judged { peer, credential, local, entry: entry.id, standing, selectors })
}

/// The same of the successor of SAs, which were proven as `class` says, and are not proven anew.
///
/// # Errors
/// [`Refusal`], which says what to do.
pub(crate) fn judge_successor(
    pad: &Pad,
    terms: &Proposal,
    [peer, local]: [&IdentityRecord; 2],
) -> Result<Judged, Refusal> {
    let (entry, selectors) = authorise(pad, &terms.peer, terms)?;
    Ok(Judged {
        peer: terms.peer.clone(),
        credential: peer.credential.clone(),
        local: local.credential.clone(),
        entry: entry.id,
        standing: entry.standing(terms.method),
        selectors,
    })
}

/// What we are known by to a peer. A secret, or the operator's word, proves no key.
fn own_credential(proposal: &Proposal, peer: &Identity, local: &Identity) -> Result<Credential, Refusal> {
    let by_key = !matches!(proposal.method, AuthMethod::Manual | AuthMethod::PreSharedKey);
    let Some(ours) = proposal.local_evidence.own_key(local)? else { return Ok(Credential::None) };
    let theirs = if by_key { proposal.evidence.key(peer)? } else { None };
    Ok(match theirs {
        Some(theirs) => Credential::EndPoints(end_points(&ours, &theirs)),
        None => Credential::Key(ours.fingerprint().0),
    })
}

/// The entry by which `pad` still allows terms that were accepted once: all of them, or not (C-25). What the peer proved
/// itself with was judged then.
///
/// # Errors
/// [`Refusal`], which says what to do.
pub(crate) fn judge_again<'p>(pad: &'p Pad, terms: &Proposal) -> Result<&'p PadEntry, Refusal> {
    let whole = Proposal { narrowing: Narrowing::Forbidden, ..terms.clone() };
    authorise(pad, &whole.peer, &whole).map(|(entry, _)| entry)
}

/// Whether `pad` still allows terms that `entry` accepted once, and by that entry: under another one the peer is
/// another (L-11).
pub(crate) fn still_allows(pad: &Pad, terms: &Proposal, entry: PadEntryId) -> bool {
    judge_again(pad, terms).is_ok_and(|judged| judged.id == entry)
}

/// The identity by which the PAD is searched. RFC 5386 section 2: of a peer that no entry knows by the name it asserts, and
/// that shows a bare key, it is that key.
pub(crate) fn named(pad: &Pad, proposal: &Proposal) -> Result<Identity, Refusal> {
    let peer = proposal.peer.canonical().ok_or_else(|| Refusal::NoIdentity(proposal.peer.clone()))?;
    let bare = matches!(proposal.method, AuthMethod::Btns | AuthMethod::LeapOfFaith | AuthMethod::PublicKey);
    if bare
        && pad.find(&peer).is_none_or(PadEntry::is_btns)
        && let Some(key) = proposal.evidence.key(&peer)?
    {
        return Ok(Identity::PublicKey(key.der().to_vec()));
    }
    Ok(peer)
}

/// RFC 4301 section 4.4.3: who, by what proof, as whom, and for which addresses.
fn authorise<'p>(
    pad: &'p Pad,
    peer: &Identity,
    proposal: &Proposal,
) -> Result<(&'p PadEntry, Vec<Selector>), Refusal> {
    let entry = pad.authorise(peer, proposal.method)?;
    if Some(&entry.local) != proposal.local.canonical().as_ref() {
        let (entry, expected) = (entry.name.clone(), entry.local.clone());
        return Err(Refusal::WrongLocalIdentity { entry, expected, proposed: proposal.local.clone() });
    }
    let selectors = narrow(proposal, entry)?;
    if !proposal.nests() {
        return Err(Refusal::Nesting);
    }
    Ok((entry, selectors))
}
