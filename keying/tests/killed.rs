//! T12 with a real process, a real disk and SIGKILL: no life takes a number that another one announced.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroU32;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fs, io, thread};

use latchway_esp::{SeqCounter, SequenceKind, Suite};
use latchway_keying::SaKeys;
use latchway_keying::reservations::Reservations;

const KIND: SequenceKind = SequenceKind::Extended;
const KEYS: u8 = 3;
const LIVES: usize = 60;

/// Opens the store, and takes numbers of every key until it is killed.
#[test]
#[ignore = "run by the test below"]
fn life() {
    let folder = PathBuf::from(env::var_os("LATCHWAY_TEST_NUMBERS").unwrap());
    let mut store = Reservations::open(&folder).unwrap().with_block(NonZeroU32::new(64).unwrap());
    let mut counters: Vec<_> = (0..KEYS)
        .map(|n| {
            let sending = store.enrol_outbound(&keys(n)).unwrap();
            let reservation = sending.reservation.clone();
            (
                SeqCounter::resume_at(KIND, sending.next).unwrap().within(sending.reservation).unwrap(),
                reservation,
            )
        })
        .collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                store.extend().unwrap();
            }
        });
        let (mut rng, mut out) = (fastrand::Rng::with_seed(7), io::stdout());
        loop {
            for (n, (counter, reservation)) in counters.iter_mut().enumerate() {
                let count = rng.u32(1..16);
                let (first, last) = (counter.taken().0 + 1, counter.taken().0 + u64::from(count));
                if last > reservation.bound().0 {
                    thread::yield_now();
                    continue;
                }
                // Before they are taken, so that none is taken and not announced.
                if writeln!(out, "takes {n} {first} {last}").is_err() {
                    return over.store(true, Ordering::Relaxed);
                }
                let _ = counter.take(count).unwrap();
            }
        }
    });
}

/// Each life announces the numbers it is about to take, and is killed after so many announcements, wherever the thread that
/// reserves the next ones is by then.
#[test]
fn t12_no_number_comes_twice_over_sixty_real_kills() {
    let folder = env::temp_dir().join(format!("latchway-killed-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    Reservations::create(&folder).unwrap().close().unwrap();
    let mut rng = fastrand::Rng::with_seed(12);
    let (mut highest, mut total) = ([0; KEYS as usize], 0);
    for life in 0..LIVES {
        for (key, first, last) in announced(&folder, rng.usize(1..200)) {
            let highest = highest.get_mut(key).unwrap();
            assert!(first > *highest, "life {life}: {first} again, after {highest}");
            (*highest, total) = (last, total + last - first + 1);
        }
    }
    assert!(total > 10_000, "only {total} numbers in all");
    let mut store = Reservations::open(&folder).unwrap();
    for (n, highest) in (0..KEYS).zip(highest) {
        assert!(store.enrol_outbound(&keys(n)).unwrap().next.0 > highest);
    }
    drop(store);
    fs::remove_dir_all(&folder).unwrap();
}

/// What one life says until it is dead: key, first and last number of each run.
fn announced(folder: &Path, kill_after: usize) -> Vec<(usize, u64, u64)> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "life", "--ignored", "--nocapture"])
        .env("LATCHWAY_TEST_NUMBERS", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut runs = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
        let Some(run) = line.strip_prefix("takes ") else { continue };
        let numbers: Vec<u64> = run.split(' ').map(|number| number.parse().unwrap()).collect();
        let [key, first, last] = numbers[..] else { panic!("{line}") };
        runs.push((key as usize, first, last));
        if runs.len() == kill_after {
            // What it still says until it is dead is read, too.
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "{status}");
    assert!(runs.len() >= kill_after);
    runs
}

fn keys(n: u8) -> SaKeys {
    SaKeys::from_octets(0x1000 + u32::from(n), Suite::AES_128_GCM, &[n; 20], KIND).unwrap()
}
