//! Rules and SAs by hand speak of what a file can speak of (RFC 4301 section 4.4.1.1), and packets show that they do.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::bound;
use crate::gateway::{PATIENCE, eventually, scenario};
use crate::schema;
use crate::site::{Side, Site, Terms};

/// Lists of prefixes, addresses and ranges, of either family, and lists of ports: one rule, shown by a row for each
/// combination under one number, asked in its place, and gone as one.
#[test]
fn rfc_4301_4_4_1_1_a_rule_by_hand_has_lists_of_ranges() {
    scenario("selectors::rfc_4301_4_4_1_1_a_rule_by_hand_has_lists_of_ranges", || {
        let site = Site::start(&Terms::default());
        let added = site.a.shown(
            "policy add discard --local 10.1.0.0/24,fd01::/64 --remote 10.2.0.66,10.2.0.70-10.2.0.79,fd02::1 \
             --protocol udp --remote-ports 9,100-110",
        );
        let rows = site.a.rows("policy list");
        let of_rule: Vec<_> = rows.iter().filter(|row| row["number"] == added["number"]).collect();
        let told = |row: &&Value| {
            let selector = &row["selector"];
            (selector["remote"].as_str().unwrap().to_owned(), selector["remote_ports"].clone())
        };
        let remotes = ["10.2.0.66", "10.2.0.70-10.2.0.79", "fd02::1"];
        let ports = [json!([9, 9]), json!([100, 110])];
        let expected =
            remotes.iter().flat_map(|remote| ports.clone().map(|ports| ((*remote).to_owned(), ports)));
        assert_eq!(of_rule.iter().map(told).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        schema::holds("policies", &site.a.shown("policy list"));
        for (to, reason) in [
            ("10.2.0.66:9", "policy_discard"),
            ("10.2.0.75:105", "policy_discard"),
            ("10.2.0.75:111", ""),
            ("10.2.0.80:105", ""),
        ] {
            let explained = site.a.shown(&format!("explain udp 10.1.0.1:7000 {to}"));
            assert_eq!(explained["drop"].as_str().unwrap_or_default(), reason, "{to}: {explained}");
            let before = discarded(&site);
            send(&site, to);
            if reason.is_empty() {
                assert_eq!(discarded(&site), before, "{to}");
            } else {
                eventually(to, || discarded(&site) > before);
            }
        }
        // The one before it stands before all of it.
        let number = added["number"].as_u64().unwrap();
        let first = format!("policy add protect --local 10.1.0.0/24 --remote 10.2.0.0/24 --before {number}");
        let first = site.a.shown(&first)["number"].as_u64().unwrap();
        assert_eq!(site.a.rows("policy list")[0]["number"], first);
        site.a.read(&format!("policy delete {number}"));
        assert!(site.a.rows("policy list").iter().all(|row| row["number"] != number));
    });
}

/// ICMP by its types, and what shows no ports or no type by OPAQUE.
#[test]
fn rfc_4301_4_4_1_a_rule_by_hand_tells_icmp_messages_and_what_cannot_be_seen() {
    scenario("selectors::rfc_4301_4_4_1_a_rule_by_hand_tells_icmp_messages_and_what_cannot_be_seen", || {
        let site = Site::start(&Terms::default().with_head("latch = false"));
        let receiver = site.at(Side::B).inner.run(|| UdpSocket::bind("10.2.0.1:9")).unwrap().unwrap();
        // What passes may take its time, and what does not is counted.
        let drops = |what: &str, send: &dyn Fn()| {
            let before = discarded(&site);
            send();
            eventually(what, || discarded(&site) > before);
        };
        let datagram_is = |passes: bool| {
            if passes {
                send(&site, "10.2.0.1:9");
                receiver.set_read_timeout(Some(PATIENCE)).unwrap();
                receiver.recv(&mut [0; 64]).unwrap();
            } else {
                drops("a datagram is discarded", &|| send(&site, "10.2.0.1:9"));
                receiver.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                receiver.recv(&mut [0; 64]).unwrap_err();
            }
        };
        let echo_is = |passes: bool| {
            if passes {
                assert!(site.reaches(Side::B.address(), PATIENCE));
            } else {
                drops("an echo is discarded", &|| {
                    assert!(!site.reaches(Side::B.address(), Duration::from_millis(50)));
                });
            }
        };
        let told = |key: &str| site.a.rows("policy list")[0]["selector"][key].clone();
        for (narrower, key, shown, [echo, datagram]) in [
            ("--protocol icmp --icmp 8", "icmp", json!({"type": [8, 8], "code": [0, 255]}), [false, true]),
            ("--protocol icmp --icmp 0-7", "icmp", json!({"type": [0, 7], "code": [0, 255]}), [true, true]),
            ("--protocol icmp --icmp 8/1-3", "icmp", json!({"type": [8, 8], "code": [1, 3]}), [true, true]),
            ("--icmp opaque", "icmp", json!("opaque"), [true, false]),
            ("--local-ports opaque --remote-ports opaque", "local_ports", json!("opaque"), [false, true]),
            ("--local-ports 0-65535", "local_ports", Value::Null, [false, false]),
            ("--protocol udp --remote-ports 1-9", "remote_ports", json!([1, 9]), [true, false]),
        ] {
            let rule = "policy add discard --direction outbound --local 10.1.0.0/24 --remote 10.2.0.0/24";
            let added = site.a.shown(&format!("{rule} {narrower}"));
            assert_eq!(told(key), shown, "{narrower}");
            let dropped = discarded(&site);
            echo_is(echo);
            datagram_is(datagram);
            assert_eq!(discarded(&site) - dropped, u64::from(!echo) + u64::from(!datagram), "{narrower}");
            site.a.read(&format!("policy delete {}", added["number"]));
        }
        let refused =
            site.a.complains("policy add discard --local 10.1.0.0/24 --remote 10.2.0.0/24 --icmp 8");
        assert!(refused.contains("takes a protocol"), "{refused}");
    });
}

/// SAs, too: what they carry is shown as it was said.
#[test]
fn rfc_4301_4_4_1_1_an_sa_by_hand_has_lists_of_ranges_and_icmp_messages() {
    scenario("selectors::rfc_4301_4_4_1_1_an_sa_by_hand_has_lists_of_ranges_and_icmp_messages", || {
        let site = Site::start(&Terms::default());
        let sa = |spi: u32| json!({"spi": spi, "key": format!("{spi:08x}").repeat(5)});
        let pair = json!({
            "peer": "2.example", "suite": "aes-128-gcm", "inbound": sa(0x5001), "outbound": sa(0x5002),
            "path": {"from": "192.0.2.1", "to": "192.0.2.2:4500"}, "usage": "standby",
            "selectors": [
                {"local": ["10.1.0.0-10.1.0.9", "10.1.0.20"], "remote": "10.2.0.0/24", "protocol": 1, "icmp": {"type": [8, 8]}},
                {"local": "10.1.0.0/24", "remote": "10.2.0.0/24", "protocol": 17, "local_ports": "opaque", "remote_ports": "opaque"},
            ],
        });
        site.a.write("pair.json", &pair.to_string());
        let added = site.a.shown(&format!("sa add {}", site.a.folder().join("pair.json").display()));
        let rows = site.a.rows("sa list");
        let row = rows.iter().find(|row| row["pair"] == added["pair"]).unwrap();
        let told: Vec<_> = row["selectors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|selector| json!([selector["local"], selector["icmp"], selector["local_ports"]]))
            .collect();
        let echo = json!({"type": [8, 8], "code": [0, 255]});
        assert_eq!(
            told,
            [
                json!(["10.1.0.0-10.1.0.9", echo, null]),
                json!(["10.1.0.20", echo, null]),
                json!(["10.1.0.0-10.1.0.255", null, "opaque"]),
            ]
        );
        schema::holds("sas", &site.a.shown("sa list"));
    });
}

/// Sends a datagram from a's hosts.
fn send(site: &Site, to: &str) {
    let socket = bound(&site.at(Side::A).inner, (Side::A.address(), 7000));
    socket.send_to(b"datagram", to).unwrap();
}

fn discarded(site: &Site) -> u64 {
    site.a.drops("outbound", "policy_discard")
}
