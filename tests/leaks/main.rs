//! Nothing in the clear, ever (T13): two gateways as processes, hosts that never stop talking, and a sniffer on every
//! interface by which their octets could leave, whatever befalls gateways, TUNs and routes.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod control;
mod disk;
mod gateway;
mod intrusion;
mod lifetimes;
mod oom;
mod outage;
mod refused;
mod reload;
mod restart;
mod site;
mod traffic;
mod watch;

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
