//! What the gateway's parts know, as control.sock says it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use latchway_config::Listen;
use latchway_control::{
    ActionSpec, AnchorSpec, CertificateView, DirectionSpec, DropRow, EncapsulationSpec, FormSpec, LatchState,
    LifetimeView, MethodSpec, ModeSpec, Origin, PathView, PeerRow, PolicyRow, ProvenRow, SaRow, SaUsage,
    Severity, TagView, Traffic, WireSpec,
};
use latchway_datapath::arrival::Carrier;
use latchway_datapath::drop::{self, Direction, DropReason};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::lifetime::Bounds;
use latchway_datapath::pmtu::PathMtu;
use latchway_datapath::sad::{Follow, Path, Usage};
use latchway_datapath::spd::Action;
use latchway_datapath::time::Time;
use latchway_esp::{AntiReplay, SequenceKind, Suite};
use latchway_keying::{
    Certificate, Fingerprint, IdentityView, PairView, PeerView, RuleView, SaView, SingleSa, SingleSending,
    Suites, TrustAnchor,
};
use latchway_tagging::{AuthMethod, Class, ClassId, Credential, InboundTag, Transforms};

use crate::gateway::{form, selectors, terms};

/// A reason that occurred.
pub fn drop_row(direction: Direction, reason: DropReason, packets: u64) -> DropRow {
    let info = reason.info();
    let severity = match info.severity {
        drop::Severity::Info => Severity::Info,
        drop::Severity::Warn => Severity::Warn,
        drop::Severity::Error => Severity::Error,
        drop::Severity::Audit => Severity::Audit,
    };
    DropRow {
        direction: direction_word(direction),
        reason: info.name.into(),
        packets,
        severity,
        section: info.section.into(),
        linux: info.linux.into(),
        text: info.text.into(),
    }
}

/// A state by its word.
pub fn latch_state(state: latchway_ulp_shim::LatchState) -> LatchState {
    match state {
        latchway_ulp_shim::LatchState::Listener => LatchState::Listener,
        latchway_ulp_shim::LatchState::Larval => LatchState::Larval,
        latchway_ulp_shim::LatchState::Established => LatchState::Established,
        latchway_ulp_shim::LatchState::Broken => LatchState::Broken,
        latchway_ulp_shim::LatchState::Closed => LatchState::Closed,
    }
}

/// Milliseconds since 1970-01-01T00:00Z.
pub fn unix_milliseconds(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Both SAs of a pair, inbound first; `listen` are the wire sockets in their order.
pub fn sa_rows(pair: &PairView, listen: &[Listen], now: Time) -> [SaRow; 2] {
    [(DirectionSpec::Inbound, &pair.inbound), (DirectionSpec::Outbound, &pair.outbound)]
        .map(|(direction, sa)| sa_row(pair, direction, sa, path_view(pair, listen), now))
}

fn sa_row(pair: &PairView, direction: DirectionSpec, sa: &SaView, path: PathView, now: Time) -> SaRow {
    let [inbound, outbound] = pair.header.as_ref().map_or([None; 2], |headers| headers.each_ref().map(Some));
    let anti_replay = (direction == DirectionSpec::Inbound).then_some(pair.anti_replay);
    SaRow {
        pair: Some(pair.id.raw()),
        mode: mode_word(pair.mode),
        encapsulation: encapsulation(pair.path.carrier),
        header: if anti_replay.is_some() { inbound } else { outbound }.map(form::header),
        form: form::shown(&pair.shape, pair.path.carrier, pair.follow, pair.align),
        peer: pair.peer.to_string(),
        usage: sa_usage(pair.usage),
        origin: origin(pair.origin),
        path: Some(path),
        selectors: pair.selectors.iter().map(selectors::shown).collect(),
        class: Some(pair.class.raw()),
        ..of_one(direction, sa, anti_replay, now)
    }
}

/// An SA of one direction.
pub fn single_row(single: &SingleSa, listen: &[Listen], now: Time) -> SaRow {
    let direction = if single.sending.is_some() { DirectionSpec::Outbound } else { DirectionSpec::Inbound };
    SaRow {
        mode: mode_word(single.mode),
        encapsulation: encapsulation(single.carrier),
        header: single.header.as_ref().map(form::header),
        form: form::shown(&single.shape, single.carrier, Follow::Fixed, single.align),
        peer: single.peer.to_string(),
        path: single.sending.as_ref().map(|sending| sending_path(sending, listen)),
        selectors: single.selectors.iter().map(selectors::shown).collect(),
        class: single.class.map(ClassId::raw),
        ..of_one(direction, &single.sa, single.anti_replay, now)
    }
}

/// What a row says of an SA itself.
fn of_one(direction: DirectionSpec, sa: &SaView, anti_replay: Option<AntiReplay>, now: Time) -> SaRow {
    SaRow {
        pair: None,
        direction,
        spi: sa.spi.get(),
        mode: ModeSpec::Tunnel,
        encapsulation: EncapsulationSpec::None,
        suite: sa.suite.to_string(),
        header: None,
        form: FormSpec::default(),
        peer: String::new(),
        usage: SaUsage::Active,
        origin: Origin::Xfrm,
        soft_expired: sa.soft_expired,
        expired: sa.expired,
        packets: sa.packets,
        octets: sa.octets,
        lost: sa.lost,
        soft: lifetime(sa.limits.soft(), sa, now),
        hard: lifetime(sa.limits.hard(), sa, now),
        esn: sa.sequence == SequenceKind::Extended,
        replay_window: anti_replay.map(|anti_replay| match anti_replay {
            AntiReplay::Off => 0,
            AntiReplay::Window(size) => size.get(),
        }),
        path: None,
        selectors: Vec::new(),
        age: milliseconds(now.since(sa.added)),
        idle: sa.last_used.map(|used| milliseconds(now.since(used))),
        class: None,
    }
}

const fn mode_word(mode: latchway_tagging::Mode) -> ModeSpec {
    match mode {
        latchway_tagging::Mode::Tunnel => ModeSpec::Tunnel,
        latchway_tagging::Mode::Transport => ModeSpec::Transport,
    }
}

const fn encapsulation(carrier: Carrier) -> EncapsulationSpec {
    match carrier {
        Carrier::Udp => EncapsulationSpec::Udp,
        Carrier::Native => EncapsulationSpec::None,
    }
}

/// Whether a pair is in use.
pub const fn sa_usage(usage: Usage) -> SaUsage {
    match usage {
        Usage::Pending => SaUsage::Pending,
        Usage::Standby => SaUsage::Standby,
        Usage::Active => SaUsage::Active,
        Usage::Retired => SaUsage::Retired,
    }
}

/// A tag.
pub fn tag_view(tag: InboundTag) -> TagView {
    TagView {
        class: ClassId::raw(tag.class),
        sa_index: u32::try_from(tag.sa.index.get()).unwrap_or(u32::MAX),
        generation: tag.sa.generation,
        version: tag.version.raw(),
    }
}

/// A flow as it is named; a listener's has no remote end.
pub fn flow_text(flow: &FlowKey) -> String {
    let text = flow.to_string();
    if flow.remote().ip().is_unspecified()
        && let Some((protocol, _)) = text.split_once(' ')
    {
        return format!("{protocol} {}", flow.local());
    }
    text
}

/// A method by its word.
pub const fn method_word(method: AuthMethod) -> MethodSpec {
    match method {
        AuthMethod::Btns => MethodSpec::Btns,
        AuthMethod::LeapOfFaith => MethodSpec::LeapOfFaith,
        AuthMethod::Manual => MethodSpec::Manual,
        AuthMethod::PreSharedKey => MethodSpec::PreSharedKey,
        AuthMethod::PublicKey => MethodSpec::PublicKey,
        AuthMethod::Certificate => MethodSpec::Certificate,
    }
}

/// The name of the suite that has these algorithms.
pub fn suite_name(transforms: &Transforms) -> &'static str {
    let is_of = |suite: &Suite| Suites::both(*suite).algorithms().inbound == *transforms;
    Suite::all().find(is_of).map_or("unknown", |suite| suite.name())
}

/// The names of the suites that have these algorithms: of ESP, and of the AH around it.
fn suite_names(transforms: &Transforms) -> String {
    let header = Transforms { encryption: None, integrity: None, ..*transforms };
    let within = Transforms { authentication_header: None, ..*transforms };
    if within == Transforms::default() || header == Transforms::default() {
        return suite_name(transforms).into();
    }
    format!("{} in {}", suite_name(&within), suite_name(&header))
}

/// Mode and suites, as "esp tunnel aes-128-gcm".
pub fn protection(class: &Class) -> String {
    let mode = match class.mode {
        latchway_tagging::Mode::Tunnel => "tunnel",
        latchway_tagging::Mode::Transport => "transport",
    };
    let (inbound, outbound) =
        (suite_names(&class.algorithms.inbound), suite_names(&class.algorithms.outbound));
    let Transforms { encryption, integrity, authentication_header } = class.algorithms.inbound;
    let headers = match (encryption.or(integrity), authentication_header) {
        (Some(_), Some(_)) => "ah+esp",
        (None, Some(_)) => "ah",
        _ => "esp",
    };
    let replay = if class.replay_checked { "" } else { ", replays not checked" };
    if inbound == outbound {
        format!("{headers} {mode} {inbound}{replay}")
    } else {
        format!("{headers} {mode} {inbound} in, {outbound} out{replay}")
    }
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A direction by its word.
pub const fn direction_word(direction: Direction) -> DirectionSpec {
    match direction {
        Direction::Inbound => DirectionSpec::Inbound,
        Direction::Outbound => DirectionSpec::Outbound,
    }
}

/// A direction.
pub const fn direction(word: DirectionSpec) -> Direction {
    match word {
        DirectionSpec::Inbound => Direction::Inbound,
        DirectionSpec::Outbound => Direction::Outbound,
    }
}

/// A rule with its number.
pub fn policy_row(view: &RuleView) -> PolicyRow {
    let (action, terms) = match view.rule.action {
        Action::Protect(protection) => (ActionSpec::Protect, protection.latching.terms()),
        Action::Bypass => (ActionSpec::Bypass, None),
        Action::Discard => (ActionSpec::Discard, None),
    };
    PolicyRow {
        number: view.number.raw(),
        name: view.rule.name.as_deref().map(str::to_owned),
        origin: origin(view.origin),
        selector: selectors::shown(&view.rule.selector),
        direction: view.rule.direction.map(direction_word),
        action,
        latch: terms.is_some(),
        terms: terms.map(terms::shown),
        applications: terms::shown_freedom(view.rule.freedom),
    }
}

/// An entry of the PAD, without what its pairs moved.
pub fn peer_row(view: &PeerView) -> PeerRow {
    let methods: Vec<_> = view.methods.iter().map(|method| method.name().to_owned()).collect();
    PeerRow {
        name: view.name.clone(),
        identity: view.peer.to_string(),
        standing: view.standing.map(|method| method.name().to_owned()),
        methods,
        live: view.identities.len() as u64,
        identities: view.identities.iter().take(MOST_IDENTITIES).map(proven_row).collect(),
        ranges: view.ranges.iter().map(ToString::to_string).collect(),
        endpoint: None,
        pairs: view.pairs.iter().map(|pair| pair.raw()).collect(),
        inbound: Traffic::default(),
        outbound: Traffic::default(),
        last_heard: None,
    }
}

/// A certificate, without itself.
pub fn certificate_view(certificate: &Certificate) -> CertificateView {
    CertificateView {
        subject: certificate.subject().to_owned(),
        issuer: certificate.issuer().to_owned(),
        sha256: certificate.fingerprint().to_string(),
    }
}

/// A trust anchor.
pub fn anchor_view(TrustAnchor { subject, key }: &TrustAnchor) -> AnchorSpec {
    AnchorSpec { subject: subject.clone(), key_sha256: key.to_string() }
}

/// A live identity, and what proved it last.
fn proven_row(IdentityView { record, evidence, .. }: &IdentityView) -> ProvenRow {
    ProvenRow {
        asserted: record.asserted.to_string(),
        method: record.method.name().to_owned(),
        certificate: evidence.certificate.as_ref().map(certificate_view),
        trust_anchor: evidence.anchor.as_ref().map(anchor_view),
        public_key_sha256: match record.credential {
            Credential::Key(hash) => Some(Fingerprint(hash).to_string()),
            _ => None,
        },
        authenticated: evidence.authenticated_at.map(unix_milliseconds),
    }
}

fn origin(origin: latchway_keying::Origin) -> Origin {
    match origin {
        latchway_keying::Origin::Configuration => Origin::Configuration,
        latchway_keying::Origin::Hand => Origin::Hand,
        latchway_keying::Origin::Latch => Origin::Latch,
    }
}

/// What is left of an SA's lifetime: by time, of that since it was added or since its first use, whichever ends first.
fn lifetime(bounds: &Bounds, sa: &SaView, now: Time) -> LifetimeView {
    let left = |time: Duration, from: Time| milliseconds(time.saturating_sub(now.since(from)));
    let added = bounds.time.map(|time| left(time, sa.added));
    let used = bounds.since_first_use.zip(sa.first_used).map(|(time, first)| left(time, first));
    let waits = bounds.since_first_use.filter(|_| sa.first_used.is_none());
    LifetimeView {
        octets: bounds.octets,
        packets: bounds.packets,
        left: added.into_iter().chain(used).min(),
        from_first_use: waits.map(milliseconds),
    }
}

/// What a wire socket is bound to, as it is shown.
pub const fn wire_spec(listen: Listen) -> WireSpec {
    match listen {
        Listen::Udp(address) => WireSpec::Udp(address),
        Listen::Native(address) => WireSpec::Native(address),
    }
}

/// Where a pair sends.
pub fn path_view(PairView { path, path_mtu, .. }: &PairView, listen: &[Listen]) -> PathView {
    path_of(path, path_mtu, listen)
}

/// Where an SA of one direction sends.
pub fn sending_path(SingleSending { path, path_mtu, .. }: &SingleSending, listen: &[Listen]) -> PathView {
    path_of(path, path_mtu, listen)
}

fn path_of(path: &Path, path_mtu: &PathMtu, listen: &[Listen]) -> PathView {
    let from = listen.get(path.wire).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Listen::ip);
    PathView { from, to: path.to, mtu: path.mtu, in_force: path_mtu.in_force, suspected: path_mtu.suspected }
}

/// Of the live identities of an entry, in a row.
const MOST_IDENTITIES: usize = 16;
