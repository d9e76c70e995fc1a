//! After the key manager stopped while it was asked for a reload: whoever asked was told so, and not whether it was done. It
//! was, as a whole, or nothing of it.

use std::collections::{HashMap, HashSet};

use latchway_config::{Changes, Loaded, compare};
use latchway_datapath::sad::{Follow, Path};
use latchway_keying::{Change, Origin, PadEntryIds, PairView, RevisedPair};

use crate::gateway::configuration::{Configuration, Current, Name, ReloadError, name, revision};
use crate::gateway::{GatewayError, configured};

/// A configuration that may be in force.
pub struct Asked {
    pub loaded: Loaded,
    pub ids: PadEntryIds,
}

impl Configuration {
    /// Finds out which configuration is in force.
    ///
    /// # Errors
    /// [`ReloadError`], where the key manager does not run again yet.
    pub(super) fn settle(&self, current: &mut Current) -> Result<(), ReloadError> {
        let Some(asked) = &mut current.asked else { return Ok(()) };
        // It is answered when no change is on its way any more, whatever it says.
        drop(self.keying.check_change(Change::default()).map_err(GatewayError::from)?);
        let there = self.keying.pairs().map_err(GatewayError::from)?;
        let configured = there.into_iter().filter(|pair| pair.origin == Origin::Configuration);
        let there: HashMap<Name, PairView> =
            configured.map(|pair| ((pair.inbound.spi, pair.outbound.spi), pair)).collect();
        let (old, new) = (&current.loaded, &asked.loaded);
        let changes = compare((&old.config, &old.keys), (&new.config, &new.keys));
        if self.is_in_force(&changes, &new.config, &mut asked.ids, &there)? {
            let gone: HashSet<Name> = changes.sas_removed.iter().map(|(_, sa)| name(sa)).collect();
            current.pairs.retain(|pair, _| !gone.contains(pair));
            let added = changes.sas_added.iter().map(|(_, sa)| name(sa));
            current.pairs.extend(added.filter_map(|name| Some((name, there.get(&name)?.id))));
            // What is left of guards keeps more apart than it must, and no less.
            let _ = self.unguard(&old.config, &new.config);
            drop(changes);
            if let Some(Asked { loaded, ids }) = current.asked.take() {
                (current.loaded, current.ids) = (loaded, ids);
            }
        } else {
            let _ = self.unguard(&new.config, &old.config);
            drop(changes);
            current.asked = None;
        }
        Ok(())
    }

    /// Whether these changes are in force: a part of them tells of the whole.
    fn is_in_force(
        &self,
        changes: &Changes<'_>,
        config: &latchway_config::Config,
        ids: &mut PadEntryIds,
        there: &HashMap<Name, PairView>,
    ) -> Result<bool, ReloadError> {
        let pad = configured::pad(config, ids).map_err(GatewayError::from)?;
        let rules = configured::rules(config, ids).map_err(GatewayError::from)?;
        let in_force = self.keying.policy().map_err(GatewayError::from)?.into_iter();
        let in_force = in_force.filter(|view| view.origin == Origin::Configuration).map(|view| view.rule);
        if self.keying.pad().map_err(GatewayError::from)? != pad || !in_force.eq(rules) {
            return Ok(false);
        }
        let stays = |name: &Name| there.get(name).is_some_and(|pair| pair.drained_at.is_none());
        let mut revised = changes.sas_revised.iter().filter_map(|revised| {
            let pair = there.get(&name(revised.sa))?;
            let revision = revision(config, config.peer(revised.peer)?, revised.sa, pair.id).ok()?;
            Some(is_revised(pair, &revision))
        });
        Ok(changes.sas_added.iter().all(|(_, sa)| there.contains_key(&name(sa)))
            && !changes.sas_removed.iter().any(|(_, sa)| stays(&name(sa)))
            && revised.all(|revised| revised))
    }
}

/// Whether a pair is as a revision would have it. A peer that is followed may be elsewhere by now (T34).
fn is_revised(pair: &PairView, revision: &RevisedPair) -> bool {
    let path = match revision.follow {
        Follow::Follow => Path { to: pair.path.to, ..revision.path },
        Follow::Fixed => revision.path,
    };
    (pair.path, &pair.shape, pair.follow, pair.inbound.limits)
        == (path, &revision.shape, revision.follow, revision.limits)
}
