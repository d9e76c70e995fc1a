//! Where a process's sockets are: behind the gateway, or elsewhere.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use latchway_control::{StatusView, call};
use latchway_guard::Room;
use latchway_netns::sockets::{self, InetSocket};
use latchway_netns::{Links, Namespace};

use crate::cli::failure::Failure;
use crate::cli::prove::sockets::Process;
use crate::client::Client;

/// The namespaces that a process's sockets may be in, and what is in them.
pub struct Surroundings {
    places: Vec<Place>,
}

/// One namespace.
pub struct Place {
    /// Its sockets, by their inodes.
    sockets: HashMap<u64, InetSocket>,
    addresses: Vec<IpAddr>,
    behind: Behind,
}

/// Whether what leaves a namespace crosses the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// There is no other way out.
    Wholly,
    /// There are other ways out: only what has one of these addresses, those of the TUN, is the gateway's for certain.
    By(Vec<IpAddr>),
    /// It is not the gateway's.
    Not,
}

impl Surroundings {
    /// The gateway's inner namespace and that of the process.
    ///
    /// # Errors
    /// A namespace cannot be looked into.
    pub fn of(client: &mut Client, process: &Process) -> Result<Self, Failure> {
        let status = client.call(&call::Status {})?;
        let own = || PathBuf::from(format!("/proc/{}/ns/net", status.pid));
        let inner =
            Namespace::from_path(status.inner.clone().map_or_else(own, PathBuf::from)).map_err(unseen)?;
        let theirs = process.namespace()?;
        let mut places = vec![Place::look(&inner, behind(&inner, &status)?)?];
        if !theirs.is_same(&inner) {
            let room = Room::is_one(&theirs, &inner).map_err(unseen)?;
            places.push(Place::look(&theirs, if room { Behind::Wholly } else { Behind::Not })?);
        }
        Ok(Self { places })
    }

    /// The socket of this inode, and where it is.
    pub fn socket(&self, inode: u64) -> Option<(&Place, InetSocket)> {
        self.places.iter().find_map(|place| place.sockets.get(&inode).map(|socket| (place, *socket)))
    }
}

impl Place {
    fn look(namespace: &Namespace, behind: Behind) -> Result<Self, Failure> {
        let sockets = sockets::of(namespace).map_err(unseen)?;
        let sockets = sockets.into_iter().map(|socket| (socket.inode, socket)).collect();
        Ok(Self { sockets, addresses: addresses(namespace)?, behind })
    }

    /// Whether an address is one of the namespace's own, so that what goes there stays in it.
    pub fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }

    /// Whether what a socket with this local end sends, and what comes to it, crosses the gateway.
    pub fn is_behind(&self, local: SocketAddr) -> bool {
        match &self.behind {
            Behind::Wholly => true,
            Behind::By(addresses) => addresses.contains(&local.ip()),
            Behind::Not => false,
        }
    }
}

/// What of the inner namespace crosses the gateway: all of it, where there is no other interface.
fn behind(inner: &Namespace, status: &StatusView) -> Result<Behind, Failure> {
    let links = Links::of(inner).map_err(unseen)?;
    let tun = status.tun.name.as_str();
    let leads_out = |name: &str| name != "lo" && name != tun && !Room::is_door(name);
    if !links.all().map_err(unseen)?.iter().any(|link| link.up && leads_out(&link.name)) {
        return Ok(Behind::Wholly);
    }
    let addresses = links.addresses(tun).map_err(unseen)?;
    Ok(Behind::By(addresses.iter().map(ipnet::IpNet::addr).collect()))
}

fn addresses(namespace: &Namespace) -> Result<Vec<IpAddr>, Failure> {
    let links = Links::of(namespace).map_err(unseen)?;
    let all = links.all().map_err(unseen)?;
    // An interface that went meanwhile has none.
    let each = all.iter().map(|link| links.addresses(&link.name).unwrap_or_default());
    Ok(each.flatten().map(|address| address.addr()).collect())
}

fn unseen(error: impl std::fmt::Display) -> Failure {
    Failure::new(error, "run it as root, on the host of the gateway")
}
