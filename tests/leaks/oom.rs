//! The kernel's own way to kill: a memory cgroup that is full, and the gateway the first to go.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::gateway::Gateway;

/// Lets the kernel kill a gateway for want of memory. Where no memory cgroup can be made, says so, and sends the signal that the
/// kernel would.
pub fn kill(gateway: &mut Gateway) {
    let Some(group) = Group::make() else {
        eprintln!("no memory cgroup can be made here: SIGKILL stands in for the kernel's lack of memory");
        gateway.end_by(Signal::SIGKILL);
        return;
    };
    let pid = gateway.pid();
    fs::write(format!("/proc/{pid}/oom_score_adj"), "1000").unwrap();
    group.take(&pid.to_string());
    // In the group it is bounded; outside it never starts.
    let hog =
        format!("echo $$ > {}/cgroup.procs && ulimit -v 1000000 && exec tail /dev/zero", group.0.display());
    let hog = Command::new("sh").args(["-c", &hog]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    assert!(!hog.unwrap().success(), "the memory of the group has no end");
    let status = gateway.ended();
    assert!(!status.success(), "{status}");
}

/// A memory cgroup with little memory, gone with its processes.
struct Group(PathBuf);

impl Group {
    fn make() -> Option<Self> {
        let name = format!("latchway-leaks-{:016x}", fastrand::u64(..));
        let kinds = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        kinds.into_iter().find_map(|(root, limit)| {
            let group = Self(PathBuf::from(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            group.set(limit, "67108864").then_some(group)
        })
    }

    fn take(&self, pid: &str) {
        assert!(self.set("cgroup.procs", pid), "the gateway stays where it was");
    }

    /// Writes what the kernel has put there: elsewhere a folder is a folder.
    fn set(&self, name: &str, value: &str) -> bool {
        let file = File::options().write(true).open(self.0.join(name));
        file.is_ok_and(|mut file| file.write_all(value.as_bytes()).is_ok())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
