//! The body of the fuzz target: ancillary data, as C programs make it and as the system gives it.
//!
//! It takes any bytes, checks what must hold whatever they are, and panics where it does not.

use latchway_socket::Stamped;

use crate::address::{Told, read, split};
use crate::ancillary::{Message, Reference, SPACE, find, messages, put};

/// What is put into ancillary data is found there, and nothing else of it changes; what is not whole is refused as it is.
pub fn msg_control(octets: &[u8]) {
    let _an_address = read(octets);
    let hidden = Stamped { times: true, places: true };
    if let Ok(told) = Told::read(octets) {
        let (all, fits) = told.shown(hidden, octets.len());
        assert!(fits && all.len() <= octets.len());
        let (some, _) = told.shown(hidden, octets.len() / 2);
        assert!(
            all.starts_with(&some) && some.len() <= octets.len() / 2,
            "whole messages alone, in their order"
        );
    }
    let _where_it_leaves_from = split(octets);
    let length =
        |messages: Vec<Message<'_>>| messages.iter().map(|message| message.whole.len()).sum::<usize>();
    // Nothing but messages, up to the last octet.
    let is_whole = octets.len().is_multiple_of(align_of::<usize>())
        && messages(octets).is_ok_and(|messages| length(messages) == octets.len());
    let mut control = octets.to_vec();
    control.resize(octets.len().saturating_add(SPACE), 0);
    match put(&mut control, Reference(7)) {
        Ok(used) => {
            let used = control.get(..used).unwrap_or_default();
            assert_eq!(find(used), Ok(Some(Reference(7))), "Q-49");
            assert!(messages(used).is_ok());
        }
        Err(_) => assert!(!is_whole, "Q-48: there is room"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// The corpus: at least a dozen inputs, some of which are whole.
    #[test]
    fn q_48_corpus_of_msg_control() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/msg_control");
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut whole = 0;
        for file in &files {
            println!("{}", file.display());
            let octets = fs::read(file).unwrap();
            msg_control(&octets);
            whole += usize::from(messages(&octets).is_ok_and(|messages| !messages.is_empty()));
        }
        assert!(files.len() >= 12 && whole >= 5, "{whole} of {}", files.len());
    }
}
