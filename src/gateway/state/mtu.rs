//! How long the packets to a peer may be: the sums of `latchway mtu explain`, which the packet path goes by as well.

use latchway_config::Listen;
use latchway_control::{
    DiscoverySpec, Failure, FragmentSpec, MtuPart, MtuRow, MtuView, PartKind, PathView, SaUsage, call,
};
use latchway_datapath::fitting::{Fitting, Parts};
use latchway_datapath::pmtu::{Discovery, Fragment, Sizing};
use latchway_keying::{PairView, SingleSa};
use latchway_tagging::Mode;

use crate::gateway::convert;
use crate::gateway::operator::Answer;
use crate::gateway::rows::{path_view, sa_usage, sending_path};
use crate::gateway::state::State;
use crate::gateway::state::answers::stopped;

impl State {
    /// The outbound SAs to a peer that is known by this identity, or by this name in the configuration.
    pub(super) fn explain_mtu(&self, asked: &call::Mtu) -> Answer<MtuView> {
        let named: Vec<_> = self.keying.peers().map_err(stopped)?;
        let named = named.iter().filter(|peer| peer.name == asked.peer).flat_map(|peer| &peer.pairs);
        let named: Vec<_> = named.copied().collect();
        let pairs = self.keying.pairs().map_err(stopped)?;
        let identity = convert::named(&asked.peer).ok();
        let is_meant = |pair: &&PairView| named.contains(&pair.id) || Some(&pair.peer) == identity.as_ref();
        let singles = self.keying.single_sas().map_err(stopped)?;
        let singles = singles.iter().filter(|single| Some(&single.peer) == identity.as_ref());
        let listen = &self.devices.listen;
        let singles = singles.filter_map(|single| single_row(single, listen));
        let sas: Vec<_> =
            pairs.iter().filter(is_meant).map(|pair| row(pair, listen)).chain(singles).collect();
        if sas.is_empty() {
            return Err(Failure::not_found(
                format!("there is no SA with {}", asked.peer),
                "`latchway peer list` shows the peers, and `latchway sa list` those that there are SAs with",
            ));
        }
        Ok(MtuView { sas })
    }
}

fn row(pair: &PairView, listen: &[Listen]) -> MtuRow {
    MtuRow {
        pair: Some(pair.id.raw()),
        peer: pair.peer.to_string(),
        spi: pair.outbound.spi.get(),
        suite: pair.outbound.suite.to_string(),
        usage: sa_usage(pair.usage),
        ..sum(&pair.fitting, pair.sizing, path_view(pair, listen))
    }
}

/// An SA of one direction, if it sends.
fn single_row(single: &SingleSa, listen: &[Listen]) -> Option<MtuRow> {
    let sending = single.sending.as_ref()?;
    Some(MtuRow {
        peer: single.peer.to_string(),
        spi: single.sa.spi.get(),
        suite: single.sa.suite.to_string(),
        ..sum(&sending.fitting, single.shape.sizing, sending_path(sending, listen))
    })
}

/// What fits, of an SA of which nothing else is said yet.
fn sum(fitting: &Fitting, sizing: Sizing, path: PathView) -> MtuRow {
    let mtu = usize::from(path.in_force);
    let front = fitting.usual_front();
    let inner = fitting.max_inner(mtu, front);
    let parts = fitting.parts(inner, mtu);
    let floor = fitting.outer_len(sizing.pmtu.floor.into(), front);
    let transport = fitting.mode() == Mode::Transport;
    let mss = |v6: bool| {
        let headers = if v6 { 40 + 20 } else { 20 + 20 };
        let carries = !transport || path.to.is_ipv6() == v6;
        carries.then(|| number(inner.saturating_sub(headers)))
    };
    MtuRow {
        pair: None,
        peer: String::new(),
        spi: 0,
        suite: String::new(),
        usage: SaUsage::Active,
        transport,
        path,
        floor: number(floor.min(path.mtu.into())),
        discovery: match sizing.pmtu.discovery {
            Discovery::Off => DiscoverySpec::Fixed,
            Discovery::Hints => DiscoverySpec::Learn,
            Discovery::Probes => DiscoverySpec::Probe,
        },
        inner: number(inner),
        parts: part_rows(&parts),
        outer: number(parts.total()),
        mss_v4: mss(false),
        mss_v6: mss(true),
        clamped: sizing.clamp_mss,
        fragment: match sizing.fragment {
            Fragment::Before => FragmentSpec::Before,
            Fragment::After => FragmentSpec::After,
        },
    }
}

/// From the outside in.
fn part_rows(parts: &Parts) -> Vec<MtuPart> {
    let Parts { outer_header, udp, ah, esp_header, iv, inner, tfc, padding, trailer, icv } = *parts;
    let all = [
        (PartKind::OuterHeader, outer_header),
        (PartKind::Udp, udp),
        (PartKind::Ah, ah),
        (PartKind::EspHeader, esp_header),
        (PartKind::Iv, iv),
        (PartKind::Inner, inner),
        (PartKind::Tfc, tfc),
        (PartKind::Padding, padding),
        (PartKind::Trailer, trailer),
        (PartKind::Icv, icv),
    ];
    let there = all.into_iter().filter(|(_, octets)| *octets > 0);
    there.map(|(part, octets)| MtuPart { part, octets: number(octets) }).collect()
}

fn number(octets: usize) -> u32 {
    u32::try_from(octets).unwrap_or(u32::MAX)
}
