//! What a gateway is made of, from whichever description: everything checked, nothing made yet.

use std::net::Ipv6Addr;

use ipnet::IpNet;
use latchway_config::{Config, Listen, Place};
use latchway_control::{GatewaySpec, Mode, PairSpec, TunBackendSpec};
use latchway_datapath::fitting::Fitting;
use latchway_datapath::low::tun::BackendChoice;
use latchway_datapath::prohibition::Answers;
use latchway_datapath::sad::Path;
use latchway_datapath::spd::Rule;
use latchway_esp::Suite;
use latchway_keying::{Pad, PadEntryIds};
use latchway_netns::Namespace;
use latchway_tagging::Identity;
use latchway_ulp_shim::Limits;

use crate::gateway::surroundings::Surroundings;
use crate::gateway::{GatewayError, configured, convert};

/// A gateway that could be made.
pub struct Plan {
    /// What status output calls it.
    pub name: String,
    /// Who it is.
    pub identity: Identity,
    /// What keeps clear packets from the inner addresses.
    pub mode: Mode,
    /// The prefixes that programs started behind the gateway get their addresses from.
    pub exec: Vec<IpNet>,
    /// Where the TUN is, and behind it the inner hosts.
    pub inner: Namespace,
    /// Where the wire sockets are.
    pub outer: Namespace,
    /// The TUN towards the inner hosts.
    pub tun: TunPlan,
    /// The name of the port by which BYPASS traffic leaves and enters, if there is to be one.
    pub bypass: Option<String>,
    /// What the wire sockets are bound to, by number.
    pub listen: Vec<Listen>,
    /// The peers.
    pub pad: Pad,
    /// The policy, first match first.
    pub rules: Vec<Rule>,
    /// How many latches there may be, and for how long.
    pub limits: Limits,
    /// Whether auditable drops are logged.
    pub audit: bool,
    /// What inner senders are told of what policy does with their packets.
    pub answers: Answers,
}

/// A TUN, and what it is given.
pub struct TunPlan {
    /// Its name.
    pub name: String,
    /// How it is driven.
    pub backend: BackendChoice,
    /// Whether it outlives the gateway.
    pub persistent: bool,
    /// What it is given once it is open; `None` leaves it as it is.
    pub settings: Option<TunSettings>,
}

/// What a TUN is given.
pub struct TunSettings {
    /// The MTU of the inner side, in octets.
    pub mtu: u16,
    /// Addresses, with their prefixes. Empty leaves addresses, MTU and state to someone else.
    pub addresses: Vec<IpNet>,
    /// Prefixes to route through it.
    pub routes: Vec<IpNet>,
}

impl Plan {
    /// The plan of a description for one run.
    pub fn of_description(spec: &GatewaySpec) -> Result<Self, GatewayError> {
        let namespace =
            |path: Option<&std::path::Path>| path.map_or_else(Namespace::current, Namespace::from_path);
        let plan = Self {
            name: spec.name.clone(),
            identity: convert::named(&spec.identity)?,
            mode: if spec.unguarded { Mode::Unguarded } else { Mode::Split },
            exec: Vec::new(),
            inner: namespace(spec.inner.as_deref())?,
            outer: namespace(spec.outer.as_deref())?,
            tun: TunPlan {
                name: spec.tun.name.clone(),
                backend: match spec.tun.backend {
                    TunBackendSpec::Auto => BackendChoice::Auto,
                    TunBackendSpec::Offload => BackendChoice::Offload,
                    TunBackendSpec::Plain => BackendChoice::Plain,
                },
                persistent: false,
                settings: Some(TunSettings {
                    mtu: spec.tun.mtu.unwrap_or_else(|| {
                        with_room(inner_mtu(spec.sas.iter().map(described)), &spec.tun.addresses)
                    }),
                    addresses: spec.tun.addresses.clone(),
                    routes: spec.tun.routes.clone(),
                }),
            },
            bypass: None,
            listen: spec.listen.iter().copied().map(convert::listen).collect(),
            pad: convert::pad(&spec.peers, &spec.identity)?,
            rules: convert::rules(&spec.policy)?,
            limits: Limits::default(),
            audit: false,
            answers: Answers::default(),
        };
        if plan.inner.is_same(&plan.outer) && !spec.unguarded {
            return Err(GatewayError::OneNamespace);
        }
        Ok(plan)
    }

    /// The plan of a configuration, in its surroundings.
    pub fn of_configuration(
        config: &Config,
        surroundings: &Surroundings,
        ids: &mut PadEntryIds,
    ) -> Result<Self, GatewayError> {
        Ok(Self {
            name: config.name.clone(),
            identity: config.identity.clone(),
            mode: if matches!(config.place, Place::Host { .. }) { Mode::Host } else { Mode::Split },
            exec: config.exec.into_iter().collect(),
            inner: surroundings.inner.clone(),
            outer: surroundings.outer.clone(),
            tun: TunPlan {
                name: config.tun.name.clone(),
                backend: configured::backend(config),
                persistent: config.tun.persistent && !config.tun.premade,
                settings: None,
            },
            bypass: config.bypass_port.clone(),
            listen: config.listen.clone(),
            pad: configured::pad(config, ids)?,
            rules: configured::rules(config, ids)?,
            limits: configured::limits(&config.latches),
            audit: config.audit,
            answers: Answers { discard: config.answer_discard },
        })
    }
}

/// The MTU of a configured gateway's inner side.
pub fn configured_mtu(config: &Config) -> u16 {
    let sas = config.peers.iter().flat_map(|peer| &peer.sas);
    config.tun.mtu.unwrap_or_else(|| {
        with_room(inner_mtu(sas.map(|sa| (sa.mtu, Some(sa.suite)))), &config.tun.addresses)
    })
}

/// What a device with these addresses can have for its MTU: with one of IPv6 no less than 1280 (RFC 8200 section 5).
fn with_room(mtu: u16, addresses: &[IpNet]) -> u16 {
    let v6 = addresses.iter().any(|address| address.addr().is_ipv6());
    if v6 { mtu.max(LEAST_OVER_IPV6) } else { mtu }
}

/// The path's MTU and the suite of a described pair.
fn described(pair: &PairSpec) -> (u16, Option<Suite>) {
    (pair.path.mtu, pair.suite.parse().ok())
}

/// The largest inner packet that every path takes: outer IPv6, UDP, ESP. Where the suite is not known yet, any that is recommended.
fn inner_mtu(sas: impl Iterator<Item = (u16, Option<Suite>)>) -> u16 {
    const UNKNOWN: (u16, Option<Suite>) = (1500, None);
    let fits = |(mtu, suite): (u16, Option<Suite>)| {
        let likely = suite.map_or(Suite::RECOMMENDED.to_vec(), |only| vec![only]);
        let path = Path::udp(0, (Ipv6Addr::UNSPECIFIED, 0).into(), mtu);
        let most = |suite| {
            let fitting = Fitting::new(suite, latchway_tagging::Mode::Tunnel, &path);
            fitting.max_inner(mtu.into(), fitting.usual_front())
        };
        likely.into_iter().map(most).min()
    };
    let mut sas = sas.peekable();
    let largest = if sas.peek().is_none() { fits(UNKNOWN) } else { sas.filter_map(fits).min() };
    u16::try_from(largest.unwrap_or(0)).unwrap_or(u16::MAX)
}

/// RFC 8200 section 5.
const LEAST_OVER_IPV6: u16 = 1280;

/// A super-packet of this size, sealed, still leaves in one send of at most 65507 octets: at an inner MTU of 1420 these
/// are 44 segments of 1458, and at 1280, 49 of 1318. What does not fit costs a second send, receive and TUN
/// write.
pub const GSO_MAX_SIZE: u32 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8200 section 5: a narrow path leaves an IPv6 address on the TUN what it must have, and nothing else more.
    #[test]
    fn a_narrow_path_leaves_room_for_ipv6_addresses() {
        let addresses = |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect::<Vec<IpNet>>();
        let narrow = inner_mtu([(1300, Some(Suite::AES_128_GCM))].into_iter());
        assert!((1200..1280).contains(&narrow), "{narrow}");
        assert_eq!(with_room(narrow, &addresses(&["10.0.1.1/24"])), narrow);
        assert_eq!(with_room(narrow, &addresses(&["10.0.1.1/24", "fd00:1::1/64"])), 1280);
        assert_eq!(with_room(1400, &addresses(&["fd00:1::1/64"])), 1400);
    }
}
