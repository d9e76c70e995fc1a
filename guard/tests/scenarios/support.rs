//! Namespaces, a TUN in them, and a host on the other side of a wire.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use latchway_netns::{IpNet, Links, Namespace, links::veth, watch::Sniffer};
use tun_rs::{DeviceBuilder, SyncDevice};

/// An address or prefix.
pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A TUN that is open and down, made in a namespace.
pub fn tun(space: &Namespace, name: &str) -> SyncDevice {
    let made: io::Result<SyncDevice> =
        space.run(|| DeviceBuilder::new().name(name).enable(false).build_sync()).unwrap();
    made.unwrap()
}

/// Joins two namespaces by a veth pair, quiet, up and ready, with these addresses.
pub fn wire(a: (&Namespace, &str, &[&str]), b: (&Namespace, &str, &[&str])) {
    veth(a.0, a.1, b.0, b.1).unwrap();
    for (space, name, addresses) in [a, b] {
        let links = Links::of(space).unwrap();
        links.quiet_ipv6(name).unwrap();
        links.set_up(name).unwrap();
        for address in addresses {
            links.add_address(name, net(address)).unwrap();
        }
    }
    for (space, name, _) in [a, b] {
        Links::of(space).unwrap().wait_ready(name, SOON).unwrap();
    }
}

/// Waits until a sniffer has seen a pattern: what came before on that wire, it has seen too.
pub fn seen(sniffer: &Sniffer, pattern: &[u8]) {
    let deadline = Instant::now() + SOON;
    while !sniffer.contains(pattern).unwrap() {
        assert!(Instant::now() < deadline, "{} was not seen", String::from_utf8_lossy(pattern));
        thread::sleep(Duration::from_millis(1));
    }
}

/// Long enough for what happens at once, on a slow machine.
pub const SOON: Duration = Duration::from_secs(5);
