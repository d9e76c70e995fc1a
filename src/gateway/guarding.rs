//! Keeps the guards up while the gateway runs, and changes them when its configuration changes.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use ipnet::IpNet;
use latchway_guard::{Change, GuardError, Lack, Missing, Monitor, Prefixes};

/// Looks after the guards until dropped.
pub struct Guarding {
    wishes: Option<Sender<Wish>>,
    thread: Option<JoinHandle<()>>,
}

/// What the guards are to be from now on.
enum Wish {
    Extend(Prefixes, Sender<Result<(), GuardError>>),
    Withdraw(Vec<IpNet>, Sender<Result<(), GuardError>>),
}

/// Hears what becomes of the guards.
pub trait Listener: Send + Sync {
    /// A guard fell, or stands again.
    fn changed(&self, change: &Change);

    /// A guard that fell cannot be put up again.
    fn failed(&self, error: &GuardError);
}

/// How long a wish waits at most while nothing happens to the guards.
const STEP: Duration = Duration::from_millis(100);

/// How soon a wish follows another of the same reload.
const FOLLOW_UP: Duration = Duration::from_millis(20);

impl Guarding {
    /// Starts to look after the guards. Those that fall are put up again, a TUN that was deleted aside.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub fn start(mut monitor: Monitor, listener: Arc<dyn Listener>) -> std::io::Result<Self> {
        let (wishes, wished) = unbounded();
        let look_after = move || {
            let mut trouble = Trouble { listener: &*listener, told: None };
            while fulfil(&mut monitor, &wished) {
                let looked = monitor.wait(STEP);
                let failed = looked.is_err();
                let restored = looked.and_then(|changes| {
                    changes.iter().for_each(|change| listener.changed(change));
                    // What could not be put up is tried again, whether or not anything happens.
                    if changes.is_empty() && trouble.told.is_none() {
                        Ok(Vec::new())
                    } else {
                        restore(&mut monitor)
                    }
                });
                trouble.tell(restored);
                if failed {
                    thread::sleep(STEP);
                }
            }
        };
        let thread = thread::Builder::new().name("guards".into()).spawn(look_after)?;
        Ok(Self { wishes: Some(wishes), thread: Some(thread) })
    }

    /// Guards these prefixes from here on.
    ///
    /// # Errors
    /// What could not be put up; the rest is.
    pub fn extend(&self, prefixes: Prefixes) -> Result<(), GuardError> {
        self.wish(|reply| Wish::Extend(prefixes, reply))
    }

    /// Takes down what leads to these prefixes, as far as they are not guarded any more.
    ///
    /// # Errors
    /// What could not be taken down.
    pub fn withdraw(&self, routes: Vec<IpNet>) -> Result<(), GuardError> {
        self.wish(|reply| Wish::Withdraw(routes, reply))
    }

    fn wish(&self, wish: impl FnOnce(Sender<Result<(), GuardError>>) -> Wish) -> Result<(), GuardError> {
        let (reply, answer) = bounded(1);
        let asked = self.wishes.as_ref().is_some_and(|wishes| wishes.send(wish(reply)).is_ok());
        let gone =
            || GuardError::Invalid("nobody looks after the guards any more: restart the gateway".into());
        if asked { answer.recv().unwrap_or_else(|_| Err(gone())) } else { Err(gone()) }
    }
}

impl Drop for Guarding {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Does what is wished. Returns whether anybody may still wish for something.
fn fulfil(monitor: &mut Monitor, wished: &Receiver<Wish>) -> bool {
    let mut patience = Duration::ZERO;
    loop {
        // A failed send is an asker that went away.
        let _ = match wished.recv_timeout(patience) {
            Ok(Wish::Extend(prefixes, reply)) => reply.send(monitor.extend(&prefixes)),
            Ok(Wish::Withdraw(routes, reply)) => reply.send(monitor.withdraw(&routes)),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        patience = FOLLOW_UP;
    }
}

/// Puts up what fell. A TUN that somebody set down stays down for as long as they want, with what discards in its place.
fn restore(monitor: &mut Monitor) -> Result<Vec<Change>, GuardError> {
    if !is_down(monitor) {
        return monitor.restore();
    }
    let mut changes = monitor.hold()?;
    // It was set up while it was looked at, and nothing else will say so.
    if !is_down(monitor) {
        changes.extend(monitor.restore()?);
    }
    Ok(changes)
}

/// Whether the TUN is gone or down, as far as the monitor has seen.
fn is_down(monitor: &Monitor) -> bool {
    monitor.lacking().iter().any(|lack| matches!(lack, Lack::Inner(Missing::Tun | Missing::Up)))
}

/// What keeps guards from being put up, told once for as long as it stays the same.
struct Trouble<'l> {
    listener: &'l dyn Listener,
    told: Option<String>,
}

impl Trouble<'_> {
    fn tell(&mut self, restored: Result<Vec<Change>, GuardError>) {
        let error = match restored {
            Ok(changes) => {
                changes.iter().for_each(|change| self.listener.changed(change));
                self.told = None;
                return;
            }
            Err(error) => error,
        };
        let text = error.to_string();
        if self.told.as_ref() != Some(&text) {
            self.listener.failed(&error);
            self.told = Some(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_datapath::low::tun::{TunConfig, TunQueue};
    use latchway_guard::{BLACKHOLE_METRIC, Blackholes, Guarded, InnerSide, QUEUE};
    use latchway_netns::links::Links;
    use latchway_netns::skip::{self, Need};
    use latchway_netns::{Namespace, testing};

    /// Everything that is told, in words.
    struct Told(Sender<String>);

    impl Listener for Told {
        fn changed(&self, change: &Change) {
            self.0.send(change.to_string()).unwrap();
        }

        fn failed(&self, error: &GuardError) {
            self.0.send(format!("failed: {error}")).unwrap();
        }
    }

    /// T13: what stands in the way of a guard may go without anything happening to the guard itself.
    #[test]
    fn t13_what_could_not_be_put_up_is_tried_again_and_told_once() {
        let name = "gateway::guarding::tests::t13_what_could_not_be_put_up_is_tried_again_and_told_once";
        testing::namespaced(name, || {
            if !skip::require(name, &[Need::Tun]) {
                return;
            }
            let (inner, outer) = (Namespace::create("inner").unwrap(), Namespace::create("outer").unwrap());
            let _tun = inner.run(|| TunQueue::open(&TunConfig::new("tun9"))).unwrap().unwrap();
            let [routed, ours] = ["10.77.2.0/24", "10.77.1.0/24"].map(|net| net.parse::<IpNet>().unwrap());
            let side = InnerSide {
                tun: "tun9".into(),
                addresses: vec!["10.77.1.1/24".parse().unwrap()],
                mtu: 1400,
                queue: QUEUE,
                gso_max_size: 60_000,
                routes: vec![routed],
            };
            side.prepare(&inner).unwrap();
            let guarded = Guarded {
                inner: (inner, side),
                outer: Some((outer.clone(), Blackholes::new([]))),
                host: None,
            };
            let (told, heard) = unbounded();
            let guarding = Guarding::start(Monitor::new(guarded).unwrap(), Arc::new(Told(told))).unwrap();

            let links = Links::of(&outer).unwrap();
            links.set_up("lo").unwrap();
            links.add_route(ours, None, "lo", BLACKHOLE_METRIC).unwrap();
            let prefixes = Prefixes { routes: vec![routed], inner: vec![ours], protected: vec![routed] };
            guarding.extend(prefixes).unwrap_err();
            let next = || heard.recv_timeout(Duration::from_secs(20)).unwrap();
            while !next().starts_with("failed: ") {}
            assert!(heard.recv_timeout(3 * STEP).is_err(), "the same is told once");
            links.delete_route(ours, None, "lo", BLACKHOLE_METRIC).unwrap();
            while !next().ends_with(" is back") {}
        });
    }
}
