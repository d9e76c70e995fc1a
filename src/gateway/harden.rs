//! What a gateway gives up once everything stands: root, capabilities, the file system, and most system calls.
//!
//! Devices, wire sockets and netlink sockets are opened with the privileges that this takes, and kept open; from then on
//! a gateway that was taken over reaches little but its own traffic. Everything here is inherited by threads that start
//! later and by none that runs already, so it is applied while there is one thread. What is opened in the state and
//! control folders is opened afterwards, by the user that the gateway has become.
//!
//! | Kept | Why |
//! |---|---|
//! | CAP_NET_ADMIN | SOCK_DESTROY, routes and guards, over netlink sockets that are open: the kernel asks at each message |
//! | CAP_DAC_READ_SEARCH | a reload reads keys of root's; only as another user, and only where Landlock bounds what can be read |
//!
//! Where a kernel lacks one of these protections, the gateway goes on and says so, unless all are required.

mod account;
mod capabilities;
mod files;
mod syscalls;

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

use self::account::Account;

/// What a gateway needs when it has given up the rest.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Whether it ends rather than go on with a protection missing.
    pub required: bool,
    /// The user to become, by name or as `UID:GID`; `None` stays who it is.
    pub user: Option<String>,
    /// Folders and files to be read again on reload: the configuration and its keys.
    pub read: Vec<PathBuf>,
    /// Folders that files and sockets are made, replaced and removed in: the state directory, that of the control
    /// socket. They must exist, and are given to `user`.
    pub write: Vec<PathBuf>,
    /// The sockets that are made there.
    pub sockets: Vec<PathBuf>,
}

/// What is in force.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The user that the gateway has become, if it changed.
    pub user: Option<String>,
    /// The capabilities left.
    pub capabilities: Vec<String>,
    /// Whether system calls are filtered.
    pub syscalls: bool,
    /// Whether files beyond the plan are out of reach.
    pub files: bool,
    /// Protections that this system does not give, and why.
    pub missing: Vec<String>,
}

/// Why a gateway could not be hardened.
#[derive(Debug, thiserror::Error)]
pub enum HardenError {
    /// Threads that run already would keep what is given up.
    #[error(
        "{0} threads run already and would keep every privilege; privileges are given up before threads start"
    )]
    Threads(usize),
    /// There is no such user.
    #[error(
        "there is no user {user} in /etc/passwd: {reason}; make it, for example by `useradd --system {user}`"
    )]
    Account {
        /// The name.
        user: String,
        /// What was looked for in vain.
        reason: String,
    },
    /// The user cannot be changed to.
    #[error("cannot become the user {user}: {source}; that takes root, or start the gateway as that user")]
    Become {
        /// The name.
        user: String,
        /// What the system said.
        source: Errno,
    },
    /// A folder of the plan cannot be used.
    #[error("cannot use {}: {source}; it must be there before privileges are given up", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder holds, or may hold, what is not the gateway's.
    #[error(
        "{} would be given to {user}, and holds what is not the gateway's alone; give `control`, `app` and `state` folders of \
         their own, away from the configuration and its keys: `state` one that nobody else may enter (chmod 700), the sockets \
         one in which there is nothing else",
        path.display()
    )]
    Shared {
        /// The folder.
        path: PathBuf,
        /// To whom it would be given.
        user: String,
    },
    /// A protection is required and this system does not give it.
    #[error(
        "{0}, and the configuration requires every protection; relax that, or run where the kernel has it"
    )]
    Missing(String),
}

/// Keeps keys out of core dumps (T33).
///
/// # Errors
/// What the system says.
pub fn forbid_core_dumps() -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}

/// Keeps keys out of core dumps, and other processes of the same user out of our memory (T33). First of all things.
///
/// # Errors
/// What the system says.
pub fn keep_memory_private() -> io::Result<()> {
    forbid_core_dumps()?;
    Ok(prctl::set_dumpable(false)?)
}

/// The number of a user, by name or as `UID:GID`.
///
/// # Errors
/// [`HardenError::Account`]
pub fn uid(user: &str) -> Result<u32, HardenError> {
    Account::find(user).map(|account| account.uid())
}

/// Gives up everything that is not in the plan, for the calling thread and all that start later.
///
/// # Errors
/// [`HardenError`]. Some privileges may be gone then, and the process must end.
pub fn apply(plan: &Plan) -> Result<Applied, HardenError> {
    // A thread that was joined may still be on its way out of the kernel's list.
    let last = Instant::now() + LEAVING;
    while threads() > 1 && Instant::now() < last {
        thread::sleep(Duration::from_millis(1));
    }
    if threads() > 1 {
        return Err(HardenError::Threads(threads()));
    }
    give_up(plan)
}

/// How many threads the process has; one where nobody can say.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// How long a thread that was joined may take to be gone.
const LEAVING: Duration = Duration::from_secs(1);

fn give_up(plan: &Plan) -> Result<Applied, HardenError> {
    let account = plan.user.as_deref().map(Account::find).transpose()?;
    if let Some(account) = &account {
        plan.write.iter().try_for_each(|folder| {
            // Whoever has the folder of the configuration writes another.
            let user = || plan.user.clone().unwrap_or_default();
            let shared = || HardenError::Shared { path: folder.clone(), user: user() };
            if plan.read.contains(folder) { Err(shared()) } else { account.own(folder, &plan.sockets) }
        })?;
    }
    let mut gaps = Gaps { required: plan.required, missing: Vec::new() };
    let bounds = gaps.note("files are not confined", files::Bounds::new(plan)?)?;
    gaps.note("capabilities of later programs are not bounded", capabilities::bound())?;
    if let Some(account) = &account {
        account.become_it()?;
    }
    gaps.note("set-user-ID programs are not disarmed", prctl::set_no_new_privs())?;
    let confined = bounds.map(files::Bounds::enforce);
    let files = confined.map(|outcome| gaps.note("files are not confined", outcome)).transpose()?.flatten();
    let reads = account.is_some() && files.is_some();
    let left = gaps.note("capabilities are not given up", capabilities::keep_only(reads))?;
    // Changing users has made the process dumpable or not, by a setting of the system's.
    gaps.note("memory is not private", keep_memory_private())?;
    let syscalls = gaps.note("system calls are not filtered", syscalls::filter())?;
    Ok(Applied {
        user: plan.user.clone(),
        capabilities: left.unwrap_or_default(),
        syscalls: syscalls.is_some(),
        files: files.is_some(),
        missing: gaps.missing,
    })
}

impl Applied {
    /// The same, an item each.
    pub fn lines(&self) -> Vec<String> {
        let text = self.to_string();
        text.split("; ").flat_map(|part| part.split(", ")).map(str::to_owned).collect()
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capabilities = match self.capabilities.as_slice() {
            [] => "no capabilities".to_owned(),
            left => left.join(", "),
        };
        write!(f, "{capabilities}")?;
        if let Some(user) = &self.user {
            write!(f, ", user {user}")?;
        }
        for (holds, what) in [(self.syscalls, "system calls filtered"), (self.files, "files confined")] {
            if holds {
                write!(f, ", {what}")?;
            }
        }
        self.missing.iter().try_for_each(|missing| write!(f, "; {missing}"))
    }
}

/// Protections that could not be had.
struct Gaps {
    required: bool,
    missing: Vec<String>,
}

impl Gaps {
    /// What an attempt gave; where it failed, that is noted, or an error.
    fn note<T, E: fmt::Display>(
        &mut self,
        gap: &str,
        attempt: Result<T, E>,
    ) -> Result<Option<T>, HardenError> {
        let error = match attempt {
            Ok(gained) => return Ok(Some(gained)),
            Err(error) => error,
        };
        let missing = format!("{gap}: {error}");
        if self.required {
            return Err(HardenError::Missing(missing));
        }
        self.missing.push(missing);
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
