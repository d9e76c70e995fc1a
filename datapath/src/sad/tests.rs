//! What is said of an SA changes, and the SA goes on.

use std::sync::Arc;

use latchway_esp::Protocol;
use latchway_tagging::ClassId;

use super::*;
use crate::drop::Direction;
use crate::lifetime::{Bounds, Limits};
use crate::testing::{Host, Open, SaOptions, inbound_entry, joined, outbound_entry};
use crate::time::Time;

const NOW: Time = Time::from_nanos(1_000_000);

fn revised(host: &Host<Open>, inbound: bool, change: impl FnOnce(&mut SadEntry)) -> Arc<SadEntry> {
    let mut slots = host.snapshot.sad.iter().filter(|slot| slot.entry.is_inbound() == inbound);
    let mut entry = slots.next().unwrap().entry.as_ref().clone();
    change(&mut entry);
    Arc::new(entry)
}

fn packet() -> Vec<u8> {
    let mut octets = Vec::new();
    let builder = etherparse::PacketBuilder::ipv4([10, 0, 1, 1], [10, 0, 2, 2], 64).udp(1, 2);
    builder.write(&mut octets, b"revised").unwrap();
    octets
}

/// T09: an SA is handed to one worker, whoever else asks at the same time; so one window has every number, and takes it once.
#[test]
fn t09_of_many_workers_one_gets_an_sa_and_no_number_passes_twice() {
    for round in 0..100 {
        let entry = inbound_entry(2, 1, &SaOptions::new(0x1001, round)).unwrap();
        let start = std::sync::Barrier::new(4);
        let taken = std::thread::scope(|scope| {
            let ask = || {
                start.wait();
                let Role::Inbound { sa, .. } = &entry.role else { return None };
                sa.take()
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            workers.into_iter().filter_map(|worker| worker.join().unwrap()).count()
        });
        assert_eq!(taken, 1);
    }
    let (mut one, mut two) = joined(Open, Open);
    let sealed = one.send(&packet(), NOW).0.remove(0);
    assert_eq!(two.receive(&sealed, NOW).len(), 1);
    // Another worker that is shown the same SAD has not got the SA, and opens nothing.
    let mut other: Host<Open> = Host::new(2, 1, Open);
    for slot in two.snapshot.sad.iter() {
        other.insert(Some(Arc::clone(&slot.entry)));
    }
    other.publish();
    assert!(other.receive(&sealed, NOW).is_empty());
    assert_eq!(two.receive(&sealed, NOW).len(), 0, "a replay");
}

/// RFC 4301 4.4.2: a revised SA counts on, keeps its window, and measures what it used by its new limits.
#[test]
fn a_revision_keeps_numbers_window_and_use() {
    let (mut one, mut two) = joined(Open, Open);
    let first = one.send(&packet(), NOW).0.remove(0);
    assert_eq!(two.receive(&first, NOW).len(), 1);
    let limits = Limits::new(Bounds::default(), Bounds { packets: Some(2), ..Bounds::default() }).unwrap();
    let sending = revised(&one, false, |entry| {
        (entry.class, entry.limits) = (ClassId::from_raw(7), limits);
        let Role::Outbound { path, .. } = &mut entry.role else { return };
        path.to = ([198, 51, 100, 1], 4501).into();
    });
    assert!(one.snapshot.sad.revise(sending));
    let receiving = revised(&two, true, |entry| entry.class = ClassId::from_raw(8));
    assert!(two.snapshot.sad.revise(receiving));
    one.publish();
    two.publish();
    let second = one.send(&packet(), NOW).0.remove(0);
    assert_eq!(second[4..8], 2u32.to_be_bytes(), "the next number");
    assert!(two.receive(&first, NOW).is_empty());
    assert_eq!(two.dropped(Direction::Inbound, crate::drop::DropReason::Replayed), 1);
    assert_eq!(two.receive(&second, NOW).len(), 1);
    assert!(one.send(&packet(), NOW).0.is_empty());
    assert_eq!(one.dropped(Direction::Outbound, crate::drop::DropReason::HardExpired), 1, "two were used");
    let sent = packet();
    let parsed = crate::packet::IpPacket::parse(&sent, Direction::Outbound).unwrap();
    let sad = &one.snapshot.sad;
    assert!(sad.select(parsed.traffic(), Some(ClassId::from_raw(7)), None).is_some());
    assert!(sad.select(parsed.traffic(), Some(ClassId::from_raw(1)), None).is_none());
}

/// A worker that never saw what was revised takes the state from the revision.
#[test]
fn a_revision_before_anybody_looked_loses_nothing() {
    let mut one: Host<Open> = Host::new(1, 2, Open);
    one.insert(outbound_entry(1, 2, &SaOptions::new(0x1001, 0)));
    let sending = revised(&one, false, |entry| entry.class = ClassId::from_raw(7));
    assert!(one.snapshot.sad.revise(sending));
    one.publish();
    assert_eq!(one.send(&packet(), NOW).0.len(), 1);
}

/// Another SA is no revision, whatever it is called.
#[test]
fn another_sa_does_not_pass_for_a_revision() {
    let (mut one, _) = joined(Open, Open);
    let other = outbound_entry(1, 2, &SaOptions::new(0x1001, 0)).unwrap();
    assert!(!one.snapshot.sad.revise(other), "its numbers begin again");
    let renamed = revised(&one, false, |entry| entry.spi = Spi::new(0x9999).unwrap());
    assert!(!one.snapshot.sad.revise(renamed));
    let gone = revised(&one, false, |entry| entry.sa.generation += 1);
    assert!(!one.snapshot.sad.revise(gone));
}

/// RFC 4301 4.1: an ESP and an AH SA may have the same SPI (T31).
#[test]
fn t31_spis_of_esp_and_ah_are_spaces_of_their_own() {
    let mut sad = Sad::default();
    let spi = Spi::new(0x1001).unwrap();
    sad.insert(inbound_entry(1, 2, &SaOptions::new(0x1001, 0)).unwrap(), Usage::Active).unwrap();
    let ah = |index: u32, carrier| {
        let mut entry = inbound_entry(1, 2, &SaOptions::new(0x1001, index)).unwrap().as_ref().clone();
        entry.protocol = Protocol::Ah;
        let Role::Inbound { from, .. } = &mut entry.role else { panic!() };
        from.carrier = carrier;
        Arc::new(entry)
    };
    assert_eq!(sad.insert(ah(1, Carrier::Udp), Usage::Active), Err(InsertError::AhInUdp));
    assert_eq!(sad.find(Protocol::Ah, spi), None);
    sad.insert(ah(1, Carrier::Native), Usage::Active).unwrap();
    assert_eq!(sad.find(Protocol::Esp, spi), Some(SaIndex::new(0)));
    assert_eq!(sad.find(Protocol::Ah, spi), Some(SaIndex::new(1)));
    assert_eq!(sad.insert(ah(2, Carrier::Native), Usage::Active), Err(InsertError::DuplicateSpi));
    sad.remove(SaRef { index: SaIndex::new(1), generation: 1 });
    assert_eq!(sad.find(Protocol::Ah, spi), None);
    assert_eq!(sad.find(Protocol::Esp, spi), Some(SaIndex::new(0)));
}
