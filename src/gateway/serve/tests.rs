//! A control socket under callers of every kind (T40).

mod latches;

use std::fs;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;

use latchway_control::{
    Call, Drops, EventKind, EventView, PairAdded, PairSpec, PeerRow, StatusView, Traffic, call,
};
use serde_json::{Value, json};

use super::*;
use crate::client::{CallError, Client};
use crate::gateway::operator::{Answer, Rows};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("latchway-serve-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A gateway of so many peers, which remembers what was asked of it.
#[derive(Default)]
struct Fixed {
    peers: usize,
    asked: Mutex<Vec<String>>,
}

impl Fixed {
    fn note(&self, asked: &str) {
        self.asked.lock().unwrap().push(asked.into());
    }
}

impl Gateway for Fixed {
    fn status(&self) -> Answer<StatusView> {
        Err(Failure::failed("it is only a test's", ""))
    }

    fn drops(&self) -> Answer<Drops> {
        self.note("drops");
        Ok(Drops::default())
    }

    fn peers(&self, rows: Rows<'_, PeerRow>) -> Answer<()> {
        for number in 0..self.peers {
            if rows(peer(number)) == ControlFlow::Break(()) {
                self.note("enough");
                return Ok(());
            }
        }
        Ok(())
    }

    fn add_pair(&self, _: &PairSpec) -> Answer<PairAdded> {
        self.note("pair");
        Ok(PairAdded { pair: 7 })
    }
}

fn peer(number: usize) -> PeerRow {
    PeerRow {
        name: number.to_string(),
        identity: "b.example".into(),
        methods: Vec::new(),
        standing: None,
        live: 0,
        identities: Vec::new(),
        ranges: Vec::new(),
        endpoint: None,
        pairs: Vec::new(),
        inbound: Traffic::default(),
        outbound: Traffic::default(),
        last_heard: None,
    }
}

/// A gateway in service.
struct Stand {
    folder: Folder,
    serving: Option<Serving>,
    gateway: Arc<Fixed>,
    events: Arc<EventHub>,
    stopped: Arc<AtomicBool>,
}

impl Stand {
    fn new(name: &str, peers: usize) -> Self {
        let folder = Folder::new(name);
        let gateway = Arc::new(Fixed { peers, ..Fixed::default() });
        let (events, stopped) = (Arc::new(EventHub::default()), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&stopped);
        let service = Service {
            gateway: gateway.clone(),
            events: Arc::clone(&events),
            processes: Processes::start(gateway.clone()).unwrap(),
            stop: Box::new(move || stop.store(true, Ordering::Release)),
        };
        let serving = Server::bind(&folder.socket()).unwrap().start(service).unwrap();
        Self { folder, serving: Some(serving), gateway, events, stopped }
    }

    fn client(&self) -> Client {
        Client::connect(&self.folder.socket()).unwrap()
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(self.folder.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Whether it still answers, which is what matters.
    fn serves(&self) {
        assert_eq!(self.client().call(&call::Drops {}).unwrap(), Drops::default());
    }
}

/// What comes back for these octets, one value for each message.
fn answers(mut stream: &UnixStream, said: &[u8]) -> Vec<Value> {
    stream.write_all(said).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).unwrap();
    octets
        .split(|&octet| octet == 0)
        .filter(|message| !message.is_empty())
        .map(|message| serde_json::from_slice(message).unwrap())
        .collect()
}

fn said(call: Value) -> Vec<u8> {
    [call.to_string().as_bytes(), &[0]].concat()
}

#[test]
fn t40_the_socket_is_its_owners_and_replaces_a_dead_socket_but_no_living_one_and_no_other_file() {
    let folder = Folder::new("bind");
    let path = folder.0.join("made/for/it/control.sock");
    let living = Server::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o022, 0);
    assert!(Server::bind(&path).is_err(), "a gateway lives there");
    fs::remove_file(&path).unwrap();
    assert!(Server::bind(&path).is_err(), "it lives whatever became of its file");
    drop(living);
    drop(UnixListener::bind(&path).unwrap());
    drop(Server::bind(&path).unwrap());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "nothing is left behind");
    let other = UnixListener::bind(&path).unwrap();
    assert!(Server::bind(&path).is_err(), "something else listens there");
    drop(other);

    let precious = folder.0.join("precious");
    fs::write(&precious, "not a socket").unwrap();
    let error = Server::bind(&precious).err().unwrap().to_string();
    assert!(error.contains("no socket"), "{error}");
    let link = folder.0.join("link");
    std::os::unix::fs::symlink(&precious, &link).unwrap();
    assert!(Server::bind(&link).is_err());
    assert_eq!(fs::read_to_string(&precious).unwrap(), "not a socket");
    assert!(fs::symlink_metadata(&link).is_ok());
}

#[test]
fn t40_a_folder_that_others_may_write_in_is_refused() {
    let folder = Folder::new("open");
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
    let error = Server::bind(&folder.socket()).err().unwrap().to_string();
    assert!(error.contains("only you or root"), "{error}");
}

#[test]
fn a_gateway_says_what_it_is_as_varlink_has_it() {
    let stand = Stand::new("service", 0);
    let info = said(json!({"method": "org.varlink.service.GetInfo"}));
    let which = json!({"interface": "org.latchway.Control"});
    let description =
        said(json!({"method": "org.varlink.service.GetInterfaceDescription", "parameters": which}));
    let both = answers(&stand.raw(), &[info, description].concat());
    assert_eq!(both[0]["parameters"]["interfaces"], json!(["org.varlink.service", "org.latchway.Control"]));
    let text = both[1]["parameters"]["description"].as_str().unwrap();
    assert!(text.contains("\ninterface org.latchway.Control\n") && text.contains("\nmethod Status() -> ("));
}

#[test]
fn a_oneway_call_is_done_and_not_answered() {
    let stand = Stand::new("oneway", 0);
    let oneway = said(json!({"method": "org.latchway.Control.Drops", "oneway": true}));
    let wrong = said(json!({"method": "org.latchway.Control.Dance", "oneway": true}));
    let last = said(json!({"method": "org.latchway.Control.Drops"}));
    assert_eq!(answers(&stand.raw(), &[oneway, wrong, last].concat()).len(), 1);
    assert_eq!(*stand.gateway.asked.lock().unwrap(), ["drops", "drops"]);
}

#[test]
fn what_is_not_there_or_not_right_is_said_and_the_next_call_is_answered() {
    let stand = Stand::new("wrong", 0);
    let wrong = [
        (json!({"method": "org.latchway.Control.Dance"}), "org.varlink.service.MethodNotFound"),
        (json!({"method": "com.example.Dance"}), "org.varlink.service.InterfaceNotFound"),
        (json!({"method": "org.latchway.Control.Flows"}), "org.varlink.service.MethodNotImplemented"),
        (json!({"method": "org.latchway.Control.Events"}), "org.varlink.service.ExpectedMore"),
        (json!({"method": "org.latchway.Control.Drops", "upgrade": true}), "org.latchway.Control.BadCall"),
        (
            json!({"method": "org.latchway.Control.Drops", "parameters": {"x": 1}}),
            "org.latchway.Control.BadCall",
        ),
        (json!({"method": "org.latchway.Control.Drops", "parameters": null}), ""),
        (json!([1, 2]), "org.latchway.Control.BadCall"),
        (json!({"method": "org.latchway.Control.Status"}), "org.latchway.Control.Failed"),
    ];
    for (call, error) in wrong {
        let both = [said(call.clone()), said(json!({"method": "org.latchway.Control.Drops"}))].concat();
        let answers = answers(&stand.raw(), &both);
        assert_eq!(answers[0].get("error").and_then(Value::as_str).unwrap_or_default(), error, "{call}");
        assert_eq!(answers[1], json!({"parameters": {"drops": []}}), "{call}");
    }
}

/// Lists come by pages, and without `more` as one page that says whether it is all.
#[test]
fn a_long_list_is_told_page_by_page() {
    let stand = Stand::new("pages", 1203);
    let names = |peers: &latchway_control::Peers| -> Vec<usize> {
        peers.peers.iter().map(|peer| peer.name.parse().unwrap()).collect()
    };
    let mut client = stand.client();
    let pages: Vec<_> = client.stream(&call::Peers::default()).unwrap().map(Result::unwrap).collect();
    assert_eq!(pages.iter().map(|page| page.peers.len()).collect::<Vec<_>>(), [500, 500, 203]);
    let all = client.list(&call::Peers::default()).unwrap();
    assert!(!all.truncated && names(&all) == (0..1203).collect::<Vec<_>>());
    let first = client.call(&call::Peers::default()).unwrap();
    assert!(first.truncated && names(&first) == (0..500).collect::<Vec<_>>());
    let some = client.list(&call::Peers { limit: Some(501) }).unwrap();
    assert!(some.truncated && names(&some) == (0..501).collect::<Vec<_>>());
    let exact = client.list(&call::Peers { limit: Some(1203) }).unwrap();
    assert!(!exact.truncated && exact.peers.len() == 1203);
    let none = client.call(&call::Peers { limit: Some(0) }).unwrap();
    assert!(none.truncated && none.peers.is_empty());
}

#[test]
fn a_list_whose_caller_is_gone_is_not_walked_to_its_end() {
    let stand = Stand::new("gone", usize::MAX);
    let mut stream = stand.raw();
    stream.write_all(&said(json!({"method": "org.latchway.Control.Peers", "more": true}))).unwrap();
    stream.read_exact(&mut [0; 100]).unwrap();
    drop(stream);
    while stand.gateway.asked.lock().unwrap().is_empty() {
        thread::yield_now();
    }
    stand.serves();
}

#[test]
fn events_are_heard_from_the_subscription_to_the_end() {
    let mut stand = Stand::new("events", 0);
    let mut client = stand.client();
    let mut events = client.events().unwrap();
    let mut next = || events.next().map(|event| event.unwrap().event);
    assert_eq!(next(), Some(EventKind::Subscribed));
    stand.events.publish(EventView::new(EventKind::Acquire, "one"));
    assert_eq!(next(), Some(EventKind::Acquire));
    stand.events.publish(EventView::new(EventKind::TunDown, "two"));
    drop(stand.serving.take());
    assert_eq!(next(), Some(EventKind::TunDown));
    assert_eq!(next(), Some(EventKind::Ending));
    assert_eq!(next(), None);
    assert!(!stand.folder.socket().exists());
}

/// A listener that reads nothing hears later how much it missed; nobody waits for it, and others hear everything.
#[test]
fn a_listener_that_reads_nothing_holds_nobody_up() {
    let stand = Stand::new("slow", 0);
    let mut slow = stand.client();
    let mut slow = slow.events().unwrap();
    assert_eq!(slow.next().unwrap().unwrap().event, EventKind::Subscribed);
    let many = 20_000;
    for _ in 0..many {
        stand.events.publish(EventView::new(EventKind::Acquire, "x".repeat(200)));
    }
    stand.serves();
    let (mut heard, mut lost, mut notices) = (0, 0, 0);
    while heard + lost < many {
        let event = slow.next().unwrap().unwrap();
        match event.event {
            EventKind::Lost => (lost, notices) = (lost + event.count.unwrap(), notices + 1),
            _ => heard += 1,
        }
    }
    assert!(lost > 0 && notices >= 1 && heard >= 1024, "{heard} heard, {lost} lost");
}

#[test]
fn stop_is_answered_before_it_is_done() {
    let stand = Stand::new("stop", 0);
    stand.client().call(&call::Stop {}).unwrap();
    while !stand.stopped.load(Ordering::Acquire) {
        thread::yield_now();
    }
}

/// T40: every call cut at every octet, and every octet of it replaced, leaves the gateway up and serving others.
#[test]
fn t40_calls_cut_or_damaged_at_every_octet_harm_nobody() {
    let stand = Stand::new("cut", 0);
    let key = "ab".repeat(20);
    let sa = |spi| json!({"spi": spi, "key": key});
    let pair = json!({
        "peer": "b.example", "suite": "aes-128-gcm", "inbound": sa(4097), "outbound": sa(4098),
        "path": {"from": "192.0.2.1", "to": "192.0.2.2:4500"},
        "selectors": [{"local": "10.0.1.0/24", "remote": "10.0.2.0/24"}],
    });
    let calls = Call::NAMES
        .iter()
        .filter(|name| !["Stop", "Events", "XfrmMonitor"].iter().any(|other| name.ends_with(other)));
    let mut all: Vec<_> = calls.map(|name| said(json!({"method": name, "parameters": {}}))).collect();
    all.push(said(json!({"method": "org.latchway.Control.AddPair", "parameters": pair})));
    assert_eq!(answers(&stand.raw(), all.last().unwrap()), [json!({"parameters": {"pair": 7}})]);
    for call in &all {
        for at in 0..call.len() {
            assert_eq!(answers(&stand.raw(), &call[..at]), [] as [Value; 0]);
            let mut damaged = call.clone();
            damaged[at] ^= 0x5a;
            for answer in answers(&stand.raw(), &damaged) {
                assert!(!answer.to_string().contains(&key), "a key is not said back");
            }
        }
    }
    stand.serves();
}

#[test]
fn t40_garbage_endless_and_deep_messages_harm_nobody() {
    let stand = Stand::new("garbage", 0);
    for nesting in ["[", "{\"a\":"] {
        let deep =
            format!("{{\"method\":\"org.latchway.Control.Drops\",\"parameters\":{}", nesting.repeat(200_000));
        let answers = answers(&stand.raw(), &[deep.as_bytes(), &[0]].concat());
        assert_eq!(answers[0]["error"], "org.latchway.Control.BadCall");
    }
    assert_eq!(answers(&stand.raw(), &[0; 5000]).len(), 5000);
    let mut stream = stand.raw();
    // Refused before all of it is taken, so that the rest may not find anybody.
    let _ = stream.write_all(&vec![b' '; 3 << 20]);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(String::from_utf8_lossy(&answer).contains("longer than 1048576") || answer.is_empty());
    let mut random = fastrand::Rng::with_seed(40);
    for _ in 0..200 {
        let octets: Vec<u8> = (0..random.usize(..500)).map(|_| random.u8(..)).collect();
        answers(&stand.raw(), &octets);
    }
    stand.serves();
}

/// T40: whoever takes all places and says nothing, or reads nothing, loses them to whoever has something to say.
#[test]
fn t40_silent_callers_make_room_for_others() {
    let stand = Stand::new("silent", 100_000);
    let silent: Vec<_> = (0..3 * MAX_CONNECTIONS).map(|_| stand.raw()).collect();
    stand.serves();
    let mut deaf = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = stand.raw();
        stream.write_all(&said(json!({"method": "org.latchway.Control.Peers", "more": true}))).unwrap();
        deaf.push(stream);
    }
    let answered = (0..200).any(|_| match stand.client().call(&call::Drops {}) {
        Ok(_) => true,
        Err(CallError::Failed(failure)) => {
            assert_eq!(failure.error, "org.latchway.Control.Busy");
            thread::sleep(BREATH);
            false
        }
        Err(error) => panic!("{error}"),
    });
    assert!(answered);
    drop((silent, deaf));
}

/// Listeners leave room for calls.
#[test]
fn as_many_listen_as_may_and_calls_are_answered() {
    let stand = Stand::new("listeners", 0);
    let mut clients: Vec<_> = (0..MAX_CONNECTIONS / 2).map(|_| stand.client()).collect();
    for client in &mut clients {
        assert_eq!(client.events().unwrap().next().unwrap().unwrap().event, EventKind::Subscribed);
    }
    let mut last = stand.client();
    let refused = last.events().unwrap().next().unwrap().unwrap_err();
    assert!(matches!(refused, CallError::Failed(failure) if failure.error == "org.latchway.Control.Busy"));
    stand.serves();
}
