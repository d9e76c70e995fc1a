//! What `latchway reload` and SIGHUP change, and what they leave alone.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::site::{Side, Site, Terms, key};
use crate::traffic::Load;
use crate::{eventually, scenario};

/// `--dry-run` says what the reload then does, and changes nothing; the reload does it, once; SIGHUP takes it back.
#[test]
fn a_dry_run_says_what_a_reload_then_does() {
    scenario("reload::a_dry_run_says_what_a_reload_then_does", || {
        let site = Site::start(&Terms::default());
        site.configure(Side::A, &with_more(1));
        let before = site.a.snapshot();
        let dry = site.a.shown("reload --dry-run");
        assert_eq!(site.a.snapshot(), before, "a dry run changes nothing");
        assert_eq!(dry["applied"], false);
        let text = site.a.read("reload --dry-run");
        let real = site.a.shown("reload");
        assert_eq!((&real["applied"], &real["changes"]), (&json!(true), &dry["changes"]));
        let changes: Vec<(&str, &str)> = real["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["kind"].as_str().unwrap(), row["what"].as_str().unwrap()))
            .collect();
        for wanted in [("added", "peer"), ("added", "sa"), ("added", "policy")] {
            assert!(changes.contains(&wanted), "{wanted:?} is not in {changes:?}");
        }
        for row in real["changes"].as_array().unwrap() {
            let line = row["text"].as_str().unwrap();
            assert!(text.contains(line), "{line} is not in: {text}");
        }
        assert_eq!(site.a.rows("peer list").len(), 2);
        assert_eq!(site.a.rows("sa list").len(), 4);
        assert_eq!(site.a.shown("reload")["changes"], json!([]), "a second time, nothing differs");

        site.configure(Side::A, &Terms::default());
        let reloads = site.a.shown("status")["reloads"]["count"].as_u64().unwrap();
        site.a.signal(Signal::SIGHUP);
        eventually("SIGHUP is heeded", || site.a.shown("status")["reloads"]["count"] == reloads + 1);
        assert_eq!(site.a.shown("status")["reloads"]["last"]["applied"], true);
        eventually("what was added is gone", || site.a.rows("sa list").len() == 2);
        assert_eq!(site.a.rows("peer list").len(), 1);
        site.passes();
    });
}

/// SAs that a reload does not name go on with their numbers, and latches with their class (T14).
#[test]
fn t14_unchanged_sas_keep_their_numbers_and_latches() {
    scenario("reload::t14_unchanged_sas_keep_their_numbers_and_latches", || {
        let site = Site::start(&Terms::default());
        let load = Load::start(&site);
        eventually("the load runs", || load.count().0 > 50);
        let before = latches(&site.a);
        assert!(before.iter().any(|latch| latch["state"] == "established"), "{before:?}");
        let packets = packets(&site.a);
        site.configure(Side::A, &with_more(1));
        site.a.shown("reload");
        assert!(self::packets(&site.a) >= packets, "its numbers begin anew");
        for latch in before {
            let same = |now: &Value| now["flow"] == latch["flow"] && now["class"] == latch["class"];
            assert!(latches(&site.a).iter().any(same), "{latch} is gone: {:?}", latches(&site.a));
        }
        load.end().is_whole();
        assert_eq!(site.b.drops("inbound", "replayed") + site.b.drops("inbound", "no_sa"), 0);
    });
}

/// T14, C-17: what an SA's keys do not depend on is said anew of the SA that is there, while it carries the load: SPIs, numbers
/// and latches go on, and `--dry-run` says so.
#[test]
fn t14_c_17_a_reload_revises_an_sa_in_place() {
    scenario("reload::t14_c_17_a_reload_revises_an_sa_in_place", || {
        let site = Site::start(&Terms::default());
        let load = Load::start(&site);
        eventually("the load runs", || load.count().0 > 50);
        let before = latches(&site.a);
        let pair = site.a.rows("sa list")[0]["pair"].clone();
        let lines =
            "dscp = 46\ntfc = 64\nfollow = true\nkeepalive = \"20s\"\nhard = { packets = 900_000_000 }";
        let revised = Terms { sas: vec![(1, lines.to_owned())], ..Terms::default() };
        for (terms, dscp, hard) in
            [(revised, json!(46), json!(900_000_000)), (Terms::default(), Value::Null, Value::Null)]
        {
            let packets = packets(&site.a);
            site.configure(Side::A, &terms);
            let dry = site.a.shown("reload --dry-run");
            let [row] = &dry["changes"].as_array().unwrap()[..] else { panic!("{dry}") };
            assert_eq!((&row["kind"], &row["what"]), (&json!("changed"), &json!("sa")));
            let text = row["text"].as_str().unwrap();
            assert!(text.ends_with("goes on: follow, keepalive, dscp, tfc, hard"), "{text}");
            assert!(!dry["warnings"].to_string().contains("would break"), "{dry}");
            assert_eq!(site.a.shown("reload")["changes"], dry["changes"]);
            for row in site.a.rows("sa list") {
                assert_eq!((&row["pair"], &row["usage"]), (&pair, &json!("active")), "{row}");
                assert_eq!((&row["form"]["dscp"], &row["hard"]["packets"]), (&dscp, &hard), "{row}");
            }
            assert!(self::packets(&site.a) >= packets, "its numbers begin anew");
            let after = load.count();
            eventually("the load goes on", || load.count().0 > after.0 + 50);
        }
        for latch in before {
            let same = |now: &Value| now["flow"] == latch["flow"] && now["class"] == latch["class"];
            assert!(latches(&site.a).iter().any(same), "{latch} is gone: {:?}", latches(&site.a));
        }
        load.end().is_whole();
        for gateway in [&site.a, &site.b] {
            let dropped = ["replayed", "too_old", "no_sa", "outer_mismatch"];
            assert_eq!(dropped.map(|reason| gateway.drops("inbound", reason)), [0; 4]);
        }
    });
}

/// T14, T32: two hundred reloads, each of which adds or removes a peer, SAs and policies, while hosts talk by an SA that none of
/// them names: not one packet is lost or comes twice.
#[test]
fn t14_two_hundred_reloads_under_load_lose_nothing() {
    scenario("reload::t14_two_hundred_reloads_under_load_lose_nothing", || {
        let site = Site::start(&Terms::default());
        let load = Load::start(&site);
        for round in 0..200_u8 {
            site.configure(Side::A, &if round % 2 == 0 { with_more(round) } else { Terms::default() });
            let before = load.count();
            let reloaded = site.a.verb(&["reload"]).output().unwrap();
            assert!(reloaded.status.success(), "{round}: {reloaded:?}");
            eventually("the load goes on", || {
                let now = load.count();
                now.0 > before.0 && now.1 > before.1
            });
        }
        assert_eq!(site.a.shown("status")["reloads"]["count"], 200);
        load.end().is_whole();
        for gateway in [&site.a, &site.b] {
            assert_eq!(
                ["replayed", "no_sa", "no_outbound_sa", "no_policy", "latch_broken", "mid_stream"]
                    .map(|reason| gateway.drops("inbound", reason) + gateway.drops("outbound", reason)),
                [0; 6]
            );
        }
    });
}

/// T14: one reload puts another SA in the place of the one that carries the load. The peer has it already, receives by it,
/// and follows: nothing is lost in either direction.
#[test]
fn t14_a_replaced_sa_loses_nothing() {
    scenario("reload::t14_a_replaced_sa_loses_nothing", || {
        let site = Site::start(&Terms::default());
        let load = Load::start(&site);
        eventually("the load runs", || load.count().1 > 50_000);
        let standby = json!({
            "peer": "1.example", "suite": "aes-256-cbc-hmac-sha-256", "usage": "standby",
            "inbound": {"spi": 0x1002, "key": key(1, 2)}, "outbound": {"spi": 0x2002, "key": key(2, 2)},
            "path": {"from": "192.0.2.2", "to": "192.0.2.1:4500"},
            "selectors": [{"local": "10.2.0.0/24", "remote": "10.1.0.0/24"}],
        });
        site.b.write("standby.json", &standby.to_string());
        let file = site.b.folder().join("standby.json");
        let added = site.b.verb(&["sa", "add", "--json", file.to_str().unwrap()]).output().unwrap();
        let added: Value =
            serde_json::from_slice(&added.stdout).unwrap_or_else(|_| panic!("not added: {added:?}"));

        let old = site.b.rows("sa list")[0]["pair"].clone();
        site.configure(Side::A, &Terms::default().with_sas(&[2]));
        let changes = site.a.shown("reload")["changes"].as_array().unwrap().len();
        assert_eq!(changes, 2, "one SA goes, one comes");
        let activate = json!({"activate": [added["pair"]], "retire": [old], "remove": [], "policy": null});
        said(&site.b, "Commit", &activate);

        let carried = |gateway: &Gateway| {
            let rows = gateway.rows("sa list");
            let of_new = rows.iter().filter(|row| [0x1002, 0x2002].contains(&row["spi"].as_u64().unwrap()));
            of_new.map(|row| row["packets"].as_u64().unwrap()).min().unwrap()
        };
        eventually("the new SAs carry the load", || carried(&site.a) > 100 && carried(&site.b) > 100);
        eventually("the old SA is gone", || site.a.rows("sa list").len() == 2);
        load.end().is_whole();
        for gateway in [&site.a, &site.b] {
            assert_eq!(gateway.drops("inbound", "no_sa") + gateway.drops("outbound", "no_outbound_sa"), 0);
        }
    });
}

/// A reload of a file with errors names every one of them with its place, and changes nothing.
#[test]
fn a_reload_with_errors_names_all_of_them_and_changes_nothing() {
    scenario("reload::a_reload_with_errors_names_all_of_them_and_changes_nothing", || {
        let mut site = Site::start(&Terms::default());
        let before = site.a.snapshot();
        let wrong = Terms::default().with_sas(&[2]).with_head("unheard_of = 1").with_tail(
            "[[policy]]\naction = \"perhaps\"\n\n[[policy]]\naction = \"discard\"\nremote = \"10.2.0.0/33\"",
        );
        site.configure(Side::A, &wrong);
        let inner = &site.at(Side::A).inner;
        let places = ["unheard_of = 1", "\"perhaps\"", "\"10.2.0.0/33\""]
            .map(|part| place(&wrong.text(Side::A, inner), part));
        for verb in ["reload", "reload --dry-run"] {
            let said = site.a.complains(verb);
            for (line, part) in &places {
                assert!(
                    said.contains(&format!("{line}:")) && said.contains(part),
                    "{line}: {part} is not in: {said}"
                );
            }
        }
        site.a.write("21.key", "not a key");
        site.configure(Side::A, &Terms::default().with_sas(&[2]));
        site.a.write("12.key", "not a key");
        assert!(site.a.complains("reload").contains("12.key"));
        std::fs::remove_file(site.a.folder().join("gateway.toml")).unwrap();
        assert!(site.a.complains("reload").contains("gateway.toml"));

        site.configure(Side::A, &wrong);
        site.a.signal(Signal::SIGHUP);
        eventually("the refusal is logged", || site.a.log().contains("unheard_of"));
        assert_eq!(site.a.snapshot(), before);
        assert!(site.a.runs());
        site.passes();
    });
}

/// Keys of which a gateway is made once are refused by name, and nothing else of the file is applied then.
#[test]
fn what_takes_a_restart_is_refused_by_name() {
    scenario("reload::what_takes_a_restart_is_refused_by_name", || {
        let site = Site::start(&Terms::default());
        let (before, inner) = (site.a.snapshot(), site.at(Side::A).inner.clone());
        site.configure(Side::A, &with_more(1));
        let text = with_more(1).text(Side::A, &inner);
        for (key, from, to) in [
            ("name", "name = \"gateway1\"", "name = \"another\""),
            ("identity", "identity = \"1.example\"", "identity = \"other.example\""),
            ("addresses", "addresses = [\"10.1.0.1/24\"]", "addresses = [\"10.1.0.1/24\", \"10.1.0.9/24\"]"),
            ("listen", "listen = [\"192.0.2.1:4500\"]", "listen = [\"192.0.2.1:4501\"]"),
            ("control", "control = \"control.sock\"", "control = \"other.sock\""),
            (
                "inner",
                &format!("inner = {{ path = \"{}\" }}", inner.proc_path().display()),
                "inner = \"other\"",
            ),
            ("tun", "name = \"lw0\"", "name = \"lw1\""),
            ("metrics", "[tun]", "metrics = \"127.0.0.1:9\"\n[tun]"),
            ("exec", "[tun]", "exec = \"10.1.0.128/25\"\n[tun]"),
            ("bypass_port", "[tun]", "bypass_port = \"out0\"\n[tun]"),
            ("user", "[tun]", "user = \"nobody\"\n[tun]"),
            ("state", "[tun]", "state = \"state\"\n[tun]"),
        ] {
            assert!(text.contains(from), "{key}");
            site.a.configure(&text.replacen(from, to, 1));
            let said = site.a.complains("reload");
            assert!(said.contains(key) && said.contains("restart"), "{key}: {said}");
        }
        assert_eq!(site.a.snapshot(), before);
        site.passes();
    });
}

/// What an operator made by hand stays through a reload: SAs and rules. What a reload made, no hand deletes unseen.
#[test]
fn what_was_made_by_hand_stays_through_reloads() {
    scenario("reload::what_was_made_by_hand_stays_through_reloads", || {
        let site = Site::start(&Terms::default());
        site.a.write("in.key", &key(2, 9));
        site.a.write("out.key", &key(1, 9));
        let file = |name: &str| site.a.folder().join(name).display().to_string();
        let (inbound, outbound) = (file("in.key"), file("out.key"));
        let words = [
            "sa",
            "add",
            "--json",
            "--peer",
            "2.example",
            "--suite",
            "aes-256-cbc-hmac-sha-256",
            "--inbound-spi",
            "0x2009",
            "--inbound-key",
            &inbound,
            "--outbound-spi",
            "0x1009",
            "--outbound-key",
            &outbound,
            "--from",
            "192.0.2.1",
            "--to",
            "192.0.2.2:4500",
            "--local",
            "10.1.0.0/24",
            "--remote",
            "10.2.0.0/24",
            "--standby",
        ];
        let added = site.a.verb(&words).output().unwrap();
        assert!(added.status.success(), "{added:?}");
        let added: Value = serde_json::from_slice(&added.stdout).unwrap();
        let rule = site.a.shown("policy add discard --local 10.1.0.0/24 --remote 10.2.0.66/32");
        let hand = |list: &str| -> Vec<Value> {
            site.a.rows(list).into_iter().filter(|row| row["origin"] == "hand").collect()
        };
        assert_eq!((hand("sa list").len(), hand("policy list").len()), (2, 1));
        assert_eq!(
            site.a.rows("policy list")[0]["number"],
            rule["number"],
            "before those of the configuration"
        );
        for terms in [with_more(1), Terms::default()] {
            site.configure(Side::A, &terms);
            site.a.shown("reload");
            assert_eq!((hand("sa list").len(), hand("policy list").len()), (2, 1));
        }
        site.a.shown(&format!("sa delete {}", added["pair"]));
        site.a.shown(&format!("policy delete {}", rule["number"]));
        eventually("what was deleted is gone", || {
            hand("sa list").is_empty() && hand("policy list").is_empty()
        });
        let pair = added["pair"].to_string();
        assert!(site.a.complains(&format!("sa delete {pair}")).contains(&pair));
        assert!(site.a.complains("policy delete 4242").contains("4242"));
        site.passes();
    });
}

/// A third peer, and policies of another kind.
fn with_more(number: u8) -> Terms {
    Terms::default().with_third_peer(number).with_tail(
        "[[policy]]\naction = \"discard\"\nremote = \"10.3.0.66\"\n\n\
         [[policy]]\naction = \"protect\"\npeer = \"2.example\"\nlocal = \"10.1.0.0/24\"\n\n\
         [[policy]]\naction = \"protect\"\npeer = \"3.example\"\nlocal = \"10.1.0.0/24\"",
    )
}

fn latches(gateway: &Gateway) -> Vec<Value> {
    gateway.rows("latch list")
}

/// What the outbound SA of the configuration carried.
fn packets(gateway: &Gateway) -> u64 {
    let rows = gateway.rows("sa list");
    rows.iter().find(|row| row["spi"] == 0x1001).unwrap()["packets"].as_u64().unwrap()
}

/// Line of a part of a text, and what to look for in a complaint about it.
fn place(text: &str, part: &str) -> (usize, String) {
    let line = 1 + text[..text.find(part).unwrap()].matches('\n').count();
    (line, part.trim_matches('"').trim_end_matches(" = 1").to_owned())
}

/// Calls a method of control.sock as a provider of SAs does.
pub fn said(gateway: &Gateway, method: &str, parameters: &Value) {
    let mut stream = UnixStream::connect(gateway.control()).unwrap();
    let call = json!({"method": format!("org.latchway.Control.{method}"), "parameters": parameters});
    stream.write_all(call.to_string().as_bytes()).unwrap();
    stream.write_all(&[0]).unwrap();
    let mut reply = Vec::new();
    BufReader::new(stream).read_until(0, &mut reply).unwrap();
    let reply = String::from_utf8(reply).unwrap();
    assert!(!reply.contains("\"error\""), "{method}: {reply}");
}
