//! Programs in C with PF_SHIM sockets, against a gateway that says what it is told to (rows K-1 to K-12).

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod support;

#[path = "../../socket/tests/support/fake_app.rs"]
#[expect(dead_code, reason = "the fake gateway can do more than is asked of it here")]
mod fake_app;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_app::{Act, Came, FakeApp, bare, latched};
use serde_json::{Value, json};

/// K-3: without a gateway, without one for this network, without the library, and beneath one that says nothing: it can be told,
/// and at once.
#[test]
fn k_3_what_is_not_supported_is_an_unknown_family() {
    everywhere(&["absent", &libc::EAFNOSUPPORT.to_string()], None);
    let elsewhere = FakeApp::new(|_| vec![Act::Refuse("NotHere")]);
    plain(&["absent", &libc::EAFNOSUPPORT.to_string()], &elsewhere);
    for (word, number) in [("Busy", libc::EAGAIN), ("WrongSocket", libc::EPROTONOSUPPORT)] {
        plain(&["absent", &number.to_string()], &FakeApp::new(move |_| vec![Act::Refuse(word)]));
    }
    support::run(Command::new(support::program("alone", &[])).arg("alone"));
    let silent = FakeApp::new(|_| vec![Act::Silence]);
    let begun = Instant::now();
    plain(&["absent", &libc::ETIMEDOUT.to_string()], &silent);
    assert!(begun.elapsed() < Duration::from_secs(60), "two seconds and a compiler, on a busy machine");
}

/// K-1, K-2, K-4, K-5: one socket for both kinds of addresses, and what the key manager knows of it by getsockopt().
#[test]
fn k_1_k_2_k_4_k_5_a_socket_says_who_is_there_and_what_protects_it() {
    let mut view = latched();
    view["required"] = json!(true);
    everywhere(&["latched"], Some(&FakeApp::answering(view)));
}

/// K-5: of a socket that is not latched nobody is named.
#[test]
fn k_5_nobody_is_named_who_is_not_known_to_be_there() {
    let mut by_policy = latched();
    by_policy["answer"] = json!("protected");
    by_policy["latch"] = Value::Null;
    for (view, state, errno) in [
        (by_policy, 2, libc::ENODATA),
        (bare("suspended"), 3, libc::ENETDOWN),
        (bare("clear"), 4, libc::ENODATA),
        (bare("dropped"), 5, libc::EACCES),
        (bare("unconnected"), 6, libc::ENOTCONN),
    ] {
        plain(&["unknown", &state.to_string(), &errno.to_string()], &FakeApp::answering(view));
    }
}

/// K-6: what is set arrives whole, and what is not understood does not get there.
#[test]
fn k_6_what_is_set_is_required() {
    let fake = FakeApp::new(|came| vec![Act::Reply(if asks(came) { latched() } else { json!({}) })]);
    everywhere(&["require"], Some(&fake));
    let calls = fake.calls();
    let required: Vec<&Value> =
        calls.iter().filter(|call| call.method.ends_with(".Require")).map(|call| &call.parameters).collect();
    let spec = &required.first().expect("it was required")["requirement"];
    assert_eq!((&spec["protection"], &spec["mode"]), (&json!("confidential"), &json!("tunnel")));
    assert_eq!((&spec["replay_checked"], &spec["options_protected"]), (&json!(true), &json!(true)));
    assert_eq!((&spec["peer"], &spec["identity"]), (&json!("fqdn:b.example"), &json!("fqdn:a.example")));
    assert_eq!(spec["key_bits"], 192);
    let again = |call: &&Value| call["requirement"]["anchor_sha256"] == "ab".repeat(32);
    assert!(required.iter().any(again), "proven the same way");
    let forgotten = calls.iter().filter(|call| call.method.ends_with(".Forget")).count();
    assert!(
        required.len() >= 2 * WAYS && forgotten >= WAYS,
        "more often only where it was not answered in time"
    );
    assert!(required.iter().all(|call| call["requirement"]["peer"] == "fqdn:b.example"));
}

/// K-6: the gateway looks whether it may be, and says no.
#[test]
fn k_6_what_may_not_be_required_is_refused() {
    for (word, number) in [
        ("PolicyForbids", libc::EACCES),
        ("PrivilegeNeeded", libc::EPERM),
        ("Unsatisfied", libc::EISCONN),
        ("Full", libc::ENOBUFS),
    ] {
        let fake = FakeApp::new(move |came| {
            vec![if asks(came) { Act::Reply(bare("unconnected")) } else { Act::Refuse(word) }]
        });
        plain(&["refused", &number.to_string()], &fake);
    }
}

/// K-7, K-8: handles instead of addresses, which no other process can use.
#[test]
fn k_7_k_8_the_resolver_gives_handles() {
    everywhere(&["handles"], Some(&FakeApp::answering(bare("unconnected"))));
}

/// K-2, K-7: sockets that listen, and datagrams.
#[test]
fn k_2_k_7_who_listens_is_there_for_both_kinds() {
    everywhere(&["serving"], Some(&FakeApp::answering(latched())));
}

/// K-9 to K-12: notifications come by recvmsg(), apart from data, to who has asked for them.
#[test]
fn k_9_to_k_12_notifications_come_by_recvmsg() {
    // The gateway that a socket was watched by last ends when nothing is required any more.
    let word: Arc<Mutex<Arc<AtomicBool>>> = Arc::default();
    let fake = FakeApp::new(move |came| match came.method.as_str() {
        "org.latchway.App.Watch" => {
            let so = Arc::<AtomicBool>::default();
            *word.lock().unwrap() = so.clone();
            told(so)
        }
        "org.latchway.App.Forget" => {
            word.lock().unwrap().store(true, Ordering::SeqCst);
            vec![Act::Reply(json!({}))]
        }
        _ => vec![Act::Reply(latched())],
    });
    everywhere(&["events"], Some(&fake));
}

/// What is none of ours passes as it would without the library: cancelled, interrupted, by handlers of signals, in a child
/// that has its parent's memory.
#[test]
fn k_1_what_is_not_a_pf_shim_socket_passes_untouched() {
    let fake = FakeApp::new(|came| {
        if asks(came) {
            return vec![Act::Reply(latched())];
        }
        vec![event("watching", json!({})), Act::Silence]
    });
    everywhere(&["untouched"], Some(&fake));
}

/// What is told of a socket, up to the gateway's end.
fn told(so: Arc<AtomicBool>) -> Vec<Act> {
    let moved = json!({"socket": 0, "from": "192.0.2.1:4500", "to": "[2001:db8::1]:4500"});
    vec![
        event("watching", json!({})),
        event("established", json!({"socket": 0, "view": latched()})),
        event("rekeyed", json!({"socket": 0})),
        event("address-changed", moved),
        event("lost", json!({"count": 12})),
        Act::Until(so),
        event("ending", json!({})),
        Act::Silence,
    ]
}

fn event(kind: &str, more: Value) -> Act {
    let mut event = json!({"event": kind, "time": 7, "text": "it is so"});
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    Act::Continue(event)
}

fn asks(came: &Came) -> bool {
    came.method.ends_with(".Protection")
}

/// How often each program is run: see `support::everywhere`.
const WAYS: usize = 3;

fn everywhere(arguments: &[&str], fake: Option<&FakeApp>) {
    support::everywhere(|command| {
        prepare(command, fake).args(arguments);
    });
}

fn plain(arguments: &[&str], fake: &FakeApp) {
    let program = support::program("plain", &[]);
    let mut command = Command::new(program);
    support::run(prepare(&mut command, Some(fake)).env("LD_PRELOAD", support::library()).args(arguments));
}

fn prepare<'c>(command: &'c mut Command, fake: Option<&FakeApp>) -> &'c mut Command {
    match fake {
        Some(fake) => command.env("LATCHWAY_APP", fake.path()),
        None => command.env("LATCHWAY_APP", "/nonexistent/app.sock"),
    }
}
