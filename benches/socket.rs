//! What sockets of applications cost: asking a real gateway what protects one, connecting one of which something is required beside
//! one of which nothing is, and what a flow's beginning costs the worker while somebody requires something.
//!
//! The first two need namespaces and a TUN, and are between two gateways of this machine. The last is in memory, but for its
//! question to the kernel whose the flow is.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement ends where something is not as it should be"
)]

#[expect(dead_code, reason = "gateways can do more than is measured here")]
#[path = "../tests/support/process.rs"]
mod gateway;
#[expect(dead_code, reason = "pairs can be made in more ways than are of use here")]
#[path = "../tests/daemon/site.rs"]
mod site;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group};
use etherparse::PacketBuilder;
use latchway_datapath::drop::Direction;
use latchway_datapath::event::event_queue;
use latchway_datapath::flow::protocol;
use latchway_datapath::packet::IpPacket;
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::spd::{Action, Protection, Rule, Spd};
use latchway_datapath::time::Time;
use latchway_datapath::ulp::{Context, Ulp};
use latchway_netns::skip::{Need, require};
use latchway_netns::user;
use latchway_socket::{Gateway, PeerIdentity, Requirement};
use latchway_tagging::{
    AuthMethod, ClassId, Credential, Feedback, Identity, IdentityLimit, IdentityRecord, IdentityTable,
    SaIndex, SaRef, SnapshotId, StateClock, StateVersion, WorkerId,
};
use latchway_ulp_shim::{
    ConstraintId, Cookie, LatchDatabase, Limits, RequirementId, Seed, Shim, SocketOwners,
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::gateway::{PATIENCE, eventually};
use crate::site::{Side, Site, Terms};

/// Flows that begin in one measurement.
const FLOWS: u16 = 1000;

/// A gateway as a socket meets it: what `protection()` takes there and back, and what a connection takes until it stands, with what is
/// asked of the gateway for it. Whoever answers is on the other side of a tunnel.
fn asked(criterion: &mut Criterion) {
    if !require("socket", &[Need::NetAdmin, Need::Tun]) {
        return;
    }
    let site = Site::start(&Terms::default());
    let there = SocketAddr::new(Side::B.address(), 80);
    let listener = site.at(Side::B).inner.run(|| TcpListener::bind(there)).unwrap().unwrap();
    // Each is there until the next one comes.
    thread::spawn(move || listener.incoming().fold(None, |_, stream| stream.ok()));
    // Sockets are of the namespace of who makes them.
    site.at(Side::A).inner.enter_on_this_thread().unwrap();
    let gateway = Gateway::at(&site.a.control().with_file_name("app.sock")).with_timeout(PATIENCE);

    let stream = plain(there);
    let mut group = criterion.benchmark_group("socket/protection");
    group.throughput(Throughput::Elements(1));
    group.bench_function("round_trip", |bencher| {
        bencher.iter(|| assert!(gateway.protection(&stream).unwrap().latched().is_some()));
    });
    group.finish();

    let peer = PeerIdentity::asserting(&"2.example".parse().unwrap()).unwrap();
    let required = Requirement::new().peer(&peer);
    let mut group = criterion.benchmark_group("socket/connect");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    group.bench_function("plain", |bencher| bencher.iter(|| plain(there)));
    group.bench_function("required", |bencher| {
        bencher.iter(|| {
            let (stream, protection) = gateway.connect(there, &required).unwrap();
            assert!(protection.required());
            brief(SockRef::from(&stream));
            stream
        });
    });
    group.finish();
}

/// A connection of which nothing is required, and nothing asked.
fn plain(to: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    brief(SockRef::from(&socket));
    socket
}

/// Lets a connection end by a reset, so that its port is free for another at once.
fn brief(socket: SockRef<'_>) {
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// A shim that asks the kernel of this machine whose a flow is, where anything is required of anybody.
struct Bed {
    shim: Shim,
    snapshot: Snapshot,
}

impl Bed {
    fn new(requires: bool) -> Self {
        let limits = Limits {
            half_open: u32::MAX,
            half_open_of_peer: u32::MAX,
            unlatched: u32::MAX,
            ..Limits::for_flows(u32::from(FLOWS))
        };
        let database = LatchDatabase::new(limits, Arc::new(StateClock::new()), Seed::Fixed(1)).unwrap();
        publish(&database);
        if requires {
            let requirement = latchway_ulp_shim::Requirement {
                id: RequirementId(1),
                constraint: ConstraintId::new(1).unwrap(),
                on_conflict: None,
                protocol: protocol::TCP,
                port: None,
                shares: false,
            };
            // Another socket's: nothing is demanded of the flows here.
            database.requirements().set(Cookie { space: 1, socket: 0 }, requirement, Time::default());
        }
        let owners = SocketOwners::open(1, 0).unwrap();
        let shim = Shim::new(Arc::new(database), WorkerId(0), event_queue().0).asking(Box::new(owners));
        let any = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let rule = Rule::new(any, None, Action::Protect(Protection::LATCHED));
        let id = SnapshotId::from_raw(1);
        Self { shim, snapshot: Snapshot { id, spd: Spd::new(vec![rule]), ..Snapshot::default() } }
    }

    /// As the datapath does: asks, and answers if asked.
    fn send(&mut self, packet: &IpPacket<'_>) -> bool {
        let context =
            Context { snapshot: &self.snapshot, version: StateVersion::default(), now: Time::default() };
        let Ok(tag) = self.shim.outbound(packet, &context) else { return false };
        let sa = SaRef { index: SaIndex::new(1), generation: 1 };
        let feedback = Feedback::Protected { class: ClassId::from_raw(1), sa, version: context.version };
        !tag.feedback || self.shim.feedback(packet.flow(), feedback, &context).is_ok()
    }
}

/// Says that there is the class that this is about, and whose it is.
fn publish(database: &LatchDatabase) {
    let method = AuthMethod::PreSharedKey;
    let asserted = Identity::Fqdn("peer".into());
    let mut identities = IdentityTable::new(IdentityLimit::default());
    let peer = identities
        .acquire(&IdentityRecord { asserted, authorised: None, method, credential: Credential::None })
        .unwrap();
    database.peers().publish(ClassId::from_raw(1), peer, method, 0).unwrap();
}

/// The first datagrams of flows of one socket, which is there.
fn begun(criterion: &mut Criterion) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let octets: Vec<_> = (0..FLOWS)
        .map(|flow| {
            let mut octets = Vec::new();
            let packet = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(port, 1 + flow);
            packet.write(&mut octets, b"latchway").unwrap();
            octets
        })
        .collect();
    let packets: Vec<_> =
        octets.iter().map(|octets| IpPacket::parse(octets, Direction::Outbound).unwrap()).collect();
    let mut group = criterion.benchmark_group("socket/flow_begins");
    group.throughput(Throughput::Elements(u64::from(FLOWS)));
    for (name, requires) in [("nothing_required", false), ("something_required", true)] {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_batched_ref(
                || Bed::new(requires),
                |bed| assert!(packets.iter().all(|packet| bed.send(packet))),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, begun, asked);

fn main() {
    // Before there are threads.
    user::enter_user_namespace_if_needed().unwrap();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
