//! The functions that C calls. Each looks at its pointers and makes one call into safe code.

#![expect(unsafe_code, reason = "pointers of C callers")]
#![expect(non_snake_case, reason = "names of C, as the draft has them")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;

use crate::accessor::{self, Reading};
use crate::failure::{self, Failure, answer};
use crate::names::{ipsec_iToken, ipsec_iToken_t, ipsec_pToken, ipsec_pToken_t};
use crate::socket;
use crate::token::{self, Handle, Kind, Token};

/// Makes an identity token that names nobody: every method will do. Returns it, or NULL and errno.
#[unsafe(no_mangle)]
pub extern "C" fn ipsec_create_iToken() -> ipsec_iToken_t {
    made::<ipsec_iToken>(Token::Identity(Arc::default()))
}

/// Frees an identity token. Returns 0, or -1 and errno, for NULL as well.
#[unsafe(no_mangle)]
pub extern "C" fn ipsec_free_iToken(p: ipsec_iToken_t) -> c_int {
    answer(token::free(Handle::given(p), Kind::Identity))
}

/// Reads an attribute of a token of either kind into attr_val, which has room for *attr_len octets; *attr_len becomes the
/// length of the value, NULs included. With attr_val NULL, or too little room (ERANGE), that is all that happens.
///
/// # Safety
///
/// `attr_len` must be NULL or point to a length, and `attr_val` be NULL or have room for as many octets.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_get_token_attr(
    token: *const c_void,
    attr_type: u32,
    attr_len: *mut u32,
    attr_val: *mut c_void,
) -> c_int {
    let reading = || {
        if attr_len.is_null() {
            return Err(NO_LENGTH);
        }
        let reading = accessor::read(Handle::given(token), attr_type)?;
        // SAFETY: the length is not NULL, and by the caller's word there is as much room.
        unsafe { give(reading, attr_len, attr_val) }
    };
    answer(reading())
}

/// Writes an attribute of a token that was made by its constructor. attr_len is the length of the value, NULs included.
///
/// # Safety
///
/// `attr_val` must be NULL or point to `attr_len` octets.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_set_token_attr(
    token: *const c_void,
    attr_type: u32,
    attr_len: u32,
    attr_val: *const c_void,
) -> c_int {
    let writing = || {
        let length = usize::try_from(attr_len).ok().filter(|length| *length <= LONGEST).ok_or(TOO_LONG)?;
        let value = attr_val.cast::<u8>();
        let octets = if value.is_null() {
            None
        } else {
            // SAFETY: there are so many octets by the caller's word, and nobody writes them meanwhile.
            Some(unsafe { std::slice::from_raw_parts(value, length) })
        };
        accessor::write(Handle::given(token), attr_type, octets)
    };
    answer(writing())
}

/// Makes a protection token that demands nothing. Returns it, or NULL and errno.
#[unsafe(no_mangle)]
pub extern "C" fn ipsec_create_pToken() -> ipsec_pToken_t {
    made::<ipsec_pToken>(Token::Protection(Arc::default()))
}

/// Frees a protection token. Returns 0, or -1 and errno, for NULL as well.
#[unsafe(no_mangle)]
pub extern "C" fn ipsec_free_pToken(p: ipsec_pToken_t) -> c_int {
    answer(token::free(Handle::given(p), Kind::Protection))
}

/// Compares: 0 if both stand for identical ranges of the policy and equivalent cryptography, or demand the same; 1 if not;
/// -1 and errno if one is no token.
#[unsafe(no_mangle)]
pub extern "C" fn ipsec_cmp_pToken(p1: ipsec_pToken_t, p2: ipsec_pToken_t) -> c_int {
    let compared = || {
        let (one, other) = (token::protection(Handle::given(p1))?, token::protection(Handle::given(p2))?);
        Ok(one.is_equivalent(&other))
    };
    match compared() {
        Ok(equivalent) => c_int::from(!equivalent),
        Err(failure) => answer(Err(failure)),
    }
}

/// Copies a token, which then has to be freed, too. *p_dup is written only on success.
///
/// # Safety
///
/// `p_dup` must be NULL or point to room for a token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_dup_pToken(p: ipsec_pToken_t, p_dup: *mut ipsec_pToken_t) -> c_int {
    let duplicating = || {
        if p_dup.is_null() {
            return Err(NO_ROOM);
        }
        let copy = token::keep(Token::Protection(token::protection(Handle::given(p))?))?;
        // SAFETY: it is not NULL, and the caller's word says that a token can be written there.
        unsafe { p_dup.write_unaligned(copy.pointer()) };
        Ok(())
    };
    answer(duplicating())
}

/// Attaches a token to a socket: from its next packet on the socket is held to what the token demands, for as long as it
/// lives. Do so before connect() or listen(). Returns 0, or -1 and errno.
#[unsafe(no_mangle)]
pub extern "C" fn ipsec_set_socket_pToken(fd: c_int, pToken: ipsec_pToken_t) -> c_int {
    answer(socket::attach(fd, Handle::given(pToken)))
}

/// Fills a token, which the caller has made, with what protects a socket. Returns 0, or -1 and errno; the token is then as it
/// was.
#[unsafe(no_mangle)]
pub extern "C" fn ipsec_get_socket_pToken(fd: c_int, pToken: ipsec_pToken_t) -> c_int {
    answer(socket::fill(fd, Handle::given(pToken)))
}

/// Writes an identity as text, which can be kept and read again: one line of ASCII. The rules of length are those of
/// ipsec_get_token_attr().
///
/// # Safety
///
/// `len` must be NULL or point to a length, and `text` be NULL or have room for as many octets.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_iToken_export(p: ipsec_iToken_t, text: *mut c_char, len: *mut u32) -> c_int {
    let exporting = || {
        if len.is_null() {
            return Err(NO_LENGTH);
        }
        let reading = accessor::export(Handle::given(p))?;
        // SAFETY: the length is not NULL, and by the caller's word there is as much room.
        unsafe { give(reading, len, text.cast()) }
    };
    answer(exporting())
}

/// Reads an identity from text that ipsec_iToken_export() wrote. *out is written only on success, and has to be freed.
///
/// # Safety
///
/// `text` must be NULL or end with a NUL, and `out` be NULL or point to room for a token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_iToken_import(text: *const c_char, out: *mut ipsec_iToken_t) -> c_int {
    let importing = || {
        if text.is_null() || out.is_null() {
            return Err(NO_TEXT);
        }
        // SAFETY: the text is not NULL, and ends by the caller's word; nobody writes it meanwhile.
        let text = unsafe { CStr::from_ptr(text) };
        let handle = accessor::import(text)?;
        // SAFETY: it is not NULL, and the caller's word says that a token can be written there.
        unsafe { out.write_unaligned(handle.pointer()) };
        Ok(())
    };
    answer(importing())
}

/// Tells what can be said of a socket: one of IPSEC_LATCHWAY_LATCHED to _NO_GATEWAY.
///
/// # Safety
///
/// `state` must be NULL or point to a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_latchway_state(fd: c_int, state: *mut u32) -> c_int {
    let telling = || {
        if state.is_null() {
            return Err(NO_STATE);
        }
        let what = socket::what(fd)?;
        // SAFETY: it is not NULL, and the caller's word says that a number can be written there.
        unsafe { state.write_unaligned(what) };
        Ok(())
    };
    answer(telling())
}

/// Takes back what was attached to a socket: nothing is demanded of it any more.
#[unsafe(no_mangle)]
pub extern "C" fn ipsec_latchway_forget(fd: c_int) -> c_int {
    answer(socket::forget(fd))
}

/// Has every later call of the process that asks the gateway end within so many milliseconds; 2000 where none was set.
#[unsafe(no_mangle)]
pub extern "C" fn ipsec_latchway_set_timeout(ms: u32) -> c_int {
    answer(socket::set_timeout(ms))
}

/// What made this thread's last call fail, and what to do about it, in words. They stay until the next one that fails.
#[unsafe(no_mangle)]
pub extern "C" fn ipsec_latchway_error() -> *const c_char {
    failure::last_sentence()
}

/// Gives what was read: its length, and itself where there is room.
///
/// # Safety
///
/// There is a length at `length`, and `value` is NULL or has room for as many octets.
unsafe fn give(reading: Reading, length: *mut u32, value: *mut c_void) -> Result<(), Failure> {
    let needed = u32::try_from(reading.len()).map_err(|_| TOO_LONG)?;
    // SAFETY: as above.
    let room = unsafe { length.read_unaligned() };
    // SAFETY: as above.
    unsafe { length.write_unaligned(needed) };
    if value.is_null() {
        return Ok(());
    }
    if room < needed {
        return Err(SHORT);
    }
    let octets = reading.octets()?;
    // SAFETY: there is room for `needed` octets, which is what there are; they are ours, so they do not overlap.
    unsafe { value.cast::<u8>().copy_from_nonoverlapping(octets.as_ptr(), octets.len()) };
    Ok(())
}

fn made<T>(token: Token) -> *mut T {
    match token::keep(token) {
        Ok(handle) => handle.pointer(),
        Err(failure) => {
            failure::tell(failure);
            std::ptr::null_mut()
        }
    }
}

/// The longest value that is looked at.
const LONGEST: usize = 1 << 20;

const NO_LENGTH: Failure = Failure::new(libc::EINVAL, "there is no length; attr_len is NULL");
const NO_TEXT: Failure =
    Failure::new(libc::EINVAL, "there is no text, or no place for the token; one is NULL");
const NO_STATE: Failure = Failure::new(libc::EINVAL, "there is no place for the state; it is NULL");
const NO_ROOM: Failure = Failure::new(libc::EINVAL, "there is no place for the copy; p_dup is NULL");
const SHORT: Failure =
    Failure::new(libc::ERANGE, "the buffer is too short; *attr_len now says how long it must be");
const TOO_LONG: Failure = Failure::new(libc::EINVAL, "the value is longer than 1 MiB");
