//! The exposition: a snapshot as OpenMetrics text, from one table of families.

use std::collections::BTreeMap;
use std::fmt;
use std::time::UNIX_EPOCH;

use latchway_datapath::drop::{Direction, DropReason, Severity};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Moved, Peer, Snapshot};

/// What every name begins with.
const PREFIX: &str = "latchway";

/// Peers with samples of their own. Those beyond, in the order of the PAD, are summed up as [`OTHERS`].
const MAX_PEERS: usize = 256;
const OTHERS: &str = "(others)";

/// One row of the table.
struct Family {
    /// The name, without [`PREFIX`] and, for a counter, without `_total`.
    name: &'static str,
    kind: MetricType,
    help: &'static str,
}

impl Family {
    const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: MetricType::Counter, help }
    }

    const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: MetricType::Gauge, help }
    }
}

/// Every family, as the dictionary and the dashboard may name it.
#[cfg(test)]
const FAMILIES: [&Family; 30] = [
    &GATEWAY,
    &STARTED,
    &ALIVE,
    &BEATS,
    &EVENTS_LOST,
    &RELOADS,
    &PACKETS,
    &OCTETS,
    &DROPS,
    &TOLD,
    &FRAGMENTED,
    &ECN_UNUSUAL,
    &MTU_HINTS,
    &MTU_PROBES,
    &PEERS_MOVED,
    &KEEPALIVES,
    &DUMMIES,
    &LATCHES,
    &LATCH_CAPACITY,
    &UNLATCHED,
    &HALF_OPEN,
    &REQUIREMENTS,
    &PAIRS,
    &EXPIRIES,
    &RESERVED,
    &UNRESERVED,
    &PEER_PAIRS,
    &PEER_PACKETS,
    &PEER_OCTETS,
    &PEER_LOST,
];

const GATEWAY: Family = Family::gauge("gateway_info", "Name, identity and version of the gateway; always 1");
const STARTED: Family = Family::gauge("start_time_seconds", "When the gateway started, since the epoch");
const PACKETS: Family = Family::counter("packets", "Inner packets that passed every check");
const OCTETS: Family = Family::counter("octets", "Octets of the inner packets that passed every check");
const DROPS: Family = Family::counter("drops", "Packets dropped, by reason");
const TOLD: Family = Family::counter("told", "Messages to inner senders, by what they are about");
const FRAGMENTED: Family = Family::counter("fragmented", "Inner packets that were sealed in fragments");
const ECN_UNUSUAL: Family =
    Family::counter("ecn_unusual", "ECN fields that no tunnel makes, of packets that passed");
const MTU_HINTS: Family =
    Family::counter("mtu_hints", "Unauthenticated messages that a path takes less than it is thought to");
const MTU_PROBES: Family =
    Family::counter("mtu_probes", "Packets that asked what a path takes, and their answers");
const PEERS_MOVED: Family = Family::counter("peers_moved", "How often a peer was found elsewhere");
const KEEPALIVES: Family = Family::counter("keepalives", "NAT keepalives sent");
const DUMMIES: Family = Family::counter("dummies", "Dummy packets sent");
const LATCHES: Family = Family::gauge("latches", "Latches by state");
const LATCH_CAPACITY: Family = Family::gauge("latch_capacity", "Latches and other flows there is room for");
const UNLATCHED: Family = Family::gauge("unlatched_flows", "Flows remembered without a latch");
const HALF_OPEN: Family = Family::gauge("half_open_flows", "Flows that one side alone has spoken on");
const REQUIREMENTS: Family =
    Family::gauge("socket_requirements", "Sockets that applications require something of");
const PAIRS: Family = Family::gauge("sa_pairs", "Pairs of SAs by usage");
const EXPIRIES: Family = Family::counter("sa_expiries", "Lifetimes of SAs that ended");
const PEER_PAIRS: Family = Family::gauge("peer_sa_pairs", "Pairs of SAs that a peer has");
const PEER_PACKETS: Family = Family::counter("peer_packets", "Inner packets that a peer's SAs carried");
const PEER_OCTETS: Family =
    Family::counter("peer_octets", "Octets of a peer's SAs that the cipher was applied to");
const PEER_LOST: Family =
    Family::gauge("peer_lost", "Numbers of a peer's SAs that were passed and whose packets did not come");
const RESERVED: Family =
    Family::gauge("reservations_healthy", "Whether sequence numbers can be reserved on disk");
const UNRESERVED: Family =
    Family::counter("reservation_failures", "How often sequence numbers could not be reserved on disk");
const ALIVE: Family = Family::gauge("worker_alive", "Whether the worker was seen moving lately");
const BEATS: Family = Family::counter("worker_heartbeats", "How often the worker was seen moving");
const EVENTS_LOST: Family = Family::counter("events_lost", "Events that nobody had room for");
const RELOADS: Family = Family::counter("reloads", "Changes of the configuration, by outcome");

/// The snapshot as text that Prometheus reads.
pub(super) fn render(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(snapshot));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Exposition(encoder);
        self.encode_gateway(&mut out)?;
        self.encode_streets(&mut out)?;
        self.encode_latches(&mut out)?;
        self.encode_sas(&mut out)?;
        self.encode_peers(&mut out)
    }
}

impl Snapshot {
    fn encode_gateway(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        let labels = [("gateway", self.gateway.as_str()), ("identity", &self.identity), ("version", version)];
        out.family(&GATEWAY, [(labels, 1)])?;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        out.single(&STARTED, started)?;
        out.single(&ALIVE, u64::from(self.worker.alive))?;
        out.single(&BEATS, self.worker.beats)?;
        out.single(&EVENTS_LOST, self.events_lost)?;
        let outcome = |name| [("outcome", name)];
        let reloads =
            [(outcome("applied"), self.reloads.applied), (outcome("refused"), self.reloads.refused)];
        out.family(&RELOADS, reloads)
    }

    fn encode_streets(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let streets = STREETS.map(|(direction, name)| (name, self.counters.street(direction)));
        let label = |name| [("direction", name)];
        out.family(&PACKETS, streets.map(|(name, street)| (label(name), street.packets.get())))?;
        out.family(&OCTETS, streets.map(|(name, street)| (label(name), street.octets.get())))?;
        let drops = streets.into_iter().flat_map(|(name, street)| {
            DropReason::ALL.iter().map(move |&reason| {
                let info = reason.info();
                let labels =
                    [("direction", name), ("reason", info.name), ("severity", severity(info.severity))];
                (labels, street.dropped(reason))
            })
        });
        out.family(&DROPS, drops)?;
        self.encode_asides(out)
    }

    /// What is neither a packet that passed nor one that was dropped.
    fn encode_asides(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let counters = &self.counters;
        let told = [
            ("too_big", &counters.told_too_big),
            ("over", &counters.told_over),
            ("prohibited", &counters.told_prohibited),
        ];
        out.family(&TOLD, told.map(|(about, count)| ([("about", about)], count.get())))?;
        out.single(&FRAGMENTED, counters.fragmented.get())?;
        out.single(&ECN_UNUSUAL, counters.ecn_unusual.get())?;
        out.single(&MTU_HINTS, counters.mtu_hints.get())?;
        let probes = [("sent", &counters.mtu_probes), ("answered", &counters.mtu_probes_answered)];
        out.family(&MTU_PROBES, probes.map(|(what, count)| ([("what", what)], count.get())))?;
        out.single(&PEERS_MOVED, counters.peers_moved.get())?;
        out.single(&KEEPALIVES, counters.keepalives.get())?;
        out.single(&DUMMIES, counters.dummies.get())
    }

    fn encode_latches(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let latches = &self.latches;
        let by_state = [
            ("listener", latches.listener),
            ("larval", latches.larval),
            ("established", latches.established),
            ("broken", latches.broken),
            ("closed", latches.closed),
        ];
        out.family(&LATCHES, by_state.map(|(state, count)| ([("state", state)], count)))?;
        out.single(&LATCH_CAPACITY, u64::from(latches.capacity))?;
        out.single(&UNLATCHED, latches.unlatched)?;
        out.single(&HALF_OPEN, latches.half_open)?;
        out.single(&REQUIREMENTS, latches.requirements)
    }

    fn encode_sas(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let pairs = &self.pairs;
        let by_usage = [
            ("pending", pairs.pending),
            ("standby", pairs.standby),
            ("active", pairs.active),
            ("retired", pairs.retired),
        ];
        out.family(&PAIRS, by_usage.map(|(usage, count)| ([("usage", usage)], count)))?;
        let expiries = [("soft", self.expiries.soft), ("hard", self.expiries.hard)];
        out.family(&EXPIRIES, expiries.map(|(lifetime, count)| ([("lifetime", lifetime)], count)))?;
        let Some(reservations) = &self.reservations else { return Ok(()) };
        out.single(&RESERVED, u64::from(reservations.healthy))?;
        out.single(&UNRESERVED, reservations.failures)
    }

    fn encode_peers(&self, out: &mut Exposition<'_>) -> fmt::Result {
        let peers = bounded(&self.peers);
        let label = |peer: &Peer| [("peer", peer.identity.clone())];
        out.family(&PEER_PAIRS, peers.iter().map(|peer| (label(peer), peer.pairs)))?;
        let of_each = |measure: fn(&Moved) -> u64| {
            peers.iter().flat_map(move |peer| {
                [("inbound", &peer.inbound), ("outbound", &peer.outbound)].map(|(direction, moved)| {
                    let labels = [("direction", direction.to_owned()), ("peer", peer.identity.clone())];
                    (labels, measure(moved))
                })
            })
        };
        out.family(&PEER_PACKETS, of_each(|moved| moved.packets))?;
        out.family(&PEER_OCTETS, of_each(|moved| moved.octets))?;
        out.family(&PEER_LOST, peers.iter().map(|peer| (label(peer), peer.lost)))
    }
}

/// One sample set after another, under the families' names.
struct Exposition<'a>(DescriptorEncoder<'a>);

impl Exposition<'_> {
    fn single(&mut self, family: &Family, value: u64) -> fmt::Result {
        write(self.0.encode_descriptor(family.name, family.help, None, family.kind)?, family.kind, value)
    }

    /// Each sample has labels of its own.
    fn family<K, V, const N: usize>(
        &mut self,
        family: &Family,
        samples: impl IntoIterator<Item = ([(K, V); N], u64)>,
    ) -> fmt::Result
    where
        [(K, V); N]: EncodeLabelSet,
    {
        let mut metric = self.0.encode_descriptor(family.name, family.help, None, family.kind)?;
        for (labels, value) in samples {
            write(metric.encode_family(&labels)?, family.kind, value)?;
        }
        Ok(())
    }
}

fn write(mut sample: MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => sample.encode_counter::<NoLabelSet, _, u64>(&value, None),
        _ => sample.encode_gauge(&value),
    }
}

/// At most [`MAX_PEERS`] peers and the sum of the others; each identity once, or the text would contradict itself.
fn bounded(peers: &[Peer]) -> Vec<Peer> {
    let (mut bounded, mut places): (Vec<Peer>, BTreeMap<&str, usize>) = <_>::default();
    for peer in peers {
        let known = places.contains_key(peer.identity.as_str());
        let identity = if known || places.len() < MAX_PEERS { peer.identity.as_str() } else { OTHERS };
        let place = *places.entry(identity).or_insert(bounded.len());
        if let Some(sum) = bounded.get_mut(place) {
            sum.pairs = sum.pairs.saturating_add(peer.pairs);
            sum.lost = sum.lost.saturating_add(peer.lost);
            sum.inbound = sum.inbound.and(peer.inbound);
            sum.outbound = sum.outbound.and(peer.outbound);
        } else {
            bounded.push(Peer { identity: identity.to_owned(), ..peer.clone() });
        }
    }
    bounded
}

impl Moved {
    const fn and(self, other: Self) -> Self {
        Self {
            packets: self.packets.wrapping_add(other.packets),
            octets: self.octets.wrapping_add(other.octets),
        }
    }
}

const STREETS: [(Direction, &str); 2] = [(Direction::Inbound, "inbound"), (Direction::Outbound, "outbound")];

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Error => "error",
        Severity::Audit => "audit",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use latchway_datapath::drop::Counters;
    use latchway_netns::skip;
    use latchway_ulp_shim::LatchCounts;

    use super::*;
    use crate::gateway::metrics::{Expiries, Heartbeat, Pairs, Reloads, Reservations};

    /// A gateway with something of everything.
    pub fn snapshot() -> Snapshot {
        let counters = Counters::new();
        counters.street(Direction::Inbound).packets.add(7);
        counters.street(Direction::Outbound).octets.add(u64::MAX);
        counters.street(Direction::Inbound).drop(DropReason::Replayed, 3);
        let moved = Moved { packets: 5, octets: 500 };
        let peer = |identity: &str| Peer {
            identity: identity.into(),
            pairs: 1,
            lost: 2,
            inbound: moved,
            outbound: moved,
        };
        Snapshot {
            gateway: "branch".into(),
            identity: "a.example".into(),
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            counters: Arc::new(counters),
            latches: LatchCounts { capacity: 1024, established: 2, broken: 1, ..LatchCounts::default() },
            pairs: Pairs { active: 2, ..Pairs::default() },
            peers: vec![peer("b.example"), peer("a \"quoted\\ \npeer"), peer("b.example")],
            expiries: Expiries { soft: 1, hard: 0 },
            reservations: Some(Reservations { healthy: true, failures: 0 }),
            worker: Heartbeat { alive: true, beats: 99 },
            events_lost: 0,
            reloads: Reloads { applied: 4, refused: 1 },
        }
    }

    fn names() -> BTreeSet<String> {
        let full = |family: &Family| match family.kind {
            MetricType::Counter => format!("{PREFIX}_{}_total", family.name),
            _ => format!("{PREFIX}_{}", family.name),
        };
        FAMILIES.into_iter().map(full).collect()
    }

    fn samples(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter(|line| !line.starts_with('#'))
    }

    #[test]
    fn every_family_has_samples_and_no_sample_is_said_twice() {
        let text = render(snapshot()).unwrap();
        let name = |line: &str| line.split(['{', ' ']).next().unwrap().to_owned();
        assert_eq!(samples(&text).map(name).collect::<BTreeSet<_>>(), names());
        let series: Vec<_> = samples(&text).map(|line| line.rsplit_once(' ').unwrap().0).collect();
        assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len(), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn values_stand_under_their_labels() {
        let text = render(snapshot()).unwrap();
        for line in [
            "latchway_packets_total{direction=\"inbound\"} 7",
            "latchway_octets_total{direction=\"outbound\"} 18446744073709551615",
            "latchway_drops_total{direction=\"inbound\",reason=\"replayed\",severity=\"warn\"} 3",
            "latchway_drops_total{direction=\"outbound\",reason=\"no_policy\",severity=\"audit\"} 0",
            "latchway_latches{state=\"established\"} 2",
            "latchway_sa_pairs{usage=\"active\"} 2",
            "latchway_sa_expiries_total{lifetime=\"soft\"} 1",
            "latchway_peer_sa_pairs{peer=\"b.example\"} 2",
            "latchway_peer_octets_total{direction=\"inbound\",peer=\"b.example\"} 1000",
            "latchway_peer_sa_pairs{peer=\"a \\\"quoted\\\\ \\npeer\"} 1",
            "latchway_start_time_seconds 1700000000",
            "latchway_worker_alive 1",
            "latchway_reloads_total{outcome=\"refused\"} 1",
        ] {
            assert!(samples(&text).any(|sample| sample == line), "{line}\n{text}");
        }
        let drops = samples(&text).filter(|line| line.starts_with("latchway_drops_total{"));
        assert_eq!(drops.count(), DropReason::ALL.len() * 2, "both directions of the whole table");
    }

    #[test]
    fn without_a_state_directory_nothing_is_said_of_reservations() {
        let text = render(Snapshot { reservations: None, ..snapshot() }).unwrap();
        assert!(!text.contains("reservation"), "{text}");
    }

    #[test]
    fn peers_beyond_the_bound_are_summed_up() {
        let moved = Moved { packets: 1, octets: 2 };
        let peer = |number| Peer {
            identity: format!("{number}.example"),
            pairs: 1,
            lost: 1,
            inbound: moved,
            outbound: moved,
        };
        let text = render(Snapshot { peers: (0..1000).map(peer).collect(), ..snapshot() }).unwrap();
        let counted = samples(&text).filter(|line| line.starts_with("latchway_peer_sa_pairs")).count();
        assert_eq!(counted, MAX_PEERS + 1);
        let rest = format!("latchway_peer_sa_pairs{{peer=\"(others)\"}} {}", 1000 - MAX_PEERS);
        assert!(samples(&text).any(|sample| sample == rest), "{text}");
    }

    #[test]
    fn the_dictionary_has_every_family_and_no_other() {
        let dictionary = include_str!("../../../docs/metrics.md");
        assert_eq!(mentioned(dictionary), names());
        for family in FAMILIES {
            assert!(dictionary.contains(family.help), "docs/metrics.md does not say: {}", family.help);
        }
    }

    #[test]
    fn the_dashboard_shows_every_family_and_no_other() {
        let dashboard = include_str!("../../../packaging/grafana/latchway.json");
        let parsed: serde_json::Value = serde_json::from_str(dashboard).unwrap();
        assert!(parsed["panels"].as_array().is_some_and(|panels| !panels.is_empty()));
        assert_eq!(mentioned(dashboard), names());
    }

    /// Everything that looks like the name of a family of ours.
    fn mentioned(text: &str) -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("latchway_")).map(str::to_owned).collect()
    }

    /// By a parser that is not ours and forgives nothing.
    #[test]
    fn the_text_is_openmetrics_to_a_strict_parser() {
        const TEST: &str = "the_text_is_openmetrics_to_a_strict_parser";
        const PYTHON: &str = "/usr/bin/python3";
        const PARSER: &str = "import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
print(sum(len(family.samples) for family in parse(sys.stdin.read())))";
        let installed = Command::new(PYTHON).args(["-c", "import prometheus_client"]).output();
        if !installed.is_ok_and(|found| found.status.success()) {
            return skip::report(
                TEST,
                "Python's prometheus_client is not installed (python3-prometheus-client)",
            );
        }
        let text = render(snapshot()).unwrap();
        let mut python = Command::new(PYTHON);
        python.args(["-c", PARSER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), samples(&text).count().to_string());
    }
}
