//! Where protected packets are received, and sent from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::peer::Peers;
use crate::document::{Problems, Scope};
use crate::problem::quote;
use crate::reference::root;
use crate::value;

/// The addresses of the wire sockets, where the file says some and all of them are right.
pub fn listen(file: &Scope<'_>, problems: &mut Problems<'_>) -> Listen {
    let Some(entry) = file.entry(&root::LISTEN) else { return Listen::Default };
    let (before, mut listen) = (problems.errors(), Vec::<SocketAddr>::new());
    let items = entry.items();
    if items.is_empty() {
        entry.error(problems, "is empty", "name an address, or remove it to listen on every address");
    }
    if items.len() > MOST {
        let message = format!("{} addresses are more than the {MOST} that a gateway serves", items.len());
        entry.error(
            problems,
            message,
            "listen on every address of a family: \"0.0.0.0:4500\" or \"[::]:4500\"",
        );
        return Listen::Wrong;
    }
    for item in &items {
        let Some(address) = value::endpoint(item, problems) else { continue };
        if let Some(other) = listen.iter().find(|other| collide(other, &address)) {
            let message =
                format!("{} takes the same packets as {other}", quote(item.as_text().unwrap_or_default()));
            item.error(problems, message, "remove one of them");
        }
        listen.push(address);
    }
    if problems.errors() == before { Listen::Named(listen) } else { Listen::Wrong }
}

/// What the file says of listening.
pub enum Listen {
    /// Nothing.
    Default,
    /// These.
    Named(Vec<SocketAddr>),
    /// What is a problem.
    Wrong,
}

impl Listen {
    /// The addresses, or every address of the families that peers have.
    pub fn or_every(self, peers: &Peers) -> Vec<SocketAddr> {
        if let Self::Named(listen) = self {
            return listen;
        }
        let has = |v4: bool| peers.endpoints().any(|endpoint| endpoint.is_ipv4() == v4);
        let v6 = has(false).then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let v4 = (has(true) || v6.is_none()).then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        v4.into_iter().chain(v6).map(|address| SocketAddr::new(address, PORT)).collect()
    }

    /// Whether some address has the family of `endpoint`, as far as is known.
    pub fn reaches(&self, endpoint: &SocketAddr) -> bool {
        match self {
            Self::Named(listen) => listen.iter().any(|address| address.is_ipv4() == endpoint.is_ipv4()),
            Self::Default | Self::Wrong => true,
        }
    }

    /// Whether `from` can be sent from, as far as is known.
    pub fn has(&self, from: &IpAddr) -> bool {
        match self {
            Self::Named(listen) => listen.iter().any(|address| address.ip() == *from),
            Self::Default => false,
            Self::Wrong => true,
        }
    }
}

/// Whether the kernel lets one socket alone have both.
fn collide(a: &SocketAddr, b: &SocketAddr) -> bool {
    let every = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && (every || a.ip() == b.ip())
}

/// As many wire sockets as a worker has.
const MOST: usize = 16;
/// RFC 3948 section 2.1.
const PORT: u16 = 4500;
