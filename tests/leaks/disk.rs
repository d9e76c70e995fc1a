//! A disk below the state directory that is full, or may not be written: the gateway answers and says so, starts no SA whose
//! numbers it cannot record, and goes on when it can write again (T11, T12).

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use latchway_netns::testing::in_private_run;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::gateway::Folder;
use crate::site::{Mode, Side, Site, Terms, enrol};
use crate::{eventually, scenario};

/// T12: until the last octet is taken, and given back.
#[test]
fn t12_a_full_disk_is_told_and_gone_on_from() {
    scenario("disk::t12_a_full_disk_is_told_and_gone_on_from", || {
        let fill = |disk: &Path| {
            let full = fs::write(disk.join("filler"), vec![0; DISK]).unwrap_err();
            assert_eq!(full.kind(), ErrorKind::StorageFull);
        };
        in_private_run(|| goes_on(fill, |disk| fs::remove_file(disk.join("filler")).unwrap()));
    });
}

/// T12: and so where the disk is set read-only, as file systems do by themselves after errors.
#[test]
fn t12_a_read_only_disk_is_told_and_gone_on_from() {
    scenario("disk::t12_a_read_only_disk_is_told_and_gone_on_from", || {
        in_private_run(|| {
            goes_on(|disk| remount(disk, MsFlags::MS_RDONLY), |disk| remount(disk, MsFlags::empty()))
        });
    });
}

/// A gateway whose disk fails under it, and is well again; and fails again before it starts.
fn goes_on(fail: impl Fn(&Path), mend: impl Fn(&Path)) {
    let folder = Folder::make();
    let disk = folder.join(&Side::A.number().to_string());
    fs::create_dir(&disk).unwrap();
    let options = format!("size={DISK},mode=0700");
    mount(Some("none"), &disk, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
    enrol(&disk);
    enrol(&folder.join(&Side::B.number().to_string()));
    let mut site = Site::start(Mode::Alone, &Terms::enrolled(folder.as_ref()));
    fail(&disk);
    eventually("the gateway says that numbers cannot be recorded", || failing(&site));
    site.passes();
    mend(&disk);
    eventually("the gateway says that they can", || !failing(&site));
    fail(&disk);
    site.a.end_by(Signal::SIGKILL);
    let complaint = site.a.refused();
    assert!(complaint.contains(&disk.display().to_string()), "{complaint}");
    site.holds_out();
    mend(&disk);
    site.a.start();
    site.passes();
    site.nothing_leaked();
}

/// Whether `status` says that numbers cannot be recorded.
fn failing(site: &Site) -> bool {
    let status = site.a.shown("status");
    status.pointer("/state/healthy").and_then(Value::as_bool) == Some(false)
}

fn remount(disk: &Path, flags: MsFlags) {
    mount(None::<&str>, disk, None::<&str>, flags | MsFlags::MS_REMOUNT, None::<&str>).unwrap();
}

/// Octets of the disk: a few pages.
const DISK: usize = 64 << 10;
