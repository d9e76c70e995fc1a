//! What threads do to one latch at the same time, in every interleaving.
//!
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p latchway-ulp-shim --lib loom_`

use std::sync::Arc as StdArc;

use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{BreakReason, LatchState, LatchTerms};
use latchway_datapath::time::Time;
use latchway_tagging::{
    AuthMethod, ClassId, Credential, Identity, IdentityLimit, IdentityRecord, IdentityTable, StateClock,
};
use loom::sync::Arc;
use loom::thread;

use crate::database::{Begin, LatchDatabase};
use crate::limits::Limits;
use crate::table::Seed;

const A: ClassId = ClassId::from_raw(1);
const B: ClassId = ClassId::from_raw(2);

fn flow() -> FlowKey {
    FlowKey::new(protocol::TCP, ([10, 0, 0, 1], 1).into(), ([10, 0, 0, 2], 2).into())
}

/// A database with room for one latch, and two classes of two peers.
fn database() -> Arc<LatchDatabase> {
    let limits = Limits { classes: 1, ..Limits::for_flows(1) };
    let database = LatchDatabase::new(limits, StdArc::new(StateClock::new()), Seed::Fixed(1)).unwrap();
    let mut identities = IdentityTable::new(IdentityLimit::default());
    for (class, name) in [(A, "a"), (B, "b")] {
        let record = IdentityRecord {
            asserted: Identity::Fqdn(name.into()),
            authorised: None,
            method: AuthMethod::PreSharedKey,
            credential: Credential::None,
        };
        let peer = identities.acquire(&record).unwrap();
        database.peers().publish(class, peer, record.method, 0).unwrap();
    }
    Arc::new(database)
}

fn larval(database: &LatchDatabase) -> latchway_datapath::latching::LatchId {
    database.connect(&flow(), Begin::Larval, LatchTerms::default(), Time::default()).unwrap()
}

/// L-37, R-15: two classes are offered to a LARVAL latch; one is its class for good, and the counters say so.
#[test]
fn loom_r_15_a_larval_latch_gets_one_class() {
    loom::model(|| {
        let database = database();
        let id = larval(&database);
        let other = Arc::clone(&database);
        let racer = thread::spawn(move || {
            let found = other.by_id(id).unwrap();
            other.promote(found, B).is_ok()
        });
        let mine = database.promote(database.by_id(id).unwrap(), A).is_ok();
        let theirs = racer.join().unwrap();
        assert!(mine != theirs, "one, and only one");
        let (won, lost) = if mine { (A, B) } else { (B, A) };
        let view = database.inquire(id).unwrap();
        assert_eq!((view.state, view.class), (LatchState::Established, Some(won)));
        assert_eq!((database.peers.latches(won), database.peers.latches(lost)), (1, 0));
        assert!(database.strict_others(lost) && !database.strict_others(won));
    });
}

/// L-56: a latch is closed while an SA establishes it: it is CLOSED either way, and counted for what it holds.
#[test]
fn loom_l_20_a_latch_that_is_closed_while_it_is_established_is_closed() {
    loom::model(|| {
        let database = database();
        let id = larval(&database);
        let other = Arc::clone(&database);
        let racer =
            thread::spawn(move || other.by_id(id).is_some_and(|found| other.promote(found, A).is_ok()));
        assert!(database.close(id, BreakReason::Administrative, Time::default()));
        let promoted = racer.join().unwrap();
        let view = database.inquire(id).unwrap();
        assert_eq!((view.state, view.class), (LatchState::Closed, promoted.then_some(A)));
        assert_eq!(database.peers.latches(A), u32::from(promoted));
        assert!(!database.strict_others(B), "it is not in force");
    });
}

/// D.2: a class is retired while a latch of it is born: either it is refused, or the class keeps its place.
#[test]
fn loom_d_2_a_class_is_not_given_away_under_a_latch() {
    loom::model(|| {
        let database = database();
        let other = Arc::clone(&database);
        let racer = thread::spawn(move || other.peers.enter(A));
        database.peers.retire(A);
        let entered = racer.join().unwrap();
        assert_eq!(database.peers.latches(A), u32::from(entered));
        assert!(!database.peers.enter(A), "nobody can say any more whose it is");
        if entered {
            database.peers.leave(A);
        }
        assert_eq!(database.peers.latches(A), 0);
    });
}
