//! One route netlink socket: a request, and the kernel's answer to it, within a deadline (RFC 3549).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, recvfrom, send,
        setsockopt, socket, sockopt::ReceiveTimeout,
    },
    time::TimeVal,
};

use crate::{Error, Result};

/// A netlink socket of the namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    pub(crate) fn open() -> Result<Self> {
        let failed = |errno| Error::refused("opening a route netlink socket", errno);
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
            .map_err(failed)?;
        let patience = TimeVal::new(ANSWER_WITHIN.as_secs().try_into().unwrap_or(i64::MAX), 0);
        setsockopt(&socket, ReceiveTimeout, &patience).map_err(failed)?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; LARGEST_ANSWER] })
    }

    /// Opens a socket that the kernel tells of every change of a link in the calling thread's namespace.
    pub(crate) fn of_link_changes() -> Result<Self> {
        let netlink = Self::open()?;
        bind(netlink.socket.as_raw_fd(), &NetlinkAddr::new(0, LINK_CHANGES))
            .map_err(|errno| Error::refused("subscribing to link changes", errno))?;
        Ok(netlink)
    }

    /// Waits until something arrives or time is up, and takes it.
    pub(crate) fn wait(&self, within: Duration) -> io::Result<()> {
        // Rounded up: a wait that ends early would become a busy loop.
        let patience = PollTimeout::try_from(within + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, patience) {
            Ok(0) | Err(Errno::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        match recv(self.socket.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_DONTWAIT) {
            // Lost notices are as good as one: the caller looks again anyway.
            Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Asks the kernel to change something (`flags` beyond request and acknowledgement), or for one object.
    pub(crate) fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(request, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.answers()
    }

    /// Asks for all objects of a kind.
    pub(crate) fn dump(&mut self, request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(request, NLM_F_REQUEST | NLM_F_DUMP)?;
        self.answers()
    }

    fn send(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        Ok(())
    }

    /// Collects answers to the last request until its acknowledgement or the end of the dump.
    fn answers(&mut self) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut answers = Vec::new();
        loop {
            let (length, sender) = recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut self.buffer)?;
            // Other processes can write to this socket too; only port 0 is the kernel.
            if sender.is_none_or(|sender| sender.pid() != 0) {
                continue;
            }
            let datagram = self.buffer.get(..length).unwrap_or_default();
            if digest(datagram, self.sequence, &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Takes one datagram's messages; true when they end the answer to `sequence`.
fn digest(mut datagram: &[u8], sequence: u32, answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
    while !datagram.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let (header, payload) = message.into_parts();
        let aligned = usize::try_from(header.length).map_or(usize::MAX, |length| length.next_multiple_of(4));
        datagram = datagram.get(aligned..).unwrap_or_default();
        if header.sequence_number != sequence {
            continue;
        }
        match payload {
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => return Ok(true),
            NetlinkPayload::Overrun(_) => return Err(io::Error::other("netlink lost messages")),
            _ => {}
        }
    }
    Ok(false)
}

/// The kernel answers at once; this only keeps a lost answer from hanging the caller.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The kernel fills at most 32 KiB per datagram of a dump.
const LARGEST_ANSWER: usize = 64 * 1024;

/// rtnetlink(7): the multicast group RTMGRP_LINK.
const LINK_CHANGES: u32 = 1;
