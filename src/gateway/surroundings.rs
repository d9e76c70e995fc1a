//! What surrounds a configured gateway: its namespaces, and what keeps inner packets where they belong. All of it is in
//! place before the TUN comes up, and outlives the process.

use latchway_config::{Config, Guard, NamespaceRef, Place};
use latchway_guard::{Blackholes, Guarded, HostGuard, InnerSide, Lock, Missing, Monitor, Prefixes, QUEUE};
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

    /// Makes the inner side what the configuration says, now that the TUN is there. Gives what looks after it from then on;
    /// `None` where someone else does.
    ///
    /// # Errors
    /// [`GatewayError`], also where someone else was to prepare what is not there.
    pub fn complete(&self, config: &Config) -> Result<Option<Monitor>, GatewayError> {
        let side = inner_side(config);
        if config.tun.premade {
            let mut missing = side.missing(&self.inner)?;
            missing.retain(|one| matches!(one, Missing::Blackhole(_)));
            return if missing.is_empty() {
                Ok(None)
            } else {
                Err(GatewayError::NotPrepared(named(&missing)))
            };
        }
        side.prepare(&self.inner)?;
        let (outer, host) = match config.place {
            Place::Split { .. } => (Some((self.outer.clone(), own_blackholes(config))), None),
            Place::Host { guard: Guard::Install } => (None, Some(filters(config)?)),
            Place::Host { guard: Guard::Preset } => (None, None),
        };
        Ok(Some(Monitor::new(Guarded { inner: (self.inner.clone(), side), outer, host })?))
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
