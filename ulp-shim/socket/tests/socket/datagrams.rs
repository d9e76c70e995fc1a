//! Datagrams with tags (Q-49, N-6, N-17), and sockets that wait for them.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use latchway_socket::{DatagramTag, Gateway, UdpSocket as Tagged, Unknown};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::fake_app::{Act, Came, FakeApp, bare, latched};

const LONG: Duration = Duration::from_secs(20);

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn tagged(fake: &FakeApp) -> Tagged {
    let socket = Gateway::at(fake.path()).with_timeout(LONG).udp(loopback()).unwrap();
    socket.socket().set_read_timeout(Some(LONG)).unwrap();
    socket
}

/// A gateway that says this of a flow, and until now; `None` until 1970.
fn saying(view: Value, since: Option<u64>, doubt: Option<&'static str>) -> FakeApp {
    FakeApp::new(move |came: &Came| {
        if came.method == "org.latchway.App.Pieces" {
            return vec![Act::Reply(json!({}))];
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now = u64::try_from(now.as_nanos()).unwrap();
        vec![Act::Reply(json!({"view": view, "since": since, "as_of": now, "doubt": doubt}))]
    })
}

/// The tags of some datagrams that are there before they are received.
fn receive(socket: &Tagged, burst: usize) -> Vec<DatagramTag> {
    let sender = UdpSocket::bind(loopback()).unwrap();
    let to = socket.socket().local_addr().unwrap();
    for _ in 0..burst {
        sender.send_to(b"hello", to).unwrap();
    }
    let receive = |_| {
        let (length, from, tag) = socket.recv_from(&mut [0; 9]).unwrap();
        assert_eq!((length, from), (5, sender.local_addr().unwrap()));
        tag
    };
    (0..burst).map(receive).collect()
}

/// The same, once the system stamps: it begins to a while after it is asked to.
fn stamped(socket: &Tagged, burst: usize) -> Vec<DatagramTag> {
    loop {
        let tags = receive(socket, burst);
        if !tags.contains(&DatagramTag::Unknown(Unknown::Unstamped)) {
            return tags;
        }
    }
}

/// N-17, Q-49: a datagram has the tag of the latch in whose time it came; the gateway is told of which it is asked.
#[test]
fn n17_q49_datagrams_are_tagged_where_that_is_certain() {
    let fake = saying(latched(), Some(1), None);
    let socket = tagged(&fake);
    let tags = stamped(&socket, 10);
    assert!(tags.iter().all(|tag| matches!(tag, DatagramTag::Certain(_))), "{tags:?}");
    let calls = fake.calls();
    assert_eq!(calls[0].method, "org.latchway.App.Pieces", "before any datagram");
    let asked = calls.last().unwrap();
    assert_eq!(asked.method, "org.latchway.App.Datagram");
    assert_eq!(asked.parameters["local"], json!(socket.socket().local_addr().unwrap()));
    assert_eq!(asked.parameters["interface"], 1, "lo");
}

/// N-17: what came before the latch, without one, by another way, or where nobody could be asked has no tag.
#[test]
fn n17_what_is_not_certain_is_not_tagged() {
    for (view, since, doubt, why) in [
        (latched(), Some(u64::MAX), None, Unknown::Earlier),
        (latched(), None, None, Unknown::Earlier),
        (bare("clear"), None, None, Unknown::Unlatched),
        (bare("suspended"), Some(1), None, Unknown::Unlatched),
        (latched(), Some(1), Some("other-device"), Unknown::OtherDevice),
        (latched(), Some(1), Some("forgeable"), Unknown::Forgeable),
    ] {
        let fake = saying(view, since, doubt);
        assert_eq!(stamped(&tagged(&fake), 1), [DatagramTag::Unknown(why)]);
    }
    let past = FakeApp::new(|_| vec![Act::Reply(json!({"view": latched(), "since": 1, "as_of": 2}))]);
    assert_eq!(receive(&tagged(&past), 1), [DatagramTag::Unknown(Unknown::Unstamped)], "it is older");
    let none = FakeApp::new(|came| match came.method.as_str() {
        "org.latchway.App.Pieces" => vec![Act::Reply(json!({}))],
        _ => vec![Act::Refuse("NotHere")],
    });
    assert!(matches!(&stamped(&tagged(&none), 1)[..], [DatagramTag::Unknown(Unknown::Unasked(_))]));
}

/// N-17: of a socket that was not asked to, the system does not say what came in pieces, and nothing is certain.
#[test]
fn n17_a_socket_that_does_not_tell_of_pieces_has_no_tags() {
    let fake = FakeApp::new(|_| vec![Act::Refuse("NotHere")]);
    let socket = tagged(&fake);
    for _ in 0..3 {
        assert_eq!(receive(&socket, 1), [DatagramTag::Unknown(Unknown::Unstamped)]);
    }
    assert!(fake.calls().iter().all(|came| came.method == "org.latchway.App.Pieces"));
}

/// N-17: a gateway that is silent is not asked about each datagram.
#[test]
fn n17_a_silent_gateway_holds_up_one_datagram_and_not_each() {
    let fake = FakeApp::new(|came| match came.method.as_str() {
        "org.latchway.App.Pieces" => vec![Act::Reply(json!({}))],
        _ => vec![Act::Silence],
    });
    let gateway = Gateway::at(fake.path()).with_timeout(Duration::from_millis(300));
    let socket = gateway.udp(loopback()).unwrap();
    let senders: Vec<_> = (0..50).map(|_| UdpSocket::bind(loopback()).unwrap()).collect();
    let to = socket.socket().local_addr().unwrap();
    while !matches!(receive(&socket, 1)[..], [DatagramTag::Unknown(Unknown::Unasked(_))]) {}
    fake.calls();
    for sender in &senders {
        sender.send_to(b"hello", to).unwrap();
        assert!(matches!(socket.recv_from(&mut [0; 9]).unwrap().2, DatagramTag::Unknown(_)));
    }
    assert!(fake.calls().len() < 25, "a question for each");
}

fn errno(socket: &Tagged) -> i32 {
    socket.recv_from(&mut [0; 9]).unwrap_err().errno()
}

/// A socket that is told to end wakes who waits for a datagram.
#[test]
fn the_end_of_a_socket_wakes_who_receives() {
    let fake = saying(latched(), Some(1), None);
    let socket = Arc::new(tagged(&fake));
    let waiting = Arc::clone(&socket);
    let waiting = thread::spawn(move || errno(&waiting));
    // Not connected, it says so, and ends all the same.
    let ended = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Read);
    assert_eq!(ended, Err(Errno::NOTCONN));
    assert_eq!(waiting.join().unwrap(), Errno::SHUTDOWN.raw_os_error());
}

/// An error that waits to be read beside datagrams is no datagram: the call waits, no longer than the socket does.
#[test]
fn what_waits_in_the_queue_of_errors_is_not_waited_for() {
    let fake = saying(latched(), Some(1), None);
    let socket = tagged(&fake);
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv4RecvErr, &true).unwrap();
    let nobody = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    socket.socket().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket.socket().send_to(b"hello", nobody).unwrap();
    assert_eq!(errno(&socket), Errno::CONNREFUSED.raw_os_error());
    for _ in 0..2 {
        assert_eq!(errno(&socket), Errno::AGAIN.raw_os_error());
    }
    socket.socket().set_nonblocking(true).unwrap();
    assert_eq!(errno(&socket), Errno::AGAIN.raw_os_error());
}
