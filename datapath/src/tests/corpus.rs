//! Every input the fuzzers of the streets started from or found, again on each test run.

use std::fs;
use std::path::Path;

use crate::fuzz_streets;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 12, "{} holds {} inputs", folder.display(), files.len());
    for file in files {
        println!("{}", file.display());
        body(&fs::read(&file).unwrap());
    }
}

/// T02, T21.
#[test]
fn corpus_of_packet() {
    replay("datapath_packet", fuzz_streets::packet);
}

/// T20.
#[test]
fn corpus_of_mss() {
    replay("datapath_mss", fuzz_streets::mss);
}

/// T01, T02, T15.
#[test]
fn corpus_of_inbound() {
    replay("datapath_inbound", fuzz_streets::inbound);
}

/// T03, T04.
#[test]
fn corpus_of_wire() {
    replay("datapath_wire", fuzz_streets::wire);
}

/// T01, T02, T03, T20, T21, T22.
#[test]
fn corpus_of_modes() {
    replay("datapath_modes", fuzz_streets::modes);
}

/// The same, each input with a few octets changed, and cut: the fuzzer's first steps, the same on each run.
#[test]
fn corpus_of_modes_changed() {
    let mut state = 0x5eed_u64;
    let mut draw = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/datapath_modes");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let rounds = std::env::var("LATCHWAY_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    for file in files {
        let seed = fs::read(&file).unwrap();
        for _ in 0..rounds {
            let mut input = seed.clone();
            for _ in 0..=draw(3) {
                let place = draw(input.len());
                input[place] = [draw(256) as u8, 0, 255, input[place] ^ 1 << draw(8)][draw(4)];
            }
            if draw(4) == 0 {
                input.truncate(draw(input.len()) + 1);
            }
            println!("{input:02x?}");
            fuzz_streets::modes(&input);
        }
    }
}
