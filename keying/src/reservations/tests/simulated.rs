//! A disk that can be killed between any two operations and inside each, and loses what was not synced.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use zeroize::Zeroizing;

use crate::reservations::disk::Disk;

/// A handle on the disk; it outlives the store that writes to it.
#[derive(Clone)]
pub(super) struct Simulated(Arc<Mutex<Medium>>);

/// What is on the disk, and what would be after a loss of power.
pub(super) struct Medium {
    rng: Rng,
    /// What a process sees.
    names: Names,
    /// What is on the platter for sure, and what was renamed since, in its order.
    stored: Names,
    pending: Vec<NameChange>,
    /// Operations until the process is killed in the next one.
    pub(super) fuse: u32,
    /// Of a hundred operations, how many the disk refuses.
    pub(super) refusals: u8,
    /// Whether it says that it synced what it did not.
    pub(super) lies: Option<Lie>,
    pub(super) killed_in: [u32; 4],
    pub(super) refused: u32,
    /// Files that were written.
    pub(super) written: u32,
}

/// A disk that does not do what a store relies on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    Octets,
    Names,
}

#[derive(Default)]
struct File {
    octets: Vec<u8>,
    synced: bool,
}

#[derive(Clone, Default)]
struct Names {
    file: Option<Arc<Mutex<File>>>,
    next: Option<Arc<Mutex<File>>>,
}

#[derive(Clone)]
enum NameChange {
    Next(Option<Arc<Mutex<File>>>),
    Renamed,
}

/// How an operation goes.
#[derive(PartialEq, Eq)]
enum Course {
    Done,
    Refused,
    Killed,
}

impl Simulated {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Medium {
            rng: Rng::with_seed(seed),
            names: Names::default(),
            stored: Names::default(),
            pending: Vec::new(),
            fuse: u32::MAX,
            refusals: 0,
            lies: None,
            killed_in: [0; 4],
            refused: 0,
            written: 0,
        })))
    }

    pub(super) fn medium(&self) -> MutexGuard<'_, Medium> {
        lock(&self.0)
    }
}

impl Medium {
    /// Whether the process was killed.
    pub(super) const fn is_killed(&self) -> bool {
        self.fuse == 0
    }

    /// What the next process finds. Where power was lost, renamings since the last sync may be undone from the last one
    /// backwards, and octets that were not synced may be anything.
    pub(super) fn restart(&mut self, power_lost: bool) {
        if !power_lost {
            return;
        }
        let kept = self.rng.usize(0..=self.pending.len());
        for change in self.pending.drain(..).take(kept) {
            self.stored.apply(change);
        }
        self.names = self.stored.clone();
        for file in [&self.names.file, &self.names.next].into_iter().flatten() {
            lock(file).lose(&mut self.rng);
        }
    }

    fn course(&mut self, operation: usize) -> Course {
        if self.fuse > 0 {
            self.fuse -= 1;
            if self.fuse == 0 {
                self.killed_in[operation] += 1;
                return Course::Killed;
            }
            if self.rng.u8(0..100) < self.refusals {
                self.refused += 1;
                return Course::Refused;
            }
            return Course::Done;
        }
        Course::Killed
    }

    /// Does an operation whole, or, where it does not go well, perhaps.
    fn perform(&mut self, operation: usize, effect: impl FnOnce(&mut Self)) -> io::Result<()> {
        let dead = self.is_killed();
        let course = self.course(operation);
        if course == Course::Done || (!dead && self.rng.bool()) {
            effect(self);
        }
        match course {
            Course::Done => Ok(()),
            Course::Refused => Err(io::ErrorKind::StorageFull.into()),
            Course::Killed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn change(&mut self, change: NameChange) {
        self.names.apply(change.clone());
        self.pending.push(change);
    }
}

impl File {
    /// Octets that were not synced may be anything.
    fn lose(&mut self, rng: &mut Rng) {
        let torn = rng.usize(0..=self.octets.len());
        match rng.u8(0..4) {
            _ if self.synced => {}
            0 => {}
            1 => self.octets.truncate(torn),
            2 => self.octets.iter_mut().skip(torn).for_each(|octet| *octet = rng.u8(..)),
            _ => self.octets.iter_mut().skip(torn).for_each(|octet| *octet = 0),
        }
        self.synced = true;
    }
}

impl Names {
    fn apply(&mut self, change: NameChange) {
        match change {
            NameChange::Next(next) => self.next = next,
            NameChange::Renamed => self.file = self.next.take(),
        }
    }
}

impl Disk for Simulated {
    fn folder(&self) -> &Path {
        Path::new("/simulated")
    }

    fn read_file(&mut self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(self.medium().names.file.as_ref().map(|file| Zeroizing::new(lock(file).octets.clone())))
    }

    fn write_next(&mut self, octets: &[u8]) -> io::Result<()> {
        let mut medium = self.medium();
        medium.written += 1;
        let whole = medium.fuse > 1;
        medium.perform(0, |medium| {
            medium.change(NameChange::Next(None));
            let len = if whole { octets.len() } else { medium.rng.usize(0..=octets.len()) };
            let file = File { octets: octets[..len].to_vec(), synced: false };
            medium.change(NameChange::Next(Some(Arc::new(Mutex::new(file)))));
        })
    }

    fn sync_next(&mut self) -> io::Result<()> {
        let mut medium = self.medium();
        medium.perform(1, |medium| {
            if let Some(file) = medium.names.next.as_ref().filter(|_| medium.lies != Some(Lie::Octets)) {
                lock(file).synced = true;
            }
        })
    }

    fn rename_next(&mut self) -> io::Result<()> {
        self.medium().perform(2, |medium| medium.change(NameChange::Renamed))
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        self.medium().perform(3, |medium| {
            if medium.lies != Some(Lie::Names) {
                medium.stored = medium.names.clone();
                medium.pending.clear();
            }
        })
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
