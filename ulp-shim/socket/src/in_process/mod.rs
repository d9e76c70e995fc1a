//! A gateway inside the program: its own TCP and UDP, over one UDP socket, without root, TUN or namespace.
//!
//! The same datapath, Latch Database and key manager as the daemon's, with a TCP/IP stack on top of them instead of the
//! kernel's. Whatever a socket sends leaves as ESP in UDP (RFC 3948) or not at all: there is no way out in the clear. A
//! connection has its latch before its first segment is answered (L-80), so that what [`protection`](TcpStream::protection)
//! says holds from the first octet to the last, and a connection whose latch breaks is ended (L-74, L-109).
//!
//! ```no_run
//! use latchway_socket::Requirement;
//! use latchway_socket::in_process::{Builder, Pair, Peer, Sa, TcpStream};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let inbound = Sa::new(0x1001, &std::fs::read("b-to-a.key")?);
//! let outbound = Sa::new(0x1002, &std::fs::read("a-to-b.key")?);
//! let pair = Pair::new("aes-256-gcm", inbound, outbound, "192.0.2.2:4500".parse()?).ephemeral();
//! let gateway = Builder::new("a.example".parse()?, "0.0.0.0:4500".parse()?)
//!     .address("10.1.0.1".parse()?)
//!     .peer(Peer::new("b.example".parse()?).inner("10.2.0.0/24".parse()?).pair(pair))
//!     .start()?;
//! let (stream, protection) = TcpStream::connect(&gateway, "10.2.0.1:80".parse()?, &Requirement::new())?;
//! println!("{} is at {}", protection.peer_identity(), stream.remote());
//! # Ok(())
//! # }
//! ```

mod assembly;
mod builder;
mod classes;
mod demands;
mod device;
mod gateway;
mod line;
mod stack;
mod tagging;
mod tcp;
mod udp;

#[cfg(test)]
mod tests;

pub use self::builder::{Builder, Pair, Peer, Sa};
pub use self::gateway::Gateway;
pub use self::tcp::{TcpListener, TcpStream};
pub use self::udp::UdpSocket;
