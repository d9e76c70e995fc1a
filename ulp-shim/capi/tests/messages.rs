//! C programs with datagrams that have tokens, against a gateway that says what it is told to (rows, N-6, N-7, N-17).

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[expect(dead_code, reason = "functions of the header are other tests' matter")]
mod support;

#[path = "../../socket/tests/support/fake_app.rs"]
#[expect(dead_code, reason = "the fake gateway can do more than is asked of it here")]
mod fake_app;

use std::time::SystemTime;

use fake_app::{Act, FakeApp, latched};
use serde_json::json;

/// A gateway that says of every flow that it is latched, since then and until now.
fn latched_since(since: u64) -> FakeApp {
    FakeApp::new(move |came| {
        assert_eq!(came.method, "org.latchway.App.Datagram");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now = u64::try_from(now.as_nanos()).unwrap();
        vec![Act::Reply(json!({"view": latched(), "since": since, "as_of": now, "doubt": null}))]
    })
}

/// N-7: a token is read from the message that it came with, by the process that received it.
#[test]
fn q_49_q_50_datagrams_have_tokens() {
    everywhere("certain", &latched_since(1));
}

/// N-6, N-17: what came before its flow was certainly latched has none.
#[test]
fn n_6_n_17_what_is_not_certain_has_no_token() {
    everywhere("uncertain", &latched_since(u64::MAX));
}

/// N-17: a call waits as recvmsg() does, and fails as it does.
#[test]
fn n_17_receiving_waits_as_recvmsg_does() {
    everywhere("waits", &latched_since(1));
}

fn everywhere(scenario: &str, fake: &FakeApp) {
    support::everywhere("messages", "--leak-check=full", |command| {
        // A program that runs slowly is not a gateway that is silent.
        command.env("LATCHWAY_APP", fake.path()).arg(scenario);
    });
}
