//! Who is connected, and who must go where all places are taken.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Everybody who is connected.
#[derive(Debug)]
pub struct Callers {
    limits: Limits,
    all: Mutex<All>,
    fewer: Condvar,
}

/// How many may be connected at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that only call. Each has a thread and a descriptor.
    pub connections: usize,
    /// Those of them that may listen to events, so that they leave room for calls.
    pub listeners: usize,
    /// Connections that may hold latches, beside those that only call.
    pub holders: usize,
}

#[derive(Debug, Default)]
struct All {
    by_number: HashMap<u64, Entry>,
    last: u64,
    listening: usize,
    /// Those of `by_number` that hold latches.
    holding: usize,
    /// Threads that serve somebody, shut out or not.
    served: usize,
}

#[derive(Debug)]
struct Entry {
    stream: Arc<UnixStream>,
    doing: Doing,
    since: Instant,
    /// Whether latches go with it.
    holds: bool,
}

/// One who is connected, until dropped.
#[derive(Debug)]
pub struct Caller {
    callers: Arc<Callers>,
    number: u64,
}

/// One who listens to events, until dropped.
#[derive(Debug)]
pub struct Listener<'a>(&'a Callers);

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It is waited for a call, or for the rest of one.
    Waiting,
    /// A call is answered.
    Answering,
    /// An answer is written, which takes as long as the caller takes to read it.
    Writing,
}

/// How long a caller may leave an answer unread before its place is given to another.
const UNREAD: Duration = Duration::from_secs(2);

impl Callers {
    /// Nobody yet, and as many as these at a time.
    pub fn new(limits: Limits) -> Self {
        Self { limits, all: Mutex::default(), fewer: Condvar::new() }
    }

    /// A place for a new connection. Where all are taken, whoever has said nothing or read nothing for longest must go;
    /// `None` where everybody is busy.
    pub fn admit(self: &Arc<Self>, stream: Arc<UnixStream>) -> Option<Caller> {
        let mut all = self.lock();
        if all.by_number.len() - all.holding >= self.limits.connections {
            let idle = all.by_number.iter().filter(|(_, entry)| !entry.holds && entry.is_idle());
            let (&longest, _) = idle.min_by_key(|(_, entry)| entry.since)?;
            all.shut_out(longest);
        }
        // A thread that was shut out takes a moment to notice. Many of them mean that someone connects without end.
        if all.served - all.holding >= 2 * self.limits.connections {
            return None;
        }
        (all.last, all.served) = (all.last + 1, all.served + 1);
        let (number, entry) =
            (all.last, Entry { stream, doing: Doing::Waiting, since: Instant::now(), holds: false });
        all.by_number.insert(number, entry);
        Some(Caller { callers: Arc::clone(self), number })
    }

    /// Sees everybody out: who waits to say something goes at once, who is being answered within `patience`.
    pub fn dismiss(&self, patience: Duration) {
        let mut all = self.lock();
        all.shut_out_where(|entry| entry.doing == Doing::Waiting);
        let all = self.until_nobody_is_served(all, patience);
        let mut all = all;
        all.shut_out_where(|_| true);
        drop(self.until_nobody_is_served(all, patience));
    }

    fn until_nobody_is_served<'a>(
        &self,
        all: MutexGuard<'a, All>,
        patience: Duration,
    ) -> MutexGuard<'a, All> {
        let waited = self.fewer.wait_timeout_while(all, patience, |all| all.served > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn shut_out(&mut self, number: u64) {
        if let Some(entry) = self.remove(number) {
            let _ = entry.stream.shutdown(Shutdown::Both);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.by_number.remove(&number)?;
        self.holding -= usize::from(entry.holds);
        Some(entry)
    }

    fn shut_out_where(&mut self, is_one: impl Fn(&Entry) -> bool) {
        let these = self.by_number.iter().filter(|(_, entry)| is_one(entry));
        let these: Vec<_> = these.map(|(number, _)| *number).collect();
        these.into_iter().for_each(|number| self.shut_out(number));
    }
}

impl Entry {
    fn is_idle(&self) -> bool {
        match self.doing {
            Doing::Waiting => true,
            Doing::Answering => false,
            Doing::Writing => self.since.elapsed() > UNREAD,
        }
    }
}

impl Caller {
    /// Notes what the connection is used for from here on.
    pub fn now(&self, doing: Doing) {
        if let Some(entry) = self.callers.lock().by_number.get_mut(&self.number) {
            (entry.doing, entry.since) = (doing, Instant::now());
        }
    }

    /// A place among those who hold latches, for as long as it is connected: it is not shut out to make room for others,
    /// since its latches would go with it (L-21). Returns whether it has one.
    pub fn hold(&self) -> bool {
        let mut all = self.callers.lock();
        let all = &mut *all;
        let Some(entry) = all.by_number.get_mut(&self.number) else { return false };
        if !entry.holds && all.holding < self.callers.limits.holders {
            entry.holds = true;
            all.holding += 1;
        }
        entry.holds
    }

    /// A place among those who listen to events; `None` where there is none.
    pub fn listen(&self) -> Option<Listener<'_>> {
        let mut all = self.callers.lock();
        (all.listening < self.callers.limits.listeners).then(|| {
            all.listening += 1;
            Listener(&self.callers)
        })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut all = self.callers.lock();
        all.remove(self.number);
        all.served = all.served.saturating_sub(1);
        self.callers.fewer.notify_all();
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let mut all = self.0.lock();
        all.listening = all.listening.saturating_sub(1);
    }
}
