//! Where a gateway's description comes from. It holds keys for one run, so a file is gone once it is read.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use latchway_control::{GatewaySpec, MAX_MESSAGE};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::gateway::GatewayError;

/// Reads the description at `path`, or from standard input up to its end or a NUL octet.
pub fn read(path: &Path) -> Result<GatewaySpec, GatewayError> {
    let octets = if path == Path::new("-") { from_stdin() } else { from_file(path) };
    let octets = octets.map_err(|source| GatewayError::Read { path: path.into(), source })?;
    // Deleted before anything is sealed: a restart with the same keys would repeat sequence numbers (T12).
    if path != Path::new("-") {
        fs::remove_file(path).map_err(|source| GatewayError::NotDeleted { path: path.into(), source })?;
    }
    serde_json::from_slice(&octets).map_err(|source| GatewayError::Json { path: path.into(), source })
}

fn from_stdin() -> io::Result<Zeroizing<Vec<u8>>> {
    let mut octets = Zeroizing::new(Vec::with_capacity(64 * 1024));
    let mut limited = io::Read::take(io::stdin().lock(), MAX_MESSAGE);
    limited.read_until(0, &mut octets)?;
    if octets.last() == Some(&0) {
        octets.pop();
    }
    Ok(octets)
}

/// Only a file with one name and no other way to it is gone, with its keys, once that name is deleted (T12).
fn from_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Neither through a link nor waiting for a pipe's writer.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
        if error.raw_os_error() == Some(Errno::ELOOP as i32) { undeletable() } else { error }
    })?;
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() != 1 {
        return Err(undeletable());
    }
    if found.len() > MAX_MESSAGE {
        return Err(io::Error::other("it is larger than any description; is it the right file?"));
    }
    // Never moved while it grows, so that no copy is left behind.
    let mut octets = Zeroizing::new(Vec::with_capacity(MAX_MESSAGE as usize + 1));
    file.by_ref().take(MAX_MESSAGE).read_to_end(&mut octets)?;
    Ok(octets)
}

fn undeletable() -> io::Error {
    io::Error::other(
        "it is a link, has a second name or is no plain file, so that its keys would outlive its deletion; give the file \
         itself, or `-` and the description on standard input",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// T12: a second run must not find the keys of the first, under whatever name.
    #[test]
    fn t12_a_description_is_read_once_and_only_where_deleting_it_deletes_its_keys() {
        let folder = std::env::temp_dir().join(format!("latchway-source-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, soft, hard) = (folder.join("a.json"), folder.join("soft"), folder.join("hard"));
        fs::write(&file, "{}").unwrap();
        symlink(&file, &soft).unwrap();
        for (path, says) in
            [(&soft, "second name"), (&folder, "second name"), (&folder.join("none"), "No such")]
        {
            let error = read(path).err().unwrap().to_string();
            assert!(error.contains(says), "{path:?}: {error}");
        }
        fs::hard_link(&file, &hard).unwrap();
        for path in [&file, &hard] {
            assert!(matches!(read(path), Err(GatewayError::Read { .. })), "{path:?}");
            assert!(path.exists(), "what was not read stays");
        }
        fs::remove_file(&hard).unwrap();
        assert!(matches!(read(&file), Err(GatewayError::Json { .. })), "it was read");
        assert!(!file.exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
