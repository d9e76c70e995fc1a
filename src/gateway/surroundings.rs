//! What surrounds a configured gateway: its namespaces, and what keeps inner packets where they belong. All of it is in
//! place before the TUN comes up, and outlives the process.

use std::collections::HashSet;

use latchway_config::{Action, Config, Guard, NamespaceRef, Place};
use latchway_datapath::low::tun::{Persistence, TunConfig, TunQueue};
use latchway_guard::{Blackholes, BypassPort, Guarded, HostGuard, InnerSide, Lock, Monitor, Prefixes, QUEUE};
use latchway_netns::links::{Links, MAIN, Route, Way};
use latchway_netns::{Namespace, namespace};

use crate::gateway::plan::{GSO_MAX_SIZE, configured_mtu};
use crate::gateway::{GatewayError, configured};

/// The namespaces of a gateway, guarded.
pub struct Surroundings {
    /// Where the TUN is.
    pub inner: Namespace,
    /// Where the wire sockets are.
    pub outer: Namespace,
    /// No other gateway takes the TUN, or puts up filters of this name, while this one lives.
    _locks: Vec<Lock>,
}

impl Surroundings {
    /// Opens or makes the namespaces, and puts up what needs no TUN.
    ///
    /// # Errors
    /// [`GatewayError`], which says what is missing; what was put up by then stays.
    pub fn prepare(config: &Config) -> Result<Self, GatewayError> {
        let (inner, outer) = configured::places(config);
        let (inner, outer) =
            (reference(inner).open_or_make()?.namespace, reference(outer).open_or_make()?.namespace);
        if matches!(config.place, Place::Split { .. }) && inner.is_same(&outer) {
            return Err(GatewayError::OneNamespace);
        }
        let mut locks = vec![Lock::tun(&inner, &config.tun.name)?];
        if matches!(config.place, Place::Host { guard: Guard::Install }) {
            locks.push(Lock::filters(&inner, &config.name)?);
        }
        let surroundings = Self { _locks: locks, inner, outer };
        surroundings.guard(config)?;
        Ok(surroundings)
    }

    /// Makes the inner side what the configuration says, now that the TUN is there. Gives what looks after it from then on;
    /// `None` where someone else does.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub fn complete(&self, config: &Config) -> Result<Option<Monitor>, GatewayError> {
        if config.tun.premade {
            return Ok(None);
        }
        let side = inner_side(config);
        side.prepare(&self.inner)?;
        let (outer, host) = match config.place {
            Place::Split { .. } => (Some((self.outer.clone(), own_blackholes(config))), None),
            Place::Host { guard: Guard::Install } => (None, Some(filters(config)?)),
            Place::Host { guard: Guard::Preset } => (None, None),
        };
        Ok(Some(Monitor::new(Guarded { inner: (self.inner.clone(), side), outer, host })?))
    }

    /// Lets the outer kernel route what policy lets pass in the clear, by the bypass port that is open now.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub fn let_bypass(&self, config: &Config) -> Result<(), GatewayError> {
        let Some(tun) = &config.bypass_port else { return Ok(()) };
        let links = Links::of(&self.outer)?;
        let port = BypassPort {
            tun: tun.clone(),
            mtu: u32::from(configured_mtu(config)),
            queue: QUEUE,
            inner: config.networks(),
            outside: outside(config, &links, tun)?,
        };
        port.prepare(&self.outer)?;
        Ok(())
    }

    /// Takes away what outlives a gateway: the TUN, its routes and blackholes, filters. Namespaces stay, since others may be
    /// in them.
    ///
    /// # Errors
    /// [`GatewayError`]; where the TUN is in use, nothing was taken away.
    pub fn clear(&self, config: &Config) -> Result<(), GatewayError> {
        let (inner, side) = (Links::of(&self.inner)?, inner_side(config));
        if !config.tun.premade && inner.exists(&side.tun)? {
            // Opened before it goes: what is no TUN, or in use by a gateway whose user's locks are elsewhere, stays.
            let wanted =
                TunConfig { persistence: Persistence::Transient, ..TunConfig::new(side.tun.clone()) };
            drop(self.inner.run(|| TunQueue::open(&wanted))??);
        }
        side.blackholes().remove(&inner)?;
        match config.place {
            Place::Split { .. } => own_blackholes(config).remove(&Links::of(&self.outer)?)?,
            Place::Host { guard: Guard::Install } => filters(config)?.remove(&self.inner)?,
            Place::Host { guard: Guard::Preset } => {}
        }
        Ok(())
    }

    /// What is guarded beside the inner side.
    fn guard(&self, config: &Config) -> Result<(), GatewayError> {
        match config.place {
            Place::Split { .. } => Ok(own_blackholes(config).install(&Links::of(&self.outer)?)?),
            Place::Host { guard: Guard::Install } => Ok(filters(config)?.install(&self.inner)?),
            Place::Host { guard: Guard::Preset } => Ok(()),
        }
    }
}

/// The interfaces by which the outer namespace reaches what policy lets pass in the clear.
fn outside(config: &Config, links: &Links, port: &str) -> Result<Vec<String>, GatewayError> {
    let bypassed = config.policies.iter().filter(|policy| policy.action == Action::Bypass);
    let remote: Vec<_> = bypassed.flat_map(|policy| policy.selector.remote.clone()).collect();
    let leads_there = |route: &Route| remote.iter().any(|range| range.overlaps(&route.destination.into()));
    let routes = links.routes()?;
    let devices: HashSet<u32> = routes
        .iter()
        .filter(|route| route.table == MAIN && leads_there(route))
        .filter_map(|route| match route.way {
            Way::Through { device, .. } => Some(device),
            _ => None,
        })
        .collect();
    let names = links.all()?.into_iter().filter(|link| devices.contains(&link.index)).map(|link| link.name);
    Ok(names.filter(|name| name != "lo" && name != port).collect())
}

/// What is guarded under a configuration.
pub fn prefixes(config: &Config) -> Prefixes {
    Prefixes { routes: configured::routed(config), inner: config.networks(), protected: config.protected() }
}

/// What the inner namespace is to be like.
fn inner_side(config: &Config) -> InnerSide {
    InnerSide {
        tun: config.tun.name.clone(),
        addresses: config.tun.addresses.clone(),
        mtu: u32::from(configured_mtu(config)),
        queue: QUEUE,
        gso_max_size: GSO_MAX_SIZE,
        routes: configured::routed(config),
    }
}

/// In host mode, inner and protected addresses pass by the TUN alone.
pub fn filters(config: &Config) -> Result<HostGuard, GatewayError> {
    let (inner, protected) = (config.networks(), config.protected());
    Ok(HostGuard::new(&config.name, &config.tun.name, &inner, &protected)?)
}

/// In the outer namespace nothing answers for our own inner networks (T16).
fn own_blackholes(config: &Config) -> Blackholes {
    Blackholes::new(config.networks())
}

fn reference(place: &NamespaceRef) -> namespace::NamespaceRef {
    match place {
        NamespaceRef::Own => namespace::NamespaceRef::Own,
        NamespaceRef::Named(name) => namespace::NamespaceRef::Name(name.clone()),
        NamespaceRef::Path(path) => namespace::NamespaceRef::Path(path.clone()),
        NamespaceRef::Pid(pid) => namespace::NamespaceRef::Pid(*pid),
    }
}
