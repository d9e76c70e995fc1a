//! What the store asks of a disk: to read one file, and to replace it so that a crash leaves the old one or the new one.

use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::error::StoreError;

/// A folder with one file in it, and at times with the next one beside it.
pub(super) trait Disk {
    /// Where it is.
    fn folder(&self) -> &Path;

    /// What the file says, if there is one.
    fn read_file(&mut self) -> io::Result<Option<Zeroizing<Vec<u8>>>>;

    /// Writes the next file, from its beginning, whatever was left of one.
    fn write_next(&mut self, octets: &[u8]) -> io::Result<()>;

    /// Returns once the next file's octets would survive a loss of power.
    fn sync_next(&mut self) -> io::Result<()>;

    /// Makes the next file the file.
    fn rename_next(&mut self) -> io::Result<()>;

    /// Returns once the renaming would survive a loss of power.
    fn sync_folder(&mut self) -> io::Result<()>;
}

impl dyn Disk + Send {
    /// What the file says, if there is one.
    pub(super) fn read(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.read_file().map_err(|source| self.failed("read", source))
    }

    /// Makes `octets` what the file says, for good. Where it fails the file says what it said, or `octets`.
    pub(super) fn store(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        // The order is what it is about: octets before the name that leads to them, and both before anyone relies on them.
        self.write_next(octets)
            .and_then(|()| self.sync_next())
            .and_then(|()| self.rename_next())
            .and_then(|()| self.sync_folder())
            .map_err(|source| self.failed("write", source))
    }

    fn failed(&self, attempt: &'static str, source: io::Error) -> StoreError {
        StoreError::Io { attempt, folder: self.folder().to_owned(), source }
    }
}
