//! The three TUN ioctls that neither device crate offers on the descriptors we hold.

#![expect(unsafe_code, reason = "ioctl is a foreign function")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets the device-wide offload mask (TUNSETOFFLOAD).
pub(super) fn set_offload(device: BorrowedFd<'_>, mask: libc::c_uint) -> io::Result<()> {
    set(device, libc::TUNSETOFFLOAD, mask)
}

/// Makes the interface outlive its descriptors, or not (TUNSETPERSIST).
pub(super) fn set_persist(device: BorrowedFd<'_>, persist: bool) -> io::Result<()> {
    set(device, libc::TUNSETPERSIST, persist.into())
}

/// Gives the interface to a user (TUNSETOWNER).
pub(super) fn set_owner(device: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    set(device, libc::TUNSETOWNER, uid)
}

fn set(device: BorrowedFd<'_>, request: libc::Ioctl, value: libc::c_uint) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed, and these requests take their argument by value, so
    // the kernel neither reads nor writes memory of ours.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), request, libc::c_ulong::from(value)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Unfinished checksums.
pub(super) const CHECKSUM: libc::c_uint = libc::TUN_F_CSUM;
/// TCP super-packets of both families.
pub(super) const TSO: libc::c_uint = libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
/// UDP super-packets of both families.
pub(super) const USO: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;
