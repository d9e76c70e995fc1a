//! What datagrams do.

use std::net::SocketAddr;

use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::LatchState;
use latchway_tagging::ClassId;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp;

use super::{Stack, taken};
use crate::error::{Error, ErrorKind, Result};
use crate::in_process::tagging::Tagging;

impl Stack {
    /// Binds a socket for datagrams to a port of one of our addresses.
    ///
    /// # Errors
    /// The port is taken, or the address not ours.
    pub(in crate::in_process) fn bind(&mut self, at: SocketAddr) -> Result<(SocketHandle, SocketAddr)> {
        self.check_ours(at.ip())?;
        if at.ip().is_unspecified() {
            let said = "a socket for datagrams is bound to one address, so that it is known what it sends from; give it";
            return Err(Error::new(ErrorKind::Invalid, said));
        }
        let free = |stack: &Self, port: u16| !stack.taken.contains_key(&port);
        let port = match at.port() {
            0 => self.free_port(free)?,
            port if free(self, port) => port,
            port => return Err(taken(port)),
        };
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; DATAGRAMS], vec![0; self.buffers]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        let local = SocketAddr::new(at.ip(), port);
        socket.bind(local).map_err(|_| taken(port))?;
        let socket = self.sockets.add(socket);
        self.taken.insert(port, socket);
        Ok((socket, local))
    }

    /// Takes a socket for datagrams away.
    pub(in crate::in_process) fn unbind(&mut self, socket: SocketHandle, port: u16) {
        self.taken.remove(&port);
        self.sockets.remove(socket);
    }

    /// A socket of UDP.
    pub(in crate::in_process) fn udp(&mut self, socket: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(socket)
    }

    /// The latch of a flow: its state, and the class that it holds the flow to.
    pub(in crate::in_process) fn latch(&self, flow: &FlowKey) -> Option<(LatchState, Option<ClassId>)> {
        let view = self.database.find(flow).and_then(|latch| self.database.inquire(latch))?;
        Some((view.state, view.class))
    }

    /// How long a datagram may be that is sent whole.
    pub(in crate::in_process) fn longest_datagram(&self, remote: &SocketAddr) -> usize {
        self.mtu - if remote.is_ipv4() { 28 } else { 48 }
    }

    /// What is asked about packets.
    pub(in crate::in_process) const fn tagging(&mut self) -> &mut Tagging {
        self.port.datapath().ulp()
    }
}

/// Datagrams that may wait at a socket, each way.
const DATAGRAMS: usize = 256;
