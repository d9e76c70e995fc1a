//! Clear packets on the wire: for an inner address, and for a latched 5-tuple, with the numbers the socket expects. They
//! are dropped, and nothing answers them (L-26, T16).

use std::fmt;
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};

use latchway_control::LatchState;
use latchway_netns::Links;
use latchway_netns::inject::Injector;
use latchway_netns::packet;
use latchway_netns::watch::{Captured, Direction, Sniffer};
use serde::Serialize;

use super::forgery;
use super::on_wire::OnWire;
use crate::demo::cast::Cast;
use crate::demo::connection::Connection;
use crate::demo::counters::{Counters, Moved};
use crate::demo::failure::{Failure, expect, refused};
use crate::demo::network::{ALICE, BOB, Family, TO_BOB};
use crate::demo::patience::SOON;

/// What came of the clear packets.
#[derive(Debug, Serialize)]
pub struct Ignored {
    injected: u64,
    seen_arriving: u64,
    answers: u64,
    octets_to_applications: u64,
    alice_drops: Moved,
    latch: String,
}

/// Injects clear packets on bob's end of the wire, and looks for any effect.
pub fn show(cast: &Cast) -> Result<Ignored, Failure> {
    let connection = Connection::open(cast, Family::V4)?;
    let numbers = forgery::learn(cast, &connection)?;
    let sockets = Sockets::open(cast)?;
    cast.settle()?;
    let before = Counters::of(&cast.alice)?;
    let wire = Sniffer::start(&cast.network.alice.outer, TO_BOB.at_alice)?;
    let mut forged = vec![
        forgery::data(&connection, numbers, CLEAR)?,
        forgery::syn(&connection, numbers)?,
        packet::udp(sockets.bob_address, sockets.alice_address, CLEAR)?,
    ];
    for family in Family::BOTH {
        forged.push(packet::echo_request(BOB.address(family), ALICE.address(family), 1, 1, CLEAR)?);
    }
    inject(cast, &forged)?;
    // Had a clear packet come through, its octets would be read before those that bob sends now; had it been answered,
    // the answer would be on the wire before the answer to the echo request.
    sockets.expect_only_bob()?;
    expect_only_bob(&connection)?;
    cast.settle()?;
    let (arrived, answers) = sort(&wire.stop()?)?;
    expect(arrived == forged.len(), "every clear packet at alice's end of the wire", || {
        format!("{arrived}")
    })?;
    expect(answers.is_empty(), "nothing but ESP from alice", || answers.join("; "))?;
    let alice_drops = Counters::of(&cast.alice)?.since(&before);
    let latch = connection.expect_latch(&cast.alice)?;
    expect(latch.state == LatchState::Established, "the latch ESTABLISHED as before", || {
        format!("{latch:?}")
    })?;
    connection.abort()?;
    cast.settle()?;
    Ok(Ignored {
        injected: forged.len() as u64,
        seen_arriving: arrived as u64,
        answers: answers.len() as u64,
        octets_to_applications: 0,
        alice_drops,
        latch: latch.state.to_string(),
    })
}

/// A datagram socket at either inner host.
struct Sockets {
    alice: UdpSocket,
    bob: UdpSocket,
    alice_address: SocketAddr,
    bob_address: SocketAddr,
}

impl Sockets {
    fn open(cast: &Cast) -> Result<Self, Failure> {
        let attempt = "opening datagram sockets";
        let at = |family: Family, address: std::net::IpAddr| {
            let namespace = if address == ALICE.address(family) {
                &cast.network.alice.inner
            } else {
                &cast.network.bob.inner
            };
            namespace.run(|| UdpSocket::bind(SocketAddr::new(address, 0)))?.map_err(refused(attempt))
        };
        let alice = at(Family::V4, ALICE.address(Family::V4))?;
        let bob = at(Family::V4, BOB.address(Family::V4))?;
        alice.set_read_timeout(Some(SOON)).map_err(refused(attempt))?;
        let alice_address = alice.local_addr().map_err(refused(attempt))?;
        let bob_address = bob.local_addr().map_err(refused(attempt))?;
        Ok(Self { alice, bob, alice_address, bob_address })
    }

    /// Bob's next datagram must be the next that alice reads.
    fn expect_only_bob(&self) -> Result<(), Failure> {
        let mut octets = [0; 256];
        self.bob.send_to(FROM_BOB, self.alice_address).map_err(refused("sending a datagram from bob"))?;
        let (length, from) =
            self.alice.recv_from(&mut octets).map_err(refused("reading a datagram at alice"))?;
        let right = from == self.bob_address && octets.get(..length) == Some(FROM_BOB);
        expect(right, "bob's own datagram first", || format!("{length} octets from {from}"))
    }
}

/// Bob's next octets must be the next that alice reads.
fn expect_only_bob(connection: &Connection) -> Result<(), Failure> {
    Connection::say(&connection.bob, &connection.alice, FROM_BOB)?;
    connection.alice.set_nonblocking(true).map_err(refused("reading at alice"))?;
    let further = (&connection.alice).read(&mut [0; 256]);
    expect(further.is_err(), "no octet besides bob's own", || format!("{further:?}"))
}

/// Sends packets on bob's end of the wire, to alice's Ethernet address.
fn inject(cast: &Cast, packets: &[Vec<u8>]) -> Result<(), Failure> {
    let (alice, bob) = (&cast.network.alice.outer, &cast.network.bob.outer);
    let to = Links::of(alice)?.mac(TO_BOB.at_alice)?;
    let from = Links::of(bob)?.mac(TO_BOB.at_peer)?;
    let injector = Injector::open(bob, TO_BOB.at_peer)?;
    for packet in packets {
        injector.send(&packet::ethernet(from, to, packet)?)?;
    }
    Ok(())
}

/// How many clear packets came, and what alice sent that is not ESP.
fn sort(captured: &Captured) -> Result<(usize, Vec<String>), Failure> {
    let (came, sent): (Vec<_>, Vec<_>) =
        captured.complete()?.iter().cloned().partition(|frame| frame.direction == Direction::Inbound);
    Ok((OnWire::sort_frames(&came).other.len(), OnWire::sort_frames(&sent).other))
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { injected, seen_arriving, answers, octets_to_applications, alice_drops, latch } = self;
        write!(
            f,
            "{seen_arriving} of {injected} arrived on the wire, {octets_to_applications} octets got in, "
        )?;
        write!(f, "{answers} answers; latch {latch}; at the gateway {}", alice_drops.text())
    }
}

const CLEAR: &[u8] = b"in the clear";
const FROM_BOB: &[u8] = b"from bob himself";
