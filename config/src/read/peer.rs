//! The peers (RFC 4301 section 4.4.3) and the SAs with them.

use std::collections::HashMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use latchway_esp::{AntiReplay, Spi, Suite, WindowSize};
use latchway_tagging::{AuthMethod, PeerPattern};

use super::{Known, Seen, policy, tun};
use crate::check::{Claim, Owner};
use crate::document::{Entry, Problems, Scope};
use crate::model::{KeyFile, Lifetime, Peer, Sa, SaDirection};
use crate::problem::{looks_like_key, quote};
use crate::range::{AddressRange, Selector, merge};
use crate::reference::{Key, direction, lifetime, peer, root, sa};
use crate::value;

/// The peers that were understood.
pub struct Peers {
    /// They, and where they are.
    pub read: Vec<ReadPeer>,
    /// Their places among them.
    by_identity: HashMap<PeerPattern, usize>,
    /// Whether that is all of them.
    pub complete: bool,
}

/// A peer, and where it is.
pub struct ReadPeer {
    /// The peer.
    pub peer: Peer,
    /// Where it is.
    pub at: usize,
    /// What it may claim, in as few ranges as can be.
    pub ranges: Vec<AddressRange>,
    /// Where its SAs are.
    pub sas: Vec<usize>,
}

impl Peers {
    /// The peer that is called so.
    pub fn named(&self, identity: &PeerPattern) -> Option<&ReadPeer> {
        self.by_identity.get(identity).and_then(|&at| self.read.get(at))
    }

    /// Where they are reached.
    pub fn endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        self.read.iter().filter_map(|peer| peer.peer.endpoint)
    }
}

/// The peers.
pub fn read(file: &Scope<'_>, known: &Known<'_>, seen: &mut Seen, problems: &mut Problems<'_>) -> Peers {
    let items = file.entry(&root::PEER).map(|entry| entry.items()).unwrap_or_default();
    let by_identity = HashMap::with_capacity(items.len());
    let mut peers = Peers { read: Vec::with_capacity(items.len()), by_identity, complete: true };
    let mut reader = Reader { known, seen, problems };
    for (number, item) in items.iter().enumerate() {
        match reader.peer(item, number) {
            Some(peer) => {
                peers.by_identity.insert(peer.peer.identity.clone(), peers.read.len());
                peers.read.push(peer);
            }
            None => peers.complete = false,
        }
    }
    peers
}

struct Reader<'r, 't> {
    known: &'r Known<'r>,
    seen: &'r mut Seen,
    problems: &'r mut Problems<'t>,
}

/// What an SA has from its peer.
struct Owned<'p> {
    number: usize,
    endpoint: Option<SocketAddr>,
    ranges: &'p [AddressRange],
}

impl Reader<'_, '_> {
    fn peer(&mut self, entry: &Entry<'_>, number: usize) -> Option<ReadPeer> {
        let table = entry.table(&peer::TABLE, self.problems)?;
        let before = self.problems.errors();
        let identity = self.identity(&table);
        let methods = self.methods(&table, identity.as_ref());
        let standing = table.read(&peer::STANDING, self.problems, value::method);
        let endpoint = self.endpoint(&table);
        let shared = table.read_or(&peer::SHARED, false, self.problems, Entry::flag);
        let owner = match &identity {
            Some(PeerPattern::Any) => Owner::Anybody,
            _ if shared == Some(true) => Owner::Shared(number),
            _ => Owner::Peer(number),
        };
        let (inner, ranges) = self.inner(&table, owner);
        let owned = Owned { number, endpoint, ranges: &ranges };
        let mut sas = Vec::new();
        if let Some(entry) = table.entry(&peer::SA) {
            let items = entry.items();
            if items.len() > MOST_SAS {
                let message =
                    format!("{} pairs of SAs are more than the {MOST_SAS} that a peer can have", items.len());
                entry.error(self.problems, message, "remove some");
                return None;
            }
            if !items.is_empty() && table.entry(&peer::ENDPOINT).is_none() {
                let hint = format!("give the peer one: endpoint = {}", peer::ENDPOINT.example);
                entry.error(self.problems, "has nowhere to send to: the peer has no endpoint", hint);
            }
            if !items.is_empty() {
                self.check_keyed(&table, identity.as_ref(), methods.as_deref());
            }
            sas.extend(items.iter().map(|item| (item.at(), self.sa(item, &owned))));
        }
        let places = sas.iter().map(|&(at, _)| at).collect();
        let sas = sas.into_iter().filter_map(|(_, sa)| sa).collect();
        let (identity, methods, shared) = (identity?, methods?, shared?);
        let peer = Peer { identity, methods, standing, endpoint, inner, shared, sas };
        (self.problems.errors() == before).then_some(ReadPeer { peer, at: table.at(), ranges, sas: places })
    }

    fn identity(&mut self, table: &Scope<'_>) -> Option<PeerPattern> {
        let entry = table.required(&peer::IDENTITY, self.problems)?;
        let pattern = value::pattern(&entry, self.problems)?;
        if self.known.identity.is_some() && self.known.identity == pattern.identity() {
            let hint = "each end has an identity of its own: change one of them";
            entry.error(self.problems, format!("{pattern} is our own identity"), hint);
        }
        self.check_reached(&entry, &pattern);
        if let PeerPattern::Addresses { .. } = pattern {
            self.seen.ranges.push((pattern.clone(), entry.at()));
        }
        self.seen.identities.entry(pattern.clone()).or_insert(entry.at());
        Some(pattern)
    }

    /// RFC 4301 section 4.4.3: the first entry that speaks of a peer decides, so that none may stand behind one that speaks of
    /// all its peers.
    fn check_reached(&mut self, entry: &Entry<'_>, pattern: &PeerPattern) {
        let seen = |wider: &PeerPattern| self.seen.identities.get(wider).copied();
        let same = seen(pattern);
        let over = pattern.wider().iter().find_map(seen).or_else(|| seen(&PeerPattern::Any));
        let over = over.or_else(|| {
            let covers = |(range, _): &&(PeerPattern, usize)| range.covers(pattern);
            self.seen.ranges.iter().find(covers).map(|(_, at)| *at)
        });
        let (at, message, hint) = match (same, over) {
            (Some(at), _) => (at, "too", "write one [[peer]] for each peer, with all its ranges and SAs"),
            (None, Some(at)) => (at, "", "put the special one before the general one, and `any` last"),
            (None, None) => return,
        };
        let line = self.problems.position(at).line;
        let message = match message {
            "" => {
                format!("{pattern} is never met: the peer of line {line} comes first for whoever it is about")
            }
            _ => format!("the peer of line {line} is {pattern}, too"),
        };
        entry.error(self.problems, message, hint);
    }

    fn methods(&mut self, table: &Scope<'_>, pattern: Option<&PeerPattern>) -> Option<Vec<AuthMethod>> {
        let Some(entry) = table.entry(&peer::METHODS) else {
            return Some(pattern.map_or_else(Vec::new, |pattern| pattern.usual_methods().to_vec()));
        };
        if entry.is_empty_list() {
            entry.error(self.problems, "is empty", "name at least one, or remove it");
            return None;
        }
        let items = entry.items();
        let read: Vec<_> = items.iter().filter_map(|item| value::method(item, self.problems)).collect();
        let complete = read.len() == items.len();
        let methods: std::collections::BTreeSet<_> = read.into_iter().collect();
        complete.then(|| methods.into_iter().collect())
    }

    /// Keys from files are agreed upon with one peer, by hand.
    fn check_keyed(
        &mut self,
        table: &Scope<'_>,
        pattern: Option<&PeerPattern>,
        methods: Option<&[AuthMethod]>,
    ) {
        if let Some((entry, pattern)) = table.entry(&peer::IDENTITY).zip(pattern)
            && pattern.identity().is_none()
        {
            let hint = "write a [[peer]] for each peer that has SAs here, before this one";
            entry.error(
                self.problems,
                format!("{pattern} is more than one peer, but has SAs of its own"),
                hint,
            );
        }
        if let Some((entry, methods)) = table.entry(&peer::METHODS).zip(methods)
            && !methods.contains(&AuthMethod::Manual)
        {
            let hint = "add \"manual\", or remove the SAs";
            entry.error(
                self.problems,
                "does not accept the keys from files that the peer has SAs with",
                hint,
            );
        }
    }

    fn endpoint(&mut self, table: &Scope<'_>) -> Option<SocketAddr> {
        let entry = table.entry(&peer::ENDPOINT)?;
        let endpoint = value::endpoint(&entry, self.problems)?;
        if endpoint.ip().is_unspecified() {
            entry.error(
                self.problems,
                "is no address that anything is sent to",
                "name the peer's own address",
            );
        }
        if !self.known.listen.reaches(&endpoint) {
            let (family, example) =
                if endpoint.is_ipv4() { ("IPv4", "0.0.0.0:4500") } else { ("IPv6", "[::]:4500") };
            let message = format!("{endpoint} cannot be reached: no `listen` address is an {family} one");
            entry.error(self.problems, message, format!("listen on an {family} address, too: \"{example}\""));
        }
        Some(endpoint)
    }

    /// What the peer may claim, as prefixes and as ranges.
    fn inner(&mut self, table: &Scope<'_>, owner: Owner) -> (Vec<IpNet>, Vec<AddressRange>) {
        let Some(entry) = table.required(&peer::INNER, self.problems) else { return Default::default() };
        let mut ranges = Vec::new();
        for item in entry.items() {
            let Some(range) = value::address_range(&item, self.problems) else { continue };
            if range.prefixes().len() > MOST_PREFIXES {
                item.error(
                    self.problems,
                    "takes too many prefixes",
                    "choose ends that are nearer to a prefix's",
                );
                continue;
            }
            self.seen.claims.push(Claim::new(range, owner, &item));
            ranges.push(range);
        }
        if entry.is_empty_list() {
            entry.error(self.problems, "is empty", format!("write for example {}", peer::INNER.example));
        }
        let ranges = merge(ranges);
        let inner = ranges.iter().flat_map(AddressRange::prefixes).collect();
        (inner, ranges)
    }

    fn sa(&mut self, entry: &Entry<'_>, owned: &Owned<'_>) -> Option<Sa> {
        let table = entry.table(&sa::TABLE, self.problems)?;
        let suite = self.suite(&table);
        let inbound = self.direction(&table, &sa::INBOUND, owned.number);
        let outbound = self.direction(&table, &sa::OUTBOUND, owned.number);
        let esn = table.read_or(&sa::ESN, true, self.problems, Entry::flag);
        let default = AntiReplay::Window(WindowSize::default());
        let anti_replay = table.read_or(&sa::REPLAY_WINDOW, default, self.problems, anti_replay);
        let smallest = match owned.endpoint {
            Some(SocketAddr::V6(_)) => tun::SMALLEST_V6,
            _ => tun::SMALLEST_V4,
        };
        let mtu = table.read_or(&sa::MTU, 1500, self.problems, |e, problems| tun::mtu(e, smallest, problems));
        let from = table.read(&sa::FROM, self.problems, value::address);
        if let Some(from) = from {
            self.check_from(&table, from, owned);
        }
        let selectors = self.selectors(&table, owned);
        let soft = table.read_or(&sa::SOFT, Lifetime::default(), self.problems, lifetime);
        let hard = table.read_or(&sa::HARD, Lifetime::default(), self.problems, lifetime);
        let (soft, hard) = (soft?, hard?);
        self.check_lifetimes(&table, &soft, &hard);
        Some(Sa {
            suite: suite?,
            inbound: inbound?,
            outbound: outbound?,
            esn: esn?,
            anti_replay: anti_replay?,
            mtu: mtu?,
            from,
            selectors: selectors?,
            soft,
            hard,
        })
    }

    fn suite(&mut self, table: &Scope<'_>) -> Option<Suite> {
        let Some(entry) = table.entry(&sa::SUITE) else { return DEFAULT_SUITE.parse().ok() };
        let text = entry.text(self.problems)?;
        let Ok(suite) = text.parse::<Suite>() else {
            let hint = format!("use one of {}", Suite::RECOMMENDED.map(Suite::name).join(", "));
            entry.error(self.problems, format!("{} is no suite", quote(text)), hint);
            return None;
        };
        // RFC 8221 section 3: with manual keys, counter mode MUST NOT be used.
        if suite.is_counter_mode() && !self.known.counter_mode {
            let message = format!(
                "{suite} counts its packets, and RFC 8221 section 3 forbids it with keys from files: a number that comes \
                 twice under one key, as after a restart, gives both packets away"
            );
            let hint = format!(
                "use {DEFAULT_SUITE}; or, knowing the risk, write `counter_mode_static = true` and name a `state` folder \
                 on a disk that is never set back"
            );
            entry.error(self.problems, message, hint);
        }
        Some(suite)
    }

    fn direction(&mut self, sa: &Scope<'_>, key: &'static Key, peer: usize) -> Option<SaDirection> {
        let table = sa.required(key, self.problems)?.table(&direction::TABLE, self.problems)?;
        let spi = self.spi(&table, key, peer);
        let key_file = self.key_file(&table);
        Some(SaDirection { spi: spi?, key_file: key_file? })
    }

    fn spi(&mut self, table: &Scope<'_>, key: &'static Key, peer: usize) -> Option<Spi> {
        let entry = table.required(&direction::SPI, self.problems)?;
        let number = entry.number(0..=u64::from(u32::MAX), self.problems)?;
        let number = u32::try_from(number).ok()?;
        let Some(spi) = Spi::new(number).filter(|spi| !spi.is_reserved()) else {
            // RFC 4303 section 2.1.
            entry.error(self.problems, "SPIs 0 to 255 are reserved", "choose one of 256 (0x100) or more");
            return None;
        };
        let inbound = std::ptr::eq(key, &sa::INBOUND);
        let first = if inbound {
            *self.seen.inbound.entry(number).or_insert(entry.at())
        } else {
            *self.seen.outbound.entry((peer, number)).or_insert(entry.at())
        };
        if first != entry.at() {
            let line = self.problems.position(first).line;
            let whose = if inbound { "an inbound SA" } else { "an outbound SA of this peer" };
            let message = format!("SPI {spi} is that of {whose} in line {line} already");
            entry.error(self.problems, message, "choose another, on both ends");
        }
        Some(spi)
    }

    fn key_file(&mut self, table: &Scope<'_>) -> Option<KeyFile> {
        let entry = table.required(&direction::KEY_FILE, self.problems)?;
        let text = entry.nonempty(self.problems)?;
        if looks_like_key(text) {
            // T40: nor is it shown.
            let hint =
                "write the key into a file of mode 0600, and its name here; this file may be read by others";
            entry.error(self.problems, "holds what looks like a key, not the name of a file", hint);
            return None;
        }
        let path = value::path(&entry, self.problems)?;
        let first = *self.seen.key_files.entry(path.clone()).or_insert(entry.at());
        if first != entry.at() {
            let line = self.problems.position(first).line;
            let message = format!("{} is the key of the SA in line {line} already", quote(text));
            entry.error(self.problems, message, "give each direction of each SA a key of its own");
        }
        Some(KeyFile { path, at: self.problems.position(entry.at()) })
    }

    fn check_from(&mut self, table: &Scope<'_>, from: std::net::IpAddr, owned: &Owned<'_>) {
        let Some(entry) = table.entry(&sa::FROM) else { return };
        if !self.known.listen.has(&from) {
            let hint = format!("name {from} there, or one of the addresses there here");
            entry.error(self.problems, format!("{from} is no `listen` address"), hint);
        } else if owned.endpoint.is_some_and(|endpoint| endpoint.is_ipv4() != from.is_ipv4()) {
            let hint = "name a `listen` address of the endpoint's family";
            entry.error(self.problems, "is of another address family than the peer's endpoint", hint);
        }
    }

    fn selectors(&mut self, table: &Scope<'_>, owned: &Owned<'_>) -> Option<Vec<Selector>> {
        let before = self.problems.errors();
        let Some(entry) = table.entry(&sa::SELECTORS) else {
            let local = self.known.networks.as_ref()?;
            if owned.ranges.is_empty() {
                return None;
            }
            let selector = Selector::between(local.clone(), owned.ranges.to_vec());
            let fits = policy::fits(&selector, (table.at(), table.name()), self.problems);
            return fits.then(|| vec![selector]);
        };
        if entry.is_empty_list() {
            entry.error(self.problems, "is empty", "remove it for everything that the peer may claim");
        }
        let ranges = (self.known.networks.as_deref(), owned.ranges);
        let read = |item: &Entry<'_>| policy::sa_selector(item, ranges, self.problems);
        let selectors = entry.items().iter().filter_map(read).collect();
        (self.problems.errors() == before).then_some(selectors)
    }

    fn check_lifetimes(&mut self, table: &Scope<'_>, soft: &Lifetime, hard: &Lifetime) {
        let Some(entry) = table.entry(&sa::SOFT) else { return };
        let bounds = [
            ("octets", soft.octets, hard.octets),
            ("packets", soft.packets, hard.packets),
            ("seconds", soft.seconds, hard.seconds),
            ("seconds since first use", soft.since_first_use, hard.since_first_use),
        ];
        for (name, soft, hard) in bounds {
            if let Some((soft, hard)) = soft.zip(hard).filter(|(soft, hard)| soft >= hard) {
                let message = format!("{name}: the soft bound, {soft}, is not below the hard one, {hard}");
                entry.error(self.problems, message, "warn earlier, or let it live longer");
            }
        }
    }
}

/// RFC 4303 section 3.4.3. 0 for "off" is refused: elsewhere it came in by accident, and stayed (T07).
fn anti_replay(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<AntiReplay> {
    if entry.as_text() == Some("off") {
        return Some(AntiReplay::Off);
    }
    if !entry.is_number() {
        entry.wrong_type(problems);
        return None;
    }
    let number = entry.number(0..=u64::from(u32::MAX), problems)?;
    let window = u32::try_from(number).ok().and_then(|packets| WindowSize::new(packets).ok());
    if window.is_none() {
        let (least, most) = (WindowSize::MIN.get(), WindowSize::MAX.get());
        let hint = match number {
            0 => "to accept replays, write replay_window = \"off\"".to_owned(),
            _ => format!("choose {least} to {most}; {} where unsure", WindowSize::default().get()),
        };
        entry.error(problems, format!("a window of {number} packets cannot be had"), hint);
    }
    window.map(AntiReplay::Window)
}

fn lifetime(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Lifetime> {
    let table = entry.table(&lifetime::TABLE, problems)?;
    let before = problems.errors();
    let count = |entry: &Entry<'_>, problems: &mut Problems<'_>| entry.number(1..=MOST_COUNTED, problems);
    let seconds = |entry: &Entry<'_>, problems: &mut Problems<'_>| entry.number(1..=MOST_SECONDS, problems);
    let lifetime = Lifetime {
        octets: table.read(&lifetime::OCTETS, problems, count),
        packets: table.read(&lifetime::PACKETS, problems, count),
        seconds: table.read(&lifetime::SECONDS, problems, seconds),
        since_first_use: table.read(&lifetime::SINCE_FIRST_USE, problems, seconds),
    };
    (problems.errors() == before).then_some(lifetime)
}

/// AES-CBC, since keys in files must not be a counter mode's (RFC 8221 section 3), and with 256 bits, to which that RFC
/// sees a need to move in the long term (section 5): keys in files are used for long.
const DEFAULT_SUITE: &str = "aes-256-cbc-hmac-sha-256";
/// Several scale a peer over processors; more are a mistake.
const MOST_SAS: usize = 64;
/// Of one range.
const MOST_PREFIXES: usize = 32;
/// What TOML's integers hold.
const MOST_COUNTED: u64 = i64::MAX as u64;
/// A century, which no clock's arithmetic minds.
const MOST_SECONDS: u64 = 100 * 366 * 86_400;
