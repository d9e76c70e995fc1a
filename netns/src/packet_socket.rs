//! Packet sockets on one interface of a namespace (packet(7)).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, bind, socket},
};
use socket2::{SockFilter, SockRef};

use crate::{Error, Links, Namespace, Result};

/// Opens a packet socket that receives the frames of one interface, and says that interface's index.
///
/// Frames that came before the filter was attached may be of other interfaces: look at each frame's.
pub(crate) fn watching(namespace: &Namespace, interface: &str) -> Result<(OwnedFd, usize)> {
    let attempt = || format!("watching {interface} in {}", namespace.label());
    let index = Links::of(namespace)?.index(interface)?;
    let socket = namespace
        .run(|| socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll))?
        .map_err(|errno| Error::refused(attempt(), errno))?;
    let only_this = [
        SockFilter::new(LOAD_WORD, 0, 0, INTERFACE_INDEX),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, index),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ];
    SockRef::from(&socket).attach_filter(&only_this).map_err(|source| Error::refused(attempt(), source))?;
    Ok((socket, usize::try_from(index).unwrap_or(usize::MAX)))
}

/// Opens a packet socket that only sends, through one interface; none if the interface has no link-layer address, as a TUN.
pub(crate) fn sending(namespace: &Namespace, interface: &str) -> Result<Option<OwnedFd>> {
    let failed = |errno| Error::refused(format!("sending on {interface} in {}", namespace.label()), errno);
    namespace.run(|| {
        let Some(link) = link_address(interface)? else { return Ok(None) };
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        bind(socket.as_raw_fd(), &link).map_err(failed)?;
        Ok(Some(socket))
    })?
}

/// The link-layer address of an interface of the calling thread's namespace.
fn link_address(interface: &str) -> Result<Option<LinkAddr>> {
    let mut all = getifaddrs().map_err(|errno| Error::refused("listing interfaces", errno))?;
    Ok(all.find_map(|entry| {
        let address = entry.address.filter(|_| entry.interface_name == interface)?;
        address.as_link_addr().copied()
    }))
}

/// Operations of a classic socket filter (linux/filter.h).
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Where a filter finds the interface index: SKF_AD_OFF + SKF_AD_IFINDEX.
const INTERFACE_INDEX: u32 = 0xffff_f008;
