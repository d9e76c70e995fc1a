//! Namespaces with a name, kept the way ip-netns(8) keeps them: a bind mount on `/run/netns/NAME`.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use super::{Namespace, on_a_thread};
use crate::{Error, Links, Result};

/// Where a name is kept. A name is one path component.
pub(super) fn path(name: &str) -> Result<PathBuf> {
    if name.is_empty() || name.len() > LONGEST || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(Error::Malformed(format!(
            "{name:?} cannot name a network namespace: 1 to {LONGEST} characters without a slash"
        )));
    }
    Ok(Path::new(FOLDER).join(name))
}

/// What to do about one that is not there.
pub(super) fn advice(name: &str) -> String {
    if Path::new(FOLDER).is_dir() {
        format!("Make it: ip netns add {name}. Those there are: ip netns list.")
    } else {
        format!("There is no {FOLDER}: no namespace has a name here. Make it: ip netns add {name}.")
    }
}

/// Makes a namespace with its loopback interface up, and gives it a name that outlives this process.
pub(super) fn make(name: &str, label: &str) -> Result<Namespace> {
    let place = path(name)?;
    let refused = |source: io::Error| {
        let attempt = format!("making the network namespace {name} in {FOLDER}");
        Error::advised(attempt, source, "Making a named one takes root; an unnamed one may do.")
    };
    prepare_folder().map_err(refused)?;
    // O_EXCL: a name that somebody else is just making is theirs, and a symbolic link is not followed.
    OpenOptions::new().write(true).create_new(true).mode(0o444).open(&place).map_err(refused)?;
    let made = on_a_thread(label, || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some(THIS_THREAD), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok::<_, Errno>(Namespace::current_as(label))
    })?;
    match made {
        Ok(namespace) => {
            let namespace = namespace?;
            Links::of(&namespace)?.set_up("lo")?;
            Ok(namespace)
        }
        Err(errno) => {
            // The name leads nowhere; the reason why is the error to tell, not that it could not be taken away.
            let _ = fs::remove_file(&place);
            Err(refused(errno.into()))
        }
    }
}

/// Takes a name away, also one that no longer leads to a namespace.
pub(super) fn delete(name: &str) -> Result<()> {
    let place = path(name)?;
    let refused =
        |source: io::Error| Error::refused(format!("deleting the network namespace {name}"), source);
    match umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: nothing is mounted there, as after a crash between making the file and mounting on it.
        Ok(()) | Err(Errno::EINVAL) => fs::remove_file(&place).map_err(refused),
        Err(errno) => Err(refused(errno.into())),
    }
}

/// Makes the folder, and lets mounts in it be seen in other mount namespaces, as ip-netns(8) does: so that a name
/// deleted here does not keep its namespace alive there.
fn prepare_folder() -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(FOLDER) {
        Ok(()) => fs::set_permissions(FOLDER, Permissions::from_mode(0o755))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    match share() {
        // Not a mount point yet: becomes one, by a mount of itself.
        Err(Errno::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(FOLDER), FOLDER, Some("none"), flags, None::<&str>)?;
            share()?;
        }
        shared => shared?,
    }
    Ok(())
}

fn share() -> nix::Result<()> {
    let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
    mount(Some(""), FOLDER, Some("none"), flags, None::<&str>)
}

const FOLDER: &str = "/run/netns";
const THIS_THREAD: &str = "/proc/thread-self/ns/net";
const LONGEST: usize = 255;
