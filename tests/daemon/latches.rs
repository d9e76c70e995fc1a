//! Latches on the command line, with real sockets on both sides.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use latchway_netns::Namespace;
use latchway_netns::skip::{Need, require};
use serde_json::Value;

use crate::gateway::Gateway;
use crate::shown::connection;
use crate::site::{Side, Site, Terms};
use crate::{PATIENCE, eventually, scenario, schema};

/// A verb that stays, and what it prints.
struct Staying {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Staying {
    fn start(gateway: &Gateway, words: &[&str]) -> Self {
        let mut child = gateway.verb(words).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
        let (tell, lines) = mpsc::channel();
        let printed = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || printed.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, lines }
    }

    /// The next line, which tells what it is.
    fn next(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Ends it as nobody can refuse.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that is killed with the test.
struct Program(Child);

impl Program {
    fn start(namespace: &Namespace, script: &str) -> Self {
        let command = || Command::new("bash").args(["-c", script]).stdin(Stdio::null()).spawn();
        Self(namespace.run(command).unwrap().unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The ends of a connection, as verbs take them.
fn ends(stream: &TcpStream) -> (String, String) {
    (stream.local_addr().unwrap().to_string(), stream.peer_addr().unwrap().to_string())
}

/// The verb fails, and the exit code is this.
fn code(gateway: &Gateway, words: &[&str]) -> Option<i32> {
    gateway.verb(words).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code()
}

/// Whether a latch holds still.
fn holds(gateway: &Gateway, latch: &str) -> bool {
    let output = gateway.verb(&["latch", "inquire", latch, "--json"]).output().unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    output.status.success() && shown["state"] != "closed"
}

/// L-12, L-29, L-43, R-10, R-11: the latch of a connection that nobody asked for is found, shown and closed, and the
/// application hears of it.
#[test]
fn r_10_r_11_the_latch_of_a_connection_is_found_shown_and_closed() {
    scenario("latches::r_10_r_11_the_latch_of_a_connection_is_found_shown_and_closed", || {
        let site = Site::start(&Terms::default());
        let (mut stream, mut accepted) = connection(&site);
        stream.write_all(b"latchway").unwrap();
        accepted.read_exact(&mut [0; 8]).unwrap();
        let (local, remote) = ends(&stream);
        let found = site.a.shown(&format!("latch find {local} {remote}"));
        let latch = found["latch"].as_str().unwrap();
        let inquired = site.a.shown(&format!("latch inquire {latch}"));
        schema::holds("latch", &inquired);
        assert_eq!((&inquired["state"], &inquired["binding"]), (&"established".into(), &false.into()));
        assert_eq!(inquired["owner"]["kind"], "packets");
        assert_eq!(inquired["held"]["peer"]["asserted"], "fqdn:2.example");
        assert_eq!(inquired["tunnel"]["remote"], "192.0.2.2:4500", "R-5");
        assert!(site.a.read(&format!("latch inquire {latch}")).contains("no channel may be bound"));

        for whois in [format!("whois {local}"), format!("whois {remote}-{local}")] {
            let who = site.a.shown(&whois);
            schema::holds("whois", &who);
            assert_eq!(who["connections"].as_array().unwrap().len(), 1, "{who}");
            let row = &who["connections"][0];
            assert_eq!((&row["bond"], &row["latch"]), (&"latched".into(), &found["latch"]));
            assert_eq!(row["held"]["peer"]["method"], "manual");
        }
        let unknown = site.a.read("whois 10.1.0.1:9-10.2.0.1:9");
        assert!(unknown.contains("unknown") && unknown.contains("would be protected"), "{unknown}");

        assert!(site.a.complains(&format!("latch release {latch}")).contains("latch close"), "L-21");
        let watch = Staying::start(&site.a, &["latch", "watch"]);
        assert_eq!(watch.next()["alert"], "watching");
        site.a.shown(&format!("latch close {latch}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_exact(&mut [0; 1]).unwrap_err();
        let told = watch.next();
        schema::holds("alert", &told);
        assert_eq!((&told["latch"], &told["state"]), (&found["latch"], &"closed".into()));
        assert_eq!(site.a.shown(&format!("latch find {local} {remote}"))["state"], "closed");
        assert!(site.a.complains("latch inquire 99.99").contains("no latch"));
        assert!(site.a.complains("latch inquire seven").contains("no handle"));
    });
}

/// a peer that is gone takes its pairs and its connections along.
#[test]
fn r_6_a_peer_that_is_gone_takes_its_connections_along() {
    scenario("latches::r_6_a_peer_that_is_gone_takes_its_connections_along", || {
        let site = Site::start(&Terms::default());
        let (mut stream, _accepted) = connection(&site);
        // TCP, and as many echoes as it took until one returned.
        let latches = site.a.rows("latch list").len();
        assert!(latches >= 2);
        let gone = site.a.shown("peer gone 2.example --reason dead");
        assert_eq!((&gone["latches"], &gone["pairs"]), (&latches.into(), &serde_json::json!([1])));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_exact(&mut [0; 1]).unwrap_err();
        assert!(site.a.rows("sa list").is_empty());
        assert_eq!(site.a.shown("peer gone 9.example")["pairs"], serde_json::json!([]), "nobody knew it");
        assert!(site.a.complains("peer gone ''").contains("identity"));
    });
}

/// L-16, L-21, L-53: a listener's owner hears of the connections that come, and when it is killed its latch goes, not they.
#[test]
fn l_21_l_53_a_listener_hears_of_its_connections_and_goes_when_its_owner_is_killed() {
    scenario(
        "latches::l_21_l_53_a_listener_hears_of_its_connections_and_goes_when_its_owner_is_killed",
        || {
            let site = Site::start(&Terms::default());
            let owner = Staying::start(&site.a, &["latch", "listen", "10.1.0.1:143"]);
            let made = owner.next();
            assert_eq!((&made["state"], &made["flow"]), (&"listener".into(), &"tcp 10.1.0.1:143".into()));
            let latch = made["latch"].as_str().unwrap();
            assert_eq!(site.a.shown("latch find 10.1.0.1:143")["latch"], latch);
            assert!(site.a.complains("latch listen 10.1.0.1:143").contains("already"), "L-48");

            let hosts = |side| &site.at(side).inner;
            let listener = hosts(Side::A).run(|| TcpListener::bind("10.1.0.1:143")).unwrap().unwrap();
            let mut stream = hosts(Side::B).run(|| TcpStream::connect("10.1.0.1:143")).unwrap().unwrap();
            let (mut accepted, from) = listener.accept().unwrap();
            let told = owner.next();
            schema::holds("alert", &told);
            assert_eq!((&told["alert"], &told["listener"]), (&"made".into(), &latch.into()));
            assert!(told["flow"].as_str().unwrap().ends_with(&from.to_string()), "{told}");

            owner.kill();
            eventually("the listener's latch is gone", || !holds(&site.a, latch));
            stream.write_all(b"latchway").unwrap();
            accepted.read_exact(&mut [0; 8]).unwrap();
        },
    );
}

/// L-54, L-64, C-20: a latch that is asked for is its owner's: a verb that stays, until the latch is closed; or a process,
/// until that is killed.
#[test]
fn l_21_l_54_a_latch_is_the_verbs_or_a_processs() {
    const TEST: &str = "latches::l_21_l_54_a_latch_is_the_verbs_or_a_processs";
    scenario(TEST, || {
        if !require(TEST, &[Need::Program("bash")]) {
            return;
        }
        let site = Site::start(&Terms::default());
        let ends = ["10.1.0.1:40001", "10.2.0.1:80"];
        let owner = Staying::start(&site.a, &["latch", "connect", ends[0], ends[1]]);
        let made = owner.next();
        let latch = made["latch"].as_str().unwrap().to_owned();
        assert!(["larval", "established"].contains(&made["state"].as_str().unwrap()), "{made}");
        assert!(
            site.a.complains(&format!("latch connect {} {}", ends[0], ends[1])).contains("already"),
            "L-56"
        );
        site.a.shown(&format!("latch close {latch}"));
        let told = std::iter::repeat_with(|| owner.next()).find(|told| told["state"] == "closed").unwrap();
        assert_eq!(told["latch"], latch.as_str());
        assert_eq!(owner.code(), Some(3), "closed, and not ended by us");

        let program = Program::start(&site.at(Side::A).inner, "sleep 1000");
        let words = ["latch", "listen", "*:25", "--owner", &program.pid(), "--json"];
        let output = site.a.verb(&words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        let latch = made["latch"].as_str().unwrap();
        let owner = &site.a.shown(&format!("latch inquire {latch}"))["owner"];
        assert_eq!((&owner["kind"], &owner["pid"]), (&"process".into(), &program.0.id().into()));
        drop(program);
        eventually("the latch is gone with its process", || !holds(&site.a, latch));

        for (words, says) in [
            ("latch listen *:25 --owner 0", "no process"),
            ("latch connect 10.1.0.1:1 10.2.0.1:2 --peer 2.example", "applications"),
            ("latch connect 10.1.0.1:1 10.2.0.1:2 --protection bypass --unprivileged", "applications"),
            ("latch connect 10.1.0.1:1 10.9.0.1:2", "policy"),
            ("latch connect 10.1.0.1:0 10.2.0.1:2", "port 0"),
            ("latch connect 10.1.0.1:1 224.0.0.1:2", "multicast"),
        ] {
            let complaint = site.a.complains(words);
            assert!(complaint.contains(says), "{words}: {complaint}");
        }
        assert_eq!(code(&site.a, &["latch", "listen", "imap.example:143"]), Some(2));
    });
}

/// `latchway prove`: latched, listening and local sockets hold; one of another namespace, and one that passes in the clear, do
/// not, the last unless that is allowed.
#[test]
fn what_a_process_sends_is_proven_to_be_latched_or_not() {
    const TEST: &str = "latches::what_a_process_sends_is_proven_to_be_latched_or_not";
    scenario(TEST, || {
        if !require(TEST, &[Need::Program("bash")]) {
            return;
        }
        let site = Site::start_a(&Terms::default().with_head("exec = \"10.1.0.128/25\""));
        let (inner, outer) = (&site.at(Side::A).inner, &site.at(Side::A).outer);
        let listener = site.at(Side::B).inner.run(|| TcpListener::bind("10.2.0.1:80")).unwrap().unwrap();
        let latched = Program::start(inner, "exec 3<>/dev/tcp/10.2.0.1/80; read -t 1000 <&3");
        let _first = listener.accept().unwrap();
        let proof = prove(&site.a, &latched, true);
        schema::holds("prove", &proof);
        assert_eq!(standing(&proof), ["latched"]);
        assert_eq!(proof["sockets"][0]["peer"], "fqdn:2.example");

        // In a room of its own behind the gateway, the same holds.
        let mut exec = site.a.verb(&["exec"]);
        exec.args(["--", "bash", "-c", "exec 3<>/dev/tcp/10.2.0.1/80; read -t 1000 <&3"]);
        let room = Program(exec.spawn().unwrap());
        let _second = listener.accept().unwrap();
        assert_eq!(standing(&prove(&site.a, &room, true)), ["latched"]);

        let elsewhere = Program::start(outer, "exec 3<>/dev/udp/192.0.2.2/9; read -t 1000 <&3");
        eventually("its socket is there", || !standing(&shown(&site.a, &elsewhere, &[]).1).is_empty());
        assert_eq!(standing(&prove(&site.a, &elsewhere, false)), ["elsewhere"]);

        let nothing = Program::start(inner, "sleep 1000");
        assert!(prove(&site.a, &nothing, true)["sockets"].as_array().unwrap().is_empty());

        site.a.shown("policy add bypass --local 10.1.0.0/24 --remote 10.2.0.66/32");
        let clear = Program::start(inner, "exec 3<>/dev/udp/10.2.0.66/9; read -t 1000 <&3");
        eventually("its socket is there", || !standing(&shown(&site.a, &clear, &[]).1).is_empty());
        let (proven, proof) = shown(&site.a, &clear, &[]);
        // Without a bypass port nothing of it passes, and that is no breach.
        assert_eq!((proven, standing(&proof)), (true, vec!["dropped".to_owned()]), "{proof}");

        assert!(site.a.complains("prove 4194304").contains("there is no process"));
        assert_eq!(code(&site.a, &["prove", "me"]), Some(2));
    });
}

fn shown(gateway: &Gateway, program: &Program, more: &[&str]) -> (bool, Value) {
    let mut verb = gateway.verb(&["prove", &program.pid(), "--json"]);
    let output = verb.args(more).output().unwrap();
    let proof = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.success(), proof)
}

fn prove(gateway: &Gateway, program: &Program, holds: bool) -> Value {
    let (proven, proof) = shown(gateway, program, &[]);
    assert_eq!((proven, &proof["proven"]), (holds, &holds.into()), "{proof}");
    proof
}

fn standing(proof: &Value) -> Vec<String> {
    let sockets = proof["sockets"].as_array().unwrap();
    sockets.iter().map(|socket| socket["standing"].as_str().unwrap().to_owned()).collect()
}
