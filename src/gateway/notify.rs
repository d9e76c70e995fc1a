//! What systemd is told of the gateway: that it stands, reloads, ends, and that it still moves.
//!
//! By the protocol of sd_notify(3), to the socket that `NOTIFY_SOCKET` names; without one, all of this does nothing.
//! The watchdog is fed only while the worker's heartbeat advances, so that a gateway whose worker hangs is started again.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sd_notify::NotifyState;

/// The gateway stands: also after a reload, whatever became of it.
///
/// # Errors
/// systemd's socket takes nothing.
pub fn ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}

/// The gateway takes another configuration; [`ready`] must follow.
///
/// # Errors
/// As [`ready`].
pub fn reloading() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
}

/// The gateway ends.
///
/// # Errors
/// As [`ready`].
pub fn stopping() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping])
}

/// One line for whoever asks systemd how the gateway is.
///
/// # Errors
/// As [`ready`].
pub fn status(text: &str) -> io::Result<()> {
    // Another line would be another message.
    let line = text.replace(|c: char| c.is_control(), " ");
    sd_notify::notify(&[NotifyState::Status(&line)])
}

/// Feeds systemd's watchdog until dropped.
#[derive(Debug)]
pub struct Watchdog {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Feeds the watchdog twice in the time that systemd waits, if it waits at all, and if `beats` has advanced since it was
/// looked at last: it counts the worker's signs of life, of which there must be one in half of that time, however idle
/// the gateway is. `None` where there is no watchdog.
///
/// # Errors
/// The system has no thread left.
pub fn watchdog(beats: impl Fn() -> u64 + Send + 'static) -> io::Result<Option<Watchdog>> {
    let Some(limit) = sd_notify::watchdog_enabled() else { return Ok(None) };
    let (end, ended) = bounded(0);
    let feed = move || feed(limit / 2, &ended, &beats);
    let thread = thread::Builder::new().name("watchdog".into()).spawn(feed)?;
    Ok(Some(Watchdog { end: Some(end), thread: Some(thread) }))
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn feed(pause: Duration, ended: &Receiver<()>, beats: &dyn Fn() -> u64) {
    let mut last = beats();
    while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let now = beats();
        if now != last {
            // Where systemd hears nothing, it starts the gateway again.
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::net::UnixDatagram;
    use std::process::{self, Command};
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Says to a copy of this test that it is the service.
    const SERVICE: &str = "LATCHWAY_TEST_SERVICE";

    /// The gateway's life as systemd hears it. The heart beats three times and stops: the watchdog is fed three times.
    #[test]
    fn systemd_hears_each_message_and_the_watchdog_only_while_the_heart_beats() {
        if env::var_os(SERVICE).is_some() {
            serve();
            return;
        }
        let path = env::temp_dir().join(format!("latchway-notify-{}", process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let name =
            "gateway::notify::tests::systemd_hears_each_message_and_the_watchdog_only_while_the_heart_beats";
        let mut service = Command::new(env::current_exe().unwrap());
        service.args(["--exact", name]).env(SERVICE, "1").env("NOTIFY_SOCKET", &path);
        let mut service = service.env("WATCHDOG_USEC", "2000").env_remove("WATCHDOG_PID").spawn().unwrap();
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last| last != "STOPPING=1\n") {
            let mut octets = [0; 512];
            let length = socket.recv(&mut octets).unwrap();
            heard.push(String::from_utf8_lossy(octets.get(..length).unwrap()).into_owned());
        }
        assert!(service.wait().unwrap().success());
        std::fs::remove_file(&path).unwrap();
        let reloading = heard.remove(2);
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        let fed = ["WATCHDOG=1\n"; 3];
        let expected =
            [&["READY=1\n", "STATUS=2 peers READY=0\n", "READY=1\n"], &fed[..], &["STOPPING=1\n"]].concat();
        assert_eq!(heard, expected);
    }

    fn serve() {
        ready().unwrap();
        status("2 peers\nREADY=0").unwrap();
        reloading().unwrap();
        ready().unwrap();
        let (calls, (enough, waited)) = (AtomicU64::new(0), bounded(1));
        let watchdog = watchdog(move || {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            if call == 10 {
                enough.send(()).unwrap();
            }
            call.min(3)
        });
        let watchdog = watchdog.unwrap().unwrap();
        waited.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(watchdog);
        stopping().unwrap();
    }

    #[test]
    fn without_systemd_nothing_happens() {
        assert!(env::var_os("NOTIFY_SOCKET").is_none(), "this test is not run by systemd");
        ready().unwrap();
        status("nobody hears").unwrap();
        stopping().unwrap();
        assert!(watchdog(|| 0).unwrap().is_none());
    }
}
