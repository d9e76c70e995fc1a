//! The model of publication (L-74), checked over every interleaving that loom finds:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p latchway-datapath --test loom_publish --release
//! ```
//!
//! Under `--cfg loom` the slot that holds the newest snapshot is a twin of the one on crossbeam-epoch: the same release and
//! acquire on one pointer, and memory that is never freed early. What epochs add, the safe destruction of what was
//! replaced, is crossbeam's own to prove; everything that is ours (seats, ids, fences) is the shipped code.
#![cfg(loom)]

use std::sync::Arc;

use latchway_datapath::low::publish::Publisher;
use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
use loom::thread;

/// Says, while a snapshot is in use, which it is; 0 when none is.
type InUse = loom::sync::Arc<AtomicU64>;

/// After a grace no reader uses an older snapshot, whether it was active or quiescent when it began, and the grace ends.
#[test]
fn no_reader_uses_an_old_snapshot_after_the_grace() {
    loom::model(|| {
        let publisher = Publisher::new(Arc::new(1));
        let mut reader = publisher.reader();
        let in_use = InUse::new(AtomicU64::new(0));
        let seen = InUse::clone(&in_use);
        let worker = thread::spawn(move || {
            let mut last = 0;
            for batch in 0..2 {
                let value = **reader.adopt().0;
                assert!(value >= last, "snapshots went backwards");
                last = value;
                seen.store(value, SeqCst);
                seen.store(0, SeqCst);
                if batch == 0 {
                    reader.quiesce();
                }
            }
        });
        let id = publisher.publish(Arc::new(2));
        publisher.grace(id);
        assert_ne!(in_use.load(SeqCst), 1, "the old snapshot is in use after the grace");
        worker.join().unwrap();
        assert!(publisher.is_settled(id));
    });
}

/// A reader that stays active without batches between is waited for until its next one.
#[test]
fn a_grace_waits_for_the_batch_in_flight() {
    loom::model(|| {
        let publisher = Publisher::new(Arc::new(1));
        let mut reader = publisher.reader();
        assert_eq!(**reader.adopt().0, 1);
        let in_use = InUse::new(AtomicU64::new(1));
        let seen = InUse::clone(&in_use);
        let worker = thread::spawn(move || {
            // The batch that began before the publication ends here.
            seen.store(0, SeqCst);
            seen.store(**reader.adopt().0, SeqCst);
            seen.store(0, SeqCst);
        });
        let id = publisher.publish(Arc::new(2));
        publisher.grace(id);
        assert_ne!(in_use.load(SeqCst), 1, "the old snapshot is in use after the grace");
        worker.join().unwrap();
    });
}

/// Two publications in a row: the reader may skip one, and the grace of the second covers both.
#[test]
fn a_reader_may_skip_a_snapshot() {
    loom::model(|| {
        let publisher = Publisher::new(Arc::new(1));
        let mut reader = publisher.reader();
        let in_use = InUse::new(AtomicU64::new(0));
        let seen = InUse::clone(&in_use);
        let worker = thread::spawn(move || {
            seen.store(**reader.adopt().0, SeqCst);
            seen.store(0, SeqCst);
        });
        publisher.publish(Arc::new(2));
        let id = publisher.publish(Arc::new(3));
        publisher.grace(id);
        let value = in_use.load(SeqCst);
        assert!(value == 0 || value == 3, "snapshot {value} is in use after the grace of 3");
        worker.join().unwrap();
    });
}
