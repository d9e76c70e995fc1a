//! Privilege without root: a user namespace in which this process holds every capability over the networks it makes.

use std::{fs, io};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{getegid, geteuid},
};

use crate::{Error, Result};

/// How the process came by its privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// CAP_NET_ADMIN and CAP_SYS_ADMIN were effective already; nothing was changed.
    AlreadyPrivileged,
    /// The process now is root of a user namespace of its own.
    UserNamespace,
}

/// Enters a user namespace unless the process is privileged already.
///
/// To be called before any thread exists: the kernel refuses it to a process with several threads.
pub fn enter_user_namespace_if_needed() -> Result<Entered> {
    if is_privileged() {
        return Ok(Entered::AlreadyPrivileged);
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| refused_namespace(errno.into()))?;
    write_map("/proc/self/setgroups", "deny")?;
    write_map("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write_map("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    Ok(Entered::UserNamespace)
}

/// Whether CAP_NET_ADMIN and CAP_SYS_ADMIN are effective: what making and configuring namespaces takes.
///
/// It says nothing about *which* user namespace they are effective in: only making a network namespace proves that.
pub fn is_privileged() -> bool {
    let wanted = 1u64 << CAP_NET_ADMIN | 1u64 << CAP_SYS_ADMIN;
    effective_capabilities().is_some_and(|held| held & wanted == wanted)
}

/// What an operator can do when user namespaces are refused, from the settings found on this system.
pub fn advice() -> String {
    let mut advice = String::from("Run it as root");
    for (setting, refusing, remedy) in REFUSING_SETTINGS {
        if fs::read_to_string(setting).is_ok_and(|value| value.trim() == refusing) {
            advice.push_str(", or allow user namespaces: sysctl -w ");
            advice.push_str(remedy);
        }
    }
    advice.push('.');
    advice
}

fn effective_capabilities() -> Option<u64> {
    status_field("CapEff:").and_then(|value| u64::from_str_radix(&value, 16).ok())
}

fn status_field(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

fn refused_namespace(source: io::Error) -> Error {
    let threads = status_field("Threads:").filter(|count| count != "1");
    let advice = match threads {
        Some(count) => {
            format!("The process has {count} threads already; enter before the second one exists.")
        }
        None => advice(),
    };
    Error::UserNamespace { source, advice }
}

fn write_map(file: &str, line: &str) -> Result<()> {
    fs::write(file, line).map_err(|source| Error::UserNamespace {
        source,
        advice: format!("Writing {line:?} to {file} failed. {}", advice()),
    })
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Settings of the distributions that forbid unprivileged user namespaces: file, forbidding value, remedy.
const REFUSING_SETTINGS: [(&str, &str, &str); 3] = [
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=10000"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_privileged_change_nothing() {
        if is_privileged() {
            assert_eq!(enter_user_namespace_if_needed().ok(), Some(Entered::AlreadyPrivileged));
        }
    }

    #[test]
    fn advice_always_offers_a_way() {
        assert!(advice().starts_with("Run it as root"));
    }
}
