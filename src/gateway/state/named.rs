//! Latches and flows as control.sock shows them: with the names of peers and SAs, of which the datapath knows numbers.

use std::collections::HashMap;

use latchway_control::{FlowRow, HeldView, LatchRow, SaUsed};
use latchway_keying::{PairView, Party, SaView, Stopped};
use latchway_tagging::{ClassId, IdentityId, PadEntryId, SaRef};
use latchway_ulp_shim::{FlowView, LatchView};

use crate::gateway::clock::since;
use crate::gateway::rows::{flow_text, latch_state, milliseconds, protection, tag_view};
use crate::gateway::state::State;
use crate::gateway::state::held::held;

/// Peers and protection of classes, each asked for once however many latches there are.
pub struct Names<'a> {
    state: &'a State,
    known: HashMap<ClassId, (String, String)>,
    held: HashMap<ClassId, Option<HeldView>>,
    /// The names of PAD entries, asked for when the first is wanted.
    entries: Option<HashMap<PadEntryId, String>>,
}

/// The SAs there are, by what the datapath calls them.
pub struct Carriers<'a>(HashMap<SaRef, (&'a PairView, &'a SaView)>);

/// The peer of a latch that is not held to one.
const NOBODY: &str = "none";

impl<'a> Names<'a> {
    /// The names that this gateway knows.
    pub fn of(state: &'a State) -> Self {
        Self { state, known: HashMap::new(), held: HashMap::new(), entries: None }
    }

    /// A flow. Its SA is the one that it leaves by, or where nothing left, the one that it came in under.
    pub fn flow_row(&mut self, view: &FlowView, carriers: &Carriers<'_>) -> Result<FlowRow, Stopped> {
        let sa = carriers.of_flow(view).map(sa_used);
        let peer = match (view.class, &sa) {
            (Some(class), _) => Some(self.class(class)?.0.clone()),
            (None, Some(sa)) => Some(sa.peer.clone()),
            (None, None) => None,
        };
        Ok(FlowRow {
            flow: view.flow.to_string(),
            protocol: view.flow.protocol(),
            local: view.flow.local(),
            remote: view.flow.remote(),
            progress: view.progress.name().into(),
            latch: view.latch.map(latch_state),
            peer,
            sa,
            idle: milliseconds(since(self.state.started).since(view.seen)),
        })
    }

    /// A latch.
    pub fn latch_row(&mut self, latch: &LatchView) -> Result<LatchRow, Stopped> {
        let reason = self.reason(latch)?;
        let now = since(self.state.started);
        let (peer, protection) = match latch.class {
            Some(class) => self.class(class)?.clone(),
            None => (NOBODY.to_owned(), NOBODY.to_owned()),
        };
        Ok(LatchRow {
            latch: latch.id.to_string(),
            flow: flow_text(&latch.flow),
            local: latch.flow.local(),
            remote: latch.flow.remote(),
            state: latch_state(latch.state),
            peer,
            protection,
            class: latch.class.map_or(0, ClassId::raw),
            last_tag: latch.last_inbound.map(tag_view),
            reason,
            age: milliseconds(now.since(latch.opened)),
            idle: milliseconds(now.since(latch.seen)),
        })
    }

    fn class(&mut self, class: ClassId) -> Result<&(String, String), Stopped> {
        if !self.known.contains_key(&class) {
            let found = self.state.keying.class(class)?;
            let unknown = || "unknown".to_owned();
            let peer =
                found.as_ref().map(|class| self.state.keying.identity(class.peer)).transpose()?.flatten();
            let peer = peer.map_or_else(unknown, |record| record.asserted.to_string());
            self.known.insert(class, (peer, found.as_ref().map_or_else(unknown, protection)));
        }
        Ok(self.known.entry(class).or_default())
    }

    /// What a connection of this class has, and who is on its ends; `None` where the class is forgotten.
    pub fn held(&mut self, id: ClassId) -> Result<Option<HeldView>, Stopped> {
        if let Some(known) = self.held.get(&id) {
            return Ok(known.clone());
        }
        let parties = match self.state.keying.class(id)? {
            Some(class) => {
                self.party(class.peer)?.zip(self.party(class.local)?).map(|parties| (class, parties))
            }
            None => None,
        };
        let view = parties.map(|(class, (peer, local))| held(id, &class, &peer, &local));
        self.held.insert(id, view.clone());
        Ok(view)
    }

    fn party(&mut self, id: IdentityId) -> Result<Option<Party>, Stopped> {
        let keying = &self.state.keying;
        let Some(record) = keying.identity(id)? else { return Ok(None) };
        if self.entries.is_none() {
            let named = keying.peers()?.into_iter().map(|peer| (peer.entry, peer.name));
            self.entries = Some(named.collect());
        }
        let entry = record.authorised.and_then(|entry| self.entries.as_ref()?.get(&entry).cloned());
        Ok(Some(Party { id, record, entry, evidence: keying.evidence(id)? }))
    }

    /// Why a latch is not established: the cause, whose packet it was, and what became of the connection.
    pub fn reason(&mut self, latch: &LatchView) -> Result<Option<String>, Stopped> {
        let Some(reason) = latch.reason else { return Ok(None) };
        let mut text = reason.name().to_owned();
        if let Some(offender) = latch.offender {
            let (peer, _) = self.class(offender.class)?;
            text.push_str(
                &offender.sa.map_or_else(|| format!(" ({peer})"), |sa| format!(" ({peer}, SA {sa})")),
            );
        }
        if let Some(disposition) = self.state.disposition(latch.id) {
            text.push_str(&format!("; {disposition}"));
        }
        Ok(Some(text))
    }
}

impl<'a> Carriers<'a> {
    /// The SAs of these pairs.
    pub fn of(pairs: &'a [PairView]) -> Self {
        let both = |pair: &'a PairView| [&pair.inbound, &pair.outbound].map(|sa| (sa.sa, (pair, sa)));
        Self(pairs.iter().flat_map(both).collect())
    }

    /// The SA that a flow leaves by, or where nothing left, the one that it came in under.
    pub fn of_flow(&self, view: &FlowView) -> Option<(&'a PairView, &'a SaView)> {
        [view.outbound, view.inbound].into_iter().flatten().find_map(|sa| self.carrier(sa, view))
    }

    /// An SA of a flow. One that is gone, or not of the class that the flow is latched to, is none.
    fn carrier(&self, sa: SaRef, view: &FlowView) -> Option<(&'a PairView, &'a SaView)> {
        let (pair, sa) = *self.0.get(&sa)?;
        view.class.is_none_or(|class| class == pair.class).then_some((pair, sa))
    }
}

/// An SA as a row of something that uses it names it.
pub fn sa_used((pair, sa): (&PairView, &SaView)) -> SaUsed {
    SaUsed {
        pair: Some(pair.id.raw()),
        spi: sa.spi.get(),
        suite: sa.suite.to_string(),
        peer: pair.peer.to_string(),
        class: Some(pair.class.raw()),
    }
}
