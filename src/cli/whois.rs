//! `latchway whois`: who is on the other end of a connection.

use std::net::SocketAddr;

use clap::Args;
use latchway_control::Whois;

use crate::cli::ask::Form;
use crate::cli::change::protocol;

/// What `latchway whois` is told.
#[derive(Debug, Args)]
pub struct Options {
    /// An end of the connection, as 10.1.0.1:40000, or both with a dash between, as 10.1.0.1:40000-10.2.0.1:80.
    #[arg(value_name = "ADDRESS:PORT[-ADDRESS:PORT]", value_parser = ends)]
    ends: Ends,
    /// The upper-layer protocol by name or number; any where it is missing.
    #[arg(long, value_parser = protocol)]
    protocol: Option<u8>,
    #[command(flatten)]
    pub form: Form,
}

type Ends = (SocketAddr, Option<SocketAddr>);

impl Options {
    /// The call.
    pub const fn call(&self) -> Whois {
        let (endpoint, other) = self.ends;
        Whois { endpoint, other, protocol: self.protocol }
    }
}

fn ends(text: &str) -> Result<Ends, String> {
    let end = |text: &str| {
        let end = text.trim().parse::<SocketAddr>();
        end.map_err(|_| {
            format!("{text:?} is no address with a port; write 10.1.0.1:80 or [fd00::1]:80, not a name")
        })
    };
    let ends = match text.split_once('-') {
        Some((one, other)) => (end(one)?, Some(end(other)?)),
        None => (end(text)?, None),
    };
    match ends {
        (one, Some(other)) if one.is_ipv4() != other.is_ipv4() => {
            Err(format!("{one} and {other} are of different families; a connection has two addresses of one"))
        }
        ends => Ok(ends),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_or_both_are_written_with_their_ports() {
        let end = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(ends("10.1.0.1:80").unwrap(), (end("10.1.0.1:80"), None));
        let both = (end("10.1.0.1:40000"), Some(end("10.2.0.1:80")));
        assert_eq!(ends("10.1.0.1:40000-10.2.0.1:80").unwrap(), both);
        assert_eq!(ends("[fd00::1]:1-[fd01::2]:2").unwrap(), (end("[fd00::1]:1"), Some(end("[fd01::2]:2"))));
        for wrong in [
            "",
            "10.1.0.1",
            "10.1.0.1:80-",
            "10.1.0.1:80-[fd00::1]:1",
            "a.example:80",
            "10.1.0.1:80 10.2.0.1:1",
        ] {
            assert!(!ends(wrong).unwrap_err().is_empty(), "{wrong}");
        }
    }
}
