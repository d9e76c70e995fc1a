//! The daemon as its operator meets it: gateways run from configuration files, every verb and every signal, what a reload
//! does and what it leaves alone.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod checked;
mod documented;
mod events;
mod exec;
mod explained;
mod gateway;
mod kept;
mod reload;
mod schema;
mod shown;
mod signals;
mod site;
mod traffic;

use std::thread;
use std::time::{Duration, Instant};

use latchway_netns::skip::{Need, require};
use latchway_netns::testing::namespaced;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a scenario where namespaces and TUNs can be made.
fn scenario(test: &str, body: impl FnOnce()) {
    namespaced(test, || {
        if require(test, &[Need::Tun]) {
            body();
        }
    });
}

/// Waits for what must come.
fn eventually(what: &str, mut comes: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !comes() {
        assert!(Instant::now() < end, "it never came that {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
