//! `latchway check`, and how a gateway refuses what it finds.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use latchway_netns::{Links, Namespace, testing};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::gateway::{Folder, Gateway, PROGRAM};
use crate::site::{Side, Terms, key};
use crate::{scenario, schema};

/// Each kind of problem is named with its place and a remedy, in text and in JSON; nothing of the system is touched.
#[test]
fn every_problem_has_its_place_and_a_hint_and_nothing_is_touched() {
    scenario("checked::every_problem_has_its_place_and_a_hint_and_nothing_is_touched", || {
        testing::in_private_run(|| {
            let (folder, place) = (Folder::make(), Namespace::create("checked").unwrap());
            let gateway = prepared(&folder, &place);
            let good = Terms::default().text(Side::A, &place);
            assert_eq!(problems(&gateway, &good).0, Some(0));
            for (from, to, at) in [
                ("[tun]", "unheard_of = 1\n[tun]", "unheard_of"),
                ("identity = \"1.example\"", "identity = 7", "7"),
                ("\"10.1.0.1/24\"", "\"10.1.0.1/33\"", "\"10.1.0.1/33\""),
                ("[\"10.2.0.0/24\"]", "[\"10.1.0.0/16\"]", "\"10.1.0.0/16\""),
                ("spi = 0x2001", "spi = 255", "255"),
                ("\"192.0.2.2:4500\"", "\"192.0.2.2:70000\"", "\"192.0.2.2:70000\""),
                ("[[peer.sa]]", "[[peer.sa]]\nsuite = \"rot13\"", "\"rot13\""),
                ("[[peer.sa]]", "[[peer.sa]]\nsuite = \"aes-256-gcm\"", "\"aes-256-gcm\""),
                ("[[peer.sa]]", "[[peer.sa]]\nreplay_window = 7", "7"),
                ("[[peer.sa]]", "[[peer.sa]]\nsoft = { packets = 5 }\nhard = { packets = 5 }", ""),
                ("\"21.key\"", "\"11.key\"", ""),
                ("name = \"lw0\"", "name = \"a-name-that-is-too-long\"", "\"a-name-that-is-too-long\""),
                ("name = \"gateway1\"", "name = \"../gateway1\"", "\"../gateway1\""),
            ] {
                let text = good.replacen(from, to, 1);
                assert_ne!(text, good, "{from}");
                let (code, checked) = problems(&gateway, &text);
                assert_eq!(code, Some(1), "{to}: {checked}");
                let errors: Vec<&Value> = checked["problems"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|row| row["severity"] == "error")
                    .collect();
                assert!(!errors.is_empty(), "{to}");
                for error in &errors {
                    assert!(!error["hint"].as_str().unwrap().is_empty(), "{to}: {error}");
                }
                if !at.is_empty() {
                    let wanted = place_of(&text, to, at);
                    let is = |row: &&&Value| row["line"] == wanted.0 && row["column"] == wanted.1;
                    assert!(errors.iter().any(|row| is(&row)), "{to}: {wanted:?} is not among {errors:?}");
                }
            }
            assert_eq!(problems(&gateway, "identity = \n").0, Some(1));
            let names: Vec<String> =
                Links::of(&place).unwrap().all().unwrap().into_iter().map(|link| link.name).collect();
            assert_eq!(names, ["lo"], "a link was made");
            assert_eq!(fs::read_dir("/run").unwrap().count(), 0, "something was made in /run");
        });
    });
}

/// A key file that is wrong, in whichever way, is refused by `check` and by a start, with the same words, at once, and
/// nothing of it is shown (T40).
#[test]
fn t40_key_files_that_are_wrong_in_every_way_are_refused() {
    scenario("checked::t40_key_files_that_are_wrong_in_every_way_are_refused", || {
        let (folder, place) = (Folder::make(), Namespace::create("keys").unwrap());
        let gateway = prepared(&folder, &place);
        let text = Terms::default().text(Side::A, &place);
        let path = gateway.folder().join("21.key");
        let write = |text: &str| gateway.write("21.key", text);
        let whole = key(2, 1);
        let ways: [(&str, &dyn Fn()); 10] = [
            ("missing", &|| {}),
            ("readable by others", &|| {
                write(&whole);
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            }),
            ("too short", &|| write(&whole[..62])),
            ("too long", &|| write(&format!("{whole}00"))),
            ("odd", &|| write(&whole[1..])),
            ("not hexadecimal", &|| write(&whole.replace('c', "x"))),
            ("empty", &|| write("")),
            ("a directory", &|| fs::create_dir(&path).unwrap()),
            ("a pipe without a writer", &|| mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap()),
            ("a link to nothing", &|| symlink("nothing", &path).unwrap()),
        ];
        for (way, make) in ways {
            remove(&path);
            make();
            let (code, checked) = problems(&gateway, &text);
            assert_eq!(code, Some(1), "{way}: {checked}");
            let found = &checked["problems"].as_array().unwrap()[..];
            let error = found.iter().find(|row| row["severity"] == "error").unwrap();
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("21.key"), "{way}: {message}");
            assert!(!error["hint"].as_str().unwrap().is_empty(), "{way}");
            let refused = gateway.refused();
            assert!(refused.contains(message), "{way}: {message} is not in: {refused}");
            assert!(!refused.contains(&whole[4..20]), "{way}: {refused}");
        }
        remove(&path);
        write(&whole);
        assert_eq!(problems(&gateway, &text).0, Some(0));
    });
}

/// A gateway with both keys, and no configuration yet.
fn prepared(folder: &Folder, place: &Namespace) -> Gateway {
    let gateway = Gateway::new(place, folder.join("a"));
    gateway.write("11.key", &key(1, 1));
    gateway.write("21.key", &key(2, 1));
    gateway
}

/// Checks a text; exit code and what was found.
fn problems(gateway: &Gateway, text: &str) -> (Option<i32>, Value) {
    gateway.configure(text);
    let file = gateway.folder().join("gateway.toml");
    let check = |words: &[&str]| -> Output {
        let run = || Command::new(PROGRAM).arg("check").args(words).arg(&file).output();
        gateway.place().run(run).unwrap().unwrap()
    };
    let (json, read) = (check(&["--json"]), check(&[]));
    assert_eq!(json.status.code(), read.status.code());
    let checked: Value = serde_json::from_slice(&json.stdout).unwrap();
    schema::holds("check", &checked);
    let read = String::from_utf8_lossy(&read.stdout).into_owned() + &String::from_utf8_lossy(&read.stderr);
    for row in checked["problems"].as_array().unwrap() {
        let place = format!("{}:{}", row["line"], row["column"]);
        assert!(read.contains(&place), "{place} is not in: {read}");
    }
    (json.status.code(), checked)
}

/// Line and column of a part, within what was put into a text.
fn place_of(text: &str, within: &str, part: &str) -> (usize, usize) {
    let start = text.find(within).unwrap();
    let at = start + text[start..].find(part).unwrap();
    let line = 1 + text[..at].matches('\n').count();
    (line, 1 + text[..at].chars().rev().take_while(|found| *found != '\n').count())
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir(path).unwrap();
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
}
