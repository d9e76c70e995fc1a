//! The links of one namespace: interfaces, their flags and sizes; addresses and routes follow in the submodules.

mod address;
mod quiet;
mod ready;
mod route;
mod rule;

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex, PoisonError},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

pub use self::{
    route::{MAIN, Route, Way},
    rule::{Family, Rule},
};
use crate::{Error, Namespace, Result, netlink::Netlink, packet::Mac};

/// A handle on the links of one namespace. It may be shared between threads; requests go one after the other.
#[derive(Debug)]
pub struct Links {
    namespace: Namespace,
    netlink: Socket,
}

/// A netlink socket that handles share.
pub(crate) type Socket = Arc<Mutex<Netlink<RouteNetlinkMessage>>>;

/// What the kernel says of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Administratively up (IFF_UP).
    pub up: bool,
    /// Up and with carrier (IFF_LOWER_UP); a TUN has it while a process has it open.
    pub carrier: bool,
    /// Up, with carrier, and able to send (IFF_RUNNING).
    pub running: bool,
    /// Carries multicast (IFF_MULTICAST).
    pub multicast: bool,
    /// Resolves neighbours (neither IFF_NOARP nor a loopback).
    pub resolves: bool,
    /// Maximum transmission unit.
    pub mtu: u32,
    /// How many packets may wait for the device.
    pub queue: u32,
    /// Largest super-packet handed to the device, IPv6.
    pub gso_max_size: Option<u32>,
    /// Largest super-packet handed to the device, IPv4.
    pub gso_ipv4_max_size: Option<u32>,
    /// Ethernet address, where it has one.
    pub mac: Option<Mac>,
}

/// Makes a pair of veth interfaces, one end in each namespace. Both are down.
pub fn veth(ns_a: &Namespace, name_a: &str, ns_b: &Namespace, name_b: &str) -> Result<()> {
    let mut peer = named(name_b);
    peer.attributes.push(LinkAttribute::NetNsFd(ns_b.as_fd().as_raw_fd()));
    let mut pair = named(name_a);
    let data = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)));
    pair.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), data]));
    let attempt =
        || format!("making the veth pair {name_a} in {} and {name_b} in {}", ns_a.label(), ns_b.label());
    Links::of(ns_a)?.change(RouteNetlinkMessage::NewLink(pair), NLM_F_CREATE | NLM_F_EXCL, attempt)
}

impl Links {
    /// Opens a handle on a namespace's links. The namespace keeps the socket, so that whoever was in there once needs no
    /// privilege to enter it again.
    pub fn of(namespace: &Namespace) -> Result<Self> {
        let netlink = match namespace.netlink().get() {
            Some(netlink) => Arc::clone(netlink),
            None => {
                let opened = Arc::new(Mutex::new(namespace.run(Netlink::open)??));
                Arc::clone(namespace.netlink().get_or_init(|| opened))
            }
        };
        Ok(Self { namespace: namespace.clone(), netlink })
    }

    /// The namespace whose links these are.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Sets an interface up. Until it is [ready](Self::wait_ready) it discards what it should send.
    pub fn set_up(&self, name: &str) -> Result<()> {
        self.set_flag(name, LinkFlags::Up, true)
    }

    /// Sets an interface down. The kernel then forgets its routes and, unless the setting `keep_addr_on_down` says
    /// otherwise, its IPv6 addresses.
    pub fn set_down(&self, name: &str) -> Result<()> {
        self.set_flag(name, LinkFlags::Up, false)
    }

    /// Lets an interface resolve neighbours, or not (IFF_NOARP).
    pub fn set_arp(&self, name: &str, resolves: bool) -> Result<()> {
        self.set_flag(name, LinkFlags::Noarp, !resolves)
    }

    /// Lets an interface carry multicast, or not (IFF_MULTICAST).
    pub fn set_multicast(&self, name: &str, carries: bool) -> Result<()> {
        self.set_flag(name, LinkFlags::Multicast, carries)
    }

    /// Sets the maximum transmission unit.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> Result<()> {
        self.set(name, vec![LinkAttribute::Mtu(mtu)], || format!("its MTU to {mtu}"))
    }

    /// Sets how many packets may wait for the device (txqueuelen); one that is full discards. For a TUN it is all the patience
    /// there is while its reader is busy.
    pub fn set_queue(&self, name: &str, packets: u32) -> Result<()> {
        self.set(name, vec![LinkAttribute::TxQueueLen(packets)], || format!("its queue to {packets}"))
    }

    /// Bounds the super-packets that the stack hands to an interface, both families.
    pub fn set_gso_max_size(&self, name: &str, bytes: u32) -> Result<()> {
        let both = vec![LinkAttribute::GsoMaxSize(bytes), LinkAttribute::GsoIpv4MaxSize(bytes)];
        self.set(name, both, || format!("its largest super-packet to {bytes}"))
    }

    /// Deletes an interface (for a veth: both ends).
    pub fn delete(&self, name: &str) -> Result<()> {
        self.change(RouteNetlinkMessage::DelLink(named(name)), 0, || format!("deleting {name}"))
    }

    /// An interface's index.
    pub fn index(&self, name: &str) -> Result<u32> {
        self.link(name).map(|link| link.index)
    }

    /// Whether an interface of this name exists.
    pub fn exists(&self, name: &str) -> Result<bool> {
        match self.link(name) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What the kernel says of an interface.
    pub fn link(&self, name: &str) -> Result<Link> {
        let answers = self.query(|netlink| netlink.ask(RouteNetlinkMessage::GetLink(named(name)), 0));
        let answers = answers.map_err(|source| self.refused(format!("looking up {name}"), source))?;
        let link = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(Link::from(message)),
            _ => None,
        });
        link.ok_or_else(|| Error::Malformed(format!("netlink acknowledged, but did not describe {name}")))
    }

    /// What the kernel says of all interfaces.
    pub fn all(&self) -> Result<Vec<Link>> {
        let answers = self
            .query(|netlink| netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())))
            .map_err(|source| self.refused("listing the interfaces".to_owned(), source))?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(Link::from(message)),
            _ => None,
        });
        Ok(links.collect())
    }

    /// An interface's Ethernet address.
    pub fn mac(&self, name: &str) -> Result<Mac> {
        let missing =
            || Error::Malformed(format!("{name} in {} has no Ethernet address", self.namespace.label()));
        self.link(name)?.mac.ok_or_else(missing)
    }

    fn set_flag(&self, name: &str, flag: LinkFlags, on: bool) -> Result<()> {
        let mut message = named(name);
        message.header.change_mask = flag;
        message.header.flags = if on { flag } else { LinkFlags::empty() };
        let attempt = || format!("{} the flag {flag} of {name}", if on { "setting" } else { "clearing" });
        self.change(RouteNetlinkMessage::SetLink(message), 0, attempt)
    }

    fn set(&self, name: &str, values: Vec<LinkAttribute>, what: impl FnOnce() -> String) -> Result<()> {
        let mut message = named(name);
        message.attributes.extend(values);
        self.change(RouteNetlinkMessage::SetLink(message), 0, || format!("setting {name}: {}", what()))
    }

    /// Asks for a change; `attempt` says what it was, should it fail.
    fn change(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
        attempt: impl FnOnce() -> String,
    ) -> Result<()> {
        self.query(|netlink| netlink.ask(request, flags))
            .map(|_| ())
            .map_err(|source| self.refused(attempt(), source))
    }

    fn query<T>(&self, work: impl FnOnce(&mut Netlink<RouteNetlinkMessage>) -> T) -> T {
        work(&mut self.netlink.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn refused(&self, attempt: String, source: io::Error) -> Error {
        Error::refused(format!("{attempt} in {}", self.namespace.label()), source)
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            running: flags.contains(LinkFlags::Running),
            multicast: flags.contains(LinkFlags::Multicast),
            resolves: !flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback),
            mtu: 0,
            queue: 0,
            gso_max_size: None,
            gso_ipv4_max_size: None,
            mac: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::TxQueueLen(packets) => link.queue = packets,
                LinkAttribute::GsoMaxSize(bytes) => link.gso_max_size = Some(bytes),
                LinkAttribute::GsoIpv4MaxSize(bytes) => link.gso_ipv4_max_size = Some(bytes),
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
                _ => {}
            }
        }
        link
    }
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}
