//! Tables of the kernel's packet filter, nf_tables, through netlink: replaced in one transaction, compared, counted, removed.

use std::io;

use latchway_netns::{
    Namespace,
    netlink::{Changes, Netlink},
};
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
    nftables::{
        ChainAttribute, ChainMessage, Hook, HookNumber, NfTablesMessage, RuleAttribute, RuleMessage,
        TableAttribute, TableFlags, TableMessage,
    },
    none::ControlMessage,
};
use nix::sys::socket::SockProtocol;

use super::rule::{self, Chain};
use crate::{GuardError, Result};

/// A table as it is to be.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) family: NetfilterProtoFamily,
    pub(super) name: String,
    pub(super) chains: Vec<Chain>,
}

/// Has the kernel tell of every change of the packet filter, for whoever may hear of it.
pub(crate) fn changes(namespace: &Namespace) -> Result<Option<Changes>> {
    let subscribed = namespace.run(|| Changes::subscribe(SockProtocol::NetlinkNetFilter, TABLE_CHANGES))?;
    Ok(subscribed.ok())
}

/// A handle on the packet filter of one namespace.
#[derive(Debug)]
pub struct Tables {
    netlink: Netlink<NetfilterMessage>,
    label: String,
}

impl Tables {
    /// Opens a handle, which takes no privilege beyond entering the namespace.
    pub fn of(namespace: &Namespace) -> Result<Self> {
        let opened = namespace.run(|| Netlink::open_for(SockProtocol::NetlinkNetFilter))?;
        let label = namespace.label().to_owned();
        let netlink = opened.map_err(|source| refused("opening the packet filter", &label, source))?;
        Ok(Self { netlink, label })
    }

    /// Puts tables up in place of those of their names.
    pub(super) fn replace(&mut self, tables: &[Table]) -> Result<()> {
        let mut batch = Vec::new();
        for table in tables {
            // Made if missing, so that deleting it never fails.
            batch.push((table.message(NfTablesMessage::NewTable), NLM_F_CREATE));
            batch.push((table.message(NfTablesMessage::DeleteTable), 0));
            batch.push((table.message(NfTablesMessage::NewTable), NLM_F_CREATE));
            for chain in &table.chains {
                batch.push((table.chain(chain), NLM_F_CREATE));
                batch.extend(
                    chain.rules.iter().map(|rule| (table.rule(chain, rule), NLM_F_CREATE | NLM_F_APPEND)),
                );
            }
        }
        self.transact("putting up packet filters", batch)
    }

    /// Takes tables away, if they are there.
    pub(super) fn remove(&mut self, tables: &[Table]) -> Result<()> {
        let mut batch = Vec::new();
        for table in tables {
            batch.push((table.message(NfTablesMessage::NewTable), NLM_F_CREATE));
            batch.push((table.message(NfTablesMessage::DeleteTable), 0));
        }
        self.transact("removing packet filters", batch)
    }

    /// In what a table differs from what it is to be, in words.
    pub(super) fn differences(&mut self, table: &Table) -> Result<Vec<String>> {
        let (name, family) = (&table.name, family_name(table.family));
        match self.flags(table)? {
            None => return Ok(vec![format!("the packet filter table {family} {name}")]),
            Some(flags) if flags.contains(TableFlags::Dormant) => {
                return Ok(vec![format!("the packet filter table {family} {name}: it is dormant")]);
            }
            Some(_) => {}
        }
        let (hooks, rules) = (self.hooks(table)?, self.rules(table)?);
        let mut differences = Vec::new();
        for chain in &table.chains {
            let place = format!("the chain {} of the packet filter table {family} {name}", chain.name);
            if !hooks.iter().any(|(found, hook)| found == chain.name && *hook == Some(chain.hook)) {
                differences.push(place);
                continue;
            }
            let found = rules.iter().filter(|rule| chain_of(rule) == Some(chain.name));
            let found: Vec<Option<String>> = found.map(|rule| rule::comment_of(rule)).collect();
            let expected = chain.rules.iter().map(|rule| Some(rule.comment.clone()));
            let absent: Vec<String> =
                expected.clone().filter(|rule| !found.contains(rule)).flatten().collect();
            if absent.is_empty() && !expected.eq(found) {
                differences.push(format!("the order in {place}: it has rules of others"));
            }
            differences.extend(absent.into_iter().map(|rule| format!("the rule '{rule}' in {place}")));
        }
        Ok(differences)
    }

    /// How many packets each counting rule of a table has met, by chain and comment.
    pub(super) fn counts(&mut self, table: &Table) -> Result<Vec<((String, String), u64)>> {
        let counted = self.rules(table)?.into_iter().filter_map(|rule| {
            let place = (chain_of(&rule)?.to_owned(), rule::comment_of(&rule)?);
            Some((place, rule::packets_of(&rule)?))
        });
        Ok(counted.collect())
    }

    /// A table's flags, if there is such a table.
    fn flags(&mut self, table: &Table) -> Result<Option<TableFlags>> {
        match self.netlink.ask(table.message(NfTablesMessage::GetTable), 0) {
            Ok(answers) => Ok(Some(answers.into_iter().find_map(flags_of).unwrap_or_default())),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(source) => Err(refused("looking up a packet filter table", &self.label, source)),
        }
    }

    /// The chains of a table, each with its hook if it has one.
    fn hooks(&mut self, table: &Table) -> Result<Vec<(String, Option<rule::Hook>)>> {
        let request = table.wrap(NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() }));
        let answers = self.netlink.dump(request);
        let answers =
            answers.map_err(|source| refused("listing packet filter chains", &self.label, source))?;
        let chains = answers.into_iter().filter_map(|answer| match answer.inner {
            NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain)) => hook_of(&chain, &table.name),
            _ => None,
        });
        Ok(chains.collect())
    }

    /// The rules of a table, in their order.
    fn rules(&mut self, table: &Table) -> Result<Vec<Vec<RuleAttribute>>> {
        let attributes = vec![RuleAttribute::Table(table.name.clone())];
        let answers = self.netlink.dump(table.wrap(NfTablesMessage::GetRule(RuleMessage { attributes })));
        let answers = match answers {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
            answers => {
                answers.map_err(|source| refused("listing packet filter rules", &self.label, source))?
            }
        };
        let ours = |rule: &Vec<RuleAttribute>| {
            rule.iter()
                .any(|attribute| matches!(attribute, RuleAttribute::Table(name) if *name == table.name))
        };
        let rules = answers.into_iter().filter_map(|answer| match answer.inner {
            NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) => {
                Some(rule.attributes).filter(ours)
            }
            _ => None,
        });
        Ok(rules.collect())
    }

    fn transact(&mut self, attempt: &str, messages: Vec<(NetfilterMessage, u16)>) -> Result<()> {
        let mut batch = vec![(control(ControlMessage::BatchBegin), 0)];
        batch.extend(messages);
        batch.push((control(ControlMessage::BatchEnd), 0));
        self.netlink.transact(batch).map_err(|source| refused(attempt, &self.label, source))
    }
}

impl Table {
    fn message(&self, kind: fn(TableMessage) -> NfTablesMessage) -> NetfilterMessage {
        self.wrap(kind(TableMessage { attributes: vec![TableAttribute::Name(self.name.clone())] }))
    }

    fn chain(&self, chain: &Chain) -> NetfilterMessage {
        let hook = vec![
            Hook::Number(HookNumber::Other(chain.hook.number)),
            Hook::Priority(chain.hook.priority.cast_unsigned()),
        ];
        let attributes = vec![
            ChainAttribute::Table(self.name.clone()),
            ChainAttribute::Name(chain.name.to_owned()),
            ChainAttribute::Hook(hook),
            ChainAttribute::Type("filter".to_owned()),
            ChainAttribute::Policy(NF_ACCEPT),
        ];
        self.wrap(NfTablesMessage::NewChain(ChainMessage { attributes }))
    }

    fn rule(&self, chain: &Chain, rule: &rule::Rule) -> NetfilterMessage {
        let mut attributes =
            vec![RuleAttribute::Table(self.name.clone()), RuleAttribute::Chain(chain.name.to_owned())];
        attributes.extend(rule.attributes());
        self.wrap(NfTablesMessage::NewRule(RuleMessage { attributes }))
    }

    fn wrap(&self, message: NfTablesMessage) -> NetfilterMessage {
        NetfilterMessage::new(NetfilterHeader::new(self.family, 0, 0), message)
    }
}

/// What a batch begins and ends with; it names the subsystem that it is for.
fn control(message: ControlMessage) -> NetfilterMessage {
    let subsystem = u8::from(NetfilterSubsystem::NfTables);
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, subsystem.into()), message)
}

fn flags_of(answer: NetfilterMessage) -> Option<TableFlags> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = answer.inner else { return None };
    table.attributes.into_iter().find_map(|attribute| match attribute {
        TableAttribute::Flags(flags) => Some(flags),
        _ => None,
    })
}

/// Name and hook of a chain that the kernel lists, if it is one of a table's.
fn hook_of(chain: &ChainMessage, table: &str) -> Option<(String, Option<rule::Hook>)> {
    let (mut name, mut own, mut number, mut priority) = (None, false, None, None);
    for attribute in &chain.attributes {
        match attribute {
            ChainAttribute::Table(found) => own = found == table,
            ChainAttribute::Name(found) => name = Some(found.clone()),
            ChainAttribute::Hook(parts) => {
                for part in parts {
                    match part {
                        Hook::Number(found) => number = Some(u32::from(*found)),
                        Hook::Priority(found) => priority = Some(found.cast_signed()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let hook = number.zip(priority).map(|(number, priority)| rule::Hook { number, priority });
    name.filter(|_| own).map(|name| (name, hook))
}

fn chain_of(rule: &[RuleAttribute]) -> Option<&str> {
    rule.iter().find_map(|attribute| match attribute {
        RuleAttribute::Chain(name) => Some(name.as_str()),
        _ => None,
    })
}

fn family_name(family: NetfilterProtoFamily) -> &'static str {
    if family == NetfilterProtoFamily::ARP { "arp" } else { "inet" }
}

fn refused(attempt: &str, label: &str, source: io::Error) -> GuardError {
    let attempt = format!("{attempt} in {label}");
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => GuardError::NotPermitted { attempt, source },
        // No netlink of this kind, no such subsystem, no such family, or no such chain type or expression.
        Some(
            libc::EPROTONOSUPPORT
            | libc::EAFNOSUPPORT
            | libc::ESOCKTNOSUPPORT
            | libc::EOPNOTSUPP
            | libc::ENOENT,
        ) => GuardError::NoNfTables { attempt, source },
        _ => latchway_netns::Error::refused(attempt, source).into(),
    }
}

const NF_ACCEPT: u32 = 1;

/// nfnetlink.h: NFNLGRP_NFTABLES, as a bit.
const TABLE_CHANGES: u32 = 1 << 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_nf_tables_and_a_user_without_the_right_are_told_what_to_do() {
        let says = |errno| refused("trying", "here", io::Error::from_raw_os_error(errno)).to_string();
        for errno in [libc::EPROTONOSUPPORT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT, libc::ENOENT] {
            let text = says(errno);
            assert!(text.contains("modprobe nf_tables") && text.contains("split mode"), "{text}");
        }
        assert!(says(libc::EPERM).contains("CAP_NET_ADMIN"), "{}", says(libc::EPERM));
        assert!(says(libc::EMSGSIZE).starts_with("trying in here"), "{}", says(libc::EMSGSIZE));
    }
}
