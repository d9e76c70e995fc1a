//! What only a second process can show: this test binary runs itself, to be killed.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

use latchway_guard::{Blackholes, HostGuard, Lock};
use latchway_netns::{IpNet, Links, Namespace, testing::in_private_run, testing::namespaced};

/// Puts guards up in the namespace named by the environment, and waits to be killed.
#[test]
#[ignore = "run by the test below"]
fn gateway() {
    let space = Namespace::from_path(env::var_os("LATCHWAY_TEST_NAMESPACE").unwrap()).unwrap();
    let _held = Lock::tun(&space, "tun9").unwrap();
    let (guard, blackholes) = guards();
    guard.install(&space).unwrap();
    blackholes.install(&Links::of(&space).unwrap()).unwrap();
    println!("\nguarding");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// T13: filters and blackholes outlive the process that put them up, SIGKILL or not; a lock does not.
#[test]
fn t13_what_discards_outlives_a_killed_process_and_its_lock_does_not() {
    namespaced("t13_what_discards_outlives_a_killed_process_and_its_lock_does_not", || {
        in_private_run(|| {
            let space = Namespace::create("guarded").unwrap();
            let mut child = Command::new(env::current_exe().unwrap())
                .args(["--exact", "gateway", "--ignored", "--nocapture"])
                .env("LATCHWAY_TEST_NAMESPACE", space.proc_path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap() == "guarding"));
            let refused = Lock::tun(&space, "tun9").unwrap_err().to_string();
            assert!(refused.contains(&format!("in use by process {}", child.id())), "{refused}");
            child.kill().unwrap();
            child.wait().unwrap();

            let (guard, blackholes) = guards();
            assert_eq!(guard.missing(&space).unwrap(), Vec::<String>::new());
            assert_eq!(blackholes.missing(&Links::of(&space).unwrap()).unwrap(), []);
            drop(Lock::tun(&space, "tun9").unwrap());
        });
    });
}

fn guards() -> (HostGuard, Blackholes) {
    let nets = |texts: [&str; 2]| texts.map(|text| text.parse::<IpNet>().unwrap());
    let inner = nets(["10.77.1.0/24", "fd77:77:1::/64"]);
    let protected = nets(["10.77.2.0/24", "fd77:77:2::/64"]);
    (HostGuard::new("gw", "tun9", &inner, &protected).unwrap(), Blackholes::new(protected))
}
