//! The table against threads, and against every interleaving of a few.

use super::*;

fn is_new(inserted: Inserted) -> bool {
    matches!(inserted, Inserted::New(_))
}

#[cfg(not(loom))]
mod real {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    /// A slot's body, recognisable as the key's.
    fn fill(key: Key) -> impl Fn(Head, &Slot) {
        move |_, slot| slot.class.store(key[0], Ordering::Relaxed)
    }

    fn class(slot: &Slot) -> u64 {
        slot.class.load(Ordering::Relaxed)
    }

    #[test]
    fn t37_i_a_full_table_refuses_and_forgets_nothing() {
        let table = FlowTable::new(100, Seed::Fixed(1));
        for n in 0..100 {
            let key = [n, 0, 0, 0, 0];
            assert!(table.insert(&key, 0, fill(key)).is_ok_and(is_new), "flow {n}");
            assert_eq!(table.insert(&key, 0, fill(key)), Ok(Inserted::Existing));
        }
        assert_eq!(table.insert(&[100; 5], 0, fill([100; 5])), Err(TableFull));
        for n in 0..100 {
            assert_eq!(table.find(&[n, 0, 0, 0, 0], class).map(|(_, class)| class), Some(n));
        }
        let (found, _) = table.find(&[7, 0, 0, 0, 0], class).unwrap();
        assert!(table.remove(found));
        assert!(!table.remove(found), "once");
        assert!(table.find(&[7, 0, 0, 0, 0], class).is_none());
        assert!(table.insert(&[100; 5], 0, fill([100; 5])).is_ok_and(is_new));
        assert!(table.by_id(found.id, class).is_none(), "L-64: a stale handle names nothing");
    }

    #[test]
    fn one_flow_takes_no_more_than_it_says() {
        let index = 2 * size_of::<u64>();
        assert_eq!(size_of::<Slot>() + size_of::<Offender>() + index, crate::limits::OCTETS_PER_FLOW);
    }

    #[test]
    fn as_many_flows_as_slots_all_find_a_place_in_the_index() {
        let flows = 50_000;
        let table = FlowTable::new(flows, Seed::Fixed(3));
        for n in 0..u64::from(flows) {
            let key = [n, n ^ 5, 1, 2, 3];
            assert!(table.insert(&key, 0, fill(key)).is_ok_and(is_new), "flow {n}");
        }
    }

    /// Four threads insert the same few flows, and each removes what it inserted: an entry excludes all others of its
    /// flow, and no reader ever sees another flow's slot.
    #[test]
    fn t37_a_workers_at_the_same_flows_exclude_each_other() {
        let table = FlowTable::new(8, Seed::Fixed(9));
        let (barrier, rounds) = (Barrier::new(4), 20_000u64);
        let entries: [std::sync::atomic::AtomicU64; 4] = Default::default();
        thread::scope(|scope| {
            for worker in 0..4u64 {
                let (table, barrier, entries) = (&table, &barrier, &entries);
                scope.spawn(move || {
                    barrier.wait();
                    for round in 0..rounds {
                        let flow = (round * 7 + worker) % 3 + 1;
                        let key = [flow, 0, 0, 0, 0];
                        let inserted = table.insert(&key, 1, fill(key)).is_ok_and(is_new);
                        let count = &entries[flow as usize];
                        assert!(!inserted || count.fetch_add(1, Ordering::SeqCst) == 0, "two entries");
                        if let Some((found, class)) = table.find(&key, class) {
                            assert_eq!(class, flow);
                            if inserted {
                                count.fetch_sub(1, Ordering::SeqCst);
                                assert!(table.remove(found));
                            }
                        } else {
                            assert!(!inserted, "an entry is found by whoever made it");
                        }
                    }
                });
            }
        });
        for key in 1..4 {
            while let Some((found, _)) = table.find(&[key, 0, 0, 0, 0], class) {
                assert!(table.remove(found));
            }
        }
        for n in 0..8 {
            assert!(
                table.insert(&[n + 10; 5], 0, fill([n + 10; 5])).is_ok_and(is_new),
                "every slot came back"
            );
        }
    }
}

/// `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test --release -p latchway-ulp-shim --lib loom_`
#[cfg(loom)]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    const KEY: Key = [1, 2, 3, 4, 5];

    fn fill(class: u64) -> impl Fn(Head, &Slot) {
        move |_, slot| slot.class.store(class, Ordering::Relaxed)
    }

    fn class(slot: &Slot) -> u64 {
        slot.class.load(Ordering::Relaxed)
    }

    /// T37 a: two workers race to begin one flow under two classes. One wins, both see the winner's class only.
    #[test]
    fn loom_t37_a_two_beginnings_of_a_flow_make_one_entry() {
        loom::model(|| {
            let table = Arc::new(FlowTable::new(2, Seed::Fixed(1)));
            let other = Arc::clone(&table);
            let racer = thread::spawn(move || other.insert(&KEY, 0, fill(7)).is_ok_and(is_new));
            let mine = table.insert(&KEY, 0, fill(8)).is_ok_and(is_new);
            let theirs = racer.join().unwrap();
            assert!(!(mine && theirs), "two winners");
            if mine || theirs {
                let (_, class) = table.find(&KEY, class).unwrap();
                assert_eq!(class, if mine { 8 } else { 7 });
            }
        });
    }

    /// A reader never takes the class of the flow that has the slot now for that of the flow it looks for.
    #[test]
    fn loom_l_64_a_recycled_slot_is_never_mistaken() {
        loom::model(|| {
            let table = Arc::new(FlowTable::new(1, Seed::Fixed(1)));
            assert!(table.insert(&KEY, 0, fill(7)).is_ok_and(is_new));
            let other = Arc::clone(&table);
            let reader = thread::spawn(move || other.find(&KEY, class).map(|(_, class)| class));
            let (found, _) = table.find(&KEY, class).unwrap();
            assert!(table.remove(found));
            assert!(table.insert(&[9; 5], 0, fill(8)).is_ok_and(is_new));
            assert!(matches!(reader.join().unwrap(), None | Some(7)));
        });
    }
}
