//! Making PF_SHIM sockets (K-1 to K-3).

use std::ffi::c_int;

use latchway_socket::{Answer, ErrorKind};
use rustix::net::sockopt::set_ipv6_v6only;

use crate::descriptor;
use crate::failure::Failure;
use crate::kept::{gateway, hear_of_forks};
use crate::mark;

/// Makes a socket of IPv6, which the kernel has just made, one of PF_SHIM: it reaches IPv4, too, and a gateway carries what it
/// sends. Where none does, the family is not supported here.
pub fn become_shim(fd: c_int) -> Result<(), Failure> {
    hear_of_forks()?;
    descriptor::borrowed(fd, |socket| Some(set_ipv6_v6only(socket, false))).transpose()?;
    let asked = descriptor::borrowed(fd, |socket| Some(gateway().protection(socket)));
    match asked.ok_or(NO_SOCKET)? {
        Ok(Answer::NoGateway(which)) => {
            let said = format!("no gateway: {which}; start latchway, or name its app.sock in LATCHWAY_APP");
            Err(Failure::saying(libc::EAFNOSUPPORT, said))
        }
        Ok(Answer::Latched(_) | Answer::Unlatched(_)) => mark::set(fd),
        Err(error) if error.kind() == ErrorKind::NotInternet => {
            Err(Failure::saying(libc::EAFNOSUPPORT, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

const NO_SOCKET: Failure = Failure::new(libc::EAFNOSUPPORT, "the kernel has no sockets of IPv6");
