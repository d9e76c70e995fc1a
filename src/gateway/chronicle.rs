//! What the datapath and the key manager tell, as events for whoever listens on control.sock.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::Receiver;
use latchway_control::{EventKind, EventView};
use latchway_datapath::drop::Direction;
use latchway_datapath::event::Event;
use latchway_keying::{KeyManagerClient, Notice, PairId, Wanted};
use latchway_tagging::{ClassId, Identity};

use crate::gateway::rows::direction_word;
use crate::gateway::selectors;
use crate::gateway::state::State;

/// Tells what becomes of pairs and policy, until the key manager tells no more.
pub fn start(notices: Receiver<Notice>, state: &State) -> io::Result<JoinHandle<()>> {
    let (events, xfrm, watched) =
        (Arc::clone(state.events()), Arc::clone(state.xfrm()), Arc::clone(state.watched()));
    thread::Builder::new().name("chronicle".into()).spawn(move || {
        for notice in notices {
            xfrm.note(&notice);
            watched.hear(&notice);
            if let Some(event) = of_notice(&notice) {
                events.publish(event);
            }
        }
    })
}

/// A latch that broke, with the names that the datapath does not know. What else it finds, the key manager tells.
pub fn of_datapath(event: &Event, keying: &KeyManagerClient) -> Option<EventView> {
    let Event::LatchBroken { flow, latched, reason, offender, .. } = event else { return None };
    let peer = offender.and_then(|offender| peer_of(offender.class, keying));
    let by = peer.as_ref().map_or_else(String::new, |peer| format!(", by a packet of {peer}"));
    let to = latched.map_or_else(String::new, |class| format!(" to class {}", class.raw()));
    let text = format!("the latch of {flow}{to} broke{by}; its connection ends");
    Some(EventView {
        flow: Some(flow.to_string()),
        peer,
        class: latched.map(ClassId::raw),
        reason: Some(reason.name().into()),
        ..EventView::new(EventKind::LatchBroken, text)
    })
}

fn peer_of(class: ClassId, keying: &KeyManagerClient) -> Option<String> {
    let class = keying.class(class).ok().flatten()?;
    keying.identity(class.peer).ok().flatten().map(|record| record.asserted.to_string())
}

fn of_notice(notice: &Notice) -> Option<EventView> {
    let of_pair = |kind, pair: PairId, peer: &Identity, text: &str| {
        let text = format!("pair {} with {peer} {text}", pair.raw());
        Some(EventView { pair: Some(pair.raw()), peer: Some(peer.to_string()), ..EventView::new(kind, text) })
    };
    match notice {
        Notice::PairAdded { pair, peer, .. } => of_pair(EventKind::PairAdded, *pair, peer, "was installed"),
        Notice::PairActivated { pair, peer, .. } => {
            of_pair(EventKind::PairActivated, *pair, peer, "sends now")
        }
        Notice::PairRetired { pair, peer } => {
            of_pair(EventKind::PairRetired, *pair, peer, "only receives what is under way")
        }
        Notice::PeerMoved { pair, peer, from, to, .. } => {
            of_pair(EventKind::PeerMoved, *pair, peer, &format!("leads to {to} now, and led to {from}"))
        }
        Notice::PairRevised { pair, peer, .. } => {
            of_pair(EventKind::PairRevised, *pair, peer, "goes on, and travels or ends otherwise")
        }
        Notice::PairRemoved { pair, peer } => of_pair(EventKind::PairRemoved, *pair, peer, "is gone"),
        Notice::PolicyChanged(_) => Some(EventView::new(EventKind::PolicyChanged, "the policy is another")),
        Notice::OfferExpired { ticket, peer } => {
            let text = format!("nobody used ticket {ticket}, for a pair with {peer}, in time");
            let peer = Some(peer.to_string());
            Some(EventView { peer, ..EventView::new(EventKind::OfferExpired, text) })
        }
        Notice::Acquire(wanted) => Some(of_acquire(wanted)),
        Notice::SoftExpired { pair, peer, direction } => {
            let text = "has reached its soft lifetime: time for a successor";
            of_pair(EventKind::SoftExpired, *pair, peer, text).map(|event| towards(event, *direction))
        }
        Notice::HardExpired { pair, peer, direction } => {
            let text = "has reached its hard lifetime in one direction, and carries nothing there any more";
            of_pair(EventKind::HardExpired, *pair, peer, text).map(|event| towards(event, *direction))
        }
        Notice::PathMtu { pair, peer, found } => {
            let mtu = found.in_force;
            let text = if found.suspected {
                format!("is said to be on a path that takes less than {mtu} octets, and asks whether it is")
            } else {
                format!("sends outer packets of at most {mtu} octets now, as its path takes")
            };
            let event = of_pair(EventKind::PathMtu, *pair, peer, &text);
            event.map(|event| EventView { count: Some(mtu.into()), ..towards(event, Direction::Outbound) })
        }
        // A reload says so itself, and `xfrm monitor` tells of its states.
        Notice::PadChanged | Notice::SingleExpired { .. } => None,
    }
}

/// What a provider needs to know to propose a pair (RFC 4301 4.4.1.2).
fn of_acquire(wanted: &Wanted) -> EventView {
    let peer = wanted.peer.as_ref().map(ToString::to_string);
    let whose = if wanted.class.is_some() { "to whom it is latched" } else { "as was asked" };
    let with = peer.as_ref().map_or_else(String::new, |peer| format!(" with {peer}, {whose},"));
    let text = format!("{} needs protection, and there is no SA{with} for it", wanted.flow);
    EventView {
        flow: Some(wanted.flow.to_string()),
        peer,
        class: wanted.class.map(ClassId::raw),
        demands: wanted.constraints.as_ref().map(|asked| asked.demands()),
        policy: wanted.rule.as_ref().map(|rule| rule.number.raw()),
        selector: wanted.rule.as_ref().map(|rule| selectors::shown(&rule.rule.selector)),
        ..EventView::new(EventKind::Acquire, text)
    }
}

fn towards(event: EventView, direction: Direction) -> EventView {
    EventView { direction: Some(direction_word(direction)), ..event }
}
