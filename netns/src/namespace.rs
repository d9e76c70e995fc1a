//! A network namespace, held by a descriptor: it vanishes with the last holder, also after SIGKILL.

mod named;
mod reference;

use std::{
    any::Any,
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::stat::{fstat, stat},
};

pub use self::reference::{NamespaceRef, Opened};
use crate::{Error, Links, Result, links};

/// A network namespace. Clones hold the same one.
#[derive(Clone, Debug)]
pub struct Namespace {
    label: Arc<str>,
    descriptor: Arc<OwnedFd>,
    /// Opened when it is first needed.
    netlink: Arc<OnceLock<links::Socket>>,
}

impl Namespace {
    /// Makes a new namespace with nothing in it but its loopback interface, which is up.
    ///
    /// The label appears in errors and thread names only; the namespace has no name in the file system.
    pub fn create(label: &str) -> Result<Self> {
        let made = on_a_thread(label, || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::refused(format!("making the network namespace {label}"), errno))?;
            Self::current_as(label)
        })??;
        Links::of(&made)?.set_up("lo")?;
        Ok(made)
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::current_as("current")
    }

    /// The namespace a path stands for, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let label = path.display().to_string();
        let file = File::open(path).map_err(|source| Error::refused(format!("opening {label}"), source))?;
        Ok(Self::from_fd(file.into(), &label))
    }

    /// The namespace behind a descriptor received from elsewhere.
    pub fn from_fd(descriptor: OwnedFd, label: &str) -> Self {
        Self { label: label.into(), descriptor: Arc::new(descriptor), netlink: Arc::default() }
    }

    /// What errors call this namespace.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Where other processes find this namespace while this process lives: `nsenter --net=PATH`.
    pub fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.descriptor.as_raw_fd()))
    }

    /// Runs a closure on a thread of its own inside the namespace. Sockets made there belong to the namespace for good.
    ///
    /// A panic of the closure comes back as [`Error::Panicked`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_a_thread(&self.label, || {
            self.enter_on_this_thread()?;
            Ok(work())
        })?
    }

    /// Moves the calling thread into the namespace. Threads it starts afterwards begin there; others do not move. A
    /// thread that is there already needs no capability for it.
    pub fn enter_on_this_thread(&self) -> Result<()> {
        if self.is_entered() {
            return Ok(());
        }
        setns(self, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::refused(format!("entering the network namespace {}", self.label), errno))
    }

    /// Whether both are the same namespace, by whatever descriptors.
    pub fn is_same(&self, other: &Self) -> bool {
        self.identity().is_ok_and(|own| other.identity().is_ok_and(|others| own == others))
    }

    /// What tells it from every other namespace that exists: device and inode of its file (namespaces(7)).
    pub fn identity(&self) -> Result<(u64, u64)> {
        fstat(self).map(|stat| (stat.st_dev, stat.st_ino)).map_err(|errno| {
            Error::refused(format!("looking at the network namespace {}", self.label), errno)
        })
    }

    /// The socket to its links, once somebody needed one.
    pub(crate) fn netlink(&self) -> &OnceLock<links::Socket> {
        &self.netlink
    }

    /// Whether the calling thread is in this namespace.
    fn is_entered(&self) -> bool {
        let there = fstat(self).map(|stat| (stat.st_dev, stat.st_ino));
        let here = stat("/proc/thread-self/ns/net").map(|stat| (stat.st_dev, stat.st_ino));
        there.is_ok() && there == here
    }

    fn current_as(label: &str) -> Result<Self> {
        let file = File::open("/proc/thread-self/ns/net")
            .map_err(|source| Error::refused(format!("opening the network namespace {label}"), source))?;
        Ok(Self::from_fd(file.into(), label))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Runs a closure on a short-lived thread, whose namespace may change without moving anybody else.
fn on_a_thread<T: Send>(label: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let started = thread::Builder::new().name(format!("netns {label}")).spawn_scoped(scope, work);
        let handle =
            started.map_err(|source| Error::refused(format!("starting a thread for {label}"), source))?;
        handle.join().map_err(|payload| Error::Panicked {
            namespace: label.to_owned(),
            message: message_of(&*payload),
        })
    })
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
