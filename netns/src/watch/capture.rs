//! Takes frames from the kernel into the record: on a thread of its own, and whenever somebody asks what was seen.

use std::{
    io::IoSliceMut,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    getsockopt_impl,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sockopt_impl,
    sys::socket::{LinkAddr, MsgFlags, getsockopt, recvmsg},
};

use super::{
    frame::{Direction, Frame, Linktype},
    record::Record,
};

/// A packet socket and what came from it, shared between the capturing thread and the capture's owner.
#[derive(Debug)]
pub(super) struct Capture {
    socket: OwnedFd,
    index: usize,
    /// Whoever holds the buffer takes frames, so that they are recorded in order.
    buffer: Mutex<Vec<u8>>,
    record: Mutex<Record>,
    /// Told after every frame.
    pub(super) arrived: Condvar,
}

impl Capture {
    pub(super) fn new(socket: OwnedFd, index: usize, record: Record) -> Self {
        let buffer = Mutex::new(vec![0; LARGEST_FRAME]);
        Self { socket, index, buffer, record: Mutex::new(record), arrived: Condvar::new() }
    }

    /// Takes frames as they come, until something arrives on `woken` or its other end is gone.
    pub(super) fn run(&self, woken: &UnixStream) {
        loop {
            let mut waiting = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(woken.as_fd(), PollFlags::POLLIN),
            ];
            let polled = poll(&mut waiting, PollTimeout::NONE);
            let [_, wake] = waiting;
            self.catch_up();
            match polled {
                Ok(_) if wake.any().unwrap_or(true) => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return self.lock().fail(format!("waiting for frames: {errno}")),
            }
        }
    }

    /// Takes all that the kernel holds: every frame that the interface handled before this call is then recorded.
    pub(super) fn catch_up(&self) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let caught_up = self.drain(&mut buffer).and_then(|()| getsockopt(&self.socket, PacketStatistics));
        let mut record = self.lock();
        match caught_up {
            Ok(statistics) => record.add_dropped(statistics.tp_drops),
            Err(errno) => record.fail(format!("reading frames: {errno}")),
        }
        self.arrived.notify_all();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all frames that are there.
    fn drain(&self, buffer: &mut [u8]) -> nix::Result<()> {
        loop {
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            let (length, sender) = match recvmsg::<LinkAddr>(self.socket.as_raw_fd(), &mut parts, None, flags)
            {
                Ok(message) => (message.bytes, message.address),
                Err(Errno::EAGAIN) => return Ok(()),
                // The interface went down or away: it may come up again, and what is queued can still be read.
                Err(Errno::EINTR | Errno::ENETDOWN) => continue,
                Err(errno) => return Err(errno),
            };
            let Some(sender) = sender.filter(|sender| sender.ifindex() == self.index) else {
                continue;
            };
            let whole = buffer.get(..length);
            let bytes = whole.unwrap_or(buffer);
            let linktype = Linktype::of(&sender);
            let frame = Frame::parse(bytes, length, linktype, Direction::of(&sender));
            self.lock().add(frame, bytes, whole.is_none());
            self.arrived.notify_all();
        }
    }
}

sockopt_impl!(
    /// Frames received and dropped since the last call (packet(7)).
    PacketStatistics,
    GetOnly,
    libc::SOL_PACKET,
    libc::PACKET_STATISTICS,
    libc::tpacket_stats
);

/// Above the largest super-packet of the stack with its headers, so that nothing is cut off.
const LARGEST_FRAME: usize = 640 << 10;
