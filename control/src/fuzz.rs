//! The bodies of the fuzz targets: what anybody who can open the control socket, or write a gateway's description, can say.
//!
//! Each takes any bytes, checks what must hold whatever they are, and panics where it does not.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Call, FrameError, GatewaySpec, MAX_MESSAGE, Reply, StatusView, read_message, write_message};

/// A connection's octets, as calls to a gateway and as answers to an operator.
pub fn message(octets: &[u8]) {
    converse::<Call>(octets);
    converse::<Reply<StatusView>>(octets);
}

/// A gateway's description.
pub fn gateway(octets: &[u8]) {
    if let Ok(spec) = serde_json::from_slice::<GatewaySpec>(octets) {
        survives(&spec);
        for pair in &spec.sas {
            let shown = format!("{:?} {:?}", pair.inbound.key, pair.outbound.key);
            assert_eq!(shown, "Secret(..) Secret(..)", "T40");
        }
    }
}

/// Reads message by message: each takes octets off the connection, and one that is understood survives being said again.
fn converse<T: Serialize + DeserializeOwned>(octets: &[u8]) {
    let mut from = octets;
    loop {
        let before = from.len();
        match read_message::<T>(&mut from) {
            Ok(Some(message)) => survives(&message),
            Ok(None) => return assert_eq!(before, 0),
            Err(FrameError::Json(_)) => {}
            Err(FrameError::Unfinished) => {
                return assert!(before as u64 >= MAX_MESSAGE || octets.last() != Some(&0));
            }
            Err(FrameError::Io(error)) => return assert_eq!(error.to_string(), "", "memory cannot fail"),
        }
        assert!(from.len() < before, "a message of no octets");
    }
}

/// What was read, written, read and written once more is the same.
fn survives<T: Serialize + DeserializeOwned>(message: &T) {
    let mut octets = Vec::new();
    assert!(write_message(&mut octets, message).is_ok());
    let again = read_message::<T>(&mut octets.as_slice());
    assert!(again.is_ok_and(|again| again.is_some_and(|again| as_value(&again) == as_value(message))));
}

fn as_value<T: Serialize>(message: &T) -> Option<Value> {
    serde_json::to_value(message).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Gives `body` every file of the target's corpus, of which there must be at least a dozen.
    fn replay(target: &str, body: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 12, "{} holds {} inputs", folder.display(), files.len());
        for file in &files {
            println!("{}", file.display());
            body(&fs::read(file).unwrap());
        }
    }

    #[test]
    fn corpus_of_message() {
        replay("control_message", message);
    }

    #[test]
    fn corpus_of_gateway() {
        replay("control_gateway", gateway);
    }

    /// The seeds reach what they are for: calls of every method are understood, and so are descriptions.
    #[test]
    fn seeds_are_understood() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        let read = |target: &str, seed: &str| fs::read(corpus.join(target).join(seed)).unwrap();
        for call in ["status", "drops", "latches", "sas", "add_pair", "commit", "stop"] {
            let octets = read("control_message", call);
            assert!(read_message::<Call>(&mut octets.as_slice()).unwrap().is_some(), "{call}");
        }
        for description in ["smallest", "two_peers", "two_pairs"] {
            serde_json::from_slice::<GatewaySpec>(&read("control_gateway", description)).unwrap();
        }
    }
}
