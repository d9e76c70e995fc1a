//! Pairs that stay while something else is said of them (RFC 4301 4.4.2.1, C-17): nothing of what their keys did begins anew.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use latchway_datapath::event::Event;
use latchway_datapath::lifetime::{Bounds, Limits};
use latchway_datapath::outer::{Dscp, OuterPolicy};
use latchway_datapath::sad::{Follow, Path, Peer, Role, SadEntry, Shape, Tfc};
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_esp::Suite;
use latchway_tagging::Mode;

use crate::testing::{at, bundle, bundle_keys, fqdn, keying, keys, native_path, path, proposal};
use crate::{
    Change, CommitError, Element, InstallError, Keying, Keys, NewPair, Notice, Outline, PairId, PairView,
    Problem, Proposal, RevisedPair,
};

fn added(keying: &mut Keying, proposal: Proposal, keys: Keys) -> PairId {
    let change = Change { add: vec![NewPair { proposal, keys }], ..Change::default() };
    applied(keying, change).added[0]
}

fn applied(keying: &mut Keying, change: Change) -> crate::Changed {
    keying.begin_change(change, at(0)).unwrap();
    (0..10).find_map(|_| keying.poll(at(0)).changed).unwrap()
}

fn view(keying: &Keying, pair: PairId) -> PairView {
    keying.pairs().into_iter().find(|view| view.id == pair).unwrap()
}

/// What is said of a pair now.
fn said(keying: &Keying, pair: PairId) -> RevisedPair {
    let PairView { path, shape, follow, inbound, .. } = view(keying, pair);
    RevisedPair { pair, path, shape, follow, limits: inbound.limits }
}

fn revising(revision: RevisedPair) -> Change {
    Change { revise: vec![revision], ..Change::default() }
}

/// The SAs of the database, in the order of their slots.
fn entries(keying: &Keying) -> Vec<Arc<SadEntry>> {
    keying.snapshot().sad.iter().map(|slot| Arc::clone(&slot.entry)).collect()
}

fn problems(keying: &Keying, change: &Change) -> Vec<(Element, Problem)> {
    let faults = keying.check_change(change).unwrap_err().faults;
    faults.into_iter().map(|fault| (fault.element, fault.problem)).collect()
}

fn packets(packets: u64) -> Bounds {
    Bounds { packets: Some(packets), ..Bounds::default() }
}

/// L-37, L-74: the same SAs, which every worker has with their numbers and windows, under the same class.
#[test]
fn l_37_c_17_a_revised_pair_is_the_same_sas_of_the_same_class_in_one_publication() {
    let mut keying = keying();
    let bob = added(&mut keying, proposal("bob"), keys(0x1000, Suite::AES_128_GCM));
    let carol = added(&mut keying, proposal("carol"), keys(0x1001, Suite::AES_128_GCM));
    let (before, beside, sas) = (view(&keying, bob), view(&keying, carol), entries(&keying));
    let outer = OuterPolicy { dscp: Dscp::Set(10), ..OuterPolicy::UDP };
    let shape = Shape {
        outer: outer.clone(),
        tfc: Tfc::Multiple(64),
        dummies: Some(Duration::from_secs(1)),
        keepalive: Some(Duration::from_secs(20)),
        ..Shape::default()
    };
    let limits = Limits::new(packets(10), packets(20)).unwrap();
    let path = Path { mtu: 1400, ..path(4600) };
    let revision = RevisedPair { pair: bob, path, shape: shape.clone(), follow: Follow::Follow, limits };
    let outline = keying.check_change(&revising(revision.clone())).unwrap();
    assert_eq!(outline, Outline { revised: vec![bob], ..Outline::default() });
    assert!(!outline.is_empty() && !revising(revision.clone()).is_empty());
    keying.take_notices().for_each(drop);
    let old = keying.snapshot().id;
    keying.begin_change(revising(revision), at(0)).unwrap();
    assert_eq!((keying.snapshot().id, view(&keying, bob)), (old, before.clone()), "not yet");
    assert!(keying.begin_change(Change::default(), at(0)).is_err(), "one change at a time");
    let changed = keying.poll(at(0)).changed.unwrap();
    assert_eq!((changed.outline, changed.snapshot.raw()), (outline, old.raw() + 1));

    let after = view(&keying, bob);
    let class = after.class;
    let (inbound, outbound) = (before.inbound, before.outbound);
    let expected = PairView {
        path,
        shape,
        follow: Follow::Follow,
        inbound: crate::SaView { limits, ..inbound },
        outbound: crate::SaView { limits, ..outbound },
        fitting: after.fitting,
        path_mtu: after.path_mtu,
        ..before
    };
    assert_eq!((after.path_mtu.in_force, after), (1400, expected));
    assert_eq!(view(&keying, carol), beside);
    for (revised, old) in entries(&keying).iter().zip(&sas) {
        assert!(revised.revises(old));
        assert_eq!(Arc::ptr_eq(revised, old), old.selectors[0] != before_selector(), "only bob's");
        if let Role::Inbound { from, outer: of, .. } = &revised.role
            && !Arc::ptr_eq(revised, old)
        {
            assert_eq!(*from, Peer { follow: Follow::Follow, ..path.peer() });
            assert_eq!(*of, outer);
        }
    }
    let told: Vec<_> = keying.take_notices().collect();
    assert_eq!(told, [Notice::PairRevised { pair: bob, peer: fqdn("bob"), class }]);
}

fn before_selector() -> Selector {
    proposal("bob").selectors[0].clone()
}

/// T34: a peer that moved is where it was found, until it is said to be elsewhere, or to stay where it is said to be.
#[test]
fn t34_a_revision_leaves_a_peer_that_moved_where_it_is() {
    let mut keying = keying();
    let follows = Keys { follow: Follow::Follow, ..keys(0x1000, Suite::AES_128_GCM) };
    let bob = added(&mut keying, proposal("bob"), follows);
    let (first, found): (SocketAddr, SocketAddr) = (path(4500).to, "198.51.100.7:61000".parse().unwrap());
    let moves = |keying: &mut Keying, from| {
        let sa = view(keying, bob).outbound.sa;
        keying.note(&Event::PeerMoved { sa, from, to: found });
        assert_eq!(view(keying, bob).path.to, found);
    };
    moves(&mut keying, first);
    let smaller = RevisedPair { path: Path { mtu: 1400, ..path(4500) }, ..said(&keying, bob) };
    applied(&mut keying, revising(smaller.clone()));
    assert_eq!(view(&keying, bob).path, Path { to: found, ..smaller.path });
    let fixed = RevisedPair { follow: Follow::Fixed, ..smaller.clone() };
    applied(&mut keying, revising(fixed));
    assert_eq!(view(&keying, bob).path, smaller.path, "it is not to move");
    applied(&mut keying, revising(smaller.clone()));
    moves(&mut keying, first);
    let elsewhere = RevisedPair { path: path(4700), ..smaller };
    applied(&mut keying, revising(elsewhere.clone()));
    assert_eq!(view(&keying, bob).path, elsewhere.path);
    moves(&mut keying, elsewhere.path.to);
    applied(&mut keying, revising(elsewhere));
    assert_eq!(view(&keying, bob).path.to, found);
    // What it had is free for others, and what it has is not.
    let twin = |port| {
        let Keys { inbound, .. } = keys(0x1009, Suite::AES_128_GCM);
        let keys = Keys { inbound, path: path(port), ..keys(0x1000, Suite::AES_128_GCM) };
        Change { add: vec![NewPair { proposal: proposal("bob"), keys }], ..Change::default() }
    };
    assert!(keying.check_change(&twin(4500)).is_ok() && keying.check_change(&twin(4700)).is_ok());
}

/// RFC 4301 4.3: of a bundle, the AH goes where the ESP goes and looks as it does; all else is the ESP's.
#[test]
fn rfc_4301_4_3_a_bundle_is_revised_as_one() {
    let mut keying = keying();
    let pair = added(&mut keying, bundle("bob"), bundle_keys(0x1000));
    let sas = entries(&keying);
    let shape = Shape {
        outer: OuterPolicy { ttl: 9, ..OuterPolicy::NATIVE },
        tfc: Tfc::Mtu,
        dummies: Some(Duration::from_secs(1)),
        ..Shape::default()
    };
    let (path, limits) =
        (native_path([192, 0, 2, 253], [192, 0, 2, 77]), Limits::new(packets(1), packets(2)).unwrap());
    let follow = Follow::Fixed;
    applied(&mut keying, revising(RevisedPair { pair, path, shape: shape.clone(), follow, limits }));
    for (entry, old) in entries(&keying).iter().zip(&sas) {
        assert!(entry.revises(old));
        let around = entry.is_for_another();
        assert_eq!(entry.limits, if around { Limits::default() } else { limits });
        match &entry.role {
            Role::Inbound { from, outer, .. } => {
                assert_eq!((*from, outer), (path.peer(), &shape.outer));
            }
            Role::Outbound { path: to, shape: of, .. } => {
                let header = Shape { outer: shape.outer.clone(), ..Shape::default() };
                assert_eq!((*to, of), (path, if around { &header } else { &shape }));
            }
        }
    }
    assert_eq!(entries(&keying).len(), 4);
}

#[test]
fn what_takes_another_pair_is_refused_and_nothing_is_revised() {
    let mut keying = keying();
    let bob = added(&mut keying, proposal("bob"), keys(0x1000, Suite::AES_128_GCM));
    // To the peer at another port, the same SPI is another SA.
    let Keys { inbound, .. } = keys(0x1002, Suite::AES_128_GCM);
    let twin = Keys { inbound, path: path(4600), ..keys(0x1000, Suite::AES_128_GCM) };
    let twin = added(&mut keying, proposal("bob"), twin);
    let native = native_path([192, 0, 2, 254], [192, 0, 2, 1]);
    let bare = Keys { path: native, ..keys(0x1003, Suite::AES_128_GCM) };
    let bare = added(&mut keying, proposal("bob"), bare);
    let hosts = native_path([10, 0, 0, 1], [10, 1, 0, 1]);
    let single = |address: [u8; 4]| AddressRange::single(address.into());
    let selectors = vec![Selector::between(single([10, 0, 0, 1]), single([10, 1, 0, 1]))];
    let transport = Proposal { mode: Mode::Transport, selectors, ..proposal("bob") };
    // T34: one packet of the peer, relayed from elsewhere, would stop it.
    let follows = Keys { path: hosts, follow: Follow::Follow, ..keys(0x1005, Suite::AES_128_GCM) };
    let ticket = keying.propose(transport.clone(), at(0)).unwrap().ticket;
    assert_eq!(keying.install(ticket, follows, at(0)), Err(InstallError::TransportMoves));
    let transport = added(&mut keying, transport, Keys { path: hosts, ..keys(0x1004, Suite::AES_128_GCM) });
    let (before, nobody) = (keying.pairs(), PairId::from_raw(99));
    let of = |pair, path| RevisedPair { path, ..said(&keying, if pair == nobody { bob } else { pair }) };
    let unspecified = Path { from: [0, 0, 0, 0].into(), ..native };
    let spi = view(&keying, bob).outbound.spi;
    let cases = [
        (
            RevisedPair { pair: nobody, ..said(&keying, bob) },
            Problem::Commit(CommitError::UnknownPair(nobody)),
        ),
        (of(bob, native), Problem::OtherCarrier),
        (of(bare, path(4500)), Problem::OtherCarrier),
        (of(bare, unspecified), Problem::Install(InstallError::NoSource)),
        (of(transport, native), Problem::Install(InstallError::TransportEnds(native.from, native.to.ip()))),
        (of(twin, path(4500)), Problem::Install(InstallError::DuplicateOutbound(spi, path(4500).to))),
        (
            RevisedPair { follow: Follow::Follow, ..said(&keying, transport) },
            Problem::Install(InstallError::TransportMoves),
        ),
    ];
    for (revision, problem) in cases {
        let element = match keying.pairs().into_iter().find(|view| view.id == revision.pair) {
            Some(PairView { id, peer, inbound, .. }) => Element::Pair { pair: id, peer, spi: inbound.spi },
            None => Element::Missing(nobody),
        };
        let change = revising(revision);
        assert_eq!(problems(&keying, &change), [(element, problem)]);
    }
    let twice = Change { remove: vec![bob], ..revising(said(&keying, bob)) };
    assert!(matches!(problems(&keying, &twice)[..], [(_, Problem::NamedTwice)]));
    let both = Change { revise: vec![of(bob, path(4700)), of(twin, path(4700))], ..Change::default() };
    let taken = InstallError::DuplicateOutbound(spi, path(4700).to);
    assert!(matches!(&problems(&keying, &both)[..], [(_, Problem::Install(why))] if *why == taken));
    assert!(keying.begin_change(both, at(0)).is_err(), "it is checked again");
    assert_eq!((keying.pairs(), keying.is_changing()), (before, false));
}

/// A key manager that ends while a pair is being revised goes on with it, and knows where it leads by what is published.
#[test]
fn a_rebuilt_key_manager_goes_on_revising() {
    for step in 0..3 {
        let mut keying = keying();
        let bob = added(&mut keying, proposal("bob"), keys(0x1000, Suite::AES_128_GCM));
        let revision = RevisedPair { path: path(4600), ..said(&keying, bob) };
        let mut worker = keying.publisher().reader();
        worker.adopt();
        keying.begin_change(revising(revision.clone()), at(0)).unwrap();
        for _ in 0..step {
            keying.poll(at(0));
            worker.adopt();
        }
        keying.recover(at(0));
        drop(worker);
        (0..10).for_each(|_| drop(keying.poll(at(0))));
        assert_eq!((view(&keying, bob).path, keying.is_changing()), (revision.path, false), "{step}");
    }
    // A pair that somebody removed meanwhile stays removed.
    let mut keying = keying();
    let bob = added(&mut keying, proposal("bob"), keys(0x1000, Suite::AES_128_GCM));
    let mut worker = keying.publisher().reader();
    worker.adopt();
    keying.begin_change(revising(said(&keying, bob)), at(0)).unwrap();
    keying.commit(crate::Transaction::new(vec![crate::Op::Remove(bob)]), at(0)).unwrap();
    drop(worker);
    (0..10).for_each(|_| drop(keying.poll(at(0))));
    assert_eq!((keying.pairs().len(), keying.snapshot().sad.iter().count()), (0, 0));
}
