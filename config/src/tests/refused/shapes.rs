//! Modes, carriers, and what packets look like from outside.

use super::*;

/// Transport mode without UDP, in lines 13 and 14.
const TRANSPORT: &str = "encapsulation = \"none\"\nmode = \"transport\"";

fn native(text: &str) -> String {
    text.replace("[\"192.0.2.1:4500\"]", "[\"192.0.2.1:4500\", \"native:192.0.2.1\"]")
}

fn sa(lines: &str) -> String {
    format!("{HEAD}{PEER}{SA}{lines}\n")
}

/// What belongs to a tunnel, to UDP, to ESP or to IPv6 is refused elsewhere, each by its name.
#[test]
fn what_says_nothing_of_an_sa_is_refused() {
    let own = native(&sa(TRANSPORT))
        .replace("\"10.1.0.1/24\"", "\"192.0.2.1/32\"")
        .replace("\"10.2.0.0/24\"", "\"192.0.2.2\"");
    assert_eq!(problems(&own), Vec::<String>::new());
    for line in [
        "dscp = 0",
        "ecn = \"normal\"",
        "df = \"set\"",
        "ttl = 9",
        "flow_label = \"zero\"",
        "decapsulate_dscp = true",
    ] {
        let key = line.split(' ').next().unwrap();
        only(&format!("{own}{line}\n"), "15:", &[key, "keep their own header"]);
    }
    only(&format!("{own}tfc = \"mtu\"\n"), "15:7: error: peer.sa.tfc: says nothing here", &["tunnel mode"]);
    only(
        &format!("{own}fragment = \"before\"\n"),
        "15:12: error: peer.sa.fragment: ",
        &["cut once it is sealed"],
    );
    only(&format!("{own}keepalive = \"20s\"\n"), "15:13: error: peer.sa.keepalive: ", &["no NAT"]);
    only(&sa("ttl = 9"), "13:7: error: peer.sa.ttl: ", &["the kernel writes"]);
    only(&sa("flow_label = \"hash\""), "13:14: error: peer.sa.flow_label: ", &["the kernel writes"]);
    let v4 = native(&sa("encapsulation = \"none\"\nflow_label = \"hash\""));
    only(&v4, "14:14: error: peer.sa.flow_label: ", &["IPv4 has none"]);
    only(
        &sa("pmtu = \"fixed\"\npmtu_floor = 600"),
        "14:14: error: peer.sa.pmtu_floor: ",
        &["nothing is learnt"],
    );
}

/// T40: the operator's socket is not for all.
#[test]
fn t40_applications_are_not_served_on_the_operators_socket() {
    let text = |app: &str| format!("control = \"run/a.sock\"\napp = \"{app}\"\n{}", sa(""));
    assert_eq!(problems(&text("run/b.sock")), Vec::<String>::new());
    only(&text("run/a.sock"), "2:7: error: app: is the operator's own socket", &["app ="]);
}

#[test]
fn values_that_cannot_be_are_refused() {
    let cases: [(&str, &str, &[&str]); 20] = [
        ("mode = \"beet\"", "13:8: error: peer.sa.mode: \"beet\"", &["\"tunnel\" or \"transport\""]),
        ("encapsulation = \"tcp\"", "13:17: error: peer.sa.encapsulation: ", &["\"udp\" or \"none\""]),
        ("dscp = 64", "13:8: error: peer.sa.dscp: ", &["0 to 63"]),
        ("dscp = \"ef\"", "13:8: error: peer.sa.dscp: \"ef\" is no DSCP", &["\"copy\""]),
        ("dscp = { 64 = 0 }", "13:8: error: peer.sa.dscp: \"64\"", &["inner header"]),
        ("dscp = { 0 = 64 }", "13:14: error: peer.sa.dscp: ", &["0 to 63"]),
        ("ecn = \"none\"", "13:7: error: peer.sa.ecn: ", &["\"compatibility\""]),
        ("df = true", "13:6: error: peer.sa.df: takes", &[]),
        ("tfc = 1", "13:7: error: peer.sa.tfc: ", &["2 to"]),
        ("tfc = \"all\"", "13:7: error: peer.sa.tfc: ", &["\"mtu\""]),
        ("dummies = 1", "13:11: error: peer.sa.dummies: takes a duration, not a whole number", &["1s"]),
        ("dummies = \"1\"", "13:11: error: peer.sa.dummies: \"1\" is no duration", &["ms, s, m, h"]),
        ("dummies = \"0ms\"", "13:11: error: peer.sa.dummies: ", &["too short"]),
        ("keepalive = \"500ms\"", "13:13: error: peer.sa.keepalive: ", &["1000 milliseconds"]),
        ("keepalive = \"25h\"", "13:13: error: peer.sa.keepalive: ", &["one day"]),
        ("fragment = \"never\"", "13:12: error: peer.sa.fragment: ", &["\"before\" or \"after\""]),
        ("pmtu = \"on\"", "13:8: error: peer.sa.pmtu: ", &["\"learn\""]),
        ("pmtu_floor = 1501", "13:14: error: peer.sa.pmtu_floor: ", &["576 to 1500"]),
        (
            "probe = { to = \"10.3.0.1\" }",
            "13:9: error: peer.sa.probe: the SA carries nothing",
            &["`from` one of ours"],
        ),
        ("probe = { to = \"10.2.0.1\", from = \"10.9.0.1\" }", "13:9: error: peer.sa.probe: ", &[]),
    ];
    for (lines, place, says) in cases {
        only(&sa(lines), place, says);
    }
}

/// RFC 4301 4.1: the ends of what is carried are those of the SA.
#[test]
fn rfc_4301_4_1_transport_mode_is_between_its_ends_alone() {
    let ends = native(&sa(TRANSPORT)).replace("\"10.1.0.1/24\"", "\"192.0.2.1/32\"");
    only(
        &ends,
        "10:1: error: peer.sa: in transport mode the peer's address",
        &["add \"192.0.2.2\" to its `inner`"],
    );
    let ends = ends.replace("\"10.2.0.0/24\"", "\"192.0.2.0/24\"");
    let ends = ends.replace("\"192.0.2.0/24\"", "\"192.0.2.2\", \"10.2.0.0/24\"");
    let wider = format!("{ends}selectors = {{ remote = \"10.2.0.0/24\" }}\n");
    only(&wider, "15:24: error: peer.sa.selectors.remote: 10.2.0.0/24", &[]);
    let ours = format!("{ends}selectors = {{ local = \"192.0.2.9\" }}\n");
    only(&ours, "15:13: error: peer.sa.selectors: in transport mode nothing else", &["or use tunnel mode"]);
    let moves = format!("{ends}follow = true\n");
    only(
        &moves,
        "15:10: error: peer.sa.follow: in transport mode the peer's address",
        &["or use tunnel mode"],
    );
    assert!(problems(&format!("{ends}follow = false\n")).is_empty());
    let udp = ends.replace("encapsulation = \"none\"\n", "");
    only(&udp, "13:8: warning: peer.sa.mode: in UDP", &["use tunnel mode"]);
    let every = udp.replace("\"192.0.2.1:4500\", \"native:192.0.2.1\"", "\"0.0.0.0\"");
    assert!(problems(&every).iter().any(|problem| problem.contains("takes a single address")));
}

/// What has no UDP takes a wire that has none.
#[test]
fn what_travels_without_udp_takes_such_a_wire() {
    let none = "encapsulation = \"none\"";
    only(&sa(none), "10:1: error: peer.sa: sends without UDP", &["add \"native:192.0.2.1\" to `listen`"]);
    only(
        &sa(&format!("{none}\nfrom = \"192.0.2.1\"")),
        "14:8: error: peer.sa.from: sends without UDP",
        &["native:192.0.2.1"],
    );
    let all = sa(none).replace("listen = [\"192.0.2.1:4500\"]\n", "");
    only(&all, "9:1: error: peer.sa: sends without UDP", &["native:192.0.2.1"]);
    let alone = sa("").replace("[\"192.0.2.1:4500\"]", "[\"native:192.0.2.1\"]");
    only(&alone, "10:1: error: peer.sa: sends in UDP", &["encapsulation = \"none\""]);
    for wrong in ["native:", "native:0.0.0.0", "native:192.0.2.1:50", "native:224.0.0.1"] {
        let text = sa("").replace("\"192.0.2.1:4500\"", &format!("\"192.0.2.1:4500\", \"{wrong}\""));
        only(&text, "4:29: error: listen: ", &["have no ports"]);
    }
    assert_eq!(problems(&native(&sa(none))), Vec::<String>::new(), "one of each kind at an address");
    let twice = sa(none).replace("\"192.0.2.1:4500\"", "\"native:192.0.2.1\", \"native:192.0.2.1\"");
    only(&twice, "4:31: error: listen: \"native:192.0.2.1\" takes the same packets", &["remove one"]);
}
