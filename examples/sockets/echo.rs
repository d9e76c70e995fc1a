//! A server that answers with what it is told, to those on its list and to nobody else.
//!
//!     echo LISTEN IDENTITY...          for example: echo 10.1.0.1:7 fqdn:b.example fqdn:c.example
//!
//! Who is on the list the program decides by the identity that the peer has proven, and never by its address. Only a connection that
//! is latched is served: it stays with this peer as long as it lives.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use latchway_socket::{Answer, Identity, protection};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("usage: echo LISTEN IDENTITY...")?.parse()?;
    let list = arguments.map(|name| name.parse()).collect::<Result<Vec<Identity>, _>>()?;

    let listener = TcpListener::bind(address)?;
    println!("listening");
    loop {
        let (stream, from) = listener.accept()?;
        match protection(&stream) {
            Ok(Answer::Latched(protection)) if list.contains(protection.peer_identity().asserted()) => {
                println!("{from} accepted: {}", protection.audit());
                thread::spawn(move || echo(stream));
            }
            Ok(other) => println!("{from} refused: {other}"),
            // It may be over before it is asked about; the next one is none the worse for it.
            Err(error) => println!("{from} refused: {error}"),
        }
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut octets = [0; 4096];
    loop {
        let said = stream.read(&mut octets)?;
        match octets.get(..said) {
            Some(said) if !said.is_empty() => stream.write_all(said)?,
            _ => return Ok(()),
        }
    }
}
