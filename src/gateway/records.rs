//! Sequence numbers on record, while the gateway runs: reserved before they are used, and noted when it ends (T11, T12).

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};
use latchway_keying::reservations::{EnrolError, EnrolFault, Enrolled, Reservations, StoreError, Use};
use latchway_keying::{KeyOrigin, Keys, NewPair, NewSingle, Resumption, SaKeys, Way};

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

/// Which of several single SAs cannot be, and why.
#[derive(Debug)]
pub struct RecordFault {
    /// Its place; `None` where it is no single one's fault.
    pub place: Option<usize>,
    /// Why.
    pub error: RecordError,
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

    /// Lets single SAs go on where their keys are on record, and notes those that are said to be fresh, before they are used:
    /// all or none.
    ///
    /// # Errors
    /// [`RecordFault`]
    pub fn resume_singles(&self, news: Vec<NewSingle>) -> Result<Vec<NewSingle>, RecordFault> {
        self.go_on_singles(news, Reservations::enrol_each)
    }

    /// Whether single SAs could go on where their keys are on record, or are fresh, with nothing enrolled.
    ///
    /// # Errors
    /// [`RecordFault`]
    pub fn rehearse_singles(&self, news: Vec<NewSingle>) -> Result<Vec<NewSingle>, RecordFault> {
        self.go_on_singles(news, Reservations::rehearse_each)
    }

    fn go_on_singles(
        &self,
        mut news: Vec<NewSingle>,
        by: impl FnOnce(&mut Reservations, &[Use<'_>]) -> Result<Vec<Enrolled>, EnrolFault>,
    ) -> Result<Vec<NewSingle>, RecordFault> {
        let used = || news.iter().enumerate().filter_map(|(place, new)| Some((place, use_of(new)?)));
        let (places, uses): (Vec<_>, Vec<_>) = used().unzip();
        if uses.is_empty() {
            return Ok(news);
        }
        let mut store = lock(&self.store);
        let store = store.as_mut().ok_or(RecordFault { place: None, error: RecordError::Closed })?;
        let enrolled = by(store, &uses).map_err(|fault| RecordFault {
            place: fault.place.and_then(|place| places.get(place)).copied(),
            error: fault.error.into(),
        })?;
        for (place, enrolled) in places.into_iter().zip(enrolled) {
            if let Some(new) = news.get_mut(place) {
                go_on_single(&mut new.way, enrolled);
            }
        }
        Ok(news)
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

/// What the record is to know of a key: everything, where it may come again, and that it was used, where it must not.
fn use_of(new: &NewSingle) -> Option<Use<'_>> {
    let keys = &new.keys;
    keys.material.suite().is_counter_mode().then_some(match (new.origin, &new.way) {
        (KeyOrigin::Ephemeral, _) => Use::Fresh(keys),
        (_, Way::Inbound { .. }) => Use::Receiving(keys),
        (_, Way::Outbound { .. }) => Use::Sending(keys),
    })
}

fn go_on_single(way: &mut Way, enrolled: Enrolled) {
    match (way, enrolled) {
        (Way::Inbound { after, top, .. }, Enrolled::Receiving(receiving)) => {
            (*after, *top) = (receiving.after, Some(receiving.top));
        }
        (Way::Outbound { next, reservation, .. }, Enrolled::Sending(sending)) => {
            (*next, *reservation) = (sending.next, Some(sending.reservation));
        }
        _ => {}
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
