//! What a gateway in the program is to be: its addresses, its peers, and their SAs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ipnet::IpNet;
use latchway_datapath::sad::{Follow, Path, Scope, Shape};
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::spd::{Action, Protection, Reqid, Rule};
use latchway_esp::{Align, AntiReplay, SequenceKind, Suite, WindowSize};
use latchway_keying::{
    Evidence, KeyOrigin, Keys, Narrowing, Nat, NewPair, Pad, PadEntry, PeerPattern, Proposal, SaKeys, Start,
    Suites,
};
use latchway_tagging::{AuthMethod, Identity, Mode, PadEntryId, WorkerId};
use latchway_ulp_shim::Limits;
use zeroize::Zeroizing;

use super::assembly::{Plan, assemble};
use super::gateway::{Gateway, since};
use super::line::UdpLine;
use super::stack::{Settings, Stack};
use crate::error::{Error, ErrorKind, Result};

/// What a gateway in the program is to be. Nothing passes but between its addresses and those of its peers, and nothing of that
/// without a latch.
#[derive(Clone, Debug)]
pub struct Builder {
    identity: Identity,
    listen: SocketAddr,
    addresses: Vec<IpAddr>,
    peers: Vec<Peer>,
    mtu: u16,
    buffers: usize,
    flows: u32,
}

/// Somebody with whom there may be connections (RFC 4301 section 4.4.3).
#[derive(Clone, Debug)]
pub struct Peer {
    identity: Identity,
    inner: Vec<IpNet>,
    methods: Vec<AuthMethod>,
    pairs: Vec<Pair>,
}

/// A pair of SAs in tunnel mode, in UDP: one for what we receive, one for what we send (RFC 4301 section 4.1).
#[derive(Clone, Debug)]
pub struct Pair {
    suite: String,
    inbound: Sa,
    outbound: Sa,
    to: SocketAddr,
    origin: KeyOrigin,
}

/// One SA: what its packets carry, and its key. The key is never shown.
#[derive(Clone)]
pub struct Sa {
    spi: u32,
    key: Zeroizing<Vec<u8>>,
}

impl Sa {
    /// An SA with this SPI. The key is that of the cipher with the salt behind it, where the suite has one, and then that of the
    /// integrity algorithm, where it is apart.
    #[must_use]
    pub fn new(spi: u32, key: &[u8]) -> Self {
        Self { spi, key: Zeroizing::new(key.to_vec()) }
    }

    fn keys(&self, suite: Suite) -> Result<SaKeys> {
        SaKeys::from_octets(self.spi, suite, &self.key, SequenceKind::Extended).map_err(|error| {
            Error::new(
                ErrorKind::Invalid,
                format!("the SA with SPI 0x{:08x} cannot be made: {error}", self.spi),
            )
        })
    }
}

impl fmt::Debug for Sa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sa").field("spi", &self.spi).finish_non_exhaustive()
    }
}

impl Pair {
    /// A pair of this suite, as `aes-256-gcm`, whose packets go to that address and port of the peer. Its keys count as kept, so
    /// that counter modes are refused (RFC 8221 section 3): a restart would use numbers again.
    #[must_use]
    pub fn new(suite: impl Into<String>, inbound: Sa, outbound: Sa, to: SocketAddr) -> Self {
        Self { suite: suite.into(), inbound, outbound, to, origin: KeyOrigin::Static }
    }

    /// The same, whose keys were made for this run alone and are kept nowhere: by a key exchange, or at random.
    #[must_use]
    pub fn ephemeral(self) -> Self {
        Self { origin: KeyOrigin::Ephemeral, ..self }
    }
}

impl Peer {
    /// A peer that the operator vouches for, and that proves itself by its keys alone.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { identity, inner: Vec::new(), methods: vec![AuthMethod::Manual], pairs: Vec::new() }
    }

    /// Addresses that it may have (RFC 4301 section 4.4.3.3).
    #[must_use]
    pub fn inner(mut self, inner: IpNet) -> Self {
        self.inner.push(inner);
        self
    }

    /// How its identity may be proven instead, where a provider makes its SAs.
    #[must_use]
    pub fn methods(self, methods: impl IntoIterator<Item = AuthMethod>) -> Self {
        Self { methods: methods.into_iter().collect(), ..self }
    }

    /// SAs with it, from the start.
    #[must_use]
    pub fn pair(mut self, pair: Pair) -> Self {
        self.pairs.push(pair);
        self
    }
}

impl Builder {
    /// A gateway of this identity, whose UDP socket is bound there.
    #[must_use]
    pub fn new(identity: Identity, listen: SocketAddr) -> Self {
        let (addresses, peers) = (Vec::new(), Vec::new());
        Self { identity, listen, addresses, peers, mtu: DEFAULT_MTU, buffers: DEFAULT_BUFFERS, flows: FLOWS }
    }

    /// An address of the program's own inside the tunnels, of at most eight.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// A peer. Of several that an identity could be, the first decides.
    #[must_use]
    pub fn peer(mut self, peer: Peer) -> Self {
        self.peers.push(peer);
        self
    }

    /// The longest packet inside the tunnels: 1280 octets where nothing is said, which every IPv6 link takes, so that sealed ones
    /// fit paths of 1404 octets and more. TCP does not find shorter paths here.
    #[must_use]
    pub fn mtu(self, mtu: u16) -> Self {
        Self { mtu, ..self }
    }

    /// How many octets wait at a socket, each way: 128 KiB where nothing is said.
    #[must_use]
    pub fn buffers(self, octets: usize) -> Self {
        Self { buffers: octets, ..self }
    }

    /// For how many connections there is room in the Latch Database: 4096 where nothing is said.
    #[must_use]
    pub fn flows(self, flows: u32) -> Self {
        Self { flows, ..self }
    }

    /// Starts the gateway.
    ///
    /// # Errors
    /// What is wrong with it, or what the system refused.
    pub fn start(self) -> Result<Gateway> {
        let line = UdpLine::bind(self.listen).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("binding {} for the gateway: {error}", self.listen))
        })?;
        let started = Instant::now();
        let plan = self.plan()?;
        let assembled = assemble(plan, Box::new(move || since(started)))?;
        Gateway::run(self, assembled, line, started)
    }

    /// What the key manager and the datapath are to do.
    pub(super) fn plan(&self) -> Result<Plan> {
        self.check()?;
        let entries = (1..).zip(&self.peers).map(|(number, peer)| PadEntry {
            id: PadEntryId(number),
            name: peer.identity.to_string(),
            peer: PeerPattern::Exact(peer.identity.clone()),
            methods: peer.methods.clone(),
            standing: None,
            ranges: peer.inner.iter().map(range).collect(),
            local: self.identity.clone(),
        });
        let pad = Pad::new(entries.collect()).map_err(invalid)?;
        let protect = |selector| Rule::new(selector, None, Action::Protect(Protection::LATCHED));
        let mut rules: Vec<Rule> = Vec::new();
        for selector in self.peers.iter().flat_map(|peer| self.selectors(&peer.inner)) {
            // Peers may share addresses; one rule speaks of them all.
            if !rules.iter().any(|rule| rule.selector == selector) {
                rules.push(protect(selector));
            }
        }
        let pairs = self.peers.iter().flat_map(|peer| peer.pairs.iter().map(|pair| self.pair(peer, pair)));
        Ok(Plan { pad, rules, pairs: pairs.collect::<Result<_>>()?, limits: Limits::for_flows(self.flows) })
    }

    /// What the stack is to do.
    pub(super) fn settings(&self) -> Settings {
        Settings { addresses: self.addresses.clone(), mtu: self.mtu, buffers: self.buffers }
    }

    /// A pair with a peer that was named.
    pub(super) fn pair_with(&self, peer: &Identity, pair: &Pair) -> Result<NewPair> {
        let known = self.peers.iter().find(|known| known.identity == *peer);
        let known = known.ok_or_else(|| invalid(format!("{peer} is no peer of this gateway")))?;
        self.pair(known, pair)
    }

    fn pair(&self, peer: &Peer, pair: &Pair) -> Result<NewPair> {
        let suite: Suite = pair.suite.parse().map_err(|_| {
            let said =
                format!("{:?} is no suite; use aes-128-gcm, aes-256-gcm or chacha20-poly1305", pair.suite);
            invalid(said)
        })?;
        let proposal = Proposal {
            peer: peer.identity.clone(),
            method: AuthMethod::Manual,
            local: self.identity.clone(),
            selectors: self.selectors(&peer.inner).collect(),
            narrowing: Narrowing::Forbidden,
            mode: Mode::Tunnel,
            suites: Suites::both(suite),
            header: None,
            replay_checked: true,
            reqid: Reqid(0),
            evidence: Evidence::default(),
            local_evidence: Evidence::default(),
            nat: Nat::default(),
        };
        let keys = Keys {
            inbound: pair.inbound.keys(suite)?,
            anti_replay: AntiReplay::Window(WindowSize::default()),
            outbound: pair.outbound.keys(suite)?,
            header: None,
            align: Align::Rfc,
            path: Path::udp(0, pair.to, self.mtu.saturating_add(MOST_AROUND).max(LINK_MTU)),
            shape: Shape::default(),
            follow: Follow::Fixed,
            scope: Scope::Selectors,
            origin: pair.origin,
            resumption: None,
            worker: WorkerId(0),
            start: Start::Active,
        };
        Ok(NewPair { proposal, keys })
    }

    /// Between each of our addresses and these.
    fn selectors<'a>(&'a self, inner: &'a [IpNet]) -> impl Iterator<Item = Selector> + 'a {
        let ours = self.addresses.iter();
        ours.flat_map(move |ours| {
            let theirs = inner.iter().filter(|theirs| theirs.addr().is_ipv4() == ours.is_ipv4());
            theirs.map(|theirs| Selector::between(AddressRange::single(*ours), range(theirs)))
        })
    }

    fn check(&self) -> Result<()> {
        let usable = |address: &IpAddr| {
            let v6 = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
            !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || v6)
        };
        if self.addresses.is_empty() || self.addresses.len() > MOST_ADDRESSES {
            return Err(invalid(format!(
                "a gateway in the program has 1 to {MOST_ADDRESSES} addresses of its own; give some by `address`"
            )));
        }
        if let Some(address) = self.addresses.iter().find(|address| !usable(address)) {
            return Err(invalid(format!("{address} is no address that a host could have; give another")));
        }
        if let Some(peer) = self.peers.iter().find(|peer| peer.inner.is_empty()) {
            return Err(invalid(format!("{} may have no address; give some by `inner`", peer.identity)));
        }
        if !(LEAST_MTU..=MOST_MTU).contains(&self.mtu) {
            return Err(invalid(format!("packets of {} octets; give {LEAST_MTU} to {MOST_MTU}", self.mtu)));
        }
        if !(LEAST_BUFFERS..=MOST_BUFFERS).contains(&self.buffers) {
            let said = format!("buffers of {} octets; give {LEAST_BUFFERS} to {MOST_BUFFERS}", self.buffers);
            return Err(invalid(said));
        }
        Ok(())
    }

    /// The stack on top of a datapath.
    pub(super) fn stack(
        &self,
        assembled: super::assembly::Assembled,
        line: Box<dyn super::line::Line>,
    ) -> Result<(Stack, latchway_keying::KeyManager)> {
        Stack::new(&self.settings(), assembled, line)
    }
}

fn range(net: &IpNet) -> AddressRange {
    // The two ends of a prefix are of one family, and in order.
    AddressRange::new(net.network(), net.broadcast()).unwrap_or_else(|_| AddressRange::single(net.addr()))
}

fn invalid(said: impl ToString) -> Error {
    Error::new(ErrorKind::Invalid, said.to_string())
}

const DEFAULT_MTU: u16 = 1280;
const DEFAULT_BUFFERS: usize = 128 * 1024;
const FLOWS: u32 = 4096;
/// As many as the stack has room for.
const MOST_ADDRESSES: usize = 8;
/// What every path takes that is not said to take less.
const LINK_MTU: u16 = 1500;
/// What a suite puts around a packet at most: IPv6 and UDP 48, ESP header and IV 24, padding 17, ICV 32.
const MOST_AROUND: u16 = 124;
const LEAST_MTU: u16 = 1280;
const MOST_MTU: u16 = 65_000;
const LEAST_BUFFERS: usize = 4096;
const MOST_BUFFERS: usize = 16 * 1024 * 1024;
