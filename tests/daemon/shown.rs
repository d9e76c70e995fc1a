//! What verbs show of a gateway at work, and of none.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::gateway::end_listening;
use crate::gateway::{Gateway, PROGRAM, complaint};
use crate::site::{Side, Site, Terms, key};
use crate::{eventually, scenario, schema};

/// Every verb that shows something follows its committed schema with a gateway at work, has something to show, and says in
/// text what it says in JSON.
#[test]
fn every_answer_follows_its_schema() {
    scenario("shown::every_answer_follows_its_schema", || {
        let site = Site::start(&Terms::default().with_third_peer(1));
        let (mut stream, mut accepted) = connection(&site);
        stream.write_all(b"latchway").unwrap();
        accepted.read_exact(&mut [0; 8]).unwrap();
        for (verb, name, rows) in [
            ("status", "status", None),
            ("sa list", "sas", Some(4)),
            ("policy list", "policies", Some(2)),
            ("peer list", "peers", Some(2)),
            ("latch list", "latches", Some(1)),
            ("flow list", "flows", Some(1)),
            ("drops", "drops", None),
            ("explain tcp 10.1.0.1:40000 10.2.0.1:80", "explanation", None),
            ("reload --dry-run", "reload", None),
            ("reload", "reload", None),
        ] {
            schema::holds(name, &site.a.shown(verb));
            assert!(!site.a.read(verb).contains('\u{1b}'), "{verb}: colours are for terminals");
            if let Some(least) = rows {
                assert!(site.a.rows(verb).len() >= least, "{verb}: {:?}", site.a.rows(verb));
            }
        }
        assert!(site.a.read("top --once --interval 0.1").contains("2.example"));
        let limited = site.a.shown("sa list --limit 1");
        assert_eq!(
            (limited["sas"].as_array().unwrap().len(), &limited["truncated"]),
            (1, &Value::Bool(true))
        );
        let sas = site.a.rows("sa list");
        let outbound = sas.iter().find(|row| row["spi"] == 0x1001).unwrap();
        assert!(outbound["packets"].as_u64().unwrap() > 2, "{outbound}");
        assert_eq!(site.a.shown("status")["pid"], site.a.pid().as_raw());
    });
}

/// T40, T33: no key is in anything that a gateway prints, logs, or shows of its process; no core dump holds one.
#[test]
fn t40_t33_no_key_leaves_a_gateway() {
    scenario("shown::t40_t33_no_key_leaves_a_gateway", || {
        let site = Site::start(&Terms::default());
        let mut said = String::new();
        for verb in
            ["status", "sa list", "policy list", "peer list", "latch list", "flow list", "drops", "reload"]
        {
            said += &site.a.read(verb);
            said += &site.a.shown(verb).to_string();
        }
        let pid = site.a.pid();
        for file in ["environ", "cmdline", "status", "limits"] {
            said += &String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap());
        }
        assert!(said.contains("Max core file size        0                    0"), "core dumps are off");
        site.a.write("21.key", "c0ffee");
        said += &site.a.complains("reload");
        said += &site.a.log();
        for key in [key(1, 1), key(2, 1), "c0ffee".into()] {
            assert!(!said.to_lowercase().contains(&key[..16.min(key.len())]), "a key: {said}");
        }
    });
}

/// Several gateways on one machine are told apart by `--control` and by LATCHWAY_CONTROL. Where none answers, it is said
/// what was tried and what to do; and so it is to users that no gateway serves.
#[test]
fn gateways_are_told_apart_and_none_is_missed_silently() {
    scenario("shown::gateways_are_told_apart_and_none_is_missed_silently", || {
        let site = Site::start(&Terms::default());
        let by_variable = |gateway: &Gateway| {
            let mut command = Command::new(PROGRAM);
            command.args(["status", "--json"]).env("LATCHWAY_CONTROL", gateway.control());
            let output = command.output().unwrap();
            serde_json::from_slice::<Value>(&output.stdout).unwrap()["name"].clone()
        };
        assert_eq!((by_variable(&site.a), by_variable(&site.b)), ("gateway1".into(), "gateway2".into()));
        assert_eq!(site.a.shown("status")["name"], "gateway1");
        let mut both = site.a.verb(&["status", "--json"]);
        let output = both.env("LATCHWAY_CONTROL", site.b.control()).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("gateway1"), "what is written out decides");

        let missing = Command::new(PROGRAM)
            .args(["status", "--control", "/nonexistent/control.sock"])
            .output()
            .unwrap();
        let said = complaint(&missing);
        assert!(said.contains("/nonexistent/control.sock") && said.contains("help: "), "{said}");
        if nix::unistd::geteuid().is_root() && Command::new("setpriv").arg("--version").output().is_ok() {
            let mut nobody = Command::new("setpriv");
            nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(PROGRAM);
            let output = nobody.args(["status", "--control"]).arg(site.a.control()).output().unwrap();
            if output.status.code() == Some(1) {
                let said = complaint(&output);
                assert!(said.contains("control.sock") && said.contains("help: "), "{said}");
                assert!(said.contains("permi") || said.contains("root"), "{said}");
            } else {
                assert!(!output.status.success(), "nobody is served: {output:?}");
            }
        }
    });
}

/// A verb's reader may go away: no complaint, and the gateway goes on.
#[test]
fn a_gateway_outlives_whoever_listens_to_it() {
    scenario("shown::a_gateway_outlives_whoever_listens_to_it", || {
        let mut site = Site::start(&Terms::default());
        for _ in 0..10 {
            drop(site.a.listen());
        }
        site.configure(Side::A, &Terms::default().with_third_peer(1));
        site.a.shown("reload");
        eventually("the change is shown", || site.a.rows("peer list").len() == 2);
        assert!(site.a.runs());
        site.passes();
    });
}

/// A TCP connection from a's hosts to b's.
pub fn connection(site: &Site) -> (TcpStream, TcpStream) {
    let there = (Side::B.address(), 80);
    let listener = site.at(Side::B).inner.run(|| TcpListener::bind(there)).unwrap().unwrap();
    let stream = site.at(Side::A).inner.run(|| TcpStream::connect(there)).unwrap().unwrap();
    let accepted = listener.accept().unwrap().0;
    end_listening(&listener);
    (stream, accepted)
}
