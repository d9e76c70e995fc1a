//! One worker's datapath: everything a packet meets between the TUN and the wire, without any I/O.

use std::sync::Arc;
use std::time::Duration;

use latchway_tagging::{ClassId, StateClock, StateVersion, WorkerId};

use crate::answer::Answer;
use crate::audit::Auditor;
use crate::drop::Counters;
use crate::event::{Event, Events};
use crate::flow::FlowKey;
use crate::fragments::FragmentFlows;
use crate::limit::Limit;
use crate::low::publish::Reader;
use crate::native::HeaderSource;
use crate::oversize::Oversize;
use crate::owned::OwnedSas;
use crate::packet_too_big::PacketTooBig;
use crate::pmtu::Paths;
use crate::prohibition::{Answers, Prohibition};
use crate::reply::Replies;
use crate::snapshot::Snapshot;
use crate::time::Time;
use crate::ulp::{Context, Ulp};

/// The datapath of one worker. [`outbound`](crate::outbound) and [`inbound`](crate::inbound) are its two streets.
pub struct Datapath<U> {
    pub(crate) ulp: U,
    pub(crate) sas: OwnedSas,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) version: StateVersion,
    pub(crate) now: Time,
    pub(crate) outbound_fragments: FragmentFlows,
    pub(crate) inbound_fragments: FragmentFlows,
    pub(crate) counters: Arc<Counters>,
    pub(crate) too_big: PacketTooBig,
    /// What the paths of the SAs are found to take.
    pub(crate) paths: Paths,
    /// How many senders may be told that their connection is over.
    pub(crate) refusals: Limit,
    pub(crate) prohibition: Prohibition,
    pub(crate) answer: Answer,
    pub(crate) replies: Replies,
    pub(crate) auditor: Auditor,
    pub(crate) headers: HeaderSource,
    /// Room for one packet that is looked at more closely.
    pub(crate) scratch: Box<[u8]>,
    /// Whether an SA reached its soft limit in this batch, to be told of with the next.
    pub(crate) soft_reached: bool,
    pub(crate) events: Events,
    acquires: Acquires,
    snapshots: Reader<Snapshot>,
    clock: Arc<StateClock>,
}

/// What a datapath shares with the rest of the gateway.
pub struct Shared {
    /// The published SAD and SPD.
    pub snapshots: Reader<Snapshot>,
    /// The counter of state versions.
    pub clock: Arc<StateClock>,
    /// What this worker counts.
    pub counters: Arc<Counters>,
    /// Where its events go.
    pub events: Events,
    /// How packets that do not fit their SA are treated.
    pub oversize: Oversize,
}

impl<U: Ulp> Datapath<U> {
    /// The datapath of `worker`, with the upper layer `ulp`.
    #[must_use]
    pub fn new(worker: WorkerId, ulp: U, shared: Shared) -> Self {
        let Shared { snapshots, clock, counters, events, oversize } = shared;
        Self {
            ulp,
            sas: OwnedSas::new(worker),
            snapshot: Arc::default(),
            version: clock.now(),
            now: Time::default(),
            outbound_fragments: FragmentFlows::of_one_class(),
            inbound_fragments: FragmentFlows::new(),
            counters,
            too_big: PacketTooBig::new(oversize),
            paths: Paths::default(),
            refusals: Limit::full(),
            prohibition: Prohibition::new(Answers::default()),
            answer: Answer::default(),
            replies: Replies::new(),
            auditor: Auditor::default(),
            headers: HeaderSource::new(),
            scratch: vec![0; LONGEST_PACKET].into_boxed_slice(),
            soft_reached: false,
            events,
            acquires: Acquires::default(),
            snapshots,
            clock,
        }
    }

    /// Starts a batch: reads the state version, then adopts the newest snapshot (L-88: in this order), then ends SAs
    /// whose time is over, and tells of those that reached a limit (T36).
    #[inline]
    pub fn begin(&mut self, now: Time) {
        self.now = now;
        self.version = self.clock.now();
        let (newest, changed) = self.snapshots.adopt();
        if changed {
            self.sas.adopt(&self.snapshot.sad, &newest.sad);
            let old = std::mem::replace(&mut self.snapshot, Arc::clone(newest));
            self.adopt_paths(&old.sad);
        }
        if std::mem::take(&mut self.soft_reached) {
            self.sas.look_soon();
        }
        let events = &self.events;
        self.sas.look(now, |event| events.send(event));
        self.expire_fragments();
    }

    /// Announces that no packet is in hand and none will be taken before the next [`begin`](Self::begin), so that a
    /// grace need not wait for this worker.
    #[inline]
    pub fn quiesce(&mut self) {
        self.snapshots.quiesce();
    }

    /// Ends a batch: what the upper layer has to forget, it forgets here and not in a packet's way.
    #[inline]
    pub fn end(&mut self) {
        self.ulp.sweep(self.now);
    }

    /// What this worker counts.
    #[must_use]
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The upper layer.
    pub const fn ulp(&mut self) -> &mut U {
        &mut self.ulp
    }

    /// Tells whoever listens; an event that finds no room is lost.
    pub(crate) fn tell(&self, event: Event) {
        self.events.send(event);
    }

    /// Asks for an SA for the flow, unless one was asked for a moment ago.
    pub(crate) fn acquire(&mut self, flow: &FlowKey, required: Option<ClassId>) {
        if self.acquires.is_due(flow, required, self.now) {
            self.events.send(Event::Acquire { flow: *flow, required });
        }
    }
}

/// Borrows what the upper layer is told of a batch, beside the fields that a street changes.
#[inline]
pub(crate) fn context(snapshot: &Snapshot, version: StateVersion, now: Time) -> Context<'_> {
    Context { snapshot, version, now }
}

/// The flows for which an SA was asked lately (L-60: one ACQUIRE, not one per packet).
#[derive(Debug, Default)]
struct Acquires {
    recent: [Option<(FlowKey, Option<ClassId>, Time)>; RECENT],
    next: usize,
}

const RECENT: usize = 16;

/// The longest IP packet: IPv6 counts its header extra.
const LONGEST_PACKET: usize = 40 + 65_535;

/// How long one ACQUIRE stands before the next for the same flow.
const ACQUIRE_INTERVAL: Duration = Duration::from_secs(1);

impl Acquires {
    fn is_due(&mut self, flow: &FlowKey, required: Option<ClassId>, now: Time) -> bool {
        let asked = |(of, class, at): &(FlowKey, Option<ClassId>, Time)| {
            of == flow && *class == required && now.since(*at) < ACQUIRE_INTERVAL
        };
        if self.recent.iter().flatten().any(asked) {
            return false;
        }
        if let Some(place) = self.recent.get_mut(self.next) {
            *place = Some((*flow, required, now));
        }
        self.next = (self.next + 1) % RECENT;
        true
    }
}
