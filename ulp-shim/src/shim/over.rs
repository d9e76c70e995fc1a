//! Whether an end of a connection that speaks on it learns that it is over (L-87, L-100, L-103, R-13).
//!
//! The alternative is silence, which a socket takes for loss: that is right while a latch is being established (L-38), and
//! wrong where the connection can never go on.

use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::LatchState;
use latchway_datapath::packet::{IpPacket, Upper};
use latchway_datapath::ulp::Context;
use latchway_tagging::ClassId;

use crate::disposition::comes_back;
use crate::entry::{Entry, Holds, Kind};
use crate::shim::Shim;
use crate::shim::opening::{is_syn, terms_by_policy};

impl Shim {
    pub(super) fn judge_over(
        &self,
        packet: &IpPacket<'_>,
        reason: DropReason,
        context: &Context<'_>,
    ) -> bool {
        if reason == DropReason::RequirementUnmet {
            return true;
        }
        match self.database.probe(packet.flow()).map(|known| known.entry) {
            Some(entry) if is_over(&entry) => true,
            // A socket that answers somebody's SYN by speaking on a connection of before (L-40).
            Some(Entry { kind: Kind::Latched(_), .. }) => reason == DropReason::MidStream,
            Some(Entry { kind: Kind::Unlatched, .. }) => false,
            // The latch went with the gateway's last process, or after a long silence (L-40, L-104).
            None => speaks_on(packet) && terms_by_policy(packet.flow(), context).is_some(),
        }
    }

    /// The remote end is told under the connection's own class alone (L-99).
    pub(super) fn judge_over_for(&self, flow: &FlowKey, class: ClassId) -> bool {
        self.database.probe(flow).is_some_and(|known| {
            let own = known.entry.holds == Holds::Class && known.class == class;
            own && is_over(&known.entry)
        })
    }
}

/// Whether a latch is out of force for good. A broken one may come back, if its terms say so.
fn is_over(entry: &Entry) -> bool {
    match entry.kind {
        Kind::Latched(LatchState::Closed) => true,
        Kind::Latched(LatchState::Broken) => !comes_back(entry.terms, entry.reason),
        Kind::Latched(_) | Kind::Unlatched => false,
    }
}

/// Whether a packet is of a TCP connection that began before: a SYN that is dropped comes again (L-38).
const fn speaks_on(packet: &IpPacket<'_>) -> bool {
    matches!(packet.upper(), Upper::Tcp(segment) if !is_syn(segment))
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::{Begin, LatchDatabase, Limits, Seed};
    use etherparse::PacketBuilder;
    use latchway_datapath::drop::Direction;
    use latchway_datapath::event::event_queue;
    use latchway_datapath::flow::protocol;
    use latchway_datapath::latching::{BreakReason, LatchId, LatchTerms, OnConflict};
    use latchway_datapath::selector::{AddressRange, Selector};
    use latchway_datapath::snapshot::Snapshot;
    use latchway_datapath::spd::{Action, Protection, Rule, Spd};
    use latchway_datapath::time::Time;
    use latchway_tagging::{
        AuthMethod, Credential, Identity, IdentityLimit, IdentityRecord, IdentityTable, StateClock,
        StateVersion, WorkerId,
    };
    use std::sync::Arc;

    const NOW: Time = Time::from_nanos(1_000_000_000);
    const OWN: ClassId = ClassId::from_raw(1);
    const OTHER: ClassId = ClassId::from_raw(2);
    const CONFLICTS: [OnConflict; 4] =
        [OnConflict::Terminate, OnConflict::DropNewcomer, OnConflict::RejectNewcomer, OnConflict::Wait];

    fn shim() -> Shim {
        let database = LatchDatabase::new(Limits::for_flows(64), Arc::new(StateClock::new()), Seed::Fixed(7));
        let database = database.unwrap();
        let record = IdentityRecord {
            asserted: Identity::Fqdn("a".to_owned()),
            authorised: None,
            method: AuthMethod::PreSharedKey,
            credential: Credential::None,
        };
        let peer = IdentityTable::new(IdentityLimit::default()).acquire(&record).unwrap();
        database.peers().publish(OWN, peer, record.method, 0).unwrap();
        Shim::new(Arc::new(database), WorkerId(0), event_queue().0)
    }

    fn flow() -> FlowKey {
        FlowKey::new(protocol::TCP, "10.0.1.10:1000".parse().unwrap(), "10.0.2.20:80".parse().unwrap())
    }

    /// A latch on these terms.
    fn latch(shim: &Shim, on_conflict: OnConflict) -> LatchId {
        let (terms, version) = (LatchTerms { on_conflict, ..LatchTerms::default() }, StateVersion::default());
        shim.database.connect(&flow(), Begin::Established { class: OWN, version }, terms, NOW).unwrap()
    }

    /// Whether the local side hears of it, when it acknowledges something, or begins.
    fn local(shim: &Shim, reason: DropReason, syn: bool, protection: Protection) -> bool {
        let tcp = PacketBuilder::ipv4([10, 0, 1, 10], [10, 0, 2, 20], 64).tcp(1000, 80, 7, 512);
        let mut octets = Vec::new();
        if syn { tcp.syn() } else { tcp.ack(9) }.write(&mut octets, b"").unwrap();
        let packet = IpPacket::parse(&octets, Direction::Outbound).unwrap();
        let any = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let spd = Spd::new(vec![Rule::new(any, None, Action::Protect(protection))]);
        let snapshot = Snapshot { spd, ..Snapshot::default() };
        shim.judge_over(
            &packet,
            reason,
            &Context { snapshot: &snapshot, version: StateVersion::default(), now: NOW },
        )
    }

    /// L-87, R-9, R-17: broken or closed is over, to both ends; but not where it waits for what can pass.
    #[test]
    fn l_87_r_9_r_17_what_is_out_of_force_is_over_unless_it_waits() {
        for on_conflict in CONFLICTS {
            for reason in BreakReason::ALL {
                let shim = shim();
                let id = latch(&shim, on_conflict);
                let heard = |shim: &Shim| {
                    (
                        local(shim, DropReason::LatchBroken, false, Protection::LATCHED),
                        shim.judge_over_for(&flow(), OWN),
                    )
                };
                assert_eq!(heard(&shim), (false, false), "in force");
                assert!(shim.database.suspend(id, reason, Some(OTHER), NOW));
                let waits = on_conflict == OnConflict::Wait && reason.can_pass();
                assert_eq!(heard(&shim), (!waits, !waits), "{on_conflict:?} {reason:?}");
                assert_eq!(shim.database.inquire(id).unwrap().waits(), waits);
                assert!(!shim.judge_over_for(&flow(), OTHER), "L-99");
                assert!(shim.database.close(id, BreakReason::Administrative, NOW));
                assert_eq!(heard(&shim), (true, true));
                assert!(!shim.judge_over_for(&flow(), OTHER), "L-99");
            }
        }
    }

    /// L-22, L-38: LARVAL is no end.
    #[test]
    fn l_38_a_larval_latch_is_not_over() {
        let shim = shim();
        shim.database.connect(&flow(), Begin::Larval, LatchTerms::default(), NOW).unwrap();
        assert!(!local(&shim, DropReason::LatchBroken, false, Protection::LATCHED));
        assert!(!shim.judge_over_for(&flow(), OWN));
    }

    /// L-40: a connection of before is over where policy wants it latched; one that begins, or need not be latched, is not.
    #[test]
    fn l_40_a_connection_that_nobody_knows_is_over_where_it_must_be_latched() {
        let shim = shim();
        for reason in [DropReason::MidStream, DropReason::Ending] {
            assert!(local(&shim, reason, false, Protection::LATCHED));
            assert!(!local(&shim, reason, true, Protection::LATCHED));
            assert!(!local(&shim, reason, false, Protection::UNLATCHED));
        }
        assert!(!shim.judge_over_for(&flow(), OWN), "and of the remote end nothing is known");
    }
}
