//! Routes, of the main table unless another is named.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::{Links, address::family};
use crate::{Error, Result};

/// A route that the kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub destination: IpNet,
    /// The lowest metric is preferred. IPv6 routes that were given none have 1024.
    pub metric: u32,
    /// The routing table it is in.
    pub table: u32,
    /// What becomes of the packets.
    pub way: Way,
}

/// What a route does with packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Sends them through the interface of this index, by way of a next hop or directly.
    Through {
        /// Interface index.
        device: u32,
        /// The next hop, where there is one.
        via: Option<IpAddr>,
    },
    /// Discards them silently.
    Blackhole,
    /// Anything else, such as local delivery, several next hops, or an answer that there is no way.
    Other,
}

impl Links {
    /// Adds a route through an interface, by way of a next hop or directly. A lower metric is preferred. The very same route
    /// may be there already; another to the same destination with the same metric is an error.
    pub fn add_route(
        &self,
        destination: IpNet,
        via: Option<IpAddr>,
        device: &str,
        metric: u32,
    ) -> Result<()> {
        let way = Way::Through { device: self.index(device)?, via };
        let route = Route { destination: destination.trunc(), metric, table: MAIN, way };
        let attempt = || format!("adding the route {}", description(destination, via, device, metric));
        let message = RouteNetlinkMessage::NewRoute(route.message()?);
        self.or_there_already(self.change(message, NLM_F_CREATE | NLM_F_EXCL, attempt), &route)
    }

    /// Deletes a route that [`add_route`](Self::add_route) made.
    pub fn delete_route(
        &self,
        destination: IpNet,
        via: Option<IpAddr>,
        device: &str,
        metric: u32,
    ) -> Result<()> {
        let way = Way::Through { device: self.index(device)?, via };
        let route = Route { destination: destination.trunc(), metric, table: MAIN, way };
        let attempt = || format!("deleting the route {}", description(destination, via, device, metric));
        self.change(RouteNetlinkMessage::DelRoute(route.message()?), 0, attempt)
    }

    /// Adds a route that discards silently: with a worse metric it takes over when the real one goes away. It stays until it
    /// is deleted, whatever becomes of this process, and may be there already.
    pub fn add_blackhole(&self, destination: IpNet, metric: u32) -> Result<()> {
        self.add(&Route { destination: destination.trunc(), metric, table: MAIN, way: Way::Blackhole })
    }

    /// Deletes a route that [`add_blackhole`](Self::add_blackhole) made.
    pub fn delete_blackhole(&self, destination: IpNet, metric: u32) -> Result<()> {
        let route = Route { destination: destination.trunc(), metric, table: MAIN, way: Way::Blackhole };
        let attempt = || format!("deleting the route {route}");
        self.change(RouteNetlinkMessage::DelRoute(route.message()?), 0, attempt)
    }

    /// Adds a route to whatever table it names. The very same route may be there already; another to the same destination with
    /// the same metric is an error, as is one [otherwise](Way::Other) than can be said here.
    pub fn add(&self, route: &Route) -> Result<()> {
        let attempt = || format!("adding the route {route}");
        let message = RouteNetlinkMessage::NewRoute(route.message()?);
        self.or_there_already(self.change(message, NLM_F_CREATE | NLM_F_EXCL, attempt), route)
    }

    /// Deletes a route that [`add`](Self::add) made, if it is there.
    pub fn remove(&self, route: &Route) -> Result<()> {
        let attempt = || format!("deleting the route {route}");
        match self.change(RouteNetlinkMessage::DelRoute(route.message()?), 0, attempt) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            removed => removed,
        }
    }

    /// All routes of the namespace, of every table.
    pub fn routes(&self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let answers = self
                .query(|netlink| netlink.dump(RouteNetlinkMessage::GetRoute(request)))
                .map_err(|source| self.refused("listing the routes".to_owned(), source))?;
            routes.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => Route::of(&message),
                _ => None,
            }));
        }
        Ok(routes)
    }

    /// Lets EEXIST pass if what is there is what was wanted: the kernel compares destination and metric only.
    fn or_there_already(&self, added: Result<()>, wanted: &Route) -> Result<()> {
        let Err(Error::Refused { attempt, source }) = added else { return added };
        if source.raw_os_error() != Some(libc::EEXIST) {
            return Err(Error::Refused { attempt, source });
        }
        // IPv6 has no metric 0.
        let metric =
            if wanted.metric == 0 && wanted.destination.addr().is_ipv6() { 1024 } else { wanted.metric };
        let wanted = Route { metric, ..wanted.clone() };
        if self.routes()?.contains(&wanted) {
            return Ok(());
        }
        let advice = "Another route has this destination and metric: delete it, or choose another metric.";
        Err(Error::advised(attempt, source, advice))
    }
}

impl Route {
    fn message(&self) -> Result<RouteMessage> {
        let (destination, mut message) = (self.destination, RouteMessage::default());
        message.header.address_family = family(destination.addr());
        message.header.destination_prefix_length = destination.prefix_len();
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.attributes.push(RouteAttribute::Destination(destination.network().into()));
        message.attributes.push(RouteAttribute::Priority(self.metric));
        message.attributes.push(RouteAttribute::Table(self.table));
        match self.way {
            Way::Blackhole => message.header.kind = RouteType::BlackHole,
            Way::Through { device, via } => {
                message.header.kind = RouteType::Unicast;
                if via.is_none() && destination.addr().is_ipv4() {
                    message.header.scope = RouteScope::Link;
                }
                message.attributes.push(RouteAttribute::Oif(device));
                message.attributes.extend(via.map(|next_hop| RouteAttribute::Gateway(next_hop.into())));
            }
            Way::Other => return Err(Error::Malformed(format!("the route {self} cannot be said"))),
        }
        Ok(message)
    }

    fn of(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let any: IpAddr = match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let (mut address, mut metric, mut table) = (any, 0, u32::from(header.table));
        let (mut device, mut via, mut several) = (None, None, false);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(found)) => address = (*found).into(),
                RouteAttribute::Destination(RouteAddress::Inet6(found)) => address = (*found).into(),
                RouteAttribute::Priority(found) => metric = *found,
                RouteAttribute::Table(found) => table = *found,
                RouteAttribute::Oif(found) => device = Some(*found),
                RouteAttribute::Gateway(RouteAddress::Inet(found)) => via = Some((*found).into()),
                RouteAttribute::Gateway(RouteAddress::Inet6(found)) => via = Some((*found).into()),
                RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => several = true,
                _ => {}
            }
        }
        let way = match (header.kind, device) {
            (RouteType::BlackHole, _) => Way::Blackhole,
            (RouteType::Unicast, Some(device)) if !several => Way::Through { device, via },
            _ => Way::Other,
        };
        let destination = IpNet::new(address, header.destination_prefix_length).ok()?;
        Some(Self { destination, metric, table, way })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { destination, metric, table, way } = self;
        match way {
            Way::Blackhole => write!(f, "blackhole {destination}")?,
            Way::Through { device, via: None } => write!(f, "{destination} interface {device}")?,
            Way::Through { device, via: Some(via) } => {
                write!(f, "{destination} via {via} interface {device}")?
            }
            Way::Other => write!(f, "{destination} otherwise")?,
        }
        write!(f, " metric {metric}")?;
        if *table == MAIN { Ok(()) } else { write!(f, " table {table}") }
    }
}

fn description(destination: IpNet, via: Option<IpAddr>, device: &str, metric: u32) -> String {
    let next_hop = via.map(|address| format!(" via {address}")).unwrap_or_default();
    format!("{destination}{next_hop} dev {device} metric {metric}")
}

/// The main table's number.
pub const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;
