//! The command line as a process, towards a gateway that says what a test wants: what is printed, how it ends.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use latchway_control::{
    DirectionSpec, EncapsulationSpec, FormSpec, LatchCounts, LifetimeView, Mode, ModeSpec, Origin, PathView,
    ReloadHistory, SaRow, SaUsage, Sas, StatusView, StreetView, TunView,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_latchway");

/// `--json` prints exactly the answer, and text says something of it.
#[test]
fn json_is_the_answer_and_text_is_for_people() {
    let gateway = Gateway::start("views", answer);
    for (verb, method, part) in VERBS {
        let words: Vec<&str> = verb.split(' ').collect();
        let json = gateway.run(&[&words[..], &["--json"]].concat());
        assert!(json.status.success(), "{verb}: {json:?}");
        let printed: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(printed, answer(method)[0]["parameters"], "{verb}");
        let text = gateway.run(&words);
        assert!(text.status.success() && text.stderr.is_empty(), "{verb}: {text:?}");
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains(part), "{verb}: {text}");
        assert!(!text.contains('\u{1b}'), "{verb}: colours are for terminals: {text}");
    }
}

/// Each verb says what it was told to say, word for word.
#[test]
fn what_is_asked_of_the_gateway_is_what_the_flags_say() {
    let gateway =
        Gateway::start("asked", |_| vec![json!({"error": "org.latchway.Control.Refused", "parameters": {}})]);
    for (words, method, parameters) in [
        ("reload --dry-run", "Reload", json!({"dry_run": true})),
        ("reload", "Reload", json!({"dry_run": false})),
        ("sa delete 7", "DeletePair", json!({"pair": 7})),
        ("policy delete 3", "DeleteRule", json!({"number": 3})),
        ("latch list --limit 5", "Latches", json!({"limit": 5})),
        (
            "policy add discard --local 10.1.0.0/24 --remote 10.2.0.0/24 --before 2",
            "AddRule",
            json!({"before": 2, "rule": {
                "selector": {"local": ["10.1.0.0/24"], "remote": ["10.2.0.0/24"], "protocol": null, "icmp": null,
                             "local_ports": null, "remote_ports": null},
                "direction": null, "action": "discard", "latch": false, "applications": "nothing",
                "terms": {"model": "strict", "on_conflict": "terminate", "on_policy_change": "break",
                          "unlatchable": "refuse", "sticky": false}
            }}),
        ),
        (
            "explain --inbound tcp 10.2.0.1:80 > 10.1.0.1:40000 size 1400",
            "Explain",
            json!({"direction": "inbound", "protocol": 6, "local": "10.1.0.1", "local_port": 40000,
                   "remote": "10.2.0.1", "remote_port": 80, "octets": 1400}),
        ),
    ] {
        let output = gateway.run(&words.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(1), "{words}");
        let asked = gateway.asked();
        assert_eq!(asked["method"], format!("org.latchway.Control.{method}"), "{words}");
        assert_eq!(asked["parameters"], parameters, "{words}");
    }
}

/// T40: keys go to the gateway from standard input, and come back by no way.
#[test]
fn t40_keys_come_from_standard_input() {
    let gateway = Gateway::start("keys", |_| vec![json!({"parameters": {"pair": 9}})]);
    let mut child = gateway
        .command(&[
            "sa",
            "add",
            "--peer",
            "b.example",
            "--suite",
            "aes-128-gcm",
            "--inbound-spi",
            "0x1001",
            "--inbound-key",
            "-",
            "--outbound-spi",
            "0x1002",
            "--outbound-key",
            "-",
            "--from",
            "192.0.2.1",
            "--to",
            "192.0.2.2:4500",
            "--local",
            "10.1.0.0/24",
            "--remote",
            "10.2.0.0/24",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"0xc0ffee01\nc0ffee02\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "pair 9 added\n");
    let asked = gateway.asked();
    assert_eq!(asked["parameters"]["inbound"]["key"], "c0ffee01");
    assert_eq!(asked["parameters"]["outbound"]["key"], "c0ffee02");
}

/// One line says what happened, and one what to do. Exit code 1: refused or failed.
#[test]
fn a_refusal_is_two_lines_and_exit_code_one() {
    let gateway = Gateway::start("refusal", |_| {
        let parameters =
            json!({"message": "rule 3 is of the configuration", "hint": "take it out there, and reload"});
        vec![json!({"error": "org.latchway.Control.Refused", "parameters": parameters})]
    });
    let output = gateway.run(&["policy", "delete", "3"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "latchway: rule 3 is of the configuration\nhelp: take it out there, and reload\n");
}

#[test]
fn without_a_gateway_it_is_said_what_was_tried_and_what_to_do() {
    let empty = command(Path::new(""), &["keygen", "--suite", "none", "/nonexistent"]).output().unwrap();
    assert_eq!(
        empty.status.code(),
        Some(1),
        "an empty LATCHWAY_CONTROL names nothing, and is no error: {empty:?}"
    );
    let output = run(Path::new("/nonexistent/control.sock"), &["status"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("/nonexistent/control.sock"), "{text}");
    assert!(lines[1].starts_with("help: "), "{text}");
}

/// Exit code 2: the command line is not right, and it is said what is not.
#[test]
fn a_wrong_command_line_is_exit_code_two() {
    for (words, says) in [
        (&["explain", "tcp", "10.1.0.1", "10.2.0.1:80"][..], "10.1.0.1:PORT"),
        (&["sa", "delete", "one"], "PAIR"),
        (&["sa", "add"], "--peer"),
        (&["policy", "add", "drop"], "discard"),
        (&["stat"], "status"),
        (&["top", "--interval", "0"], "0.1"),
    ] {
        let output = run(Path::new("/nonexistent/control.sock"), words);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {text}");
        assert!(text.contains(says), "{words:?}: {text}");
    }
}

#[test]
fn colours_come_when_asked_for_and_not_against_no_color() {
    let gateway = Gateway::start("colours", answer);
    let coloured = |words: &[&str]| gateway.run(words).stdout.contains(&0x1b);
    assert!(coloured(&["latch", "list", "--color", "always"]));
    assert!(!coloured(&["latch", "list", "--color", "always", "--json"]), "JSON has none");
    assert!(!coloured(&["latch", "list", "--color", "never"]));
}

/// Whoever reads may leave at any moment: that is no panic, and no failure.
#[test]
fn a_closed_pipe_is_no_panic() {
    let gateway = Gateway::start("pipe", answer);
    let verbs = VERBS.iter().map(|(verb, ..)| *verb);
    for verb in
        verbs.chain(["completions bash", "man", "events", "top --once --interval 0.1", "help", "--version"])
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let words: Vec<&str> = verb.split(' ').collect();
        let output = gateway.command(&words).stdout(writer).spawn().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains("panicked"), "{verb}: {text}");
        assert_eq!(output.status.code(), Some(0), "{verb}: {text}");
    }
}

/// An event is printed when it comes, not when the next one does; and the end of the gateway is the end.
#[test]
fn events_are_lines_that_come_at_once_and_end_with_the_gateway() {
    for (form, says) in
        [(&["events", "--follow"][..], "soft_expired"), (&["events", "--json"], r#""event":"soft_expired""#)]
    {
        let gateway = Gateway::start("events", |_| vec![event("subscribed"), event("soft_expired")]);
        let mut child = gateway.command(form).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("subscribed"));
        gateway.go_on();
        assert!(lines.next().unwrap().unwrap().contains(says));
        gateway.go_on();
        assert!(lines.next().is_none());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn events_end_on_a_signal_and_after_enough() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let gateway = Gateway::start("signal", |_| vec![event("subscribed")]);
        let mut child = gateway.command(&["events", "--follow"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        signal_to(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
    let gateway = Gateway::start("count", |_| vec![event("subscribed")]);
    let output = gateway.run(&["events", "--count", "1"]);
    assert_eq!(
        (output.status.code(), output.stdout.iter().filter(|octet| **octet == b'\n').count()),
        (Some(0), 1)
    );
}

#[test]
fn top_prints_one_picture_for_scripts() {
    let gateway = Gateway::start("once", answer);
    let output = gateway.run(&["top", "--once", "--interval", "0.1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("branch") && text.contains("b.example"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

/// Whatever ends `top`, the terminal is as it was: its modes, its screen, its cursor.
#[test]
fn top_leaves_the_terminal_as_it_was() {
    let gateway = Gateway::start("terminal", answer);
    for end in [End::Key(b"q"), End::Key(b"\x03"), End::Signal(Signal::SIGINT), End::Signal(Signal::SIGTERM)]
    {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&slave).unwrap();
        assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
        let mut child = gateway
            .command(&["top"])
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .env("TERM", "xterm")
            .spawn()
            .unwrap();
        let mut terminal = fs::File::from(master);
        let mut seen = String::new();
        read_until(&mut terminal, &mut seen, "quit");
        assert!(
            !tcgetattr(&slave).unwrap().local_flags.contains(LocalFlags::ECHO),
            "keys are read one by one"
        );
        match end {
            End::Key(key) => terminal.write_all(key).unwrap(),
            End::Signal(signal) => signal_to(&child, signal),
        }
        read_until(&mut terminal, &mut seen, "\u{1b}[?1049l");
        read_until(&mut terminal, &mut seen, "\u{1b}[?25h");
        assert_eq!(child.wait().unwrap().code(), Some(0), "{end:?}");
        assert_eq!(tcgetattr(&slave).unwrap().local_flags, before.local_flags, "{end:?}");
    }
}

#[derive(Debug)]
enum End {
    Key(&'static [u8]),
    Signal(Signal),
}

/// Verbs that show an answer, the method that answers, and a part of what people read.
const VERBS: [(&str, &str, &str); 9] = [
    ("status", "Status", "branch (latchway 0.1.0, process 1"),
    ("sa list", "Sas", "0x00001001"),
    ("policy list", "Policies", "no policy: every packet is dropped"),
    ("peer list", "Peers", "b.example"),
    ("latch list", "Latches", "established"),
    ("flow list", "Flows", "no flows"),
    ("drops", "Drops", "nothing was dropped"),
    ("explain icmp 10.1.0.1 10.2.0.1", "Explain", "dropped: no_policy"),
    ("reload --dry-run", "Reload", "nothing differs"),
];

/// What the scripted gateway answers.
fn answer(method: &str) -> Vec<Value> {
    let traffic = json!({"packets": 1, "octets": 100});
    let parameters = match method.rsplit('.').next().unwrap() {
        "Status" => json!(status()),
        "Sas" => json!(Sas::from(vec![sa()])),
        "Peers" => json!({"truncated": false, "peers": [{
            "name": "b", "identity": "b.example", "methods": ["manual"], "standing": "manual",
            "ranges": ["10.2.0.0/24"], "endpoint": null, "pairs": [1], "inbound": traffic, "outbound": traffic,
            "last_heard": null, "live": 0, "identities": []
        }]}),
        "Latches" => json!({"truncated": false, "latches": [{
            "latch": "0.1", "flow": "tcp 10.1.0.1:1 10.2.0.1:2", "local": "10.1.0.1:1", "remote": "10.2.0.1:2", "state": "established",
            "peer": "b.example", "protection": "esp tunnel aes-128-gcm", "class": 1, "last_tag": null, "reason": null,
            "age": 1, "idle": 1
        }]}),
        "Policies" => json!({"truncated": false, "policies": []}),
        "Flows" => json!({"truncated": false, "flows": []}),
        "Drops" => json!({"drops": []}),
        "Reload" => json!({"applied": false, "changes": [], "warnings": []}),
        "Explain" => json!({
            "flow": "icmp 10.1.0.1 10.2.0.1", "direction": "outbound", "verdict": "drop", "policy": null, "sa": null,
            "latch": null, "mtu": null, "drop": "no_policy", "why": ["no rule matches"]
        }),
        "Events" => return vec![event("subscribed")],
        other => panic!("{other} has no script"),
    };
    vec![json!({"parameters": parameters})]
}

fn status() -> StatusView {
    StatusView {
        name: "branch".into(),
        version: "0.1.0".into(),
        pid: 1,
        started: 0,
        mode: Mode::Split,
        inner: None,
        outer: None,
        identity: "a.example".into(),
        tun: TunView { name: "latchway0".into(), backend: "plain".into(), mtu: None, up: None },
        exec: vec![],
        bypass: None,
        listen: vec!["192.0.2.1:4500".parse().unwrap()],
        inbound: StreetView { packets: 1, octets: 100, ..StreetView::default() },
        outbound: StreetView::default(),
        told_too_big: 0,
        told_over: 0,
        told_prohibited: 0,
        fragmented: 0,
        ecn_unusual: 0,
        mtu_hints: 0,
        mtu_probes: 0,
        mtu_probes_answered: 0,
        peers_moved: 0,
        keepalives: 0,
        dummies: 0,
        latches: LatchCounts { capacity: 1, established: 1, ..LatchCounts::default() },
        pairs: 1,
        state: None,
        reloads: ReloadHistory::default(),
        hardening: vec![],
        warnings: vec![],
    }
}

fn sa() -> SaRow {
    SaRow {
        pair: Some(1),
        direction: DirectionSpec::Inbound,
        spi: 0x1001,
        mode: ModeSpec::Tunnel,
        encapsulation: EncapsulationSpec::Udp,
        suite: "aes-128-gcm".into(),
        header: None,
        form: FormSpec::default(),
        peer: "b.example".into(),
        usage: SaUsage::Active,
        origin: Origin::Hand,
        soft_expired: false,
        expired: false,
        packets: 1,
        octets: 100,
        lost: None,
        soft: LifetimeView::default(),
        hard: LifetimeView::default(),
        esn: true,
        replay_window: Some(4096),
        path: Some(PathView {
            from: "192.0.2.1".parse().unwrap(),
            to: "192.0.2.2:4500".parse().unwrap(),
            mtu: 1500,
            in_force: 1500,
            suspected: false,
        }),
        selectors: vec![],
        class: Some(1),
        age: 1,
        idle: None,
    }
}

fn event(kind: &str) -> Value {
    json!({"continues": true, "parameters": {
        "event": kind, "time": 1, "number": 1, "text": "a sentence", "flow": null, "peer": null, "pair": null,
        "spi": null, "direction": null, "policy": null, "reason": null, "count": null
    }})
}

/// A socket behind which somebody answers by a script.
struct Gateway {
    folder: PathBuf,
    asked: Receiver<Value>,
    pace: Sender<()>,
}

/// The answers to a method.
type Script = dyn Fn(&str) -> Vec<Value> + Send + Sync;

impl Gateway {
    fn start(name: &str, script: impl Fn(&str) -> Vec<Value> + Send + Sync + 'static) -> Self {
        let folder = std::env::temp_dir().join(format!("latchway-cli-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("control.sock");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let ((tell, asked), (pace, paced)) = (unbounded(), unbounded());
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, tell, paced) = (Arc::clone(&script), tell.clone(), paced.clone());
                thread::spawn(move || serve(&stream.unwrap(), &*script, &tell, &paced));
            }
        });
        Self { folder, asked, pace }
    }

    /// The next call that came.
    fn asked(&self) -> Value {
        self.asked.recv_timeout(PATIENCE).unwrap()
    }

    /// Lets the gateway give the next of several answers, or close the connection behind the last.
    fn go_on(&self) {
        self.pace.send(()).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        command(&self.folder.join("control.sock"), words)
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Answers one caller until it leaves.
fn serve(stream: &UnixStream, script: &Script, tell: &Sender<Value>, paced: &Receiver<()>) {
    let mut reader = BufReader::new(stream);
    let mut message = Vec::new();
    while reader.read_until(0, &mut message).is_ok_and(|read| read > 0) {
        let call: Value = serde_json::from_slice(&message[..message.len() - 1]).unwrap();
        message.clear();
        let _ = tell.send(call.clone());
        for reply in script(call["method"].as_str().unwrap()) {
            let mut octets = serde_json::to_vec(&reply).unwrap();
            octets.push(0);
            let mut out = stream;
            if out.write_all(&octets).is_err() {
                return;
            }
            if reply["continues"] == true && paced.recv().is_err() {
                return;
            }
        }
        if call["method"].as_str().unwrap().ends_with("Events") {
            return;
        }
    }
}

fn command(control: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(words).env("LATCHWAY_CONTROL", control).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(control: &Path, words: &[&str]) -> Output {
    command(control, words).output().unwrap()
}

fn signal_to(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Reads until the text is there.
fn read_until(from: &mut fs::File, seen: &mut String, text: &str) {
    while !seen.contains(text) {
        let mut ready = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).unwrap();
        assert!(poll(&mut ready, patience).unwrap() > 0, "{text:?} never came: {seen:?}");
        let mut octets = [0; 4096];
        let read = from.read(&mut octets).unwrap();
        assert!(read > 0, "{text:?} never came: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&octets[..read]));
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
