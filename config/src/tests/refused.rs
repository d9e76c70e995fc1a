//! Files that are wrong: each fault is reported at its place, with what to do.

mod policies;
mod sas;
mod shapes;

use std::fmt::Write;
use std::time::Instant;

use super::*;

/// A configuration to put faults into: lines 1 to 6, then the peer's from 7 on.
const HEAD: &str = r#"identity = "a.example"
inner = "branch"
addresses = ["10.1.0.1/24"]
listen = ["192.0.2.1:4500"]
state = "state"
"#;
const PEER: &str = r#"[[peer]]
identity = "b.example"
endpoint = "192.0.2.2:4500"
inner = ["10.2.0.0/24"]
"#;
const SA: &str = r#"[[peer.sa]]
inbound = { spi = 0x1001, key_file = "in.key" }
outbound = { spi = 0x1002, key_file = "out.key" }
"#;

/// What is reported of a file; each line and its hint are one.
fn problems(text: &str) -> Vec<String> {
    let report = match parse(text) {
        Ok(parsed) => parsed.warnings,
        Err(report) => {
            assert!(report.errors().count() > 0);
            report
        }
    };
    report.problems.iter().map(|problem| problem.to_string().replace("\n    hint: ", " | ")).collect()
}

/// The file has this one problem, whose line begins like that and contains these.
#[track_caller]
fn only(text: &str, place: &str, says: &[&str]) {
    let problems = problems(text);
    let [problem] = problems.as_slice() else { panic!("{place} alone: {problems:#?}\n{text}") };
    assert!(problem.starts_with(place), "{place}: {problem}");
    for says in says {
        assert!(problem.contains(says), "{says}: {problem}");
    }
}

/// As [`only`], with the peer and its SAs behind `head`.
#[track_caller]
fn in_head(head: &str, place: &str, says: &[&str]) {
    only(&format!("{HEAD}{head}\n{PEER}{SA}"), place, says);
}

#[test]
fn the_base_of_these_tests_is_right() {
    assert_eq!(problems(&format!("{HEAD}\n{PEER}{SA}")), Vec::<String>::new());
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = r#"identity = "a b"
addresses = ["10.1.0.0/24", 7]
lisen = []
[tun]
name = "much-too-long-a-name"
mtu = 10
[[peer]]
endpoint = "nowhere"
inner = "10.2.0.0/33"
[[peer.sa]]
suite = "rot13"
inbound = { spi = 255, key_file = "" }
replay_window = 0
"#;
    let problems = problems(text);
    let places: Vec<_> = problems.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "1:12", "2:14", "2:29", "3:1", "5:8", "6:7", "7:1", "8:12", "9:9", "10:1", "11:9", "12:19",
            "12:35", "13:17"
        ],
        "{problems:#?}"
    );
}

#[test]
fn syntax_errors_are_reported_all() {
    let problems = problems("identity = \nname = \"x\" y\n[tun\n");
    let places: Vec<_> = problems.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert!(places.len() >= 3, "{problems:#?}");
    assert!(problems.iter().all(|problem| problem.contains("this is no TOML")), "{problems:#?}");
    only("name = \"a\"\nname = \"b\"", "2:1: error: this is no TOML", &["duplicate"]);
}

/// T40: a key that went to a wrong place is not shown.
#[test]
fn t40_no_report_shows_a_key() {
    const KEY: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
    for wrong in [
        format!("inbound = {{ spi = 0x1001, key_file = \"{KEY}\" }}"),
        format!("inbound = {{ spi = \"{KEY}\", key_file = \"in.key\" }}"),
        format!("inbound = {{ spi = 0x1001, key_file = \"in.key\", key = \"{KEY}\" }}"),
        format!("inbound = {{ spi = 0x1001, key_file = \"in.key\", {KEY} = 1 }}"),
        format!("inbound = \"{KEY}\""),
        format!("suite = \"{KEY}\""),
        format!("from = \"{KEY}\""),
    ] {
        let text = format!("{HEAD}{PEER}[[peer.sa]]\n{wrong}\n");
        let problems = problems(&text);
        assert!(!problems.is_empty());
        assert!(problems.iter().all(|problem| !problem.contains("c0ffee")), "{problems:#?}");
    }
    in_head("key = \"00\"", "6:1: error: there is no key", &["key_file"]);
}

#[test]
fn unknown_keys_are_refused_with_the_name_that_was_meant() {
    in_head("lacth = false", "6:1: error: there is no key \"lacth\"", &["did you mean `latch`?"]);
    in_head("frobnicate = false", "6:1: error: there is no key", &["the keys here are name, identity,"]);
    only(&format!("{HEAD}{PEER}iner = 1\n"), "10:1: error: peer: there is no key \"iner\"", &["`inner`"]);
    in_head("[[peers]]\nidentity = \"c.example\"", "6:3: error: there is no key", &["did you mean `peer`?"]);
}

#[test]
fn what_must_be_there_is_asked_for() {
    only("", "1:1: error: `identity` is missing", &["say identity = \"a.example\""]);
    only(&format!("{HEAD}[[peer]]\nidentity = \"b\"\n"), "6:1: error: peer: `inner` is missing", &[]);
    let sa = "[[peer.sa]]\ninbound = { spi = 0x1001, key_file = \"in.key\" }\n";
    only(&format!("{HEAD}{PEER}{sa}"), "10:1: error: peer.sa: `outbound` is missing", &["key_file"]);
    in_head("[[policy]]", "6:1: error: policy: `action` is missing", &[]);
}

/// Every key is read: a date, which none takes, is refused for each of them, by name.
#[test]
fn every_key_of_the_reference_is_read_and_its_type_is_checked() {
    const DATE: &str = "1979-05-27";
    let within = |line: &str| format!("{HEAD}{PEER}[[peer.sa]]\n{line}\n");
    for table in reference::TABLES {
        for key in table.keys {
            let name = key.name;
            let (text, path) = match table.heading {
                "The file" if name == "guard" => {
                    (format!("mode = \"host\"\n{name} = {DATE}\n"), name.to_owned())
                }
                "The file" => (format!("{name} = {DATE}\n"), name.to_owned()),
                "inner = { ... }" => (format!("outer = {{ {name} = {DATE} }}\n"), format!("outer.{name}")),
                "[[peer.sa]]" => (within(&format!("{name} = {DATE}")), format!("peer.sa.{name}")),
                "inbound = { ... }" => {
                    (within(&format!("outbound = {{ {name} = {DATE} }}")), format!("peer.sa.outbound.{name}"))
                }
                "ah = { ... }" => {
                    (within(&format!("ah = {{ {name} = {DATE} }}")), format!("peer.sa.ah.{name}"))
                }
                "probe = { ... }" => {
                    (within(&format!("probe = {{ {name} = {DATE} }}")), format!("peer.sa.probe.{name}"))
                }
                "icmp = { ... }" => (
                    within(&format!("selectors = {{ protocol = \"icmp\", icmp = {{ {name} = {DATE} }} }}")),
                    format!("peer.sa.selectors.icmp.{name}"),
                ),
                "soft = { ... }" => {
                    (within(&format!("hard = {{ {name} = {DATE} }}")), format!("peer.sa.hard.{name}"))
                }
                "selectors = [{ ... }]" => (
                    within(&format!("selectors = [{{ {name} = {DATE} }}]")),
                    format!("peer.sa.selectors.{name}"),
                ),
                heading => (format!("{heading}\n{name} = {DATE}\n"), format!("{}{name}", table.path)),
            };
            let says = format!("error: {path}: takes {}, not a date", key.shape);
            let problems = problems(&text);
            assert!(problems.iter().any(|problem| problem.contains(&says)), "{says}: {problems:#?}");
        }
    }
}

/// What is sent to the peer must not be what the peer protects, where there is one routing table for both.
#[test]
fn an_endpoint_within_a_protected_range_is_refused_in_host_mode_alone() {
    let file = |mode: &str| {
        let head = HEAD.replace("inner = \"branch\"", mode);
        format!("{head}{}{SA}", PEER.replace("10.2.0.0/24", "192.0.2.2/32"))
    };
    only(&file("mode = \"host\""), "6:1: error: peer.endpoint: the endpoint 192.0.2.2", &["split mode"]);
    assert!(parse(&file("inner = \"branch\"")).is_ok());
}

#[test]
fn values_of_the_file_itself() {
    let cases: [(&str, &str, &[&str]); 21] = [
        (r#"name = "a/b""#, "6:8: error: name: ", &["path", "digits"]),
        (r#"name = "-a""#, "6:8: error: name: ", &[]),
        (r#"mode = "hots""#, "6:8: error: mode: \"hots\" is unknown", &["\"split\" or \"host\""]),
        (r#"guard = "install""#, "6:9: error: guard: says nothing in split mode", &["mode = \"host\""]),
        (r#"outer = "branch""#, "2:9: error: inner: inner and outer namespace are one", &[]),
        (
            r#"outer = { path = "/run/netns/branch" }"#,
            "2:9: error: inner: inner and outer",
            &["mode = \"host\""],
        ),
        (r#"outer = { path = "netns/x" }"#, "6:18: error: outer.path: is relative", &[]),
        (r#"outer = { pid = 0 }"#, "6:17: error: outer.pid: the number", &["choose 1 to"]),
        (r#"outer = { pid = 1, name = "x" }"#, "6:9: error: outer: does not say one namespace", &[]),
        (r#"outer = "../x""#, "6:9: error: outer: ", &["ip netns"]),
        (r#"bypass_port = "latchway0""#, "6:15: error: bypass_port: is the name of the TUN", &[]),
        (r#"bypass_port = "a/b""#, "6:15: error: bypass_port: ", &["letters"]),
        (r#"exec = "10.9.0.0/31""#, "6:8: error: exec: has no room", &[]),
        (r#"exec = "10.9.0.1/24""#, "6:8: error: exec: ", &["the prefix is \"10.9.0.0/24\""]),
        (
            r#"exec = "10.2.0.0/28""#,
            "10:10: error: peer.inner: ",
            &["overlaps our own inner network 10.2.0.0/28 in line 6"],
        ),
        (r#"metrics = "9450""#, "6:11: error: metrics: ", &["127.0.0.1:9450"]),
        (r#"control = """#, "6:11: error: control: is empty", &[]),
        (r#"user = "a b""#, "6:8: error: user: ", &[]),
        ("policy = []", "6:10: error: policy: is empty", &["discard"]),
        ("[tun]\nname = \"sixteen-letters-\"", "7:8: error: tun.name: ", &["15 characters"]),
        ("[tun]\nmtu = 575", "7:7: error: tun.mtu: ", &["576 to 65535"]),
    ];
    for (line, place, says) in cases {
        let extra =
            if line.contains("exec = \"10.2") { format!("{HEAD}{line}\n{PEER}") } else { String::new() };
        if extra.is_empty() { in_head(line, place, says) } else { only(&extra, place, says) }
    }
    let host = |line: &str| format!("mode = \"host\"\nidentity = \"a.example\"\n{line}\n");
    for key in ["inner = \"x\"", "outer = \"x\"", "bypass_port = \"x\"", "exec = \"10.0.0.0/24\""] {
        only(&host(key), "3:", &["says nothing in host mode"]);
    }
}

#[test]
fn addresses_and_places_on_the_wire() {
    let head = |addresses: &str, listen: &str| {
        format!("identity = \"a.example\"\naddresses = [{addresses}]\nlisten = [{listen}]\n")
    };
    let fine = r#""192.0.2.1""#;
    for (address, says) in [
        (r#""10.1.0.0/24""#, "\"10.1.0.1/24\""),
        (r#""10.1.0.255/24""#, "no host's address"),
        (r#""10.1.0.1""#, "no address with a prefix length"),
        (r#""127.0.0.1/8""#, "no host's address"),
        (r#""ff02::1/64""#, "no host's address"),
        (r#""::ffff:10.0.0.1/120""#, "no address with a prefix length"),
    ] {
        only(&head(address, fine), "2:14: error: addresses: ", &[says]);
    }
    only(&head(r#""10.1.0.1/24", "10.1.0.1/16""#, fine), "2:29: error: addresses: 10.1.0.1 is there", &[]);
    for (listen, says) in [
        (r#""192.0.2.1:0""#, "no address that packets"),
        (r#""224.0.0.1""#, "no address that packets"),
        (r#""[::ffff:192.0.2.1]:4500""#, "no address that packets"),
        (r#""192.0.2.1.2""#, "write for example [\"192.0.2.1:4500\""),
        ("4500", "takes a list of addresses, with or without port, not a whole number"),
    ] {
        only(&head("", listen), "3:11: error: listen: ", &[says]);
    }
    let twice = r#""192.0.2.1", "192.0.2.1:4500""#;
    only(&head("", twice), "3:24: error: listen: ", &["same packets as 192.0.2.1:4500"]);
    let every = r#""0.0.0.0", "[::]:4500", "192.0.2.1:4501", "192.0.2.1""#;
    only(&head("", every), "3:", &["same packets as 0.0.0.0:4500"]);
    let many: Vec<_> = (0..17).map(|port| format!("\"192.0.2.1:{}\"", 4500 + port)).collect();
    only(&head("", &many.join(",")), "3:10: error: listen: 17 addresses", &["16"]);
    only(&head("", ""), "3:10: error: listen: is empty", &[]);
    let v6 = "[tun]\nmtu = 1279\n";
    only(&format!("{}{v6}", head(r#""fd00::1/64""#, fine)), "5:7: error: tun.mtu", &["1280"]);
}

#[test]
fn peers() {
    let peer = |lines: &str| format!("{HEAD}[[peer]]\n{lines}\n");
    let cases: [(&str, &str, &[&str]); 13] = [
        (
            "identity = \"a.example\"\ninner = \"10.2.0.1\"",
            "7:12: error: peer.identity: ",
            &["our own identity"],
        ),
        ("identity = \"\"\ninner = \"10.2.0.1\"", "7:12: error: peer.identity: is empty", &[]),
        ("identity = \"keyid:zz\"\ninner = \"10.2.0.1\"", "7:12: error: peer.identity: ", &["no identity"]),
        ("identity = \"b\"\ninner = []", "8:9: error: peer.inner: is empty", &[]),
        ("identity = \"b\"\ninner = \"10.2.0.1/24\"", "8:9: error: peer.inner: ", &["\"10.2.0.0/24\""]),
        ("identity = \"b\"\ninner = \"10.2.0.9-10.2.0.1\"", "8:9: error: peer.inner: ", &["lower end first"]),
        (
            "identity = \"b\"\ninner = \"10.2.0.9-fd00::1\"",
            "8:9: error: peer.inner: ",
            &["one address family"],
        ),
        ("identity = \"b\"\ninner = \"1::1-f::e\"", "8:9: error: peer.inner: takes too many prefixes", &[]),
        // T15: an IPv4 address must not pass for an IPv6 one.
        ("identity = \"b\"\ninner = \"::ffff:10.0.0.1\"", "8:9: error: peer.inner: ", &["no range"]),
        (
            "identity = \"b\"\ninner = \"10.1.0.128/25\"",
            "8:9: error: peer.inner: ",
            &["our own inner network 10.1.0.0/24 in line 3"],
        ),
        ("identity = \"b\"\ninner = \"fd00::/64\"", "6:1: error: peer: ", &["mixes address families"]),
        (
            "identity = \"b\"\ninner = \"10.2.0.1\"\nendpoint = \"0.0.0.0\"",
            "9:12: error: peer.endpoint: ",
            &["sent to"],
        ),
        (
            "identity = \"b\"\ninner = \"10.2.0.1\"\nendpoint = \"2001:db8::1\"",
            "9:12: error: peer.endpoint: ",
            &["no `listen` address is an IPv6 one", "[::]:4500"],
        ),
    ];
    for (lines, place, says) in cases {
        only(&peer(lines), place, says);
    }
    let twice = format!("{HEAD}{PEER}{}", PEER.replace("10.2", "10.3"));
    only(&twice, "11:12: error: peer.identity: the peer of line 7 is fqdn:b.example, too", &[]);
}

/// T15: no inner address is two peers'.
#[test]
fn t15_overlapping_ranges_of_peers_are_refused() {
    let peers = |ranges: &[&str]| {
        ranges.iter().enumerate().fold(HEAD.to_owned(), |text, (number, range)| {
            format!("{text}[[peer]]\nidentity = \"p{number}\"\ninner = [{range}]\n")
        })
    };
    only(
        &peers(&[r#""10.2.0.0/16""#, r#""10.3.0.0/16", "10.2.7.0/24""#]),
        "11:25: error: peer.inner: 10.2.7.0/24 overlaps what another peer may claim: 10.2.0.0/16 in line 8",
        &["leave it to one"],
    );
    only(
        &peers(&[r#""10.2.0.5""#, r#""10.2.0.0/16""#]),
        "11:10: error: peer.inner: 10.2.0.0/16",
        &["line 8"],
    );
    // The range that reaches furthest is the peer's own: the one behind it must be seen nevertheless.
    only(
        &peers(&[r#""10.2.0.0-10.2.0.9", "10.4.0.0/16""#, r#""10.2.0.5-10.2.0.200""#, r#""10.3.0.0/16""#]),
        "11:10: error: peer.inner",
        &["line 8"],
    );
    let nested = peers(&[r#""10.2.0.0/15", "10.2.0.0/16""#, r#""10.4.0.0/16""#, r#""10.3.9.9""#]);
    only(&nested, "14:10: error: peer.inner", &["10.2.0.0/15 in line 8"]);
    assert_eq!(
        problems(&peers(&[r#""10.2.0.0/16", "10.2.0.0/24""#, r#""10.3.0.0/16""#])),
        Vec::<String>::new()
    );
}

/// Ten thousand peers are read in seconds, and so is what only looks like a configuration.
#[test]
fn no_text_takes_long() {
    let started = Instant::now();
    let mut peers = HEAD.replace("10.1.0.1/24", "192.168.0.1/24");
    for number in 0..10_000 {
        let (high, low) = (number >> 8, number & 255);
        let _ = write!(peers, "[[peer]]\nidentity=\"p{number}\"\ninner=\"10.{high}.{low}.0/24\"\n");
    }
    assert_eq!(parse(&peers).unwrap().config.policies.len(), 10_000);
    let mut policies = HEAD.to_owned();
    for port in 0..20_000 {
        let _ = write!(policies, "[[policy]]\naction=\"discard\"\nlocal_ports={port}\n");
    }
    only(&policies, "1:1: warning: policy: there is too much to find", &["fewer policies"]);
    let one_line = format!("peer = [{}]", "{inner=[\"10.0.0.0/8\"],sa={}},".repeat(30_000));
    assert!(parse(&one_line).is_err());
    for unit in
        ["a=1\n", "[[peer]]\n", "[", "a.", "\"", "[[policy]]\n", "peer=[{},{}]\n", "ä = 1 # ", "[a]\n[a.b]\n"]
    {
        assert!(parse(&unit.repeat((1 << 18) / unit.len())).is_err(), "{unit}");
    }
    let large = format!("#{}", "ä".repeat(1 << 19));
    only(&large, "1:1: error: the file is larger than 1 MiB", &["split"]);
    assert!(started.elapsed().as_secs() < 120, "{:?}", started.elapsed());
}

#[track_caller]
fn peers_say(peers: &[(&str, &str)], place: &str, says: &[&str]) {
    let peers = peers.iter().map(|(identity, more)| format!("[[peer]]\nidentity = \"{identity}\"\n{more}\n"));
    only(&format!("{HEAD}{}", peers.collect::<String>()), place, says);
}

/// RFC 4301 4.4.3, RFC 5386 section 2: what an earlier entry leaves nobody for, and what anybody may not have.
#[test]
fn entries_of_the_pad_that_cannot_mean_what_they_say_are_refused() {
    let inner = |number: u8| format!("inner = \"10.{number}.0.0/16\"");
    let (two, three) = (inner(2), inner(3));
    for (first, second) in [
        ("*.example", "b.example"),
        ("*.example", "*.b.example"),
        ("*@b.example", "j@b.example"),
        ("dn:*,C=DE", "dn:CN=j,C=DE"),
        ("192.0.2.0/24", "192.0.2.7"),
        ("192.0.2.0/24", "192.0.2.0/28"),
        ("any", "b.example"),
    ] {
        let says = ["is never met: the peer of line 7", "before the general one"];
        peers_say(&[(first, &two), (second, &three)], "10:12: error: ", &says);
    }
    peers_say(&[("b.example", &two), ("B.example", &three)], "10:12: error: ", &["fqdn:b.example, too"]);
    let shared = format!("{two}\nshared = true");
    peers_say(
        &[("b.example", &two), ("c.example", &shared)],
        "11:9: error: ",
        &["what another peer may claim"],
    );
    peers_say(&[("b.example", &shared), ("any", &shared)], "12:9: error: ", &["overlaps what another peer"]);
    let method = |methods: &str| format!("{two}\nmethods = {methods}");
    peers_say(&[("b.example", &method("[]"))], "9:11: error: ", &["is empty"]);
    peers_say(&[("b.example", &method("\"psk\""))], "9:11: error: ", &["is no method", "pre-shared-key"]);
    peers_say(&[("b.example.", &two)], "7:12: error: ", &["no identity, and no pattern"]);
    let keyed = format!("endpoint = \"192.0.2.2\"\n{two}\n{SA}");
    peers_say(&[("*.b.example", &keyed)], "7:12: error: ", &["is more than one peer"]);
    let proven = format!("methods = \"certificate\"\n{keyed}");
    peers_say(&[("b.example", &proven)], "8:11: error: ", &["does not accept the keys from files"]);
    let by_tag = format!("{two}\n[[policy]]\naction = \"protect\"\nmodel = \"tag\"");
    peers_say(&[("any", &by_tag)], "9:1: error: ", &["latches by tag, but anybody may serve it", "strict"]);
}

/// 10,000 entries of every type are read, and each compared with those before it, in a moment.
#[test]
fn ten_thousand_kinds_of_peers_are_read_quickly() {
    let mut text = HEAD.replace("10.1.0.1/24", "172.16.0.1/24");
    for number in 0..10_000 {
        let (high, low) = (number / 256, number % 256);
        let identity = match number % 4 {
            0 => format!("b{number}.example"),
            1 => format!("*.c{number}.example"),
            2 => format!("dn:*,O=o{number}"),
            _ => format!("*@d{number}.example"),
        };
        let _ = writeln!(text, "[[peer]]\nidentity=\"{identity}\"\ninner=\"10.{high}.{low}.0/24\"");
    }
    let before = Instant::now();
    assert_eq!(problems(&text), Vec::<String>::new());
    assert!(before.elapsed().as_secs() < 20);
}
