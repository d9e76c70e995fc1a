//! The same on tokio (Q-45, Q-46, N-15, K-10, T39).

use std::future::{Future, poll_fn};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::fake_app::{Act, FakeApp, bare, latched, place};
use futures_core::Stream;
use latchway_socket::tokio::{AsyncGateway, Events};
use latchway_socket::{Answer, ErrorKind, Event, EventKind, Gateway, NoGateway, Requirement, Unlatched};
use serde_json::json;

fn gateway(fake: &FakeApp) -> AsyncGateway {
    Gateway::at(fake.path()).with_timeout(PATIENCE).into()
}

/// Runs it on a runtime of one thread, which nothing may hold up.
fn run<T>(future: impl Future<Output = T>) -> T {
    ::tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

async fn next(events: &mut Events) -> Option<latchway_socket::Result<Event>> {
    poll_fn(|context| Pin::new(&mut *events).poll_next(context)).await
}

/// N-15: a listener and a connection, both with what was required, on one thread.
#[test]
fn q45_q46_n15_connections_are_made_and_taken() {
    let fake = FakeApp::new(|came| match came.method.as_str() {
        "org.latchway.App.Require" => vec![Act::Reply(json!({"view": null}))],
        _ => vec![Act::Reply(latched())],
    });
    let gateway = gateway(&fake);
    run(async {
        let listener = gateway.listen("127.0.0.1:0".parse().unwrap(), &Requirement::new()).await.unwrap();
        let address = listener.socket().local_addr().unwrap();
        let (stream, protection) = gateway.connect(address, &Requirement::new()).await.unwrap();
        assert_eq!(protection.peer_identity().asserted().to_string(), "fqdn:b.example");
        let (_accepted, from, answer) = listener.accept().await.unwrap();
        assert_eq!(from, stream.local_addr().unwrap());
        assert!(answer.latched().is_some());
    });
    let methods: Vec<_> = fake.calls().into_iter().map(|came| came.method).collect();
    let [require, protection] = ["org.latchway.App.Require", "org.latchway.App.Protection"];
    assert_eq!(methods, [require, require, protection, protection]);
}

/// T39: silence, drips, nonsense and absence end in their time here, too.
#[test]
fn t39_every_call_ends_in_its_time() {
    let kind = |act: Act, timeout: Duration| {
        let fake = FakeApp::new(move |_| vec![act.clone()]);
        let gateway = AsyncGateway::from(Gateway::at(fake.path()).with_timeout(timeout));
        let begun = Instant::now();
        let error = run(gateway.require(socket(), &Requirement::new())).unwrap_err();
        assert!(begun.elapsed() < timeout + Duration::from_secs(5));
        error.kind()
    };
    let short = Duration::from_millis(200);
    assert_eq!(kind(Act::Silence, short), ErrorKind::TimedOut);
    assert_eq!(kind(Act::Drip(b' '), short), ErrorKind::TimedOut);
    assert_eq!(kind(Act::Octets(vec![b' '; 70_000]), PATIENCE), ErrorKind::Protocol);
    assert_eq!(kind(Act::Octets(b"{\"parameters\":{}}\0{".to_vec()), PATIENCE), ErrorKind::Protocol);
    assert_eq!(kind(Act::Refuse("Full"), PATIENCE), ErrorKind::Full);
    assert_eq!(kind(Act::Close, PATIENCE), ErrorKind::NoGateway(NoGateway::Ending));
    let folder = place();
    let nowhere = AsyncGateway::from(Gateway::at(&folder.join("app.sock")));
    assert_eq!(run(nowhere.protection(socket())), Ok(Answer::NoGateway(NoGateway::NoSocket)));
    std::fs::remove_dir(&folder).unwrap();
}

#[test]
fn k10_events_are_a_stream() {
    let event = |kind: &str, socket: Option<u64>| {
        Act::Continue(json!({"event": kind, "socket": socket, "time": 7, "text": "so it is"}))
    };
    let fake = FakeApp::new(move |_| {
        vec![event("watching", None), event("rekeyed", Some(0)), event("ending", None), Act::Close]
    });
    let socket = socket();
    run(async {
        let mut events = gateway(&fake).watch([socket.as_fd()]).await.unwrap();
        assert_eq!(next(&mut events).await.unwrap().unwrap().kind, EventKind::Rekeyed);
        assert_eq!(next(&mut events).await.unwrap().unwrap().kind, EventKind::GatewayEnding);
        assert_eq!(next(&mut events).await, None);
    });
}

#[test]
fn answers_are_told_apart() {
    let fake = FakeApp::answering(bare("clear"));
    assert_eq!(run(gateway(&fake).protection(socket())), Ok(Answer::Unlatched(Unlatched::Clear)));
}

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(20);
