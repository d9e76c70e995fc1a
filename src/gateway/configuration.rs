//! The configuration in force, and how another one takes its place: all of it or nothing, without touching what stays.

mod settling;
mod telling;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use latchway_config::{
    Changes, Config, Header, Keyring, Lifetime, Loaded, Peer, RevisedSa, Sa, SaDirection, compare, load,
};
use latchway_control::Reloaded;
use latchway_datapath::lifetime::{Bounds, Limits};
use latchway_datapath::sad::{self, Follow, Scope};
use latchway_esp::{KeyMaterial, Spi};
use latchway_keying::{
    Change, ChangeError, HeaderKeys, KeyManagerClient, KeyOrigin, Keys, NewPair, PadEntryIds, PairId,
    RevisedPair, SaKeys, Start,
};
use latchway_tagging::{PeerPattern, WorkerId};

use crate::gateway::guarding::Guarding;
use crate::gateway::prepared::Prepared;
use crate::gateway::records::Records;
use crate::gateway::surroundings::prefixes;
use crate::gateway::{GatewayError, configured};

use self::settling::Asked;
use self::telling::{breaks, quoted, rows};

/// What a gateway was told, and what it made of it.
pub struct Configuration {
    path: PathBuf,
    keying: KeyManagerClient,
    guarding: Option<Guarding>,
    prepared: Mutex<Prepared>,
    records: Option<Arc<Records>>,
    current: Mutex<Current>,
}

/// What is in force.
struct Current {
    loaded: Loaded,
    ids: PadEntryIds,
    /// The pairs that the key manager made of the configuration's SAs, by the SPIs of both directions.
    pairs: HashMap<Name, PairId>,
    /// What was asked for when the key manager stopped.
    asked: Option<Asked>,
}

/// Both SPIs of a pair: no other pair of the configuration has them.
type Name = (Spi, Spi);

/// What becomes of keys on record.
#[derive(Clone, Copy)]
enum Record {
    /// They are enrolled, and their first numbers reserved.
    Enrolled,
    /// It is only asked whether they could be.
    Rehearsed,
}

/// Why a configuration did not come into force. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is no file to read again.
    #[error(
        "this gateway runs from a description that is gone; only `latchway run` reads its configuration again"
    )]
    NoFile,
    /// There was no configuration to apply.
    #[error(transparent)]
    Load(#[from] latchway_config::LoadError),
    /// Some of it takes a restart.
    #[error(
        "a change of {0} takes a restart; nothing was changed. Take it back and reload, or end the gateway and start it"
    )]
    Restart(String),
    /// An SA would follow itself.
    #[error(
        "{0} would be given to another SA while packets of the old one are under way; choose new SPIs where an SA changes"
    )]
    SameSpi(String),
    /// The key manager refuses.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// Something else stands against it.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

impl Configuration {
    /// The configuration that a gateway starts with. [`begin`](Self::begin) makes its SAs.
    pub fn new(
        path: &Path,
        loaded: Loaded,
        ids: PadEntryIds,
        (guarding, prepared, records): (Option<Guarding>, Prepared, Option<Arc<Records>>),
        keying: KeyManagerClient,
    ) -> Self {
        let current = Mutex::new(Current { loaded, ids, pairs: HashMap::new(), asked: None });
        Self { path: path.into(), keying, guarding, prepared: Mutex::new(prepared), records, current }
    }

    /// Makes the SAs that the gateway starts with.
    ///
    /// # Errors
    /// [`ReloadError`]; no SA was made then.
    pub fn begin(&self) -> Result<(), ReloadError> {
        let mut current = self.lock();
        let Current { loaded, ids, .. } = &mut *current;
        let all = loaded.config.peers.iter().flat_map(|peer| peer.sas.iter().map(|sa| (&peer.identity, sa)));
        let all: Vec<(&PeerPattern, &Sa)> = all.collect();
        let add = self.pairs((&loaded.config, &loaded.keys), &all, ids, Record::Enrolled)?;
        let changed =
            self.keying.change(Change { add, ..Change::default() }).map_err(GatewayError::from)??;
        Ok(self.note(&changed.added, &mut current.pairs)?)
    }

    /// Reads the file again and applies what differs; or only says what would.
    ///
    /// # Errors
    /// [`ReloadError`], which says everything that stands against it.
    pub fn reload(&self, dry_run: bool) -> Result<Reloaded, ReloadError> {
        let mut current = self.lock();
        self.settle(&mut current)?;
        // Not before: of two reloads, the one that comes second must not bring back what the first one replaced.
        let new = load(&self.path)?;
        let Current { loaded: old, ids, pairs, asked } = &mut *current;
        let changes = compare((&old.config, &old.keys), (&new.config, &new.keys));
        refuse(&changes)?;
        let warnings = new.warnings.problems.iter().map(|problem| problem.message.clone()).collect();
        let mut reloaded = Reloaded { applied: !dry_run, changes: rows(&changes), warnings };
        let mut new_ids = ids.clone();
        let with_keys = (&new.config, &new.keys);
        // What would be refused is refused here, before there is anything to take back.
        let rehearsed = self.change(&changes, with_keys, pairs, &mut new_ids, Record::Rehearsed)?;
        let outline = self.keying.check_change(rehearsed).map_err(GatewayError::from)??;
        lock(&self.prepared).check(&new.config)?;
        if dry_run {
            reloaded.warnings.extend(breaks(&outline));
            return Ok(reloaded);
        }
        let change = self.change(&changes, with_keys, pairs, &mut new_ids, Record::Enrolled)?;
        let changed = self
            .guard(&old.config, &new.config)
            .map_err(ReloadError::from)
            .and_then(|()| Ok(self.keying.change(change).map_err(GatewayError::from)??));
        let changed = match changed {
            Ok(changed) => changed,
            // Whoever did not answer may have brought it into force all the same: what guards either stays.
            Err(error @ ReloadError::Gateway(GatewayError::Keying(_))) => {
                drop(changes);
                *asked = Some(Asked { loaded: new, ids: new_ids });
                return Err(error);
            }
            Err(error) => {
                // What stands against it matters more than what stays up for longer than needed.
                let _ = self.unguard(&new.config, &old.config);
                return Err(error);
            }
        };
        let gone: HashSet<Name> = changes.sas_removed.iter().map(|(_, sa)| name(sa)).collect();
        pairs.retain(|pair, _| !gone.contains(pair));
        self.note(&changed.added, pairs)?;
        *ids = new_ids;
        let left = self.unguard(&old.config, &new.config).err().map(|error| {
            format!("the new configuration is in force, and guards of the old one are left: {error}")
        });
        reloaded.warnings.extend(left);
        drop(changes);
        current.loaded = new;
        Ok(reloaded)
    }

    /// Notes which pairs were made of SAs, by their SPIs: one that somebody removed at once is not among them.
    fn note(&self, added: &[PairId], pairs: &mut HashMap<Name, PairId>) -> Result<(), GatewayError> {
        let made = self.keying.pairs()?.into_iter().filter(|pair| added.contains(&pair.id));
        pairs.extend(made.map(|pair| ((pair.inbound.spi, pair.outbound.spi), pair.id)));
        Ok(())
    }

    /// Guards what either configuration needs, before the new one comes into force.
    fn guard(&self, old: &Config, new: &Config) -> Result<(), GatewayError> {
        let Some(guarding) = &self.guarding else { return Ok(()) };
        let (mut both, other) = (prefixes(old), prefixes(new));
        if both == other {
            return Ok(());
        }
        both.routes.extend(other.routes);
        both.inner.extend(other.inner);
        both.protected.extend(other.protected);
        for prefixes in [&mut both.routes, &mut both.inner, &mut both.protected] {
            prefixes.sort_unstable();
            prefixes.dedup();
        }
        Ok(guarding.extend(both)?)
    }

    /// Guards what the configuration in force needs, and takes down what only the other one did.
    fn unguard(&self, gone: &Config, in_force: &Config) -> Result<(), GatewayError> {
        let Some(guarding) = &self.guarding else { return Ok(()) };
        let (gone, needed) = (prefixes(gone), prefixes(in_force));
        if gone == needed {
            return Ok(());
        }
        guarding.extend(needed)?;
        Ok(guarding.withdraw(gone.routes)?)
    }

    /// What the key manager is to change.
    fn change(
        &self,
        changes: &Changes<'_>,
        (config, keys): (&Config, &Keyring),
        pairs: &HashMap<Name, PairId>,
        ids: &mut PadEntryIds,
        record: Record,
    ) -> Result<Change, ReloadError> {
        let there = self.keying.pairs().map_err(GatewayError::from)?;
        let there: HashSet<PairId> = there.into_iter().map(|pair| pair.id).collect();
        let removed = changes.sas_removed.iter().filter_map(|(_, sa)| pairs.get(&name(sa)).copied());
        // Somebody may have removed one by hand.
        let removed = removed.filter(|pair| there.contains(pair));
        let stays = |revised: &RevisedSa<'_>| {
            let pair = pairs.get(&name(revised.sa)).copied().filter(|pair| there.contains(pair))?;
            config.peer(revised.peer).map(|peer| revision(config, peer, revised.sa, pair))
        };
        let revise = changes.sas_revised.iter().filter_map(stays);
        Ok(Change {
            pad: Some(configured::pad(config, ids).map_err(GatewayError::from)?),
            rules: Some(configured::rules(config, ids).map_err(GatewayError::from)?),
            remove: removed.collect(),
            add: self.pairs((config, keys), &changes.sas_added, ids, record)?,
            revise: revise.collect::<Result<_, _>>()?,
            ..Change::default()
        })
    }

    /// Pairs of SAs, with their keys.
    fn pairs(
        &self,
        (config, keys): (&Config, &Keyring),
        sas: &[(&PeerPattern, &Sa)],
        ids: &mut PadEntryIds,
        record: Record,
    ) -> Result<Vec<NewPair>, GatewayError> {
        let of_peer = |identity: &PeerPattern| config.peer(identity);
        let pair = |&(identity, sa): &(&PeerPattern, &Sa)| {
            of_peer(identity).map(|peer| self.pair((config, keys), peer, sa, ids))
        };
        let mut pairs: Vec<NewPair> = sas.iter().filter_map(pair).collect::<Result<_, _>>()?;
        if let Some(records) = &self.records {
            match record {
                Record::Enrolled => records.resume(&mut pairs)?,
                Record::Rehearsed => records.rehearse(&mut pairs)?,
            }
        }
        Ok(pairs)
    }

    /// One pair of SAs, with its keys.
    fn pair(
        &self,
        (config, keys): (&Config, &Keyring),
        peer: &Peer,
        sa: &Sa,
        ids: &mut PadEntryIds,
    ) -> Result<NewPair, GatewayError> {
        let unusable = |what| unusable(peer, sa, what);
        let limits = limits(peer, sa)?;
        let direction = |of: &SaDirection, suite, limits| -> Result<SaKeys, GatewayError> {
            let key = keys.key(of).ok_or_else(|| unusable("its key was not read"))?;
            let material = KeyMaterial::new(suite, key.expose())
                .map_err(|_| unusable("its key is not one of its suite"))?;
            Ok(SaKeys { spi: of.spi, material, sequence: configured::sequence(sa), limits })
        };
        let header = |header: &Header| -> Result<HeaderKeys, GatewayError> {
            let one = |of| direction(of, header.suite, Limits::default());
            Ok(HeaderKeys { inbound: one(&header.inbound)?, outbound: one(&header.outbound)? })
        };
        let path = path(config, peer, sa)?;
        let one = |of| direction(of, sa.suite, limits);
        let (inbound, outbound) = (one(&sa.inbound)?, one(&sa.outbound)?);
        Ok(NewPair {
            proposal: configured::proposal(config, peer, sa, ids)?,
            keys: Keys {
                inbound,
                anti_replay: sa.anti_replay,
                outbound,
                header: sa.header.as_ref().map(header).transpose()?,
                align: sa.align,
                path,
                shape: configured::shape(sa),
                follow: follow(sa),
                scope: Scope::Selectors,
                origin: KeyOrigin::Static,
                resumption: None,
                worker: WorkerId(0),
                start: Start::Active,
            },
        })
    }

    /// What is not wrong with what is in force, but worth a look.
    pub fn warnings(&self) -> Vec<String> {
        self.lock().loaded.warnings.problems.iter().map(|problem| problem.message.clone()).collect()
    }

    /// The record of sequence numbers, where there is one: its folder, and what is wrong with it.
    pub fn record(&self) -> Option<(PathBuf, Option<String>)> {
        let records = self.records.as_ref()?;
        let folder = self.lock().loaded.config.state.as_ref()?.path.clone();
        Some((folder, records.failing()))
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        lock(&self.current)
    }
}

/// What is said anew of a pair that stays.
fn revision(config: &Config, peer: &Peer, sa: &Sa, pair: PairId) -> Result<RevisedPair, GatewayError> {
    let (path, limits) = (path(config, peer, sa)?, limits(peer, sa)?);
    Ok(RevisedPair { pair, path, shape: configured::shape(sa), follow: follow(sa), limits })
}

fn path(config: &Config, peer: &Peer, sa: &Sa) -> Result<sad::Path, GatewayError> {
    let nowhere = || unusable(peer, sa, "its peer has no endpoint that a listen address reaches");
    configured::path(config, peer, sa).ok_or_else(nowhere)
}

fn limits(peer: &Peer, sa: &Sa) -> Result<Limits, GatewayError> {
    Limits::new(bounds(&sa.soft), bounds(&sa.hard))
        .map_err(|_| unusable(peer, sa, "its soft lifetime does not lie below the hard one"))
}

const fn follow(sa: &Sa) -> Follow {
    if sa.follow { Follow::Follow } else { Follow::Fixed }
}

fn unusable(peer: &Peer, sa: &Sa, what: &'static str) -> GatewayError {
    GatewayError::Unusable { peer: peer.identity.clone(), spi: sa.inbound.spi, what }
}

/// What no reload can do.
fn refuse(changes: &Changes<'_>) -> Result<(), ReloadError> {
    if !changes.restart.is_empty() {
        return Err(ReloadError::Restart(quoted(&changes.restart)));
    }
    if !changes.spis_kept.is_empty() {
        let spis = changes.spis_kept.iter().map(|(peer, spi)| format!("SPI {spi} of {peer}"));
        return Err(ReloadError::SameSpi(spis.collect::<Vec<_>>().join(", ")));
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(sa: &Sa) -> Name {
    (sa.inbound.spi, sa.outbound.spi)
}

fn bounds(lifetime: &Lifetime) -> Bounds {
    let Lifetime { octets, packets, seconds, since_first_use } = *lifetime;
    let [time, since_first_use] = [seconds, since_first_use].map(|time| time.map(Duration::from_secs));
    Bounds { octets, packets, time, since_first_use }
}
