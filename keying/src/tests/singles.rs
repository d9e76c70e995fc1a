//! Single SAs: in force at once, in a class of nobody's while they are alone, and with their numbers going on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use latchway_datapath::arrival::Carrier;
use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::outer::OuterPolicy;
use latchway_datapath::sad::{Path, SadEntry, Scope, Shape, Usage};
use latchway_datapath::selector::Selector;
use latchway_datapath::spd::{Action, Around, Protection, Reqid, Rule, Template};
use latchway_datapath::time::Time;
use latchway_datapath::traffic::Traffic;
use latchway_esp::{
    Align, AntiReplay, Integrity, Protocol, Reservation, SeqNum, SequenceKind, Spi, Suite, WindowSize,
};
use latchway_tagging::{AuthMethod, Identity, Mode, PadEntryId, StateClock, WorkerId};

use crate::testing::{fqdn, keying_with, range};
use crate::{
    Change, Element, InstallError, KeyOrigin, Keying, NewSingle, Pad, PadEntry, PeerPattern, Problem,
    Question, RevisedEnd, Revision, SaKeys, SaMiss, SaOwner, Settings, SingleChange, SingleError, Unobserved,
    Verdict, Way,
};

const NOW: Time = Time::from_nanos(1_000_000_000);

fn world() -> Keying {
    let clock = Arc::new(StateClock::new());
    keying_with(
        anybody(1, "255.255.255.255", "10.1.255.255"),
        Settings::default(),
        clock,
        Arc::new(Unobserved),
    )
}

/// Peers up to an address may have what is from 10.1.0.0 to another one.
fn anybody(id: u32, last: &str, claimed: &str) -> Pad {
    let (first, last): (IpAddr, IpAddr) = ("0.0.0.0".parse().unwrap(), last.parse().unwrap());
    let anybody = PadEntry {
        id: PadEntryId(id),
        name: "anybody".into(),
        peer: PeerPattern::Addresses { first, last },
        methods: vec![AuthMethod::Manual],
        standing: None,
        ranges: vec![range("10.1.0.0", claimed)],
        local: fqdn("here"),
    };
    Pad::new(vec![anybody]).unwrap()
}

fn path() -> Path {
    let to = SocketAddr::new("192.0.2.2".parse().unwrap(), 0);
    Path { from: "192.0.2.1".parse().unwrap(), carrier: Carrier::Native, ..Path::udp(0, to, 1500) }
}

fn single(way: Way, spi: u32, key: u8) -> NewSingle {
    let suite = Suite::AES_128_GCM;
    let octets = vec![key; suite.key_len() + suite.salt_len()];
    NewSingle {
        peer: Identity::Address("192.0.2.2".parse().unwrap()),
        local: fqdn("here"),
        mode: Mode::Tunnel,
        selectors: vec![Selector::between(
            range("0.0.0.0", "255.255.255.255"),
            range("0.0.0.0", "255.255.255.255"),
        )],
        reqid: Reqid(7),
        keys: SaKeys::from_octets(spi, suite, &octets, SequenceKind::Extended).unwrap(),
        align: Align::Rfc,
        origin: KeyOrigin::Ephemeral,
        worker: WorkerId(0),
        way,
    }
}

fn inbound(spi: u32, key: u8) -> NewSingle {
    let (from, outer) = (path().peer(), OuterPolicy::NATIVE);
    let anti_replay = AntiReplay::Window(WindowSize::MIN);
    single(Way::Inbound { anti_replay, from, outer, after: SeqNum(0), top: None }, spi, key)
}

fn outbound(spi: u32, key: u8) -> NewSingle {
    let way = Way::Outbound { path: path(), shape: Shape::default(), next: SeqNum(1), reservation: None };
    single(way, spi, key)
}

fn header(new: NewSingle) -> NewSingle {
    let suite = Suite::ah(Integrity::HmacSha256);
    let (spi, octets) = (new.keys.spi.get(), [0xaa; 32]);
    let keys = SaKeys::from_octets(spi, suite, &octets, SequenceKind::Extended).unwrap();
    NewSingle { mode: Mode::Transport, reqid: Reqid(9), keys, ..new }
}

/// A rule that wants AH around what it is served by.
fn bundle(direction: Direction, reqid: Option<Reqid>, around: Option<Reqid>) -> Rule {
    let ends = Some(("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()));
    let around = Some(Around { reqid: around });
    let template = Template { ends, protocol: Some(Protocol::Esp), mode: Some(Mode::Tunnel), around };
    let protection = Protection { reqid, template: Some(template), ..Protection::LATCHED_BY_TAG };
    let all = range("0.0.0.0", "255.255.255.255");
    Rule::new(Selector::between(all, all), Some(direction), Action::Protect(protection))
}

fn rule(keying: &mut Keying, rules: &[Rule]) {
    keying.replace_templated(rules).unwrap();
    while keying.poll(NOW).settling {}
}

fn add(new: Vec<NewSingle>) -> SingleChange {
    SingleChange { add: new, ..SingleChange::default() }
}

fn entries(keying: &Keying) -> Vec<Arc<SadEntry>> {
    keying.snapshot().sad.iter().map(|slot| Arc::clone(&slot.entry)).collect()
}

/// RFC 4301 4.1, L-71: alone it is in force at once and of a class that is no one's; with its partner it has the pair's, and
/// what it is made of stays.
#[test]
fn two_that_match_make_a_pair_and_part_again_with_their_numbers_going_on() {
    let mut keying = world();
    let first = keying.change_singles(add(vec![inbound(0x1000, 1)]), NOW).unwrap()[0];
    let alone = entries(&keying).remove(0);
    assert_eq!((alone.scope, alone.partner), (Scope::Policy, None));
    assert!(keying.class(alone.class).is_none());
    assert_eq!(keying.snapshot().sad.get(alone.sa).map(|slot| slot.usage), Some(Usage::Active));
    // RFC 4301 4.4.3: the PAD decides what the peer may claim.
    assert_eq!(alone.selectors[0].remote, range("10.1.0.0", "10.1.255.255"));
    let second = keying.change_singles(add(vec![outbound(0x2000, 2)]), NOW).unwrap()[0];
    let [one, other] = entries(&keying).try_into().unwrap();
    assert_eq!((one.class, one.partner, other.partner), (other.class, Some(other.sa), Some(one.sa)));
    assert!(keying.class(one.class).is_some());
    assert!(one.revises(&alone), "the same SA, in the same hands");
    assert_eq!(
        keying.singles().iter().map(|view| view.partner).collect::<Vec<_>>(),
        [Some(second), Some(first)]
    );
    keying.change_singles(SingleChange { remove: vec![second], ..SingleChange::default() }, NOW).unwrap();
    let [left] = entries(&keying).try_into().unwrap();
    assert!(left.revises(&alone) && left.class == alone.class && left.partner.is_none());
}

/// RFC 4301 4.4.3, L-11: a PAD that no longer allows what a single SA carries, or puts a pair under another entry, is refused,
/// and the SAs are named.
#[test]
fn rfc_4301_4_4_3_a_narrower_pad_is_refused_while_single_sas_need_what_it_takes() {
    let mut keying = world();
    let narrow = Selector { remote: range("10.1.0.0", "10.1.7.255"), ..inbound(0x1000, 1).selectors[0] };
    let first = NewSingle { selectors: vec![narrow], ..inbound(0x1000, 1) };
    let ids = keying.change_singles(add(vec![first, outbound(0x2000, 2)]), NOW).unwrap();
    let change = |pad: Pad| Change { pad: Some(pad), ..Change::default() };
    let faults = |keying: &Keying, pad: Pad| -> Vec<_> {
        let error = keying.check_change(&change(pad)).err();
        let faults = error.into_iter().flat_map(|error| error.faults);
        let of = |element: Element| match element {
            Element::Single { single, .. } => single,
            other => panic!("{other}"),
        };
        faults.map(|fault| (of(fault.element), fault.problem)).collect()
    };
    let wide = anybody(1, "255.255.255.255", "10.9.255.255");
    assert!(faults(&keying, wide).is_empty(), "what they carry stays as it is");
    let part = faults(&keying, anybody(1, "255.255.255.255", "10.1.127.255"));
    assert!(matches!(&part[..], [(id, Problem::SingleNoLongerAllowed(_))] if *id == ids[1]), "{part:?}");
    for (pad, allowed) in
        [(anybody(1, "192.0.2.1", "10.1.255.255"), false), (anybody(2, "192.0.2.9", "10.1.255.255"), true)]
    {
        let both = faults(&keying, pad.clone());
        assert_eq!(both.iter().map(|fault| fault.0).collect::<Vec<_>>(), ids);
        assert!(
            both.iter().all(|fault| matches!(fault.1, Problem::OtherEntry { .. }) == allowed),
            "{both:?}"
        );
        let before = keying.snapshot().id;
        let error = keying.begin_change(change(pad), NOW).unwrap_err().to_string();
        assert!(error.contains("SPI 0x00001000") && keying.snapshot().id == before, "{error}");
    }
    // Alone they are of no class, so that no latch asks by which entry.
    keying.change_singles(SingleChange { remove: vec![ids[1]], ..SingleChange::default() }, NOW).unwrap();
    keying.begin_change(change(anybody(2, "192.0.2.9", "10.1.7.255")), NOW).unwrap();
}

#[test]
fn other_reqids_or_ends_make_no_pair() {
    let mut keying = world();
    let other_reqid = NewSingle { reqid: Reqid(8), ..outbound(0x2000, 2) };
    keying.change_singles(add(vec![inbound(0x1000, 1), other_reqid]), NOW).unwrap();
    assert!(keying.singles().iter().all(|view| view.partner.is_none()));
}

/// T11, T12, T31: what cannot be is refused as a whole, and nothing changed.
#[test]
fn what_cannot_be_is_refused_and_nothing_changes() {
    let mut keying = world();
    keying.change_singles(add(vec![inbound(0x1000, 1)]), NOW).unwrap();
    let before = keying.snapshot().id;
    let fixed = NewSingle { origin: KeyOrigin::Static, ..outbound(0x2000, 3) };
    for (wrong, error) in [
        (inbound(0x1000, 4), InstallError::DuplicateSpi(inbound(0x1000, 4).keys.spi)),
        (outbound(0x2000, 1), InstallError::RepeatedKey(outbound(0x2000, 1).keys.spi)),
        (fixed, InstallError::StaticCounterMode(Suite::AES_128_GCM)),
    ] {
        let fault = keying.change_singles(add(vec![outbound(0x3000, 9), wrong]), NOW).unwrap_err();
        assert_eq!((fault.place, fault.error), (Some(1), SingleError::Install(error)));
    }
    assert_eq!(keying.snapshot().id, before);
    assert_eq!(entries(&keying).len(), 1);
}

/// T12: a key that began at 1 off the record cannot begin there again on it, nor one on record off it; whether the SA is gone or
/// not, and in whatever suite of the same counter it comes.
#[test]
fn t12_a_key_begins_once_on_the_record_or_off_it() {
    let mut keying = world();
    let on_record = |new: NewSingle, next: u64| {
        let reservation = Some(Reservation::new(SeqNum(next + 99)));
        let way = Way::Outbound { path: path(), shape: Shape::default(), next: SeqNum(next), reservation };
        NewSingle { origin: KeyOrigin::Static, way, ..new }
    };
    let mut change = |remove: Vec<_>, new| {
        let change = SingleChange { remove, add: vec![new], ..SingleChange::default() };
        keying.change_singles(change, NOW).map(|added| added[0]).map_err(|fault| fault.error)
    };
    let repeated = |spi| Err(SingleError::Install(InstallError::RepeatedKey(outbound(spi, 1).keys.spi)));
    let fresh = change(vec![], outbound(0x2000, 1)).unwrap();
    assert_eq!(change(vec![], on_record(outbound(0x2001, 1), 1)), repeated(0x2001));
    let other = change(vec![fresh], outbound(0x2002, 2)).unwrap();
    assert_eq!(change(vec![], on_record(outbound(0x2000, 1), 1)), repeated(0x2000));
    let recorded = change(vec![other], on_record(outbound(0x2003, 3), 1)).unwrap();
    assert_eq!(change(vec![recorded], outbound(0x2003, 3)), repeated(0x2003));
    // As the record says it goes on.
    assert!(change(vec![recorded], on_record(outbound(0x2003, 3), 101)).is_ok());
}

/// T11, T12: what is only asked takes nothing, and what is refused is refused before a record binds a key.
#[test]
fn t12_a_question_takes_nothing_of_a_reservation() {
    let mut keying = world();
    let reservation = Reservation::new(SeqNum(100));
    let way = Way::Outbound {
        path: path(),
        shape: Shape::default(),
        next: SeqNum(1),
        reservation: Some(reservation),
    };
    let new = NewSingle { origin: KeyOrigin::Static, way, ..outbound(0x2000, 1) };
    let change = add(vec![new]);
    let before = keying.snapshot().id;
    for _ in 0..3 {
        assert_eq!(keying.check_singles(&change), Ok(()));
    }
    assert_eq!(keying.snapshot().id, before);
    keying.change_singles(change, NOW).unwrap();
    let stranger = NewSingle { peer: fqdn("stranger"), ..outbound(0x2001, 2) };
    let fault = keying.check_singles(&add(vec![outbound(0x2002, 3), stranger])).unwrap_err();
    assert!(fault.place == Some(1) && matches!(fault.error, SingleError::Refused(_)), "{fault:?}");
}

#[test]
fn a_revision_says_something_else_of_the_same_sa() {
    let mut keying = world();
    let id = keying.change_singles(add(vec![outbound(0x2000, 2)]), NOW).unwrap()[0];
    let before = entries(&keying).remove(0);
    let moved = Path { mtu: 1400, ..path() };
    let revise =
        |end| Revision { single: id, selectors: before.selectors.to_vec(), limits: before.limits, end };
    let change = |revision| SingleChange { revise: vec![revision], ..SingleChange::default() };
    let wrong = revise(RevisedEnd::Inbound(path().peer(), OuterPolicy::NATIVE));
    assert_eq!(keying.change_singles(change(wrong), NOW).unwrap_err().error, SingleError::NoRevision);
    keying.change_singles(change(revise(RevisedEnd::Outbound(moved, Shape::default()))), NOW).unwrap();
    let after = entries(&keying).remove(0);
    assert!(after.revises(&before));
    assert!(format!("{:?}", after.role).contains("1400"));
}

/// RFC 4301 4.3: where policy asks for AH around ESP, the states of both are a bundle, in either direction, and its class says
/// so (L-6); it is a matter of policy alone, and their numbers go on.
#[test]
fn rfc_4301_4_3_policy_makes_bundles_and_takes_them_apart() {
    let mut keying = world();
    let all = vec![
        inbound(0x1000, 1),
        outbound(0x2000, 2),
        header(inbound(0x1001, 0)),
        header(outbound(0x2001, 0)),
    ];
    let ids = keying.change_singles(add(all), NOW).unwrap();
    let bare = entries(&keying);
    assert!(bare.iter().all(|entry| entry.nested.is_none() && entry.partner.is_some()));
    let both = |keying: &mut Keying, inner, outer| {
        let rules =
            [Direction::Inbound, Direction::Outbound].map(|direction| bundle(direction, inner, outer));
        rule(keying, &rules);
    };
    for (inner, outer) in [(Some(Reqid(7)), Some(Reqid(9))), (None, None)] {
        both(&mut keying, inner, outer);
        let [esp_in, esp_out, ah_in, ah_out] = entries(&keying).try_into().unwrap();
        assert!(ah_in.is_around(&esp_in) && ah_out.is_around(&esp_out));
        assert!(ah_in.is_for_another() && ah_out.is_for_another());
        assert_eq!((esp_in.partner, esp_in.class), (Some(esp_out.sa), esp_out.class));
        let class = keying.class(esp_in.class).unwrap();
        assert!(class.algorithms.inbound.authentication_header.is_some());
        assert!(esp_in.revises(&bare[0]) && ah_in.partner.is_none());
    }
    // Another reqid of AH is another AH.
    both(&mut keying, Some(Reqid(7)), Some(Reqid(8)));
    let apart = entries(&keying);
    assert!(apart.iter().zip(&bare).all(|(now, then)| now.nested.is_none() && now.class == then.class));
    // Half a bundle is none.
    both(&mut keying, Some(Reqid(7)), Some(Reqid(9)));
    keying.change_singles(SingleChange { remove: vec![ids[3]], ..SingleChange::default() }, NOW).unwrap();
    let [esp_in, esp_out, ah_in] = entries(&keying).try_into().unwrap();
    assert!(ah_in.is_around(&esp_in) && esp_out.nested.is_none());
    assert!(esp_in.partner.is_none() && keying.class(esp_in.class).is_none());
}

/// RFC 4301 4.3: new SAs come one by one. What was a bundle stays one until the new one is there, and AH comes around the newest.
#[test]
fn rfc_4301_4_3_new_sas_come_one_by_one() {
    let mut keying = world();
    rule(&mut keying, &[bundle(Direction::Outbound, Some(Reqid(7)), Some(Reqid(9)))]);
    let nested = |keying: &Keying| entries(keying).iter().map(|entry| entry.nested).collect::<Vec<_>>();
    let first = keying.change_singles(add(vec![outbound(0x2000, 2)]), NOW).unwrap()[0];
    assert_eq!(nested(&keying), [None]);
    keying.change_singles(add(vec![header(outbound(0x2001, 0))]), NOW).unwrap();
    let [esp, ah] = entries(&keying).try_into().unwrap();
    assert!(ah.is_around(&esp));
    keying.change_singles(add(vec![outbound(0x2002, 3)]), NOW).unwrap();
    let [old, _, new] = entries(&keying).try_into().unwrap();
    assert!(ah.is_around(&old) && ah.is_around(&new));
    keying.change_singles(add(vec![header(outbound(0x2003, 0))]), NOW).unwrap();
    let [old, old_ah, new, new_ah] = entries(&keying).try_into().unwrap();
    assert!(old_ah.is_around(&old) && new_ah.is_around(&new));
    assert_eq!((old_ah.nested, new_ah.nested), (Some(old.sa), Some(new.sa)));
    keying.change_singles(SingleChange { remove: vec![first], ..SingleChange::default() }, NOW).unwrap();
    let [left, ah, newest] = entries(&keying).try_into().unwrap();
    assert!(left.is_for_another() || ah.is_for_another() || newest.is_for_another());
    keying.recover(NOW);
    assert_eq!(entries(&keying).len(), 3);
}

/// RFC 3948: there is no AH in UDP.
#[test]
fn rfc_3948_what_is_in_udp_is_no_bundle() {
    let mut keying = world();
    rule(&mut keying, &[bundle(Direction::Outbound, Some(Reqid(7)), Some(Reqid(9)))]);
    let to = SocketAddr::new("192.0.2.2".parse().unwrap(), 4500);
    let path = Path { from: "192.0.2.1".parse().unwrap(), ..Path::udp(0, to, 1500) };
    let way = Way::Outbound { path, shape: Shape::default(), next: SeqNum(1), reservation: None };
    let in_udp = NewSingle { way, ..outbound(0x2000, 2) };
    keying.change_singles(add(vec![in_udp, header(outbound(0x2001, 0))]), NOW).unwrap();
    assert!(entries(&keying).iter().all(|entry| entry.nested.is_none()));
}

/// A key manager that begins anew knows them, and the class of a pair has its holders.
#[test]
fn a_restart_forgets_none() {
    let mut keying = world();
    keying.change_singles(add(vec![inbound(0x1000, 1), outbound(0x2000, 2)]), NOW).unwrap();
    let class = entries(&keying)[0].class;
    keying.recover(NOW);
    assert_eq!((entries(&keying).len(), keying.singles().len()), (2, 2));
    assert!(keying.class(class).is_some());
}

/// RFC 4301 4.3: as in a kernel, a template without a reqid takes what comes in of any; but what another rule names by its
/// reqid stays what that rule wants, alone or in a bundle.
#[test]
fn rfc_4301_4_3_a_rule_that_names_no_reqid_bundles_nothing_that_another_names() {
    let mut keying = world();
    let of = |reqid: u32, new: NewSingle| NewSingle { reqid: Reqid(reqid), ..new };
    let mut all = vec![inbound(0x1000, 1), header(inbound(0x1001, 0))];
    all.extend([of(20, inbound(0x1002, 2)), of(21, header(inbound(0x1003, 0)))]);
    keying.change_singles(add(all), NOW).unwrap();
    let nested = |keying: &mut Keying, named: &[Rule]| -> Vec<_> {
        let mut rules = vec![bundle(Direction::Inbound, None, None)];
        rules.extend_from_slice(named);
        rule(keying, &rules);
        entries(keying).iter().map(|entry| entry.nested.is_some()).collect()
    };
    // Of either reqid the newest has the newest AH.
    assert_eq!(nested(&mut keying, &[]), [true, false, true, true]);
    // Its own template wants them without AH.
    let alone = |protocol, mode, reqid: u32| {
        let template = Template { ends: None, protocol: Some(protocol), mode: Some(mode), around: None };
        let protection =
            Protection { reqid: Some(Reqid(reqid)), template: Some(template), ..Protection::LATCHED_BY_TAG };
        let all = range("0.0.0.0", "255.255.255.255");
        Rule::new(Selector::between(all, all), Some(Direction::Inbound), Action::Protect(protection))
    };
    let esp = alone(Protocol::Esp, Mode::Tunnel, 20);
    assert_eq!(nested(&mut keying, std::slice::from_ref(&esp)), [true, false, false, true]);
    let ah = alone(Protocol::Ah, Mode::Transport, 21);
    assert_eq!(nested(&mut keying, &[esp, ah]), [true, true, false, false]);
}

/// RFC 4301 5.1, 5.2: what becomes of packets under single SAs is explained as the packet paths decide it, by the template, too.
#[test]
fn rfc_4301_5_1_single_sas_are_explained() {
    let mut keying = world();
    let transport = NewSingle { mode: Mode::Transport, ..outbound(0x2001, 3) };
    keying.change_singles(add(vec![inbound(0x1000, 1), outbound(0x2000, 2), transport]), NOW).unwrap();
    let ids: Vec<_> = keying.singles().iter().map(|view| view.id).collect();
    let flow = FlowKey::new(17, "10.0.0.1:5".parse().unwrap(), "10.1.0.1:80".parse().unwrap());
    let asked = |keying: &Keying, direction| keying.explain(&Question { flow, direction, required: None });
    let both = |around: bool| {
        let named = around.then_some(Reqid(9));
        [Direction::Inbound, Direction::Outbound].map(|direction| Rule {
            action: match bundle(direction, Some(Reqid(7)), named).action {
                Action::Protect(protection) if !around => Action::Protect(Protection {
                    template: protection.template.map(|template| Template { around: None, ..template }),
                    ..protection
                }),
                action => action,
            },
            ..bundle(direction, Some(Reqid(7)), named)
        })
    };
    rule(&mut keying, &both(false));
    let explained = asked(&keying, Direction::Outbound);
    let Verdict::Protected(carrier) = &explained.verdict else { panic!("{explained:?}") };
    let spi = |spi| Spi::new(spi).unwrap();
    assert_eq!((carrier.owner, carrier.class.is_some()), (SaOwner::Single(ids[1], spi(0x2000)), true));
    assert!(carrier.max_inner.is_some_and(|most| most > 1400), "{carrier:?}");
    assert_eq!(
        explained.sas_passed_over,
        [(SaOwner::Single(ids[2], spi(0x2001)), SaMiss::OtherTemplate)],
        "of that reqid, and in another mode"
    );
    let traffic = Traffic::of(&flow);
    let Action::Protect(protection) = explained.rule.unwrap().rule.action else { panic!() };
    let chosen = keying.snapshot().sad.select_serving(&traffic, &protection).unwrap();
    assert_eq!(chosen.entry.sa, carrier.sa, "the packet path says the same");
    let explained = asked(&keying, Direction::Inbound);
    assert!(
        matches!(&explained.verdict, Verdict::Protected(by) if by.owner == SaOwner::Single(ids[0], spi(0x1000))),
        "{explained:?}"
    );
    // Where policy wants a bundle, half of one is none.
    rule(&mut keying, &both(true));
    let explained = asked(&keying, Direction::Inbound);
    assert_eq!(explained.verdict, Verdict::Dropped(DropReason::NoSa));
    assert_eq!(explained.sas_passed_over[0].1, SaMiss::OtherTemplate);
    assert_eq!(asked(&keying, Direction::Outbound).verdict, Verdict::Dropped(DropReason::NoOutboundSa));
}
