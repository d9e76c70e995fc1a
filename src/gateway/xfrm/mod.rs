//! States and policies in the terms of ip-xfrm(8), as control.sock takes and shows them: a book of what was asked for, and
//! the key manager's single SAs and rules that are made of it.

mod agreeing;
mod book;
mod making;
mod rules;
mod told;

#[cfg(test)]
mod tests;

pub use self::told::{Heard, Told, Watching};

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use latchway_config::Listen;
use latchway_control::call::{XfrmApplied, XfrmApply};
use latchway_control::{
    Failure, KeyedSa, XfrmEvent, XfrmEventKind, XfrmPolicyRow, XfrmState, XfrmStateFlag, XfrmStateRow,
    XfrmStep, XfrmUsed,
};
use latchway_datapath::spd::Rule;
use latchway_datapath::time::Time;
use latchway_esp::KeyMaterial;
use latchway_keying::{
    KeyManagerClient, Notice, SaKeys, SingleChange, SingleFault, SingleId, SingleView, Wanted,
};
use latchway_tagging::Identity;

use crate::gateway::clock::since;
use crate::gateway::operator::{Answer, Rows};
use crate::gateway::records::{RecordError, RecordFault, Records};
use crate::gateway::rows::unix_milliseconds;
use crate::gateway::state::keys::in_hexadecimal;
use crate::gateway::xfrm::book::{Book, Change, Held, Place};
use crate::gateway::xfrm::making::Making;

/// States and policies of one gateway.
pub struct Xfrm {
    keying: KeyManagerClient,
    identity: Identity,
    listen: Vec<Listen>,
    tun: String,
    started: Instant,
    records: OnceLock<Arc<Records>>,
    book: Mutex<Book>,
    /// The rules that the policies in the book are in the key manager.
    rules: Mutex<Vec<Rule>>,
    /// Whether the key manager stopped while it was asked for something, so that the book may not say what is in force.
    unsure: AtomicBool,
    told: Told,
}

/// Why steps cannot be, and which place in the book is at fault, where one is.
type Fault = (Option<Place>, Failure);

/// What the key manager knows of single SAs.
type Singles = HashMap<SingleId, SingleView>;

impl Xfrm {
    /// No state and no policy yet, of a gateway that is `identity` and listens there.
    pub fn new(
        keying: KeyManagerClient,
        identity: Identity,
        listen: Vec<Listen>,
        tun: String,
        started: Instant,
    ) -> Self {
        let (records, book, rules) = (OnceLock::new(), Mutex::default(), Mutex::default());
        let (unsure, told) = (AtomicBool::new(false), Told::default());
        Self { keying, identity, listen, tun, started, records, book, rules, unsure, told }
    }

    /// From now on, keys of counter-mode suites may be on record there.
    pub fn recorded_in(&self, records: Arc<Records>) {
        // A gateway has one.
        let _ = self.records.set(records);
    }

    /// Whether the record knows a key: somebody used it before, and it is fresh no more.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn is_on_record(&self, keys: &SaKeys) -> Result<bool, RecordError> {
        self.records.get().map_or(Ok(false), |records| records.knows(keys))
    }

    /// Does all the steps, or none.
    ///
    /// # Errors
    /// [`Failure`], which names the step that cannot be done.
    pub fn apply(&self, asked: &XfrmApply) -> Answer<XfrmApplied> {
        if asked.steps.len() > MOST_STEPS {
            return Err(Failure::full(
                format!("{} steps are more than {MOST_STEPS}", asked.steps.len()),
                "say them in several calls",
            ));
        }
        let mut book = self.agreed()?;
        let done = self.take_steps(&mut book, asked);
        match &done {
            Ok(_) => book.settle(),
            Err(_) => book.undo(),
        }
        drop(book);
        let changes = done?;
        let applied = XfrmApplied {
            states: changes.iter().filter(|change| change.is_of_state()).count() as u64,
            policies: changes.iter().filter(|change| !change.is_of_state()).count() as u64,
        };
        changes.into_iter().for_each(|change| self.told.publish(change.event()));
        Ok(applied)
    }

    fn take_steps(&self, book: &mut Book, asked: &XfrmApply) -> Answer<Vec<Change>> {
        // What somebody began and did not end, since he panicked.
        book.undo();
        let (mut changes, mut ends) = (Vec::new(), Vec::new());
        for (number, step) in asked.steps.iter().enumerate() {
            let now = unix_milliseconds(SystemTime::now());
            let done = book.step(step, asked.ephemeral_keys, now);
            changes.extend(done.map_err(|failure| at(asked, number, failure))?);
            ends.push(book.journalled());
        }
        // Which step it was that changed what is at fault.
        let blame = |book: &Book, (place, failure): Fault| {
            let entry = place.and_then(|place| book.last_change(place));
            let number = entry.map(|entry| ends.partition_point(|end| *end <= entry));
            number.map_or(failure.clone(), |number| at(asked, number, failure))
        };
        let rules = match book.has_changed_policies() {
            true => Some(book.rules(&self.tun).map_err(|fault| blame(book, fault))?),
            false => None,
        };
        self.change_states(book).map_err(|fault| blame(book, fault))?;
        let mut in_force = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rules) = rules.filter(|rules| *rules != *in_force) {
            self.keying.replace_templated(rules.clone()).map_err(|error| self.stopped_amid(error))?;
            *in_force = rules;
        }
        Ok(changes)
    }

    /// The states, newest first; whoever asks for them with their keys says so first.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn states(&self, keys: bool, rows: Rows<'_, XfrmStateRow>) -> Answer<()> {
        let book = self.agreed()?;
        let singles = self.singles()?;
        let shown = book.states().rev().map(|(_, held)| self.state_row(held, &singles, keys));
        shown.map(rows).find(ControlFlow::is_break);
        Ok(())
    }

    /// The states with their keys, but those whose lifetime is over.
    pub fn keyed(&self) -> Vec<KeyedSa> {
        let singles = self.singles().unwrap_or_default();
        let over = |held: &Held| view_of(held, &singles).is_some_and(|view| view.expired);
        let keyed = |held: &Held| {
            let (suite, octets) = latchway_xfrm::suite(&held.spec).ok()?;
            let key = KeyMaterial::new(suite, &octets).ok()?.to_show();
            let (encryption, integrity) = in_hexadecimal(&key);
            Some(KeyedSa {
                protocol: suite.protocol().name().into(),
                source: held.spec.src,
                destination: held.spec.dst,
                spi: held.spec.spi,
                suite: suite.name().into(),
                esn: held.spec.has(XfrmStateFlag::Esn),
                encryption,
                integrity,
            })
        };
        let book = self.book();
        book.states().filter(|(_, held)| !over(held)).filter_map(|(_, held)| keyed(held)).collect()
    }

    /// The policies, newest first.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn policies(&self, rows: Rows<'_, XfrmPolicyRow>) -> Answer<()> {
        let book = self.agreed()?;
        book.policies().rev().map(|(_, row)| rows(XfrmPolicyRow::clone(row))).find(ControlFlow::is_break);
        Ok(())
    }

    /// What happens, for whoever listens.
    pub const fn told(&self) -> &Told {
        &self.told
    }

    /// Hears what the key manager tells.
    pub fn note(&self, notice: &Notice) {
        match notice {
            Notice::SingleExpired { single, hard } => self.expired(*single, *hard),
            Notice::Acquire(wanted) => self.acquire(wanted),
            _ => {}
        }
    }

    /// A state whose hard lifetime is over goes, as it does in a kernel; and with it all others of which that was not heard.
    fn expired(&self, single: SingleId, hard: bool) {
        let mut book = self.book();
        let Some(place) = book.place_of(single) else { return };
        // A soft lifetime is one state's alone: nobody asks for all of them each time.
        let singles = match hard {
            true => self.singles(),
            false => self.keying.single(single).map_err(stopped).map(|view| one(single, view)),
        };
        let Ok(singles) = singles else { return };
        let over = |held: &Held| {
            held.single == Some(single) || view_of(held, &singles).is_some_and(|view| view.expired)
        };
        let places: Vec<_> = match hard {
            true => book.states().filter(|(_, held)| over(held)).map(|(place, _)| place).collect(),
            false => vec![place],
        };
        let held: Vec<_> = places.iter().filter_map(|place| book.state(*place).cloned()).collect();
        if hard {
            let remove = held.iter().filter_map(|held| held.single).collect();
            let removed = self.keying.change_singles(SingleChange { remove, ..SingleChange::default() });
            removed.err().into_iter().for_each(|error| drop(self.stopped_amid(error)));
            places.into_iter().for_each(|place| book.forget(place));
        }
        drop(book);
        let kind = if hard { XfrmEventKind::HardExpired } else { XfrmEventKind::SoftExpired };
        for held in held {
            let row = self.state_row(&held, &singles, false);
            self.told.publish(XfrmEvent { state: Some(row), ..event(kind) });
        }
    }

    fn acquire(&self, wanted: &Wanted) {
        let policy = self.book().wanting(wanted, &self.tun);
        if policy.is_some() {
            let flow = rules::flow(&wanted.flow);
            self.told.publish(XfrmEvent { policy, flow: Some(flow), ..event(XfrmEventKind::Acquire) });
        }
    }

    /// Has the key manager make of the states what they are to be. The book learns what they are there.
    fn change_states(&self, book: &mut Book) -> Result<(), Fault> {
        let making = self.making();
        let (mut remove, mut add, mut revise) = (Vec::new(), Vec::new(), Vec::new());
        let (mut made, mut named) = (Vec::new(), Vec::new());
        for (place, before) in book.changed_states() {
            let before = before.and_then(|before| before.single);
            let Some(held) = book.directed(place, |spec| making.is_outbound(spec)) else {
                remove.extend(before);
                continue;
            };
            match held.single {
                Some(single) => {
                    revise
                        .push(making.revision(single, &held.spec).map_err(|failure| (Some(place), failure))?);
                    named.push(place);
                }
                None => {
                    remove.extend(before);
                    add.push(
                        making.single(&held, &mut book.reqids).map_err(|failure| (Some(place), failure))?,
                    );
                    made.push(place);
                }
            }
        }
        if remove.is_empty() && add.is_empty() && revise.is_empty() {
            return Ok(());
        }
        let places: Vec<_> = made.iter().chain(&named).copied().collect();
        let fault = |SingleFault { place, error }| {
            let place = place.and_then(|place| places.get(place)).copied();
            (place, Failure::refused(error.to_string(), hint_of(&error)))
        };
        let ended = |ended| (None, self.stopped_amid(ended));
        let unrecorded = |RecordFault { place, error }| {
            let place = place.and_then(|place| made.get(place)).copied();
            (place, Failure::refused(error.to_string(), ""))
        };
        let add = making.rehearsed(add).map_err(unrecorded)?;
        let mut change = SingleChange { remove, add, revise };
        if making.records.is_some() {
            // A key is bound to the record when nothing else stands against it.
            change = self.keying.check_singles(change).map_err(ended)?.map_err(fault)?;
            change.add = making.enrolled(change.add).map_err(unrecorded)?;
        }
        let added = self.keying.change_singles(change).map_err(ended)?.map_err(fault)?;
        for (place, single) in made.into_iter().zip(added) {
            book.note_made(place, single);
        }
        Ok(())
    }

    fn making(&self) -> Making<'_> {
        Making { identity: &self.identity, listen: &self.listen, tun: &self.tun, records: self.records.get() }
    }

    fn singles(&self) -> Answer<Singles> {
        let singles = self.keying.singles().map_err(stopped)?;
        Ok(singles.into_iter().map(|view| (view.id, view)).collect())
    }

    fn state_row(&self, held: &Held, singles: &Singles, keys: bool) -> XfrmStateRow {
        let view = view_of(held, singles);
        let mut state = if keys { held.spec.clone() } else { held.spec.without_keys() };
        let used = view.map_or_else(XfrmUsed::default, |view| XfrmUsed {
            octets: view.octets,
            packets: view.packets,
            added: held.added,
            last_used: view.last_used.map(|moment| self.unix(moment)),
            soft_expired: view.soft_expired,
            expired: view.expired,
        });
        if held.outbound {
            state.replay_oseq = state.replay_oseq.saturating_add(used.packets);
        } else {
            state.replay_seq = state.replay_seq.saturating_add(used.packets);
        }
        XfrmStateRow { state, used, paired: view.is_some_and(|view| view.partner.is_some()) }
    }

    /// A moment of the gateway's clock as others know it.
    fn unix(&self, moment: Time) -> u64 {
        let ago = since(self.started).since(moment);
        unix_milliseconds(SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn one(single: SingleId, view: Option<SingleView>) -> Singles {
    view.into_iter().map(|view| (single, view)).collect()
}

fn view_of<'s>(held: &Held, singles: &'s Singles) -> Option<&'s SingleView> {
    singles.get(&held.single?)
}

/// Which step it was: by its line, where the caller has lines, or by its number, where there are several.
fn at(asked: &XfrmApply, number: usize, mut failure: Failure) -> Failure {
    let of = asked.steps.len();
    let (Some(message), Some(step)) = (failure.parameters.message.as_mut(), asked.steps.get(number)) else {
        return failure;
    };
    let what = match step {
        XfrmStep::AddState(state) | XfrmStep::UpdateState(state) => named_state(state),
        XfrmStep::DeleteState(_) | XfrmStep::FlushStates { .. } => "a state".to_owned(),
        _ => "a policy".to_owned(),
    };
    let none = if of > 1 { "; nothing of it was done" } else { "" };
    *message = match asked.lines.get(number) {
        Some(line) => format!("line {line}, {what}: {message}{none}"),
        None if of > 1 => format!("step {} of {of}, {what}: {message}{none}", number + 1),
        None if matches!(step, XfrmStep::AddState(_) | XfrmStep::UpdateState(_)) => {
            format!("{what}: {message}")
        }
        None => return failure,
    };
    failure
}

/// A state, for people.
fn named_state(state: &XfrmState) -> String {
    format!("the {} state with SPI {:#010x} to {}", state.protocol, state.spi, state.dst)
}

fn hint_of(error: &latchway_keying::SingleError) -> &'static str {
    use latchway_keying::{InstallError, SingleError};
    match error {
        SingleError::Install(InstallError::StaticCounterMode(_)) => making::FRESH,
        SingleError::Install(InstallError::RepeatedKey(_)) => "make a new key for every state",
        _ => "nothing was changed; mend it and say it again",
    }
}

fn event(kind: XfrmEventKind) -> XfrmEvent {
    XfrmEvent::of(kind, unix_milliseconds(SystemTime::now()))
}

fn stopped(_: latchway_keying::Stopped) -> Failure {
    Failure::failed("the key manager does not answer", "the gateway may be ending; try again")
}

impl Change {
    const fn is_of_state(&self) -> bool {
        matches!(
            self.0,
            XfrmEventKind::StateAdded | XfrmEventKind::StateUpdated | XfrmEventKind::StateDeleted
        )
    }

    fn event(self) -> XfrmEvent {
        let Self(kind, state, policy) = self;
        let row = |state: XfrmState| XfrmStateRow { state, used: XfrmUsed::default(), paired: false };
        XfrmEvent {
            state: state.map(|state| row(*state)),
            policy: policy.map(|policy| *policy),
            ..event(kind)
        }
    }
}

/// As many steps as one call may hold; a script says one at a time.
const MOST_STEPS: usize = 20_000;
