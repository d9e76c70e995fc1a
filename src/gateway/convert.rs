//! From a gateway's description to the types that cannot be wrong.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use latchway_config::Listen;
use latchway_control::{
    ActionSpec, DirectionSpec, EncapsulationSpec, FormSpec, HeaderSpec, KeysSpec, LifetimeSpec, ModeSpec,
    NatSpec, PairSpec, PathSpec, PeerSpec, ProposalSpec, RuleSpec, SaSpec, SelectorSpec, UsageSpec, WireSpec,
};
use latchway_datapath::arrival::Carrier;
use latchway_datapath::drop::Direction;
use latchway_datapath::lifetime::{Bounds, Limits, LimitsError};
use latchway_datapath::sad::{Path, Scope};
use latchway_datapath::selector::{AddressRange, BadRange, Selector};
use latchway_datapath::spd::{Action, Latching, Protection, Reqid, Rule};
use latchway_esp::{AntiReplay, SequenceKind, Suite, WindowSize};
use latchway_keying::{
    Evidence, EvidenceError, HeaderKeys, InstallError, KeyOrigin, Keys, Narrowing, Nat, Pad, PadEntry,
    PadError, PeerPattern, Proposal, SaKeys, Start, Suites,
};
use latchway_tagging::{AuthMethod, Identity, Mode, NoIdentity, PadEntryId, WorkerId};
use zeroize::Zeroizing;

use crate::gateway::proven::{evidence, method};
use crate::gateway::selectors::{self, MOST_COMBINATIONS};
use crate::gateway::{form, terms};

/// What is wrong with a description, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Ends of a range do not belong together.
    #[error("{0}: {1}")]
    Range(String, BadRange),
    /// The selector's sides are of different families.
    #[error(
        "the selector {local} to {remote} mixes address families; give addresses of the same on both sides, or a selector for each"
    )]
    MixedFamilies {
        /// The local side.
        local: String,
        /// The remote side.
        remote: String,
    },
    /// There is nothing on one side.
    #[error(
        "a selector without addresses on one side selects nothing; give 0.0.0.0/0 or ::/0 for all of them"
    )]
    NoAddresses,
    /// A selector would become too many.
    #[error(
        "the selector has {0} combinations of ranges, more than the {MOST_COMBINATIONS} that can be; give several"
    )]
    Combinations(usize),
    /// An empty list of ports.
    #[error("an empty list of ports selects nothing; leave it out for any")]
    NoPortRanges,
    /// Of a packet both ports are seen, or none.
    #[error("a packet shows the ports of both sides, or of none; give \"opaque\" for both, or leave one out")]
    OneSideOpaque,
    /// What policy sees all of.
    #[error(
        "a rule for what protocol {0} does not show never decides: a later fragment is judged by its first; leave \"opaque\" or `protocol` out"
    )]
    NeverOpaque(u8),
    /// ICMP types of a protocol that has none.
    #[error(
        "`icmp` takes a protocol with such messages: 1, 58 or 135; give that as `protocol`, or leave `icmp` out"
    )]
    NoMessages,
    /// A range of types or codes that would match nothing.
    #[error("the ICMP types or codes {0} to {1} are none; write the lower one first")]
    Messages(u8, u8),
    /// Codes of several types.
    #[error("codes are of one ICMP type, and here are several; give a selector for each")]
    CodesOfSeveral,
    /// A range of ports that would match nothing, so that the next rule would decide.
    #[error("the ports {0} to {1} are none; write the lower one first")]
    Ports(u16, u16),
    /// Ports of a protocol that has none would match nothing, too.
    #[error("protocol {0} has no ports that the gateway reads; leave `local_ports` and `remote_ports` out")]
    NoPorts(u8),
    /// Ports of no certain protocol, for which an SA cannot be (RFC 4301 section 7.2).
    #[error("an SA for certain ports is for a protocol; give `protocol` with them, or leave them out")]
    PortsOfAny,
    /// A path that no packet could take.
    #[error("the path from {from} to {to} mixes address families; give two addresses of one family")]
    MixedPath {
        /// Our side.
        from: std::net::IpAddr,
        /// Their side.
        to: SocketAddr,
    },
    /// No suite has this name.
    #[error("{0:?} is no suite; use aes-128-gcm, aes-256-gcm or chacha20-poly1305")]
    Suite(String),
    /// The key is not hexadecimal.
    #[error("the key of SPI 0x{0:08x} is not hexadecimal; write two digits for each octet")]
    KeyNotHexadecimal(u32),
    /// The SPI or the key cannot be used.
    #[error("the SA with SPI 0x{0:08x} cannot be made: {1}")]
    Sa(u32, InstallError),
    /// The replay window cannot be used.
    #[error("a replay window of {0} packets cannot be had; use 32 to 65536, or 0 to turn the check off")]
    ReplayWindow(u32),
    /// The lifetime cannot be kept.
    #[error("the lifetime cannot be had: {0}")]
    Limits(#[from] LimitsError),
    /// The form that packets are to travel in cannot be.
    #[error("the form of the pair's packets: {0}")]
    Form(&'static str),
    /// No wire socket has this address.
    #[error("the path starts at {0}, where this gateway does not listen; use one of its `listen` addresses")]
    NotListening(std::net::IpAddr),
    /// The wire socket there is for UDP.
    #[error(
        "at {0} the gateway listens for ESP in UDP alone; add \"native:{0}\" to its `listen`, or use the encapsulation udp"
    )]
    NotNative(std::net::IpAddr),
    /// The wire socket there is not for UDP.
    #[error(
        "at {0} the gateway does not listen for ESP in UDP; add \"{0}\" to its `listen`, or use the encapsulation none"
    )]
    NotInUdp(std::net::IpAddr),
    /// A text is no identity.
    #[error("{0:?} {NoIdentity}")]
    Identity(String),
    /// SAs are agreed upon with one peer.
    #[error("{0} is more than one peer, and has SAs; give each peer that has SAs an entry of its own")]
    ManyPeers(PeerPattern),
    /// Octets are not what they should be.
    #[error(
        "the certificate or the public key is no base64; write it as RFC 4648 section 4 does, with padding"
    )]
    NoBase64,
    /// A hash is none.
    #[error("`key_sha256` of the trust anchor is no SHA-256 hash; write 64 hexadecimal digits")]
    NoFingerprint,
    /// Evidence is none.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The PAD cannot be made of these peers.
    #[error("the peers cannot be told apart: {0}")]
    Pad(#[from] PadError),
}

/// The Peer Authorization Database: one entry for each peer, by its name.
pub fn pad(peers: &[PeerSpec], identity: &str) -> Result<Pad, SpecError> {
    let local = named(identity)?;
    let entry = |(number, peer): (u32, &PeerSpec)| -> Result<PadEntry, SpecError> {
        let pattern: PeerPattern =
            peer.identity.parse().map_err(|_| SpecError::Identity(peer.identity.clone()))?;
        let methods = match peer.methods.as_slice() {
            [] => pattern.usual_methods().to_vec(),
            methods => methods.iter().copied().map(method).collect(),
        };
        Ok(PadEntry {
            id: PadEntryId(number),
            name: peer.identity.clone(),
            peer: pattern,
            methods,
            standing: None,
            ranges: peer.inner.iter().map(range).collect::<Result<_, _>>()?,
            local: local.clone(),
        })
    };
    Ok(Pad::new((0..).zip(peers).map(entry).collect::<Result<_, _>>()?)?)
}

/// The policy, in its order.
pub fn rules(specs: &[RuleSpec]) -> Result<Vec<Rule>, SpecError> {
    let rules: Result<Vec<_>, _> = specs.iter().map(rule).collect();
    rules.map(|rules| rules.into_iter().flatten().collect())
}

/// A pair as a proposal, and as the keys that make it real.
pub fn pair(spec: &PairSpec, identity: &Identity, listen: &[Listen]) -> Result<(Proposal, Keys), SpecError> {
    let suite = suite(&spec.suite)?;
    let made = Made {
        inbound: (&spec.inbound, suite),
        outbound: (&spec.outbound, suite),
        header: spec.header.as_ref(),
        mode: mode(spec.mode),
        form: &spec.form,
        esn: spec.esn,
        anti_replay: anti_replay(spec.replay_window)?,
        path: path(&spec.path, listen)?,
        limits: limits(&spec.soft, &spec.hard)?,
        usage: spec.usage,
    };
    let proposal = Proposal {
        peer: named(&spec.peer)?,
        method: AuthMethod::Manual,
        local: identity.clone(),
        selectors: sa_selectors(&spec.selectors)?,
        narrowing: Narrowing::Forbidden,
        mode: made.mode,
        suites: Suites::both(suite),
        header: made.header_suites()?,
        replay_checked: made.anti_replay != AntiReplay::Off,
        reqid: Reqid(0),
        evidence: Evidence::default(),
        local_evidence: Evidence::default(),
        nat: Nat::default(),
    };
    Ok((proposal, made.keys()?))
}

/// What a provider proposes.
pub fn proposal(spec: &ProposalSpec, identity: &Identity) -> Result<Proposal, SpecError> {
    let NatSpec { local, remote, local_inner, remote_inner } = spec.nat;
    Ok(Proposal {
        peer: named(&spec.peer)?,
        method: method(spec.method),
        local: spec.local.as_deref().map_or_else(|| Ok(identity.clone()), named)?,
        selectors: sa_selectors(&spec.selectors)?,
        narrowing: if spec.narrow { Narrowing::Allowed } else { Narrowing::Forbidden },
        mode: mode(spec.mode),
        suites: Suites { inbound: suite(&spec.inbound_suite)?, outbound: suite(&spec.outbound_suite)? },
        header: spec.header_suite.as_deref().map(suite).transpose()?.map(Suites::both),
        replay_checked: spec.replay_checked,
        reqid: Reqid(0),
        evidence: evidence(&spec.evidence)?,
        local_evidence: spec.local_evidence.as_ref().map(evidence).transpose()?.unwrap_or_default(),
        nat: Nat { local, remote, local_inner, remote_inner },
    })
}

/// The proposal for the rules that want its peer: those of the entry of the PAD that speaks of it.
pub fn serving(proposal: Proposal, pad: &Pad) -> Proposal {
    let reqid = pad.of(&proposal).map_or(proposal.reqid, |entry| reqid(entry.id));
    Proposal { reqid, ..proposal }
}

/// Ties the SAs of a peer to the rules that want that peer.
pub const fn reqid(entry: PadEntryId) -> Reqid {
    Reqid(entry.0)
}

/// What makes a provider's offer real.
pub fn keys(spec: &KeysSpec, listen: &[Listen]) -> Result<Keys, SpecError> {
    let made = Made {
        inbound: (&spec.inbound, suite(&spec.inbound_suite)?),
        outbound: (&spec.outbound, suite(&spec.outbound_suite)?),
        header: spec.header.as_ref(),
        // The proposal says it, and its keys cannot say otherwise.
        mode: Mode::Tunnel,
        form: &spec.form,
        esn: spec.esn,
        anti_replay: anti_replay(spec.replay_window)?,
        path: path(&spec.path, listen)?,
        limits: limits(&spec.soft, &spec.hard)?,
        usage: spec.usage,
    };
    made.keys()
}

/// Both SAs of a pair, of which only the keys are still text.
struct Made<'a> {
    inbound: (&'a SaSpec, Suite),
    outbound: (&'a SaSpec, Suite),
    header: Option<&'a HeaderSpec>,
    mode: Mode,
    form: &'a FormSpec,
    esn: bool,
    anti_replay: AntiReplay,
    path: Path,
    limits: Limits,
    usage: UsageSpec,
}

impl Made<'_> {
    fn header_suites(&self) -> Result<Option<Suites>, SpecError> {
        self.header.map(|header| suite(&header.suite).map(Suites::both)).transpose()
    }

    /// The AH of a bundle ends with the ESP in it, and has no lifetime of its own.
    fn header_keys(&self, header: &HeaderSpec, sequence: SequenceKind) -> Result<HeaderKeys, SpecError> {
        let suite = suite(&header.suite)?;
        let keys = |spec| sa_keys(spec, suite, sequence, Limits::default());
        Ok(HeaderKeys { inbound: keys(&header.inbound)?, outbound: keys(&header.outbound)? })
    }

    fn keys(&self) -> Result<Keys, SpecError> {
        let sequence = if self.esn { SequenceKind::Extended } else { SequenceKind::Seq32 };
        let keys = |(sa, suite)| sa_keys(sa, suite, sequence, self.limits);
        Ok(Keys {
            inbound: keys(self.inbound)?,
            anti_replay: self.anti_replay,
            outbound: keys(self.outbound)?,
            header: self.header.map(|header| self.header_keys(header, sequence)).transpose()?,
            align: form::align(self.form),
            path: self.path,
            shape: form::shape(self.form, self.mode, self.path.carrier)?,
            follow: form::follow(self.form),
            scope: Scope::Selectors,
            origin: KeyOrigin::Ephemeral,
            resumption: None,
            worker: WorkerId(0),
            start: match self.usage {
                UsageSpec::Standby => Start::Standby,
                UsageSpec::Active => Start::Active,
            },
        })
    }
}

/// What a wire socket is bound to.
pub const fn listen(spec: WireSpec) -> Listen {
    match spec {
        WireSpec::Udp(address) => Listen::Udp(address),
        WireSpec::Native(address) => Listen::Native(address),
    }
}

/// An identity by its text.
pub fn named(identity: &str) -> Result<Identity, SpecError> {
    identity.parse().map_err(|_| SpecError::Identity(identity.into()))
}

const fn mode(spec: ModeSpec) -> Mode {
    match spec {
        ModeSpec::Tunnel => Mode::Tunnel,
        ModeSpec::Transport => Mode::Transport,
    }
}

fn suite(name: &str) -> Result<Suite, SpecError> {
    name.parse().map_err(|_| SpecError::Suite(name.into()))
}

/// A rule of the SPD: one for each combination of its ranges.
pub fn rule(spec: &RuleSpec) -> Result<Vec<Rule>, SpecError> {
    let latching = if spec.latch { Latching::On(terms::described(spec.terms)) } else { Latching::Off };
    let direction = spec.direction.map(|direction| match direction {
        DirectionSpec::Inbound => Direction::Inbound,
        DirectionSpec::Outbound => Direction::Outbound,
    });
    let action = match spec.action {
        ActionSpec::Protect => Action::Protect(Protection { reqid: None, template: None, latching }),
        ActionSpec::Bypass => Action::Bypass,
        ActionSpec::Discard => Action::Discard,
    };
    let freedom = terms::described_freedom(spec.applications);
    selectors::of_rule(&spec.selector).map(|selectors| {
        let rule = |selector| Rule { freedom, ..Rule::new(selector, direction, action) };
        selectors.into_iter().map(rule).collect()
    })
}

/// What an SA is for.
fn sa_selectors(specs: &[SelectorSpec]) -> Result<Vec<Selector>, SpecError> {
    let selectors: Result<Vec<_>, _> = specs.iter().map(selectors::of_sa).collect();
    selectors.map(|selectors| selectors.into_iter().flatten().collect())
}

fn range(prefix: &IpNet) -> Result<AddressRange, SpecError> {
    AddressRange::new(prefix.network(), prefix.broadcast())
        .map_err(|error| SpecError::Range(prefix.to_string(), error))
}

fn anti_replay(window: u32) -> Result<AntiReplay, SpecError> {
    match window {
        0 => Ok(AntiReplay::Off),
        size => WindowSize::new(size).map(AntiReplay::Window).map_err(|_| SpecError::ReplayWindow(size)),
    }
}

fn sa_keys(spec: &SaSpec, suite: Suite, sequence: SequenceKind, limits: Limits) -> Result<SaKeys, SpecError> {
    let octets = hex::decode(spec.key.expose()).map_err(|_| SpecError::KeyNotHexadecimal(spec.spi))?;
    let octets = Zeroizing::new(octets);
    let keys = SaKeys::from_octets(spec.spi, suite, &octets, sequence);
    keys.map(|keys| SaKeys { limits, ..keys }).map_err(|error| SpecError::Sa(spec.spi, error))
}

fn path(spec: &PathSpec, listen: &[Listen]) -> Result<Path, SpecError> {
    if spec.from.is_ipv4() != spec.to.is_ipv4() {
        return Err(SpecError::MixedPath { from: spec.from, to: spec.to });
    }
    let native = spec.encapsulation == EncapsulationSpec::None;
    let serves = |wire: &Listen| wire.ip() == spec.from && wire.is_native() == native;
    let Some(wire) = listen.iter().position(serves) else {
        let other = listen.iter().any(|wire| wire.ip() == spec.from);
        return Err(match (native, other) {
            (true, true) => SpecError::NotNative(spec.from),
            (false, true) => SpecError::NotInUdp(spec.from),
            (_, false) => SpecError::NotListening(spec.from),
        });
    };
    let path = Path { from: spec.from, ..Path::udp(wire, spec.to, spec.mtu) };
    let to = SocketAddr::new(spec.to.ip(), 0);
    Ok(if native { Path { to, carrier: Carrier::Native, ..path } } else { path })
}

fn limits(soft: &LifetimeSpec, hard: &LifetimeSpec) -> Result<Limits, LimitsError> {
    let bounds = |spec: &LifetimeSpec| {
        let times = [spec.milliseconds, spec.milliseconds_since_first_use];
        let [time, since_first_use] = times.map(|time| time.map(Duration::from_millis));
        Bounds { octets: spec.octets, packets: spec.packets, time, since_first_use }
    };
    Limits::new(bounds(soft), bounds(hard))
}

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_control::Secret;

    fn pair_spec() -> PairSpec {
        serde_json::from_value(serde_json::json!({
            "peer": "b.example",
            "suite": "aes-128-gcm",
            "inbound": {"spi": 0x1001, "key": "00".repeat(20)},
            "outbound": {"spi": 0x1002, "key": "11".repeat(20)},
            "path": {"from": "192.0.2.1", "to": "192.0.2.2:4500"},
            "selectors": [{"local": "10.0.1.0/24", "remote": "10.0.2.0/24"}],
        }))
        .unwrap()
    }

    fn convert(spec: &PairSpec) -> Result<(Proposal, Keys), SpecError> {
        pair(spec, &Identity::Fqdn("a.example".into()), &[Listen::Udp("192.0.2.1:4500".parse().unwrap())])
    }

    #[test]
    fn a_description_becomes_a_proposal_with_the_defaults_of_the_documentation() {
        let (proposal, keys) = convert(&pair_spec()).unwrap();
        assert!(proposal.replay_checked);
        assert_eq!(keys.anti_replay, AntiReplay::Window(WindowSize::new(4096).unwrap()));
        assert_eq!(keys.inbound.sequence, SequenceKind::Extended);
        assert_eq!((keys.path.wire, keys.path.mtu), (0, 1500));
    }

    #[test]
    fn each_bad_description_says_what_is_wrong_and_never_shows_a_key() {
        type Change = fn(&mut PairSpec);
        let bad: [(&str, Change); 9] = [
            ("is no suite", |spec| spec.suite = "rot13".into()),
            ("hexadecimal", |spec| spec.inbound.key = Secret::new("zz".into())),
            ("0x00001001", |spec| spec.inbound.key = Secret::new("00".into())),
            ("reserved", |spec| spec.outbound.spi = 255),
            ("replay window", |spec| spec.replay_window = 31),
            ("a limit of no packets", |spec| spec.hard.packets = Some(0)),
            ("does not listen", |spec| spec.path.from = "192.0.2.9".parse().unwrap()),
            ("path from 192.0.2.1 to [2001:db8::1]:4500 mixes", |spec| {
                spec.path.to = "[2001:db8::1]:4500".parse().unwrap();
            }),
            ("mixes", |spec| spec.selectors[0].remote = vec!["fd00::/16".parse().unwrap()]),
        ];
        for (says, change) in bad {
            let mut spec = pair_spec();
            change(&mut spec);
            let error = convert(&spec).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(says), "{says}: {error}");
            assert!(!error.contains("1111"), "T40");
        }
    }
}
