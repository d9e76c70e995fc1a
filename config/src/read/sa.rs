//! Pairs of SAs (RFC 4301 section 4.4.2): with what they protect, in what mode, and where they lead.

use std::net::SocketAddr;

use latchway_esp::{AntiReplay, Protocol, Spi, Suite, WindowSize};
use latchway_tagging::Mode;

use super::peer::Reader;
use super::{shape, tun};
use crate::document::{Entry, Problems, Scope, nearest};
use crate::model::{Encapsulation, Header, KeyFile, Lifetime, Sa, SaDirection};
use crate::problem::{looks_like_key, quote};
use crate::range::AddressRange;
use crate::reference::{Key, ah, direction, lifetime, sa};
use crate::value;

/// What an SA has from its peer.
pub struct Owned<'p> {
    /// The peer's number.
    pub number: usize,
    /// Where it is reached.
    pub endpoint: Option<SocketAddr>,
    /// What it may claim.
    pub ranges: &'p [AddressRange],
}

/// What an SA is, which decides what else can be said of it.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Tunnel or transport.
    pub mode: Mode,
    /// Whether it travels in UDP.
    pub encapsulation: Encapsulation,
    /// Whether it is of ESP, in AH or not.
    pub esp: bool,
    /// Whether it is of AH, or in it.
    pub ah: bool,
    /// Whether the outer address is an IPv6 one, as far as is known.
    pub v6: bool,
}

/// What protects packets.
struct Protection {
    suite: Suite,
    inbound: SaDirection,
    outbound: SaDirection,
    header: Option<Header>,
}

impl Reader<'_, '_> {
    /// A pair of SAs.
    pub fn sa(&mut self, entry: &Entry<'_>, owned: &Owned<'_>) -> Option<Sa> {
        let table = entry.table(&sa::TABLE, self.problems)?;
        let before = self.problems.errors();
        let suite = self.suite(&table);
        let kind = self.kind(&table, suite, owned);
        let protection = self.protection(&table, suite, owned.number);
        let (from, source) = self.source(&table, kind, owned);
        let selectors = self.selectors(&table, (kind, source), owned);
        let esn = table.read_or(&sa::ESN, true, self.problems, Entry::flag);
        let default = AntiReplay::Window(WindowSize::default());
        let anti_replay = table.read_or(&sa::REPLAY_WINDOW, default, self.problems, anti_replay);
        let smallest = if kind.is_some_and(|kind| kind.v6) { tun::SMALLEST_V6 } else { tun::SMALLEST_V4 };
        let mtu = table.read_or(&sa::MTU, 1500, self.problems, |e, problems| tun::mtu(e, smallest, problems));
        let soft = table.read_or(&sa::SOFT, Lifetime::default(), self.problems, lifetime);
        let hard = table.read_or(&sa::HARD, Lifetime::default(), self.problems, lifetime);
        let (soft, hard) = (soft?, hard?);
        self.check_lifetimes(&table, &soft, &hard);
        let (kind, mtu, selectors) = (kind?, mtu?, selectors?);
        let align = shape::align(&table, kind, self.problems);
        let follow = shape::follow(&table, kind, self.problems);
        let keepalive = shape::keepalive(&table, kind, self.problems);
        let outer = shape::outer(&table, kind, self.problems);
        let hiding = shape::hiding(&table, kind, self.problems);
        let own = self.known.own.as_slice();
        let sizing = shape::sizing(&table, (kind, mtu), (own, &selectors), self.problems);
        let Protection { suite, inbound, outbound, header } = protection?;
        let (esn, anti_replay, follow) = (esn?, anti_replay?, follow?);
        let sa = Sa {
            mode: kind.mode,
            encapsulation: kind.encapsulation,
            suite,
            inbound,
            outbound,
            header,
            align: align?,
            esn,
            anti_replay,
            mtu,
            from,
            follow,
            keepalive: keepalive?,
            outer: outer?,
            hiding: hiding?,
            sizing: sizing?,
            selectors,
            soft,
            hard,
        };
        (self.problems.errors() == before).then_some(sa)
    }

    /// Suites, SPIs and keys.
    fn protection(&mut self, table: &Scope<'_>, suite: Option<Suite>, peer: usize) -> Option<Protection> {
        let protocol = suite.map_or(Protocol::Esp, Suite::protocol);
        let inbound = self.direction(table, &sa::INBOUND, (peer, protocol));
        let outbound = self.direction(table, &sa::OUTBOUND, (peer, protocol));
        let header = match table.entry(&sa::AH) {
            None => Some(None),
            Some(entry) => self.header(&entry, suite, peer).map(Some),
        };
        Some(Protection { suite: suite?, inbound: inbound?, outbound: outbound?, header: header? })
    }

    /// The AH of a bundle.
    fn header(&mut self, entry: &Entry<'_>, within: Option<Suite>, peer: usize) -> Option<Header> {
        let table = entry.table(&ah::TABLE, self.problems)?;
        let key = table.required(&ah::SUITE, self.problems);
        let suite = key.as_ref().and_then(|key| self.named_suite(key));
        if let Some((suite, key)) = suite.zip(key).filter(|(suite, _)| suite.protocol() != Protocol::Ah) {
            let hint = format!("use one of {}", names(|suite| suite.protocol() == Protocol::Ah));
            key.error(self.problems, format!("{suite} is of ESP: what stands here goes around it"), hint);
        }
        if within.is_some_and(|within| within.protocol() == Protocol::Ah) {
            let hint = "name a suite of ESP as `suite`, or remove this for AH alone";
            entry.error(self.problems, "AH goes around ESP, and `suite` is AH's already", hint);
        }
        let inbound = self.direction(&table, &ah::INBOUND, (peer, Protocol::Ah));
        let outbound = self.direction(&table, &ah::OUTBOUND, (peer, Protocol::Ah));
        Some(Header { suite: suite?, inbound: inbound?, outbound: outbound? })
    }

    /// What the SA is: mode and encapsulation, as the suites allow.
    fn kind(&mut self, table: &Scope<'_>, suite: Option<Suite>, owned: &Owned<'_>) -> Option<Kind> {
        let mode = table.read_or(&sa::MODE, Mode::Tunnel, self.problems, value::word(&MODES))?;
        let esp = suite.is_none_or(|suite| suite.protocol() == Protocol::Esp);
        let ah = !esp || table.entry(&sa::AH).is_some();
        let usual = if ah { Encapsulation::None } else { Encapsulation::Udp };
        let encapsulation =
            table.read_or(&sa::ENCAPSULATION, usual, self.problems, value::word(&ENCAPSULATIONS))?;
        let written = table.entry(&sa::ENCAPSULATION);
        if let Some(entry) = written.filter(|_| ah && encapsulation == Encapsulation::Udp) {
            // RFC 3948 has no AH: the address that AH protects is the one that a NAT changes.
            let hint = "remove it, or write encapsulation = \"none\"; through a NAT, use ESP alone";
            entry.error(self.problems, "there is no AH in UDP (RFC 3948)", hint);
            return None;
        }
        if let Some(entry) = table.entry(&sa::MODE)
            && mode == Mode::Transport
            && encapsulation == Encapsulation::Udp
        {
            let message = "in UDP, transport mode meets NATs, which change the addresses that it is between: peers behind \
                           one NAT become one, and checksums are of other addresses (RFC 3948 section 5.2)";
            let hint = "use tunnel mode; or, where there is no NAT, encapsulation = \"none\"";
            entry.warning(self.problems, message, hint);
        }
        let v6 = matches!(owned.endpoint, Some(SocketAddr::V6(_)));
        Some(Kind { mode, encapsulation, esp, ah, v6 })
    }

    fn suite(&mut self, table: &Scope<'_>) -> Option<Suite> {
        match table.entry(&sa::SUITE) {
            None => DEFAULT_SUITE.parse().ok(),
            Some(entry) => self.named_suite(&entry),
        }
    }

    fn named_suite(&mut self, entry: &Entry<'_>) -> Option<Suite> {
        let text = entry.text(self.problems)?;
        let Ok(suite) = text.parse::<Suite>() else {
            let near = nearest(text, Suite::all().map(Suite::name));
            let hint = near.map_or_else(
                || format!("use one of {}", names(|_| true)),
                |near| format!("did you mean \"{near}\"?"),
            );
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
        for (message, hint) in weaknesses(suite) {
            entry.warning(self.problems, format!("{suite}: {message}"), hint);
        }
        Some(suite)
    }

    fn direction(
        &mut self,
        sa: &Scope<'_>,
        key: &'static Key,
        owner: (usize, Protocol),
    ) -> Option<SaDirection> {
        let table = sa.required(key, self.problems)?.table(&direction::TABLE, self.problems)?;
        let spi = self.spi(&table, key.name == sa::INBOUND.name, owner);
        let key_file = self.key_file(&table);
        Some(SaDirection { spi: spi?, key_file: key_file? })
    }

    fn spi(&mut self, table: &Scope<'_>, inbound: bool, (peer, protocol): (usize, Protocol)) -> Option<Spi> {
        let entry = table.required(&direction::SPI, self.problems)?;
        let number = entry.number(0..=u64::from(u32::MAX), self.problems)?;
        let number = u32::try_from(number).ok()?;
        let Some(spi) = Spi::new(number).filter(|spi| !spi.is_reserved()) else {
            // RFC 4303 section 2.1.
            entry.error(self.problems, "SPIs 0 to 255 are reserved", "choose one of 256 (0x100) or more");
            return None;
        };
        let first = if inbound {
            *self.seen.inbound.entry((protocol, number)).or_insert(entry.at())
        } else {
            *self.seen.outbound.entry((peer, protocol, number)).or_insert(entry.at())
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

/// What speaks against a suite, and what to do.
fn weaknesses(suite: Suite) -> impl Iterator<Item = (&'static str, &'static str)> {
    let sha_1 = suite.integrity_transform().is_some_and(|(id, _)| id == HMAC_SHA1_96);
    let plain = suite.protocol() == Protocol::Esp && !suite.is_confidential();
    let short = suite.icv_len() <= SHORT_ICV;
    [
        sha_1.then_some((
            "RFC 8221 section 6 wants SHA-1 to go away",
            "use HMAC-SHA-256 where the peer has it",
        )),
        plain.then_some((
            "packets are authenticated, but anybody on the path can read them",
            "use a suite that encrypts, unless this is meant",
        )),
        short.then_some((
            "an ICV of 8 octets gives a forger more hope than one of 16, with GCM more than its length says",
            "use one of 16 octets, unless the link is so narrow that 8 count",
        )),
    ]
    .into_iter()
    .flatten()
}

/// The names of some suites.
fn names(wanted: impl Fn(Suite) -> bool) -> String {
    Suite::all().filter(|&suite| wanted(suite)).map(Suite::name).collect::<Vec<_>>().join(", ")
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

static MODES: [(&str, Mode); 2] = [("tunnel", Mode::Tunnel), ("transport", Mode::Transport)];
static ENCAPSULATIONS: [(&str, Encapsulation); 2] =
    [("udp", Encapsulation::Udp), ("none", Encapsulation::None)];
/// IKEv2's transform type 3 identifier of AUTH_HMAC_SHA1_96.
const HMAC_SHA1_96: u16 = 2;
/// In octets.
const SHORT_ICV: usize = 8;
/// AES-CBC, since keys in files must not be a counter mode's (RFC 8221 section 3), and with 256 bits, to which that RFC
/// sees a need to move in the long term (section 5): keys in files are used for long.
const DEFAULT_SUITE: &str = "aes-256-cbc-hmac-sha-256";
/// What TOML's integers hold.
const MOST_COUNTED: u64 = i64::MAX as u64;
/// A century, which no clock's arithmetic minds.
const MOST_SECONDS: u64 = 100 * 366 * 86_400;
