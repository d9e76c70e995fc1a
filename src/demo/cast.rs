//! The cast: the network with its gateways, and the SAs in use between alice and bob.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use latchway_control::{
    ActionSpec, ApplicationsSpec, Commit, GatewaySpec, LatchTermsSpec, LifetimeSpec, ModelSpec, PeerSpec,
    RuleSpec, SaRow, SelectorSpec, TunSpec, UsageSpec,
};
use latchway_esp::Suite;
use latchway_netns::ping::{self, Echo};

use super::failure::Failure;
use super::gateways::Gateway;
use super::keys::{Ends, Wanted};
use super::network::{ALICE, BOB, Family, Host, MALLORY, Network, Plan, TO_BOB, TO_MALLORY, TUN, Wire};
use super::patience::wait_for;
use super::shutdown::Shutdown;

/// Everything that runs.
#[derive(Debug)]
pub struct Cast {
    /// Hosts and wires.
    pub network: Network,
    /// Alice's gateway.
    pub alice: Gateway,
    /// Bob's.
    pub bob: Gateway,
    /// Mallory's.
    pub mallory: Gateway,
    association: Cell<Option<Association>>,
}

/// One pair of SAs between alice and bob, as both ends know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Association {
    /// The pair's number at alice.
    pub at_alice: u64,
    /// The pair's number at bob.
    pub at_bob: u64,
    /// SPIs: from alice to bob, from bob to alice.
    pub spis: [u32; 2],
    /// The suite.
    pub suite: Suite,
    /// The outer path.
    pub family: Family,
}

impl Cast {
    /// Starts the three gateways on a network.
    pub fn start(network: Network, shutdown: &Shutdown) -> Result<Self, Failure> {
        let start = |host: &Host, spec: GatewaySpec| Gateway::start(host.plan.name, &spec, shutdown);
        let folder = shutdown.folder();
        let alice = start(&network.alice, alice_spec(&network.alice, folder))?;
        let bob = start(&network.bob, peer_spec(&network.bob, folder, &TO_BOB, true))?;
        let mallory = start(&network.mallory, peer_spec(&network.mallory, folder, &TO_MALLORY, false))?;
        Ok(Self { network, alice, bob, mallory, association: Cell::new(None) })
    }

    /// The gateways, alice's first.
    pub const fn gateways(&self) -> [&Gateway; 3] {
        [&self.alice, &self.bob, &self.mallory]
    }

    /// The pair in use between alice and bob.
    pub fn association(&self) -> Result<Association, Failure> {
        self.association.get().ok_or_else(|| Failure::Own("no SAs between alice and bob yet".to_owned()))
    }

    /// Installs a fresh pair between alice and bob at both ends, which receives but does not send yet.
    pub fn prepare(&self, suite: Suite, family: Family, hard: LifetimeSpec) -> Result<Association, Failure> {
        let wanted = Wanted {
            alice: &ALICE,
            peer: &BOB,
            wire: &TO_BOB,
            family,
            suite,
            host_only: false,
            usage: [UsageSpec::Standby; 2],
            hard,
        };
        let Ends { alice, peer } = wanted.make()?;
        let spis = [alice.outbound.spi, alice.inbound.spi];
        let at_bob = self.bob.add_pair(peer)?;
        let at_alice = self.alice.add_pair(alice)?;
        Ok(Association { at_alice, at_bob, spis, suite, family })
    }

    /// Lets a prepared pair send at both ends, in place of the one in use, which receives only from then on.
    pub fn activate(&self, new: Association) -> Result<(), Failure> {
        let old = self.association.replace(Some(new));
        let change = |new: u64, old: Option<u64>| Commit {
            activate: vec![new],
            retire: old.into_iter().collect(),
            ..Commit::default()
        };
        self.alice.commit(change(new.at_alice, old.map(|old| old.at_alice)))?;
        self.bob.commit(change(new.at_bob, old.map(|old| old.at_bob)))
    }

    /// Removes a retired pair at both ends.
    pub fn remove(&self, old: Association) -> Result<(), Failure> {
        let change = |pair| Commit { remove: vec![pair], ..Commit::default() };
        self.alice.commit(change(old.at_alice))?;
        self.bob.commit(change(old.at_bob))
    }

    /// Puts a fresh pair in the place of the one in use. What was latched to another suite is lost by that.
    pub fn switch(&self, suite: Suite, family: Family, hard: LifetimeSpec) -> Result<Association, Failure> {
        let new = self.prepare(suite, family, hard)?;
        let old = self.association.get();
        self.activate(new)?;
        if let Some(old) = old {
            self.remove(old)?;
        }
        Ok(new)
    }

    /// Lets mallory in: a pair of SAs that may carry bob's inner addresses, at alice for receiving only. Returns the
    /// SPI towards alice.
    pub fn admit_mallory(&self, suite: Suite) -> Result<u32, Failure> {
        let wanted = Wanted {
            alice: &ALICE,
            peer: &MALLORY,
            wire: &TO_MALLORY,
            family: Family::V4,
            suite,
            host_only: true,
            usage: [UsageSpec::Standby, UsageSpec::Active],
            hard: LifetimeSpec::default(),
        };
        let Ends { alice, peer } = wanted.make()?;
        let spi = alice.inbound.spi;
        self.alice.add_pair(alice)?;
        self.mallory.add_pair(peer)?;
        Ok(spi)
    }

    /// Commits a policy at alice that latches connections, or one that does not.
    pub fn latch_at_alice(&self, latch: bool) -> Result<(), Failure> {
        let policy = Some(policy(&ALICE, &BOB, latch));
        self.alice.commit(Commit { policy, ..Commit::default() })
    }

    /// A row of alice's or bob's SAs.
    pub fn sa(gateway: &Gateway, spi: u32) -> Result<SaRow, Failure> {
        let missing = || Failure::unmet(format!("an SA with SPI 0x{spi:08x} at {}", gateway.host()), "none");
        gateway.sas()?.into_iter().find(|row| row.spi == spi).ok_or_else(missing)
    }

    /// An echo through both gateways and back: whatever was under way before it has been dealt with after it, since
    /// TUNs, gateways and wires keep the order.
    pub fn settle(&self) -> Result<(), Failure> {
        // One may be lost where a transfer fills the queues.
        wait_for("an answer to an echo request from alice to bob", || {
            let timeout = Duration::from_millis(500);
            let echo = Echo { destination: BOB.address(Family::V4), timeout, ..Echo::default() };
            let report = ping::echo(&self.network.alice.inner, &echo)?;
            Ok((report.received == 1).then_some(()))
        })
    }
}

fn alice_spec(host: &Host, folder: &Path) -> GatewaySpec {
    let listen = TO_BOB.alice_sockets().chain(TO_MALLORY.alice_sockets()).map(Into::into).collect();
    // The operator has allowed mallory bob's inner addresses: only the latch is in the way then.
    let peers = [(&BOB, false), (&MALLORY, true)].map(|(peer, host_only)| peer_entry(peer, host_only));
    GatewaySpec {
        listen,
        peers: peers.into(),
        policy: policy(&ALICE, &BOB, true),
        ..spec(host, &BOB, folder)
    }
}

fn peer_spec(host: &Host, folder: &Path, wire: &Wire, latch: bool) -> GatewaySpec {
    GatewaySpec {
        listen: wire.peer_sockets().map(Into::into).collect(),
        peers: vec![peer_entry(&ALICE, false)],
        policy: policy(host.plan, &ALICE, latch),
        ..spec(host, &ALICE, folder)
    }
}

fn spec(host: &Host, beyond: &Plan, folder: &Path) -> GatewaySpec {
    GatewaySpec {
        name: host.plan.name.to_owned(),
        inner: Some(host.inner.proc_path()),
        outer: Some(host.outer.proc_path()),
        unguarded: false,
        tun: TunSpec {
            name: TUN.to_owned(),
            backend: latchway_control::TunBackendSpec::Auto,
            mtu: None,
            addresses: host.plan.inner.to_vec(),
            routes: beyond.inner.iter().map(IpNet::trunc).collect(),
        },
        listen: Vec::new(),
        identity: host.plan.identity.to_owned(),
        peers: Vec::new(),
        policy: Vec::new(),
        sas: Vec::new(),
        control: folder.join(format!("{}.sock", host.plan.name)),
        end_with_stdin: true,
    }
}

fn peer_entry(peer: &Plan, host_only: bool) -> PeerSpec {
    let inner = peer.inner.iter().map(|net| if host_only { net.addr().into() } else { net.trunc() });
    PeerSpec { identity: peer.identity.to_owned(), inner: inner.collect(), methods: vec![] }
}

/// PROTECT everything between two hosts' prefixes.
fn policy(local: &Plan, remote: &Plan, latch: bool) -> Vec<RuleSpec> {
    let pairs = local.inner.iter().zip(remote.inner.iter());
    let rule = |(local, remote): (&IpNet, &IpNet)| RuleSpec {
        selector: SelectorSpec::between(local.trunc(), remote.trunc()),
        direction: None,
        action: ActionSpec::Protect,
        latch,
        // Two peers may claim one address here, and packets show who is who.
        terms: LatchTermsSpec { model: ModelSpec::Tag, ..LatchTermsSpec::default() },
        applications: ApplicationsSpec::default(),
    };
    pairs.map(rule).collect()
}
