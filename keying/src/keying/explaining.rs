//! Answers what would become of a packet, by the functions that the packet paths themselves ask.

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::fitting::Fitting;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::sad::{Role, SadEntry, Scope, Slot, Usage};
use latchway_datapath::spd::{Action, Protection, Rule};
use latchway_datapath::traffic::Traffic;
use latchway_tagging::ClassId;

use crate::explain::{Carrier, Explanation, Question, RuleMiss, SaMiss, SaOwner, Verdict};
use crate::keying::Keying;

/// What an SA must be to carry the flow.
#[derive(Clone, Copy)]
struct Demand {
    question: Question,
    class: Option<ClassId>,
    /// What policy wants of SAs, whether it is asked or not.
    protection: Option<Protection>,
}

impl Keying {
    /// What would become of a packet, and why.
    #[must_use]
    pub fn explain(&self, question: &Question) -> Explanation {
        let Question { flow, direction, required } = *question;
        let policy = self.current.spd.find(&Traffic::of(&flow), direction);
        let protection = match policy.map(|(_, rule)| rule.action) {
            Some(Action::Protect(protection)) => Some(protection),
            _ => None,
        };
        let decides = policy.filter(|_| required.is_none());
        let action = decides.map(|(_, rule)| rule.action);
        let demand = Demand { question: *question, class: required, protection };
        let verdict = match (required, action) {
            _ if flow.is_link_local() => Verdict::Dropped(DropReason::LinkLocal),
            (None, None) => Verdict::Dropped(DropReason::NoPolicy),
            (None, Some(Action::Discard)) => Verdict::Dropped(DropReason::PolicyDiscard),
            (None, Some(Action::Bypass)) => Verdict::Bypassed,
            (Some(_), _) | (None, Some(Action::Protect(_))) => self.protect(&demand),
        };
        let mut explanation = Explanation {
            snapshot: self.current.id,
            rule: decides.and_then(|(place, _)| self.policy.views().into_iter().nth(place)),
            verdict,
            rules_passed_over: Vec::new(),
            sas_passed_over: Vec::new(),
            more: 0,
        };
        if required.is_none() {
            self.pass_rules_over(question, decides.map(|(place, _)| place), &mut explanation);
        }
        if !matches!(action, Some(Action::Bypass | Action::Discard)) {
            self.pass_sas_over(&demand, &mut explanation);
        }
        explanation
    }

    fn protect(&self, demand: &Demand) -> Verdict {
        let slot = match demand.question.direction {
            Direction::Outbound => {
                let (sad, traffic) = (&self.current.sad, Traffic::of(&demand.question.flow));
                match (demand.class, demand.protection) {
                    (None, Some(protection)) => sad.select_serving(&traffic, &protection),
                    (class, _) => sad.select(&traffic, class, None),
                }
            }
            Direction::Inbound => self.receiving(demand),
        };
        match slot {
            Some(slot) if slot.entry.use_.is_expired() => Verdict::Dropped(DropReason::HardExpired),
            Some(slot) => {
                self.carrier(&slot.entry).map_or(Verdict::Dropped(DropReason::NoSa), Verdict::Protected)
            }
            None if demand.question.direction == Direction::Outbound => {
                Verdict::Dropped(DropReason::NoOutboundSa)
            }
            None => Verdict::Dropped(DropReason::NoSa),
        }
    }

    /// An SA by which the peer could send the flow: the newest, as the peer would choose too.
    fn receiving(&self, demand: &Demand) -> Option<&Slot> {
        let receives = |slot: &&Slot| {
            slot.entry.is_inbound() && !slot.entry.is_for_another() && miss(slot, demand).is_none()
        };
        let age = |slot: &&Slot| (slot.entry.added, self.owner(&slot.entry));
        self.current.sad.iter().filter(receives).max_by_key(age)
    }

    fn owner(&self, entry: &SadEntry) -> Option<SaOwner> {
        let pair = self.by_sa.get(&entry.sa).map(|pair| SaOwner::Pair(*pair));
        pair.or_else(|| Some(SaOwner::Single(*self.single_by_sa.get(&entry.sa)?, entry.spi)))
    }

    fn carrier(&self, entry: &SadEntry) -> Option<Carrier> {
        let owner = self.owner(entry)?;
        let inbound = entry.is_inbound();
        let (peer, suite, class, fitting) = match owner {
            SaOwner::Pair(id) => {
                let pair = self.pairs.get(&id)?;
                let suites = pair.terms.suites;
                let suite = if inbound { suites.inbound } else { suites.outbound };
                (&pair.terms.peer, suite, Some(entry.class), pair.fitting(entry))
            }
            SaOwner::Single(id, _) => {
                let single = self.singles.get(&id)?;
                let class = single.partner.map(|(_, class)| class);
                (&single.new.peer, single.new.suite, class, self.single_fitting(single, entry))
            }
        };
        let max_inner = match &entry.role {
            Role::Inbound { .. } => None,
            Role::Outbound { .. } => {
                let mtu = usize::from(entry.mtu()?.in_force);
                let most = |fitting: Fitting| fitting.max_inner(mtu, fitting.usual_front());
                fitting.map(most).filter(|&most| most > 0)
            }
        };
        let (sa, spi, peer) = (entry.sa, entry.spi, peer.clone());
        Some(Carrier { sa, spi, owner, class, peer, suite, max_inner })
    }

    /// The rules before the one that decides.
    fn pass_rules_over(&self, question: &Question, decides: Option<usize>, explanation: &mut Explanation) {
        let views = self.policy.views();
        let before = views.iter().take(decides.unwrap_or(views.len()));
        let misses =
            before.map(|view| (view.number, rule_miss(&view.rule, &question.flow, question.direction)));
        let (passed, more) = readable(misses);
        explanation.rules_passed_over = passed;
        explanation.more += more;
    }

    /// The SAs of the direction that are not used.
    fn pass_sas_over(&self, demand: &Demand, explanation: &mut Explanation) {
        let used = match &explanation.verdict {
            Verdict::Protected(carrier) => Some(carrier.sa),
            _ => None,
        };
        let inbound = demand.question.direction == Direction::Inbound;
        let others = self.current.sad.iter().filter(|slot| slot.entry.is_inbound() == inbound);
        // What goes around others is told of with those.
        let others = others.filter(|slot| Some(slot.entry.sa) != used && !slot.entry.is_for_another());
        let mut misses: Vec<(SaOwner, SaMiss)> = others
            .filter_map(|slot| {
                let why = miss(slot, demand).unwrap_or(SaMiss::Older);
                Some((self.owner(&slot.entry)?, why))
            })
            .collect();
        // Those that came closest first: what lacks a selector is most often of another tunnel altogether.
        misses.sort_by_key(|(id, why)| (*why == SaMiss::Selectors, *id));
        let (passed, more) = readable(misses.into_iter());
        explanation.sas_passed_over = passed;
        explanation.more += more;
    }
}

/// The first of the rule's selectors that does not match (RFC 4301 4.4.1.1).
fn rule_miss(rule: &Rule, flow: &FlowKey, direction: Direction) -> RuleMiss {
    let selector = &rule.selector;
    if rule.direction.is_some_and(|only| only != direction) {
        RuleMiss::Direction
    } else if !selector.local.contains(flow.local_number()) {
        RuleMiss::Local
    } else if !selector.remote.contains(flow.remote_number()) {
        RuleMiss::Remote
    } else if selector.protocol.is_some_and(|protocol| protocol != flow.protocol()) {
        RuleMiss::Protocol
    } else {
        RuleMiss::Ports
    }
}

/// Why an SA does not carry the flow; `None` where it could.
fn miss(slot: &Slot, demand: &Demand) -> Option<SaMiss> {
    let entry = &slot.entry;
    let in_force = match demand.question.direction {
        Direction::Outbound => slot.usage == Usage::Active,
        Direction::Inbound => slot.usage != Usage::Pending,
    };
    if !entry.admits(&Traffic::of(&demand.question.flow)) {
        Some(SaMiss::Selectors)
    } else if demand.class.is_some_and(|class| class != entry.class) {
        Some(SaMiss::OtherClass)
    } else if let Some(miss) = policy_miss(entry, demand) {
        Some(miss)
    } else if !in_force {
        Some(SaMiss::NotInForce(slot.usage))
    } else if entry.use_.is_expired() {
        Some(SaMiss::Expired)
    } else {
        None
    }
}

/// Why an SA does not serve the rule; `None` where it does, or need not.
fn policy_miss(entry: &SadEntry, demand: &Demand) -> Option<SaMiss> {
    let protection = match (demand.question.direction, demand.protection) {
        (Direction::Outbound, Some(protection)) if demand.class.is_none() => protection,
        (Direction::Outbound, _) => return None,
        // Inbound, any SA of a pair will do whose selectors admit the flow (RFC 4301 5.2).
        (Direction::Inbound, _) if entry.scope == Scope::Selectors => return None,
        (Direction::Inbound, None) => return Some(SaMiss::OtherTemplate),
        (Direction::Inbound, Some(protection)) => protection,
    };
    let other = protection.reqid.is_some_and(|reqid| reqid != entry.reqid);
    let why = if other { SaMiss::OtherReqid } else { SaMiss::OtherTemplate };
    (!entry.serves(&protection)).then_some(why)
}

/// As many as a person reads, and how many there are beyond.
fn readable<T>(items: impl Iterator<Item = T>) -> (Vec<T>, usize) {
    let mut items = items;
    let shown = items.by_ref().take(READABLE).collect();
    (shown, items.count())
}

/// How many rules and how many SAs an explanation passes over by name.
const READABLE: usize = 32;
