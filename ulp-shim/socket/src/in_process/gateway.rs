//! The running gateway: one thread that waits for datagrams and for time to pass, and the sockets' own threads, which take
//! their turns at the stack.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use latchway_datapath::drop::Counters;
use latchway_datapath::time::Time;
use latchway_keying::{KeyManager, KeyManagerClient, PairId};
use latchway_tagging::Identity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::assembly::Assembled;
use super::builder::{Builder, Pair};
use super::classes::{Classes, stopped};
use super::line::UdpLine;
use super::stack::Stack;
use crate::error::{Error, ErrorKind, Result};

/// A gateway inside the program. Copies are the same; it ends with the last of them and of its sockets, once what was written
/// has been sent and acknowledged, or after a second.
#[derive(Clone)]
pub struct Gateway {
    running: Arc<Running>,
}

/// What ends with the last who holds it.
struct Running {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    builder: Builder,
    local: SocketAddr,
    counters: Arc<Counters>,
    _keying: KeyManager,
}

/// What the thread and the sockets share.
struct Shared {
    stack: Mutex<Stack>,
    /// Raised when something may have become possible.
    changed: Condvar,
    /// How many threads want a turn: the gateway's own lets them go first.
    wanting: AtomicUsize,
    /// Until when its thread sleeps, in nanoseconds.
    sleeps_until: AtomicU64,
    wake: OwnedFd,
    ends: AtomicBool,
    /// Why it ended by itself.
    failure: Mutex<Option<Error>>,
    classes: Classes,
    started: Instant,
}

impl Gateway {
    pub(super) fn run(
        builder: Builder,
        assembled: Assembled,
        line: UdpLine,
        started: Instant,
    ) -> Result<Self> {
        let (classes, counters) = (assembled.classes.clone(), Arc::clone(&assembled.counters));
        let local = line.socket().local_addr();
        let wire = line.socket().as_fd().try_clone_to_owned();
        let wire = wire.map_err(|error| Error::io("watching the gateway's socket", &error))?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::system("making an eventfd", errno))?;
        let (stack, keying) = builder.stack(assembled, Box::new(line))?;
        let shared = Arc::new(Shared {
            stack: Mutex::new(stack),
            changed: Condvar::new(),
            wanting: AtomicUsize::new(0),
            sleeps_until: AtomicU64::new(0),
            wake,
            ends: AtomicBool::new(false),
            failure: Mutex::default(),
            classes,
            started,
        });
        let its_own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("in-process".into())
            .spawn(move || its_own.run(&wire))
            .map_err(|error| Error::io("starting the gateway's thread", &error))?;
        let running = Running { shared, thread: Some(thread), builder, local, counters, _keying: keying };
        Ok(Self { running: Arc::new(running) })
    }

    /// Where its UDP socket is bound.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.running.local
    }

    /// Installs another pair of SAs with a peer that it has, and returns when that is in force. By strict latches in its way it
    /// is judged as latching-04 section 2.1 has it: they break first, or the pair is refused (L-70, L-74).
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`]: it is refused.
    pub fn install(&self, peer: &Identity, pair: &Pair) -> Result<PairId> {
        let pair = self.running.builder.pair_with(peer, pair)?;
        let refused = |said: String| Error::new(ErrorKind::Conflict, said);
        let offer = self.keying().propose(pair.proposal).map_err(stopped)?;
        let offer = offer.map_err(|refusal| refused(refusal.to_string()))?;
        let installed = self.keying().install(offer.ticket, pair.keys).map_err(stopped)?;
        installed.map_err(|error| refused(error.to_string()))
    }

    /// Its key manager: for whoever makes keys by other means, and for everything that is not said here.
    #[must_use]
    pub fn keying(&self) -> &KeyManagerClient {
        self.classes().keying()
    }

    /// What it moved, and what it dropped and why.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.running.counters
    }

    pub(super) fn classes(&self) -> &Classes {
        &self.running.shared.classes
    }

    /// Does something with the stack, at once.
    pub(super) fn at_once<R>(&self, act: impl FnOnce(&mut Stack, Time) -> R) -> R {
        let shared = &self.running.shared;
        let mut stack = shared.take_turn();
        let done = act(&mut stack, since(shared.started));
        shared.go_on(&mut stack);
        done
    }

    /// Tries something until it can be done, for no longer than until `deadline`.
    ///
    /// # Errors
    /// Its own, [`ErrorKind::TimedOut`], or why the gateway ended.
    pub(super) fn until<R>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut(&mut Stack, Time) -> Result<Option<R>>,
    ) -> Result<R> {
        let shared = &self.running.shared;
        let mut stack = shared.take_turn();
        loop {
            if let Some(done) = attempt(&mut stack, since(shared.started)).transpose() {
                shared.go_on(&mut stack);
                return done;
            }
            if let Some(failure) = &*lock(&shared.failure) {
                return Err(failure.clone());
            }
            let left = deadline.map_or(LONGEST_WAIT, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    "it did not come about in time; wait longer, or give up",
                ));
            }
            let waited = shared.changed.wait_timeout(stack, left);
            stack = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("local", &self.running.local).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // If it ended by a panic, the message was printed then.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The gateway's own thread.
    fn run(&self, wire: &OwnedFd) {
        let mut ends_at = None;
        loop {
            while self.wanting.load(Ordering::Relaxed) > 0 {
                std::thread::yield_now();
            }
            let mut stack = lock(&self.stack);
            let any = stack.turn(since(self.started));
            if let Some(failure) = stack.take_failure() {
                *lock(&self.failure) = Some(Error::io("the gateway ended: its socket", &failure));
                self.changed.notify_all();
                return;
            }
            let now = since(self.started);
            let nap = if any { Duration::ZERO } else { stack.delay(now).min(NAP) };
            self.sleeps_until.store((now + nap).as_nanos(), Ordering::Relaxed);
            let is_leaving = stack.is_leaving();
            drop(stack);
            if any {
                self.changed.notify_all();
            }
            if self.ends.load(Ordering::Relaxed) {
                let at = *ends_at.get_or_insert(now + DRAIN);
                if !is_leaving || now >= at {
                    return;
                }
            }
            self.sleep(wire, nap);
        }
    }

    fn sleep(&self, wire: &OwnedFd, nap: Duration) {
        let mut fds = [PollFd::new(wire, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        let nap = Timespec { tv_sec: 0, tv_nsec: nap.min(NAP).subsec_nanos().into() };
        if poll(&mut fds, Some(&nap)).is_err() {
            // Interrupted, as if it had been woken.
            return;
        }
        let [wire, wake] = fds.map(|fd| fd.revents());
        if wire.contains(PollFlags::ERR) {
            lock(&self.stack).note_reports();
        }
        if wake.contains(PollFlags::IN) {
            // How often it was woken does not matter.
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
    }

    fn take_turn(&self) -> MutexGuard<'_, Stack> {
        self.wanting.fetch_add(1, Ordering::Relaxed);
        let stack = lock(&self.stack);
        self.wanting.fetch_sub(1, Ordering::Relaxed);
        stack
    }

    /// Sends what was done, and lets the others know.
    fn go_on(&self, stack: &mut Stack) {
        let now = since(self.started);
        stack.speak(now);
        let due = now + stack.delay(now);
        if due.as_nanos() < self.sleeps_until.load(Ordering::Relaxed) {
            self.wake();
        }
        self.changed.notify_all();
    }

    fn wake(&self) {
        // It is full only where it was woken very often.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// The time of a gateway that started then.
pub(super) fn since(started: Instant) -> Time {
    Time::from_nanos(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the thread sleeps at most: SAs that expire by time, and latches that broke, are noticed this often when nothing
/// moves.
const NAP: Duration = Duration::from_millis(50);
/// How long a wait without a deadline lasts before it is looked at again.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How long the end may wait for connections to say goodbye.
const DRAIN: Duration = Duration::from_secs(1);
