//! Silence: keeps the kernel from sending IPv6 packets of its own on an interface.

use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};

use super::Links;
use crate::{Result, sysctl};

impl Links {
    /// Keeps the kernel from giving an interface a link-local address of its own (RFC 4862 §5.3).
    pub fn set_addr_gen_none(&self, name: &str) -> Result<()> {
        let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let attributes = vec![LinkAttribute::AfSpecUnspec(vec![mode])];
        self.set(name, attributes, || "no generated IPv6 address".to_owned())
    }

    /// Keeps an interface, which should still be down, from sending anything by itself.
    pub fn quiet_ipv6(&self, name: &str) -> Result<()> {
        self.set_addr_gen_none(name)?;
        for (setting, value) in QUIET {
            sysctl::write(self.namespace(), &format!("net/ipv6/conf/{name}/{setting}"), value)?;
        }
        Ok(())
    }
}

const QUIET: [(&str, &str); 4] =
    [("accept_ra", "0"), ("router_solicitations", "0"), ("accept_dad", "0"), ("dad_transmits", "0")];
