//! Forwarding between a TUN and everything else, and nothing else.
//!
//! A kernel that forwards does so between all its interfaces. So whatever arrives on another interface than the TUN and is not
//! for the namespace itself is routed by a table of its own: it leads into the TUN, and where it does not, nowhere. What the
//! TUN brings, and what the namespace sends itself, is routed as ever.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use latchway_netns::{
    Links,
    links::{Family, MAIN, Route, Rule, Way},
};

use crate::{BLACKHOLE_METRIC, ROUTE_METRIC, Result};

/// The rules and routes of one TUN, for one IP version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steering<'a> {
    pub(crate) tun: &'a str,
    pub(crate) family: Family,
}

impl Steering<'_> {
    /// Puts the rules up, before anything is forwarded, and steers what goes to these prefixes into the TUN.
    pub(crate) fn install(self, links: &Links, into_tun: &[IpNet]) -> Result<()> {
        links.add(&self.dead_end())?;
        for rule in self.rules() {
            links.add_rule(&rule)?;
        }
        let way = Way::Through { device: links.index(self.tun)?, via: None };
        for prefix in into_tun.iter().filter(|prefix| family(prefix) == self.family) {
            let (destination, way) = (prefix.trunc(), way.clone());
            links.add(&Route { destination, metric: ROUTE_METRIC, table: TABLE, way })?;
        }
        Ok(())
    }

    /// Whether the rules are there, from now or from an earlier run.
    pub(crate) fn stands(self, links: &Links) -> Result<bool> {
        let there = links.rules()?;
        Ok(self.rules().iter().all(|rule| there.contains(rule)))
    }

    /// Takes the rules down; the table's routes are without effect then, and go with the TUN. To be called when nothing is
    /// forwarded any more.
    pub(crate) fn remove(self, links: &Links) -> Result<()> {
        for rule in self.rules() {
            links.delete_rule(&rule)?;
        }
        Ok(links.remove(&self.dead_end())?)
    }

    /// Lets pass what a door brings from this address; once anything of the kind was said of a door, all else that it brings
    /// goes nowhere. So nobody behind it speaks for another.
    pub(crate) fn hold(self, links: &Links, door: &str, address: IpAddr) -> Result<()> {
        links.add(&Route { table: NOWHERE, ..self.dead_end() })?;
        let (family, arriving) = (self.family, door.to_owned());
        let all = Rule { family, priority: OF_DOORS + 1, arriving, other: false, from: None, table: NOWHERE };
        let own = Rule { priority: OF_DOORS, from: Some(IpNet::from(address)), table: TABLE, ..all.clone() };
        // First what stops everything.
        links.add_rule(&all)?;
        Ok(links.add_rule(&own)?)
    }

    fn rules(self) -> [Rule; 2] {
        let rule = |priority, arriving: &str, other, table| {
            let arriving = arriving.to_owned();
            Rule { family: self.family, priority, arriving, other, from: None, table }
        };
        [rule(PRIORITY, self.tun, false, MAIN), rule(PRIORITY + 1, "lo", true, TABLE)]
    }

    fn dead_end(self) -> Route {
        let (metric, table, way) = (BLACKHOLE_METRIC, TABLE, Way::Blackhole);
        Route { destination: everything(self.family), metric, table, way }
    }
}

/// Takes down what was said of doors that are gone, and of one that is to be made anew: rules outlive their interfaces.
pub(crate) fn forget_doors(links: &Links, anew: &str) -> Result<()> {
    for rule in links.rules()? {
        let is_of_door = [OF_DOORS, OF_DOORS + 1].contains(&rule.priority) && !rule.other;
        if is_of_door && (rule.arriving == anew || !links.exists(&rule.arriving)?) {
            links.delete_rule(&rule)?;
        }
    }
    Ok(())
}

/// Of which IP version a prefix is.
pub(crate) fn family(prefix: &IpNet) -> Family {
    if prefix.addr().is_ipv4() { Family::V4 } else { Family::V6 }
}

/// The prefix of all addresses.
pub(crate) fn everything(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(Ipv4Net::default()),
        Family::V6 => IpNet::V6(Ipv6Net::default()),
    }
}

/// The routing table, and where its rule stands: before the main table's, and room for an operator's before it.
const TABLE: u32 = 4500;
const PRIORITY: u32 = 4500;

/// Where the rules of doors stand: before those. And the table that leads nowhere.
const OF_DOORS: u32 = PRIORITY - 2;
const NOWHERE: u32 = TABLE + 1;
