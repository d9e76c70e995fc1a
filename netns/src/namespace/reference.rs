//! How a configuration names a namespace, and what to do when it cannot be found.

use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use nix::sys::statfs::fstatfs;

use super::{Namespace, named};
use crate::{Error, Result};

/// A network namespace as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamespaceRef {
    /// The one this process was started in.
    Own,
    /// The one that `ip netns` knows by this name: `/run/netns/NAME`.
    Name(String),
    /// The one that a file stands for, such as `/proc/PID/ns/net` or a bind mount of it.
    Path(PathBuf),
    /// The one of a running process, such as a container's first.
    Pid(u32),
}

/// A namespace that was opened, and whether it had to be made.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The namespace.
    pub namespace: Namespace,
    /// It had not existed: who made it may delete it ([`NamespaceRef::delete`]).
    pub made: bool,
}

impl NamespaceRef {
    /// Opens the namespace, and proves by entering it that it is one and that this process may use it.
    pub fn open(&self) -> Result<Namespace> {
        let namespace = match self {
            Self::Own => Namespace::current_as("own"),
            Self::Name(name) => opened(&named::path(name)?, &self.to_string(), &named::advice(name)),
            Self::Path(path) => opened(path, &self.to_string(), ADVICE_PATH),
            Self::Pid(0) => Err(Error::Malformed("pid 0 names no process: give a running one's".to_owned())),
            Self::Pid(pid) => of_process(*pid, &self.to_string()),
        }?;
        namespace.run(|| ()).map_err(|error| self.not_entered(error))?;
        Ok(namespace)
    }

    /// Opens the namespace. One of a name that does not exist yet is made, the way `ip netns add` makes it: it stays until
    /// it is [deleted](Self::delete), whatever becomes of this process.
    pub fn open_or_make(&self) -> Result<Opened> {
        let Self::Name(name) = self else {
            return Ok(Opened { namespace: self.open()?, made: false });
        };
        match self.open() {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(Opened { namespace: named::make(name, &self.to_string())?, made: true })
            }
            opened => Ok(Opened { namespace: opened?, made: false }),
        }
    }

    /// Takes a name away. The namespace ends with its last process, socket or other holder; one that is not named cannot be
    /// deleted, for it is somebody else's.
    pub fn delete(&self) -> Result<()> {
        match self {
            Self::Name(name) => named::delete(name),
            _ => Err(Error::Malformed(format!("{self} has no name that could be deleted"))),
        }
    }

    fn not_entered(&self, error: Error) -> Error {
        let Error::Refused { attempt, source } = error else { return error };
        let advice = match source.raw_os_error() {
            Some(libc::EPERM) => {
                "Entering takes CAP_SYS_ADMIN over it: run as root, or as the user who made it."
            }
            _ => ADVICE_PATH,
        };
        Error::advised(attempt, source, advice)
    }
}

impl fmt::Display for NamespaceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "that of process {pid}"),
        }
    }
}

/// Opens a file that stands for a namespace.
fn opened(path: &Path, label: &str, advice: &str) -> Result<Namespace> {
    let attempt = || format!("opening the network namespace {}", path.display());
    let file = File::open(path).map_err(|source| Error::advised(attempt(), source, advice))?;
    // An open descriptor of anything else, such as a device or a pipe, must not be kept.
    let kind = fstatfs(&file).map_err(|errno| Error::refused(attempt(), errno))?.filesystem_type();
    if kind.0 != libc::NSFS_MAGIC {
        let source = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(Error::advised(attempt(), source, format!("It is a file of another kind. {advice}")));
    }
    Ok(Namespace::from_fd(file.into(), label))
}

fn of_process(pid: u32, label: &str) -> Result<Namespace> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    opened(&path, label, "").map_err(|error| match error {
        Error::Advised { attempt, source, .. } => {
            let advice = match source.kind() {
                io::ErrorKind::NotFound => format!("There is no process {pid}, or it has ended."),
                io::ErrorKind::PermissionDenied => {
                    format!("Process {pid} belongs to another user: run as root, or with CAP_SYS_PTRACE.")
                }
                _ => "Is /proc mounted?".to_owned(),
            };
            Error::advised(attempt, source, advice)
        }
        other => other,
    })
}

const ADVICE_PATH: &str =
    "A network namespace is named by /proc/PID/ns/net or a bind mount of it; see ip-netns(8).";
