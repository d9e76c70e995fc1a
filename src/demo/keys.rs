//! Fresh keys: every pair of SAs gets its own, random ones, for this run alone and never on disk (RFC 8221 section 3).

use latchway_control::{
    FormSpec, LifetimeSpec, ModeSpec, PairSpec, PathSpec, SaSpec, SelectorSpec, UsageSpec,
};
use latchway_esp::Suite;

use crate::describe::fresh_sa;

use super::failure::Failure;
use super::network::{ESP_PORT, Family, Plan, Wire};

/// Between whom, how, and for how long.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Alice.
    pub alice: &'a Plan,
    /// Who is at the other end.
    pub peer: &'a Plan,
    /// The wire between the two.
    pub wire: &'a Wire,
    /// Which addresses of the wire.
    pub family: Family,
    /// The suite.
    pub suite: Suite,
    /// Whether only the peer's own addresses are admitted, rather than its prefix.
    pub host_only: bool,
    /// Whether alice's end and the peer's send from the start.
    pub usage: [UsageSpec; 2],
    /// The hard lifetime at alice.
    pub hard: LifetimeSpec,
}

/// The two ends of one pair of SAs.
#[derive(Debug)]
pub struct Ends {
    /// For alice's gateway.
    pub alice: PairSpec,
    /// For the peer's.
    pub peer: PairSpec,
}

impl Wanted<'_> {
    /// Makes keys and SPIs, and the description of both ends.
    pub fn make(self) -> Result<Ends, Failure> {
        let (to_alice, from_alice) = (fresh(self.suite)?, fresh(self.suite)?);
        let (at_alice, at_peer) = (*self.family.of(&self.wire.alice), *self.family.of(&self.wire.peer));
        let path = |from: ipnet::IpNet, to: ipnet::IpNet| {
            PathSpec::udp(from.addr(), std::net::SocketAddr::new(to.addr(), ESP_PORT), OUTER_MTU)
        };
        let [alice_usage, peer_usage] = self.usage;
        let selectors = self.selectors();
        let swapped = |selector: &SelectorSpec| SelectorSpec {
            local: selector.remote.clone(),
            remote: selector.local.clone(),
            ..selector.clone()
        };
        let swapped = selectors.iter().map(swapped).collect();
        let pair = |peer: &Plan, inbound: &SaSpec, outbound: &SaSpec| PairSpec {
            peer: peer.identity.to_owned(),
            suite: self.suite.name().to_owned(),
            inbound: inbound.clone(),
            outbound: outbound.clone(),
            mode: ModeSpec::Tunnel,
            header: None,
            form: FormSpec::default(),
            esn: true,
            replay_window: REPLAY_WINDOW,
            path: path(at_alice, at_peer),
            selectors: Vec::new(),
            soft: LifetimeSpec::default(),
            hard: LifetimeSpec::default(),
            usage: UsageSpec::Standby,
        };
        Ok(Ends {
            alice: PairSpec {
                selectors,
                soft: LifetimeSpec::default(),
                hard: self.hard,
                usage: alice_usage,
                ..pair(self.peer, &to_alice, &from_alice)
            },
            peer: PairSpec {
                path: path(at_peer, at_alice),
                selectors: swapped,
                usage: peer_usage,
                ..pair(self.alice, &from_alice, &to_alice)
            },
        })
    }

    fn selectors(&self) -> Vec<SelectorSpec> {
        let remote = |net: ipnet::IpNet| if self.host_only { net.addr().into() } else { net.trunc() };
        let both = self.alice.inner.iter().zip(self.peer.inner);
        both.map(|(local, peer)| SelectorSpec::between(local.trunc(), remote(peer))).collect()
    }
}

/// SPI and key of one SA, for both its ends, from the provider of ephemeral keys.
fn fresh(suite: Suite) -> Result<SaSpec, Failure> {
    fresh_sa(suite).map_err(|error| Failure::Own(error.to_string()))
}

/// Fills with random octets from the system.
pub fn random(octets: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(octets).map_err(|error| Failure::Own(format!("no random octets: {error}")))
}

/// The MTU of a veth.
const OUTER_MTU: u16 = 1500;

const REPLAY_WINDOW: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::super::network::{ALICE, BOB, MALLORY, TO_BOB, TO_MALLORY};
    use super::*;

    fn wanted(suite: Suite, host_only: bool) -> Wanted<'static> {
        let (peer, wire) = if host_only { (&MALLORY, &TO_MALLORY) } else { (&BOB, &TO_BOB) };
        Wanted {
            alice: &ALICE,
            peer,
            wire,
            family: Family::V6,
            suite,
            host_only,
            usage: [UsageSpec::Standby, UsageSpec::Active],
            hard: LifetimeSpec::default(),
        }
    }

    /// RFC 8221 section 3, RFC 4303 section 2.1: what one end seals with, the other opens with; no key serves twice.
    #[test]
    fn both_ends_mirror_each_other_and_every_key_is_fresh() {
        for suite in Suite::RECOMMENDED {
            let (one, other) = (wanted(suite, false).make().unwrap(), wanted(suite, false).make().unwrap());
            let sa = |sa: &SaSpec| (sa.spi, sa.key.expose().to_owned());
            assert_eq!(sa(&one.alice.inbound), sa(&one.peer.outbound));
            assert_eq!(sa(&one.alice.outbound), sa(&one.peer.inbound));
            let all = [&one.alice.inbound, &one.alice.outbound, &other.alice.inbound, &other.alice.outbound];
            let keys: std::collections::HashSet<_> = all.iter().map(|sa| sa.key.expose()).collect();
            assert_eq!(keys.len(), 4);
            assert!(keys.iter().all(|key| key.len() == 2 * (suite.key_len() + suite.salt_len())));
            assert!(all.iter().all(|sa| sa.spi > 255));
            assert_eq!(one.alice.path.to.ip(), one.peer.path.from);
            assert_eq!((one.alice.usage, one.peer.usage), (UsageSpec::Standby, UsageSpec::Active));
        }
    }

    #[test]
    fn mallory_may_carry_the_host_and_not_its_prefix() {
        let ends = wanted(Suite::AES_128_GCM, true).make().unwrap();
        let remotes: Vec<_> = ends.alice.selectors.iter().map(|selector| selector.remote[0]).collect();
        assert_eq!(remotes, MALLORY.inner.map(|net| ipnet::IpNet::from(net.addr()).into()));
        assert_eq!(MALLORY.inner, BOB.inner);
    }
}
