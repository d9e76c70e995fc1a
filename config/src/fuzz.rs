//! The body of the fuzz target: what anybody who can write a configuration can say.
//!
//! It takes any octets, checks what must hold whatever they are, and panics where it does not.

use std::collections::HashSet;

use latchway_tagging::{AuthMethod, PeerPattern};

use crate::{
    Action, Applications, Backend, Config, Keyring, LatchTerms, Lifetime, Parsed, Peer, Place, Report, Sa,
    Severity, compare, parse,
};

/// A configuration: read or refused, and where it is read, without contradiction.
pub fn file(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let read = parse(text);
    assert_eq!(read, parse(text), "the same text says the same");
    match read {
        Ok(Parsed { config, warnings }) => {
            assert_eq!(warnings.errors().count(), 0);
            reported(&warnings, text);
            holds_together(&config);
        }
        Err(report) => {
            assert!(report.errors().count() > 0, "refused without a reason");
            reported(&report, text);
        }
    }
}

/// Problems are in their order, at places that are there, and fit a terminal.
fn reported(report: &Report, text: &str) {
    assert!(report.problems.is_sorted_by_key(|problem| problem.at));
    for problem in &report.problems {
        assert!(problem.at.line >= 1 && problem.at.column >= 1);
        assert!(problem.at.line <= text.matches('\n').count() + 1, "{problem}");
        assert!(!problem.message.is_empty() && !problem.message.contains(char::is_control), "{problem:?}");
        assert!(matches!(problem.severity, Severity::Error | Severity::Warning));
    }
    assert_eq!(report.render("f").is_empty(), report.is_empty());
}

/// What a reader of the configuration need not check again.
fn holds_together(config: &Config) {
    assert!((1..=16).contains(&config.listen.len()));
    assert_eq!(config.listen.iter().collect::<HashSet<_>>().len(), config.listen.len());
    assert!((1..=15).contains(&config.tun.name.len()) && !config.tun.name.contains('/'));
    assert!(matches!(config.tun.backend, Backend::Auto | Backend::Offload | Backend::Plain));
    assert!(!config.name.is_empty() && !config.name.contains('/') && !config.name.starts_with('.'));
    match &config.place {
        Place::Split { inner, outer } => assert_ne!(inner, outer),
        Place::Host { .. } => assert!(config.bypass_port.is_none() && config.exec.is_none()),
    }
    for policy in &config.policies {
        assert!(policy.selector.simple().next().is_some() && policy.selector.combinations() <= 256);
        assert!(policy.action == Action::Protect || (!policy.latch && policy.peer.is_none()));
        assert!(policy.latch || policy.terms == LatchTerms::default());
        assert!(policy.action != Action::Discard || policy.applications == Applications::Nothing);
        assert!(policy.action != Action::Bypass || config.bypass_port.is_some());
        assert!(policy.peer.as_ref().is_none_or(|identity| config.peer(identity).is_some()));
    }
    let identities: HashSet<_> = config.peers.iter().map(|peer| &peer.identity).collect();
    assert!(identities.len() == config.peers.len());
    assert!(!identities.contains(&PeerPattern::Exact(config.identity.clone())));
    let reached = |at: usize, peer: &Peer| {
        let mut earlier = config.peers.iter().take(at.min(64));
        earlier.all(|earlier| !earlier.identity.covers(&peer.identity))
    };
    assert!(config.peers.iter().enumerate().all(|(at, peer)| reached(at, peer)), "RFC 4301 4.4.3");
    config.peers.iter().for_each(|peer| peer_holds_together(peer, config));
    claims_are_apart(config);
    let mut inbound = HashSet::new();
    let mut files = HashSet::new();
    for sa in config.peers.iter().flat_map(|peer| &peer.sas) {
        assert!(inbound.insert(sa.inbound.spi), "T31");
        assert!(files.insert(&sa.inbound.key_file.path) && files.insert(&sa.outbound.key_file.path));
    }
    let (again, none) = (config.clone(), Keyring::default());
    assert!(compare((config, &none), (&again, &none)).is_empty());
}

fn peer_holds_together(peer: &Peer, config: &Config) {
    assert!(!peer.inner.is_empty() && !peer.methods.is_empty() && peer.methods.is_sorted());
    assert_eq!(
        peer.identity.to_string().parse(),
        Ok(peer.identity.clone()),
        "as it is shown it can be written"
    );
    assert_eq!(peer.identity.canonical().as_ref(), Some(&peer.identity));
    assert!(peer.sas.is_empty() || peer.identity.identity().is_some());
    assert!(peer.sas.is_empty() || peer.methods.contains(&AuthMethod::Manual));
    let reached = |v4: bool| config.listen.iter().any(|address| address.is_ipv4() == v4);
    assert!(peer.endpoint.is_none_or(|endpoint| reached(endpoint.is_ipv4()) && endpoint.port() != 0));
    assert!(peer.sas.is_empty() || peer.endpoint.is_some());
    let outbound: HashSet<_> = peer.sas.iter().map(|sa| sa.outbound.spi).collect();
    assert_eq!(outbound.len(), peer.sas.len(), "T31");
    peer.sas.iter().for_each(|sa| sa_holds_together(sa, peer, config));
}

fn sa_holds_together(sa: &Sa, peer: &Peer, config: &Config) {
    assert!(!sa.inbound.spi.is_reserved() && !sa.outbound.spi.is_reserved(), "T31");
    assert_eq!(sa.suite.name().parse(), Ok(sa.suite));
    let allowed = config.state.as_ref().is_some_and(|state| state.counter_mode_static);
    assert!(allowed || !sa.suite.is_counter_mode(), "RFC 8221 section 3");
    assert!(sa.mtu >= 576);
    assert!(sa.from.is_none_or(|from| config.listen.iter().any(|address| address.ip() == from)));
    let below = |soft: Option<u64>, hard: Option<u64>| soft.zip(hard).is_none_or(|(soft, hard)| soft < hard);
    let bounds = |life: &Lifetime| [life.octets, life.packets, life.seconds, life.since_first_use];
    assert!(bounds(&sa.soft).into_iter().zip(bounds(&sa.hard)).all(|(soft, hard)| below(soft, hard)));
    assert!(!sa.selectors.is_empty());
    let claimed = |number: &crate::AddressRange| {
        number
            .prefixes()
            .iter()
            .all(|prefix| peer.inner.iter().any(|inner| inner.contains(prefix)) || splits(prefix, peer))
    };
    for selector in &sa.selectors {
        assert!(selector.simple().next().is_some() && selector.combinations() <= 256);
        assert!(selector.remote.iter().all(claimed), "T15");
    }
}

/// Whether several of the peer's prefixes hold the prefix together.
fn splits(prefix: &ipnet::IpNet, peer: &Peer) -> bool {
    let within = peer.inner.iter().copied().filter(|inner| prefix.contains(inner)).collect();
    ipnet::IpNet::aggregate(&within).contains(prefix)
}

/// T15, by comparing each with each.
fn claims_are_apart(config: &Config) {
    let own = config.networks();
    let others = |at: usize| {
        let shares = config.peers.get(at).is_some_and(is_shared);
        let rivals = config.peers.iter().skip(at + 1).filter(move |other| !(shares && is_shared(other)));
        rivals.flat_map(|peer| &peer.inner)
    };
    // What a fuzzer writes is short; a file of thousands of ranges has a test of its own.
    for (at, peer) in config.peers.iter().enumerate().take(64) {
        for inner in peer.inner.iter().take(256) {
            let mut rivals = own.iter().chain(others(at).take(256));
            assert!(!rivals.any(|other| inner.contains(other) || other.contains(inner)), "T15");
        }
    }
}

fn is_shared(peer: &Peer) -> bool {
    peer.shared && peer.identity != PeerPattern::Any
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn corpus() -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/config_file");
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 12, "{} holds {} inputs", folder.display(), files.len());
        files
    }

    #[test]
    fn corpus_of_file() {
        for seed in corpus() {
            println!("{}", seed.display());
            file(&fs::read(seed).unwrap());
        }
    }

    /// The seeds reach what they are for: those called `right_` are read, those called `wrong_` are refused.
    #[test]
    fn seeds_are_read_or_refused_as_their_names_say() {
        for seed in corpus() {
            let text = fs::read_to_string(&seed).unwrap();
            let name = seed.file_name().unwrap().to_str().unwrap();
            let expected = name.starts_with("right_");
            assert!(expected || name.starts_with("wrong_"), "{name}");
            assert_eq!(
                parse(&text).is_ok(),
                expected,
                "{name}: {:?}",
                parse(&text).err().map(|r| r.to_string())
            );
        }
    }

    /// Seeds with lines taken out, doubled and exchanged, and characters changed, by a seeded generator.
    #[test]
    fn changed_seeds_are_read_or_refused() {
        let mut seeds: Vec<_> = corpus().iter().map(|seed| fs::read_to_string(seed).unwrap()).collect();
        let all: Vec<_> = seeds.iter().flat_map(|seed| seed.lines()).map(str::to_owned).collect();
        seeds.retain(|seed| parse(seed).is_ok());
        let mut random = fastrand::Rng::with_seed(0x1a7c);
        let (mut right, mut wrong) = (0, 0);
        for _ in 0..3000 {
            let mut lines: Vec<String> = random.choice(&seeds).unwrap().lines().map(str::to_owned).collect();
            for _ in 0..random.usize(1..3) {
                change(&mut lines, &all, &mut random);
            }
            let text = lines.join("\n");
            file(text.as_bytes());
            *(if parse(&text).is_ok() { &mut right } else { &mut wrong }) += 1;
        }
        assert!(right > 100 && wrong > 100, "{right} right, {wrong} wrong");
    }

    fn change(lines: &mut Vec<String>, all: &[String], random: &mut fastrand::Rng) {
        let Some(at) = (!lines.is_empty()).then(|| random.usize(..lines.len())) else { return };
        let other = random.usize(..lines.len());
        match random.u8(..5) {
            0 => drop(lines.remove(at)),
            1 => lines.swap(at, other),
            2 => lines.insert(at, lines[other].clone()),
            3 => lines.insert(at, random.choice(all).unwrap().clone()),
            _ => {
                let mut characters: Vec<char> = lines[at].chars().collect();
                if let Some(place) = random.choice(0..characters.len()) {
                    characters[place] =
                        random.choice(['0', '1', '9', '/', '-', '.', ':', '[', '}', '"', '=', 'ä']).unwrap();
                }
                lines[at] = characters.into_iter().collect();
            }
        }
    }
}
