//! Forged segments: what mallory sends in bob's name, in the receive window of alice's socket.

use std::net::SocketAddr;

use etherparse::{SlicedPacket, TransportSlice};
use latchway_netns::inject;
use latchway_netns::packet::{self, Segment};
use latchway_netns::watch::{Direction, Frame, Sniffer};

use crate::demo::cast::Cast;
use crate::demo::connection::Connection;
use crate::demo::failure::Failure;
use crate::demo::network::TUN;
use crate::demo::patience::SOON;

/// Where the two directions of an idle connection stand, as its own host sees it.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// The next sequence number that alice expects from bob.
    pub from_bob: u32,
    /// The next sequence number that alice will use.
    pub from_alice: u32,
}

/// Lets alice and bob talk, and reads from alice's TUN where their sequence numbers stand when all is acknowledged.
///
/// No attacker on the wire could: mallory is given the best chance there is.
pub fn learn(cast: &Cast, connection: &Connection) -> Result<Numbers, Failure> {
    let sniffer = Sniffer::start(&cast.network.alice.inner, TUN)?;
    let mark = sniffer.mark();
    Connection::say(&connection.alice, &connection.bob, QUESTION)?;
    Connection::say(&connection.bob, &connection.alice, ANSWER)?;
    let (local, remote) = (connection.local, connection.remote);
    let answers = |frame: &Frame| segment(frame, remote, local).is_some_and(|seen| seen.carries(ANSWER));
    let answer = sniffer.wait_for(mark, answers, SOON)?;
    let from_bob = segment(&answer, remote, local).map(|seen| seen.end()).unwrap_or_default();
    let acknowledges = |frame: &Frame| {
        frame.direction == Direction::Outbound
            && segment(frame, local, remote).is_some_and(|seen| seen.acknowledgement == from_bob)
    };
    let acknowledgement = sniffer.wait_for(mark, acknowledges, SOON)?;
    let from_alice = segment(&acknowledgement, local, remote).map(|seen| seen.end()).unwrap_or_default();
    Ok(Numbers { from_bob, from_alice })
}

/// A data segment in bob's name that alice's socket would take for the next one.
pub fn data(connection: &Connection, numbers: Numbers, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    let segment = Segment {
        sequence: numbers.from_bob,
        acknowledgement: Some(numbers.from_alice),
        psh: true,
        window: WINDOW,
        payload,
        ..Segment::default()
    };
    Ok(packet::tcp(connection.remote, connection.local, &segment)?)
}

/// A SYN in bob's name on the 5-tuple of the connection.
pub fn syn(connection: &Connection, numbers: Numbers) -> Result<Vec<u8>, Failure> {
    let segment = Segment { sequence: numbers.from_bob, syn: true, window: WINDOW, ..Segment::default() };
    Ok(packet::tcp(connection.remote, connection.local, &segment)?)
}

/// Sends a packet as an application of mallory, so that mallory's gateway protects it with mallory's SA.
pub fn send_as_mallory(cast: &Cast, packet: &[u8]) -> Result<(), Failure> {
    Ok(inject::as_application(&cast.network.mallory.inner, packet)?)
}

/// What matters of a TCP segment.
struct Seen<'a> {
    sequence: u32,
    acknowledgement: u32,
    payload: &'a [u8],
}

impl Seen<'_> {
    fn carries(&self, payload: &[u8]) -> bool {
        self.payload == payload
    }

    /// The sequence number after it.
    fn end(&self) -> u32 {
        self.sequence.wrapping_add(u32::try_from(self.payload.len()).unwrap_or_default())
    }
}

/// The segment in a frame of a TUN, if it goes from one to the other.
fn segment(frame: &Frame, from: SocketAddr, to: SocketAddr) -> Option<Seen<'_>> {
    if (frame.source_socket(), frame.destination_socket()) != (Some(from), Some(to)) {
        return None;
    }
    match SlicedPacket::from_ip(&frame.bytes).ok()?.transport? {
        TransportSlice::Tcp(tcp) => Some(Seen {
            sequence: tcp.sequence_number(),
            acknowledgement: tcp.acknowledgment_number(),
            payload: tcp.payload(),
        }),
        _ => None,
    }
}

const QUESTION: &[u8] = b"bob, is that you?";
const ANSWER: &[u8] = b"it is";
const WINDOW: u16 = 4096;
