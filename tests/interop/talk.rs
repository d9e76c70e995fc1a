//! Conversations with echo servers from this side, and the echo servers of this side.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use latchway_netns::Namespace;
use latchway_netns::ping::{self, Echo};
use socket2::{Domain, Protocol, Socket, Type};

use crate::guest::{ECHO, Kind, Talk};

/// Serves echoes over TCP and UDP on these addresses of a namespace, until the process ends.
pub fn serve(namespace: &Namespace, addresses: &[IpAddr]) {
    for &address in addresses {
        let (listener, datagrams) = namespace.run(|| (listener(address), datagrams(address))).unwrap();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                thread::spawn(move || echo(stream));
            }
        });
        thread::spawn(move || {
            let mut octets = [0; 1 << 16];
            // What cannot be answered was not asked for by a test that counts on it.
            while let Ok((len, who)) = datagrams.recv_from(&mut octets) {
                let _ = datagrams.send_to(&octets[..len], who);
            }
        });
    }
}

/// Holds conversations from a namespace, all at once. What failed says why, in its place.
pub fn talk(namespace: &Namespace, talks: &[Talk]) -> Vec<Option<String>> {
    thread::scope(|scope| {
        let held: Vec<_> =
            talks.iter().map(|talk| scope.spawn(move || hold(namespace, talk).err())).collect();
        held.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// Echoes, datagrams and streams that either side begins, some of `sizes` too large for one packet, between the ends of
/// each: theirs and ours. `theirs` holds conversations on the other side. What failed says why, in its place.
pub fn both_ways(
    ours: &Namespace,
    ends: &[(IpAddr, IpAddr)],
    sizes: Sizes,
    mut theirs: impl FnMut(&[Talk]) -> Vec<Option<String>>,
) -> Vec<Vec<String>> {
    let mut failures = vec![Vec::new(); ends.len()];
    let pings = thread::scope(|scope| {
        let echo = |&(their, own)| scope.spawn(move || ping(ours, own, their, sizes.of_echoes()).err());
        let sent: Vec<_> = ends.iter().map(echo).collect();
        sent.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    for (place, why) in pings.into_iter().enumerate() {
        failures[place].extend(why);
    }
    for kind in [Kind::Udp, Kind::Tcp] {
        let lengths = if kind == Kind::Udp { sizes.of_datagrams().to_vec() } else { vec![100, 20_000] };
        let talk = |(from, to)| Talk { kind, from, to, lengths: lengths.clone() };
        let to: Vec<_> = ends.iter().map(|&(their, own)| talk((own, their))).collect();
        let from: Vec<_> = ends.iter().copied().map(talk).collect();
        for (way, results) in [("to", self::talk(ours, &to)), ("from", theirs(&from))] {
            for (place, why) in results.into_iter().enumerate() {
                failures[place].extend(why.map(|why| format!("{kind:?} {way} it: {why}")));
            }
        }
    }
    failures
}

/// How large packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// Some are cut into fragments on their way.
    Any,
    /// All travel whole: a host cuts before the gateway sees it, and transport mode takes whole packets only (RFC 4303
    /// section 3.3.4).
    Whole,
}

impl Sizes {
    const fn of_echoes(self) -> &'static [usize] {
        match self {
            Self::Any => &[56, 1200, 3000],
            Self::Whole => &[56, 1200],
        }
    }

    const fn of_datagrams(self) -> &'static [usize] {
        match self {
            Self::Any => &[1, 1300, 4000],
            Self::Whole => &[64, 1200],
        }
    }
}

/// Pings with payloads of these lengths, one after the other, each until it is answered.
pub fn ping(namespace: &Namespace, from: IpAddr, to: IpAddr, lengths: &[usize]) -> Result<(), String> {
    for &length in lengths {
        let echo = Echo { source: Some(from), destination: to, length, ..Echo::default() };
        let end = Instant::now() + PATIENCE;
        loop {
            let report = ping::echo(namespace, &echo).map_err(|error| error.to_string())?;
            if report.received == 1 && report.corrupted == 0 {
                break;
            }
            if Instant::now() > end || report.corrupted > 0 {
                return Err(format!("a ping of {length} octets: {report:?}"));
            }
        }
    }
    Ok(())
}

fn hold(namespace: &Namespace, talk: &Talk) -> Result<(), String> {
    let (from, to) = (SocketAddr::new(talk.from, 0), SocketAddr::new(talk.to, ECHO));
    let held = namespace.run(|| match talk.kind {
        Kind::Tcp => over_tcp(from, to, &talk.lengths),
        Kind::Udp => over_udp(from, to, &talk.lengths),
    });
    held.unwrap().map_err(|error| error.to_string())
}

fn over_tcp(from: SocketAddr, to: SocketAddr, lengths: &[usize]) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&from.into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    for &length in lengths {
        let sent = pattern(length);
        let mut back = vec![0; length];
        let mut writing = stream.try_clone()?;
        thread::scope(|scope| {
            let written = scope.spawn(|| writing.write_all(&sent));
            let read = stream.read_exact(&mut back);
            read.and(written.join().unwrap())
        })?;
        assert!(back == sent, "{length} octets came back changed");
    }
    Ok(())
}

fn over_udp(from: SocketAddr, to: SocketAddr, lengths: &[usize]) -> std::io::Result<()> {
    let socket = UdpSocket::bind(from)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect(to)?;
    for (place, &length) in lengths.iter().enumerate() {
        let (sent, end) = (pattern(length), Instant::now() + PATIENCE);
        loop {
            match socket.send(&sent).and_then(|_| answer(&socket, &lengths[..place])) {
                Ok(back) => {
                    assert!(back == sent, "{length} octets came back changed");
                    break;
                }
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
    Ok(())
}

/// What comes back next. What was sent once more because its answer was late is answered twice: the second answers to what has
/// these lengths are passed over.
fn answer(socket: &UdpSocket, before: &[usize]) -> std::io::Result<Vec<u8>> {
    let mut back = vec![0; 1 << 16];
    loop {
        let len = socket.recv(&mut back)?;
        if !before.contains(&len) || back[..len] != pattern(len)[..] {
            back.truncate(len);
            return Ok(back);
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 % 251) as u8).collect()
}

fn listener(address: IpAddr) -> TcpListener {
    let socket = bound(address, Type::STREAM);
    socket.listen(256).unwrap();
    socket.into()
}

fn datagrams(address: IpAddr) -> UdpSocket {
    bound(address, Type::DGRAM).into()
}

fn bound(address: IpAddr, kind: Type) -> Socket {
    let there = SocketAddr::new(address, ECHO);
    let socket = Socket::new(Domain::for_address(there), kind, None).unwrap();
    socket.bind(&there.into()).unwrap();
    socket
}

fn echo(mut stream: TcpStream) {
    let mut octets = [0; 1 << 14];
    while let Ok(len @ 1..) = stream.read(&mut octets) {
        if stream.write_all(&octets[..len]).is_err() {
            return;
        }
    }
}

/// How long an answer may take; the guest makes it under a ptrace for each of its system calls.
const PATIENCE: Duration = Duration::from_secs(30);
