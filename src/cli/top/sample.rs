//! What a gateway said at one moment, and what moved between two.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;
use std::time::Duration;

use latchway_control::{
    DirectionSpec, DropRow, FlowRow, PeerRow, SaRow, StatusView, StreetView, Traffic, call,
};

use crate::client::{CallError, Client};

/// What a gateway said at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The moment, by a clock that never goes back.
    pub at: Duration,
    /// How it is.
    pub status: StatusView,
    /// Its peers.
    pub peers: Vec<PeerRow>,
    /// Its SAs.
    pub sas: Vec<SaRow>,
    /// Flows, as many as one answer holds.
    pub flows: Vec<FlowRow>,
    /// What it dropped.
    pub drops: Vec<DropRow>,
}

/// Octets and packets per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Octets per second.
    pub octets: f64,
    /// Packets per second.
    pub packets: f64,
    /// Packets dropped per second.
    pub dropped: f64,
}

/// A row with what it moved per second.
#[derive(Clone, Debug)]
pub struct Moving<T> {
    /// The row.
    pub row: T,
    /// From the wire, or in the row's only direction.
    pub inbound: Speed,
    /// To the wire.
    pub outbound: Speed,
}

/// What there is to see: the newer of two samples, with rates.
#[derive(Clone, Debug)]
pub struct Board {
    /// How the gateway is.
    pub status: StatusView,
    /// From the wire.
    pub inbound: Speed,
    /// To the wire.
    pub outbound: Speed,
    /// Its peers.
    pub peers: Vec<Moving<PeerRow>>,
    /// Its SAs, each with its speed as `inbound`.
    pub sas: Vec<Moving<SaRow>>,
    /// Its flows.
    pub flows: Vec<FlowRow>,
    /// What it dropped, each with its speed as `inbound`.
    pub drops: Vec<Moving<DropRow>>,
}

/// What the rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// What moves most now; flows by their last packet.
    #[default]
    Rate,
    /// What moved most ever; flows by their last packet.
    Total,
    /// Names.
    Name,
}

impl Speed {
    /// What octets, packets and drops were added, per second.
    fn between([octets, packets, dropped]: [u64; 3], new: [u64; 3], seconds: f64) -> Self {
        let [new_octets, new_packets, new_dropped] = new;
        Self {
            octets: per_second(octets, new_octets, seconds),
            packets: per_second(packets, new_packets, seconds),
            dropped: per_second(dropped, new_dropped, seconds),
        }
    }
}

impl Sort {
    /// The one after it.
    pub const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Total,
            Self::Total => Self::Name,
            Self::Name => Self::Rate,
        }
    }
}

impl Sample {
    /// Asks the gateway.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn take(control: &Path, at: Duration) -> Result<Self, CallError> {
        let mut client = Client::connect(control)?;
        Ok(Self {
            at,
            status: client.call(&call::Status {})?,
            peers: client.call(&call::Peers { limit: Some(ROWS) })?.peers,
            sas: client.call(&call::Sas { limit: Some(ROWS) })?.sas,
            flows: client.call(&call::Flows { limit: Some(ROWS) })?.flows,
            drops: client.call(&call::Drops {})?.drops,
        })
    }
}

impl Board {
    /// What is so `now`, and what moved since `before`.
    pub fn between(before: &Sample, now: Sample) -> Self {
        let seconds = now.at.saturating_sub(before.at).as_secs_f64();
        let speed = |old: [u64; 3], new: [u64; 3]| Speed::between(old, new, seconds);
        let street = |street: &StreetView| [street.octets, street.packets, street.dropped];
        let traffic = |traffic: &Traffic| [traffic.octets, traffic.packets, 0];
        let peers = by_key(&before.peers, |peer| peer.identity.clone());
        let sas = by_key(&before.sas, sa_key);
        let drops = by_key(&before.drops, drop_key);
        let peer = |row: PeerRow| {
            let old = peers.get(&row.identity);
            let of = |old: Option<&Traffic>, new: &Traffic| {
                old.map_or_else(Speed::default, |old| speed(traffic(old), traffic(new)))
            };
            let inbound = of(old.map(|old| &old.inbound), &row.inbound);
            let outbound = of(old.map(|old| &old.outbound), &row.outbound);
            Moving { row, inbound, outbound }
        };
        let sa = |row: SaRow| {
            let old = sas.get(&sa_key(&row)).map(|old| [old.octets, old.packets, 0]);
            let inbound = old.map_or_else(Speed::default, |old| speed(old, [row.octets, row.packets, 0]));
            Moving { row, inbound, outbound: Speed::default() }
        };
        let drop = |row: DropRow| {
            let old = drops.get(&drop_key(&row)).map_or(0, |old| old.packets);
            let inbound = speed([0, 0, old], [0, 0, row.packets]);
            Moving { row, inbound, outbound: Speed::default() }
        };
        Self {
            inbound: speed(street(&before.status.inbound), street(&now.status.inbound)),
            outbound: speed(street(&before.status.outbound), street(&now.status.outbound)),
            peers: now.peers.into_iter().map(peer).collect(),
            sas: now.sas.into_iter().map(sa).collect(),
            drops: now.drops.into_iter().map(drop).collect(),
            flows: now.flows,
            status: now.status,
        }
    }

    /// Orders every list.
    pub fn sort(&mut self, sort: Sort) {
        self.flows.sort_by(|a, b| a.flow.cmp(&b.flow));
        self.peers.sort_by(|a, b| a.row.identity.cmp(&b.row.identity));
        self.sas.sort_by_key(|sa| sa_key(&sa.row));
        self.drops.sort_by(|a, b| a.row.reason.cmp(&b.row.reason));
        if sort != Sort::Name {
            self.flows.sort_by_key(|flow| flow.idle);
        }
        match sort {
            Sort::Name => {}
            Sort::Rate => {
                let rate = |speed: &Speed| speed.octets;
                self.peers.sort_by(|a, b| {
                    (rate(&b.inbound) + rate(&b.outbound)).total_cmp(&(rate(&a.inbound) + rate(&a.outbound)))
                });
                self.sas.sort_by(|a, b| rate(&b.inbound).total_cmp(&rate(&a.inbound)));
                self.drops.sort_by(|a, b| b.inbound.dropped.total_cmp(&a.inbound.dropped));
            }
            Sort::Total => {
                let total = |peer: &PeerRow| peer.inbound.octets.saturating_add(peer.outbound.octets);
                self.peers.sort_by_key(|peer| std::cmp::Reverse(total(&peer.row)));
                self.sas.sort_by_key(|sa| std::cmp::Reverse(sa.row.octets));
                self.drops.sort_by_key(|drop| std::cmp::Reverse(drop.row.packets));
            }
        }
    }
}

fn by_key<T, K: Eq + Hash>(rows: &[T], key: impl Fn(&T) -> K) -> HashMap<K, &T> {
    rows.iter().map(|row| (key(row), row)).collect()
}

/// SPIs of one direction are told apart by the peer, too.
fn sa_key(sa: &SaRow) -> (Option<u64>, bool, u32, String) {
    (sa.pair, is_outbound(sa.direction), sa.spi, sa.peer.clone())
}

fn drop_key(drop: &DropRow) -> (bool, String) {
    (is_outbound(drop.direction), drop.reason.clone())
}

const fn is_outbound(direction: DirectionSpec) -> bool {
    matches!(direction, DirectionSpec::Outbound)
}

/// What was added, per second. A counter that went back was begun anew.
#[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
fn per_second(old: u64, new: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { new.saturating_sub(old) as f64 / seconds } else { 0.0 }
}

/// Rows of a list that are asked for: more than anyone reads, and no burden to a gateway with a million flows.
const ROWS: u64 = 1000;
