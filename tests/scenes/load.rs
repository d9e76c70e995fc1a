//! Hosts that send as fast as the way takes it, in both directions at once, and check each octet that arrives.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use latchway_netns::Namespace;
use socket2::{Domain, Socket, Type};

use crate::PATIENCE;
use crate::site::End;

/// Two TCP connections and two rows of numbered datagrams, one of each in each direction, until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    datagrams: Vec<Datagrams>,
    transfers: Vec<Transfer>,
}

/// Numbered datagrams in one direction, and what came of them.
struct Datagrams {
    sent: Arc<AtomicU64>,
    sending: JoinHandle<()>,
    receiving: JoinHandle<Vec<u64>>,
}

/// A TCP connection used in one direction, and how many octets came.
struct Transfer {
    writing: JoinHandle<()>,
    reading: JoinHandle<u64>,
}

/// What became of it, one of each direction.
pub struct Outcome {
    /// Datagrams sent, and their numbers as they arrived.
    pub datagrams: Vec<(u64, Vec<u64>)>,
    /// Octets that TCP carried, each checked.
    pub octets: Vec<u64>,
}

const PORT: u16 = 7001;

/// Datagrams under way at most: fewer than any queue on the way holds.
const WINDOW: u64 = 64;

/// What one end of TCP may have received and not read: as much as the queues on the way hold.
const RECEIVE: usize = 128 << 10;

/// The length of a TCP write: prime, so that no segment begins where a pattern does.
const CHUNK: usize = 16_381;

/// With no datagram for so long, none is under way.
const QUIET: Duration = Duration::from_millis(250);

impl Load {
    pub fn start(one: &End, other: &End) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let directions = [(one, other), (other, one)];
        let datagrams = directions.map(|(from, to)| Datagrams::start(from, to, &stop)).into();
        let transfers = directions.map(|(from, to)| Transfer::start(from, to, &stop)).into();
        Self { stop, datagrams, transfers }
    }

    /// How many datagrams were sent in each direction.
    pub fn sent(&self) -> Vec<u64> {
        self.datagrams.iter().map(|row| row.sent.load(Ordering::Relaxed)).collect()
    }

    /// Ends it, and waits for what is under way.
    pub fn end(self) -> Outcome {
        self.stop.store(true, Ordering::Release);
        let octets = self.transfers.into_iter().map(Transfer::end).collect();
        Outcome { octets, datagrams: self.datagrams.into_iter().map(Datagrams::end).collect() }
    }
}

impl Outcome {
    /// Every datagram came once, and in its order; TCP went on.
    pub fn is_whole(&self) {
        for (sent, arrived) in &self.datagrams {
            let first = arrived.iter().zip(0..).find(|(came, expected)| *came != expected);
            assert_eq!(first, None, "came out of order, or twice, or after one that was lost: of {sent}");
            assert_eq!(arrived.len() as u64, *sent, "the last ones are lost");
        }
    }
}

impl Datagrams {
    fn start(from: &End, to: &End, stop: &Arc<AtomicBool>) -> Self {
        let there = to.at(PORT);
        let sink = to.inner.run(|| UdpSocket::bind(there)).unwrap().unwrap();
        let source = from.inner.run(|| UdpSocket::bind(from.at(PORT + 1))).unwrap().unwrap();
        let [sent, received] = [0; 2].map(|none| Arc::new(AtomicU64::new(none)));
        let receiving = {
            let (stop, sent, received) = (Arc::clone(stop), Arc::clone(&sent), Arc::clone(&received));
            thread::spawn(move || {
                let all = || received.load(Ordering::Acquire) >= sent.load(Ordering::Acquire);
                receive(&sink, &received, &|| stop.load(Ordering::Acquire) && all())
            })
        };
        let (stop, counted) = (Arc::clone(stop), Arc::clone(&sent));
        let sending = thread::spawn(move || send(&source, there, &stop, &counted, &received));
        Self { sent, sending, receiving }
    }

    fn end(self) -> (u64, Vec<u64>) {
        self.sending.join().unwrap();
        (self.sent.load(Ordering::Relaxed), self.receiving.join().unwrap())
    }
}

impl Transfer {
    fn start(from: &End, to: &End, stop: &Arc<AtomicBool>) -> Self {
        let (accepted, connected) = connect(&from.inner, &to.inner, to.at(PORT));
        let stop = Arc::clone(stop);
        Self {
            writing: thread::spawn(move || write(connected, &stop)),
            reading: thread::spawn(move || read(accepted)),
        }
    }

    fn end(self) -> u64 {
        self.writing.join().unwrap();
        self.reading.join().unwrap()
    }
}

fn send(socket: &UdpSocket, there: SocketAddr, stop: &AtomicBool, sent: &AtomicU64, received: &AtomicU64) {
    let (mut number, mut octets) = (0_u64, [0x42; 900]);
    while !stop.load(Ordering::Acquire) {
        if number - received.load(Ordering::Acquire) >= WINDOW {
            // A datagram that was lost keeps its place for good; `is_whole` will say so.
            thread::sleep(Duration::from_micros(100));
            continue;
        }
        octets[..8].copy_from_slice(&number.to_be_bytes());
        socket.send_to(&octets, there).unwrap();
        number += 1;
        sent.store(number, Ordering::Release);
    }
}

/// Takes numbered datagrams until all came that were sent, and a while longer for what should not come.
fn receive(socket: &UdpSocket, received: &AtomicU64, whole: &dyn Fn() -> bool) -> Vec<u64> {
    let (mut numbers, mut octets) = (Vec::new(), [0; 1000]);
    socket.set_read_timeout(Some(QUIET)).unwrap();
    let mut quiet = 0;
    while quiet < 40 && !(quiet > 0 && whole()) {
        match socket.recv(&mut octets) {
            Ok(900) => {
                numbers.push(u64::from_be_bytes(octets[..8].try_into().unwrap()));
                received.fetch_add(1, Ordering::Release);
                quiet = 0;
            }
            _ => quiet += 1,
        }
    }
    numbers
}

/// A connection between hosts, of which the accepting end takes in no more than the way holds.
pub fn connect(from: &Namespace, to: &Namespace, there: SocketAddr) -> (TcpStream, TcpStream) {
    let listen = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(RECEIVE)?;
        socket.set_reuse_address(true)?;
        socket.bind(&there.into())?;
        socket.listen(1)?;
        Ok::<TcpListener, std::io::Error>(socket.into())
    };
    let listener = to.run(listen).unwrap().unwrap();
    let connected = from.run(|| TcpStream::connect_timeout(&there, PATIENCE)).unwrap().unwrap();
    let (accepted, _) = listener.accept().unwrap();
    for stream in [&accepted, &connected] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (accepted, connected)
}

fn write(mut stream: TcpStream, stop: &AtomicBool) {
    let pattern: Vec<u8> = (0..CHUNK).map(pattern).collect();
    while !stop.load(Ordering::Acquire) {
        stream.write_all(&pattern).unwrap();
    }
}

/// Reads to the end, and returns how much there was.
fn read(mut stream: TcpStream) -> u64 {
    let expected: Vec<u8> = (0..2 * CHUNK).map(|place| pattern(place % CHUNK)).collect();
    let (mut octets, mut place) = ([0; CHUNK], 0_usize);
    loop {
        match stream.read(&mut octets).unwrap() {
            0 => return place as u64,
            length => {
                let from = place % CHUNK;
                assert!(octets[..length] == expected[from..from + length], "octets from {place} on");
                place += length;
            }
        }
    }
}

const fn pattern(place: usize) -> u8 {
    (place % 251) as u8
}
