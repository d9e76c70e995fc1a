//! Reloads of a gateway in memory, by a real file, while its key manager stops.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use latchway_config::load;
use latchway_keying::{Change, ClassObserver, ClassRefused, PadEntryIds};
use latchway_netns::Namespace;
use latchway_tagging::{AuthMethod, Class, ClassId};

use crate::gateway::configuration::{Configuration, ReloadError};
use crate::gateway::prepared::Prepared;
use crate::gateway::state::testing::World;
use crate::gateway::{GatewayError, configured};

/// A folder with a configuration file, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn make(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("latchway-reload-{name}-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("gateway.toml")
    }

    /// Writes a file with an SA of each of these numbers, and a rule for so many networks.
    fn configure(&self, sas: &[u32], networks: u32) {
        let mut text = "name = \"here\"\nidentity = \"a.example\"\nlisten = [\"192.0.2.1:4500\"]\n\
             inner = { path = \"/proc/self/ns/net\" }\naddresses = [\"10.1.0.1/24\"]\n[tun]\nname = \"lw0\"\n\
             [[peer]]\nidentity = \"b.example\"\nendpoint = \"192.0.2.2:4500\"\ninner = [\"10.2.0.0/16\"]\n"
            .to_owned();
        for number in sas {
            for way in ["1", "2"] {
                let path = self.0.join(format!("{way}{number}.key"));
                let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
                writeln!(file.unwrap(), "{}", format!("{way}{number:03x}").repeat(32)).unwrap();
            }
            text += &format!(
                "[[peer.sa]]\ninbound = {{ spi = 0x1{number:03x}, key_file = \"1{number}.key\" }}\n\
                 outbound = {{ spi = 0x2{number:03x}, key_file = \"2{number}.key\" }}\n"
            );
        }
        for network in 0..networks {
            text += &format!(
                "[[policy]]\naction = \"protect\"\nlocal = [\"10.1.0.0/24\"]\nremote = [\"10.2.{network}.0/24\"]\n"
            );
        }
        fs::write(self.file(), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A gateway that runs by the file.
fn begun(world: &World, folder: &Folder) -> Configuration {
    let loaded = load(&folder.file()).unwrap();
    let (mut ids, client) = (PadEntryIds::default(), world.manager.client());
    let pad = Some(configured::pad(&loaded.config, &mut ids).unwrap());
    let rules = Some(configured::rules(&loaded.config, &mut ids).unwrap());
    client.change(Change { pad, rules, ..Change::default() }).unwrap().unwrap();
    let prepared = Prepared::open(&loaded.config, &Namespace::current().unwrap()).unwrap();
    let configuration = Configuration::new(&folder.file(), loaded, ids, (None, prepared, None), client);
    configuration.begin().unwrap();
    configuration
}

/// The SPIs by which the gateway receives.
fn spis(world: &World) -> Vec<u32> {
    let pairs = world.manager.client().pairs().unwrap();
    pairs.iter().filter(|pair| pair.drained_at.is_none()).map(|pair| pair.inbound.spi.get()).collect()
}

/// L-76, R-1: a reload during which the key manager stops is in force or not, and the next one goes by what is.
#[test]
fn a_reload_that_nobody_answered_is_found_out() {
    let (mut world, folder) = (World::new(), Folder::make("unanswered"));
    folder.configure(&[1, 2], 1);
    let configuration = begun(&world, &folder);
    folder.configure(&[2, 3], 2);
    // A worker that goes by nothing new keeps the change from coming into force.
    let mut worker = world.publisher.reader();
    worker.adopt();
    let before = world.publisher.newest();
    thread::scope(|scope| {
        let reload = scope.spawn(|| configuration.reload(false));
        while world.publisher.newest() == before {
            thread::yield_now();
        }
        world.manager.restart().unwrap();
        let error = reload.join().unwrap().unwrap_err();
        assert!(matches!(error, ReloadError::Gateway(GatewayError::Keying(_))), "{error}");
    });
    drop(worker);
    let again = configuration.reload(false).unwrap();
    assert!(again.changes.is_empty(), "it was in force: {:?}", again.changes);
    assert_eq!(spis(&world), [0x1002, 0x1003]);
    folder.configure(&[3, 4], 1);
    configuration.reload(false).unwrap();
    assert_eq!(spis(&world), [0x1003, 0x1004]);
    assert_eq!(world.manager.client().policy().unwrap().len(), 1);
}

/// A class observer that panics when it is told to.
#[derive(Default)]
struct Fragile(AtomicBool);

impl ClassObserver for Fragile {
    fn class_interned(&self, _: ClassId, _: &Class, _: AuthMethod) -> Result<(), ClassRefused> {
        assert!(!self.0.swap(false, Ordering::Relaxed), "the key manager ends here, on purpose");
        Ok(())
    }
}

/// The same where nothing of it came into force.
#[test]
fn a_reload_that_was_not_done_is_done_by_the_next() {
    let fragile = Arc::new(Fragile::default());
    let (mut world, folder) = (World::observed(|_| fragile.clone()), Folder::make("undone"));
    folder.configure(&[1, 2], 1);
    let configuration = begun(&world, &folder);
    folder.configure(&[2, 3], 2);
    let text = fs::read_to_string(folder.file()).unwrap();
    // That makes another class, of which somebody is told.
    fs::write(folder.file(), text.replace("\"23.key\" }\n", "\"23.key\" }\nreplay_window = \"off\"\n"))
        .unwrap();
    fragile.0.store(true, Ordering::Relaxed);
    let error = configuration.reload(false).unwrap_err();
    assert!(matches!(error, ReloadError::Gateway(GatewayError::Keying(_))), "{error}");
    configuration.reload(false).unwrap_err();
    world.manager.restart().unwrap();
    assert_eq!(spis(&world), [0x1001, 0x1002]);
    configuration.reload(false).unwrap();
    assert_eq!(spis(&world), [0x1002, 0x1003]);
    folder.configure(&[2, 4], 1);
    configuration.reload(false).unwrap();
    assert_eq!(spis(&world), [0x1002, 0x1004]);
}
