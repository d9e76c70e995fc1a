//! The options of PF_SHIM sockets that are read: who is there, and what protects it (K-4, K-5).

use std::ffi::c_int;
use std::os::fd::OwnedFd;

use latchway_socket::{Answer, Mode, Protection, Strength, Unlatched};

use crate::descriptor;
use crate::failure::{Failure, last_sentence};
use crate::kept::gateway;
use crate::names::{
    SHIM_AUDIT, SHIM_CLEAR, SHIM_DROPPED, SHIM_ERROR, SHIM_EVENTS, SHIM_EVENTS_DESCRIPTOR, SHIM_LATCHED,
    SHIM_LOCAL_IDENTITY, SHIM_NO_GATEWAY, SHIM_OPTIONS_PROTECTED, SHIM_PEER_EXPORT, SHIM_PEER_IDENTITY,
    SHIM_PROTECTION, SHIM_REPLAY_CHECKED, SHIM_REQUIRED, SHIM_SUSPENDED, SHIM_TRANSPORT, SHIM_TUNNEL,
    SHIM_UNCONNECTED, SHIM_UNLATCHED,
};
use crate::watch;

/// The octets of an option.
pub fn read(fd: c_int, option: c_int) -> Result<Vec<u8>, Failure> {
    let socket = || descriptor::own(fd);
    match option {
        SHIM_PEER_IDENTITY => Ok(text(&latched(&socket()?)?.peer_identity().asserted().to_string())),
        SHIM_PEER_EXPORT => Ok(text(&latched(&socket()?)?.peer_identity().export())),
        SHIM_AUDIT => Ok(text(latched(&socket()?)?.audit())),
        SHIM_LOCAL_IDENTITY => {
            let held = latched(&socket()?)?;
            let own = held.local_identity().ok_or(NOT_SAID)?;
            Ok(text(&own.asserted().to_string()))
        }
        SHIM_PROTECTION => Ok(protection(&gateway().protection(socket()?)?)),
        SHIM_REQUIRED => Ok(number(c_int::from(gateway().is_required(socket()?)?))),
        SHIM_EVENTS => Ok(watch::events(fd).to_ne_bytes().to_vec()),
        SHIM_EVENTS_DESCRIPTOR => watch::descriptor(fd).map(number).ok_or(NO_EVENTS),
        SHIM_ERROR => Ok(text(&last_sentence())),
        _ => Err(NO_OPTION),
    }
}

/// The number of an answer.
pub fn state_of(answer: &Answer) -> u32 {
    match answer {
        Answer::Latched(_) => SHIM_LATCHED,
        Answer::Unlatched(Unlatched::ProtectedOnly(_)) => SHIM_UNLATCHED,
        Answer::Unlatched(Unlatched::Suspended { .. }) => SHIM_SUSPENDED,
        Answer::Unlatched(Unlatched::Clear) => SHIM_CLEAR,
        Answer::Unlatched(Unlatched::Dropped(_)) => SHIM_DROPPED,
        Answer::Unlatched(Unlatched::NotConnected) => SHIM_UNCONNECTED,
        Answer::NoGateway(_) => SHIM_NO_GATEWAY,
    }
}

/// Who is there is said of a socket that is latched, and of no other: there it stays so.
fn latched(socket: &OwnedFd) -> Result<Protection, Failure> {
    let answer = gateway().protection(socket)?;
    let errno = match &answer {
        Answer::Latched(protection) => return Ok(protection.clone()),
        Answer::Unlatched(Unlatched::ProtectedOnly(_) | Unlatched::Clear) => libc::ENODATA,
        Answer::Unlatched(Unlatched::Suspended { .. }) => libc::ENETDOWN,
        Answer::Unlatched(Unlatched::Dropped(_)) => libc::EACCES,
        Answer::Unlatched(Unlatched::NotConnected) => libc::ENOTCONN,
        Answer::NoGateway(_) => libc::ENONET,
    };
    Err(Failure::saying(errno, format!("nobody is known to be on the other end: {answer}")))
}

/// `struct shim_protection`.
fn protection(answer: &Answer) -> Vec<u8> {
    let held = match answer {
        Answer::Latched(held) => Some(held),
        Answer::Unlatched(Unlatched::ProtectedOnly(held)) => Some(&**held),
        Answer::Unlatched(_) | Answer::NoGateway(_) => None,
    };
    let facts = held.map_or([0; 4], |held| {
        let mode = match held.mode() {
            Mode::Tunnel => SHIM_TUNNEL,
            Mode::Transport => SHIM_TRANSPORT,
        };
        let replay = if held.replay_checked() { SHIM_REPLAY_CHECKED } else { 0 };
        let options = if held.options_protected() { SHIM_OPTIONS_PROTECTED } else { 0 };
        let privacy = u32::from(held.confidential().key_bits());
        [privacy, icv_bits(held.integrity()), mode, replay | options]
    });
    let words = [state_of(answer)].into_iter().chain(facts).chain([0]);
    words.flat_map(u32::to_ne_bytes).collect()
}

/// The shortest check values that protect as well, in bits.
const fn icv_bits(integrity: Strength) -> u32 {
    match integrity {
        Strength::None => 0,
        Strength::Low => 64,
        Strength::Medium => 128,
        Strength::High => 192,
    }
}

/// What C takes for a text: none that are read here have a NUL in them, and what is behind one would not be seen.
fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn number(number: c_int) -> Vec<u8> {
    number.to_ne_bytes().to_vec()
}

const NOT_SAID: Failure = Failure::new(libc::ENODATA, "the gateway does not say who we are towards the peer");
const NO_EVENTS: Failure =
    Failure::new(libc::ENODATA, "no events are told of the socket; set SHIM_EVENTS first");
const NO_OPTION: Failure = Failure::new(
    libc::ENOPROTOOPT,
    "there is no such option of PF_SHIM sockets to read; see latchway_shim(7)",
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels of integrity are the same as those of the library of sockets.
    #[test]
    fn k_5_integrity_is_told_by_the_shortest_check_value_of_its_level() {
        for level in [Strength::Low, Strength::Medium, Strength::High] {
            let bits = icv_bits(level).try_into().unwrap();
            assert_eq!(Strength::of_icv_bits(bits), level);
            assert!(Strength::of_icv_bits(bits - 1) < level);
        }
        assert_eq!(icv_bits(Strength::None), 0);
    }

    #[test]
    fn k_5_an_option_that_is_not_there_is_none() {
        for option in [0, 6, 11, -1] {
            assert_eq!(read(-1, option).unwrap_err().errno(), libc::ENOPROTOOPT, "{option}");
        }
        assert_eq!(read(-1, SHIM_ERROR), Ok(vec![0]));
        assert_eq!(read(-1, SHIM_AUDIT).unwrap_err().errno(), libc::EBADF);
    }
}
