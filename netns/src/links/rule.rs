//! Routing rules: which table the route of a packet is looked up in (ip-rule(8)).

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use super::Links;
use crate::Result;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A rule on the interface that a packet arrived on. What the namespace sends itself counts as arriving on `lo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For packets of which IP version.
    pub family: Family,
    /// Rules are tried in this order, lowest first.
    pub priority: u32,
    /// The interface; it need not exist.
    pub arriving: String,
    /// The rule is for packets that arrived on any other interface.
    pub other: bool,
    /// The rule is only for packets from there.
    pub from: Option<IpNet>,
    /// The table to look the route up in.
    pub table: u32,
}

impl Links {
    /// Adds a rule, which may be there already.
    pub fn add_rule(&self, rule: &Rule) -> Result<()> {
        let attempt = || format!("adding a routing rule for table {}", rule.table);
        let added =
            self.change(RouteNetlinkMessage::NewRule(rule.message()), NLM_F_CREATE | NLM_F_EXCL, attempt);
        match added {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            added => added,
        }
    }

    /// The rules on arriving interfaces. What else a rule may ask for is not told.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RuleMessage::default();
            request.header.family = family;
            let answers = self
                .query(|netlink| netlink.dump(RouteNetlinkMessage::GetRule(request)))
                .map_err(|source| self.refused("listing the routing rules".to_owned(), source))?;
            rules.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRule(message) => Rule::of(&message),
                _ => None,
            }));
        }
        Ok(rules)
    }

    /// Deletes a rule, if it is there.
    pub fn delete_rule(&self, rule: &Rule) -> Result<()> {
        let attempt = || format!("deleting a routing rule for table {}", rule.table);
        match self.change(RouteNetlinkMessage::DelRule(rule.message()), 0, attempt) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            deleted => deleted,
        }
    }
}

impl Rule {
    fn of(message: &RuleMessage) -> Option<Self> {
        let family = match message.header.family {
            AddressFamily::Inet => Family::V4,
            AddressFamily::Inet6 => Family::V6,
            _ => return None,
        };
        let (mut priority, mut arriving, mut table) = (0, None, u32::from(message.header.table));
        let mut from = None;
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(found) => priority = *found,
                RuleAttribute::Iifname(found) => arriving = Some(found.clone()),
                RuleAttribute::Table(found) => table = *found,
                RuleAttribute::Source(found) => from = IpNet::new(*found, message.header.src_len).ok(),
                _ => {}
            }
        }
        let other = message.header.flags.contains(RuleFlags::Invert);
        Some(Self { family, priority, arriving: arriving?, other, from, table })
    }

    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = match self.family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        message.header.action = RuleAction::ToTable;
        if self.other {
            message.header.flags = RuleFlags::Invert;
        }
        message.attributes.extend([
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Iifname(self.arriving.clone()),
            RuleAttribute::Table(self.table),
        ]);
        if let Some(from) = self.from {
            message.header.src_len = from.prefix_len();
            message.attributes.push(RuleAttribute::Source(from.network()));
        }
        message
    }
}
