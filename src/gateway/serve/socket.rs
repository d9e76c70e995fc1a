//! The file of a gateway's socket: its folder, its lock, its mode.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::gateway::folders;

/// A socket in the file system that is nobody else's. Dropped, its file is gone.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, by which it is known that the file is still this one.
    own: (u64, u64),
    lock: Lock,
}

/// Held by the one gateway that may offer a socket at a path, whatever becomes of the socket's file.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _held: Flock<File>,
}

impl SocketFile {
    /// Listens at `path`, for whom `mode` lets in. What a killed gateway left there is cleared away; a gateway that lives, a
    /// file of another kind and a folder in which others may write are errors.
    pub fn offer(path: &Path, mode: u32) -> io::Result<(Self, UnixListener)> {
        make_folder(path.parent().unwrap_or(Path::new("")), mode & 0o002 != 0)?;
        let lock = Lock::of(path)?;
        match fs::symlink_metadata(path) {
            Ok(left) if !left.file_type().is_socket() => {
                return Err(says(ErrorKind::AlreadyExists, "what is there is no socket; name another path"));
            }
            // Who locks nothing may listen all the same.
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(taken()),
            Ok(_) => fs::remove_file(path)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        let own = inode(path)?;
        Ok((Self { path: path.into(), own, lock }, listener))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|there| there == self.own) {
            let _ = fs::remove_file(&self.path);
        }
        // While it is still locked: whoever opened it meanwhile sees that it is gone.
        let _ = fs::remove_file(&self.lock.path);
    }
}

impl Lock {
    fn of(socket: &Path) -> io::Result<Self> {
        let path = folders::lock_of(socket);
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(&path)?;
            let held =
                Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
                    Errno::EWOULDBLOCK => taken(),
                    errno => errno.into(),
                })?;
            let locked = held.metadata()?;
            // The last holder took the file away: what was locked is not what the next one would find.
            if inode(&path).is_ok_and(|there| there == (locked.dev(), locked.ino())) {
                return Ok(Self { path, _held: held });
            }
        }
    }
}

/// Makes the folder where it is missing, open for others to enter, since app.sock is for them. One in which others may
/// write is refused: they could put a socket of their own there. So is, for a socket that is for all, one in which others may
/// write their own files: whoever is first there would be taken for the gateway.
fn make_folder(folder: &Path, is_for_all: bool) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let found = fs::metadata(folder)?;
    let (own, sticky) = (nix::unistd::geteuid().as_raw(), found.mode() & 0o1000 != 0 && !is_for_all);
    if (found.mode() & 0o022 != 0 && !sticky) || ![0, own].contains(&found.uid()) {
        let text = "others could put a socket of their own in its folder; name one that only you or root may write in";
        return Err(says(ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

fn taken() -> io::Error {
    says(ErrorKind::AddrInUse, "a gateway answers there already; end it, or name another path")
}

fn says(kind: ErrorKind, text: &str) -> io::Error {
    io::Error::new(kind, text)
}
