//! `latchway preload`: whatever a program does, it has no socket of the Internet but such as something is required of (T38).
//!
//! The gateway is a fake that says yes or no, and keeps what it was passed. `tests/daemon` has the real one.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[expect(dead_code, reason = "not every program of tests uses all of it")]
#[path = "../../ulp-shim/socket/tests/support/fake_app.rs"]
mod fake_app;
mod held;
mod life;
mod programs;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use fake_app::{Act, Came, FakeApp, place};
use latchway_netns::skip::{Need, require};
use latchway_netns::testing::namespaced;
use latchway_netns::{Links, Namespace};
use rustix::net::getpeername;
use rustix::net::sockopt::socket_cookie;
use serde_json::json;

/// The sockets that a gateway holds, by their cookies; and how many of them had another end before.
#[derive(Debug, Default)]
struct Held {
    sockets: HashSet<u64>,
    late: usize,
}

/// A namespace with a loopback interface, a gateway that holds whatever it is passed, and the program that tries things.
struct Scene {
    namespace: Namespace,
    held: Arc<Mutex<Held>>,
    fake: FakeApp,
    probe: PathBuf,
}

impl Scene {
    /// The gateway holds every socket.
    fn new() -> Self {
        Self::with(|_, yes| yes)
    }

    /// The gateway does what the script makes of its answer.
    fn with(script: impl Fn(&Came, Vec<Act>) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let namespace = Namespace::create("preload").unwrap();
        Links::of(&namespace).unwrap().set_up("lo").unwrap();
        let held: Arc<Mutex<Held>> = Arc::default();
        let holds = held.clone();
        let fake = FakeApp::new(move |came| {
            let yes = answer(came, &mut holds.lock().unwrap());
            script(came, yes)
        });
        Self { namespace, held, fake, probe: probe() }
    }

    /// A command under `latchway preload`.
    fn command(&self, words: &[&str]) -> Command {
        self.command_with(&["--"], words)
    }

    /// The same with more options.
    fn command_with(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_latchway"));
        command.args(["preload", "--require", "peer=b.example,protection=confidential"]);
        command.args(options).args(words);
        command.env("LATCHWAY_APP", self.fake.path());
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command
    }

    /// Runs one, and takes what it prints.
    fn run(&self, words: &[&str]) -> Output {
        self.namespace.run(|| self.command(words).output()).unwrap().unwrap()
    }

    /// Runs the program that tries things, which is linked statically.
    fn attempt(&self, words: &[&str]) -> Output {
        self.run(&[&[self.probe.to_str().unwrap()], words].concat())
    }

    fn holds(&self, cookie: u64) -> bool {
        self.held.lock().unwrap().sockets.contains(&cookie)
    }

    /// How many it holds, all of them since before they had another end.
    fn held_in_time(&self) -> usize {
        let held = self.held.lock().unwrap();
        assert_eq!(held.late, 0, "some had another end before");
        held.sockets.len()
    }
}

/// What a gateway answers that holds every socket.
fn answer(came: &Came, held: &mut Held) -> Vec<Act> {
    let cookie = socket_cookie(&came.sockets[0]).unwrap();
    match came.method.as_str() {
        "org.latchway.App.Require" => {
            held.late += usize::from(getpeername(&came.sockets[0]).is_ok());
            assert_eq!(came.parameters["requirement"]["peer"], "fqdn:b.example");
            assert_eq!(came.parameters["requirement"]["protection"], "confidential");
            held.sockets.insert(cookie);
            vec![Act::Reply(json!({"view": null}))]
        }
        "org.latchway.App.Protection" => {
            let required = held.sockets.contains(&cookie);
            let said =
                json!({"answer": "unconnected", "options_protected": false, "required": required, "boot": 9});
            vec![Act::Reply(said)]
        }
        other => panic!("{other} was not expected"),
    }
}

/// The program that tries things.
fn probe() -> PathBuf {
    let (source, made) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/preload/probe.c"), place().join("probe"));
    let mut compiler = Command::new("gcc");
    compiler.args(["-static", "-O1", "-Wall", "-Werror", "-pthread", "-o"]).arg(&made).arg(source);
    assert!(compiler.status().unwrap().success(), "gcc -static");
    made
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _gone = self.probe.parent().map(std::fs::remove_dir_all);
    }
}

/// Runs a scenario where namespaces can be made and there is a C compiler.
fn scenario(test: &str, needs: &[&str], scenario: impl FnOnce()) {
    let needs: Vec<_> = ["gcc"].iter().chain(needs).map(|program| Need::Program(program)).collect();
    namespaced(test, || {
        if require(test, &needs) {
            scenario();
        }
    });
}

/// The lines that were printed, as what was tried and what came of it.
fn lines(output: &Output) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pair = |line: &str| line.split_once(' ').map(|(what, came)| (what.to_owned(), came.to_owned()));
    text.lines().filter_map(pair).collect()
}

/// The cookie in what came of an attempt.
fn cookie(came: &str) -> Option<u64> {
    came.strip_prefix("cookie ")?.parse().ok()
}

/// What was said to whoever started it.
fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
