//! Which states and policies `list` and `deleteall` mean.

use ipnet::IpNet;
use latchway_control::{
    XfrmAction, XfrmDirection, XfrmMode, XfrmPolicy, XfrmPolicyFlag, XfrmProtocol, XfrmSelector, XfrmState,
    XfrmStateFlag, XfrmUpper,
};

use crate::error::{GrammarError, Quoted};
use crate::number::number;
use crate::options::Family;
use crate::policy::{Draft, Purpose};
use crate::state::{Id, flags, mode};
use crate::words::Words;

/// States that are meant: those that have all of what is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateFilter {
    family: Family,
    src: Option<IpNet>,
    dst: Option<IpNet>,
    protocol: Option<XfrmProtocol>,
    spi: Option<u32>,
    mode: Option<XfrmMode>,
    reqid: Option<u32>,
    flags: Vec<XfrmStateFlag>,
    /// Whether keys shall not be shown, whatever else is said.
    pub(crate) nokeys: bool,
}

/// Policies that are meant: those that have all of what is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyFilter {
    family: Family,
    src: Option<IpNet>,
    dst: Option<IpNet>,
    dev: Option<String>,
    protocol: Option<u8>,
    upper: XfrmUpper,
    direction: Option<XfrmDirection>,
    index: Option<u32>,
    action: Option<XfrmAction>,
    priority: Option<u32>,
    flags: Vec<XfrmPolicyFlag>,
}

impl StateFilter {
    pub(crate) fn read(words: &mut Words<'_>, family: Family) -> Result<Self, GrammarError> {
        let (mut filter, mut id) = (Self { family, ..Self::default() }, None);
        while let Some(word) = words.peek() {
            match word {
                "mode" | "reqid" | "flag" | "nokeys" => {
                    words.next();
                    match word {
                        "mode" => filter.mode = Some(mode(words)?),
                        "reqid" => filter.reqid = Some(words.value("a REQID", number)?),
                        "flag" => filter.flags = flags(words)?,
                        _ => filter.nokeys = true,
                    }
                }
                _ if id.is_none() => id = Some(Id::read(words, family)?),
                _ => return Err(GrammarError::Unknown(Quoted::new(word))),
            }
        }
        let Id { src, dst, protocol, spi } = id.unwrap_or_default();
        Ok(Self { src, dst, protocol, spi, ..filter })
    }

    /// Whether keys shall not be shown, whatever else is said.
    #[must_use]
    pub const fn nokeys(&self) -> bool {
        self.nokeys
    }

    /// Whether a state is meant.
    #[must_use]
    pub fn admits(&self, state: &XfrmState) -> bool {
        self.family.admits(&state.dst)
            && self.src.is_none_or(|prefix| prefix.contains(&state.src))
            && self.dst.is_none_or(|prefix| prefix.contains(&state.dst))
            && self.protocol.is_none_or(|protocol| protocol == state.protocol)
            && self.spi.is_none_or(|spi| spi == state.spi)
            && self.mode.is_none_or(|mode| mode == state.mode)
            && self.reqid.is_none_or(|reqid| reqid == state.reqid)
            && (self.flags.is_empty() || self.flags.iter().any(|flag| state.has(*flag)))
    }
}

impl PolicyFilter {
    pub(crate) fn read(words: &mut Words<'_>, family: Family) -> Result<Self, GrammarError> {
        let draft = Draft::read(words, family, Purpose::Filter)?;
        let said = draft.selector.unwrap_or_default();
        Ok(Self {
            family,
            src: said.src,
            dst: said.dst,
            protocol: said.protocol,
            upper: said.upper(),
            dev: said.dev,
            direction: draft.direction,
            index: draft.index,
            action: draft.action,
            priority: draft.priority,
            flags: draft.flags.unwrap_or_default(),
        })
    }

    /// Whether a policy is meant.
    #[must_use]
    pub fn admits(&self, policy: &XfrmPolicy) -> bool {
        let XfrmSelector { src, dst, protocol, upper, dev } = &policy.selector;
        self.family.admits(&dst.addr())
            && self.src.is_none_or(|prefix| prefix.contains(&src.addr()))
            && self.dst.is_none_or(|prefix| prefix.contains(&dst.addr()))
            && self.protocol.is_none_or(|wanted| wanted == *protocol)
            && (self.upper == XfrmUpper::Any || self.upper == *upper)
            && (self.dev.is_none() || self.dev == *dev)
            && self.direction.is_none_or(|direction| direction == policy.direction)
            && self.index.is_none_or(|index| index == policy.index)
            && self.action.is_none_or(|action| action == policy.action)
            && self.priority.is_none_or(|priority| priority == policy.priority)
            && (self.flags.is_empty() || self.flags.iter().any(|flag| policy.flags.contains(flag)))
    }
}
