//! Where datagrams are received: slots of one buffer, as many as one system call is to fill (recvmmsg).
//!
//! Where the kernel joins datagrams (UDP_GRO) one slot takes a whole train, and the same slot is used again and again.
//! Peers that send no UDP checksum defeat that, and so does IP without UDP: many slots are then filled per call, and
//! datagrams of one sender are moved together into a train, which costs less than what a train saves behind it.

#![expect(unsafe_code, reason = "message headers are foreign structures that point at ours")]

use std::mem::{MaybeUninit, zeroed};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::control::{CONTROL_LEN, Control};
use super::name::{NAME_LEN, Name};
use super::{Received, last_errno};

/// The slots, and what they hold since they were last filled.
pub struct ReceiveBuffer {
    octets: Box<[u8]>,
    slot_len: usize,
    controls: Box<[Control]>,
    filled: Vec<Filled>,
    trains: Vec<Train>,
}

/// What the kernel put into one slot.
#[derive(Clone, Copy)]
pub(super) struct Filled {
    pub(super) len: usize,
    /// None where the sender's address is of no family we speak.
    pub(super) from: Option<SocketAddr>,
    /// Whether something of it was cut off: octets, or what the kernel says of them.
    pub(super) truncated: bool,
    pub(super) control_len: usize,
}

/// A train of datagrams, somewhere in the buffer.
struct Train {
    at: usize,
    received: Received,
    /// Whether another datagram may be moved behind it.
    open: bool,
}

/// Slots that one call fills at most.
pub(super) const MAX_SLOTS: usize = 32;

/// Octets in front of each slot, for headers that the kernel hands over apart (RFC 3542 section 6).
pub(super) const HEADROOM: usize = 40 + CONTROL_LEN;

impl ReceiveBuffer {
    /// A buffer whose slots take whatever one receive can return. Memory is only spent on what is used.
    #[must_use]
    pub fn new() -> Self {
        Self::with_slots(SLOT_LEN)
    }

    /// A buffer whose slots take so many octets; what is longer is dropped and counted.
    #[must_use]
    pub fn with_slots(slot_len: usize) -> Self {
        Self {
            octets: vec![0; MAX_SLOTS * (HEADROOM + slot_len)].into_boxed_slice(),
            slot_len,
            controls: vec![Control::EMPTY; MAX_SLOTS].into_boxed_slice(),
            filled: Vec::with_capacity(MAX_SLOTS),
            trains: Vec::with_capacity(MAX_SLOTS),
        }
    }

    /// A train, and what is known of it.
    #[inline]
    pub fn train(&mut self, place: usize) -> Option<(&mut [u8], Received)> {
        let train = self.trains.get(place)?;
        let octets = self.octets.get_mut(train.at..train.at + train.received.len)?;
        Some((octets, train.received))
    }

    /// How many trains there are.
    #[inline]
    #[must_use]
    pub fn trains(&self) -> usize {
        self.trains.len()
    }

    /// Receives into up to `want` slots, at once what there is. Returns how many were filled.
    #[inline]
    pub(super) fn fill(&mut self, fd: BorrowedFd<'_>, want: usize) -> Result<usize, Errno> {
        self.trains.clear();
        self.filled.clear();
        let mut names = [const { MaybeUninit::<Name>::uninit() }; MAX_SLOTS];
        let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_SLOTS];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_SLOTS];
        let slots = self.octets.chunks_exact_mut(HEADROOM + self.slot_len).zip(&mut self.controls);
        let places = names.iter_mut().zip(&mut vectors).zip(&mut headers);
        let mut ready = 0;
        for ((slot, control), ((name, vector), header)) in slots.zip(places).take(want) {
            let Some((_, room)) = slot.split_at_mut_checked(HEADROOM) else { break };
            let vector =
                vector.write(libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() });
            // SAFETY: mmsghdr is plain data for which all zeros is a value.
            let header = header.write(unsafe { zeroed() });
            header.msg_hdr.msg_name = (&raw mut *name.write(Name::none())).cast();
            header.msg_hdr.msg_namelen = NAME_LEN;
            header.msg_hdr.msg_iov = &raw mut *vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.space.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_LEN as _;
            ready += 1;
        }
        // SAFETY: the first `ready` headers are initialised, and every pointer in them is to a local that outlives the call
        // or into a slot or control space of `self`, which is exclusively borrowed, each with its true length; no two
        // are to the same one. There is no timeout.
        let received = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                ready,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| last_errno())?;
        for (header, name) in headers.iter().zip(&names).take(received.min(ready as usize)) {
            // SAFETY: the first `ready` of both were initialised above, and the kernel wrote at most the lengths given.
            let (header, name) = unsafe { (header.assume_init_ref(), name.assume_init_ref()) };
            self.filled.push(Filled {
                len: header.msg_len as usize,
                from: name.address(),
                truncated: header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
                control_len: header.msg_hdr.msg_controllen as _,
            });
        }
        Ok(self.filled.len())
    }

    /// What the kernel put into a slot, and its control messages.
    #[inline]
    pub(super) fn filled(&self, slot: usize) -> Option<(Filled, &[u8])> {
        let filled = *self.filled.get(slot)?;
        let control = self.controls.get(slot)?.space.get(..filled.control_len)?;
        Some((filled, control))
    }

    /// The octets of a slot, behind the room in front of them, and its control messages.
    #[inline]
    pub(super) fn slot_mut(&mut self, slot: usize) -> Option<(&mut [u8], &mut [u8], &[u8])> {
        let at = self.at(slot);
        let filled = self.filled.get(slot)?;
        let control = self.controls.get(slot)?.space.get(..filled.control_len)?;
        let (front, rest) = self.octets.get_mut(at - HEADROOM..)?.split_at_mut_checked(HEADROOM)?;
        Some((front, rest.get_mut(..filled.len)?, control))
    }

    /// Makes what a slot holds a train of its own, or part of the last where it fits there.
    #[inline]
    pub(super) fn push(&mut self, slot: usize, received: Received) {
        let at = self.at(slot);
        if let Some(last) = self.trains.last_mut()
            && last.admits(&received, self.slot_len)
        {
            let end = last.at + last.received.len;
            if end != at {
                self.octets.copy_within(at..at + received.len, end);
            }
            last.received.len += received.len;
            last.open = received.len == last.received.segment_size;
            return;
        }
        let open = received.len == received.segment_size;
        self.trains.push(Train { at, received, open });
    }

    /// Makes a slot, from `front` octets before what it holds, a train of its own to which nothing is added.
    #[inline]
    pub(super) fn push_alone(&mut self, slot: usize, front: usize, received: Received) {
        self.trains.push(Train { at: self.at(slot) - front.min(HEADROOM), received, open: false });
    }

    /// Where what a slot holds begins in the buffer.
    const fn at(&self, slot: usize) -> usize {
        slot * (HEADROOM + self.slot_len) + HEADROOM
    }
}

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for ReceiveBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiveBuffer").field("trains", &self.trains.len()).finish_non_exhaustive()
    }
}

impl Train {
    /// Whether a single datagram may be moved behind this one: of the same sender, class and size or shorter.
    #[inline]
    fn admits(&self, next: &Received, room: usize) -> bool {
        let last = &self.received;
        self.open
            && (1..=last.segment_size).contains(&next.len)
            && next.segment_size == next.len
            && last.len + next.len <= room
            && last.from == next.from
            && last.traffic_class == next.traffic_class
    }
}

/// As much as one receive can return.
const SLOT_LEN: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    fn received(len: usize, port: u16, traffic_class: u8) -> Received {
        Received::new(len, None, SocketAddr::from(([192, 0, 2, 1], port)), traffic_class)
    }

    /// What single datagrams become, in order: port, class, and the octets of each datagram.
    fn gathered(datagrams: &[(usize, u16, u8)]) -> Vec<(u16, u8, Vec<Vec<u8>>)> {
        let mut buffer = ReceiveBuffer::with_slots(4000);
        for (slot, &(len, port, class)) in datagrams.iter().enumerate() {
            let at = buffer.at(slot);
            buffer.octets[at..at + len].fill(slot as u8);
            buffer.push(slot, received(len, port, class));
        }
        let mut trains = Vec::new();
        for place in 0..buffer.trains() {
            let (octets, received) = buffer.train(place).unwrap();
            let datagrams = received.datagrams().map(|range: Range<usize>| octets[range].to_vec());
            trains.push((received.from.port(), received.traffic_class, datagrams.collect()));
        }
        trains
    }

    /// Architecture section 6: what came one by one is a train all the same, in order, with nothing of others in it.
    #[test]
    fn single_datagrams_of_one_sender_become_a_train() {
        let shape = |datagrams: &[(usize, u16, u8)]| -> Vec<(u16, u8, usize)> {
            let trains = gathered(datagrams);
            let all: Vec<Vec<u8>> = trains.iter().flat_map(|train| train.2.clone()).collect();
            let sent = datagrams.iter().enumerate().map(|(n, &(len, ..))| vec![n as u8; len]);
            assert!(all.into_iter().eq(sent.filter(|one| !one.is_empty())));
            trains.into_iter().map(|(port, class, datagrams)| (port, class, datagrams.len())).collect()
        };
        assert_eq!(shape(&[(100, 1, 0); 9]), [(1, 0, 9)]);
        assert_eq!(
            shape(&[(100, 1, 0), (60, 1, 0), (60, 1, 0), (61, 1, 0)]),
            [(1, 0, 2), (1, 0, 1), (1, 0, 1)]
        );
        assert_eq!(
            shape(&[(9, 1, 0), (9, 2, 0), (9, 1, 0), (9, 1, 3)]),
            [(1, 0, 1), (2, 0, 1), (1, 0, 1), (1, 3, 1)]
        );
        assert_eq!(shape(&[(9, 1, 0), (0, 1, 0), (9, 1, 0)]), [(1, 0, 1), (1, 0, 0), (1, 0, 1)]);
        assert_eq!(shape(&[(1500, 1, 0); 4]), [(1, 0, 2), (1, 0, 2)], "no longer than a slot");
    }
}
