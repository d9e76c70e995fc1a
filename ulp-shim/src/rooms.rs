//! What is required of all that has an address (latching-04 section 2, L-33): of a room, which is a network namespace whose
//! only way out is the gateway, and from which nothing comes but by its own address.
//!
//! Nothing in a room is trusted, and none of its sockets need be known: every packet of the address is under an SA that
//! meets what is required of the other end, or does not pass. Workers ask [`any`](Rooms::any) first, one relaxed load.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::{FlowKey, number};
use latchway_datapath::latching::OnConflict;
use latchway_datapath::selector::AddressRange;

use crate::constraint::ConstraintId;
use crate::requirements::{Required, RequirementId};

/// What is required of a room's flows to some other ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomDemand {
    /// Its name.
    pub id: RequirementId,
    /// Which other ends; `None` is all.
    pub to: Option<AddressRange>,
    /// What SAs must be.
    pub constraint: ConstraintId,
    /// What becomes of the connections in a conflict, other than the rule says.
    pub on_conflict: Option<OnConflict>,
}

/// All rooms of which something is required, by their addresses.
pub struct Rooms {
    count: AtomicU64,
    held: Mutex<HashMap<u128, Vec<RoomDemand>>>,
}

impl Rooms {
    pub(crate) fn new() -> Self {
        Self { count: AtomicU64::new(0), held: Mutex::default() }
    }

    /// Whether something is required of any room.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.count() != 0
    }

    /// How many addresses something is required of.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Requires something of an address, in place of what was. Of demands on the same other end the first rules, and other
    /// ends than are named are none: nothing passes between them and the address.
    pub fn set(&self, address: IpAddr, demands: Vec<RoomDemand>) {
        let mut held = self.lock();
        held.insert(number(address), demands);
        self.count.store(held.len() as u64, Ordering::SeqCst);
    }

    /// Requires nothing of an address any more. Returns whether anything was.
    pub fn remove(&self, address: IpAddr) -> bool {
        let mut held = self.lock();
        let was_held = held.remove(&number(address)).is_some();
        self.count.store(held.len() as u64, Ordering::SeqCst);
        was_held
    }

    /// Whether a flow is one of a room.
    pub(crate) fn has(&self, flow: &FlowKey) -> bool {
        self.any() && self.lock().contains_key(&flow.local_number())
    }

    /// What is required of a flow, if it is one of a room.
    ///
    /// # Errors
    /// [`DropReason::RequirementUnmet`]: nothing passes between the room and that other end.
    pub(crate) fn demand(&self, flow: &FlowKey) -> Result<Option<Required>, DropReason> {
        let held = self.lock();
        let Some(demands) = held.get(&flow.local_number()) else { return Ok(None) };
        let remote = flow.remote_number();
        let rules = |demand: &&RoomDemand| demand.to.is_none_or(|to| to.contains(remote));
        let demand = demands.iter().find(rules).ok_or(DropReason::RequirementUnmet)?;
        let RoomDemand { id, constraint, on_conflict, .. } = *demand;
        Ok(Some(Required { id, constraints: constraint.bit(), on_conflict }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Vec<RoomDemand>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms").field("count", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn demand(number: u8, to: Option<[&str; 2]>) -> RoomDemand {
        let to =
            to.map(|[first, last]| AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap());
        let constraint = ConstraintId::new(number).unwrap();
        RoomDemand { id: RequirementId(number.into()), to, constraint, on_conflict: None }
    }

    fn asked(rooms: &Rooms, local: &str, remote: &str) -> Result<Option<u64>, DropReason> {
        let end = |address: &str| (address.parse::<IpAddr>().unwrap(), 7).into();
        let demand = rooms.demand(&FlowKey::new(17, end(local), end(remote)))?;
        Ok(demand.map(|demand| demand.id.0))
    }

    /// L-33: the first demand rules whose prefix the other end is in, and what is in none does not pass.
    #[test]
    fn l_33_the_first_demand_rules_and_what_is_in_none_is_refused() {
        let rooms = Rooms::new();
        assert!(!rooms.any());
        let (one, other): (IpAddr, IpAddr) = ("10.1.0.9".parse().unwrap(), "2001:db8::9".parse().unwrap());
        rooms.set(
            one,
            vec![demand(1, Some(["10.2.0.0", "10.2.0.255"])), demand(2, Some(["10.2.0.0", "10.2.255.255"]))],
        );
        rooms.set(other, vec![demand(3, None)]);
        assert_eq!(rooms.count(), 2);
        assert_eq!(asked(&rooms, "10.1.0.9", "10.2.0.1"), Ok(Some(1)));
        assert_eq!(asked(&rooms, "10.1.0.9", "10.2.1.1"), Ok(Some(2)));
        assert_eq!(asked(&rooms, "10.1.0.9", "10.3.0.1"), Err(DropReason::RequirementUnmet));
        assert_eq!(asked(&rooms, "2001:db8::9", "2001:db8:1::1"), Ok(Some(3)));
        assert_eq!(asked(&rooms, "10.1.0.8", "10.3.0.1"), Ok(None));
        rooms.set(one, vec![]);
        assert_eq!(asked(&rooms, "10.1.0.9", "10.2.0.1"), Err(DropReason::RequirementUnmet));
        assert!(rooms.remove(one) && !rooms.remove(one) && rooms.remove(other) && !rooms.any());
        assert_eq!(asked(&rooms, "10.1.0.9", "10.3.0.1"), Ok(None));
    }
}
