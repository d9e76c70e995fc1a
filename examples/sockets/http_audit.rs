//! An HTTP server that logs who asked for what, by proven identities instead of addresses and passwords.
//!
//!     http_audit LISTEN                for example: http_audit 10.1.0.1:80
//!
//! One line for each request: the moment, the peer and how it proved who it is, what protected the connection, the request. The
//! answer tells the peer who the server takes it for; `/binding` is the channel binding, which must be the same at the other end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime};

use latchway_socket::{Answer, Gateway, Protected, Protection, Requirement, protection};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).ok_or("usage: http_audit LISTEN")?.parse()?;
    let listener = TcpListener::bind(address)?;
    // What comes unprotected gets no answer at all; and a channel can be bound only to what somebody required.
    let gateway = Gateway::find()?.with_timeout(PATIENCE);
    gateway.require(&listener, &Requirement::new().protection(Protected::Authenticated))?;
    println!("listening");
    loop {
        let (stream, from) = listener.accept()?;
        match protection(&stream) {
            Ok(Answer::Latched(protection)) => {
                thread::spawn(move || serve(stream, &protection));
            }
            Ok(other) => println!("{from} refused: {other}"),
            Err(error) => println!("{from} refused: {error}"),
        }
    }
}

fn serve(mut stream: TcpStream, protection: &Protection) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(LONGEST));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::from(" ");
    while !header.trim().is_empty() {
        header.clear();
        reader.read_line(&mut header)?;
    }
    // What the peer says is not let onto the log but as one line of printable characters.
    println!("{} {} {:?}", seconds(), protection.audit(), request.trim_end());

    let mut words = request.split_whitespace();
    let (status, said) = match (words.next(), words.next()) {
        (Some("GET"), Some("/")) => ("200 OK", format!("you are {}\n", protection.peer_identity())),
        (Some("GET"), Some("/binding")) => match protection.channel_binding() {
            Ok(binding) => ("200 OK", format!("{binding}\n")),
            Err(why) => ("404 Not Found", format!("no channel can be bound: {why}\n")),
        },
        (Some("GET"), _) => ("404 Not Found", "there is / and /binding\n".to_owned()),
        _ => ("405 Method Not Allowed", "GET it\n".to_owned()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}",
        said.len()
    )
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// With a peer or a gateway that is slow.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of a request, in octets.
const LONGEST: u64 = 16 << 10;
