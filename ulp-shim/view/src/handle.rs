//! Handles of endpoints: numbers of constant size, which say nothing and are known to this process alone (K-7, K-8).

use std::collections::HashMap;
use std::net::Ipv6Addr;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::failure::Failure;

/// A handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

impl Handle {
    /// Any address, to bind to.
    pub const ANY: Self = Self(0);
}

/// What a handle stands for; addresses of IPv4 are mapped ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: Ipv6Addr,
    /// The interface that it is of, where it is local to one.
    pub scope: u32,
}

/// The handles of a process. They stay: a program may keep an address for as long as it likes.
#[derive(Debug, Default)]
pub struct Handles {
    endpoints: HashMap<Handle, Endpoint>,
    given: HashMap<Endpoint, Handle>,
}

impl Handles {
    /// The handle of an endpoint, always the same one.
    pub fn give(&mut self, endpoint: Endpoint) -> Result<Handle, Failure> {
        if endpoint.address.is_unspecified() {
            return Ok(Handle::ANY);
        }
        if let Some(handle) = self.given.get(&endpoint) {
            return Ok(*handle);
        }
        if self.endpoints.len() >= MOST {
            return Err(TOO_MANY);
        }
        let handle = self.fresh()?;
        self.endpoints.insert(handle, endpoint);
        self.given.insert(endpoint, handle);
        Ok(handle)
    }

    /// What a handle stands for.
    pub fn endpoint(&self, handle: Handle) -> Option<Endpoint> {
        self.endpoints.get(&handle).copied()
    }

    /// One that nobody has, here or in another process.
    fn fresh(&self) -> Result<Handle, Failure> {
        for _ in 0..ATTEMPTS {
            let mut octets = [0; 8];
            let filled = getrandom(&mut octets, GetRandomFlags::empty())?;
            let handle = Handle(u64::from_ne_bytes(octets));
            if filled == octets.len() && handle != Handle::ANY && !self.endpoints.contains_key(&handle) {
                return Ok(handle);
            }
        }
        Err(TOO_MANY)
    }
}

/// Of endpoints, whose addresses a process resolves in all its life.
const MOST: usize = 1 << 16;
/// To find a number that is not taken, which most are not.
const ATTEMPTS: usize = 16;

const TOO_MANY: Failure = Failure::new(libc::ENOMEM, "the process has had handles for 65536 addresses");

#[cfg(test)]
mod tests {
    use super::*;

    /// K-7: an endpoint has one handle, however often it is resolved; and there is an end to them.
    #[test]
    fn k_7_an_endpoint_has_one_handle() {
        let endpoint = |number: u32| Endpoint { address: Ipv6Addr::from(u128::from(number)), scope: 0 };
        let mut handles = Handles::default();
        assert_eq!(handles.give(endpoint(0)), Ok(Handle::ANY));
        let all: Vec<Handle> = (1..=1 << 16).map(|number| handles.give(endpoint(number)).unwrap()).collect();
        assert_eq!(handles.give(endpoint(7)), Ok(all[6]));
        assert_eq!(handles.endpoint(all[6]), Some(endpoint(7)));
        assert_eq!(handles.give(endpoint((1 << 16) + 1)), Err(TOO_MANY));
        assert_eq!(handles.endpoint(Handle::ANY), None);
    }
}
