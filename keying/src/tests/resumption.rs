//! Keys whose numbers are on record go on where they were, and never begin again (T11, T12).

use latchway_datapath::sad::{Role, Sad};
use latchway_esp::{ConfigError, InboundSa, OutboundSa, ReceivedTop, Reservation, SeqNum, Suite};

use crate::testing::{at, keying, keys, proposal};
use crate::{
    Change, InstallError, KeyOrigin, Keying, Keys, NewPair, Op, PairId, Problem, Resumption, SaKeys,
    Transaction,
};

/// The same static keys each time, for a counter mode.
fn static_keys(spi: u32, resumption: Option<Resumption>) -> Keys {
    let direction = |spi: u32, octet| {
        let octets = [octet; 20];
        SaKeys::from_octets(spi, Suite::AES_128_GCM, &octets, latchway_esp::SequenceKind::Extended).unwrap()
    };
    let (inbound, outbound) = (direction(spi, 1), direction(spi | 0x8000_0000, 2));
    Keys { inbound, outbound, origin: KeyOrigin::Static, resumption, ..keys(spi, Suite::AES_128_GCM) }
}

/// A record of `sent` numbers taken and `received` accepted.
fn on_record(sent: u64, received: u64) -> (Option<Resumption>, Reservation, ReceivedTop) {
    let (reservation, top) = (Reservation::new(SeqNum(sent + 1000)), ReceivedTop::new());
    let (next, after) = (SeqNum(sent + 1), SeqNum(received));
    let resumption =
        Resumption { next, reservation: reservation.clone(), after, top: top.clone(), header: None };
    (Some(resumption), reservation, top)
}

fn install(keying: &mut Keying, keys: Keys, now: u64) -> Result<PairId, InstallError> {
    let offer = keying.propose(proposal("bob"), at(now)).unwrap();
    keying.install(offer.ticket, keys, at(now))
}

/// What its worker would take.
fn taken(sad: &Sad) -> (InboundSa, OutboundSa) {
    let inbound = sad.iter().find_map(|slot| match &slot.entry.role {
        Role::Inbound { sa, .. } => sa.take(),
        Role::Outbound { .. } => None,
    });
    let outbound = sad.iter().find_map(|slot| match &slot.entry.role {
        Role::Outbound { sa, .. } => sa.take(),
        Role::Inbound { .. } => None,
    });
    (inbound.unwrap(), outbound.unwrap())
}

#[test]
fn t12_static_keys_of_a_counter_mode_are_accepted_on_record_and_go_on_beyond_it() {
    let mut keying = keying();
    let refused = install(&mut keying, static_keys(0x1000, None), 0);
    assert_eq!(refused, Err(InstallError::StaticCounterMode(Suite::AES_128_GCM)));
    let (resumption, reservation, _) = on_record(5000, 70);
    install(&mut keying, static_keys(0x1000, resumption), 0).unwrap();
    let (inbound, mut outbound) = taken(&keying.snapshot().sad);
    assert_eq!(reservation.taken(), SeqNum(5000));
    assert!(outbound.take(1).is_ok());
    assert_eq!(reservation.taken(), SeqNum(5001));
    assert!(
        inbound.check(latchway_esp::SeqLow(70)).is_err() && inbound.check(latchway_esp::SeqLow(71)).is_ok()
    );
}

#[test]
fn t12_a_key_on_record_may_come_again_and_never_off_the_record() {
    let mut keying = keying();
    let first = install(&mut keying, static_keys(0x1000, on_record(0, 0).0), 0).unwrap();
    keying.poll(at(0));
    keying.commit(Transaction::new(vec![Op::Remove(first)]), at(0)).unwrap();
    keying.poll(at(120));
    let off = Keys { origin: KeyOrigin::Ephemeral, ..static_keys(0x1000, None) };
    assert!(matches!(install(&mut keying, off, 120), Err(InstallError::RepeatedKey(_))));
    assert!(install(&mut keying, static_keys(0x1000, on_record(100, 100).0), 120).is_ok());
    // Nor may a key that began at 1 come to be on a record that does not know of it.
    let mut other = crate::testing::keying();
    let off = Keys { origin: KeyOrigin::Ephemeral, ..static_keys(0x1000, None) };
    install(&mut other, off, 0).unwrap();
    let again = install(&mut other, static_keys(0x1001, on_record(0, 0).0), 0);
    assert!(matches!(again, Err(InstallError::RepeatedKey(_))));
}

#[test]
fn t11_a_dry_run_takes_nothing_of_a_reservation_and_the_change_takes_it_once() {
    let mut keying = keying();
    let (resumption, reservation, _) = on_record(0, 0);
    let twin = Resumption { reservation, ..on_record(0, 0).0.unwrap() };
    let add = vec![NewPair { proposal: proposal("bob"), keys: static_keys(0x1000, resumption) }];
    let change = Change { add, ..Change::default() };
    for _ in 0..3 {
        assert!(keying.check_change(&change).is_ok());
    }
    keying.begin_change(change, at(0)).unwrap();
    keying.poll(at(0));
    let mut keys = static_keys(0x1001, Some(twin));
    let fresh = crate::testing::keys(0x1001, Suite::AES_128_GCM);
    (keys.inbound, keys.outbound) = (fresh.inbound, fresh.outbound);
    let before = (keying.pairs(), keying.snapshot().id);
    let change = Change { add: vec![NewPair { proposal: proposal("bob"), keys }], ..Change::default() };
    let error = keying.begin_change(change, at(0)).unwrap_err();
    let in_use = Problem::Install(InstallError::Config(ConfigError::ReservationInUse));
    assert_eq!(error.faults[0].problem, in_use);
    assert_eq!((keying.pairs(), keying.snapshot().id), before);
}
