//! The device of the stack: what it sends is sealed, and what it receives was opened and judged.
//!
//! One packet is one unit here, so that the tag beside a packet is that packet's own. It travels as the class in the packet's
//! metadata; 0 is none.

use latchway_datapath::coalesce::{Coalescer, Offloads};
use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::gateway::Datapath;
use latchway_datapath::outbound::Outbound;
use latchway_datapath::send_batch::SendBatch;
use latchway_datapath::time::Time;
use latchway_datapath::virtio::VNET_HDR_LEN;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;

use super::line::Line;
use super::tagging::Tagging;

/// Between the stack and the line.
pub(super) struct Port {
    datapath: Datapath<Tagging>,
    line: Box<dyn Line>,
    mtu: usize,
    batch: SendBatch,
    units: Coalescer,
    /// A packet on its way out, behind a header as a TUN has it.
    out: Box<[u8]>,
    /// A packet that came in.
    inner: Box<[u8]>,
    /// What the gateway itself answers to a packet that does not leave.
    answer: Vec<u8>,
    /// Whether there may be more than was taken in at once.
    more: bool,
    /// Why nothing can be received any more.
    failure: Option<std::io::Error>,
}

impl Port {
    pub(super) fn new(datapath: Datapath<Tagging>, line: Box<dyn Line>, mtu: u16) -> Self {
        Self {
            datapath,
            line,
            mtu: mtu.into(),
            batch: SendBatch::new(),
            units: Coalescer::new(Offloads::NONE),
            out: vec![0; VNET_HDR_LEN + LONGEST_PACKET].into_boxed_slice(),
            inner: vec![0; LONGEST_PACKET].into_boxed_slice(),
            answer: Vec::new(),
            more: false,
            failure: None,
        }
    }

    pub(super) const fn datapath(&mut self) -> &mut Datapath<Tagging> {
        &mut self.datapath
    }

    pub(super) fn line(&mut self) -> &mut dyn Line {
        self.line.as_mut()
    }

    /// Begins a turn: adopts the newest snapshot.
    pub(super) fn begin(&mut self, now: Time) {
        self.datapath.begin(now);
    }

    /// Ends a turn: what the gateway says by itself is said, everything is sent, and no packet is in hand.
    pub(super) fn end(&mut self) {
        let (datapath, batch) = (&mut self.datapath, &mut self.batch);
        datapath.reply(batch);
        datapath.probe(batch);
        datapath.tend(batch);
        self.flush();
        while let Some(hint) = self.line.next_hint() {
            self.datapath.hint_mtu(hint);
        }
        let truncated = self.line.take_truncated();
        self.datapath.counters().street(Direction::Inbound).drop(DropReason::Truncated, truncated);
        self.datapath.end();
        self.datapath.quiesce();
    }

    /// Whether there may be more to receive than was taken in, once.
    pub(super) const fn take_more(&mut self) -> bool {
        std::mem::replace(&mut self.more, false)
    }

    /// Why nothing can be received any more, once.
    pub(super) const fn take_failure(&mut self) -> Option<std::io::Error> {
        self.failure.take()
    }

    fn flush(&mut self) {
        send(&self.datapath, self.line.as_mut(), &mut self.batch);
    }

    /// Puts the next packet that may go on in front of `inner`.
    fn take(&mut self) -> Option<(usize, u32)> {
        if !self.answer.is_empty() {
            let len = copy(&mut self.inner, [self.answer.as_slice()].into_iter());
            self.answer.clear();
            return Some((len, 0));
        }
        for _ in 0..MOST_AT_ONCE {
            let len = match self.datapath.release_inbound(&mut self.inner) {
                Some(len) => len,
                None => self.open_next()?,
            };
            let class = self.datapath.ulp().take_class().map_or(0, latchway_tagging::ClassId::raw);
            match self.inner.get(..len) {
                // The stack puts no fragments together; what it would drop is counted here.
                Some(packet) if is_fragment(packet) => {
                    let street = self.datapath.counters().street(Direction::Inbound);
                    street.drop(DropReason::FragmentUnresolved, 1);
                }
                Some(packet) if !packet.is_empty() => return Some((len, class)),
                _ => {}
            }
        }
        // Whoever floods us with what is dropped holds up nobody else.
        self.more = true;
        None
    }

    /// Opens the next datagram. Returns the length of the inner packet; nothing is left of one that was dropped.
    fn open_next(&mut self) -> Option<usize> {
        let (datagram, arrival) = match self.line.next() {
            Ok(next) => next?,
            Err(failure) => {
                self.failure = Some(failure);
                return None;
            }
        };
        self.units.clear();
        self.datapath.inbound(datagram, &arrival, &mut self.units);
        let Some(unit) = self.units.units().next() else { return Some(0) };
        let header = unit.header.get(VNET_HDR_LEN..).unwrap_or_default();
        let payload = unit.payload.iter().filter_map(|part| datagram.get(part.clone()));
        Some(copy(&mut self.inner, std::iter::once(header).chain(payload)))
    }
}

impl Device for Port {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let (len, class) = self.take()?;
        let Self { datapath, line, batch, out, inner, answer, .. } = self;
        let mut meta = PacketMeta::default();
        meta.id = class;
        let received = Received { packet: inner.get(..len).unwrap_or_default(), meta };
        Some((received, Sending { datapath, line: line.as_mut(), batch, out, answer }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        let Self { datapath, line, batch, out, answer, .. } = self;
        Some(Sending { datapath, line: line.as_mut(), batch, out, answer })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// A packet that may go on.
pub(super) struct Received<'a> {
    packet: &'a [u8],
    meta: PacketMeta,
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.packet)
    }

    fn meta(&self) -> PacketMeta {
        self.meta
    }
}

/// Room for a packet that is to leave.
pub(super) struct Sending<'a> {
    datapath: &'a mut Datapath<Tagging>,
    line: &'a mut dyn Line,
    batch: &'a mut SendBatch,
    out: &'a mut [u8],
    answer: &'a mut Vec<u8>,
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Self { datapath, line, batch, out, answer } = self;
        let street = datapath.counters().street(Direction::Outbound);
        let Some((header, packet)) =
            out.get_mut(..VNET_HDR_LEN + len).and_then(|out| out.split_at_mut_checked(VNET_HDR_LEN))
        else {
            // Longer than any packet can be.
            street.drop(DropReason::NoBuffer, 1);
            return f(&mut vec![0; len]);
        };
        header.fill(0);
        let done = f(packet);
        let Some(octets) = out.get_mut(..VNET_HDR_LEN + len) else { return done };
        if batch.len() >= FULL_ENOUGH || !batch.has_room_for(1, 2 * len + MOST_AROUND) {
            send(datapath, line, batch);
        }
        match datapath.outbound(octets, batch) {
            Outbound::Sealed | Outbound::Dropped | Outbound::Kept => {}
            // There is no way out in the clear.
            Outbound::Bypass => {
                datapath.counters().street(Direction::Outbound).drop(DropReason::NoBypassPort, 1);
            }
            Outbound::Answered => {
                answer.clear();
                answer.extend_from_slice(datapath.answer());
            }
        }
        done
    }
}

/// One send for the whole batch, and what the line would not take is counted.
fn send(datapath: &Datapath<Tagging>, line: &mut dyn Line, batch: &mut SendBatch) {
    if batch.is_empty() {
        return;
    }
    let (full, errors) = line.send(batch);
    let street = datapath.counters().street(Direction::Outbound);
    street.drop(DropReason::IoFull, full);
    street.drop(DropReason::IoError, errors);
    batch.clear();
}

/// Puts parts behind each other. Returns how long they are; 0 where they do not fit.
fn copy<'a>(to: &mut [u8], parts: impl Iterator<Item = &'a [u8]>) -> usize {
    let mut len = 0;
    for part in parts {
        let Some(place) = to.get_mut(len..len + part.len()) else { return 0 };
        place.copy_from_slice(part);
        len += part.len();
    }
    len
}

/// Whether it is a piece of a packet.
fn is_fragment(packet: &[u8]) -> bool {
    match packet.first().map(|octet| octet >> 4) {
        Some(4) => packet.get(6..8).is_some_and(|word| word != [0, 0] && word != [0x40, 0]),
        Some(6) => packet.get(6) == Some(&FRAGMENT_HEADER),
        _ => false,
    }
}

/// The longest IP packet: IPv6 counts its header extra.
const LONGEST_PACKET: usize = 40 + 65_535;
/// Datagrams opened, and dropped, before others have their turn.
const MOST_AT_ONCE: usize = 256;
/// Octets that a batch gathers before it is sent.
const FULL_ENOUGH: usize = 48 * 1024;
/// What may be around a packet when it is sealed.
const MOST_AROUND: usize = 1024;
/// The next header of IPv6 that says so (RFC 8200 section 4.5).
const FRAGMENT_HEADER: u8 = 44;
