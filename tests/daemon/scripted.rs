//! The provider of docs/control.md as it stands there, and what applications can bind to by what it says (C-15, Q-16).

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};

use latchway_netns::skip::{Need, require};
use latchway_netns::{Namespace, NamespaceRef, testing};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::gateway::{Folder, Gateway};
use crate::required::{protection, required};
use crate::site::wire;
use crate::{PATIENCE, scenario};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/provider.py");

/// C-15, Q-16, P-30, Q-54: between two daemons whose SAs a script makes, both applications read the same binding, rekeying included;
/// with another key at one end they read another; and where nobody has proven a key there is none.
#[test]
fn c_15_q_16_a_provider_by_script_gives_both_ends_what_to_bind_to() {
    const TEST: &str = "scripted::c_15_q_16_a_provider_by_script_gives_both_ends_what_to_bind_to";
    scenario(TEST, || {
        if !require(TEST, &[Need::Program("python3")]) {
            return;
        }
        let bound = |keys| {
            let mut binding = Value::Null;
            testing::in_private_run(|| binding = both_ends(keys));
            binding
        };
        let (first, second) = (bound(Some([1, 2])), bound(Some([1, 3])));
        assert!(first.as_str().unwrap().starts_with("latchway-ipsec-end-point:"), "{first}");
        assert_ne!(first, second);
        assert_eq!(bound(None), Value::Null);
    });
}

/// What both ends of a connection can bind to, where they have proven to have these keys.
fn both_ends(keys: Option<[u8; 2]>) -> Value {
    let outer = [Namespace::create("a").unwrap(), Namespace::create("b").unwrap()];
    let [left, right] = &outer;
    wire(left, right);
    let folder = Folder::make();
    let start = |place, [own, far]: [&str; 2], [number, other]: [u8; 2]| {
        let control = format!("/run/latchway/office-{own}/control.sock");
        let file = if own == "a" { "office-a.toml" } else { "office-b.toml" };
        let mut gateway = Gateway::new(place, folder.join(own)).of_file(file, control);
        let methods = if keys.is_some() { "methods = [\"public-key\"]" } else { "" };
        gateway.configure(&format!(
            "identity = \"{own}.example\"\ninner = \"office-{own}\"\naddresses = [\"10.{number}.0.1/24\"]\n\
             listen = [\"192.0.2.{number}:4500\"]\n\n[[peer]]\nidentity = \"{far}.example\"\n\
             inner = [\"10.{other}.0.0/24\"]\n{methods}\n"
        ));
        gateway.start();
        gateway
    };
    let (a, b) = (start(left, ["a", "b"], [1, 2]), start(right, ["b", "a"], [2, 1]));
    let hosts = |name: &str| NamespaceRef::Name(name.into()).open().unwrap();
    let (at_a, at_b) = (hosts("office-a"), hosts("office-b"));
    let mut provider = Provider::start(&folder, keys);
    provider.until("subscribed");

    let there: SocketAddr = "10.2.0.1:80".parse().unwrap();
    let listener = at_b.run(|| TcpListener::bind(there)).unwrap().unwrap();
    required(&b, "a.example", &listener);
    let stream = at_a.run(|| Socket::new(Domain::IPV4, Type::STREAM, None)).unwrap().unwrap();
    required(&a, "b.example", &stream);
    // Its first packet asks for SAs, and its next passes.
    stream.connect_timeout(&there.into(), PATIENCE).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let views = || {
        let view = |gateway, socket| {
            let view = protection(gateway, socket);
            assert_eq!(view["answer"], "latched", "{view}");
            let why = if keys.is_some() { Value::Null } else { "manual".into() };
            assert_eq!(view["unbindable"], why, "{view}");
            view["binding"].clone()
        };
        [view(&a, stream.as_fd()), view(&b, accepted.as_fd())]
    };
    let before = views();
    provider.until("removed");
    assert!(provider.child.wait().unwrap().success());
    assert_eq!(views(), before, "with new keys of its SAs");
    (&stream).write_all(b"latchway").unwrap();
    accepted.read_exact(&mut [0; 8]).unwrap();
    let [here, there] = before;
    assert_eq!(here, there);
    here
}

/// The script, as it runs.
struct Provider {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Provider {
    fn start(folder: &Folder, keys: Option<[u8; 2]>) -> Self {
        let mut command = Command::new("python3");
        command.arg(SCRIPT).stdout(Stdio::piped());
        for number in keys.into_iter().flatten() {
            // An Ed25519 key (RFC 8410 section 4), of which only the number matters.
            let der = [&hex::decode("302a300506032b6570032100").unwrap()[..], &[number; 32]].concat();
            let file = folder.join(&format!("{number}.der"));
            fs::write(&file, der).unwrap();
            command.arg(file);
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Waits until it says this.
    fn until(&mut self, word: &str) {
        let mut line = String::new();
        while !line.starts_with(word) {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended before it was {word}");
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
