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
