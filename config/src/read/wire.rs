//! Where protected packets are received, and sent from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::peer::Peers;
use crate::document::{Entry, Problems, Scope};
use crate::model::Listen;
use crate::model::NATIVE;
use crate::problem::quote;
use crate::reference::root;
use crate::value;

/// The addresses of the wire sockets, where the file says some and all of them are right.
pub fn listen(file: &Scope<'_>, problems: &mut Problems<'_>) -> Said {
    let Some(entry) = file.entry(&root::LISTEN) else { return Said::Default };
    let (before, mut listen) = (problems.errors(), Vec::<Listen>::new());
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
        return Said::Wrong;
    }
    for item in &items {
        let Some(address) = address(item, problems) else { continue };
        if let Some(other) = listen.iter().find(|other| collide(other, &address)) {
            let message =
                format!("{} takes the same packets as {other}", quote(item.as_text().unwrap_or_default()));
            item.error(problems, message, "remove one of them");
        }
        listen.push(address);
    }
    if problems.errors() == before { Said::Named(listen) } else { Said::Wrong }
}

/// An address that is listened on, in UDP or without.
fn address(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Listen> {
    let Some(text) = entry.as_text().and_then(|text| text.strip_prefix(NATIVE)) else {
        return value::endpoint(entry, problems).map(Listen::Udp);
    };
    let address = text.parse().ok().filter(value::is_unicast);
    if address.is_none() {
        let hint = format!("write for example \"{NATIVE}192.0.2.1\": protocols 50 and 51 have no ports");
        entry.error(problems, format!("{} is no address of ours", quote(text)), hint);
    }
    address.map(Listen::Native)
}

/// What the file says of listening.
pub enum Said {
    /// Nothing.
    Default,
    /// These.
    Named(Vec<Listen>),
    /// What is a problem.
    Wrong,
}

/// Why there is nothing to send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSource {
    /// The address is none that is listened on.
    Nowhere,
    /// It is of another family than the peer's.
    Family,
    /// It is listened on, and not for such packets.
    Carrier,
}

impl Said {
    /// The addresses, or every address of the families that peers have.
    pub fn or_every(self, peers: &Peers) -> Vec<Listen> {
        if let Self::Named(listen) = self {
            return listen;
        }
        let has = |v4: bool| peers.endpoints().any(|endpoint| endpoint.is_ipv4() == v4);
        let v6 = has(false).then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let v4 = (has(true) || v6.is_none()).then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        v4.into_iter().chain(v6).map(|address| Listen::Udp(SocketAddr::new(address, PORT))).collect()
    }

    /// Whether some address has the family of `endpoint`, as far as is known.
    pub fn reaches(&self, endpoint: &SocketAddr) -> bool {
        match self {
            Self::Named(listen) => listen.iter().any(|address| address.is_ipv4() == endpoint.is_ipv4()),
            Self::Default | Self::Wrong => true,
        }
    }

    /// The address that is sent from: without UDP or in it, of a family, and the one that is wanted, if one is. `None` where
    /// that is not known.
    ///
    /// # Errors
    /// [`NoSource`]
    pub fn source(
        &self,
        (native, v4): (bool, bool),
        from: Option<IpAddr>,
    ) -> Result<Option<IpAddr>, NoSource> {
        if from.is_some_and(|from| from.is_ipv4() != v4) {
            return Err(NoSource::Family);
        }
        let listen = match self {
            Self::Wrong => return Ok(None),
            Self::Default if native => return Err(NoSource::Carrier),
            Self::Default if from.is_some() => return Err(NoSource::Nowhere),
            Self::Default if v4 => return Ok(Some(Ipv4Addr::UNSPECIFIED.into())),
            Self::Default => return Ok(Some(Ipv6Addr::UNSPECIFIED.into())),
            Self::Named(listen) => listen,
        };
        let at = |listen: &&Listen| from.is_none_or(|from| listen.ip() == from) && listen.is_ipv4() == v4;
        let carries = |listen: &&Listen| at(listen) && listen.is_native() == native;
        match listen.iter().find(carries) {
            Some(listen) => Ok(Some(listen.ip())),
            None if listen.iter().any(|listen| at(&listen)) => Err(NoSource::Carrier),
            // That the peer's family is not listened on at all is said of its endpoint.
            None if from.is_none() => Ok(None),
            None => Err(NoSource::Nowhere),
        }
    }
}

/// Whether the kernel lets one socket alone have both.
fn collide(a: &Listen, b: &Listen) -> bool {
    let every = a.ip().is_unspecified() || b.ip().is_unspecified();
    let same = match (a, b) {
        (Listen::Udp(a), Listen::Udp(b)) => a.port() == b.port(),
        (Listen::Native(_), Listen::Native(_)) => true,
        _ => false,
    };
    same && a.is_ipv4() == b.is_ipv4() && (every || a.ip() == b.ip())
}

/// As many wire sockets as a worker has.
const MOST: usize = 16;
/// RFC 3948 section 2.1.
const PORT: u16 = 4500;
