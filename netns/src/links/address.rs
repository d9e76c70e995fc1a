//! Addresses of interfaces, and the Ethernet addresses of their neighbours.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
};

use super::Links;
use crate::{Error, Result, packet::Mac};

impl Links {
    /// Gives an interface an address; an IPv6 one is usable at once, without duplicate address detection (RFC 4862 §5.4).
    pub fn add_address(&self, name: &str, address: IpNet) -> Result<()> {
        let message = self.address_message(name, address)?;
        let attempt = || format!("adding {address} to {name}");
        let added = self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL, attempt);
        match added {
            Err(Error::Refused { attempt, source })
                if address.addr().is_ipv6() && source.raw_os_error() == Some(libc::EACCES) =>
            {
                let advice = format!("Is IPv6 disabled there? sysctl -w net.ipv6.conf.{name}.disable_ipv6=0");
                Err(Error::advised(attempt, source, advice))
            }
            added => added,
        }
    }

    /// Takes an address away from an interface.
    pub fn delete_address(&self, name: &str, address: IpNet) -> Result<()> {
        let message = self.address_message(name, address)?;
        self.change(RouteNetlinkMessage::DelAddress(message), 0, || format!("deleting {address} from {name}"))
    }

    /// The addresses of an interface, those that the kernel made itself included.
    pub fn addresses(&self, name: &str) -> Result<Vec<IpNet>> {
        let index = self.index(name)?;
        let answers = self
            .query(|netlink| netlink.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default())))
            .map_err(|source| self.refused(format!("listing the addresses of {name}"), source))?;
        let of_interface = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) if message.header.index == index => prefix_of(&message),
            _ => None,
        });
        Ok(of_interface.collect())
    }

    /// The Ethernet address that the kernel has resolved for a neighbour on an interface, if it has.
    pub fn neighbour(&self, name: &str, address: IpAddr) -> Result<Option<Mac>> {
        let index = self.index(name)?;
        let mut request = NeighbourMessage::default();
        request.header.family = family(address);
        let answers = self
            .query(|netlink| netlink.dump(RouteNetlinkMessage::GetNeighbour(request)))
            .map_err(|source| self.refused(format!("listing the neighbours of {name}"), source))?;
        let found = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(entry) if entry.header.ifindex == index => {
                mac_of(&entry, address)
            }
            _ => None,
        });
        Ok(found)
    }

    fn address_message(&self, name: &str, address: IpNet) -> Result<AddressMessage> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.index = self.index(name)?;
        if address.addr().is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes.push(AddressAttribute::Local(address.addr()));
        message.attributes.push(AddressAttribute::Address(address.addr()));
        Ok(message)
    }
}

pub(super) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The address of an entry: IPv4 entries name their own end `Local`, IPv6 entries have only `Address`.
fn prefix_of(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}

fn mac_of(entry: &NeighbourMessage, address: IpAddr) -> Option<Mac> {
    let concerns = entry.attributes.iter().any(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address == *found,
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => address == *found,
        _ => false,
    });
    entry.attributes.iter().filter(|_| concerns).find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    })
}
