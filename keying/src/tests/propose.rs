//! Proposals: the PAD first, then narrowing, then the class (RFC 4301 section 4.4.3, L-69 to L-73).

use std::sync::Arc;

use latchway_datapath::selector::{AddressRange, PortRange, Selector};
use latchway_esp::Suite;
use latchway_tagging::{AuthMethod, ClassLimit, IdentityLimit, Mode, PadEntryId, StateClock};

use crate::testing::{any_entry, at, btns, entry, fqdn, keying, keys, proposal, range};
use crate::{Keying, Narrowing, Pad, PadEntry, Proposal, Refusal, Settings, Suites, Unobserved};

fn claiming(peer: &str, claims: &[AddressRange]) -> Proposal {
    let ours = range("10.0.0.0", "10.0.0.255");
    let selectors = claims.iter().map(|claim| Selector::between(ours, *claim)).collect();
    Proposal { selectors, ..proposal(peer) }
}

fn here(pad: Pad, settings: Settings) -> Keying {
    crate::testing::keying_with(pad, settings, Arc::new(StateClock::new()), Arc::new(Unobserved))
}

#[test]
fn rfc_4301_4_4_3_the_pad_is_asked_before_anything_else() {
    let mut keying = keying();
    // Each is wrong in more than one way; the PAD's word comes first.
    let stranger = Proposal { mode: Mode::Transport, selectors: vec![], ..proposal("eve") };
    let refusal = keying.propose(stranger, at(0)).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownPeer { peer: fqdn("eve") });
    let weak = Proposal { method: AuthMethod::Btns, local: fqdn("else"), ..proposal("bob") };
    let refusal = keying.propose(weak, at(0)).unwrap_err();
    assert!(matches!(&refusal, Refusal::MethodNotAccepted { method: AuthMethod::Btns, .. }));
    assert_eq!(
        refusal.to_string(),
        "PAD entry \"bob\" does not accept btns, only manual; authenticate so, or list the method"
    );
    let other = Proposal { local: fqdn("else"), ..proposal("bob") };
    let refusal = keying.propose(other, at(0)).unwrap_err();
    assert!(matches!(refusal, Refusal::WrongLocalIdentity { expected, .. } if expected == fqdn("here")));
    assert_eq!(keying.counts(), crate::Counts::default(), "a refusal holds nothing");
}

#[test]
fn rfc_4301_4_4_3_3_a_peer_claims_no_address_outside_its_ranges() {
    let mut keying = keying();
    let foreign = range("10.3.0.0", "10.3.0.255");
    for narrowing in [Narrowing::Forbidden, Narrowing::Allowed] {
        let proposal = Proposal { narrowing, ..claiming("bob", &[foreign]) };
        let refusal = keying.propose(proposal, at(0)).unwrap_err();
        let allowed = vec![range("10.1.0.0", "10.1.0.255")];
        let expected = Refusal::OutsideRanges { entry: "bob".into(), claimed: foreign, allowed };
        assert_eq!(refusal, expected);
        assert!(refusal.to_string().contains("claim 10.3.0.0-10.3.0.255, only 10.1.0.0-10.1.0.255;"));
    }
    assert!(keying.propose(claiming("carol", &[foreign]), at(0)).is_ok(), "whose range it is may");
}

#[test]
fn l_73_a_proposal_that_exceeds_its_ranges_is_narrowed_where_that_is_allowed_and_refused_where_not() {
    let mut keying = keying();
    let wide = [range("10.1.0.200", "10.1.2.0"), AddressRange::ANY_V4];
    let ports = PortRange::new(&(80..=80));
    let mut asked = claiming("bob", &wide);
    asked.selectors[0].remote_ports = ports;
    let refusal = keying.propose(asked.clone(), at(0)).unwrap_err();
    assert!(matches!(refusal, Refusal::OutsideRanges { claimed, .. } if claimed == wide[0]));
    let offer = keying.propose(Proposal { narrowing: Narrowing::Allowed, ..asked }, at(0)).unwrap();
    let ours = range("10.0.0.0", "10.0.0.255");
    let first = Selector::between(ours, range("10.1.0.200", "10.1.0.255"));
    let second = Selector::between(ours, range("10.1.0.0", "10.1.0.255"));
    assert_eq!(*offer.selectors, [Selector { remote_ports: ports, ..first }, second]);
    // What was narrowed is what gets installed.
    let id = keying.install(offer.ticket, keys(0x1000, Suite::AES_128_GCM), at(0)).unwrap();
    assert_eq!(keying.pairs()[0].id, id);
    assert_eq!(keying.pairs()[0].selectors, *offer.selectors);
}

#[test]
fn l_73_narrowing_keeps_to_the_family_and_drops_what_lies_wholly_outside() {
    let both = PadEntry {
        ranges: vec![range("10.1.0.0", "10.1.0.9"), range("fd01::", "fd01::ff")],
        ..entry(1, "bob", "::", "::")
    };
    let mut keying = here(Pad::new(vec![both]).unwrap(), Settings::default());
    let ours = range("fd00::", "fd00::1");
    let selectors = vec![
        Selector::between(ours, AddressRange::ANY_V6),
        Selector::between(range("10.0.0.1", "10.0.0.1"), range("10.2.0.0", "10.2.0.1")),
    ];
    let asked = Proposal { selectors, narrowing: Narrowing::Allowed, ..proposal("bob") };
    let offer = keying.propose(asked, at(0)).unwrap();
    assert_eq!(*offer.selectors, [Selector::between(ours, range("fd01::", "fd01::ff"))]);
    let mixed = Selector::between(ours, range("10.1.0.0", "10.1.0.9"));
    let refusal = keying.propose(Proposal { selectors: vec![mixed], ..proposal("bob") }, at(0)).unwrap_err();
    assert!(matches!(refusal, Refusal::MixedFamilies { .. }));
    let refusal = keying.propose(Proposal { selectors: vec![], ..proposal("bob") }, at(0)).unwrap_err();
    assert_eq!(refusal, Refusal::NoSelectors);
    let many = vec![range("10.1.0.1", "10.1.0.1"); 256];
    let refusal = keying.propose(claiming("bob", &many), at(0)).unwrap_err();
    assert_eq!(refusal, Refusal::TooManySelectors(256));
}

#[test]
fn r_2_equal_parameters_are_one_class_and_every_latched_parameter_makes_another() {
    let mut keying = keying();
    let mut offers = Vec::new();
    let mut class = |proposal| {
        offers.push(keying.propose(proposal, at(0)).unwrap());
        offers[offers.len() - 1].class
    };
    let base = class(proposal("bob"));
    let narrower = claiming("bob", &[range("10.1.0.7", "10.1.0.7")]);
    assert_eq!(class(proposal("bob")), base);
    assert_eq!(class(narrower), base, "selectors are not latched");
    let inbound = Suites { inbound: Suite::AES_256_GCM, outbound: Suite::AES_128_GCM };
    let others = [
        class(Proposal { suites: inbound, ..proposal("bob") }),
        class(Proposal { suites: Suites::both(Suite::CHACHA20_POLY1305), ..proposal("bob") }),
        class(Proposal { suites: Suites::both(Suite::AES_128_CBC_HMAC_SHA_256), ..proposal("bob") }),
        class(Proposal { suites: Suites::both(Suite::AES_256_CBC_HMAC_SHA_256), ..proposal("bob") }),
        class(Proposal { replay_checked: false, ..proposal("bob") }),
        class(proposal("mallory")),
    ];
    let mut distinct = others.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!((distinct.len(), distinct.contains(&base)), (6, false));
    let interned = keying.class(others[5]).unwrap();
    let peer = keying.identity(interned.peer).unwrap();
    assert_eq!((peer.asserted, peer.authorised), (fqdn("mallory"), Some(PadEntryId(2))));
    assert_eq!(keying.identity(interned.local).unwrap().asserted, fqdn("here"));
}

/// RFC 4301 section 4.3: AH goes around ESP, in both directions.
#[test]
fn rfc_4301_4_3_headers_that_do_not_nest_are_refused() {
    let (esp, ah) = (Suites::both(Suite::AES_128_GCM), Suites::both(ah()));
    let mixed = Suites { inbound: Suite::AES_128_GCM, ..ah };
    for (suites, header) in [(mixed, None), (ah, Some(ah)), (esp, Some(esp)), (esp, Some(mixed))] {
        let proposal = Proposal { suites, header, ..proposal("bob") };
        assert_eq!(keying().propose(proposal, at(0)).unwrap_err(), Refusal::Nesting);
    }
    for (suites, header) in [(ah, None), (esp, Some(ah))] {
        assert!(keying().propose(Proposal { suites, header, ..proposal("bob") }, at(0)).is_ok());
    }
}

/// L-6, L-7, L-9: each changed alone makes another class, which breaks latches.
#[test]
fn l_6_to_l_9_ah_bundle_mode_and_length_of_the_icv_are_of_the_class() {
    let mut keying = keying();
    let mut class = |proposal| keying.propose(proposal, at(0)).unwrap().class;
    let named = |name: &str| Suites::both(name.parse().unwrap());
    let esp = named("aes-128-cbc-hmac-sha-256");
    let of = |suites| Proposal { suites, ..proposal("bob") };
    let classes = [
        class(of(esp)),
        class(Proposal { mode: Mode::Transport, ..of(esp) }),
        class(Proposal { header: Some(Suites::both(ah())), ..of(esp) }),
        class(of(Suites::both(ah()))),
        class(of(named("null-hmac-sha-256"))),
        class(of(named("aes-128-gcm"))),
        class(of(named("aes-128-gcm-8"))),
        class(of(named("aes-128-gmac"))),
        class(of(named("ah-aes-128-gmac"))),
        class(of(named("ah-hmac-sha-384"))),
    ];
    let mut distinct = classes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), classes.len(), "{classes:?}");
    assert_eq!(class(of(esp)), classes[0]);
}

fn ah() -> Suite {
    "ah-hmac-sha-256".parse().unwrap()
}

#[test]
fn caps_refuse_and_leave_no_hold_behind() {
    let pad = || Pad::new(vec![entry(1, "bob", "10.1.0.0", "10.1.0.255")]).unwrap();
    let mut no_class = here(pad(), Settings { classes: ClassLimit(0), ..Settings::default() });
    assert!(matches!(no_class.propose(proposal("bob"), at(0)), Err(Refusal::Class(_))));
    let mut no_identity = here(pad(), Settings { identities: IdentityLimit(0), ..Settings::default() });
    assert!(matches!(no_identity.propose(proposal("bob"), at(0)), Err(Refusal::Identity(_))));
    assert_eq!((no_class.counts().classes, no_identity.counts().classes), (0, 0));
    // Each stranger would take the one identity of its entry, had the refusal before not given it back.
    let caps = Settings { classes: ClassLimit(0), identities: IdentityLimit(1), ..Settings::default() };
    let mut strangers = here(Pad::new(vec![any_entry(1)]).unwrap(), caps);
    for (key, name) in [(1, "eve"), (2, "trudy")] {
        let refusal = strangers.propose(btns(name, key), at(0)).unwrap_err();
        assert!(matches!(refusal, Refusal::Class(_)), "{name}: {refusal}");
    }
    let mut one_offer = here(pad(), Settings { offers: 1, ..Settings::default() });
    let offer = one_offer.propose(proposal("bob"), at(0)).unwrap();
    assert_eq!(one_offer.propose(proposal("bob"), at(0)).unwrap_err(), Refusal::TooManyOffers(1));
    drop(offer);
    assert!(one_offer.propose(proposal("bob"), at(0)).is_ok(), "a dropped ticket gives its place back");
}

#[test]
fn offers_expire_and_dropped_tickets_return_their_holds() {
    let mut keying = keying();
    let kept = keying.propose(proposal("bob"), at(0)).unwrap();
    let dropped = keying.propose(proposal("carol"), at(0)).unwrap();
    assert_eq!((keying.counts().offers, keying.counts().classes), (2, 2));
    drop(dropped);
    keying.poll(at(1));
    assert_eq!(keying.counts().offers, 1);
    keying.poll(at(29));
    assert_eq!(keying.counts().offers, 1);
    keying.poll(at(30));
    assert_eq!(keying.counts().offers, 0);
    let late = keying.install(kept.ticket, keys(0x1000, Suite::AES_128_GCM), at(30));
    assert_eq!(late, Err(crate::InstallError::TicketSpent));
    keying.poll(at(30 + 120));
    assert_eq!(keying.counts().classes, 0);
    assert_eq!(keying.class(kept.class), None);
}

/// A provider outside the process: what it holds is a text, and nothing else in the world is as good.
#[test]
fn a_ticket_that_was_written_down_stands_until_it_is_used_withdrawn_or_over() {
    let mut keying = keying();
    let written = |keying: &mut crate::Keying, now| {
        let offer = keying.propose(proposal("bob"), now).unwrap();
        assert_eq!(offer.expires, now + std::time::Duration::from_secs(30));
        offer.ticket.into_text()
    };
    let [used, withdrawn, over] = [(); 3].map(|()| written(&mut keying, at(0)));
    assert_eq!(keying.counts().offers, 3);
    let read = |text: &crate::TicketText| text.as_str().parse::<crate::Ticket>().unwrap();
    // Reading it takes nothing, nor does dropping what was read.
    drop(read(&used));
    keying.poll(at(1));
    assert_eq!(keying.counts().offers, 3);
    // A guess, even at one that is out, is none.
    let (number, _) = used.as_str().split_once('-').unwrap();
    let guessed = format!("{number}-{}", "0".repeat(32)).parse().unwrap();
    let keys = |spi| crate::testing::keys(spi, latchway_esp::Suite::AES_128_GCM);
    assert_eq!(keying.install(guessed, keys(0x1000), at(1)), Err(crate::InstallError::TicketSpent));
    assert!(!keying.withdraw(&format!("{number}-{}", "f".repeat(32)).parse().unwrap(), at(1)));
    assert_eq!(keying.counts().offers, 3);

    assert!(keying.install(read(&used), keys(0x1001), at(1)).is_ok());
    assert_eq!(keying.install(read(&used), keys(0x1002), at(1)), Err(crate::InstallError::TicketSpent));
    assert!(keying.withdraw(&read(&withdrawn), at(1)));
    assert!(!keying.withdraw(&read(&withdrawn), at(1)));
    let number = read(&over).number();
    keying.take_notices().for_each(drop);
    keying.poll(at(30));
    let expired = crate::Notice::OfferExpired { ticket: number, peer: fqdn("bob") };
    assert!(keying.take_notices().any(|notice| notice == expired));
    assert_eq!(keying.install(read(&over), keys(0x1003), at(30)), Err(crate::InstallError::TicketSpent));
    assert_eq!(keying.counts().offers, 0);
}

/// C-19: a class whose peer cannot be remembered would be another peer's.
#[test]
fn c_19_a_class_that_its_observer_has_no_room_for_is_refused_and_leaves_nothing() {
    struct Full;
    impl crate::ClassObserver for Full {
        fn class_interned(
            &self,
            _: latchway_tagging::ClassId,
            _: &latchway_tagging::Class,
            _: AuthMethod,
        ) -> Result<(), crate::ClassRefused> {
            Err(crate::ClassRefused)
        }
    }
    let pad = crate::Pad::new(vec![crate::testing::entry(1, "bob", "10.1.0.0", "10.1.0.255")]).unwrap();
    let clock = std::sync::Arc::new(latchway_tagging::StateClock::new());
    let settings = crate::Settings::default();
    let mut keying = crate::testing::keying_with(pad, settings, clock, std::sync::Arc::new(Full));
    let refused = keying.propose(proposal("bob"), at(0)).unwrap_err();
    assert_eq!(refused, Refusal::ClassRefused(crate::ClassRefused));
    let add = vec![crate::NewPair {
        proposal: proposal("bob"),
        keys: crate::testing::keys(0x1000, latchway_esp::Suite::AES_128_GCM),
    }];
    let change = crate::Change { add, ..crate::Change::default() };
    let error = keying.begin_change(change, at(0)).unwrap_err();
    assert_eq!(error.faults[0].problem, crate::Problem::Refused(refused));
    assert_eq!(keying.counts(), crate::Counts::default());
    assert_eq!(keying.snapshot().sad.iter().count(), 0);
}
