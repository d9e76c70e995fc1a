//! After a key manager ended in the middle of something: what is published is the truth, and everything else is brought
//! in step with it (architecture of latching-04 2.1: the key manager may be ended and rebuilt, and no latch moves).
//!
//! Whatever is written down before it is published, and was not published, is undone; whatever was published and not
//! written down is written down. Numbers that may have been given out are not given out again: ids, slots' generations
//! and keys only ever count up.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use latchway_datapath::sad::{Role, Usage};
use latchway_datapath::time::Time;
use latchway_tagging::{ClassId, SaRef};
use latchway_ulp_shim::LatchView;

use crate::keying::{Keying, Stage};
use crate::pair::PairId;
use crate::policy::Policy;

impl Keying {
    /// Brings everything in step with what workers see. To be called before anything else where a call to this key
    /// manager may have ended by a panic; elsewhere it changes nothing.
    pub fn recover(&mut self, now: Time) {
        let (publication, current) = self.publisher.current();
        (self.publication, self.current) = (publication, current);
        self.version = self.clock.now();
        self.forget_unpublished(now);
        self.remove_unknown(now);
        self.recover_singles(now);
        self.index();
        self.recover_policy();
        self.recover_staged(now);
        let mut holders: HashMap<ClassId, usize> = HashMap::new();
        let promised = self.tickets.promises().map(|promise| promise.class);
        let single = self.singles.values().filter_map(|single| single.partner).map(|(_, class)| class);
        for class in self.pairs.values().map(|pair| pair.class).chain(promised).chain(single) {
            *holders.entry(class).or_default() += 1;
        }
        self.interned.recount(&holders, now);
        self.recover_latches(now);
        self.find_waiting();
        self.close_lost(now);
    }

    /// Holders have what they had. A latch that was about to be theirs is nobody's, and goes (L-21).
    fn recover_latches(&mut self, now: Time) {
        let held: Vec<_> = self.register.iter().map(|(latch, _)| latch).collect();
        held.into_iter().for_each(|latch| self.see(latch));
        let unheld = |latch: &LatchView| latch.owned && self.register.get(latch.id).is_none();
        let unheld: Vec<_> = self.database.dump().filter(unheld).collect();
        for latch in unheld {
            self.database.release(latch.id, now);
        }
        let listeners = self.register.iter().filter(|(_, held)| held.listens);
        let asked = listeners.map(|(_, held)| &held.constraints);
        self.asking.recount(asked.chain(self.required.values()));
        self.accept_all();
    }

    /// Pairs of which not both SAs are published are no pairs; nor are those of which a change is not complete.
    fn forget_unpublished(&mut self, now: Time) {
        let sad = &self.current.sad;
        let whole = |pair: &crate::pair::Pair| pair.sas().all(|sa| sad.get(sa).is_some());
        let lost: HashSet<PairId> =
            self.pairs.iter().filter(|(_, pair)| !whole(pair)).map(|(id, _)| *id).collect();
        if self.staged.as_ref().is_some_and(|staged| staged.added.iter().any(|id| lost.contains(id))) {
            self.staged = None;
        }
        lost.into_iter().for_each(|id| self.bury(id, now));
    }

    /// SAs that are published and of no pair cannot be shown or removed by anyone, so they go.
    fn remove_unknown(&mut self, now: Time) {
        let of_pairs = self.pairs.values().flat_map(crate::pair::Pair::sas);
        let known: HashSet<SaRef> = of_pairs.chain(self.singles.values().map(|single| single.sa)).collect();
        let unknown: Vec<_> = self.current.sad.iter().map(|slot| Arc::clone(&slot.entry)).collect();
        let unknown: Vec<_> = unknown.into_iter().filter(|entry| !known.contains(&entry.sa)).collect();
        if unknown.is_empty() {
            return;
        }
        let mut sad = self.current.sad.clone();
        unknown.iter().for_each(|entry| drop(sad.remove(entry.sa)));
        self.publish(sad, self.current.spd.clone());
        for entry in unknown {
            self.slots.rest(entry.sa, self.publication, now + self.settings.rest);
            if entry.is_inbound() {
                self.spis.rest((entry.protocol, entry.spi), now + self.settings.rest);
            }
        }
    }

    /// What follows from the pairs and from how they are published.
    fn index(&mut self) {
        let staged: HashSet<PairId> = self.staged.iter().flat_map(|staged| staged.added.clone()).collect();
        (self.by_sa, self.outbound_names) = (HashMap::new(), HashSet::new());
        (self.settling, self.draining) = (Vec::new(), BTreeSet::new());
        for (id, pair) in &mut self.pairs {
            self.last_pair = self.last_pair.max(id.raw());
            self.by_sa.extend(pair.sas().map(|sa| (sa, *id)));
            let usage = self.current.sad.get(pair.inbound).map(|slot| slot.usage);
            pair.usage = usage.unwrap_or(pair.usage);
            let sending = self.current.sad.get(pair.outbound).map(|slot| &slot.entry.role);
            if let Some(Role::Outbound { path, .. }) = sending {
                pair.path = *path;
            }
            self.outbound_names.extend(pair.outbound_names());
            pair.settling = None;
            if pair.usage == Usage::Pending && !staged.contains(id) {
                pair.settling = Some(Stage::Pending(self.publication));
                self.settling.push(*id);
            }
            if pair.usage != Usage::Retired {
                pair.drained_at = None;
            }
            self.draining.extend(pair.drained_at.map(|moment| (moment, *id)));
        }
    }

    /// Rules that are published are in force, whatever was about to be.
    fn recover_policy(&mut self) {
        if self.policy.spd() == self.current.spd {
            return;
        }
        if let Some(staged) = &self.staged
            && let Some(policy) = staged.policy.as_ref().filter(|policy| policy.spd() == self.current.spd)
        {
            self.policy = policy.clone();
            return;
        }
        let rules = self.current.spd.rules();
        let by_hand = self.policy.views().into_iter().take(self.policy.by_hand()).map(|view| view.rule);
        let configured = if rules.iter().take(self.policy.by_hand()).cloned().eq(by_hand) {
            rules.get(self.policy.by_hand()..).unwrap_or_default()
        } else {
            self.policy.forget_by_hand();
            rules
        };
        self.policy = self.policy.with_configured(configured);
    }

    /// A change goes on where it was: its PAD judges, its policy is pending, and what is in force already is not brought
    /// into force again. Latches are looked at anew: what is broken by then breaks no second time.
    fn recover_staged(&mut self, now: Time) {
        self.enact_pad(now);
        let next = self.staged.as_ref().and_then(|staged| staged.policy.as_ref()).map(Policy::spd);
        let next = next.filter(|next| *next != self.current.spd).map(Arc::new);
        if next != self.current.pending {
            self.publish_with(self.current.sad.clone(), self.current.spd.clone(), next);
        }
        self.await_staged();
        let begun = |id: &PairId| self.pairs.get(id).is_some_and(|pair| pair.usage != Usage::Pending);
        if let Some(staged) = &mut self.staged
            && !staged.added.is_empty()
            && staged.added.iter().all(begun)
        {
            self.staged = None;
        }
    }
}
