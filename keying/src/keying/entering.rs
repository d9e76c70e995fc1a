//! How pairs come into the SAD and leave it: slots, SPIs and names taken, and given back to rest.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use latchway_datapath::lifetime::Limits;
use latchway_datapath::sad::{Handover, Peer, Role, Sad, SadEntry, Shape, Usage};
use latchway_datapath::time::Time;
use latchway_esp::{Protocol, Spi};
use latchway_tagging::{Mode, SaRef};

use crate::install::{Built, InstallError, Keys, Received, SaKeys};
use crate::keying::{Keying, Stage};
use crate::notice::Notice;
use crate::pair::{HeaderSas, Pair, PairId};
use crate::secrets::Secrets;
use crate::ticket::Promise;

/// Names that are taken by pairs which are not in the SAD yet.
#[derive(Debug, Default)]
pub(super) struct Names {
    inbound: HashSet<(Protocol, Spi)>,
    pub(super) outbound: HashSet<(Protocol, Spi, SocketAddr)>,
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

    /// Makes the SAs of a pair and puts them into a database, as pending.
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
        let built = keys.build()?;
        let slots = self.take_slots(if keys.header.is_some() { 4 } else { 2 }, now);
        let mut slots = slots.ok_or(InstallError::Full)?.into_iter();
        let pair = pair_of(promise, (keys, &built.received), || slots.next()).ok_or(InstallError::Full)?;
        for entry in entries(&pair, keys, built, now) {
            if let Err(error) = sad.insert(Arc::new(entry), Usage::Pending) {
                pair.sas().for_each(|sa| drop(sad.remove(sa)));
                self.rest_slots(pair.sas(), now);
                return Err(error.into());
            }
        }
        Ok(pair)
    }

    /// Whether the SPIs can name new SAs (T31), beside those in `together`, among which they come to be.
    pub(super) fn check_names(&self, keys: &Keys, together: &mut Names) -> Result<(), InstallError> {
        let pair = (&keys.inbound, &keys.outbound);
        let header = keys.header.as_ref().map(|header| (&header.inbound, &header.outbound));
        for (inbound, outbound) in [pair].into_iter().chain(header) {
            let inbound = (inbound.material.suite().protocol(), inbound.spi);
            let outbound = (outbound.material.suite().protocol(), outbound.spi, keys.path.to);
            self.check_inbound(inbound, together)?;
            if self.outbound_names.contains(&outbound) || !together.outbound.insert(outbound) {
                return Err(InstallError::DuplicateOutbound(outbound.1, outbound.2));
            }
        }
        Ok(())
    }

    fn check_inbound(
        &self,
        (protocol, spi): (Protocol, Spi),
        together: &mut Names,
    ) -> Result<(), InstallError> {
        if self.current.sad.find(protocol, spi).is_some() || !together.inbound.insert((protocol, spi)) {
            let drains = self.holder(protocol, spi).is_some_and(|pair| pair.drained_at.is_some());
            return Err(if drains {
                InstallError::DrainingSpi(spi)
            } else {
                InstallError::DuplicateSpi(spi)
            });
        }
        if self.spis.contains((protocol, spi)) {
            return Err(InstallError::RestingSpi(spi));
        }
        Ok(())
    }

    /// The pair of which an inbound SA has this SPI.
    pub(super) fn holder(&self, protocol: Protocol, spi: Spi) -> Option<&Pair> {
        let slot = self.current.sad.slot(self.current.sad.find(protocol, spi)?)?;
        self.pairs.get(self.by_sa.get(&slot.entry.sa)?)
    }

    /// Gives a pair its number. Before its SAs are published: whoever sees them can find it.
    pub(super) fn remember(&mut self, pair: Pair) -> PairId {
        self.last_pair += 1;
        let id = PairId::from_raw(self.last_pair);
        self.by_sa.extend(pair.sas().map(|sa| (sa, id)));
        self.outbound_names.extend(pair.outbound_names());
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
        for sa in pair.sas() {
            self.by_sa.remove(&sa);
        }
        for name in pair.outbound_names() {
            self.outbound_names.remove(&name);
        }
        self.settling.retain(|other| *other != id);
        self.staged.iter_mut().for_each(|staged| staged.added.retain(|other| *other != id));
        if let Some(moment) = pair.drained_at {
            self.draining.remove(&(moment, id));
        }
        self.rest_slots(pair.sas(), now);
        for name in pair.inbound_names() {
            self.spis.rest(name, now + self.settings.rest);
        }
        self.interned.release(pair.class, now);
        self.notices.tell(Notice::PairRemoved { pair: id, peer: pair.terms.peer });
    }

    pub(super) fn rest_slots(&mut self, sas: impl IntoIterator<Item = SaRef>, now: Time) {
        for sa in sas {
            self.slots.rest(sa, self.publication, now + self.settings.rest);
        }
    }

    /// So many slots, or none.
    fn take_slots(&mut self, count: usize, now: Time) -> Option<Vec<SaRef>> {
        let taken: Vec<_> = (0..count).map_while(|_| self.slots.take()).collect();
        if taken.len() < count {
            self.rest_slots(taken, now);
            return None;
        }
        Some(taken)
    }
}

/// What the SAD holds of a pair. Of a bundle, the AH SAs carry what the ESP SAs within them do, whose selectors say what that
/// is: no flow is theirs by itself.
fn entries(pair: &Pair, keys: &Keys, built: Built, now: Time) -> Vec<SadEntry> {
    let protocol = pair.terms.suites.inbound.protocol();
    let entry = |sa, partner, direction: &SaKeys, role| SadEntry {
        sa,
        spi: direction.spi,
        protocol,
        mode: pair.terms.mode,
        class: pair.class,
        selectors: pair.terms.selectors.clone().into_boxed_slice(),
        scope: keys.scope,
        reqid: pair.terms.reqid,
        worker: keys.worker,
        limits: direction.limits,
        added: now,
        partner: Some(partner),
        nested: None,
        role,
        use_: Arc::default(),
    };
    let translated = [pair.terms.nat.local, pair.terms.nat.remote].contains(&Some(true));
    let receiving = |sa| Role::Inbound {
        sa: Handover::new(sa),
        from: Peer { follow: keys.follow, translated, ..keys.path.peer() },
        outer: keys.shape.outer.clone(),
    };
    let sending = |sa, shape| Role::Outbound { sa: Handover::new(sa), path: keys.path, shape };
    let around = |sa: fn(HeaderSas) -> SaRef| pair.header.map(sa);
    let mut entries = vec![
        SadEntry {
            nested: around(|header| header.inbound),
            ..entry(pair.inbound, pair.outbound, &keys.inbound, receiving(built.inbound))
        },
        SadEntry {
            nested: around(|header| header.outbound),
            ..entry(pair.outbound, pair.inbound, &keys.outbound, sending(built.outbound, keys.shape.clone()))
        },
    ];
    if let (Some(header), Some(sas), Some((inbound, outbound))) = (&keys.header, pair.header, built.header) {
        let around = |within, entry: SadEntry| SadEntry {
            protocol: Protocol::Ah,
            mode: Mode::Transport,
            selectors: Box::default(),
            limits: Limits::default(),
            nested: Some(within),
            ..entry
        };
        let shape = shape_around(&keys.shape);
        let received = entry(sas.inbound, sas.outbound, &header.inbound, receiving(inbound));
        let sent = entry(sas.outbound, sas.inbound, &header.outbound, sending(outbound, shape));
        entries.extend([around(pair.inbound, received), around(pair.outbound, sent)]);
    }
    entries
}

/// What packets look like that AH goes around: keepalives, dummies and padding are those of the ESP within.
pub(super) fn shape_around(within: &Shape) -> Shape {
    Shape { outer: within.outer.clone(), sizing: within.sizing, ..Shape::default() }
}

/// The pair, its SAs in these slots.
fn pair_of(
    promise: Promise,
    (keys, received): (&Keys, &Received),
    mut slot: impl FnMut() -> Option<SaRef>,
) -> Option<Pair> {
    let Promise { terms, entry, class, origin, .. } = promise;
    let (inbound, outbound) = (slot()?, slot()?);
    let header = match &keys.header {
        None => None,
        Some(header) => Some(HeaderSas {
            inbound: slot()?,
            inbound_spi: header.inbound.spi,
            outbound: slot()?,
            outbound_spi: header.outbound.spi,
        }),
    };
    Some(Pair {
        inbound,
        inbound_spi: keys.inbound.spi,
        outbound,
        outbound_spi: keys.outbound.spi,
        header,
        terms,
        entry,
        class,
        origin,
        key_origin: keys.origin,
        anti_replay: keys.anti_replay,
        align: keys.align,
        sequence: (keys.inbound.sequence, keys.outbound.sequence),
        worker: keys.worker,
        path: keys.path,
        said: keys.path.to,
        received: received.clone(),
        usage: Usage::Pending,
        start: keys.start,
        settling: None,
        drained_at: None,
        secrets: Secrets::of(keys),
        inbound_expired: false,
        outbound_expired: false,
    })
}
