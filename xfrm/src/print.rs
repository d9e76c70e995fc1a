//! States, policies and events as `ip xfrm` prints them.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};

use latchway_control::{
    XfrmAction, XfrmAlgorithm, XfrmAlgorithmKind, XfrmDirection, XfrmEvent, XfrmEventKind, XfrmLevel,
    XfrmLimits, XfrmPolicyFlag, XfrmPolicyRow, XfrmSelector, XfrmState, XfrmStateFlag, XfrmStateRow,
    XfrmTemplate, XfrmUpper, XfrmUsed,
};

use crate::protocol;

/// How things are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// How many times more was wanted.
    pub statistics: u8,
    /// Whether keys are shown, where they are known.
    pub keys: bool,
    /// A line each.
    pub oneline: bool,
    /// When events happened.
    pub timestamp: bool,
}

/// A state.
#[must_use]
pub fn state(row: &XfrmStateRow, shown: Shown) -> String {
    shown.ended(written(|out| state_text(out, row, shown)))
}

/// A policy.
#[must_use]
pub fn policy(row: &XfrmPolicyRow, shown: Shown) -> String {
    shown.ended(written(|out| policy_text(out, row, shown, "", "")))
}

/// How many states there are.
#[must_use]
pub fn state_count(count: usize, shown: Shown) -> String {
    shown.ended(format!("\t SAD count {count}\n"))
}

/// How many policies there are.
#[must_use]
pub fn policy_count<'p>(policies: impl IntoIterator<Item = &'p XfrmPolicyRow>, shown: Shown) -> String {
    let (mut inbound, mut outbound, mut forwarded) = (0, 0, 0);
    for row in policies {
        let count = match row.policy.direction {
            XfrmDirection::In => &mut inbound,
            XfrmDirection::Out => &mut outbound,
            XfrmDirection::Fwd => &mut forwarded,
        };
        *count += 1_u64;
    }
    let sockets = if shown.statistics > 0 { " (Sock: IN 0 OUT 0 FWD 0)" } else { "" };
    shown.ended(format!("\t SPD IN  {inbound} OUT {outbound} FWD {forwarded}{sockets}\n"))
}

/// Something that happened.
#[must_use]
pub fn event(event: &XfrmEvent, shown: Shown) -> String {
    shown.ended(written(|out| event_text(out, event, shown)))
}

impl Shown {
    fn ended(self, text: String) -> String {
        if self.oneline { text.replace('\n', "\\") + "\n" } else { text }
    }

    const fn more(self) -> bool {
        self.statistics > 0
    }
}

/// Nothing that is written to a string fails.
fn written(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut out = String::new();
    let _ = write(&mut out);
    out
}

fn state_text(out: &mut String, row: &XfrmStateRow, shown: Shown) -> fmt::Result {
    let XfrmStateRow { state, used, .. } = row;
    writeln!(out, "src {} dst {}", state.src, state.dst)?;
    write!(out, "\tproto {} spi {:#010x}", state.protocol, state.spi)?;
    if shown.more() {
        write!(out, "({})", state.spi)?;
    }
    write!(out, " reqid {}", state.reqid)?;
    if shown.more() {
        write!(out, "({:#010x})", state.reqid)?;
    }
    writeln!(out, " mode {}", state.mode)?;
    write!(out, "\treplay-window {} ", state.window())?;
    if shown.more() {
        write!(out, "seq {:#010x} ", state.seq)?;
    }
    flags(out, state, shown)?;
    writeln!(out)?;
    algorithms(out, state, shown)?;
    if let Some(encap) = state.encap {
        writeln!(out, "\tencap type espinudp sport {} dport {} addr {}", encap.sport, encap.dport, encap.oa)?;
    }
    if let Some(last) = used.last_used {
        writeln!(out, "\tlastused {}", moment(last))?;
    }
    numbers(out, state)?;
    if state.tfcpad > 0 {
        writeln!(out, "\ttfcpad {}", state.tfcpad)?;
    }
    if let Some(selector) = &state.selector {
        write!(out, "\tsel ")?;
        selector_text(out, selector, shown)?;
    }
    if shown.more() {
        lifetime(out, &state.limits, used, "\t")?;
        writeln!(out, "\tstats:\n\t  replay-window 0 replay 0 failed 0")?;
    }
    Ok(())
}

fn flags(out: &mut String, state: &XfrmState, shown: Shown) -> fmt::Result {
    let plain: Vec<_> = state.flags.iter().filter(|flag| **flag != XfrmStateFlag::DontEncapDscp).collect();
    if shown.more() || !plain.is_empty() {
        write!(out, "flag {}", names(plain.iter().map(|flag| flag.name())))?;
    }
    if shown.more() {
        let place = |flag: &&XfrmStateFlag| XfrmStateFlag::ALL.iter().position(|other| other == *flag);
        let mask = plain.iter().filter_map(place).fold(0, |mask, place| mask | 1_u32 << place);
        write!(out, " (0x{mask:08b})")?;
    }
    if state.has(XfrmStateFlag::DontEncapDscp) {
        let space = if shown.more() || !plain.is_empty() { " " } else { "" };
        write!(out, "{space}extra_flag dont-encap-dscp")?;
    }
    Ok(())
}

/// Integrity first, as the kernel has it.
fn algorithms(out: &mut String, state: &XfrmState, shown: Shown) -> fmt::Result {
    let mut algorithms: Vec<_> = state.algorithms.iter().collect();
    algorithms.sort_by_key(|algorithm| matches!(algorithm.kind, XfrmAlgorithmKind::Enc));
    for XfrmAlgorithm { kind, name, key, bits } in algorithms {
        write!(out, "\t{kind} {name} ")?;
        match key.expose() {
            // A cipher that has no key hides none.
            "" if shown.keys || name.contains("cipher_null") => {}
            digits if shown.keys => write!(out, "0x{digits}")?,
            _ => write!(out, "<<Keys hidden>>")?,
        }
        if shown.more() && shown.keys {
            write!(out, " ({} bits)", key.expose().len() * 4)?;
        }
        match bits {
            Some(bits) => writeln!(out, " {bits}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

/// Where its numbers are.
fn numbers(out: &mut String, state: &XfrmState) -> fmt::Result {
    let (seq, oseq) = (state.replay_seq, state.replay_oseq);
    let high = |number: u64| number >> 32;
    let low = |number: u64| number & u64::from(u32::MAX);
    if state.has(XfrmStateFlag::Esn) {
        writeln!(out, "\tanti-replay esn context:")?;
        writeln!(
            out,
            "\t seq-hi {:#x}, seq {:#x}, oseq-hi {:#x}, oseq {:#x}",
            high(seq),
            low(seq),
            high(oseq),
            low(oseq)
        )?;
        writeln!(out, "\t replay_window {}, bitmap-length 0", state.window())
    } else {
        writeln!(out, "\tanti-replay context: seq {:#x}, oseq {:#x}, bitmap 0x00000000", low(seq), low(oseq))
    }
}

fn policy_text(
    out: &mut String,
    row: &XfrmPolicyRow,
    shown: Shown,
    title: &str,
    prefix: &str,
) -> fmt::Result {
    let XfrmPolicyRow { policy, added } = row;
    write!(out, "{title}")?;
    selector_text(out, &policy.selector, shown)?;
    write!(out, "{prefix}\tdir {} ", policy.direction)?;
    if shown.more() || policy.action == XfrmAction::Block {
        write!(out, "action {} ", policy.action)?;
    }
    if shown.more() {
        write!(out, "index {} ", policy.index)?;
    }
    write!(out, "priority {} ptype main ", policy.priority)?;
    if shown.more() {
        write!(out, "share any ")?;
    }
    if shown.more() || !policy.flags.is_empty() {
        write!(out, "flag {}", names(policy.flags.iter().map(|flag| flag.name())))?;
    }
    if shown.more() {
        let bit = |flag: &XfrmPolicyFlag| if *flag == XfrmPolicyFlag::LocalOk { 1 } else { 2 };
        write!(out, " (0x{:08b})", policy.flags.iter().map(bit).fold(0, |mask, bit| mask | bit))?;
    }
    writeln!(out)?;
    if shown.more() {
        let used = XfrmUsed { added: *added, ..XfrmUsed::default() };
        lifetime(out, &policy.limits, &used, &format!("{prefix}\t"))?;
    }
    policy.templates.iter().try_for_each(|template| template_text(out, template, shown, prefix))
}

fn template_text(out: &mut String, template: &XfrmTemplate, shown: Shown, prefix: &str) -> fmt::Result {
    let XfrmTemplate { src, dst, protocol, spi, reqid, mode, level } = template;
    writeln!(out, "{prefix}\ttmpl src {src} dst {dst}")?;
    write!(out, "{prefix}\t\tproto {protocol} ")?;
    if shown.more() {
        write!(out, "spi {spi:#010x}({spi}) ")?;
    } else if *spi != 0 {
        write!(out, "spi {spi:#010x} ")?;
    }
    write!(out, "reqid {reqid}")?;
    if shown.more() {
        write!(out, "({reqid:#010x})")?;
    }
    writeln!(out, " mode {mode}")?;
    if shown.more() {
        writeln!(out, "{prefix}\t\tlevel {level} share any ")?;
        writeln!(out, "{prefix}\t\tenc-mask ffffffff auth-mask ffffffff comp-mask ffffffff")?;
    } else if *level == XfrmLevel::Use {
        writeln!(out, "{prefix}\t\tlevel use ")?;
    }
    Ok(())
}

fn selector_text(out: &mut String, selector: &XfrmSelector, shown: Shown) -> fmt::Result {
    let XfrmSelector { src, dst, protocol, upper, dev } = selector;
    write!(out, "src {src} dst {dst} ")?;
    if *protocol != 0 {
        write!(out, "proto {} ", protocol::name(*protocol))?;
    }
    let (first, second) = match upper {
        XfrmUpper::Any => (None, None),
        XfrmUpper::Ports(sport, dport) => {
            (sport.map(|port| format!("sport {port} ")), dport.map(|port| format!("dport {port} ")))
        }
        XfrmUpper::Icmp(kind, code) => {
            (kind.map(|kind| format!("type {kind} ")), code.map(|code| format!("code {code} ")))
        }
        XfrmUpper::Key(key) => (Some(format!("key {key} ")), None),
    };
    write!(out, "{}{}", first.unwrap_or_default(), second.unwrap_or_default())?;
    if let Some(dev) = dev {
        write!(out, "dev {dev} ")?;
    }
    if shown.more() {
        write!(out, "uid 0")?;
    }
    writeln!(out)
}

fn lifetime(out: &mut String, limits: &XfrmLimits, used: &XfrmUsed, prefix: &str) -> fmt::Result {
    let limit = |limit: Option<u64>| limit.map_or("(INF)".to_owned(), |limit| limit.to_string());
    let seconds = |limit: Option<u64>| limit.unwrap_or(0);
    writeln!(out, "{prefix}lifetime config:")?;
    let (soft, hard) = (limit(limits.byte_soft), limit(limits.byte_hard));
    writeln!(out, "{prefix}  limit: soft {soft}(bytes), hard {hard}(bytes)")?;
    let (soft, hard) = (limit(limits.packet_soft), limit(limits.packet_hard));
    writeln!(out, "{prefix}  limit: soft {soft}(packets), hard {hard}(packets)")?;
    let (soft, hard) = (seconds(limits.time_soft), seconds(limits.time_hard));
    writeln!(out, "{prefix}  expire add: soft {soft}(sec), hard {hard}(sec)")?;
    let (soft, hard) = (seconds(limits.time_use_soft), seconds(limits.time_use_hard));
    writeln!(out, "{prefix}  expire use: soft {soft}(sec), hard {hard}(sec)")?;
    writeln!(out, "{prefix}lifetime current:")?;
    writeln!(out, "{prefix}  {}(bytes), {}(packets)", used.octets, used.packets)?;
    let last = used.last_used.map_or("-".to_owned(), moment);
    writeln!(out, "{prefix}  add {} use {last}", moment(used.added))
}

fn event_text(out: &mut String, event: &XfrmEvent, shown: Shown) -> fmt::Result {
    use XfrmEventKind as Kind;
    if shown.timestamp {
        write!(out, "[{}] ", moment(event.at).replace(' ', "T"))?;
    }
    match event.kind {
        Kind::StateDeleted | Kind::PolicyDeleted => write!(out, "Deleted ")?,
        Kind::StateUpdated | Kind::PolicyUpdated => write!(out, "Updated ")?,
        Kind::SoftExpired | Kind::HardExpired => write!(out, "Expired ")?,
        Kind::StatesFlushed => {
            let protocol = event.state.as_ref().map(|row| row.state.protocol.name());
            return writeln!(out, "Flushed state proto {}", protocol.unwrap_or("0"));
        }
        Kind::PoliciesFlushed => return writeln!(out, "Flushed policy "),
        Kind::Acquire => return acquire(out, event, shown),
        Kind::Lost => return writeln!(out, "Lost events: they were not read in time"),
        Kind::Begun | Kind::StateAdded | Kind::PolicyAdded => {}
    }
    let hidden = Shown { keys: false, ..shown };
    event.state.as_ref().map_or(Ok(()), |row| state_text(out, row, hidden))?;
    event.policy.as_ref().map_or(Ok(()), |row| policy_text(out, row, shown, "", ""))?;
    match event.kind {
        Kind::SoftExpired => writeln!(out, "\thard 0"),
        Kind::HardExpired => writeln!(out, "\thard 1"),
        _ => Ok(()),
    }
}

fn acquire(out: &mut String, event: &XfrmEvent, shown: Shown) -> fmt::Result {
    let template = event.policy.as_ref().and_then(|row| row.policy.templates.first());
    writeln!(out, "acquire proto {} ", template.map_or("esp", |template| template.protocol.name()))?;
    if let Some(flow) = &event.flow {
        write!(out, "  sel ")?;
        selector_text(out, flow, shown)?;
    }
    event.policy.as_ref().map_or(Ok(()), |row| policy_text(out, row, shown, "  policy ", "    "))?;
    writeln!(out)
}

fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.collect::<Vec<_>>().join(" ")
}

/// A moment in milliseconds since 1970, in UTC.
fn moment(milliseconds: u64) -> String {
    // Later than the year 9999 is nobody's clock.
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds.min(LATEST));
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', "")
}

const LATEST: u64 = 253_402_300_799_000;
