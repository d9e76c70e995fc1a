//! Tells of sockets that are gone: the destroy groups of sock_diag(7). A socket is gone when nobody has it any more, whoever
//! made it and however they ended; also one that was never connected.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use latchway_datapath::flow::protocol;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

/// The ends of sockets of the network namespace that it was opened in.
#[derive(Debug)]
pub struct SocketsGone {
    socket: Socket,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketGone {
    /// This socket is gone.
    Gone {
        /// Its number, which no other socket of the namespace ever has.
        socket: u64,
        /// The port that it had, where it is of UDP and had one.
        udp_port: Option<u16>,
    },
    /// More were gone than there was room to tell of.
    Lost,
}

impl SocketsGone {
    /// Opens a netlink socket in the network namespace of the calling thread, which hears nothing yet.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        // What the system allows at most is little enough.
        socket.set_rx_buf_sz(ROOM)?;
        Ok(Self { socket })
    }

    /// Hears of every socket of TCP and UDP that is gone from now on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn join(&self) -> io::Result<()> {
        GROUPS.into_iter().try_for_each(|group| self.socket.add_membership(group))
    }

    /// Hears of none any more: the kernel then has nothing to say of each.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn leave(&self) -> io::Result<()> {
        GROUPS.into_iter().try_for_each(|group| self.socket.drop_membership(group))
    }

    /// The next that is gone; `None` where there is no other yet.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn next(&self) -> io::Result<Option<SocketGone>> {
        loop {
            let mut octets = [0; MESSAGE];
            let mut room: &mut [u8] = &mut octets;
            let read = match self.socket.recv(&mut room, 0) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => return Ok(Some(SocketGone::Lost)),
                Err(error) => return Err(error),
            };
            if let Some(gone) = read_gone(octets.get(..read.min(MESSAGE)).unwrap_or_default()) {
                return Ok(Some(gone));
            }
        }
    }
}

impl AsFd for SocketsGone {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads `struct inet_diag_msg` of linux/inet_diag.h and INET_DIAG_PROTOCOL behind it; one message to a datagram.
fn read_gone(message: &[u8]) -> Option<SocketGone> {
    let body = message.get(HEADER..)?;
    let word = |at: usize| body.get(at..)?.first_chunk().map(|octets| u32::from_ne_bytes(*octets));
    let socket = u64::from(word(COOKIE + 4)?) << 32 | u64::from(word(COOKIE)?);
    let port = u16::from_be_bytes(*body.get(SOURCE_PORT..)?.first_chunk()?);
    let is_udp = protocol_of(body.get(DIAG..)?) == Some(protocol::UDP);
    Some(SocketGone::Gone { socket, udp_port: (is_udp && port != 0).then_some(port) })
}

fn protocol_of(mut attributes: &[u8]) -> Option<u8> {
    loop {
        let len = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        if kind == INET_DIAG_PROTOCOL {
            return attributes.get(4).copied();
        }
        attributes = attributes.get(len.next_multiple_of(4).max(4)..)?;
    }
}

/// SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET_UDP_DESTROY, and those of IPv6.
const GROUPS: [u32; 4] = [1, 2, 3, 4];

const ROOM: u32 = 4 << 20;
const MESSAGE: usize = 1024;
const HEADER: usize = 16;
const SOURCE_PORT: usize = 4;
const COOKIE: usize = 44;
const DIAG: usize = 72;

// The kernel's numbers, from linux/inet_diag.h and asm-generic/errno.h.
const INET_DIAG_PROTOCOL: u16 = 10;
const ENOBUFS: i32 = 105;
