//! Why numbers are not reserved; the texts say what to do.

use std::io;
use std::path::PathBuf;

use latchway_esp::Spi;
use thiserror::Error;

use super::book::{Damage, Role};

/// The store cannot be made, opened or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Making one again would begin at number 1 under keys that were used.
    #[error(
        "{} holds a store of numbers already: open it, for a fresh one would repeat the numbers of every key in it",
        .0.display()
    )]
    Exists(PathBuf),
    /// There is none, and none is made silently.
    #[error(
        "{} holds no store of numbers: make one by `latchway enrol` if none of the keys was used before; where there was one, restore it or \
         make fresh keys, since numbers would repeat under the old ones",
        .0.display()
    )]
    Missing(PathBuf),
    /// There is one that cannot be relied on.
    #[error(
        "the store of numbers in {} is damaged: {damage}; make fresh keys and a new store in another directory, since what \
         the old keys sent is not known any more",
        folder.display()
    )]
    Damaged {
        /// Where it is.
        folder: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// Another process has it open, or this one has.
    #[error("{} is in use by another process: end that first, or use another directory and other keys", .0.display())]
    Locked(PathBuf),
    /// Somebody else could put back an older store.
    #[error(
        "{} has mode {mode:04o} or another owner: make it the gateway's own, with chown and chmod 0700",
        folder.display()
    )]
    OpenToOthers {
        /// Where it is.
        folder: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The disk refused.
    #[error(
        "cannot {attempt} the store of numbers in {}: {source}; free space or make the disk writable, for SAs with keys \
         from it stop sending when the numbers they have are used up, and go on when it works again",
        folder.display()
    )]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// Where.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store needs a secret of its own.
    #[error("the system gives no random numbers ({0}); no store was made")]
    NoRandomness(getrandom::Error),
}

/// A key that may not be used so.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// Both ends of a direction would seal under it.
    #[error(
        "the key of SPI {spi} serves {role} SPI {first}: make a fresh key for each direction of each SA, since nonces would \
         repeat under it"
    )]
    OtherDirection {
        /// The SPI it was to serve.
        spi: Spi,
        /// The direction it serves.
        role: Role,
        /// The SPI it serves.
        first: Spi,
    },
    /// Two SAs would count under it, each from its own number.
    #[error(
        "the key of SPI {spi} serves SPI {first}: make a fresh key for each SA, since nonces would repeat under it"
    )]
    OtherSpi {
        /// The SPI it was to serve.
        spi: Spi,
        /// The SPI it serves.
        first: Spi,
    },
    /// Its SA still exists.
    #[error("the key of SPI {0} is in use: remove the SA that has it, and try again a moment later")]
    InUse(Spi),
    /// RFC 4303 section 3.3.3.
    #[error("every sequence number of the key of SPI {0} was used or reserved: make a fresh key")]
    Spent(Spi),
    /// It was used, and up to which number nobody knows.
    #[error(
        "the key of SPI {0} was used before, with numbers that are not on record: make a fresh key, since nonces would repeat \
         under it"
    )]
    Unrecorded(Spi),
    /// It is said to be fresh, and its numbers are on record.
    #[error(
        "the key of SPI {0} is on record in the state folder, so it was used before and is not fresh: make a new key; or leave \
         --ephemeral-keys out, and its numbers go on where the record says"
    )]
    Recorded(Spi),
    /// Keys are remembered for good, and there is no room for another.
    #[error(
        "the store remembers {0} keys and takes no more: make a new store in another directory, with fresh keys"
    )]
    Full(usize),
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which of several keys may not be used so.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct EnrolFault {
    /// Its place; `None` where it is no single one's fault.
    pub place: Option<usize>,
    /// Why.
    pub error: EnrolError,
}
