//! INQUIRE_LATCH (latching-04 section 2.1, L-28 to L-32, L-67): everything that is known of a latch.

use latchway_datapath::drop::Direction;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{LatchId, LatchState};
use latchway_datapath::sad::{Path, Role};
use latchway_datapath::selector::{AddressRange, PortRange, Selector, has_ports};
use latchway_datapath::spd::{Action, Latching, Protection, Rule};
use latchway_datapath::traffic::Traffic;
use latchway_tagging::{ClassId, IdentityId, SaRef};
use latchway_ulp_shim::LatchView;

use crate::keying::Keying;
use crate::latching::{Asked, FlowInquiry, Held, Inquiry, LatchError, Parameters, Party};
use crate::origin::Origin;
use crate::policy::{RuleNumber, RuleView};

impl Keying {
    /// Everything that is known of a latch, in every state.
    ///
    /// # Errors
    /// [`LatchError::UnknownLatch`]
    pub fn inquire_latch(&self, latch: LatchId) -> Result<Inquiry, LatchError> {
        let view = self.known(latch).ok_or(LatchError::UnknownLatch(latch))?;
        let held = self.register.get(latch);
        let parameters = self.parameters(&view, held);
        let offender = view.offender.and_then(|offender| self.class(offender.class));
        let (path, sa) = view.class.and_then(|class| self.carrier_of(&view, class)).unzip();
        let in_force = view.state == LatchState::Established && view.class.is_some();
        Ok(Inquiry {
            parameters,
            offender: offender.and_then(|class| self.party(class.peer)),
            path,
            sa,
            nat: view.class.and_then(|class| self.nat(class)),
            holder: held.map(|held| held.holder),
            constraints: held.map(|held| held.constraints.clone()),
            entry: held.and_then(|held| self.entry_of(latch, held)),
            // L-43, L-105: asked for over control.sock or app.sock, and not only inferred.
            fit_for_channel_binding: in_force && (held.is_some() || view.required),
            latch: view,
        })
    }

    /// What is known of a flow: in one question, for who has only its socket.
    #[must_use]
    pub fn inquire_flow(&self, flow: &FlowKey) -> FlowInquiry {
        let latch = self.find_latch(flow).and_then(|latch| self.inquire_latch(latch).ok());
        let traffic = Traffic::of(flow);
        let decides = self.current.spd.find(&traffic, Direction::Outbound);
        let (place, action) = decides.map(|(place, rule)| (place, rule.action)).unzip();
        let parameters = match (&latch, action) {
            (Some(latch), _) => Some(latch.parameters.clone()),
            (None, Some(Action::Protect(protection))) => {
                let slot = self.current.sad.select_serving(&traffic, &protection);
                slot.filter(|slot| !slot.entry.use_.is_expired())
                    .and_then(|slot| self.latched(slot.entry.class))
            }
            (None, _) => None,
        };
        let group = match &parameters {
            Some(Parameters::Latched { id, .. }) => self.interned.classes().group(*id),
            _ => None,
        };
        let rule = place.and_then(|place| self.policy.view_at(place));
        let inbound = self.current.spd.action(&traffic, Direction::Inbound);
        FlowInquiry { latch: latch.map(Box::new), parameters, group, rule, inbound }
    }

    /// The entries that stand for latches at the head of the SPD (L-77, L-115): those of connections that are not as
    /// policy's own rules have it.
    pub(super) fn entries(&self) -> impl Iterator<Item = RuleView> {
        self.register.iter().filter_map(|(latch, held)| self.entry_of(latch, held))
    }

    /// The entry is the latch itself: it comes and goes with it, and is written nowhere (L-41, L-78, L-117, L-118).
    fn entry_of(&self, latch: LatchId, held: &Held) -> Option<RuleView> {
        let asked = held.constraints.protection != Asked::Policy || !held.constraints.is_empty();
        let stands = !held.listens && held.state != LatchState::Closed;
        if !asked || !stands {
            return None;
        }
        let action = if held.permit.bypass {
            Action::Bypass
        } else {
            let latching = Latching::On(held.permit.terms);
            Action::Protect(Protection { reqid: held.permit.reqid, template: None, latching })
        };
        let flow = &held.flow;
        let (local, remote) = (flow.local(), flow.remote());
        let port =
            |port| if has_ports(flow.protocol()) { PortRange::new(&(port..=port)) } else { PortRange::ANY };
        let selector = Selector {
            local: AddressRange::single(local.ip()),
            remote: AddressRange::single(remote.ip()),
            protocol: Some(flow.protocol()),
            local_ports: port(local.port()),
            remote_ports: port(remote.port()),
            icmp: None,
        };
        let (number, rule) = (RuleNumber::from_raw(latch.raw()), Rule::new(selector, None, action));
        Some(RuleView { number, origin: Origin::Latch, rule })
    }

    fn parameters(&self, view: &LatchView, held: Option<&Held>) -> Parameters {
        match (view.class, held) {
            (Some(id), _) => self.latched(id).unwrap_or(Parameters::Forgotten(id)),
            (None, Some(held)) if held.permit.bypass => Parameters::Bypass,
            (None, Some(held)) if !held.constraints.is_indeterminate() => Parameters::Wanted,
            (None, _) => Parameters::Indeterminate,
        }
    }

    fn latched(&self, id: ClassId) -> Option<Parameters> {
        let class = self.class(id)?;
        let (peer, local) = (Box::new(self.party(class.peer)?), Box::new(self.party(class.local)?));
        Some(Parameters::Latched { id, class, peer, local })
    }

    fn party(&self, id: IdentityId) -> Option<Party> {
        let record = self.identity(id)?;
        let named = |entry| self.pad.entries().iter().find(|known| known.id == entry);
        let entry = record.authorised.and_then(named).map(|entry| entry.name.clone());
        Some(Party { id, record, entry, evidence: self.evidence(id) })
    }

    /// The SA that carries the latch's packets now, and where it leads.
    fn carrier_of(&self, view: &LatchView, class: ClassId) -> Option<(Path, SaRef)> {
        let slot = self.current.sad.select(&Traffic::of(&view.flow), Some(class), None)?;
        match &slot.entry.role {
            Role::Outbound { path, .. } => Some((*path, slot.entry.sa)),
            Role::Inbound { .. } => None,
        }
    }
}
