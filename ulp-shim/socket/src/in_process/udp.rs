//! Datagrams of a gateway in the program, each with the tag of its own packet (latching-04 section 2.2, Q-49).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::LatchState;
use latchway_tagging::ClassId;
use smoltcp::iface::SocketHandle;
use smoltcp::phy::PacketMeta;
use smoltcp::socket::udp::{RecvError, SendError, UdpMetadata};
use smoltcp::wire::{IpAddress, IpEndpoint};

use super::demands::Demands;
use super::gateway::Gateway;
use super::stack::Stack;
use crate::error::{Error, ErrorKind, Result};
use crate::requirement::Requirement;
use crate::tag::{DatagramTag, Unknown};

/// A socket for datagrams. Each pair of ends has a latch of its own, which the first datagram between them makes.
#[derive(Debug)]
pub struct UdpSocket {
    gateway: Gateway,
    socket: SocketHandle,
    local: SocketAddr,
}

impl UdpSocket {
    /// Binds to a port of one address of the gateway; port 0 is one that is free.
    ///
    /// # Errors
    /// The port is taken, or the address is not the gateway's.
    pub fn bind(gateway: &Gateway, address: SocketAddr) -> Result<Self> {
        let (socket, local) = gateway.at_once(|stack, _| stack.bind(address))?;
        Ok(Self { gateway: gateway.clone(), socket, local })
    }

    /// Where it is bound.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends a datagram, to who has what is required and to nobody else. As datagrams are, it may be lost on its way, and is
    /// where no SA serves it.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`]: it was not sent, since what is required is not met. [`ErrorKind::Suspended`]: the latch of
    /// the two ends is not in force. [`ErrorKind::Full`]: there is no room for it now. [`ErrorKind::Invalid`]: it is too long, or
    /// cannot be sent there.
    pub fn send_to(
        &self,
        octets: &[u8],
        remote: SocketAddr,
        requirement: Option<&Requirement>,
    ) -> Result<usize> {
        let demands = requirement.map(Demands::of).transpose()?;
        if remote.is_ipv4() != self.local.is_ipv4() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{remote} is of another family than {}", self.local),
            ));
        }
        let flow = self.flow(remote);
        self.gateway.at_once(|stack, now| {
            let may_begin = check(stack, &flow, demands.as_ref())?;
            let meta = UdpMetadata {
                endpoint: IpEndpoint::from(remote),
                local_address: Some(IpAddress::from(self.local.ip())),
                meta: PacketMeta::default(),
            };
            if octets.len() > stack.longest_datagram(&remote) {
                let said = format!("{} octets are too long for one datagram here; send less", octets.len());
                return Err(Error::new(ErrorKind::Invalid, said));
            }
            stack.udp(self.socket).send_slice(octets, meta).map_err(|error| unsent(error, remote))?;
            let Some(demands) = demands.filter(|_| may_begin) else { return Ok(octets.len()) };
            // It leaves in this very turn, or not at all.
            stack.tagging().require(flow, demands);
            stack.speak(now);
            if stack.tagging().forget(&flow) {
                let said = format!(
                    "who has the address {remote} does not have what is required, and nothing was sent"
                );
                return Err(Error::new(ErrorKind::Forbidden, said));
            }
            Ok(octets.len())
        })
    }

    /// The next datagram: how long it was, where it is from, and what protected it. What does not fit is cut off.
    ///
    /// # Errors
    /// The gateway has ended.
    pub fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr, DatagramTag)> {
        self.receive_by(buffer, None)
    }

    /// The same, waited for no longer than this.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`], too.
    pub fn recv_from_within(
        &self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<(usize, SocketAddr, DatagramTag)> {
        self.receive_by(buffer, Some(Instant::now() + timeout))
    }

    fn receive_by(
        &self,
        buffer: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<(usize, SocketAddr, DatagramTag)> {
        let (len, meta) = self.gateway.until(deadline, |stack, _| {
            let next = stack.udp(self.socket).recv();
            Ok(match next {
                Ok((octets, meta)) => {
                    let len = octets.len().min(buffer.len());
                    buffer.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
                    Some((len, meta))
                }
                Err(RecvError::Exhausted | RecvError::Truncated) => None,
            })
        })?;
        let remote = SocketAddr::new(meta.endpoint.addr.into(), meta.endpoint.port);
        let class = Some(meta.meta.id).filter(|class| *class > 0).map(ClassId::from_raw);
        let known = class.map(|class| self.gateway.classes().of_datagram(class, &self.flow(remote)));
        let tag = match known {
            Some(Some(protection)) => DatagramTag::Certain(protection),
            Some(None) => DatagramTag::Unknown(Unknown::Unasked(Error::new(
                ErrorKind::NoData,
                "what protected the datagram is known no more: the SAs of its peer are gone",
            ))),
            None => DatagramTag::Unknown(Unknown::Unlatched),
        };
        Ok((len, remote, tag))
    }

    fn flow(&self, remote: SocketAddr) -> FlowKey {
        FlowKey::new(protocol::UDP, self.local, remote)
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.gateway.at_once(|stack, _| stack.unbind(self.socket, self.local.port()));
    }
}

/// Whether the flow may begin with this datagram, so that what is required is judged there.
fn check(stack: &mut Stack, flow: &FlowKey, demands: Option<&Demands>) -> Result<bool> {
    match stack.latch(flow) {
        None | Some((LatchState::Larval, _)) => Ok(true),
        Some((LatchState::Established, class)) => {
            let met = |demands| class.is_some_and(|class| stack.tagging().meets(class, demands));
            if demands.is_none_or(met) {
                return Ok(false);
            }
            let said =
                format!("datagrams to {} do not have what is required, and none was sent", flow.remote());
            Err(Error::new(ErrorKind::Forbidden, said))
        }
        Some((state, _)) => {
            let said = format!("the latch with {} is {}: nothing passes", flow.remote(), state.name());
            Err(Error::new(ErrorKind::Suspended, said))
        }
    }
}

fn unsent(error: SendError, remote: SocketAddr) -> Error {
    match error {
        SendError::BufferFull => {
            Error::new(ErrorKind::Full, "datagrams wait to be sent already; send this one later")
        }
        SendError::Unaddressable => {
            Error::new(ErrorKind::Invalid, format!("nothing can be sent to {remote}; give address and port"))
        }
    }
}
