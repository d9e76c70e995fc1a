//! States and policies as a script says them, in a gateway in memory, whose record is a real folder.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use latchway_control::call::{XfrmApplied, XfrmApply};
use latchway_keying::reservations::Reservations;
use latchway_xfrm::{Command, Family};

use crate::gateway::operator::Answer;
use crate::gateway::records::Records;
use crate::gateway::state::testing::World;

/// A folder for a record, gone at the end.
struct Folder(PathBuf);

/// One run of a gateway, with its record.
struct Life {
    world: World,
    records: Arc<Records>,
}

impl Folder {
    fn enrolled(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("latchway-xfrm-{name}-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        Reservations::create(&path).unwrap().close().unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Life {
    fn begin(folder: &Folder) -> Self {
        let (world, records) = (World::bare(), Arc::new(Records::open(&folder.0, |_| {}).unwrap()));
        world.state.xfrm().recorded_in(Arc::clone(&records));
        Self { world, records }
    }

    fn says(&self, lines: &[&str], ephemeral: bool) -> Answer<XfrmApplied> {
        said(&self.world, lines, ephemeral)
    }

    fn end(self) {
        drop(self.world);
        self.records.close().unwrap();
    }
}

/// These lines in one call.
fn said(world: &World, lines: &[&str], ephemeral: bool) -> Answer<XfrmApplied> {
    let step = |line: &&str| {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        match Command::read(&words, Family::Any) {
            Ok(Command::Apply(step)) => step,
            other => panic!("{line}: {other:?}"),
        }
    };
    let steps = lines.iter().map(step).collect();
    world.state.xfrm().apply(&XfrmApply { steps, ephemeral_keys: ephemeral, lines: Vec::new() })
}

/// A state from one end to the other, of a key of counter mode that is its SPI again and again.
fn gcm(from: u8, to: u8, spi: u32) -> String {
    let key = format!("{spi:08x}").repeat(5);
    format!(
        "state add src 192.0.2.{from} dst 192.0.2.{to} proto esp spi {spi} reqid 7 mode tunnel flag esn \
         aead rfc4106(gcm(aes)) 0x{key} 128"
    )
}

/// T12, RFC 8221 section 3: a key that is said to be fresh is so in one life of the gateway, whichever way it goes, and in no
/// other; nor is it put on record as one that nobody used.
#[test]
fn t12_a_key_is_fresh_in_one_life() {
    let folder = Folder::enrolled("fresh");
    let both = [gcm(1, 2, 0x1001), gcm(2, 1, 0x1002)];
    let life = Life::begin(&folder);
    life.says(&[&both[0], &both[1]], true).unwrap();
    life.says(&["state flush"], true).unwrap();
    life.end();
    for state in &both {
        for ephemeral in [true, false] {
            let life = Life::begin(&folder);
            let refused = life.says(&[state], ephemeral).unwrap_err().to_string();
            assert!(refused.contains("used before") && refused.contains("fresh key"), "{refused}");
            life.says(&[&gcm(1, 2, 0x2001)], false).unwrap();
            life.end();
        }
    }
}

/// T12: a key is bound to the record, or spent, when nothing else stands against it, and with all that came with it.
#[test]
fn t12_what_is_refused_binds_no_key() {
    let folder = Folder::enrolled("refused");
    let life = Life::begin(&folder);
    life.says(&[&gcm(1, 2, 0x1001)], false).unwrap();
    let taken = gcm(2, 1, 0x1002).replace("00001002", "00001001");
    for ephemeral in [false, true] {
        life.says(&[&gcm(2, 1, 0x2001), &gcm(2, 1, 0x2002), &taken], ephemeral).unwrap_err();
    }
    life.end();
    let life = Life::begin(&folder);
    life.says(&[&gcm(1, 2, 0x3001), &gcm(2, 1, 0x3002)], true).unwrap();
    life.says(&[&gcm(2, 1, 0x2001).replace("spi 8193", "spi 9000")], false).unwrap();
    life.says(&[&gcm(1, 2, 0x2002)], true).unwrap();
    life.end();
}
