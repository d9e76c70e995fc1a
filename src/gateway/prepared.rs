//! What others were to put up for a gateway with less privilege: looked for when it starts and before its configuration
//! changes, and never put up by the gateway itself (T13).

use latchway_config::{Config, Guard, Place};
use latchway_guard::{Blackholes, GuardError, Tables};
use latchway_netns::Namespace;
use latchway_netns::links::Links;

use crate::gateway::surroundings::filters;
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
    pub fn open(config: &Config, inner: &Namespace) -> Result<Self, GatewayError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_netns::skip::{self, Need};
    use latchway_netns::testing;

    /// The configuration of a gateway whose peer has this inner range; `more` comes first.
    fn config(more: &str, inner: &str) -> Config {
        let text = format!(
            "identity = \"a.example\"\ninner = \"in\"\nouter = \"out\"\naddresses = [\"10.77.1.1/24\"]\n{more}\n\
             [[peer]]\nidentity = \"b.example\"\ninner = [\"{inner}\"]\n"
        );
        latchway_config::parse(&text).unwrap().config
    }

    /// T13: prefixes that a reload adds are not taken on where others keep the guards and have put up none.
    #[test]
    fn t13_what_others_did_not_prepare_is_named_whatever_the_configuration_becomes() {
        let name = "gateway::prepared::tests::\
                    t13_what_others_did_not_prepare_is_named_whatever_the_configuration_becomes";
        testing::namespaced(name, || {
            if !skip::require(name, &[Need::NetAdmin]) {
                return;
            }
            let inner = Namespace::create("inner").unwrap();
            let premade = "tun = { name = \"lw9\", premade = true }";
            let [first, second] = ["10.77.2.0/24", "10.77.3.0/24"].map(|range| config(premade, range));
            let mut prepared = Prepared::open(&first, &inner).unwrap();
            let missing = prepared.check(&first).unwrap_err().to_string();
            assert!(missing.contains("the blackhole route of 10.77.2.0/24"), "{missing}");
            Blackholes::new(configured::routed(&first)).install(&Links::of(&inner).unwrap()).unwrap();
            prepared.check(&first).unwrap();
            let missing = prepared.check(&second).unwrap_err().to_string();
            assert!(missing.contains("10.77.3.0/24") && missing.contains("latchway setup"), "{missing}");
            // What the gateway keeps itself is not asked of others.
            let own = config("", "10.77.3.0/24");
            Prepared::open(&own, &inner).unwrap().check(&own).unwrap();
        });
    }
}
