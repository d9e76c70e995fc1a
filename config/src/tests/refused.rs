//! Files that are wrong: each fault is reported at its place, with what to do.

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

#[test]
fn security_associations() {
    let sa = |lines: &str| format!("{HEAD}{PEER}{SA}{lines}\n");
    let cases: [(&str, &str, &[&str]); 19] = [
        (
            "suite = \"rot13\"",
            "13:9: error: peer.sa.suite: \"rot13\" is no suite",
            &["aes-128-gcm", "aes-256-cbc-hmac-sha-256"],
        ),
        ("replay_window = 0", "13:17: error: peer.sa.replay_window: ", &["replay_window = \"off\""]),
        ("replay_window = 31", "13:17: error: peer.sa.replay_window: ", &["32 to 65536"]),
        ("replay_window = 65537", "13:17: error: peer.sa.replay_window: ", &["32 to 65536"]),
        (
            "replay_window = \"none\"",
            "13:17: error: peer.sa.replay_window: takes a whole number or \"off\"",
            &[],
        ),
        ("mtu = 575", "13:7: error: peer.sa.mtu: ", &["576"]),
        ("mtu = 65536", "13:7: error: peer.sa.mtu: ", &["65535"]),
        ("from = \"192.0.2.9\"", "13:8: error: peer.sa.from: 192.0.2.9 is no `listen` address", &[]),
        ("soft = { packets = 7 }\nhard = { packets = 7 }", "13:8: error: peer.sa.soft: packets: ", &["7"]),
        ("soft = { seconds = 7 }\nhard = { seconds = 6 }", "13:8: error: peer.sa.soft: seconds: ", &[]),
        (
            "soft = { since_first_use = 7 }\nhard = { since_first_use = 7 }",
            "13:8: error: peer.sa.soft: seconds since first use: ",
            &[],
        ),
        ("hard = { octets = 0 }", "13:19: error: peer.sa.hard.octets: ", &["1 to"]),
        ("hard = { seconds = 9_000_000_000_000_000_000 }", "13:20: error: peer.sa.hard.seconds: ", &[]),
        ("hard = { packets = -1 }", "13:20: error: peer.sa.hard.packets: ", &["too small"]),
        ("selectors = []", "13:13: error: peer.sa.selectors: is empty", &[]),
        (
            "selectors = { remote = \"10.3.0.0/24\" }",
            "13:24: error: peer.sa.selectors.remote: 10.3.0.0/24",
            &["`inner`"],
        ),
        ("selectors = [{ local = \"fd00::/64\" }]", "13:14: error: peer.sa.selectors: mixes", &[]),
        ("selectors = { local = \"fd00::1\", remote = \"10.2.0.1\" }", "13:", &["mixes address families"]),
        (
            "selectors = { protocol = \"icmp\", local_ports = 7 }",
            "13:48: error: peer.sa.selectors.local_ports: icmp has no ports",
            &[],
        ),
    ];
    for (lines, place, says) in cases {
        only(&sa(lines), place, says);
    }
    let without = |what: &str| format!("{HEAD}{PEER}{SA}").replace(what, "");
    only(&without("endpoint = \"192.0.2.2:4500\"\n"), "9:1: error: peer.sa: has nowhere to send to", &[]);
    only(
        &without("addresses = [\"10.1.0.1/24\"]\n"),
        "9:1: error: peer.sa: has no addresses on our side",
        &["addresses"],
    );
    only(
        &without("state = \"state\"\n"),
        "9:1: warning: peer.sa: sequence numbers begin anew",
        &["state = "],
    );
    let v6 = format!("{HEAD}{PEER}{SA}mtu = 1279\n")
        .replace("192.0.2.1:", "[2001:db8::1]:")
        .replace("192.0.2.2:", "[2001:db8::2]:");
    only(&v6, "13:7: error: peer.sa.mtu: ", &["1280"]);
    let from = format!("{HEAD}{PEER}{SA}from = \"2001:db8::1\"\n")
        .replace("\"192.0.2.1:4500\"", "\"192.0.2.1\", \"2001:db8::1\"");
    only(&from, "13:8: error: peer.sa.from: is of another address family", &[]);
    let many = SA.repeat(65);
    assert!(problems(&format!("{HEAD}{PEER}{many}"))[0].contains("65 pairs of SAs are more than the 64"));
}

/// RFC 4303 section 2.1; T31.
#[test]
fn t31_spis_are_neither_reserved_nor_used_twice() {
    let text = format!("{HEAD}{PEER}{SA}");
    for reserved in ["0", "1", "0xff", "255"] {
        only(
            &text.replace("0x1001", reserved),
            "11:19: error: peer.sa.inbound.spi: SPIs 0 to 255",
            &["0x100"],
        );
    }
    for wrong in ["-1", "0x1_0000_0000", "99999999999999999999999"] {
        only(&text.replace("0x1001", wrong), "11:19: error: peer.sa.inbound.spi: ", &["4294967295"]);
    }
    let second = SA.replace("in.key", "in2.key").replace("out.key", "out2.key");
    let inbound = format!("{text}{}", second.replace("0x1002", "0x1003"));
    only(
        &inbound,
        "14:19: error: peer.sa.inbound.spi: SPI 0x00001001 is that of an inbound SA in line 11",
        &[],
    );
    let outbound = format!("{text}{}", second.replace("0x1001", "4099"));
    only(&outbound, "15:20: error: peer.sa.outbound.spi: SPI 0x00001002", &["of this peer in line 12"]);
    let other = PEER.replace("b.example", "c.example").replace("10.2", "10.3");
    let apart = format!("{text}{other}{}", second.replace("0x1001", "0x1003"));
    assert_eq!(problems(&apart), Vec::<String>::new(), "each peer chooses the SPIs that we send to");
}

#[test]
fn a_key_serves_once() {
    let text = format!("{HEAD}{PEER}{SA}");
    for path in ["in.key", "./in.key"] {
        let same = text.replace("out.key", path);
        only(&same, "12:39: error: peer.sa.outbound.key_file: ", &["line 11 already", "of its own"]);
    }
}

/// RFC 8221 section 3, T12.
#[test]
fn t12_counter_modes_take_a_state_directory_and_the_operators_word() {
    let sa = format!("{SA}suite = \"aes-128-gcm\"\n");
    let refused =
        "13:9: error: peer.sa.suite: aes-128-gcm counts its packets, and RFC 8221 section 3 forbids it";
    only(&format!("{HEAD}{PEER}{sa}"), refused, &["counter_mode_static = true", "aes-256-cbc-hmac-sha-256"]);
    let allowed = format!("counter_mode_static = true\n{HEAD}{PEER}{sa}");
    let config = parse(&allowed).unwrap().config;
    assert!(config.state.unwrap().counter_mode_static);
    let stateless = allowed.replace("state = \"state\"\n", "");
    only(&stateless, "1:23: error: counter_mode_static: takes a state directory", &["state = "]);
}

#[test]
fn policies_that_contradict_themselves() {
    let cases: [(&str, &str, &[&str]); 17] = [
        ("action = \"protest\"", "7:10: error: policy.action: \"protest\"", &["\"protect\" or \"bypass\""]),
        (
            "action = \"protect\"\npeer = \"b.exmaple\"",
            "8:8: error: policy.peer: \"b.exmaple\" is no peer",
            &["fqdn:b.example"],
        ),
        (
            "action = \"protect\"\npeer = \"b.example\"\nremote = \"10.3.0.0/16\"",
            "9:10: error: policy.remote: ",
            &["not all the peer's"],
        ),
        ("action = \"discard\"\npeer = \"b.example\"", "8:8: error: policy.peer: says nothing", &["protect"]),
        ("action = \"discard\"\nlatch = true", "8:9: error: policy.latch: says nothing", &[]),
        ("action = \"bypass\"", "6:1: error: policy: bypasses, but there is no port", &["bypass_port = "]),
        (
            "action = \"discard\"\nlocal = \"10.0.0.0/8\"\nremote = \"fd00::/8\"",
            "9:10: error: policy.remote: mixes",
            &[],
        ),
        (
            "action = \"discard\"\nlocal = [\"10.0.0.0/8\", \"fd00::/8\"]\nremote = \"fd01::/16\"",
            "9:10: error: policy.remote: mixes",
            &[],
        ),
        ("action = \"discard\"\nlocal = []", "8:9: error: policy.local: is empty", &["any"]),
        ("action = \"discard\"\nlocal = \"ten\"", "8:9: error: policy.local: \"ten\" is no range", &[]),
        ("action = \"discard\"\nprotocol = \"ipip\"", "8:12: error: policy.protocol: ", &["tcp, udp"]),
        ("action = \"discard\"\nprotocol = 256", "8:12: error: policy.protocol: ", &["0 to 255"]),
        (
            "action = \"discard\"\nprotocol = 1\nremote_ports = 80",
            "9:16: error: policy.remote_ports: icmp has no ports",
            &[],
        ),
        (
            "action = \"discard\"\nlocal_ports = \"90-80\"",
            "8:15: error: policy.local_ports: ",
            &["no range of ports"],
        ),
        ("action = \"discard\"\nlocal_ports = [1, 65536]", "8:19: error: policy.local_ports: ", &["65535"]),
        ("action = \"discard\"\nlocal_ports = \"\"", "8:15: error: policy.local_ports: ", &[]),
        ("action = \"discard\"\ndirection = \"up\"", "8:13: error: policy.direction: ", &["\"inbound\""]),
    ];
    for (lines, place, says) in cases {
        // Behind it stands one that protects the SA, where the one in question does not shadow it.
        let text = format!("{HEAD}[[policy]]\n{lines}\n{PEER}{SA}");
        let problems = problems(&text);
        let here = problems.iter().find(|problem| problem.starts_with(place));
        let here = here.unwrap_or_else(|| panic!("{place}: {problems:#?}"));
        assert!(says.iter().all(|says| here.contains(says)), "{says:?}: {here}");
    }
    let ports: Vec<_> = (0..257).map(|port| (2 * port).to_string()).collect();
    let ports = format!("{HEAD}[[policy]]\naction = \"discard\"\nlocal_ports = [{}]\n", ports.join(","));
    assert!(problems(&ports)[0].contains("combinations"));
}

#[test]
fn policies_that_never_decide_are_refused() {
    let policies = |rules: &[&str]| {
        rules.iter().fold(HEAD.to_owned(), |text, rule| format!("{text}[[policy]]\n{rule}\n"))
    };
    let all = "action = \"discard\"";
    only(&policies(&[all, all]), "8:1: error: policy: never decides: the policy of line 6", &["in front"]);
    let tcp = "action = \"discard\"\nprotocol = 6\nlocal_ports = [\"1-5\", \"6-9\"]";
    let narrow = "action = \"discard\"\nprotocol = 6\nlocal_ports = \"3-8\"\nremote = \"10.0.0.0/8\"";
    only(&policies(&[tcp, narrow]), "10:1: error: policy: never decides", &[]);
    let halves = "action = \"discard\"\nremote = [\"10.0.0.0/9\", \"10.128.0.0/9\"]";
    only(&policies(&[halves, "action = \"discard\"\nremote = \"10.0.0.0/8\""]), "9:1: error: policy", &[]);
    let inbound = "action = \"discard\"\ndirection = \"inbound\"";
    only(&policies(&[inbound, inbound]), "9:1: error: policy: never decides", &[]);
    for fine in [[inbound, all], [narrow, tcp], [tcp, all], ["action = \"discard\"\nremote = \"::/0\"", all]]
    {
        assert_eq!(problems(&policies(&fine)), Vec::<String>::new(), "{fine:?}");
    }
}

/// T13: in host mode what no peer may claim does not meet the gateway, and so is not dropped by it.
#[test]
fn t13_host_mode_warns_of_what_it_protects_and_does_not_guard() {
    let host = HEAD.replace("inner = \"branch\"", "mode = \"host\"");
    let policy = |head: &str, remote: &str| {
        problems(&format!("{head}[[policy]]\naction = \"protect\"\nremote = \"{remote}\"\n{PEER}{SA}"))
    };
    let warned = policy(&host, "0.0.0.0/0");
    assert!(warned.iter().any(|problem| problem.contains("leaves in the clear")), "{host}{warned:#?}");
    assert_eq!(policy(HEAD, "0.0.0.0/0"), Vec::<String>::new());
}

#[test]
fn sas_peers_and_policies_that_do_not_meet() {
    let policy = |lines: &str| format!("{HEAD}[[policy]]\naction = \"protect\"\n{lines}\n{PEER}{SA}");
    let sa = "error: peer.sa: no policy protects what it may carry";
    let found = problems(&policy("remote = \"10.9.0.0/16\""));
    assert_eq!(found.len(), 4 - 1, "{found:#?}");
    assert!(found[0].contains("warning: policy: protects what no peer may claim"), "{found:#?}");
    assert!(found[1].contains("warning: peer: no policy protects traffic with this peer"), "{found:#?}");
    assert!(found[2].contains(sa), "{found:#?}");
    only(&policy("local = \"10.9.0.0/16\""), "13:1: ", &[sa]);
    only(
        &policy("protocol = \"udp\"").replace("[[peer.sa]]", "[[peer.sa]]\nselectors = { protocol = 6 }"),
        "13:1: ",
        &[sa],
    );
    assert_eq!(problems(&policy("protocol = \"udp\"\nremote_ports = 53")), Vec::<String>::new());
    // The policies that follow from the peers know our own networks, and no others.
    only(&format!("{HEAD}{PEER}{SA}selectors = {{ local = \"10.9.0.0/16\" }}\n"), "10:1: ", &[sa]);
    // A policy of one peer is none of another's.
    let other = PEER.replace("b.example", "c.example").replace("10.2", "10.3");
    let text = format!("{}{other}", policy("peer = \"b.example\""));
    only(&text, "16:1: warning: peer: no policy protects traffic with this peer", &["remote"]);
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

/// Terms that say nothing, and limits below what RFC 4787 and RFC 5382 have.
#[test]
fn terms_and_limits_of_latches_that_cannot_be_are_refused() {
    let policy = |lines: &str| format!("{HEAD}{PEER}[[policy]]\naction = {lines}\n");
    let idle = "says nothing where nothing is latched";
    only(&policy("\"protect\"\nlatch = false\nmodel = \"tag\""), "13:9: error: ", &[idle]);
    only(&policy("\"discard\"\nsticky = true"), "12:10: error: ", &[idle]);
    only(&policy("\"discard\"\napplications = \"more\""), "12:16: error: ", &["where all is discarded"]);
    in_head("on_conflict = \"win\"", "6:15: error: ", &["is unknown here", "\"wait\""]);
    for limit in [
        "capacity = 63",
        "capacity = 16777217",
        "half_open = 65537",
        "half_open_per_peer = 16385",
        "half_open = 0",
        "udp_idle = 119",
        "tcp_idle = 7439",
        "larval = 4",
    ] {
        in_head(&format!("[latches]\n{limit}"), "7:", &["error: latches.", "too small or too large"]);
    }
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
