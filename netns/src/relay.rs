//! A wire whose frames can be changed on their way: what a router or a middlebox writes into packets, without one.

use std::{
    io::IoSliceMut,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{LinkAddr, MsgFlags, recvmsg},
};

use crate::{Error, Namespace, Result, inject::Injector, packet_socket, watch::Direction};

/// Two interfaces of one namespace made into one wire, on threads of its own. Dropping it cuts the wire.
///
/// A frame arrives as the veth has it. Checksums that the sender left to its device are still to be made, so whoever needs
/// them completes them; and a super-packet that is longer than the other side's MTU is lost.
#[derive(Debug)]
pub struct Relay {
    wakes: Vec<UnixStream>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Passes frames between two veths in both directions, each as `change` leaves it. When it returns, every later frame
    /// passes.
    pub fn start(
        namespace: &Namespace,
        interfaces: [&str; 2],
        change: impl Fn(&mut [u8]) + Send + Sync + 'static,
    ) -> Result<Self> {
        let change = Arc::new(change);
        let [one, other] = interfaces;
        let mut relay = Self { wakes: Vec::new(), threads: Vec::new() };
        for (from, to) in [(one, other), (other, one)] {
            let failed = |source| Error::refused(format!("relaying from {from} to {to}"), source);
            let (socket, index) = packet_socket::watching(namespace, from)?;
            let (wake, woken) = UnixStream::pair().map_err(failed)?;
            let way = Way { socket, index, to: Injector::open(namespace, to)? };
            let change = Arc::clone(&change);
            let thread = thread::Builder::new().name(format!("relay {from}"));
            relay.threads.push(thread.spawn(move || way.run(&woken, &*change)).map_err(failed)?);
            relay.wakes.push(wake);
        }
        Ok(relay)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Their other ends see that these are gone.
        self.wakes.clear();
        for thread in self.threads.drain(..) {
            // It has said on standard error why it panicked.
            let _ = thread.join();
        }
    }
}

/// One direction.
struct Way {
    socket: OwnedFd,
    index: usize,
    to: Injector,
}

impl Way {
    fn run(&self, woken: &UnixStream, change: &dyn Fn(&mut [u8])) {
        let mut buffer = vec![0; LARGEST_FRAME];
        loop {
            let mut waiting = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(woken.as_fd(), PollFlags::POLLIN),
            ];
            let polled = poll(&mut waiting, PollTimeout::NONE);
            let [_, wake] = waiting;
            match polled {
                Ok(_) if wake.any().unwrap_or(true) => return,
                Ok(_) | Err(Errno::EINTR) => self.pass(&mut buffer, change),
                Err(_) => return,
            }
        }
    }

    /// Passes on what is there.
    fn pass(&self, buffer: &mut [u8], change: &dyn Fn(&mut [u8])) {
        loop {
            let mut parts = [IoSliceMut::new(buffer)];
            let received =
                recvmsg::<LinkAddr>(self.socket.as_raw_fd(), &mut parts, None, MsgFlags::MSG_DONTWAIT);
            let (length, sender) = match received {
                Ok(message) => (message.bytes, message.address),
                Err(Errno::EINTR | Errno::ENETDOWN) => continue,
                Err(_) => return,
            };
            let comes = |sender: &LinkAddr| {
                sender.ifindex() == self.index && Direction::of(sender) == Direction::Inbound
            };
            if !sender.is_some_and(|sender| comes(&sender)) {
                continue;
            }
            if let Some(frame) = buffer.get_mut(..length) {
                change(frame);
                // What cannot be sent is lost, as it is on a wire.
                let _ = self.to.send(frame);
            }
        }
    }
}

/// Above the largest super-packet of the stack with its headers.
const LARGEST_FRAME: usize = 640 << 10;
