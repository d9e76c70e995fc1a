//! What is taken.

use latchway_control::{
    XfrmAction, XfrmDirection, XfrmEncap, XfrmLevel, XfrmLimits, XfrmMode, XfrmPolicy, XfrmPolicyBy,
    XfrmProtocol, XfrmState, XfrmStateFlag, XfrmStep, XfrmUpper,
};

use super::read;
use crate::{Command, Objects};

fn state(line: &str) -> XfrmState {
    match read(line) {
        Ok(Command::Apply(XfrmStep::AddState(state) | XfrmStep::UpdateState(state))) => *state,
        other => panic!("{line}: {other:?}"),
    }
}

fn policy(line: &str) -> XfrmPolicy {
    match read(line) {
        Ok(Command::Apply(XfrmStep::AddPolicy(policy) | XfrmStep::UpdatePolicy(policy))) => *policy,
        other => panic!("{line}: {other:?}"),
    }
}

const GCM: &str = "aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128";

#[test]
fn a_state_is_said_as_the_kernels_users_say_it() {
    let said = state(&format!(
        "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1000 reqid 7 mode tunnel replay-window 64 \
         flag esn af-unspec {GCM} sel src 10.1.0.0/16 dst 10.2.0.0/16 proto tcp dport 443 \
         limit time-hard 3600 limit byte-soft 1000 encap espinudp 4500 4501 0.0.0.0"
    ));
    assert_eq!((said.src.to_string(), said.dst.to_string()), ("192.0.2.1".into(), "192.0.2.2".into()));
    assert_eq!(
        (said.protocol, said.spi, said.reqid, said.mode),
        (XfrmProtocol::Esp, 0x1000, 7, XfrmMode::Tunnel)
    );
    assert_eq!(said.replay_window, Some(64));
    assert_eq!(said.flags, [XfrmStateFlag::AfUnspec, XfrmStateFlag::Esn]);
    assert_eq!(
        said.algorithms.first().map(|aead| (aead.name.as_str(), aead.bits)),
        Some(("rfc4106(gcm(aes))", Some(128)))
    );
    let selector = said.selector.clone().unwrap();
    assert_eq!((selector.src.to_string(), selector.protocol), ("10.1.0.0/16".into(), 6));
    assert_eq!(selector.upper, XfrmUpper::Ports(None, Some(443)));
    let limits = XfrmLimits { time_hard: Some(3600), byte_soft: Some(1000), ..XfrmLimits::default() };
    assert_eq!(said.limits, limits);
    assert_eq!(said.encap, Some(XfrmEncap { sport: 4500, dport: 4501, oa: [0, 0, 0, 0].into() }));
}

#[test]
fn defaults_are_those_of_the_kernel_but_for_the_window() {
    let said = state(&format!("state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 256 {GCM}"));
    assert_eq!((said.mode, said.reqid, said.flags.len()), (XfrmMode::Transport, 0, 0));
    assert_eq!((said.replay_window, said.window()), (None, 4096));
    assert_eq!(
        state(&format!("state add src ::1 dst ::2 proto esp spi 256 replay-window 0 {GCM}")).window(),
        0
    );
}

#[test]
fn words_may_come_in_any_order_and_be_abbreviated() {
    let long =
        state(&format!("state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 256 mode tunnel {GCM} reqid 1"));
    let short = state(&format!("s a {GCM} reqid 1 mode tun spi 256 proto esp dst 192.0.2.2 src 192.0.2.1"));
    assert_eq!(long, short);
    assert_eq!(
        state(&format!("sa up src 192.0.2.1 dst 192.0.2.2 proto esp spi 256 mode tu {GCM} reqid 01")),
        long
    );
}

#[test]
fn keys_are_hexadecimal_or_text_and_odd_digits_begin_with_a_zero() {
    let with = |key: &str| {
        let line = format!("state add src ::1 dst ::2 proto ah spi 256 auth-trunc 'hmac(sha256)' {key} 128");
        state(&line).algorithms.first().map(|algorithm| algorithm.key.expose().to_owned()).unwrap()
    };
    assert_eq!(with("0xabc"), "0abc");
    assert_eq!(with("0xABCD"), "abcd");
    assert_eq!(with("abc"), "616263");
    assert_eq!(with("0x"), "3078");
    assert_eq!(with("''"), "");
    assert_eq!(with(&format!("0x{}", "ab".repeat(512))).len(), 1024);
}

#[test]
fn numbers_go_on_where_they_are_said_to() {
    let said = state(&format!(
        "state add src ::1 dst ::2 proto esp spi 256 flag esn {GCM} replay-seq 1 replay-seq-hi 2 replay-oseq 3 \
         replay-oseq-hi 4"
    ));
    assert_eq!((said.replay_seq, said.replay_oseq), (2 << 32 | 1, 4 << 32 | 3));
}

#[test]
fn what_makes_no_difference_is_taken() {
    for nothing in [
        "mark 0 mask 0",
        "output-mark 5 mask 0",
        "if_id 0",
        "offload dev eth0 dir in",
        "offload packet dev eth0 dir out",
    ] {
        let said = state(&format!("state add src ::1 dst ::2 proto esp spi 256 {nothing} {GCM}"));
        assert_eq!(said, state(&format!("state add src ::1 dst ::2 proto esp spi 256 {GCM}")), "{nothing}");
    }
    assert_eq!(read("policy set hthresh4 24 32 hthresh6 64 128"), Ok(Command::Nothing));
}

#[test]
fn a_policy_is_said_as_the_kernels_users_say_it() {
    let said = policy(
        "policy add src 10.1.0.0/16 dst 10.2.0.0/16 proto udp sport 53 dir out priority 10 ptype main flag localok icmp \
         tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 7 mode tunnel tmpl proto ah level use",
    );
    assert_eq!((said.direction, said.priority, said.action), (XfrmDirection::Out, 10, XfrmAction::Allow));
    assert_eq!(said.selector.upper, XfrmUpper::Ports(Some(53), None));
    let [outer, inner] = said.templates.as_slice() else { panic!("{said:?}") };
    assert_eq!((outer.mode, outer.reqid, outer.level), (XfrmMode::Tunnel, 7, XfrmLevel::Required));
    assert_eq!(
        (inner.protocol, inner.mode, inner.level),
        (XfrmProtocol::Ah, XfrmMode::Transport, XfrmLevel::Use)
    );
    assert!(inner.src.is_unspecified() && inner.dst.is_unspecified());
    assert_eq!(policy("policy add dir in").selector.to_owned().src.to_string(), "0.0.0.0/0");
    assert_eq!(policy("-6 policy add dir in").selector.to_owned().src.to_string(), "::/0");
    assert_eq!(policy("policy add dst fd00::/8 dir fwd").selector.src.to_string(), "::/0");
}

#[test]
fn the_upper_layer_has_ports_types_or_a_key() {
    let upper = |said: &str| policy(&format!("policy add src 10/8 {said} dir out")).selector.upper;
    assert_eq!(upper("proto icmp type 8 code 0"), XfrmUpper::Icmp(Some(8), Some(0)));
    assert_eq!(upper("proto ipv6-icmp type 128"), XfrmUpper::Icmp(Some(128), None));
    assert_eq!(upper("proto gre key 1.2.3.4"), XfrmUpper::Key(0x0102_0304));
    assert_eq!(upper("proto gre key 7"), XfrmUpper::Key(7));
    assert_eq!(upper("proto tcp sport 0"), XfrmUpper::Any);
    assert_eq!(upper("proto 89"), XfrmUpper::Any);
}

#[test]
fn policies_are_named_by_selector_or_index() {
    let Ok(Command::Apply(XfrmStep::DeletePolicy(id))) = read("policy delete index 9 dir out") else {
        panic!()
    };
    assert_eq!(id.by, XfrmPolicyBy::Index(9));
    let Ok(Command::GetPolicy(id)) = read("policy get src 10/8 dst 10/8 dir in") else { panic!() };
    assert!(matches!(id.by, XfrmPolicyBy::Selector(_)));
}

#[test]
fn every_command_is_known_by_its_abbreviations() {
    for (line, is) in [
        ("state", "ListStates"),
        ("state list", "ListStates"),
        ("state show src 192.0.2.0/24 nokeys", "ListStates"),
        ("state deleteall proto esp", "DeleteStates"),
        ("state delall", "DeleteStates"),
        ("state count", "CountStates"),
        ("state c", "CountStates"),
        ("state get dst 192.0.2.2 proto ah spi 300", "GetState"),
        ("state del dst 192.0.2.2 proto ah spi 300", "Apply(DeleteState"),
        ("state flush", "Apply(FlushStates { protocol: None"),
        ("state f proto ah", "Apply(FlushStates { protocol: Some(Ah"),
        ("state flush proto ipsec-any", "Apply(FlushStates { protocol: None"),
        ("p", "ListPolicies"),
        ("policy lst dir in", "ListPolicies"),
        ("policy list nosock priority 3 action block", "ListPolicies"),
        ("policy deleteall", "DeletePolicies"),
        ("policy count", "CountPolicies"),
        ("policy flush ptype main", "Apply(FlushPolicies"),
        ("policy getdefault", "DefaultPolicy"),
        ("help", "Help"),
        ("state help", "Help"),
    ] {
        let read = read(&format!("xfrm {line}")).map(|command| format!("{command:?}"));
        assert!(read.as_ref().is_ok_and(|read| read.starts_with(is)), "{line}: {read:?}");
    }
}

#[test]
fn a_monitor_tells_of_all_or_of_what_is_named() {
    assert_eq!(read("xfrm monitor"), Ok(Command::Monitor(Objects::ALL)));
    assert_eq!(read("xfrm mon all"), Ok(Command::Monitor(Objects::ALL)));
    let some = Objects { states: true, acquire: true, ..Objects::default() };
    assert_eq!(read("xfrm monitor SA acq"), Ok(Command::Monitor(some)));
}

#[test]
fn lists_are_of_what_is_meant() {
    let one = state(&format!(
        "state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 256 reqid 3 flag esn mode tunnel {GCM}"
    ));
    for (filter, meant) in [
        ("", true),
        ("src 192.0.2.0/24", true),
        ("src 192.0.3.0/24", false),
        ("dst 192.0.2.2 proto esp spi 256", true),
        ("proto ah", false),
        ("mode tunnel reqid 3", true),
        ("reqid 4", false),
        ("flag esn noecn", true),
        ("flag noecn", false),
    ] {
        let Ok(Command::ListStates(read)) = read(&format!("state list {filter}")) else { panic!("{filter}") };
        assert_eq!(read.admits(&one), meant, "{filter}");
    }
    let Ok(Command::ListStates(sixes)) = read("-6 state list") else { panic!() };
    assert!(!sixes.admits(&one));
    let one = policy("policy add src 10.1.0.0/16 dst 10.2.0.0/16 proto tcp dport 80 dir out priority 4");
    for (filter, meant) in [
        ("", true),
        ("dir out", true),
        ("dir in", false),
        ("src 10.0.0.0/8", true),
        ("proto tcp dport 80 dir out", true),
        ("proto tcp dport 81", false),
        ("priority 4 action allow", true),
        ("action block", false),
        ("flag icmp", false),
    ] {
        let Ok(Command::ListPolicies(read)) = read(&format!("policy list {filter}")) else {
            panic!("{filter}")
        };
        assert_eq!(read.admits(&one), meant, "{filter}");
    }
}
