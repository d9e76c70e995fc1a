//! Who else receives a protocol at an address. Raw sockets do not refuse each other: a second gateway would be given a copy of
//! every packet. So whoever binds looks, after it is there itself, who is there besides (/proc/net/raw, raw(7)); of two that
//! come at the same time, each sees the other.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::{io, iter};

use latchway_esp::Protocol;

/// Whether another raw socket of this thread's network namespace receives `protocol` at `address`, or at all addresses, or at
/// any where `address` is all.
///
/// # Errors
/// Where the system does not tell.
pub(super) fn is_taken(own: &OwnedFd, address: IpAddr, protocol: Protocol) -> io::Result<bool> {
    let own = File::from(own.try_clone()?).metadata()?.ino();
    let list = match address {
        IpAddr::V4(_) => "/proc/thread-self/net/raw",
        IpAddr::V6(_) => "/proc/thread-self/net/raw6",
    };
    let told = fs::read_to_string(list)?;
    let others = told.lines().filter_map(Listed::read).filter(|listed| listed.inode != own);
    Ok(others.filter(|listed| listed.protocol == u16::from(protocol.number())).any(|listed| {
        listed.address == address || listed.address.is_unspecified() || address.is_unspecified()
    }))
}

/// A line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    address: IpAddr,
    protocol: u16,
    inode: u64,
}

impl Listed {
    /// `None` for a heading.
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (address, protocol) = fields.nth(1)?.split_once(':')?;
        let inode = fields.nth(7)?.parse().ok()?;
        Some(Self {
            address: read_address(address)?,
            protocol: u16::from_str_radix(protocol, 16).ok()?,
            inode,
        })
    }
}

/// An address as the list has it: words of 32 bits in hexadecimal, each as the machine would print a number.
fn read_address(hex: &str) -> Option<IpAddr> {
    let mut rest = hex;
    let mut words = iter::from_fn(|| {
        let (word, after) = rest.split_at_checked(8)?;
        rest = after;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    });
    match hex.len() {
        8 => Some(Ipv4Addr::from(words.next()?).into()),
        32 => {
            let mut octets = [0; 16];
            for chunk in octets.as_chunks_mut::<4>().0 {
                *chunk = words.next()?;
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let word = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
        let v4 = format!(
            "  50: {}:0032 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0",
            word([192, 0, 2, 1])
        );
        let listed = Listed { address: "192.0.2.1".parse().unwrap(), protocol: 50, inode: 4711 };
        assert_eq!(Listed::read(&v4), Some(listed));
        let v6 = format!(
            "51: {}{}{}{}:0033 0:0 07 0:0 00:0 0 0 0 4712 2 0 0",
            word([0xfd, 0, 0, 0]),
            word([0; 4]),
            word([0; 4]),
            word([0, 0, 0, 1])
        );
        let listed = Listed { address: "fd00::1".parse().unwrap(), protocol: 51, inode: 4712 };
        assert_eq!(Listed::read(&v6), Some(listed));
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref";
        for line in [heading, "", "1: 0:0", "1: zz:50 0 0 0 0 0 0 0 1"] {
            assert_eq!(Listed::read(line), None);
        }
    }
}
