//! Every input the fuzzers started from or found, again on each test run.

use std::path::Path;

/// Gives `body` every file of the target's corpus, of which there must be at least a dozen.
fn replay_corpus(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    assert!(files.len() >= 12, "{} holds {} inputs", folder.display(), files.len());
    for file in files {
        println!("{}", file.display());
        body(&std::fs::read(&file).unwrap());
    }
}

/// T03.
#[test]
fn corpus_of_classify() {
    replay_corpus("esp_classify", crate::fuzz::classify);
}

/// T01 to T03.
#[test]
fn corpus_of_open_with_key() {
    replay_corpus("esp_open_with_key", crate::fuzz::open_with_key);
}

/// T03, T04.
#[test]
fn corpus_of_open_raw() {
    replay_corpus("esp_open_raw", crate::fuzz::open_raw);
}

/// T22.
#[test]
fn corpus_of_ah_with_key() {
    replay_corpus("esp_ah_with_key", crate::fuzz::ah_with_key);
}

/// T07, T08.
#[test]
fn corpus_of_replay() {
    replay_corpus("esp_replay", crate::fuzz::replay);
}

/// The bodies themselves, on bytes that a generator rather than a person chose.
#[test]
fn bodies_hold_on_arbitrary_bytes() {
    use proptest::prelude::*;
    proptest!(super::seeded(2000), |(input in prop::collection::vec(any::<u8>(), 0..200))| {
        use crate::fuzz::{ah_with_key, classify, open_raw, open_with_key, replay};
        for body in [ah_with_key, classify, open_with_key, open_raw, replay] {
            body(&input);
        }
    });
}
