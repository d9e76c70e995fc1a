//! Latches that somebody asks for: CREATE_LISTENER_LATCH, CREATE_CONNECTION_LATCH (L-46 to L-63), and the SAs that
//! establish them.

use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{LatchId, LatchState, LatchTerms};
use latchway_datapath::time::Time;
use latchway_tagging::{ClassId, StateVersion};

use crate::constraint::ConstraintId;
use crate::database::{Birth, LatchDatabase, Listening};
use crate::entry::{Entry, Holds, Kind};
use crate::progress::Progress;

/// How a latch that is asked for begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// LARVAL: nothing passes until it is established (L-58).
    Larval,
    /// ESTABLISHED at once, for SAs of the class are there (L-59). Tags of this version and newer count.
    Established {
        /// The class.
        class: ClassId,
        /// The state version under which the SAs were looked at.
        version: StateVersion,
    },
    /// ESTABLISHED at once, to let the flow be unprotected whatever policy says (L-112).
    Bypass,
}

/// Why a latch was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// L-48, L-56.
    #[error("there is a latch for this already; find it, or release it first")]
    Exists,
    /// The table has no room.
    #[error("the table of latches is full; release latches, or raise the number of flows")]
    Full,
    /// The class is not, or no longer, in use.
    #[error("no SA has the class that the latch is to have; look again")]
    UnknownClass,
}

impl LatchDatabase {
    /// Makes a latch that new connections to a 3-tuple are born from (L-46). Of several calls for one 3-tuple one
    /// succeeds (L-50); 0.0.0.0 and a specific address are different ones.
    ///
    /// # Errors
    /// [`CreateError`]
    pub fn listen(
        &self,
        listening: &Listening,
        constraint: Option<ConstraintId>,
        terms: LatchTerms,
        now: Time,
    ) -> Result<LatchId, CreateError> {
        let entry = Entry::of_state(LatchState::Listener, Progress::Untracked, terms);
        let demanded = constraint.map(|constraint| ClassId::from_raw(u32::from(constraint.get())));
        let birth = Birth {
            class: demanded,
            changed_at: self.clock.now(),
            ..Birth::new(Entry { owned: true, ..entry }, now)
        };
        self.request(&FlowKey::from_words(listening.key()), &birth)
    }

    /// Makes the latch of a connection (L-54). What is left of an unlatched flow, or of a latch that is CLOSED, gives way
    /// (L-56).
    ///
    /// # Errors
    /// [`CreateError`]
    pub fn connect(
        &self,
        flow: &FlowKey,
        begin: Begin,
        terms: LatchTerms,
        now: Time,
    ) -> Result<LatchId, CreateError> {
        let of_state = |state| Entry::of_state(state, Progress::Untracked, terms);
        let (entry, class, version) = match begin {
            Begin::Larval => (of_state(LatchState::Larval), None, self.clock.now()),
            Begin::Bypass => {
                let entry = Entry { holds: Holds::Bypass, ..of_state(LatchState::Established) };
                (entry, None, self.clock.advance())
            }
            Begin::Established { class, version } => {
                (Entry::established(Progress::Untracked, terms), Some(class), version)
            }
        };
        let birth = Birth { class, changed_at: version, ..Birth::new(Entry { owned: true, ..entry }, now) };
        self.request(flow, &birth)
    }

    /// Makes the latch of a connection that a listener awaits, for SAs for it alone are there (L-52). Nobody asked for this
    /// one, so that it goes like any when nothing passes; and whatever the flow has already stays as it is (T37 g).
    ///
    /// # Errors
    /// [`CreateError`]
    pub fn spawn(
        &self,
        flow: &FlowKey,
        class: ClassId,
        terms: LatchTerms,
        now: Time,
    ) -> Result<LatchId, CreateError> {
        let entry = Entry { required: true, ..Entry::established(Progress::Untracked, terms) };
        let birth = Birth { class: Some(class), changed_at: self.clock.now(), ..Birth::new(entry, now) };
        self.create(flow, &birth).map_err(refusal)?.ok_or(CreateError::Exists)
    }

    /// Establishes a LARVAL latch, for SAs of the class are there (L-63). Tags from before are stale. Returns whether
    /// it did: not if it is no longer LARVAL, or the class is unknown.
    pub fn establish(&self, id: LatchId, class: ClassId, now: Time) -> bool {
        let Some(found) = self.by_id(id) else { return false };
        self.mark_change(found, now);
        self.promote(found, class).is_ok()
    }

    fn request(&self, flow: &FlowKey, birth: &Birth) -> Result<LatchId, CreateError> {
        loop {
            match self.create(flow, birth) {
                Ok(Some(id)) => return Ok(id),
                Ok(None) => {}
                Err(reason) => return Err(refusal(reason)),
            }
            let Some(known) = self.probe(flow) else { continue };
            match known.entry.kind {
                Kind::Unlatched | Kind::Latched(LatchState::Closed) => {
                    self.remove(&known);
                }
                Kind::Latched(_) => return Err(CreateError::Exists),
            }
        }
    }
}

const fn refusal(reason: DropReason) -> CreateError {
    match reason {
        DropReason::LatchBarred => CreateError::UnknownClass,
        _ => CreateError::Full,
    }
}
