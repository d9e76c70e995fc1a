//! Readiness: up is a wish, and takes effect a moment later.

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr},
    thread,
    time::{Duration, Instant},
};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};

use super::Links;
use crate::{Error, Result};

impl Links {
    /// Waits until an interface that was set up can send, and can be found under each of its IPv6 addresses.
    ///
    /// A veth discards what it should send until a moment after both its ends are up. And an IPv6 address takes effect
    /// later than the kernel reports it: only then come its local route and its solicited-node group, and who asks
    /// for it before asks again only after a second (RFC 4861 §7.2.2).
    pub fn wait_ready(&self, name: &str, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let missing = self.missing(name)?;
            let Some(missing) = missing else { return Ok(()) };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let label = self.namespace().label();
                return Err(Error::Deadline(format!("{name} in {label} is not {missing} after {within:?}")));
            }
            thread::sleep(left.min(LOOK_AGAIN));
        }
    }

    /// What an interface is not yet, if anything.
    fn missing(&self, name: &str) -> Result<Option<String>> {
        let link = self.link(name)?;
        if !link.running {
            return Ok(Some("running".to_owned()));
        }
        // A TUN is asked for by nobody; and who waits for one may not enter the namespace any more.
        let groups = if link.resolves { self.groups(name)? } else { Vec::new() };
        for address in self.addresses(name)? {
            let IpAddr::V6(address) = address.addr() else { continue };
            let findable = !link.resolves || groups.contains(&solicited_node(address));
            if !findable || !self.is_local(address)? {
                return Ok(Some(format!("listening for {address}")));
            }
        }
        Ok(None)
    }

    /// Whether packets to an address are delivered within the namespace.
    fn is_local(&self, address: Ipv6Addr) -> Result<bool> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet6;
        request.header.destination_prefix_length = 128;
        request.attributes.push(RouteAttribute::Destination(RouteAddress::Inet6(address)));
        match self.query(|netlink| netlink.ask(RouteNetlinkMessage::GetRoute(request), 0)) {
            Ok(answers) => Ok(answers.iter().any(|answer| {
                matches!(answer, RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Local)
            })),
            Err(error) if error.kind() == io::ErrorKind::NetworkUnreachable => Ok(false),
            Err(source) => Err(self.refused(format!("looking up the route to {address}"), source)),
        }
    }

    /// The IPv6 multicast groups of an interface.
    fn groups(&self, name: &str) -> Result<Vec<Ipv6Addr>> {
        let table = self
            .namespace()
            .run(|| fs::read_to_string(GROUPS))?
            .map_err(|source| self.refused(format!("reading {GROUPS}"), source))?;
        let of_interface = table.lines().filter_map(|line| {
            let mut columns = line.split_whitespace().skip(1);
            columns.next().filter(|interface| *interface == name)?;
            u128::from_str_radix(columns.next()?, 16).ok().map(Ipv6Addr::from)
        });
        Ok(of_interface.collect())
    }
}

/// RFC 4291 §2.7.1.
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// Index, name and group per line, among others.
const GROUPS: &str = "/proc/thread-self/net/igmp6";

/// Joining a group gives no notice; so there is nothing to wait for but time.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
