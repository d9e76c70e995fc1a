//! The user that a gateway becomes, from /etc/passwd: the name service would load code, and a static program has none.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::HardenError;
use crate::gateway::folders;

/// A user and its group.
#[derive(Debug)]
pub(super) struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// The user of this name, or of these numbers: `UID:GID`.
    pub(super) fn find(name: &str) -> Result<Self, HardenError> {
        if let Some((uid, gid)) = name.split_once(':').and_then(|(uid, gid)| numbers(uid, gid)) {
            return Ok(Self { name: name.to_owned(), uid, gid });
        }
        let missing = |reason: String| HardenError::Account { user: name.to_owned(), reason };
        let passwd = fs::read_to_string("/etc/passwd").map_err(|error| missing(error.to_string()))?;
        let line = passwd.lines().map(|line| line.split(':')).find(|line| line.clone().next() == Some(name));
        let mut fields = line.ok_or_else(|| missing("no line begins with that name".to_owned()))?.skip(2);
        let (uid, gid) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (uid, gid) = numbers(uid, gid).ok_or_else(|| missing("its line has no numbers".to_owned()))?;
        Ok(Self { name: name.to_owned(), uid, gid })
    }

    /// The user's number.
    pub(super) const fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Gives a folder to the user: the folder itself, and of what lies in it only the locks of these sockets, which a gateway
    /// of another user may have left. One that others may enter is given away only where there is nothing else in it, so not
    /// `/run`: whoever has a folder replaces what is in it.
    pub(super) fn own(&self, folder: &Path, sockets: &[PathBuf]) -> Result<(), HardenError> {
        let failed = |source: io::Error| HardenError::Folder { path: folder.into(), source };
        let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
        let opened = File::options().read(true).custom_flags(flags).open(folder).map_err(failed)?;
        let found = opened.metadata().map_err(failed)?;
        let alone = || folders::is_gateways_alone(folder, sockets).map_err(failed);
        let is_open = found.mode() & 0o077 != 0;
        if found.uid() != self.uid.as_raw() && is_open && (found.mode() & 0o022 != 0 || !alone()?) {
            return Err(HardenError::Shared { path: folder.into(), user: self.name.clone() });
        }
        let give =
            |file: &File| fchown(file, Some(self.uid.as_raw()), Some(self.gid.as_raw())).map_err(failed);
        for socket in sockets.iter().filter(|socket| folders::of(socket) == Some(folder)) {
            let lock = File::options().read(true).custom_flags(LOCK.bits()).open(folders::lock_of(socket));
            // A name of another file's would be no lock.
            let is_lock =
                |lock: &File| lock.metadata().is_ok_and(|found| found.is_file() && found.nlink() == 1);
            lock.ok().filter(is_lock).map(|lock| give(&lock)).transpose()?;
        }
        give(&opened)
    }

    /// Becomes the user, with its group and no other. Permitted capabilities stay, for now.
    pub(super) fn become_it(&self) -> Result<(), HardenError> {
        let switch = || {
            prctl::set_keepcaps(true)?;
            setgroups(&[])?;
            setgid(self.gid)?;
            setuid(self.uid)?;
            prctl::set_keepcaps(false)
        };
        switch().map_err(|source: Errno| HardenError::Become { user: self.name.clone(), source })
    }
}

/// What a gateway left is opened as what it is, and waited for by nobody.
const LOCK: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK);

fn numbers(uid: &str, gid: &str) -> Option<(Uid, Gid)> {
    Some((Uid::from_raw(uid.parse().ok()?), Gid::from_raw(gid.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn users_are_found_by_name_and_by_numbers() {
        let found = |name| Account::find(name).map(|account| (account.uid.as_raw(), account.gid.as_raw()));
        assert_eq!(found("root").unwrap(), (0, 0));
        assert_eq!(found("1234:56").unwrap(), (1234, 56));
        for missing in ["no-such-user-here", "", "1234:", ":", "root:", "-1:0", "4294967296:0"] {
            let error = found(missing).unwrap_err().to_string();
            assert!(error.contains("useradd"), "{missing}: {error}");
        }
    }

    /// T33: a control socket in a folder of the system's must not make that folder the gateway's.
    #[test]
    fn t33_a_folder_that_others_may_enter_is_not_given_away() {
        let folder = std::env::temp_dir().join(format!("latchway-account-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mode = |mode| std::fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
        let other = Account { name: "other".into(), uid: Uid::from_raw(64_321), gid: Gid::from_raw(64_321) };
        let socket = folder.join("control.sock");
        let is_refused = || {
            let outcome = other.own(&folder, std::slice::from_ref(&socket));
            matches!(outcome, Err(HardenError::Shared { .. }))
        };
        std::fs::write(folder.join("other"), "").unwrap();
        mode(0o755);
        assert!(is_refused());
        mode(0o700);
        assert!(!is_refused());
        // What another user's gateway left is no reason.
        std::fs::remove_file(folder.join("other")).unwrap();
        std::fs::write(folders::lock_of(&socket), "").unwrap();
        fchown(File::open(&folder).unwrap(), Some(0), None).unwrap_or_default();
        mode(0o755);
        assert!(!is_refused());
        fchown(File::open(&folder).unwrap(), Some(0), None).unwrap_or_default();
        mode(0o757);
        assert!(is_refused());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
