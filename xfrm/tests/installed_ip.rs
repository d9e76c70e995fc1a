//! The installed `ip xfrm` and this grammar, asked the same: what one takes the other takes, and both print it alike.
//!
//! Policies alone: a kernel without ESP takes no state, but prints every policy it was given.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use latchway_control::{XfrmPolicyRow, XfrmStep};
use latchway_netns::Namespace;
use latchway_netns::skip::{self, Need};
use latchway_netns::testing::namespaced;
use latchway_xfrm::{Command as Said, Family, Shown, import, lines, policy, policy_count};

/// What both take, each on its own: they meet in selector and direction.
const TAKEN: [&str; 21] = [
    "xfrm policy add dir in",
    "xfrm policy add src 10.0.0.0/24 dst 10.0.1.0/24 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 7 mode tunnel",
    "xfrm p a src 10/8 dst 10.1 dir fwd priority 12 action block",
    "xfrm policy update src 10.0.0.0/255.255.0.0 proto tcp sport 80 dport 0x50 dir in flag localok icmp",
    "xfrm policy add dst 10.3.0.0/16 proto udp dport 53 dir out flag 0x2 ptype main",
    "xfrm policy add dst 10.3.0.0/16 proto icmp type 8 code 0 dir out",
    "xfrm policy add dst fd00::/64 proto ipv6-icmp type 129 dir out",
    "xfrm policy add src fd00::1 dst fd00::/64 proto 50 dir in tmpl proto ah mode transport level use",
    "xfrm policy add src 10.4.0.0/16 proto gre key 1.2.3.4 dir in",
    "xfrm policy add src 10.4.0.0/16 proto gre key 77 dir out",
    "xfrm policy add src 10.5.0.0/16 proto sctp sport 5 dir out",
    "xfrm policy add src 10.5.0.0/16 proto dccp dport 6 dir fwd",
    "xfrm policy add src 10.6.0.0/16 proto any dir in",
    "xfrm policy add src 10.7.0.0/16 proto ospf dir in",
    "xfrm policy add src 10.8.0.0/16 dir in limit byte-hard 1000 limit time-soft 1000 limit packet-soft 18446744073709551615",
    "xfrm policy add src 10.9.0.0/16 dir out priority 0x10 tmpl proto esp spi 0x1234 mode trans tmpl proto ah level required",
    "xfrm policy add src 10.10.0.0/16 dir out tmpl src fd00::1 dst fd00::2 proto esp mode tu",
    "xfrm policy add src 10.11.0.0/16 dir in index 0x800",
    "xfrm policy add src 10.12.1.2/16 dst 10.13.3.4/12 dir out",
    "xfrm policy add src 10.14.0.0/16 proto tcp dport 0 dir out",
    "xfrm policy add src 10.15.0.0/16 sport 5 dir out",
];

/// What neither takes.
const NOT_TAKEN: [&str; 15] = [
    "xfrm policy add src 10.0.0.0/24",
    "xfrm policy add dir sideways",
    "xfrm policy add dir in dir out",
    "xfrm policy add src 10.0.0.0/33 dir in",
    "xfrm policy add src 10.0.0.0/8 dst fd00::1 dir in",
    "xfrm policy add src any dir in",
    "xfrm policy add src 10/8 proto icmp sport 5 dir in",
    "xfrm policy add src 10/8 proto tcp key 5 dir in",
    "xfrm policy add src 10/8 proto icmp type 256 dir in",
    "xfrm policy add dir in action maybe",
    "xfrm policy add dir in priority -1",
    "xfrm policy add dir in tmpl mode tunnel",
    "xfrm policy add dir in tmpl proto esp mode bridge",
    "xfrm policy delete dir in",
    "xfrm policy nonsense",
];

fn ip(words: &[&str], input: &str) -> Output {
    let mut ip = Command::new("ip");
    ip.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = ip.spawn().unwrap();
    running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    running.wait_with_output().unwrap()
}

fn read(line: &str) -> Result<Said, String> {
    let (_, words) = lines(line).next().unwrap();
    words.and_then(|words| Said::read(&words, Family::Any)).map_err(|error| error.to_string())
}

/// In a namespace that has no policy yet.
fn fresh(scenario: impl FnOnce() + Send) {
    Namespace::create("xfrm").unwrap().run(scenario).unwrap();
}

#[test]
fn what_both_take_both_print_alike() {
    let name = "what_both_take_both_print_alike";
    if !skip::require(name, &[Need::Program("ip")]) {
        return;
    }
    namespaced(name, || {
        fresh(|| {
            let mut rows = Vec::new();
            for line in TAKEN {
                let told = ip(&["-batch", "-"], &format!("{line}\n"));
                assert!(told.status.success(), "{line}: {}", String::from_utf8_lossy(&told.stderr));
                let Ok(Said::Apply(XfrmStep::AddPolicy(said) | XfrmStep::UpdatePolicy(said))) = read(line)
                else {
                    panic!("{line}: {:?}", read(line))
                };
                rows.insert(0, XfrmPolicyRow { policy: *said, added: 0 });
            }
            let printed = String::from_utf8(ip(&["xfrm", "policy"], "").stdout).unwrap();
            let ours: String = rows.iter().map(|row| policy(row, Shown::default())).collect();
            for (ours, theirs) in sorted(&ours).iter().zip(sorted(&printed)) {
                assert_eq!(*ours, theirs);
            }
            assert_eq!(sorted(&ours).len(), sorted(&printed).len());
            let counted = String::from_utf8(ip(&["xfrm", "policy", "count"], "").stdout).unwrap();
            assert_eq!(policy_count(&rows, Shown::default()), counted);
            imports_what_it_prints(&rows);
        });
    });
}

/// With more details, everything but indices and moments, which are the kernel's own.
fn imports_what_it_prints(rows: &[XfrmPolicyRow]) {
    let printed = String::from_utf8(ip(&["-s", "xfrm", "policy"], "").stdout).unwrap();
    let imported = import(&printed).unwrap().policies;
    assert_eq!(imported.len(), rows.len());
    for row in rows {
        let same = |other: &&latchway_control::XfrmPolicy| {
            let index = if row.policy.index == 0 { other.index } else { row.policy.index };
            **other == latchway_control::XfrmPolicy { index, ..row.policy.clone() }
        };
        let again = imported.iter().find(same);
        let Some(again) = again else { panic!("{row:?} is not among {imported:#?}") };
        let shown = Shown { statistics: 1, ..Shown::default() };
        let ours = policy(&XfrmPolicyRow { policy: again.clone(), added: 0 }, shown);
        let without_moments = |text: &str| {
            let kept = text.lines().filter(|line| !line.trim_start().starts_with("add ")).map(str::to_owned);
            kept.collect::<Vec<_>>()
        };
        let theirs =
            records(&printed).into_iter().find(|record| without_moments(record) == without_moments(&ours));
        assert!(theirs.is_some(), "{ours}\nis not among\n{printed}");
    }
}

/// Kernels differ in the order in which they list.
fn sorted(printed: &str) -> Vec<String> {
    let mut records = records(printed);
    records.sort();
    records
}

fn records(printed: &str) -> Vec<String> {
    let mut records: Vec<String> = Vec::new();
    for line in printed.lines() {
        match records.last_mut() {
            Some(record) if line.starts_with('\t') => record.push_str(&format!("{line}\n")),
            _ => records.push(format!("{line}\n")),
        }
    }
    records
}

#[test]
fn what_neither_takes_neither_takes() {
    let name = "what_neither_takes_neither_takes";
    if !skip::require(name, &[Need::Program("ip")]) {
        return;
    }
    namespaced(name, || {
        fresh(|| {
            for line in NOT_TAKEN {
                assert!(!ip(&["-batch", "-"], &format!("{line}\n")).status.success(), "{line}");
                assert!(read(line).is_err(), "{line}: {:?}", read(line));
            }
        });
    });
}
