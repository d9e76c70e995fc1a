//! The TUN queue, over two backends: super-packets with a virtio header, or one packet per call.
//!
//! The offloading backend is opened by `tun-rs`, the plain one by `tun-tap`; after that both are a descriptor, read and
//! written here. Whoever uses a [`TunQueue`] sees virtio framing from either. The offload mask belongs to the device and
//! outlives the process that set it, so it is always set anew, and cleared on a plain descriptor (T28).

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::coalesce::{MAX_PARTS, Offloads, Unit, UnitPart};
use crate::virtio::VNET_HDR_LEN;

mod counters;
mod error;
mod ioctl;
mod open;

pub use counters::TunCounters;
pub use error::TunError;

/// What to open, in the network namespace of the calling thread.
#[derive(Clone, Debug)]
pub struct TunConfig {
    /// The interface's name. One that exists and is persistent is attached to, else it is made.
    pub name: String,
    /// Which backend.
    pub backend: BackendChoice,
    /// Whether the interface stays when its last queue is closed.
    pub persistence: Persistence,
    /// The user who may attach to it later without CAP_NET_ADMIN.
    pub owner: Option<u32>,
}

impl TunConfig {
    /// The best backend there is, persistence and owner unchanged.
    pub fn new(name: impl Into<String>) -> TunConfig {
        TunConfig {
            name: name.into(),
            backend: BackendChoice::Auto,
            persistence: Persistence::AsFound,
            owner: None,
        }
    }
}

/// Whether an interface outlives its last queue (TUNSETPERSIST).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    /// As it was. One that this queue makes goes with it.
    #[default]
    AsFound,
    /// It stays, with its addresses and routes.
    Persistent,
    /// It goes, also where it was made to stay before.
    Transient,
}

/// Which backend is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// Offload where the kernel has it, else plain.
    #[default]
    Auto,
    /// Offload or an error.
    Offload,
    /// Plain.
    Plain,
}

/// Which backend it became. Displayed in status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Virtio framing, and what the kernel leaves undone for us.
    Offload {
        /// Unfinished checksums.
        checksum: bool,
        /// TCP super-packets.
        tso: bool,
        /// UDP super-packets (since Linux 6.2).
        uso: bool,
    },
    /// Complete packets, one per call.
    Plain,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Offload { tso: true, uso: true, .. } => "offload (TSO+USO)",
            Backend::Offload { tso: true, .. } => "offload (TSO)",
            Backend::Offload { checksum: true, .. } => "offload (checksums)",
            Backend::Offload { .. } => "offload (none)",
            Backend::Plain => "plain",
        })
    }
}

/// One queue of a TUN, non-blocking.
#[derive(Debug)]
pub struct TunQueue {
    device: OwnedFd,
    name: String,
    backend: Backend,
    refused: Offloads,
    counters: Arc<TunCounters>,
}

impl TunQueue {
    /// Opens it. The interface is neither configured nor set up.
    pub fn open(config: &TunConfig) -> Result<TunQueue, TunError> {
        let opened = open::open(config)?;
        let (device, name, backend) = (opened.device, opened.name, opened.backend);
        Ok(TunQueue { device, name, backend, refused: Offloads::NONE, counters: Arc::default() })
    }

    /// Reads one super-packet with its virtio header; `buf` is at least [`READ_BUFFER_LEN`] long, or this is
    /// `InvalidInput`. What filled it to the brim may have been cut short and is `InvalidData`, to be counted and dropped.
    #[inline]
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.len() < READ_BUFFER_LEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (header, room) = match self.backend {
            Backend::Offload { .. } => buf.split_at_mut(0),
            // A plain packet is one with nothing left to do: a virtio header of zeros.
            Backend::Plain => buf.split_at_mut(VNET_HDR_LEN),
        };
        header.fill(0);
        let read = rustix::io::read(&self.device, &mut *room)?;
        if read == room.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.counters.read((header.len() + read).saturating_sub(VNET_HDR_LEN));
        Ok(header.len() + read)
    }

    /// Writes one unit, whose payload lies in `buffer`. Some kernels answer EINVAL to a merged unit: then its packets
    /// are written one by one, and [`TunQueue::offloads`] no longer offers to merge that protocol (T28).
    #[inline]
    pub fn write_unit(&mut self, unit: &Unit<'_>, buffer: &[u8]) -> io::Result<()> {
        if unit.is_merged() && self.backend == Backend::Plain {
            return self.write_parts(unit, buffer);
        }
        let mut slices = [IoSlice::new(&[]); MAX_PARTS + 1];
        let [first, rest @ ..] = &mut slices;
        *first = IoSlice::new(self.framed(unit.header));
        for (slice, range) in rest.iter_mut().zip(unit.payload) {
            *slice = IoSlice::new(buffer.get(range.clone()).unwrap_or_default());
        }
        let used = slices.get(..=unit.payload.len()).unwrap_or_default();
        match rustix::io::writev(&self.device, used) {
            Ok(_) => {
                self.counters.written(if unit.is_merged() { unit.payload.len() } else { 1 });
                Ok(())
            }
            Err(Errno::INVAL) if unit.is_merged() => self.write_refused(unit, buffer),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes one complete packet that did not come through the coalescer, such as an ICMP error.
    pub fn write_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        self.write_part(UnitPart { header: &[0; VNET_HDR_LEN], payload: packet })
    }

    /// What may be merged for this queue at present.
    #[inline]
    pub fn offloads(&self) -> Offloads {
        match self.backend {
            Backend::Offload { tso, uso, .. } => {
                Offloads { tcp: tso && !self.refused.tcp, udp: uso && !self.refused.udp }
            }
            Backend::Plain => Offloads::NONE,
        }
    }

    /// What the kernel refused to take merged although it said it would.
    pub fn refused(&self) -> Offloads {
        self.refused
    }

    /// The backend in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// What it moved.
    pub const fn counters(&self) -> &Arc<TunCounters> {
        &self.counters
    }

    /// The interface's name when it was opened. Who renames it does not disturb the queue.
    pub fn name(&self) -> &str {
        &self.name
    }

    #[cold]
    fn write_refused(&mut self, unit: &Unit<'_>, buffer: &[u8]) -> io::Result<()> {
        // Only if the single packets pass was it the merging that the kernel refused.
        self.write_parts(unit, buffer)?;
        self.counters.refused_units.add(1);
        self.refused =
            Offloads { tcp: self.refused.tcp || !unit.is_udp(), udp: self.refused.udp || unit.is_udp() };
        Ok(())
    }

    fn write_parts(&mut self, unit: &Unit<'_>, buffer: &[u8]) -> io::Result<()> {
        let mut parts = unit.parts();
        while let Some(part) = parts.next_part(buffer) {
            self.write_part(part)?;
        }
        Ok(())
    }

    fn write_part(&self, part: UnitPart<'_>) -> io::Result<()> {
        let slices = [IoSlice::new(self.framed(part.header)), IoSlice::new(part.payload)];
        rustix::io::writev(&self.device, &slices)?;
        self.counters.written(1);
        Ok(())
    }

    /// The header as this backend frames it.
    #[inline]
    fn framed<'h>(&self, header: &'h [u8]) -> &'h [u8] {
        match self.backend {
            Backend::Offload { .. } => header,
            Backend::Plain => header.get(VNET_HDR_LEN..).unwrap_or_default(),
        }
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// The largest IP packet, its virtio header, and slack by which a longer one betrays itself.
pub const READ_BUFFER_LEN: usize = 65_536 + VNET_HDR_LEN + 64;
