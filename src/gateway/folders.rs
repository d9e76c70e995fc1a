//! The folders of a gateway's sockets: made where they are missing, and open for those whom the sockets are for (T40). The
//! operator's socket guards itself by its mode.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::gateway::GatewayError;

/// Makes the folders of these sockets. One that is there, and that nobody but its owner may enter, is opened where it is ours
/// and holds nothing but sockets of ours: so an earlier version left it, or an administrator by habit.
///
/// # Errors
/// [`GatewayError::Control`]
pub fn prepare(sockets: &[PathBuf], user: Option<u32>) -> Result<(), GatewayError> {
    for socket in sockets {
        let failed = |source| GatewayError::Control { path: socket.clone(), source };
        if let Some(folder) = of(socket) {
            make(folder).map_err(failed)?;
            open(folder, sockets, user).map_err(failed)?;
        }
    }
    Ok(())
}

/// The folder of a socket, where it names one.
pub fn of(socket: &Path) -> Option<&Path> {
    socket.parent().filter(|folder| !folder.as_os_str().is_empty())
}

/// Whether there is nothing in a folder that could matter to anybody but the gateway: these sockets, their locks and what it
/// remembers beside them. A folder under [`RUN`] is one gateway's by its name.
///
/// # Errors
/// It cannot be read.
pub fn is_gateways_alone(folder: &Path, sockets: &[PathBuf]) -> io::Result<bool> {
    if folder.parent() == Some(Path::new(RUN)) {
        return Ok(true);
    }
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let is_of = |socket: &PathBuf| {
            let beside = |own: &Path| own.file_name() == Some(name.as_os_str());
            let remembered = REMEMBERED.map(|extension| socket.with_extension(extension));
            of(socket) == Some(folder)
                && (beside(socket) || beside(&lock_of(socket)) || remembered.iter().any(|path| beside(path)))
        };
        if !sockets.iter().any(is_of) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The lock of a socket.
pub fn lock_of(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// What stands in the way of whoever is to come to a socket: the first folder on the way that only its owner may enter.
pub fn closed_on_the_way_to(socket: &Path) -> Option<PathBuf> {
    let socket = fs::canonicalize(of(socket)?).ok()?;
    let is_closed = |folder: &&Path| fs::metadata(folder).is_ok_and(|found| found.mode() & 0o011 == 0);
    socket.ancestors().find(is_closed).map(Path::to_path_buf)
}

/// With all that is missing above it. Each can be entered by all, whatever files are made with by default.
fn make(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    folder.parent().map(make).transpose()?;
    match DirBuilder::new().create(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(FOR_ALL)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn open(folder: &Path, sockets: &[PathBuf], user: Option<u32>) -> io::Result<()> {
    let found = fs::metadata(folder)?;
    let own = nix::unistd::geteuid().as_raw();
    let is_ours = found.uid() == own || user == Some(found.uid());
    if found.mode() & 0o777 != 0o700 || !is_ours || !is_gateways_alone(folder, sockets)? {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(FOR_ALL))
}

/// Where gateways have a folder each.
pub const RUN: &str = "/run/latchway";

/// What is required of sockets, and outlives a gateway: the record of an app.sock, and the one that replaces it.
const REMEMBERED: [&str; 2] = ["requirements", "requirements.new"];

/// To enter and to look, and to write for the owner alone.
const FOR_ALL: u32 = 0o755;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// T40: what decides is what is found, not who made it: a start that failed half way, or an earlier version, left it closed.
    #[test]
    fn t40_folders_of_sockets_are_open_however_they_came_to_be() {
        let base = std::env::temp_dir().join(format!("latchway-folders-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let folder = base.join("run/gateway");
        let sockets = [folder.join("control.sock"), folder.join("app.sock")];
        let mode = |folder: &Path| fs::metadata(folder).unwrap().mode() & 0o777;
        let close = |folder: &Path| fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        let prepare = || prepare(&sockets, None).unwrap();

        prepare();
        assert!(folder.ancestors().take(3).all(|folder| mode(folder) == 0o755), "all that were made");
        assert_eq!(closed_on_the_way_to(&sockets[1]), None);
        close(&folder);
        assert_eq!(closed_on_the_way_to(&sockets[1]), Some(fs::canonicalize(&folder).unwrap()));
        File::create(lock_of(&sockets[0])).unwrap();
        File::create(&sockets[1]).unwrap();
        prepare();
        assert_eq!(mode(&folder), 0o755, "with what a gateway left there");
        // Of another file it is not known whom it is for.
        close(&folder);
        File::create(folder.join("key")).unwrap();
        prepare();
        assert_eq!(mode(&folder), 0o700);
        assert!(!is_gateways_alone(&folder, &sockets).unwrap());
        fs::remove_dir_all(&base).unwrap();
    }
}
