//! What the tests of this crate have in common: a small world of peers, ranges and keys.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use latchway_datapath::arrival::Carrier;
use latchway_datapath::sad::{Follow, Path, Scope, Shape};
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::spd::Reqid;
use latchway_datapath::time::Time;
use latchway_esp::{Align, AntiReplay, SequenceKind, Suite, WindowSize};
use latchway_tagging::{AuthMethod, Class, ClassId, Identity, Mode, PadEntryId, StateClock, WorkerId};
use latchway_ulp_shim::{LatchDatabase, Limits, Seed};

use crate::{
    ClassObserver, ClassRefused, Commitment, Committed, Evidence, HeaderKeys, KeyOrigin, Keying, Keys,
    Narrowing, Nat, Op, Pad, PadEntry, PeerPattern, Proposal, PublicKey, SaKeys, Settings, Start, Suites,
    Transaction,
};

pub(crate) fn range(first: &str, last: &str) -> AddressRange {
    AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
}

pub(crate) fn fqdn(name: &str) -> Identity {
    Identity::Fqdn(name.to_owned())
}

pub(crate) fn entry(id: u32, peer: &str, first: &str, last: &str) -> PadEntry {
    PadEntry {
        id: PadEntryId(id),
        name: peer.to_owned(),
        peer: PeerPattern::Exact(fqdn(peer)),
        methods: vec![AuthMethod::Manual],
        standing: None,
        ranges: vec![range(first, last)],
        local: fqdn("here"),
    }
}

pub(crate) fn any_entry(id: u32) -> PadEntry {
    let entry = entry(id, "any", "10.9.0.0", "10.9.255.255");
    PadEntry { peer: PeerPattern::Any, methods: vec![AuthMethod::Btns], ..entry }
}

/// Two peers that may both claim 10.1.0.0/24, as in scenario 2.4, and one elsewhere.
pub(crate) fn keying() -> Keying {
    let entries = vec![
        entry(1, "bob", "10.1.0.0", "10.1.0.255"),
        entry(2, "mallory", "10.1.0.0", "10.1.0.255"),
        entry(3, "carol", "10.3.0.0", "10.3.0.255"),
    ];
    let clock = Arc::new(StateClock::new());
    let limits = Limits { half_open: 1024, half_open_of_peer: 1024, ..Limits::for_flows(1024) };
    let database = LatchDatabase::new(limits, Arc::clone(&clock), Seed::Fixed(7)).unwrap();
    let database = Arc::new(database);
    let observer = Arc::new(Peers(Arc::clone(&database)));
    Keying::new(Pad::new(entries).unwrap(), Settings::default(), clock, database, observer)
}

/// Tells the Latch Database which class is whose, as a gateway does (C-19).
struct Peers(Arc<LatchDatabase>);

impl ClassObserver for Peers {
    fn class_interned(&self, id: ClassId, class: &Class, standing: AuthMethod) -> Result<(), ClassRefused> {
        self.0.peers().publish(id, class.peer, standing, 0).map_err(|_| ClassRefused)
    }

    fn latched(&self, classes: &HashSet<ClassId>) -> HashSet<ClassId> {
        classes.iter().copied().filter(|class| self.0.is_latched(*class)).collect()
    }

    fn class_released(&self, id: ClassId) {
        self.0.peers().retire(id);
    }
}

/// A key manager with a small Latch Database of its own.
pub(crate) fn keying_with(
    pad: Pad,
    settings: Settings,
    clock: Arc<StateClock>,
    observer: Arc<dyn ClassObserver>,
) -> Keying {
    let database = LatchDatabase::new(Limits::for_flows(64), Arc::clone(&clock), Seed::Fixed(7)).unwrap();
    Keying::new(pad, settings, clock, Arc::new(database), observer)
}

pub(crate) fn proposal(peer: &str) -> Proposal {
    let remote =
        if peer == "carol" { range("10.3.0.0", "10.3.0.255") } else { range("10.1.0.0", "10.1.0.255") };
    Proposal {
        peer: fqdn(peer),
        method: AuthMethod::Manual,
        local: fqdn("here"),
        selectors: vec![Selector::between(range("10.0.0.0", "10.0.0.255"), remote)],
        narrowing: Narrowing::Forbidden,
        mode: Mode::Tunnel,
        suites: Suites::both(Suite::AES_128_GCM),
        header: None,
        replay_checked: true,
        reqid: Reqid(1),
        evidence: Evidence::default(),
        local_evidence: Evidence::default(),
        nat: Nat::default(),
    }
}

/// What a stranger with a bare key proposes (RFC 5386), for addresses that [`any_entry`] lets it claim.
pub(crate) fn btns(peer: &str, key: u8) -> Proposal {
    let selectors = vec![Selector::between(range("10.0.0.0", "10.0.0.255"), range("10.9.0.0", "10.9.0.9"))];
    let evidence = Evidence { public_key: Some(public_key(key)), ..Evidence::default() };
    Proposal { method: AuthMethod::Btns, selectors, evidence, ..proposal(peer) }
}

/// An Ed25519 key as RFC 8410 has it, of which only the number matters.
pub(crate) fn public_key(number: u8) -> PublicKey {
    let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    der.extend([number; 32]);
    PublicKey::from_der(&der).unwrap()
}

/// Keys of which only the names matter, other ones at each call; the peer's SPI is ours with the highest bit set.
pub(crate) fn keys(spi: u32, suite: Suite) -> Keys {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let direction = |spi: u32| {
        let mut octets = vec![0; suite.key_len() + suite.salt_len()];
        octets[..8].copy_from_slice(&MADE.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        SaKeys::from_octets(spi, suite, &octets, SequenceKind::Extended).unwrap()
    };
    Keys {
        inbound: direction(spi),
        anti_replay: AntiReplay::Window(WindowSize::MIN),
        outbound: direction(spi | 0x8000_0000),
        header: None,
        align: Align::Rfc,
        path: path(4500),
        shape: Shape::default(),
        follow: Follow::Fixed,
        scope: Scope::Selectors,
        origin: KeyOrigin::Ephemeral,
        resumption: None,
        worker: WorkerId(0),
        start: Start::Active,
    }
}

/// A path without UDP, between these addresses.
pub(crate) fn native_path(from: [u8; 4], to: [u8; 4]) -> Path {
    Path { from: from.into(), to: (to, 0).into(), carrier: Carrier::Native, ..path(4500) }
}

/// What a bundle is proposed as: AH around ESP (RFC 4301 section 4.3).
pub(crate) fn bundle(peer: &str) -> Proposal {
    Proposal { header: Some(Suites::both(Suite::AH_HMAC_SHA_256)), ..proposal(peer) }
}

/// Its keys. SPIs of AH have nothing to do with those of ESP, and are the same here.
pub(crate) fn bundle_keys(spi: u32) -> Keys {
    let Keys { inbound, outbound, .. } = keys(spi, Suite::AH_HMAC_SHA_256);
    let path = native_path([192, 0, 2, 254], [192, 0, 2, 1]);
    Keys { header: Some(HeaderKeys { inbound, outbound }), path, ..keys(spi, Suite::AES_128_GCM) }
}

/// Commits, and lets it come into force where it must be waited for. No worker may be in the middle of a batch.
pub(crate) fn commit(keying: &mut Keying, ops: Vec<Op>) -> Committed {
    match keying.commit(Transaction::new(ops), at(0)).unwrap() {
        Commitment::InForce(committed) => committed,
        Commitment::Staged => keying.poll(at(0)).changed.unwrap().into(),
    }
}

pub(crate) fn path(port: u16) -> Path {
    Path::udp(0, ([192, 0, 2, 1], port).into(), 1500)
}

pub(crate) fn at(seconds: u64) -> Time {
    Time::default() + Duration::from_secs(seconds)
}

/// A number that counts how often one is compared with another.
#[derive(Debug, Hash)]
#[expect(clippy::derived_hash_with_manual_eq, reason = "equal is what it would be, but counted")]
pub(crate) struct Counted(pub u32);

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        COMPARED.set(COMPARED.get() + 1);
        self.0 == other.0
    }
}

impl Eq for Counted {}

/// What a closure gives, and how often it compared.
pub(crate) fn compared<R>(by: impl FnOnce() -> R) -> (R, usize) {
    COMPARED.set(0);
    (by(), COMPARED.get())
}

thread_local! {
    static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
