//! Bundles of SAs, AH around ESP (RFC 4301 section 4.3): four SAs that come, serve and go as one pair.

use latchway_datapath::drop::Direction;
use latchway_datapath::event::Event;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::sad::{Role, SadEntry, Usage};
use latchway_datapath::traffic::Traffic;
use latchway_esp::{AntiReplay, Protocol, ReceivedTop, Reservation, SeqNum, Spi, Suite};
use latchway_tagging::Mode;

use crate::testing::{at, bundle, bundle_keys, commit, fqdn, keying, keys, proposal};
use crate::{
    CommitError, Counts, HeaderKeys, InstallError, KeyOrigin, Keying, Keys, Notice, Op, PairId, Proposal,
    RekeyError, Resumption, SaKeys, Start, Suites, Transaction,
};

fn installed(keying: &mut Keying, spi: u32) -> PairId {
    let id = install(keying, bundle_keys(spi)).unwrap();
    keying.poll(at(0));
    id
}

fn install(keying: &mut Keying, keys: Keys) -> Result<PairId, InstallError> {
    let offer = keying.propose(bundle("bob"), at(0)).unwrap();
    keying.install(offer.ticket, keys, at(0))
}

/// What a packet to bob would be sealed under.
fn chosen(keying: &Keying) -> Option<SadEntry> {
    let flow = FlowKey::new(protocol::TCP, "10.0.0.1:5".parse().unwrap(), "10.1.0.1:80".parse().unwrap());
    let slot = keying.snapshot().sad.select(&Traffic::of(&flow), None, None)?;
    Some(SadEntry::clone(&slot.entry))
}

fn usages(keying: &Keying) -> Vec<Usage> {
    keying.snapshot().sad.iter().map(|slot| slot.usage).collect()
}

fn spi(raw: u32) -> Spi {
    Spi::new(raw).unwrap()
}

/// Published in one snapshot and in force in one, each the other half of its own: what carries is the ESP alone.
#[test]
fn rfc_4301_4_3_a_bundle_is_four_sas_in_force_together() {
    let mut keying = keying();
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let id = install(&mut keying, bundle_keys(0x1000)).unwrap();
    assert_eq!(usages(&keying), [Usage::Pending; 4]);
    assert!(keying.poll(at(0)).settled.is_empty());
    let seen = worker.adopt().0.sad.iter().count();
    assert_eq!((seen, chosen(&keying).is_none()), (4, true));
    (0..3).for_each(|_| {
        keying.poll(at(0));
        worker.adopt();
    });
    assert_eq!(usages(&keying), [Usage::Active; 4]);
    let pair = keying.pairs().remove(0);
    let ([ah_in, ah_out], sad) = (pair.header.unwrap(), &keying.snapshot().sad);
    assert_eq!((pair.id, ah_in.suite, ah_out.suite), (id, Suite::AH_HMAC_SHA_256, Suite::AH_HMAC_SHA_256));
    let entry = |sa| &sad.get(sa).unwrap().entry;
    for (esp, ah, partner) in [(pair.inbound, ah_in, pair.outbound), (pair.outbound, ah_out, pair.inbound)] {
        let (within, around) = (entry(esp.sa), entry(ah.sa));
        assert_eq!((within.nested, around.nested), (Some(ah.sa), Some(esp.sa)));
        assert!(around.is_around(within) && around.is_for_another() && !within.is_for_another());
        assert_eq!((within.mode, around.mode), (Mode::Tunnel, Mode::Transport), "RFC 4301 4.3");
        assert_eq!((within.partner, within.class), (Some(partner.sa), around.class));
        assert!(around.selectors.is_empty(), "no flow is its own");
    }
    // RFC 4301 4.1: SPIs of the one say nothing of the other.
    for (protocol, sa) in [(Protocol::Esp, pair.inbound.sa), (Protocol::Ah, ah_in.sa)] {
        assert_eq!(sad.find(protocol, spi(0x1000)), Some(sa.index));
    }
    assert_eq!(chosen(&keying).map(|entry| entry.sa), Some(pair.outbound.sa));
}

/// T31: each of the four has a name, and none can be had twice.
#[test]
fn t31_every_name_of_a_bundle_is_its_own() {
    let mut keying = keying();
    installed(&mut keying, 0x1000);
    let fresh = || bundle_keys(0x2000);
    let header = |inbound, outbound| Some(HeaderKeys { inbound, outbound });
    let (esp, ah) = (keys(0x1000, Suite::AES_128_GCM), keys(0x1000, Suite::AH_HMAC_SHA_256));
    let (ah_in, ah_out) = (keys(0x2000, Suite::AH_HMAC_SHA_256), keys(0x2000, Suite::AH_HMAC_SHA_256));
    let to = fresh().path.to;
    let outbound = InstallError::DuplicateOutbound(spi(0x8000_1000), to);
    let cases = [
        (Keys { inbound: esp.inbound, ..fresh() }, InstallError::DuplicateSpi(spi(0x1000))),
        (Keys { outbound: esp.outbound, ..fresh() }, outbound),
        (
            Keys { header: header(ah.inbound, ah_in.outbound), ..fresh() },
            InstallError::DuplicateSpi(spi(0x1000)),
        ),
        (Keys { header: header(ah_out.inbound, ah.outbound), ..fresh() }, outbound),
    ];
    for (keys, expected) in cases {
        assert_eq!(install(&mut keying, keys), Err(expected));
    }
    // T11: nor can a key serve two of them.
    let key = |spi: u32| {
        let sequence = latchway_esp::SequenceKind::Extended;
        SaKeys::from_octets(spi, Suite::AH_HMAC_SHA_256, &[7; 32], sequence).unwrap()
    };
    let twice = Keys { header: header(key(0x2000), key(0x8000_2000)), ..fresh() };
    assert_eq!(install(&mut keying, twice), Err(InstallError::RepeatedKey(spi(0x8000_2000))));
    assert_eq!((usages(&keying).len(), keying.counts().classes), (4, 1));
    assert!(!keying.is_free(spi(0x1000)) && keying.is_free(spi(0x2000)));
}

/// L-6, R-2: a bundle is followed by a bundle, of its class; half of one is none.
#[test]
fn l_6_r_2_a_bundle_is_rekeyed_drains_and_goes_as_one() {
    let mut keying = keying();
    let old = installed(&mut keying, 0x1000);
    let class = keying.pairs()[0].class;
    let half = keying.rekey(old, keys(0x1001, Suite::AES_128_GCM), at(0));
    assert_eq!(half, Err(RekeyError::Install(InstallError::OtherNesting)));
    let new = keying.rekey(old, bundle_keys(0x1001), at(0)).unwrap();
    keying.poll(at(0));
    let (active, standby) = ([Usage::Active; 4], [Usage::Standby; 4]);
    assert_eq!(usages(&keying), [active, standby].concat());
    assert_eq!(chosen(&keying).unwrap().spi, spi(0x8000_1000), "the peer may not have it yet");
    commit(&mut keying, vec![Op::Activate(new), Op::Drain(old)]);
    assert_eq!(usages(&keying), [[Usage::Retired; 4], active].concat());
    assert_eq!(chosen(&keying).unwrap().spi, spi(0x8000_1001));
    assert_eq!(keying.pairs().iter().map(|pair| pair.class).collect::<Vec<_>>(), [class, class]);
    assert_eq!(keying.poll(at(9)).drained, []);
    assert_eq!(keying.poll(at(10)).drained, [old]);
    assert_eq!(usages(&keying), active);
    // Its names rest, of either protocol.
    for protocol in [Protocol::Esp, Protocol::Ah] {
        assert_eq!(keying.snapshot().sad.find(protocol, spi(0x1000)), None);
    }
    assert_eq!((keying.counts().resting_spis, keying.counts().resting_slots), (2, 4));
    let Keys { inbound, .. } = keys(0x1000, Suite::AH_HMAC_SHA_256);
    let Keys { outbound, .. } = keys(0x2000, Suite::AH_HMAC_SHA_256);
    let resting = Keys { header: Some(HeaderKeys { inbound, outbound }), ..bundle_keys(0x2000) };
    assert_eq!(install(&mut keying, resting), Err(InstallError::RestingSpi(spi(0x1000))));
    let removed = commit(&mut keying, vec![Op::Remove(new)]).removed;
    assert_eq!((removed, usages(&keying)), (vec![new], vec![]));
    keying.poll(at(1000));
    let slots_ever_used = keying.counts().slots_ever_used;
    assert_eq!(keying.counts(), Counts { slots_ever_used, ..Counts::default() });
}

/// RFC 4301 4.4.2.1, T36: where one half is over, so is the bundle in that direction: the keys of both headers are forgotten,
/// nothing makes it send again, and it goes whole.
#[test]
fn rfc_4301_4_4_2_1_a_bundle_ends_with_either_half() {
    for (direction, around) in [
        (Direction::Inbound, false),
        (Direction::Outbound, false),
        (Direction::Inbound, true),
        (Direction::Outbound, true),
    ] {
        let mut keying = keying();
        let id = installed(&mut keying, 0x1000);
        let pair = keying.pairs().remove(0);
        let [ah_in, ah_out] = pair.header.unwrap();
        let sa = match (direction, around) {
            (Direction::Inbound, false) => pair.inbound.sa,
            (Direction::Outbound, false) => pair.outbound.sa,
            (Direction::Inbound, true) => ah_in.sa,
            (Direction::Outbound, true) => ah_out.sa,
        };
        assert_eq!(keying.keys().len(), 4);
        keying.take_notices().for_each(drop);
        keying.note(&Event::HardExpired { sa, direction });
        let told: Vec<_> = keying.take_notices().collect();
        assert_eq!(told, [Notice::HardExpired { pair: id, peer: fqdn("bob"), direction }]);
        let left = keying.keys();
        assert_eq!((left.len(), left.iter().any(|shown| shown.direction == direction)), (2, false), "T40");
        let pair = keying.pairs().remove(0);
        let [ah_in, ah_out] = pair.header.unwrap();
        let over = [pair.inbound.expired, ah_in.expired, pair.outbound.expired, ah_out.expired];
        let inbound = direction == Direction::Inbound;
        assert_eq!(over, [inbound, inbound, !inbound, !inbound]);
        commit(&mut keying, vec![Op::Retire(id)]);
        let again = keying.commit(Transaction::new(vec![Op::Activate(id)]), at(0));
        assert_eq!(again, Err(CommitError::Expired(id)));
        commit(&mut keying, vec![Op::Remove(id)]);
        assert_eq!(usages(&keying), []);
    }
}

/// T11, T12: static keys of a counter mode go on record for all four, and none of them begins again.
#[test]
fn t12_a_bundle_on_record_goes_on_with_all_four() {
    let gmac: Suite = "ah-aes-128-gmac".parse().unwrap();
    let key = |spi, suite: Suite, octet| {
        let octets = vec![octet; suite.material_len()];
        SaKeys::from_octets(spi, suite, &octets, latchway_esp::SequenceKind::Extended).unwrap()
    };
    let on = |next: u64, after| Resumption {
        next: SeqNum(next),
        reservation: Reservation::new(SeqNum(next + 99)),
        after: SeqNum(after),
        top: ReceivedTop::new(),
        header: None,
    };
    let stored = |spi: u32, resumption| Keys {
        inbound: key(spi, Suite::AES_128_GCM, 1),
        outbound: key(spi, Suite::AES_128_GCM, 2),
        header: Some(HeaderKeys { inbound: key(spi, gmac, 3), outbound: key(spi, gmac, 4) }),
        origin: KeyOrigin::Static,
        resumption,
        start: Start::Active,
        ..bundle_keys(spi)
    };
    let mut keying = keying();
    let terms = || Proposal { header: Some(Suites::both(gmac)), ..proposal("bob") };
    let mut install = |keys| {
        let offer = keying.propose(terms(), at(0)).unwrap();
        keying.install(offer.ticket, keys, at(0))
    };
    assert_eq!(install(stored(0x1000, None)), Err(InstallError::StaticCounterMode(Suite::AES_128_GCM)));
    let resumption = Resumption { header: Some(Box::new(on(301, 40))), ..on(501, 70) };
    install(stored(0x1000, Some(resumption))).unwrap();
    let (mut next, mut after) = (vec![], vec![]);
    for slot in keying.snapshot().sad.iter() {
        match &slot.entry.role {
            Role::Inbound { sa, .. } => after.push((slot.entry.protocol, sa.take().unwrap().top())),
            Role::Outbound { sa, .. } => {
                let number = sa.take().unwrap().take(1).unwrap().next_seq().unwrap().number();
                next.push((slot.entry.protocol, number));
            }
        }
    }
    assert_eq!(next, [(Protocol::Esp, SeqNum(501)), (Protocol::Ah, SeqNum(301))]);
    assert_eq!(after, [(Protocol::Esp, SeqNum(70)), (Protocol::Ah, SeqNum(40))]);
}

/// L-10: of a bundle both headers check for replays, or none does.
#[test]
fn l_10_replays_are_checked_by_both_headers_or_by_none() {
    let mut keying = keying();
    let unchecked = Keys { anti_replay: AntiReplay::Off, ..bundle_keys(0x1000) };
    assert_eq!(install(&mut keying, unchecked), Err(InstallError::OtherReplay));
}
