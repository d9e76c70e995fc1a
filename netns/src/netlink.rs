//! One netlink socket: a request, and the kernel's answer to it, within a deadline (RFC 3549).

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockopt, recv,
        recvfrom, send, setsockopt, socket,
        sockopt::{ReceiveTimeout, SndBuf, SndBufForce},
    },
    time::TimeVal,
};

use crate::{Error, Result};

/// A netlink socket of the namespace it was opened in, for one family of messages.
#[derive(Debug)]
pub struct Netlink<M> {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    messages: PhantomData<fn(M) -> M>,
}

impl Netlink<RouteNetlinkMessage> {
    /// Opens a socket for links, addresses and routes in the calling thread's namespace.
    pub(crate) fn open() -> Result<Self> {
        Self::open_for(SockProtocol::NetlinkRoute)
            .map_err(|source| Error::refused("opening a route netlink socket", source))
    }
}

impl<M: NetlinkSerializable + NetlinkDeserializable> Netlink<M> {
    /// Opens a socket in the calling thread's namespace; the messages are those of the protocol.
    pub fn open_for(protocol: SockProtocol) -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        let patience = TimeVal::new(ANSWER_WITHIN.as_secs().try_into().unwrap_or(i64::MAX), 0);
        setsockopt(&socket, ReceiveTimeout, &patience)?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; LARGEST_ANSWER], messages: PhantomData })
    }

    /// Asks the kernel to change something (`flags` beyond request and acknowledgement), or for one object.
    pub fn ask(&mut self, request: M, flags: u16) -> io::Result<Vec<M>> {
        let message = self.numbered(request, NLM_F_REQUEST | NLM_F_ACK | flags);
        self.send(&message)?;
        Ok(self.answers(self.sequence)?.0)
    }

    /// Asks for all objects of a kind, as they are at one moment: an answer that changes overtook may lack some.
    pub fn dump(&mut self, request: M) -> io::Result<Vec<M>> {
        let message = self.numbered(request, NLM_F_REQUEST | NLM_F_DUMP);
        for _ in 0..DUMPS {
            self.send(&message)?;
            let (answers, changed) = self.answers(self.sequence)?;
            if !changed {
                return Ok(answers);
            }
        }
        Err(io::Error::other("what was asked for changed each time while the kernel listed it"))
    }

    /// Sends several requests at once, each with its flags, which the kernel takes all or none of: the first and last are what
    /// the protocol begins and ends a batch with. The last but one is acknowledged; what the kernel refuses, it says in any case.
    pub fn transact(&mut self, batch: Vec<(M, u16)>) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        let (mut bytes, last) = (Vec::new(), batch.len().saturating_sub(2));
        let mut acknowledged = first;
        for (position, (request, flags)) in batch.into_iter().enumerate() {
            let ack = if position == last { NLM_F_ACK } else { 0 };
            bytes.extend(self.numbered(request, NLM_F_REQUEST | ack | flags));
            if position == last {
                acknowledged = self.sequence;
            }
        }
        // The kernel takes a batch only whole: beyond the system's limit as root of the machine, up to it otherwise.
        let room = bytes.len().saturating_add(SOCKET_OVERHEAD);
        if room > getsockopt(&self.socket, SndBuf)? {
            setsockopt(&self.socket, SndBufForce, &room)
                .or_else(|_| setsockopt(&self.socket, SndBuf, &room))?;
        }
        self.send(&bytes)?;
        self.gather(|sequence| sequence.wrapping_sub(first) <= acknowledged.wrapping_sub(first)).map(drop)
    }

    fn numbered(&mut self, request: M, flags: u16) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), bytes, MsgFlags::empty())?;
        Ok(())
    }

    /// Collects answers to a request until its acknowledgement or the end of the dump; and whether changes overtook it.
    fn answers(&mut self, sequence: u32) -> io::Result<(Vec<M>, bool)> {
        self.gather(|found| found == sequence)
    }

    fn gather(&mut self, ours: impl Fn(u32) -> bool) -> io::Result<(Vec<M>, bool)> {
        let (mut answers, mut changed) = (Vec::new(), false);
        loop {
            let (length, sender) = recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut self.buffer)?;
            // Other processes can write to this socket too; only port 0 is the kernel.
            if sender.is_none_or(|sender| sender.pid() != 0) {
                continue;
            }
            let datagram = self.buffer.get(..length).unwrap_or_default();
            if digest(datagram, &ours, &mut answers, &mut changed)? {
                return Ok((answers, changed));
            }
        }
    }
}

/// Takes one datagram's messages; true when they end the answer to what is ours. `changed` says that a dump is of no one moment.
fn digest<M: NetlinkDeserializable>(
    mut datagram: &[u8],
    ours: impl Fn(u32) -> bool,
    answers: &mut Vec<M>,
    changed: &mut bool,
) -> io::Result<bool> {
    while !datagram.is_empty() {
        let message = NetlinkMessage::<M>::deserialize(datagram)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let (header, payload) = message.into_parts();
        let aligned = usize::try_from(header.length).map_or(usize::MAX, |length| length.next_multiple_of(4));
        datagram = datagram.get(aligned..).unwrap_or_default();
        if !ours(header.sequence_number) {
            continue;
        }
        *changed |= header.flags & NLM_F_DUMP_INTR != 0;
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

/// A socket that the kernel tells of changes in the namespace it was opened in.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    /// Subscribes to multicast groups of a protocol, given as the bits of rtnetlink(7)'s RTMGRP constants.
    pub fn subscribe(protocol: SockProtocol, groups: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self(socket))
    }

    /// Waits until there is a change or time is up, and takes all notices there are; whether there was any.
    pub fn wait(changes: &[&Self], within: Duration) -> io::Result<bool> {
        // Rounded up: a wait that ends early would become a busy loop.
        let patience = PollTimeout::try_from(within + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let mut waiting: Vec<PollFd<'_>> =
            changes.iter().map(|socket| PollFd::new(socket.0.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut waiting, patience) {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        for socket in changes {
            socket.discard()?;
        }
        Ok(true)
    }

    fn discard(&self) -> io::Result<()> {
        loop {
            match recv(self.0.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_DONTWAIT) {
                // Lost notices are as good as one: the caller looks again anyway.
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The kernel answers at once; this only keeps a lost answer from hanging the caller.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How often something is asked for that changes while it is listed.
const DUMPS: usize = 10;

/// What the kernel keeps of a socket's send buffer for itself.
const SOCKET_OVERHEAD: usize = 4096;

/// The kernel fills at most 32 KiB per datagram of a dump.
const LARGEST_ANSWER: usize = 64 * 1024;
