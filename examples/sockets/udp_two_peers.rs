//! A server for datagrams that tells each peer who it is, and counts what each one says: one socket, many peers.
//!
//! ```text
//! udp_two_peers LISTEN             for example: udp_two_peers 10.1.0.1:9000
//! ```
//!
//! Each datagram has a tag of its own. What is counted is counted for an identity: the same peer is the same from another
//! address, and another peer at the same address is another. A datagram of which nothing is certain, as the first of a flow,
//! gets no answer: whoever wants one asks again.

use std::collections::HashMap;
use std::net::SocketAddr;

use latchway_socket::{DatagramTag, Identity, UdpSocket};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).ok_or("usage: udp_two_peers LISTEN")?.parse()?;
    let socket = UdpSocket::bind(address)?;
    println!("listening");
    let mut counts: HashMap<Identity, u64> = HashMap::new();
    let mut octets = [0; 2048];
    loop {
        let (_, from, tag) = socket.recv_from(&mut octets)?;
        match tag {
            DatagramTag::Certain(protection) => {
                let peer = protection.peer_identity().asserted();
                let count = counts.entry(peer.clone()).or_default();
                *count = count.saturating_add(1);
                println!("{from} is {peer}: {count}");
                let answer = format!("you are {peer}, and said {count} things\n");
                socket.socket().send_to(answer.as_bytes(), from)?;
            }
            DatagramTag::Unknown(why) => println!("{from} may be anybody: {why:?}"),
        }
    }
}
