//! Where a gateway's description comes from. It holds keys for one run, so a file is gone once it is read.

use std::fs;
use std::io::{self, BufRead};
use std::path::Path;

use latchway_control::{GatewaySpec, MAX_MESSAGE};
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

fn from_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = fs::metadata(path)?.len();
    if size > MAX_MESSAGE {
        return Err(io::Error::other("it is larger than any description; is it the right file?"));
    }
    fs::read(path).map(Zeroizing::new)
}
