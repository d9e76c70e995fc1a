//! The functions that stand in for those of the C library. Each looks whether the socket is one of ours, and calls what it
//! stands in for: of what is none of ours with the caller's own arguments, and with nothing of ours on the stack that a
//! cancelled thread would have to put in order.

#![expect(unsafe_code, reason = "pointers of C callers")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::time::Instant;

use libc::{addrinfo, iovec, msghdr, nfds_t, pollfd, size_t, sockaddr, sockaddr_in6, socklen_t, ssize_t};

use crate::address::{Address, Use, address, endpoint, handle_octets};
use crate::failure::Failure;
use crate::kept::{hear_of_forks, kept};
use crate::names::{
    AI_SHIM, MSG_SHIM_NOTIFICATION, PF_SHIM, SHIM_ERROR, SHIM_EVENTS, SHIM_REQUIRE, SOL_SHIM, ShimRequirement,
};
use crate::quiet::quietly;
use crate::requirement::{Wanted, require};
use crate::watch::{Step, Wait};
use crate::{mark, next, opening, property, watch};

/// socket(2): of PF_SHIM, an IPv6 socket that a gateway knows of (K-1 to K-3).
///
/// # Safety
///
/// As of socket(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    let Some(next) = next::socket() else { return next::missing() };
    if domain != PF_SHIM {
        // SAFETY: these are the caller's own arguments.
        return unsafe { next(domain, kind, protocol) };
    }
    // SAFETY: any numbers will do.
    let fd = unsafe { next(libc::AF_INET6, kind, protocol) };
    if fd < 0 || quietly(|| opening::become_shim(fd)).is_some() {
        return fd;
    }
    let why = errno::errno();
    // SAFETY: nobody else knows of the descriptor.
    unsafe { libc::close(fd) };
    errno::set_errno(why);
    -1
}

/// connect(2): to a handle, or to an address of IPv4 or IPv6 (K-2, K-7).
///
/// # Safety
///
/// As of connect(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn connect(fd: c_int, name: *const sockaddr, length: socklen_t) -> c_int {
    let Some(next) = next::connect() else { return next::missing() };
    if !mark::is_shim(fd) {
        // SAFETY: these are the caller's own arguments.
        return unsafe { next(fd, name, length) };
    }
    // SAFETY: by the caller's word there are so many octets.
    let meant = quietly(|| unsafe { read_address(name, length, Use::Remote) });
    match meant {
        // SAFETY: as above.
        Some(Address::AsGiven) => unsafe { next(fd, name, length) },
        // SAFETY: the address is on our stack, and as long.
        Some(Address::Instead(there)) => unsafe { next(fd, (&raw const there).cast(), IPV6_LENGTH) },
        None => -1,
    }
}

/// bind(2): to any address by handle 0, or to one of IPv4 or IPv6.
///
/// # Safety
///
/// As of bind(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn bind(fd: c_int, name: *const sockaddr, length: socklen_t) -> c_int {
    let Some(next) = next::bind() else { return next::missing() };
    if !mark::is_shim(fd) {
        // SAFETY: these are the caller's own arguments.
        return unsafe { next(fd, name, length) };
    }
    // SAFETY: by the caller's word there are so many octets.
    let meant = quietly(|| unsafe { read_address(name, length, Use::Own) });
    match meant {
        // SAFETY: as above.
        Some(Address::AsGiven) => unsafe { next(fd, name, length) },
        // SAFETY: the address is on our stack, and as long.
        Some(Address::Instead(here)) => unsafe { next(fd, (&raw const here).cast(), IPV6_LENGTH) },
        None => -1,
    }
}

/// accept(2): what comes to a PF_SHIM socket is one.
///
/// # Safety
///
/// As of accept(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn accept(fd: c_int, name: *mut sockaddr, length: *mut socklen_t) -> c_int {
    let Some(next) = next::accept() else { return next::missing() };
    let ours = mark::is_shim(fd);
    // SAFETY: these are the caller's own arguments.
    let came = unsafe { next(fd, name, length) };
    if ours { accepted(came) } else { came }
}

/// accept4(2), likewise.
///
/// # Safety
///
/// As of accept4(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn accept4(
    fd: c_int,
    name: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    let Some(next) = next::accept4() else { return next::missing() };
    let ours = mark::is_shim(fd);
    // SAFETY: these are the caller's own arguments.
    let came = unsafe { next(fd, name, length, flags) };
    if ours { accepted(came) } else { came }
}

/// sendto(2): addresses as of connect().
///
/// # Safety
///
/// As of sendto(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn sendto(
    fd: c_int,
    octets: *const c_void,
    count: size_t,
    flags: c_int,
    name: *const sockaddr,
    length: socklen_t,
) -> ssize_t {
    let Some(next) = next::sendto() else { return failed(next::missing()) };
    if name.is_null() || !mark::is_shim(fd) {
        // SAFETY: these are the caller's own arguments.
        return unsafe { next(fd, octets, count, flags, name, length) };
    }
    // SAFETY: by the caller's word there are so many octets.
    let meant = quietly(|| unsafe { read_address(name, length, Use::Remote) });
    match meant {
        // SAFETY: as above.
        Some(Address::AsGiven) => unsafe { next(fd, octets, count, flags, name, length) },
        Some(Address::Instead(there)) => {
            // SAFETY: the octets are the caller's; the address is on our stack, and as long.
            unsafe { next(fd, octets, count, flags, (&raw const there).cast(), IPV6_LENGTH) }
        }
        None => -1,
    }
}

/// sendmsg(2): addresses as of connect().
///
/// # Safety
///
/// As of sendmsg(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    let Some(next) = next::sendmsg() else { return failed(next::missing()) };
    if message.is_null() || !mark::is_shim(fd) {
        // SAFETY: these are the caller's own arguments.
        return unsafe { next(fd, message, flags) };
    }
    // SAFETY: it is not NULL, so it is a message by the caller's word.
    let mut ours = unsafe { message.read() };
    // SAFETY: the message says how many octets there are.
    let meant = quietly(|| unsafe { read_address(ours.msg_name.cast(), ours.msg_namelen, Use::Remote) });
    match meant {
        // SAFETY: these are the caller's own arguments.
        Some(Address::AsGiven) => unsafe { next(fd, message, flags) },
        Some(Address::Instead(mut there)) => {
            ours.msg_name = (&raw mut there).cast();
            ours.msg_namelen = IPV6_LENGTH;
            // SAFETY: but for the address, which is on our stack, it is the caller's message.
            unsafe { next(fd, &raw const ours, flags) }
        }
        None => -1,
    }
}

/// recvmsg(2): of a socket with `SHIM_EVENTS`, notifications as well as data (K-11, K-12).
///
/// # Safety
///
/// As of recvmsg(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    let Some(next) = next::recvmsg() else { return failed(next::missing()) };
    if message.is_null() || flags & APART != 0 || !mark::is_shim(fd) {
        // SAFETY: these are the caller's own arguments.
        return unsafe { next(fd, message, flags) };
    }
    let began = Instant::now();
    loop {
        // SAFETY: it is not NULL, so it is a message by the caller's word.
        let waits = match quietly(|| unsafe { tell_or_wait(fd, message, flags, began) }) {
            Some(Told::Octets(count)) => return count,
            // SAFETY: these are the caller's own arguments.
            Some(Told::Nothing) => return unsafe { next(fd, message, flags) },
            Some(Told::Wait(waits)) => waits,
            None => return -1,
        };
        let mut polled = [
            pollfd { fd, events: libc::POLLIN, revents: 0 },
            pollfd { fd: waits.events, events: libc::POLLIN, revents: 0 },
        ];
        // SAFETY: there are two.
        match unsafe { poll(polled.as_mut_ptr(), 2, waits.left) } {
            0 => {
                errno::set_errno(errno::Errno(libc::EAGAIN));
                return -1;
            }
            1.. => {}
            _ => return -1,
        }
        let [socket, events] = polled;
        if socket.revents == 0 || events.revents != 0 {
            continue;
        }
        // SAFETY: these are the caller's own arguments.
        let count = unsafe { next(fd, message, flags | libc::MSG_DONTWAIT) };
        // Another thread may have had it.
        if count >= 0 || errno::errno().0 != libc::EAGAIN {
            return count;
        }
    }
}

/// getsockopt(2): properties of a PF_SHIM socket at level SOL_SHIM (K-5).
///
/// # Safety
///
/// As of getsockopt(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn getsockopt(
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    let Some(next) = next::getsockopt() else { return next::missing() };
    if level != SOL_SHIM || (option != SHIM_ERROR && !mark::is_shim(fd)) {
        // SAFETY: these are the caller's own arguments.
        return unsafe { next(fd, level, option, value, length) };
    }
    let reading = || {
        if length.is_null() {
            return Err(NO_LENGTH);
        }
        let octets = property::read(fd, option)?;
        // SAFETY: the length is not NULL, and by the caller's word there is as much room.
        unsafe { give(&octets, value, length) }
    };
    if quietly(reading).is_some() { 0 } else { -1 }
}

/// setsockopt(2): what is required of a PF_SHIM socket, and which events are told (K-6, K-10).
///
/// # Safety
///
/// As of setsockopt(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn setsockopt(
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    let Some(next) = next::setsockopt() else { return next::missing() };
    if level != SOL_SHIM || !mark::is_shim(fd) {
        // SAFETY: these are the caller's own arguments.
        return unsafe { next(fd, level, option, value, length) };
    }
    let writing = || match option {
        SHIM_REQUIRE => {
            // SAFETY: by the caller's word there are so many octets, and its texts end.
            let wanted =
                unsafe { given::<ShimRequirement>(value, length).and_then(|given| read_wanted(&given)) };
            require(fd, &wanted?)
        }
        SHIM_EVENTS => {
            // SAFETY: as above.
            let wanted = unsafe { given::<u32>(value, length) };
            watch::register(fd, wanted?)
        }
        _ => Err(NO_OPTION),
    };
    if quietly(writing).is_some() { 0 } else { -1 }
}

/// getaddrinfo(3): with AI_SHIM, handles (K-7).
///
/// # Safety
///
/// As of getaddrinfo(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    found: *mut *mut addrinfo,
) -> c_int {
    let Some(next) = next::getaddrinfo() else { return libc::EAI_SYSTEM };
    // SAFETY: if there are hints, they can be read by the caller's word.
    let Some(mut asked) = (unsafe { hints.as_ref().copied() }).filter(|hints| hints.ai_flags & AI_SHIM != 0)
    else {
        // SAFETY: these are the caller's own arguments.
        return unsafe { next(node, service, hints, found) };
    };
    asked.ai_flags &= !AI_SHIM;
    if asked.ai_family == PF_SHIM {
        asked.ai_family = libc::AF_UNSPEC;
    }
    // Any address is one address, of either kind.
    if node.is_null() && asked.ai_flags & libc::AI_PASSIVE != 0 && asked.ai_family == libc::AF_UNSPEC {
        asked.ai_family = libc::AF_INET6;
    }
    // SAFETY: but for the hints, which are on our stack, these are the caller's own arguments.
    let came = unsafe { next(node, service, &raw const asked, found) };
    if came != 0 {
        return came;
    }
    // SAFETY: what was found is a list now.
    let first = unsafe { *found };
    // SAFETY: the list is ours until it is given to the caller.
    if quietly(|| unsafe { make_handles(first) }).is_some() {
        return 0;
    }
    // SAFETY: it is the C library's own, and nobody has it.
    unsafe {
        libc::freeaddrinfo(first);
        *found = ptr::null_mut();
    }
    libc::EAI_MEMORY
}

/// close(2): of a PF_SHIM socket, what is kept of it as well.
///
/// # Safety
///
/// As of close(2).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C-unwind" fn close(fd: c_int) -> c_int {
    let Some(next) = next::close() else { return next::missing() };
    if mark::clear(fd) {
        let _ = quietly(|| {
            watch::forget(fd);
            Ok(())
        });
    }
    // SAFETY: it is the caller's own argument.
    unsafe { next(fd) }
}

/// What recvmsg() does next.
#[derive(Clone, Copy)]
enum Told {
    /// A notification was told, in so many octets.
    Octets(ssize_t),
    /// There is nothing to tell.
    Nothing,
    Wait(Wait),
}

/// Tells what there is to tell.
///
/// # Safety
///
/// There is a message that can be received into.
unsafe fn tell_or_wait(
    fd: c_int,
    message: *mut msghdr,
    flags: c_int,
    began: Instant,
) -> Result<Told, Failure> {
    Ok(match watch::step(fd, flags, began)? {
        // SAFETY: as above.
        Step::Tell(notification) => Told::Octets(unsafe { fill(message, &*notification) }),
        Step::Receive => Told::Nothing,
        Step::Wait(wait) => Told::Wait(wait),
    })
}

/// Writes octets to the places of a message, and says what they are.
///
/// # Safety
///
/// There is a message that can be received into.
unsafe fn fill(message: *mut msghdr, octets: &[u8]) -> ssize_t {
    // SAFETY: there is one, and nobody else has it meanwhile.
    let message = unsafe { &mut *message };
    let places: &[iovec] = if message.msg_iov.is_null() {
        &[]
    } else {
        // SAFETY: the message says how many there are.
        unsafe { std::slice::from_raw_parts(message.msg_iov, message.msg_iovlen) }
    };
    let mut rest = octets;
    for place in places {
        let (now, later) = rest.split_at(place.iov_len.min(rest.len()));
        // SAFETY: there is as much room as the place says, and the octets are ours.
        unsafe { ptr::copy_nonoverlapping(now.as_ptr(), place.iov_base.cast(), now.len()) };
        rest = later;
    }
    message.msg_namelen = 0;
    message.msg_controllen = 0;
    message.msg_flags = MSG_SHIM_NOTIFICATION | if rest.is_empty() { libc::MSG_EOR } else { libc::MSG_TRUNC };
    ssize_t::try_from(octets.len().saturating_sub(rest.len())).unwrap_or_default()
}

/// A socket that came to one of ours.
fn accepted(fd: c_int) -> c_int {
    if fd >= 0 {
        let before = errno::errno();
        // One whose number is too high is a socket all the same.
        if quietly(|| mark::set(fd)).is_none() {
            errno::set_errno(before);
        }
    }
    fd
}

/// Reads an address.
///
/// # Safety
///
/// It is NULL, or there are so many octets.
unsafe fn read_address(name: *const sockaddr, length: socklen_t, usage: Use) -> Result<Address, Failure> {
    let length = usize::try_from(length).unwrap_or_default().min(size_of::<libc::sockaddr_storage>());
    if name.is_null() {
        return Ok(Address::AsGiven);
    }
    // SAFETY: it is not NULL, and there are at least so many.
    address(unsafe { std::slice::from_raw_parts(name.cast(), length) }, usage)
}

/// Gives the octets of an option, and their number. Without room for all it is the number that is given.
///
/// # Safety
///
/// There is a length, and at `value` as much room.
unsafe fn give(octets: &[u8], value: *mut c_void, length: *mut socklen_t) -> Result<(), Failure> {
    let needed = socklen_t::try_from(octets.len()).map_err(|_| SHORT)?;
    // SAFETY: there is one.
    let room = unsafe { length.read_unaligned() };
    // SAFETY: as above.
    unsafe { length.write_unaligned(needed) };
    if value.is_null() || room < needed {
        return Err(SHORT);
    }
    // SAFETY: there is room for all, and they are ours.
    unsafe { ptr::copy_nonoverlapping(octets.as_ptr(), value.cast(), octets.len()) };
    Ok(())
}

/// The value of an option.
///
/// # Safety
///
/// It is NULL, or there are so many octets; any octets are a `T`.
unsafe fn given<T: Copy>(value: *const c_void, length: socklen_t) -> Result<T, Failure> {
    if value.is_null() {
        return Err(NO_VALUE);
    }
    if usize::try_from(length) != Ok(size_of::<T>()) {
        return Err(NOT_AS_LONG);
    }
    // SAFETY: it is not NULL, and as long.
    Ok(unsafe { value.cast::<T>().read_unaligned() })
}

/// A requirement with its texts.
///
/// # Safety
///
/// The texts are NULL, or end with a NUL.
unsafe fn read_wanted(given: &ShimRequirement) -> Result<Wanted, Failure> {
    let text = |text: *const c_char| {
        // SAFETY: it is not NULL, and so it ends.
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes().to_vec())
    };
    let ShimRequirement { protection, key_bits, mode, flags, peer, local } = *given;
    Ok(Wanted { protection, key_bits, mode, flags, peer: text(peer), local: text(local) })
}

/// Puts handles in the places of the addresses of a list: they are no longer than these.
///
/// # Safety
///
/// It is a list of the C library's, which nobody else has.
unsafe fn make_handles(first: *mut addrinfo) -> Result<(), Failure> {
    hear_of_forks()?;
    let mut kept = kept();
    let mut one = first;
    // SAFETY: the list ends with NULL.
    while let Some(found) = unsafe { one.as_mut() } {
        let length = usize::try_from(found.ai_addrlen).unwrap_or_default();
        // SAFETY: the address is as long as is said.
        let octets = unsafe { std::slice::from_raw_parts(found.ai_addr.cast::<u8>(), length) };
        let (there, port) = endpoint(octets).ok_or(NO_ADDRESS)?;
        let handle = handle_octets(kept.handles.give(there)?, port);
        // SAFETY: addresses of either kind have as many octets, or more.
        unsafe { ptr::copy_nonoverlapping(handle.as_ptr(), found.ai_addr.cast(), handle.len()) };
        found.ai_addrlen = SHIM_LENGTH;
        found.ai_family = PF_SHIM;
        one = found.ai_next;
    }
    Ok(())
}

fn failed(minus_one: c_int) -> ssize_t {
    // It is -1.
    ssize_t::try_from(minus_one).unwrap_or(-1)
}

unsafe extern "C-unwind" {
    /// poll(2), in which a thread may be cancelled.
    fn poll(polled: *mut pollfd, count: nfds_t, milliseconds: c_int) -> c_int;
}

/// What is received apart from the octets of a connection.
const APART: c_int = libc::MSG_ERRQUEUE | libc::MSG_OOB;
const IPV6_LENGTH: socklen_t = size_of::<sockaddr_in6>() as socklen_t;
const SHIM_LENGTH: socklen_t = crate::address::LENGTH as socklen_t;

const NO_LENGTH: Failure = Failure::new(libc::EFAULT, "there is no length; optlen is NULL");
const NO_VALUE: Failure = Failure::new(libc::EFAULT, "there is no value; optval is NULL");
const NOT_AS_LONG: Failure = Failure::new(libc::EINVAL, "optlen is not the length of the option's value");
const SHORT: Failure =
    Failure::new(libc::ERANGE, "the buffer is too short; *optlen now says how long it must be");
const NO_OPTION: Failure = Failure::new(
    libc::ENOPROTOOPT,
    "there is no such option of PF_SHIM sockets to set; see latchway_shim(7)",
);
const NO_ADDRESS: Failure = Failure::new(libc::EAFNOSUPPORT, "an address is of neither IPv4 nor IPv6");
