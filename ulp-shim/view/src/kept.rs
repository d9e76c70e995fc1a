//! All that is kept for a process but the marks, under one lock, and what becomes of it when the process forks.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use latchway_socket::Gateway;

use crate::failure::Failure;
use crate::handle::Handles;
use crate::mark;
use crate::watch::Watch;

/// What is kept.
#[derive(Debug, Default)]
pub struct Kept {
    /// Endpoints, by handle. A child has its parent's, as it has its descriptors.
    pub handles: Handles,
    /// What is watched, by the number of the socket.
    pub watches: HashMap<c_int, Arc<Watch>>,
}

/// What is kept. The lock is held for moments, and never while anybody is asked or waited for.
pub fn kept() -> MutexGuard<'static, Kept> {
    static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The gateways that are asked.
pub fn gateway() -> Gateway {
    Gateway::of_process()
}

/// What forks does so holding the lock, or its child might find it held by a thread that it does not have.
pub fn hear_of_forks() -> Result<(), Failure> {
    static HEARD: OnceLock<bool> = OnceLock::new();
    let heard = HEARD.get_or_init(|| crate::fork::on_fork(before_fork, after_fork, in_child));
    if *heard { Ok(()) } else { Err(NO_MEMORY) }
}

extern "C" fn before_fork() {
    // Made once: no thread is in the middle of making it when the process forks.
    let _ = gateway();
    let held = kept();
    let _ = HELD.try_with(|cell| cell.set(Some(held)));
}

extern "C" fn after_fork() {
    let _ = HELD.try_with(Cell::take);
}

extern "C" fn in_child() {
    mark::this_process();
    let watches = HELD.try_with(Cell::take).ok().flatten().map(|mut kept| std::mem::take(&mut kept.watches));
    drop(watches);
    gateway().after_fork();
}

thread_local! {
    static HELD: Cell<Option<MutexGuard<'static, Kept>>> = const { Cell::new(None) };
}

const NO_MEMORY: Failure = Failure::new(libc::ENOMEM, "there is no memory for what fork() has to know");
