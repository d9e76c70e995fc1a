//! A Linux kernel as a peer: user-mode-linux, whose ESP and AH are those of every Linux machine.
//!
//! It boots once for a test binary, in a namespace with a bridge. What is joined to that sees the guest's `vec0`. Orders go over a link of their own to `guest.py`, the guest's first process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use latchway_netns::inject::Injector;
use latchway_netns::watch::Sniffer;
use latchway_netns::{Links, Namespace, links, skip};
use serde_json::{Value, json};

use crate::gateway::Folder;

/// The bridge of the street, which is the guest's neighbourhood.
pub const BRIDGE: &str = "bridge";
/// The host's end of the guest's link to the bridge.
const TAP: &str = "peer";
/// The guest's interface towards the bridge.
pub const LINK: &str = "vec0";
/// The port of the echo servers.
pub const ECHO: u16 = 7;

/// A kernel that runs.
pub struct Guest {
    street: Namespace,
    line: BufReader<TcpStream>,
    console: File,
    joined: u32,
    before: BTreeMap<String, u64>,
    // Not waited for: the guest ends when nobody holds its line any more.
    _child: Child,
}

/// Where things fetched by `tests/interop/fetch` lie.
pub fn fetched(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("interop").join(name)
}

/// The guest of this test binary, for this test alone until it is dropped, with nothing left of the test before. `None`,
/// loudly, where there is no such kernel.
pub fn guest(test: &str) -> Option<MutexGuard<'static, Guest>> {
    static GUEST: OnceLock<Option<Mutex<Guest>>> = OnceLock::new();
    let guest = GUEST.get_or_init(|| Some(Mutex::new(Guest::boot(&Kernel::find()?))));
    let Some(guest) = guest else {
        skip::report(test, "no user-mode-linux: install it, or run `tests/interop/fetch kernel`");
        return None;
    };
    let mut guest = guest.lock().unwrap_or_else(PoisonError::into_inner);
    guest.forget();
    Some(guest)
}

impl Guest {
    fn boot(kernel: &Kernel) -> Self {
        let folder = Folder::make();
        let street = Namespace::create("street").unwrap();
        let within = |script: &str| host(&street, script);
        // A tap that is down when the guest sends its first packet stays dead for it.
        within(&format!(
            "ip link add {BRIDGE} type bridge && ip link set {BRIDGE} up && for tap in {TAP} orders; do ip tuntap add $tap \
             mode tap && ip link set $tap up || exit; done; ip link set {TAP} master {BRIDGE}; \
             ip address add {HOST}/30 dev orders"
        ));
        // Read by place, written at the end; its name goes with the folder when the guest stands.
        let mut console = File::options();
        let console = console.create_new(true).read(true).append(true).open(folder.join("console")).unwrap();
        let child = street.run(|| kernel.command(&folder, &console).spawn()).unwrap().unwrap();
        let line = connect(&street, &console);
        let mut guest = Self { street, line, console, joined: 0, before: BTreeMap::new(), _child: child };
        let release = guest.run("uname -r");
        eprintln!("a guest runs Linux {}", release.trim());
        guest
    }

    /// Joins a namespace to the bridge, by an interface of this name there.
    pub fn join(&mut self, namespace: &Namespace, name: &str) {
        self.joined += 1;
        let port = port(self.joined);
        links::veth(&self.street, &port, namespace, name).unwrap();
        host(&self.street, &format!("ip link set {port} master {BRIDGE} up"));
        let links = Links::of(namespace).unwrap();
        links.set_up(name).unwrap();
    }

    /// What sends frames to whoever joined last, as if the guest had sent them.
    pub fn injector(&self) -> Injector {
        Injector::open(&self.street, &port(self.joined)).unwrap()
    }

    /// Sees what the guest gets and sends.
    pub fn watch(&self) -> Sniffer {
        Sniffer::start(&self.street, TAP).unwrap()
    }

    /// Runs a script, which must succeed, and returns what it says.
    pub fn run(&mut self, script: &str) -> String {
        let answer = self.order(&json!({ "run": script }));
        let output = answer["output"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer["status"], 0, "the guest's `{script}`:\n{output}{}", self.said());
        output
    }

    /// Runs the lines of `ip -batch`.
    pub fn ip(&mut self, lines: &str) -> String {
        self.run(&format!("ip -batch - <<'END'\n{lines}\nEND"))
    }

    /// Reads files.
    pub fn read(&mut self, file: &str) -> String {
        let answer = self.order(&json!({ "read": [file] }));
        answer["texts"][0].as_str().unwrap().to_owned()
    }

    /// Talks to echo servers, all at once. What failed says why, in its place.
    pub fn talk(&mut self, talks: &[Talk]) -> Vec<Option<String>> {
        let talks: Vec<_> = talks.iter().map(Talk::json).collect();
        let answer = self.order(&json!({ "talk": talks }));
        let failed = answer["failed"].as_array().unwrap().iter();
        failed.map(|reason| reason.as_str().map(str::to_owned)).collect()
    }

    /// The kernel's counters of what IPsec refused, those that moved in this test.
    pub fn refusals(&mut self) -> String {
        let counters = self.counters();
        let moved = counters.iter().filter_map(|(name, count)| {
            let count = count - self.before.get(name).unwrap_or(&0);
            (count > 0).then(|| format!("{name}={count}"))
        });
        moved.collect::<Vec<_>>().join(" ")
    }

    fn counters(&mut self) -> BTreeMap<String, u64> {
        let text = self.read("/proc/net/xfrm_stat");
        let rows = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
        rows.map(|(name, count)| (name.to_owned(), count.trim().parse().unwrap())).collect()
    }

    /// Takes back all that a test set up.
    fn forget(&mut self) {
        self.run(&format!(
            "ip -batch - <<'END'\nxfrm policy flush\nxfrm state flush\naddress flush dev {LINK}\naddress flush dev lo scope \
             global\nroute flush dev {LINK}\nroute flush cache\nlink set {LINK} mtu 1500\nEND\nsysctl -qw net.ipv4.icmp_echo_ignore_all=0"
        ));
        self.before = self.counters();
    }

    fn order(&mut self, order: &Value) -> Value {
        let mut answer = String::new();
        let asked = writeln!(self.line.get_mut(), "{order}").and_then(|()| self.line.read_line(&mut answer));
        assert!(asked.is_ok(), "the guest does not answer: {asked:?}{}", self.said());
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("the guest says {answer:?}{}", self.said()))
    }

    fn said(&self) -> String {
        said(&self.console)
    }
}

/// A conversation with an echo server.
#[derive(Clone, Debug)]
pub struct Talk {
    pub kind: Kind,
    pub from: IpAddr,
    pub to: IpAddr,
    /// How many octets go at a time.
    pub lengths: Vec<usize>,
}

/// Over what it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
}

impl Talk {
    fn json(&self) -> Value {
        let kind = if self.kind == Kind::Tcp { "tcp" } else { "udp" };
        json!([kind, self.from, self.to, ECHO, self.lengths])
    }
}

/// The program, and its modules.
struct Kernel {
    program: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// An installed one, or the one that was fetched.
    fn find() -> Option<Self> {
        let roots = [PathBuf::from("/"), fetched("kernel")];
        let kernels = roots.map(|root| Self {
            program: root.join("usr/bin/linux.uml"),
            modules: root.join("usr/lib/uml/modules"),
        });
        kernels.into_iter().find(|kernel| kernel.program.exists() && kernel.modules.exists())
    }

    fn command(&self, folder: &Folder, console: &File) -> Command {
        let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/guest.py");
        let mut command = Command::new(&self.program);
        command
            .args(["mem=256M", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "init=/usr/bin/python3"])
            .args(["con=null", "con0=null,fd:1", "umid=guest"])
            .arg(format!("uml_dir={}/", folder.as_ref().display()))
            .args([
                &*format!("vec0:transport=tap,ifname={TAP},depth=128,gro=0"),
                "vec1:transport=tap,ifname=orders,depth=128,gro=0",
            ])
            .arg("--")
            .args([&agent, &self.modules])
            .arg(format!("{GUEST}/30"))
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console.try_clone().unwrap())
            .process_group(0);
        // The guest's memory is a file, which should not be on a disk.
        let memory = Path::new("/dev/shm");
        command.env("TMPDIR", if memory.exists() { memory } else { folder.as_ref() });
        command
    }
}

/// Runs a script of the host's in a namespace; it must succeed.
pub fn host(namespace: &Namespace, script: &str) -> String {
    let output = namespace.run(|| Command::new("bash").args(["-c", script]).output()).unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "`{script}` in {}: {output:?}", namespace.label());
    said
}

/// The bridge's end of the link to who joined as this one.
fn port(joined: u32) -> String {
    format!("to{joined}")
}

/// What the kernel said on its console.
fn said(console: &File) -> String {
    let (mut text, mut place) = ([0; 1 << 14], 0);
    while let Ok(len @ 1..) = console.read_at(&mut text[place..], place as u64) {
        place += len;
    }
    String::from_utf8_lossy(&text[..place]).into_owned()
}

/// Waits for the guest to take orders.
fn connect(street: &Namespace, console: &File) -> BufReader<TcpStream> {
    let to = (GUEST, 4949);
    let end = Instant::now() + BOOT;
    loop {
        if let Ok(line) = street.run(|| TcpStream::connect(to)).unwrap() {
            line.set_read_timeout(Some(ANSWER)).unwrap();
            line.set_nodelay(true).unwrap();
            return BufReader::new(line);
        }
        assert!(Instant::now() < end, "the guest did not boot within {BOOT:?}:\n{}", said(console));
        thread::sleep(Duration::from_millis(50));
    }
}

/// Our end of the line to the guest, and its own.
const HOST: &str = "198.18.77.1";
const GUEST: &str = "198.18.77.2";
/// How long a boot may take; it is four seconds on an idle machine.
const BOOT: Duration = Duration::from_secs(120);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(180);
