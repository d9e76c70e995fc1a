//! States and policies as a script says them, in a gateway in memory, whose record is a real folder.

use std::fs::{self, DirBuilder};
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use latchway_control::call::{XfrmApplied, XfrmApply};
use latchway_control::{Verdict, XfrmEventKind, XfrmStateRow};
use latchway_datapath::sad::Role;
use latchway_esp::{OutboundSa, SeqNum};
use latchway_keying::reservations::Reservations;
use latchway_xfrm::{Command, Family};
use serde_json::json;

use crate::gateway::operator::{Answer, Gateway};
use crate::gateway::records::Records;
use crate::gateway::state::testing::World;
use crate::gateway::xfrm::{Heard, Xfrm};

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

/// Asks for something that the key manager does, and stops before it answers.
fn interrupted(world: &mut World, lines: &[&str]) {
    // A worker that goes by nothing new keeps the answer from being given.
    let mut worker = world.publisher.reader();
    worker.adopt();
    let (before, state) = (world.publisher.newest(), Arc::clone(&world.state));
    thread::scope(|scope| {
        let asked = scope.spawn(|| said_to(state.xfrm(), lines, true));
        while world.publisher.newest() == before {
            thread::yield_now();
        }
        world.manager.restart().unwrap();
        let failure = asked.join().unwrap().unwrap_err().to_string();
        assert!(failure.contains("does not answer"), "{failure}");
    });
    drop(worker);
}

/// The SPIs of the states in the book, and how many SAs the key manager has.
fn held(world: &World) -> (Vec<u32>, usize) {
    let mut spis = Vec::new();
    let states = world.state.xfrm().states(false, &mut |row: XfrmStateRow| {
        spis.push(row.state.spi);
        ControlFlow::Continue(())
    });
    states.unwrap();
    (spis, world.manager.client().singles().unwrap().len())
}

/// The numbers of policies in the book and of rules in force.
fn policies(world: &World) -> (usize, usize) {
    let mut rows = 0;
    let counted = world.state.xfrm().policies(&mut |_| {
        rows += 1;
        ControlFlow::Continue(())
    });
    counted.unwrap();
    (rows, world.manager.client().policy().unwrap().len())
}

/// These lines in one call.
fn said(world: &World, lines: &[&str], ephemeral: bool) -> Answer<XfrmApplied> {
    said_to(world.state.xfrm(), lines, ephemeral)
}

fn said_to(xfrm: &Xfrm, lines: &[&str], ephemeral: bool) -> Answer<XfrmApplied> {
    let step = |line: &&str| {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        match Command::read(&words, Family::Any) {
            Ok(Command::Apply(step)) => step,
            other => panic!("{line}: {other:?}"),
        }
    };
    let steps = lines.iter().map(step).collect();
    xfrm.apply(&XfrmApply { steps, ephemeral_keys: ephemeral, lines: Vec::new() })
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

/// what was asked for when the key manager stopped was done or not; afterwards the book and what is in force say the same.
#[test]
fn after_a_stop_the_book_says_what_is_in_force() {
    let mut world = World::bare();
    let policy = |verb: &str, remote: u8| {
        format!(
            "policy {verb} src 10.1.0.0/24 dst 10.{remote}.0.0/24 dir out \
             tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 7 mode tunnel"
        )
    };
    let both = [gcm(1, 2, 0x1001), gcm(2, 1, 0x1002)];
    said(&world, &[&both[0], &both[1], &policy("add", 2)], true).unwrap();
    assert_eq!((held(&world), policies(&world)), ((vec![0x1002, 0x1001], 2), (1, 1)));
    let watching = world.state.xfrm().told().watch();

    // Nobody was told that they are there.
    interrupted(&mut world, &[&gcm(1, 2, 0x2001), &policy("add", 3)]);
    assert_eq!((held(&world), policies(&world)), ((vec![0x1002, 0x1001], 2), (1, 1)));
    interrupted(&mut world, &[&policy("add", 3)]);
    assert_eq!((held(&world), policies(&world)), ((vec![0x1002, 0x1001], 2), (1, 1)));
    said(&world, &[&gcm(1, 2, 0x2002), &policy("add", 3)], true).unwrap();
    assert_eq!((held(&world), policies(&world)), ((vec![0x2002, 0x1002, 0x1001], 3), (2, 2)));

    // What is said anew of one is taken back.
    interrupted(
        &mut world,
        &[&gcm(1, 2, 0x2002).replace("state add", "state update").replace(" aead", " noecn aead")],
    );
    let outers = |world: &World| -> Vec<_> {
        let sas = world.manager.client().single_sas().unwrap();
        sas.iter().map(|sa| sa.shape.outer.ecn).collect()
    };
    held(&world);
    assert!(outers(&world).windows(2).all(|two| two[0] == two[1]), "{:?}", outers(&world));

    // What is gone is gone, and whoever watches hears of it.
    interrupted(&mut world, &["state delete dst 192.0.2.1 proto esp spi 0x1002"]);
    assert_eq!(held(&world), (vec![0x2002, 0x1001], 2));
    let mut heard = std::iter::from_fn(|| match watching.next(Duration::from_secs(60)) {
        Heard::Event(event) => Some(event),
        other => panic!("{other:?}"),
    });
    let deleted = heard.find(|event| event.kind == XfrmEventKind::StateDeleted).unwrap();
    assert_eq!(deleted.state.unwrap().state.spi, 0x1002);
    said(&world, &["state flush", "policy flush"], true).unwrap();
    assert_eq!((held(&world), policies(&world)), ((vec![], 0), (0, 0)));
}

/// The SA that sends with this SPI, taken as a worker takes it.
fn sender(world: &World, spi: u32) -> OutboundSa {
    let mut reader = world.publisher.reader();
    let snapshot = reader.adopt().0.clone();
    let entry = snapshot.sad.iter().map(|slot| &slot.entry).find(|entry| entry.spi.get() == spi);
    match &entry.unwrap().role {
        Role::Outbound { sa, .. } => sa.take().unwrap(),
        Role::Inbound { .. } => panic!("{spi:#x} receives"),
    }
}

/// T12, RFC 4301 4.3: ESP whose numbers are on record, with AH around it, is placed again in another life of the gateway: it is a
/// bundle again, and its numbers go on.
#[test]
fn t12_rfc_4301_4_3_bundles_on_record_go_on_in_another_life() {
    let folder = Folder::enrolled("bundles");
    let ah = |from: u8, to: u8, spi: u32| {
        let key = format!("{spi:08x}").repeat(8);
        format!(
            "state add src 192.0.2.{from} dst 192.0.2.{to} proto ah spi {spi} reqid 8 mode transport flag esn \
             auth-trunc hmac(sha256) 0x{key} 128"
        )
    };
    let policy = |direction: &str, [src, dst]: [u8; 2]| {
        let ends = format!("src 192.0.2.{src} dst 192.0.2.{dst}");
        format!(
            "policy add src 10.{src}.0.0/24 dst 10.{dst}.0.0/24 dir {direction} \
             tmpl {ends} proto esp reqid 7 mode tunnel tmpl {ends} proto ah reqid 8 mode transport"
        )
    };
    let lines = [
        gcm(1, 2, 0x1001),
        gcm(2, 1, 0x1002),
        ah(1, 2, 0x1003),
        ah(2, 1, 0x1004),
        policy("out", [1, 2]),
        policy("in", [2, 1]),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for life_before in [0, 30, 60] {
        let life = Life::begin(&folder);
        life.says(&lines, false).unwrap();
        let sas = life.world.manager.client().single_sas().unwrap();
        assert_eq!(sas.len(), 2, "AH is shown with what it is around");
        assert!(sas.iter().all(|sa| sa.header.is_some() && sa.class.is_some()), "{sas:?}");
        let question = json!({
            "protocol": 17, "local": "10.1.0.1", "local_port": 5000, "remote": "10.2.0.1", "remote_port": 53
        });
        let explained = life.world.state.explain(&serde_json::from_value(question).unwrap()).unwrap();
        let sa = explained.sa.unwrap();
        assert_eq!((explained.verdict, sa.pair, sa.spi), (Verdict::Protect, None, 0x1001));
        assert!(explained.mtu.is_some_and(|mtu| (1300..1440).contains(&mtu)), "{:?}", explained.mtu);
        let mut sender = sender(&life.world, 0x1001);
        let number = sender.take(30).unwrap().next_seq().unwrap().number();
        assert_eq!(number, SeqNum(life_before + 1), "none twice, and none lost");
        drop(sender);
        life.end();
    }
}
