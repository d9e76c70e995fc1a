//! Rekeying: the same class, no gap, and nothing left behind (R-2, C-25, T33).

use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::sad::{Sad, Usage};
use latchway_datapath::traffic::Traffic;
use latchway_esp::Suite;
use latchway_tagging::WorkerId;

use crate::testing::{at, commit, keying, keys, path, proposal};
use crate::{Counts, Keying, Keys, Op, PairId, RekeyError, Transaction};

fn installed(keying: &mut Keying, spi: u32) -> PairId {
    let offer = keying.propose(proposal("bob"), at(0)).unwrap();
    let id = keying.install(offer.ticket, keys(spi, Suite::AES_128_GCM), at(0)).unwrap();
    keying.poll(at(0));
    id
}

/// The SPI by which a packet to bob would leave.
fn leaves_by(sad: &Sad) -> Option<u32> {
    let flow = FlowKey::new(protocol::TCP, "10.0.0.1:5".parse().unwrap(), "10.1.0.1:80".parse().unwrap());
    sad.select(&Traffic::of(&flow), None, None).map(|slot| slot.entry.spi.get() & 0xffff)
}

#[test]
fn r_2_a_rekey_keeps_the_class_and_always_leaves_an_sa_to_send_by() {
    let mut keying = keying();
    let old = installed(&mut keying, 0x1000);
    let class = keying.pairs()[0].class;
    let elsewhere = Keys { worker: WorkerId(3), ..keys(0x1001, Suite::AES_128_GCM) };
    let new = keying.rekey(old, elsewhere, at(0)).unwrap();
    assert_eq!(keying.pairs()[1].worker, keying.pairs()[0].worker, "the worker is kept");
    assert_eq!(leaves_by(&keying.snapshot().sad), Some(0x1000), "pending");
    keying.poll(at(0));
    assert_eq!(leaves_by(&keying.snapshot().sad), Some(0x1000), "the peer may not have it yet");
    assert_eq!(keying.pairs()[1].usage, Usage::Standby);
    let committed = commit(&mut keying, vec![Op::Activate(new), Op::Retire(old)]);
    assert_eq!((committed.activated, committed.retired), (vec![new], vec![old]));
    assert_eq!(leaves_by(&keying.snapshot().sad), Some(0x1001));
    assert_eq!(keying.pairs().iter().map(|pair| pair.class).collect::<Vec<_>>(), [class, class]);
    keying.commit(Transaction::new(vec![Op::Remove(old)]), at(0)).unwrap();
    assert_eq!(leaves_by(&keying.snapshot().sad), Some(0x1001));
    assert_eq!(keying.pairs().len(), 1);
}

#[test]
fn activating_what_is_active_does_not_make_it_the_newest() {
    let mut keying = keying();
    let (first, second) = (installed(&mut keying, 0x1000), installed(&mut keying, 0x1001));
    assert_eq!(leaves_by(&keying.snapshot().sad), Some(0x1001));
    let third = installed(&mut keying, 0x1002);
    let ops = vec![Op::Activate(first), Op::Remove(third)];
    assert_eq!(commit(&mut keying, ops).activated, []);
    assert_eq!(leaves_by(&keying.snapshot().sad), Some(0x1001));
    keying.commit(Transaction::new(vec![Op::Retire(second)]), at(0)).unwrap();
    assert_eq!(leaves_by(&keying.snapshot().sad), Some(0x1000));
}

#[test]
fn l_8_a_rekey_with_another_suite_is_refused() {
    let mut keying = keying();
    let old = installed(&mut keying, 0x1000);
    let other = keying.rekey(old, keys(0x1001, Suite::AES_256_GCM), at(0));
    assert!(matches!(other, Err(RekeyError::Install(crate::InstallError::OtherSuite { .. }))));
    let nobody = PairId::from_raw(7);
    let none = keying.rekey(nobody, keys(0x1001, Suite::AES_128_GCM), at(0));
    assert_eq!(none, Err(RekeyError::UnknownPair(nobody)));
}

/// T33: a hundred thousand rekeys, one every ten seconds.
#[test]
fn t33_rekeys_leave_nothing_behind_and_use_no_id_twice() {
    let mut keying = keying();
    let mut pair = installed(&mut keying, 0x1000);
    let (class, mut seen) = (keying.pairs()[0].class, keying.snapshot().id);
    let mut most_slots = 0;
    for n in 1..=100_000_u64 {
        let now = at(10 * n);
        let spi = 0x1000 + u32::try_from(n % 64).unwrap();
        let new = keying.rekey(pair, keys(spi, Suite::AES_128_GCM), now).unwrap();
        assert!(new > pair);
        assert_eq!(keying.poll(now).settled, [new]);
        keying.commit(Transaction::replace(pair, new), now).unwrap();
        keying.commit(Transaction::new(vec![Op::Remove(pair)]), now).unwrap();
        assert!(keying.snapshot().id > seen);
        (pair, seen) = (new, keying.snapshot().id);
        most_slots = most_slots.max(keying.counts().slots_ever_used);
    }
    assert_eq!(keying.pairs()[0].class, class);
    // Twelve rekeys fall into one rest; beside them the pair itself and its successor.
    assert!(most_slots <= 2 * (12 + 2 + 1), "{most_slots}");
    keying.commit(Transaction::new(vec![Op::Remove(pair)]), at(2_000_000)).unwrap();
    keying.poll(at(2_000_200));
    assert_eq!(keying.counts(), Counts { slots_ever_used: most_slots, ..Counts::default() });
    assert_eq!(keying.snapshot().sad.iter().count(), 0);
    // As far as it is rested, a slot is used again, under another generation.
    let offer = keying.propose(proposal("bob"), at(2_000_200)).unwrap();
    keying.install(offer.ticket, keys(0x1000, Suite::AES_128_GCM), at(2_000_200)).unwrap();
    let view = &keying.pairs()[0];
    assert!(view.inbound.sa.generation > 1 && view.outbound.sa.generation > 1);
    assert_eq!(keying.counts().slots_ever_used, most_slots);
}

/// C-17, L-32: a pair that leads elsewhere, as after a move or behind a NAT that changed its mind, is of the same class.
#[test]
fn c_17_r_2_outer_addresses_are_no_part_of_a_class() {
    let mut keying = keying();
    let old = installed(&mut keying, 0x1000);
    let elsewhere = Keys { path: path(4600), ..keys(0x1001, Suite::AES_128_GCM) };
    let new = keying.rekey(old, elsewhere, at(0)).unwrap();
    keying.poll(at(0));
    let pairs = keying.pairs();
    let [before, after] = [old, new].map(|id| pairs.iter().find(|pair| pair.id == id).unwrap());
    assert_ne!(before.path.to, after.path.to);
    assert_eq!(before.class, after.class);
}
