//! Whole paths, from one TUN to the other and back, through the real parts of two gateways and sometimes a third.
//!
//! Everything but devices is real; time passes as the tests say, and what the wire does follows from a seed.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[path = "../support/mod.rs"]
mod support;

mod authenticated;
mod conservation;
mod esn;
mod holders;
mod interleavings;
mod key_manager;
mod latching;
mod lifetimes;
mod ordering;
mod rekey;
mod takeover;

use latchway_datapath::drop::{Direction, DropReason};

use crate::support::gateway::Gateway;
use crate::support::net::{ALICE, BOB, Delivery, Net};
use crate::support::packet::Flow;

/// A connection from alice's network to bob's.
fn tcp() -> Flow {
    Flow::tcp("10.0.1.10:40000", "10.0.2.20:80")
}

/// A flow of datagrams between the same hosts, over IPv6.
fn udp() -> Flow {
    Flow::udp("[fd00:1::10]:5000", "[fd00:2::20]:53")
}

/// Opens [`tcp`]: both ends have a latch for it, and have heard of each other.
fn open(net: &mut Net) {
    for (from, to, packet) in [
        (ALICE, "bob", tcp().syn()),
        (BOB, "alice", tcp().reversed().syn_ack()),
        (ALICE, "bob", tcp().data(1, b"")),
    ] {
        assert_eq!(net.send(from, &packet), only(to, packet));
    }
}

/// What arrives behind `at`, and nothing else.
fn only(at: &'static str, packet: Vec<u8>) -> Vec<Delivery> {
    vec![Delivery { at, packet }]
}

/// What a gateway dropped, as one reason in one direction.
fn drops(gateway: &Gateway, direction: Direction, reason: DropReason, count: u64) {
    assert_eq!(gateway.drops(), [(direction, reason, count)], "{}", gateway.host.name);
}

/// Nobody dropped anything.
fn no_drops(net: &Net) {
    for gateway in net.gateways() {
        assert_eq!(gateway.drops(), [], "{}", gateway.host.name);
    }
}
