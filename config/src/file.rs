//! A configuration from a file, with the keys that it refers to.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::keyring::{Keyring, read_keys};
use crate::model::{AppSocket, Config};
use crate::problem::Report;
use crate::read::{LONGEST, Parsed, parse_named};

/// A configuration with everything that it refers to.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration. Its paths are absolute, those of key files aside.
    pub config: Config,
    /// Its keys.
    pub keys: Keyring,
    /// What someone should know.
    pub warnings: Report,
    /// The folder that the file is in.
    pub folder: PathBuf,
}

/// Why a file gives no configuration.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}: {source}; name a file that you may read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is wrong, or its keys are.
    #[error("{}", .report.render(file).trim_end())]
    Wrong {
        /// The file, as it was named.
        file: String,
        /// What is wrong.
        report: Report,
    },
}

/// Reads a configuration and its keys. A gateway without a name is called like the file.
///
/// # Errors
/// [`LoadError`]
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let text = read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let wrong = |report| LoadError::Wrong { file: path.display().to_string(), report };
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let Parsed { mut config, warnings } = parse_named(&text, name).map_err(wrong)?;
    let path =
        std::path::absolute(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    if let Some(state) = &mut config.state {
        state.path = folder.join(&state.path);
    }
    config.control = config.control.map(|control| folder.join(control));
    if let AppSocket::At(app) = &mut config.app {
        *app = folder.join(&*app);
    }
    let keys = read_keys(&config, &folder).map_err(wrong)?;
    Ok(Loaded { config, keys, warnings, folder })
}

/// The text, without reading on where the file has no end.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
