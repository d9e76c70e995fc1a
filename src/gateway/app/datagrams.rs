//! What protected the datagrams of one flow of a UDP socket, and from when to when (Q-49, N-6, N-17).
//!
//! A tag that came with a packet does not cross the kernel to the application. So each datagram is held against its stamp
//! (SO_TIMESTAMPNS): a latch that is in force lets nothing else through to its flow, from the moment on at which what was
//! judged before it is written. Whatever did not go that way, or may not have, is in doubt.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use latchway_control::app::{AnswerKind, Datagram, DatagramView, Doubt};
use latchway_control::{Done, Failure};
use latchway_datapath::drop::Direction;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::LatchId;
use latchway_datapath::time::Time;
use latchway_keying::Inquiry;
use latchway_ulp_shim::{Owner, Owners, SocketOwners};

use crate::gateway::app::Applications;
use crate::gateway::app::descriptor::Facts;
use crate::gateway::app::hands::Socket;
use crate::gateway::clock::since;
use crate::gateway::operator::Answer;
use crate::gateway::state::answers::stopped;

/// What is kept to answer for datagrams.
pub struct Datagrams {
    /// Says whose flows are.
    owners: Mutex<SocketOwners>,
    /// When latches were seen first that somebody asked for. By what clock they were made is not known here.
    seen: Mutex<HashMap<LatchId, Time>>,
}

impl Datagrams {
    /// Nothing was asked yet.
    pub fn new(owners: SocketOwners) -> Self {
        Self { owners: Mutex::new(owners), seen: Mutex::default() }
    }

    /// By when a latch that was asked for was there, having been seen now.
    fn seen(&self, latch: LatchId, now: Time) -> Time {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST_SEEN && !seen.contains_key(&latch) {
            // Those are seen anew, and later.
            seen.clear();
        }
        *seen.entry(latch).or_insert(now)
    }

    fn owns(&self, facts: &Facts, flow: &FlowKey) -> bool {
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.owner(flow, Direction::Inbound) == Owner::Socket(facts.cookie)
    }

    /// Whether an address may be one of the namespace's own.
    fn may_have(&self, address: IpAddr) -> bool {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).have(address).unwrap_or(true)
    }
}

impl Applications {
    /// Has a socket say of each datagram whether it came in pieces.
    ///
    /// # Errors
    /// It is no UDP socket, or cannot.
    pub fn pieces(&self, socket: &Socket) -> Answer<Done> {
        udp(&socket.facts()?)?;
        socket.tell_of_pieces()?;
        Ok(Done {})
    }

    /// What protects the datagrams that a socket receives of a flow, since when, and until when that is known.
    ///
    /// # Errors
    /// The flow's datagrams are not the socket's, or the key manager does not answer.
    pub fn datagram(&self, facts: &Facts, call: &Datagram) -> Answer<DatagramView> {
        let flow = self.flow_of(facts, call)?;
        let doubt = self.doubt(&flow, call.interface);
        // Looked at first: what is true after it was true until then.
        let moment = self.wall.look();
        let tracked = self.state.database.flow(&flow);
        let inquiry = self.state.keying.inquire_flow(flow).map_err(stopped)?;
        let required = self.requiring.holds(&facts.cookie);
        let mut view = self.said(tracked.as_ref(), &inquiry);
        view.required = required;
        let is_certain = doubt.is_none() && view.answer == AnswerKind::Latched;
        let settled = inquiry.latch.as_ref().filter(|_| is_certain).and_then(|latch| self.settled(latch));
        Ok(DatagramView {
            view,
            since: settled.map(|settled| moment.since(settled)),
            as_of: moment.now,
            doubt,
        })
    }

    /// From when on all that was written to the TUN was judged by this latch: the worker has begun a turn since it was there.
    /// The worker dates what it makes by the turn in which it makes it.
    fn settled(&self, inquiry: &Inquiry) -> Option<Time> {
        let latch = &inquiry.latch;
        let is_asked_for = latch.owned || inquiry.holder.is_some();
        let there = match is_asked_for {
            true => latch.opened.max(self.datagrams.seen(latch.id, since(self.state.started))),
            false => latch.opened,
        };
        self.state.turns().after(there)
    }

    /// Why a datagram of the flow may not have gone by the gateway, although it seems to.
    fn doubt(&self, flow: &FlowKey, interface: u32) -> Option<Doubt> {
        if !self.spaces.is_on_the_way(interface) {
            return Some(Doubt::OtherDevice);
        }
        // Linux takes a packet that was sent within the host for one of the device that has the address it is sent to, and of
        // IPv6 any program may bind to any source (IPV6_FREEBIND).
        let is_forgeable =
            !self.spaces.tells_own_from_tun(flow.local().ip()) || self.datagrams.may_have(flow.remote().ip());
        is_forgeable.then_some(Doubt::Forgeable)
    }

    /// The flow that is asked about, where the kernel gives what comes of it to this very socket.
    fn flow_of(&self, facts: &Facts, call: &Datagram) -> Answer<FlowKey> {
        udp(facts)?;
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let (local, remote) = (canonical(call.local), canonical(call.remote));
        if local.is_ipv4() != remote.is_ipv4() {
            let hint = "give two addresses of one family";
            return Err(Failure::bad_call("no datagram has addresses of two families", hint));
        }
        let flow = FlowKey::new(protocol::UDP, local, remote);
        // What was sent to nobody in particular has no flow that the gateway knows.
        let is_one = !local.ip().is_unspecified() && !local.ip().is_multicast();
        (is_one && self.datagrams.owns(facts, &flow)).then_some(flow).ok_or_else(|| {
            let hint = "give the addresses and ports of a datagram that the socket received (IP_PKTINFO)";
            Failure::bad_call("the socket does not receive the datagrams of this flow", hint)
        })
    }
}

fn udp(facts: &Facts) -> Answer<()> {
    if facts.protocol == protocol::UDP {
        return Ok(());
    }
    let hint = "ask for the protection of a TCP socket as a whole";
    Err(Failure::wrong_socket("only a UDP socket receives datagrams", hint))
}

/// Latches that are remembered.
const MOST_SEEN: usize = 65_536;
