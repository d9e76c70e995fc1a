//! Inner hosts that never stop talking, in every way that T13 names: TCP with and without data, resets, windows of zero, UDP,
//! fragments, echoes, neighbour discovery, multicast; IPv4 and IPv6; from sockets of the kernel and made by hand.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use latchway_netns::Namespace;
use latchway_netns::packet::{self, Segment};
use nix::sys::socket::sockopt::BindToDevice;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, setsockopt, socket,
};

use crate::eventually;
use crate::site::Side;
use crate::watch::{GROUP_V4, GROUP_V6, MARKER};

/// Hosts at work. Dropped, they are silent.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

/// Where TCP is read, where it never is (so that its window closes), and where UDP goes.
const READ: u16 = 7001;
const UNREAD: u16 = 7002;
const UDP: u16 = 7003;

/// Between two rounds: gateways without optimization must keep up.
const PAUSE: Duration = Duration::from_millis(60);

impl Traffic {
    /// Hosts on both sides, talking to each other, and by a device of this name to all on its link.
    pub fn between(a: &Namespace, b: &Namespace, by: &'static str) -> Self {
        let mut traffic =
            Self { stop: Arc::new(AtomicBool::new(false)), rounds: Vec::new(), threads: Vec::new() };
        for (namespace, side) in [(a, Side::A), (b, Side::B)] {
            traffic.thread(namespace, "listens", Listener::open);
            let from = side;
            traffic.thread(namespace, "crafts", move || Crafts::open(from, by));
            for port in [READ, UNREAD] {
                for v6 in [false, true] {
                    let to = SocketAddr::new(side.other().address(v6), port);
                    traffic.thread(namespace, "talks", move || Talks { to, stream: None });
                }
            }
        }
        traffic
    }

    /// Waits until every host has tried everything so many times more.
    pub fn goes_on(&self, rounds: u64) {
        let before: Vec<u64> = self.rounds.iter().map(|round| round.load(Ordering::Relaxed)).collect();
        eventually("every host goes on", || {
            let mut both = self.rounds.iter().zip(&before);
            both.all(|(round, before)| round.load(Ordering::Relaxed) >= before + rounds)
        });
    }

    /// Each thread makes its sockets and then goes round and round.
    fn thread<W: Works>(
        &mut self,
        namespace: &Namespace,
        name: &str,
        open: impl FnOnce() -> W + Send + 'static,
    ) {
        let (stop, round) = (Arc::clone(&self.stop), Arc::new(AtomicU64::new(0)));
        self.rounds.push(Arc::clone(&round));
        let namespace = namespace.clone();
        let work = move || {
            namespace.enter_on_this_thread().unwrap();
            let mut works = open();
            while !stop.load(Ordering::Relaxed) {
                works.round();
                round.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
        };
        self.threads.push(thread::Builder::new().name(name.into()).spawn(work).unwrap());
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a host panicked");
        }
    }
}

trait Works {
    /// Tries everything once. Refusals of the kernel are what is expected during an outage.
    fn round(&mut self);
}

/// Accepts, and reads on one port only.
struct Listener {
    listeners: Vec<(bool, TcpListener)>,
    streams: Vec<TcpStream>,
    unread: Vec<TcpStream>,
    _udp: UdpSocket,
}

impl Listener {
    fn open() -> Self {
        let listen = |(reads, port): (bool, u16)| {
            let listener = TcpListener::bind(format!("[::]:{port}")).unwrap();
            listener.set_nonblocking(true).unwrap();
            (reads, listener)
        };
        let listeners = [(true, READ), (false, UNREAD)].map(listen).into();
        let udp = UdpSocket::bind(format!("[::]:{UDP}")).unwrap();
        Self { listeners, streams: Vec::new(), unread: Vec::new(), _udp: udp }
    }
}

impl Works for Listener {
    fn round(&mut self) {
        for (reads, listener) in &self.listeners {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).unwrap();
                if *reads { self.streams.push(stream) } else { self.unread.push(stream) }
            }
        }
        let mut octets = [0; 4096];
        self.streams.retain_mut(|stream| match stream.read(&mut octets) {
            Ok(0) => false,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => true,
        });
    }
}

/// A connection of the kernel's, made again whenever it ends.
struct Talks {
    to: SocketAddr,
    stream: Option<TcpStream>,
}

impl Works for Talks {
    fn round(&mut self) {
        let Some(stream) = &mut self.stream else {
            self.stream = TcpStream::connect_timeout(&self.to, Duration::from_millis(100)).ok();
            if let Some(stream) = &self.stream {
                stream.set_nonblocking(true).unwrap();
            }
            return;
        };
        match stream.write(&MARKER.repeat(20)) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.stream = None,
            _ => {}
        }
    }
}

/// Packets made by hand, and datagrams that the kernel fragments.
struct Crafts {
    packets: Vec<(SocketAddr, Vec<u8>)>,
    raw: [OwnedFd; 2],
    sockets: Vec<(UdpSocket, SocketAddr)>,
    from: Side,
    by: &'static str,
}

impl Crafts {
    fn open(from: Side, by: &'static str) -> Self {
        let raw = [AddressFamily::Inet, AddressFamily::Inet6].map(raw_socket);
        let mut sockets = Vec::new();
        for v6 in [false, true] {
            let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
            let to = SocketAddr::new(from.other().address(v6), UDP);
            sockets.push((UdpSocket::bind(any).unwrap(), to));
        }
        let packets = [false, true].into_iter().flat_map(|v6| packets(from, v6)).collect();
        Self { packets, raw, sockets, from, by }
    }

    /// From the inner address, which is not always there.
    fn multicast(&self) -> io::Result<()> {
        let groups = [IpAddr::from(GROUP_V4), IpAddr::from(GROUP_V6)];
        for group in groups {
            let socket = UdpSocket::bind(SocketAddr::new(self.from.address(group.is_ipv6()), 0))?;
            setsockopt(&socket, BindToDevice, &OsString::from(self.by))?;
            socket.send_to(MARKER, SocketAddr::new(group, UDP))?;
        }
        Ok(())
    }

    /// RFC 4861 4.3 and 4.4: who has the far host's address, and that we have ours, to all on the link.
    fn neighbours(&self) -> nix::Result<()> {
        let [_, raw] = &self.raw;
        let (own, far) = (self.from.v6(), self.from.other().v6());
        let group = "ff02::1".parse().unwrap();
        setsockopt(raw, BindToDevice, &OsString::from(self.by))?;
        for (kind, target) in [(135, far), (136, own)] {
            let octets = neighbour(kind, own.into(), group, &target.octets());
            send(raw, SocketAddr::new(group, 0), &octets)?;
        }
        Ok(())
    }
}

impl Works for Crafts {
    fn round(&mut self) {
        let [v4, v6] = &self.raw;
        let _ = setsockopt(v6, BindToDevice, &OsString::new());
        for (to, packet) in &self.packets {
            let _ = send(if to.is_ipv4() { v4 } else { v6 }, *to, packet);
        }
        for (socket, to) in &self.sockets {
            let _ = socket.send_to(MARKER, to);
            let _ = socket.send_to(&MARKER.repeat(150), to);
        }
        let _ = self.multicast();
        let _ = self.neighbours();
    }
}

/// Every kind of packet that no socket makes when it is asked to.
fn packets(side: Side, v6: bool) -> Vec<(SocketAddr, Vec<u8>)> {
    let (own, far) = (side.address(v6), side.other().address(v6));
    let (from, to) = (SocketAddr::new(own, 6001), SocketAddr::new(far, READ));
    let plain = Segment { sequence: 7, acknowledgement: Some(9), window: 512, ..Segment::default() };
    let segments = [
        Segment { syn: true, acknowledgement: None, ..plain },
        Segment { psh: true, payload: MARKER, ..plain },
        plain,
        Segment { window: 0, ..plain },
        Segment { rst: true, ..plain },
        Segment { fin: true, ..plain },
    ];
    let mut packets: Vec<_> = segments.iter().map(|one| packet::tcp(from, to, one).unwrap()).collect();
    packets.push(packet::udp(from, SocketAddr::new(far, UDP), MARKER).unwrap());
    packets.push(packet::echo_request(own, far, 77, 1, MARKER).unwrap());
    if let (IpAddr::V6(own_v6), IpAddr::V6(far_v6)) = (own, far) {
        packets.push(neighbour(135, own, far, &far_v6.octets()));
        packets.push(neighbour(136, own, far, &own_v6.octets()));
    } else {
        packets.push(fragment(own, far));
    }
    packets.into_iter().map(|packet| (SocketAddr::new(far, 0), packet)).collect()
}

/// The first fragment of a datagram the rest of which never comes.
fn fragment(own: IpAddr, far: IpAddr) -> Vec<u8> {
    let payload = MARKER.repeat(8);
    let mut octets = packet::udp(SocketAddr::new(own, 6001), SocketAddr::new(far, UDP), &payload).unwrap();
    if let Some(flags) = octets.get_mut(6) {
        *flags = 0x20;
    }
    octets
}

/// A solicitation or advertisement for a target (RFC 4861 4.3, 4.4).
fn neighbour(kind: u8, own: IpAddr, to: IpAddr, target: &[u8; 16]) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0, 0, 0, 0, 0], &target[..], MARKER, &[0; 1]].concat();
    packet::raw(own, to, 58, &message).unwrap()
}

fn raw_socket(family: AddressFamily) -> OwnedFd {
    socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, SockProtocol::Raw)
        .unwrap()
}

fn send(socket: &OwnedFd, to: SocketAddr, packet: &[u8]) -> nix::Result<usize> {
    sendto(socket.as_raw_fd(), packet, &SockaddrStorage::from(to), MsgFlags::empty())
}
