//! Sequence numbers on record, while the gateway runs: reserved before they are used, and noted when it ends (T11, T12).

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};
use latchway_keying::reservations::{EnrolError, Receiving, Reservations, Sending, StoreError};
use latchway_keying::{Keys, NewPair, NewSingle, Resumption, SaKeys, Way};

/// The record of one state directory, kept up to date until it is closed.
pub struct Records {
    store: Arc<Mutex<Option<Reservations>>>,
    failing: Arc<Mutex<Option<String>>>,
    failures: Arc<AtomicU64>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why a pair cannot go on under its keys.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The record does not take them.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The gateway ends.
    #[error("the record of sequence numbers is closed, since the gateway ends")]
    Closed,
}

/// How often numbers are reserved and windows noted.
const STEP: Duration = Duration::from_millis(100);

impl Records {
    /// Opens the record in the folder, and keeps it up to date. `tell` hears when it cannot be, and when it can again.
    ///
    /// # Errors
    /// [`StoreError`], or the system's where it has no thread left.
    pub fn open(folder: &Path, tell: impl Fn(Result<(), &str>) + Send + 'static) -> Result<Self, OpenError> {
        let store = Arc::new(Mutex::new(Some(Reservations::open(folder)?)));
        let failing = Arc::new(Mutex::new(None));
        let (end, ended) = bounded(0);
        let failures = Arc::new(AtomicU64::new(0));
        let (kept, health, failed) = (Arc::clone(&store), Arc::clone(&failing), Arc::clone(&failures));
        let keep = move || {
            while ended.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
                let Some(outcome) = lock(&kept).as_mut().map(Reservations::extend) else { return };
                let now = outcome.err().map(|error| error.to_string());
                failed.fetch_add(u64::from(now.is_some()), Ordering::Relaxed);
                let before = std::mem::replace(&mut *lock(&health), now.clone());
                match (&before, &now) {
                    (None, Some(error)) => tell(Err(error)),
                    (Some(_), None) => tell(Ok(())),
                    _ => {}
                }
            }
        };
        let thread = thread::Builder::new().name("records".into()).spawn(keep)?;
        Ok(Self { store, failing, failures, end: Some(end), thread: Some(thread) })
    }

    /// Lets pairs go on where their keys are on record, all or none.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn resume(&self, pairs: &mut [NewPair]) -> Result<(), RecordError> {
        self.go_on(pairs, Reservations::enrol)
    }

    /// Whether pairs could go on where their keys are on record, with nothing enrolled.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn rehearse(&self, pairs: &mut [NewPair]) -> Result<(), RecordError> {
        self.go_on(pairs, Reservations::rehearse)
    }

    /// Lets a single SA go on where its key is on record.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn resume_single(&self, new: NewSingle) -> Result<NewSingle, RecordError> {
        self.go_on_single(new, Reservations::enrol_inbound, Reservations::enrol_outbound)
    }

    /// Whether a single SA could go on where its key is on record, with nothing enrolled.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn rehearse_single(&self, new: NewSingle) -> Result<NewSingle, RecordError> {
        self.go_on_single(new, Reservations::rehearse_inbound, Reservations::rehearse_outbound)
    }

    fn go_on_single(
        &self,
        new: NewSingle,
        inbound: impl FnOnce(&mut Reservations, &SaKeys) -> Result<Receiving, EnrolError>,
        outbound: impl FnOnce(&mut Reservations, &SaKeys) -> Result<Sending, EnrolError>,
    ) -> Result<NewSingle, RecordError> {
        let mut store = lock(&self.store);
        let store = store.as_mut().ok_or(RecordError::Closed)?;
        let way = match new.way {
            Way::Inbound { anti_replay, from, outer, .. } => {
                let Receiving { after, top } = inbound(store, &new.keys)?;
                Way::Inbound { anti_replay, from, outer, after, top: Some(top) }
            }
            Way::Outbound { path, shape, .. } => {
                let Sending { next, reservation } = outbound(store, &new.keys)?;
                Way::Outbound { path, shape, next, reservation: Some(reservation) }
            }
        };
        Ok(NewSingle { way, ..new })
    }

    /// Whether a key is on record, and so was used before.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn knows(&self, keys: &SaKeys) -> Result<bool, RecordError> {
        lock(&self.store).as_ref().map(|store| store.knows(keys)).ok_or(RecordError::Closed)
    }

    /// What keeps numbers from being reserved, if anything does.
    pub fn failing(&self) -> Option<String> {
        lock(&self.failing).clone()
    }

    /// How often numbers could not be reserved.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn go_on(
        &self,
        pairs: &mut [NewPair],
        by: impl FnOnce(&mut Reservations, &[&Keys]) -> Result<Vec<Resumption>, EnrolError>,
    ) -> Result<(), RecordError> {
        let mut store = lock(&self.store);
        let store = store.as_mut().ok_or(RecordError::Closed)?;
        let keys: Vec<&Keys> = pairs.iter().map(|pair| &pair.keys).collect();
        let resumptions = by(store, &keys)?;
        for (pair, resumption) in pairs.iter_mut().zip(resumptions) {
            pair.keys.resumption = Some(resumption);
        }
        Ok(())
    }

    /// Notes where every SA ended. To be called when nothing is sealed any more.
    ///
    /// # Errors
    /// [`StoreError`]: the rest of each block is lost then, and nothing else.
    pub fn close(&self) -> Result<(), StoreError> {
        let store = lock(&self.store).take();
        store.map_or(Ok(()), Reservations::close)
    }
}

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder gives none.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody could keep it.
    #[error("nobody can keep the record of sequence numbers: {0}")]
    Thread(#[from] io::Error),
}

impl Drop for Records {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
