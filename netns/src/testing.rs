//! Runs a test where namespaces can be made: right here for root, else once more as root of a user namespace.
//!
//! A process with threads cannot enter a user namespace, and a test harness has threads before the first test. So the
//! test binary is executed again for the one test, by util-linux' `unshare`. Programs of their own need none of this:
//! they call [`user::enter_user_namespace_if_needed`] first thing.

use std::{
    env,
    io::{self, Write},
    panic::resume_unwind,
    process::{Command, Output, Stdio},
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare},
    unistd::Pid,
};

use crate::{
    skip::{self, Need},
    user,
};

/// Runs a scenario that needs namespaces. `test` is the test's full name as the harness prints it.
///
/// What cannot run is skipped loudly, see [`skip::report`].
pub fn namespaced(test: &str, scenario: impl FnOnce()) {
    if user::is_privileged() {
        if skip::require(test, &[Need::NetAdmin]) {
            scenario();
        }
    } else if env::var_os(INSIDE).is_some() {
        skip::report(test, "no capabilities even inside a user namespace");
    } else if skip::require(test, &[Need::Program("unshare")]) {
        match unshared(Command::new("true")) {
            Ok(probe) if probe.status.success() => run_again(test),
            Ok(probe) => skip::report(test, &refusal(&probe)),
            Err(error) => skip::report(test, &format!("unshare: {error}")),
        }
    }
}

/// Keeps the calling thread, and those that it starts, on one processor. Packets that one thread sends from
/// several processors may overtake one another on a virtual device; from one they stay in order.
///
/// Panics if the system does not let it.
pub fn stay_on_one_processor() {
    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this).unwrap_or_default();
    let own = (0..CpuSet::count()).find(|processor| all.is_set(*processor).unwrap_or_default());
    let mut one = CpuSet::new();
    let stays = one.set(own.unwrap_or_default()).and_then(|()| sched_setaffinity(this, &one));
    assert!(stays.is_ok(), "one processor for the test: {stays:?}");
}

/// Runs a scenario in a mount namespace of its own, where `/run` is empty: whatever it puts there concerns nobody else.
///
/// It runs on a thread of its own, and so do the threads and programs that it starts. Panics if that cannot be had.
pub fn in_private_run(scenario: impl FnOnce() + Send) {
    let private = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let flags = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?;
        mount(Some("none"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>)
    };
    let ended = thread::scope(|scope| {
        let run = || {
            let made = private();
            assert!(made.is_ok(), "no mount namespace of its own: {made:?}");
            scenario();
        };
        scope.spawn(run).join()
    });
    if let Err(payload) = ended {
        resume_unwind(payload);
    }
}

/// Executes this test binary again for one test, and fails unless exactly that test ran and passed.
fn run_again(test: &str) {
    let ran = env::current_exe().and_then(|binary| {
        let mut command = Command::new(binary);
        command.args(["--exact", test, "--include-ignored", "--nocapture"]);
        unshared(command)
    });
    let (passed, text) = match &ran {
        Ok(output) => (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => (false, error.to_string()),
    };
    if let Ok(output) = &ran {
        let shown = io::stderr().write_all(&output.stderr);
        assert!(shown.is_ok(), "{test}: showing the output failed: {shown:?}");
    }
    assert!(passed, "{test} failed inside a user namespace:\n{text}");
    assert!(text.contains("1 passed"), "{test} is not the full name of a test:\n{text}");
}

/// Runs a command as root of a new user namespace, and takes what it prints.
fn unshared(command: Command) -> io::Result<Output> {
    Command::new("unshare")
        .args(["--user", "--map-root-user", "--"])
        .arg(command.get_program())
        .args(command.get_args())
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
}

fn refusal(probe: &Output) -> String {
    format!("{} {}", String::from_utf8_lossy(&probe.stderr).trim(), user::advice())
}

/// Set for the second execution, which must not start a third.
const INSIDE: &str = "LATCHWAY_INSIDE_USER_NAMESPACE";
