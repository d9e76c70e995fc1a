//! What differs between two configurations: what a reload would change, and what takes a restart.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;
use latchway_esp::Spi;
use latchway_tagging::{AuthMethod, PeerPattern};

use crate::keyring::Keyring;
use crate::model::{
    Action, Applications, Config, Direction, Hiding, LatchTerms, Model, OnConflict, OnPolicyChange, Outer,
    Peer, Policy, Sa, SaDirection, Sizing, Unlatchable,
};

/// The changes from one configuration to another. Its text is a line for each.
#[derive(Debug, Default)]
pub struct Changes<'c> {
    /// Peers that come.
    pub peers_added: Vec<&'c Peer>,
    /// Peers that go.
    pub peers_removed: Vec<&'c Peer>,
    /// Peers that stay, and not as they were: old and new.
    pub peers_changed: Vec<(&'c Peer, &'c Peer)>,
    /// SAs that come, with the identity of their peer. One of which something was changed that its keys depend on comes, too.
    pub sas_added: Vec<(&'c PeerPattern, &'c Sa)>,
    /// SAs that go, with the identity of their peer. One of which something was changed that its keys depend on goes, too.
    pub sas_removed: Vec<(&'c PeerPattern, &'c Sa)>,
    /// SAs that stay, and of which something else is said: their numbers, windows and latches go on.
    pub sas_revised: Vec<RevisedSa<'c>>,
    /// SPIs, inbound or outbound, of SAs that were changed and kept them: no SA can follow itself (T12).
    pub spis_kept: Vec<(&'c PeerPattern, Spi)>,
    /// Policies that come.
    pub policies_added: Vec<&'c Policy>,
    /// Policies that go.
    pub policies_removed: Vec<&'c Policy>,
    /// Whether the policies that stay come in another order.
    pub policies_reordered: bool,
    /// The new default for latches, where it is another one.
    pub latch: Option<bool>,
    /// Whether the terms of latches, or what applications may ask for, became others: of policies, or the defaults. Latches
    /// that are there keep their terms.
    pub terms: bool,
    /// Keys of the file whose change takes a restart.
    pub restart: Vec<&'static str>,
}

/// An SA of which something else is said that its keys do not depend on (RFC 4301 section 4.4.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisedSa<'c> {
    /// Its peer.
    pub peer: &'c PeerPattern,
    /// What is said of it now.
    pub sa: &'c Sa,
    /// The keys of the file that say something else.
    pub keys: Vec<&'static str>,
}

/// What differs between two configurations and their keys.
#[must_use]
pub fn compare<'c>(old: (&'c Config, &Keyring), new: (&'c Config, &Keyring)) -> Changes<'c> {
    let mut changes = Changes { restart: restart(old.0, new.0), ..Changes::default() };
    changes.latch = (old.0.latch != new.0.latch).then_some(new.0.latch);
    changes.terms = (old.0.terms, old.0.applications) != (new.0.terms, new.0.applications);
    changes.peers(old, new);
    changes.policies(&old.0.policies, &new.0.policies);
    changes
}

impl<'c> Changes<'c> {
    /// Whether the two say the same.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.restart.is_empty() && self.is_empty_for_reload()
    }

    /// Whether a reload has nothing to do.
    #[must_use]
    pub const fn is_empty_for_reload(&self) -> bool {
        self.peers_added.is_empty()
            && self.peers_removed.is_empty()
            && self.peers_changed.is_empty()
            && self.sas_added.is_empty()
            && self.sas_removed.is_empty()
            && self.sas_revised.is_empty()
            && self.policies_added.is_empty()
            && self.policies_removed.is_empty()
            && !self.policies_reordered
            && self.latch.is_none()
            && !self.terms
    }

    fn peers(&mut self, old: (&'c Config, &Keyring), new: (&'c Config, &Keyring)) {
        let by_identity = |config: &'c Config| -> HashMap<&'c PeerPattern, &'c Peer> {
            config.peers.iter().map(|peer| (&peer.identity, peer)).collect()
        };
        let (before, after) = (by_identity(old.0), by_identity(new.0));
        for peer in &old.0.peers {
            if !after.contains_key(&peer.identity) {
                self.peers_removed.push(peer);
                self.sas_removed.extend(peer.sas.iter().map(|sa| (&peer.identity, sa)));
            }
        }
        for peer in &new.0.peers {
            let Some(was) = before.get(&peer.identity) else {
                self.peers_added.push(peer);
                self.sas_added.extend(peer.sas.iter().map(|sa| (&peer.identity, sa)));
                continue;
            };
            if says(was) != says(peer) {
                self.peers_changed.push((was, peer));
            }
            self.sas((was, old.1), (peer, new.1));
        }
    }

    /// The SAs of a peer that stays.
    fn sas(&mut self, (old, old_keys): (&'c Peer, &Keyring), (new, new_keys): (&'c Peer, &Keyring)) {
        let spis = |sa: &Sa| (sa.inbound.spi, sa.outbound.spi);
        let before: HashMap<_, _> = old.sas.iter().map(|sa| (spis(sa), sa)).collect();
        let same = |was: &Sa, is: &Sa| same(was, is) && same_keys((was, old_keys), (is, new_keys));
        let stayed = |sa: &'c Sa| Some((*before.get(&spis(sa)).filter(|was| same(was, sa))?, sa));
        let staying: Vec<(&Sa, &Sa)> = new.sas.iter().filter_map(stayed).collect();
        let kept: HashSet<_> = staying.iter().map(|(_, sa)| spis(sa)).collect();
        let moved = (old.endpoint != new.endpoint).then_some("endpoint");
        for (was, sa) in staying {
            let keys: Vec<_> = moved.into_iter().chain(revised(was, sa)).collect();
            if !keys.is_empty() {
                self.sas_revised.push(RevisedSa { peer: &new.identity, sa, keys });
            }
        }
        let added = || new.sas.iter().filter(|sa| !kept.contains(&spis(sa)));
        let removed = || old.sas.iter().filter(|sa| !kept.contains(&spis(sa)));
        self.sas_removed.extend(removed().map(|sa| (&old.identity, sa)));
        self.sas_added.extend(added().map(|sa| (&new.identity, sa)));
        for of in [|sa: &Sa| sa.inbound.spi, |sa: &Sa| sa.outbound.spi] {
            let gone: HashSet<_> = removed().map(of).collect();
            let kept = added().map(of).filter(|spi| gone.contains(spi));
            self.spis_kept.extend(kept.map(|spi| (&new.identity, spi)));
        }
    }

    fn policies(&mut self, old: &'c [Policy], new: &'c [Policy]) {
        let (before, after): (HashSet<_>, HashSet<_>) = (old.iter().collect(), new.iter().collect());
        let flows = |policies: &[&'c Policy]| -> HashSet<_> {
            policies.iter().map(|policy| (&policy.selector, policy.action, policy.latch)).collect()
        };
        self.policies_removed.extend(old.iter().filter(|policy| !after.contains(policy)));
        self.policies_added.extend(new.iter().filter(|policy| !before.contains(policy)));
        self.terms |= !flows(&self.policies_removed).is_disjoint(&flows(&self.policies_added));
        let stay_old = old.iter().filter(|policy| after.contains(policy));
        let stay_new = new.iter().filter(|policy| before.contains(policy));
        self.policies_reordered = !stay_old.eq(stay_new);
    }
}

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.restart.iter().try_for_each(|key| writeln!(f, "needs a restart: {key}"))?;
        self.peers_removed.iter().try_for_each(|peer| writeln!(f, "- peer {}", peer.identity))?;
        for (old, new) in &self.peers_changed {
            writeln!(f, "~ peer {}: {}", new.identity, PeerChange(old, new))?;
        }
        self.peers_added.iter().try_for_each(|peer| writeln!(f, "+ peer {}", peer.identity))?;
        self.sas_removed.iter().try_for_each(|(peer, sa)| writeln!(f, "- SA {}", Pair(peer, sa)))?;
        for RevisedSa { peer, sa, keys } in &self.sas_revised {
            writeln!(f, "~ SA {}: {}", Pair(peer, sa), keys.join(", "))?;
        }
        self.sas_added.iter().try_for_each(|(peer, sa)| writeln!(f, "+ SA {}", Pair(peer, sa)))?;
        for (peer, spi) in &self.spis_kept {
            writeln!(
                f,
                "! an SA with {peer} was changed and kept its SPI {spi}: choose new SPIs and keys for it"
            )?;
        }
        self.policies_removed.iter().try_for_each(|policy| writeln!(f, "- policy {policy}"))?;
        self.policies_added.iter().try_for_each(|policy| writeln!(f, "+ policy {policy}"))?;
        if self.policies_reordered {
            writeln!(f, "~ the order of the policies")?;
        }
        if let Some(latch) = self.latch {
            writeln!(
                f,
                "~ latch: policies that do not say it {}",
                if latch { "latch" } else { "do not latch" }
            )?;
        }
        if self.terms {
            writeln!(f, "~ the terms of latches: for new ones; those that are there keep theirs")?;
        }
        Ok(())
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match (self.action, self.latch) {
            (Action::Protect, true) => "protect",
            (Action::Protect, false) => "protect, unlatched,",
            (Action::Bypass, _) => "bypass",
            (Action::Discard, _) => "discard",
        };
        let direction = match self.direction {
            None => "",
            Some(Direction::Inbound) => " inbound",
            Some(Direction::Outbound) => " outbound",
        };
        self.name.as_ref().map_or(Ok(()), |name| write!(f, "{name}: "))?;
        write!(f, "{action}{direction} {}", self.selector)?;
        self.peer.as_ref().map_or(Ok(()), |peer| write!(f, " with {peer}"))?;
        let LatchTerms { model, on_conflict, on_policy_change, unlatchable, sticky } = self.terms;
        let terms = [
            (model == Model::Tag).then_some("by tag"),
            match on_conflict {
                OnConflict::Terminate => None,
                OnConflict::DropNewcomer => Some("dropping newcomers"),
                OnConflict::RejectNewcomer => Some("rejecting newcomers"),
                OnConflict::Wait => Some("waiting for conflicts to end"),
            },
            (on_policy_change == OnPolicyChange::Preserve).then_some("preserved when policy changes"),
            (unlatchable == Unlatchable::Pass).then_some("passing what cannot be latched"),
            sticky.then_some("sticky"),
            match self.applications {
                Applications::Nothing => None,
                Applications::More => Some("applications may ask for more"),
                Applications::Bypass => Some("applications may ask for bypass"),
            },
        ];
        terms.into_iter().flatten().try_for_each(|term| write!(f, ", {term}"))
    }
}

/// All that a peer says of itself but its SAs.
const fn says(peer: &Peer) -> (Option<SocketAddr>, &Vec<IpNet>, &Vec<AuthMethod>, Option<AuthMethod>, bool) {
    (peer.endpoint, &peer.inner, &peer.methods, peer.standing, peer.shared)
}

fn proof(peer: &Peer) -> (&[AuthMethod], Option<AuthMethod>) {
    (&peer.methods, peer.standing)
}

struct PeerChange<'c>(&'c Peer, &'c Peer);

impl fmt::Display for PeerChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(old, new) = self;
        if old.endpoint != new.endpoint {
            let show = |peer: &Peer| {
                peer.endpoint.map_or_else(|| "none".to_owned(), |endpoint| endpoint.to_string())
            };
            write!(f, "endpoint {} -> {}", show(old), show(new))?;
        }
        if old.inner != new.inner {
            let show =
                |peer: &Peer| peer.inner.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let comma = if old.endpoint == new.endpoint { "" } else { "; " };
            write!(f, "{comma}may claim {} -> {}", show(old), show(new))?;
        }
        let said = (old.endpoint, &old.inner) != (new.endpoint, &new.inner);
        if proof(old) != proof(new) {
            let comma = if said { "; " } else { "" };
            let show =
                |peer: &Peer| peer.methods.iter().map(|method| method.name()).collect::<Vec<_>>().join(", ");
            let standing =
                |peer: &Peer| peer.standing.map_or_else(String::new, |s| format!(" as {}", s.name()));
            write!(f, "{comma}proven by {}{} -> {}{}", show(old), standing(old), show(new), standing(new))?;
        }
        if old.shared != new.shared {
            let comma = if said || proof(old) != proof(new) { "; " } else { "" };
            write!(f, "{comma}{}", if new.shared { "shared" } else { "not shared" })?;
        }
        Ok(())
    }
}

struct Pair<'c>(&'c PeerPattern, &'c Sa);

impl fmt::Display for Pair<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(peer, Sa { inbound, outbound, suite, .. }) = self;
        write!(f, "{} in, {} out with {peer}, {suite}", inbound.spi, outbound.spi)
    }
}

/// Whether two SAs are one and the same, though their keys may not be, nor what can be changed while they stay.
fn same(a: &Sa, b: &Sa) -> bool {
    let spis = |sa: &Sa| -> Vec<_> { sa.directions().map(|(_, suite, one)| (suite, one.spi)).collect() };
    (a.mode, a.encapsulation, a.align) == (b.mode, b.encapsulation, b.align)
        && (a.esn, a.anti_replay) == (b.esn, b.anti_replay)
        && spis(a) == spis(b)
        && a.selectors == b.selectors
}

/// What is said anew of an SA that is the same, by the keys of the file: all that can be changed while it stays.
fn revised(was: &Sa, sa: &Sa) -> impl Iterator<Item = &'static str> + use<> {
    let (outer, hiding, sizing) = (&sa.outer, &sa.hiding, &sa.sizing);
    let Outer { dscp, decapsulate_dscp, ecn, df, ttl, flow_label } = &was.outer;
    let Hiding { tfc, dummies } = was.hiding;
    let Sizing { discovery, floor, probe, fragment, clamp_mss } = was.sizing;
    let revised = [
        ("mtu", was.mtu != sa.mtu),
        ("from", was.from != sa.from),
        ("follow", was.follow != sa.follow),
        ("keepalive", was.keepalive != sa.keepalive),
        ("dscp", *dscp != outer.dscp),
        ("decapsulate_dscp", *decapsulate_dscp != outer.decapsulate_dscp),
        ("ecn", *ecn != outer.ecn),
        ("df", *df != outer.df),
        ("ttl", *ttl != outer.ttl),
        ("flow_label", *flow_label != outer.flow_label),
        ("tfc", tfc != hiding.tfc),
        ("dummies", dummies != hiding.dummies),
        ("fragment", fragment != sizing.fragment),
        ("pmtu", discovery != sizing.discovery),
        ("pmtu_floor", floor != sizing.floor),
        ("probe", probe != sizing.probe),
        ("mss_clamp", clamp_mss != sizing.clamp_mss),
        ("soft", was.soft != sa.soft),
        ("hard", was.hard != sa.hard),
    ];
    revised.into_iter().filter_map(|(key, revised)| revised.then_some(key))
}

/// Whether they have the same keys, whose content counts and not the file.
fn same_keys((a, a_keys): (&Sa, &Keyring), (b, b_keys): (&Sa, &Keyring)) -> bool {
    let same = |(a, b): (&SaDirection, &SaDirection)| match (a_keys.key(a), b_keys.key(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.key_file == b.key_file,
        _ => false,
    };
    let of = |(_, _, direction)| direction;
    a.directions().map(of).zip(b.directions().map(of)).all(same)
}

/// The keys of the file, by their names, of which the gateway is made once.
fn restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed = [
        ("name", old.name != new.name),
        ("identity", old.identity != new.identity),
        ("mode, inner, outer or guard", old.place != new.place),
        ("addresses", old.tun.addresses != new.tun.addresses),
        ("tun", {
            let addresses = old.tun.addresses.clone();
            old.tun != crate::model::Tun { addresses, ..new.tun.clone() }
        }),
        ("latches", old.latches != new.latches),
        ("bypass_port", old.bypass_port != new.bypass_port),
        ("listen", old.listen != new.listen),
        ("state or counter_mode_static", old.state != new.state),
        ("control", old.control != new.control),
        ("app", old.app != new.app),
        ("metrics", old.metrics != new.metrics),
        ("audit", old.audit != new.audit),
        ("answer_discard", old.answer_discard != new.answer_discard),
        ("user", old.user != new.user),
        ("exec", old.exec != new.exec),
    ];
    changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}
