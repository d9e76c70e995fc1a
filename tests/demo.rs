//! The demo, run as anyone would: every fact is shown, and nothing is left behind, whichever way it ends.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use latchway_netns::skip;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Every fact of the demo, by name, in its order.
const FACTS: [&str; 16] = [
    "ping_v4_over_v6",
    "ping_v6_over_v6",
    "ping_v4_over_v4",
    "ping_v6_over_v4",
    "wire_aes_128_gcm",
    "transfer_aes_128_gcm",
    "latch_aes_128_gcm",
    "rekey",
    "wire_chacha20_poly1305",
    "transfer_chacha20_poly1305",
    "latch_chacha20_poly1305",
    "clear",
    "takeover_data",
    "takeover_syn",
    "takeover_unlatched",
    "expiry",
];

/// L-26, L-91, L-106, L-109, R-2, T16: all of them hold, and a demo that was killed before leaves nothing for good.
#[test]
fn every_fact_is_shown() {
    let folder = Folder::make("facts");
    let Some(killed) = Running::midway("every_fact_is_shown", &folder) else { return };
    killed.end_by(Signal::SIGKILL);
    assert_eq!(folder.entries().len(), 1, "a killed demo cannot remove its folder");
    let output = demo(&folder).stdin(Stdio::null()).output().unwrap();
    let report = report_of(&output);
    let facts = report["facts"].as_array().unwrap();
    let names: Vec<_> = facts.iter().map(|fact| fact["name"].as_str().unwrap()).collect();
    assert_eq!(names, FACTS, "{report:#}");
    assert!(facts.iter().all(|fact| fact["ok"] == true && fact["values"].is_object()), "{report:#}");
    assert_eq!((&report["ok"], &report["failed"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(output.status.code(), Some(0));
    let values = |name: &str| &facts.iter().find(|fact| fact["name"] == name).unwrap()["values"];
    for suite in ["aes_128_gcm", "chacha20_poly1305"] {
        let wire = values(&format!("wire_{suite}"));
        assert!(wire["pattern_on_tun"].as_u64() > Some(0));
        assert_eq!((&wire["pattern_on_wire"], &wire["lost_by_sniffers"]), (&Value::from(0), &Value::from(0)));
    }
    let rekey = values("rekey");
    assert_eq!(rekey["dropped"], 0);
    assert_ne!(rekey["old_spis"], rekey["new_spis"]);
    for takeover in ["takeover_data", "takeover_syn"] {
        assert_eq!(values(takeover)["alice_drops"]["inbound latch_mismatch"], 1);
        assert_eq!(values(takeover)["octets_to_application"], 0);
    }
    assert!(values("takeover_unlatched")["octets_to_application"].as_u64() > Some(0));
    let expiry = values("expiry");
    assert!(expiry["entered_tun_after"].as_u64() >= Some(100));
    assert_eq!(expiry["entered_tun_after"], expiry["alice_drops_after"]["outbound hard_expired"]);
    assert_eq!(expiry["frames_on_wire_after"], 0);
    assert!(folder.entries().is_empty(), "left behind: {:?}", folder.entries());
}

/// Ctrl-C: gateways, their namespaces and TUNs, and the folder of the control sockets go with the demo.
#[test]
fn an_interrupted_demo_leaves_nothing() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let folder = Folder::make("interrupted");
        let Some(running) = Running::midway("an_interrupted_demo_leaves_nothing", &folder) else { return };
        let status = running.end_by(signal);
        assert_eq!(status, Some(128 + signal as i32));
        assert!(folder.entries().is_empty(), "left behind: {:?}", folder.entries());
    }
}

/// A demo that has shown its first fact and goes on.
struct Running {
    child: Child,
    gateways: Vec<i32>,
    namespaces: HashSet<PathBuf>,
}

impl Running {
    /// Starts a demo and waits for its first fact; `None`, said loudly, where no demo can run.
    fn midway(test: &str, folder: &Folder) -> Option<Self> {
        let child = demo(folder).arg("--hold").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut running = Self { child, gateways: Vec::new(), namespaces: HashSet::new() };
        let mut lines = BufReader::new(running.child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut seen = Vec::new();
        let reached = lines.by_ref().any(|line| {
            running.gateways.extend(gateway_of(&line));
            seen.push(line);
            seen.last().is_some_and(|line| line.starts_with("ok  "))
        });
        if !reached {
            let status = running.child.wait().unwrap();
            assert_eq!(status.code(), Some(CANNOT_RUN_HERE), "{seen:#?}");
            skip::report(test, &seen.join("; "));
            return None;
        }
        // Whatever else it says must find a reader.
        thread::spawn(move || lines.for_each(drop));
        assert_eq!(running.gateways.len(), 3, "{seen:#?}");
        running.namespaces = namespaces_of(running.pid()).collect();
        running.namespaces.remove(&fs::read_link("/proc/self/ns/net").unwrap());
        assert_eq!(running.namespaces.len(), 6, "two for each of three hosts");
        Some(running)
    }

    /// Sends a signal, and returns the exit status once every gateway and every namespace is gone.
    fn end_by(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
        let status = self.child.wait().unwrap();
        wait_until("the gateways to be gone", || self.gateways.iter().all(|pid| !is_alive(*pid)));
        wait_until("the namespaces to be gone", || {
            let pids = fs::read_dir("/proc").unwrap().flatten();
            let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            pids.flat_map(namespaces_of).all(|namespace| !self.namespaces.contains(&namespace))
        });
        status.code()
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already was what the test wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder for what a demo writes, removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn make(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("latchway-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn entries(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn demo(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchway"));
    command.args(["demo", "--json", "--quick"]).env("TMPDIR", &folder.0);
    command
}

fn report_of(output: &Output) -> Value {
    let (said, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}\n{stderr}"))
}

/// The process in a line such as `bob: process 4711, latchway0 by ...`.
fn gateway_of(line: &str) -> Option<i32> {
    let (_, rest) = line.split_once(": process ")?;
    rest.split(',').next()?.parse().ok()
}

/// The network namespaces that a process holds open or has threads in.
fn namespaces_of(pid: i32) -> impl Iterator<Item = PathBuf> {
    let process = Path::new("/proc").join(pid.to_string());
    let entries = |folder: &str| fs::read_dir(process.join(folder)).into_iter().flatten().flatten();
    let links = entries("fd").map(|entry| entry.path());
    let links = links.chain(entries("task").map(|entry| entry.path().join("ns/net"))).collect::<Vec<_>>();
    let targets = links.into_iter().filter_map(|link| fs::read_link(link).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("net:["))
}

/// Whether a process runs; one that ended and was not waited for by whoever inherited it does not.
fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

const CANNOT_RUN_HERE: i32 = 3;
