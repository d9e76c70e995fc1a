//! `latchway keygen`: fresh keys in files that a configuration can name.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use latchway_esp::Suite;
use zeroize::Zeroizing;

/// What keys to make, and where.
#[derive(Debug, Args)]
pub struct Options {
    /// The suite that the keys are for.
    #[arg(long, default_value = DEFAULT_SUITE)]
    suite: String,
    /// The files to make, one key each: hexadecimal, readable by their owner alone. None may exist.
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
}

/// Why a key was not made.
#[derive(Debug, thiserror::Error)]
pub enum KeygenError {
    /// No suite has this name.
    #[error("{0:?} is no suite; use one of {names}", names = Suite::RECOMMENDED.map(Suite::name).join(", "))]
    Suite(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}; no key was made")]
    Random(getrandom::Error),
    /// The file cannot be made.
    #[error("cannot make {path}: {source}; a key is never written over a file that exists")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The suite of keys from files where a configuration names none.
const DEFAULT_SUITE: &str = "aes-256-cbc-hmac-sha-256";

/// Makes a key in each file.
///
/// # Errors
/// [`KeygenError`]; files made before stay.
pub fn run(options: &Options) -> Result<(), KeygenError> {
    let suite: Suite = options.suite.parse().map_err(|_| KeygenError::Suite(options.suite.clone()))?;
    for path in &options.files {
        let mut octets = Zeroizing::new(vec![0; suite.key_len() + suite.salt_len()]);
        getrandom::fill(&mut octets).map_err(KeygenError::Random)?;
        let mut text = Zeroizing::new(hex::encode(octets.as_slice()));
        text.push('\n');
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| KeygenError::Write { path: path.clone(), source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// T40: nobody else reads a key, and none is lost by being written over.
    #[test]
    fn t40_each_key_is_fresh_its_owners_alone_and_never_written_over() {
        let folder = std::env::temp_dir().join(format!("latchway-keygen-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let files = [folder.join("in.key"), folder.join("out.key")];
        let options = |suite: &str| Options { suite: suite.into(), files: files.to_vec() };
        for suite in Suite::RECOMMENDED {
            run(&options(suite.name())).unwrap();
            let keys = files.clone().map(|file| fs::read_to_string(file).unwrap());
            assert_ne!(keys[0], keys[1]);
            assert_eq!(hex::decode(keys[0].trim()).unwrap().len(), suite.key_len() + suite.salt_len());
            assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(matches!(run(&options(suite.name())), Err(KeygenError::Write { .. })));
            assert_eq!(fs::read_to_string(&files[0]).unwrap(), keys[0]);
            files.iter().for_each(|file| fs::remove_file(file).unwrap());
        }
        let error = run(&options("rot13")).err().unwrap().to_string();
        assert!(error.contains("aes-128-gcm"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
