//! The keys that a configuration refers to: read from files that nobody else may read, wiped when dropped, and shown by
//! nothing (T40).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::fs::OpenOptions;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use latchway_esp::Suite;
use nix::libc::O_NONBLOCK;
use nix::unistd::geteuid;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::model::{Config, KeyFile, SaDirection};
use crate::problem::{Problem, Report, Severity};

/// The keys of a configuration's SAs, no two the same.
#[derive(Default)]
pub struct Keyring {
    keys: HashMap<PathBuf, Key>,
}

/// Key material in the order in which [`latchway_esp::KeyMaterial`] takes it, of the length that its suite takes. Wiped
/// when dropped.
#[derive(PartialEq, Eq)]
pub struct Key(Zeroizing<Vec<u8>>);

/// Reads the keys that `config` refers to, by paths relative to `folder`.
///
/// # Errors
/// Every file that cannot be read, that others may read, that is no key of its SA, or that holds the key of another.
pub fn read_keys(config: &Config, folder: &Path) -> Result<Keyring, Report> {
    let mut problems = Vec::new();
    let mut owners = HashMap::<Key, &KeyFile>::new();
    for sa in config.peers.iter().flat_map(|peer| &peer.sas) {
        for (name, suite, direction) in sa.directions() {
            let file = &direction.key_file;
            let fault = match read_key(&folder.join(&file.path), suite).map(|key| owners.entry(key)) {
                Err(fault) => Some(fault),
                Ok(Entry::Vacant(slot)) => {
                    slot.insert(file);
                    None
                }
                Ok(Entry::Occupied(first)) => {
                    let KeyFile { path, at } = first.get();
                    Some(Fault::Twice { file: path.clone(), line: at.line })
                }
            };
            problems.extend(fault.map(|fault| fault.problem(name, file, suite)));
        }
    }
    if !problems.is_empty() {
        problems.sort_by_key(|problem: &Problem| problem.at);
        return Err(Report { problems });
    }
    Ok(Keyring { keys: owners.into_iter().map(|(key, file)| (file.path.clone(), key)).collect() })
}

impl Keyring {
    /// The key of an SA of the configuration that the keys were read for.
    #[must_use]
    pub fn key(&self, of: &SaDirection) -> Option<&Key> {
        self.keys.get(&of.key_file.path)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.keys.len()).finish()
    }
}

impl Key {
    /// The octets, to make an SA of.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_slice().hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Why a file gives no key. No text shows an octet of it.
#[derive(Debug, Error)]
enum Fault {
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    #[error("cannot be read: {0}")]
    Read(io::Error),
    #[error("is no regular file")]
    NotRegular,
    #[error("belongs to user {0}, who may read and change it")]
    Owner(u32),
    #[error("has mode {0:04o}: others may read or change it")]
    Mode(u32),
    #[error("is empty")]
    Empty,
    #[error("is in an armour of text")]
    Armoured,
    #[error("is no key in hexadecimal")]
    NotHexadecimal,
    #[error("has {got} octets, where {suite} takes {needed}")]
    Length { suite: Suite, needed: usize, got: String },
    #[error("holds the same key as {}, of line {line}", file.display())]
    Twice { file: PathBuf, line: usize },
}

impl Fault {
    fn problem(self, direction: &str, file: &KeyFile, suite: Suite) -> Problem {
        Problem {
            at: file.at,
            severity: Severity::Error,
            key: format!("peer.sa.{direction}.key_file"),
            message: format!("{} {self}", file.path.display()),
            hint: self.hint(suite),
        }
    }

    fn hint(&self, suite: Suite) -> String {
        match self {
            Self::Open(error) if error.kind() == io::ErrorKind::NotFound => {
                "make the key, or correct the name, which is relative to the folder of this file".into()
            }
            Self::Open(_) | Self::Read(_) => {
                "make it readable to the gateway's user, and to nobody else".into()
            }
            Self::NotRegular => "name a file that holds the key".into(),
            Self::Owner(_) => "give it to root or to the gateway's user: chown".into(),
            Self::Mode(_) => "take it from everybody else: chmod 600; whoever read it knows the key".into(),
            Self::Empty | Self::Armoured | Self::NotHexadecimal | Self::Length { .. } => {
                format!(
                    "write the key as hexadecimal digits, as `openssl rand -hex {}` does",
                    material(suite)
                )
            }
            Self::Twice { .. } => "give each direction of each SA a key of its own".into(),
        }
    }
}

fn read_key(path: &Path, suite: Suite) -> Result<Key, Fault> {
    let text = read_private(path)?;
    let text = text.strip_prefix(b"0x").unwrap_or(&text);
    if text.starts_with(b"-----") {
        return Err(Fault::Armoured);
    }
    // Programs that write hexadecimal break lines.
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    digits.extend(text.iter().filter(|octet| !octet.is_ascii_whitespace()));
    if digits.is_empty() {
        return Err(Fault::Empty);
    }
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Fault::NotHexadecimal);
    }
    let needed = material(suite);
    if digits.len() != 2 * needed {
        let half = if digits.len().is_multiple_of(2) { "" } else { " and a half" };
        return Err(Fault::Length { suite, needed, got: format!("{}{half}", digits.len() / 2) });
    }
    let mut octets = Zeroizing::new(vec![0; needed]);
    hex::decode_to_slice(digits.as_slice(), &mut octets).map_err(|_| Fault::NotHexadecimal)?;
    Ok(Key(octets))
}

/// Octets of key material.
const fn material(suite: Suite) -> usize {
    suite.key_len() + suite.salt_len()
}

/// The content of a file that nobody else can read or change. What is checked is what is opened.
fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, Fault> {
    // A pipe in the file's place would otherwise keep the gateway waiting.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(Fault::Open)?;
    let metadata = file.metadata().map_err(Fault::Read)?;
    if !metadata.is_file() {
        return Err(Fault::NotRegular);
    }
    guarded((metadata.uid(), metadata.mode()), geteuid().as_raw())?;
    // As long as it ever gets, so that no part of it stays behind in memory that was outgrown.
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    file.take(LONGEST as u64).read_to_end(&mut text).map_err(Fault::Read)?;
    Ok(text)
}

/// Whether nobody but `user` and root can read or change a file of this owner and mode.
const fn guarded((owner, mode): (u32, u32), user: u32) -> Result<(), Fault> {
    if owner != 0 && owner != user {
        return Err(Fault::Owner(owner));
    }
    if mode & OTHERS != 0 {
        return Err(Fault::Mode(mode & 0o7777));
    }
    Ok(())
}

/// What group and others may do.
const OTHERS: u32 = 0o077;
/// Of a file with a key: several times what any suite takes.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// T40.
    #[test]
    fn t40_a_key_file_is_its_owners_alone_and_the_owner_is_the_gateways_user_or_root() {
        for (owner, user) in [(0, 0), (0, 7), (7, 7)] {
            for mode in 0..=0o777 {
                assert_eq!(guarded((owner, 0o100_000 | mode), user).is_ok(), mode & 0o77 == 0, "{mode:o}");
            }
        }
        for (owner, user) in [(7, 0), (7, 8)] {
            let fault = guarded((owner, 0o600), user).unwrap_err();
            assert_eq!(fault.to_string(), "belongs to user 7, who may read and change it");
            assert!(fault.hint(Suite::AES_128_GCM).contains("chown"));
        }
    }
}
