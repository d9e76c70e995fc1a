//! Echo requests and the replies to them, both families (RFC 792, RFC 4443 §4).

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use etherparse::{Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, Ipv4Slice};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recv, sendto,
        socket,
    },
};

use crate::{Error, Namespace, Result, packet};

/// What to send, and how long to wait.
#[derive(Clone, Debug)]
pub struct Echo<'a> {
    /// Source address; the kernel's choice if absent.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: IpAddr,
    /// How many requests.
    pub count: u16,
    /// Time between two requests.
    pub interval: Duration,
    /// How long to wait after the last request for what is missing.
    pub timeout: Duration,
    /// Repeated to fill the payload.
    pub pattern: &'a [u8],
    /// Payload length, after the ICMP header.
    pub length: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PingReport {
    /// Requests that the kernel took.
    pub sent: u16,
    /// Requests that the kernel refused, such as for want of a route.
    pub refused: u16,
    /// Why it refused the latest of them.
    pub refusal: Option<&'static str>,
    /// Requests answered with exactly their payload.
    pub received: u16,
    /// Further replies to a request answered already.
    pub duplicates: u16,
    /// Replies with another payload than was sent.
    pub corrupted: u16,
    /// Round-trip times of the requests answered, in the order of their replies.
    pub rtts: Vec<Duration>,
}

/// Sends echo requests at a pace and gathers the replies until all came or time is up.
///
/// Only a request that got its own payload back counts as received. An error means that the attempt could not be made; no
/// reply at all is a report.
pub fn echo(namespace: &Namespace, echo: &Echo<'_>) -> Result<PingReport> {
    let socket = open(namespace, echo)?;
    let payload: Vec<u8> = echo.pattern.iter().copied().cycle().take(echo.length).collect();
    if payload.len() != echo.length {
        return Err(Error::Malformed("an empty pattern cannot fill an echo request".to_owned()));
    }
    let identifier = NEXT_IDENTIFIER.fetch_add(1, Ordering::Relaxed);
    Exchange {
        socket,
        echo,
        payload,
        identifier,
        sent_at: Vec::new(),
        answered: Vec::new(),
        report: PingReport::default(),
    }
    .run()
}

impl Default for Echo<'_> {
    /// One request of 56 bytes to the loopback address, and a second to answer it.
    fn default() -> Self {
        Self {
            source: None,
            destination: IpAddr::from([127, 0, 0, 1]),
            count: 1,
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
            pattern: b"echo",
            length: 56,
        }
    }
}

/// One exchange in progress.
struct Exchange<'a> {
    socket: OwnedFd,
    echo: &'a Echo<'a>,
    payload: Vec<u8>,
    identifier: u16,
    /// When each request was sent, by sequence number.
    sent_at: Vec<Instant>,
    answered: Vec<bool>,
    report: PingReport,
}

impl Exchange<'_> {
    fn run(mut self) -> Result<PingReport> {
        let mut next = Instant::now();
        loop {
            let now = Instant::now();
            let all_sent = self.sent_at.len() >= usize::from(self.echo.count);
            if !all_sent && now >= next {
                self.send()?;
                next = now + if self.all_sent() { self.echo.timeout } else { self.echo.interval };
            } else if self.report.received == self.report.sent && all_sent || now >= next {
                return Ok(self.report);
            }
            self.receive_until(next)?;
        }
    }

    fn all_sent(&self) -> bool {
        self.sent_at.len() >= usize::from(self.echo.count)
    }

    fn send(&mut self) -> Result<()> {
        let sequence = u16::try_from(self.sent_at.len()).unwrap_or(u16::MAX);
        let message = packet::echo_message(self.echo.destination, self.identifier, sequence, &self.payload);
        let destination = SockaddrStorage::from(SocketAddr::new(self.echo.destination, 0));
        self.sent_at.push(Instant::now());
        self.answered.push(false);
        match sendto(self.socket.as_raw_fd(), &message, &destination, MsgFlags::empty()) {
            Ok(_) => self.report.sent += 1,
            Err(errno) => {
                self.report.refused += 1;
                self.report.refusal = Some(errno.desc());
            }
        }
        Ok(())
    }

    /// Takes replies until a moment comes or nothing is missing.
    fn receive_until(&mut self, end: Instant) -> Result<()> {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        while !(self.all_sent() && self.report.received == self.report.sent) {
            // Rounded up, so that the last wait does not end in a busy loop.
            let left = end.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, left) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(refused(self.echo, errno)),
            }
            // An error queued on the socket, such as an ICMP unreachable, is an unanswered request and no more.
            if let Ok(length) = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                self.take(buffer.get(..length).unwrap_or_default());
            }
            if Instant::now() >= end {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take(&mut self, message: &[u8]) {
        let Some((identifier, sequence, payload)) = reply(self.echo.destination, message) else { return };
        let sequence = usize::from(sequence);
        let (Some(sent), Some(answered)) = (self.sent_at.get(sequence), self.answered.get_mut(sequence))
        else {
            return;
        };
        if identifier != self.identifier {
            return;
        }
        if payload != self.payload {
            self.report.corrupted += 1;
        } else if *answered {
            self.report.duplicates += 1;
        } else {
            *answered = true;
            self.report.received += 1;
            self.report.rtts.push(sent.elapsed());
        }
    }
}

fn open(namespace: &Namespace, echo: &Echo<'_>) -> Result<OwnedFd> {
    let (family, protocol) = match echo.destination {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket = namespace
        .run(|| socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol))?
        .map_err(|errno| refused(echo, errno))?;
    if let Some(source) = echo.source {
        let address = SockaddrStorage::from(SocketAddr::new(source, 0));
        bind(socket.as_raw_fd(), &address).map_err(|errno| refused(echo, errno))?;
    }
    Ok(socket)
}

fn refused(echo: &Echo<'_>, errno: Errno) -> Error {
    let from = echo.source.map(|source| format!(" from {source}")).unwrap_or_default();
    Error::refused(format!("pinging {}{from}", echo.destination), errno)
}

/// Identifier, sequence number and payload of an echo reply. A raw IPv4 socket receives the IP header too, an IPv6 one not.
fn reply(destination: IpAddr, message: &[u8]) -> Option<(u16, u16, &[u8])> {
    if destination.is_ipv4() {
        let ip = Ipv4Slice::from_slice(message).ok()?;
        let icmp = Icmpv4Slice::from_slice(ip.payload().payload).ok()?;
        match icmp.icmp_type() {
            Icmpv4Type::EchoReply(echo) => Some((echo.id, echo.seq, icmp.payload())),
            _ => None,
        }
    } else {
        let icmp = Icmpv6Slice::from_slice(message).ok()?;
        match icmp.icmp_type() {
            Icmpv6Type::EchoReply(echo) => Some((echo.id, echo.seq, icmp.payload())),
            _ => None,
        }
    }
}

/// One identifier per exchange: parallel exchanges of one process do not take each other's replies.
static NEXT_IDENTIFIER: AtomicU16 = AtomicU16::new(1);
