//! The part of the street inbound that an SA has in it: check the number, open or verify, commit, charge (RFC 4303 section
//! 3.4, RFC 4302 section 3.4). Nothing changes before the integrity check has passed.

use std::ops::Range;

use latchway_esp::{NextHeader, OpenError, Protocol, ReplayError};
use latchway_tagging::{Mode, SaRef};

use crate::arrival::Arrival;
use crate::drop::DropReason;
use crate::gateway::Datapath;
use crate::lifetime::HardExpired;
use crate::owned::OwnedInbound;
use crate::ulp::Ulp;
use crate::unwrapping::Carried;

/// What an SA has opened.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) sa: SaRef,
    pub(crate) mode: Mode,
    pub(crate) next_header: NextHeader,
    /// Where what it protected lies.
    pub(crate) payload: Range<usize>,
}

impl<U: Ulp> Datapath<U> {
    /// Opens a packet of ESP under the SA that its header names: of a bundle, within the AH SA that goes around it.
    // Called for every packet, and once besides: what it returns is too large to be handed around in memory.
    #[inline(always)]
    pub(crate) fn open(
        &mut self,
        carried: &Carried,
        within: Option<SaRef>,
        datagram: &mut [u8],
        arrival: &Arrival,
    ) -> Result<Opened, DropReason> {
        let owned = self.sas.inbound(self.snapshot.sad.find(Protocol::Esp, carried.spi))?;
        if owned.from.carrier != arrival.carrier {
            return Err(DropReason::EncapsulationMismatch);
        }
        if owned.entry.nested != within {
            return Err(DropReason::BundleMismatch);
        }
        let number = owned.sa.check(carried.seq).map_err(late_or_replayed)?;
        let at = carried.place.at;
        let packet = datagram.get_mut(at..carried.end).ok_or(DropReason::Runt)?;
        let opened = if owned.sa.is_in_doubt(number) {
            owned.sa.open_in_doubt(number, packet, &mut self.scratch)
        } else {
            owned.sa.open(number, packet)
        };
        let (opened, verified) = opened.map_err(|error| owned.forged(error))?;
        let anew = owned.hears_anew(*verified.get(), arrival);
        owned.sa.commit(verified).map_err(late_or_replayed)?;
        let (sa, mode) = (owned.entry.sa, owned.entry.mode);
        owned.comes_from_peer(arrival)?;
        match owned.charge(opened.encrypted_len() as u64, self.now) {
            Ok(soft) => self.soft_reached |= soft,
            Err(HardExpired) => return Err(self.sas.end(sa)),
        }
        let inner = opened.decapsulate().map_err(|_| DropReason::BadPadding)?;
        let start = at + inner.offset;
        let (next_header, payload) = (inner.next_header, start..start + inner.payload.len());
        if anew {
            self.follow(sa, arrival.from);
        }
        Ok(Opened { sa, mode, next_header, payload })
    }

    /// Verifies a packet of AH under the SA that its header names, and opens the ESP that is within it in a bundle. AH is
    /// never in UDP.
    #[inline(never)]
    pub(crate) fn verify(
        &mut self,
        carried: &Carried,
        datagram: &mut [u8],
        arrival: &Arrival,
    ) -> Result<Opened, DropReason> {
        let owned = self.sas.inbound(self.snapshot.sad.find(Protocol::Ah, carried.spi))?;
        let number = owned.sa.check(carried.seq).map_err(late_or_replayed)?;
        let (packet, at) = (datagram.get(..carried.end).ok_or(DropReason::Runt)?, carried.place.at);
        let verified = if owned.sa.is_in_doubt(number) {
            owned.sa.verify_in_doubt(number, packet, at)
        } else {
            owned.sa.verify(number, packet, at)
        };
        let (header, verified) = verified.map_err(|error| owned.forged(error))?;
        let anew = owned.hears_anew(*verified.get(), arrival);
        owned.sa.commit(verified).map_err(late_or_replayed)?;
        let (sa, mode, bundled) = (owned.entry.sa, owned.entry.mode, owned.entry.is_for_another());
        owned.comes_from_peer(arrival)?;
        let (next_header, payload) = (header.next_header, header.payload..carried.end);
        match owned.charge(payload.len() as u64, self.now) {
            Ok(soft) => self.soft_reached |= soft,
            Err(HardExpired) => return Err(self.sas.end(sa)),
        }
        if anew && !bundled {
            self.follow(sa, arrival.from);
        }
        match Protocol::from_number(next_header.0) {
            Some(Protocol::Esp) => {
                let within = Carried::in_ah(datagram, payload)?;
                self.open(&within, Some(sa), datagram, arrival)
            }
            None if !bundled => Ok(Opened { sa, mode, next_header, payload }),
            _ => Err(DropReason::BundleMismatch),
        }
    }
}

impl OwnedInbound {
    /// Takes note of a packet whose integrity check failed.
    #[cold]
    fn forged(&mut self, error: OpenError) -> DropReason {
        if error == OpenError::IcvMismatch {
            self.sa.count_forged();
        }
        forged(error)
    }
}

/// RFC 4303 3.4.3: "late" is never confused with "seen before".
const fn late_or_replayed(error: ReplayError) -> DropReason {
    match error {
        ReplayError::TooOld => DropReason::TooOld,
        ReplayError::Replayed | ReplayError::Zero => DropReason::Replayed,
    }
}

const fn forged(error: OpenError) -> DropReason {
    match error {
        OpenError::Runt { .. } | OpenError::Header(_) => DropReason::Runt,
        OpenError::Unaligned { .. } | OpenError::AhLength { .. } => DropReason::BadLength,
        OpenError::IcvMismatch => DropReason::IcvMismatch,
        OpenError::Late => DropReason::TooOld,
        OpenError::Headers(_) => DropReason::BadIpHeader,
        // An SPI names an SA of its own protocol alone.
        OpenError::WrongProtocol(_) => DropReason::NoSa,
    }
}
