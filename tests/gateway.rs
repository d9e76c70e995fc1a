//! The gateway as a process: two of them from descriptions, on either TUN backend, and every way to start one wrongly.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use latchway_netns::skip::{self, Need};
use latchway_netns::{Links, Namespace, links, ping, testing};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_latchway");

/// Both TUN backends move packets between two gateways, `status` names which is in use, and a description is used
/// once: it is gone when its gateway stands (T12).
#[test]
fn two_gateways_move_packets_on_either_tun_backend() {
    testing::namespaced("two_gateways_move_packets_on_either_tun_backend", || {
        if !skip::require("two_gateways_move_packets_on_either_tun_backend", &[Need::Tun]) {
            return;
        }
        for (options, backend) in [(&[][..], "offload"), (&["--plain"][..], "plain")] {
            let folder = Folder::make(backend);
            let (a, b) = outer_namespaces();
            describe(&folder, options);
            let (one, two) =
                (Gateway::start(&a, &folder.join("a.json")), Gateway::start(&b, &folder.join("b.json")));
            assert!(!folder.join("a.json").exists() && !folder.join("b.json").exists(), "keys are used once");
            up(&a, "10.1.0.1/24");
            up(&b, "10.2.0.1/24");
            let report = ping::echo(&a, &echo()).unwrap();
            assert_eq!(report.received, 5, "{backend}: {report:?}");
            let status = shown(&folder, "status");
            let named = status["tun"]["backend"].as_str().unwrap();
            assert!(named.starts_with(backend), "{named}");
            assert_eq!(status["outbound"]["packets"], 5);
            assert_eq!((&status["tun"]["up"], &status["tun"]["mtu"]), (&json!(true), &json!(1400)));
            for direction in ["inbound", "outbound"] {
                let wire = &status[direction];
                assert_eq!(wire["wire_datagrams"], 5);
                assert!(wire["wire_octets"].as_u64() > wire["octets"].as_u64(), "{wire}");
            }
            shows_who_is_there(&folder);
            Links::of(&a).unwrap().set_down("lw0").unwrap();
            assert_eq!(shown(&folder, "status")["tun"]["up"], false);
            assert_eq!(shown(&folder, "drops")["drops"], json!([]), "nothing was dropped");
            for gateway in [one, two] {
                gateway.end();
            }
            assert!(folder.is_empty(), "left behind: {folder:?}");
        }
    });
}

/// After an echo, the flow is listed with its latch (L-102), and its SAs and its peer were heard of just now.
fn shows_who_is_there(folder: &Folder) {
    let listed = |kind: &str| {
        let output = asked(&folder.join("a.sock"), &[kind, "list", "--json"], "");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let (flows, sas, peers) = (listed("flow"), listed("sa"), listed("peer"));
    let [flow] = &flows["flows"].as_array().unwrap()[..] else { panic!("one flow: {flows}") };
    assert_eq!(
        (&flow["protocol"], &flow["latch"], &flow["progress"]),
        (&json!(1), &json!("established"), &json!("both"))
    );
    let outbound = sas["sas"].as_array().unwrap().iter().find(|sa| sa["direction"] == "outbound").unwrap();
    assert_eq!((&flow["sa"]["spi"], &flow["peer"]), (&outbound["spi"], &outbound["peer"]));
    for idle in [&flow["idle"], &outbound["idle"], &peers["peers"][0]["last_heard"]] {
        assert!(idle.as_u64().is_some_and(|idle| idle < 60_000), "{flows} {sas} {peers}");
    }
}

/// T40: nothing that a gateway says of itself, in text or in JSON, holds a key, nor does what it says of a pair that is
/// added or refused.
#[test]
fn t40_no_verb_shows_a_key() {
    testing::namespaced("t40_no_verb_shows_a_key", || {
        if !skip::require("t40_no_verb_shows_a_key", &[Need::Tun]) {
            return;
        }
        let folder = Folder::make("keys");
        let (a, _b) = outer_namespaces();
        describe(&folder, &[]);
        let spec: Value = serde_json::from_slice(&fs::read(folder.join("a.json")).unwrap()).unwrap();
        let other: Value = serde_json::from_slice(&fs::read(folder.join("b.json")).unwrap()).unwrap();
        let pair = &spec["sas"][0];
        let keys = [pair["inbound"]["key"].as_str().unwrap(), pair["outbound"]["key"].as_str().unwrap()];
        let gateway = Gateway::start(&a, &folder.join("a.json"));
        let mut answered = 0;
        for verb in [
            "status",
            "sa list",
            "policy list",
            "peer list",
            "latch list",
            "flow list",
            "drops",
            "reload --dry-run",
            "reload",
            "explain tcp 10.1.0.1:1 10.2.0.1:80",
            "top --once --interval 0.1",
            "sa delete 99",
            "policy delete 99",
            "sa add -",
            "sa add - --again",
        ] {
            for form in ["", "--json"] {
                let words: Vec<&str> =
                    verb.split(' ').chain([form]).filter(|word| !word.is_empty()).collect();
                // The pair that is there already is refused; that of the other side has no path from here.
                let again = words.contains(&"--again");
                let input = if again { other["sas"][0].to_string() } else { pair.to_string() };
                let words: Vec<&str> = words.into_iter().filter(|word| *word != "--again").collect();
                let output = asked(&folder.join("a.sock"), &words, &input);
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said).to_lowercase();
                assert!(!keys.iter().any(|key| said.contains(&key.to_lowercase())), "{verb}: {said}");
                assert!(!said.contains("panicked"), "{verb}: {said}");
                answered += usize::from(output.status.success());
            }
        }
        assert!(answered >= 8, "the gateway answered what was asked of it");
        gateway.end();
    });
}

/// Whoever listens hears of a flood while it lasts, with the reason of its drops (RFC 4303 3.4.2).
#[test]
fn a_flood_under_no_sa_is_told_as_a_burst() {
    testing::namespaced("a_flood_under_no_sa_is_told_as_a_burst", || {
        if !skip::require("a_flood_under_no_sa_is_told_as_a_burst", &[Need::Tun]) {
            return;
        }
        let folder = Folder::make("flood");
        let (a, b) = outer_namespaces();
        describe(&folder, &[]);
        let gateway = Gateway::start(&a, &folder.join("a.json"));
        let mut listening = Command::new(PROGRAM)
            .args(["events", "--json", "--control"])
            .arg(folder.join("a.sock"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut events = BufReader::new(listening.stdout.take().unwrap()).lines();
        assert!(events.next().unwrap().unwrap().contains("\"subscribed\""));
        let told =
            std::thread::spawn(move || events.map(Result::unwrap).find(|line| line.contains("drop_burst")));
        let flood = b.run(|| UdpSocket::bind("192.0.2.2:0")).unwrap().unwrap();
        let started = Instant::now();
        while !told.is_finished() {
            assert!(started.elapsed() < 2 * PATIENCE, "{}", shown(&folder, "drops"));
            flood.send_to(&[0xee; 64], "192.0.2.1:4500").unwrap();
        }
        let burst: Value = serde_json::from_str(&told.join().unwrap().unwrap()).unwrap();
        assert_eq!((&burst["reason"], &burst["direction"]), (&json!("no_sa"), &json!("inbound")));
        assert!(burst["count"].as_u64() >= Some(1000), "{burst}");
        listening.kill().unwrap();
        listening.wait().unwrap();
        gateway.end();
    });
}

/// Each wrong start says what was tried and what to do, and ends with a failure.
#[test]
fn every_wrong_start_says_what_to_do() {
    testing::namespaced("every_wrong_start_says_what_to_do", || {
        if !skip::require("every_wrong_start_says_what_to_do", &[Need::Tun]) {
            return;
        }
        let folder = Folder::make("wrong");
        let (a, _b) = outer_namespaces();
        let fails = |spec: Value, says: &[&str]| {
            let path = folder.join("wrong.json");
            fs::write(&path, spec.to_string()).unwrap();
            let output = run(&a, &[Path::new("gateway"), &path]);
            complains(&output, says);
        };
        fails(json!("no description"), &["wrong.json", "expected struct GatewaySpec"]);
        fails(patched(&folder, |spec| spec["unguarded"] = json!(false)), &["namespace are one", "unguarded"]);
        fails(patched(&folder, |spec| spec["unheard_of"] = json!(1)), &["unheard_of"]);
        fails(patched(&folder, |spec| spec["sas"][0]["suite"] = json!("rot13")), &["rot13", "aes-128-gcm"]);
        fails(patched(&folder, |spec| spec["sas"][0]["inbound"]["spi"] = json!(255)), &["reserved"]);
        fails(
            patched(&folder, |spec| spec["sas"][0]["peer"] = json!("stranger.example")),
            &["stranger.example", "PAD"],
        );
        fails(
            patched(&folder, |spec| spec["sas"][0]["selectors"][0]["remote"] = json!("10.9.0.0/24")),
            &["10.9.0.0"],
        );
        fails(patched(&folder, |spec| spec["listen"][0] = json!("192.0.2.99:4500")), &["192.0.2.99:4500"]);
        let busy = a.run(|| UdpSocket::bind("192.0.2.1:4500")).unwrap().unwrap();
        fails(patched(&folder, |_| {}), &["192.0.2.1:4500", "use"]);
        drop(busy);
        let output = run(&a, &[Path::new("gateway"), &folder.join("missing.json")]);
        complains(&output, &["missing.json", "cannot read"]);
        let output = run(&a, &[Path::new("status"), Path::new("--control"), &folder.join("none.sock")]);
        complains(&output, &["none.sock", "is a gateway running"]);
    });
}

/// A second gateway on the same control socket is refused; what a killed one left is cleared away.
#[test]
fn a_second_gateway_is_refused_and_a_killed_one_is_no_obstacle() {
    testing::namespaced("a_second_gateway_is_refused_and_a_killed_one_is_no_obstacle", || {
        if !skip::require("a_second_gateway_is_refused_and_a_killed_one_is_no_obstacle", &[Need::Tun]) {
            return;
        }
        let folder = Folder::make("second");
        let (a, b) = outer_namespaces();
        describe(&folder, &[]);
        let path = folder.join("b.json");
        let first = Gateway::start(&a, &folder.join("a.json"));
        let control = folder.join("a.sock");
        assert_eq!(fs::metadata(&control).unwrap().permissions().mode() & 0o777, 0o600, "T40");
        let second = patched_file(&path, |spec| spec["control"] = json!(control));
        fs::write(&path, second.to_string()).unwrap();
        complains(&run(&b, &[Path::new("gateway"), &path]), &["a.sock", "answers there already"]);
        first.kill();
        assert!(control.exists(), "a killed gateway cannot clean up");
        fs::write(&path, second.to_string()).unwrap();
        Gateway::start(&b, &path).end();
    });
}

/// Without the right to make a TUN the message names what is missing.
#[test]
fn without_permission_the_message_names_the_capability() {
    if !nix::unistd::geteuid().is_root() || !skip::require("without_permission", &[Need::Tun]) {
        return skip::report(
            "without_permission_the_message_names_the_capability",
            "root is needed to give it up",
        );
    }
    let folder = Folder::make("permission");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = folder.join("latchway");
    fs::copy(PROGRAM, &program).unwrap();
    describe(&folder, &[]);
    let spec = patched_file(&folder.join("a.json"), |spec| spec["listen"][0] = json!("127.0.0.1:0"));
    let spec = patch(spec, |spec| spec["sas"] = json!([]));
    let mut command = Command::new(&program);
    command.args(["gateway", "-"]).uid(NOBODY).gid(NOBODY).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = loop {
        match command.spawn() {
            // Whoever forked while the copy was written has it open until it executes its own program.
            Err(busy) if busy.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
            child => break child.unwrap(),
        }
    };
    child.stdin.take().unwrap().write_all(spec.to_string().as_bytes()).unwrap();
    complains(&child.wait_with_output().unwrap(), &["/dev/net/tun", "permission"]);
}

const NOBODY: u32 = 65_534;

/// Two namespaces joined by a veth, 192.0.2.1 and .2.
fn outer_namespaces() -> (Namespace, Namespace) {
    let (a, b) = (Namespace::create("a").unwrap(), Namespace::create("b").unwrap());
    links::veth(&a, "wire", &b, "wire").unwrap();
    for (namespace, address) in [(&a, "192.0.2.1/24"), (&b, "192.0.2.2/24")] {
        let links = Links::of(namespace).unwrap();
        links.add_address("wire", address.parse().unwrap()).unwrap();
        links.set_up("wire").unwrap();
    }
    for namespace in [&a, &b] {
        Links::of(namespace).unwrap().wait_ready("wire", PATIENCE).unwrap();
    }
    (a, b)
}

fn describe(folder: &Folder, options: &[&str]) {
    let mut command = Command::new(PROGRAM);
    command.args(["describe", "--outer", "192.0.2.1:4500", "192.0.2.2:4500"]);
    command
        .args(["--inner", "10.1.0.0/24", "10.2.0.0/24", "--tun", "lw0", "--unguarded", "--out"])
        .arg(folder.path())
        .args(options);
    assert!(command.status().unwrap().success());
}

/// Makes a fresh description and changes it.
fn patched(folder: &Folder, change: impl FnOnce(&mut Value)) -> Value {
    for name in ["a.json", "b.json"] {
        let _ = fs::remove_file(folder.join(name));
    }
    describe(folder, &[]);
    patched_file(&folder.join("a.json"), change)
}

fn patched_file(path: &Path, change: impl FnOnce(&mut Value)) -> Value {
    patch(serde_json::from_slice(&fs::read(path).unwrap()).unwrap(), change)
}

fn patch(mut spec: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut spec);
    spec
}

fn up(namespace: &Namespace, address: &str) {
    let links = Links::of(namespace).unwrap();
    links.quiet_ipv6("lw0").unwrap();
    links.set_mtu("lw0", 1400).unwrap();
    links.set_up("lw0").unwrap();
    links.add_address("lw0", address.parse().unwrap()).unwrap();
    let far = if address.starts_with("10.1") { "10.2.0.0/24" } else { "10.1.0.0/24" };
    links.add_route(far.parse().unwrap(), None, "lw0", 0).unwrap();
}

fn echo() -> ping::Echo<'static> {
    ping::Echo {
        source: Some("10.1.0.1".parse().unwrap()),
        destination: "10.2.0.1".parse().unwrap(),
        count: 5,
        interval: Duration::from_millis(5),
        timeout: PATIENCE,
        pattern: b"latchway",
        length: 64,
    }
}

fn run(namespace: &Namespace, arguments: &[&Path]) -> Output {
    let run = || Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output();
    namespace.run(run).unwrap().unwrap()
}

fn shown(folder: &Folder, verb: &str) -> Value {
    let output = Command::new(PROGRAM)
        .args([verb, "--json", "--control"])
        .arg(folder.join("a.sock"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a verb towards the gateway at `control`, with this on standard input.
fn asked(control: &Path, words: &[&str], input: &str) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(words)
        .env("LATCHWAY_CONTROL", control)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Most verbs end without having read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn complains(output: &Output, says: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it must fail: {text}");
    for part in says {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

/// A gateway that stands.
struct Gateway(Child);

impl Gateway {
    fn start(namespace: &Namespace, spec: &Path) -> Self {
        let start = || {
            Command::new(PROGRAM).arg("gateway").arg(spec).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()
        };
        let mut child = namespace.run(start).unwrap().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    /// Ends it as an operator would.
    fn end(mut self) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of this test alone, gone with it.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make(name: &str) -> Self {
        let mut random = [0; 8];
        fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let path =
            std::env::temp_dir().join(format!("latchway-test-{name}-{:016x}", u64::from_ne_bytes(random)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).unwrap().next().is_none()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
