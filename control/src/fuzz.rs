//! The bodies of the fuzz targets: what anybody who can open the gateway's sockets, or write a gateway's description, can say.
//!
//! Each takes any bytes, checks what must hold whatever they are, and panics where it does not.

use serde_json::value::RawValue;

use crate::app::{AppCall, MAX_APP_MESSAGE, ProtectionView};
use crate::{Call, Frames, GatewaySpec, MAX_MESSAGE, Reply, Request, StatusView, write_message};

/// A connection's octets, as calls to a gateway and as answers to an operator.
pub fn message(octets: &[u8]) {
    let mut frames = Frames::new(octets, MAX_MESSAGE);
    loop {
        match frames.next_message() {
            Ok(Some(message)) => {
                asked(message);
                answered(message);
            }
            Ok(None) => return assert!(octets.last().is_none_or(|&last| last == 0)),
            Err(_) => return assert!(octets.len() as u64 > MAX_MESSAGE || octets.last() != Some(&0)),
        }
    }
}

/// A connection's octets, as calls of an application and as answers to one.
pub fn app_message(octets: &[u8]) {
    let mut frames = Frames::new(octets, MAX_APP_MESSAGE);
    while let Ok(Some(message)) = frames.next_message() {
        asked_by_application(message);
        let Ok(reply) = Reply::read(message) else { continue };
        if let Ok(Ok(view)) = reply.answer::<ProtectionView>() {
            assert!(serde_json::to_string(&view).is_ok());
        }
    }
}

/// A gateway's description.
pub fn gateway(octets: &[u8]) {
    if let Ok(spec) = serde_json::from_slice::<GatewaySpec>(octets) {
        let mut said = Vec::new();
        assert!(write_message(&mut said, &spec).is_ok());
        let again = said.strip_suffix(&[0]).and_then(|said| serde_json::from_slice::<GatewaySpec>(said).ok());
        assert!(again.is_some_and(|again| serde_json::to_vec(&again).ok() == serde_json::to_vec(&spec).ok()));
        for pair in &spec.sas {
            let shown = format!("{:?} {:?}", pair.inbound.key, pair.outbound.key);
            assert_eq!(shown, "Secret(..) Secret(..)", "T40");
        }
    }
}

/// A call that is understood is the same when it is said again; one that is not says why.
fn asked(message: &[u8]) {
    match Request::read(message).and_then(|request| request.call()) {
        Ok(call) => {
            let parameters = call.parameters().map(|said| said.to_string()).unwrap_or_default();
            let raw = RawValue::from_string(parameters.clone()).ok();
            let again = Call::read(call.name(), raw.as_deref()).and_then(|call| {
                call.parameters().map_err(|error| crate::Failure::failed(error.to_string(), ""))
            });
            assert_eq!(again.map(|again| again.to_string()), Ok(parameters));
        }
        Err(failure) => assert!(!failure.error.is_empty() && !failure.to_string().is_empty()),
    }
}

/// As [`asked`], on app.sock.
fn asked_by_application(message: &[u8]) {
    match Request::read(message).and_then(|request| request.app_call()) {
        Ok(call) => {
            let parameters = call.parameters().map(|said| said.to_string()).unwrap_or_default();
            let raw = RawValue::from_string(parameters.clone()).ok();
            let again = AppCall::read(call.name(), raw.as_deref());
            let again = again.and_then(|call| {
                call.parameters().map_err(|error| crate::Failure::failed(error.to_string(), ""))
            });
            assert_eq!(again.map(|again| again.to_string()), Ok(parameters));
        }
        Err(failure) => assert!(!failure.error.is_empty() && !failure.to_string().is_empty()),
    }
}

/// Whatever answers, nothing panics, and an error is never taken for an answer.
fn answered(message: &[u8]) {
    let Ok(reply) = Reply::read(message) else { return };
    if let Ok(Ok(status)) = reply.answer::<StatusView>() {
        assert!(serde_json::to_string(&status).is_ok());
    }
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
    fn corpus_of_app_message() {
        replay("app_message", app_message);
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
        for call in [
            "status",
            "drops",
            "latches",
            "sas",
            "add_pair",
            "commit",
            "stop",
            "explain",
            "events",
            "reload_dry_run",
            "add_rule",
            "propose",
            "install",
            "rekey",
            "peers_oneway",
            "interface",
            "listen_latch",
            "connect_latch",
            "release_latch",
            "inquire_latch",
            "find_latch",
            "close_latch",
            "watch_latches",
            "peer_gone",
            "whois",
        ] {
            let octets = read("control_message", call);
            let mut frames = Frames::new(octets.as_slice(), MAX_MESSAGE);
            Request::read(frames.next_message().unwrap().unwrap()).unwrap().call().unwrap();
        }
        for call in ["info", "interface", "gateway", "protection"] {
            let octets = read("app_message", call);
            let mut frames = Frames::new(octets.as_slice(), MAX_APP_MESSAGE);
            Request::read(frames.next_message().unwrap().unwrap()).unwrap().app_call().unwrap();
        }
        for description in ["smallest", "two_peers", "two_pairs"] {
            serde_json::from_slice::<GatewaySpec>(&read("control_gateway", description)).unwrap();
        }
    }
}
