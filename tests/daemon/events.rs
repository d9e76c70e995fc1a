//! `latchway events`: everything that happens is told, as it happens.

use std::net::UdpSocket;

use latchway_netns::Links;
use latchway_netns::links::Way;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::gateway::Listening;
use crate::reload::said;
use crate::site::{Side, Site, TUN, Terms, key};
use crate::{scenario, schema};

/// Each kind of event comes when what it tells of happens, and follows the schema.
#[test]
fn each_kind_of_event_is_told() {
    scenario("events::each_kind_of_event_is_told", || {
        let mut site = Site::start_a(&terms());
        let mut events = site.a.listen();

        let socket = site.at(Side::A).inner.run(|| UdpSocket::bind("10.1.0.1:7000")).unwrap().unwrap();
        socket.send_to(b"latchway", "10.4.0.1:9").unwrap();
        let acquire = events.until("acquire");
        assert!(acquire["flow"].to_string().contains("10.4.0.1"), "{acquire}");

        changes(&site, &mut events);
        guards(&site, &mut events);
        by_hand(&site, &mut events);

        let expires =
            Terms { sas: vec![(3, "soft = { packets = 3 }\nhard = { packets = 6 }".into())], ..terms() };
        site.configure(Side::A, &expires);
        site.a.shown("reload");
        for kind in ["soft_expired", "hard_expired"] {
            for _ in 0..4 {
                socket.send_to(b"latchway", "10.2.0.1:9").unwrap();
            }
            events.until(kind);
        }
        site.a.signal(Signal::SIGTERM);
        events.until("ending");
        assert!(site.a.ended().success());

        for event in &events.heard {
            schema::holds("event", event);
        }
        let numbers: Vec<u64> =
            events.heard[1..].iter().map(|event| event["number"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "some are missing: {numbers:?}");
        let expired = events.heard.iter().filter(|event| event["event"] == "soft_expired").count();
        assert_eq!(expired, 1, "T36: a soft limit is told once");
    });
}

/// A reload, one that is refused, and one that takes back what came.
fn changes(site: &Site, events: &mut Listening) {
    site.configure(
        Side::A,
        &terms().with_third_peer(1).with_tail("[[policy]]\naction = \"discard\"\nremote = \"10.9.0.0/24\""),
    );
    site.a.shown("reload");
    for kind in ["pair_added", "policy_changed", "reloaded"] {
        if !events.heard.iter().any(|event| event["event"] == kind) {
            events.until(kind);
        }
    }
    site.configure(Side::A, &terms().with_head("unheard_of = 1"));
    site.a.complains("reload");
    let refused = events.until("reload_refused");
    assert!(refused["text"].to_string().contains("unheard_of"), "{refused}");
    site.configure(Side::A, &terms());
    site.a.shown("reload");
    events.until("pair_removed");
}

/// A pair that is made by hand, and changed as a provider of SAs changes it.
fn by_hand(site: &Site, events: &mut Listening) {
    let standby = json!({
        "peer": "2.example", "suite": "aes-256-cbc-hmac-sha-256", "usage": "standby",
        "inbound": {"spi": 0x2007, "key": key(2, 7)}, "outbound": {"spi": 0x1007, "key": key(1, 7)},
        "path": {"from": "192.0.2.1", "to": "192.0.2.2:4500"},
        "selectors": [{"local": "10.1.0.0/24", "remote": "10.2.0.0/24"}],
    });
    site.a.write("standby.json", &standby.to_string());
    let file = site.a.folder().join("standby.json");
    assert!(site.a.verb(&["sa", "add", file.to_str().unwrap()]).status().unwrap().success());
    let pair = events.until("pair_added")["pair"].clone();
    for (part, kind) in
        [("activate", "pair_activated"), ("retire", "pair_retired"), ("remove", "pair_removed")]
    {
        let mut commit = json!({"activate": [], "retire": [], "remove": [], "policy": null});
        commit[part] = json!([pair]);
        said(&site.a, "Commit", &commit);
        assert_eq!(events.until(kind)["pair"], pair);
    }
    site.passes();
}

/// The TUN is set down and up, and a blackhole is deleted, which the gateway puts up again.
fn guards(site: &Site, events: &mut Listening) {
    let links = Links::of(&site.at(Side::A).inner).unwrap();
    links.set_down(TUN).unwrap();
    events.until("tun_down");
    links.set_up(TUN).unwrap();
    events.until("tun_up");
    site.passes();
    let there = "10.2.0.0/24".parse().unwrap();
    let routes = links.routes().unwrap();
    let blackhole = routes.iter().find(|route| route.destination == there && route.way == Way::Blackhole);
    links.remove(blackhole.unwrap()).unwrap();
    events.until("guard_lost");
    events.until("guard_restored");
}

/// A peer that policy asks for, and that has no SA.
fn terms() -> Terms {
    Terms::default().with_tail(
        "[[peer]]\nidentity = \"4.example\"\ninner = [\"10.4.0.0/24\"]\n\n\
         [[policy]]\naction = \"protect\"\nremote = [\"10.2.0.0/24\", \"10.3.0.0/24\", \"10.4.0.0/24\"]\n",
    )
}
