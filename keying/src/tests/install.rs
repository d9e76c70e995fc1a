//! Installation: what keys may be used, what names SAs may have, and the order of L-74.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use latchway_datapath::drop::Direction;
use latchway_datapath::event::Event;
use latchway_datapath::sad::Usage;
use latchway_esp::{AntiReplay, KeyMaterial, SequenceKind, Spi, Suite};
use latchway_tagging::{AuthMethod, Class, ClassId, StateClock};

use crate::testing::{at, commit, entry, keying, keys, proposal};
use crate::{
    ClassObserver, ClassRefused, CommitError, InstallError, KeyOrigin, Keying, Keys, Op, Pad, PairId,
    Proposal, SaKeys, Settings, Start, Suites, Transaction,
};

fn try_install(keying: &mut Keying, proposal: Proposal, keys: Keys) -> Result<PairId, InstallError> {
    let offer = keying.propose(proposal, at(0)).unwrap();
    keying.install(offer.ticket, keys, at(0))
}

fn gcm(spi: u32) -> Keys {
    keys(spi, Suite::AES_128_GCM)
}

/// L-74, L-89: what a worker sees, in its order.
#[test]
fn l_74_a_pair_is_pending_until_every_reader_has_seen_it_and_only_then_in_force() {
    let clock = Arc::new(StateClock::new());
    let pad = Pad::new(vec![entry(1, "bob", "10.1.0.0", "10.1.0.255")]).unwrap();
    let observer = Arc::new(crate::Unobserved);
    let mut keying = crate::testing::keying_with(pad, Settings::default(), Arc::clone(&clock), observer);
    for (spi, start, usage) in
        [(0x1000, Start::Active, Usage::Active), (0x1001, Start::Standby, Usage::Standby)]
    {
        let mut worker = keying.publisher().reader();
        let before = worker.adopt().0.id;
        let version = clock.now();
        let id = try_install(&mut keying, proposal("bob"), Keys { start, ..gcm(spi) }).unwrap();
        assert!(clock.now() > version, "L-89");
        // The worker is in a batch under the old snapshot: nothing comes into force.
        for _ in 0..3 {
            assert_eq!(keying.poll(at(0)), crate::Progress { settling: true, ..crate::Progress::default() });
        }
        let pending = Arc::clone(worker.adopt().0);
        assert!(pending.id > before);
        let seen = |sad: &latchway_datapath::sad::Sad| {
            let mut usages: Vec<_> = sad.iter().map(|slot| (slot.entry.spi.get(), slot.usage)).collect();
            usages.retain(|(of, _)| of & 0xffff == spi);
            usages
        };
        assert_eq!(seen(&pending.sad), [(spi, Usage::Pending), (spi | 0x8000_0000, Usage::Pending)]);
        let pending_version = clock.now();
        assert_eq!(keying.poll(at(0)), crate::Progress { settled: vec![id], ..crate::Progress::default() });
        assert!(clock.now() > pending_version, "L-89");
        let in_force = worker.adopt().0;
        assert!(in_force.id > pending.id);
        assert_eq!(seen(&in_force.sad), [(spi, usage), (spi | 0x8000_0000, usage)]);
    }
}

#[test]
fn l_74_a_pair_that_is_not_settled_can_be_removed_and_nothing_else() {
    let mut keying = keying();
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let id = try_install(&mut keying, proposal("bob"), gcm(0x1000)).unwrap();
    for op in [Op::Activate(id), Op::Retire(id)] {
        let refused = keying.commit(Transaction::new(vec![op]), at(0));
        assert_eq!(refused, Err(CommitError::StillPending(id)));
    }
    assert_eq!(commit(&mut keying, vec![Op::Remove(id)]).removed, [id]);
    worker.adopt();
    assert_eq!(keying.poll(at(0)), crate::Progress::default(), "it does not rise again");
    assert_eq!(keying.snapshot().sad.iter().count(), 0);
}

/// T12, RFC 8221 section 3.
#[test]
fn t12_static_keys_are_refused_for_every_counter_mode_suite() {
    let mut keying = keying();
    let installed = |keying: &mut Keying, suite| {
        let proposal = Proposal { suites: Suites::both(suite), ..proposal("bob") };
        let keys = Keys { origin: KeyOrigin::Static, ..keys(0x1000, suite) };
        try_install(keying, proposal, keys)
    };
    for suite in [Suite::AES_128_GCM, Suite::AES_256_GCM, Suite::CHACHA20_POLY1305] {
        let error = installed(&mut keying, suite).unwrap_err();
        assert_eq!(error, InstallError::StaticCounterMode(suite));
        let text = error.to_string();
        assert!(text.contains("RFC 8221 section 3") && text.contains("ephemeral provider"), "{text}");
    }
    assert_eq!(keying.snapshot().sad.iter().count(), 0);
    assert!(installed(&mut keying, Suite::AES_256_CBC_HMAC_SHA_256).is_ok());
}

#[test]
fn l_8_l_10_what_is_installed_is_what_was_offered() {
    let mut keying = keying();
    let other = try_install(&mut keying, proposal("bob"), keys(0x1000, Suite::AES_256_GCM));
    let (offered, given) = (Suite::AES_128_GCM, Suite::AES_256_GCM);
    assert_eq!(other, Err(InstallError::OtherSuite { offered, given }));
    let off = Keys { anti_replay: AntiReplay::Off, ..gcm(0x1000) };
    assert_eq!(try_install(&mut keying, proposal("bob"), off), Err(InstallError::OtherReplay));
    let unchecked = Proposal { replay_checked: false, ..proposal("bob") };
    assert_eq!(try_install(&mut keying, unchecked, gcm(0x1000)), Err(InstallError::OtherReplay));
    keying.poll(at(0));
    keying.poll(at(120));
    assert_eq!(keying.counts(), crate::Counts::default(), "failures hold nothing");
}

/// T31, L-90.
#[test]
fn t31_reserved_duplicate_and_resting_spis_are_refused() {
    let mut keying = keying();
    for reserved in [0, 1, 255] {
        assert!(SaKeys::from_octets(reserved, Suite::AES_128_GCM, &[0; 20], SequenceKind::Seq32).is_err());
    }
    assert!(SaKeys::from_octets(256, Suite::AES_128_GCM, &[0; 20], SequenceKind::Seq32).is_ok());
    let mut sneaky = gcm(0x1000);
    sneaky.inbound.spi = Spi::new(255).unwrap();
    assert!(matches!(try_install(&mut keying, proposal("bob"), sneaky), Err(InstallError::Config(_))));
    let mut sneaky = gcm(0x1000);
    sneaky.outbound.spi = Spi::new(1).unwrap();
    assert!(matches!(try_install(&mut keying, proposal("bob"), sneaky), Err(InstallError::Config(_))));

    let spi = Spi::new(0x1000).unwrap();
    assert!(keying.is_free(spi));
    let id = try_install(&mut keying, proposal("bob"), gcm(0x1000)).unwrap();
    assert!(!keying.is_free(spi));
    let duplicate = try_install(&mut keying, proposal("carol"), gcm(0x1000));
    assert_eq!(duplicate, Err(InstallError::DuplicateSpi(spi)));
    let mut same_peer_spi = gcm(0x2000);
    same_peer_spi.outbound.spi = gcm(0x1000).outbound.spi;
    assert!(matches!(
        try_install(&mut keying, proposal("carol"), same_peer_spi),
        Err(InstallError::DuplicateOutbound(..))
    ));
    let mut elsewhere = gcm(0x2000);
    elsewhere.outbound.spi = gcm(0x1000).outbound.spi;
    elsewhere.path.to.set_port(4501);
    assert!(
        try_install(&mut keying, proposal("carol"), elsewhere).is_ok(),
        "to another receiver it is another SA"
    );

    keying.poll(at(0));
    keying.commit(Transaction::new(vec![Op::Remove(id)]), at(0)).unwrap();
    keying.poll(at(119));
    assert_eq!(try_install(&mut keying, proposal("bob"), gcm(0x1000)), Err(InstallError::RestingSpi(spi)));
    keying.poll(at(120));
    assert!(keying.is_free(spi));
    assert!(try_install(&mut keying, proposal("bob"), gcm(0x1000)).is_ok());
}

#[test]
fn tickets_are_of_one_key_manager_and_a_failed_installation_spends_them() {
    let (mut ours, mut theirs) = (keying(), keying());
    let offer = ours.propose(proposal("bob"), at(0)).unwrap();
    let foreign = theirs.propose(proposal("bob"), at(0)).unwrap();
    assert_eq!(offer.ticket.number(), foreign.ticket.number());
    assert_eq!(ours.install(foreign.ticket, gcm(0x1000), at(0)), Err(InstallError::TicketSpent));
    let wrong = ours.install(offer.ticket, keys(0x1000, Suite::AES_256_GCM), at(0));
    assert!(matches!(wrong, Err(InstallError::OtherSuite { .. })));
    assert_eq!(ours.counts().offers, 0);
}

/// L-90: slots rest, too.
#[test]
fn the_sad_is_bounded_and_says_so() {
    let pad = Pad::new(vec![entry(1, "bob", "10.1.0.0", "10.1.0.255")]).unwrap();
    // A rest too short for packets under way is made long enough.
    let settings = Settings { pairs: 1, rest: Duration::ZERO, ..Settings::default() };
    let observer = Arc::new(crate::Unobserved);
    let mut keying = crate::testing::keying_with(pad, settings, Arc::new(StateClock::new()), observer);
    let first = try_install(&mut keying, proposal("bob"), gcm(0x1000)).unwrap();
    assert_eq!(try_install(&mut keying, proposal("bob"), gcm(0x1001)), Err(InstallError::Full));
    let mut worker = keying.publisher().reader();
    worker.adopt();
    keying.commit(Transaction::new(vec![Op::Remove(first)]), at(0)).unwrap();
    assert_eq!(try_install(&mut keying, proposal("bob"), gcm(0x1001)), Err(InstallError::Full));
    keying.poll(at(119));
    assert_eq!(try_install(&mut keying, proposal("bob"), gcm(0x1001)), Err(InstallError::Full));
    // A worker whose batch lasts that long may still use the old SA in the slot.
    keying.poll(at(120));
    assert_eq!(try_install(&mut keying, proposal("bob"), gcm(0x1001)), Err(InstallError::Full));
    worker.adopt();
    keying.poll(at(120));
    assert!(try_install(&mut keying, proposal("bob"), gcm(0x1001)).is_ok());
}

/// Scenario 2.4 of the draft: the tag tells the two apart, so neither is refused.
#[test]
fn l_106_two_peers_that_the_pad_both_allows_may_cover_one_inner_address() {
    let mut keying = keying();
    try_install(&mut keying, proposal("bob"), gcm(0x1000)).unwrap();
    let offer = keying.propose(proposal("mallory"), at(0)).unwrap();
    assert_eq!(offer.latches_that_would_break, []);
    keying.install(offer.ticket, gcm(0x1001), at(0)).unwrap();
    assert_eq!(keying.poll(at(0)).settled.len(), 2);
    let pairs = keying.pairs();
    assert_eq!(pairs[0].selectors, pairs[1].selectors);
    assert_ne!(pairs[0].class, pairs[1].class);
}

#[test]
fn a_hard_expired_sa_is_shown_and_stays_until_it_is_removed() {
    let mut keying = keying();
    let id = try_install(&mut keying, proposal("bob"), gcm(0x1000)).unwrap();
    keying.poll(at(0));
    keying.commit(Transaction::new(vec![Op::Retire(id)]), at(0)).unwrap();
    let view = &keying.pairs()[0];
    assert_eq!((view.inbound.expired, view.outbound.expired), (false, false));
    let mut stale = view.outbound.sa;
    stale.generation += 1;
    keying.note(&Event::HardExpired { sa: stale, direction: Direction::Outbound });
    assert!(!keying.pairs()[0].outbound.expired, "of another generation");
    keying.note(&Event::HardExpired { sa: view.outbound.sa, direction: Direction::Outbound });
    let view = &keying.pairs()[0];
    assert_eq!((view.inbound.expired, view.outbound.expired), (false, true));
    assert!(keying.snapshot().sad.get(view.outbound.sa).is_some(), "drops can say why");
    let revived = keying.commit(Transaction::new(vec![Op::Activate(id)]), at(0));
    assert_eq!(revived, Err(CommitError::Expired(id)));
}

/// What the observer was told, and whether it has a latch.
#[derive(Default)]
struct Listener(Mutex<(Vec<(char, ClassId)>, bool)>);

impl ClassObserver for Listener {
    fn class_interned(&self, id: ClassId, _: &Class, _: AuthMethod) -> Result<(), ClassRefused> {
        self.0.lock().unwrap().0.push(('+', id));
        Ok(())
    }

    fn latched(&self, classes: &HashSet<ClassId>) -> HashSet<ClassId> {
        if self.0.lock().unwrap().1 { classes.clone() } else { HashSet::new() }
    }

    fn class_released(&self, id: ClassId) {
        self.0.lock().unwrap().0.push(('-', id));
    }
}

#[test]
fn r_2_a_class_is_told_before_its_first_sa_and_outlives_its_last_for_as_long_as_a_latch_has_it() {
    let listener = Arc::new(Listener::default());
    let pad = Pad::new(vec![entry(1, "bob", "10.1.0.0", "10.1.0.255")]).unwrap();
    let clock = Arc::new(StateClock::new());
    let mut keying =
        crate::testing::keying_with(pad, Settings::default(), clock, Arc::<Listener>::clone(&listener));
    let told = || listener.0.lock().unwrap().0.clone();
    let offer = keying.propose(proposal("bob"), at(0)).unwrap();
    let class = offer.class;
    assert_eq!((told(), keying.snapshot().sad.iter().count()), (vec![('+', class)], 0));
    let id = keying.install(offer.ticket, gcm(0x1000), at(0)).unwrap();
    listener.0.lock().unwrap().1 = true;
    keying.commit(Transaction::new(vec![Op::Remove(id)]), at(0)).unwrap();
    for seconds in [120, 240, 360] {
        keying.poll(at(seconds));
        assert_eq!(told(), [('+', class)]);
    }
    // A replacement for the expired SA has the class of the latch that waits for it.
    let again = keying.propose(proposal("bob"), at(400)).unwrap();
    assert_eq!(again.class, class);
    drop(again);
    listener.0.lock().unwrap().1 = false;
    keying.poll(at(500));
    keying.poll(at(519));
    assert_eq!(keying.counts().classes, 1, "held until 500, so it lingers");
    keying.poll(at(640));
    assert_eq!(told(), [('+', class), ('-', class)]);
    let other = keying.propose(proposal("bob"), at(640)).unwrap();
    assert_ne!(other.class, class, "ids are not used again");
}

/// T11, RFC 4106 section 2, RFC 7634 section 2: under one key and salt there is one counter, ever.
#[test]
fn t11_a_key_is_installed_once_whatever_became_of_its_sa() {
    let material = |octet: u8| KeyMaterial::new(Suite::AES_128_GCM, &[octet; 20]).unwrap();
    let with = |spi, inbound, outbound| {
        let mut keys = gcm(spi);
        (keys.inbound.material, keys.outbound.material) = (material(inbound), material(outbound));
        keys
    };
    let mut keying = keying();
    let refused = |spi| Err(InstallError::RepeatedKey(Spi::new(spi).unwrap()));
    let both_ways = try_install(&mut keying, proposal("bob"), with(0x1000, 7, 7));
    assert_eq!(both_ways, refused(0x8000_1000), "both ends would seal under it");
    let first = try_install(&mut keying, proposal("bob"), with(0x1000, 7, 8)).unwrap();
    for (inbound, outbound, spi) in [(1, 8, 0x8000_2000), (1, 7, 0x8000_2000), (7, 1, 0x2000), (8, 1, 0x2000)]
    {
        let again = try_install(&mut keying, proposal("carol"), with(0x2000, inbound, outbound));
        assert_eq!(again, refused(spi), "{inbound} {outbound}");
    }
    keying.commit(Transaction::new(vec![Op::Remove(first)]), at(1)).unwrap();
    keying.poll(at(1000));
    let reborn = try_install(&mut keying, proposal("bob"), with(0x3000, 1, 8));
    assert_eq!(reborn, refused(0x8000_3000), "removed, and its numbers were used all the same");
    // What was refused was not used: its key is still fresh.
    try_install(&mut keying, proposal("bob"), with(0x3000, 1, 2)).unwrap();
}

/// T40.
#[test]
fn t40_no_view_and_no_debug_output_shows_a_key_octet() {
    let mut keying = keying();
    let octets = [0xa7; 20];
    let mut keys = gcm(0x1000);
    keys.inbound.material = KeyMaterial::new(Suite::AES_128_GCM, &octets).unwrap();
    keys.outbound.material = KeyMaterial::new(Suite::AES_128_GCM, &[&octets[1..], &[0xa8]].concat()).unwrap();
    let shown = format!("{keys:?}");
    try_install(&mut keying, proposal("bob"), keys).unwrap();
    let shown = format!("{shown}{keying:?}{:?}{:?}", keying.pairs(), keying.snapshot());
    assert!(!shown.contains("167, 167") && !shown.to_lowercase().contains("a7a7"), "{shown}");
}
