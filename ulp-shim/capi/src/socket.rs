//! Tokens of sockets: attached, and asked for (section 2.3.3).

use std::ffi::c_int;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use latchway_socket::{Answer, Gateway, Unlatched};

use crate::descriptor;
use crate::failure::Failure;
use crate::names::ipsec_latchway_state as state;
use crate::protection::ProtectionToken;
use crate::template::requirement;
use crate::token::{self, Handle, Token};

/// Requires of a socket what a token says, from its next packet on. Later changes of the token are no matter to it.
pub fn attach(fd: c_int, handle: Handle) -> Result<(), Failure> {
    let requirement = requirement(&*token::protection(handle)?)?;
    Ok(gateway().require(descriptor::socket(fd)?, &requirement)?)
}

/// Fills a token with what protects a socket. A failure leaves it as it was.
pub fn fill(fd: c_int, handle: Handle) -> Result<(), Failure> {
    token::protection(handle)?;
    let held = match answer(&descriptor::socket(fd)?)? {
        Answer::Latched(protection) => ProtectionToken::Held(Box::new(protection)),
        Answer::Unlatched(unlatched) => unlatched_token(unlatched)?,
        Answer::NoGateway(which) => {
            return Err(Failure::saying(libc::ENONET, format!("no gateway: {which}")));
        }
    };
    token::change(handle, |token| {
        *token = Token::Protection(Arc::new(held));
        Ok(())
    })
}

/// What can be said of a socket, as a number.
pub fn what(fd: c_int) -> Result<u32, Failure> {
    answer(&descriptor::socket(fd)?).map(|answer| state_of(&answer))
}

/// The number of an answer.
pub fn state_of(answer: &Answer) -> u32 {
    let said = match answer {
        Answer::Latched(_) => state::IPSEC_LATCHWAY_LATCHED,
        Answer::Unlatched(Unlatched::ProtectedOnly(_)) => state::IPSEC_LATCHWAY_UNLATCHED,
        Answer::Unlatched(Unlatched::Suspended { .. }) => state::IPSEC_LATCHWAY_SUSPENDED,
        Answer::Unlatched(Unlatched::Clear) => state::IPSEC_LATCHWAY_CLEAR,
        Answer::Unlatched(Unlatched::Dropped(_)) => state::IPSEC_LATCHWAY_DROPPED,
        Answer::Unlatched(Unlatched::NotConnected) => state::IPSEC_LATCHWAY_UNCONNECTED,
        Answer::NoGateway(_) => state::IPSEC_LATCHWAY_NO_GATEWAY,
    };
    said as u32
}

/// Requires nothing of a socket any more.
pub fn forget(fd: c_int) -> Result<(), Failure> {
    Ok(gateway().forget(descriptor::socket(fd)?)?)
}

/// Has every call end within so many milliseconds.
pub fn set_timeout(milliseconds: u32) -> Result<(), Failure> {
    if milliseconds == 0 {
        return Err(NO_TIME);
    }
    TIMEOUT.store(milliseconds, Ordering::Relaxed);
    Ok(())
}

fn unlatched_token(unlatched: Unlatched) -> Result<ProtectionToken, Failure> {
    match unlatched {
        Unlatched::ProtectedOnly(protection) => Ok(ProtectionToken::Held(protection)),
        Unlatched::Clear => Ok(ProtectionToken::Clear),
        Unlatched::Suspended { .. } => Err(Failure::saying(libc::ENETDOWN, unlatched.to_string())),
        Unlatched::Dropped(_) => Err(Failure::saying(libc::EACCES, unlatched.to_string())),
        Unlatched::NotConnected => Err(NOT_CONNECTED),
    }
}

fn answer(socket: &OwnedFd) -> Result<Answer, Failure> {
    Ok(gateway().protection(socket)?)
}

/// How long a call may take.
pub fn timeout() -> Duration {
    Duration::from_millis(TIMEOUT.load(Ordering::Relaxed).into())
}

/// The gateway that is asked, for as long as that.
pub fn gateway() -> Gateway {
    Gateway::of_process().with_timeout(timeout())
}

/// In milliseconds.
static TIMEOUT: AtomicU32 = AtomicU32::new(2_000);

const NOT_CONNECTED: Failure =
    Failure::new(libc::ENOTCONN, "the socket has no other end yet; ask when it is connected or accepted");
const NO_TIME: Failure =
    Failure::new(libc::EINVAL, "no answer comes in no time; give one millisecond at least");
