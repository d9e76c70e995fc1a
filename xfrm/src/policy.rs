//! What is said of a policy.

use latchway_control::{
    XfrmAction, XfrmDirection, XfrmLimits, XfrmPolicy, XfrmPolicyBy, XfrmPolicyFlag, XfrmPolicyId,
    XfrmTemplate,
};

use crate::error::{GrammarError, Quoted};
use crate::limit::limit;
use crate::number::number;
use crate::options::Family;
use crate::prefix::everything;
use crate::selector::Said;
use crate::state::{meaningless, numbered};
use crate::template::template;
use crate::words::Words;

/// What was said of a policy, to add it, to name it or to look for it.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) selector: Option<Said>,
    pub(crate) direction: Option<XfrmDirection>,
    pub(crate) action: Option<XfrmAction>,
    pub(crate) priority: Option<u32>,
    pub(crate) index: Option<u32>,
    pub(crate) flags: Option<Vec<XfrmPolicyFlag>>,
    limits: XfrmLimits,
    templates: Vec<XfrmTemplate>,
}

/// Which keywords may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// All of them.
    Add,
    /// Those that name one policy.
    Name,
    /// Those that policies are looked for by.
    Filter,
}

/// A policy to be added or updated.
pub(crate) fn policy(words: &mut Words<'_>, family: Family) -> Result<XfrmPolicy, GrammarError> {
    let draft = Draft::read(words, family, Purpose::Add)?;
    let selector = draft.selector.unwrap_or_default().whole(family);
    // Ends that are not said are of the policy's own family.
    let none = everything(selector.src.addr().is_ipv4()).addr();
    let ends = |template: XfrmTemplate| match template.src.is_unspecified() && template.dst.is_unspecified() {
        true => XfrmTemplate { src: none, dst: none, ..template },
        false => template,
    };
    Ok(XfrmPolicy {
        direction: draft.direction.ok_or(NO_DIRECTION)?,
        selector,
        action: draft.action.unwrap_or_default(),
        priority: draft.priority.unwrap_or(0),
        index: draft.index.unwrap_or(0),
        flags: draft.flags.unwrap_or_default(),
        limits: draft.limits,
        templates: draft.templates.into_iter().map(ends).collect(),
    })
}

/// What names a policy.
pub(crate) fn policy_id(words: &mut Words<'_>, family: Family) -> Result<XfrmPolicyId, GrammarError> {
    let draft = Draft::read(words, family, Purpose::Name)?;
    let direction = draft.direction.ok_or(NO_DIRECTION)?;
    let by = match (draft.selector, draft.index) {
        (Some(said), None) => XfrmPolicyBy::Selector(said.whole(family)),
        (None, Some(index)) => XfrmPolicyBy::Index(index),
        (Some(_), Some(_)) => {
            return Err(GrammarError::Conflict(
                "a policy is named by its selector or by its index, not by both",
            ));
        }
        (None, None) => {
            let usage = "src ADDR/PLEN dst ADDR/PLEN` or `index INDEX";
            return Err(GrammarError::Missing { what: "the policy's selector or index", usage });
        }
    };
    Ok(XfrmPolicyId { direction, by })
}

impl Draft {
    /// Reads to the end.
    pub(crate) fn read(
        words: &mut Words<'_>,
        family: Family,
        purpose: Purpose,
    ) -> Result<Self, GrammarError> {
        let mut draft = Self::default();
        while let Some(word) = words.peek() {
            if !draft.item(word, words, purpose)? {
                if draft.selector.is_some() {
                    return Err(GrammarError::Unknown(Quoted::new(word)));
                }
                draft.selector = Some(Said::read(words, family)?);
            }
        }
        Ok(draft)
    }

    fn item(&mut self, word: &str, words: &mut Words<'_>, purpose: Purpose) -> Result<bool, GrammarError> {
        let adds = ["limit", "tmpl", "if_id", "offload"];
        let selects = ["action", "priority", "flag"];
        let all = ["dir", "index", "ptype", "ctx", "mark"];
        let may = all.contains(&word) && (purpose != Purpose::Filter || !["ctx", "mark"].contains(&word))
            || selects.contains(&word) && purpose != Purpose::Name
            || adds.contains(&word) && purpose == Purpose::Add;
        if !may {
            return Ok(false);
        }
        words.next();
        match word {
            "dir" if self.direction.is_some() => return Err(GrammarError::Twice("dir")),
            "dir" => self.direction = Some(words.value("in, out or fwd", direction)?),
            "index" => self.index = Some(words.value("an INDEX", number)?),
            "priority" => self.priority = Some(words.value("a PRIORITY", number)?),
            "action" => self.action = Some(words.value("allow or block", action)?),
            "ptype" => ptype(words)?,
            "flag" => self.flags = Some(flags(words)?),
            "limit" => limit(&mut self.limits, words)?,
            "tmpl" if self.templates.len() == MOST_TEMPLATES => {
                return Err(GrammarError::Conflict("a policy has at most six templates"));
            }
            "tmpl" => self.templates.push(template(words)?),
            _ => meaningless(word, words)?,
        }
        Ok(true)
    }
}

/// PTYPE, of which there is one here.
pub(crate) fn ptype(words: &mut Words<'_>) -> Result<(), GrammarError> {
    match words.value("main or sub", |word| ["main", "sub"].contains(&word).then_some(word == "main"))? {
        true => Ok(()),
        false => Err(GrammarError::Refused {
            what: "ptype sub",
            why: "there is one list of policies here; say in one policy what both are to do",
        }),
    }
}

fn direction(word: &str) -> Option<XfrmDirection> {
    XfrmDirection::ALL.iter().copied().find(|direction| direction.name() == word)
}

fn action(word: &str) -> Option<XfrmAction> {
    XfrmAction::ALL.iter().copied().find(|action| action.name() == word)
}

fn flags(words: &mut Words<'_>) -> Result<Vec<XfrmPolicyFlag>, GrammarError> {
    let all = XfrmPolicyFlag::ALL;
    let mut flags = match numbered(words) {
        Some(mask) => {
            let mask = mask?;
            all.iter()
                .enumerate()
                .filter(|(place, _)| mask >> place & 1 == 1)
                .map(|(_, flag)| *flag)
                .collect()
        }
        None => words.flags(|word| all.iter().copied().find(|flag| flag.name() == word)),
    };
    flags.sort_unstable();
    flags.dedup();
    Ok(flags)
}

const NO_DIRECTION: GrammarError =
    GrammarError::Missing { what: "the direction", usage: "dir in`, `dir out` or `dir fwd" };

/// As many as the kernel takes.
const MOST_TEMPLATES: usize = 6;
