//! How latches break for SAs that are about to be, in every interleaving of a worker and the key manager (L-74, L-88;
//! latching-04 section 2.1).
//!
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p latchway-ulp-shim --lib loom_`
//!
//! Publication, snapshots, the state clock, the Latch Database and the shim are those that ship; of the worker there are
//! the steps by which it takes a batch up, and of the key manager those by which it brings an SA into force. Without the
//! grace after what is pending, the latch that is born beside it is missed; without the one after the break, a packet
//! passes after it was told of; and where a latch is in force again before its version says so, a stale packet passes.

use std::sync::{Arc as StdArc, Mutex};

use etherparse::PacketBuilder;
use latchway_datapath::drop::DropReason::{LatchBarred, LatchBroken, NoSa, StaleVersion};
use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::event::event_queue;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{BreakReason, LatchState, LatchTerms};
use latchway_datapath::low::publish::{Publisher, Reader};
use latchway_datapath::packet::IpPacket;
use latchway_datapath::sad::Usage;
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::spd::{Action, Protection, Rule, Spd};
use latchway_datapath::testing::{SaOptions, inbound_entry, selectors};
use latchway_datapath::time::Time;
use latchway_datapath::ulp::Context;
use latchway_tagging::{
    AuthMethod, ClassId, Credential, Identity, IdentityLimit, IdentityRecord, IdentityTable, InboundTag,
    SnapshotId, StateClock, StateVersion, WorkerId,
};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
use loom::thread;

use crate::database::{Begin, LatchDatabase};
use crate::limits::Limits;
use crate::shim::Shim;
use crate::table::Seed;

/// The class of the peer whose connection it is, and the one of a peer that claims the same addresses.
const HOLDER: ClassId = ClassId::from_raw(1);
const NEWCOMER: ClassId = ClassId::from_raw(2);

/// L-74: while the newcomer's SA comes into force, packets of the holder's connection and the newcomer's own arrive. None
/// of the newcomer's passes for the holder's latch, and none of anybody's after the break was told.
#[test]
fn loom_l_74_nothing_passes_a_latch_after_its_break_was_told() {
    let verdicts = model(|world| {
        world.establish();
        let worker = world.worker();
        let told = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&told);
        let racer = thread::spawn(move || {
            let mut worker = worker;
            worker.batch(|batch| {
                assert_ne!(batch.receives(NEWCOMER), Ok(()), "the newcomer passed for the holder");
                if batch.receives(HOLDER) == Ok(()) {
                    assert_eq!(seen.load(SeqCst), 0, "the latch was told to be broken");
                }
            });
        });
        world.admit_newcomer(|| told.store(1, SeqCst));
        racer.join().unwrap();
        assert_eq!(world.state(), Some(LatchState::Broken));
    });
    assert_eq!(
        verdicts,
        [
            (HOLDER, Ok(())),
            (HOLDER, Err(StaleVersion)),
            (HOLDER, Err(LatchBroken)),
            (NEWCOMER, Err(NoSa)),
            (NEWCOMER, Err(LatchBroken))
        ]
    );
}

/// L-71, L-74: while the newcomer's SA comes into force, a connection of the holder's begins. Its latch is refused, or
/// found and broken.
#[test]
fn loom_l_71_no_latch_is_born_beside_what_breaks_it() {
    let verdicts = model(|world| {
        let worker = world.worker();
        let racer = thread::spawn(move || {
            let mut worker = worker;
            worker.batch(|batch| batch.receives(HOLDER).is_ok())
        });
        world.admit_newcomer(|| ());
        let began = racer.join().unwrap();
        assert_eq!(world.state(), began.then_some(LatchState::Broken));
    });
    assert_eq!(verdicts, [(HOLDER, Ok(())), (HOLDER, Err(LatchBarred))]);
}

/// L-71: once the newcomer's SA is in force beside the holder's, a connection of neither begins, and before it is none of
/// the newcomer's does.
#[test]
fn loom_l_71_nothing_of_the_newcomer_begins_while_two_peers_claim_a_flow() {
    let verdicts = model(|world| {
        let worker = world.worker();
        let racer = thread::spawn(move || {
            let mut worker = worker;
            for _ in 0..2 {
                worker.batch(|batch| assert!(batch.receives(NEWCOMER).is_err()));
            }
        });
        world.admit_newcomer(|| ());
        racer.join().unwrap();
        assert_eq!(world.state(), None);
    });
    assert_eq!(verdicts, [(NEWCOMER, Err(NoSa)), (NEWCOMER, Err(LatchBarred))]);
}

/// L-88, C-31, R-12: a latch breaks and is put into force again while a packet is under way. It passes before the break,
/// or if it was opened after the latch was in force again.
#[test]
fn loom_l_88_what_was_opened_before_a_latch_is_in_force_again_does_not_pass() {
    let verdicts = model(|world| {
        world.establish();
        let worker = world.worker();
        let opened_by = world.clock.now().raw();
        let broken = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&broken);
        let racer = thread::spawn(move || {
            let mut worker = worker;
            worker.batch(|batch| {
                let broken = seen.load(SeqCst) == 1;
                // Broken at the next version, in force again at the one after that.
                if batch.receives(HOLDER) == Ok(()) && broken {
                    assert!(batch.version.raw() >= opened_by + 2, "it is from before");
                }
            });
        });
        let id = world.database.find(&flow()).unwrap();
        assert!(world.database.suspend(id, BreakReason::Conflict, Some(NEWCOMER), Time::default()));
        broken.store(1, SeqCst);
        assert!(world.database.restore(id, Time::default()));
        racer.join().unwrap();
        assert_eq!(world.state(), Some(LatchState::Established));
    });
    assert_eq!(verdicts, [(HOLDER, Ok(())), (HOLDER, Err(StaleVersion)), (HOLDER, Err(LatchBroken))]);
}

/// Checks every interleaving of what happens in a world. Returns the verdicts there were in any of them, by class. SAs and
/// packets are made outside: the threads of a model have too little stack for that.
fn model(check: impl Fn(World) + Send + Sync + 'static) -> Vec<Verdict> {
    let snapshots = [None, Some(Usage::Pending), Some(Usage::Active)].map(snapshot);
    let datagram: StdArc<[u8]> = StdArc::from(datagram());
    let verdicts = Verdicts::default();
    let seen = Verdicts::clone(&verdicts);
    loom::model(move || {
        check(World::new(snapshots.clone(), StdArc::clone(&datagram), Verdicts::clone(&seen)));
    });
    let mut verdicts = verdicts.lock().unwrap().clone();
    verdicts.sort_by_key(|(class, verdict)| (*class, verdict.err().map(|reason| reason as u8)));
    verdicts
}

/// What became of a packet of a class.
type Verdict = (ClassId, Result<(), DropReason>);

/// Kept from one interleaving to the next, so that it is none of the model's.
type Verdicts = StdArc<Mutex<Vec<Verdict>>>;

/// What the two share.
struct World {
    clock: StdArc<StateClock>,
    database: StdArc<LatchDatabase>,
    publisher: Publisher<Snapshot>,
    pending: StdArc<Snapshot>,
    active: StdArc<Snapshot>,
    datagram: StdArc<[u8]>,
    verdicts: Verdicts,
}

/// A worker, and how it reads snapshots.
struct Worker {
    shim: Shim,
    clock: StdArc<StateClock>,
    reader: Reader<Snapshot>,
    datagram: StdArc<[u8]>,
    verdicts: Verdicts,
}

/// What a worker goes by from the start of a batch to its end.
struct Batch<'w> {
    shim: &'w Shim,
    snapshot: &'w Snapshot,
    version: StateVersion,
    datagram: &'w [u8],
    verdicts: &'w Verdicts,
}

impl World {
    /// A gateway where the holder's SA is in force.
    fn new(snapshots: [StdArc<Snapshot>; 3], datagram: StdArc<[u8]>, verdicts: Verdicts) -> Self {
        let [first, pending, active] = snapshots;
        let clock = StdArc::new(StateClock::new());
        let limits = Limits { classes: 1, ..Limits::for_flows(1) };
        let database = LatchDatabase::new(limits, StdArc::clone(&clock), Seed::Fixed(1)).unwrap();
        let mut identities = IdentityTable::new(IdentityLimit::default());
        for (class, name) in [(HOLDER, "holder"), (NEWCOMER, "newcomer")] {
            let record = IdentityRecord {
                asserted: Identity::Fqdn(name.into()),
                authorised: None,
                method: AuthMethod::PreSharedKey,
                credential: Credential::None,
            };
            let peer = identities.acquire(&record).unwrap();
            database.peers().publish(class, peer, record.method, 0).unwrap();
        }
        let publisher = Publisher::new(first);
        Self { clock, database: StdArc::new(database), publisher, pending, active, datagram, verdicts }
    }

    /// The holder has a connection.
    fn establish(&self) {
        let begin = Begin::Established { class: HOLDER, version: self.clock.now() };
        self.database.connect(&flow(), begin, LatchTerms::default(), Time::default()).unwrap();
    }

    fn worker(&self) -> Worker {
        let shim = Shim::new(StdArc::clone(&self.database), WorkerId(0), event_queue().0);
        Worker {
            shim,
            clock: StdArc::clone(&self.clock),
            reader: self.publisher.reader(),
            datagram: StdArc::clone(&self.datagram),
            verdicts: Verdicts::clone(&self.verdicts),
        }
    }

    /// Brings the newcomer's SA into force, as the key manager does; `tell` is where it tells of what broke for that.
    fn admit_newcomer(&self, tell: impl Fn()) {
        self.publisher.grace(self.publish(&self.pending));
        for latch in self.database.conflicting(&selectors(1, 2), NEWCOMER) {
            self.database.suspend(latch.id, BreakReason::Conflict, Some(NEWCOMER), Time::default());
        }
        self.publisher.grace(self.publisher.publish(StdArc::clone(&self.pending)));
        assert!(self.database.conflicting(&selectors(1, 2), NEWCOMER).is_empty(), "born after the grace");
        tell();
        self.publish(&self.active);
    }

    fn publish(&self, snapshot: &StdArc<Snapshot>) -> u64 {
        self.clock.advance();
        self.publisher.publish(StdArc::clone(snapshot))
    }

    fn state(&self) -> Option<LatchState> {
        self.database.flow(&flow()).and_then(|flow| flow.latch)
    }
}

impl Worker {
    /// Takes up a batch, as the datapath does: the snapshot, then the version, then packets.
    fn batch<T>(&mut self, judge: impl FnOnce(&Batch<'_>) -> T) -> T {
        let (snapshot, _) = self.reader.adopt();
        let batch = Batch {
            shim: &self.shim,
            snapshot,
            version: self.clock.now(),
            datagram: &self.datagram,
            verdicts: &self.verdicts,
        };
        judge(&batch)
    }
}

impl Batch<'_> {
    /// The verdict on a datagram under the SA of a class.
    fn receives(&self, class: ClassId) -> Result<(), DropReason> {
        let verdict = self.judge(class);
        let mut verdicts = self.verdicts.lock().unwrap();
        if !verdicts.contains(&(class, verdict)) {
            verdicts.push((class, verdict));
        }
        verdict
    }

    fn judge(&self, class: ClassId) -> Result<(), DropReason> {
        let mut slots = self.snapshot.sad.iter().filter(|slot| slot.entry.class == class);
        let slot = slots.find(|slot| slot.usage != Usage::Pending).ok_or(NoSa)?;
        let tag = InboundTag { class, sa: slot.entry.sa, version: self.version };
        let context = Context { snapshot: self.snapshot, version: self.version, now: Time::default() };
        let packet = IpPacket::parse(self.datagram, Direction::Inbound).unwrap();
        self.shim.judge_inbound(&packet, &tag, &context)
    }
}

fn flow() -> FlowKey {
    FlowKey::new(protocol::UDP, ([10, 0, 1, 1], 40_000).into(), ([10, 0, 2, 1], 80).into())
}

/// A datagram from the remote side of the flow.
fn datagram() -> Vec<u8> {
    let mut octets = Vec::new();
    let udp = PacketBuilder::ipv4([10, 0, 2, 1], [10, 0, 1, 1], 64).udp(80, 40_000);
    udp.write(&mut octets, &[]).unwrap();
    octets
}

/// The holder's SA in force, and the newcomer's, once it is there. The policy latches every connection.
fn snapshot(newcomer: Option<Usage>) -> StdArc<Snapshot> {
    let mut snapshot = Snapshot { id: id_of(newcomer), ..Snapshot::default() };
    let rule = |selector| Rule::new(selector, None, Action::Protect(Protection::LATCHED));
    snapshot.spd = Spd::new(selectors(1, 2).into_iter().map(rule).collect());
    let options = [(HOLDER, Some(Usage::Active)), (NEWCOMER, newcomer)];
    for (index, (class, usage)) in (0..).zip(options) {
        let Some(usage) = usage else { continue };
        let options = SaOptions { class: class.raw(), ..SaOptions::new(0x1000 + index, index) };
        snapshot.sad.insert(inbound_entry(1, 2, &options).unwrap(), usage).unwrap();
    }
    StdArc::new(snapshot)
}

const fn id_of(newcomer: Option<Usage>) -> SnapshotId {
    SnapshotId::from_raw(match newcomer {
        None => 1,
        Some(Usage::Pending) => 2,
        Some(_) => 3,
    })
}
