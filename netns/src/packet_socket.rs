//! Packet sockets: made in a namespace, bound to one of its interfaces.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, bind, socket},
};

use crate::{Error, Namespace, Result};

/// Opens a packet socket on an interface, and says which link it is. Without a protocol it only sends.
///
/// Between being made and being bound, a socket with a protocol sees the frames of every interface: the receiver must
/// look at the interface index of each.
pub(crate) fn packet_socket(
    namespace: &Namespace,
    interface: &str,
    protocol: Option<SockProtocol>,
) -> Result<(OwnedFd, LinkAddr)> {
    let attempt = || format!("opening a packet socket on {interface} in {}", namespace.label());
    namespace.run(|| {
        let link = find(interface)?.ok_or_else(|| Error::refused(attempt(), nix::Error::ENODEV))?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, protocol)
            .map_err(|errno| Error::refused(attempt(), errno))?;
        bind(socket.as_raw_fd(), &link).map_err(|errno| Error::refused(attempt(), errno))?;
        Ok((socket, link))
    })?
}

/// The link-layer address of an interface of the calling thread's namespace.
fn find(interface: &str) -> Result<Option<LinkAddr>> {
    let mut all = getifaddrs().map_err(|errno| Error::refused("listing interfaces", errno))?;
    Ok(all.find_map(|entry| {
        let link = entry.address.filter(|_| entry.interface_name == interface)?;
        link.as_link_addr().copied()
    }))
}
