//! C programs with events, against a gateway that says what it is told to (rows N-7, K-9 to K-12).

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[expect(dead_code, reason = "functions of the header are other tests' matter")]
mod support;

#[path = "../../socket/tests/support/fake_app.rs"]
#[expect(dead_code, reason = "the fake gateway can do more than is asked of it here")]
mod fake_app;

use std::time::Duration;

use fake_app::{Act, FakeApp, latched};
use serde_json::{Value, json};

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

fn everywhere(scenario: &str, fake: &FakeApp) {
    support::everywhere("events", "--leak-check=full", |command| {
        command.env("LATCHWAY_APP", fake.path()).arg(scenario);
    });
}
