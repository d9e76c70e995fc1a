//! A real directory: who may use it, and what is found in it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use latchway_esp::SeqNum;

use super::gcm;
use crate::reservations::{Reservations, StoreError};

/// A place of this test's own, for as long as the test runs.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("latchway-numbers-{}-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("numbers")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn next(store: &mut Reservations) -> SeqNum {
    store.enrol_outbound(&gcm(256, 1)).unwrap().next
}

#[test]
fn a_store_is_made_once_and_found_again() {
    let scratch = Scratch::new("made");
    let mut store = Reservations::create(&scratch.store()).unwrap();
    assert_eq!(next(&mut store), SeqNum(1));
    let mode = |path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(scratch.store()), mode(scratch.store().join("reservations"))), (0o700, 0o600));
    drop(store);
    let mut store = Reservations::open(&scratch.store()).unwrap();
    assert_eq!(next(&mut store), SeqNum((1 << 20) + 1));
    store.close().unwrap();
    let names = fs::read_dir(scratch.store()).unwrap().count();
    assert_eq!(names, 1, "nothing but the file is left");
    let again = Reservations::create(&scratch.store()).unwrap_err();
    assert!(matches!(again, StoreError::Exists(_)) && again.to_string().contains("open it"), "{again}");
}

/// T12: never silently fresh.
#[test]
fn a_missing_store_is_an_error_that_says_what_to_do() {
    let scratch = Scratch::new("missing");
    for _ in 0..2 {
        let missing = Reservations::open(&scratch.store()).unwrap_err();
        assert!(matches!(missing, StoreError::Missing(_)), "{missing}");
        assert!(missing.to_string().contains("restore it or make fresh keys"), "{missing}");
        let _ = fs::create_dir(scratch.store());
        fs::set_permissions(scratch.store(), Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(fs::read_dir(scratch.store()).unwrap().count(), 0, "looking for it makes none");
    drop(Reservations::create(&scratch.store()).unwrap());
    drop(Reservations::open(&scratch.store()).unwrap());
}

/// T12.
#[test]
fn a_damaged_store_is_an_error_that_says_what_to_do() {
    let scratch = Scratch::new("damaged");
    next(&mut Reservations::create(&scratch.store()).unwrap());
    let file = scratch.store().join("reservations");
    let good = fs::read(&file).unwrap();
    for bad in
        [Vec::new(), good[..good.len() - 1].to_vec(), vec![0; good.len()], b"latchway\0\0\0\x02".to_vec()]
    {
        fs::write(&file, bad).unwrap();
        let damaged = Reservations::open(&scratch.store()).unwrap_err();
        assert!(matches!(damaged, StoreError::Damaged { .. }), "{damaged}");
        assert!(damaged.to_string().contains("make fresh keys and a new store"), "{damaged}");
        assert!(matches!(Reservations::create(&scratch.store()), Err(StoreError::Exists(_))));
    }
    fs::write(&file, good).unwrap();
    assert_eq!(next(&mut Reservations::open(&scratch.store()).unwrap()), SeqNum((1 << 20) + 1));
}

/// What is no file of a sane length is not read, and nothing waits for it.
#[test]
fn a_strange_file_is_refused() {
    let scratch = Scratch::new("strange");
    drop(Reservations::create(&scratch.store()).unwrap());
    let file = scratch.store().join("reservations");
    let io = |what: &str| {
        let refused = Reservations::open(&scratch.store()).map(drop);
        assert!(
            matches!(refused, Err(StoreError::Io { .. } | StoreError::Damaged { .. })),
            "{what}: {refused:?}"
        );
    };
    fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    io("a sparse giant");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    io("a directory");
    fs::remove_dir(&file).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    io("a symbolic link");
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    io("a pipe that nobody writes to");
}

#[test]
fn one_process_has_it_open() {
    let scratch = Scratch::new("locked");
    let store = Reservations::create(&scratch.store()).unwrap();
    for refused in [Reservations::open(&scratch.store()), Reservations::create(&scratch.store())] {
        let text = refused.err().unwrap().to_string();
        assert!(text.contains("in use by another process"), "{text}");
    }
    store.close().unwrap();
    drop(Reservations::open(&scratch.store()).unwrap());
}

/// T12: whoever can write there can put back what was.
#[test]
fn a_directory_that_others_can_enter_is_refused() {
    let scratch = Scratch::new("open");
    drop(Reservations::create(&scratch.store()).unwrap());
    for mode in [0o701, 0o710, 0o770, 0o777] {
        fs::set_permissions(scratch.store(), Permissions::from_mode(mode)).unwrap();
        let refused = Reservations::open(&scratch.store()).unwrap_err();
        assert!(
            matches!(refused, StoreError::OpenToOthers { mode: found, .. } if found == mode),
            "{refused}"
        );
        assert!(refused.to_string().contains("chmod 0700"), "{refused}");
    }
}

/// What a crash left of the next file is no obstacle.
#[test]
fn a_torn_next_file_is_written_anew() {
    let scratch = Scratch::new("torn");
    drop(Reservations::create(&scratch.store()).unwrap());
    fs::write(scratch.store().join("reservations.next"), b"latch").unwrap();
    assert_eq!(next(&mut Reservations::open(&scratch.store()).unwrap()), SeqNum(1));
    assert!(!scratch.store().join("reservations.next").exists());
}
