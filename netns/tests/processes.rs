//! What only a second process can show: this test binary runs itself, with other settings or to be killed.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use latchway_netns::{
    Links, Namespace,
    links::veth,
    skip::{self, Need},
    testing::namespaced,
};

#[test]
#[ignore = "run by the tests below"]
fn in_need() {
    assert!(!skip::require("in_need", &[Need::Program("sh"), Need::Program("no-such-program-here")]));
}

#[test]
fn a_skip_is_said_on_stderr_and_in_the_file() {
    let file = env::temp_dir().join(format!("latchway-skipped-{}", std::process::id()));
    let run =
        again("in_need").env("LATCHWAY_SKIPPED", &file).env_remove("LATCHWAY_NO_SKIP").output().unwrap();
    let listed = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let expected = "SKIPPED in_need: no-such-program-here is not in PATH\n";
    assert!(run.status.success());
    assert_eq!(listed, expected);
    // Although the harness captures a passing test's output.
    assert!(String::from_utf8(run.stderr).unwrap().contains(expected));
}

#[test]
fn a_forbidden_skip_fails() {
    let run = again("in_need").env("LATCHWAY_NO_SKIP", "1").env_remove("LATCHWAY_SKIPPED").output().unwrap();
    assert!(!run.status.success());
    let output = String::from_utf8(run.stdout).unwrap();
    assert!(
        output.contains("in_need must not be skipped, but: no-such-program-here is not in PATH"),
        "{output}"
    );
}

/// Makes a namespace, joins it to the one named by the environment, and waits to be killed.
#[test]
#[ignore = "run by the test below"]
fn holder() {
    let outside = Namespace::from_path(env::var_os("LATCHWAY_TEST_OUTSIDE").unwrap()).unwrap();
    let held = Namespace::create("held").unwrap();
    veth(&outside, "outside", &held, "inside").unwrap();
    println!("\nholding");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(held);
}

/// T32: nothing outlives the process that made it, even if it could not clean up.
#[test]
fn t32_a_namespace_vanishes_with_a_killed_process() {
    namespaced("t32_a_namespace_vanishes_with_a_killed_process", || {
        let outside = Namespace::create("outside").unwrap();
        let links = Links::of(&outside).unwrap();
        let mut command = again("holder");
        command.arg("--nocapture").env("LATCHWAY_TEST_OUTSIDE", outside.proc_path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "holding"));
        assert!(links.exists("outside").unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        // The kernel takes namespaces down on a thread of its own, and with one the veth pair that ends in it.
        let deadline = Instant::now() + Duration::from_secs(20);
        while links.exists("outside").unwrap() {
            assert!(Instant::now() < deadline, "the namespace of a killed process is still there");
            thread::sleep(Duration::from_millis(10));
        }
    });
}

fn again(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap_or_default());
    command.args(["--exact", test, "--ignored"]);
    command
}
