//! Keys of pairs, kept for who explicitly asks to be shown them (T40), such as for a dissector of captures. They go with the
//! lifetime of their SA, as the keys that are in use do.

use latchway_datapath::drop::Direction;
use latchway_datapath::sad::Path;
use latchway_esp::{SequenceKind, ShownKey, Spi};

use crate::install::{Keys, SaKeys};

/// The keys of a pair.
#[derive(Debug)]
pub(crate) struct Secrets {
    inbound: Vec<Secret>,
    outbound: Vec<Secret>,
}

#[derive(Clone, Debug)]
struct Secret {
    spi: Spi,
    sequence: SequenceKind,
    key: ShownKey,
}

/// One SA with its key.
#[derive(Clone, Debug)]
pub struct ShownSa {
    /// Which way its packets go.
    pub direction: Direction,
    /// Its SPI.
    pub spi: Spi,
    /// How wide its numbers are.
    pub sequence: SequenceKind,
    /// Between whom.
    pub path: Path,
    /// Its key, and its suite.
    pub key: ShownKey,
}

impl Secrets {
    pub(crate) fn of(keys: &Keys) -> Self {
        let header = keys.header.as_ref();
        let all = |own: &SaKeys, header: Option<&SaKeys>| {
            [Some(own), header].into_iter().flatten().map(Secret::of).collect()
        };
        Self {
            inbound: all(&keys.inbound, header.map(|header| &header.inbound)),
            outbound: all(&keys.outbound, header.map(|header| &header.outbound)),
        }
    }

    /// Lets go of the keys of one direction: its lifetime is over.
    pub(crate) fn forget(&mut self, direction: Direction) {
        match direction {
            Direction::Inbound => self.inbound.clear(),
            Direction::Outbound => self.outbound.clear(),
        }
    }

    /// The SAs with their keys.
    pub(crate) fn shown(&self, path: Path) -> impl Iterator<Item = ShownSa> {
        let directed = [(Direction::Inbound, &self.inbound), (Direction::Outbound, &self.outbound)];
        directed.into_iter().flat_map(move |(direction, secrets)| {
            secrets.iter().map(move |Secret { spi, sequence, key }| ShownSa {
                direction,
                spi: *spi,
                sequence: *sequence,
                path,
                key: key.clone(),
            })
        })
    }
}

impl Secret {
    fn of(keys: &SaKeys) -> Self {
        Self { spi: keys.spi, sequence: keys.sequence, key: keys.material.to_show() }
    }
}
