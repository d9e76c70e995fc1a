//! Questions to the kernel about its sockets: sock_diag(7), synchronous, and off the packet path.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use latchway_datapath::flow::{FlowKey, number, protocol};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_sock_diag::constants::TCP_SYN_SENT;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};

use crate::sock_destroy::DestroyError;

/// The sockets of the network namespace that it was opened in.
#[derive(Debug)]
pub(crate) struct SockDiag {
    socket: Socket,
    sequence: u32,
}

/// What the kernel has for a 5-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// A socket connected with exactly this 5-tuple.
    Connected(Seen),
    /// A socket that is bound to its local end, and would be given its packets: a listener, or an unconnected UDP socket.
    Bound,
    /// Nothing.
    Nothing,
}

/// One socket, as it was seen. Its cookie is never another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    cookie: [u8; 8],
    /// Whether it is a TCP socket that has sent its SYN and heard nothing.
    pub(crate) opening: bool,
}

impl SockDiag {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Who has a 5-tuple.
    pub(crate) fn look_up(&mut self, flow: &FlowKey) -> Result<Held, DestroyError> {
        if !matches!(flow.protocol(), protocol::TCP | protocol::UDP) {
            return Ok(Held::Nothing);
        }
        // The kernel looks a UDP socket up with both ends in the order of a packet that it receives.
        let (source, destination) = match flow.protocol() {
            protocol::UDP => (flow.remote(), flow.local()),
            _ => (flow.local(), flow.remote()),
        };
        let request = request(flow.protocol(), (source, destination), ANY_COOKIE);
        let found = match self.ask(request.into(), NLM_F_REQUEST)? {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => found,
            NetlinkPayload::Error(answer) => {
                return match DestroyError::named(answer.to_io()) {
                    DestroyError::NoSuchSocket => Ok(Held::Nothing),
                    error => Err(error),
                };
            }
            _ => return Err(unexpected("no answer to the question for a socket")),
        };
        let id = &found.header.socket_id;
        let is_end =
            |address, port, end: SocketAddr| number(address) == number(end.ip()) && port == end.port();
        let exact = is_end(id.source_address, id.source_port, flow.local())
            && is_end(id.destination_address, id.destination_port, flow.remote());
        Ok(if exact { Held::Connected(Seen::of(&found)) } else { Held::Bound })
    }

    /// Destroys the socket that was seen with a 5-tuple, and no other.
    pub(crate) fn destroy(&mut self, flow: &FlowKey, seen: &Seen) -> Result<(), DestroyError> {
        let request = request(flow.protocol(), (flow.local(), flow.remote()), seen.cookie);
        match self.ask(SockDiagDestroy::new(request).into(), NLM_F_REQUEST | NLM_F_ACK)? {
            NetlinkPayload::Error(answer) if answer.code.is_some() => {
                Err(DestroyError::named(answer.to_io()))
            }
            NetlinkPayload::Error(_) => Ok(()),
            _ => Err(unexpected("no acknowledgment of SOCK_DESTROY")),
        }
    }

    /// Every connected socket of a protocol and family that is not over yet.
    pub(crate) fn connections(
        &mut self,
        protocol: u8,
        v6: bool,
    ) -> Result<Vec<(FlowKey, Seen)>, DestroyError> {
        let nowhere: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let nowhere = SocketAddr::new(nowhere, 0);
        let mut question = inet_request(protocol, (nowhere, nowhere), ANY_COOKIE);
        question.states = StateFlags::all() - StateFlags::LISTEN - StateFlags::CLOSE - StateFlags::TIME_WAIT;
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        self.send::<SockDiagMessage>(SockDiagMessage::InetRequest(question).into(), flags)?;
        let mut found = Vec::new();
        loop {
            for answer in self.receive()? {
                match answer {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        let id = &response.header.socket_id;
                        let local = SocketAddr::new(id.source_address, id.source_port);
                        let remote = SocketAddr::new(id.destination_address, id.destination_port);
                        found.push((FlowKey::new(protocol, local, remote), Seen::of(&response)));
                    }
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(answer) => return Err(DestroyError::named(answer.to_io())),
                    _ => {}
                }
            }
        }
    }

    /// Sends one request and takes the answer to it.
    fn ask<M>(
        &mut self,
        payload: NetlinkPayload<M>,
        flags: u16,
    ) -> Result<NetlinkPayload<SockDiagMessage>, DestroyError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.send(payload, flags)?;
        loop {
            if let Some(answer) = self.receive()?.into_iter().next() {
                return Ok(answer);
            }
        }
    }

    fn send<M>(&mut self, payload: NetlinkPayload<M>, flags: u16) -> Result<(), DestroyError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (flags, self.sequence);
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        self.socket.send(&octets, 0)?;
        Ok(())
    }

    /// One datagram's worth of answers to the request sent last.
    fn receive(&mut self) -> Result<Vec<NetlinkPayload<SockDiagMessage>>, DestroyError> {
        let (datagram, _) = self.socket.recv_from_full()?;
        let (mut left, mut answers) = (datagram.as_slice(), Vec::new());
        while !left.is_empty() {
            let answer = NetlinkMessage::<SockDiagMessage>::deserialize(left)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            // Messages stand at multiples of four octets; one of no length would never end.
            let len = (answer.header.length as usize).next_multiple_of(4).max(4);
            left = left.get(len..).unwrap_or_default();
            if answer.header.sequence_number == self.sequence {
                answers.push(answer.payload);
            }
        }
        Ok(answers)
    }
}

impl Seen {
    fn of(found: &InetResponse) -> Self {
        Self { cookie: found.header.socket_id.cookie, opening: found.header.state == TCP_SYN_SENT }
    }
}

fn request(protocol: u8, ends: (SocketAddr, SocketAddr), cookie: [u8; 8]) -> SockDiagMessage {
    SockDiagMessage::InetRequest(inet_request(protocol, ends, cookie))
}

fn inet_request(
    protocol: u8,
    (source, destination): (SocketAddr, SocketAddr),
    cookie: [u8; 8],
) -> InetRequest {
    let socket_id = SocketId {
        source_port: source.port(),
        destination_port: destination.port(),
        source_address: source.ip(),
        destination_address: destination.ip(),
        interface_id: 0,
        cookie,
    };
    InetRequest {
        family: if source.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id,
    }
}

fn unexpected(what: &str) -> DestroyError {
    DestroyError::Other(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()))
}

/// Stands for any cookie.
const ANY_COOKIE: [u8; 8] = [0xff; 8];

// The kernel's numbers, from linux/socket.h.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
