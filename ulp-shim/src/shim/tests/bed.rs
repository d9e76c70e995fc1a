//! A shim with a clock, a policy and two peers, driven as the datapath drives it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::Receiver;
use etherparse::PacketBuilder;
use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::event::{Event, Events, event_queue};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{LatchId, LatchTerms};
use latchway_datapath::packet::{IpPacket, flags};
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::spd::{Action, Latching, Protection, Rule, Spd};
use latchway_datapath::time::Time;
use latchway_datapath::traffic::Traffic;
use latchway_datapath::ulp::{Context, Ulp};
use latchway_tagging::{
    AuthMethod, ClassId, Credential, Feedback, Identity, IdentityId, IdentityLimit, IdentityRecord,
    IdentityTable, InboundTag, OutboundTag, SaIndex, SaRef, SnapshotId, StateClock, StateVersion, WorkerId,
};

use crate::owners::Owners;
use crate::requirements::Owner;
use crate::shim::Shim;
use crate::{Begin, ConstraintId, CreateError, LatchDatabase, LatchView, Limits, Listening, Seed};

pub(super) const A: ClassId = ClassId::from_raw(1);
pub(super) const A_OTHER_QOP: ClassId = ClassId::from_raw(2);
pub(super) const B: ClassId = ClassId::from_raw(3);
/// Of a peer that nobody knows (RFC 5386).
pub(super) const LESSER: ClassId = ClassId::from_raw(4);
pub(super) const UNKNOWN: ClassId = ClassId::from_raw(99);

/// Whose every flow is, and how often that was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked(pub(super) Arc<Mutex<(Owner, u32)>>);

impl Owners for Asked {
    fn owner(&self, _: &FlowKey, _: Direction) -> Owner {
        let mut asked = self.0.lock().unwrap();
        asked.1 += 1;
        asked.0
    }
}

pub(super) struct Bed {
    pub(super) database: Arc<LatchDatabase>,
    shim: Shim,
    clock: Arc<StateClock>,
    sender: Events,
    receiver: Receiver<Event>,
    snapshot: Snapshot,
    now: Time,
    port: u16,
    /// What policy says of packets in the clear.
    pub(super) clear: Option<Action>,
    /// What segments carry.
    pub(super) data: &'static [u8],
    /// The peer of class A.
    pub(super) peer: IdentityId,
}

impl Bed {
    pub(super) fn new() -> Self {
        Self::with(Limits::for_flows(256))
    }

    pub(super) fn with(limits: Limits) -> Self {
        let clock = Arc::new(StateClock::new());
        clock.advance();
        let database = Arc::new(LatchDatabase::new(limits, Arc::clone(&clock), Seed::Fixed(7)).unwrap());
        let mut identities = IdentityTable::new(IdentityLimit::default());
        let known = AuthMethod::PreSharedKey;
        let mut ids = Vec::new();
        for (class, name, method) in
            [(A, "a", known), (A_OTHER_QOP, "a", known), (B, "b", known), (LESSER, "c", AuthMethod::Btns)]
        {
            let record = IdentityRecord {
                asserted: Identity::Fqdn(name.to_owned()),
                authorised: None,
                method,
                credential: Credential::None,
            };
            ids.push(identities.acquire(&record).unwrap());
            database.peers().publish(class, ids[ids.len() - 1], record.method, 0).unwrap();
        }
        let peer = ids[0];
        let (sender, receiver) = event_queue();
        let shim = Shim::new(Arc::clone(&database), WorkerId(0), sender.clone());
        let (snapshot, now) = (Snapshot::default(), Time::from_nanos(1_000_000_000));
        let mut bed = Self {
            database,
            shim,
            clock,
            sender,
            receiver,
            snapshot,
            now,
            port: 1,
            clear: Some(Action::Bypass),
            data: b"",
            peer,
        };
        bed.policy(Some(Protection::LATCHED));
        bed
    }

    /// A bed whose shim asks whose flows are.
    pub(super) fn asking(owner: Owner) -> (Self, Asked) {
        let asked = Asked(Arc::new(Mutex::new((owner, 0))));
        (Self::asking_those(|_| asked.clone()), asked)
    }

    pub(super) fn asking_those<O: Owners + 'static>(owners: impl FnOnce(Arc<LatchDatabase>) -> O) -> Self {
        let mut bed = Self::new();
        let shim = Shim::new(Arc::clone(&bed.database), WorkerId(0), bed.sender.clone());
        bed.shim = shim.asking(Box::new(owners(Arc::clone(&bed.database))));
        bed
    }

    pub(super) fn established(class: ClassId) -> Self {
        let mut bed = Self::new();
        bed.establish(class);
        bed
    }

    /// A connection begun by the local side: its next octet is 1001, the remote one's 9001.
    pub(super) fn establish(&mut self, class: ClassId) {
        self.tcp_out(1000, 0, flags::SYN, class).unwrap();
        self.tcp_in(9000, 1001, flags::SYN | flags::ACK, class).unwrap();
        self.tcp_out(1001, 9001, flags::ACK, class).unwrap();
    }

    /// Turns to the flow with this remote port.
    pub(super) fn to(&mut self, port: u16) -> &mut Self {
        self.port = port + 1000;
        self.port = if port == 1 { 1 } else { self.port };
        self
    }

    /// Another snapshot with this policy; `None` is BYPASS.
    pub(super) fn policy(&mut self, protection: Option<Protection>) {
        self.rules(&[protection.map_or(Action::Bypass, Action::Protect)]);
    }

    /// Another snapshot with these rules, all of which speak of every flow.
    pub(super) fn rules(&mut self, actions: &[Action]) {
        let selector = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let rule = |&action: &Action| Rule::new(selector.clone(), None, action);
        self.rules_of(actions.iter().map(rule).collect());
    }

    /// Another snapshot with these rules.
    pub(super) fn rules_of(&mut self, rules: Vec<Rule>) {
        self.snapshot.spd = Spd::new(rules);
        self.rekey();
    }

    /// Another snapshot, whose policy says one thing of what leaves and another of what comes.
    pub(super) fn each_way(&mut self, outbound: Action, inbound: Action) {
        let selector = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let rule = |direction, action| Rule::new(selector.clone(), Some(direction), action);
        let rules = vec![rule(Direction::Outbound, outbound), rule(Direction::Inbound, inbound)];
        self.snapshot.spd = Spd::new(rules);
        self.rekey();
    }

    /// Another snapshot, whose policy latches every flow on these terms.
    pub(super) fn terms(&mut self, terms: LatchTerms) {
        self.policy(Some(Protection { reqid: None, template: None, latching: Latching::On(terms) }));
    }

    /// Another snapshot, and what its policy is about to be.
    pub(super) fn pending(&mut self, action: Option<Action>) {
        let selector = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let rule = |action| Rule::new(selector.clone(), None, action);
        self.snapshot.pending = action.map(|action| Arc::new(Spd::new(vec![rule(action)])));
        self.rekey();
    }

    /// Asks for a listener's latch on the local side of the flows, or on every local address.
    pub(super) fn listen(
        &self,
        address: [u8; 4],
        constraint: Option<ConstraintId>,
        terms: LatchTerms,
    ) -> Result<LatchId, CreateError> {
        let listening = Listening { address: address.into(), protocol: protocol::TCP, port: 40_000 };
        self.database.listen(&listening, constraint, terms, self.now)
    }

    /// Asks for a latch of the TCP flow.
    pub(super) fn connect(&self, begin: Begin) -> Result<LatchId, CreateError> {
        self.database.connect(&self.flow(protocol::TCP), begin, LatchTerms::default(), self.now)
    }

    /// A segment is judged, and no SA serves it.
    pub(super) fn unserved_out(&mut self, seq: u32, ack: u32, flags: u8) -> Result<(), DropReason> {
        self.judge_out(seq, ack, flags)?;
        let flow = self.flow(protocol::TCP);
        let context = Context { snapshot: &self.snapshot, version: self.clock.now(), now: self.now };
        self.shim.unserved(&flow, &context);
        Ok(())
    }

    /// The latch of a flow.
    pub(super) fn latch_of(&self, protocol: u8) -> Option<LatchView> {
        self.database.find(&self.flow(protocol)).and_then(|id| self.database.inquire(id))
    }

    /// An echo request (8) or reply (0), whose identifier is the port of the bed.
    pub(super) fn echo_in(&mut self, kind: u8, class: ClassId) -> Result<(), DropReason> {
        let octets = self.echo(Direction::Inbound, kind);
        self.judge_octets_in(&octets, class, self.version())
    }

    pub(super) fn echo_out(&mut self, kind: u8, class: ClassId) -> Result<ClassId, DropReason> {
        let octets = self.echo(Direction::Outbound, kind);
        let tag = self.judge_octets_out(&octets)?;
        let class = tag.demand.class().unwrap_or(class);
        if tag.feedback {
            let flow = *IpPacket::parse(&octets, Direction::Outbound).unwrap().flow();
            let feedback = Feedback::Protected { class, sa: self.sa(class), version: self.version() };
            let context = Context { snapshot: &self.snapshot, version: self.clock.now(), now: self.now };
            self.shim.feedback(&flow, feedback, &context)?;
        }
        Ok(class)
    }

    fn echo(&self, direction: Direction, kind: u8) -> Vec<u8> {
        let (source, destination, _) = self.ends(direction);
        let [high, low] = self.port.to_be_bytes();
        let mut octets = Vec::new();
        let builder = PacketBuilder::ipv4(source, destination, 64).icmpv4_raw(kind, 0, [high, low, 0, 1]);
        builder.write(&mut octets, &[]).unwrap();
        octets
    }

    /// An SCTP packet of one chunk, with these verification and initiate tags.
    pub(super) fn sctp_in(
        &mut self,
        (chunk, tag, initiate): (u8, u32, u32),
        class: ClassId,
    ) -> Result<(), DropReason> {
        let octets = self.association(Direction::Inbound, chunk, tag, initiate);
        self.judge_octets_in(&octets, class, self.version())
    }

    pub(super) fn sctp_out(
        &mut self,
        (chunk, tag, initiate): (u8, u32, u32),
        class: ClassId,
    ) -> Result<ClassId, DropReason> {
        let octets = self.association(Direction::Outbound, chunk, tag, initiate);
        let tag = self.judge_octets_out(&octets)?;
        self.leave(tag, class, protocol::SCTP)
    }

    fn association(&self, direction: Direction, chunk: u8, tag: u32, initiate: u32) -> Vec<u8> {
        let (source, destination, ports) = self.ends(direction);
        let mut sctp = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        sctp.extend([tag.to_be_bytes(), [0; 4], [chunk, 0, 0, 20], initiate.to_be_bytes()].concat());
        let mut octets = Vec::new();
        let builder = PacketBuilder::ipv4(source, destination, 64);
        builder.write(&mut octets, etherparse::IpNumber::SCTP, &sctp).unwrap();
        octets
    }

    /// Another snapshot, whose SAs are new.
    pub(super) fn rekey(&mut self) {
        self.snapshot.id = SnapshotId::from_raw(self.snapshot.id.raw() + 1);
        self.clock.advance();
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    pub(super) fn sweep(&mut self) {
        let all = self.database.limits().flows;
        self.shim.sweep(self.now, all);
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    pub(super) fn version(&self) -> StateVersion {
        self.clock.now()
    }

    pub(super) fn limits(&self) -> Limits {
        *self.database.limits()
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        self.receiver.try_iter().collect()
    }

    pub(super) fn fill_events(&mut self) {
        let flow = self.flow(protocol::TCP);
        while self.sender.send(Event::Acquire { flow, required: None }) {}
    }

    pub(super) fn drain_events(&mut self) {
        assert!(self.events().iter().all(|event| matches!(event, Event::Acquire { .. })));
    }

    /// The latch of the TCP flow.
    pub(super) fn latch(&self) -> Option<LatchView> {
        self.database.find(&self.flow(protocol::TCP)).and_then(|id| self.database.inquire(id))
    }

    pub(super) fn any_latch(&self) -> bool {
        [protocol::TCP, protocol::UDP]
            .iter()
            .any(|&protocol| self.database.find(&self.flow(protocol)).is_some())
    }

    pub(super) fn flow(&self, protocol: u8) -> FlowKey {
        FlowKey::new(protocol, ([10, 0, 0, 1], 40_000).into(), ([10, 0, 0, 2], self.port).into())
    }

    /// A TCP segment leaves, where `class` is what policy would choose. Returns the class it leaves under.
    pub(super) fn tcp_out(
        &mut self,
        seq: u32,
        ack: u32,
        flags: u8,
        class: ClassId,
    ) -> Result<ClassId, DropReason> {
        let (tag, _) = self.judge_out(seq, ack, flags)?;
        self.leave(tag, class, protocol::TCP)
    }

    /// The shim's word on an outbound segment, and nothing more.
    pub(super) fn judge_out(
        &mut self,
        seq: u32,
        ack: u32,
        flags: u8,
    ) -> Result<(OutboundTag, ()), DropReason> {
        let octets = self.segment(Direction::Outbound, (seq, ack, flags));
        self.judge_octets_out(&octets).map(|tag| (tag, ()))
    }

    pub(super) fn udp_out(&mut self, class: ClassId) -> Result<ClassId, DropReason> {
        let octets = self.datagram(Direction::Outbound);
        let tag = self.judge_octets_out(&octets)?;
        self.leave(tag, class, protocol::UDP)
    }

    /// Answers the last question for feedback, of the TCP flow.
    pub(super) fn feedback(&mut self, class: ClassId) -> Result<(), DropReason> {
        let feedback = Feedback::Protected { class, sa: self.sa(class), version: self.version() };
        self.answer(feedback, protocol::TCP)
    }

    pub(super) fn feedback_unprotected(&mut self) -> Result<(), DropReason> {
        self.answer(Feedback::NotProtected, protocol::TCP)
    }

    pub(super) fn tcp_in(&mut self, seq: u32, ack: u32, flags: u8, class: ClassId) -> Result<(), DropReason> {
        self.tcp_in_at(self.version(), (seq, ack, flags), class)
    }

    pub(super) fn tcp_in_at(
        &mut self,
        version: StateVersion,
        segment: (u32, u32, u8),
        class: ClassId,
    ) -> Result<(), DropReason> {
        let octets = self.segment(Direction::Inbound, segment);
        self.judge_octets_in(&octets, class, version)
    }

    pub(super) fn udp_in(&mut self, class: ClassId) -> Result<(), DropReason> {
        self.udp_in_at(self.version(), class)
    }

    pub(super) fn udp_in_at(&mut self, version: StateVersion, class: ClassId) -> Result<(), DropReason> {
        let octets = self.datagram(Direction::Inbound);
        self.judge_octets_in(&octets, class, version)
    }

    /// A first or later fragment of the flow, the later one resolved as the datapath does.
    pub(super) fn fragment_in(
        &mut self,
        protocol: u8,
        first: bool,
        class: ClassId,
    ) -> Result<(), DropReason> {
        let mut octets = match protocol {
            protocol::TCP => self.segment(Direction::Inbound, (9001, 1001, flags::SYN)),
            _ => self.datagram(Direction::Inbound),
        };
        cut(&mut octets, if first { 0x2000 } else { 0x0008 });
        let mut packet = IpPacket::parse(&octets, Direction::Inbound).unwrap();
        packet.resolve_to(Traffic::of(&self.flow(protocol)));
        let tag = InboundTag { class, sa: self.sa(class), version: self.version() };
        let context = Context { snapshot: &self.snapshot, version: self.clock.now(), now: self.now };
        self.shim.judge_inbound(&packet, &tag, &context)
    }

    pub(super) fn unprotected(&mut self, seq: u32, ack: u32, flags: u8) -> Result<(), DropReason> {
        let octets = self.segment(Direction::Inbound, (seq, ack, flags));
        self.judge_unprotected(&octets)
    }

    /// The first piece of a SYN.
    pub(super) fn unprotected_piece(&mut self) -> Result<(), DropReason> {
        let mut octets = self.segment(Direction::Inbound, (9000, 0, flags::SYN));
        cut(&mut octets, 0x2000);
        self.judge_unprotected(&octets)
    }

    /// Destination Unreachable about the flow of `protocol`, cut after eight octets of what it quotes.
    fn error(&self, direction: Direction, protocol: u8) -> Vec<u8> {
        let quoted_direction = match direction {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        };
        let quoted = match protocol {
            protocol::TCP => self.segment(quoted_direction, (1001, 9001, flags::ACK)),
            _ => self.datagram(quoted_direction),
        };
        let (source, destination, _) = self.ends(direction);
        let mut octets = Vec::new();
        PacketBuilder::ipv4(source, destination, 64)
            .icmpv4_raw(3, 1, [0; 4])
            .write(&mut octets, &quoted[..28])
            .unwrap();
        octets
    }

    pub(super) fn error_in(&self, protocol: u8, class: ClassId) -> Result<(), DropReason> {
        self.judge_octets_in(&self.error(Direction::Inbound, protocol), class, self.version())
    }

    /// The same from a router on the way.
    pub(super) fn router_error_in(&self, protocol: u8, class: ClassId) -> Result<(), DropReason> {
        let mut octets = self.error(Direction::Inbound, protocol);
        octets[12..16].copy_from_slice(&[172, 16, 0, 9]);
        self.judge_octets_in(&octets, class, self.version())
    }

    pub(super) fn error_in_pieces(&self, class: ClassId) -> Result<(), DropReason> {
        let mut octets = self.error(Direction::Inbound, protocol::TCP);
        cut(&mut octets, 0x2000);
        self.judge_octets_in(&octets, class, self.version())
    }

    pub(super) fn error_unprotected(&self) -> Result<(), DropReason> {
        let octets = self.error(Direction::Inbound, protocol::TCP);
        self.judge_unprotected(&octets)
    }

    /// A packet in the clear, of which policy says BYPASS.
    fn judge_unprotected(&self, octets: &[u8]) -> Result<(), DropReason> {
        let packet = IpPacket::parse(octets, Direction::Inbound).unwrap();
        let context = Context { snapshot: &self.snapshot, version: self.clock.now(), now: self.now };
        self.shim.judge_unprotected(&packet, self.clear, &context)
    }

    /// A datagram in the clear, of which policy says BYPASS.
    pub(super) fn unprotected_datagram(&self) -> Result<(), DropReason> {
        self.judge_unprotected(&self.datagram(Direction::Inbound))
    }

    /// Whether the sender of a segment that was dropped for this reason is told that it is over.
    pub(super) fn is_told(&self, segment: (u32, u32, u8), reason: DropReason) -> bool {
        let octets = self.segment(Direction::Outbound, segment);
        let packet = IpPacket::parse(&octets, Direction::Outbound).unwrap();
        let context = Context { snapshot: &self.snapshot, version: self.clock.now(), now: self.now };
        self.shim.is_over(&packet, reason, &context)
    }

    /// The class that an error about the TCP flow must leave under.
    pub(super) fn error_out(&mut self) -> Result<Option<ClassId>, DropReason> {
        let octets = self.error(Direction::Outbound, protocol::TCP);
        self.judge_octets_out(&octets).map(|tag| tag.demand.class())
    }

    /// The same of one that another inner host sends.
    pub(super) fn error_out_from(&mut self, source: [u8; 4]) -> Result<Option<ClassId>, DropReason> {
        let mut octets = self.error(Direction::Outbound, protocol::TCP);
        octets[12..16].copy_from_slice(&source);
        self.judge_octets_out(&octets).map(|tag| tag.demand.class())
    }

    fn judge_octets_in(
        &self,
        octets: &[u8],
        class: ClassId,
        version: StateVersion,
    ) -> Result<(), DropReason> {
        let packet = IpPacket::parse(octets, Direction::Inbound).unwrap();
        let tag = InboundTag { class, sa: self.sa(class), version };
        let context = Context { snapshot: &self.snapshot, version, now: self.now };
        self.shim.judge_inbound(&packet, &tag, &context)
    }

    fn judge_octets_out(&mut self, octets: &[u8]) -> Result<OutboundTag, DropReason> {
        let packet = IpPacket::parse(octets, Direction::Outbound).unwrap();
        let context = Context { snapshot: &self.snapshot, version: self.clock.now(), now: self.now };
        self.shim.outbound(&packet, &context)
    }

    /// What the datapath does with a tag: the required class, or policy's; feedback if asked.
    fn leave(&mut self, tag: OutboundTag, policy: ClassId, protocol: u8) -> Result<ClassId, DropReason> {
        let class = tag.demand.class().unwrap_or(policy);
        if tag.feedback {
            let feedback = Feedback::Protected { class, sa: self.sa(class), version: self.version() };
            self.answer(feedback, protocol)?;
        }
        Ok(class)
    }

    fn answer(&mut self, feedback: Feedback, protocol: u8) -> Result<(), DropReason> {
        let flow = self.flow(protocol);
        let context = Context { snapshot: &self.snapshot, version: self.clock.now(), now: self.now };
        self.shim.feedback(&flow, feedback, &context)
    }

    /// The SA of a class in this snapshot.
    pub(super) fn sa(&self, class: ClassId) -> SaRef {
        SaRef { index: SaIndex::new(class.raw()), generation: self.snapshot.id.raw() as u32 + 1 }
    }

    fn segment(&self, direction: Direction, (seq, ack, flags): (u32, u32, u8)) -> Vec<u8> {
        let (source, destination, ports) = self.ends(direction);
        let mut octets = Vec::new();
        let builder = PacketBuilder::ipv4(source, destination, 64).tcp(ports.0, ports.1, seq, 512);
        builder.write(&mut octets, self.data).unwrap();
        octets[28..32].copy_from_slice(&ack.to_be_bytes());
        octets[33] = flags;
        octets
    }

    fn datagram(&self, direction: Direction) -> Vec<u8> {
        let (source, destination, ports) = self.ends(direction);
        let mut octets = Vec::new();
        PacketBuilder::ipv4(source, destination, 64)
            .udp(ports.0, ports.1)
            .write(&mut octets, b"datagram")
            .unwrap();
        octets
    }

    fn ends(&self, direction: Direction) -> ([u8; 4], [u8; 4], (u16, u16)) {
        let (local, remote) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        match direction {
            Direction::Outbound => (local, remote, (40_000, self.port)),
            Direction::Inbound => (remote, local, (self.port, 40_000)),
        }
    }
}

/// Makes an IPv4 packet a piece of a longer one, of whole eights of octets as all but the last are.
fn cut(octets: &mut Vec<u8>, place: u16) {
    octets.resize(octets.len().next_multiple_of(8) + 4, 0);
    let len = u16::try_from(octets.len()).unwrap();
    octets[2..4].copy_from_slice(&len.to_be_bytes());
    octets[6..8].copy_from_slice(&place.to_be_bytes());
}
