//! Locks: one gateway per TUN, per name of packet filters and per state directory.
//!
//! A lock is an flock(2), which ends with its holder however that ends. The locks of TUNs are files in a folder that only
//! their owner can enter, for whoever can open a file can lock it: `/run/latchway/locks` for root, and for whoever else may
//! write in `/run/latchway`; else the same below `$XDG_RUNTIME_DIR`, else below `/tmp/latchway-UID`. No folder is used that is
//! a symbolic link, somebody else's, or open to others to write. Users with different folders do not see each other's locks;
//! what keeps them apart is that a TUN has one owner, and a single queue unless asked otherwise.
//!
//! A state directory is locked itself, so that it needs no file, and a read-only disk is no obstacle.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use latchway_netns::Namespace;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::stat::{major, minor},
    unistd::geteuid,
};

use crate::{GuardError, Result};

/// A lock, held until it is dropped or its process ends.
#[derive(Debug)]
#[must_use = "dropped, it is free again"]
pub struct Lock {
    held: Flock<File>,
    /// The file that goes with the lock.
    file: Option<PathBuf>,
}

impl Lock {
    /// Locks a TUN, by its namespace and name; it need not exist yet.
    pub fn tun(namespace: &Namespace, name: &str) -> Result<Self> {
        if name.is_empty()
            || name.len() > LONGEST_NAME
            || !name.chars().all(is_plain)
            || name.starts_with('.')
        {
            let rule = format!("1 to {LONGEST_NAME} letters, digits, '-', '_' or '.'");
            return Err(GuardError::Invalid(format!("{name:?} cannot name a TUN: {rule}")));
        }
        let file = folder()?.join(file_of("tun", namespace, name)?);
        Self::of_file(file, format!("the TUN {name} in {}", namespace.label()))
    }

    /// Locks the packet filters of a gateway's name: another gateway of that name would put its own in their place.
    pub fn filters(namespace: &Namespace, name: &str) -> Result<Self> {
        if !name.chars().all(is_plain) {
            return Err(GuardError::Invalid(format!("{name:?} cannot name packet filters")));
        }
        let file = folder()?.join(file_of("filters", namespace, name)?);
        let what = format!("the gateway name {name}, by which packet filters go,");
        Self::of_file(file, format!("{what} in {}", namespace.label()))
    }

    /// Locks a folder that exists, such as the state directory.
    pub fn folder(path: &Path) -> Result<Self> {
        let error = |source| error("opening", path, source, "Make the folder, and let this user read it.");
        let folder =
            OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path).map_err(error)?;
        match try_lock(folder, path)? {
            Ok(held) => Ok(Self { held, file: None }),
            Err(folder) => Err(refused(format!("the folder {}", path.display()), &folder)),
        }
    }

    fn of_file(path: PathBuf, what: String) -> Result<Self> {
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
                .map_err(|source| error("opening", &path, source, ADVICE_FOLDER))?;
            let held = match try_lock(file, &path)? {
                Ok(held) => held,
                Err(file) => return Err(refused(what, &file)),
            };
            // The last holder takes its file away: a lock on a file that is no longer the one there counts nothing.
            if is_there(&held, &path) {
                return Ok(Self { held, file: Some(path) });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(file) = self.file.take().filter(|file| is_there(&self.held, file)) {
            // While it is still locked. A file that stays behind locks nothing.
            let _ = fs::remove_file(file);
        }
    }
}

fn file_of(kind: &str, namespace: &Namespace, name: &str) -> Result<String> {
    let (device, inode) = namespace.identity()?;
    Ok(format!("{kind}-{device:x}-{inode}-{name}"))
}

/// The lock, or the file back that somebody else has locked.
fn try_lock(file: File, path: &Path) -> Result<std::result::Result<Flock<File>, File>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Ok(held)),
        Err((file, Errno::EWOULDBLOCK)) => Ok(Err(file)),
        Err((_, errno)) => Err(error("locking", path, errno.into(), "Does this file system have flock(2)?")),
    }
}

fn refused(what: String, file: &File) -> GuardError {
    GuardError::Held { what, pid: holder(file), remedy: "end that process first, or use another one" }
}

/// Who has locked a file, from proc_locks(5).
fn holder(file: &File) -> Option<u32> {
    let found = file.metadata().ok()?;
    let place = format!("{:02x}:{:02x}:{}", major(found.dev()), minor(found.dev()), found.ino());
    // The list is read piece by piece, while others lock and unlock: a line may be passed over.
    (0..LOOKS).find_map(|_| holder_of(&place, &locks().ok()?))
}

fn holder_of(place: &str, locks: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().skip(1).filter(|column| *column != "->").collect();
        let [kind, _, _, pid, found, ..] = columns[..] else { return None };
        if kind == "FLOCK" && found == place { pid.parse().ok().filter(|pid| *pid != 0) } else { None }
    })
}

/// In pieces as large as the kernel gives them.
fn locks() -> io::Result<String> {
    let (mut list, mut text) = (File::open("/proc/locks")?, Vec::with_capacity(1 << 16));
    list.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn is_there(held: &File, path: &Path) -> bool {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    let there = fs::symlink_metadata(path).map(identity);
    there.is_ok_and(|there| held.metadata().is_ok_and(|own| identity(own) == there))
}

/// The folder of the locks, made where it is missing.
fn folder() -> Result<PathBuf> {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    folder_in(Path::new("/run"), runtime.as_deref(), &env::temp_dir())
}

fn folder_in(run: &Path, runtime: Option<&Path>, temporary: &Path) -> Result<PathBuf> {
    let shared = [Some(run), runtime].into_iter().flatten().map(|base| base.join(OWN));
    let found = shared
        .into_iter()
        .find_map(|base| own(base, 0o755).and_then(|base| own(base.join(LOCKS), 0o700)).ok());
    found.map_or_else(
        || {
            own(temporary.join(format!("{OWN}-{}", geteuid())), 0o700)
                .and_then(|base| own(base.join(LOCKS), 0o700))
        },
        Ok,
    )
}

/// A folder of this user that nobody else can write in; made where it is missing.
fn own(path: PathBuf, mode: u32) -> Result<PathBuf> {
    match DirBuilder::new().mode(mode).create(&path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error("making", &path, source, ADVICE_FOLDER));
        }
        _ => {}
    }
    // Not following a symbolic link, which somebody may have put there first.
    let found =
        fs::symlink_metadata(&path).map_err(|source| error("looking at", &path, source, ADVICE_FOLDER))?;
    let ours = found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0;
    let refusal = || error("using", &path, io::ErrorKind::PermissionDenied.into(), ADVICE_OWN);
    if ours { Ok(path) } else { Err(refusal()) }
}

fn error(attempt: &'static str, path: &Path, source: io::Error, advice: &'static str) -> GuardError {
    GuardError::Lock { attempt, path: path.to_owned(), source, advice }
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
}

/// How often the list of locks is looked through for one that must be there.
const LOOKS: usize = 10;

const OWN: &str = "latchway";
const LOCKS: &str = "locks";
const ADVICE_FOLDER: &str = "Set XDG_RUNTIME_DIR to a folder of this user, or run as root.";
const ADVICE_OWN: &str =
    "It is no folder of this user that only this user can write in: remove it, or set XDG_RUNTIME_DIR.";

/// Of an interface (IFNAMSIZ without the terminator).
const LONGEST_NAME: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::{Command, Stdio};

    /// A folder of this test's own.
    fn scratch(test: &str) -> PathBuf {
        let path = env::temp_dir().join(format!("latchway-lock-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn the_holder_is_found_among_others() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:42 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 08:01:43 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 08:01:42 0 EOF\n3: -> FLOCK  ADVISORY  WRITE 10 08:01:42 0 EOF\n";
        assert_eq!(holder_of("08:01:42", locks), Some(9));
        assert_eq!((holder_of("08:01:44", locks), holder_of("08:01:42", "1: FLOCK")), (None, None));
    }

    #[test]
    fn a_lock_is_held_once_and_its_holder_is_named() {
        let base = scratch("once");
        let path = base.join("tun");
        let first = Lock::of_file(path.clone(), "the TUN a".to_owned()).unwrap();
        let second = Lock::of_file(path.clone(), "the TUN a".to_owned()).unwrap_err().to_string();
        let own = format!("the TUN a is in use by process {}", std::process::id());
        assert!(second.starts_with(&own), "{second}");
        drop(first);
        assert!(!path.exists(), "nothing stays behind");
        let folder = Lock::folder(&base).unwrap();
        let again = Lock::folder(&base).unwrap_err().to_string();
        assert!(again.contains("in use by process"), "{again}");
        drop(folder);
        let _again = Lock::folder(&base).unwrap();
        assert!(Lock::folder(&path).unwrap_err().to_string().contains("Make the folder"));
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    #[ignore = "run by the test below"]
    fn holder() {
        let _held =
            Lock::of_file(env::var_os("LATCHWAY_TEST_LOCK").unwrap().into(), "it".to_owned()).unwrap();
        println!("\nholding");
        io::Read::read_to_end(&mut io::stdin(), &mut Vec::new()).unwrap();
    }

    /// A holder that was killed leaves its file, and the lock is free.
    #[test]
    fn a_killed_holder_holds_nothing() {
        let base = scratch("killed");
        let path = base.join("tun");
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "lock::tests::holder", "--ignored", "--nocapture"])
            .env("LATCHWAY_TEST_LOCK", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().unwrap()));
        assert!(lines.any(|line| line.unwrap() == "holding"));
        let refused = Lock::of_file(path.clone(), "it".to_owned()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", child.id())), "{refused}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(path.exists());
        drop(Lock::of_file(path.clone(), "it".to_owned()).unwrap());
        assert!(!path.exists());
        fs::remove_dir_all(&base).unwrap();
    }

    /// Whatever somebody else may have put in the way is not used.
    #[test]
    fn no_folder_is_used_that_another_could_change() {
        let base = scratch("folders");
        let (run, runtime, temporary) = (base.join("run"), base.join("user"), base.join("tmp"));
        for folder in [&run, &runtime, &temporary] {
            fs::create_dir(folder).unwrap();
        }
        let chosen = || folder_in(&run, Some(&runtime), &temporary).unwrap();
        assert_eq!(chosen(), run.join("latchway/locks"));
        assert_eq!(fs::metadata(chosen()).unwrap().mode() & 0o777, 0o700);
        let elsewhere = base.join("elsewhere");
        fs::rename(run.join("latchway"), &elsewhere).unwrap();
        symlink(&elsewhere, run.join("latchway")).unwrap();
        assert_eq!(chosen(), runtime.join("latchway/locks"));
        fs::set_permissions(runtime.join("latchway"), fs::Permissions::from_mode(0o777)).unwrap();
        let last = temporary.join(format!("latchway-{}", geteuid()));
        assert_eq!(chosen(), last.join("locks"));
        fs::remove_dir_all(&last).unwrap();
        symlink(&elsewhere, &last).unwrap();
        let refused = folder_in(&run, None, &temporary).unwrap_err().to_string();
        assert!(refused.contains("remove it, or set XDG_RUNTIME_DIR"), "{refused}");
        fs::remove_dir_all(&base).unwrap();
    }

    /// T13: two gateways of one name would take each other's filters away in turns.
    #[test]
    fn t13_filters_of_one_name_are_one_gateways() {
        let (own, name) = (Namespace::current().unwrap(), format!("lock-test-{}", std::process::id()));
        let first = Lock::filters(&own, &name).unwrap();
        let refused = Lock::filters(&own, &name).unwrap_err().to_string();
        assert!(refused.contains("the gateway name lock-test-"), "{refused}");
        drop(first);
        drop(Lock::filters(&own, &name).unwrap());
        assert!(matches!(Lock::filters(&own, "a/b"), Err(GuardError::Invalid(_))));
    }

    #[test]
    fn a_name_that_is_no_interfaces_is_refused() {
        let own = Namespace::current().unwrap();
        for name in ["", "..", "a/b", "sixteen-letters-", "blank name", "a\0"] {
            assert!(matches!(Lock::tun(&own, name), Err(GuardError::Invalid(_))), "{name}");
        }
    }
}
