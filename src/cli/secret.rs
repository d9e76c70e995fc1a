//! Keys on their way to a gateway: from a file that nobody else reads, or from standard input. Never from the command
//! line, which every user of the machine can read, and never shown (T40).

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::cli::failure::Failure;

/// Reads all of a file that holds keys; `-` is standard input.
///
/// # Errors
/// Where it cannot be read, is too large, or is not the caller's alone.
pub fn read_all(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let text =
        if path == Path::new("-") { read_from(io::stdin().lock()) } else { open(path).and_then(read_from) };
    text.map_err(|error| unreadable(path, &error))
}

/// Reads the keys of a pair, inbound and outbound; where both are `-`, the first two lines of standard input.
///
/// # Errors
/// As [`read_all`].
pub fn read_pair(inbound: &Path, outbound: &Path) -> Result<[Zeroizing<String>; 2], Failure> {
    if inbound == Path::new("-") && outbound == inbound {
        let mut input = io::stdin().lock();
        return Ok([line(&mut input)?, line(&mut input)?]);
    }
    Ok([read_key(inbound)?, read_key(outbound)?])
}

fn read_key(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let octets = read_all(path)?;
    match std::str::from_utf8(&octets) {
        Ok(text) => Ok(trimmed(text)),
        Err(_) => Err(unreadable(path, &io::Error::other("it is not text"))),
    }
}

fn line(input: &mut impl BufRead) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::with_capacity(KEY_LINE));
    let read = input.take(LARGEST).read_line(&mut line);
    let read = read.map_err(|error| unreadable(Path::new("-"), &error))?;
    if read == 0 {
        return Err(Failure::new(
            "standard input ended before both keys were read",
            "give two lines: the inbound key, then the outbound key, each in hexadecimal",
        ));
    }
    Ok(trimmed(&line))
}

fn trimmed(text: &str) -> Zeroizing<String> {
    let text = text.trim();
    Zeroizing::new(text.strip_prefix("0x").unwrap_or(text).to_owned())
}

/// A file that holds keys: a regular one, and for its owner alone, who is the caller or root.
fn open(path: &Path) -> io::Result<File> {
    // A pipe with nobody behind it would make us wait; it is refused all the same.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let found = file.metadata()?;
    let caller = nix::unistd::geteuid().as_raw();
    if !found.is_file() {
        Err(io::Error::other("it is no regular file"))
    } else if found.mode() & OTHERS != 0 {
        Err(io::Error::other("others can read it; `chmod 600` it, and think of the key as known"))
    } else if found.uid() != caller && found.uid() != 0 {
        Err(io::Error::other("it belongs to another user"))
    } else {
        Ok(file)
    }
}

fn read_from(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let largest = usize::try_from(LARGEST).unwrap_or(usize::MAX);
    // Room for all of it from the start: a vector that grows leaves what it held behind.
    let mut octets = Zeroizing::new(Vec::with_capacity(largest + 1));
    from.take(LARGEST + 1).read_to_end(&mut octets)?;
    if octets.len() > largest {
        return Err(io::Error::other(format!("it is larger than {LARGEST} octets")));
    }
    Ok(octets)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let digits = path.as_os_str().as_encoded_bytes();
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    let name = if path == Path::new("-") {
        "standard input".to_owned()
    } else if digits.len() >= SHORTEST_KEY && digits.iter().all(u8::is_ascii_hexdigit) {
        // A key where the name of its file should be.
        "the file of that name".to_owned()
    } else {
        path.display().to_string()
    };
    let remedy =
        "keys come from a file of mode 0600, or from standard input as `-`; never from the command line";
    Failure::new(format!("cannot read keys from {name}: {error}"), remedy)
}

/// The most octets that a description of a pair has.
const LARGEST: u64 = 65_536;

/// Room for a line with a key of any suite.
const KEY_LINE: usize = 1024;

/// Hexadecimal digits that may be a key.
const SHORTEST_KEY: usize = 16;

/// Permissions of group and others.
const OTHERS: u32 = 0o077;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(name: &str, content: &[u8], mode: u32) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("latchway-secret-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn keys_are_read_from_files_of_one_owner() {
        let (a, b) = (file("a", b"0xc0ffee\n", 0o600), file("b", b"  decade  ", 0o400));
        let [inbound, outbound] = read_pair(&a, &b).unwrap();
        assert_eq!((inbound.as_str(), outbound.as_str()), ("c0ffee", "decade"));
        for path in [a, b] {
            fs::remove_file(path).unwrap();
        }
    }

    /// T40: a file that others read is refused, and no message quotes what was in it.
    #[test]
    fn t40_other_files_are_refused_and_nothing_is_quoted() {
        let large = vec![b'c'; 65_537];
        for (name, content, mode, says) in [
            ("group", b"c0ffee".as_slice(), 0o640, "others can read it"),
            ("world", b"c0ffee", 0o604, "others can read it"),
            ("binary", b"c0ffee\xff", 0o600, "not text"),
            ("large", &large, 0o600, "larger than"),
        ] {
            let path = file(name, content, mode);
            let error = format!("{:?}", read_key(&path).unwrap_err());
            assert!(error.contains(says) && !error.contains("c0ffee"), "{error}");
            fs::remove_file(path).unwrap();
        }
        let folder = format!("{:?}", read_key(&std::env::temp_dir()).unwrap_err());
        assert!(folder.contains("no regular file"), "{folder}");
    }

    /// T40: a key in the place of a file's name is not repeated.
    #[test]
    fn t40_a_key_in_the_wrong_place_is_not_shown() {
        for name in ["00112233445566778899aabbccddeeff", "0x00112233445566778899aabbccddeeff"] {
            let error = format!("{:?}", read_key(Path::new(name)).unwrap_err());
            assert!(!error.contains("112233"), "{error}");
        }
    }
}
