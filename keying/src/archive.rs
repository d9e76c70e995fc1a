//! The evidence of live identities: one each, the newest, and all together no more than fits (L-29 to L-31).

use std::collections::HashMap;

use latchway_tagging::IdentityId;

use crate::evidence::Evidence;
use crate::proposal::Refusal;

/// How many octets of evidence are kept at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvidenceLimit(pub usize);

impl Default for EvidenceLimit {
    /// Certificates of the usual size for twenty thousand peers.
    fn default() -> Self {
        Self(32 << 20)
    }
}

/// What is kept.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    held: HashMap<IdentityId, Evidence>,
    octets: usize,
    limit: EvidenceLimit,
}

impl Archive {
    pub(crate) fn new(limit: EvidenceLimit) -> Self {
        Self { held: HashMap::new(), octets: 0, limit }
    }

    /// Whether there is room for the evidence of these identities, together.
    ///
    /// # Errors
    /// [`Refusal::TooMuchEvidence`]
    pub(crate) fn check(&self, both: &[(IdentityId, &Evidence)]) -> Result<(), Refusal> {
        let octets = both.iter().try_fold(self.octets, |octets, (id, evidence)| {
            let more = self.with(*id, evidence)?.map_or(0, |with| with.saturating_sub(self.octets));
            Ok::<_, Refusal>(octets.saturating_add(more))
        })?;
        if octets > self.limit.0 { Err(Refusal::TooMuchEvidence(self.limit.0)) } else { Ok(()) }
    }

    /// Keeps the evidence of an identity, unless what is kept of it is newer or there is no room.
    pub(crate) fn keep(&mut self, id: IdentityId, evidence: &Evidence) {
        if let Ok(Some(octets)) = self.with(id, evidence) {
            self.octets = octets;
            self.held.insert(id, evidence.clone());
        }
    }

    /// Lets go of the evidence of an identity that is no more.
    pub(crate) fn forget(&mut self, id: IdentityId) {
        if let Some(gone) = self.held.remove(&id) {
            self.octets = self.octets.saturating_sub(gone.octets());
        }
    }

    /// What is kept of an identity.
    pub(crate) fn evidence(&self, id: IdentityId) -> Option<&Evidence> {
        self.held.get(&id)
    }

    /// How many octets are kept with the evidence of an identity; `None` where what is kept of it is newer.
    fn with(&self, id: IdentityId, evidence: &Evidence) -> Result<Option<usize>, Refusal> {
        let held = self.held.get(&id);
        if held.is_some_and(|held| !evidence.is_newer(held)) {
            return Ok(None);
        }
        let others = self.octets.saturating_sub(held.map_or(0, Evidence::octets));
        let octets = others.saturating_add(evidence.octets());
        if octets > self.limit.0 {
            return Err(Refusal::TooMuchEvidence(self.limit.0));
        }
        Ok(Some(octets))
    }
}
