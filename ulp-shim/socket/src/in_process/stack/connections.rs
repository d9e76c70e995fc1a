//! What connections do: they begin, come, wait to be accepted, and say goodbye.

use std::net::SocketAddr;
use std::time::Duration;

use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::time::Time;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::wire::{IpAddress, IpListenEndpoint};

use super::{Fate, Stack, taken};
use crate::error::{Error, ErrorKind, Result};
use crate::in_process::demands::Demands;
use crate::in_process::tagging::Listening;

/// Sockets of one listener: one listens, others wait to be accepted.
pub(super) struct Listener {
    endpoint: IpListenEndpoint,
    listens: Option<SocketHandle>,
    waiting: Vec<SocketHandle>,
}

impl Stack {
    /// Begins a connection.
    ///
    /// # Errors
    /// There is no address of ours for it, or no port.
    pub(in crate::in_process) fn connect(
        &mut self,
        remote: SocketAddr,
        demands: Demands,
    ) -> Result<(SocketHandle, FlowKey)> {
        let local = self.address_towards(remote.ip())?;
        let port = self.free_port(|stack, port| {
            let flow = FlowKey::new(protocol::TCP, SocketAddr::new(local, port), remote);
            !stack.connections.contains_key(&flow) && !stack.listeners.contains_key(&port)
        })?;
        let local = SocketAddr::new(local, port);
        let flow = FlowKey::new(protocol::TCP, local, remote);
        let mut socket = self.tcp_socket();
        socket.connect(self.interface.context(), remote, local).map_err(|_| {
            Error::new(
                ErrorKind::Invalid,
                format!("nothing can be connected to at {remote}; give address and port"),
            )
        })?;
        let socket = self.sockets.add(socket);
        self.connections.insert(flow, socket);
        self.port.datapath().ulp().require(flow, demands);
        Ok((socket, flow))
    }

    /// Listens at a port of one address, or of all where it is unspecified.
    ///
    /// # Errors
    /// The port is taken, or the address not ours.
    pub(in crate::in_process) fn listen(&mut self, at: SocketAddr, demands: Demands) -> Result<SocketAddr> {
        self.check_ours(at.ip())?;
        let free = |stack: &Self, port: u16| !stack.listeners.contains_key(&port);
        let port = match at.port() {
            0 => self.free_port(free)?,
            port if free(self, port) => port,
            port => return Err(taken(port)),
        };
        let address = Some(at.ip()).filter(|ip| !ip.is_unspecified()).map(IpAddress::from);
        let endpoint = IpListenEndpoint { addr: address, port };
        self.listeners.insert(port, Listener { endpoint, listens: None, waiting: Vec::new() });
        self.port.datapath().ulp().listeners().insert(port, Listening::new(demands));
        self.tend_listeners(Time::default());
        Ok(SocketAddr::new(at.ip(), port))
    }

    /// The next connection that came to a port, if there is one.
    pub(in crate::in_process) fn accept(&mut self, port: u16, now: Time) -> Option<(SocketHandle, FlowKey)> {
        let listener = self.listeners.get_mut(&port)?;
        let sockets = &self.sockets;
        let place = listener.waiting.iter().position(|&socket| {
            matches!(
                sockets.get::<tcp::Socket<'_>>(socket).state(),
                tcp::State::Established | tcp::State::CloseWait
            )
        })?;
        let socket = listener.waiting.remove(place);
        self.tcp(socket).set_timeout(None);
        let flow = self.flow_of(socket)?;
        self.tend_listeners(now);
        Some((socket, flow))
    }

    /// Listens no more. Who waited is told so.
    pub(in crate::in_process) fn unlisten(&mut self, port: u16, now: Time) {
        let Some(listener) = self.listeners.remove(&port) else { return };
        self.port.datapath().ulp().listeners().remove(&port);
        for socket in listener.listens.into_iter().chain(listener.waiting) {
            self.sockets.get_mut::<tcp::Socket<'_>>(socket).abort();
            self.leaving.push((socket, now + LINGER));
        }
    }

    /// The connection's end, once its socket is held by nobody: what it was given is sent, and acknowledged.
    pub(in crate::in_process) fn leave(&mut self, socket: SocketHandle, flow: &FlowKey, now: Time) {
        self.sockets.get_mut::<tcp::Socket<'_>>(socket).close();
        self.port.datapath().ulp().forget(flow);
        self.leaving.push((socket, now + LINGER));
    }

    /// A socket of TCP.
    pub(in crate::in_process) fn tcp(&mut self, socket: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(socket)
    }

    /// Why a connection was ended, where it was.
    pub(in crate::in_process) fn fate(&self, socket: SocketHandle) -> Option<Fate> {
        self.fates.get(&socket).copied()
    }

    fn tcp_socket(&self) -> tcp::Socket<'static> {
        let buffer = || tcp::SocketBuffer::new(vec![0; self.buffers]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        // Whoever writes little at a time waits for no acknowledgment.
        socket.set_nagle_enabled(false);
        socket
    }

    /// Sees to it that somebody listens at each port where more may come, and forgets who went away before being accepted.
    pub(super) fn tend_listeners(&mut self, now: Time) {
        let ports: Vec<u16> = self.listeners.keys().copied().collect();
        for port in ports {
            let Some(mut listener) = self.listeners.remove(&port) else { continue };
            if let Some(socket) = listener.listens
                && !self.tcp(socket).is_listening()
            {
                listener.listens = None;
                if let Some(flow) = self.flow_of(socket) {
                    self.connections.insert(flow, socket);
                }
                listener.waiting.push(socket);
            }
            listener.waiting.retain(|&socket| {
                let gone = matches!(self.tcp(socket).state(), tcp::State::Closed | tcp::State::Listen);
                if gone {
                    self.tcp(socket).abort();
                    self.leaving.push((socket, now));
                }
                !gone
            });
            let full = listener.waiting.len() >= BACKLOG;
            if listener.listens.is_none() && !full {
                let mut socket = self.tcp_socket();
                // Whoever begins and does not go on is not waited for.
                socket.set_timeout(Some(HALF_OPEN));
                if socket.listen(listener.endpoint).is_ok() {
                    listener.listens = Some(self.sockets.add(socket));
                }
            }
            if let Some(listening) = self.port.datapath().ulp().listeners().get_mut(&port) {
                listening.full = full;
            }
            self.listeners.insert(port, listener);
        }
    }

    /// Whether a listener is not as it should be.
    pub(super) fn is_stale(&self, listener: &Listener) -> bool {
        let state = |socket: SocketHandle| self.sockets.get::<tcp::Socket<'_>>(socket).state();
        let gone = |socket: &SocketHandle| matches!(state(*socket), tcp::State::Closed | tcp::State::Listen);
        let listens = listener.listens.is_some_and(|socket| state(socket) == tcp::State::Listen);
        let full = listener.waiting.len() >= BACKLOG;
        let lacks = !listens && (listener.listens.is_some() || !full);
        lacks || listener.waiting.iter().any(gone)
    }

    fn flow_of(&self, socket: SocketHandle) -> Option<FlowKey> {
        let socket = self.sockets.get::<tcp::Socket<'_>>(socket);
        let (local, remote) = socket.local_endpoint().zip(socket.remote_endpoint())?;
        let end = |end: smoltcp::wire::IpEndpoint| SocketAddr::new(end.addr.into(), end.port);
        Some(FlowKey::new(protocol::TCP, end(local), end(remote)))
    }
}

/// Connections of one listener that may wait to be accepted, half-open ones included.
const BACKLOG: usize = 64;
/// How long a connection may take to be made, or to be accepted.
const HALF_OPEN: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(30);
/// How long a connection that nobody holds may take to say goodbye.
const LINGER: Duration = Duration::from_secs(30);
