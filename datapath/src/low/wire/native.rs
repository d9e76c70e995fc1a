//! The wire without UDP: raw sockets for the IP protocols 50 and 51 (RFC 4303, RFC 4302) of one address.
//!
//! What is received is one whole IP packet each, put together by the kernel where it came in fragments; a socket for the
//! protocol also keeps the kernel from telling the peer that nobody is there. What is sent is whole packets, headers and all.
//! Packets longer than their link are refused by the kernel, DF or not, and are cut here where the sender lets them be: those
//! of IPv6 to what every link takes, since nobody cuts them later.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use latchway_esp::Protocol;
use rustix::io::Errno;

use super::fragment::Fragments;
use super::message::{self, MAX_AT_ONCE};
use super::report::{self, Quote, Report};
use super::slots::{Filled, MAX_SLOTS, ReceiveBuffer};
use super::{
    MAX_REPORTS, MAX_RETRIES, MAX_SEND_RETRIES, Received, SendReport, WireCounters, WireError, bind, header,
    is_report,
};
use crate::arrival::Carrier;
use crate::pmtu::Hint;
use crate::send_batch::SendBatch;

/// The raw sockets of one address.
#[derive(Debug)]
pub struct NativeSocket {
    address: IpAddr,
    /// ESP's, which also sends, and AH's.
    sockets: [Raw; 2],
    /// Whose turn it is to be asked first.
    second_first: bool,
    links: Links,
    /// Where fragments are written.
    fragment: Box<[u8]>,
    identification: u32,
    hint: Option<Hint>,
    truncated: u64,
    counters: Arc<WireCounters>,
}

/// One of them.
#[derive(Debug)]
struct Raw {
    socket: OwnedFd,
    protocol: Protocol,
    /// Slots to fill with the next receive.
    want: usize,
    /// Whether the error queue may hold something.
    reports: bool,
}

/// A packet that waits to be sent.
#[derive(Clone, Copy)]
struct Packet<'a> {
    to: SocketAddr,
    octets: &'a [u8],
    may_fragment: bool,
}

impl NativeSocket {
    /// Binds to `address`, which no other socket for these protocols may share; the unspecified address is all of its
    /// family. It takes CAP_NET_RAW, which is not needed afterwards.
    ///
    /// # Errors
    /// [`WireError`]
    pub fn bind(address: IpAddr) -> Result<NativeSocket, WireError> {
        let open = |protocol| -> Result<Raw, WireError> {
            let socket = bind::bind_raw(address, protocol)?;
            Ok(Raw { socket, protocol, want: 1, reports: false })
        };
        Ok(NativeSocket {
            address,
            sockets: [open(Protocol::Esp)?, open(Protocol::Ah)?],
            second_first: false,
            links: Links::default(),
            fragment: vec![0; LONGEST_PACKET].into_boxed_slice(),
            identification: unpredictable(),
            hint: None,
            truncated: 0,
            counters: Arc::default(),
        })
    }

    /// Sends the packets of `batch` that are for this wire, number `wire`, in the order in which they were sealed. Never
    /// waits: what the kernel has no room for is dropped and counted.
    pub fn send(&mut self, batch: &SendBatch, wire: usize) -> SendReport {
        let mut report = SendReport::default();
        let nothing = Packet { to: SocketAddr::new(self.address, 0), octets: &[], may_fragment: false };
        let mut waiting = [nothing; MAX_AT_ONCE];
        let mut count = 0;
        for run in batch.runs().filter(|run| run.from == wire) {
            for octets in run.datagrams() {
                let packet = Packet { to: run.to, octets, may_fragment: run.marks.may_fragment };
                if packet.may_fragment && octets.len() > self.links.takes(run.to.ip()) {
                    self.send_all(waiting.get(..count).unwrap_or_default(), &mut report);
                    count = 0;
                    self.send_cut(&packet, &mut report);
                    continue;
                }
                if let Some(place) = waiting.get_mut(count) {
                    *place = packet;
                    count += 1;
                }
                if count == MAX_AT_ONCE {
                    self.send_all(&waiting, &mut report);
                    count = 0;
                }
            }
        }
        self.send_all(waiting.get(..count).unwrap_or_default(), &mut report);
        report
    }

    /// Receives what there is, at most a few packets. Returns how many `into` holds, each as a train of its own; none when
    /// there is nothing to receive. What does not fit is dropped and counted.
    ///
    /// # Errors
    /// Where a socket is gone for good.
    pub fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<usize> {
        self.second_first = !self.second_first;
        let order = if self.second_first { [1, 0] } else { [0, 1] };
        for place in order {
            let Some(raw) = self.sockets.get_mut(place) else { continue };
            let trains = raw.receive(into, &self.counters, &mut self.truncated)?;
            if trains > 0 {
                return Ok(trains);
            }
        }
        Ok(0)
    }

    /// The next hint from the error queues, if there is one.
    #[inline]
    pub fn next_hint(&mut self) -> Option<Hint> {
        if let Some(hint) = self.hint.take() {
            return Some(hint);
        }
        let mut waiting = self.sockets.iter_mut().filter(|raw| raw.reports);
        waiting.find_map(|raw| super::next_hint(raw.socket.as_fd(), Quote::Packet, &mut raw.reports))
    }

    /// Takes note that an error queue holds something.
    pub fn note_reports(&mut self) {
        self.sockets.iter_mut().for_each(|raw| raw.reports = true);
    }

    /// The address it is bound to, without a port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address, 0)
    }

    /// What to wait for.
    #[must_use]
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        self.sockets.each_ref().map(|raw| raw.socket.as_fd())
    }

    /// Packets dropped because the caller's buffer was too short (T04), since this was asked last.
    #[inline]
    pub fn take_truncated(&mut self) -> u64 {
        std::mem::take(&mut self.truncated)
    }

    /// What it moved.
    #[must_use]
    pub const fn counters(&self) -> &Arc<WireCounters> {
        &self.counters
    }

    /// Sends packets as they are, and cuts those that turn out too long where they may be.
    fn send_all(&mut self, packets: &[Packet<'_>], report: &mut SendReport) {
        let (mut rest, mut retries) = (packets, 0);
        while let Some((first, others)) = rest.split_first() {
            if report.dropped_full > 0 {
                // The room is the socket's, not the peer's: asking again would cost a call and change nothing.
                report.dropped_full += rest.len();
                return;
            }
            let outcome = self.send_some(rest);
            if outcome.is_err_and(|errno| is_report(errno) && retries < MAX_SEND_RETRIES) {
                retries += 1;
                self.learn(first.to.ip());
                continue;
            }
            retries = 0;
            match outcome {
                Ok(sent) if sent > 0 => {
                    report.sent += sent;
                    let (sent, later) = rest.split_at_checked(sent).unwrap_or((rest, &[]));
                    sent.iter().for_each(|packet| self.counters.sent(1, packet.octets.len()));
                    rest = later;
                    continue;
                }
                Err(Errno::AGAIN | Errno::NOBUFS) => report.dropped_full += 1,
                Err(Errno::MSGSIZE) if first.may_fragment => self.send_cut(first, report),
                Ok(_) | Err(_) => report.errors += 1,
            }
            rest = others;
        }
    }

    fn send_some(&self, packets: &[Packet<'_>]) -> Result<usize, Errno> {
        let [esp, _] = &self.sockets;
        message::send_many(esp.socket.as_fd(), packets.iter().map(|packet| (packet.to, packet.octets)))
    }

    /// Sends a packet in fragments that its link takes, all of them or, counted once, not.
    #[cold]
    fn send_cut(&mut self, packet: &Packet<'_>, report: &mut SendReport) {
        let mtu = self.links.takes(packet.to.ip());
        self.identification = self.identification.wrapping_add(1);
        let fragments = Fragments::of(packet.octets, mtu, self.identification);
        let Some(mut fragments) = fragments.filter(|_| packet.octets.len() > mtu) else {
            report.errors += 1;
            return;
        };
        let mut fragment = std::mem::take(&mut self.fragment);
        let mut outcome = Ok(0);
        while let Some(len) = fragments.write_next(&mut fragment) {
            let octets = fragment.get(..len).unwrap_or_default();
            let one = [Packet { octets, may_fragment: false, ..*packet }];
            outcome = self.send_some(&one);
            for _ in 0..MAX_SEND_RETRIES {
                if !outcome.is_err_and(is_report) {
                    break;
                }
                self.learn(packet.to.ip());
                outcome = self.send_some(&one);
            }
            if outcome.is_err() {
                break;
            }
        }
        self.fragment = fragment;
        match outcome {
            Ok(_) => {
                report.sent += 1;
                self.counters.sent(1, packet.octets.len());
            }
            Err(Errno::AGAIN | Errno::NOBUFS) => report.dropped_full += 1,
            Err(_) => report.errors += 1,
        }
    }

    /// Looks into the error queue of the socket that sends: the kernel says there what the link to `to` takes.
    #[cold]
    fn learn(&mut self, to: IpAddr) {
        let [esp, _] = &mut self.sockets;
        esp.reports = true;
        for _ in 0..MAX_REPORTS {
            match report::next(esp.socket.as_fd(), Quote::Packet) {
                Some(Report::TooLongForLink(mtu)) => self.links.note(to, mtu),
                Some(Report::Hint(hint)) => self.hint = Some(hint),
                Some(Report::Other) => {}
                None => {
                    esp.reports = false;
                    return;
                }
            }
        }
    }
}

impl Raw {
    fn receive(
        &mut self,
        into: &mut ReceiveBuffer,
        counters: &WireCounters,
        truncated: &mut u64,
    ) -> io::Result<usize> {
        for _ in 0..MAX_RETRIES {
            match into.fill(self.socket.as_fd(), self.want) {
                Ok(filled) => {
                    self.want = if filled == self.want { (2 * filled).min(MAX_SLOTS) } else { filled.max(1) };
                    for slot in 0..filled {
                        match self.take_in(into, slot) {
                            Some(len) => counters.received(1, len),
                            None => *truncated += 1,
                        }
                    }
                    if into.trains() > 0 {
                        return Ok(into.trains());
                    }
                }
                Err(Errno::AGAIN) => return Ok(0),
                Err(errno) if is_report(errno) => self.reports = true,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(0)
    }

    /// Makes a whole packet of what a slot holds, and returns its length. `None` where it is not all there.
    fn take_in(&self, into: &mut ReceiveBuffer, slot: usize) -> Option<usize> {
        let (Filled { len, from, truncated, .. }, _) = into.filled(slot)?;
        let from = from.filter(|_| !truncated)?;
        let (front, octets, control) = into.slot_mut(slot)?;
        let (front_len, traffic_class) = match from.ip() {
            IpAddr::V4(_) => (0, octets.get(1).copied().unwrap_or(0)),
            IpAddr::V6(address) => {
                let header = header::write(front, address, (self.protocol.number(), len), control)?;
                (header.len, header.traffic_class)
            }
        };
        let len = len + front_len;
        let carrier = Carrier::Native;
        let received = Received { len, segment_size: len.max(1), from, traffic_class, carrier };
        into.push_alone(slot, front_len, received);
        Some(len)
    }
}

/// What the links to some peers take, as far as the kernel had reason to say so.
#[derive(Debug, Default)]
struct Links {
    known: [Option<(IpAddr, u16)>; LINKS],
    next: usize,
}

impl Links {
    /// The longest packet that may be cut and passes whole, as far as is known.
    #[inline]
    fn takes(&self, to: IpAddr) -> usize {
        let known = self.known.iter().flatten().find(|(peer, _)| *peer == to).map(|(_, mtu)| *mtu);
        match to {
            IpAddr::V4(_) => known.map_or(usize::MAX, usize::from),
            IpAddr::V6(_) => usize::from(known.unwrap_or(LEAST_MTU_V6).min(LEAST_MTU_V6)),
        }
    }

    fn note(&mut self, to: IpAddr, mtu: u16) {
        if let Some((_, known)) = self.known.iter_mut().flatten().find(|(peer, _)| *peer == to) {
            *known = mtu;
            return;
        }
        if let Some(place) = self.known.get_mut(self.next) {
            *place = Some((to, mtu));
        }
        self.next = (self.next + 1) % LINKS;
    }
}

/// Where the identifications of fragments begin: nobody can tell (RFC 7739).
fn unpredictable() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() as u32
}

/// How many peers' links are remembered.
const LINKS: usize = 16;

/// What every link takes (RFC 8200 section 5).
const LEAST_MTU_V6: u16 = 1280;

/// The longest IP packet: IPv6 counts its header extra.
const LONGEST_PACKET: usize = 40 + 65_535;
