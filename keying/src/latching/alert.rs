//! ALERT (RFC 5660 section 2.3, R-11): what holders are told of their latches. Bounded for each holder by itself, and
//! never waited for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::channel::{Receiver, Sender, bounded};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState};

use crate::latching::Holder;

/// One thing that happened to one latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatchAlert {
    /// The latch.
    pub latch: LatchId,
    /// Its connection; of a listener, the remote end is left out.
    pub flow: FlowKey,
    /// The state it has now.
    pub state: LatchState,
    /// Why it is not ESTABLISHED any more.
    pub reason: Option<BreakReason>,
    /// The listener latch that it was made because of (L-53).
    pub listener: Option<LatchId>,
    /// What happened.
    pub kind: AlertKind,
}

/// What happened to a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertKind {
    /// A connection came in where a listener latch awaits them (L-53).
    Spawned,
    /// It went into the state that it has now.
    Changed,
    /// No SA serves it, for as long as its holder wanted to wait (L-39). It stays as it is (L-38).
    Unserved,
}

/// What waited for a holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Oldest first.
    pub alerts: Vec<LatchAlert>,
    /// How many older ones were lost since the last delivery, for nobody read them. That a latch of the holder's own is
    /// CLOSED is never among them.
    pub lost: u64,
}

/// The reading end of a holder's alerts. Dropped, the holder is gone, and what it held is released (L-21).
#[derive(Debug)]
pub struct Alerts {
    holder: Holder,
    mailbox: Arc<Mailbox>,
    bell: Receiver<()>,
    gone: Sender<Holder>,
}

/// A holder's alerts until it takes them.
#[derive(Debug)]
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    /// Rings at most once until it is heard.
    bell: Sender<()>,
    room: usize,
}

#[derive(Debug, Default)]
struct Queue {
    /// Alerts that may be lost, each with its place in the order of all.
    lossy: VecDeque<(u64, LatchAlert)>,
    /// Alerts that may not: one for each latch at most, and latches are counted.
    kept: VecDeque<(u64, LatchAlert)>,
    told: u64,
    lost: u64,
}

impl Alerts {
    /// Whose they are.
    #[must_use]
    pub const fn holder(&self) -> Holder {
        self.holder
    }

    /// Takes what there is.
    #[must_use]
    pub fn take(&self) -> Delivery {
        self.mailbox.take()
    }

    /// Receives when there may be something to take.
    #[must_use]
    pub const fn bell(&self) -> &Receiver<()> {
        &self.bell
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        // A failed send is a key manager that ended for good, and nothing is held.
        let _ = self.gone.send(self.holder);
    }
}

impl Mailbox {
    /// An empty one, with its reading end. It holds `room` alerts beside those that are never lost; `gone` hears when the
    /// reading end is dropped.
    pub(crate) fn open(holder: Holder, room: usize, gone: Sender<Holder>) -> (Arc<Self>, Alerts) {
        let (ring, bell) = bounded(1);
        let mailbox = Arc::new(Self { queue: Mutex::default(), bell: ring, room: room.max(1) });
        let alerts = Alerts { holder, mailbox: Arc::clone(&mailbox), bell, gone };
        (mailbox, alerts)
    }

    /// Tells something that may be lost where nobody reads.
    pub(crate) fn tell(&self, alert: LatchAlert) {
        let mut queue = self.lock();
        let place = queue.place();
        if queue.lossy.len() >= self.room {
            queue.lossy.pop_front();
            queue.lost += 1;
        }
        queue.lossy.push_back((place, alert));
        drop(queue);
        self.ring();
    }

    /// Tells that a latch is CLOSED, which is never lost. To be called once for a latch.
    pub(crate) fn tell_last(&self, alert: LatchAlert) {
        let mut queue = self.lock();
        let place = queue.place();
        queue.kept.push_back((place, alert));
        drop(queue);
        self.ring();
    }

    /// How many alerts wait that are never lost.
    pub(crate) fn kept(&self) -> usize {
        self.lock().kept.len()
    }

    fn take(&self) -> Delivery {
        let Queue { lossy, kept, lost, .. } = {
            let mut queue = self.lock();
            let told = queue.told;
            std::mem::replace(&mut *queue, Queue { told, ..Queue::default() })
        };
        let mut alerts: Vec<_> = lossy.into_iter().chain(kept).collect();
        alerts.sort_unstable_by_key(|(place, _)| *place);
        Delivery { alerts: alerts.into_iter().map(|(_, alert)| alert).collect(), lost }
    }

    fn ring(&self) {
        // A bell that rang and was not heard yet says it already.
        let _ = self.bell.try_send(());
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    const fn place(&mut self) -> u64 {
        self.told += 1;
        self.told
    }
}
