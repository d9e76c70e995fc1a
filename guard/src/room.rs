//! Rooms: namespaces for a program each, whose only way out is the gateway.
//!
//! A room has a loopback interface and `eth0`, which leads into the gateway's inner namespace; that forwards between
//! rooms and the TUN only, so that everything a program in a room sends to the outside of it is protected or dropped, what
//! it sends to another room included. From an address that is not the room's nothing is forwarded. A room is held by a descriptor and by the processes in it. With the last of them it is
//! gone, and with it its interfaces, addresses and routes: there is nothing to clean up, whoever was killed.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::{Child, Command},
    time::Duration,
};

use ipnet::IpNet;
use latchway_netns::{Error, Links, Namespace, links, links::Family, sysctl};

use crate::{
    GuardError, ROUTE_METRIC, Result, SettingChange,
    setting::set,
    steering::{Steering, everything, family, forget_doors},
};

/// A namespace whose only way out is the gateway.
#[derive(Debug)]
pub struct Room {
    namespace: Namespace,
    door: u32,
    addresses: Vec<IpAddr>,
    changes: Vec<SettingChange>,
}

impl Room {
    /// Makes a room behind the TUN of an inner namespace, with the next free address of each prefix (of an IP version
    /// without a prefix, it has none). The inner namespace has no interface that leads anywhere but to the TUN and rooms.
    pub fn make(inner: &Namespace, tun: &str, prefixes: &[IpNet]) -> Result<Self> {
        let (links, namespace) = (Links::of(inner)?, Namespace::create("room")?);
        let mtu = links.link(tun)?.mtu;
        refuse_others(&links, tun)?;
        // Inodes are the kernel's own numbering of namespaces: unique while the namespace is there.
        let ours = format!("{PREFIX}{}", namespace.identity()?.1);
        forget_doors(&links, &ours)?;
        links::veth(inner, &ours, &namespace, THEIRS)?;
        let inside = Links::of(&namespace)?;
        for (links, name) in [(&links, ours.as_str()), (&inside, THEIRS)] {
            links.quiet_ipv6(name)?;
            links.set_mtu(name, mtu)?;
            links.set_up(name)?;
        }
        let changes = forward(inner, &links, (tun, &ours), prefixes)?;
        let mut room = Self { namespace, door: links.index(&ours)?, addresses: Vec::new(), changes };
        for prefix in prefixes {
            let address = claim(&links, &ours, *prefix)?;
            Steering { tun, family: family(prefix) }.hold(&links, &ours, address)?;
            inside.add_address(THEIRS, IpNet::from(address))?;
            room.addresses.push(address);
        }
        room.lead_out(&inside, (&links, &ours))?;
        inside.wait_ready(THEIRS, READY_WITHIN)?;
        links.wait_ready(&ours, READY_WITHIN)?;
        Ok(room)
    }

    /// The namespace, for whoever starts something in it by other means.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Whether an interface of an inner namespace leads into a room, by its name.
    pub fn is_door(name: &str) -> bool {
        name.starts_with(PREFIX)
    }

    /// Whether a namespace is a room of this inner namespace, with no other way out.
    pub fn is_one(namespace: &Namespace, inner: &Namespace) -> Result<bool> {
        let ours = format!("{PREFIX}{}", namespace.identity()?.1);
        if !Links::of(inner)?.exists(&ours)? {
            return Ok(false);
        }
        let inside = Links::of(namespace)?.all()?;
        Ok(inside.iter().all(|link| !link.up || link.name == "lo" || link.name == THEIRS))
    }

    /// The number of the interface that leads into the room, in the inner namespace. It is never another's.
    pub const fn door(&self) -> u32 {
        self.door
    }

    /// The room's addresses, in the order of the prefixes. From others nothing leaves it.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The settings of the inner namespace that had to be changed for it to forward.
    pub fn changes(&self) -> &[SettingChange] {
        &self.changes
    }

    /// Starts a command in the room. The room lasts until it and all that it started have ended.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_owned();
        let started = self.namespace.run(|| command.spawn())?;
        let attempt = || format!("starting {}", program.to_string_lossy());
        Ok(started.map_err(|source| Error::refused(attempt(), source))?)
    }

    /// Moves the calling thread into the room, for one that is to become the command
    /// ([`CommandExt::exec`](std::os::unix::process::CommandExt::exec)).
    pub fn enter(&self) -> Result<()> {
        Ok(self.namespace.enter_on_this_thread()?)
    }

    /// The default routes of the room, by way of the inner namespace's end.
    fn lead_out(&self, inside: &Links, (links, ours): (&Links, &str)) -> Result<()> {
        for address in &self.addresses {
            let version = family(&IpNet::from(*address));
            let gateway = match version {
                Family::V4 => {
                    links.add_address(ours, IpNet::from(GATEWAY)).or_else(there_already)?;
                    inside.add_route(IpNet::from(GATEWAY), None, THEIRS, ROUTE_METRIC)?;
                    GATEWAY
                }
                Family::V6 => link_local(links, ours)?,
            };
            inside.add_route(everything(version), Some(gateway), THEIRS, ROUTE_METRIC)?;
        }
        Ok(())
    }
}

/// Lets the inner namespace forward, between this room and the TUN and nowhere else.
fn forward(
    inner: &Namespace,
    links: &Links,
    (tun, ours): (&str, &str),
    prefixes: &[IpNet],
) -> Result<Vec<SettingChange>> {
    let mut changes = Vec::new();
    for version in [Family::V4, Family::V6] {
        if !prefixes.iter().any(|prefix| family(prefix) == version) {
            continue;
        }
        Steering { tun, family: version }.install(links, &[everything(version)])?;
        match version {
            Family::V4 => {
                set(inner, format!("net/ipv4/conf/{tun}/forwarding"), "1", &mut changes)?;
                sysctl::write(inner, &format!("net/ipv4/conf/{ours}/forwarding"), "1")?;
            }
            Family::V6 => set(inner, "net/ipv6/conf/all/forwarding".to_owned(), "1", &mut changes)?,
        }
    }
    Ok(changes)
}

/// Refuses an inner namespace with other ways out: it would forward from there into the TUN.
fn refuse_others(links: &Links, tun: &str) -> Result<()> {
    let ours = |name: &str| name == "lo" || name == tun || Room::is_door(name);
    let Some(other) = links.all()?.into_iter().find(|link| link.up && !ours(&link.name)) else {
        return Ok(());
    };
    Err(GuardError::Invalid(format!(
        "the inner namespace {} has the interface {} besides the TUN: rooms take an inner namespace of its own",
        links.namespace().label(),
        other.name
    )))
}

/// Takes the next free address of a prefix: by a route to it, which only one room can have.
fn claim(links: &Links, ours: &str, prefix: IpNet) -> Result<IpAddr> {
    let own: Vec<IpAddr> = addresses(links)?;
    let taken: Vec<IpNet> = links.routes()?.into_iter().map(|route| route.destination).collect();
    // RFC 4291 section 2.6.1: the first IPv6 address of a prefix is that of any router of it.
    let hosts = prefix
        .hosts()
        .filter(|host| host.is_ipv4() || prefix.prefix_len() >= 127 || *host != prefix.network());
    for address in hosts.take(MOST_ADDRESSES) {
        if own.contains(&address) || taken.contains(&IpNet::from(address)) {
            continue;
        }
        match links.add_route(IpNet::from(address), None, ours, ROUTE_METRIC) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            added => return Ok(added.map(|()| address)?),
        }
    }
    Err(GuardError::Invalid(format!(
        "no address of {prefix} is free: end a program in a room, or give a larger prefix"
    )))
}

fn addresses(links: &Links) -> Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for link in links.all()? {
        // A room may go while it is looked at.
        let found = links.addresses(&link.name).unwrap_or_default();
        addresses.extend(found.into_iter().map(|address| address.addr()));
    }
    Ok(addresses)
}

fn link_local(links: &Links, name: &str) -> Result<IpAddr> {
    let found = links.addresses(name)?.into_iter().map(|address| address.addr());
    let local =
        found.into_iter().find(|address| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()));
    let none = || GuardError::Invalid(format!("{name} has no IPv6 address: is IPv6 disabled there?"));
    local.ok_or_else(none)
}

fn there_already(error: Error) -> latchway_netns::Result<()> {
    if error.raw_os_error() == Some(libc::EEXIST) { Ok(()) } else { Err(error) }
}

/// The interface in a room.
const THEIRS: &str = "eth0";

/// What the names of the inner namespace's ends begin with.
const PREFIX: &str = "room";

/// The next hop of a room's IPv4: an address of one link (RFC 3927), the same on each.
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));

/// How many addresses of a prefix are tried, at most.
const MOST_ADDRESSES: usize = 65_536;

const READY_WITHIN: Duration = Duration::from_secs(5);
