//! How many connections each user has, so that none takes those of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections of each user that has any.
#[derive(Debug, Default)]
pub struct Places(Mutex<HashMap<u32, usize>>);

/// One of them, until dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    user: u32,
}

/// Connections that one user may have at a time.
pub const MAX_PER_USER: usize = 64;

impl Places {
    /// A place for a connection of this user; `None` where it has as many as it may.
    pub fn take(places: &Arc<Self>, user: u32) -> Option<Place> {
        let mut all = places.lock();
        let taken = all.entry(user).or_default();
        (*taken < MAX_PER_USER).then(|| {
            *taken += 1;
            Place { places: Arc::clone(places), user }
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.lock();
        let left = all.get_mut(&self.user).map(|taken| {
            *taken = taken.saturating_sub(1);
            *taken
        });
        if left == Some(0) {
            all.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_places_and_takes_none_of_others() {
        let places = Arc::new(Places::default());
        let mut taken: Vec<_> = (0..MAX_PER_USER).map(|_| Places::take(&places, 1000).unwrap()).collect();
        assert!(Places::take(&places, 1000).is_none());
        let other = Places::take(&places, 1001).unwrap();
        drop(taken.pop());
        taken.push(Places::take(&places, 1000).unwrap());
        assert!(Places::take(&places, 1000).is_none());
        drop((taken, other));
        assert!(places.lock().is_empty());
    }
}
