//! The one switch between the real atomics and loom's, so that the models check the code that ships.

#[cfg(loom)]
pub(crate) use loom::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering, fence},
    },
    thread::yield_now,
};
#[cfg(not(loom))]
pub(crate) use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering, fence},
    },
    thread::yield_now,
};
