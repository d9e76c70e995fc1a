//! SAs that cannot be.

use super::*;

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

#[test]
fn rfc_4301_7_2_an_sa_for_certain_ports_is_for_a_protocol() {
    let sa = |lines: &str| format!("{HEAD}{PEER}{SA}{lines}\n");
    for (lines, place) in [
        ("selectors = { local_ports = 7 }", "13:29: error: peer.sa.selectors.local_ports: takes a protocol"),
        (
            "selectors = [{ protocol = \"tcp\", remote_ports = 7 }, { remote_ports = [7, \"8-9\"] }]",
            "13:71: error: peer.sa.selectors.remote_ports: takes a protocol",
        ),
    ] {
        only(&sa(lines), place, &["protocol = \"tcp\""]);
    }
    for lines in [
        "{ protocol = \"udp\", local_ports = 7 }",
        "{ local_ports = \"0-65535\" }",
        "{ local_ports = \"opaque\" }",
        "{ protocol = \"udp\", local_ports = \"opaque\", remote_ports = \"opaque\" }",
        "{}",
    ] {
        assert_eq!(problems(&sa(&format!("selectors = {lines}"))), Vec::<String>::new(), "{lines}");
    }
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
