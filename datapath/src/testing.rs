//! Two datapaths joined in memory, for tests and fuzz targets: real SAs, virtual time, no device.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crossbeam::channel::Receiver;
use latchway_esp::{
    AntiReplay, InboundConfig, InboundSa, KeyMaterial, OutboundConfig, OutboundSa, Reservation, SeqNum,
    SequenceKind, Spi, Suite, WindowSize,
};
use latchway_tagging::{
    ClassId, Feedback, Mode, OutboundTag, SaIndex, SaRef, SnapshotId, StateClock, WorkerId,
};

use crate::arrival::{Arrival, Carrier};
use crate::bypass::admit;
use crate::coalesce::{Coalescer, Offloads};
use crate::drop::{Counters, Direction, DropReason};
use crate::event::{Event, event_queue};
use crate::flow::FlowKey;
use crate::gateway::{Datapath, Shared};
use crate::lifetime::Limits;
use crate::low::publish::Publisher;
use crate::outbound::Outbound;
use crate::oversize::Oversize;
use crate::packet::{Authenticated, IpPacket, Unprotected};
use crate::packet_too_big::PacketTooBig;
use crate::sad::{Follow, Handover, Path, Peer, Role, SadEntry, Scope, Shape, Usage};
use crate::selector::{AddressRange, Selector};
use crate::send_batch::{Marks, SendBatch};
use crate::snapshot::Snapshot;
use crate::spd::{Action, Protection, Reqid, Rule, Spd};
use crate::time::Time;
use crate::ulp::{Context, Ulp};
use crate::virtio::VNET_HDR_LEN;

/// An upper layer that asks for nothing and lets everything pass.
#[derive(Debug, Default)]
pub struct Open;

impl Ulp for Open {
    fn outbound(&mut self, _: &IpPacket<'_>, _: &Context<'_>) -> Result<OutboundTag, DropReason> {
        Ok(OutboundTag::default())
    }

    fn feedback(&mut self, _: &FlowKey, _: Feedback, _: &Context<'_>) -> Result<(), DropReason> {
        Ok(())
    }

    fn inbound(&mut self, _: &Authenticated<'_>, _: &Context<'_>) -> Result<(), DropReason> {
        Ok(())
    }

    fn unprotected(
        &mut self,
        _: &Unprotected<'_>,
        policy: Option<Action>,
        _: &Context<'_>,
    ) -> Result<(), DropReason> {
        admit(policy)
    }
}

/// One gateway of two.
pub struct Host<U> {
    /// Its datapath.
    pub datapath: Datapath<U>,
    /// What it publishes snapshots with.
    pub publisher: Publisher<Snapshot>,
    /// Its events.
    pub events: Receiver<Event>,
    /// The snapshot last published.
    pub snapshot: Snapshot,
    them: u8,
    batch: SendBatch,
    units: Coalescer,
}

/// The inner networks, by host: 10.0.H.0/24 and fd00:H::/32 for H of 1 and 2.
#[must_use]
pub fn inner(host: u8, v6: bool) -> AddressRange {
    let (first, last) = if v6 {
        (format!("fd00:{host}::"), format!("fd00:{host}:ffff:ffff:ffff:ffff:ffff:ffff"))
    } else {
        (format!("10.0.{host}.0"), format!("10.0.{host}.255"))
    };
    let range = first.parse().ok().zip(last.parse().ok());
    range.and_then(|(first, last)| AddressRange::new(first, last).ok()).unwrap_or(AddressRange::ANY_V4)
}

/// The outer address of a host.
#[must_use]
pub fn outer(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 4500))
}

/// The same, of either family and carrier.
#[must_use]
pub fn outer_end(host: u8, v6: bool, carrier: Carrier) -> SocketAddr {
    let ip =
        if v6 { IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)]) } else { outer(host).ip() };
    SocketAddr::new(ip, if carrier == Carrier::Udp { 4500 } else { 0 })
}

/// Both families between the outer addresses of two hosts, seen from the first.
fn between_outer(us: u8, them: u8) -> Vec<Selector> {
    let range = |host, v6| {
        let address = outer_end(host, v6, Carrier::Native).ip();
        AddressRange::new(address, address).unwrap_or(AddressRange::ANY_V4)
    };
    [false, true].map(|v6| Selector::between(range(us, v6), range(them, v6))).into()
}

/// Both families between two hosts, seen from the first.
#[must_use]
pub fn selectors(us: u8, them: u8) -> Vec<Selector> {
    [false, true].map(|v6| Selector::between(inner(us, v6), inner(them, v6))).into()
}

/// What the tests vary in an SA.
#[derive(Clone, Debug)]
pub struct SaOptions {
    /// Its SPI.
    pub spi: u32,
    /// Its slot.
    pub index: u32,
    /// Its suite.
    pub suite: Suite,
    /// Its class.
    pub class: u32,
    /// Its soft and hard lifetime.
    pub limits: Limits,
    /// Whether numbers are 64 bits wide.
    pub sequence: SequenceKind,
    /// Whether an inbound one refuses replays.
    pub anti_replay: AntiReplay,
    /// How far an outbound one may count.
    pub reservation: Option<Reservation>,
    /// Tunnel mode between the inner networks, or transport mode between the outer addresses.
    pub mode: Mode,
    /// How it travels.
    pub carrier: Carrier,
    /// Whether between IPv6 addresses.
    pub outer_v6: bool,
    /// What the path of an outbound one takes.
    pub mtu: u16,
    /// What an outbound one's packets look like, and what becomes of an inbound one's outer fields.
    pub shape: Shape,
    /// Whether the peer may move.
    pub follow: Follow,
    /// Whether a NAT is on the way.
    pub translated: bool,
    /// The slot of the other SA of its bundle.
    pub nested: Option<u32>,
    /// What inner packets have to meet.
    pub scope: Scope,
    /// The rules it serves.
    pub reqid: u32,
}

impl SaOptions {
    /// AES-128-GCM with ESN, class 1, no limits.
    #[must_use]
    pub fn new(spi: u32, index: u32) -> Self {
        Self {
            spi,
            index,
            suite: Suite::AES_128_GCM,
            class: 1,
            limits: Limits::default(),
            sequence: SequenceKind::Extended,
            anti_replay: AntiReplay::Window(WindowSize::default()),
            reservation: None,
            mode: Mode::Tunnel,
            carrier: Carrier::Udp,
            outer_v6: false,
            mtu: 1500,
            shape: Shape::default(),
            follow: Follow::Fixed,
            translated: false,
            nested: None,
            scope: Scope::Selectors,
            reqid: 0,
        }
    }
}

/// The key of an SA: any octets, the same at both ends, another for each SPI.
fn keys(options: &SaOptions) -> Option<KeyMaterial> {
    let len = options.suite.material_len();
    let octets: Vec<u8> = (0..len).map(|place| (place as u32).wrapping_add(options.spi) as u8).collect();
    KeyMaterial::new(options.suite, &octets).ok()
}

/// An entry that protects what `us` receives from `them`.
#[must_use]
pub fn inbound_entry(us: u8, them: u8, options: &SaOptions) -> Option<Arc<SadEntry>> {
    let config = InboundConfig {
        spi: Spi::new(options.spi)?,
        suite: options.suite,
        keys: &keys(options)?,
        sequence: options.sequence,
        anti_replay: options.anti_replay,
        top: None,
    };
    let sa = Handover::new(InboundSa::new(config).ok()?);
    let peer = path(us, them, options).peer();
    let from = Peer { follow: options.follow, translated: options.translated, ..peer };
    entry((us, them), options, Role::Inbound { sa, from, outer: options.shape.outer.clone() })
}

/// An entry that protects what `us` sends to `them`.
#[must_use]
pub fn outbound_entry(us: u8, them: u8, options: &SaOptions) -> Option<Arc<SadEntry>> {
    outbound_entry_at(us, them, options, 1)
}

/// The same, with `next` as the next sequence number.
#[must_use]
pub fn outbound_entry_at(us: u8, them: u8, options: &SaOptions, next: u64) -> Option<Arc<SadEntry>> {
    let config = OutboundConfig {
        spi: Spi::new(options.spi)?,
        suite: options.suite,
        keys: &keys(options)?,
        sequence: options.sequence,
        reservation: options.reservation.clone(),
    };
    let sa = Handover::new(OutboundSa::resume_at(config, SeqNum(next)).ok()?);
    let role = Role::Outbound { sa, path: path(us, them, options), shape: options.shape.clone() };
    entry((us, them), options, role)
}

fn path(us: u8, them: u8, options: &SaOptions) -> Path {
    let &SaOptions { outer_v6, carrier, mtu, .. } = options;
    let from = outer_end(us, outer_v6, carrier).ip();
    Path { wire: 0, from, to: outer_end(them, outer_v6, carrier), mtu, carrier }
}

fn entry((us, them): (u8, u8), options: &SaOptions, role: Role) -> Option<Arc<SadEntry>> {
    let selectors = match options.mode {
        Mode::Tunnel => selectors(us, them),
        Mode::Transport => between_outer(us, them),
    };
    let slot = |index| SaRef { index: SaIndex::new(index), generation: 1 };
    Some(Arc::new(SadEntry {
        sa: slot(options.index),
        spi: Spi::new(options.spi)?,
        protocol: options.suite.protocol(),
        mode: options.mode,
        class: ClassId::from_raw(options.class),
        selectors: selectors.into(),
        scope: options.scope,
        reqid: Reqid(options.reqid),
        worker: WorkerId(0),
        limits: options.limits,
        added: Time::default(),
        partner: None,
        nested: options.nested.map(slot),
        role,
        use_: Arc::default(),
    }))
}

/// Two hosts, 1 and 2, with a pair of SAs each: SPI 0x1001 towards host 2, 0x1002 back, and PROTECT between their
/// inner networks.
#[must_use]
pub fn joined<U: Ulp>(one: U, two: U) -> (Host<U>, Host<U>) {
    let (there, back) = (SaOptions::new(0x1001, 0), SaOptions::new(0x1002, 1));
    let (mut one, mut two) = (Host::new(1, 2, one), Host::new(2, 1, two));
    one.insert(outbound_entry(1, 2, &there));
    one.insert(inbound_entry(1, 2, &back));
    two.insert(inbound_entry(2, 1, &there));
    two.insert(outbound_entry(2, 1, &back));
    one.publish();
    two.publish();
    (one, two)
}

/// Two hosts of which the first sends to the second under one SA, which both have in slot 0.
#[must_use]
pub fn joined_by(options: &SaOptions) -> (Host<Open>, Host<Open>) {
    let (mut one, mut two) = (Host::new(1, 2, Open), Host::new(2, 1, Open));
    one.insert(outbound_entry(1, 2, options));
    two.insert(inbound_entry(2, 1, options));
    one.publish();
    two.publish();
    (one, two)
}

/// What brings a datagram under an SA with these options from `them`.
#[must_use]
pub fn arrival(them: u8, len: usize, options: &SaOptions) -> Arrival {
    let from = outer_end(them, options.outer_v6, options.carrier);
    Arrival { carrier: options.carrier, ..Arrival::udp(len, from) }
}

impl<U: Ulp> Host<U> {
    /// A host with policy and no SA.
    pub fn new(us: u8, them: u8, ulp: U) -> Self {
        let protect = |selector| Rule::new(selector, None, Action::Protect(Protection::LATCHED));
        let protected = selectors(us, them).into_iter().chain(between_outer(us, them));
        let spd = Spd::new(protected.map(protect).collect());
        let snapshot = Snapshot { id: SnapshotId::from_raw(1), spd, ..Snapshot::default() };
        let publisher = Publisher::new(Arc::new(snapshot.clone()));
        let (sender, events) = event_queue();
        let shared = Shared {
            snapshots: publisher.reader(),
            clock: Arc::new(StateClock::new()),
            counters: Arc::new(Counters::new()),
            events: sender,
            oversize: Oversize::default(),
        };
        let datapath = Datapath::new(WorkerId(0), ulp, shared);
        let (batch, units) = (SendBatch::new(), Coalescer::new(Offloads::NONE));
        Self { datapath, publisher, events, snapshot, them, batch, units }
    }

    /// Adds an SA in force; [`publish`](Self::publish) shows it.
    pub fn insert(&mut self, entry: Option<Arc<SadEntry>>) {
        if let Some(entry) = entry {
            let inserted = self.snapshot.sad.insert(entry, Usage::Active);
            debug_assert!(inserted.is_ok(), "{inserted:?}");
        }
    }

    /// Publishes the snapshot as it is now.
    pub fn publish(&mut self) {
        self.snapshot.id = SnapshotId::from_raw(self.snapshot.id.raw() + 1);
        self.publisher.publish(Arc::new(self.snapshot.clone()));
    }

    /// Sends one IP packet. Returns the datagrams that leave, and whether it was for the bypass port.
    pub fn send(&mut self, packet: &[u8], now: Time) -> (Vec<Vec<u8>>, bool) {
        let mut octets = vec![0; VNET_HDR_LEN];
        octets.extend_from_slice(packet);
        self.send_read(&mut octets, now)
    }

    /// The same of what one read from the TUN brings, virtio header first.
    pub fn send_read(&mut self, octets: &mut [u8], now: Time) -> (Vec<Vec<u8>>, bool) {
        self.datapath.begin(now);
        self.batch.clear();
        let outcome = self.datapath.outbound(octets, &mut self.batch);
        let datagrams =
            self.batch.runs().flat_map(|run| run.datagrams().map(<[u8]>::to_vec).collect::<Vec<_>>());
        (datagrams.collect(), outcome == Outbound::Bypass)
    }

    /// Receives one datagram. Returns the inner packets that reach the TUN.
    pub fn receive(&mut self, datagram: &[u8], now: Time) -> Vec<Vec<u8>> {
        let arrival = Arrival::udp(datagram.len(), outer(self.them));
        self.receive_as(datagram, &arrival, now)
    }

    /// Receives what one receive brought. Returns the inner packets that reach the TUN.
    pub fn receive_as(&mut self, octets: &[u8], arrival: &Arrival, now: Time) -> Vec<Vec<u8>> {
        let mut octets = octets.to_vec();
        self.datapath.begin(now);
        self.units.clear();
        self.datapath.inbound(&mut octets, arrival, &mut self.units);
        let packets = self.units.units().map(|unit| {
            let mut packet = unit.header.get(VNET_HDR_LEN..).unwrap_or_default().to_vec();
            let payload = unit.payload.iter().filter_map(|range| octets.get(range.clone()));
            payload.for_each(|part| packet.extend_from_slice(part));
            packet
        });
        packets.collect()
    }

    /// Where the packets sent last went, run by run.
    pub fn targets(&self) -> Vec<SocketAddr> {
        self.batch.runs().map(|run| run.to).collect()
    }

    /// The marks of the packets sent last, run by run.
    pub fn marks(&self) -> Vec<Marks> {
        self.batch.runs().map(|run| run.marks).collect()
    }

    /// The same host with other treatment of packets that do not fit.
    #[must_use]
    pub fn with_oversize(mut self, oversize: Oversize) -> Self {
        self.datapath.too_big = PacketTooBig::new(oversize);
        self
    }

    /// How many senders were told that a packet did not fit.
    pub fn told(&self) -> u64 {
        self.datapath.counters().told_too_big.get()
    }

    /// How many packets were dropped for a reason.
    pub fn dropped(&self, direction: Direction, reason: DropReason) -> u64 {
        self.datapath.counters().street(direction).dropped(reason)
    }

    /// Every reason for which packets were dropped, with the count.
    pub fn drops(&self) -> Vec<(Direction, DropReason, u64)> {
        let all = [Direction::Inbound, Direction::Outbound].into_iter().flat_map(|direction| {
            DropReason::ALL.iter().map(move |&reason| (direction, reason, self.dropped(direction, reason)))
        });
        all.filter(|(_, _, count)| *count > 0).collect()
    }
}
