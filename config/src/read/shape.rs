//! What an SA's packets look like from outside: outer headers, sizes, dummies (RFC 4301 sections 5.1.2 and 8, RFC 4303
//! sections 2.6 and 2.7).

use std::net::IpAddr;
use std::time::Duration;

use latchway_esp::Align;
use latchway_tagging::Mode;

use super::sa::Kind;
use super::tun;
use crate::document::{Entry, Problems, Scope};
use crate::model::{
    Df, Discovery, Dscp, Ecn, Encapsulation, FlowLabel, Fragment, Hiding, Outer, Probe, Sizing, Tfc,
};
use crate::problem::quote;
use crate::range::{AddressRange, Selector};
use crate::reference::{Key, probe, sa};
use crate::value;

/// How often a NAT is kept open. `None` is a problem.
pub fn keepalive(table: &Scope<'_>, kind: Kind, problems: &mut Problems<'_>) -> Option<Option<Duration>> {
    let udp = kind.encapsulation == Encapsulation::Udp;
    says_nothing(table, &[&sa::KEEPALIVE], (udp, "without UDP there is no NAT to keep open"), problems);
    table.read_or(&sa::KEEPALIVE, None, problems, |entry, problems| {
        value::duration(LEAST_KEEPALIVE, entry, problems).map(Some)
    })
}

/// Whether the peer may move. `None` is a problem.
pub fn follow(table: &Scope<'_>, kind: Kind, problems: &mut Problems<'_>) -> Option<bool> {
    table.read_or(&sa::FOLLOW, false, problems, |entry, problems| {
        let follows = entry.flag(problems)?;
        if follows && kind.mode == Mode::Transport {
            let why =
                "in transport mode the peer's address is that of what is carried, so that it cannot move";
            entry.error(problems, why, "remove it, or use tunnel mode");
            return None;
        }
        Some(follows)
    })
}

/// How long an AH header is a multiple of. `None` is a problem.
pub fn align(table: &Scope<'_>, kind: Kind, problems: &mut Problems<'_>) -> Option<Align> {
    says_nothing(table, &[&sa::ALIGN], (kind.ah, "there is no AH"), problems);
    table.read_or(&sa::ALIGN, Align::Rfc, problems, |entry, problems| {
        match entry.number(4..=8, problems)? {
            4 => Some(Align::Rfc),
            8 => Some(Align::Eight),
            _ => {
                entry.error(problems, "AH headers are multiples of 4 or of 8 octets", "choose 4 or 8");
                None
            }
        }
    })
}

/// The fields of outer headers. `None` is a problem.
pub fn outer(table: &Scope<'_>, kind: Kind, problems: &mut Problems<'_>) -> Option<Outer> {
    let tunnel = kind.mode == Mode::Tunnel;
    let of_tunnels = [&sa::DSCP, &sa::DECAPSULATE_DSCP, &sa::ECN, &sa::DF, &sa::TTL, &sa::FLOW_LABEL];
    says_nothing(table, &of_tunnels, (tunnel, "in transport mode packets keep their own header"), problems);
    let native = kind.encapsulation == Encapsulation::None;
    let of_native = [&sa::TTL, &sa::FLOW_LABEL];
    says_nothing(table, &of_native, (native || !tunnel, "in UDP the kernel writes that header"), problems);
    let v6 = (kind.v6 || !native || !tunnel, "IPv4 has none");
    says_nothing(table, &[&sa::FLOW_LABEL], v6, problems);
    let usual = Outer::default();
    let dscp = table.read_or(&sa::DSCP, usual.dscp, problems, dscp);
    let decapsulate_dscp =
        table.read_or(&sa::DECAPSULATE_DSCP, usual.decapsulate_dscp, problems, Entry::flag);
    let ecn = table.read_or(&sa::ECN, usual.ecn, problems, value::word(&ECNS));
    let df = table.read(&sa::DF, problems, value::word(&DFS));
    let ttl = table.read_or(&sa::TTL, usual.ttl, problems, |entry, problems| {
        u8::try_from(entry.number(1..=255, problems)?).ok()
    });
    let flow_label = table.read(&sa::FLOW_LABEL, problems, value::word(&FLOW_LABELS));
    let (dscp, decapsulate_dscp, ecn, ttl) = (dscp?, decapsulate_dscp?, ecn?, ttl?);
    Some(Outer { dscp, decapsulate_dscp, ecn, df, ttl, flow_label })
}

/// How much is said of the traffic. `None` is a problem.
pub fn hiding(table: &Scope<'_>, kind: Kind, problems: &mut Problems<'_>) -> Option<Hiding> {
    let keys = [&sa::TFC, &sa::DUMMIES];
    says_nothing(table, &keys, (kind.esp, "AH hides nothing"), problems);
    // RFC 4303 section 2.7: the receiver tells the padding by the length in the inner IP header.
    let tunnel = kind.mode == Mode::Tunnel || !kind.esp;
    says_nothing(
        table,
        &[&sa::TFC],
        (tunnel, "only in tunnel mode the receiver can tell it apart"),
        problems,
    );
    let tfc = table.read_or(&sa::TFC, Tfc::None, problems, tfc);
    let dummies = table.read_or(&sa::DUMMIES, None, problems, |entry, problems| {
        value::duration(LEAST_DUMMIES, entry, problems).map(Some)
    });
    Some(Hiding { tfc: tfc?, dummies: dummies? })
}

/// How packets are made to fit. `own` are the addresses of the TUN. `None` is a problem.
pub fn sizing(
    table: &Scope<'_>,
    (kind, mtu): (Kind, u16),
    (own, selectors): (&[IpAddr], &[Selector]),
    problems: &mut Problems<'_>,
) -> Option<Sizing> {
    let usual = Sizing::default();
    let discovery = table.read_or(&sa::PMTU, usual.discovery, problems, value::word(&DISCOVERIES));
    let floor = table.read_or(&sa::PMTU_FLOOR, usual.floor, problems, |entry, problems| {
        u16::try_from(entry.number(LEAST_FLOOR..=u64::from(mtu), problems)?).ok()
    });
    let probe = table.read_or(&sa::PROBE, None, problems, |entry, problems| {
        ends(entry, (own, selectors), problems).map(Some)
    });
    let learns = (discovery != Some(Discovery::Fixed), "with pmtu = \"fixed\" nothing is learnt");
    says_nothing(table, &[&sa::PMTU_FLOOR, &sa::PROBE], learns, problems);
    let usual_cut = if kind.mode == Mode::Transport { Fragment::After } else { usual.fragment };
    let fragment = table.read_or(&sa::FRAGMENT, usual_cut, problems, value::word(&FRAGMENTS));
    if let Some(entry) = table.entry(&sa::FRAGMENT)
        && kind.mode == Mode::Transport
        && fragment == Some(Fragment::Before)
    {
        // RFC 4303 section 3.3.4: transport mode is for whole IP datagrams.
        let hint = "remove it: what is too long is cut once it is sealed";
        entry.error(problems, "in transport mode a fragment cannot be protected", hint);
    }
    let clamp_mss = table.read_or(&sa::MSS_CLAMP, usual.clamp_mss, problems, Entry::flag);
    let (discovery, floor, probe) = (discovery?, floor?, probe?);
    Some(Sizing { discovery, floor, probe, fragment: fragment?, clamp_mss: clamp_mss? })
}

/// Keys that do not belong to what the SA is.
fn says_nothing(
    table: &Scope<'_>,
    keys: &[&'static Key],
    (belong, why): (bool, &str),
    problems: &mut Problems<'_>,
) {
    for entry in keys.iter().filter(|_| !belong).filter_map(|key| table.entry(key)) {
        entry.error(problems, format!("says nothing here: {why}"), "remove it");
    }
}

fn dscp(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Dscp> {
    match entry.as_text() {
        Some("copy") => return Some(Dscp::Copy),
        Some(text) => {
            let message = format!("{} is no DSCP", quote(text));
            entry.error(problems, message, "use \"copy\", a number of 0 to 63, or a table of numbers");
            return None;
        }
        None => {}
    }
    let Some(pairs) = entry.pairs() else {
        return code_point(entry, problems).map(Dscp::Set);
    };
    let (before, mut map) = (problems.errors(), Vec::with_capacity(pairs.len()));
    for (inner, outer) in pairs {
        let outer = code_point(&outer, problems);
        let Some(inner) = inner.parse().ok().filter(|inner| *inner <= LAST_DSCP) else {
            let message = format!("{} is no DSCP of an inner header", quote(inner));
            entry.error(problems, message, "write for example dscp = { 46 = 46, 0 = 10 }");
            continue;
        };
        map.extend(outer.map(|outer| (inner, outer)));
    }
    map.sort_unstable();
    (problems.errors() == before).then_some(Dscp::Map(map))
}

fn code_point(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<u8> {
    u8::try_from(entry.number(0..=u64::from(LAST_DSCP), problems)?).ok()
}

fn tfc(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Tfc> {
    match entry.as_text() {
        Some("none") => Some(Tfc::None),
        Some("mtu") => Some(Tfc::Mtu),
        Some(text) => {
            let hint = "use \"none\", \"mtu\", or the number of octets that sizes are a multiple of";
            entry.error(problems, format!("{} is unknown here", quote(text)), hint);
            None
        }
        None => {
            let multiple = entry.number(2..=u64::from(tun::LARGEST), problems)?;
            u16::try_from(multiple).ok().map(Tfc::Multiple)
        }
    }
}

/// The ends of probes: within what the SA may carry.
fn ends(
    entry: &Entry<'_>,
    (own, selectors): (&[IpAddr], &[Selector]),
    problems: &mut Problems<'_>,
) -> Option<Probe> {
    let table = entry.table(&probe::TABLE, problems)?;
    let from =
        table.read_or(&probe::FROM, None, problems, |e, problems| value::address(e, problems).map(Some));
    let to = value::address(&table.required(&probe::TO, problems)?, problems)?;
    let carries = |from: IpAddr| {
        let admits = |ranges: &[AddressRange], address| ranges.iter().any(|range| range.contains(address));
        selectors.iter().any(|selector| admits(&selector.local, from) && admits(&selector.remote, to))
    };
    let from = from?.or_else(|| own.iter().copied().find(|&own| carries(own)));
    let Some(from) = from.filter(|&from| carries(from)) else {
        let message = format!("the SA carries nothing between {to} and an address of ours");
        let hint =
            "name inner addresses that its `selectors` hold: `from` one of ours, `to` one of the peer's";
        entry.error(problems, message, hint);
        return None;
    };
    Some(Probe { from, to })
}

static ECNS: [(&str, Ecn); 2] = [("normal", Ecn::Normal), ("compatibility", Ecn::Compatibility)];
static DFS: [(&str, Df); 3] = [("copy", Df::Copy), ("set", Df::Set), ("clear", Df::Clear)];
static FLOW_LABELS: [(&str, FlowLabel); 3] =
    [("zero", FlowLabel::Zero), ("copy", FlowLabel::Copy), ("hash", FlowLabel::Hash)];
static DISCOVERIES: [(&str, Discovery); 3] =
    [("fixed", Discovery::Fixed), ("learn", Discovery::Learn), ("probe", Discovery::Probe)];
static FRAGMENTS: [(&str, Fragment); 2] = [("before", Fragment::Before), ("after", Fragment::After)];
const LAST_DSCP: u8 = 63;
/// As many packets are a flood and no keeping open.
const LEAST_KEEPALIVE: Duration = Duration::from_secs(1);
const LEAST_DUMMIES: Duration = Duration::from_millis(1);
/// What every IPv4 host takes (RFC 791).
const LEAST_FLOOR: u64 = 576;
