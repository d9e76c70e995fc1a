//! What root does for a gateway that has less privilege, before it starts and after it is given up.

use std::path::Path;

use latchway_config::{Config, Guard, Place, load};
use latchway_datapath::low::tun::{Persistence, TunConfig, TunQueue};

use crate::gateway::configuration::ReloadError;
use crate::gateway::surroundings::Surroundings;
use crate::gateway::{GatewayError, configured, harden};

/// Makes everything of a configuration that outlives a gateway: namespaces, guards, and a TUN that `owner` may open, or the
/// user that the configuration names. The gateway then runs as that user, with `premade = true` and in host mode with
/// `guard = "preset"`.
///
/// # Errors
/// [`ReloadError`]
pub fn setup(path: &Path, owner: Option<&str>) -> Result<(), ReloadError> {
    let config = ours(load(path)?.config);
    let owner = owner.or(config.user.as_deref()).map(harden::uid).transpose().map_err(GatewayError::from)?;
    let surroundings = Surroundings::prepare(&config)?;
    let wanted = TunConfig {
        backend: configured::backend(&config),
        persistence: Persistence::Persistent,
        owner,
        ..TunConfig::new(config.tun.name.clone())
    };
    let opened = surroundings.inner.run(|| TunQueue::open(&wanted)).map_err(GatewayError::from)?;
    let tun = opened.map_err(GatewayError::from)?;
    surroundings.complete(&config)?;
    drop(tun);
    Ok(())
}

/// Takes away what outlives a gateway that is given up. Refused while it runs.
///
/// # Errors
/// [`ReloadError`]
pub fn clear(path: &Path) -> Result<(), ReloadError> {
    let config = ours(load(path)?.config);
    Ok(Surroundings::prepare(&config)?.clear(&config)?)
}

/// The same configuration, of which nothing is left to somebody else.
fn ours(mut config: Config) -> Config {
    config.tun.premade = false;
    if let Place::Host { guard } = &mut config.place {
        *guard = Guard::Install;
    }
    config
}
