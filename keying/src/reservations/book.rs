//! What is in the file: the store's secret, one record for each key, and the keys that were used without one, with a
//! version and a checksum.
//!
//! All integers are big-endian: `latchway`, version (4), secret (32), number of records (4); of each record fingerprint
//! (32), role (1), SPI (4), number (8); number of keys that were used without a record (4), and of each the beginning of
//! its fingerprint (16); SHA-256 of all that (32). In version 1 there were none of those.

use std::collections::{BTreeSet, HashSet};

use latchway_esp::{SeqNum, Spi};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Everything the file says.
pub(super) struct Book {
    /// What fingerprints are made with.
    pub secret: Zeroizing<[u8; 32]>,
    /// One for each key.
    pub records: Vec<Record>,
    /// Keys that were used with numbers that are not on record.
    pub unrecorded: BTreeSet<Unrecorded>,
}

/// What is known of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub fingerprint: Fingerprint,
    pub role: Role,
    pub spi: Spi,
    /// Outbound: every number up to it may have been taken. Inbound: every number up to it may have been received.
    pub seq: SeqNum,
}

/// By what the store knows a key again: of suite, key and salt, under the store's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint(pub [u8; 32]);

/// By what it knows a key again of which it keeps no numbers: the beginning of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unrecorded([u8; 16]);

/// Which direction of an SA a key serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What we receive.
    Inbound,
    /// What we send.
    Outbound,
}

/// Why octets are no book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It is shorter or longer than it says.
    #[error("it is cut off, or something is behind it")]
    Length,
    /// It does not begin as a store does.
    #[error("it is no store of numbers")]
    Magic,
    /// Another Latchway wrote it.
    #[error("it has version {0}, and this program reads versions up to {VERSION}")]
    Version(u32),
    /// It was changed, or only part of it was written.
    #[error("its checksum does not match")]
    Checksum,
    /// What it says cannot be.
    #[error("a record contradicts itself or another")]
    Record,
}

impl Book {
    /// As many keys as a store remembers, some 3 MiB.
    pub const MOST_RECORDS: usize = 1 << 16;
    /// As many more as it remembers without numbers, 4 MiB.
    pub const MOST_UNRECORDED: usize = 1 << 18;
    /// As long as a file may be.
    pub const LONGEST: usize =
        FRAME_LEN + Self::MOST_RECORDS * RECORD_LEN + Self::MOST_UNRECORDED * UNRECORDED_LEN;

    /// The file's octets.
    pub fn encode<'r>(
        secret: &[u8; 32],
        records: impl ExactSizeIterator<Item = &'r Record>,
        unrecorded: &BTreeSet<Unrecorded>,
    ) -> Zeroizing<Vec<u8>> {
        let len = FRAME_LEN + records.len() * RECORD_LEN + unrecorded.len() * UNRECORDED_LEN;
        // Of its full length at once, so that no copy of the secret is left behind in memory.
        let mut octets = Zeroizing::new(Vec::with_capacity(len));
        octets.extend_from_slice(MAGIC);
        octets.extend_from_slice(&VERSION.to_be_bytes());
        octets.extend_from_slice(secret);
        // There are never more than `MOST_RECORDS`.
        octets.extend_from_slice(&u32::try_from(records.len()).unwrap_or(u32::MAX).to_be_bytes());
        for Record { fingerprint, role, spi, seq } in records {
            octets.extend_from_slice(&fingerprint.0);
            octets.push(role.octet());
            octets.extend_from_slice(&spi.get().to_be_bytes());
            octets.extend_from_slice(&seq.0.to_be_bytes());
        }
        octets.extend_from_slice(&u32::try_from(unrecorded.len()).unwrap_or(u32::MAX).to_be_bytes());
        unrecorded.iter().for_each(|key| octets.extend_from_slice(&key.0));
        let checksum = Sha256::digest(&*octets);
        octets.extend_from_slice(&checksum);
        octets
    }

    /// Reads the file's octets.
    pub fn decode(octets: &[u8]) -> Result<Self, Damage> {
        let (magic, rest) = octets.split_first_chunk().ok_or(Damage::Length)?;
        if magic != MAGIC {
            return Err(Damage::Magic);
        }
        let (version, _) = rest.split_first_chunk().ok_or(Damage::Length)?;
        let version = u32::from_be_bytes(*version);
        if !(FIRST_VERSION..=VERSION).contains(&version) {
            return Err(Damage::Version(version));
        }
        let (covered, checksum) = octets.split_last_chunk::<32>().ok_or(Damage::Length)?;
        if Sha256::digest(covered)[..] != checksum[..] {
            return Err(Damage::Checksum);
        }
        let (_, rest) = covered.split_at_checked(MAGIC.len() + size_of::<u32>()).ok_or(Damage::Length)?;
        let (secret, rest) = rest.split_first_chunk().ok_or(Damage::Length)?;
        let (count, rest) = rest.split_first_chunk().ok_or(Damage::Length)?;
        let (records, rest) = listed::<RECORD_LEN>(*count, rest)?;
        let (unrecorded, rest) = match rest.split_first_chunk() {
            Some((count, rest)) if version > FIRST_VERSION => listed::<UNRECORDED_LEN>(*count, rest)?,
            None if version == FIRST_VERSION => (&[][..], rest),
            _ => return Err(Damage::Length),
        };
        if !rest.is_empty() {
            return Err(Damage::Length);
        }
        let records = records.iter().map(Record::decode).collect::<Option<Vec<_>>>();
        let records = records.ok_or(Damage::Record)?;
        // Of two that speak of one key, which one is right nobody can tell.
        let mut seen = HashSet::with_capacity(records.len());
        if !records.iter().all(|record| seen.insert(record.fingerprint.0)) {
            return Err(Damage::Record);
        }
        let unrecorded = unrecorded.iter().copied().map(Unrecorded).collect();
        Ok(Self { secret: Zeroizing::new(*secret), records, unrecorded })
    }
}

/// So many elements from the beginning, and the rest.
fn listed<const LEN: usize>(count: [u8; 4], octets: &[u8]) -> Result<(&[[u8; LEN]], &[u8]), Damage> {
    let len = (u32::from_be_bytes(count) as usize).checked_mul(LEN).ok_or(Damage::Length)?;
    let (elements, rest) = octets.split_at_checked(len).ok_or(Damage::Length)?;
    let (elements, _) = elements.as_chunks();
    Ok((elements, rest))
}

impl Fingerprint {
    /// Its beginning.
    pub const fn short(&self) -> Unrecorded {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = self.0;
        Unrecorded([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }
}

impl Record {
    fn decode(octets: &[u8; RECORD_LEN]) -> Option<Self> {
        let (fingerprint, rest) = octets.split_first_chunk()?;
        let (&role, rest) = rest.split_first()?;
        let (spi, rest) = rest.split_first_chunk()?;
        let seq = rest.first_chunk()?;
        Some(Self {
            fingerprint: Fingerprint(*fingerprint),
            role: Role::of(role)?,
            spi: Spi::new(u32::from_be_bytes(*spi))?,
            seq: SeqNum(u64::from_be_bytes(*seq)),
        })
    }
}

impl Role {
    const fn octet(self) -> u8 {
        match self {
            Self::Inbound => 1,
            Self::Outbound => 2,
        }
    }

    const fn of(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Inbound),
            2 => Some(Self::Outbound),
            _ => None,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        })
    }
}

const MAGIC: &[u8; 8] = b"latchway";
const VERSION: u32 = 2;
const FIRST_VERSION: u32 = 1;
const RECORD_LEN: usize = 32 + 1 + 4 + 8;
const UNRECORDED_LEN: usize = 16;
/// Everything but the two lists.
const FRAME_LEN: usize = MAGIC.len() + 4 + 32 + 4 + 4 + 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(octet: u8, role: Role, seq: u64) -> Record {
        let spi = Spi::new(256 + u32::from(octet)).unwrap();
        Record { fingerprint: Fingerprint([octet; 32]), role, spi, seq: SeqNum(seq) }
    }

    fn book() -> Zeroizing<Vec<u8>> {
        let records = [record(1, Role::Outbound, 1 << 20), record(2, Role::Inbound, u64::MAX)];
        Book::encode(&[7; 32], records.iter(), &unrecorded())
    }

    fn unrecorded() -> BTreeSet<Unrecorded> {
        [3, 4].map(|octet| Fingerprint([octet; 32]).short()).into()
    }

    fn summed(covered: &[u8]) -> Vec<u8> {
        [covered, &Sha256::digest(covered)[..]].concat()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let read = Book::decode(&book()).unwrap();
        assert_eq!(*read.secret, [7; 32]);
        assert_eq!(read.records, [record(1, Role::Outbound, 1 << 20), record(2, Role::Inbound, u64::MAX)]);
        assert_eq!(read.unrecorded, unrecorded());
        assert!(
            Book::decode(&Book::encode(&[7; 32], [].iter(), &BTreeSet::new())).unwrap().records.is_empty()
        );
        assert_eq!(Book::encode(&[7; 32], [].iter(), &BTreeSet::new()).len(), FRAME_LEN);
    }

    /// T12: what a gateway of before wrote is not lost.
    #[test]
    fn the_first_version_is_read() {
        let octets = Book::encode(&[7; 32], [record(1, Role::Outbound, 5)].iter(), &BTreeSet::new());
        let mut first = octets[..octets.len() - 32 - 4].to_vec();
        first[11] = 1;
        let read = Book::decode(&summed(&first)).unwrap();
        assert_eq!(read.records, [record(1, Role::Outbound, 5)]);
        assert!(read.unrecorded.is_empty());
        first.extend([0; 4]);
        assert_eq!(Book::decode(&summed(&first)).err(), Some(Damage::Length));
    }

    /// T12: a torn or damaged store is never taken for a good one, nor for an empty one.
    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let good = book();
        for cut in 0..good.len() {
            assert!(Book::decode(&good[..cut]).is_err(), "{cut}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Book::decode(&bad).is_err(), "{bit}");
        }
        assert!(Book::decode(&[&good[..], &[0]].concat()).is_err());
    }

    /// T12: the lower of two numbers for one key would come again.
    #[test]
    fn two_records_of_one_key_contradict_each_other() {
        let records = [record(1, Role::Outbound, 1 << 20), record(1, Role::Outbound, 1)];
        assert_eq!(
            Book::decode(&Book::encode(&[7; 32], records.iter(), &BTreeSet::new())).err(),
            Some(Damage::Record)
        );
    }

    #[test]
    fn damage_is_called_by_its_name() {
        let resummed = |at: usize, octet: u8| {
            let mut octets = book().to_vec();
            octets[at] = octet;
            let end = octets.len() - 32;
            Book::decode(&summed(&octets[..end])).err()
        };
        assert_eq!(Book::decode(b"").err(), Some(Damage::Length));
        assert_eq!(resummed(0, b'L'), Some(Damage::Magic));
        assert_eq!(resummed(11, 3), Some(Damage::Version(3)));
        assert_eq!(resummed(47, 3), Some(Damage::Length), "one record more than there are");
        assert_eq!(resummed(48 + 32, 3), Some(Damage::Record), "no such role");
        assert_eq!(resummed(48 + 32, 1), None);
        let mut flipped = book().to_vec();
        flipped[20] ^= 1;
        assert_eq!(Book::decode(&flipped).err(), Some(Damage::Checksum));
    }
}
