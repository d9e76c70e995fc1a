//! Routes of the main table.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::{Links, address::family};
use crate::Result;

impl Links {
    /// Adds a route through an interface, by way of a next hop or directly. A lower metric is preferred.
    pub fn add_route(
        &self,
        destination: IpNet,
        via: Option<IpAddr>,
        device: &str,
        metric: u32,
    ) -> Result<()> {
        let route = self.route(destination, via, device, metric)?;
        let attempt = || format!("adding the route {}", description(destination, via, device, metric));
        self.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL, attempt)
    }

    /// Deletes a route that [`add_route`](Self::add_route) made.
    pub fn delete_route(
        &self,
        destination: IpNet,
        via: Option<IpAddr>,
        device: &str,
        metric: u32,
    ) -> Result<()> {
        let route = self.route(destination, via, device, metric)?;
        let attempt = || format!("deleting the route {}", description(destination, via, device, metric));
        self.change(RouteNetlinkMessage::DelRoute(route), 0, attempt)
    }

    /// Adds a route that discards silently: with a worse metric it takes over when the real one goes away.
    pub fn add_blackhole(&self, destination: IpNet, metric: u32) -> Result<()> {
        let attempt = || format!("adding the blackhole {destination} metric {metric}");
        let route = RouteNetlinkMessage::NewRoute(blackhole(destination, metric));
        self.change(route, NLM_F_CREATE | NLM_F_EXCL, attempt)
    }

    /// Deletes a route that [`add_blackhole`](Self::add_blackhole) made.
    pub fn delete_blackhole(&self, destination: IpNet, metric: u32) -> Result<()> {
        let attempt = || format!("deleting the blackhole {destination} metric {metric}");
        self.change(RouteNetlinkMessage::DelRoute(blackhole(destination, metric)), 0, attempt)
    }

    fn route(
        &self,
        destination: IpNet,
        via: Option<IpAddr>,
        device: &str,
        metric: u32,
    ) -> Result<RouteMessage> {
        let mut message = to(destination, metric);
        message.header.kind = RouteType::Unicast;
        if via.is_none() && destination.addr().is_ipv4() {
            message.header.scope = RouteScope::Link;
        }
        message.attributes.push(RouteAttribute::Oif(self.index(device)?));
        message.attributes.extend(via.map(|next_hop| RouteAttribute::Gateway(next_hop.into())));
        Ok(message)
    }
}

fn blackhole(destination: IpNet, metric: u32) -> RouteMessage {
    let mut message = to(destination, metric);
    message.header.kind = RouteType::BlackHole;
    message
}

fn to(destination: IpNet, metric: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.attributes.push(RouteAttribute::Destination(destination.network().into()));
    message.attributes.push(RouteAttribute::Priority(metric));
    message
}

fn description(destination: IpNet, via: Option<IpAddr>, device: &str, metric: u32) -> String {
    let next_hop = via.map(|address| format!(" via {address}")).unwrap_or_default();
    format!("{destination}{next_hop} dev {device} metric {metric}")
}
