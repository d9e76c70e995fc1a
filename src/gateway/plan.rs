//! What a gateway is made of, from whichever description: everything checked, nothing made yet.

use std::net::SocketAddr;

use ipnet::IpNet;
use latchway_control::{GatewaySpec, TunBackendSpec};
use latchway_datapath::low::tun::BackendChoice;
use latchway_datapath::spd::Rule;
use latchway_esp::Suite;
use latchway_keying::Pad;
use latchway_netns::Namespace;
use latchway_tagging::Identity;

use crate::gateway::{GatewayError, convert};

/// A gateway that could be made.
pub struct Plan {
    /// What status output calls it.
    pub name: String,
    /// Who it is.
    pub identity: Identity,
    /// Where the TUN is, and behind it the inner hosts.
    pub inner: Namespace,
    /// Where the wire sockets are.
    pub outer: Namespace,
    /// The TUN towards the inner hosts.
    pub tun: TunPlan,
    /// The name of the port by which BYPASS traffic leaves and enters, if there is to be one.
    pub bypass: Option<String>,
    /// Addresses and UDP ports of the wire sockets, by number.
    pub listen: Vec<SocketAddr>,
    /// The peers.
    pub pad: Pad,
    /// The policy, first match first.
    pub rules: Vec<Rule>,
}

/// A TUN, and what it is given.
pub struct TunPlan {
    /// Its name.
    pub name: String,
    /// How it is driven.
    pub backend: BackendChoice,
    /// Whether it outlives the gateway.
    pub persistent: bool,
    /// The MTU of the inner side, in octets.
    pub mtu: u16,
    /// Addresses to give it, with their prefixes. Empty leaves addresses, MTU and state to someone else.
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
            identity: Identity::Fqdn(spec.identity.clone()),
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
                mtu: spec.tun.mtu.unwrap_or_else(|| inner_mtu(spec.sas.iter().map(|pair| pair.path.mtu))),
                addresses: spec.tun.addresses.clone(),
                routes: spec.tun.routes.clone(),
            },
            bypass: None,
            listen: spec.listen.clone(),
            pad: convert::pad(&spec.peers, &spec.identity)?,
            rules: convert::rules(&spec.policy)?,
        };
        if plan.inner.is_same(&plan.outer) && !spec.unguarded {
            return Err(GatewayError::OneNamespace);
        }
        Ok(plan)
    }
}

/// The largest inner packet that every path takes, of any suite: outer IPv6, UDP, ESP.
pub fn inner_mtu(paths: impl Iterator<Item = u16>) -> u16 {
    const OUTER_HEADERS: usize = 40 + 8;
    let room = usize::from(paths.min().unwrap_or(1500)).saturating_sub(OUTER_HEADERS);
    let largest = Suite::ALL.iter().filter_map(|suite| suite.max_payload(room)).min().unwrap_or(0);
    u16::try_from(largest).unwrap_or(u16::MAX)
}
