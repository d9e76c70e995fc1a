//! A gateway as a process, with its configuration in a folder of its own; and the patience that processes take.

use std::fs::{self, DirBuilder, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use latchway_netns::Namespace;
use latchway_netns::skip::{Need, require};
use latchway_netns::testing::namespaced;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_latchway");

/// A gateway that runs, or ran.
pub struct Gateway {
    place: Namespace,
    folder: PathBuf,
    file: &'static str,
    control: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
    /// What it is run with instead of a file.
    bare: Option<Vec<String>>,
    child: Option<Child>,
}

impl Gateway {
    /// A gateway that is not started yet, with an empty folder for what it needs. It is started in `place`, and its control
    /// socket is `control.sock` in its folder.
    pub fn new(place: &Namespace, folder: PathBuf) -> Self {
        DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let control = folder.join("control.sock");
        let (place, file) = (place.clone(), "gateway.toml");
        Self { place, folder, file, control, environment: Vec::new(), bare: None, child: None }
    }

    /// The same, with another configuration file, and its control socket elsewhere.
    pub fn of_file(mut self, file: &'static str, control: impl Into<PathBuf>) -> Self {
        (self.file, self.control) = (file, control.into());
        self
    }

    /// The same, run without a file by these words.
    pub fn bare(mut self, words: &[&str]) -> Self {
        self.bare = Some(words.iter().map(|word| (*word).to_owned()).collect());
        self
    }

    /// From its next start on it has this in its environment.
    pub fn with(&mut self, name: &'static str, value: impl Into<PathBuf>) {
        self.environment.push((name, value.into()));
    }

    /// Writes a file of its folder, which nobody else may read.
    pub fn write(&self, name: &str, text: &str) {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(self.folder.join(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Writes its configuration.
    pub fn configure(&self, text: &str) {
        self.write(self.file, text);
    }

    /// Starts it, and waits until it stands.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let spawn = || self.command().stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = self.place.run(spawn).unwrap().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.child = Some(child);
        assert_eq!(line, "ready\n", "{}", self.log());
    }

    /// Starts it where it must fail, and returns what it says.
    pub fn refused(&self) -> String {
        let output = self.place.run(|| self.command().output()).unwrap().unwrap();
        complaint(&output)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().unwrap().id().try_into().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended, by itself or by a signal.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let mut status = None;
        eventually("the gateway ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Ends it by a signal.
    pub fn end_by(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// A verb towards this gateway.
    pub fn verb(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(words).arg("--control").arg(&self.control).stdin(Stdio::null());
        command
    }

    /// Listens to its events, from here on.
    pub fn listen(&self) -> Listening {
        let mut child = self.verb(&["events", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
        let (tell, events) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody may want to hear any more.
                let _ = tell.send(line);
            }
        });
        let mut listening = Listening { child, events, heard: Vec::new() };
        listening.until("subscribed");
        listening
    }

    /// What a verb shows, as JSON.
    pub fn shown(&self, verb: &str) -> Value {
        let words: Vec<&str> = verb.split(' ').chain(["--json"]).collect();
        let output = self.verb(&words).output().unwrap();
        assert!(output.status.success(), "{verb}: {output:?}\n{}", self.log());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a verb prints for people.
    pub fn read(&self, verb: &str) -> String {
        let output = self.verb(&verb.split(' ').collect::<Vec<_>>()).output().unwrap();
        assert!(output.status.success(), "{verb}: {output:?}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a verb complains of.
    pub fn complains(&self, verb: &str) -> String {
        complaint(&self.verb(&verb.split(' ').collect::<Vec<_>>()).output().unwrap())
    }

    /// The rows of a list.
    pub fn rows(&self, verb: &str) -> Vec<Value> {
        let shown = self.shown(verb);
        let rows = shown.as_object().unwrap().values().find_map(Value::as_array);
        rows.unwrap().clone()
    }

    /// How many packets were dropped for a reason, in a direction.
    pub fn drops(&self, direction: &str, reason: &str) -> u64 {
        let rows = self.rows("drops");
        let wanted = |row: &&Value| row["reason"] == reason && row["direction"] == direction;
        rows.iter().filter(wanted).map(|row| row["packets"].as_u64().unwrap()).sum()
    }

    /// Everything that lists show, without what passes with time and traffic: the same before and after means that nothing
    /// changed.
    pub fn snapshot(&self) -> Value {
        let lists = ["sa list", "policy list", "peer list", "latch list", "flow list", "status"];
        lists.iter().map(|list| ((*list).to_owned(), timeless(self.shown(list)))).collect()
    }

    /// All that it has said so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut log) = File::open(self.folder.join("log")) {
            log.read_to_string(&mut text).unwrap();
        }
        text
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn control(&self) -> &Path {
        &self.control
    }

    pub const fn place(&self) -> &Namespace {
        &self.place
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        match &self.bare {
            Some(words) => command.arg("--control").arg(&self.control).arg("run").args(words),
            None => command.args(["run", "--config"]).arg(self.folder.join(self.file)),
        };
        command.stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let drops = self.verb(&["drops"]).output().map(|output| output.stdout).unwrap_or_default();
            eprintln!("{}:\n{}{}", self.folder.display(), self.log(), String::from_utf8_lossy(&drops));
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Somebody who hears what happens in a gateway.
pub struct Listening {
    child: Child,
    events: Receiver<String>,
    /// Every event so far.
    pub heard: Vec<Value>,
}

impl Listening {
    /// Waits for an event of this kind.
    pub fn until(&mut self, kind: &str) -> &Value {
        loop {
            let line = self.events.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {kind} came: {:?}", self.texts()));
            self.heard.push(serde_json::from_str(&line).unwrap());
            if self.heard.last().unwrap()["event"] == kind {
                return self.heard.last().unwrap();
            }
        }
    }

    fn texts(&self) -> Vec<String> {
        self.heard.iter().map(|event| format!("{} {}", event["event"], event["text"])).collect()
    }

    /// Waits for its end, which the gateway's end brings.
    pub fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program that must fail says.
pub fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "it must be refused: {output:?}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Takes out what passes with time or traffic alone, and how often it was reloaded.
fn timeless(value: Value) -> Value {
    const PASSING: [&str; 21] = [
        "age",
        "idle",
        "left",
        "last_heard",
        "packets",
        "octets",
        "inbound",
        "outbound",
        "told_too_big",
        "told_over",
        "fragmented",
        "told_prohibited",
        "ecn_unusual",
        "mtu_hints",
        "mtu_probes",
        "mtu_probes_answered",
        "peers_moved",
        "keepalives",
        "dummies",
        "lost",
        "reloads",
    ];
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(name, _)| !PASSING.contains(&name.as_str()))
                .map(|(name, value)| (name, timeless(value)))
                .collect(),
        ),
        Value::Array(rows) => Value::Array(rows.into_iter().map(timeless).collect()),
        other => other,
    }
}

/// A folder of one scenario, gone with it.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    pub fn make() -> Self {
        let mut random = [0; 8];
        File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let name = format!("latchway-gateway-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    /// A place in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a scenario where namespaces and TUNs can be made.
pub fn scenario(test: &str, body: impl FnOnce()) {
    namespaced(test, || {
        if require(test, &[Need::Tun]) {
            body();
        }
    });
}

/// A datagram socket at an address that one before had. Tests are threads of one process: what another one has just forked
/// holds all descriptors until it executes its program, those that are closed here, too.
pub fn bound(namespace: &Namespace, address: impl Into<SocketAddr>) -> UdpSocket {
    let (address, end) = (address.into(), Instant::now() + PATIENCE);
    loop {
        match namespace.run(|| UdpSocket::bind(address)).unwrap() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < end => {
                thread::sleep(Duration::from_millis(2));
            }
            bound => return bound.unwrap(),
        }
    }
}

/// Frees the address of a listener, whoever holds it besides: see [`bound`].
pub fn end_listening(listener: &TcpListener) {
    socket2::SockRef::from(listener).shutdown(Shutdown::Both).unwrap();
}

/// Waits for what must come.
pub fn eventually(what: &str, mut comes: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !comes() {
        assert!(Instant::now() < end, "it never came that {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
