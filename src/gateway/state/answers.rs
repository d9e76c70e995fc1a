//! What a gateway answers on control.sock.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::ControlFlow;

use latchway_control::{
    CaptureSpec, Commit, ConnectSpec, Drops, Failure, FindLatch, FlowRow, InstallSpec, LatchCounts,
    LatchDetail, LatchNamed, LatchRow, ListenSpec, Offered, PairAdded, PairSpec, PeerForgotten, PeerGoneSpec,
    PeerRow, PolicyRow, ProposalSpec, RekeySpec, Reloaded, RuleAdded, SaRow, ShownKeys, StatusView,
    StreetView, Traffic, Whois, WhoisAnswer, XfrmPolicyRow, XfrmStateRow, call,
};
use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::spd::{Rule, Spd};
use latchway_keying::{
    Alerts, Holder, Keys, Op, Pad, PairId, PairView, RuleError, RuleNumber, Stopped, Ticket, Transaction,
};

use crate::gateway::capturing::Capturing;
use crate::gateway::clock::since;
use crate::gateway::configuration::Configuration;
use crate::gateway::convert;
use crate::gateway::operator::{Answer, Gateway, Rows};
use crate::gateway::rows::{
    drop_row, milliseconds, peer_row, policy_row, sa_rows, single_row, unix_milliseconds, wire_spec,
};
use crate::gateway::selectors;
use crate::gateway::state::State;
use crate::gateway::state::named::{Carriers, Names};
use crate::gateway::xfrm::Watching;

impl Gateway for State {
    fn xfrm_apply(&self, asked: &call::XfrmApply) -> Answer<call::XfrmApplied> {
        self.xfrm.apply(asked)
    }

    fn xfrm_states(&self, keys: bool, rows: Rows<'_, XfrmStateRow>) -> Answer<()> {
        if keys {
            self.say_keys_are_shown("the keys of all states were shown to somebody on control.sock");
        }
        self.xfrm.states(keys, rows)
    }

    fn xfrm_policies(&self, rows: Rows<'_, XfrmPolicyRow>) -> Answer<()> {
        self.xfrm.policies(rows)
    }

    fn xfrm_watch(&self) -> Answer<Watching> {
        Ok(self.xfrm.told().watch())
    }

    fn show_keys(&self) -> Answer<ShownKeys> {
        self.shown_keys()
    }

    fn capture(&self, wanted: &CaptureSpec) -> Answer<Capturing> {
        Ok(Capturing::begin(&self.taps, wanted, self.started_at))
    }

    fn status(&self) -> Answer<StatusView> {
        Ok(StatusView {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started: unix_milliseconds(self.started_at),
            mode: self.mode,
            inner: self.inner.clone(),
            outer: self.outer.clone(),
            identity: self.identity.to_string(),
            tun: self.devices.tun(),
            bypass: self.bypass.clone(),
            listen: self.devices.listen.iter().copied().map(wire_spec).collect(),
            inbound: self.street(Direction::Inbound),
            outbound: self.street(Direction::Outbound),
            told_too_big: self.counters.told_too_big.get(),
            told_over: self.counters.told_over.get(),
            told_prohibited: self.counters.told_prohibited.get(),
            fragmented: self.counters.fragmented.get(),
            ecn_unusual: self.counters.ecn_unusual.get(),
            mtu_hints: self.counters.mtu_hints.get(),
            mtu_probes: self.counters.mtu_probes.get(),
            mtu_probes_answered: self.counters.mtu_probes_answered.get(),
            peers_moved: self.counters.peers_moved.get(),
            keepalives: self.counters.keepalives.get(),
            dummies: self.counters.dummies.get(),
            latches: self.latch_counts(),
            pairs: self.keying.counts().map_err(stopped)?.pairs as u64,
            exec: self.exec.clone(),
            state: self.state_health(),
            reloads: self.reloads().clone(),
            hardening: self.hardening.get().cloned().unwrap_or_default(),
            warnings: self.configuration.get().map(Configuration::warnings).unwrap_or_default(),
        })
    }

    fn drops(&self) -> Answer<Drops> {
        let rows = [Direction::Inbound, Direction::Outbound].into_iter();
        let rows = rows.flat_map(|direction| {
            DropReason::ALL.iter().filter_map(move |&reason| {
                let packets = self.counters.street(direction).dropped(reason);
                (packets > 0).then(|| drop_row(direction, reason, packets))
            })
        });
        Ok(Drops { drops: rows.collect() })
    }

    fn sas(&self, rows: Rows<'_, SaRow>) -> Answer<()> {
        let (pairs, now) = (self.keying.pairs().map_err(stopped)?, since(self.started));
        let (singles, listen) = (self.keying.single_sas().map_err(stopped)?, &self.devices.listen);
        let of_pairs = pairs.iter().flat_map(|pair| sa_rows(pair, listen, now));
        give(of_pairs.chain(singles.iter().map(|single| single_row(single, listen, now))), rows)
    }

    fn policies(&self, rows: Rows<'_, PolicyRow>) -> Answer<()> {
        give(self.keying.policy().map_err(stopped)?.iter().map(policy_row), rows)
    }

    fn peers(&self, rows: Rows<'_, PeerRow>) -> Answer<()> {
        let (pairs, now) = (self.keying.pairs().map_err(stopped)?, since(self.started));
        let pairs: HashMap<PairId, PairView> = pairs.into_iter().map(|pair| (pair.id, pair)).collect();
        let row = |peer: &latchway_keying::PeerView| {
            let own: Vec<_> = peer.pairs.iter().filter_map(|pair| pairs.get(pair)).collect();
            let sum = |of: fn(&PairView) -> (u64, u64)| {
                own.iter().map(|pair| of(pair)).fold(Traffic::default(), |sum, (packets, octets)| Traffic {
                    packets: sum.packets.saturating_add(packets),
                    octets: sum.octets.saturating_add(octets),
                })
            };
            let heard = own.iter().filter_map(|pair| pair.inbound.last_used).max();
            PeerRow {
                last_heard: heard.map(|heard| milliseconds(now.since(heard))),
                inbound: sum(|pair| (pair.inbound.packets, pair.inbound.octets)),
                outbound: sum(|pair| (pair.outbound.packets, pair.outbound.octets)),
                endpoint: own.last().map(|pair| pair.path.to),
                ..peer_row(peer)
            }
        };
        give(self.keying.peers().map_err(stopped)?.iter().map(row), rows)
    }

    fn latches(&self, rows: Rows<'_, LatchRow>) -> Answer<()> {
        let mut names = Names::of(self);
        for latch in self.database.dump() {
            if rows(names.latch_row(&latch).map_err(stopped)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn flows(&self, rows: Rows<'_, FlowRow>) -> Answer<()> {
        let (mut names, pairs) = (Names::of(self), self.keying.pairs().map_err(stopped)?);
        let carriers = Carriers::of(&pairs);
        for flow in self.database.flows() {
            if rows(names.flow_row(&flow, &carriers).map_err(stopped)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn explain(&self, packet: &call::Explain) -> Answer<latchway_control::Explanation> {
        self.explain_packet(packet)
    }

    fn mtu(&self, peer: &call::Mtu) -> Answer<latchway_control::MtuView> {
        self.explain_mtu(peer)
    }

    fn reload(&self, how: call::Reload) -> Answer<Reloaded> {
        Self::reload(self, how.dry_run).map_err(refused)
    }

    fn add_pair(&self, spec: &PairSpec) -> Answer<PairAdded> {
        let (proposal, keys) = convert::pair(spec, &self.identity, &self.devices.listen).map_err(refused)?;
        let proposal = convert::serving(proposal, &self.keying.pad().map_err(stopped)?);
        self.check_fresh(&keys)?;
        let offer = self.keying.propose(proposal).map_err(stopped)?.map_err(refused)?;
        let pair = self.keying.install(offer.ticket, keys).map_err(stopped)?.map_err(refused)?;
        Ok(PairAdded { pair: pair.raw() })
    }

    fn delete_pair(&self, pair: u64) -> Answer<()> {
        self.transact(vec![Op::Remove(PairId::from_raw(pair))])
    }

    fn add_rule(&self, added: &call::AddRule) -> Answer<RuleAdded> {
        let rules = convert::rule(&added.rule).map_err(refused)?;
        let pad = self.keying.pad().map_err(stopped)?;
        rules.iter().try_for_each(|rule| keeps_anybody_apart(rule, &pad))?;
        let before = added.before.map(RuleNumber::from_raw);
        match self.keying.add_rule(rules, before).map_err(stopped)? {
            Ok(number) => Ok(RuleAdded { number: number.raw() }),
            Err(RuleError::Unknown(number)) => Err(Failure::not_found(
                format!("there is no rule {number}"),
                "list the policy to see the numbers",
            )),
            Err(error) => Err(refused(error)),
        }
    }

    fn delete_rule(&self, number: u64) -> Answer<()> {
        let deleted = self.keying.delete_rule(RuleNumber::from_raw(number)).map_err(stopped)?;
        deleted.map(|_| ()).map_err(refused)
    }

    fn propose(&self, spec: &ProposalSpec) -> Answer<Offered> {
        let proposal = convert::proposal(spec, &self.identity).map_err(refused)?;
        let proposal = convert::serving(proposal, &self.keying.pad().map_err(stopped)?);
        let offer = self.keying.propose(proposal).map_err(stopped)?.map_err(refused)?;
        Ok(Offered {
            expires: milliseconds(offer.expires.since(since(self.started))),
            selectors: offer.selectors.iter().map(selectors::shown).collect(),
            class: offer.class.raw(),
            breaks: offer.latches_that_would_break.iter().map(|latch| latch.flow.to_string()).collect(),
            ticket: offer.ticket.into_text().as_str().to_owned(),
        })
    }

    fn install(&self, spec: &InstallSpec) -> Answer<PairAdded> {
        let ticket: Ticket = spec.ticket.parse().map_err(refused)?;
        let keys = convert::keys(&spec.keys, &self.devices.listen).map_err(refused)?;
        self.check_fresh(&keys)?;
        let pair = self.keying.install(ticket, keys).map_err(stopped)?.map_err(refused)?;
        Ok(PairAdded { pair: pair.raw() })
    }

    fn rekey(&self, spec: &RekeySpec) -> Answer<PairAdded> {
        let keys = convert::keys(&spec.keys, &self.devices.listen).map_err(refused)?;
        self.check_fresh(&keys)?;
        let pair = self.keying.rekey(PairId::from_raw(spec.pair), keys).map_err(stopped)?.map_err(refused)?;
        Ok(PairAdded { pair: pair.raw() })
    }

    fn commit(&self, commit: &Commit) -> Answer<()> {
        let each = |pairs: &[u64], op: fn(PairId) -> Op| -> Vec<Op> {
            pairs.iter().map(|&pair| op(PairId::from_raw(pair))).collect()
        };
        let mut ops = each(&commit.activate, Op::Activate);
        ops.extend(each(&commit.retire, Op::Retire));
        ops.extend(each(&commit.remove, Op::Remove));
        if let Some(policy) = &commit.policy {
            ops.push(Op::SetSpd(Spd::new(convert::rules(policy).map_err(refused)?)));
        }
        self.transact(ops)
    }

    fn hold(&self) -> Answer<Alerts> {
        self.open_holder()
    }

    fn let_go(&self, holder: Holder) {
        // A key manager that does not run releases it when it runs again.
        let _ = self.keying.holder_gone(holder);
    }

    fn listen_latch(&self, asked: &ListenSpec, holder: Holder) -> Answer<LatchNamed> {
        self.make_listener(asked, holder)
    }

    fn connect_latch(&self, asked: &ConnectSpec, holder: Holder) -> Answer<LatchNamed> {
        self.make_connection(asked, holder)
    }

    fn release_latch(&self, latch: &str, holder: Holder) -> Answer<()> {
        self.give_up(latch, holder)
    }

    fn inquire_latch(&self, latch: &str) -> Answer<(LatchDetail, Option<Holder>)> {
        self.inquire(latch)
    }

    fn find_latch(&self, flow: &FindLatch) -> Answer<LatchNamed> {
        self.find(flow)
    }

    fn close_latch(&self, latch: &str) -> Answer<()> {
        self.close(latch)
    }

    fn watch_latches(&self, holder: Holder, all: bool) -> Answer<()> {
        self.watch(holder, all)
    }

    fn peer_gone(&self, peer: &PeerGoneSpec) -> Answer<PeerForgotten> {
        self.forget_peer(peer)
    }

    fn whois(&self, ends: &Whois) -> Answer<WhoisAnswer> {
        self.who_is(ends)
    }
}

impl State {
    fn transact(&self, ops: Vec<Op>) -> Answer<()> {
        self.keying.commit(Transaction::new(ops)).map_err(stopped)?.map(|_| ()).map_err(refused)
    }

    /// A key of a counter mode that the state folder knows was used before, and would begin at 1 again here (T12).
    fn check_fresh(&self, keys: &Keys) -> Answer<()> {
        let header = keys.header.iter().flat_map(|header| [&header.inbound, &header.outbound]);
        for keys in [&keys.inbound, &keys.outbound].into_iter().chain(header) {
            if keys.material.suite().is_counter_mode() && self.xfrm().is_on_record(keys).map_err(refused)? {
                return Err(Failure::refused(
                    "a key was used before, as the record in the state folder says, and its numbers would come again",
                    "make new keys",
                ));
            }
        }
        Ok(())
    }

    fn street(&self, direction: Direction) -> StreetView {
        let street = self.counters.street(direction);
        let (datagrams, octets) = self.devices.on_wire(direction);
        StreetView {
            packets: street.packets.get(),
            octets: street.octets.get(),
            dropped: DropReason::ALL.iter().map(|&reason| street.dropped(reason)).sum(),
            wire_datagrams: Some(datagrams),
            wire_octets: Some(octets),
        }
    }

    fn latch_counts(&self) -> LatchCounts {
        let latches = self.database.counts();
        LatchCounts {
            capacity: latches.capacity,
            unlatched: latches.unlatched,
            half_open: latches.half_open,
            listener: latches.listener,
            larval: latches.larval,
            established: latches.established,
            broken: latches.broken,
            closed: latches.closed,
            requirements: latches.requirements,
        }
    }
}

fn give<R>(all: impl Iterator<Item = R>, rows: Rows<'_, R>) -> Answer<()> {
    for row in all {
        if rows(row) == ControlFlow::Break(()) {
            break;
        }
    }
    Ok(())
}

/// As in a configuration, whose rules are checked so when it is read.
fn keeps_anybody_apart(rule: &Rule, pad: &Pad) -> Answer<()> {
    match pad.anybody_behind(rule) {
        Some(entry) => {
            let what =
                format!("the rule latches by tag, but anybody may serve it, as the peer {}", entry.name);
            Err(Failure::refused(what, "latch it by the model \"strict\", or speak of other addresses"))
        }
        None => Ok(()),
    }
}

/// The parts' errors say what to do by themselves.
pub(super) fn refused(error: impl Display) -> Failure {
    Failure::refused(error.to_string(), "")
}

pub fn stopped(error: Stopped) -> Failure {
    Failure::failed(error.to_string(), "")
}
