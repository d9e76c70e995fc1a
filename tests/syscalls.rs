//! Neither street makes a system call: so none takes a lock that anyone holds, waits, asks the kernel for memory or for
//! anything else. What a worker calls around them is one call per batch, and none of theirs.
//!
//! Shown by the kernel: the streets run in a thread that it lets make no system call at all, on pain of the process.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[expect(dead_code, reason = "these tests need neither faults nor a third gateway")]
mod support;

use std::collections::BTreeMap;
use std::env;
use std::hint::{black_box, spin_loop};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use latchway_datapath::arrival::Arrival;
use latchway_datapath::outbound::Outbound;
use latchway_datapath::spd::Protection;
use latchway_esp::Suite;
use latchway_netns::skip;
use nix::sys::signal::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::support::gateway::Terms;
use crate::support::net::{ALICE, BOB, Net, join};
use crate::support::packet::{Flow, with_header};

const PACKETS: usize = 10_000;
const SEGMENTS: usize = 48;

/// Says to a copy of this test that it is the one to be caged.
const CAGED: &str = "LATCHWAY_TEST_CAGED";

#[test]
fn super_packets_cause_no_system_call() {
    let flow = Flow::tcp("10.0.1.10:40000", "10.0.2.20:80");
    streets("super_packets_cause_no_system_call", PACKETS.div_ceil(SEGMENTS), move |net| {
        for (from, packet) in [(ALICE, flow.syn()), (BOB, flow.reversed().syn_ack())] {
            assert_eq!(net.send(from, &packet).len(), 1);
        }
        vec![flow.super_packet(1, SEGMENTS, 1348)]
    });
}

/// Of 500 flows, each with a first packet.
#[test]
fn small_datagrams_cause_no_system_call() {
    streets("small_datagrams_cause_no_system_call", PACKETS, |_| {
        let flow = |port| Flow::udp(&format!("10.0.1.10:{port}"), "10.0.2.20:53");
        (1000..1500).map(|port| with_header(&flow(port).datagram(b"small"))).collect()
    });
}

/// That the tests above can fail.
#[test]
fn a_system_call_ends_a_caged_process() {
    let name = "a_system_call_ends_a_caged_process";
    if let Some(status) = in_cage(name, || (), |()| thread::yield_now()) {
        assert_eq!(status.signal(), Some(Signal::SIGSYS as i32), "{status}");
    }
}

/// So many batches of each suite, latched, through both streets. `traffic` opens what it needs and says what to send.
fn streets(name: &str, batches: usize, traffic: impl Fn(&mut Net) -> Vec<Vec<u8>> + Send + 'static) {
    let prepare = move || {
        let beds = Suite::RECOMMENDED.map(|suite| {
            let mut net = Net::new(Protection::LATCHED);
            join(&mut net.alice, &mut net.bob, &Terms { suite, ..Terms::default() }, net.now);
            let templates = traffic(&mut net);
            let mut bed = Bed { net, templates, octets: Vec::new(), train: Vec::with_capacity(1 << 16) };
            // What is set up lazily in a thread's life is set up now.
            bed.octets.clone_from(&bed.templates[0]);
            bed.step(0);
            bed
        });
        Vec::from(beds)
    };
    let caged = move |beds: &mut Vec<Bed>| {
        for bed in beds {
            for batch in 0..batches {
                bed.step(batch);
            }
        }
    };
    if let Some(status) = in_cage(name, prepare, caged) {
        assert_eq!(status.code(), Some(ALL_DONE), "{status}");
    }
}

/// Two gateways, and what is sent by the one to the other.
struct Bed {
    net: Net,
    templates: Vec<Vec<u8>>,
    octets: Vec<u8>,
    train: Vec<u8>,
}

impl Bed {
    /// One batch. Buffers have their final size, so that nothing here allocates either.
    fn step(&mut self, batch: usize) {
        let Self { net: Net { now, alice, bob, .. }, templates, octets, train } = self;
        *now = *now + Duration::from_millis(1);
        octets.copy_from_slice(&templates[batch % templates.len()]);
        alice.datapath.begin(*now);
        alice.batch.clear();
        assert_eq!(alice.datapath.outbound(octets, &mut alice.batch), Outbound::Sealed);
        alice.datapath.end();
        for run in alice.batch.runs() {
            train.clear();
            train.extend_from_slice(run.bytes);
            bob.datapath.begin(*now);
            bob.units.clear();
            bob.datapath.inbound(train, &Arrival::udp(run.segment_size, ALICE.address()), &mut bob.units);
            let delivered: usize = bob.units.units().map(|unit| unit.payload.len()).sum();
            assert_eq!(black_box(delivered), run.len());
            bob.datapath.end();
        }
    }
}

/// Runs the test `name` again in a process of its own, where `caged` may make no system call. Returns how that process
/// ended; in it, does not return. `None` where the machine has no cages.
fn in_cage<T: 'static>(
    name: &str,
    prepare: impl FnOnce() -> T + Send + 'static,
    caged: impl FnOnce(&mut T) + Send + 'static,
) -> Option<ExitStatus> {
    let Ok(arch) = TargetArch::try_from(env::consts::ARCH) else {
        skip::report(name, "no system call filters are known for this architecture");
        return None;
    };
    if env::var_os(CAGED).is_some() {
        run_caged(arch, prepare, caged);
    }
    let this = env::current_exe().unwrap();
    let status = Command::new(this).args(["--exact", name, "--nocapture"]).env(CAGED, "1").status().unwrap();
    if status.code() == Some(NO_FILTERS) {
        skip::report(name, "the kernel takes no system call filters");
        return None;
    }
    Some(status)
}

/// How the caged process ends where the kernel takes no filters, and when it came through. A process in which no test
/// ran would end with neither.
const NO_FILTERS: i32 = 77;
const ALL_DONE: i32 = 42;

fn run_caged<T: 'static>(
    arch: TargetArch,
    prepare: impl FnOnce() -> T + Send + 'static,
    caged: impl FnOnce(&mut T) + Send + 'static,
) -> ! {
    static DONE: AtomicBool = AtomicBool::new(false);
    let filter =
        SeccompFilter::new(BTreeMap::new(), SeccompAction::KillProcess, SeccompAction::Allow, arch).unwrap();
    let program = BpfProgram::try_from(filter).unwrap();
    let worker = thread::spawn(move || {
        let mut prepared = prepare();
        if seccompiler::apply_filter(&program).is_err() {
            process::exit(NO_FILTERS);
        }
        caged(&mut prepared);
        DONE.store(true, Ordering::Release);
        // Even ending the thread would take a system call.
        loop {
            spin_loop();
        }
    });
    while !DONE.load(Ordering::Acquire) && !worker.is_finished() {
        thread::sleep(Duration::from_millis(1));
    }
    // Whoever panics before the cage closes has ended and is not done.
    process::exit(if DONE.load(Ordering::Acquire) { ALL_DONE } else { 1 })
}
