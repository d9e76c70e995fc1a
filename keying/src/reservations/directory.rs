//! The real disk: a directory that only its owner can enter, locked as long as it is open.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use zeroize::Zeroizing;

use super::book::Book;
use super::disk::Disk;
use super::error::StoreError;

/// A directory with the store's file in it. Everything goes by its descriptor, so what is renamed or mounted over its path
/// does not matter.
pub(super) struct Directory {
    path: PathBuf,
    locked: Flock<File>,
    /// The next file, from its writing to its renaming.
    next: Option<File>,
}

impl Directory {
    /// Makes the directory, or takes one that is there, and locks it.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { attempt: "make", folder: path.to_owned(), source };
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let parent = File::open(parent.unwrap_or(Path::new("."))).map_err(failed)?;
                parent.sync_all().map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        Self::open(path)
    }

    /// Opens and locks the directory.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { attempt: "open", folder: path.to_owned(), source };
        let folder = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(path);
        let folder = folder.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Missing(path.to_owned()),
            _ => failed(error),
        })?;
        let found = folder.metadata().map_err(failed)?;
        check(path, &found)?;
        let locked =
            Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
                Errno::EWOULDBLOCK => StoreError::Locked(path.to_owned()),
                _ => failed(errno.into()),
            })?;
        Ok(Self { path: path.to_owned(), locked, next: None })
    }

    fn open_file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        Ok(openat(&*self.locked, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
    }
}

impl Disk for Directory {
    fn folder(&self) -> &Path {
        &self.path
    }

    fn read_file(&mut self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let file = match self.open_file(FILE, OFlag::O_RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if len > Book::LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is longer than any store"));
        }
        // Of its full length at once, so that no copy of the secret is left behind in memory.
        let mut octets = Zeroizing::new(vec![0; len]);
        (&file).read_exact(&mut octets)?;
        Ok(Some(octets))
    }

    fn write_next(&mut self, octets: &[u8]) -> io::Result<()> {
        // A file whose writing failed is not written again, for what a failed sync has lost a second one does not find.
        self.next = None;
        match unlinkat(&*self.locked, NEXT, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut file = self.open_file(NEXT, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        file.write_all(octets)?;
        self.next = Some(file);
        Ok(())
    }

    fn sync_next(&mut self) -> io::Result<()> {
        self.next.take().ok_or(io::ErrorKind::NotFound)?.sync_all()
    }

    fn rename_next(&mut self) -> io::Result<()> {
        Ok(renameat(&*self.locked, NEXT, &*self.locked, FILE)?)
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        self.locked.sync_all()
    }
}

/// T12: whoever could write there could put back an older file, and have numbers taken twice.
fn check(path: &Path, found: &fs::Metadata) -> Result<(), StoreError> {
    if found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(StoreError::OpenToOthers { folder: path.to_owned(), mode: found.mode() & 0o777 });
    }
    Ok(())
}

const FILE: &str = "reservations";
const NEXT: &str = "reservations.next";
