//! The Security Policy Database (RFC 4301 section 4.4.1): ordered rules, and no match is discard.

mod classifier;
mod extent;
mod tree;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use latchway_esp::Protocol;
use latchway_tagging::Mode;

use crate::drop::Direction;
use crate::latching::{LatchTerms, Model};
use crate::selector::Selector;
use crate::traffic::Traffic;

use self::classifier::Classifier;

/// What policy wants done with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// ESP or AH, and nothing less.
    Protect(Protection),
    /// In the clear, through the bypass port.
    Bypass,
    /// Not at all.
    Discard,
}

/// How a PROTECT rule protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protection {
    /// Only SAs installed under this id serve the rule; `None` takes any SA whose selectors admit the flow.
    pub reqid: Option<Reqid>,
    /// What those SAs must be besides; `None` takes any.
    pub template: Option<Template>,
    /// Whether connections are latched (R-4, L-15).
    pub latching: Latching,
}

/// What the SAs that serve a rule must be, as a template of `ip xfrm policy` says it (RFC 4301 4.4.1.2). What is `None` may
/// be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    /// The outer addresses, ours first.
    pub ends: Option<(IpAddr, IpAddr)>,
    /// ESP or AH.
    pub protocol: Option<Protocol>,
    /// Tunnel or transport.
    pub mode: Option<Mode>,
    /// The AH that must be around, of a bundle (RFC 4301 4.3); with `None` it may be there.
    pub around: Option<Around>,
}

/// Which AH SA goes around those that serve a rule: one in transport mode, between the same ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Around {
    /// Only AH SAs installed under this id; `None` takes any.
    pub reqid: Option<Reqid>,
}

/// Whether the connections of a rule are latched without anyone asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Latching {
    /// Every connection keeps the class it began with, or breaks, on these terms (L-15; the default by R-4).
    On(LatchTerms),
    /// Packets are protected, but a connection may change peers.
    Off,
}

/// Ties SAs to the rules that they serve, as in `ip xfrm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reqid(pub u32);

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The flows it speaks of.
    pub selector: Selector,
    /// The direction it speaks of; `None` is both.
    pub direction: Option<Direction>,
    /// What it wants.
    pub action: Action,
    /// How far an application may deviate from that for its own connections.
    pub freedom: Freedom,
    /// What it is called. Nothing depends on it.
    pub name: Option<Arc<str>>,
}

/// What an application may ask for its own connections where a rule speaks of them (latching-04 section 2, R8; section
/// 3). Nothing that is asked outlives the latch it was asked with (L-118).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Freedom {
    /// Exactly what the rule says, as policies typically have it (L-36).
    #[default]
    None,
    /// The same or more: protection where the rule bypasses, or a peer and a quality of its own choice (L-13, L-111).
    Stronger,
    /// All that, and bypass where the rule protects, for an application that is privileged (L-112).
    Bypass,
}

/// The rules in their order. The first that matches decides. A copy is cheap.
#[derive(Clone, Default)]
pub struct Spd {
    table: Arc<Table>,
}

#[derive(Default)]
struct Table {
    rules: Box<[Rule]>,
    classifier: Classifier,
}

impl Rule {
    /// A rule from which no application may deviate (L-36).
    #[must_use]
    pub const fn new(selector: Selector, direction: Option<Direction>, action: Action) -> Self {
        Self { selector, direction, action, freedom: Freedom::None, name: None }
    }

    /// Whether it is about the traffic in this direction.
    #[inline]
    #[must_use]
    pub fn speaks_of(&self, traffic: &Traffic, direction: Direction) -> bool {
        self.direction.is_none_or(|only| only == direction) && self.selector.admits(traffic)
    }
}

impl Freedom {
    /// The stable name, as configuration and status output show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Stronger => "more",
            Self::Bypass => "bypass",
        }
    }
}

impl Spd {
    /// A database of these rules. Takes time: 5 to 50 milliseconds for 10,000 of them.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let classifier = Classifier::of(&rules);
        Self { table: Arc::new(Table { rules: rules.into(), classifier }) }
    }

    /// What policy wants of the traffic in this direction; `None` is discard (RFC 4301 5.1, 5.2).
    #[must_use]
    pub fn action(&self, traffic: &Traffic, direction: Direction) -> Option<Action> {
        self.find(traffic, direction).map(|(_, rule)| rule.action)
    }

    /// The rule that decides about the traffic in this direction, with its place.
    #[must_use]
    pub fn find(&self, traffic: &Traffic, direction: Direction) -> Option<(usize, &Rule)> {
        let Table { rules, classifier } = &*self.table;
        let place = classifier.find(rules, traffic, direction)?;
        rules.get(place).map(|rule| (place, rule))
    }

    /// Whether the rule that decides about a flow lets bypass be granted to it (L-112).
    #[must_use]
    pub fn grants_bypass(&self, traffic: &Traffic, direction: Direction) -> bool {
        self.find(traffic, direction).is_some_and(|(_, rule)| rule.freedom == Freedom::Bypass)
    }

    /// The rules in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.table.rules
    }
}

impl fmt::Debug for Spd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rules()).finish()
    }
}

impl PartialEq for Spd {
    fn eq(&self, other: &Self) -> bool {
        self.rules() == other.rules()
    }
}

impl Eq for Spd {}

impl Default for Latching {
    fn default() -> Self {
        Self::On(LatchTerms::default())
    }
}

impl Latching {
    /// The terms of latches, where there are to be any.
    #[must_use]
    pub const fn terms(self) -> Option<LatchTerms> {
        match self {
            Self::On(terms) => Some(terms),
            Self::Off => None,
        }
    }
}

impl Protection {
    /// Protection by any SA that admits the flow, with every connection latched, on the strictest terms.
    pub const LATCHED: Self =
        Self { reqid: None, template: None, latching: Latching::On(LatchTerms::from_bits(0)) };
    /// The same, where SAs of several peers may overlap and tags tell them apart (latching-04 2.2).
    pub const LATCHED_BY_TAG: Self = Self {
        reqid: None,
        template: None,
        latching: Latching::On(LatchTerms { model: Model::Tag, ..LatchTerms::from_bits(0) }),
    };
    /// Protection by any SA that admits the flow, connection by connection unlatched.
    pub const UNLATCHED: Self = Self { reqid: None, template: None, latching: Latching::Off };
}

#[cfg(test)]
mod tests;
