//! C programs on sockets, against a gateway that says what it is told to: tokens attached, tokens got, and every errno of the
//! one table (rows, N-15 to N-18, C-2, C-10, C-28).

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[expect(dead_code, reason = "functions of the header are other tests' matter")]
mod support;

#[path = "../../socket/tests/support/fake_app.rs"]
#[expect(dead_code, reason = "the fake gateway can do more than is asked of it here")]
mod fake_app;

use std::process::Command;
use std::time::{Duration, Instant};

use fake_app::{Act, Came, FakeApp, bare, latched};
use serde_json::{Value, json};

/// N-15, N-18, Q-46, L-12: of a connected socket, every attribute of both tokens.
#[test]
fn q_46_a_token_of_a_latched_socket_says_everything() {
    let fake = FakeApp::answering(latched());
    everywhere("latched", Some(&fake));
    let calls = fake.calls();
    assert!(calls.iter().all(|call| call.method == "org.latchway.App.Protection" && call.sockets.len() == 1));
}

/// P-55: what is required arrives whole, and not before it is attached.
#[test]
fn q_45_what_a_template_demands_is_required() {
    let fake = FakeApp::new(reply_to_requirements);
    everywhere("attach", Some(&fake));
    let calls = fake.calls();
    let required: Vec<&Value> =
        calls.iter().filter(|call| call.method.ends_with(".Require")).map(|call| &call.parameters).collect();
    let spec = &required.first().expect("it was required")["requirement"];
    assert_eq!(spec["protection"], "confidential");
    assert_eq!(spec["key_bits"], 192);
    assert_eq!(spec["mode"], "tunnel");
    assert_eq!(spec["suites"], json!(["aes-256-gcm", "aes-192-gcm"]));
    assert_eq!(spec["replay_checked"], true);
    assert_eq!(spec["options_protected"], true);
    assert_eq!(spec["peer"], "fqdn:b.example");
    assert_eq!(spec["methods"], json!(["certificate"]));
    assert_eq!(spec["anchor_sha256"], "ab".repeat(32));
    assert_eq!(spec["identity"], "fqdn:a.example");
    // The same again, of the token that was got from the socket.
    let same = &required.get(1).expect("it was required again")["requirement"];
    assert_eq!(same["peer"], "fqdn:b.example");
    assert_eq!(same["suites"], json!(["aes-256-gcm", "aes-128-gcm"]));
    assert_eq!(same["protection"], "confidential");
    assert_eq!(required.len(), 2 * WAYS, "what was refused here never got there");
    assert_eq!(calls.iter().filter(|call| call.method.ends_with(".Forget")).count(), WAYS);
}

/// in the clear; and all the states that are no protection.
#[test]
fn q_34_what_is_not_protected_says_so() {
    for answer in ["clear", "suspended", "dropped", "unconnected"] {
        everywhere(answer, Some(&FakeApp::answering(bare(answer))));
    }
}

/// C-2: a gateway that is not there, is another's, says no, or talks nonsense: one errno each, and nothing hangs.
#[test]
fn c_2_every_refusal_has_its_errno() {
    everywhere("absent", None);
    everywhere("other-namespace", Some(&FakeApp::new(|_| vec![Act::Refuse("NotHere")])));
    everywhere("nonsense", Some(&FakeApp::new(|_| vec![Act::Octets(b"{\"parameters\":7}\0".to_vec())])));
    for (word, number) in [
        ("PolicyForbids", libc::EACCES),
        ("PrivilegeNeeded", libc::EPERM),
        ("Unsatisfied", libc::EISCONN),
        ("WrongSocket", libc::EPROTONOSUPPORT),
        ("Full", libc::ENOBUFS),
        ("Busy", libc::EAGAIN),
        ("Conflict", libc::EADDRINUSE),
    ] {
        let fake = FakeApp::new(move |_| vec![Act::Refuse(word)]);
        run_plain(&["refused", &number.to_string()], Some(&fake));
    }
}

/// The timeout that was set is kept, whatever the gateway does; after it, errno says so.
#[test]
fn a_gateway_that_says_nothing_does_not_keep_anybody_waiting() {
    let program = support::program("sockets", "plain-silent", &[]);
    for act in [Act::Silence, Act::Drip(b' ')] {
        let fake = FakeApp::new(move |_| vec![act.clone()]);
        let begun = Instant::now();
        support::run(prepare(&mut Command::new(&program), Some(&fake)).arg("silent"));
        assert!(begun.elapsed() < Duration::from_secs(20), "two calls of 200 ms each, on a busy machine");
    }
}

/// How often each program is run: see `support::ways`.
const WAYS: usize = 3;

fn reply_to_requirements(came: &Came) -> Vec<Act> {
    vec![Act::Reply(if came.method.ends_with(".Protection") { latched() } else { json!({}) })]
}

fn everywhere(scenario: &str, fake: Option<&FakeApp>) {
    support::everywhere("sockets", "--leak-check=full", |command| {
        prepare(command, fake).arg(scenario);
    });
}

fn run_plain(arguments: &[&str], fake: Option<&FakeApp>) {
    let program = support::program("sockets", &format!("plain-{}", arguments.join("-")), &[]);
    support::run(prepare(&mut Command::new(program), fake).args(arguments));
}

fn prepare<'c>(command: &'c mut Command, fake: Option<&FakeApp>) -> &'c mut Command {
    match fake {
        Some(fake) => command.env("LATCHWAY_APP", fake.path()),
        None => command.env("LATCHWAY_APP", "/nonexistent/app.sock"),
    }
}
