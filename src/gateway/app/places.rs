//! What each user has of the gateway, so that none takes what is for others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What all users have.
#[derive(Debug, Default)]
pub struct Places(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    by_user: HashMap<u32, Used>,
    /// Descriptors that are held beyond one for each connection.
    spare: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    places: usize,
    spare: usize,
    /// When all that was asked so far would have been asked at the pace that is kept in the long run.
    due: Option<Instant>,
}

/// A place for a connection, until whoever serves it and whatever takes its calls are done.
#[derive(Clone, Debug)]
pub struct Place(Arc<One>);

#[derive(Debug)]
struct One {
    places: Arc<Places>,
    user: u32,
}

/// Room for so many descriptors beyond the one that each call may bring.
#[derive(Debug)]
pub struct Spare {
    place: Place,
    count: usize,
}

/// Connections that one user may have at a time.
pub const MAX_PER_USER: usize = 64;

/// Those that were shut out take a moment to go, and with a descriptor that does not let itself be closed they never do.
const MAX_PLACES_PER_USER: usize = 2 * MAX_PER_USER;

/// Descriptors beyond the first of a call, of a user and of all.
const MAX_SPARE_PER_USER: usize = 256;
const MAX_SPARE: usize = 1024;

/// A question of a user's to the key manager, in the long run, and how many may be asked at once. Each takes some microseconds of the key
/// manager's: nobody takes all of its time, and nobody is refused.
const PACE: Duration = Duration::from_micros(200);
const AT_ONCE: u32 = 1000;

impl Places {
    /// A place for a connection of this user; `None` where it has as many as it may.
    pub fn take(places: &Arc<Self>, user: u32) -> Option<Place> {
        let mut all = places.lock();
        let used = all.by_user.entry(user).or_default();
        if used.places >= MAX_PLACES_PER_USER && !is_privileged(user) {
            return None;
        }
        used.places += 1;
        Some(Place(Arc::new(One { places: Arc::clone(places), user })))
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whose it is.
    pub fn user(&self) -> u32 {
        self.0.user
    }

    /// Whether it is of root, or of the gateway's own user: nobody keeps those out.
    pub fn is_privileged(&self) -> bool {
        is_privileged(self.0.user)
    }

    /// Takes note of a question, and says how long its answer is to be put off.
    pub fn put_off(&self, now: Instant) -> Duration {
        if self.is_privileged() {
            return Duration::ZERO;
        }
        let mut all = self.0.places.lock();
        let used = all.by_user.entry(self.0.user).or_default();
        let due = used.due.map_or(now, |due| due.max(now));
        used.due = Some(due + PACE);
        due.saturating_duration_since(now).saturating_sub(PACE * AT_ONCE)
    }

    /// Room for so many descriptors more; `None` where as many are held as may be.
    pub fn spare(&self, count: usize) -> Option<Spare> {
        let mut all = self.0.places.lock();
        let all = &mut *all;
        let used = all.by_user.entry(self.0.user).or_default();
        if used.spare + count > MAX_SPARE_PER_USER || all.spare + count > MAX_SPARE {
            return None;
        }
        used.spare += count;
        all.spare += count;
        Some(Spare { place: self.clone(), count })
    }
}

fn is_privileged(user: u32) -> bool {
    user == 0 || user == nix::unistd::geteuid().as_raw()
}

impl Drop for One {
    fn drop(&mut self) {
        let mut all = self.places.lock();
        if let Some(used) = all.by_user.get_mut(&self.user) {
            used.places = used.places.saturating_sub(1);
        }
        // Who comes again does not begin anew: what was asked is kept in mind until it would have been asked at its pace.
        let now = Instant::now();
        all.by_user.retain(|_, used| used.places > 0 || used.due.is_some_and(|due| due > now));
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let mut all = self.place.0.places.lock();
        all.spare = all.spare.saturating_sub(self.count);
        if let Some(used) = all.by_user.get_mut(&self.place.0.user) {
            used.spare = used.spare.saturating_sub(self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t40_a_user_has_so_many_places_and_takes_none_of_others() {
        let places = Arc::new(Places::default());
        let mut taken: Vec<_> =
            (0..MAX_PLACES_PER_USER).map(|_| Places::take(&places, 1000).unwrap()).collect();
        assert!(Places::take(&places, 1000).is_none());
        let other = Places::take(&places, 1001).unwrap();
        assert_eq!((other.user(), other.is_privileged()), (1001, false));
        // It is free once all are done who have to do with it.
        let last = taken.pop().unwrap();
        let hands = last.clone();
        drop(last);
        assert!(Places::take(&places, 1000).is_none());
        drop(hands);
        taken.push(Places::take(&places, 1000).unwrap());
        let root: Vec<_> = (0..2 * MAX_PLACES_PER_USER).map(|_| Places::take(&places, 0).unwrap()).collect();
        assert!(root.iter().all(Place::is_privileged));
        drop((taken, other, root));
        assert!(places.lock().by_user.is_empty());
    }

    /// T40: a user is slowed down beyond what the key manager has time for, and no other with it.
    #[test]
    fn t40_who_asks_without_pause_waits_and_nobody_else_does() {
        let places = Arc::new(Places::default());
        let [one, same, other, root] = [1000, 1000, 1001, 0].map(|user| Places::take(&places, user).unwrap());
        let now = Instant::now();
        assert!((0..=AT_ONCE).all(|_| one.put_off(now).is_zero()));
        assert_eq!([same.put_off(now), one.put_off(now)], [PACE, 2 * PACE]);
        assert_eq!([other.put_off(now), root.put_off(now)], [Duration::ZERO; 2]);
        assert_eq!(one.put_off(now + 2 * PACE), PACE, "what was waited for is not waited for again");
        assert!(one.put_off(now + 5 * PACE).is_zero());
        assert!((0..5 * AT_ONCE).all(|_| root.put_off(now).is_zero()));
        // Who says nothing for a while may ask as many again.
        let later = now + 2 * AT_ONCE * PACE;
        assert!((0..=AT_ONCE).all(|_| one.put_off(later).is_zero()));
        assert!(!one.put_off(later).is_zero());
        drop((one, same));
        let again = Places::take(&places, 1000).unwrap();
        assert!(!again.put_off(later).is_zero(), "nor who comes again");
    }

    #[test]
    fn t40_descriptors_are_counted_for_each_user_and_for_all() {
        let places = Arc::new(Places::default());
        let users: Vec<_> = (1..=5).map(|user| Places::take(&places, 1000 + user).unwrap()).collect();
        let mut held = Vec::new();
        for user in &users[..4] {
            held.extend((0..4).map(|_| user.spare(64).unwrap()));
            assert!(user.spare(1).is_none(), "as many as a user may");
        }
        assert!(users[4].spare(1).is_none(), "as many as there may be");
        held.pop();
        assert!(users[4].spare(63).is_some());
        drop(held);
        assert_eq!(places.lock().spare, 0);
    }
}
