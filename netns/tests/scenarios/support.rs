//! Two namespaces joined by a veth pair, both families, as most tests need them.

use std::time::Duration;

use latchway_netns::{IpNet, Links, Namespace, Result, links::veth};

/// Namespaces `a` (10.9.0.1, 2001:db8:9::1 on `va`) and `b` (10.9.0.2, 2001:db8:9::2 on `vb`), silent and up.
pub struct Pair {
    pub a: Namespace,
    pub b: Namespace,
    pub links_a: Links,
    pub links_b: Links,
}

pub fn pair() -> Result<Pair> {
    let (a, b) = (Namespace::create("a")?, Namespace::create("b")?);
    veth(&a, "va", &b, "vb")?;
    let (links_a, links_b) = (Links::of(&a)?, Links::of(&b)?);
    for (links, name, host) in [(&links_a, "va", 1), (&links_b, "vb", 2)] {
        links.quiet_ipv6(name)?;
        links.set_up(name)?;
        links.add_address(name, net4(host))?;
        links.add_address(name, net6(host))?;
    }
    links_a.wait_ready("va", SOON)?;
    links_b.wait_ready("vb", SOON)?;
    Ok(Pair { a, b, links_a, links_b })
}

pub fn net4(host: u8) -> IpNet {
    IpNet::new_assert([10, 9, 0, host].into(), 24)
}

pub fn net6(host: u8) -> IpNet {
    IpNet::new_assert([0x2001, 0xdb8, 9, 0, 0, 0, 0, u16::from(host)].into(), 64)
}

/// Long enough for what happens at once, on a slow machine.
pub const SOON: Duration = Duration::from_secs(20);
