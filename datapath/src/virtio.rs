//! The virtio-net header that stands before every packet on a TUN opened with `IFF_VNET_HDR`.
//!
//! Layout and constants are those of virtio 1.2, section 5.1.6; Linux hands out the ten-byte legacy form in native
//! byte order. What arrives in it is hostile until [`crate::segment`] has checked it against the packet (T28).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, NativeEndian, U16, Unaligned};

/// The header itself (virtio 1.2, section 5.1.6). All zero means: one complete packet, nothing left to do.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct VirtioNetHdr {
    /// [`NEEDS_CSUM`] or nothing of interest.
    pub flags: u8,
    /// One of the `GSO_` constants, perhaps with [`GSO_ECN`].
    pub gso_type: u8,
    /// How many bytes of header the writer believes there are. A hint: never trusted.
    pub hdr_len: U16<NativeEndian>,
    /// Payload bytes of each segment.
    pub gso_size: U16<NativeEndian>,
    /// Where the checksum begins to count, from the start of the IP packet.
    pub csum_start: U16<NativeEndian>,
    /// Where the checksum goes, from `csum_start`.
    pub csum_offset: U16<NativeEndian>,
}

/// Bytes of a [`VirtioNetHdr`].
pub const VNET_HDR_LEN: usize = 10;

/// The upper-layer checksum holds only the pseudo-header's sum and is to be completed.
pub const NEEDS_CSUM: u8 = 1;

/// A packet that is not to be segmented.
pub const GSO_NONE: u8 = 0;
/// TCP over IPv4 (TSO).
pub const GSO_TCPV4: u8 = 1;
/// TCP over IPv6 (TSO).
pub const GSO_TCPV6: u8 = 4;
/// UDP datagrams of equal size, over either family (USO).
pub const GSO_UDP_L4: u8 = 5;
/// Flag beside a TCP type: CWR belongs on the first segment alone (RFC 3168 section 6.1.2).
pub const GSO_ECN: u8 = 0x80;

const _: () = assert!(size_of::<VirtioNetHdr>() == VNET_HDR_LEN);
