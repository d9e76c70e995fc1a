//! What is required of a PF_SHIM socket by setsockopt(): `SHIM_REQUIRE` (K-6). The gateway's policy and PAD say whether it may be.

use std::ffi::c_int;

use latchway_socket::{Identity, Mode, PeerIdentity, Protected, Requirement};

use crate::descriptor;
use crate::failure::Failure;
use crate::kept::gateway;
use crate::names::{
    SHIM_AUTHENTICATED, SHIM_CONFIDENTIAL, SHIM_OPTIONS_PROTECTED, SHIM_REPLAY_CHECKED, SHIM_TRANSPORT,
    SHIM_TUNNEL,
};

/// A `struct shim_requirement` with its texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// As the fields are called in C.
    pub protection: u32,
    /// The same.
    pub key_bits: u32,
    /// The same.
    pub mode: u32,
    /// The same.
    pub flags: u32,
    /// `None` where it was NULL.
    pub peer: Option<Vec<u8>>,
    /// The same.
    pub local: Option<Vec<u8>>,
}

/// Requires it, from the socket's next packet on. Nothing at all takes back what was required before.
pub fn require(fd: c_int, wanted: &Wanted) -> Result<(), Failure> {
    let requirement = requirement(wanted)?;
    let socket = descriptor::own(fd)?;
    if *wanted == Wanted::default() {
        return Ok(gateway().forget(socket)?);
    }
    Ok(gateway().require(socket, &requirement)?)
}

fn requirement(wanted: &Wanted) -> Result<Requirement, Failure> {
    let mut requirement = Requirement::new();
    if let Some(peer) = &wanted.peer {
        requirement = requirement.peer(&identity(peer)?);
    }
    if let Some(local) = &wanted.local {
        requirement = requirement.local(identity(local)?.asserted());
    }
    requirement = match wanted.protection {
        0 => requirement,
        SHIM_AUTHENTICATED => requirement.protection(Protected::Authenticated),
        SHIM_CONFIDENTIAL => requirement.protection(Protected::Confidential),
        _ => return Err(NO_PROTECTION),
    };
    requirement = match wanted.mode {
        0 => requirement,
        SHIM_TUNNEL => requirement.mode(Mode::Tunnel),
        SHIM_TRANSPORT => requirement.mode(Mode::Transport),
        _ => return Err(NO_MODE),
    };
    if wanted.flags & !(SHIM_REPLAY_CHECKED | SHIM_OPTIONS_PROTECTED) != 0 {
        return Err(NO_FLAGS);
    }
    if wanted.flags & SHIM_REPLAY_CHECKED != 0 {
        requirement = requirement.replay_checked();
    }
    if wanted.flags & SHIM_OPTIONS_PROTECTED != 0 {
        requirement = requirement.options_protected();
    }
    let bits = u16::try_from(wanted.key_bits).map_err(|_| NO_KEY_BITS)?;
    Ok(requirement.key_bits(bits))
}

/// An identity as it is written, or one that was kept with what it was proven by.
fn identity(text: &[u8]) -> Result<PeerIdentity, Failure> {
    let text = str::from_utf8(text).map_err(|_| NO_IDENTITY)?;
    if text.starts_with(KEPT) {
        return PeerIdentity::import(text).map_err(|error| Failure::saying(libc::EINVAL, error.to_string()));
    }
    let identity: Identity = text.parse().map_err(|_| NO_IDENTITY)?;
    PeerIdentity::asserting(&identity).ok_or(NO_IDENTITY)
}

/// How what `SHIM_PEER_EXPORT` gives begins.
const KEPT: &str = "latchway-itoken:";

const NO_PROTECTION: Failure =
    Failure::new(libc::EINVAL, "sr_protection is none of 0, SHIM_AUTHENTICATED, SHIM_CONFIDENTIAL");
const NO_MODE: Failure = Failure::new(libc::EINVAL, "sr_mode is none of 0, SHIM_TUNNEL, SHIM_TRANSPORT");
const NO_FLAGS: Failure =
    Failure::new(libc::EINVAL, "sr_flags has more than SHIM_REPLAY_CHECKED and SHIM_OPTIONS_PROTECTED");
const NO_KEY_BITS: Failure = Failure::new(libc::EINVAL, "no key has as many bits as sr_key_bits says");
const NO_IDENTITY: Failure = Failure::new(
    libc::EINVAL,
    "the text is no identity; write a domain name, a mail address, an IP address, or one with its kind in front, as \
     fqdn:b.example, or what SHIM_PEER_EXPORT gave",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_6_every_field_is_a_constraint() {
        let wanted = Wanted {
            protection: SHIM_CONFIDENTIAL,
            key_bits: 192,
            mode: SHIM_TUNNEL,
            flags: SHIM_REPLAY_CHECKED | SHIM_OPTIONS_PROTECTED,
            peer: Some(b"b.example".to_vec()),
            local: Some(b"fqdn:a.example".to_vec()),
        };
        let peer = PeerIdentity::asserting(&"b.example".parse().unwrap()).unwrap();
        let expected = Requirement::new()
            .peer(&peer)
            .local(&"a.example".parse().unwrap())
            .protection(Protected::Confidential)
            .mode(Mode::Tunnel)
            .replay_checked()
            .options_protected()
            .key_bits(192);
        assert_eq!(requirement(&wanted), Ok(expected));
        assert_eq!(requirement(&Wanted::default()), Ok(Requirement::new()));
        let kept = "latchway-itoken:1;id=fqdn:b.example;method=manual";
        let again = Wanted { peer: Some(kept.into()), ..Wanted::default() };
        assert_eq!(requirement(&again), Ok(Requirement::new().peer(&PeerIdentity::import(kept).unwrap())));
    }

    /// K-6: what is not understood is refused, for leaving it out would weaken the requirement.
    #[test]
    fn k_6_what_is_not_understood_is_refused() {
        let none = Wanted::default;
        for wanted in [
            Wanted { protection: 3, ..none() },
            Wanted { mode: 3, ..none() },
            Wanted { flags: 4, ..none() },
            Wanted { key_bits: 1 << 16, ..none() },
            Wanted { peer: Some(Vec::new()), ..none() },
            Wanted { peer: Some(b"\xff".to_vec()), ..none() },
            Wanted { local: Some(b"b.example.".to_vec()), ..none() },
            Wanted { peer: Some(b"latchway-itoken:2;".to_vec()), ..none() },
        ] {
            assert_eq!(require(-1, &wanted).unwrap_err().errno(), libc::EINVAL, "{wanted:?}");
        }
        assert_eq!(require(-1, &none()).unwrap_err().errno(), libc::EBADF);
    }
}
