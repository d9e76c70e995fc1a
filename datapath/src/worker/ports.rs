//! Between the TUNs and their buffers: each read and write of the worker, and what a refusal means.

use std::io;

use rustix::io::Errno;

use crate::coalesce::{Coalescer, Unit};
use crate::drop::{Direction, DropReason, Street};
use crate::gateway::Datapath;
use crate::low::tun::TunQueue;
use crate::segment::SuperPacket;
use crate::ulp::Ulp;

/// Reads one super-packet; `None` when there is none. One that was cut short is dropped.
pub(super) fn read<U: Ulp>(
    tun: &mut TunQueue,
    buffer: &mut [u8],
    datapath: &Datapath<U>,
    direction: Direction,
) -> io::Result<Option<usize>> {
    match tun.read(buffer) {
        Ok(len) => Ok(Some(len)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            io::ErrorKind::InvalidData => {
                datapath.counters().street(direction).drop(DropReason::BadOffload, 1);
                Ok(None)
            }
            _ => Err(gone(&error, tun)),
        },
    }
}

/// Writes a packet of the gateway's own to the TUN, and what that would not take is counted.
pub(super) fn write<U: Ulp>(packet: &[u8], tun: &mut TunQueue, datapath: &Datapath<U>) -> io::Result<()> {
    if let Err(error) = tun.write_packet(packet) {
        datapath.counters().street(Direction::Inbound).drop(refusal(&error, tun)?, 1);
    }
    Ok(())
}

/// One write per unit, and what the TUN would not take is counted.
pub(super) fn deliver<U: Ulp>(
    units: &mut Coalescer,
    buffer: &[u8],
    tun: &mut TunQueue,
    datapath: &Datapath<U>,
) -> io::Result<()> {
    let street = datapath.counters().street(Direction::Inbound);
    for unit in units.units() {
        if let Err(error) = tun.write_unit(&unit, buffer) {
            street.drop(refusal(&error, tun)?, packets(&unit));
        }
    }
    units.clear();
    units.set_offloads(tun.offloads());
    Ok(())
}

/// What of a super-packet was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) packets: u64,
    pub(super) octets: u64,
}

/// Writes a super-packet from one port to another, cut into its packets. Each that is refused is dropped and counted, and
/// the next is tried.
pub(super) fn forward(
    octets: &mut [u8],
    to: Option<&mut TunQueue>,
    one: &mut [u8],
    street: &Street,
) -> Written {
    let mut written = Written::default();
    let Ok(super_packet) = SuperPacket::parse(octets) else {
        street.drop(DropReason::BadOffload, 1);
        return written;
    };
    let mut segments = super_packet.segments();
    let Some(to) = to else {
        street.drop(DropReason::NoBypassPort, segments.remaining() as u64);
        return written;
    };
    while segments.remaining() > 0 {
        let left = segments.remaining() as u64;
        let Some(packet) = segments.write_next(one).and_then(|len| one.get(..len)) else {
            street.drop(DropReason::BadOffload, left);
            break;
        };
        match to.write_packet(packet) {
            Ok(()) => {
                written.packets += 1;
                written.octets += packet.len() as u64;
            }
            // Where the port is gone for good, reading from it says so.
            Err(error) => street.drop(refusal(&error, to).unwrap_or(DropReason::IoError), 1),
        }
    }
    written
}

/// What a failed write means for its packets; an error where the device is gone.
fn refusal(error: &io::Error, tun: &TunQueue) -> io::Result<DropReason> {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Ok(DropReason::IoFull),
        Some(Errno::IO) => Ok(DropReason::TunDown),
        Some(Errno::BADFD | Errno::NODEV) => Err(gone(error, tun)),
        _ => Ok(DropReason::IoError),
    }
}

/// A device that will not come back, and what to do.
fn gone(error: &io::Error, tun: &TunQueue) -> io::Error {
    let name = tun.name();
    let text = format!("TUN {name} is gone ({error}): it was deleted; make it again and restart the gateway");
    io::Error::new(io::ErrorKind::NotFound, text)
}

fn packets(unit: &Unit<'_>) -> u64 {
    if unit.is_merged() { unit.payload.len() as u64 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drop::Counters;
    use crate::virtio::{GSO_UDP_L4, NEEDS_CSUM, VNET_HDR_LEN};
    use etherparse::PacketBuilder;

    #[test]
    fn every_packet_of_a_super_packet_is_counted_where_there_is_no_bypass_port() {
        let mut octets = vec![0; VNET_HDR_LEN];
        (octets[0], octets[1]) = (NEEDS_CSUM, GSO_UDP_L4);
        octets[4..6].copy_from_slice(&100u16.to_ne_bytes());
        octets[6..8].copy_from_slice(&20u16.to_ne_bytes());
        octets[8..10].copy_from_slice(&6u16.to_ne_bytes());
        let udp = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(7, 8);
        udp.write(&mut octets, &[0; 250]).unwrap();
        let counters = Counters::new();
        let street = counters.street(Direction::Outbound);
        assert_eq!(forward(&mut octets, None, &mut [], street), Written::default());
        assert_eq!(street.dropped(DropReason::NoBypassPort), 3);
    }
}
