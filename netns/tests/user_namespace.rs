//! An unprivileged process makes itself a network. It has no test harness, for that would start threads first.

use std::{process::ExitCode, time::Duration};

use latchway_netns::{
    Error, Links, Namespace, Result,
    ping::{self, Echo},
    skip,
    user::{self, Entered},
};

fn main() -> ExitCode {
    let entered = match user::enter_user_namespace_if_needed() {
        Ok(entered) => entered,
        Err(error @ Error::UserNamespace { .. }) => {
            skip::report("user_namespace", &error.to_string());
            return ExitCode::SUCCESS;
        }
        Err(error) => return failure(&error.to_string()),
    };
    match scenario() {
        Ok(true) => println!("test user_namespace ({entered:?}) ... ok"),
        Ok(false) => return failure("no reply through the loopback interface"),
        Err(error) => return failure(&error.to_string()),
    }
    // Now that the process has had threads, the same call either has nothing to do or says why it cannot.
    match user::enter_user_namespace_if_needed() {
        Ok(Entered::AlreadyPrivileged) => ExitCode::SUCCESS,
        other => failure(&format!("entering again: {other:?}")),
    }
}

fn scenario() -> Result<bool> {
    let space = Namespace::create("unprivileged")?;
    Links::of(&space)?.add_address("lo", "10.5.5.5/32".parse().map_err(malformed)?)?;
    let source = Some([10, 5, 5, 5].into());
    let report =
        ping::echo(&space, &Echo { source, count: 3, timeout: Duration::from_secs(5), ..Echo::default() })?;
    Ok(report.received == 3)
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::Malformed(error.to_string())
}

fn failure(reason: &str) -> ExitCode {
    eprintln!("test user_namespace ... FAILED: {reason}");
    ExitCode::FAILURE
}
