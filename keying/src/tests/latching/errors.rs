//! Every error by its name, with nothing changed (L-34 to L-36, L-48, L-49, L-56, L-57, L-64, L-112 to L-114).

use latchway_datapath::latching::LatchId;
use latchway_datapath::spd::Freedom;
use latchway_tagging::Mode;

use super::*;
use crate::latching::BadTuple;

const BYPASS: Asked = Asked::Bypass;

fn denied(net: u8, constraints: Constraints, privilege: Privilege) -> String {
    let mut world = World::new();
    let holder = world.holder();
    let request = asking(net, 5, constraints);
    let error = world.keying.create_connection_latch(&request, holder, privilege, world.now).unwrap_err();
    assert_eq!(world.keying.find_latch(&request.flow), None, "nothing changed");
    assert!(world.keying.policy().iter().all(|rule| rule.origin != crate::Origin::Latch));
    let name = format!("{error:?}");
    assert!(!error.to_string().is_empty());
    name.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

/// L-34 to L-36, L-111 to L-114: what may be asked where, by whom.
#[test]
fn l_34_to_l_36_l_111_to_l_114_policy_and_privilege_decide_what_may_be_asked() {
    use Privilege::{Application, Operator};
    let gcm = || suites(&[Suite::AES_256_GCM]);
    let as_mode = || Constraints { mode: Some(Mode::Tunnel), ..Constraints::default() };
    for (net, constraints, privilege, error) in [
        (1, gcm(), Operator, "PolicyForbids"),
        (1, as_mode(), Operator, "PolicyForbids"),
        (1, protected(Asked::Confidential), Application, "PolicyForbids"),
        (1, Constraints { replay_checked: true, ..Constraints::default() }, Application, "PolicyForbids"),
        (1, protected(BYPASS), Operator, "PolicyForbids"),
        (3, protected(BYPASS), Operator, "PolicyForbids"),
        (4, protected(BYPASS), Application, "PrivilegeNeeded"),
        (5, Constraints::default(), Operator, "PolicyBypasses"),
        (5, protected(Asked::Authenticated), Operator, "PolicyForbids"),
        (6, Constraints::default(), Operator, "PolicyBypasses"),
        (7, Constraints::default(), Operator, "PolicyDiscards"),
        (7, protected(BYPASS), Operator, "PolicyDiscards"),
        (8, Constraints::default(), Operator, "PolicyForbids"),
        (9, Constraints::default(), Operator, "PolicyDiscards"),
    ] {
        assert_eq!(denied(net, constraints.clone(), privilege), error, "10.{net} {constraints:?}");
    }
    // The same requests where policy permits, and with privilege where that is what was missing.
    for (net, constraints, privilege) in [
        (1, Constraints::default(), Application),
        (1, protected(Asked::Authenticated), Application),
        (3, gcm(), Application),
        (3, as_mode(), Application),
        (4, gcm(), Application),
        (4, protected(BYPASS), Operator),
        (6, protected(Asked::Authenticated), Application),
        (
            6,
            Constraints { peer: Some(crate::testing::fqdn("peer6")), ..protected(Asked::Confidential) },
            Application,
        ),
    ] {
        let mut world = World::new();
        let (holder, request) = (world.holder(), asking(net, 5, constraints));
        let made = world.keying.create_connection_latch(&request, holder, privilege, world.now);
        assert!(made.is_ok(), "10.{net} {made:?}");
    }
}

/// L-34: the PAD has its say about peers.
#[test]
fn l_34_a_peer_that_the_pad_would_not_allow_cannot_be_asked_for() {
    let peer = |name: &str| Constraints { peer: Some(crate::testing::fqdn(name)), ..Constraints::default() };
    let least = |method| Constraints { standing: Some(method), ..Constraints::default() };
    let here = |name: &str| Constraints { local: Some(crate::testing::fqdn(name)), ..Constraints::default() };
    for constraints in [
        peer("nobody"),
        peer("bob"),
        least(AuthMethod::Certificate),
        here("elsewhere"),
        Constraints { standing: Some(AuthMethod::PreSharedKey), ..peer("peer3") },
    ] {
        assert_eq!(denied(3, constraints.clone(), Privilege::Operator), "PadForbids", "{constraints:?}");
    }
    for constraints in [
        peer("peer3"),
        peer("walter"),
        least(AuthMethod::PreSharedKey),
        here("here"),
        Constraints { standing: Some(AuthMethod::PreSharedKey), ..peer("walter") },
    ] {
        let mut world = World::new();
        assert!(world.connect(&asking(3, 5, constraints)).is_ok());
    }
}

#[test]
fn l_33_what_nothing_could_satisfy_is_refused() {
    let with = |protection, suites: &[Suite], key_bits| Constraints {
        protection,
        suites: suites.to_vec(),
        key_bits,
        ..Constraints::default()
    };
    for constraints in [
        with(Asked::Policy, &[Suite::AES_128_GCM], 256),
        with(Asked::Policy, &[], 4096),
        with(BYPASS, &[Suite::AES_128_GCM], 0),
        Constraints { narrow: true, ..protected(BYPASS) },
    ] {
        assert_eq!(denied(4, constraints, Privilege::Operator), "Contradiction");
    }
    let mut world = World::new();
    let request = ListenerRequest { constraints: protected(BYPASS), ..at_port("10.0.0.1", 25) };
    assert!(matches!(world.listen(&request), Err(LatchError::Contradiction(_))));
}

#[test]
fn l_47_l_55_tuples_that_name_nothing_are_refused() {
    let mut world = World::new();
    let flow = |number, local: &str, remote: &str| {
        FlowKey::new(number, local.parse().unwrap(), remote.parse().unwrap())
    };
    for (flow, error) in [
        (flow(6, "10.0.0.1:1", "[fd00::1]:1"), BadTuple::MixedFamilies),
        (flow(6, "0.0.0.0:1", "10.1.0.1:1"), BadTuple::Unspecified),
        (flow(6, "10.0.0.1:1", "0.0.0.0:1"), BadTuple::Unspecified),
        (flow(17, "10.0.0.1:1", "224.0.0.251:1"), BadTuple::Multicast),
        (flow(17, "10.0.0.1:1", "255.255.255.255:1"), BadTuple::Multicast),
        (flow(6, "[fd00::1]:1", "[ff02::1]:1"), BadTuple::Multicast),
        (flow(6, "[fd00::1]:1", "[fe80::1]:1"), BadTuple::LinkLocal),
        (flow(6, "10.0.0.1:0", "10.1.0.1:1"), BadTuple::NoPort),
        (flow(17, "10.0.0.1:1", "10.1.0.1:0"), BadTuple::NoPort),
        (flow(47, "10.0.0.1:1", "10.1.0.1:0"), BadTuple::NoPortsThere(47)),
    ] {
        let request = ConnectionRequest { flow, ..to(1, 1) };
        assert_eq!(world.connect(&request), Err(error.into()), "{flow}");
    }
    let listening =
        |address: &str, protocol, port| Listening { address: address.parse().unwrap(), protocol, port };
    for (listening, error) in [
        (listening("10.0.0.1", 6, 0), BadTuple::NoPort),
        (listening("224.0.0.251", 17, 5353), BadTuple::Multicast),
        (listening("fe80::1", 6, 25), BadTuple::LinkLocal),
        (listening("10.0.0.1", 47, 25), BadTuple::NoListeners(47)),
    ] {
        let request = ListenerRequest { listening, ..at_port("10.0.0.1", 25) };
        assert_eq!(world.listen(&request), Err(error.into()));
    }
    assert_eq!(world.keying.database().dump().count(), 0);
}

/// L-48, L-56: one latch for a tuple.
#[test]
fn l_48_l_56_a_tuple_has_one_latch_and_another_once_that_is_closed() {
    let mut world = World::new();
    let first = world.connect(&to(1, 5)).unwrap();
    assert_eq!(world.connect(&to(1, 5)), Err(LatchError::ConnectionExists(flow(1, 5))));
    assert!(world.connect(&to(1, 6)).is_ok());
    world.keying.close_latch(first.latch, world.now).unwrap();
    let second = world.connect(&to(1, 5)).unwrap();
    assert_ne!(first.latch, second.latch);
    // D.4: any address and one address are two places.
    let (any, one) = (at_port("0.0.0.0", 25), at_port("10.0.0.1", 25));
    assert!(world.listen(&any).is_ok() && world.listen(&one).is_ok());
    assert_eq!(world.listen(&any), Err(LatchError::ListenerExists(any.listening)));
    assert_eq!(world.listen(&one), Err(LatchError::ListenerExists(one.listening)));
}

/// L-49: a listener is judged by every rule that speaks of those who may come.
#[test]
fn l_49_policy_is_asked_of_a_listener_wherever_its_connections_come_from() {
    let mut world = World::new();
    let asked = ListenerRequest { constraints: suites(&[Suite::AES_256_GCM]), ..at_port("10.0.0.1", 25) };
    // 10.1 gives no such freedom, and somebody might come from there.
    let error = world.listen(&asked).unwrap_err();
    assert!(matches!(error, LatchError::PolicyForbids { freedom: Freedom::None, .. }), "{error}");
    assert!(world.listen(&at_port("10.0.0.1", 25)).is_ok());
    assert!(matches!(world.listen(&at_port("192.0.2.1", 25)), Err(LatchError::PolicyDiscards(None))));
}

/// L-57, L-71: no latch under SAs that differ; by the tag model there may be such.
#[test]
fn l_57_l_71_no_latch_is_made_under_sas_that_differ_in_peer_or_quality() {
    for (one, other) in [
        (wide("peer3", 3, Suite::AES_256_GCM), wide("rival3", 3, Suite::AES_256_GCM)),
        (wide("peer3", 3, Suite::AES_256_GCM), wide("peer3", 3, Suite::AES_128_GCM)),
    ] {
        let mut world = World::new();
        world.install(one);
        assert!(world.connect(&to(3, 5)).is_ok());
        world.install(other);
        assert_eq!(world.connect(&to(3, 6)), Err(LatchError::ConflictingSas(flow(3, 6))));
    }
    let mut world = World::new();
    world.install(wide("peer2", 2, Suite::AES_256_GCM));
    world.install(wide("rival2", 2, Suite::AES_256_GCM));
    let created = world.connect(&to(2, 5)).unwrap();
    world.poll();
    assert_eq!(world.state(created.latch), Some(LatchState::Established));
}

/// L-64: stale and made-up handles, and those of others.
#[test]
fn l_64_a_handle_that_names_nothing_or_is_anothers_does_nothing() {
    let mut world = World::new();
    let other = world.keying.open_holder().unwrap();
    let (mine, made_up) = (world.connect(&to(1, 5)).unwrap().latch, LatchId::from_raw(7 << 32));
    let now = world.now;
    let taken = world.keying.release_latch(mine, other.holder(), now);
    assert_eq!(taken, Err(LatchError::NotHolder(mine)));
    for handle in [made_up, LatchId::from_raw(0), LatchId::from_raw(u64::MAX)] {
        let unknown = LatchError::UnknownLatch(handle);
        assert_eq!(world.release(handle), Err(unknown.clone()));
        assert_eq!(world.keying.close_latch(handle, now), Err(unknown.clone()));
        assert_eq!(world.keying.inquire_latch(handle), Err(unknown));
    }
    assert_eq!(world.release(mine), Ok(()));
    assert_eq!(world.release(mine), Err(LatchError::UnknownLatch(mine)));
    assert_eq!(world.keying.inquire_latch(mine), Err(LatchError::UnknownLatch(mine)));
    assert_eq!(world.keying.find_latch(&flow(1, 5)), None);
    // The next latch of the same connection has a handle of its own.
    let next = world.connect(&to(1, 5)).unwrap().latch;
    assert_ne!(next, mine);
    assert_eq!(world.release(mine), Err(LatchError::UnknownLatch(mine)));
    assert_eq!(world.state(next), Some(LatchState::Larval));
}

/// Caps, each by its name.
#[test]
fn l_21_holders_and_what_they_hold_are_counted() {
    let mut world = World::with(HolderLimits { holders: 2, latches: 3, alerts: 4 });
    let second = world.keying.open_holder().unwrap();
    assert!(matches!(world.keying.open_holder(), Err(LatchError::TooManyHolders(2))));
    let latches: Vec<_> = (1..=3).map(|port| world.connect(&to(1, port)).unwrap().latch).collect();
    assert_eq!(world.connect(&to(1, 4)), Err(LatchError::TooManyLatches(3)));
    assert_eq!(world.listen(&at_port("10.0.0.1", 25)), Err(LatchError::TooManyLatches(3)));
    // Others are not concerned.
    let (privilege, now) = (Privilege::Application, world.now);
    assert!(world.keying.create_connection_latch(&to(1, 4), second.holder(), privilege, now).is_ok());
    world.release(latches[0]).unwrap();
    assert!(world.connect(&to(1, 6)).is_ok());
    drop(second);
    world.pass(1);
    assert!(world.keying.open_holder().is_ok());
    let gone = Holder::from_raw(99);
    let error = world.keying.create_connection_latch(&to(1, 7), gone, privilege, world.now);
    assert_eq!(error, Err(LatchError::UnknownHolder(gone)));
}

#[test]
fn t37_i_a_full_table_refuses_latches_by_name() {
    let mut world = World::new();
    let full = (1..=u16::MAX).find_map(|port| world.connect(&to(1, port)).err());
    assert_eq!(full, Some(LatchError::Full));
}

#[test]
fn l_46_listeners_ask_for_63_different_things_and_no_more() {
    let mut world = World::new();
    let terms = Rule {
        freedom: Freedom::Stronger,
        ..Rule::new(
            Selector::between(range("10.0.0.9", "10.0.0.9"), AddressRange::ANY_V4),
            None,
            Action::Protect(Protection::LATCHED),
        )
    };
    // Of those who come to 10.0.0.9 anything may be asked.
    let change = Change { rules: Some(vec![terms]), ..Change::default() };
    world.keying.begin_change(change, world.now).unwrap();
    world.poll();
    let asked = |bits: u16| Constraints { key_bits: bits, ..Constraints::default() };
    let request = |port, bits| ListenerRequest { constraints: asked(bits), ..at_port("10.0.0.9", port) };
    let latches: Vec<_> =
        (1..=63).map(|number| world.listen(&request(number, number)).unwrap().latch).collect();
    assert_eq!(world.listen(&request(64, 64)), Err(LatchError::TooManyConstraints(63)));
    assert!(world.listen(&request(64, 63)).is_ok(), "the same thing is asked twice");
    world.release(latches[0]).unwrap();
    assert!(world.listen(&request(65, 65)).is_ok());
}
