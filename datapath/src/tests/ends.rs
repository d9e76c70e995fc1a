//! How SAs end, and what keeps them from sending: lifetimes, the last number, numbers that are not reserved yet (RFC 4301
//! section 4.4.2.1, RFC 4303 section 3.3.3).

use std::time::Duration;

use latchway_esp::{Reservation, SeqNum, SequenceKind, Suite};

use super::{NOW, v4};
use crate::drop::{Direction, DropReason};
use crate::event::Event;
use crate::lifetime::{Bounds, Limits};
use crate::testing::{Host, Open, SaOptions, inbound_entry, joined, outbound_entry};

/// RFC 4301 4.4.2.1: what is lost on the way is counted at one end alone; each ends the SA by its own count, and takes what
/// comes until then.
#[test]
fn rfc_4301_4_4_2_1_the_ends_of_an_sa_may_count_differently() {
    let limits = Limits::new(Bounds::default(), Bounds { packets: Some(3), ..Bounds::default() }).unwrap();
    let options = SaOptions { limits, ..SaOptions::new(0x1001, 0) };
    let (mut one, mut two) = (Host::new(1, 2, Open), Host::new(2, 1, Open));
    one.insert(outbound_entry(1, 2, &options));
    two.insert(inbound_entry(2, 1, &options));
    one.publish();
    two.publish();
    let sent: Vec<_> = (0..3).flat_map(|_| one.send(&v4(), NOW).0).collect();
    assert!(one.send(&v4(), NOW).0.is_empty());
    assert_eq!(one.dropped(Direction::Outbound, DropReason::HardExpired), 1);
    assert_eq!(two.receive(&sent[0], NOW), [v4()]);
    assert_eq!(two.receive(&sent[2], NOW), [v4()], "the second was lost");
    assert_eq!(two.snapshot.sad.iter().next().unwrap().entry.use_.packets.get(), 2);
    assert!(two.drops().is_empty());
}

#[test]
fn rfc_4301_4_4_2_1_after_hard_expiry_every_packet_is_dropped_by_that_name_and_told_once() {
    let time = Some(Duration::from_secs(1));
    for (limits, until) in [
        (Bounds { packets: Some(3), ..Bounds::default() }, 3),
        (
            Bounds {
                octets: Some(3 * Suite::AES_128_GCM.encrypted_len(v4().len()) as u64),
                ..Bounds::default()
            },
            3,
        ),
        (Bounds { time, ..Bounds::default() }, 0),
    ] {
        let mut one = Host::new(1, 2, Open);
        let limits = Limits::new(Bounds::default(), limits).unwrap();
        one.insert(outbound_entry(1, 2, &SaOptions { limits, ..SaOptions::new(0x1001, 0) }));
        one.publish();
        let later = if until == 0 { NOW + Duration::from_secs(2) } else { NOW };
        let left = (0..103).filter(|_| !one.send(&v4(), later).0.is_empty()).count();
        assert_eq!(left, until);
        assert_eq!(one.dropped(Direction::Outbound, DropReason::HardExpired), 103 - until as u64);
        let expired =
            one.events.try_iter().filter(|event| matches!(event, Event::HardExpired { .. })).count();
        assert_eq!(expired, 1, "T36: {limits:?}");
    }
}

#[test]
fn rfc_4303_3_3_3_a_32_bit_sa_never_wraps() {
    let mut one = Host::new(1, 2, Open);
    let options = SaOptions { sequence: SequenceKind::Seq32, ..SaOptions::new(0x1001, 0) };
    one.insert(crate::testing::outbound_entry_at(1, 2, &options, u64::from(u32::MAX) - 1));
    one.publish();
    assert_eq!(one.send(&v4(), NOW).0.len(), 1);
    assert_eq!(one.send(&v4(), NOW).0.len(), 1);
    for _ in 0..3 {
        assert!(one.send(&v4(), NOW).0.is_empty());
    }
    assert_eq!(one.dropped(Direction::Outbound, DropReason::SeqExhausted), 3);
    let events: Vec<_> = one.events.try_iter().collect();
    assert!(matches!(events[..], [Event::Acquire { .. }]), "L-60, another SA is asked for once: {events:?}");
}

#[test]
fn t12_a_sender_stops_at_its_reservation_and_goes_on_when_it_is_raised() {
    let mut one = Host::new(1, 2, Open);
    let reservation = Reservation::new(SeqNum(2));
    let options = SaOptions { reservation: Some(reservation.clone()), ..SaOptions::new(0x1001, 0) };
    one.insert(outbound_entry(1, 2, &options));
    one.publish();
    let left =
        |one: &mut Host<Open>, tries| (0..tries).filter(|_| !one.send(&v4(), NOW).0.is_empty()).count();
    assert_eq!(left(&mut one, 5), 2);
    assert_eq!(one.dropped(Direction::Outbound, DropReason::NumbersUnreserved), 3);
    reservation.raise(SeqNum(4));
    assert_eq!(left(&mut one, 5), 2);
    assert_eq!(one.drops(), [(Direction::Outbound, DropReason::NumbersUnreserved, 6)]);
    assert_eq!(one.events.try_iter().count(), 0, "another SA would not help");
}

/// T12, RFC 4301 4.4.2.1: what gets no number does not leave, and spends no lifetime.
#[test]
fn t12_what_waits_for_numbers_spends_no_lifetime() {
    let mut one = Host::new(1, 2, Open);
    let reservation = Reservation::new(SeqNum(2));
    let hard = Bounds { packets: Some(4), ..Bounds::default() };
    let limits = Limits::new(Bounds::default(), hard).unwrap();
    let options = SaOptions { reservation: Some(reservation.clone()), limits, ..SaOptions::new(0x1001, 0) };
    one.insert(outbound_entry(1, 2, &options));
    one.publish();
    let left =
        |one: &mut Host<Open>, tries| (0..tries).filter(|_| !one.send(&v4(), NOW).0.is_empty()).count();
    assert_eq!(left(&mut one, 10), 2);
    reservation.raise(SeqNum(9));
    assert_eq!(left(&mut one, 10), 2, "as many as its lifetime lets it");
}

/// Status output tells idle SAs from busy ones, and forged packets make none busy.
#[test]
fn an_sa_shows_when_it_was_last_used() {
    let (mut one, mut two) = joined(Open, Open);
    let used = |host: &Host<Open>, inbound: bool| {
        let slot = host.snapshot.sad.iter().find(|slot| slot.entry.is_inbound() == inbound);
        slot.unwrap().entry.use_.last_used()
    };
    assert_eq!(used(&one, false), None);
    let datagram = one.send(&v4(), NOW).0.remove(0);
    assert_eq!(used(&one, false), Some(NOW));
    let mut forged = datagram.clone();
    *forged.last_mut().unwrap() ^= 1;
    two.receive(&forged, NOW);
    assert_eq!(used(&two, true), None);
    let later = NOW + Duration::from_secs(1);
    two.receive(&datagram, later);
    assert_eq!((used(&two, true), used(&two, false)), (Some(later), None));
}

/// T36: no source of this crate reads the wall clock, so setting it can move no lifetime. The clock it has is
/// `Instant`, read once per batch by the worker.
#[test]
fn t36_no_lifetime_depends_on_the_wall_clock() {
    let wall = ["System", "Time"].concat();
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for found in std::fs::read_dir(folder).unwrap().map(|found| found.unwrap().path()) {
            if found.is_dir() {
                folders.push(found);
            } else {
                read += 1;
                assert!(!std::fs::read_to_string(&found).unwrap().contains(&wall), "{found:?}");
            }
        }
    }
    assert!(read > 30, "the sources were not found");
}
