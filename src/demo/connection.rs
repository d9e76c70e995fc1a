//! A TCP connection between kernel sockets of alice and bob, and transfers over it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use latchway_control::LatchRow;
use socket2::SockRef;

use super::cast::Cast;
use super::failure::{Failure, expect, refused};
use super::gateways::Gateway;
use super::network::Family;
use super::patience::{SOON, wait_for};

/// An established connection that alice opened and bob accepted.
#[derive(Debug)]
pub struct Connection {
    /// Alice's socket.
    pub alice: TcpStream,
    /// Bob's socket.
    pub bob: TcpStream,
    /// Alice's address and port.
    pub local: SocketAddr,
    /// Bob's address and port.
    pub remote: SocketAddr,
}

/// What arrived of a transfer, whole and undamaged.
#[derive(Clone, Copy, Debug)]
pub struct Transferred {
    /// Octets.
    pub octets: u64,
    /// CRC-32 of all of them, the same at both ends.
    pub crc32: u32,
    /// From the first write to the last read.
    pub took: Duration,
}

/// Octets and their checksum, at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sum {
    octets: u64,
    crc32: u32,
}

impl Connection {
    /// Opens a connection between the inner addresses of a family.
    pub fn open(cast: &Cast, family: Family) -> Result<Self, Failure> {
        let (alice, bob) = (&cast.network.alice, &cast.network.bob);
        let address = SocketAddr::new(bob.plan.address(family), 0);
        let listener = bob.inner.run(|| TcpListener::bind(address))?.map_err(refused("listening at bob"))?;
        let remote = listener.local_addr().map_err(refused("listening at bob"))?;
        let attempt = format!("connecting from alice to {remote}");
        let connect = || TcpStream::connect_timeout(&remote, SOON);
        let alice = alice.inner.run(connect)?.map_err(refused(&attempt))?;
        listener.set_nonblocking(true).map_err(refused("accepting at bob"))?;
        let bob = wait_for("a connection to accept at bob", || match listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(refused("accepting at bob")(error)),
        })?;
        let local = alice.local_addr().map_err(refused(&attempt))?;
        for stream in [&alice, &bob] {
            prepare(stream).map_err(refused("setting up a connection"))?;
        }
        Ok(Self { alice, bob, local, remote })
    }

    /// The latch of this connection at a gateway of alice, if there is one.
    pub fn latch(&self, gateway: &Gateway) -> Result<Option<LatchRow>, Failure> {
        let ours = |row: &LatchRow| row.local == self.local && row.remote == self.remote;
        Ok(gateway.latches()?.into_iter().find(ours))
    }

    /// The latch of this connection, which must be there.
    pub fn expect_latch(&self, gateway: &Gateway) -> Result<LatchRow, Failure> {
        let expected = || Failure::unmet(format!("a latch of {} to {}", self.local, self.remote), "none");
        self.latch(gateway)?.ok_or_else(expected)
    }

    /// Sends a few octets and waits until they have been read at the other end.
    pub fn say(mut from: &TcpStream, mut to: &TcpStream, octets: &[u8]) -> Result<(), Failure> {
        from.write_all(octets).map_err(refused("sending"))?;
        let mut heard = vec![0; octets.len()];
        to.read_exact(&mut heard).map_err(refused("receiving"))?;
        expect(heard == octets, "the octets that were sent", || format!("{} others", heard.len()))
    }

    /// Ends it at once: a reset in one packet, and nothing is sent again later.
    pub fn abort(self) -> Result<(), Failure> {
        let reset = |stream: &TcpStream| SockRef::from(stream).set_linger(Some(Duration::ZERO));
        reset(&self.alice).and_then(|()| reset(&self.bob)).map_err(refused("ending a connection"))
    }
}

/// Sends from one end to the other, `block` again and again until `enough`, and compares what arrived.
pub fn transfer(
    from: &TcpStream,
    to: &TcpStream,
    block: &[u8],
    enough: impl Fn(u64) -> bool + Send,
) -> Result<Transferred, Failure> {
    let promised = AtomicU64::new(u64::MAX);
    let began = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let sending = scope.spawn(|| send(from, block, enough, &promised));
        let received = receive(to, &promised);
        (sending.join(), received)
    });
    let took = began.elapsed();
    let received = received.map_err(refused("receiving a transfer"))?;
    let sent = sent.map_err(|_| Failure::Own("the sending thread panicked".to_owned()))?;
    let sent = sent.map_err(refused("sending a transfer"))?;
    expect(sent == received, &format!("{sent:?}"), || format!("{received:?}"))?;
    Ok(Transferred { octets: sent.octets, crc32: sent.crc32, took })
}

/// A block of random octets with a pattern in every packet's worth of it.
pub fn block(pattern: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut block = vec![0; BLOCK];
    super::keys::random(&mut block)?;
    for place in block.chunks_exact_mut(PATTERN_EVERY) {
        if let Some(start) = place.get_mut(..pattern.len()) {
            start.copy_from_slice(pattern);
        }
    }
    Ok(block)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.set_write_timeout(Some(SOON))
}

fn send(
    mut to: &TcpStream,
    block: &[u8],
    enough: impl Fn(u64) -> bool,
    promised: &AtomicU64,
) -> io::Result<Sum> {
    let (mut octets, mut crc) = (0, crc32fast::Hasher::new());
    for chunk in block.chunks(CHUNK).cycle() {
        octets += chunk.len() as u64;
        let last = enough(octets);
        if last {
            // Before the last octet leaves, so that the reader never waits for one more.
            promised.store(octets, Ordering::Release);
        }
        crc.update(chunk);
        to.write_all(chunk)?;
        if last {
            break;
        }
    }
    Ok(Sum { octets, crc32: crc.finalize() })
}

fn receive(mut from: &TcpStream, promised: &AtomicU64) -> io::Result<Sum> {
    let (mut octets, mut crc) = (0, crc32fast::Hasher::new());
    let mut buffer = vec![0; CHUNK];
    while octets < promised.load(Ordering::Acquire) {
        let length = from.read(&mut buffer)?;
        let Some(part) = buffer.get(..length).filter(|part| !part.is_empty()) else {
            return Err(ErrorKind::UnexpectedEof.into());
        };
        crc.update(part);
        octets += part.len() as u64;
    }
    Ok(Sum { octets, crc32: crc.finalize() })
}

/// What is sent again and again.
const BLOCK: usize = 1 << 20;

/// What is written and read at once.
pub const CHUNK: usize = 128 << 10;

/// Every packet of a transfer has room for several of these.
const PATTERN_EVERY: usize = 256;
