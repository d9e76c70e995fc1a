//! A million latches at once, and the memory that they take: a process of its own, so that all that it holds is theirs.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::sync::Arc;

use etherparse::PacketBuilder;
use latchway_datapath::drop::Direction;
use latchway_datapath::event::event_queue;
use latchway_datapath::packet::IpPacket;
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::spd::{Action, Protection, Rule, Spd};
use latchway_datapath::time::Time;
use latchway_datapath::ulp::{Context, Ulp};
use latchway_tagging::{
    AuthMethod, ClassId, Credential, Feedback, Identity, IdentityLimit, IdentityRecord, IdentityTable,
    SaIndex, SaRef, SnapshotId, StateClock, StateVersion, WorkerId,
};
use latchway_ulp_shim::{LatchDatabase, Limits, Seed, Shim};

const LATCHES: u32 = 1_000_000;

/// 200 MiB: 209 octets for each.
const MOST: u64 = 200 << 20;

/// A million connections, each latched by the first packet that its host sent, take less than 200 MiB: as the kernel
/// counts what the process holds, and has held at most.
#[test]
fn a_million_latches_take_less_than_200_mib() {
    let before = held("VmRSS:");
    let limits = Limits { half_open: LATCHES, ..Limits::for_flows(LATCHES) };
    let database = LatchDatabase::new(limits, Arc::new(StateClock::new()), Seed::Fixed(1)).unwrap();
    publish(&database);
    let database = Arc::new(database);
    let mut shim = Shim::new(Arc::clone(&database), WorkerId(0), event_queue().0);
    let any = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
    let rule = Rule::new(any, None, Action::Protect(Protection::LATCHED));
    let snapshot = Snapshot { id: SnapshotId::from_raw(1), spd: Spd::new(vec![rule]), ..Snapshot::default() };
    for n in 0..LATCHES {
        latch(&mut shim, &snapshot, n);
    }

    let (now, most) = (held("VmRSS:") - before, held("VmHWM:") - before);
    let counts = database.counts();
    assert_eq!((counts.established, counts.unlatched), (u64::from(LATCHES), 0), "{counts:?}");
    println!(
        "{LATCHES} latches: {now} octets, {:.1} for each; at most {most}",
        now as f64 / f64::from(LATCHES)
    );
    assert!(now.max(most) < MOST, "{now} octets, at most {most}");
    assert!(now > u64::from(LATCHES) * 64, "that was no measurement: {now} octets");
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

/// A host begins a connection, and its packet leaves under an SA.
fn latch(shim: &mut Shim, snapshot: &Snapshot, n: u32) {
    let octets = syn(n);
    let packet = IpPacket::parse(&octets, Direction::Outbound).unwrap();
    let context = Context { snapshot, version: StateVersion::default(), now: Time::default() };
    assert!(shim.outbound(&packet, &context).unwrap().feedback);
    let sa = SaRef { index: SaIndex::new(1), generation: 1 };
    let feedback = Feedback::Protected { class: ClassId::from_raw(1), sa, version: context.version };
    shim.feedback(packet.flow(), feedback, &context).unwrap();
}

/// The first segment of connection `n`.
fn syn(n: u32) -> Vec<u8> {
    let [_, a, b, c] = n.to_be_bytes();
    let tcp = PacketBuilder::ipv4([10, 0, 0, 1], [10, a, b, c], 64).tcp(40_000, 80, 1000, 512).syn();
    let mut octets = Vec::with_capacity(64);
    tcp.write(&mut octets, &[]).unwrap();
    octets
}

/// What the kernel says of this process's memory (proc_pid_status(5)).
fn held(row: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(row)).unwrap();
    value.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}
