//! Namespaces, a TUN in them, and a host on the other side of a wire.

use std::{
    io,
    net::IpAddr,
    thread,
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
    let device = made.unwrap();
    device.set_nonblocking(true).unwrap();
    device
}

/// A packet that the kernel gave to a TUN.
pub struct Packet(pub Vec<u8>);

impl Packet {
    /// Source and destination.
    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        let v4 = |at: usize| IpAddr::from(*self.0[at..].first_chunk::<4>().unwrap());
        let v6 = |at: usize| IpAddr::from(*self.0[at..].first_chunk::<16>().unwrap());
        if self.0[0] >> 4 == 4 { (v4(12), v4(16)) } else { (v6(8), v6(24)) }
    }
}

/// The next packet for a TUN.
pub fn received(device: &SyncDevice) -> Packet {
    let (deadline, mut buffer) = (Instant::now() + SOON, vec![0; 70_000]);
    loop {
        match device.recv(&mut buffer) {
            Ok(length) => return Packet(buffer[..length].to_vec()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
        assert!(Instant::now() < deadline, "nothing came");
        thread::sleep(Duration::from_millis(1));
    }
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
pub const SOON: Duration = Duration::from_secs(20);
