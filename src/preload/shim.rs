//! The library of PF_SHIM sockets, for programs that know of them (K-1).

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What it is called where the dynamic linker looks for libraries.
pub const LIBRARY: &str = "liblatchway-shim.so.0";

/// Reads where it is.
pub fn library(text: &str) -> Result<PathBuf, String> {
    // The dynamic linker takes these for the end of a name.
    match text.chars().find(|letter| *letter == ':' || letter.is_whitespace()) {
        Some(letter) => Err(format!("the dynamic linker takes no {letter:?} in the name of a library")),
        None if text.is_empty() => Err(format!("it has no name; leave it out for {LIBRARY}")),
        None => Ok(text.into()),
    }
}

/// What LD_PRELOAD is to be, so that the library is loaded before all others that it names.
pub fn preloaded(library: &Path) -> OsString {
    before(library, env::var_os(VARIABLE).as_deref())
}

fn before(library: &Path, others: Option<&OsStr>) -> OsString {
    let others = others.filter(|others| !others.is_empty()).map_or(&[][..], OsStrExt::as_bytes);
    let colon = if others.is_empty() { &[][..] } else { b":" };
    OsStr::from_bytes(&[library.as_os_str().as_bytes(), colon, others].concat()).to_owned()
}

/// What names the libraries that are loaded before those of a program (ld.so(8)).
pub const VARIABLE: &str = "LD_PRELOAD";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_1_the_library_is_loaded_before_others() {
        let at = library("/lib/liblatchway-shim.so.0").unwrap();
        assert_eq!(before(&at, None), "/lib/liblatchway-shim.so.0");
        assert_eq!(before(&at, Some(OsStr::new(""))), "/lib/liblatchway-shim.so.0");
        assert_eq!(before(&at, Some(OsStr::new("a.so b.so"))), "/lib/liblatchway-shim.so.0:a.so b.so");
        for none in ["", "a b", "a:b", "a\tb"] {
            assert!(library(none).is_err(), "{none:?}");
        }
    }
}
