//! What was asked for: states and policies in the order in which they came, and how a step changes them. The rules for
//! that are the kernel's.
//!
//! Steps are kept in a journal until all that belongs to them is done, so that they can be undone together. A step costs
//! what it changes, however many states and policies there are.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use latchway_control::{
    Failure, XfrmDirection, XfrmEventKind, XfrmPolicy, XfrmPolicyBy, XfrmPolicyId, XfrmPolicyRow,
    XfrmProtocol, XfrmSelector, XfrmState, XfrmStateFlag, XfrmStateId, XfrmStep,
};
use latchway_keying::SingleId;

use crate::gateway::operator::Answer;
use crate::gateway::xfrm::rules::Reqids;

/// States and policies.
#[derive(Debug, Default)]
pub struct Book {
    /// Oldest first.
    states: BTreeMap<Place, Arc<Held>>,
    /// Where each is, by what packets name it by.
    names: HashMap<(IpAddr, XfrmProtocol, u32), Place>,
    /// The same, by what it is in the key manager.
    made: HashMap<SingleId, Place>,
    /// Oldest first; of one priority, those in front decide.
    policies: BTreeMap<Place, Arc<XfrmPolicyRow>>,
    selectors: HashMap<(XfrmDirection, XfrmSelector), Place>,
    indices: HashMap<u32, Place>,
    /// What the steps that are not settled yet have changed, and what was there before.
    journal: Vec<Entry>,
    pub reqids: Reqids,
    /// From which indices of policies are made.
    generator: u32,
    last: Place,
}

/// A state's or a policy's place, which none has before or after it.
pub type Place = u64;

/// A state.
#[derive(Clone, Debug)]
pub struct Held {
    /// What was asked for.
    pub spec: XfrmState,
    /// Whether its key is said to be fresh.
    pub ephemeral: bool,
    /// When it was added, in milliseconds since 1970.
    pub added: u64,
    /// Whether it protects what we send.
    pub outbound: bool,
    /// What it is in the key manager, once it is there.
    pub single: Option<SingleId>,
}

/// Something that a step changed, for whoever watches: never with keys.
#[derive(Debug)]
pub struct Change(pub XfrmEventKind, pub Option<Box<XfrmState>>, pub Option<Box<XfrmPolicyRow>>);

/// What was at a place before.
#[derive(Debug)]
enum Entry {
    State(Place, Option<Arc<Held>>),
    Policy(Place, Option<Arc<XfrmPolicyRow>>),
}

impl Book {
    /// Does a step. Returns what it changed.
    ///
    /// # Errors
    /// [`Failure`], as the kernel has it. Nothing changed then.
    pub fn step(&mut self, step: &XfrmStep, ephemeral: bool, now: u64) -> Answer<Vec<Change>> {
        match step {
            XfrmStep::AddState(state) => self.add_state(state, ephemeral, now),
            XfrmStep::UpdateState(state) => self.update_state(state, ephemeral, now),
            XfrmStep::DeleteState(id) => self.delete_state(id),
            XfrmStep::FlushStates { protocol } => Ok(self.flush_states(*protocol)),
            XfrmStep::AddPolicy(policy) => self.add_policy(policy, now),
            XfrmStep::UpdatePolicy(policy) => self.update_policy(policy, now),
            XfrmStep::DeletePolicy(id) => self.delete_policy(id),
            XfrmStep::FlushPolicies {} => Ok(self.flush_policies()),
        }
    }

    /// The steps since the last time are done for good.
    pub fn settle(&mut self) {
        self.journal.clear();
    }

    /// Takes back the steps since the last time.
    pub fn undo(&mut self) {
        while let Some(entry) = self.journal.pop() {
            match entry {
                Entry::State(place, before) => drop(self.put_state(place, before)),
                Entry::Policy(place, before) => drop(self.put_policy(place, before)),
            }
        }
    }

    /// The states that steps not settled yet have changed, as they were before them.
    pub fn changed_states(&self) -> BTreeMap<Place, Option<Arc<Held>>> {
        let mut changed = BTreeMap::new();
        for entry in &self.journal {
            if let Entry::State(place, before) = entry {
                changed.entry(*place).or_insert_with(|| before.clone());
            }
        }
        changed
    }

    /// Whether any of these steps was of a policy.
    pub fn has_changed_policies(&self) -> bool {
        self.journal.iter().any(|entry| matches!(entry, Entry::Policy(..)))
    }

    /// How much the steps that are not settled yet have changed.
    pub const fn journalled(&self) -> usize {
        self.journal.len()
    }

    /// Which of these changes was the last of a place.
    pub fn last_change(&self, place: Place) -> Option<usize> {
        let is_there = |entry: &Entry| match entry {
            Entry::State(at, _) | Entry::Policy(at, _) => *at == place,
        };
        self.journal.iter().rposition(is_there)
    }

    /// The states, oldest first.
    pub fn states(&self) -> impl DoubleEndedIterator<Item = (Place, &Arc<Held>)> {
        self.states.iter().map(|(place, held)| (*place, held))
    }

    /// The state at a place.
    pub fn state(&self, place: Place) -> Option<&Arc<Held>> {
        self.states.get(&place)
    }

    /// The same, with its direction noted.
    pub fn directed(&mut self, place: Place, outbound: impl FnOnce(&XfrmState) -> bool) -> Option<Held> {
        let held = Arc::make_mut(self.states.get_mut(&place)?);
        held.outbound = outbound(&held.spec);
        Some(held.clone())
    }

    /// Notes what a state became in the key manager: that belongs to no step.
    pub fn note_made(&mut self, place: Place, single: SingleId) {
        if let Some(held) = self.states.get_mut(&place) {
            Arc::make_mut(held).single = Some(single);
            self.made.insert(single, place);
        }
    }

    /// Where the state is that became this.
    pub fn place_of(&self, single: SingleId) -> Option<Place> {
        self.made.get(&single).copied()
    }

    /// The policies, oldest first.
    pub fn policies(&self) -> impl DoubleEndedIterator<Item = (Place, &Arc<XfrmPolicyRow>)> {
        self.policies.iter().map(|(place, row)| (*place, row))
    }

    /// Takes a state out that is gone by itself.
    pub fn forget(&mut self, place: Place) {
        self.put_state(place, None);
    }

    fn add_state(&mut self, state: &XfrmState, ephemeral: bool, now: u64) -> Answer<Vec<Change>> {
        if self.states.len() >= MOST_STATES {
            return Err(Failure::full(format!("there are {MOST_STATES} states already"), "delete some"));
        }
        if self.names.contains_key(&name(state)) {
            return Err(Failure::conflict(
                "a state with this destination, protocol and SPI exists already",
                "use `update` to change it, or choose another SPI",
            ));
        }
        let place = self.next();
        self.change_state(place, Some(Held::new(state, ephemeral, now)));
        Ok(vec![Change::state(XfrmEventKind::StateAdded, state)])
    }

    /// Whatever is said anew, numbers go on, unless the key is another: then it is another state under the same name.
    fn update_state(&mut self, state: &XfrmState, ephemeral: bool, now: u64) -> Answer<Vec<Change>> {
        let place = self.find_state(&XfrmStateId { src: None, ..state.id() }).ok_or_else(no_state)?;
        let held = self.states.get(&place).ok_or_else(no_state)?;
        let change = vec![Change::state(XfrmEventKind::StateUpdated, state)];
        if held.spec.algorithms != state.algorithms {
            self.change_state(place, Some(Held::new(state, ephemeral, now)));
            return Ok(change);
        }
        let fixed = |state: &XfrmState| {
            (
                state.src,
                state.mode,
                state.window(),
                state.has(XfrmStateFlag::Esn),
                state.protocol == XfrmProtocol::Ah && state.has(XfrmStateFlag::Align4),
                state.reqid,
            )
        };
        if fixed(&held.spec) != fixed(state) {
            return Err(Failure::refused(
                "an update under the same key changes the selector, limits, encapsulation and flags (but esn, and align4 of AH), and nothing else",
                "delete the state and add it anew, with a new key",
            ));
        }
        // Where its numbers are is not for an update to say.
        let (replay_seq, replay_oseq) = (held.spec.replay_seq, held.spec.replay_oseq);
        let spec = XfrmState { replay_seq, replay_oseq, ..state.clone() };
        let held = Held { spec, ..Held::clone(held) };
        self.change_state(place, Some(held));
        Ok(change)
    }

    fn delete_state(&mut self, id: &XfrmStateId) -> Answer<Vec<Change>> {
        let place = self.find_state(id).ok_or_else(no_state)?;
        let gone = self.change_state(place, None).ok_or_else(no_state)?;
        Ok(vec![Change::state(XfrmEventKind::StateDeleted, &gone.spec)])
    }

    fn flush_states(&mut self, protocol: Option<XfrmProtocol>) -> Vec<Change> {
        let is_meant = |held: &Held| protocol.is_none_or(|protocol| protocol == held.spec.protocol);
        let meant = self.states().filter(|(_, held)| is_meant(held)).map(|(place, _)| place);
        let meant: Vec<_> = meant.collect();
        let gone = meant.into_iter().filter_map(|place| self.change_state(place, None));
        gone.map(|held| Change::state(XfrmEventKind::StateDeleted, &held.spec)).collect()
    }

    fn add_policy(&mut self, policy: &XfrmPolicy, now: u64) -> Answer<Vec<Change>> {
        if self.find_policy(&policy.id()).is_some() {
            return Err(Failure::conflict(
                "a policy with this selector and direction exists already",
                "use `update` to change it",
            ));
        }
        self.put_behind(XfrmEventKind::PolicyAdded, policy, now)
    }

    /// One of the same priority is replaced where it is; else it comes behind those of its new one.
    fn update_policy(&mut self, policy: &XfrmPolicy, now: u64) -> Answer<Vec<Change>> {
        let before = self.find_policy(&policy.id());
        let before = before.and_then(|place| Some((place, Arc::clone(self.policies.get(&place)?))));
        let Some((place, before)) = before else {
            return self.put_behind(XfrmEventKind::PolicyUpdated, policy, now);
        };
        let index = before.policy.index;
        let place = if before.policy.priority == policy.priority {
            place
        } else {
            self.change_policy(place, None);
            self.next()
        };
        Ok(vec![self.put_at(
            place,
            XfrmEventKind::PolicyUpdated,
            XfrmPolicy { index, ..policy.clone() },
            now,
        )])
    }

    fn put_behind(&mut self, kind: XfrmEventKind, policy: &XfrmPolicy, now: u64) -> Answer<Vec<Change>> {
        if self.policies.len() >= MOST_POLICIES {
            return Err(Failure::full(format!("there are {MOST_POLICIES} policies already"), "delete some"));
        }
        let (index, place) = (self.index(policy)?, self.next());
        Ok(vec![self.put_at(place, kind, XfrmPolicy { index, ..policy.clone() }, now)])
    }

    fn put_at(&mut self, place: Place, kind: XfrmEventKind, policy: XfrmPolicy, now: u64) -> Change {
        let row = XfrmPolicyRow { policy, added: now };
        self.change_policy(place, Some(row.clone()));
        Change(kind, None, Some(Box::new(row)))
    }

    fn delete_policy(&mut self, id: &XfrmPolicyId) -> Answer<Vec<Change>> {
        let place = self.find_policy(id).ok_or_else(no_policy)?;
        let gone = self.change_policy(place, None).ok_or_else(no_policy)?;
        Ok(vec![Change::policy(XfrmEventKind::PolicyDeleted, &gone)])
    }

    fn flush_policies(&mut self) -> Vec<Change> {
        let places: Vec<_> = self.policies.keys().copied().collect();
        let gone = places.into_iter().filter_map(|place| self.change_policy(place, None));
        gone.map(|row| Change::policy(XfrmEventKind::PolicyDeleted, &row)).collect()
    }

    fn find_state(&self, id: &XfrmStateId) -> Option<Place> {
        let place = *self.names.get(&(id.dst, id.protocol, id.spi))?;
        self.states.get(&place).filter(|held| id.names(&held.spec)).map(|_| place)
    }

    fn find_policy(&self, id: &XfrmPolicyId) -> Option<Place> {
        match &id.by {
            XfrmPolicyBy::Selector(selector) => {
                self.selectors.get(&(id.direction, selector.clone())).copied()
            }
            XfrmPolicyBy::Index(index) => {
                let place = *self.indices.get(index)?;
                self.policies.get(&place).filter(|row| id.names(&row.policy)).map(|_| place)
            }
        }
    }

    /// An index, in whose lowest bits the direction is.
    fn index(&mut self, policy: &XfrmPolicy) -> Answer<u32> {
        let direction = match policy.direction {
            XfrmDirection::In => 0,
            XfrmDirection::Out => 1,
            XfrmDirection::Fwd => 2,
        };
        if policy.index != 0 && policy.index & 7 != direction {
            return Err(Failure::bad_call(
                format!("index {} is not of direction {}", policy.index, policy.direction),
                "its remainder by 8 is 0 for in, 1 for out and 2 for fwd; or leave it out",
            ));
        }
        if policy.index != 0 && !self.indices.contains_key(&policy.index) {
            return Ok(policy.index);
        }
        loop {
            let index = self.generator | direction;
            self.generator = self.generator.wrapping_add(8);
            if index != 0 && !self.indices.contains_key(&index) {
                return Ok(index);
            }
        }
    }

    const fn next(&mut self) -> Place {
        self.last += 1;
        self.last
    }

    fn change_state(&mut self, place: Place, state: Option<Held>) -> Option<Arc<Held>> {
        let before = self.put_state(place, state.map(Arc::new));
        self.journal.push(Entry::State(place, before.clone()));
        before
    }

    fn change_policy(&mut self, place: Place, row: Option<XfrmPolicyRow>) -> Option<Arc<XfrmPolicyRow>> {
        let before = self.put_policy(place, row.map(Arc::new));
        self.journal.push(Entry::Policy(place, before.clone()));
        before
    }

    fn put_state(&mut self, place: Place, state: Option<Arc<Held>>) -> Option<Arc<Held>> {
        let added = state.as_ref().map(|held| (name(&held.spec), held.single));
        let before = match state {
            Some(held) => self.states.insert(place, held),
            None => self.states.remove(&place),
        };
        if let Some(before) = &before {
            self.names.remove(&name(&before.spec));
            if let Some(single) = before.single {
                self.made.remove(&single);
            }
        }
        if let Some((name, single)) = added {
            self.names.insert(name, place);
            self.made.extend(single.map(|single| (single, place)));
        }
        before
    }

    fn put_policy(&mut self, place: Place, row: Option<Arc<XfrmPolicyRow>>) -> Option<Arc<XfrmPolicyRow>> {
        let added = row.as_ref().map(|row| (selector(&row.policy), row.policy.index));
        let before = match row {
            Some(row) => self.policies.insert(place, row),
            None => self.policies.remove(&place),
        };
        if let Some(before) = &before {
            self.selectors.remove(&selector(&before.policy));
            self.indices.remove(&before.policy.index);
        }
        if let Some((selector, index)) = added {
            self.selectors.insert(selector, place);
            self.indices.insert(index, place);
        }
        before
    }
}

impl Held {
    fn new(state: &XfrmState, ephemeral: bool, now: u64) -> Self {
        Self { spec: state.clone(), ephemeral, added: now, outbound: false, single: None }
    }
}

impl Change {
    /// One of a state.
    pub fn state(kind: XfrmEventKind, state: &XfrmState) -> Self {
        Self(kind, Some(Box::new(state.without_keys())), None)
    }

    fn policy(kind: XfrmEventKind, row: &XfrmPolicyRow) -> Self {
        Self(kind, None, Some(Box::new(row.clone())))
    }
}

const fn name(state: &XfrmState) -> (IpAddr, XfrmProtocol, u32) {
    (state.dst, state.protocol, state.spi)
}

fn selector(policy: &XfrmPolicy) -> (XfrmDirection, XfrmSelector) {
    (policy.direction, policy.selector.clone())
}

fn no_state() -> Failure {
    Failure::not_found("there is no such state", "list the states; dst, proto and spi name one")
}

fn no_policy() -> Failure {
    Failure::not_found(
        "there is no such policy",
        "list the policies; selector and direction, as they were said, or index and direction name one",
    )
}

/// As many as a gateway may hold: less than its SAD has slots.
const MOST_STATES: usize = 65_536;
const MOST_POLICIES: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_xfrm::{Command, Family};

    fn step(line: &str) -> XfrmStep {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        match Command::read(&words, Family::Any) {
            Ok(Command::Apply(step)) => step,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn said(book: &mut Book, line: &str) -> Answer<Vec<XfrmEventKind>> {
        let changes = book.step(&step(line), false, 0)?;
        Ok(changes.iter().map(|change| change.0).collect())
    }

    fn state(spi: u32, rest: &str) -> String {
        let key = "0x000102030405060708090a0b0c0d0e0f";
        let state = format!("src ::1 dst ::2 proto ah spi {spi} auth-trunc hmac(sha256) {key} 128");
        if rest.is_empty() { state } else { format!("{state} {rest}") }
    }

    fn priorities(book: &Book) -> Vec<(String, u32)> {
        book.policies().map(|(_, row)| (row.policy.selector.dst.to_string(), row.policy.priority)).collect()
    }

    /// RFC 4302 3.3.3.2.1: to what AH is aligned is part of the ICV, so that an update of it must not pass for done.
    #[test]
    fn an_update_that_would_change_nothing_is_refused() {
        let mut book = Book::default();
        said(&mut book, &format!("state add {}", state(256, ""))).unwrap();
        said(&mut book, &format!("state update {}", state(256, "flag noecn"))).unwrap();
        for other in ["flag align4", "flag esn", "replay-window 64", "reqid 3", "mode tunnel"] {
            assert!(said(&mut book, &format!("state update {}", state(256, other))).is_err(), "{other}");
        }
    }

    #[test]
    fn a_state_is_named_by_destination_protocol_and_spi() {
        let mut book = Book::default();
        said(&mut book, &format!("state add {}", state(256, ""))).unwrap();
        assert!(said(&mut book, &format!("state add {}", state(256, "reqid 9"))).is_err());
        said(&mut book, &format!("state add {}", state(257, ""))).unwrap();
        assert!(said(&mut book, &format!("state update {}", state(258, ""))).is_err());
        assert!(said(&mut book, "state delete src ::3 dst ::2 proto ah spi 256").is_err());
        assert!(said(&mut book, "state delete dst ::2 proto esp spi 256").is_err());
        assert_eq!(
            said(&mut book, "state delete dst ::2 proto ah spi 256").unwrap(),
            [XfrmEventKind::StateDeleted]
        );
        assert_eq!(said(&mut book, "state flush proto esp").unwrap(), []);
        assert_eq!(said(&mut book, "state flush").unwrap(), [XfrmEventKind::StateDeleted]);
        assert_eq!(book.states().count(), 0);
    }

    /// Another key is another state under the same name; where numbers are is not for an update to say.
    #[test]
    fn an_update_keeps_the_sa_unless_the_key_is_another() {
        let mut book = Book::default();
        said(&mut book, &format!("state add {}", state(256, "replay-oseq 5"))).unwrap();
        let place = book.states().next().unwrap().0;
        book.note_made(place, SingleId::from_raw(1));
        said(&mut book, &format!("state update {}", state(256, "flag noecn"))).unwrap();
        let held = book.state(place).unwrap();
        assert_eq!((held.single, held.spec.replay_oseq), (Some(SingleId::from_raw(1)), 5));
        let other = state(256, "").replace("0x00", "0xff");
        assert_eq!(book.place_of(SingleId::from_raw(1)), Some(place));
        said(&mut book, &format!("state update {other}")).unwrap();
        assert_eq!((book.state(place).unwrap().single, book.place_of(SingleId::from_raw(1))), (None, None));
        book.undo();
        said(&mut book, &format!("state add {}", state(256, ""))).unwrap();
        let place = book.states().next().unwrap().0;
        book.note_made(place, SingleId::from_raw(2));
        book.settle();
        said(&mut book, "state flush").unwrap();
        assert_eq!(book.place_of(SingleId::from_raw(2)), None);
        book.undo();
        assert_eq!(book.place_of(SingleId::from_raw(2)), Some(place));
    }

    /// As xfrm_policy_insert has it: one of the same priority is replaced where it is, so that it decides when it did.
    #[test]
    fn an_updated_policy_keeps_its_place_among_those_of_its_priority() {
        let mut book = Book::default();
        for dst in ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"] {
            said(&mut book, &format!("policy add dst {dst} dir out priority 7")).unwrap();
        }
        let indices = |book: &Book| book.policies().map(|(_, row)| row.policy.index).collect::<Vec<_>>();
        let before = (priorities(&book), indices(&book));
        said(&mut book, "policy update dst 10.0.0.0/8 dir out priority 7 action block").unwrap();
        assert_eq!((priorities(&book), indices(&book)), before);
        said(&mut book, "policy update dst 10.0.0.0/8 dir out priority 8").unwrap();
        let named = |dst: &str, priority| (dst.to_owned(), priority);
        assert_eq!(
            priorities(&book),
            [named("10.1.0.0/16", 7), named("10.2.0.0/16", 7), named("10.0.0.0/8", 8)]
        );
        assert!(said(&mut book, "policy add dst 10.0.0.0/8 dir out").is_err());
        said(&mut book, "policy add dst 10.0.0.0/8 dir fwd").unwrap();
    }

    #[test]
    fn an_index_names_a_policy_and_says_its_direction() {
        let mut book = Book::default();
        said(&mut book, "policy add dst 10.0.0.0/8 dir out index 9").unwrap();
        assert!(said(&mut book, "policy add dst 10.1.0.0/16 dir in index 9").is_err());
        // One that is taken is not had twice.
        said(&mut book, "policy add dst 10.1.0.0/16 dir out index 9").unwrap();
        let indices: Vec<_> = book.policies().map(|(_, row)| row.policy.index).collect();
        assert!(indices[0] == 9 && indices[1] != 9 && indices[1] & 7 == 1, "{indices:?}");
        assert!(said(&mut book, "policy delete index 9 dir in").is_err());
        said(&mut book, "policy delete index 9 dir out").unwrap();
        assert_eq!(book.policies().count(), 1);
    }

    /// Steps are done together or not at all.
    #[test]
    fn what_is_undone_is_as_it_was() {
        let mut book = Book::default();
        for spi in 256..260 {
            said(&mut book, &format!("state add {}", state(spi, ""))).unwrap();
        }
        said(&mut book, "policy add dst 10.0.0.0/8 dir out priority 3").unwrap();
        said(&mut book, "policy add dst 10.1.0.0/16 dir out priority 3").unwrap();
        book.settle();
        let shown = |book: &Book| {
            let states: Vec<_> = book.states().map(|(place, held)| (place, held.spec.clone())).collect();
            (states, priorities(book))
        };
        let before = shown(&book);
        for line in [
            "state delete dst ::2 proto ah spi 256",
            &format!("state add {}", state(256, "reqid 4")),
            &format!("state update {}", state(257, "flag noecn")),
            "policy update dst 10.0.0.0/8 dir out priority 9",
            "policy delete dst 10.1.0.0/16 dir out",
            "policy add dst 10.1.0.0/16 dir out priority 1",
            "state flush",
            "policy flush",
        ] {
            said(&mut book, line).unwrap();
        }
        assert!(book.has_changed_policies() && book.changed_states().len() == 5);
        book.undo();
        assert_eq!(shown(&book), before);
        // By its name each is found again.
        said(&mut book, "state delete dst ::2 proto ah spi 256").unwrap();
        said(&mut book, "policy delete dst 10.1.0.0/16 dir out").unwrap();
    }
}
