//! Silence: keeps the kernel from sending IPv6 packets of its own on an interface.
//!
//! Measured with a capture on Linux 6.18, after up and one address, for five seconds. Untouched, a veth sends
//! multicast listener reports, duplicate address detection and router solicitations; a TUN router solicitations; and
//! with forwarding, both send more reports, for the all-routers group. After [`quiet_ipv6`](Links::quiet_ipv6):
//!
//! * a TUN sends nothing, forwarding or not;
//! * a veth sends two listener reports (RFC 3810 §6.1) within about a second of up and of each new address: they
//!   announce the solicited-node groups without which nobody could resolve the address, and the kernel has no switch
//!   for them. Neighbour solicitations follow traffic, as ARP does.

use std::{
    net::{IpAddr, Ipv6Addr},
    path::Path,
};

use ipnet::IpNet;
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};

use super::Links;
use crate::{Result, packet::Mac, sysctl};

impl Links {
    /// Keeps the kernel from giving an interface a link-local address of its own (RFC 4862 §5.3).
    pub fn set_addr_gen_none(&self, name: &str) -> Result<()> {
        let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let attributes = vec![LinkAttribute::AfSpecUnspec(vec![mode])];
        self.set(name, attributes, || "no generated IPv6 address".to_owned())
    }

    /// Keeps an interface from sending IPv6 packets by itself, as far as the kernel allows. The interface must be down,
    /// and have no IPv6 address or setting of its own yet, for it loses them.
    ///
    /// It clears the multicast flag. An interface with an Ethernet address gets its link-local address here, without
    /// duplicate detection: without one, the kernel never solicits a neighbour for a packet that it forwards.
    pub fn quiet_ipv6(&self, name: &str) -> Result<()> {
        let link = self.link(name)?;
        if !self.has_ipv6()? {
            return Ok(());
        }
        self.set_multicast(name, false)?;
        // A forwarding interface that had the multicast flag has joined the all-routers group, and would report even
        // leaving it. An MTU too small for IPv6 (RFC 8200 §5) makes the kernel forget all of that.
        self.set_mtu(name, TOO_SMALL)?;
        self.set_mtu(name, link.mtu)?;
        self.set_addr_gen_none(name)?;
        for (setting, value) in QUIET {
            sysctl::write(self.namespace(), &format!("net/ipv6/conf/{name}/{setting}"), value)?;
        }
        let disabled = sysctl::read(self.namespace(), &format!("net/ipv6/conf/{name}/disable_ipv6"))? == "1";
        link.mac.filter(|_| !disabled).map_or(Ok(()), |mac| self.add_address(name, link_local(mac)))
    }

    /// Whether [`quiet_ipv6`](Self::quiet_ipv6) is in effect, as far as it can be read back.
    pub fn is_quiet_ipv6(&self, name: &str) -> Result<bool> {
        if !self.has_ipv6()? {
            return Ok(true);
        }
        let settings = QUIET.into_iter().map(|(setting, value)| {
            sysctl::read(self.namespace(), &format!("net/ipv6/conf/{name}/{setting}"))
                .map(|found| found == value)
        });
        let all = settings.collect::<Result<Vec<_>>>()?.into_iter().all(|quiet| quiet);
        Ok(all && !self.link(name)?.multicast)
    }

    /// Whether this kernel has IPv6 at all.
    fn has_ipv6(&self) -> Result<bool> {
        self.namespace().run(|| Path::new("/proc/sys/net/ipv6/conf").is_dir())
    }
}

/// The address that RFC 4291 §2.5.1 makes of an Ethernet address.
fn link_local(Mac([a, b, c, d, e, f]): Mac) -> IpNet {
    let octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::from(octets)), 64)
}

const QUIET: [(&str, &str); 4] =
    [("accept_ra", "0"), ("router_solicitations", "0"), ("accept_dad", "0"), ("dad_transmits", "0")];

/// One less than every IPv6 link must carry.
const TOO_SMALL: u32 = 1279;
