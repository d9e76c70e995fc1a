//! Sealed packets on their way to the wire: one buffer, in which neighbours of one size to one peer form a run.
//!
//! A run leaves in one UDP_SEGMENT send, so small packets of different flows to the same peer share a system call as
//! well as large ones of one flow do. Every datagram of a run has the same size but the last, which may be shorter and
//! ends it (RFC 3948 leaves each of them a datagram of its own).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;

/// A buffer of sealed packets and the runs they form.
#[derive(Debug)]
pub struct SendBatch {
    buffer: Box<[u8]>,
    end: usize,
    runs: Vec<Slot>,
    reserved: Reserved,
}

impl SendBatch {
    /// A batch of the usual size: 256 KiB.
    pub fn new() -> SendBatch {
        SendBatch::with_capacity(BUFFER_LEN, MAX_RUNS)
    }

    /// A batch with room for `bytes`, in at most `runs` runs. This is its only allocation.
    pub fn with_capacity(bytes: usize, runs: usize) -> SendBatch {
        SendBatch {
            buffer: vec![0; bytes].into_boxed_slice(),
            end: 0,
            runs: Vec::with_capacity(runs),
            reserved: Reserved { target: Target::new(NOBODY, 0), max_len: 0 },
        }
    }

    /// Room for one more datagram of at most `max_len` bytes; None when it is time to send. [`SendBatch::commit`] makes it
    /// part of the batch; an uncommitted one is forgotten.
    #[inline]
    pub fn reserve(&mut self, target: Target, max_len: usize) -> Option<&mut [u8]> {
        if !self.has_room_for(1, max_len) {
            return None;
        }
        self.reserved = Reserved { target, max_len };
        self.buffer.get_mut(self.end..self.end + max_len)
    }

    /// Makes the first `len` bytes of what was reserved a datagram. More than was reserved, or nothing, adds nothing.
    #[inline]
    pub fn commit(&mut self, len: usize) {
        let max_len = std::mem::take(&mut self.reserved.max_len);
        if !(1..=max_len).contains(&len) {
            return;
        }
        let (end, target) = (self.end + len, &self.reserved.target);
        match self.runs.last_mut().filter(|run| run.admits(target, len)) {
            Some(run) => {
                run.open = len == run.segment_size;
                run.range.end = end;
            }
            None => {
                self.runs.push(Slot { target: *target, segment_size: len, range: self.end..end, open: true })
            }
        }
        self.end = end;
    }

    /// Begins a run with the next datagram. Kernel and routers forward a run as one packet and drop it as one, where only its
    /// longest datagrams do not fit: what must not share their fate leaves by itself.
    pub fn end_run(&mut self) {
        if let Some(run) = self.runs.last_mut() {
            run.open = false;
        }
    }

    /// Forgets everything, keeping the buffer.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.end = 0;
        self.reserved.max_len = 0;
    }

    /// Whether `datagrams` more of at most `max_len` bytes each are sure to fit.
    #[inline]
    pub fn has_room_for(&self, datagrams: usize, max_len: usize) -> bool {
        let bytes = datagrams.saturating_mul(max_len);
        bytes <= self.buffer.len() - self.end && datagrams <= self.runs.capacity() - self.runs.len()
    }

    /// Octets waiting to be sent.
    #[inline]
    pub fn len(&self) -> usize {
        self.end
    }

    /// Whether nothing is waiting to be sent.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The runs in the order in which they were begun.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        self.runs.iter().map(|slot| Run {
            to: slot.target.to,
            from: slot.target.wire,
            marks: slot.target.marks,
            segment_size: slot.segment_size,
            bytes: self.buffer.get(slot.range.clone()).unwrap_or_default(),
        })
    }
}

impl Default for SendBatch {
    fn default() -> SendBatch {
        SendBatch::new()
    }
}

/// Where a datagram goes, and what its outer header is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The peer; without a port where the wire carries none.
    pub to: SocketAddr,
    /// Which of the gateway's wires sends it.
    pub wire: usize,
    /// What the wire writes into the outer header.
    pub marks: Marks,
}

/// What the wire writes into an outer header beside the addresses. Where the street writes the header itself (IP protocols
/// 50 and 51), only `may_fragment` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// DSCP and ECN (RFC 2474, RFC 3168).
    pub traffic_class: u8,
    /// Whether the outer packet may be cut on its way (DF clear, RFC 4301 8.2.1), and by the wire if the link is too
    /// short for it.
    pub may_fragment: bool,
}

impl Target {
    /// A peer at a wire, with no marks.
    #[must_use]
    pub const fn new(to: SocketAddr, wire: usize) -> Self {
        Self { to, wire, marks: Marks { traffic_class: 0, may_fragment: false } }
    }
}

/// Datagrams of one size to one peer, end to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// The peer.
    pub to: SocketAddr,
    /// Which wire sends it.
    pub from: usize,
    /// What its outer headers say.
    pub marks: Marks,
    /// Length of every datagram but the last, which may be shorter.
    pub segment_size: usize,
    /// All of them.
    pub bytes: &'a [u8],
}

impl<'a> Run<'a> {
    /// How many datagrams this is.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len().div_ceil(self.segment_size)
    }

    /// Whether there is none; a batch has no such run.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The datagrams, one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.segment_size)
    }
}

/// Linux takes no more segments than this in one send (UDP_MAX_SEGMENTS).
pub const MAX_RUN_SEGMENTS: usize = 128;
/// A run is one send, and a send is at most what fits an IPv4 packet with its UDP header.
pub const MAX_RUN_LEN: usize = 65_507;

const BUFFER_LEN: usize = 256 * 1024;
const MAX_RUNS: usize = 1024;
const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// Room for one datagram; none where it has no length.
#[derive(Debug)]
struct Reserved {
    target: Target,
    max_len: usize,
}

#[derive(Debug)]
struct Slot {
    target: Target,
    segment_size: usize,
    range: Range<usize>,
    open: bool,
}

impl Slot {
    #[inline]
    fn admits(&self, target: &Target, len: usize) -> bool {
        let total = self.range.len() + len;
        self.open
            && len <= self.segment_size
            && total <= MAX_RUN_LEN
            && total <= MAX_RUN_SEGMENTS * self.segment_size
            && self.target == *target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn add(batch: &mut SendBatch, to: u16, wire: usize, len: usize, fill: u8) {
        let room = batch.reserve(Target::new(peer(to), wire), len + 16).unwrap();
        room[..len].fill(fill);
        batch.commit(len);
    }

    fn shape(batch: &SendBatch) -> Vec<(u16, usize, usize, usize)> {
        batch.runs().map(|run| (run.to.port(), run.from, run.segment_size, run.len())).collect()
    }

    /// Architecture section 6: equal neighbours to one peer leave together; a shorter one ends the run.
    #[test]
    fn equal_neighbours_join_and_a_shorter_one_ends_the_run() {
        let mut batch = SendBatch::new();
        for len in [100, 100, 60, 60, 100] {
            add(&mut batch, 1, 0, len, len as u8);
        }
        assert_eq!(shape(&batch), [(1, 0, 100, 3), (1, 0, 60, 1), (1, 0, 100, 1)]);
        let lens: Vec<usize> = batch.runs().flat_map(|run| run.datagrams().map(<[u8]>::len)).collect();
        assert_eq!(lens, [100, 100, 60, 60, 100]);
        assert!(
            batch
                .runs()
                .flat_map(|run| run.datagrams())
                .all(|d| d.iter().all(|b| usize::from(*b) == d.len()))
        );
    }

    #[test]
    fn a_run_that_was_ended_takes_nothing_more() {
        let mut batch = SendBatch::new();
        batch.end_run();
        for len in [100, 100] {
            add(&mut batch, 1, 0, len, 0);
        }
        batch.end_run();
        add(&mut batch, 1, 0, 60, 0);
        batch.end_run();
        add(&mut batch, 1, 0, 60, 0);
        assert_eq!(shape(&batch), [(1, 0, 100, 2), (1, 0, 60, 1), (1, 0, 60, 1)]);
    }

    /// T29: order on the wire is the order of sealing, whoever the peer is.
    #[test]
    fn peers_and_sockets_keep_their_order() {
        let mut batch = SendBatch::new();
        for (to, wire) in [(1, 0), (1, 0), (2, 0), (1, 0), (1, 1)] {
            add(&mut batch, to, wire, 80, 0);
        }
        assert_eq!(shape(&batch), [(1, 0, 80, 2), (2, 0, 80, 1), (1, 0, 80, 1), (1, 1, 80, 1)]);
    }

    /// RFC 2474, RFC 3168: what is marked differently is sent apart, since one send has one outer header.
    #[test]
    fn a_run_ends_where_the_marks_differ() {
        let mut batch = SendBatch::new();
        for (traffic_class, may_fragment) in [(0, false), (0, false), (2, false), (2, true), (2, true)] {
            let target = Target { marks: Marks { traffic_class, may_fragment }, ..Target::new(peer(1), 0) };
            batch.reserve(target, 80).unwrap();
            batch.commit(80);
        }
        let marks = batch.runs().map(|run| (run.marks.traffic_class, run.marks.may_fragment, run.len()));
        assert_eq!(marks.collect::<Vec<_>>(), [(0, false, 2), (2, false, 1), (2, true, 2)]);
    }

    /// UDP_MAX_SEGMENTS and the length of one IP packet bound a run.
    #[test]
    fn a_run_is_bounded_in_segments_and_bytes() {
        let mut batch = SendBatch::new();
        for _ in 0..130 {
            add(&mut batch, 1, 0, 100, 0);
        }
        assert_eq!(shape(&batch), [(1, 0, 100, 128), (1, 0, 100, 2)]);
        batch.clear();
        for _ in 0..50 {
            add(&mut batch, 1, 0, 1400, 0);
        }
        assert_eq!(shape(&batch), [(1, 0, 1400, 46), (1, 0, 1400, 4)]);
    }

    /// A full batch refuses and loses nothing; a refused commit adds nothing.
    #[test]
    fn a_full_batch_refuses() {
        let mut batch = SendBatch::with_capacity(250, 8);
        add(&mut batch, 1, 0, 100, 1);
        assert!(batch.has_room_for(1, 150));
        assert!(!batch.has_room_for(2, 76));
        assert!(batch.reserve(Target::new(peer(1), 0), 151).is_none());
        batch.commit(10);
        assert!(batch.reserve(Target::new(peer(1), 0), 20).is_some());
        batch.commit(21);
        assert!(batch.reserve(Target::new(peer(1), 0), 20).is_some());
        batch.commit(0);
        assert_eq!(shape(&batch), [(1, 0, 100, 1)]);

        let mut few = SendBatch::with_capacity(4096, 2);
        add(&mut few, 1, 0, 100, 1);
        add(&mut few, 2, 0, 100, 1);
        assert!(few.reserve(Target::new(peer(2), 0), 100).is_none());
        few.clear();
        assert!(few.is_empty() && few.has_room_for(2, 100));
    }
}
