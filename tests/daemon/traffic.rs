//! Hosts that send, and know what must arrive.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use latchway_netns::Namespace;
use socket2::{Domain, Socket, Type};

use crate::site::{Side, Site};
use crate::{PATIENCE, eventually};

/// Numbered datagrams and one TCP connection from a's hosts to b's, until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    transferred: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    datagrams: JoinHandle<Vec<u64>>,
}

/// What became of a load.
pub struct Outcome {
    /// Datagrams sent.
    pub sent: u64,
    /// The numbers of those that arrived, in their order: the wire is a virtual one, which may swap two packets where the gateway
    /// changes its CPU between them.
    pub arrived: Vec<u64>,
    /// Octets that TCP carried, each checked.
    pub transferred: u64,
}

const PORT: u16 = 7001;

/// Datagrams under way at most: fewer than any queue on the way holds.
const WINDOW: u64 = 32;

/// What one end of TCP may have received and not read: as much as the queues on the way hold.
const RECEIVE: usize = 64 << 10;

/// The length of a TCP write: prime, so that no segment begins where a pattern does.
const CHUNK: usize = 4099;

impl Load {
    pub fn start(site: &Site) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let [sent, received, transferred] = [0; 3].map(|none| Arc::new(AtomicU64::new(none)));
        let (from, to) = (&site.at(Side::A).inner, &site.at(Side::B).inner);
        let there = SocketAddr::new(Side::B.address(), PORT);
        let sink = to.run(|| UdpSocket::bind(there)).unwrap().unwrap();
        let source = from.run(|| UdpSocket::bind((Side::A.address(), 0))).unwrap().unwrap();
        let (accepting, connecting) = tcp(from, to, there);
        let datagrams = {
            let (stop, received, sent) = (Arc::clone(&stop), Arc::clone(&received), Arc::clone(&sent));
            thread::spawn(move || {
                receive(&sink, &received, &|| {
                    stop.load(Ordering::Acquire)
                        && received.load(Ordering::Acquire) >= sent.load(Ordering::Acquire)
                })
            })
        };
        let sending = {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            thread::spawn(move || send(&source, there, &stop, &sent, &received))
        };
        let writing = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || write(connecting, &stop))
        };
        let reading = {
            let transferred = Arc::clone(&transferred);
            thread::spawn(move || read(accepting, &transferred))
        };
        let threads = vec![sending, writing, reading];
        Self { stop, sent, transferred, threads, datagrams }
    }

    /// Whether both have gone on since a count of before.
    pub fn count(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.transferred.load(Ordering::Relaxed))
    }

    /// Ends it once there was enough of it, and waits for what is under way.
    pub fn end(self) -> Outcome {
        eventually("the load is one", || {
            let (sent, transferred) = self.count();
            sent > 100 && transferred > 100_000
        });
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let arrived = self.datagrams.join().unwrap();
        let (sent, transferred) =
            (self.sent.load(Ordering::Relaxed), self.transferred.load(Ordering::Relaxed));
        Outcome { sent, arrived, transferred }
    }
}

impl Outcome {
    /// Every datagram came once; TCP went on.
    pub fn is_whole(&self) {
        let expected: Vec<u64> = (0..self.sent).collect();
        let lost: Vec<_> = expected.iter().filter(|number| !self.arrived.contains(number)).take(9).collect();
        assert!(lost.is_empty(), "lost of {}: {lost:?}", self.sent);
        assert_eq!(self.arrived.len() as u64, self.sent, "some came twice");
        assert_eq!(self.arrived, expected);
        assert!(self.sent > 100 && self.transferred > 100_000, "{} {}", self.sent, self.transferred);
    }
}

fn tcp(from: &Namespace, to: &Namespace, there: SocketAddr) -> (TcpStream, TcpStream) {
    let listen = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(RECEIVE)?;
        socket.bind(&there.into())?;
        socket.listen(1)?;
        Ok::<TcpListener, std::io::Error>(socket.into())
    };
    let listener = to.run(listen).unwrap().unwrap();
    let connecting = from.run(|| TcpStream::connect_timeout(&there, PATIENCE)).unwrap().unwrap();
    let (accepting, _) = listener.accept().unwrap();
    for stream in [&accepting, &connecting] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (accepting, connecting)
}

fn send(socket: &UdpSocket, there: SocketAddr, stop: &AtomicBool, sent: &AtomicU64, received: &AtomicU64) {
    let mut number = 0_u64;
    while !stop.load(Ordering::Acquire) {
        if number - received.load(Ordering::Acquire) >= WINDOW {
            // A datagram that was lost keeps its place for good; `is_whole` will say so.
            thread::sleep(Duration::from_micros(200));
            continue;
        }
        socket.send_to(&number.to_be_bytes(), there).unwrap();
        number += 1;
        sent.store(number, Ordering::Release);
        thread::sleep(Duration::from_micros(100));
    }
}

/// Takes numbered datagrams until `done`, and a while longer for what should not come. Returns the numbers in their order.
fn receive(socket: &UdpSocket, received: &AtomicU64, done: &dyn Fn() -> bool) -> Vec<u64> {
    const LATE: Duration = Duration::from_millis(200);
    let (mut numbers, mut octets) = (Vec::new(), [0; 8]);
    socket.set_read_timeout(Some(LATE)).unwrap();
    let mut quiet = 0;
    while quiet < 100 && !(quiet > 0 && done()) {
        match socket.recv(&mut octets) {
            Ok(8) => {
                numbers.push(u64::from_be_bytes(octets));
                received.fetch_add(1, Ordering::Release);
                quiet = 0;
            }
            _ => quiet += 1,
        }
    }
    numbers.sort_unstable();
    numbers
}

fn write(mut stream: TcpStream, stop: &AtomicBool) {
    let pattern: Vec<u8> = (0..CHUNK).map(|n| (n % 251) as u8).collect();
    while !stop.load(Ordering::Acquire) {
        stream.write_all(&pattern).unwrap();
        thread::sleep(Duration::from_micros(500));
    }
}

fn read(mut stream: TcpStream, transferred: &AtomicU64) {
    let (mut octets, mut place) = ([0; 16 << 10], 0_usize);
    loop {
        match stream.read(&mut octets).unwrap() {
            0 => return,
            length => {
                for octet in &octets[..length] {
                    assert_eq!(usize::from(*octet), place % CHUNK % 251, "octet {place}");
                    place += 1;
                }
                transferred.store(place as u64, Ordering::Relaxed);
            }
        }
    }
}

/// Sends numbered datagrams at once, from a's hosts to b's; returns the socket at which they arrive.
pub fn burst(site: &Site, count: u64) -> UdpSocket {
    let there = SocketAddr::new(Side::B.address(), PORT + 1);
    let sink = site.at(Side::B).inner.run(|| UdpSocket::bind(there)).unwrap().unwrap();
    let source = site.at(Side::A).inner.run(|| UdpSocket::bind((Side::A.address(), 0))).unwrap().unwrap();
    for number in 0..count {
        source.send_to(&number.to_be_bytes(), there).unwrap();
    }
    sink
}

/// The numbers of so many datagrams, in their order, as far as they come.
pub fn collect(sink: &UdpSocket, count: u64) -> Vec<u64> {
    let received = AtomicU64::new(0);
    sink.set_nonblocking(false).unwrap();
    receive(sink, &received, &|| received.load(Ordering::Acquire) >= count)
}
