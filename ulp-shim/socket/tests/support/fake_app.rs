//! A gateway that says on app.sock what a test tells it to: the right things, nothing, too much, or an octet at a time.

use std::fs;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

/// What the gateway does when a call came.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers.
    Reply(Value),
    /// Answers, and goes on to the next act.
    Continue(Value),
    /// Answers with this error of org.latchway.App.
    Refuse(&'static str),
    /// Says these octets.
    Octets(Vec<u8>),
    /// Says the same octets for ever, one at a time, with pauses.
    Drip(u8),
    /// Says nothing for so long.
    Wait(Duration),
    /// Says nothing until this is so.
    Until(Arc<AtomicBool>),
    /// Says nothing more, and listens no more until it is ended.
    Silence,
    /// Closes the connection.
    Close,
}

/// A call that came.
#[derive(Debug)]
pub struct Came {
    pub method: String,
    pub parameters: Value,
    pub sockets: Vec<OwnedFd>,
}

type Script = dyn Fn(&Came) -> Vec<Act> + Send + Sync;

/// The gateway. It ends with the value.
pub struct FakeApp {
    path: PathBuf,
    ended: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    calls: Arc<Mutex<Vec<Came>>>,
    open: Arc<Mutex<Vec<UnixStream>>>,
    listens: Option<JoinHandle<()>>,
}

impl FakeApp {
    /// Listens at a place of its own.
    pub fn new(script: impl Fn(&Came) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::at(&place().join("app.sock"), script)
    }

    /// Listens there.
    pub fn at(path: &Path, script: impl Fn(&Came) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let _gone = fs::remove_file(path);
        path.parent().map(fs::create_dir_all).transpose().unwrap();
        let listener = UnixListener::bind(path).unwrap();
        let mut fake = Self {
            path: path.to_owned(),
            ended: Arc::default(),
            connections: Arc::default(),
            calls: Arc::default(),
            open: Arc::default(),
            listens: None,
        };
        let (ended, connections) = (fake.ended.clone(), fake.connections.clone());
        let (calls, open) = (fake.calls.clone(), fake.open.clone());
        let script: Arc<Script> = Arc::new(script);
        fake.listens = Some(thread::spawn(move || {
            let mut threads = Vec::new();
            for stream in listener.incoming().map(Result::unwrap) {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                open.lock().unwrap().push(stream.try_clone().unwrap());
                connections.fetch_add(1, Ordering::SeqCst);
                let (script, calls, ended) = (script.clone(), calls.clone(), ended.clone());
                threads.push(thread::spawn(move || {
                    let mut talking = stream.try_clone().unwrap();
                    converse(&mut talking, &*script, &calls, &ended);
                    // Clones are kept, to end conversations by.
                    let _closed = stream.shutdown(std::net::Shutdown::Both);
                }));
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }));
        fake
    }

    /// Answers every question for protection with this.
    pub fn answering(view: Value) -> Self {
        Self::new(move |_| vec![Act::Reply(view.clone())])
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The calls that came since this was asked last.
    pub fn calls(&self) -> Vec<Came> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

impl Drop for FakeApp {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _woken = UnixStream::connect(&self.path);
        for stream in self.open.lock().unwrap().drain(..) {
            let _closed = stream.shutdown(std::net::Shutdown::Both);
        }
        let _gone = fs::remove_file(&self.path);
        // Its folder goes, too, unless the test has put something there.
        let _gone = self.path.parent().map(fs::remove_dir);
        if let Some(Err(panicked)) = self.listens.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panicked);
        }
    }
}

/// A folder of its own.
pub fn place() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    let folder = std::env::temp_dir().join(format!("latchway-fake-{}-{number}", std::process::id()));
    let _gone = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What a gateway says of a connection that is latched to b.example by a certificate.
pub fn latched() -> Value {
    let identity = |name: &str, method: Value| {
        json!({"asserted": format!("fqdn:{name}"), "kind": "fqdn", "method": method, "entry": "peers",
               "certificate": {"subject": format!("CN={name}"), "issuer": "CN=Issuer", "sha256": "00"},
               "trust_anchor": {"subject": "CN=Root", "key_sha256": "ab".repeat(32)},
               "public_key": "AAECAw=="})
    };
    json!({
        "answer": "latched", "latch": "latch-7", "state": "established", "class": 4, "group": 2, "rule": 10,
        "held": {"class": 4, "protection": "esp tunnel aes-128-gcm", "mode": "tunnel",
                 "inbound_suite": "aes-256-gcm", "outbound_suite": "aes-128-gcm", "replay_checked": true,
                 "peer": identity("b.example", json!("certificate")), "identity": identity("a.example", Value::Null)},
        "inbound": {"key_bits": 256, "icv_bits": 128}, "outbound": {"key_bits": 128, "icv_bits": 128},
        "options_protected": true, "policy": "rule 10", "information": "esp tunnel aes-128-gcm",
        "audit": "fqdn:b.example by certificate", "binding": format!("latchway-ipsec-end-point:{}", "0a".repeat(32)),
        "unbindable": null, "reason": null, "required": true, "boot": 99,
    })
}

/// What a gateway says of a socket of which there is nothing more to say.
pub fn bare(answer: &str) -> Value {
    json!({"answer": answer, "options_protected": false, "required": false, "boot": 99})
}

fn converse(stream: &mut UnixStream, script: &Script, calls: &Mutex<Vec<Came>>, ended: &AtomicBool) {
    while let Some(came) = hear(stream) {
        let acts = script(&came);
        calls.lock().unwrap().push(came);
        for act in acts {
            // Whoever called may have gone.
            if !perform(stream, act, ended) {
                return;
            }
        }
    }
}

/// Whether the connection goes on.
fn perform(stream: &mut UnixStream, act: Act, ended: &AtomicBool) -> bool {
    let mut say = |value: &Value| stream.write_all(&[value.to_string().as_bytes(), &[0]].concat()).is_ok();
    match act {
        Act::Reply(value) => say(&json!({"parameters": value})),
        Act::Continue(value) => say(&json!({"parameters": value, "continues": true})),
        Act::Refuse(word) => {
            let parameters = json!({"message": "the fake gateway says no", "hint": "ask another"});
            say(&json!({"error": format!("org.latchway.App.{word}"), "parameters": parameters}))
        }
        Act::Octets(octets) => stream.write_all(&octets).is_ok(),
        Act::Drip(octet) => {
            while !ended.load(Ordering::SeqCst) && stream.write_all(&[octet]).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
            false
        }
        Act::Wait(long) => {
            thread::sleep(long);
            true
        }
        Act::Until(so) => {
            while !so.load(Ordering::SeqCst) && !ended.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(10));
            }
            true
        }
        Act::Silence => {
            while !ended.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(10));
            }
            false
        }
        Act::Close => false,
    }
}

/// The next call, with the descriptors that came with its first octet; none where the caller is gone.
fn hear(stream: &UnixStream) -> Option<Came> {
    let (mut octets, mut sockets) = (Vec::new(), Vec::new());
    while octets.last() != Some(&0) {
        let mut piece = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let came = recvmsg(stream, &mut [IoSliceMut::new(&mut piece)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .ok()?;
        if came.bytes == 0 {
            return None;
        }
        let first = octets.is_empty();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                assert!(first, "sockets come with the first octet");
                sockets.extend(rights);
            }
        }
        octets.extend_from_slice(&piece[..came.bytes]);
    }
    let said: Value = serde_json::from_slice(&octets[..octets.len() - 1]).unwrap();
    let method = said["method"].as_str().unwrap().to_owned();
    Some(Came { method, parameters: said["parameters"].clone(), sockets })
}
