//! Kernel settings of one namespace, through `/proc/sys`, which shows each thread the settings of its own namespace.

use std::{fs, path::PathBuf};

use crate::{Error, Namespace, Result};

/// Writes a setting, named with slashes as below `/proc/sys` (interface names may contain dots):
/// `net/ipv4/conf/all/forwarding`.
pub fn write(namespace: &Namespace, key: &str, value: &str) -> Result<()> {
    let file = path(key)?;
    namespace.run(|| fs::write(&file, value))?.map_err(|source| {
        Error::refused(format!("setting {key} to {value} in {}", namespace.label()), source)
    })
}

/// Reads a setting, without its trailing newline.
pub fn read(namespace: &Namespace, key: &str) -> Result<String> {
    let file = path(key)?;
    namespace
        .run(|| fs::read_to_string(&file))?
        .map(|value| value.trim_end().to_owned())
        .map_err(|source| Error::refused(format!("reading {key} in {}", namespace.label()), source))
}

fn path(key: &str) -> Result<PathBuf> {
    if key.starts_with("net/") && key.split('/').all(|part| !part.is_empty() && part != "." && part != "..") {
        return Ok(PathBuf::from("/proc/sys").join(key));
    }
    Err(Error::Malformed(format!("{key} does not name a setting of a network namespace (net/...)")))
}
