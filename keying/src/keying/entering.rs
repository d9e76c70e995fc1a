//! How pairs come into the SAD and leave it: slots, SPIs and names taken, and given back to rest.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use latchway_datapath::outer::OuterPolicy;
use latchway_datapath::sad::{Handover, Role, Sad, SadEntry, Scope, Shape, Usage};
use latchway_datapath::time::Time;
use latchway_esp::{InboundSa, OutboundSa, Protocol, Spi};
use latchway_tagging::SaRef;

use crate::install::{InstallError, Keys};
use crate::keying::{Keying, Stage};
use crate::notice::Notice;
use crate::pair::{Pair, PairId};
use crate::ticket::Promise;

/// Names that are taken by pairs which are not in the SAD yet.
#[derive(Debug, Default)]
pub(super) struct Names {
    inbound: HashSet<Spi>,
    outbound: HashSet<(Spi, SocketAddr)>,
}

impl Keying {
    /// Publishes the pair that was promised, as pending.
    pub(super) fn enter(&mut self, promise: Promise, keys: &Keys, now: Time) -> Result<PairId, InstallError> {
        keys.check(&promise.terms)?;
        self.check_names(keys, &mut Names::default())?;
        self.spent_keys.check(keys)?;
        let mut sad = self.current.sad.clone();
        let pair = self.prepare(promise, keys, &mut sad, now)?;
        self.spent_keys.spend(keys);
        let id = self.remember(pair);
        self.publish(sad, self.current.spd.clone());
        let stage = Stage::Pending(self.publication);
        self.pairs.get_mut(&id).into_iter().for_each(|pair| pair.settling = Some(stage));
        self.settling.push(id);
        Ok(id)
    }

    /// Makes both SAs of a pair and puts them into a database, as pending.
    ///
    /// # Errors
    /// [`InstallError`]; the database is as it was then.
    pub(super) fn prepare(
        &mut self,
        promise: Promise,
        keys: &Keys,
        sad: &mut Sad,
        now: Time,
    ) -> Result<Pair, InstallError> {
        let (inbound_sa, outbound_sa) = keys.build()?;
        let (inbound, outbound) = self.take_slots(now).ok_or(InstallError::Full)?;
        let roles = [
            (inbound, outbound, &keys.inbound, receiving(keys, inbound_sa)),
            (outbound, inbound, &keys.outbound, sending(keys, outbound_sa)),
        ];
        for (sa, partner, direction, role) in roles {
            let entry = SadEntry {
                sa,
                spi: direction.spi,
                protocol: Protocol::Esp,
                mode: promise.terms.mode,
                class: promise.class,
                selectors: promise.terms.selectors.clone().into_boxed_slice(),
                scope: Scope::Selectors,
                reqid: promise.terms.reqid,
                worker: keys.worker,
                limits: direction.limits,
                added: now,
                partner: Some(partner),
                nested: None,
                role,
                use_: Arc::default(),
            };
            if let Err(error) = sad.insert(Arc::new(entry), Usage::Pending) {
                sad.remove(inbound);
                self.rest_slots(inbound, outbound, now);
                return Err(error.into());
            }
        }
        Ok(pair_of(promise, keys, (inbound, outbound)))
    }

    /// Whether the SPIs can name new SAs (T31), beside those in `together`, among which they come to be.
    pub(super) fn check_names(&self, keys: &Keys, together: &mut Names) -> Result<(), InstallError> {
        let (inbound, outbound) = (keys.inbound.spi, (keys.outbound.spi, keys.path.to));
        if self.current.sad.find(Protocol::Esp, inbound).is_some() || !together.inbound.insert(inbound) {
            let drains = self.holder(inbound).is_some_and(|pair| pair.drained_at.is_some());
            return Err(if drains {
                InstallError::DrainingSpi(inbound)
            } else {
                InstallError::DuplicateSpi(inbound)
            });
        }
        if self.spis.contains(inbound) {
            return Err(InstallError::RestingSpi(inbound));
        }
        if self.outbound_names.contains(&outbound) || !together.outbound.insert(outbound) {
            return Err(InstallError::DuplicateOutbound(outbound.0, outbound.1));
        }
        Ok(())
    }

    /// The pair whose inbound SA has this SPI.
    pub(super) fn holder(&self, spi: Spi) -> Option<&Pair> {
        let slot = self.current.sad.slot(self.current.sad.find(Protocol::Esp, spi)?)?;
        self.pairs.get(self.by_sa.get(&slot.entry.sa)?)
    }

    /// Gives a pair its number. Before its SAs are published: whoever sees them can find it.
    pub(super) fn remember(&mut self, pair: Pair) -> PairId {
        self.last_pair += 1;
        let id = PairId::from_raw(self.last_pair);
        self.by_sa.insert(pair.inbound, id);
        self.by_sa.insert(pair.outbound, id);
        self.outbound_names.insert((pair.outbound_spi, pair.path.to));
        self.pairs.insert(id, pair);
        id
    }

    /// Notes how a pair is used since it was published so; `None` is gone.
    pub(super) fn note_usage(
        &mut self,
        id: PairId,
        usage: Option<Usage>,
        drained_at: Option<Time>,
        now: Time,
    ) {
        let Some(usage) = usage else { return self.bury(id, now) };
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        pair.usage = usage;
        // Whoever was on its way out already does not stay longer for being sent again.
        let drained_at = drained_at.map(|moment| pair.drained_at.unwrap_or(moment));
        let before = std::mem::replace(&mut pair.drained_at, drained_at);
        if let Some(moment) = before {
            self.draining.remove(&(moment, id));
        }
        self.draining.extend(drained_at.map(|moment| (moment, id)));
    }

    /// Forgets a pair that is no longer published. Its slots and its SPI rest.
    pub(super) fn bury(&mut self, id: PairId, now: Time) {
        let Some(pair) = self.pairs.remove(&id) else { return };
        self.by_sa.remove(&pair.inbound);
        self.by_sa.remove(&pair.outbound);
        self.outbound_names.remove(&(pair.outbound_spi, pair.path.to));
        self.settling.retain(|other| *other != id);
        self.staged.iter_mut().for_each(|staged| staged.added.retain(|other| *other != id));
        if let Some(moment) = pair.drained_at {
            self.draining.remove(&(moment, id));
        }
        self.rest_slots(pair.inbound, pair.outbound, now);
        self.spis.rest(pair.inbound_spi, now + self.settings.rest);
        self.interned.release(pair.class, now);
        self.notices.tell(Notice::PairRemoved { pair: id, peer: pair.terms.peer });
    }

    pub(super) fn rest_slots(&mut self, inbound: SaRef, outbound: SaRef, now: Time) {
        for sa in [inbound, outbound] {
            self.slots.rest(sa, self.publication, now + self.settings.rest);
        }
    }

    fn take_slots(&mut self, now: Time) -> Option<(SaRef, SaRef)> {
        let inbound = self.slots.take()?;
        let outbound = self.slots.take();
        if outbound.is_none() {
            self.slots.rest(inbound, self.publication, now + self.settings.rest);
        }
        Some((inbound, outbound?))
    }
}

fn receiving(keys: &Keys, sa: InboundSa) -> Role {
    Role::Inbound { sa: Handover::new(sa), from: keys.path.peer(), outer: OuterPolicy::default() }
}

fn sending(keys: &Keys, sa: OutboundSa) -> Role {
    Role::Outbound { sa: Handover::new(sa), path: keys.path, shape: Shape::default() }
}

fn pair_of(promise: Promise, keys: &Keys, (inbound, outbound): (SaRef, SaRef)) -> Pair {
    let Promise { terms, entry, class, origin, .. } = promise;
    Pair {
        inbound,
        inbound_spi: keys.inbound.spi,
        outbound,
        outbound_spi: keys.outbound.spi,
        terms,
        entry,
        class,
        origin,
        key_origin: keys.origin,
        anti_replay: keys.anti_replay,
        sequence: (keys.inbound.sequence, keys.outbound.sequence),
        worker: keys.worker,
        path: keys.path,
        usage: Usage::Pending,
        start: keys.start,
        settling: None,
        drained_at: None,
        inbound_expired: false,
        outbound_expired: false,
    }
}
