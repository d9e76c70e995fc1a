//! Sockets that are made with a requirement, and events (Q-45, N-15, K-9 to K-12).

use std::io::ErrorKind as Io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::fake_app::{Act, FakeApp, bare, latched};
use latchway_socket::{
    Answer, ErrorKind, EventKind, Gateway, NoGateway, PeerIdentity, Requirement, Unlatched,
};
use rustix::net::sockopt::socket_cookie;
use serde_json::{Value, json};

const LOOPBACK: &str = "127.0.0.1:0";

fn loopback() -> SocketAddr {
    LOOPBACK.parse().unwrap()
}

fn gateway(fake: &FakeApp) -> Gateway {
    Gateway::at(fake.path()).with_timeout(Duration::from_secs(20))
}

fn of_peer() -> Requirement {
    Requirement::new().peer(&PeerIdentity::asserting(&"b.example".parse().unwrap()).unwrap())
}

fn methods(fake: &FakeApp) -> Vec<String> {
    fake.calls().into_iter().map(|came| came.method.replace("org.latchway.App.", "")).collect()
}

/// what is required is required before the first SYN leaves, and what is not latched is not given out.
#[test]
fn q45_connect_requires_first_and_gives_out_what_is_latched() {
    let listener = TcpListener::bind(loopback()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (address, early) = (listener.local_addr().unwrap(), listener.try_clone().unwrap());
    let fake = FakeApp::new(move |came| match came.method.as_str() {
        "org.latchway.App.Require" => {
            assert_eq!(early.accept().unwrap_err().kind(), Io::WouldBlock, "nobody connected yet");
            vec![Act::Reply(json!({"view": null}))]
        }
        _ => vec![Act::Reply(latched())],
    });
    let (stream, protection) = gateway(&fake).connect(address, &of_peer()).unwrap();
    assert_eq!(protection.peer_identity().asserted().to_string(), "fqdn:b.example");
    assert_eq!(stream.peer_addr().unwrap(), address);
    let calls = fake.calls();
    let own = socket_cookie(&stream).unwrap();
    assert!(calls.iter().all(|came| socket_cookie(&came.sockets[0]).unwrap() == own));
    assert_eq!(calls.len(), 2);

    for (view, kind) in [
        (bare("clear"), ErrorKind::Unsatisfied),
        (bare("suspended"), ErrorKind::Suspended),
        (bare("certainly"), ErrorKind::Protocol),
    ] {
        let fake = FakeApp::new(move |came| match came.method.as_str() {
            "org.latchway.App.Require" => vec![Act::Reply(json!({"view": null}))],
            _ => vec![Act::Reply(view.clone())],
        });
        assert_eq!(gateway(&fake).connect(address, &of_peer()).unwrap_err().kind(), kind);
    }
}

/// where the gateway does not take the requirement, or is not there, nothing is sent.
#[test]
fn q45_without_the_requirement_there_is_no_connection() {
    let listener = TcpListener::bind(loopback()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let fake = FakeApp::new(|_| vec![Act::Refuse("Full")]);
    let gateway = gateway(&fake);
    assert_eq!(gateway.connect(address, &of_peer()).unwrap_err().kind(), ErrorKind::Full);
    drop(fake);
    let none = gateway.connect(address, &of_peer()).unwrap_err();
    assert_eq!(none.no_gateway(), Some(NoGateway::NoSocket));
    assert_eq!(listener.accept().unwrap_err().kind(), Io::WouldBlock);
}

/// Q-45, N-15: a listener requires before it listens, and tells of each connection what protects it.
#[test]
fn n15_a_listener_requires_before_it_listens() {
    let fake = FakeApp::new(|came| match came.method.as_str() {
        "org.latchway.App.Require" => {
            let bound = TcpListener::from(came.sockets[0].try_clone().unwrap()).local_addr().unwrap();
            assert_eq!(
                TcpStream::connect(bound).unwrap_err().kind(),
                Io::ConnectionRefused,
                "it listens too early"
            );
            vec![Act::Reply(json!({"view": null}))]
        }
        _ => vec![Act::Reply(latched())],
    });
    let listener = gateway(&fake).listen(loopback(), &of_peer()).unwrap();
    let client = TcpStream::connect(listener.socket().local_addr().unwrap()).unwrap();
    let (_stream, from, answer) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    assert!(answer.latched().is_some());
    assert_eq!(methods(&fake), ["Require", "Protection"]);
}

fn event(kind: &str, socket: Option<u64>) -> Value {
    json!({"event": kind, "socket": socket, "time": 7, "text": "so it is"})
}

/// K-9 to K-12: events come in their order, say of which socket they are, and end with the gateway.
#[test]
fn k10_k12_events_come_in_order_and_end_with_the_gateway() {
    let mut moved = event("address-changed", Some(0));
    (moved["from"], moved["to"]) = (json!("192.0.2.1:4500"), json!("192.0.2.2:4500"));
    let mut broken = event("broken", Some(1));
    (broken["reason"], broken["view"]) = (json!("another peer"), bare("suspended"));
    let mut lost = event("lost", None);
    lost["count"] = json!(3);
    let told = [event("established", Some(1)), event("rekeyed", Some(0)), moved, lost, broken];
    let fake = FakeApp::new(move |_| {
        let mut acts = vec![Act::Continue(event("watching", None))];
        acts.extend(told.iter().cloned().map(Act::Continue));
        acts.extend([Act::Continue(event("ending", None)), Act::Close]);
        acts
    });
    let sockets = [UdpSocket::bind(loopback()).unwrap(), UdpSocket::bind(loopback()).unwrap()];
    let events = gateway(&fake).watch(sockets.iter().map(AsFd::as_fd)).unwrap();
    let events: Vec<_> = events.map(Result::unwrap).collect();
    let of: Vec<_> = events.iter().map(|event| event.socket).collect();
    assert_eq!(of, [Some(1), Some(0), Some(0), None, Some(1), None]);
    assert_eq!((&events[0].kind, &events[1].kind), (&EventKind::Established, &EventKind::Rekeyed));
    let [from, to] = ["192.0.2.1:4500", "192.0.2.2:4500"].map(|address| address.parse().unwrap());
    assert_eq!(events[2].kind, EventKind::AddressChanged { from, to });
    assert_eq!(events[3].kind, EventKind::Lost(3));
    let EventKind::Broken(reason) = &events[4].kind else { panic!() };
    assert_eq!(reason.to_string(), "another peer");
    assert_eq!(events[4].answer, Some(Answer::Unlatched(Unlatched::Suspended { reason: None })));
    assert_eq!(events[5].kind, EventKind::GatewayEnding);
    let [call] = <[_; 1]>::try_from(fake.calls()).unwrap();
    assert_eq!((call.method.as_str(), call.sockets.len()), ("org.latchway.App.Watch", 2));
}

/// K-10: events are waited for no longer than wanted; a gateway that is gone or talks nonsense is an error, and the last.
#[test]
fn k10_what_is_no_event_ends_them() {
    let socket = UdpSocket::bind(loopback()).unwrap();
    let watch = |fake: &FakeApp| gateway(fake).watch([socket.as_fd()]);
    let silent = FakeApp::new(|_| vec![Act::Continue(event("watching", None)), Act::Silence]);
    let mut events = watch(&silent).unwrap();
    for _ in 0..2 {
        assert_eq!(events.next_within(Duration::from_millis(20)), Ok(None), "a pause is no end");
    }
    drop(silent);
    assert_eq!(events.next().unwrap().unwrap_err().no_gateway(), Some(NoGateway::Ending));
    assert!(events.next().is_none());

    let wrong =
        [event("watching", None), event("broken", None), event("broken", Some(1)), event("rained", Some(0))];
    let next = AtomicUsize::new(0);
    let hostile = FakeApp::new(move |_| {
        let wrong = wrong[next.fetch_add(1, Ordering::SeqCst)].clone();
        vec![Act::Continue(event("watching", None)), Act::Continue(wrong)]
    });
    for _ in 0..4 {
        let mut events = watch(&hostile).unwrap();
        assert_eq!(events.next().unwrap().unwrap_err().kind(), ErrorKind::Protocol);
        assert!(events.next().is_none());
    }
    let early = FakeApp::new(|_| vec![Act::Continue(event("established", Some(0)))]);
    assert_eq!(watch(&early).unwrap_err().kind(), ErrorKind::Protocol);
    let many = vec![socket.as_fd(); 65];
    assert_eq!(gateway(&early).watch(many).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(gateway(&early).watch([]).unwrap_err().kind(), ErrorKind::Invalid);
}
