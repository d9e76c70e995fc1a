//! Kills at any moment, with keys of counter mode that are on record: no number is used twice under one key (T12).

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use crate::gateway::Folder;
use crate::site::{Mode, Side, Site, Terms, enrol};
use crate::{eventually, scenario};

/// T12: twenty kills under traffic, and every sequence number on the wire was there once.
#[test]
fn t12_no_number_returns_after_a_kill() {
    scenario("restart::t12_no_number_returns_after_a_kill", || {
        let folder = Folder::make();
        for side in [Side::A, Side::B] {
            enrol(&folder.join(&side.number().to_string()));
        }
        let numbers = numbers(20, &Terms::enrolled(folder.as_ref()));
        let different: BTreeSet<u32> = numbers.iter().copied().collect();
        assert!(different.len() > 20, "{different:?}");
        assert_eq!(numbers.len(), different.len(), "numbers came twice under one key");
    });
}

/// The sniffer would see it: where nothing is on record, as the other suites allow, numbers begin anew.
#[test]
fn t12_without_a_record_numbers_return() {
    scenario("restart::t12_without_a_record_numbers_return", || {
        let numbers = numbers(1, &Terms::default());
        let different: BTreeSet<u32> = numbers.iter().copied().collect();
        assert!(numbers.len() > different.len());
    });
}

/// All numbers on the wire of a gateway that is killed so many times, each time after it sealed something.
fn numbers(kills: usize, terms: &Terms) -> Vec<u32> {
    let mut site = Site::start(Mode::Alone, terms);
    for _ in 0..kills {
        let before = site.sealed_by_a().len();
        eventually("something is sealed", || site.sealed_by_a().len() > before);
        site.a.end_by(Signal::SIGKILL);
        site.a.start();
    }
    site.passes();
    site.traffic.goes_on(5);
    let numbers = site.sealed_by_a();
    site.nothing_leaked();
    numbers
}
