//! What surrounds a configured gateway: its namespaces, and what keeps inner packets where they belong. All of it is in
//! place before the TUN comes up, and outlives the process.

use ipnet::IpNet;
use latchway_config::{Config, Guard, NamespaceRef, Place};
use latchway_guard::{Blackholes, HostGuard, InnerSide, Lock, Missing, QUEUE};
use latchway_netns::links::Links;
use latchway_netns::{Namespace, namespace};

use crate::gateway::plan::{GSO_MAX_SIZE, configured_mtu};
use crate::gateway::{GatewayError, configured};

/// The namespaces of a gateway, guarded.
pub struct Surroundings {
    /// Where the TUN is.
    pub inner: Namespace,
    /// Where the wire sockets are.
    pub outer: Namespace,
    /// No other gateway takes the TUN while this one lives.
    _lock: Lock,
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
        let surroundings = Self { _lock: Lock::tun(&inner, &config.tun.name)?, inner, outer };
        surroundings.guard(config)?;
        Ok(surroundings)
    }

    /// Makes the inner side what the configuration says, now that the TUN is there. Says what had been missing.
    ///
    /// # Errors
    /// [`GatewayError`], also where someone else was to prepare what is not there.
    pub fn complete(&self, config: &Config) -> Result<Vec<Missing>, GatewayError> {
        let side = inner_side(config);
        if !config.tun.premade {
            return Ok(side.prepare(&self.inner)?);
        }
        let mut missing = side.missing(&self.inner)?;
        missing.retain(|one| matches!(one, Missing::Blackhole(_)));
        if missing.is_empty() { Ok(missing) } else { Err(GatewayError::NotPrepared(named(&missing))) }
    }

    /// Puts up what a new configuration needs and the old one did not, before it comes into force.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub fn extend(&self, new: &Config) -> Result<(), GatewayError> {
        self.guard(new)?;
        if new.tun.premade {
            self.complete(new)?;
            return Ok(());
        }
        // The TUN itself is left alone: setting it down would lose what waits in it.
        let (links, side) = (Links::of(&self.inner)?, inner_side(new));
        side.blackholes().install(&links)?;
        for &route in &side.routes {
            links.add_route(route, None, &side.tun, latchway_guard::ROUTE_METRIC)?;
        }
        Ok(())
    }

    /// Takes down what the old configuration needed and the new one does not, once it is in force.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub fn reduce(&self, old: &Config, new: &Config) -> Result<(), GatewayError> {
        if old.tun.premade {
            return Ok(());
        }
        let links = Links::of(&self.inner)?;
        let kept = configured::routed(new);
        let gone: Vec<IpNet> =
            configured::routed(old).into_iter().filter(|prefix| !kept.contains(prefix)).collect();
        for &prefix in &gone {
            links.delete_route(prefix, None, &old.tun.name, latchway_guard::ROUTE_METRIC)?;
        }
        Ok(Blackholes::new(gone).remove(&links)?)
    }

    /// What is guarded beside the inner side.
    fn guard(&self, config: &Config) -> Result<(), GatewayError> {
        match config.place {
            Place::Split { .. } => Ok(own_blackholes(config).install(&Links::of(&self.outer)?)?),
            Place::Host { guard: Guard::Install } => Ok(filters(config)?.install(&self.inner)?),
            Place::Host { guard: Guard::Preset } => match filters(config)?.missing(&self.inner)? {
                missing if missing.is_empty() => Ok(()),
                missing => Err(GatewayError::NotPrepared(missing.join(", "))),
            },
        }
    }
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
fn filters(config: &Config) -> Result<HostGuard, GatewayError> {
    let (inner, protected) = (config.networks(), config.protected());
    Ok(HostGuard::new(&config.name, &config.tun.name, &inner, &protected)?)
}

/// In the outer namespace nothing answers for our own inner networks (T16).
fn own_blackholes(config: &Config) -> Blackholes {
    Blackholes::new(config.networks())
}

fn named(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn reference(place: &NamespaceRef) -> namespace::NamespaceRef {
    match place {
        NamespaceRef::Own => namespace::NamespaceRef::Own,
        NamespaceRef::Named(name) => namespace::NamespaceRef::Name(name.clone()),
        NamespaceRef::Path(path) => namespace::NamespaceRef::Path(path.clone()),
        NamespaceRef::Pid(pid) => namespace::NamespaceRef::Pid(*pid),
    }
}
