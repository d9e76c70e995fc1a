//! Two gateways in one program, over the loopback: a server that greets whom it knows, and a client that says whom it wants.
//! Run it as anybody: `cargo run -p latchway-socket --features in-process --example in_process`.

use std::error::Error;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;

use latchway_socket::in_process::{Builder, Gateway, Pair, Peer, Sa, TcpListener, TcpStream};
use latchway_socket::{PeerIdentity, Protected, Requirement};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let client = gateway("client.example", "10.1.0.1", ("server.example", "10.2.0.0/24"))?;
    let server = gateway("server.example", "10.2.0.1", ("client.example", "10.1.0.0/24"))?;
    // A key exchange would make these: fresh ones for each run, known to the two ends alone.
    let (there, back) = (fresh(0x1001)?, fresh(0x1002)?);
    let pair = |inbound: &Sa, outbound: &Sa, to| {
        Pair::new("aes-256-gcm", inbound.clone(), outbound.clone(), to).ephemeral()
    };
    client.install(&"server.example".parse()?, &pair(&back, &there, server.local()))?;
    server.install(&"client.example".parse()?, &pair(&there, &back, client.local()))?;

    let address: SocketAddr = "10.2.0.1:7".parse()?;
    let listener = TcpListener::bind(&server, address, &must_be("client.example")?)?;
    let serving = thread::spawn(move || greet(&listener).map_err(|error| error.to_string()));

    let (mut stream, protection) = TcpStream::connect(&client, address, &must_be("server.example")?)?;
    println!("connected to {}: {}", protection.peer_identity(), protection.audit());
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting)?;
    println!("{greeting}");
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}

/// Greets the first who comes by the name that its SAs prove.
fn greet(listener: &TcpListener) -> Outcome<()> {
    let (mut stream, from, answer) = listener.accept()?;
    let protection = answer.latched().ok_or("its latch broke at once")?;
    println!("{from} is {}", protection.peer_identity());
    Ok(write!(stream, "hello, {}", protection.peer_identity().asserted())?)
}

/// A gateway with one address, which knows one peer.
fn gateway(identity: &str, address: &str, (peer, inner): (&str, &str)) -> Outcome<Gateway> {
    let peer = Peer::new(peer.parse()?).inner(inner.parse()?);
    let builder = Builder::new(identity.parse()?, "127.0.0.1:0".parse()?);
    Ok(builder.address(address.parse()?).peer(peer).start()?)
}

/// Whoever is on the other end must be this one, and nobody else may read along.
fn must_be(identity: &str) -> Outcome<Requirement> {
    let peer = PeerIdentity::asserting(&identity.parse()?).ok_or("this is no identity")?;
    Ok(Requirement::new().peer(&peer).protection(Protected::Confidential))
}

/// An SA with a random key: 32 octets for AES-256, and 4 of salt.
fn fresh(spi: u32) -> Outcome<Sa> {
    let mut key = [0; 36];
    getrandom::fill(&mut key).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(Sa::new(spi, &key))
}
