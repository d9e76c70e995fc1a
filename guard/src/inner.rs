//! The inner side: the TUN's settings, addresses and routes, in the order that leaves no gap (T13).
//!
//! First the blackholes, so that a packet for a protected prefix has nowhere else to go; then the TUN, quiet and down;
//! then it is set up; its routes come last. A TUN that survived from the last run is brought to the same state, and one
//! that is in that state already is not touched: then no privilege is needed, as with one that was made beforehand.

use std::{fmt, time::Duration};

use ipnet::IpNet;
use latchway_netns::{
    Links, Namespace,
    links::{Link, MAIN, Route, Way},
};

use crate::{Blackholes, GuardError, ROUTE_METRIC, Result};

/// What the inner namespace is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InnerSide {
    /// The TUN's name.
    pub tun: String,
    /// The TUN's addresses, each with the prefix of its subnet.
    pub addresses: Vec<IpNet>,
    /// The TUN's MTU.
    pub mtu: u32,
    /// How many packets may wait for the gateway ([`QUEUE`] unless there is a reason).
    pub queue: u32,
    /// The largest super-packet that the TUN is handed.
    pub gso_max_size: u32,
    /// The protected prefixes: each gets a route into the TUN, and a blackhole behind it.
    pub routes: Vec<IpNet>,
}

/// Something that the inner side is to have and has not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// The blackhole of a protected prefix.
    Blackhole(IpNet),
    /// The TUN itself.
    Tun,
    /// A setting of the TUN.
    Setting(&'static str),
    /// Silence: the kernel may send packets of its own on the TUN.
    Quiet,
    /// An address of the TUN.
    Address(IpNet),
    /// The TUN has an address that it is not to have.
    NoAddress(IpNet),
    /// The TUN is down.
    Up,
    /// The route of a protected prefix into the TUN.
    Route(IpNet),
}

impl InnerSide {
    /// Brings the namespace to this state. The TUN exists and this process has it open, or it could not send. Says what had
    /// been missing; where nothing was, nothing is changed.
    pub fn prepare(&self, inner: &Namespace) -> Result<Vec<Missing>> {
        let (links, missing) = (Links::of(inner)?, self.missing(inner)?);
        self.blackholes().install(&links)?;
        if missing.contains(&Missing::Quiet) {
            links.set_down(&self.tun)?;
            links.quiet_ipv6(&self.tun)?;
        }
        self.bring_about(&links, &missing)?;
        Ok(missing)
    }

    /// What of this state is missing, found without changing anything and without privilege.
    pub fn missing(&self, inner: &Namespace) -> Result<Vec<Missing>> {
        let links = Links::of(inner)?;
        let mut missing = self.lacking(&links)?;
        if !missing.contains(&Missing::Tun) && !links.is_quiet_ipv6(&self.tun)? {
            missing.push(Missing::Quiet);
        }
        Ok(missing)
    }

    /// What is missing, silence aside: found without entering the namespace.
    pub(crate) fn lacking(&self, links: &Links) -> Result<Vec<Missing>> {
        let mut missing: Vec<Missing> =
            self.blackholes().missing(links)?.into_iter().map(Missing::Blackhole).collect();
        match self.lacking_of_tun(links) {
            // Also one that goes away between two looks.
            Err(GuardError::Network(error)) if error.raw_os_error() == Some(libc::ENODEV) => {
                missing.push(Missing::Tun);
            }
            found => missing.extend(found?),
        }
        Ok(missing)
    }

    fn lacking_of_tun(&self, links: &Links) -> Result<Vec<Missing>> {
        let link = links.link(&self.tun)?;
        let mut missing: Vec<Missing> = self.settings(&link).collect();
        let present = links.addresses(&self.tun)?;
        let absent = self.addresses.iter().filter(|address| !present.contains(address));
        missing.extend(absent.copied().map(Missing::Address));
        let foreign = present.iter().filter(|address| !self.addresses.contains(address));
        missing.extend(foreign.copied().map(Missing::NoAddress));
        if !link.up {
            missing.push(Missing::Up);
        }
        let routes = links.routes()?;
        let absent = self.routes.iter().filter(|route| !routes.contains(&self.route(**route, &link)));
        missing.extend(absent.copied().map(Missing::Route));
        Ok(missing)
    }

    /// Brings about what is missing, silence aside: without entering the namespace.
    pub(crate) fn bring_about(&self, links: &Links, missing: &[Missing]) -> Result<()> {
        self.blackholes().install(links)?;
        if missing.iter().any(Missing::of_interface) {
            self.configure(links)?;
        }
        for &route in &self.routes {
            links.add_route(route, None, &self.tun, ROUTE_METRIC)?;
        }
        Ok(())
    }

    /// The blackholes behind the routes.
    pub fn blackholes(&self) -> Blackholes {
        Blackholes::new(self.routes.iter().copied())
    }

    /// Everything about the interface, from down to up.
    fn configure(&self, links: &Links) -> Result<()> {
        let tun = &self.tun;
        links.set_down(tun)?;
        links.set_mtu(tun, self.mtu)?;
        links.set_queue(tun, self.queue)?;
        links.set_gso_max_size(tun, self.gso_max_size)?;
        let present = links.addresses(tun)?;
        for &address in present.iter().filter(|address| !self.addresses.contains(address)) {
            links.delete_address(tun, address)?;
        }
        links.set_up(tun)?;
        // An IPv6 address that is added while the interface is down has no route of its own afterwards.
        for &address in self.addresses.iter().filter(|address| !present.contains(address)) {
            links.add_address(tun, address)?;
        }
        Ok(links.wait_ready(tun, READY_WITHIN)?)
    }

    fn settings(&self, link: &Link) -> impl Iterator<Item = Missing> {
        let gso = Some(self.gso_max_size);
        [
            (link.mtu == self.mtu, "MTU"),
            (link.queue == self.queue, "queue length"),
            (link.gso_max_size == gso && link.gso_ipv4_max_size == gso, "largest super-packet"),
        ]
        .into_iter()
        .filter(|(as_wanted, _)| !as_wanted)
        .map(|(_, name)| Missing::Setting(name))
    }

    fn route(&self, destination: IpNet, link: &Link) -> Route {
        let way = Way::Through { device: link.index, via: None };
        Route { destination: destination.trunc(), metric: ROUTE_METRIC, table: MAIN, way }
    }
}

impl Missing {
    /// Whether it takes the interface down to bring it about.
    fn of_interface(&self) -> bool {
        !matches!(self, Self::Blackhole(_) | Self::Route(_))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blackhole(prefix) => write!(f, "the blackhole route of {prefix}"),
            Self::Tun => f.write_str("the TUN"),
            Self::Setting(name) => write!(f, "the TUN's {name}"),
            Self::Quiet => f.write_str("silence of the kernel on the TUN"),
            Self::Address(address) => write!(f, "the TUN's address {address}"),
            Self::NoAddress(address) => write!(f, "the absence of {address} from the TUN"),
            Self::Up => f.write_str("the TUN being up"),
            Self::Route(prefix) => write!(f, "the route of {prefix} into the TUN"),
        }
    }
}

/// How many packets may wait in a TUN. The kernel's own 500 overflow above some 1 Gbit/s of packets while the gateway is at
/// work on a batch; this is a few milliseconds at 10 Gbit/s.
pub const QUEUE: u32 = 4_096;

const READY_WITHIN: Duration = Duration::from_secs(5);
