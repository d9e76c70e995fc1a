//! Ends a connection in the kernel: SOCK_DESTROY of sock_diag(7), on exactly one socket.
//!
//! The socket is looked up by its 5-tuple first, and destroyed by 5-tuple and cookie, so that a listener or a later
//! socket of the same ports is never hit. Synchronous, and off the packet path.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use latchway_datapath::flow::{FlowKey, number, protocol};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};

/// Destroys sockets of the network namespace that it was opened in.
#[derive(Debug)]
pub struct SocketDestroyer {
    socket: Socket,
    sequence: u32,
}

/// Why a socket was not destroyed.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// No socket is connected with this 5-tuple.
    #[error("no socket in this namespace is connected with this 5-tuple")]
    NoSuchSocket,
    /// CAP_NET_ADMIN is missing.
    #[error("destroying a socket needs CAP_NET_ADMIN over its network namespace")]
    NotPermitted,
    /// The kernel cannot do it, for any socket or for this protocol.
    #[error(
        "this kernel cannot destroy such sockets; it needs CONFIG_INET_DIAG_DESTROY, and for UDP CONFIG_INET_UDP_DIAG"
    )]
    NotSupported,
    /// Something else went wrong.
    #[error("sock_diag: {0}")]
    Other(#[from] io::Error),
}

impl SocketDestroyer {
    /// Opens a netlink socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Destroys the socket that is connected from `flow.local()` to `flow.remote()`.
    ///
    /// # Errors
    /// [`DestroyError`]
    pub fn destroy(&mut self, flow: &FlowKey) -> Result<(), DestroyError> {
        if !matches!(flow.protocol(), protocol::TCP | protocol::UDP) {
            return Err(DestroyError::NoSuchSocket);
        }
        let cookie = self.look_up(flow)?;
        let request = SockDiagDestroy::new(request(flow, flow.local(), flow.remote(), cookie));
        match self.ask(request.into(), NLM_F_REQUEST | NLM_F_ACK)? {
            NetlinkPayload::Error(answer) => answer.code.map_or(Ok(()), |_| Err(answer.to_io().into())),
            _ => Err(unexpected("no acknowledgment of SOCK_DESTROY")),
        }
        .map_err(DestroyError::named)
    }

    /// Destroys every TCP connection between one of `addresses` and somewhere else, and says how many there were: those
    /// that a gateway finds when it starts have no latch, and none is made up for them.
    ///
    /// # Errors
    /// [`DestroyError`] of the first that could not be destroyed.
    pub fn destroy_all(&mut self, addresses: &[IpAddr]) -> Result<usize, DestroyError> {
        let mut destroyed = 0;
        for family in [AF_INET, AF_INET6] {
            for flow in self.connections(family, addresses)? {
                match self.destroy(&flow) {
                    Ok(()) => destroyed += 1,
                    // It ended by itself meanwhile.
                    Err(DestroyError::NoSuchSocket) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(destroyed)
    }

    /// The TCP connections of a family that cross the boundary.
    fn connections(&mut self, family: u8, addresses: &[IpAddr]) -> Result<Vec<FlowKey>, DestroyError> {
        let nowhere: IpAddr =
            if family == AF_INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket_id = SocketId {
            source_port: 0,
            destination_port: 0,
            source_address: nowhere,
            destination_address: nowhere,
            interface_id: 0,
            cookie: ANY_COOKIE,
        };
        let states = StateFlags::all() - StateFlags::LISTEN - StateFlags::CLOSE - StateFlags::TIME_WAIT;
        let extensions = ExtensionFlags::empty();
        let request = InetRequest { family, protocol: protocol::TCP, extensions, states, socket_id };
        self.send::<SockDiagMessage>(
            SockDiagMessage::InetRequest(request).into(),
            NLM_F_REQUEST | NLM_F_DUMP,
        )?;
        let crosses = |flow: &FlowKey| {
            let is_ours = |end: SocketAddr| addresses.contains(&end.ip().to_canonical());
            is_ours(flow.local()) && !is_ours(flow.remote())
        };
        let mut found = Vec::new();
        loop {
            for answer in self.receive()? {
                match answer {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        let id = response.header.socket_id;
                        let local = SocketAddr::new(id.source_address, id.source_port);
                        let remote = SocketAddr::new(id.destination_address, id.destination_port);
                        found.extend(Some(FlowKey::new(protocol::TCP, local, remote)).filter(crosses));
                    }
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(answer) => return Err(DestroyError::named(answer.to_io().into())),
                    _ => {}
                }
            }
        }
    }

    /// The cookie of the socket. What the kernel answers may be a listener, which is not the one.
    fn look_up(&mut self, flow: &FlowKey) -> Result<[u8; 8], DestroyError> {
        // The kernel looks a UDP socket up with both ends in the order of a packet that it receives.
        let (source, destination) = match flow.protocol() {
            protocol::UDP => (flow.remote(), flow.local()),
            _ => (flow.local(), flow.remote()),
        };
        let request = request(flow, source, destination, ANY_COOKIE);
        let found = match self.ask(request.into(), NLM_F_REQUEST)? {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => found.header.socket_id,
            NetlinkPayload::Error(answer) => return Err(DestroyError::named(answer.to_io().into())),
            _ => return Err(unexpected("no answer to the question for a socket")),
        };
        let is_end =
            |address, port, end: SocketAddr| number(address) == number(end.ip()) && port == end.port();
        let exact = is_end(found.source_address, found.source_port, flow.local())
            && is_end(found.destination_address, found.destination_port, flow.remote());
        if exact { Ok(found.cookie) } else { Err(DestroyError::NoSuchSocket) }
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

impl DestroyError {
    /// The same with the outcomes that have a name.
    fn named(self) -> Self {
        let Self::Other(error) = self else { return self };
        match error.raw_os_error() {
            Some(ENOENT) => Self::NoSuchSocket,
            Some(EPERM | EACCES) => Self::NotPermitted,
            Some(EOPNOTSUPP | EPROTONOSUPPORT) => Self::NotSupported,
            _ => Self::Other(error),
        }
    }
}

fn request(flow: &FlowKey, source: SocketAddr, destination: SocketAddr, cookie: [u8; 8]) -> SockDiagMessage {
    let socket_id = SocketId {
        source_port: source.port(),
        destination_port: destination.port(),
        source_address: source.ip(),
        destination_address: destination.ip(),
        interface_id: 0,
        cookie,
    };
    SockDiagMessage::InetRequest(InetRequest {
        family: if source.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: flow.protocol(),
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id,
    })
}

fn unexpected(what: &str) -> DestroyError {
    DestroyError::Other(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()))
}

/// Stands for any cookie.
const ANY_COOKIE: [u8; 8] = [0xff; 8];

// The kernel's numbers, from linux/socket.h and asm-generic/errno.h.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EPROTONOSUPPORT: i32 = 93;
const EOPNOTSUPP: i32 = 95;
