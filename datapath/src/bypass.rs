//! What comes in the clear, through the bypass port: RFC 4301 section 5.2, for packets that IPsec did not protect.

use crate::drop::{Direction, DropReason};
use crate::gateway::{Datapath, context};
use crate::packet::{IpPacket, Unprotected};
use crate::segment::SuperPacket;
use crate::spd::Action;
use crate::ulp::Ulp;

impl<U: Ulp> Datapath<U> {
    /// Takes one super-packet from the bypass port, virtio header first. Returns whether it may be written to the TUN:
    /// policy must say BYPASS, and a latched flow admits nothing unprotected even then (L-26). No tag can be had here, so
    /// that no latch begins here either (L-101).
    pub fn unprotected(&mut self, octets: &mut [u8]) -> bool {
        let Ok(super_packet) = SuperPacket::parse(octets) else {
            self.counters.street(Direction::Inbound).drop(DropReason::BadOffload, 1);
            return false;
        };
        let verdict = self.admit_unprotected(super_packet.packet());
        let street = self.counters.street(Direction::Inbound);
        let packets = super_packet.segment_count() as u64;
        match verdict {
            Ok(true) => {
                street.packets.add(packets);
                street.octets.add(super_packet.total_len() as u64);
            }
            Ok(false) => {}
            Err(reason) => {
                street.drop(reason, packets);
                self.audit_inner(Direction::Inbound, reason, octets);
            }
        }
        verdict.is_ok_and(|passes| passes)
    }

    /// Whether the packet passes now; it may be a fragment that waits.
    pub(crate) fn admit_unprotected(&mut self, octets: &[u8]) -> Result<bool, DropReason> {
        let mut packet = IpPacket::parse(octets, Direction::Inbound)?;
        if packet.flow().is_link_local() {
            return Err(DropReason::LinkLocal);
        }
        let Self { ulp, snapshot, inbound_fragments, .. } = self;
        let context = context(snapshot, self.version, self.now);
        let admit = |packet: &IpPacket<'_>| {
            let policy = snapshot.spd.action_on(packet, Direction::Inbound);
            ulp.unprotected(&Unprotected::new(packet), policy, &context)
        };
        inbound_fragments.resolve(&mut packet, None, self.now, admit)
    }
}

/// What is not protected passes only where policy says BYPASS (RFC 4301 5.2).
///
/// # Errors
/// The reason to drop it.
pub fn admit(policy: Option<Action>) -> Result<(), DropReason> {
    match policy {
        Some(Action::Bypass) => Ok(()),
        Some(Action::Protect(_)) => Err(DropReason::Unprotected),
        Some(Action::Discard) => Err(DropReason::PolicyDiscard),
        None => Err(DropReason::NoPolicy),
    }
}
