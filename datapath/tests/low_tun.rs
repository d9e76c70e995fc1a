//! Both TUN backends between two network namespaces: what the kernel hands out is segmented, merged again and taken by
//! the other kernel, whose own checksums and TCP judge it (T28).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test or a measurement ends where something is not as it should be"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use latchway_datapath::coalesce::{Coalescer, Offloads};
use latchway_datapath::low::tun::{
    Backend, BackendChoice, Persistence, READ_BUFFER_LEN, TunConfig, TunError, TunQueue,
};
use latchway_datapath::low::wire::WireSocket;
use latchway_datapath::segment::SuperPacket;
use latchway_datapath::send_batch::{SendBatch, Target};
use latchway_datapath::virtio::VNET_HDR_LEN;
use latchway_netns::ping::{self, Echo};
use latchway_netns::skip::{Need, report, require};
use latchway_netns::testing::namespaced;
use latchway_netns::{Links, Namespace};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

const NAME: &str = "tun-low";
const MTU: usize = 1400;

/// What the relay saw.
#[derive(Default)]
struct Seen {
    super_packets: usize,
    merged: usize,
    longest: usize,
}

/// A namespace with a TUN, `number` being its host part.
struct End {
    namespace: Namespace,
    tun: TunQueue,
}

impl End {
    fn new(number: u8, backend: BackendChoice, stale: bool) -> End {
        let namespace = Namespace::create("end").unwrap();
        if stale {
            // A process that used offload and is gone; its interface, and its offload mask, remain.
            let config = TunConfig {
                persistence: Persistence::Persistent,
                backend: BackendChoice::Offload,
                ..TunConfig::new(NAME)
            };
            drop(namespace.run(|| TunQueue::open(&config).unwrap()).unwrap());
        }
        let config = TunConfig { backend, ..TunConfig::new(NAME) };
        let tun = namespace.run(|| TunQueue::open(&config).unwrap()).unwrap();
        assert_eq!(tun.name(), NAME);
        let links = Links::of(&namespace).unwrap();
        links.set_mtu(NAME, MTU as u32).unwrap();
        links.set_addr_gen_none(NAME).unwrap();
        links.set_up(NAME).unwrap();
        links.add_address(NAME, format!("10.9.0.{number}/24").parse().unwrap()).unwrap();
        links.add_address(NAME, format!("fd09::{number}/64").parse().unwrap()).unwrap();
        End { namespace, tun }
    }
}

/// Moves what is there from one TUN to the other. Returns whether there was anything.
fn relay(from: &mut TunQueue, to: &mut TunQueue, seen: &mut Seen, sabotage: &AtomicBool) -> bool {
    let mut super_packet = vec![0; READ_BUFFER_LEN];
    let mut buffer = vec![0; 4 * READ_BUFFER_LEN];
    let mut coalescer = Coalescer::new(to.offloads());
    let mut end = 0;
    let mut any = false;
    while end + 2 * READ_BUFFER_LEN < buffer.len() && !coalescer.is_full() {
        let len = match from.read(&mut super_packet) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        };
        any = true;
        let parsed = SuperPacket::parse(&mut super_packet[..len]).unwrap();
        seen.super_packets += usize::from(parsed.segment_count() > 1);
        seen.longest = seen.longest.max(parsed.packet().len());
        assert!(parsed.max_segment_len() <= MTU);
        let mut segments = parsed.segments();
        while let Some(len) = segments.write_next(&mut buffer[end..]) {
            if coalescer.push(&buffer, end..end + len).is_err() {
                write_units(&mut coalescer, &buffer, to, seen, sabotage);
                coalescer.push(&buffer, end..end + len).unwrap();
            }
            end += len;
        }
        assert!(!segments.overflowed());
    }
    write_units(&mut coalescer, &buffer, to, seen, sabotage);
    any
}

fn write_units(
    coalescer: &mut Coalescer,
    buffer: &[u8],
    to: &mut TunQueue,
    seen: &mut Seen,
    sabotage: &AtomicBool,
) {
    for mut unit in coalescer.units() {
        let mut refused = unit.header.to_vec();
        if unit.is_merged() && sabotage.swap(false, Ordering::Relaxed) {
            // A segmentation type that the kernel does not take: it answers EINVAL.
            refused[1] = 0x3f;
            unit.header = &refused;
        }
        seen.merged += usize::from(unit.is_merged());
        to.write_unit(&unit, buffer).unwrap();
    }
    coalescer.clear();
}

/// Runs `traffic` in the two namespaces while their TUNs are joined.
fn joined(a: &mut End, b: &mut End, sabotage: bool, traffic: impl FnOnce(&Namespace, &Namespace)) -> Seen {
    let done = AtomicBool::new(false);
    let sabotage = AtomicBool::new(sabotage);
    let mut seen = Seen::default();
    let (ns_a, ns_b) = (a.namespace.clone(), b.namespace.clone());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let one = relay(&mut a.tun, &mut b.tun, &mut seen, &sabotage);
                let other = relay(&mut b.tun, &mut a.tun, &mut seen, &sabotage);
                if !one && !other {
                    thread::yield_now();
                }
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| traffic(&ns_a, &ns_b)));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    seen
}

fn all_traffic(a: &Namespace, b: &Namespace) {
    for address in ["10.9.0.2", "fd09::2"] {
        let address: IpAddr = address.parse().unwrap();
        pings(a, address);
        tcp(a, b, address);
        udp(a, b, address);
    }
}

fn pings(from: &Namespace, destination: IpAddr) {
    let report = ping::echo(
        from,
        &Echo {
            source: None,
            destination,
            count: 3,
            interval: Duration::from_millis(1),
            timeout: Duration::from_secs(5),
            pattern: b"latch",
            length: 300,
        },
    )
    .unwrap();
    assert_eq!((report.received, report.corrupted), (3, 0), "{report:?}");
}

fn tcp(a: &Namespace, b: &Namespace, address: IpAddr) {
    let listener = b.run(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap()).unwrap();
    let to = listener.local_addr().unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            let mut stream = accept(&listener);
            let mut received = Vec::new();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let mut stream = a.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap()).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&sent).unwrap();
        drop(stream);
        assert!(received.join().unwrap() == sent, "TCP to {address} arrived changed");
    });
}

/// Waits for a connection, but not for ever: a relay that fails must fail the test, not hang it.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < end, "nobody connected: {error}"),
        }
        thread::yield_now();
    }
}

fn udp(a: &Namespace, b: &Namespace, address: IpAddr) {
    let receiver = b.run(|| UdpSocket::bind(SocketAddr::new(address, 0)).unwrap()).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let any: SocketAddr = if address.is_ipv4() { "10.9.0.1:0" } else { "[fd09::1]:0" }.parse().unwrap();
    let mut sender = a.run(|| WireSocket::bind(any).unwrap()).unwrap();
    let mut batch = SendBatch::new();
    for n in 0..30u8 {
        let len = if n == 29 { 300 } else { 1000 };
        batch.reserve(Target::new(receiver.local_addr().unwrap(), 0), len).unwrap().fill(n);
        batch.commit(len);
    }
    assert_eq!(sender.send(&batch, 0).sent, 30);
    let mut buf = [0; 2000];
    for n in 0..30u8 {
        let len = receiver.recv(&mut buf).unwrap();
        assert_eq!((len, buf[0], buf[len - 1]), (if n == 29 { 300 } else { 1000 }, n, n));
    }
}

fn scenario(test: &str, body: impl FnOnce()) {
    namespaced(test, || {
        if require(test, &[Need::Tun]) {
            body();
        }
    });
}

/// Super-packets are really read, merged writes really taken, and everything arrives.
#[test]
fn offload_to_offload() {
    scenario("offload_to_offload", || {
        let (mut a, mut b) =
            (End::new(1, BackendChoice::Auto, false), End::new(2, BackendChoice::Offload, false));
        let backend = Backend::Offload { checksum: true, tso: true, uso: true };
        assert_eq!((a.tun.backend(), a.tun.backend().to_string()), (backend, "offload (TSO+USO)".to_owned()));
        let seen = joined(&mut a, &mut b, false, all_traffic);
        assert!(seen.super_packets > 10, "no super-packet was read");
        assert!(seen.merged > 10, "no merged unit was written");
        assert!(seen.longest > 10_000, "the longest read was {}", seen.longest);
        assert_eq!((a.tun.refused(), b.tun.refused()), (Offloads::NONE, Offloads::NONE));
    });
}

/// The plain backend carries the same traffic, packet by packet.
#[test]
fn plain_to_plain() {
    scenario("plain_to_plain", || {
        let (mut a, mut b) =
            (End::new(1, BackendChoice::Plain, false), End::new(2, BackendChoice::Plain, false));
        assert_eq!(a.tun.backend().to_string(), "plain");
        let seen = joined(&mut a, &mut b, false, all_traffic);
        assert_eq!((seen.super_packets, seen.merged), (0, 0));
    });
}

/// Packets read one by one are still written merged.
#[test]
fn plain_to_offload() {
    scenario("plain_to_offload", || {
        let (mut a, mut b) =
            (End::new(1, BackendChoice::Plain, false), End::new(2, BackendChoice::Offload, false));
        let seen = joined(&mut a, &mut b, false, all_traffic);
        assert!(seen.merged > 10, "no merged unit was written");
    });
}

/// Super-packets are cut for an end that takes none.
#[test]
fn offload_to_plain() {
    scenario("offload_to_plain", || {
        let (mut a, mut b) =
            (End::new(1, BackendChoice::Offload, false), End::new(2, BackendChoice::Plain, false));
        let seen = joined(&mut a, &mut b, false, all_traffic);
        assert!(seen.super_packets > 10, "no super-packet was read");
    });
}

/// T28, tun-rs#141: the mask that a persistent TUN keeps from an offloading process does not reach the plain backend.
#[test]
fn a_stale_offload_mask_is_cleared() {
    scenario("a_stale_offload_mask_is_cleared", || {
        let (mut a, mut b) =
            (End::new(1, BackendChoice::Plain, true), End::new(2, BackendChoice::Plain, false));
        let seen = joined(&mut a, &mut b, false, all_traffic);
        assert_eq!(seen.super_packets, 0);
        assert!(seen.longest <= MTU, "a super-packet of {} bytes came through", seen.longest);
    });
}

/// T28, tailscale#13041: a merged write that the kernel answers with EINVAL goes out in single packets, and is not
/// tried again.
#[test]
fn a_refused_merged_write_falls_back() {
    scenario("a_refused_merged_write_falls_back", || {
        let (mut a, mut b) =
            (End::new(1, BackendChoice::Offload, false), End::new(2, BackendChoice::Offload, false));
        joined(&mut a, &mut b, true, all_traffic);
        let refused = [a.tun.refused(), b.tun.refused()];
        assert!(refused.iter().any(|refused| refused.tcp), "{refused:?}");
        let tun = if a.tun.refused().tcp { &a.tun } else { &b.tun };
        assert_eq!(tun.offloads(), Offloads { tcp: false, udp: true });
    });
}

/// A read never cuts a packet short unnoticed, and says so when there is nothing to read.
#[test]
fn reads_are_whole_or_refused() {
    scenario("reads_are_whole_or_refused", || {
        let mut end = End::new(1, BackendChoice::Auto, false);
        let mut short = vec![0; READ_BUFFER_LEN - 1];
        assert_eq!(end.tun.read(&mut short).unwrap_err().kind(), ErrorKind::InvalidInput);
        let mut buf = vec![0; READ_BUFFER_LEN];
        while end.tun.read(&mut buf).is_ok() {}
        assert_eq!(end.tun.read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

/// A packet of the gateway's own, such as an ICMP error, reaches the namespace through either backend.
#[test]
fn own_packets_are_delivered() {
    scenario("own_packets_are_delivered", || {
        for backend in [BackendChoice::Offload, BackendChoice::Plain] {
            let mut end = End::new(1, backend, false);
            let receiver = end.namespace.run(|| UdpSocket::bind("10.9.0.1:7777").unwrap()).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let from = "10.9.0.2:5".parse().unwrap();
            let packet = latchway_netns::packet::udp(from, receiver.local_addr().unwrap(), b"hello").unwrap();
            end.tun.write_packet(&packet).unwrap();
            let mut buf = [0; 100];
            assert_eq!(receiver.recv_from(&mut buf).unwrap(), (5, from));
        }
    });
}

/// Each refusal says what it is and what to do.
#[test]
fn errors_say_what_to_do() {
    scenario("errors_say_what_to_do", || {
        let namespace = Namespace::create("errors").unwrap();
        for backend in [BackendChoice::Auto, BackendChoice::Offload, BackendChoice::Plain] {
            let open = |name: &str| {
                let config = TunConfig { backend, ..TunConfig::new(name) };
                namespace.run(|| TunQueue::open(&config)).unwrap()
            };
            let first = open(NAME).unwrap();
            let busy = open(NAME).unwrap_err();
            assert!(matches!(busy, TunError::Busy { .. }), "{busy}");
            assert!(busy.to_string().contains("in use by another process"), "{busy}");
            drop(first);
            let other = open("lo").unwrap_err();
            assert!(matches!(other, TunError::NotATun { .. }), "{backend:?}: {other:?}");
            let name = open("much-too-long-a-name").unwrap_err();
            assert!(matches!(name, TunError::Name { .. }), "{name}");
        }
    });
}

/// Without CAP_NET_ADMIN a TUN cannot be made, and one that was made for this user can be used, with every offload; not
/// one that is somebody else's.
#[test]
fn a_pre_made_tun_needs_no_capability_of_its_owner() {
    scenario("a_pre_made_tun_needs_no_capability_of_its_owner", || {
        let namespace = Namespace::create("owned").unwrap();
        let us = rustix::process::geteuid().as_raw();
        let make = |name: &str, owner| {
            let persistence = Persistence::Persistent;
            let config = TunConfig { persistence, owner: Some(owner), ..TunConfig::new(name) };
            namespace.run(|| TunQueue::open(&config).map(drop)).unwrap()
        };
        make("ours", us).unwrap();
        let plain = |name: &str| TunConfig { backend: BackendChoice::Plain, ..TunConfig::new(name) };
        let open =
            |config: TunConfig| unprivileged(&namespace, || TunQueue::open(&config)).map(|tun| tun.backend());
        let all = Backend::Offload { checksum: true, tso: true, uso: true };
        assert_eq!(open(TunConfig::new("ours")).unwrap(), all);
        assert_eq!(open(plain("ours")).unwrap(), Backend::Plain);
        assert_eq!(
            open(TunConfig::new("ours")).unwrap(),
            all,
            "T28: what the plain backend cleared is set again"
        );
        for config in [TunConfig::new("missing"), plain("missing")] {
            let error = open(config).unwrap_err();
            assert!(matches!(error, TunError::Permission { .. }), "{error:?}");
            assert!(error.to_string().contains("ip tuntap add missing mode tun user"), "{error}");
        }
        if make("theirs", us + 1).is_err() {
            return report(
                "a_pre_made_tun_needs_no_capability_of_its_owner",
                "this namespace knows one user only",
            );
        }
        let error = open(TunConfig::new("theirs")).unwrap_err();
        assert!(matches!(error, TunError::Permission { .. }), "{error:?}");
    });
}

/// Works in the namespace without the capability to configure networks.
fn unprivileged<T: Send>(namespace: &Namespace, work: impl FnOnce() -> T + Send) -> T {
    let give_up = || {
        let sets = capabilities(None).unwrap();
        let effective = sets.effective - CapabilitySet::NET_ADMIN;
        set_capabilities(None, CapabilitySets { effective, ..sets }).unwrap();
        work()
    };
    namespace.run(give_up).unwrap()
}

/// A persistent TUN outlives its queues until it is made transient, and one that was found is left as it was.
#[test]
fn persistence_is_set_kept_and_taken_back() {
    scenario("persistence_is_set_kept_and_taken_back", || {
        let namespace = Namespace::create("persistent").unwrap();
        let links = Links::of(&namespace).unwrap();
        for (persistence, stays) in [
            (Persistence::AsFound, false),
            (Persistence::Persistent, true),
            (Persistence::AsFound, true),
            (Persistence::Transient, false),
        ] {
            let config = TunConfig { persistence, ..TunConfig::new(NAME) };
            drop(namespace.run(|| TunQueue::open(&config).unwrap()).unwrap());
            assert_eq!(links.exists(NAME).unwrap(), stays, "{persistence:?}");
        }
    });
}

/// A TAP carries frames and not packets, and is refused.
#[test]
fn a_tap_of_the_name_is_no_tun() {
    scenario("a_tap_of_the_name_is_no_tun", || {
        let namespace = Namespace::create("tap").unwrap();
        let tap =
            namespace.run(|| tun_tap::Iface::without_packet_info(NAME, tun_tap::Mode::Tap).unwrap()).unwrap();
        for backend in [BackendChoice::Auto, BackendChoice::Offload, BackendChoice::Plain] {
            let config = TunConfig { backend, ..TunConfig::new(NAME) };
            let error = namespace.run(|| TunQueue::open(&config)).unwrap().unwrap_err();
            assert!(matches!(error, TunError::NotATun { .. }), "{error:?}");
            assert!(error.to_string().contains("ip link del"), "{error}");
        }
        drop(tap);
    });
}

/// The two framings differ by exactly the virtio header.
#[test]
fn framing_is_the_same_from_both_backends() {
    scenario("framing_is_the_same_from_both_backends", || {
        for backend in [BackendChoice::Offload, BackendChoice::Plain] {
            let mut end = End::new(1, backend, false);
            end.namespace
                .run(|| UdpSocket::bind("10.9.0.1:0").unwrap().send_to(b"hello", "10.9.0.2:9").unwrap())
                .unwrap();
            let mut buf = vec![0xee; READ_BUFFER_LEN];
            let len = loop {
                let len = end.tun.read(&mut buf).unwrap();
                // The kernel's own multicast may come first.
                if buf[VNET_HDR_LEN] >> 4 == 4 && buf[VNET_HDR_LEN + 9] == 17 {
                    break len;
                }
            };
            let parsed = SuperPacket::parse(&mut buf[..len]).unwrap();
            let packet = etherparse::SlicedPacket::from_ip(parsed.packet()).unwrap();
            let Some(etherparse::TransportSlice::Udp(udp)) = packet.transport else { panic!("not UDP") };
            assert_eq!(udp.payload(), b"hello");
            let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else { panic!("not IPv4") };
            let checksum = udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), b"hello").unwrap();
            assert_eq!(udp.checksum(), checksum, "{backend:?}");
        }
    });
}
