//! How a program begins under `latchway preload`, and how it ends.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fake_app::{Act, FakeApp};
use crate::{Scene, complaint, scenario};

/// The exit code is the program's, and so is the signal that ends it.
#[test]
fn codes_and_signals_are_the_programs() {
    scenario("life::codes_and_signals_are_the_programs", &["sh"], || {
        let scene = Scene::new();
        assert_eq!(scene.run(&["sh", "-c", "exit 7"]).status.code(), Some(7));
        assert_eq!(scene.run(&["sh", "-c", "kill -KILL $$"]).status.signal(), Some(9));
        // What is sent to the launcher is for the program.
        let words = ["sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"];
        let mut launcher = scene.namespace.run(|| scene.command(&words).stdout(Stdio::piped()).spawn());
        let launcher = launcher.as_mut().unwrap().as_mut().unwrap();
        let mut ready = [0; 6];
        launcher.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        kill(Pid::from_raw(launcher.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert_eq!(launcher.wait().unwrap().code(), Some(9));
    });
}

/// What the program leaves behind is held to its end, and the code is the program's nevertheless.
#[test]
fn it_is_over_when_the_last_has_ended() {
    scenario("life::it_is_over_when_the_last_has_ended", &["sh"], || {
        let scene = Scene::new();
        let probe = scene.probe.to_str().unwrap();
        let output = scene.run(&["sh", "-c", &format!("(sleep 0.3; {probe} sockets) & exit 4")]);
        assert_eq!(output.status.code(), Some(4));
        let made = crate::lines(&output);
        assert_eq!(made.len(), 4, "{made:?}");
        assert!(made.iter().all(|(_, came)| crate::cookie(came).is_some_and(|cookie| scene.holds(cookie))));
    });
}

/// Without a gateway, with one that says no, with one that says nothing: nothing is started, and it is said why.
#[test]
fn without_a_gateway_nothing_is_started() {
    scenario("life::without_a_gateway_nothing_is_started", &[], || {
        let begun = Instant::now();
        for (act, said) in [
            (Some(vec![Act::Refuse("NotHere")]), "no gateway that was found carries the traffic"),
            (Some(vec![Act::Refuse("Full")]), "the fake gateway says no"),
            (Some(vec![Act::Silence]), "did not answer in time"),
            (None, "no gateway serves applications here"),
        ] {
            let none = act.is_none();
            let act = act.unwrap_or_default();
            let mut scene = Scene::with(move |_, _| act.clone());
            if none {
                scene.fake = FakeApp::new(|_| Vec::new());
                std::fs::remove_file(scene.fake.path()).unwrap();
            }
            let output = scene.run(&["/bin/echo", "started"]);
            assert_eq!(output.status.code(), Some(125));
            assert!(output.stdout.is_empty());
            assert!(complaint(&output).contains(said), "{}", complaint(&output));
            if none {
                // It ends by being called.
                std::mem::forget(std::mem::replace(&mut scene.fake, FakeApp::new(|_| Vec::new())));
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "each within its time");
    });
}

/// What is no program is said to be none, as env(1) says it.
#[test]
fn what_cannot_be_started_is_named() {
    scenario("life::what_cannot_be_started_is_named", &[], || {
        let scene = Scene::new();
        for (program, code) in [("/nonexistent/program", 127), ("/etc/passwd", 126)] {
            let output = scene.run(&[program]);
            assert_eq!(output.status.code(), Some(code), "{}", complaint(&output));
            assert!(complaint(&output).contains(&format!("cannot start {program}")));
        }
    });
}

/// One supervisor is all that a process can have; inside of another, nothing is started.
#[test]
fn inside_of_another_supervisor_it_names_exec() {
    scenario("life::inside_of_another_supervisor_it_names_exec", &[], || {
        let scene = Scene::new();
        let again = [
            env!("CARGO_BIN_EXE_latchway"),
            "preload",
            "--require",
            "peer=b.example,protection=confidential",
        ];
        let output = scene.run(&[&again[..], &["--", "/bin/echo", "started"]].concat());
        assert_eq!(output.status.code(), Some(125));
        assert!(output.stdout.is_empty());
        assert!(complaint(&output).contains("`latchway exec`"), "{}", complaint(&output));
    });
}
