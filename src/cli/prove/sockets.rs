//! The sockets that a process has.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use latchway_netns::Namespace;
use rustix::fs::{fstat, getxattr};
use rustix::net::{SocketAddrAny, getpeername, getsockname};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::cli::failure::Failure;

/// A process that is looked at.
pub struct Process {
    pid: u32,
    folder: PathBuf,
    /// It itself, whoever has its number later.
    process: OwnedFd,
}

/// A socket that a process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The descriptor by which the process has it.
    pub descriptor: u32,
    /// What names it among all sockets of the machine.
    pub inode: u64,
    /// What the kernel calls its protocol.
    pub kind: String,
    /// The descriptor's file.
    path: PathBuf,
}

/// Both ends of a socket, as the socket itself says.
pub type Ends = (Option<SocketAddr>, Option<SocketAddr>);

impl Process {
    /// The process of this number.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: u32) -> Result<Self, Failure> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let none =
            || Failure::new(format!("there is no process {pid}"), "name one that runs, as `ps` shows it");
        let process = pidfd_open(number.ok_or_else(none)?, PidfdFlags::empty()).map_err(|_| none())?;
        Ok(Self { pid, folder: Path::new("/proc").join(pid.to_string()), process })
    }

    /// The network namespace that it is in.
    ///
    /// # Errors
    /// It is not for this user to see.
    pub fn namespace(&self) -> Result<Namespace, Failure> {
        Namespace::from_path(self.folder.join("ns/net")).map_err(|error| self.unseen(error))
    }

    /// Its sockets, each once, by their first descriptors; those that a thread has for itself too.
    ///
    /// # Errors
    /// They are not for this user to see.
    pub fn sockets(&self) -> Result<Vec<Socket>, Failure> {
        let mut found: BTreeMap<u64, Socket> = BTreeMap::new();
        for task in self.list(&self.folder.join("task"))? {
            // A thread that ended meanwhile has none.
            let Ok(descriptors) = fs::read_dir(task.join("fd")) else { continue };
            for path in descriptors.flatten().map(|entry| entry.path()) {
                let number = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
                let (Some(descriptor), Some(inode)) = (number, inode(&path)) else { continue };
                let kind = kind(&path).unwrap_or_else(|| "unknown".into());
                if kind == RING && self.is_empty_ring(descriptor) {
                    continue;
                }
                let socket = Socket { descriptor, inode, kind, path };
                let known = found.entry(inode).or_insert_with(|| socket.clone());
                if descriptor < known.descriptor {
                    *known = socket;
                }
            }
        }
        // A folder that cannot be read would make a process without sockets of any.
        self.list(&self.folder.join("fd"))?;
        let mut sockets: Vec<_> = found.into_values().collect();
        sockets.sort_unstable_by_key(|socket| socket.descriptor);
        Ok(sockets)
    }

    /// Whether nothing is registered with an io_uring. Where the kernel does not say, something may be.
    fn is_empty_ring(&self, descriptor: u32) -> bool {
        let told = fs::read_to_string(self.folder.join("fdinfo").join(descriptor.to_string()));
        told.is_ok_and(|told| registered(&told) == Some(0))
    }

    /// Whether the process has the socket still.
    pub fn has(&self, socket: &Socket) -> bool {
        inode(&socket.path) == Some(socket.inode)
    }

    /// The ends of a socket that no list shows. `None` where that is not for this user to see.
    pub fn ends(&self, socket: &Socket) -> Option<Ends> {
        let descriptor = i32::try_from(socket.descriptor).ok()?;
        let copy = pidfd_getfd(self.process.as_fd(), descriptor, PidfdGetfdFlags::empty()).ok()?;
        // A thread with descriptors of its own may call another socket so.
        fstat(&copy).ok().filter(|found| found.st_ino == socket.inode)?;
        let end = |any: SocketAddrAny| SocketAddr::try_from(any).ok().filter(|end| end.port() != 0);
        let local = getsockname(&copy).ok().and_then(end);
        let remote = getpeername(&copy).ok().flatten().and_then(end);
        Some((local, remote))
    }

    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
        let entries = fs::read_dir(folder).map_err(|error| self.unseen(error))?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    }

    fn unseen(&self, error: impl std::fmt::Display) -> Failure {
        let what = format!("process {} cannot be looked at: {error}", self.pid);
        Failure::new(what, "it may have ended; another user's process is root's to look at")
    }
}

/// The kind of an io_uring, whose sockets need no descriptors (io_uring_register(2)).
pub const RING: &str = "io_uring";

/// The inode of the socket that a descriptor is, if it is one. That of an io_uring is one that no socket has.
fn inode(descriptor: &Path) -> Option<u64> {
    let link = fs::read_link(descriptor).ok()?;
    if is_ring(&link) {
        let number: u64 = descriptor.file_name()?.to_str()?.parse().ok()?;
        return Some(u64::MAX - number);
    }
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn is_ring(link: &Path) -> bool {
    link.to_str() == Some("anon_inode:[io_uring]")
}

/// How many files are registered with an io_uring, as `/proc/PID/fdinfo` tells it.
fn registered(told: &str) -> Option<u64> {
    told.lines().find_map(|line| line.strip_prefix("UserFiles:")?.trim().parse().ok())
}

/// What the kernel calls the protocol of a socket.
fn kind(descriptor: &Path) -> Option<String> {
    if fs::read_link(descriptor).is_ok_and(|link| is_ring(&link)) {
        return Some(RING.into());
    }
    let mut name = [0; 64];
    let length = getxattr(descriptor, "system.sockprotoname", &mut name).ok()?;
    let name = name.get(..length)?.split(|octet| *octet == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_process_is_seen_with_its_sockets_and_their_kinds() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (unix, _other) = UnixStream::pair().unwrap();
        let process = Process::of(std::process::id()).unwrap();
        let sockets = process.sockets().unwrap();
        let of = |descriptor: i32| {
            sockets.iter().find(|found| i64::from(found.descriptor) == i64::from(descriptor))
        };
        assert_eq!(of(listener.as_raw_fd()).unwrap().kind, "TCP");
        assert!(of(unix.as_raw_fd()).unwrap().kind.starts_with("UNIX"));
        let connected = of(stream.as_raw_fd()).unwrap();
        assert!(process.has(connected));
        let ends = (stream.local_addr().ok(), stream.peer_addr().ok());
        assert_eq!(process.ends(connected).unwrap(), ends);
        assert!(Process::of(0).is_err() && Process::of(u32::MAX).is_err());
    }

    #[test]
    fn an_io_uring_with_files_of_its_own_is_told_from_one_without() {
        assert!(is_ring(Path::new("anon_inode:[io_uring]")) && !is_ring(Path::new("socket:[7]")));
        assert_eq!(registered("SqMask:\t0x7\nUserFiles:\t0\nUserBufs:\t0\n"), Some(0));
        assert_eq!(registered("UserFiles:\t3\n    0: socket:[9]\n"), Some(3));
        assert_eq!(registered("pos:\t0\nflags:\t02\n"), None);
    }
}
