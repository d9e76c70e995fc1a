//! The key manager's thread: it owns a [`Keying`], answers requests in their order and reads the datapath's events.
//!
//! Waiting for a grace holds up nobody: an installation is answered when its pair is in force, and other requests are
//! served meanwhile; only a change waits for the one before it. If the thread ends, even by a panic, workers keep the
//! last snapshot, since the [`Publisher`](latchway_datapath::low::publish::Publisher) is shared and not owned, and every
//! request is answered with [`Stopped`] until a [`restart`](KeyManager::restart).

mod client;
mod latching;
mod server;

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use latchway_datapath::event::Event;
use latchway_datapath::time::Time;

use crate::keying::Keying;
use crate::notice::Notice;

pub use self::client::KeyManagerClient;
use self::server::{Estate, Server};

/// The running key manager. Dropped, it ends its thread and waits for it.
#[derive(Debug)]
pub struct KeyManager {
    client: KeyManagerClient,
    /// What outlives the thread, which has it locked while it runs.
    estate: Arc<Mutex<Estate>>,
    /// Nothing is ever sent; the thread ends when this does.
    alive: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread reads and writes beside requests.
pub struct Inputs {
    /// What the datapath tells.
    pub events: Receiver<Event>,
    /// Where events go once they were noted: ACQUIREs to whoever makes SAs (L-60), broken latches to whoever ends
    /// connections. Never waited for: a full queue loses an ACQUIRE or an expiry, and holds up other events where it
    /// would lose a broken latch.
    pub forward: Sender<Event>,
    /// Where it goes what became of pairs, offers and policy. Never waited for: a full queue loses it.
    pub notices: Sender<Notice>,
    /// The workers' clock.
    pub clock: Box<dyn Fn() -> Time + Send>,
}

/// The key manager does not run any more. What was published stays in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key manager has stopped; SAs and policy stay as they are until it is restarted")]
pub struct Stopped;

impl KeyManager {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn spawn(keying: Keying, inputs: Inputs) -> io::Result<Self> {
        let estate = Arc::new(Mutex::new(Estate::new(keying, inputs)));
        let client = KeyManagerClient::unheard();
        let mut manager = Self { client, estate, alive: None, thread: None };
        manager.start()?;
        Ok(manager)
    }

    /// Ends the thread, if it still runs, and starts another, which takes over where it was: SAs, policy, PAD, classes,
    /// offers and whatever rests stay, workers and latches see nothing of it, and [`client`](Self::client)s stay good.
    /// Who waits for an answer is told [`Stopped`]; what was asked may have been done.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn restart(&mut self) -> io::Result<()> {
        self.end();
        self.start()
    }

    /// Whether the thread has ended by itself, which only a panic makes it do.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Someone else who may ask.
    #[must_use]
    pub fn client(&self) -> KeyManagerClient {
        self.client.clone()
    }

    fn start(&mut self) -> io::Result<()> {
        // A panic may have left it in the middle of something.
        self.estate.lock().unwrap_or_else(PoisonError::into_inner).recover();
        self.estate.clear_poison();
        let (sender, requests) = unbounded();
        let (alive, owner) = bounded(0);
        let estate = Arc::clone(&self.estate);
        let run = move || {
            let mut estate = estate.lock().unwrap_or_else(PoisonError::into_inner);
            Server::new(&mut estate, requests, owner).run();
        };
        self.thread = Some(Builder::new().name("keying".into()).spawn(run)?);
        self.alive = Some(alive);
        self.client.hear(sender);
        Ok(())
    }

    fn end(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            // If it ended by a panic, the message was printed then.
            let _ = thread.join();
        }
    }
}

impl Drop for KeyManager {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").finish_non_exhaustive()
    }
}
