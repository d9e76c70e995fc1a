//! Commands: an object, what is to be done with it, and the rest, abbreviated as ip(8) lets words be.

use latchway_control::{XfrmEventKind, XfrmPolicyId, XfrmProtocol, XfrmStateId, XfrmStep};

use crate::error::{GrammarError, Quoted};
use crate::filter::{PolicyFilter, StateFilter};
use crate::options::Family;
use crate::policy::{policy, policy_id, ptype};
use crate::state::{Id, protocol, state};
use crate::words::{Words, abbreviates};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A change.
    Apply(XfrmStep),
    /// One state.
    GetState(XfrmStateId),
    /// States, all that are meant.
    ListStates(StateFilter),
    /// That states go, all that are meant.
    DeleteStates(StateFilter),
    /// How many states there are.
    CountStates,
    /// One policy.
    GetPolicy(XfrmPolicyId),
    /// Policies, all that are meant.
    ListPolicies(PolicyFilter),
    /// That policies go, all that are meant.
    DeletePolicies(PolicyFilter),
    /// How many policies there are.
    CountPolicies,
    /// What becomes of packets that no policy speaks of.
    DefaultPolicy,
    /// Nothing: it would only change how fast a kernel finds its policies.
    Nothing,
    /// What happens, as it happens.
    Monitor(Objects),
    /// The grammar.
    Help,
}

/// What is to be told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Packets that need a state.
    pub acquire: bool,
    /// Lifetimes that are over.
    pub expire: bool,
    /// States that come, go and change.
    pub states: bool,
    /// Policies that do.
    pub policies: bool,
}

impl Command {
    /// Reads a command: the words behind `ip xfrm`.
    ///
    /// # Errors
    /// [`GrammarError`]
    pub fn read(words: &[String], family: Family) -> Result<Self, GrammarError> {
        let mut words = Words::new(words);
        let object = words.need(OBJECTS)?;
        let is = |keyword: &str| abbreviates(object, keyword);
        let command = if is("state") || is("sa") {
            of_states(&mut words, family)?
        } else if is("policy") {
            of_policies(&mut words, family)?
        } else if is("monitor") {
            Self::Monitor(Objects::read(&mut words)?)
        } else if is("help") {
            return Ok(Self::Help);
        } else {
            return Err(GrammarError::Wrong { word: Quoted::new(object), wanted: OBJECTS });
        };
        words.end()?;
        Ok(command)
    }
}

fn of_states(words: &mut Words<'_>, family: Family) -> Result<Command, GrammarError> {
    let Some(verb) = words.next() else { return Ok(Command::ListStates(StateFilter::read(words, family)?)) };
    let is = |keyword: &str| abbreviates(verb, keyword);
    if is("add") {
        Ok(Command::Apply(XfrmStep::AddState(Box::new(state(words, family)?))))
    } else if is("update") {
        Ok(Command::Apply(XfrmStep::UpdateState(Box::new(state(words, family)?))))
    } else if is("allocspi") {
        Err(GrammarError::Refused {
            what: "state allocspi",
            why: "a key exchange proposes and installs pairs here (`latchway pair`); by hand, choose SPIs from 256 on",
        })
    } else if is("delete") {
        Ok(Command::Apply(XfrmStep::DeleteState(named(words, family)?)))
    } else if is("deleteall") || is("delall") {
        Ok(Command::DeleteStates(StateFilter::read(words, family)?))
    } else if is("list") || is("show") || is("lst") {
        Ok(Command::ListStates(StateFilter::read(words, family)?))
    } else if is("get") {
        Ok(Command::GetState(named(words, family)?))
    } else if is("flush") {
        Ok(Command::Apply(XfrmStep::FlushStates { protocol: flushed(words)? }))
    } else if is("count") {
        Ok(Command::CountStates)
    } else if is("help") {
        help(words)
    } else {
        let wanted = "add, update, delete, get, deleteall, list, flush or count";
        Err(GrammarError::Wrong { word: Quoted::new(verb), wanted })
    }
}

fn of_policies(words: &mut Words<'_>, family: Family) -> Result<Command, GrammarError> {
    let Some(verb) = words.next() else {
        return Ok(Command::ListPolicies(PolicyFilter::read(words, family)?));
    };
    let is = |keyword: &str| abbreviates(verb, keyword);
    if is("add") {
        Ok(Command::Apply(XfrmStep::AddPolicy(Box::new(policy(words, family)?))))
    } else if is("update") {
        Ok(Command::Apply(XfrmStep::UpdatePolicy(Box::new(policy(words, family)?))))
    } else if is("delete") {
        Ok(Command::Apply(XfrmStep::DeletePolicy(Box::new(policy_id(words, family)?))))
    } else if is("deleteall") || is("delall") {
        words.take("nosock");
        Ok(Command::DeletePolicies(PolicyFilter::read(words, family)?))
    } else if is("list") || is("show") || is("lst") {
        words.take("nosock");
        Ok(Command::ListPolicies(PolicyFilter::read(words, family)?))
    } else if is("get") {
        Ok(Command::GetPolicy(policy_id(words, family)?))
    } else if is("flush") {
        while words.take("ptype") {
            ptype(words)?;
        }
        Ok(Command::Apply(XfrmStep::FlushPolicies {}))
    } else if is("count") {
        Ok(Command::CountPolicies)
    } else if is("setdefault") && !is("set") {
        Err(GrammarError::Refused {
            what: "policy setdefault",
            why: "what no policy speaks of is discarded (RFC 4301 section 5.1); add a policy without templates instead",
        })
    } else if is("set") {
        thresholds(words)
    } else if is("getdefault") {
        Ok(Command::DefaultPolicy)
    } else if is("help") {
        help(words)
    } else {
        let wanted = "add, update, delete, get, deleteall, list, flush, count, set or getdefault";
        Err(GrammarError::Wrong { word: Quoted::new(verb), wanted })
    }
}

/// What names a state, and what may stand beside it.
fn named(words: &mut Words<'_>, family: Family) -> Result<XfrmStateId, GrammarError> {
    let mut id = None;
    while let Some(word) = words.peek() {
        if word == "mark" {
            words.next();
            crate::state::meaningless(word, words)?;
        } else if id.is_none() {
            id = Some(Id::read(words, family)?);
        } else {
            return Err(GrammarError::Unknown(Quoted::new(word)));
        }
    }
    id.unwrap_or_default().state()
}

fn flushed(words: &mut Words<'_>) -> Result<Option<XfrmProtocol>, GrammarError> {
    let mut flushed = None;
    while words.take("proto") {
        flushed = protocol(words)?;
    }
    Ok(flushed)
}

/// `policy set`: of tables that are not here.
fn thresholds(words: &mut Words<'_>) -> Result<Command, GrammarError> {
    while let Some(most) = [("hthresh4", 32), ("hthresh6", 128)]
        .into_iter()
        .find_map(|(keyword, most)| words.take(keyword).then_some(most))
    {
        for wanted in ["LBITS", "RBITS"] {
            words.value(wanted, |word| crate::number::number::<u8>(word).filter(|bits| *bits <= most))?;
        }
    }
    Ok(Command::Nothing)
}

fn help(words: &mut Words<'_>) -> Result<Command, GrammarError> {
    while words.next().is_some() {}
    Ok(Command::Help)
}

impl Objects {
    /// Everything.
    pub const ALL: Self = Self { acquire: true, expire: true, states: true, policies: true };

    /// Whether an event is to be told of.
    #[must_use]
    pub const fn admits(self, kind: XfrmEventKind) -> bool {
        use XfrmEventKind as Kind;
        match kind {
            Kind::Begun | Kind::Lost => true,
            Kind::Acquire => self.acquire,
            Kind::SoftExpired | Kind::HardExpired => self.expire,
            Kind::StateAdded | Kind::StateUpdated | Kind::StateDeleted | Kind::StatesFlushed => self.states,
            Kind::PolicyAdded | Kind::PolicyUpdated | Kind::PolicyDeleted | Kind::PoliciesFlushed => {
                self.policies
            }
        }
    }

    fn read(words: &mut Words<'_>) -> Result<Self, GrammarError> {
        let (mut objects, mut some) = (Self::default(), false);
        while let Some(word) = words.next() {
            let is = |keyword: &str| abbreviates(word, keyword);
            if ["nokeys", "all"].contains(&word) {
                continue;
            }
            some = true;
            if is("acquire") {
                objects.acquire = true;
            } else if is("expire") {
                objects.expire = true;
            } else if is("SA") {
                objects.states = true;
            } else if is("policy") {
                objects.policies = true;
            } else if is("aevent") || is("report") {
                // Nothing here is told so.
            } else if is("all-nsid") || is("file") {
                return Err(GrammarError::Refused {
                    what: "monitor all-nsid or file",
                    why: "one gateway is watched, as it goes; leave it out",
                });
            } else {
                let wanted = "all, acquire, expire, SA, policy, aevent or report";
                return Err(GrammarError::Wrong { word: Quoted::new(word), wanted });
            }
        }
        Ok(if some { objects } else { Self::ALL })
    }
}

const OBJECTS: &str = "state, policy, monitor or import";
