//! The gateway's TUN and wire sockets as status output shows them, while the worker has them.

use std::sync::Arc;

use latchway_config::Listen;
use latchway_control::TunView;
use latchway_datapath::arrival::Carrier;
use latchway_datapath::drop::Direction;
use latchway_datapath::low::tun::TunQueue;
use latchway_datapath::low::wire::{Wire, WireCounters};
use latchway_netns::links::Links;
use latchway_netns::{Error, Namespace};
use nix::errno::Errno;

/// What is known of the TUN and the wire sockets without having them.
pub struct DevicesView {
    /// What they are bound to, by the number of the wire socket.
    pub listen: Vec<Listen>,
    tun: String,
    backend: String,
    links: Option<Links>,
    wires: Vec<Arc<WireCounters>>,
}

impl DevicesView {
    /// Of these, the TUN being in the namespace `inner`. Where its links cannot be asked, the TUN's state is not known.
    pub fn of(inner: &Namespace, tun: &TunQueue, wires: &[Wire]) -> Self {
        Self {
            listen: wires.iter().map(listen).collect(),
            tun: tun.name().into(),
            backend: tun.backend().to_string(),
            links: Links::of(inner).ok(),
            wires: wires.iter().map(|wire| Arc::clone(wire.counters())).collect(),
        }
    }

    /// Of a gateway that has none of them, in tests.
    #[cfg(test)]
    pub fn absent(listen: Vec<Listen>) -> Self {
        Self { listen, tun: "absent".into(), backend: "none".into(), links: None, wires: Vec::new() }
    }

    /// The TUN as it is now.
    pub fn tun(&self) -> TunView {
        let link = self.links.as_ref().map(|links| links.link(&self.tun));
        let (mtu, up) = match link {
            Some(Ok(link)) => (Some(link.mtu), Some(link.up)),
            Some(Err(error)) if is_gone(&error) => (None, Some(false)),
            Some(Err(_)) | None => (None, None),
        };
        TunView { name: self.tun.clone(), backend: self.backend.clone(), mtu, up }
    }

    /// Datagrams on the wire, and octets of their payload.
    pub fn on_wire(&self, direction: Direction) -> (u64, u64) {
        let of = |wire: &WireCounters| match direction {
            Direction::Inbound => (wire.received_datagrams.get(), wire.received_octets.get()),
            Direction::Outbound => (wire.sent_datagrams.get(), wire.sent_octets.get()),
        };
        self.wires.iter().map(|wire| of(wire)).fold((0, 0), |(datagrams, octets), (more, long)| {
            (datagrams.saturating_add(more), octets.saturating_add(long))
        })
    }
}

fn is_gone(error: &Error) -> bool {
    error.raw_os_error() == Some(Errno::ENODEV as i32)
}

/// What a wire socket is bound to.
fn listen(wire: &Wire) -> Listen {
    match wire.carrier() {
        Carrier::Udp => Listen::Udp(wire.local_addr()),
        Carrier::Native => Listen::Native(wire.local_addr().ip()),
    }
}
