//! The network namespaces whose sockets the gateway speaks of.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use latchway_datapath::low::socket_facts::netns_cookie;
use latchway_netns::{Links, Namespace};

/// The namespaces whose flows come to the gateway, each by the cookie that the kernel has for it.
///
/// A socket of any other is not spoken of: in a namespace of one's own, anybody can have a socket with the addresses and
/// ports of another's connection. Nor is one of an address that its namespace does not have: anybody may bind to any address
/// of IPv6 (IPV6_FREEBIND), so to that of a host or container behind the namespace, whose connections are not this one's.
#[derive(Clone, Debug)]
pub struct Spaces {
    inner: u64,
    /// The device by which packets come to the gateway.
    tun: u32,
    /// The kernel's list of the inner namespace's IPv6 addresses, as they are by now; `None` where it has no IPv6. IPv4 leaves
    /// a namespace from its own addresses alone.
    addresses: Option<Arc<File>>,
    /// The kernel's list of its devices, likewise.
    devices: Arc<File>,
}

impl Spaces {
    /// The inner namespace alone, with the TUN of this name. It is entered to learn its cookie.
    ///
    /// # Errors
    /// It cannot be entered, or the kernel has no cookies of namespaces (Linux before 5.14), or no list of addresses (/proc).
    pub fn of(inner: &Namespace, tun: &str) -> io::Result<Self> {
        let links = Links::of(inner).map_err(io::Error::other)?;
        let tun = links.index(tun).map_err(io::Error::other)?;
        let look = || -> io::Result<_> {
            let cookie = UnixDatagram::unbound().and_then(netns_cookie)?;
            let devices = Arc::new(File::open(DEVICES)?);
            match File::open(ADDRESSES) {
                Ok(list) => Ok((cookie, devices, Some(Arc::new(list)))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok((cookie, devices, None)),
                Err(error) => Err(error),
            }
        };
        let (inner, devices, addresses) = inner.run(look).map_err(io::Error::other)??;
        Ok(Self { inner, tun, addresses, devices })
    }

    /// The same, as if the inner namespace had this cookie.
    #[cfg(test)]
    pub(super) fn with_cookie(self, inner: u64) -> Self {
        Self { inner, ..self }
    }

    /// The cookie of the inner namespace, whose sockets alone are spoken of.
    pub const fn inner(&self) -> u64 {
        self.inner
    }

    /// Whether the packets of a socket that is bound to this device come to the gateway.
    pub const fn is_on_the_way(&self, device: u32) -> bool {
        self.tun == device
    }

    /// The device by which packets come to the gateway, where the namespace has others besides, and routes could lead a packet
    /// elsewhere: always so in the host's own. A list that cannot be read is one of many.
    pub fn only_way(&self) -> Option<u32> {
        let text = text(&self.devices);
        let names = text.split(|&octet| octet == b'\n').filter_map(|line| {
            let colon = line.iter().position(|&octet| octet == b':')?;
            line.get(..colon).map(<[u8]>::trim_ascii)
        });
        let ways = names.filter(|&name| name != b"lo").count();
        (ways != 1).then_some(self.tun)
    }

    /// Whether what was sent to an address within the namespace shows another device than that by which packets come to the
    /// gateway: not where the address is that device's own, or where the list does not have it.
    pub fn tells_own_from_tun(&self, address: IpAddr) -> bool {
        let IpAddr::V6(address) = address else { return true };
        let devices = self.addresses.as_ref().map(|list| devices(list, address)).unwrap_or_default();
        !devices.is_empty() && devices.iter().all(|&device| device.is_some_and(|device| device != self.tun))
    }

    /// Whether an address is the namespace's own, or any.
    pub fn have(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) if address.is_unspecified() || address.is_loopback() => true,
            IpAddr::V6(address) => {
                self.addresses.as_ref().is_some_and(|list| !devices(list, address).is_empty())
            }
        }
    }
}

/// The devices that have an address; `None` for one whose number cannot be read. Where the list cannot be, nothing is in it.
fn devices(list: &File, address: Ipv6Addr) -> Vec<Option<u32>> {
    let (wanted, text) = (format!("{:032x}", address.to_bits()), text(list));
    let lines = text.split(|&octet| octet == b'\n').filter_map(|line| line.strip_prefix(wanted.as_bytes()));
    lines
        .map(|rest| u32::from_str_radix(str::from_utf8(rest).ok()?.split_whitespace().next()?, 16).ok())
        .collect()
}

/// What a list says by now; what can be read of it.
fn text(list: &File) -> Vec<u8> {
    let (mut text, mut octets) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = list.read_at(&mut octets, text.len() as u64) {
        text.extend_from_slice(octets.get(..read).unwrap_or_default());
    }
    text
}

/// A line for each device, which it begins with the name and a colon of.
const DEVICES: &str = "/proc/thread-self/net/dev";

/// A line for each address, which it begins with.
const ADDRESSES: &str = "/proc/thread-self/net/if_inet6";

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_netns::{links, testing};

    /// P-67: the list is as the namespace is by now.
    #[test]
    fn p_67_addresses_come_and_go() {
        testing::namespaced("gateway::app::spaces::tests::p_67_addresses_come_and_go", || {
            let inner = Namespace::create("inner").unwrap();
            let links = Links::of(&inner).unwrap();
            links.set_up("lo").unwrap();
            let spaces = Spaces::of(&inner, "lo").unwrap();
            let own: IpAddr = "fd11::1".parse().unwrap();
            assert!(!spaces.have(own));
            for number in 2..200 {
                links.add_address("lo", format!("fd11::{number:x}/128").parse().unwrap()).unwrap();
            }
            assert!(!spaces.have(own));
            links.add_address("lo", "fd11::1/128".parse().unwrap()).unwrap();
            assert!(spaces.have(own) && spaces.have("::1".parse().unwrap()));
            assert!(!spaces.have("fd22::1".parse().unwrap()) && spaces.have("10.9.9.9".parse().unwrap()));
            assert!(spaces.is_on_the_way(1) && !spaces.is_on_the_way(2));
            assert!(!spaces.tells_own_from_tun(own), "it is the device's own");
            assert!(!spaces.tells_own_from_tun("fd22::1".parse().unwrap()), "it is no device's");
            assert!(spaces.tells_own_from_tun("10.9.9.9".parse().unwrap()));
            let beside = Spaces { tun: 2, ..spaces.clone() };
            assert!(beside.tells_own_from_tun(own));
            // Where there is one device beside the loopback, all goes by that, and sockets need not be kept to it.
            assert_eq!(spaces.only_way(), Some(1));
            links::veth(&inner, "one", &inner, "other").unwrap();
            assert_eq!(spaces.only_way(), Some(1));
            links.delete("one").unwrap();
            let elsewhere = Namespace::create("elsewhere").unwrap();
            links::veth(&inner, "one", &elsewhere, "other").unwrap();
            assert_eq!(spaces.only_way(), None);
        });
    }
}
