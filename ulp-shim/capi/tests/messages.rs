//! C programs with tokens in messages, and with events, against a gateway that says what it is told to (rows, N-6,
//! N-7, N-17, C-7, K-9 to K-12).

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[expect(dead_code, reason = "functions of the header are other tests' matter")]
mod support;

#[path = "../../socket/tests/support/fake_app.rs"]
#[expect(dead_code, reason = "the fake gateway can do more than is asked of it here")]
mod fake_app;

use std::process::Command;
use std::time::{Duration, SystemTime};

use fake_app::{Act, Came, FakeApp, bare, latched};
use serde_json::{Value, json};

/// C-7: a demand arrives before its datagram leaves, for the flow that it leaves in.
#[test]
fn q_48_what_a_message_demands_is_claimed_before_it_is_sent() {
    let fake = FakeApp::new(|_| vec![Act::Reply(latched())]);
    everywhere("sending", &fake);
    let calls = fake.calls();
    let (required, calls): (Vec<Came>, Vec<Came>) =
        calls.into_iter().partition(|call| call.method == "org.latchway.App.Require");
    assert_eq!(required.len(), WAYS, "of the connected socket it is required, each time anew");
    assert_eq!(required[0].parameters["requirement"]["protection"], "confidential");
    assert!(calls.iter().all(|call| call.method == "org.latchway.App.Claim" && call.sockets.len() == 1));
    assert_eq!(
        calls.len(),
        2 * WAYS,
        "what was claimed before is not claimed again, and nothing without need"
    );
    let [first, second, ..] = &calls[..] else { panic!() };
    assert_eq!(first.parameters["requirement"]["protection"], "confidential");
    assert_eq!(first.parameters["requirement"]["key_bits"], 256);
    let local = |call: &Came| call.parameters["local"].as_str().unwrap().to_owned();
    assert!(local(first).starts_with("127.0.0.1:") && !local(first).ends_with(":0"), "{}", local(first));
    assert!(local(second).starts_with("127.0.0.7:"));
    assert!(first.parameters["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
}

/// what is demanded and cannot be had is not sent.
#[test]
fn q_48_what_is_not_held_to_its_demand_is_not_sent() {
    for (act, number) in [
        (Act::Refuse("Unsatisfied"), libc::EISCONN),
        (Act::Refuse("PolicyForbids"), libc::EACCES),
        (Act::Reply(bare("clear")), libc::EACCES),
        (Act::Reply(bare("suspended")), libc::EACCES),
        (Act::Refuse("NotHere"), libc::ENONET),
        (Act::Close, libc::ENONET),
    ] {
        let fake = FakeApp::new(move |_| vec![act.clone()]);
        run_plain(&["unsent", &number.to_string()], &fake);
    }
}

/// Q-49, N-6, N-17: what came from whom is told with each datagram, and whatever is not certain is not told.
#[test]
fn n_17_each_datagram_has_its_token() {
    let fake = FakeApp::new(|came| {
        let remote = came.parameters["remote"].as_str().unwrap();
        let mut view = latched();
        view["group"] = json!(if remote.starts_with("127.0.0.1:") { 2 } else { 3 });
        vec![Act::Reply(json!({"view": view, "since": 0, "as_of": now() + 3_600_000_000_000_u64}))]
    });
    everywhere("receiving", &fake);
    let calls = fake.calls();
    assert!(calls.iter().all(|call| call.method == "org.latchway.App.Datagram"));
    // Two flows of the one socket, and one of the other: a burst costs one question.
    assert_eq!(calls.len(), 3 * WAYS);
}

/// N-17: a datagram that is older than the latch, in no latch, or of which nobody answers, has no token.
#[test]
fn n_17_what_is_not_certain_is_not_told() {
    let of = |view: Value, since: u64| json!({"view": view, "since": since, "as_of": now()});
    for act in [
        Act::Reply(of(latched(), now() + 3_600_000_000_000)),
        Act::Reply(of(bare("clear"), 0)),
        Act::Reply(of(bare("dropped"), 0)),
        Act::Reply(of(latched(), 0)),
        Act::Refuse("NotHere"),
        Act::Close,
    ] {
        let fake = FakeApp::new(move |_| vec![act.clone()]);
        run_plain(&["uncertain"], &fake);
    }
}

/// K-9 to K-12: events, each as it happens, to who waits for a descriptor.
#[test]
fn k_10_k_12_events_are_told() {
    let fake = FakeApp::new(|came| {
        assert_eq!(came.method, "org.latchway.App.Watch");
        let event = |kind: &str, more: Value| {
            let mut event = json!({"event": kind, "time": 7, "text": "it is so"});
            for (name, value) in more.as_object().unwrap() {
                event[name] = value.clone();
            }
            Act::Continue(event)
        };
        let moved = json!({"socket": 0, "from": "192.0.2.1:4500", "to": "[2001:db8::1]:4500"});
        if came.sockets.len() == 1 {
            // Nothing happens to this one.
            return vec![event("watching", json!({})), Act::Silence];
        }
        vec![
            event("watching", json!({})),
            event(
                "established",
                json!({"socket": came.sockets.len() - 1, "view": latched(), "text": "x".repeat(999)}),
            ),
            event("address-changed", moved),
            event("lost", json!({"count": 12})),
            Act::Wait(Duration::from_secs(2)),
            event("ending", json!({})),
            Act::Silence,
        ]
    });
    everywhere("watching", &fake);
}

/// How often each program is run: see `support::ways`.
const WAYS: usize = 3;

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_nanos().try_into().unwrap()
}

fn everywhere(scenario: &str, fake: &FakeApp) {
    support::everywhere("messages", "--leak-check=full", |command| {
        command.env("LATCHWAY_APP", fake.path()).arg(scenario);
    });
}

fn run_plain(arguments: &[&str], fake: &FakeApp) {
    let program = support::program("messages", &format!("plain-{}", arguments.join("-")), &[]);
    support::run(Command::new(program).env("LATCHWAY_APP", fake.path()).args(arguments));
}
