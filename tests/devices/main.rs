//! Workers on real devices: two gateways in namespaces, TUN, bypass port and wire, and what befalls them while they run.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "these tests need neither virtual time nor a third gateway")]
mod support;

mod bypass;
mod loss;
mod path_mtu;
mod resets;
mod site;

use latchway_netns::skip::{Need, require};
use latchway_netns::testing::namespaced;

/// Runs a scenario where namespaces and TUNs can be made.
fn scenario(test: &str, body: impl FnOnce()) {
    namespaced(test, || {
        if require(test, &[Need::Tun]) {
            body();
        }
    });
}
