//! What was asked for: states and policies in the order in which they came, and how a step changes them. The rules for
//! that are the kernel's.

use latchway_control::{
    Failure, XfrmDirection, XfrmEventKind, XfrmPolicy, XfrmPolicyBy, XfrmPolicyId, XfrmPolicyRow,
    XfrmProtocol, XfrmState, XfrmStateFlag, XfrmStateId, XfrmStep,
};
use latchway_keying::SingleId;

use crate::gateway::operator::Answer;
use crate::gateway::xfrm::rules::Reqids;

/// States and policies, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Book {
    pub states: Vec<Held>,
    pub policies: Vec<XfrmPolicyRow>,
    pub reqids: Reqids,
    /// From which indices of policies are made.
    generator: u32,
}

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

impl Book {
    /// Does a step. Returns what it changed.
    ///
    /// # Errors
    /// [`Failure`], as the kernel has it.
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

    fn add_state(&mut self, state: &XfrmState, ephemeral: bool, now: u64) -> Answer<Vec<Change>> {
        if self.states.len() >= MOST_STATES {
            return Err(Failure::full(format!("there are {MOST_STATES} states already"), "delete some"));
        }
        if self.state(&XfrmStateId { src: None, ..state.id() }).is_some() {
            return Err(Failure::conflict(
                "a state with this destination, protocol and SPI exists already",
                "use `update` to change it, or choose another SPI",
            ));
        }
        let spec = state.clone();
        self.states.push(Held { spec, ephemeral, added: now, outbound: false, single: None });
        Ok(vec![Change::state(XfrmEventKind::StateAdded, state)])
    }

    /// Whatever is said anew, numbers go on, unless the key is another: then it is another state under the same name.
    fn update_state(&mut self, state: &XfrmState, ephemeral: bool, now: u64) -> Answer<Vec<Change>> {
        let place = self.state(&XfrmStateId { src: None, ..state.id() }).ok_or_else(no_state)?;
        let Some(held) = self.states.get_mut(place) else { return Err(no_state()) };
        if held.spec.algorithms != state.algorithms {
            let outbound = held.outbound;
            *held = Held { spec: state.clone(), ephemeral, added: now, outbound, single: None };
            return Ok(vec![Change::state(XfrmEventKind::StateUpdated, state)]);
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
        held.spec = XfrmState { replay_seq, replay_oseq, ..state.clone() };
        Ok(vec![Change::state(XfrmEventKind::StateUpdated, state)])
    }

    fn delete_state(&mut self, id: &XfrmStateId) -> Answer<Vec<Change>> {
        let held = self.states.remove(self.state(id).ok_or_else(no_state)?);
        Ok(vec![Change::state(XfrmEventKind::StateDeleted, &held.spec)])
    }

    fn flush_states(&mut self, protocol: Option<XfrmProtocol>) -> Vec<Change> {
        let is_meant = |held: &mut Held| protocol.is_none_or(|protocol| protocol == held.spec.protocol);
        let gone: Vec<_> = self.states.extract_if(.., is_meant).collect();
        gone.iter().map(|held| Change::state(XfrmEventKind::StateDeleted, &held.spec)).collect()
    }

    fn add_policy(&mut self, policy: &XfrmPolicy, now: u64) -> Answer<Vec<Change>> {
        if self.policies.len() >= MOST_POLICIES {
            return Err(Failure::full(format!("there are {MOST_POLICIES} policies already"), "delete some"));
        }
        if self.policy(&policy.id()).is_some() {
            return Err(Failure::conflict(
                "a policy with this selector and direction exists already",
                "use `update` to change it",
            ));
        }
        let index = self.index(policy)?;
        Ok(vec![self.put(XfrmEventKind::PolicyAdded, policy, index, now)])
    }

    fn update_policy(&mut self, policy: &XfrmPolicy, now: u64) -> Answer<Vec<Change>> {
        let Some(place) = self.policy(&policy.id()) else {
            let index = self.index(policy)?;
            return Ok(vec![self.put(XfrmEventKind::PolicyUpdated, policy, index, now)]);
        };
        let index = self.policies.remove(place).policy.index;
        Ok(vec![self.put(XfrmEventKind::PolicyUpdated, policy, index, now)])
    }

    fn put(&mut self, kind: XfrmEventKind, policy: &XfrmPolicy, index: u32, now: u64) -> Change {
        let row = XfrmPolicyRow { policy: XfrmPolicy { index, ..policy.clone() }, added: now };
        self.policies.push(row.clone());
        Change(kind, None, Some(Box::new(row)))
    }

    fn delete_policy(&mut self, id: &XfrmPolicyId) -> Answer<Vec<Change>> {
        let row = self.policies.remove(self.policy(id).ok_or_else(no_policy)?);
        Ok(vec![Change(XfrmEventKind::PolicyDeleted, None, Some(Box::new(row)))])
    }

    fn flush_policies(&mut self) -> Vec<Change> {
        let gone = std::mem::take(&mut self.policies).into_iter();
        gone.map(|row| Change(XfrmEventKind::PolicyDeleted, None, Some(Box::new(row)))).collect()
    }

    fn state(&self, id: &XfrmStateId) -> Option<usize> {
        self.states.iter().position(|held| id.names(&held.spec))
    }

    fn policy(&self, id: &XfrmPolicyId) -> Option<usize> {
        self.policies.iter().position(|row| id.names(&row.policy))
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
        let by = XfrmPolicyBy::Index(policy.index);
        if policy.index != 0 && self.policy(&XfrmPolicyId { direction: policy.direction, by }).is_none() {
            return Ok(policy.index);
        }
        loop {
            let index = self.generator | direction;
            self.generator = self.generator.wrapping_add(8);
            let by = XfrmPolicyBy::Index(index);
            if index != 0 && self.policy(&XfrmPolicyId { direction: policy.direction, by }).is_none() {
                return Ok(index);
            }
        }
    }
}

impl Change {
    fn state(kind: XfrmEventKind, state: &XfrmState) -> Self {
        Self(kind, Some(Box::new(state.without_keys())), None)
    }
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

    /// RFC 4302 3.3.3.2.1: to what AH is aligned is part of the ICV, so that an update of it must not pass for done.
    #[test]
    fn an_update_that_would_change_nothing_is_refused() {
        let state =
            "src ::1 dst ::2 proto ah spi 256 auth-trunc hmac(sha256) 0x000102030405060708090a0b0c0d0e0f 128";
        let mut book = Book::default();
        book.step(&step(&format!("state add {state}")), false, 0).unwrap();
        book.step(&step(&format!("state update {state} flag noecn")), false, 0).unwrap();
        for other in ["flag align4", "flag esn", "replay-window 64", "reqid 3", "mode tunnel"] {
            let update = step(&format!("state update {state} {other}"));
            assert!(book.step(&update, false, 0).is_err(), "{other}");
        }
    }
}
