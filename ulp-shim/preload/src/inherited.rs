//! Descriptors that a program would have from the start, and nothing would be required of (T38).

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;

use crate::error::LaunchError;
use crate::low;

/// Refuses to start a program that would inherit a way to the network.
pub fn refuse() -> Result<(), LaunchError> {
    let system = LaunchError::system("looking at the descriptors that the program would inherit");
    match first() {
        Ok(None) => Ok(()),
        Ok(Some((descriptor, what))) => Err(LaunchError::Inherited { descriptor, what }),
        Err(error) => Err(system(error)),
    }
}

/// The first such descriptor, and what it is.
fn first() -> io::Result<Option<(RawFd, &'static str)>> {
    for entry in fs::read_dir(OURS)? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(what) = what(number)? else { continue };
        return Ok(Some((number, what)));
    }
    Ok(None)
}

/// What a descriptor leads to, if that is a network. What is closed when the program starts, does not concern it.
fn what(number: RawFd) -> io::Result<Option<&'static str>> {
    if low::is_closed_on_exec(number)? {
        return Ok(None);
    }
    match socket_domain(low::copy(number)?) {
        Ok(AddressFamily::UNIX | AddressFamily::NETLINK) => Ok(None),
        Ok(AddressFamily::INET | AddressFamily::INET6) => Ok(Some("a socket of the Internet")),
        Ok(_) => Ok(Some("a socket of a family that cannot be held")),
        Err(Errno::NOTSOCK) => {
            let leads = fs::read_link(Path::new(OURS).join(number.to_string()))?;
            Ok((leads == Path::new("anon_inode:[io_uring]")).then_some("a ring of io_uring"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Our own descriptors, by their numbers.
const OURS: &str = "/proc/self/fd";
