//! What a gateway counts, gathered for Prometheus. Counts of SAs that are gone stay, or sums would go backwards.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use latchway_datapath::sad::Usage;
use latchway_datapath::worker::Heartbeat;
use latchway_keying::{PairId, PairView};

use crate::gateway::metrics::{self, Expiries, Moved, Pairs, Peer, Reloads, Reservations, Snapshot};
use crate::gateway::records::Records;
use crate::gateway::state::State;

/// Gathers, and remembers what must not be lost between two times.
pub struct Measured {
    state: Arc<State>,
    heartbeat: Heartbeat,
    records: Option<Arc<Records>>,
    /// Signs of life when last asked.
    beats: u64,
    /// The pairs that were there when last asked.
    live: HashMap<PairId, Used>,
    /// What pairs that are gone had moved, by peer.
    gone: HashMap<String, (Moved, Moved)>,
    /// Lifetimes of pairs that are gone.
    expired: Expiries,
}

/// What a pair has used.
struct Used {
    peer: String,
    inbound: Moved,
    outbound: Moved,
    expiries: Expiries,
}

impl Measured {
    /// Gathers from this gateway.
    pub fn new(state: Arc<State>, heartbeat: Heartbeat, records: Option<Arc<Records>>) -> Self {
        let (live, gone) = (HashMap::new(), HashMap::new());
        Self { state, heartbeat, records, beats: 0, live, gone, expired: Expiries::default() }
    }

    /// What the gateway counts now.
    pub fn gather(&mut self) -> Snapshot {
        // A key manager that is gone has nothing to say, and the rest is still worth knowing.
        let pairs = self.state.keying.pairs().unwrap_or_default();
        let peers = self.state.keying.peers().unwrap_or_default();
        self.keep(&pairs);
        let live = pairs.iter().map(|pair| (pair.id, used(pair))).collect();
        self.live = live;
        let beats = self.heartbeat.beats();
        let alive = beats != std::mem::replace(&mut self.beats, beats);
        let refused = self.state.refused_reloads.load(Ordering::Relaxed);
        Snapshot {
            gateway: self.state.name.clone(),
            identity: self.state.identity.to_string(),
            started: self.state.started_at,
            counters: Arc::clone(&self.state.counters),
            latches: self.state.database.counts(),
            pairs: by_usage(&pairs),
            peers: peers.iter().map(|peer| self.peer(&peer.name, &peer.pairs, &pairs)).collect(),
            expiries: self.live.values().fold(self.expired, |sum, used| add(sum, used.expiries)),
            reservations: self.records.as_ref().map(|records| Reservations {
                healthy: records.failing().is_none(),
                failures: records.failures(),
            }),
            worker: metrics::Heartbeat { alive, beats },
            events_lost: self.state.events.lost(),
            reloads: Reloads { applied: self.state.reloads().count.saturating_sub(refused), refused },
        }
    }

    /// Takes over what pairs had moved that are there no more.
    fn keep(&mut self, pairs: &[PairView]) {
        for (_, used) in self.live.extract_if(|id, _| pairs.iter().all(|pair| pair.id != *id)) {
            let (inbound, outbound) = self.gone.entry(used.peer).or_default();
            *inbound = sum(*inbound, used.inbound);
            *outbound = sum(*outbound, used.outbound);
            self.expired = add(self.expired, used.expiries);
        }
        // Whose limits were revised is not over any more, and was.
        for pair in pairs {
            let renewed = self.live.get(&pair.id).map(|before| less(before.expiries, used(pair).expiries));
            self.expired = add(self.expired, renewed.unwrap_or_default());
        }
    }

    fn peer(&self, name: &str, own: &[PairId], pairs: &[PairView]) -> Peer {
        let lost =
            pairs.iter().filter(|pair| own.contains(&pair.id)).filter_map(|pair| pair.inbound.lost).sum();
        let pairs = own.len() as u64;
        let gone = self.gone.get(name).copied().unwrap_or_default();
        let own = self.live.values().filter(|used| used.peer == name);
        let (inbound, outbound) = own.fold(gone, |(inbound, outbound), used| {
            (sum(inbound, used.inbound), sum(outbound, used.outbound))
        });
        Peer { identity: name.into(), pairs, lost, inbound, outbound }
    }
}

fn used(pair: &PairView) -> Used {
    let moved = |packets, octets| Moved { packets, octets };
    let of = |flags: [bool; 2]| flags.into_iter().filter(|flag| *flag).count() as u64;
    Used {
        peer: pair.peer.to_string(),
        inbound: moved(pair.inbound.packets, pair.inbound.octets),
        outbound: moved(pair.outbound.packets, pair.outbound.octets),
        expiries: Expiries {
            soft: of([pair.inbound.soft_expired, pair.outbound.soft_expired]),
            hard: of([pair.inbound.expired, pair.outbound.expired]),
        },
    }
}

fn by_usage(pairs: &[PairView]) -> Pairs {
    let count = |usage| pairs.iter().filter(|pair| pair.usage == usage).count() as u64;
    Pairs {
        pending: count(Usage::Pending),
        standby: count(Usage::Standby),
        active: count(Usage::Active),
        retired: count(Usage::Retired),
    }
}

const fn sum(a: Moved, b: Moved) -> Moved {
    Moved { packets: a.packets.saturating_add(b.packets), octets: a.octets.saturating_add(b.octets) }
}

const fn less(a: Expiries, b: Expiries) -> Expiries {
    Expiries { soft: a.soft.saturating_sub(b.soft), hard: a.hard.saturating_sub(b.hard) }
}

const fn add(a: Expiries, b: Expiries) -> Expiries {
    Expiries { soft: a.soft.saturating_add(b.soft), hard: a.hard.saturating_add(b.hard) }
}
