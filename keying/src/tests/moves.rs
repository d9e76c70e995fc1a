//! Peers that are found elsewhere (T34, RFC 7296 section 2.23): the pair leads there, and is what it was in all else (C-17).

use std::net::SocketAddr;
use std::sync::Arc;

use latchway_datapath::event::Event;
use latchway_datapath::sad::{Follow, Role, SadEntry};
use latchway_esp::Suite;
use latchway_tagging::{SaIndex, SaRef};

use crate::testing::{at, bundle, bundle_keys, fqdn, keying, keys, path, proposal};
use crate::{InstallError, Keying, Keys, Notice, PairId, PairView, Proposal};

const ELSEWHERE: &str = "198.51.100.7:61000";

fn installed(keying: &mut Keying, proposal: Proposal, keys: Keys) -> Result<PairId, InstallError> {
    let offer = keying.propose(proposal, at(0)).unwrap();
    let id = keying.install(offer.ticket, keys, at(0))?;
    keying.poll(at(0));
    Ok(id)
}

fn entries(keying: &Keying) -> Vec<Arc<SadEntry>> {
    keying.snapshot().sad.iter().map(|slot| Arc::clone(&slot.entry)).collect()
}

fn moved(keying: &mut Keying, sa: SaRef, from: SocketAddr, to: SocketAddr) -> Vec<Notice> {
    keying.take_notices().for_each(drop);
    keying.note(&Event::PeerMoved { sa, from, to });
    keying.take_notices().collect()
}

fn following(keys: Keys) -> Keys {
    Keys { follow: Follow::Follow, ..keys }
}

/// A peer that is to stay, or is to by now, is not led astray by what was told before its worker knew.
#[test]
fn t34_who_is_not_followed_does_not_move() {
    let mut keying = keying();
    installed(&mut keying, proposal("bob"), keys(0x1000, Suite::AES_128_GCM)).unwrap();
    let (before, snapshot) = (keying.pairs(), keying.snapshot().id);
    let told = moved(&mut keying, before[0].outbound.sa, path(4500).to, ELSEWHERE.parse().unwrap());
    assert_eq!((told, keying.pairs(), keying.snapshot().id), (vec![], before, snapshot));
}

/// Both SAs know, and so does whoever asks; what belongs to the class, the numbers and the latches does not change.
#[test]
fn t34_a_peer_that_moved_is_in_both_sas_told_and_shown() {
    let mut keying = keying();
    let bob = installed(&mut keying, proposal("bob"), following(keys(0x1000, Suite::AES_128_GCM))).unwrap();
    installed(&mut keying, proposal("carol"), keys(0x1001, Suite::AES_128_GCM)).unwrap();
    let (before, sas, snapshot) = (keying.pairs(), entries(&keying), keying.snapshot().id);
    let (from, to) = (path(4500).to, ELSEWHERE.parse().unwrap());
    let told = moved(&mut keying, before[0].outbound.sa, from, to);
    let class = before[0].class;
    assert_eq!(told, [Notice::PeerMoved { pair: bob, peer: fqdn("bob"), class, from, to }]);
    let there = latchway_datapath::sad::Path { to, ..before[0].path };
    let after = keying.pairs();
    assert_eq!(after[0], PairView { path: there, fitting: after[0].fitting, ..before[0].clone() });
    assert_eq!(after[1], before[1]);
    assert_eq!(keying.snapshot().id.raw(), snapshot.raw() + 1, "one publication");
    for (entry, old) in entries(&keying).iter().zip(&sas) {
        assert!(entry.revises(old), "its numbers and window go on");
        let leads = match &entry.role {
            Role::Inbound { from, .. } => from.address,
            Role::Outbound { path, .. } => path.to.ip(),
        };
        let is_bobs = [before[0].inbound.sa, before[0].outbound.sa].contains(&entry.sa);
        assert_eq!(leads, if is_bobs { to.ip() } else { from.ip() });
    }
}

/// What is not, or not any more, said of a pair moves none; and a peer can come back.
#[test]
fn t34_a_move_that_is_not_from_where_the_pair_leads_moves_nothing() {
    let mut keying = keying();
    installed(&mut keying, proposal("bob"), following(keys(0x1000, Suite::AES_128_GCM))).unwrap();
    let (first, to) = (path(4500).to, ELSEWHERE.parse().unwrap());
    let sa = keying.pairs()[0].outbound.sa;
    let (before, snapshot) = (keying.pairs(), keying.snapshot().id);
    let gone = SaRef { generation: sa.generation + 1, ..sa };
    let nobody = SaRef { index: SaIndex::new(77), ..sa };
    for (sa, from) in [(sa, path(4600).to), (gone, first), (nobody, first)] {
        assert_eq!(moved(&mut keying, sa, from, to), []);
    }
    assert_eq!((keying.pairs(), keying.snapshot().id), (before.clone(), snapshot));
    assert_eq!(moved(&mut keying, sa, first, to).len(), 1);
    assert_eq!(moved(&mut keying, sa, first, to), [], "it is there already");
    assert_eq!(moved(&mut keying, sa, to, first).len(), 1);
    assert_eq!(keying.pairs(), before);
}

/// RFC 4301 4.1: the name that the peer knows our SA by goes with it, also through a rebuilt key manager and to the end.
#[test]
fn t34_names_are_those_of_where_the_peer_is() {
    let mut keying = keying();
    let keys_of_bob = following(keys(0x1000, Suite::AES_128_GCM));
    let bob = installed(&mut keying, proposal("bob"), keys_of_bob).unwrap();
    let (first, to): (SocketAddr, SocketAddr) = (path(4500).to, ELSEWHERE.parse().unwrap());
    let sa = keying.pairs()[0].outbound.sa;
    moved(&mut keying, sa, first, to);
    keying.recover(at(0));
    assert_eq!(keying.pairs()[0].path.to, to);
    let twin = |spi: u32, to: SocketAddr| {
        let Keys { inbound, .. } = keys(spi, Suite::AES_128_GCM);
        let path = latchway_datapath::sad::Path { to, ..path(4500) };
        Keys { inbound, path, ..keys(0x1000, Suite::AES_128_GCM) }
    };
    let spi = keying.pairs()[0].outbound.spi;
    let refused = installed(&mut keying, proposal("bob"), twin(0x1001, to));
    assert_eq!(refused, Err(InstallError::DuplicateOutbound(spi, to)));
    installed(&mut keying, proposal("bob"), twin(0x1002, first)).unwrap();
    let removal = crate::Transaction::new(vec![crate::Op::Remove(bob)]);
    keying.commit(removal, at(0)).unwrap();
    installed(&mut keying, proposal("bob"), twin(0x1003, to)).unwrap();
}

/// RFC 4301 4.3: all four SAs of a bundle lead there, whichever of them was heard.
#[test]
fn t34_the_peer_of_a_bundle_moves_with_all_four_sas() {
    for around in [false, true] {
        let mut keying = keying();
        installed(&mut keying, bundle("bob"), following(bundle_keys(0x1000))).unwrap();
        let pair = keying.pairs().remove(0);
        let [_, header] = pair.header.unwrap();
        let sa = if around { header.sa } else { pair.outbound.sa };
        let to: SocketAddr = "198.51.100.7:0".parse().unwrap();
        assert_eq!(moved(&mut keying, sa, pair.path.to, to).len(), 1);
        for entry in entries(&keying) {
            let leads = match &entry.role {
                Role::Inbound { from, .. } => from.address,
                Role::Outbound { path, .. } => path.to.ip(),
            };
            assert_eq!(leads, to.ip());
        }
    }
}
