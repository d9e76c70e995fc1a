//! A client that takes whom it meets first on faith, keeps who that was, and talks to nobody else from then on: leap of faith.
//!
//!     leap FILE ADDRESS WORDS          for example: leap ~/.b.example 10.2.0.1:7 "hello there"
//!
//! The first time there is no FILE: whoever is there, by whatever method the policy allows, is written to it, as one line of text.
//! Each later time the gateway is required to let only this peer be there, with the same name, proven the same way by the same
//! key, or else connect() fails before a single packet leaves.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use latchway_socket::{Gateway, PeerIdentity, Protected, Requirement};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, address, words] = arguments.as_slice() else {
        return Err("usage: leap FILE ADDRESS WORDS".into());
    };
    let address: SocketAddr = address.parse()?;

    let known = match fs::read_to_string(file) {
        Ok(text) => Some(PeerIdentity::import(text.trim_end())?),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let required = Requirement::new().protection(Protected::Confidential);
    let required = match &known {
        Some(peer) => required.peer(peer),
        None => required,
    };
    let gateway = Gateway::find()?.with_timeout(PATIENCE);
    let (mut stream, protection) = gateway.connect(address, &required)?;
    let peer = protection.peer_identity();
    if known.is_none() {
        // Nobody else's file is written over, and nobody else may write this one.
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        writeln!(new, "{}", peer.export())?;
    }
    let faith = if known.is_none() { "for the first time" } else { "again" };
    println!("met {faith}: {}", peer.audit());

    stream.write_all(words.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(())
}

/// With a gateway that is busy.
const PATIENCE: Duration = Duration::from_secs(10);
