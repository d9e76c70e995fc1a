//! All that the library keeps for a process, under one lock, and what becomes of it when the process forks (N-7).

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::datagram::tags;
use crate::failure::Failure;
use crate::reference::References;
use crate::socket::gateway;
use crate::token::{TOO_MANY, Tokens};
use crate::watch::Watch;

/// What is kept.
#[derive(Debug)]
pub struct Kept {
    /// Tokens, by handle.
    pub tokens: Tokens,
    /// Tokens that messages refer to.
    pub references: References,
    /// What is watched, by descriptor.
    pub watches: HashMap<c_int, Arc<Watch>>,
}

/// What is kept. The lock is held for moments, and never while anybody is asked or waited for.
pub fn kept() -> MutexGuard<'static, Kept> {
    static KEPT: OnceLock<Mutex<Kept>> = OnceLock::new();
    KEPT.get_or_init(|| Mutex::new(Kept::new())).lock().unwrap_or_else(PoisonError::into_inner)
}

/// What forks does so holding the lock, or its child might find it held by a thread that it does not have.
pub fn hear_of_forks() -> Result<(), Failure> {
    static HEARD: OnceLock<bool> = OnceLock::new();
    let heard = HEARD.get_or_init(|| crate::fork::on_fork(before_fork, after_fork, in_child));
    if *heard { Ok(()) } else { Err(TOO_MANY) }
}

impl Kept {
    fn new() -> Self {
        Self { tokens: Tokens::new(), references: References::new(), watches: HashMap::new() }
    }

    /// A child has none of what is its parent's alone.
    fn forget_the_parents(&mut self) {
        self.tokens.forget_protections();
        self.references.forget();
        self.watches.clear();
    }
}

extern "C" fn before_fork() {
    // Made once: no thread is in the middle of making it when the process forks.
    let _ = (gateway(), tags());
    let held = kept();
    let _ = HELD.try_with(|cell| cell.set(Some(held)));
}

extern "C" fn after_fork() {
    let _ = HELD.try_with(Cell::take);
}

extern "C" fn in_child() {
    if let Ok(Some(mut kept)) = HELD.try_with(Cell::take) {
        kept.forget_the_parents();
    }
    gateway().after_fork();
}

thread_local! {
    static HELD: Cell<Option<MutexGuard<'static, Kept>>> = const { Cell::new(None) };
}
