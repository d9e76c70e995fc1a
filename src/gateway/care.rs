//! Looks after a gateway that runs, once a second: the key manager is started again where it ended by itself, and bursts
//! of drops are told.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use latchway_datapath::drop::Counters;
use latchway_keying::KeyManager;

use crate::gateway::bursts::Bursts;
use crate::gateway::daemon::tell;
use crate::gateway::events::EventHub;

/// Someone looks after the gateway until this is dropped; the key manager ends then.
pub struct Care {
    /// Nothing is ever sent; the thread ends when this does.
    alive: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

impl Care {
    /// Begins to look after a key manager and what the worker drops.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn start(keying: KeyManager, counters: Arc<Counters>, events: Arc<EventHub>) -> io::Result<Self> {
        let (alive, owner) = bounded(0);
        let look = move || look_after(keying, &counters, &events, &owner);
        let thread = thread::Builder::new().name("care".into()).spawn(look)?;
        Ok(Self { alive: Some(alive), thread: Some(thread) })
    }
}

impl Drop for Care {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look_after(mut keying: KeyManager, counters: &Counters, events: &EventHub, owner: &Receiver<Infallible>) {
    let mut bursts = Bursts::new();
    while owner.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
        bursts.look(counters).into_iter().for_each(|burst| events.publish(burst));
        revive(&mut keying);
    }
}

/// SAs, policy and latches outlive the key manager's thread, and so does what it knows of them.
fn revive(keying: &mut KeyManager) {
    if !keying.has_ended() {
        return;
    }
    tell(&match keying.restart() {
        Ok(()) => {
            "the key manager ended unexpectedly, and was started again; SAs and policy are as they were"
                .into()
        }
        Err(error) => format!("the key manager ended unexpectedly, and cannot be started again yet: {error}"),
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use latchway_control::ProposalSpec;
    use latchway_keying::{ClassObserver, ClassRefused};
    use latchway_tagging::{AuthMethod, Class, ClassId};
    use serde_json::json;

    use super::*;
    use crate::gateway::operator::Gateway;
    use crate::gateway::state::testing::World;

    /// Makes the key manager panic, once.
    struct Fragile(AtomicBool);

    impl ClassObserver for Fragile {
        fn class_interned(&self, _: ClassId, _: &Class, _: AuthMethod) -> Result<(), ClassRefused> {
            assert!(self.0.swap(true, Ordering::Relaxed), "on purpose");
            Ok(())
        }
    }

    /// latching-04 2.1: a key manager that ended by itself is started again, and its clients stay good.
    #[test]
    fn a_key_manager_that_ended_is_started_again() {
        let mut world = World::observed(|_| Arc::new(Fragile(AtomicBool::new(false))));
        let proposal: ProposalSpec = serde_json::from_value(json!({
            "peer": "b.example", "selectors": [{"local": "10.1.0.0/24", "remote": "10.2.0.0/24"}],
            "inbound_suite": "aes-128-gcm", "outbound_suite": "aes-128-gcm",
        }))
        .unwrap();
        let failure = world.state.propose(&proposal).unwrap_err();
        assert!(failure.to_string().contains("the key manager has stopped"), "{failure}");
        while !world.manager.has_ended() {
            thread::yield_now();
        }
        revive(&mut world.manager);
        assert!(!world.manager.has_ended());
        world.state.propose(&proposal).unwrap();
    }
}
