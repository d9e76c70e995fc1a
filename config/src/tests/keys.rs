//! Key files, and configurations that come with them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

const TUNNEL: &str = include_str!("../../../examples/tunnel.toml");
const IN: &str = "c0ffee";
const OUT: &str = "decade";

/// A folder with the tunnel's configuration and its two keys.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    write(&folder, "gateway.toml", TUNNEL.as_bytes(), 0o644);
    write(&folder, "in.key", key(IN).as_bytes(), 0o600);
    write(&folder, "out.key", key(OUT).as_bytes(), 0o400);
    folder
}

/// 64 octets in hexadecimal that begin like that.
fn key(begin: &str) -> String {
    format!("{begin:0<128}")
}

fn write(folder: &TempDir, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let file = folder.path().join(name);
    let _ = fs::remove_file(&file);
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    file
}

fn load_from(folder: &TempDir) -> Result<Loaded, String> {
    load(&folder.path().join("gateway.toml")).map_err(|error| error.to_string())
}

#[test]
fn a_configuration_is_loaded_with_its_keys() {
    let folder = folder();
    let loaded = load_from(&folder).unwrap();
    assert_eq!((loaded.config.name.as_str(), loaded.keys.len()), ("gateway", 2));
    let sa = &loaded.config.peers[0].sas[0];
    assert_eq!(loaded.keys.key(&sa.inbound).unwrap().expose(), hex::decode(key(IN)).unwrap());
    assert_eq!(loaded.keys.key(&sa.outbound).unwrap().expose()[..3], [0xde, 0xca, 0xde]);
    assert_eq!(loaded.folder, folder.path());
    // T40.
    assert_eq!(
        format!("{:?} {:?}", loaded.keys, loaded.keys.key(&sa.inbound)),
        "Keyring { keys: 2 } Some(Key(..))"
    );
    assert!(!format!("{loaded:?}").contains("192, 255, 238"));
}

#[test]
fn paths_are_relative_to_the_folder_of_the_configuration() {
    let folder = folder();
    let text = TUNNEL
        .replace("/var/lib/latchway/branch", "state")
        .replace("inner = \"b", "control = \"c.sock\"\napp = \"a.sock\"\ninner = \"b");
    write(&folder, "gateway.toml", text.as_bytes(), 0o644);
    let config = load_from(&folder).unwrap().config;
    assert_eq!(config.state.unwrap().path, folder.path().join("state"));
    assert_eq!(config.control, Some(folder.path().join("c.sock")));
    assert_eq!(config.app, AppSocket::At(folder.path().join("a.sock")));
}

#[test]
fn hexadecimal_is_taken_as_programs_write_it() {
    let folder = folder();
    let digits = key(IN);
    let (first, second) = digits.split_at(60);
    for content in [
        format!("{digits}\n"),
        format!("0x{digits}"),
        digits.to_uppercase(),
        format!("{first}\n{second}\n"),
        format!("{first}\r\n {second} \r\n"),
    ] {
        write(&folder, "in.key", content.as_bytes(), 0o600);
        let loaded = load_from(&folder).unwrap();
        let key = loaded.keys.key(&loaded.config.peers[0].sas[0].inbound).unwrap();
        assert_eq!(hex::encode(key.expose()), digits);
    }
}

/// T40: whatever a key file is, no octet of it is shown.
#[test]
fn t40_what_is_no_key_or_not_ours_alone_is_refused() {
    let place = "gateway.toml:12:45: error: peer.sa.inbound.key_file: in.key ";
    let digits = key(IN);
    let cases: [(&[u8], u32, &str, &str); 12] = [
        (digits.as_bytes(), 0o644, "has mode 0644: others may read or change it", "chmod 600"),
        (digits.as_bytes(), 0o610, "has mode 0610", "chmod 600"),
        (digits.as_bytes(), 0o602, "has mode 0602", "chmod 600"),
        (b"", 0o600, "is empty", "openssl rand -hex 64"),
        (b" \n", 0o600, "is empty", "hexadecimal"),
        (b"0x", 0o600, "is empty", "hexadecimal"),
        (b"-----BEGIN PRIVATE KEY-----\nc0ffee", 0o600, "is in an armour of text", "hexadecimal"),
        (
            &digits.as_bytes()[1..],
            0o600,
            "has 63 and a half octets, where aes-256-cbc-hmac-sha-256 takes 64",
            "-hex 64",
        ),
        (&digits.as_bytes()[2..], 0o600, "has 63 octets", "-hex 64"),
        (&[b'c'; 5000], 0o600, "has 2048 octets", "-hex 64"),
        (&[0xc0, 0xff, 0xee, 0], 0o600, "is no key in hexadecimal", "hexadecimal"),
        (b"c0ffee 0x", 0o600, "is no key in hexadecimal", "hexadecimal"),
    ];
    for (content, mode, says, hint) in cases {
        let folder = folder();
        write(&folder, "in.key", content, mode);
        let error = load_from(&folder).unwrap_err();
        let error = error.strip_prefix(&format!("{}/", folder.path().display())).unwrap();
        assert!(error.starts_with(&format!("{place}{says}")), "{says}: {error}");
        assert!(error.contains(hint) && !error.contains("c0ffee"), "{hint}: {error}");
    }
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let folder = folder();
    let file = folder.path().join("in.key");
    fs::remove_file(&file).unwrap();
    assert!(load_from(&folder).unwrap_err().contains("in.key cannot be opened: No such file"));
    fs::create_dir(&file).unwrap();
    assert!(load_from(&folder).unwrap_err().contains("in.key is no regular file"));
    fs::remove_dir(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(load_from(&folder).unwrap_err().contains("in.key is no regular file"));
    fs::remove_file(&file).unwrap();
    symlink("/dev/null", &file).unwrap();
    assert!(load_from(&folder).unwrap_err().contains("in.key is no regular file"));
    fs::remove_file(&file).unwrap();
    symlink(write(&folder, "elsewhere", key(IN).as_bytes(), 0o600), &file).unwrap();
    assert!(load_from(&folder).is_ok(), "what a link leads to is what counts");
}

#[test]
fn every_key_file_that_is_wrong_is_reported() {
    let folder = folder();
    write(&folder, "in.key", b"", 0o600);
    write(&folder, "out.key", b"x", 0o600);
    let error = load_from(&folder).unwrap_err();
    assert!(error.contains("12:45: ") && error.contains("12:95: "), "{error}");
    assert_eq!(error.lines().count(), 4, "{error}");
}

/// Two files with one key, or one file by two names.
#[test]
fn a_key_serves_one_direction_of_one_sa() {
    let folder = folder();
    write(&folder, "out.key", format!("0x{}\n", key(IN).to_uppercase()).as_bytes(), 0o600);
    let says = "12:95: error: peer.sa.outbound.key_file: out.key holds the same key as in.key, of line 12";
    assert!(load_from(&folder).unwrap_err().contains(says));
    fs::remove_file(folder.path().join("out.key")).unwrap();
    fs::hard_link(folder.path().join("in.key"), folder.path().join("out.key")).unwrap();
    assert!(load_from(&folder).unwrap_err().contains(says));
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let missing = load(Path::new("/nowhere/gateway.toml")).unwrap_err().to_string();
    assert!(missing.contains("cannot read the configuration /nowhere/gateway.toml"), "{missing}");
    let folder = folder();
    write(&folder, "gateway.toml", b"identity = \"\xff\"", 0o600);
    assert!(load_from(&folder).unwrap_err().contains("cannot read"));
    let endless = load(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(endless.contains("larger than 1 MiB"), "{endless}");
}
