//! Policies that cannot be, and terms of latches.

use super::*;

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

/// RFC 4301 4.4.1.1: types and codes of ICMP alone, and codes of one type.
#[test]
fn rfc_4301_4_4_1_1_icmp_messages_that_cannot_be_are_refused() {
    let cases: [(&str, &str, &[&str]); 6] = [
        ("icmp = { type = 8 }", "8:8: error: policy.icmp: takes a protocol with ICMP", &["\"icmpv6\""]),
        ("protocol = \"tcp\"\nicmp = { type = 8 }", "9:8: error: policy.icmp: takes a protocol", &[]),
        ("protocol = \"icmp\"\nicmp = { code = 0 }", "9:8: error: policy.icmp: `type` is missing", &[]),
        ("protocol = \"icmp\"\nicmp = { type = 256 }", "9:17: error: policy.icmp.type: ", &["0 to 255"]),
        ("protocol = \"icmp\"\nicmp = { type = \"8-3\" }", "9:17: error: policy.icmp.type: ", &["no range"]),
        (
            "protocol = \"icmpv6\"\nicmp = { type = \"1-4\", code = 1 }",
            "9:31: error: policy.icmp.code: codes are of one type",
            &["a selector for each"],
        ),
    ];
    for (lines, place, says) in cases {
        in_head(&format!("[[policy]]\naction = \"discard\"\n{lines}"), place, says);
    }
}

/// RFC 4301 4.4.1: OPAQUE is written where something cannot be seen, alone, and on both sides.
#[test]
fn rfc_4301_4_4_1_opaque_where_it_says_nothing_is_refused() {
    let cases: [(&str, &str, &[&str]); 7] = [
        (
            "local_ports = [80, \"opaque\"]",
            "8:20: error: policy.local_ports: \"opaque\" stands alone",
            &["of its own"],
        ),
        ("local_ports = [\"opaque\"]", "8:16: error: policy.local_ports: \"opaque\" stands alone", &[]),
        (
            "local_ports = \"opaque\"\nremote_ports = 80",
            "9:16: error: policy.remote_ports: selects nothing",
            &["both sides"],
        ),
        (
            "protocol = \"tcp\"\nlocal_ports = \"opaque\"",
            "9:15: error: policy.local_ports: never decides: tcp shows",
            &["a peer's SA"],
        ),
        (
            "protocol = \"icmp\"\nicmp = \"opaque\"",
            "9:8: error: policy.icmp: never decides: icmp shows",
            &["`selectors`"],
        ),
        ("protocol = \"tcp\"\nicmp = \"opaque\"", "9:8: error: policy.icmp: takes a protocol", &[]),
        ("protocol = \"icmp\"\nicmp = \"opque\"", "9:8: error: policy.icmp: takes a table, or", &[]),
    ];
    for (lines, place, says) in cases {
        in_head(&format!("[[policy]]\naction = \"discard\"\n{lines}"), place, says);
    }
    let policies = |rules: &[&str]| {
        rules
            .iter()
            .fold(HEAD.to_owned(), |text, rule| format!("{text}[[policy]]\naction = \"discard\"\n{rule}\n"))
    };
    let (any, opaque) = ("remote_ports = \"0-65535\"", "remote_ports = \"opaque\"");
    let every_port = "remote_ports = [\"0-9\", \"10-65535\"]";
    for shadowed in [[any, opaque], [any, every_port], [opaque, opaque]] {
        only(&policies(&shadowed), "9:1: error: policy: never decides", &[]);
    }
    for fine in [[opaque, any], [every_port, any], [every_port, opaque], [opaque, every_port]] {
        assert_eq!(problems(&policies(&fine)), Vec::<String>::new(), "{fine:?}");
    }
}
