//! The system calls that no crate offers safely: seccomp(2) with its notifications, fork(2), and a descriptor by its number.

#![expect(unsafe_code, reason = "system calls that take addresses, or that make a process two")]

use std::ffi::c_ulong;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigAction, Signal, sigaction};
use nix::unistd::{ForkResult, Pid};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

/// A system call of the program that waits for our answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which one of those that wait.
    pub id: u64,
    /// The thread that made it; 0 where it is none that we can name.
    pub thread: i32,
    /// Its number.
    pub number: i64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What a waiting call is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Go on into the kernel.
    Continue,
    /// It failed.
    Refuse(Errno),
}

/// Puts this process, and all that it will start, under a filter, for good. Gives the descriptor that tells of the calls
/// that are to be answered.
pub fn install(filter: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let len = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    let with = |flags: c_ulong| {
        // SAFETY: the kernel copies the program, which lives as long as the call, and writes to nothing of ours.
        let answer = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        let number = RawFd::try_from(answer).ok().filter(|number| *number >= 0);
        // SAFETY: the kernel has just made it, and nobody else knows of it.
        number.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).ok_or_else(io::Error::last_os_error)
    };
    // Linux 5.19 lets no signal take back a call that we work on: a program that is signalled often would get nowhere.
    with(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV).or_else(
        |error| {
            let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
            if error.raw_os_error() == Some(libc::EINVAL) { with(flags) } else { Err(error) }
        },
    )
}

/// The next call that waits. `None` where it has been given up.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Call>> {
    // SAFETY: of integers alone, for which zero is a value; the kernel wants zeros.
    let mut notification: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the opcode is that of this structure, which the kernel fills.
    match unsafe { ioctl(listener, Updater::<RECEIVE, _>::new(&mut notification)) } {
        Ok(()) => Ok(Some(Call {
            id: notification.id,
            thread: i32::try_from(notification.pid).unwrap_or_default(),
            number: notification.data.nr.into(),
            arguments: notification.data.args,
        })),
        Err(Errno::NOENT | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a call still waits, so that its thread is still the one that it was.
pub fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the opcode is that of a number, which the kernel reads.
    unsafe { ioctl(listener, Setter::<IS_VALID, u64>::new(id)) }.is_ok()
}

/// Answers a call. Whoever has given up is told nothing.
pub fn reply(listener: BorrowedFd<'_>, id: u64, reply: Reply) -> io::Result<()> {
    let (error, flags) = match reply {
        Reply::Continue => (0, CONTINUE),
        Reply::Refuse(errno) => (-errno.raw_os_error(), 0),
    };
    let mut response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the opcode is that of this structure, which the kernel reads.
    match unsafe { ioctl(listener, Updater::<REPLY, _>::new(&mut response)) } {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Puts a copy of a socket among the descriptors of the caller and answers it with its number, both at once.
pub fn give(listener: BorrowedFd<'_>, id: u64, socket: BorrowedFd<'_>, cloexec: bool) -> Result<(), Errno> {
    let given = libc::seccomp_notif_addfd {
        id,
        flags: SEND,
        srcfd: socket.as_raw_fd().unsigned_abs(),
        newfd: 0,
        newfd_flags: if cloexec { libc::O_CLOEXEC.unsigned_abs() } else { 0 },
    };
    // SAFETY: the opcode is that of this structure, which the kernel reads.
    unsafe { ioctl(listener, Setter::<GIVE, _>::new(given)) }
}

/// Whether the kernel can [`give`] (Linux 5.14).
pub fn can_give(listener: BorrowedFd<'_>) -> bool {
    // An older kernel stumbles over the flag, a newer one over a call that nobody made.
    give(listener, u64::MAX, listener, true) == Err(Errno::NOENT)
}

/// Makes this process two. `None` is said to the new one. The caller has made sure that there are no threads.
pub fn fork() -> nix::Result<Option<Pid>> {
    // SAFETY: without other threads there is no lock that could stay closed in the new process, which may do anything.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Ends this process at once; nothing that it has in common with its parent is tidied up.
pub fn leave(code: i32) -> ! {
    // SAFETY: it does not return, and runs nothing of ours.
    unsafe { libc::_exit(code) }
}

/// A copy of a descriptor of ours that is known by its number alone.
pub fn copy(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers, and leaves the descriptor as it is, if there is one.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Whether a descriptor of ours that is known by its number alone is closed in whatever this process becomes.
pub fn is_closed_on_exec(number: RawFd) -> io::Result<bool> {
    // SAFETY: takes numbers, and changes nothing.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 { Err(io::Error::last_os_error()) } else { Ok(flags & libc::FD_CLOEXEC != 0) }
}

/// Sets what a signal does, other than running code of ours.
pub fn act(signal: Signal, action: &SigAction) -> nix::Result<()> {
    // SAFETY: only the default and ignoring are asked for, so that no handler runs.
    unsafe { sigaction(signal, action) }.map(|_| ())
}

/// The letter of seccomp's ioctls (linux/seccomp.h).
const SECCOMP: u8 = b'!';
const RECEIVE: Opcode = opcode::read_write::<libc::seccomp_notif>(SECCOMP, 0);
const REPLY: Opcode = opcode::read_write::<libc::seccomp_notif_resp>(SECCOMP, 1);
const IS_VALID: Opcode = opcode::write::<u64>(SECCOMP, 2);
const GIVE: Opcode = opcode::write::<libc::seccomp_notif_addfd>(SECCOMP, 3);

/// SECCOMP_USER_NOTIF_FLAG_CONTINUE and SECCOMP_ADDFD_FLAG_SEND, as wide as their fields.
const CONTINUE: u32 = 1;
const SEND: u32 = 2;
