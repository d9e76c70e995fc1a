//! Who a peer is: what proves it, what makes it the same another time, and where it stands (L-11, L-29 to L-32, R-1,
//! RFC 5386 section 2).

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{LatchTerms, OnConflict};
use latchway_esp::Suite;
use latchway_tagging::{
    AuthMethod, Class, ClassId, Credential, Identity, PadEntryId, PeerPattern, StateClock, StateVersion,
};
use latchway_ulp_shim::Begin;

use crate::binding::{binding, end_points};
use crate::testing::{any_entry, at, btns, entry, fqdn, keying_with, keys, proposal, public_key, range};
use crate::{
    Certificate, Change, ClassObserver, ClassRefused, Evidence, EvidenceError, EvidenceLimit, Fingerprint,
    Keying, Nat, NewPair, Pad, PadEntry, PadError, Party, Proposal, Refusal, Settings, Suites, TrustAnchor,
    Unobserved,
};

/// Two certificates of one peer, by one anchor.
const ONE: &[u8] = include_bytes!("certificates/one.der");
const TWO: &[u8] = include_bytes!("certificates/two.der");
/// One that has, beside its subject, the name "bank.example" with a NUL and more behind it.
const NUL: &[u8] = include_bytes!("certificates/nul.der");
/// The anchor's own.
const CA: &[u8] = include_bytes!("certificates/ca.der");
const SUBJECT: &str = "dn:CN=b,O=Example\\, Inc.,C=DE";

fn named(identity: &str) -> Identity {
    identity.parse().unwrap()
}

fn anchor() -> TrustAnchor {
    TrustAnchor::of(&Certificate::from_der(CA).unwrap()).unwrap()
}

fn certified(der: &[u8], second: u64) -> Evidence {
    Evidence {
        certificate: Some(Certificate::from_der(der).unwrap()),
        anchor: Some(anchor()),
        public_key: None,
        authenticated_at: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second)),
    }
}

fn proven(evidence: Evidence) -> Proposal {
    Proposal { peer: fqdn("b.example"), method: AuthMethod::Certificate, evidence, ..proposal("bob") }
}

fn pad() -> Pad {
    let branch = PadEntry {
        peer: "*.example".parse().unwrap(),
        methods: AuthMethod::ALL.to_vec(),
        ..entry(1, "branch", "10.1.0.0", "10.1.0.255")
    };
    Pad::new(vec![branch, any_entry(9)]).unwrap()
}

fn knowing(pad: Pad, settings: Settings) -> Keying {
    keying_with(pad, settings, Arc::new(StateClock::new()), Arc::new(Unobserved))
}

#[test]
fn rfc_5280_4_2_1_6_a_certificate_names_its_subject_and_what_is_beside_it() {
    let certificate = Certificate::from_der(ONE).unwrap();
    let names = |identity: &str| certificate.names(&named(identity));
    for identity in [
        SUBJECT,
        "b.example",
        "B.Example",
        "j@b.example",
        "192.0.2.7",
        "2001:db8::7",
        "dn:CN=Alt,O=Example,C=DE",
    ] {
        assert!(names(identity), "{identity}");
    }
    for identity in [
        "x.w.example",
        "a.b.example",
        "J@b.example",
        "192.0.2.8",
        "dn:CN=b",
        "dn:O=Example\\, Inc.,C=DE",
        "keyid:62",
    ] {
        assert!(!names(identity), "{identity}");
    }
    assert!(certificate.names(&Identity::PublicKey(certificate.key().der().to_vec())));
    assert_eq!((certificate.der(), certificate.fingerprint()), (ONE, Fingerprint::of(ONE)));
    let hostile = Certificate::from_der(NUL).unwrap();
    assert!(
        !hostile.names(&named("bank.example"))
            && !hostile.names(&Identity::Fqdn("bank.example\0.evil.test".into()))
    );
}

#[test]
fn whatever_else_is_given_as_a_certificate_is_refused() {
    for length in 0..ONE.len() {
        assert!(Certificate::from_der(&ONE[..length]).is_err(), "{length}");
    }
    assert!(Certificate::from_der(&[ONE, &[0]].concat()).is_err());
    let huge = vec![0x30; 16 * 1024 + 1];
    assert_eq!(Certificate::from_der(&huge), Err(EvidenceError::LargeCertificate(huge.len())));
    let mut random = fastrand::Rng::with_seed(0x1a7c);
    for _ in 0..5000 {
        let mut der = ONE.to_vec();
        for _ in 0..random.usize(1..4) {
            let place = random.usize(..der.len());
            der[place] = random.u8(..);
        }
        // Read or refused, and what is read can be asked and shown.
        if let Ok(certificate) = Certificate::from_der(&der) {
            let _ = certificate.names(&fqdn("b.example"));
            assert!(!format!("{certificate:?}").is_empty());
        }
    }
}

#[test]
fn l_29_each_method_comes_with_its_evidence_and_no_other() {
    let key = Evidence { public_key: Some(public_key(1)), ..Evidence::default() };
    let whole = certified(ONE, 1);
    let bare = Evidence { anchor: None, ..whole.clone() };
    let (none, peer) = (Evidence::default(), fqdn("b.example"));
    for method in AuthMethod::ALL {
        let takes = |evidence: &Evidence| evidence.credential(&peer, method).is_ok();
        let expected = match method {
            AuthMethod::Manual | AuthMethod::PreSharedKey => [true, false, false],
            AuthMethod::Certificate => [false, false, true],
            _ => [false, true, false],
        };
        assert_eq!([takes(&none), takes(&key), takes(&whole)], expected, "{method:?}");
    }
    let missing = bare.credential(&peer, AuthMethod::Certificate).unwrap_err();
    assert_eq!(missing, EvidenceError::Missing { method: AuthMethod::Certificate, missing: "trust anchor" });
    let other = whole.credential(&fqdn("c.example"), AuthMethod::Certificate).unwrap_err();
    assert!(matches!(other, EvidenceError::OtherName { .. }), "{other}");
    let two_keys = Evidence { public_key: Some(public_key(1)), ..whole };
    assert_eq!(two_keys.credential(&peer, AuthMethod::Certificate), Err(EvidenceError::OtherKey));
    let hers = Identity::PublicKey(public_key(2).der().to_vec());
    assert_eq!(key.credential(&hers, AuthMethod::PublicKey), Err(EvidenceError::OtherKey));
    assert!(none.credential(&hers, AuthMethod::PublicKey).is_ok(), "the identity is the key");
}

/// L-11, R-2: a renewed certificate is the same peer, and another anchor, key or name is another.
#[test]
fn l_11_a_renewed_certificate_changes_no_class_and_another_anchor_does() {
    let mut keying = knowing(pad(), Settings::default());
    let mut class = |proposal: Proposal| keying.propose(proposal, at(0)).unwrap().class;
    let first = class(proven(certified(ONE, 1)));
    assert_eq!(class(proven(certified(TWO, 2))), first);
    let spelt = Proposal { peer: fqdn("B.EXAMPLE"), ..proven(certified(TWO, 2)) };
    assert_eq!(class(spelt), first, "RFC 4343: one name");
    let fake = Evidence {
        anchor: Some(TrustAnchor::new("CN=Anchor,O=Example,C=DE", Fingerprint([7; 32])).unwrap()),
        ..certified(ONE, 3)
    };
    assert_ne!(class(proven(fake)), first);
    let by_key = |number| {
        let evidence = Evidence { public_key: Some(public_key(number)), ..Evidence::default() };
        Proposal { method: AuthMethod::PublicKey, evidence, ..proven(Evidence::default()) }
    };
    let (one, again, two) = (class(by_key(1)), class(by_key(1)), class(by_key(2)));
    assert!(one == again && one != two && one != first);
}

/// L-29 to L-31: kept once for each identity, the newest, as long as anything holds it.
#[test]
fn l_30_the_newest_certificate_and_its_anchor_are_given_back() {
    let mut keying = knowing(pad(), Settings::default());
    let offer = keying.propose(proven(certified(ONE, 5)), at(0)).unwrap();
    let peer = keying.class(offer.class).unwrap().peer;
    let kept = |keying: &Keying| {
        keying.evidence(peer).and_then(|evidence| evidence.certificate).map(|c| c.der().to_vec())
    };
    assert_eq!(kept(&keying).as_deref(), Some(ONE));
    let older = keying.propose(proven(certified(TWO, 4)), at(0)).unwrap();
    assert_eq!(kept(&keying).as_deref(), Some(ONE), "an older one does not replace it");
    let newer = keying.propose(proven(certified(TWO, 6)), at(0)).unwrap();
    assert_eq!(kept(&keying).as_deref(), Some(TWO));
    assert_eq!(keying.evidence(peer).unwrap().anchor, Some(anchor()), "L-31");
    let row = &keying.peers()[0];
    assert_eq!((row.identities.len(), row.identities[0].record.method), (1, AuthMethod::Certificate));
    drop((offer, older, newer));
    keying.poll(at(1));
    keying.poll(at(1000));
    assert_eq!((keying.evidence(peer), keying.counts().classes), (None, 0));
}

/// L-29 to L-31: a live identity is shown with what accepted proposals came with, not with what was refused.
#[test]
fn l_30_the_certificate_of_a_refused_proposal_replaces_none() {
    let pair = |der, second, suite| {
        let suites = Suites::both(suite);
        Proposal { suites, ..proven(certified(der, second)) }
    };
    let mut keying = knowing(pad(), Settings::default());
    let held = pair(ONE, 5, Suite::AES_128_GCM);
    let offer = keying.propose(held, at(0)).unwrap();
    let peer = keying.class(offer.class).unwrap().peer;
    keying.database().peers().publish(offer.class, peer, AuthMethod::Certificate, 0).unwrap();
    let flow = FlowKey::new(protocol::TCP, ([10, 0, 0, 1], 5).into(), ([10, 1, 0, 1], 80).into());
    let keeps = LatchTerms { on_conflict: OnConflict::RejectNewcomer, ..LatchTerms::default() };
    let begin = Begin::Established { class: offer.class, version: StateVersion::default() };
    keying.database().connect(&flow, begin, keeps, at(0)).unwrap();
    // Of the same peer, with other protection: a latch that does not give way is in its way.
    let newcomer = || pair(TWO, 6, Suite::AES_256_GCM);
    assert!(matches!(keying.propose(newcomer(), at(0)), Err(Refusal::HolderKeeps { .. })));
    let add = vec![NewPair { proposal: newcomer(), keys: keys(0x1000, Suite::AES_256_GCM) }];
    keying.begin_change(Change { add, ..Change::default() }, at(0)).unwrap_err();
    let kept = |keying: &Keying| keying.evidence(peer).unwrap().certificate.unwrap().der().to_vec();
    assert_eq!(kept(&keying), ONE);
    // What is accepted comes with its own, offered or configured.
    let add = |der, second, spi| {
        let proposal = pair(der, second, Suite::AES_128_GCM);
        vec![NewPair { proposal, keys: keys(spi, Suite::AES_128_GCM) }]
    };
    keying.begin_change(Change { add: add(TWO, 7, 0x1001), ..Change::default() }, at(0)).unwrap();
    assert_eq!(kept(&keying), TWO);
}

#[test]
fn evidence_has_a_cap_and_a_refusal_leaves_nothing_behind() {
    let evidence = EvidenceLimit(ONE.len() + 200);
    let mut keying = knowing(pad(), Settings { evidence, ..Settings::default() });
    let held = keying.propose(proven(certified(ONE, 1)), at(0)).unwrap();
    let other = Proposal { peer: named("192.0.2.7"), ..proven(certified(TWO, 1)) };
    // The address has no entry of its own.
    assert!(matches!(keying.propose(other, at(0)), Err(Refusal::MethodNotAccepted { .. })));
    let fake = TrustAnchor::new("CN=x", Fingerprint([7; 32])).unwrap();
    let second = || proven(Evidence { anchor: Some(fake.clone()), ..certified(TWO, 1) });
    assert_eq!(keying.propose(second(), at(0)).unwrap_err(), Refusal::TooMuchEvidence(evidence.0));
    assert!(keying.propose(proven(certified(TWO, 2)), at(0)).is_ok(), "one in the place of the other fits");
    drop(held);
    keying.poll(at(1));
    keying.poll(at(1000));
    assert!(keying.propose(second(), at(1000)).is_ok());
}

/// RFC 5386 section 2: whom no entry knows by name is its key, and a name that one knows is proven as that wants.
#[test]
fn rfc_5386_2_a_stranger_with_a_bare_key_is_that_key() {
    let bob = entry(1, "bob", "10.1.0.0", "10.1.0.255");
    let mut keying = knowing(Pad::new(vec![bob, any_entry(9)]).unwrap(), Settings::default());
    let [eve, alias, other] = [btns("eve", 1), btns("trudy", 1), btns("eve", 2)]
        .map(|proposal| keying.propose(proposal, at(0)).unwrap());
    assert_eq!(eve.class, alias.class, "what it calls itself proves nothing");
    assert_ne!(eve.class, other.class, "L-11: the key must stay what it is");
    let record = keying.identity(keying.class(eve.class).unwrap().peer).unwrap();
    assert_eq!(record.asserted, Identity::PublicKey(public_key(1).der().to_vec()));
    assert_eq!(
        (record.authorised, keying.standing(eve.class)),
        (Some(PadEntryId(9)), Some(AuthMethod::Btns))
    );
    let refusal = keying.propose(btns("bob", 1), at(0)).unwrap_err();
    assert!(matches!(refusal, Refusal::MethodNotAccepted { .. }), "{refusal}");
    let wide = PadEntry { ranges: vec![range("10.0.0.0", "10.255.255.255")], ..any_entry(9) };
    let overlap = Pad::new(vec![entry(1, "bob", "10.1.0.0", "10.1.0.255"), wide]).unwrap_err();
    assert_eq!(overlap, PadError::AnybodyOverlaps { any: "any".into(), entry: "bob".into() });
}

/// R-1, C-23, L-32: who we are is part of the class, where a NAT is not.
#[test]
fn l_32_a_nat_is_told_and_is_in_no_class() {
    let mut keying = knowing(pad(), Settings::default());
    let nat =
        Nat { remote: Some(true), remote_inner: Some(([192, 168, 0, 9], 4500).into()), ..Nat::default() };
    let behind = Proposal { nat, ..proven(certified(ONE, 1)) };
    let offer = keying.propose(behind, at(0)).unwrap();
    assert_eq!(keying.propose(proven(certified(ONE, 1)), at(0)).unwrap().class, offer.class);
    let class = offer.class;
    let keys = crate::testing::keys(0x1000, latchway_esp::Suite::AES_128_GCM);
    let pair = keying.install(offer.ticket, keys, at(0)).unwrap();
    assert_eq!((keying.nat(class), keying.pairs()[0].id), (Some(nat), pair));
    let again = crate::testing::keys(0x1001, latchway_esp::Suite::AES_128_GCM);
    let next = keying.rekey(pair, again, at(0)).unwrap();
    let class_of = |id| keying.pairs().into_iter().find(|pair| pair.id == id).unwrap().class;
    assert_eq!(class_of(next), class, "R-2: a rekey needs no new evidence");
}

#[test]
fn hostile_names_are_refused_before_the_pad_is_asked() {
    let mut keying = knowing(pad(), Settings::default());
    for name in ["b.example\0.evil.test", "b.example.", "", "b\u{fc}cher.example", "*.example"] {
        let refusal = keying.propose(Proposal { peer: fqdn(name), ..proposal("bob") }, at(0)).unwrap_err();
        assert!(matches!(refusal, Refusal::NoIdentity(_)), "{name:?}: {refusal}");
    }
}

/// Hears standings.
#[derive(Default)]
struct Heard(Mutex<Vec<(ClassId, AuthMethod)>>);

impl ClassObserver for Heard {
    fn class_interned(&self, id: ClassId, _: &Class, standing: AuthMethod) -> Result<(), ClassRefused> {
        self.0.lock().unwrap().push((id, standing));
        Ok(())
    }
}

/// L-70: an entry may hold the standing of its peers down, and a change of that is told of at once.
#[test]
fn l_70_standing_is_that_of_the_method_or_what_the_entry_allows() {
    let capped = |standing| {
        let [mut branch, any] = <[PadEntry; 2]>::try_from(pad().entries().to_vec()).unwrap();
        branch.standing = standing;
        Pad::new(vec![branch, any]).unwrap()
    };
    let heard = Arc::new(Heard::default());
    let (clock, observer) = (Arc::new(StateClock::new()), Arc::<Heard>::clone(&heard));
    let mut keying =
        keying_with(capped(Some(AuthMethod::PreSharedKey)), Settings::default(), clock, observer);
    let offer = keying.propose(proven(certified(ONE, 1)), at(0)).unwrap();
    assert_eq!(keying.standing(offer.class), Some(AuthMethod::PreSharedKey));
    keying.begin_change(Change { pad: Some(capped(None)), ..Change::default() }, at(0)).unwrap();
    assert_eq!(keying.standing(offer.class), Some(AuthMethod::Certificate));
    let told = [AuthMethod::PreSharedKey, AuthMethod::Certificate].map(|standing| (offer.class, standing));
    assert_eq!(*heard.0.lock().unwrap(), told);
}

/// RFC 4301 4.4.3: among 10,000 entries the first that matches decides, as a look at each would find.
#[test]
fn rfc_4301_4_4_3_the_first_of_ten_thousand_entries_that_matches_is_found() {
    let pattern = |number: u32| -> PeerPattern {
        let text = match number % 5 {
            0 => format!("b{number}.example"),
            1 => format!("*.c{number}.example"),
            2 => format!("*@d{number}.example"),
            3 => format!("dn:*,O=o{number}"),
            _ => format!("10.{}.{}.0/24", number / 250, number % 250),
        };
        text.parse().unwrap()
    };
    let row = |number| PadEntry {
        peer: pattern(number),
        ..entry(number, &number.to_string(), "10.1.0.0", "10.1.0.255")
    };
    let pad =
        Pad::new((0..10_000).map(row).chain([PadEntry { id: PadEntryId(10_000), ..any_entry(9) }]).collect());
    let pad = pad.unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..2000 {
        let number = random.u32(..10_500);
        let peer = match random.u8(..6) {
            0 => format!("b{number}.example"),
            1 => format!("x.y.c{number}.example"),
            2 => format!("c{number}.example"),
            3 => format!("j@d{number}.example"),
            4 => format!("dn:CN=x,OU=y,O=o{number}"),
            _ => format!("10.{}.{}.7", number / 250 % 256, number % 250),
        };
        let peer = named(&peer);
        let slow = pad.entries().iter().find(|entry| entry.peer.matches(&peer));
        assert_eq!(pad.find(&peer), slow, "{peer}");
    }
}

/// C-15: the keys of both ends are part of the class, so that a connection is bound to those that its SAs were proven with, and to
/// none that either end has proven, or was proposed with, since; a successor has the same.
#[test]
fn c_15_a_class_is_bound_to_the_keys_that_its_sas_were_proven_with() {
    let mut keying = knowing(pad(), Settings::default());
    let ours = |number| Evidence { public_key: Some(public_key(number)), ..Evidence::default() };
    let proposed =
        |der, second, local_evidence| Proposal { local_evidence, ..proven(certified(der, second)) };
    let key_of = |der| Certificate::from_der(der).unwrap().key().clone();
    let text = |der, number| binding(end_points(&key_of(der), &public_key(number)));
    let bound = |keying: &Keying, class: ClassId| {
        let id = keying.class(class).unwrap().local;
        let (record, evidence) = (keying.identity(id).unwrap(), keying.evidence(id));
        Party { id, record, entry: None, evidence }.channel_binding()
    };
    let offer = keying.propose(proposed(ONE, 1, ours(1)), at(0)).unwrap();
    let one = offer.class;
    assert_eq!(bound(&keying, one), Some(text(ONE, 1)));
    let first = keying.install(offer.ticket, keys(0x3000, Suite::AES_128_GCM), at(0)).unwrap();
    // Another key of the same name, under the same anchor, is newer: of another connection, or of none.
    assert_ne!(key_of(ONE), key_of(TWO));
    let newer = keying.propose(proposed(TWO, 9, ours(1)), at(0)).unwrap().class;
    let other = keying.propose(proposed(ONE, 9, ours(2)), at(0)).unwrap().class;
    let unknown = keying.propose(proven(certified(ONE, 9)), at(0)).unwrap().class;
    assert_eq!([newer, other].map(|class| bound(&keying, class)), [Some(text(TWO, 1)), Some(text(ONE, 2))]);
    assert_eq!((bound(&keying, unknown), bound(&keying, one)), (None, Some(text(ONE, 1))));
    assert_eq!(HashSet::from([one, newer, other, unknown]).len(), 4);
    assert_eq!(keying.class(newer).unwrap().peer, keying.class(one).unwrap().peer, "L-11: the same peer");
    let next = keying.rekey(first, keys(0x3001, Suite::AES_128_GCM), at(1)).unwrap();
    for pair in [first, next] {
        assert_eq!(keying.pairs().iter().find(|view| view.id == pair).unwrap().class, one, "C-25");
    }
}

/// C-15: what is given as ours must be ours, and where the peer proved no key there is none to bind to.
#[test]
fn c_15_evidence_of_ours_names_us_and_has_one_key() {
    let (ours, certificate) = (fqdn("b.example"), certified(ONE, 1));
    assert_eq!(certificate.own_key(&ours).unwrap().as_ref(), Some(Certificate::from_der(ONE).unwrap().key()));
    let other = certificate.own_key(&fqdn("here")).unwrap_err();
    assert!(matches!(other, EvidenceError::OtherName { .. }), "{other}");
    let two_keys = Evidence { public_key: Some(public_key(1)), ..certificate };
    assert_eq!(two_keys.own_key(&ours), Err(EvidenceError::OtherKey));
    assert_eq!(Evidence::default().own_key(&ours), Ok(None));

    let mut keying = knowing(pad(), Settings::default());
    let local_evidence = Evidence { public_key: Some(public_key(1)), ..Evidence::default() };
    for method in [AuthMethod::Manual, AuthMethod::PreSharedKey] {
        let local_evidence = local_evidence.clone();
        let proposal = Proposal { method, local_evidence, ..proven(Evidence::default()) };
        let class = keying.propose(proposal, at(0)).unwrap().class;
        let local = keying.identity(keying.class(class).unwrap().local).unwrap();
        assert!(matches!(local.credential, Credential::Key(_)), "{method:?}");
    }
}
