//! The body of the fuzz target: texts that are said to be identities.
//!
//! It takes any bytes, checks what must hold whatever they are, and panics where it does not.

use crate::external::LONGEST_TEXT;
use crate::identity::PeerIdentity;
use crate::requirement::Requirement;

/// A text that is read is spelled as it would be written, and can be required.
pub fn itoken_import(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let Ok(identity) = PeerIdentity::import(text) else { return };
    assert!(text.len() <= LONGEST_TEXT && text.is_ascii(), "C-10");
    assert_eq!(identity.export(), text, "C-10");
    assert!(!identity.audit().contains(char::is_control), "Q-13: it can be printed");
    assert_eq!(Requirement::new().peer(&identity), Requirement::new().peer(&identity));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// The corpus: at least a dozen texts, some of which are identities.
    #[test]
    fn c10_corpus_of_itoken_import() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/itoken_import");
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut read = 0;
        for file in &files {
            println!("{}", file.display());
            let octets = fs::read(file).unwrap();
            itoken_import(&octets);
            read += usize::from(
                std::str::from_utf8(&octets).is_ok_and(|text| PeerIdentity::import(text).is_ok()),
            );
        }
        assert!(files.len() >= 12 && read >= 5, "{read} of {}", files.len());
    }
}
