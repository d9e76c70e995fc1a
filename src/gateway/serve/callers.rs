//! Who is connected, and who must go where all places are taken.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

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
    /// Those of them that are kept for the privileged.
    pub kept: usize,
    /// Those of them that one user may have who is not privileged.
    pub per_user: usize,
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
    /// Whose it is; `None` of the privileged.
    user: Option<u32>,
    /// Dropped with it, which whoever serves it hears.
    _here: Sender<Infallible>,
}

/// One who is connected, until dropped.
#[derive(Debug)]
pub struct Caller {
    callers: Arc<Callers>,
    number: u64,
    gone: Receiver<Infallible>,
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

    /// A place for a new connection of a user, or of somebody privileged (`None`). Where all are taken that the user may have,
    /// whoever of its own connections has said nothing or read nothing for longest must go; where all are taken, one of the
    /// user that has most does. `None` where everybody is busy who might.
    pub fn admit(self: &Arc<Self>, stream: Arc<UnixStream>, user: Option<u32>) -> Option<Caller> {
        let mut all = self.lock();
        if let Some(user) = user.filter(|&user| all.count(Some(user)) >= self.limits.per_user) {
            all.shut_out_idlest(|entry| entry.user == Some(user))?;
        }
        let kept = if user.is_some() { self.limits.kept } else { 0 };
        if all.by_number.len() - all.holding >= self.limits.connections - kept {
            all.make_room(user.is_none())?;
        }
        // A thread that was shut out takes a moment to notice. Many of them mean that someone connects without end.
        if all.served - all.holding >= 2 * (self.limits.connections - kept) {
            return None;
        }
        (all.last, all.served) = (all.last + 1, all.served + 1);
        let (number, (here, gone)) = (all.last, bounded(0));
        let (doing, since) = (Doing::Waiting, Instant::now());
        all.by_number.insert(number, Entry { stream, doing, since, holds: false, user, _here: here });
        Some(Caller { callers: Arc::clone(self), number, gone })
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
    fn count(&self, user: Option<u32>) -> usize {
        self.by_number.values().filter(|entry| entry.user == user).count()
    }

    /// Shuts out whoever has been idle for longest among the user's that has most; the privileged only for one of theirs.
    fn make_room(&mut self, is_for_privileged: bool) -> Option<()> {
        let mut counts = HashMap::<u32, (usize, bool)>::new();
        for entry in self.by_number.values() {
            if let Some(user) = entry.user {
                let (count, is_idle) = counts.entry(user).or_default();
                *count += 1;
                *is_idle |= !entry.holds && entry.is_idle();
            }
        }
        let idle = counts.into_iter().filter(|(_, (_, is_idle))| *is_idle);
        match idle.max_by_key(|(_, (count, _))| *count) {
            Some((user, _)) => self.shut_out_idlest(|entry| entry.user == Some(user)),
            None if is_for_privileged => self.shut_out_idlest(|entry| entry.user.is_none()),
            None => None,
        }
    }

    fn shut_out_idlest(&mut self, is_one: impl Fn(&Entry) -> bool) -> Option<()> {
        let those = self.by_number.iter().filter(|(_, entry)| is_one(entry));
        let idle = those.filter(|(_, entry)| !entry.holds && entry.is_idle());
        let (&longest, _) = idle.min_by_key(|(_, entry)| entry.since)?;
        self.shut_out(longest);
        Some(())
    }

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

    /// Closed once the connection is shut out.
    pub const fn gone(&self) -> &Receiver<Infallible> {
        &self.gone
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { connections: 10, kept: 2, per_user: 4, listeners: 0, holders: 0 };

    struct Room(Arc<Callers>);

    impl Room {
        fn enter(&self, user: Option<u32>) -> Option<Caller> {
            let (stream, _) = UnixStream::pair().unwrap();
            self.0.admit(Arc::new(stream), user)
        }

        fn is_in(&self, caller: &Caller) -> bool {
            self.0.lock().by_number.contains_key(&caller.number)
        }
    }

    /// T40: one who has all places that a user may have loses its own, and so does who has the most of all.
    #[test]
    fn t40_who_has_most_makes_room_and_the_privileged_are_kept_out_by_nobody() {
        let room = Room(Arc::new(Callers::new(LIMITS)));
        let mut own: Vec<_> = (0..4).map(|_| room.enter(Some(1)).unwrap()).collect();
        own.push(room.enter(Some(1)).unwrap());
        assert!(!room.is_in(&own[0]) && own[0].gone().recv().is_err(), "its own longest idle is gone");
        assert!(own[1..].iter().all(|caller| room.is_in(caller)));

        let root = room.enter(None).unwrap();
        let others: Vec<_> = (2..5).map(|user| room.enter(Some(user)).unwrap()).collect();
        let last = room.enter(Some(5)).unwrap();
        assert!(!room.is_in(&own[1]), "of who has most");
        assert!(others.iter().chain([&last, &root]).all(|caller| room.is_in(caller)));

        // Where all of it are busy, the next goes; and where all are, nobody comes in but by the places that are kept.
        others.iter().chain([&last]).chain(&own).for_each(|caller| caller.now(Doing::Answering));
        assert!(room.enter(Some(6)).is_none());
        let more: Vec<_> = (0..2).map(|_| room.enter(None).unwrap()).collect();
        let one_more = room.enter(None).unwrap();
        assert!(!room.is_in(&root) && more.iter().chain([&one_more]).all(|caller| room.is_in(caller)));
    }

    /// T40: threads that do not end although they were shut out are counted, and leave room for the privileged.
    #[test]
    fn t40_those_who_were_shut_out_and_have_not_gone_are_counted() {
        let room = Room(Arc::new(Callers::new(LIMITS)));
        let served: Vec<_> = (0..16).map(|user| room.enter(Some(user)).unwrap()).collect();
        assert!(room.enter(Some(99)).is_none());
        assert!(room.enter(None).is_some());
        drop(served);
        assert!(room.enter(Some(99)).is_some());
    }
}
