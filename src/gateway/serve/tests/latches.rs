//! Latches that callers own, on a gateway in memory: L-21, L-46 to L-68 as calls, and what bad callers may try.

use std::collections::HashSet;
use std::process::{Child, Command};
use std::time::Instant;

use latchway_control::{
    AlertKind, AlertView, CloseLatch, ConnectSpec, FindLatch, InquireLatch, LatchDetail, LatchNamed,
    LatchState, ListenSpec, Method, OwnerKind, ReleaseLatch, WatchLatches, Whois,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::de::DeserializeOwned;

use super::*;
use crate::gateway::state::testing::World;

/// A gateway in service, with its key manager and Latch Database.
struct Real {
    folder: Folder,
    world: World,
    _serving: Serving,
}

impl Real {
    fn new(name: &str, flows: u32) -> Self {
        let (folder, world) = (Folder::new(&format!("latches-{name}")), World::with_flows(flows));
        let service = Service {
            gateway: Arc::clone(&world.state) as _,
            events: Arc::clone(world.state.events()),
            processes: Processes::start(Arc::clone(&world.state) as _).unwrap(),
            stop: Box::new(|| {}),
        };
        let serving = Server::bind(&folder.socket()).unwrap().start(service).unwrap();
        Self { folder, world, _serving: serving }
    }

    fn client(&self) -> Client {
        Client::connect(&self.folder.socket()).unwrap()
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(self.folder.socket()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn inquire(&self, latch: &LatchNamed) -> Result<LatchDetail, String> {
        refusal(self.client().call(&InquireLatch { latch: latch.latch.clone() }))
    }

    /// Waits until a handle names nothing that holds any more.
    fn until_released(&self, latch: &LatchNamed) {
        eventually(|| self.inquire(latch).map_or(true, |detail| detail.state == LatchState::Closed));
    }

    /// How many latches hold.
    fn held(&self) -> usize {
        self.world.database.dump().filter(|latch| latch.state.name() != "closed").count()
    }
}

const LONG: Duration = Duration::from_secs(60);

fn eventually(mut done: impl FnMut() -> bool) {
    let last = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < last, "it never came to that");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The name of the error, without that of the interface.
fn refusal<T>(answer: Result<T, CallError>) -> Result<T, String> {
    answer.map_err(|error| match error {
        CallError::Failed(failure) => {
            assert!(failure.parameters.hint.is_some(), "{failure} says what to do");
            failure.error.trim_start_matches("org.latchway.Control.").to_owned()
        }
        other => panic!("{other}"),
    })
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn listen(port: u16) -> ListenSpec {
    read(json!({"protocol": 6, "local": format!("10.1.0.1:{port}")}))
}

fn connect(port: u16) -> ConnectSpec {
    read(json!({"protocol": 6, "local": format!("10.1.0.1:{port}"), "remote": "10.2.0.1:80"}))
}

/// A program that does nothing until it is killed.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn l_46_l_54_l_64_l_67_latches_are_made_found_shown_and_released() {
    let real = Real::new("calls", 64);
    let mut client = real.client();
    let listener = client.call(&listen(143)).unwrap();
    assert_eq!((listener.state, listener.flow.as_str()), (LatchState::Listener, "tcp 10.1.0.1:143"));
    let larval = client.call(&connect(40_000)).unwrap();
    assert_eq!((larval.state, larval.flow.as_str()), (LatchState::Larval, "tcp 10.1.0.1:40000-10.2.0.1:80"));
    let find = |local: &str, remote: Option<&str>| FindLatch {
        protocol: 6,
        local: local.parse().unwrap(),
        remote: remote.map(|remote| remote.parse().unwrap()),
    };
    assert_eq!(client.call(&find("10.1.0.1:143", None)).unwrap(), listener);
    assert_eq!(client.call(&find("10.1.0.1:40000", Some("10.2.0.1:80"))).unwrap(), larval);
    assert_eq!(refusal(client.call(&find("10.1.0.1:40001", Some("10.2.0.1:80")))).unwrap_err(), "NotFound");
    let detail = client.call(&InquireLatch { latch: larval.latch.clone() }).unwrap();
    assert_eq!((detail.state, detail.remote), (LatchState::Larval, "10.2.0.1:80".parse().ok()));
    assert_eq!((detail.owner.kind, detail.owner.pid), (OwnerKind::Control, Some(std::process::id())));
    assert!(!detail.binding && detail.unbindable.is_some());
    let who = Whois { endpoint: "10.2.0.1:80".parse().unwrap(), other: None, protocol: None };
    let who = client.call(&who).unwrap();
    assert_eq!(who.connections.len(), 1);
    assert_eq!(who.connections[0].bond, latchway_control::Bond::Suspended);
    for latch in [&listener, &larval] {
        client.call(&ReleaseLatch { latch: latch.latch.clone() }).unwrap();
        real.until_released(latch);
    }
    assert_eq!(real.held(), 0);
}

#[test]
fn every_error_has_its_name_and_says_what_to_do() {
    let real = Real::new("errors", 64);
    let (mut owner, mut other) = (real.client(), real.client());
    let made = owner.call(&listen(143)).unwrap();
    let release = |latch: &str| ReleaseLatch { latch: latch.into() };
    let close = |latch: &str| CloseLatch { latch: latch.into() };
    assert_eq!(refusal(other.call(&listen(143))).unwrap_err(), "Conflict", "L-48");
    assert_eq!(refusal(other.call(&release(&made.latch))).unwrap_err(), "NotOwner", "L-21");
    for wrong in ["", "7", "7.", "07.1", "7.1.1", "-1.1", "x.y", "4294967296.1", "\u{0}"] {
        assert_eq!(refusal(other.call(&release(wrong))).unwrap_err(), "BadCall", "{wrong:?}");
        assert_eq!(refusal(other.call(&close(wrong))).unwrap_err(), "BadCall", "{wrong:?}");
    }
    for stale in ["63.77", "4294967295.4294967295"] {
        assert_eq!(refusal(other.call(&release(stale))).unwrap_err(), "NotFound", "L-64 {stale}");
        assert_eq!(refusal(other.call(&close(stale))).unwrap_err(), "NotFound", "{stale}");
    }
    let tuple = |local: &str, remote: &str| -> ConnectSpec {
        read(json!({"protocol": 6, "local": local, "remote": remote}))
    };
    for (local, remote) in [
        ("10.1.0.1:1", "[fd00::1]:2"),
        ("10.1.0.1:0", "10.2.0.1:80"),
        ("0.0.0.0:1", "10.2.0.1:80"),
        ("10.1.0.1:1", "224.0.0.1:80"),
        ("10.1.0.1:1", "255.255.255.255:80"),
    ] {
        assert_eq!(refusal(other.call(&tuple(local, remote))).unwrap_err(), "BadTuple", "{local} {remote}");
    }
    assert_eq!(
        refusal(other.call(&tuple("10.7.0.1:1", "10.2.0.1:80"))).unwrap_err(),
        "PolicyForbids",
        "L-49"
    );
    let asks = |constraints: Value, unprivileged: bool| -> ConnectSpec {
        read(json!({"protocol": 6, "local": "10.1.0.1:7", "remote": "10.2.0.1:80",
            "constraints": constraints, "unprivileged": unprivileged}))
    };
    let bypass = json!({"protection": "bypass"});
    assert_eq!(refusal(other.call(&asks(bypass, false))).unwrap_err(), "PolicyForbids", "L-36");
    for nonsense in [json!({"suites": ["rot13"]}), json!({"peer": ""}), json!({"key_bits": 65_535})] {
        assert_eq!(refusal(other.call(&asks(nonsense.clone(), true))).unwrap_err(), "BadCall", "{nonsense}");
    }
    let own = std::process::id();
    for (pid, error) in [(0, "BadCall"), (own, "BadCall"), (u32::MAX, "BadCall"), (4_194_304, "NotFound")] {
        let mut spec = listen(25);
        spec.owner = Some(latchway_control::OwnerSpec { pid });
        assert_eq!(refusal(other.call(&spec)).unwrap_err(), error, "{pid}");
    }
    let watch = said(json!({"method": WatchLatches::NAME}));
    assert_eq!(answers(&real.raw(), &watch)[0]["error"], "org.varlink.service.ExpectedMore");
    let mut idle = real.client();
    let mut nothing = idle.follow(&WatchLatches { all: false }).unwrap();
    assert_eq!(refusal(nothing.next().unwrap()).unwrap_err(), "Refused");
    assert_eq!(real.inquire(&made).unwrap().state, LatchState::Listener, "whatever others tried");
}

#[test]
fn l_21_a_connections_latches_go_with_it() {
    let real = Real::new("closed", 64);
    let mut client = real.client();
    let made = [client.call(&listen(143)).unwrap(), client.call(&connect(40_000)).unwrap()];
    let stays = real.client().call(&listen(144));
    drop(client);
    made.iter().for_each(|latch| real.until_released(latch));
    real.until_released(&stays.unwrap());
}

#[test]
fn l_21_a_process_that_is_killed_takes_its_latches_along() {
    let real = Real::new("process", 64);
    let (mut sleeper, mut lasting) = (Sleeper::new(), Sleeper::new());
    let owned = |port, pid| {
        let mut spec = listen(port);
        spec.owner = Some(latchway_control::OwnerSpec { pid });
        // The connection that made it is gone at once.
        real.client().call(&spec).unwrap()
    };
    let pids = [sleeper.0.id(), lasting.0.id()];
    let made = [owned(1, pids[0]), owned(2, pids[0]), owned(3, pids[1])];
    for (latch, pid) in made.iter().zip([pids[0], pids[0], pids[1]]) {
        let owner = real.inquire(latch).unwrap().owner;
        assert_eq!((owner.kind, owner.pid), (OwnerKind::Process, Some(pid)));
    }
    sleeper.kill();
    real.until_released(&made[0]);
    real.until_released(&made[1]);
    assert_eq!(real.inquire(&made[2]).unwrap().state, LatchState::Listener);
    // Any operator may give up what a process owns.
    real.client().call(&ReleaseLatch { latch: made[2].latch.clone() }).unwrap();
    real.until_released(&made[2]);
    let mut dead = listen(9);
    dead.owner = Some(latchway_control::OwnerSpec { pid: pids[0] });
    assert_eq!(refusal(real.client().call(&dead)).unwrap_err(), "NotFound");
    lasting.kill();
}

#[test]
fn r_10_r_11_an_owner_is_told_what_becomes_of_its_latch_and_who_watches_hears_of_all() {
    let real = Real::new("alerts", 64);
    let (mut owner, mut watcher) = (real.client(), real.client());
    let mut all = watcher.follow(&WatchLatches { all: true }).unwrap();
    assert_eq!(all.next().unwrap().unwrap().alert, AlertKind::Watching);
    let made = owner.call(&connect(40_000)).unwrap();
    let foreign = real.client().call(&listen(7)).unwrap();
    let mut own = owner.follow(&WatchLatches { all: false }).unwrap();
    assert_eq!(own.next().unwrap().unwrap().alert, AlertKind::Watching);
    real.client().call(&CloseLatch { latch: made.latch.clone() }).unwrap();
    let is_end = |alert: &AlertView| {
        alert.latch.as_deref() == Some(made.latch.as_str()) && alert.state == Some(LatchState::Closed)
    };
    let told = own.find(|alert| is_end(alert.as_ref().unwrap())).unwrap().unwrap();
    assert_eq!((told.alert, told.reason.as_deref()), (AlertKind::Changed, Some("administrative")));
    assert_eq!(told.flow.as_deref(), Some("tcp 10.1.0.1:40000-10.2.0.1:80"));
    let told = all.find(|alert| is_end(alert.as_ref().unwrap())).unwrap().unwrap();
    assert_eq!(told.alert, AlertKind::Changed);
    real.until_released(&foreign);
}

/// A thousand connections hold latches; calls are answered beside them, one more is refused by name, and a holder that
/// goes makes room.
#[test]
fn a_thousand_holders_leave_room_for_calls() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < 4096 {
        return println!("skipped: a process may have {hard} descriptors here, and 4096 are needed");
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(4096), hard).unwrap();
    let real = Real::new("thousand", 4096);
    let mut holders: Vec<Client> = Vec::new();
    let mut handles = HashSet::new();
    for port in 1..=u16::try_from(MAX_HOLDERS).unwrap() {
        let mut client = real.client();
        assert!(handles.insert(client.call(&listen(port)).unwrap().latch));
        holders.push(client);
    }
    assert_eq!(real.held(), MAX_HOLDERS);
    assert_eq!(refusal(real.client().call(&listen(20_000))).unwrap_err(), "Full");
    // Callers beside them come and go, more than there are places; no holder is shut out for them.
    let silent: Vec<_> = (0..2 * MAX_CONNECTIONS).map(|_| real.raw()).collect();
    let mut answered = false;
    eventually(|| {
        answered = real.client().call(&call::Drops {}).is_ok();
        answered
    });
    drop(silent);
    assert_eq!(real.held(), MAX_HOLDERS);
    drop(holders.pop());
    eventually(|| real.client().call(&listen(20_000)).is_ok());
    for client in &mut holders {
        assert!(client.call(&call::Drops {}).is_ok(), "every holder is served still");
    }
}

/// A holder that never reads what it is told holds up nobody, keeps its latch, and hears in the end that it missed some.
#[test]
fn a_holder_that_never_reads_holds_up_nobody() {
    let real = Real::new("deaf", 64);
    let mut deaf = real.client();
    let kept = deaf.call(&listen(143)).unwrap();
    let mut alerts = deaf.follow(&WatchLatches { all: true }).unwrap();
    assert_eq!(alerts.next().unwrap().unwrap().alert, AlertKind::Watching);
    let mut busy = real.client();
    for _ in 0..3000 {
        let made = busy.call(&connect(40_000)).unwrap();
        busy.call(&ReleaseLatch { latch: made.latch.clone() }).unwrap();
    }
    assert_eq!(real.inquire(&kept).unwrap().state, LatchState::Listener);
    let told = alerts.by_ref().take_while(|alert| alert.as_ref().unwrap().alert != AlertKind::Lost).count();
    assert!(told < 10_000, "{told}");
}

/// T40: every call about latches, cut at every octet and with every octet replaced, leaves the gateway up, and what others
/// hold untouched.
#[test]
fn t40_calls_about_latches_cut_or_damaged_at_every_octet_harm_nobody() {
    let real = Real::new("cut", 4096);
    let mut owner = real.client();
    let kept = owner.call(&listen(60_000)).unwrap();
    let (end, far) = ("10.1.0.1:40000", "10.2.0.1:80");
    let demands = json!({"protection": "confidential", "mode": "tunnel", "suites": ["aes-128-gcm"], "key_bits": 128,
        "replay_checked": true, "peer": "b.example", "identity": "a.example", "method": "manual", "narrow": true});
    let calls = [
        (
            ListenSpec::NAME,
            json!({"protocol": 6, "local": end, "constraints": demands, "unprivileged": true}),
        ),
        (ConnectSpec::NAME, json!({"protocol": 6, "local": end, "remote": far, "on_conflict": "wait"})),
        (ReleaseLatch::NAME, json!({"latch": "5.7"})),
        (InquireLatch::NAME, json!({"latch": kept.latch})),
        (FindLatch::NAME, json!({"protocol": 6, "local": end, "remote": far})),
        (CloseLatch::NAME, json!({"latch": "5.7"})),
        (WatchLatches::NAME, json!({"all": true})),
        (latchway_control::PeerGoneSpec::NAME, json!({"peer": "nobody.example", "reason": "dead"})),
        (Whois::NAME, json!({"endpoint": end, "other": far, "protocol": 6})),
    ];
    for (name, parameters) in calls {
        let call = said(json!({"method": name, "parameters": parameters}));
        for at in 0..call.len() {
            assert_eq!(answers(&real.raw(), &call[..at]), [] as [Value; 0]);
            for flip in [0x5a, 0x01, 0x80] {
                let mut damaged = call.clone();
                damaged[at] ^= flip;
                answers(&real.raw(), &damaged);
            }
        }
    }
    eventually(|| real.held() == 1);
    assert_eq!(owner.call(&InquireLatch { latch: kept.latch.clone() }).unwrap().state, LatchState::Listener);
    owner.call(&ReleaseLatch { latch: kept.latch }).unwrap();
}
