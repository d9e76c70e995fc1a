//! One rekey after another while hosts send as fast as they can: connections notice nothing (T14, R-2).

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use latchway_netns::Namespace;
use serde_json::{Value, json};

use crate::load::Load;
use crate::provider::{Pair, Provider};
use crate::site::{Site, Terms};
use crate::{alone, eventually};

/// From one rekey to the next.
const INTERVAL: Duration = Duration::from_millis(100);

/// Pairs that may wait at a time for the last of their packets. More would mean that some never arrive.
const WAITING: usize = 30;

/// T14, R-2: a rekey every 100 ms under full load in both directions, for 20 s or as long as `LATCHWAY_STORM_SECONDS` says.
/// Everything that left under an SA arrived under it, once, before the SA goes; nothing is dropped for any reason;
/// order is kept in each flow, and each flow keeps the latch that it began with.
#[test]
fn t14_r2_a_storm_of_rekeys_loses_nothing() {
    alone("storm::t14_r2_a_storm_of_rekeys_loses_nothing", || {
        let site = Site::start(&[("one.example", 2)], &Terms { pinned: true, ..Terms::default() });
        let mut provider = Provider::between(&site, 0);
        let first = provider.join();
        let load = Load::start(&site.centre, &site.around[0]);
        eventually("four flows are latched at both ends", || {
            let rows = [&site.centre, &site.around[0]].map(|end| end.gateway.rows("latch list")).concat();
            rows.len() == 8 && rows.iter().all(|row| row["state"] == "established")
        });
        let (before, since) = (latches(&site), Instant::now());
        let retransmitted = reordered(&site);

        let last = storm(&mut provider, first);

        let (sent, lasted) = (load.sent(), since.elapsed());
        let outcome = load.end();
        outcome.is_whole();
        assert_eq!(latches(&site), before, "a latch moved");
        for end in [&site.centre, &site.around[0]] {
            let young = |row: &Value| row["age"].as_u64().unwrap() < lasted.as_millis() as u64;
            assert!(!end.gateway.rows("latch list").iter().any(young), "a latch was made anew");
        }
        assert_eq!(reordered(&site), retransmitted, "TCP met a gap");
        eventually("all that left under the last SA came", || {
            provider.carried(&[last]).concat().iter().all(|(came, left)| came == left)
        });
        for end in [&site.centre, &site.around[0]] {
            assert_eq!(end.gateway.rows("drops"), Vec::<Value>::new(), "{}", end.identity);
        }
        println!("in {lasted:.1?}: {sent:?} datagrams and {:?} octets of TCP", outcome.octets);
        assert!(sent.iter().chain(&outcome.octets).all(|count| *count > 10_000), "that was no load");
    });
}

/// Rekeys again and again. Each pair goes once both ends send under a later one and all that left under it arrived.
fn storm(provider: &mut Provider, first: Pair) -> Pair {
    let seconds = env::var("LATCHWAY_STORM_SECONDS").map_or(20, |seconds| seconds.parse().unwrap());
    let rekeys = u32::try_from(Duration::from_secs(seconds).as_millis() / INTERVAL.as_millis()).unwrap();
    let (mut pairs, mut due) = (vec![first], Instant::now());
    for _ in 0..rekeys {
        pairs.push(provider.rekey(pairs.last().unwrap()));
        for pair in done(provider, &pairs) {
            provider.commit(&pair, "remove");
            pairs.retain(|other| *other != pair);
        }
        assert!(pairs.len() < WAITING, "packets never arrived: {:?}", provider.carried(&pairs));
        // One that is late puts off those that follow: never two at once.
        due = (due + INTERVAL).max(Instant::now());
        thread::sleep(due - Instant::now());
    }
    *pairs.last().unwrap()
}

/// The pairs of a row, each the successor of the one before, that carry nothing any more.
fn done(provider: &mut Provider, pairs: &[Pair]) -> Vec<Pair> {
    let carried = provider.carried(pairs);
    let left_behind = |place: usize, end: usize| carried[place + 1..].iter().any(|later| later[end].1 > 0);
    let whole = |place: usize, end: usize| {
        let (came, sent) = carried[place][end];
        assert!(came <= sent, "{came} of {sent} came: some twice");
        came == sent
    };
    let done = |place: &usize| (0..2).all(|end| left_behind(*place, end) && whole(*place, end));
    (0..pairs.len()).filter(done).map(|place| pairs[place]).collect()
}

/// Every latch there is: where, of which flow, of which class.
fn latches(site: &Site) -> BTreeSet<String> {
    let ends = [&site.centre, &site.around[0]];
    let rows = ends.map(|end| (end.identity, end.gateway.rows("latch list")));
    let rows = rows.iter().flat_map(|(end, rows)| rows.iter().map(move |row| (end, row)));
    rows.map(|(end, row)| json!([end, row["flow"], row["class"], row["state"], row["peer"]]).to_string())
        .collect()
}

/// How often hosts' TCP received what does not follow what it had: something before was lost, or overtaken.
fn reordered(site: &Site) -> [u64; 2] {
    [&site.centre.inner, &site.around[0].inner].map(|inner| counter(inner, "TcpExt:", "TCPOFOQueue"))
}

/// One of the kernel's counters in a namespace.
fn counter(namespace: &Namespace, family: &str, name: &str) -> u64 {
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/netstat")).unwrap().unwrap();
    let mut rows = text.lines().filter(|line| line.starts_with(family)).map(|line| line.split(' '));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    names.zip(values).find(|(of, _)| *of == name).unwrap().1.parse().unwrap()
}
