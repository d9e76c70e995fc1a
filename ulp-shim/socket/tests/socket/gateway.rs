//! Calls to a gateway that answers well, badly, late or never (T39, Q-44, Q-46, N-18, K-3, P-67).

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::fake_app::{Act, FakeApp, bare, latched, place};
use latchway_socket::{
    Answer, ErrorKind, Gateway, Method, Mode, NoGateway, OnConflict, PeerIdentity, Protected, Requirement,
    Strength, Unbindable, Unlatched,
};
use rustix::net::sockopt::socket_cookie;
use serde_json::{Value, json};

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn asked(fake: &FakeApp) -> latchway_socket::Result<Answer> {
    Gateway::at(fake.path()).with_timeout(PATIENCE).protection(socket())
}

/// The kind of failure, which comes within the time.
fn failed(fake: &FakeApp, timeout: Duration) -> ErrorKind {
    let begun = Instant::now();
    let error =
        Gateway::at(fake.path()).with_timeout(timeout).require(socket(), &Requirement::new()).unwrap_err();
    assert!(begun.elapsed() < timeout + SLACK, "{:?}", begun.elapsed());
    error.kind()
}

/// N-18, L-12, Q-33 to Q-43: everything that the gateway says of a latched connection is told.
#[test]
fn n18_l12_a_latched_socket_has_a_protection_and_a_peer() {
    let fake = FakeApp::answering(latched());
    let Ok(Answer::Latched(protection)) = asked(&fake) else { panic!() };
    let peer = protection.peer_identity();
    assert_eq!(peer.asserted().to_string(), "fqdn:b.example");
    assert_eq!(peer.method(), Some(Method::Certificate));
    assert_eq!(peer.certificate_authority(), Some("CN=Issuer"));
    assert_eq!(peer.certificate_subject(), Some("CN=b.example"));
    assert_eq!(peer.public_key(), Some(&[0, 1, 2, 3][..]));
    assert_eq!(PeerIdentity::import(&peer.export()).as_ref(), Ok(peer));
    assert_eq!(protection.local_identity().unwrap().asserted().to_string(), "fqdn:a.example");
    assert_eq!((protection.confidential(), protection.integrity()), (Strength::Low, Strength::Medium));
    assert_eq!((protection.mode(), protection.options_protected()), (Mode::Tunnel, true));
    assert_eq!((protection.inbound_suite(), protection.outbound_suite()), ("aes-256-gcm", "aes-128-gcm"));
    assert!(protection.replay_checked() && protection.required());
    assert_eq!(protection.policy_name(), Some("rule 10"));
    assert_eq!(protection.audit(), "fqdn:b.example by certificate");
    assert_eq!(protection.information(), Some("esp tunnel aes-128-gcm"));
    assert_eq!(protection.latch(), Some("latch-7"));
    assert_eq!(protection.channel_binding().unwrap().as_str().len(), 25 + 64);
    let [call] = <[_; 1]>::try_from(fake.calls()).unwrap();
    assert_eq!((call.method.as_str(), call.parameters), ("org.latchway.App.Protection", json!({})));
}

/// P-67, Q-54: the gateway is given the socket itself, and nothing else says which is meant.
#[test]
fn p67_q54_the_socket_itself_is_passed() {
    let fake = FakeApp::answering(bare("clear"));
    let socket = socket();
    Gateway::at(fake.path()).protection(&socket).unwrap();
    let [call] = <[_; 1]>::try_from(fake.calls()).unwrap();
    let [passed] = <[_; 1]>::try_from(call.sockets).unwrap();
    assert_eq!(socket_cookie(&passed).unwrap(), socket_cookie(&socket).unwrap());
}

#[test]
fn answers_that_are_not_latched_are_told_apart() {
    let unlatched = |view: Value| match asked(&FakeApp::answering(view)) {
        Ok(Answer::Unlatched(unlatched)) => unlatched,
        other => panic!("{other:?}"),
    };
    let with = |mut view: Value, name: &str, value: Value| {
        view[name] = value;
        view
    };
    let protected = with(latched(), "answer", json!("protected"));
    let protected = with(with(protected, "binding", Value::Null), "unbindable", json!("inferred"));
    let Unlatched::ProtectedOnly(protection) = unlatched(protected) else { panic!() };
    assert_eq!(protection.channel_binding(), Err(Unbindable::Inferred));
    let broken = with(bare("suspended"), "reason", json!("another peer came"));
    assert_eq!(unlatched(broken), Unlatched::Suspended { reason: Some("another peer came".into()) });
    assert_eq!(unlatched(bare("clear")), Unlatched::Clear);
    assert!(matches!(unlatched(bare("dropped")), Unlatched::Dropped(_)));
    assert_eq!(unlatched(bare("unconnected")), Unlatched::NotConnected);
    // A latch that holds a connection to passing in the clear proves nobody.
    assert_eq!(unlatched(with(latched(), "class", Value::Null)), Unlatched::Clear);
}

/// T39: what claims protection but does not say which is believed in nothing.
#[test]
fn t39_a_protection_that_is_not_whole_is_none() {
    for (name, value) in [
        ("held", Value::Null),
        ("inbound", Value::Null),
        ("outbound", json!({"key_bits": 70_000, "icv_bits": 0})),
        ("binding", json!("tls-exporter:00")),
        ("binding", Value::Null),
        ("unbindable", json!("manual")),
        ("unbindable", json!("because")),
        ("answer", json!("certainly")),
        ("boot", Value::Null),
    ] {
        let mut view = latched();
        view[name] = value.clone();
        let error = asked(&FakeApp::answering(view)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{name}: {value}");
    }
    for (name, value) in [("peer", Value::Null), ("mode", Value::Null), ("inbound_suite", Value::Null)] {
        let mut view = latched();
        view["held"][name] = value;
        assert_eq!(asked(&FakeApp::answering(view)).unwrap_err().kind(), ErrorKind::Protocol, "{name}");
    }
    for (name, value) in [
        ("asserted", json!("fqdn:b\u{0}.example")),
        ("public_key", json!("?")),
        ("trust_anchor", json!({"subject": "x", "key_sha256": "00"})),
    ] {
        let mut view = latched();
        view["held"]["peer"][name] = value;
        assert_eq!(asked(&FakeApp::answering(view)).unwrap_err().kind(), ErrorKind::Protocol, "{name}");
    }
}

/// C-16, Q-52: two relations, of which what a latch compares is the stricter.
#[test]
fn c16_q52_congruent_is_stricter_than_equivalent() {
    let of = |class: Value, group: Value, rule: Value, boot: u64| {
        let mut view = latched();
        (view["class"], view["group"], view["rule"], view["boot"]) = (class, group, rule, json!(boot));
        asked(&FakeApp::answering(view)).unwrap().latched().cloned().unwrap()
    };
    let one = of(json!(4), json!(2), json!(10), 99);
    let relations = |other: latchway_socket::Protection| {
        assert_eq!(one.equivalent(&other), other.equivalent(&one));
        assert!(one.equivalent(&other) || !one.congruent(&other));
        (one.equivalent(&other), one.congruent(&other))
    };
    assert_eq!(relations(of(json!(4), json!(2), json!(10), 99)), (true, true));
    assert_eq!(relations(of(json!(5), json!(2), json!(10), 99)), (true, false));
    assert_eq!(relations(of(json!(4), json!(3), json!(10), 99)), (false, false));
    assert_eq!(relations(of(json!(4), json!(2), json!(11), 99)), (false, false));
    assert_eq!(relations(of(json!(4), json!(2), json!(10), 98)), (false, false), "numbers of another start");
    assert_eq!(relations(of(json!(4), Value::Null, json!(10), 99)), (false, false));
}

/// Q-44, L-13, L-33: a requirement is said as it was made.
#[test]
fn q44_a_requirement_is_said_whole() {
    let fake = FakeApp::answering(json!({"view": null}));
    let hash = "ab".repeat(32);
    let text = format!("latchway-itoken:1;id=fqdn:b.example;method=public-key;key={hash}");
    let requirement = Requirement::new()
        .peer(&PeerIdentity::import(&text).unwrap())
        .local(&"a.example".parse().unwrap())
        .protection(Protected::Confidential)
        .mode(Mode::Transport)
        .suites(["aes-256-gcm"])
        .key_bits(256)
        .replay_checked()
        .options_protected()
        .on_conflict(OnConflict::Wait);
    Gateway::at(fake.path()).require(socket(), &requirement).unwrap();
    let [call] = <[_; 1]>::try_from(fake.calls()).unwrap();
    assert_eq!((call.method.as_str(), call.sockets.len()), ("org.latchway.App.Require", 1));
    let spec = json!({
        "protection": "confidential", "mode": "transport", "suites": ["aes-256-gcm"], "key_bits": 256,
        "replay_checked": true, "peer": "fqdn:b.example", "identity": "fqdn:a.example", "methods": ["public-key"],
        "key_sha256": hash, "anchor_sha256": null, "options_protected": true,
    });
    assert_eq!(call.parameters, json!({"requirement": spec, "on_conflict": "wait"}));
}

/// K-3: no gateway is an answer of its own, in three kinds, and comes at once.
#[test]
fn k3_no_gateway_is_an_answer_of_its_own() {
    let folder = place();
    let nowhere = Gateway::at(&folder.join("app.sock"));
    assert_eq!(nowhere.protection(socket()), Ok(Answer::NoGateway(NoGateway::NoSocket)));
    assert_eq!(nowhere.require(socket(), &Requirement::new()).unwrap_err().errno(), 64, "ENONET");
    drop(UnixListener::bind(folder.join("app.sock")).unwrap());
    assert_eq!(nowhere.protection(socket()), Ok(Answer::NoGateway(NoGateway::NoSocket)), "nobody listens");
    std::fs::remove_dir_all(&folder).unwrap();
    let fake = FakeApp::new(|_| vec![Act::Refuse("NotHere")]);
    assert_eq!(asked(&fake), Ok(Answer::NoGateway(NoGateway::OtherNamespace)));
    let fake = FakeApp::new(|_| vec![Act::Close]);
    assert_eq!(asked(&fake), Ok(Answer::NoGateway(NoGateway::Ending)));
}

/// What the gateway refuses is an errno of its own, and the connection goes on.
#[test]
fn refusals_are_errors_with_the_gateways_words() {
    let words =
        ["Full", "PolicyForbids", "PrivilegeNeeded", "Unsatisfied", "WrongSocket", "NotASocket", "Busy"];
    let next = AtomicUsize::new(0);
    let fake = FakeApp::new(move |_| vec![Act::Refuse(words[next.fetch_add(1, Ordering::SeqCst)])]);
    let gateway = Gateway::at(fake.path()).with_timeout(PATIENCE);
    for errno in [105, 13, 1, 106, 93, 88, 11] {
        let error = gateway.require(socket(), &Requirement::new()).unwrap_err();
        assert_eq!(
            (error.errno(), error.to_string()),
            (errno, "the fake gateway says no; ask another".into())
        );
    }
    assert_eq!(fake.connections(), 1);
}

/// T39: a gateway that is silent, drips, talks nonsense or endlessly, or closes, costs no more than the timeout.
#[test]
fn t39_every_call_ends_in_its_time() {
    let short = Duration::from_millis(200);
    let octets = |octets: &[u8]| {
        let octets = octets.to_vec();
        FakeApp::new(move |_| vec![Act::Octets(octets.clone()), Act::Silence])
    };
    assert_eq!(failed(&FakeApp::new(|_| vec![Act::Silence]), short), ErrorKind::TimedOut);
    assert_eq!(failed(&FakeApp::new(|_| vec![Act::Drip(b' ')]), short), ErrorKind::TimedOut);
    assert_eq!(failed(&octets(b"{\"parameters\":"), short), ErrorKind::TimedOut);
    assert_eq!(failed(&octets(b"hello\0"), PATIENCE), ErrorKind::Protocol);
    assert_eq!(failed(&octets(&[b' '; 70_000]), PATIENCE), ErrorKind::Protocol);
    assert_eq!(failed(&octets(b"{\"parameters\":{}}\0\0"), PATIENCE), ErrorKind::Protocol);
    let cut = FakeApp::new(|_| vec![Act::Octets(b"{".to_vec()), Act::Close]);
    assert_eq!(failed(&cut, PATIENCE), ErrorKind::Protocol);
    let close = FakeApp::new(|_| vec![Act::Close]);
    assert_eq!(failed(&close, PATIENCE), ErrorKind::NoGateway(NoGateway::Ending));
    let slow = FakeApp::new(|_| vec![Act::Wait(Duration::from_millis(100)), Act::Reply(bare("clear"))]);
    assert_eq!(asked(&slow), Ok(Answer::Unlatched(Unlatched::Clear)));
}

/// T39: a gateway that accepts nobody holds nobody up for longer than the timeout.
#[test]
fn t39_a_full_backlog_is_waited_for_until_the_deadline() {
    let path = place().join("app.sock");
    let address = rustix::net::SocketAddrUnix::new(&path).unwrap();
    let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM);
    let listener = rustix::net::socket(family, kind, None).unwrap();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let flags = rustix::net::SocketFlags::NONBLOCK;
    let mut callers = Vec::new();
    loop {
        let caller = rustix::net::socket_with(family, kind, flags, None).unwrap();
        if rustix::net::connect(&caller, &address).is_err() {
            break;
        }
        callers.push(caller);
    }
    let timeout = Duration::from_millis(100);
    let begun = Instant::now();
    let error = Gateway::at(&path).with_timeout(timeout).protection(socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(begun.elapsed() < timeout + SLACK);
    path.parent().map(std::fs::remove_dir_all).transpose().unwrap();
}

/// A reply that comes too late is nobody's: the next call is answered with its own.
#[test]
fn a_late_reply_is_not_the_next_calls() {
    let first = AtomicUsize::new(0);
    let fake = FakeApp::new(move |_| match first.fetch_add(1, Ordering::SeqCst) {
        0 => vec![Act::Wait(Duration::from_millis(400)), Act::Reply(latched())],
        _ => vec![Act::Reply(bare("clear"))],
    });
    let gateway = Gateway::at(fake.path());
    let short = gateway.clone().with_timeout(Duration::from_millis(50));
    assert_eq!(short.protection(socket()).unwrap_err().kind(), ErrorKind::TimedOut);
    let patient = gateway.with_timeout(PATIENCE);
    assert_eq!(patient.protection(socket()), Ok(Answer::Unlatched(Unlatched::Clear)));
    assert_eq!(fake.connections(), 2);
}

/// L-40: a gateway that was started again is asked again, within the same call.
#[test]
fn l40_a_connection_that_ended_is_made_anew() {
    let fake = FakeApp::answering(bare("clear"));
    let gateway = Gateway::at(fake.path()).with_timeout(PATIENCE);
    gateway.protection(socket()).unwrap();
    let path = fake.path().to_owned();
    drop(fake);
    assert_eq!(gateway.protection(socket()), Ok(Answer::NoGateway(NoGateway::NoSocket)));
    let again = FakeApp::at(&path, |_| vec![Act::Reply(bare("dropped"))]);
    gateway.protection(socket()).unwrap();
    drop(again);
    let again = FakeApp::at(&path, |_| vec![Act::Reply(latched())]);
    assert!(gateway.protection(socket()).unwrap().latched().is_some());
    assert_eq!(again.connections(), 1);
}

/// Threads share one connection, and none gets another's answer.
#[test]
fn threads_share_one_connection() {
    let fake = FakeApp::new(|came| {
        let mut view = bare("dropped");
        view["reason"] = json!(socket_cookie(&came.sockets[0]).unwrap().to_string());
        vec![Act::Reply(view)]
    });
    let gateway = Gateway::at(fake.path()).with_timeout(PATIENCE);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let socket = TcpListener::bind("127.0.0.1:0").unwrap();
                let own = Unlatched::Dropped(socket_cookie(&socket).unwrap().to_string());
                for _ in 0..20 {
                    assert_eq!(gateway.protection(&socket), Ok(Answer::Unlatched(own.clone())));
                }
            });
        }
    });
    assert_eq!(fake.connections(), 1);
}

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a loaded machine may add to a timeout.
const SLACK: Duration = Duration::from_secs(5);
