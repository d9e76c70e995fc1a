//! What others were to put up for a gateway with less privilege: looked for when it starts and before its configuration
//! changes, and never put up by the gateway itself (T13).

use latchway_config::{Config, Guard, Place};
use latchway_guard::{Blackholes, GuardError, Tables};
use latchway_netns::links::Links;

use crate::gateway::surroundings::{Surroundings, filters};
use crate::gateway::{GatewayError, configured};

/// Handles to look through, opened at the start: later there may be no privilege to enter the namespace.
pub struct Prepared {
    /// Where the blackholes behind a TUN that was made beforehand are.
    routes: Option<Links>,
    /// Where the filters of host mode are.
    filters: Option<Tables>,
}

impl Prepared {
    /// Opens what it takes to look for what the configuration leaves to others.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub fn open(config: &Config, surroundings: &Surroundings) -> Result<Self, GatewayError> {
        let inner = &surroundings.inner;
        let premade = config.tun.premade;
        let by_others = match config.place {
            Place::Split { .. } => false,
            // Whoever does not keep the TUN's guards does not extend the filters either.
            Place::Host { guard } => guard == Guard::Preset || premade,
        };
        Ok(Self {
            routes: premade.then(|| Links::of(inner)).transpose()?,
            filters: by_others.then(|| Tables::of(inner)).transpose()?,
        })
    }

    /// Whether everything that a configuration leaves to others is there.
    ///
    /// # Errors
    /// [`GatewayError::NotPrepared`], which names what is not.
    pub fn check(&mut self, config: &Config) -> Result<(), GatewayError> {
        let mut missing = Vec::new();
        if let Some(links) = &self.routes {
            let absent = Blackholes::new(configured::routed(config)).missing(links)?;
            missing.extend(absent.iter().map(|prefix| format!("the blackhole route of {prefix}")));
        }
        if let Some(tables) = &mut self.filters {
            match filters(config)?.differences(tables) {
                Ok(differences) => missing.extend(differences),
                // Looking takes CAP_NET_ADMIN, and who has none was told to rely on somebody who had.
                Err(GuardError::NotPermitted { .. }) if is_preset(config) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(GatewayError::NotPrepared(missing.join(", "))) }
    }
}

const fn is_preset(config: &Config) -> bool {
    matches!(config.place, Place::Host { guard: Guard::Preset })
}
