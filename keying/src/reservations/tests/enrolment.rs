//! Who may hold which key, and from which number on (T11, T12, RFC 8221 section 3).

use std::num::NonZeroU32;

use latchway_esp::{
    AntiReplay, InboundConfig, InboundSa, ReceivedTop, SeqCounter, SeqNum, SequenceKind, Suite, TakeError,
};
use zeroize::Zeroizing;

use super::simulated::Simulated;
use super::{gcm, of};
use crate::SaKeys;
use crate::reservations::{EnrolError, Enrolled, Reservations, Role, Sending, StoreError, Use};

const KIND: SequenceKind = SequenceKind::Extended;

fn store() -> (Simulated, Reservations) {
    let disk = Simulated::new(1);
    let store = Reservations::create_on(Box::new(disk.clone()), Zeroizing::new([9; 32])).unwrap();
    (disk, store.with_block(NonZeroU32::new(100).unwrap()))
}

fn reopened(disk: &Simulated) -> Reservations {
    Reservations::open_on(Box::new(disk.clone())).unwrap().with_block(NonZeroU32::new(100).unwrap())
}

fn sender(sending: Sending) -> SeqCounter {
    SeqCounter::resume_at(KIND, sending.next).unwrap().within(sending.reservation).unwrap()
}

#[test]
fn a_key_never_seen_begins_at_1_and_one_that_was_beyond_its_block() {
    let (disk, mut store) = store();
    let sending = store.enrol_outbound(&gcm(256, 1)).unwrap();
    assert_eq!((sending.next, sending.reservation.bound()), (SeqNum(1), SeqNum(100)));
    let mut counter = sender(sending);
    let _ = counter.take(30).unwrap();
    // The process ends without a word.
    drop((counter, store));
    let mut store = reopened(&disk);
    let sending = store.enrol_outbound(&gcm(256, 1)).unwrap();
    assert_eq!((sending.next, sending.reservation.bound()), (SeqNum(101), SeqNum(200)));
    assert_eq!(store.enrol_outbound(&gcm(256, 2)).unwrap().next, SeqNum(1), "another key");
}

/// T12: in order, nothing is wasted; and what was given back is not given twice by a crash that follows.
#[test]
fn a_store_that_is_closed_knows_the_exact_number() {
    let (disk, mut store) = store();
    let mut counter = sender(store.enrol_outbound(&gcm(256, 1)).unwrap());
    let _ = counter.take(30).unwrap();
    drop(counter);
    store.close().unwrap();
    for (life, taken) in [(1, 30), (2, 130)] {
        let sending = reopened(&disk).enrol_outbound(&gcm(256, 1)).unwrap();
        assert_eq!(sending.next, SeqNum(taken + 1), "life {life}");
    }
}

/// T12: an SA that outlives the store may use up its block, so its block counts as used.
#[test]
fn an_sa_that_is_still_there_keeps_its_block() {
    let (disk, mut store) = store();
    let mut counter = sender(store.enrol_outbound(&gcm(256, 1)).unwrap());
    let _ = counter.take(30).unwrap();
    store.close().unwrap();
    let _ = counter.take(70).unwrap();
    assert_eq!(counter.take(1).unwrap_err(), TakeError::Unreserved { reserved: 0 });
    assert_eq!(reopened(&disk).enrol_outbound(&gcm(256, 1)).unwrap().next, SeqNum(101));
}

#[test]
fn an_sa_that_ended_frees_its_key_and_the_rest_of_its_block() {
    let (_disk, mut store) = store();
    let mut counter = sender(store.enrol_outbound(&gcm(256, 1)).unwrap());
    let _ = counter.take(30).unwrap();
    assert!(matches!(store.enrol_outbound(&gcm(256, 1)), Err(EnrolError::InUse(held)) if held.get() == 256));
    drop(counter);
    let sending = store.enrol_outbound(&gcm(256, 1)).unwrap();
    assert_eq!((sending.next, sending.reservation.bound()), (SeqNum(31), SeqNum(130)));
    drop(sending);
    assert_eq!(store.enrol_outbound(&gcm(256, 1)).unwrap().next, SeqNum(31), "none was taken");
}

#[test]
fn half_a_block_before_its_end_the_next_one_is_reserved() {
    let (_disk, mut store) = store();
    let sending = store.enrol_outbound(&gcm(256, 1)).unwrap();
    let reservation = sending.reservation.clone();
    let mut counter = sender(sending);
    for (take, bound) in [(49, 100), (1, 150), (24, 150), (26, 200), (100, 300), (0, 300)] {
        let _ = counter.take(take).unwrap();
        store.extend().unwrap();
        assert_eq!(reservation.bound(), SeqNum(bound), "{:?} taken", counter.taken());
    }
}

/// T12: under one key there is one counter, at one end.
#[test]
fn a_key_serves_one_direction_of_one_spi() {
    let (disk, mut store) = store();
    drop(store.enrol_outbound(&gcm(256, 1)).unwrap());
    drop(store.enrol_inbound(&gcm(257, 2)).unwrap());
    for mut store in [store, reopened(&disk)] {
        let refused = store.enrol_inbound(&gcm(256, 1)).unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, EnrolError::OtherDirection { role: Role::Outbound, .. }), "{text}");
        assert!(text.contains("serves outbound SPI 0x00000100: make a fresh key"), "{text}");
        let refused = store.enrol_outbound(&gcm(257, 2)).unwrap_err();
        assert!(matches!(refused, EnrolError::OtherDirection { role: Role::Inbound, .. }), "{refused}");
        for refused in
            [store.enrol_outbound(&gcm(300, 1)).unwrap_err(), store.enrol_inbound(&gcm(300, 2)).unwrap_err()]
        {
            assert!(matches!(refused, EnrolError::OtherSpi { .. }), "{refused}");
        }
    }
}

/// One write for all of a configuration, and none of it where any of it is refused.
#[test]
fn pairs_are_enrolled_all_or_none() {
    let (disk, mut store) = store();
    let pair = |spi, inbound, outbound| {
        let keys = crate::testing::keys(spi, Suite::AES_128_GCM);
        crate::Keys { inbound: gcm(spi, inbound), outbound: gcm(spi, outbound), ..keys }
    };
    let (first, second) = (pair(256, 1, 2), pair(257, 3, 4));
    let resumed = store.enrol(&[&first, &second]).unwrap();
    assert!(resumed.iter().all(|one| (one.next, one.after) == (SeqNum(1), SeqNum(0))));
    assert!(matches!(store.enrol(&[&first]), Err(EnrolError::InUse(_))));
    drop(resumed);
    for bad in [pair(258, 5, 5), pair(258, 4, 6), pair(258, 6, 2), pair(258, 2, 6)] {
        store.enrol(&[&second, &pair(300, 7, 8), &bad]).unwrap_err();
    }
    disk.medium().refusals = 100;
    assert!(matches!(store.enrol(&[&second, &pair(300, 7, 8)]), Err(EnrolError::Store(_))));
    disk.medium().refusals = 0;
    assert_eq!(store.entries.len(), 4, "no trace of what was refused");
    let resumed = store.enrol(&[&first, &second, &pair(300, 8, 7)]).unwrap();
    assert!(resumed.iter().all(|one| one.next == SeqNum(1)), "nothing was taken");
    let wrote = disk.medium().written;
    drop(resumed);
    store.enrol(&[&first, &second]).unwrap();
    assert_eq!(disk.medium().written, wrote + 1);
}

/// T12: a question leaves no trace: the key may still serve another SPI, nobody holds it, and no number can be taken.
#[test]
fn t12_a_rehearsal_enrols_nothing_and_gives_no_number() {
    let (disk, mut store) = store();
    let pair = |spi, inbound, outbound| {
        let keys = crate::testing::keys(spi, Suite::AES_128_GCM);
        crate::Keys { inbound: gcm(spi, inbound), outbound: gcm(spi, outbound), ..keys }
    };
    let held = store.enrol(&[&pair(256, 1, 2)]).unwrap();
    let (wrote, known) = (disk.medium().written, store.entries.len());
    let rehearsed = store.rehearse(&[&pair(257, 3, 4)]).unwrap().remove(0);
    assert_eq!((rehearsed.next, rehearsed.reservation.bound()), (SeqNum(1), SeqNum(0)));
    assert!(matches!(store.rehearse(&[&pair(257, 3, 4), &pair(256, 1, 2)]), Err(EnrolError::InUse(_))));
    assert_eq!((disk.medium().written, store.entries.len()), (wrote, known));
    drop(held);
    assert_eq!(store.rehearse(&[&pair(256, 1, 2)]).unwrap().remove(0).next, SeqNum(1));
    store.enrol(&[&pair(300, 4, 3), &pair(256, 1, 2)]).unwrap();
}

/// T12: a key that was said to be fresh is fresh once, in this life and in every later one, and on record never.
#[test]
fn t12_a_fresh_key_is_fresh_once() {
    let (disk, mut store) = store();
    let (fresh, other) = (gcm(256, 1), gcm(257, 2));
    store.rehearse_each(&[Use::Fresh(&fresh)]).unwrap();
    assert!(!store.knows(&fresh), "a question notes nothing");
    assert!(matches!(store.enrol_each(&[Use::Fresh(&fresh)]).unwrap()[..], [Enrolled::Fresh]));
    drop(store.enrol_outbound(&other).unwrap());
    for mut store in [store, reopened(&disk)] {
        assert!(store.knows(&fresh));
        for again in [Use::Fresh(&fresh), Use::Sending(&fresh), Use::Receiving(&fresh)] {
            let fault = store.enrol_each(&[Use::Fresh(&gcm(258, 3)), again]).unwrap_err();
            assert!(matches!(fault.error, EnrolError::Unrecorded(_)), "{fault}");
            assert_eq!(fault.place, Some(1));
            assert!(fault.to_string().contains("make a fresh key"), "{fault}");
        }
        assert!(!store.knows(&gcm(258, 3)), "all or none");
        let fault = store.enrol_each(&[Use::Fresh(&other)]).unwrap_err();
        assert!(matches!(fault.error, EnrolError::Recorded(_)), "{fault}");
        assert!(store.enrol_each(&[Use::Fresh(&gcm(258, 3)), Use::Fresh(&gcm(259, 3))]).is_err(), "twice");
    }
}

/// One write for a whole batch, and no trace of it where the disk refuses.
#[test]
fn single_keys_are_enrolled_all_or_none() {
    let (disk, mut store) = store();
    let keys: Vec<_> = (0..200).map(|n| gcm(256 + u32::from(n), n)).collect();
    let uses: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(n, keys)| match n % 3 {
            0 => Use::Sending(keys),
            1 => Use::Receiving(keys),
            _ => Use::Fresh(keys),
        })
        .collect();
    disk.medium().refusals = 100;
    let refused = store.enrol_each(&uses).unwrap_err();
    assert!(matches!(refused.error, EnrolError::Store(_)) && refused.place.is_none(), "{refused}");
    disk.medium().refusals = 0;
    assert!(!keys.iter().any(|keys| store.knows(keys)));
    let wrote = disk.medium().written;
    let enrolled = store.enrol_each(&uses).unwrap();
    assert_eq!(disk.medium().written, wrote + 1);
    assert!(keys.iter().all(|keys| store.knows(keys)) && enrolled.len() == 200);
    let fault = store.rehearse_each(&uses[..1]).unwrap_err();
    assert!(matches!(fault.error, EnrolError::InUse(_)), "{fault}");
}

/// Another suite under the same octets, or another salt, has other nonces.
#[test]
fn suite_and_salt_tell_keys_apart() {
    let (_disk, mut store) = store();
    let mut octets = [7; 36];
    let mut enrol = |suite, octets: &[u8]| {
        let keys = SaKeys::from_octets(256, suite, octets, KIND).unwrap();
        store.enrol_outbound(&keys).map(|sending| (sending.next, sending)).unwrap()
    };
    let (first, _one) = enrol(Suite::AES_256_GCM, &octets);
    let (second, _two) = enrol(Suite::CHACHA20_POLY1305, &octets);
    octets[35] = 8;
    let (third, _three) = enrol(Suite::AES_256_GCM, &octets);
    assert_eq!([first, second, third], [SeqNum(1); 3]);
}

/// T11, T12: a shorter ICV, an implicit IV, or another cipher of AES counters makes no other nonces; their numbers go on.
#[test]
fn suites_of_one_counter_go_on_with_each_other() {
    let (_disk, mut store) = store();
    let octets = [7; 72];
    let of = |name: &str| {
        let suite: Suite = name.parse().unwrap();
        SaKeys::from_octets(256, suite, &octets[..suite.material_len()], KIND).unwrap()
    };
    assert!(!store.knows(&of("aes-256-gcm")));
    drop(sender(store.enrol_outbound(&of("aes-256-gcm")).unwrap()).take(30));
    for (name, next) in [("aes-256-gcm-8", 31), ("aes-256-gcm-iiv", 31), ("aes-256-ctr-hmac-sha-256", 31)] {
        assert!(store.knows(&of(name)), "{name}");
        assert_eq!(store.enrol_outbound(&of(name)).unwrap().next, SeqNum(next), "{name}");
    }
    assert!(!store.knows(&of("aes-256-cbc-hmac-sha-256")));
}

#[test]
fn receivers_resume_beyond_what_was_noted() {
    let (disk, mut store) = store();
    let receiving = store.enrol_inbound(&gcm(256, 1)).unwrap();
    assert_eq!((receiving.after, receiving.top.seq()), (SeqNum(0), SeqNum(0)));
    assert!(matches!(store.enrol_inbound(&gcm(256, 1)), Err(EnrolError::InUse(_))));
    move_to(&receiving.top, 77);
    store.extend().unwrap();
    move_to(&receiving.top, 99);
    drop((receiving, store));
    let mut store = reopened(&disk);
    let receiving = store.enrol_inbound(&gcm(256, 1)).unwrap();
    assert_eq!(receiving.after, SeqNum(77));
    move_to(&receiving.top, 1000);
    drop(receiving);
    store.close().unwrap();
    assert_eq!(reopened(&disk).enrol_inbound(&gcm(256, 1)).unwrap().after, SeqNum(1000));
}

/// As an inbound SA under the key does.
fn move_to(top: &ReceivedTop, number: u64) {
    let SaKeys { spi, ref material, sequence, .. } = gcm(256, 1);
    let (suite, anti_replay, top) = (material.suite(), AntiReplay::Off, Some(top.clone()));
    let config = InboundConfig { spi, suite, keys: material, sequence, anti_replay, top };
    InboundSa::resume_after(config, SeqNum(number)).unwrap();
}

/// RFC 4303 section 3.3.3: a key whose numbers are spent stays so, and no block reaches beyond the last number.
#[test]
fn a_key_ends_with_its_numbers() {
    let (disk, mut store) = store();
    let last = u64::from(u32::MAX);
    let seq32 = SaKeys { sequence: SequenceKind::Seq32, ..gcm(256, 1) };
    let sending = store.enrol_outbound(&seq32).unwrap();
    let counter = SeqCounter::resume_at(SequenceKind::Seq32, SeqNum(last - 20)).unwrap();
    let reservation = sending.reservation.clone();
    let mut counter = counter.within(sending.reservation).unwrap();
    store.extend().unwrap();
    assert_eq!(reservation.bound(), SeqNum(last));
    let _ = counter.take(21).unwrap();
    assert_eq!(counter.take(1).unwrap_err(), TakeError::Exhausted { remaining: 0 });
    store.extend().unwrap();
    drop((counter, reservation));
    store.close().unwrap();
    let spent = reopened(&disk).enrol_outbound(&seq32);
    assert!(matches!(spent, Err(EnrolError::Spent(_))), "{spent:?}");
}

/// T12: a full disk stops senders at the end of their blocks, and nothing else; they go on when it has room again.
#[test]
fn a_full_disk_stops_sealing_and_not_for_good() {
    let (disk, mut store) = store();
    let mut counter = sender(store.enrol_outbound(&gcm(256, 1)).unwrap());
    disk.medium().refusals = 100;
    let _ = counter.take(60).unwrap();
    for _ in 0..3 {
        let text = store.extend().unwrap_err().to_string();
        assert!(text.contains("cannot write the store of numbers in /simulated: "), "{text}");
        assert!(text.contains("free space"), "{text}");
    }
    let _ = counter.take(40).unwrap();
    assert_eq!(counter.take(1).unwrap_err(), TakeError::Unreserved { reserved: 0 });
    assert!(matches!(store.enrol_outbound(&gcm(257, 2)), Err(EnrolError::Store(StoreError::Io { .. }))));
    disk.medium().refusals = 0;
    store.extend().unwrap();
    assert_eq!(counter.take(60).unwrap().next_seq().unwrap().number(), SeqNum(101));
    assert_eq!(store.enrol_outbound(&gcm(257, 2)).unwrap().next, SeqNum(1));
}

/// The disk is left alone where nothing changed.
#[test]
fn nothing_is_written_where_nothing_changed() {
    let (disk, mut store) = store();
    let sending = store.enrol_outbound(&gcm(256, 1)).unwrap();
    let receiving = store.enrol_inbound(&gcm(257, 2)).unwrap();
    disk.medium().refusals = 100;
    for _ in 0..10 {
        store.extend().unwrap();
    }
    drop((sending, receiving));
    assert!(store.extend().is_err(), "the rest of the block is free again");
}

/// T40.
#[test]
fn nothing_shows_a_key_or_the_secret() {
    let (_disk, mut store) = store();
    let sending = store.enrol_outbound(&gcm(256, 0xd7)).unwrap();
    let shown = format!("{store:?} {sending:?}");
    assert!(shown.contains("keys: 1"), "{shown}");
    for octet in ["215", "d7", "[9, 9"] {
        assert!(!shown.contains(octet), "{shown}");
    }
    let octets = store.disk.read().unwrap().unwrap();
    assert!(!octets.windows(8).any(|window| window == [0xd7; 8]), "the key itself is not in the file");
    assert!(octets.len() < 200);
    let cbc = store.enrol_outbound(&of(Suite::AES_256_CBC_HMAC_SHA_256, 258, 5)).unwrap();
    assert_eq!(cbc.next, SeqNum(1), "any suite may be enrolled");
}
