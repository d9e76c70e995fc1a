//! All that is known of a latch, as names and values.

use std::net::SocketAddr;
use std::time::Duration;

use latchway_control::{
    AnchorSpec, CertificateView, HeldView, IdentityView, LatchDetail, LatchNamed, OwnerKind, OwnerView,
    TunnelView,
};

use crate::cli::table::{Cell, Table, Tone, cell, toned};
use crate::cli::units::span;
use crate::cli::view::{latch_state, moment, policy};

/// A latch by its handle.
pub fn named(latch: &LatchNamed) -> Table {
    let mut table = Table::pairs();
    table.row([cell("latch"), cell(&latch.latch)]);
    table.row([cell("flow"), cell(&latch.flow)]);
    table.row([cell("state"), latch_state(latch.state)]);
    table
}

/// What it is, what it holds its connection to, and whose it is.
pub fn table(latch: &LatchDetail) -> Table {
    let mut table = Table::pairs();
    table.row([cell("latch"), cell(&latch.latch)]);
    table.row([cell("flow"), cell(&latch.flow)]);
    table.row([cell("state"), latch_state(latch.state)]);
    if let Some(reason) = &latch.reason {
        table.row([cell("reason"), toned(reason, Tone::Bad)]);
    }
    if let Some(offender) = &latch.offender {
        table.row([cell("offender"), cell(offender)]);
    }
    if !latch.demands.is_empty() {
        table.row([cell("demands"), cell(latch.demands.join(", "))]);
    }
    match &latch.held {
        Some(held) => held_rows(&mut table, held),
        None if latch.indeterminate => table.row([cell("protection"), toned("indeterminate", Tone::Faint)]),
        None => {}
    }
    if let Some(path) = &latch.tunnel {
        table.row([cell("tunnel"), cell(tunnel(path))]);
    }
    if let Some(rule) = &latch.rule {
        let selector = policy::selector(&rule.selector);
        table.row([cell("rule"), cell(format!("{}: {selector}", rule.action))]);
    }
    table.row([cell("owner"), cell(owner(&latch.owner))]);
    table.row([cell("binding"), binding(latch)]);
    let ago = |time: u64| format!("{} ago", span(Duration::from_millis(time)));
    table.row([cell("made"), cell(ago(latch.age))]);
    table.row([cell("last used"), cell(ago(latch.idle))]);
    table
}

/// The parameters that are latched, and who the two ends are.
pub fn held_rows(table: &mut Table, held: &HeldView) {
    table.row([cell("protection"), cell(&held.protection)]);
    for (name, identity) in [("peer", &held.peer), ("ourselves", &held.identity)] {
        if let Some(identity) = identity {
            identity_rows(table, name, identity);
        }
    }
}

fn identity_rows(table: &mut Table, name: &str, identity: &IdentityView) {
    let mut text = format!("{} ({})", identity.asserted, identity.kind);
    if let Some(method) = identity.method {
        text.push_str(&format!(", proven by {method}"));
    }
    if let Some(time) = identity.authenticated {
        text.push_str(&format!(" at {}", moment(time)));
    }
    if let Some(entry) = &identity.entry {
        text.push_str(&format!(", as entry {entry}"));
    }
    table.row([cell(name), cell(text)]);
    if let Some(CertificateView { subject, issuer, sha256 }) = &identity.certificate {
        table.row([cell("  certificate"), cell(format!("{subject}, by {issuer} (SHA-256 {sha256})"))]);
    }
    if let Some(AnchorSpec { subject, key_sha256 }) = &identity.trust_anchor {
        table.row([cell("  trust anchor"), cell(format!("{subject} (key's SHA-256 {key_sha256})"))]);
    }
    if let Some(key) = &identity.public_key {
        table.row([cell("  public key"), cell(key)]);
    }
}

/// Where its SAs lead.
pub fn tunnel(tunnel: &TunnelView) -> String {
    let end = |outer: SocketAddr, nat: Option<bool>, inner: Option<SocketAddr>| match (nat, inner) {
        (Some(true), Some(inner)) => format!("{outer} (behind a NAT, itself {inner})"),
        (Some(true), None) => format!("{outer} (behind a NAT)"),
        _ => outer.to_string(),
    };
    let local = end(tunnel.local, tunnel.local_nat, tunnel.local_inner);
    let remote = end(tunnel.remote, tunnel.remote_nat, tunnel.remote_inner);
    format!("{local} to {remote}")
}

fn owner(owner: &OwnerView) -> String {
    let pid = owner.pid.map(|pid| pid.to_string()).unwrap_or_default();
    let text = match owner.kind {
        OwnerKind::Packets => "the connection itself".to_owned(),
        OwnerKind::Control if pid.is_empty() => "a connection to control.sock".into(),
        OwnerKind::Control => format!("a connection to control.sock of process {pid}"),
        OwnerKind::Process => format!("process {pid}"),
    };
    owner.listener.as_ref().map_or(text.clone(), |listener| format!("{text}, by listener {listener}"))
}

fn binding(latch: &LatchDetail) -> Cell {
    match &latch.unbindable {
        None if latch.binding => toned("a channel may be bound to it", Tone::Good),
        None => toned("no channel may be bound to it", Tone::Faint),
        Some(why) => toned(format!("no channel may be bound to it: {why}"), Tone::Faint),
    }
}

#[cfg(test)]
pub mod tests {
    use latchway_control::{LatchState, MethodSpec, ModeSpec};

    use super::*;
    use crate::cli::view::shown;

    pub fn held() -> HeldView {
        HeldView {
            class: Some(3),
            protection: "esp tunnel aes-128-gcm".into(),
            mode: Some(ModeSpec::Tunnel),
            inbound_suite: Some("aes-128-gcm".into()),
            outbound_suite: Some("aes-128-gcm".into()),
            replay_checked: Some(true),
            peer: Some(IdentityView {
                asserted: "b.example".into(),
                kind: "fqdn".into(),
                method: Some(MethodSpec::Certificate),
                entry: Some("branch".into()),
                certificate: None,
                certificate_der: None,
                trust_anchor: Some(AnchorSpec {
                    subject: "CN=Example Root".into(),
                    key_sha256: "00ff".into(),
                }),
                public_key: None,
                authenticated: Some(1_000_000_000_123),
            }),
            identity: None,
        }
    }

    #[test]
    fn an_inquiry_reads_as_names_and_values() {
        let latch = LatchDetail {
            latch: "7.1".into(),
            flow: "tcp 10.1.0.1:40000 10.2.0.1:80".into(),
            protocol: 6,
            local: "10.1.0.1:40000".parse().unwrap(),
            remote: Some("10.2.0.1:80".parse().unwrap()),
            state: LatchState::Established,
            owner: OwnerView { kind: OwnerKind::Process, pid: Some(77), listener: Some("2.1".into()) },
            demands: vec!["peer b.example".into()],
            held: Some(held()),
            indeterminate: false,
            tunnel: Some(TunnelView {
                local: "192.0.2.1:4500".parse().unwrap(),
                remote: "192.0.2.2:4500".parse().unwrap(),
                local_nat: Some(false),
                remote_nat: Some(true),
                local_inner: None,
                remote_inner: Some("10.9.0.7:4500".parse().unwrap()),
            }),
            rule: None,
            reason: None,
            offender: None,
            binding: false,
            unbindable: Some("it was inferred from packets".into()),
            last_tag: None,
            age: 3_600_000,
            idle: 20,
        };
        let expected = "\
latch           7.1
flow            tcp 10.1.0.1:40000 10.2.0.1:80
state           established
demands         peer b.example
protection      esp tunnel aes-128-gcm
peer            b.example (fqdn), proven by certificate at 2001-09-09T01:46:40.123Z, as entry branch
  trust anchor  CN=Example Root (key's SHA-256 00ff)
tunnel          192.0.2.1:4500 to 192.0.2.2:4500 (behind a NAT, itself 10.9.0.7:4500)
owner           process 77, by listener 2.1
binding         no channel may be bound to it: it was inferred from packets
made            1 h ago
last used       20 ms ago
";
        assert_eq!(shown(&table(&latch), None), expected);
    }
}
