//! Blackhole routes: where a packet for a protected prefix ends when no better route is left (T13).
//!
//! They are silent, need no interface, and so outlive the TUN as well as the process. An attribute of the TUN cannot do
//! this: a persistent TUN that is set down loses its routes.

use ipnet::IpNet;
use latchway_netns::{
    Links,
    links::{MAIN, Way},
};

use crate::{BLACKHOLE_METRIC, Result};

/// One blackhole for each of some prefixes, all with one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blackholes {
    prefixes: Vec<IpNet>,
    metric: u32,
}

impl Blackholes {
    /// Blackholes of the usual metric ([`BLACKHOLE_METRIC`]). Equal prefixes are one.
    pub fn new(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        Self::with_metric(prefixes, BLACKHOLE_METRIC)
    }

    /// Blackholes of another metric: it must be worse (higher) than that of the routes they stand in for.
    pub fn with_metric(prefixes: impl IntoIterator<Item = IpNet>, metric: u32) -> Self {
        let mut prefixes: Vec<IpNet> = prefixes.into_iter().map(|prefix| prefix.trunc()).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        Self { prefixes, metric }
    }

    /// Puts up those that are not there yet.
    pub fn install(&self, links: &Links) -> Result<()> {
        for &prefix in &self.prefixes {
            links.add_blackhole(prefix, self.metric)?;
        }
        Ok(())
    }

    /// Those that are not there.
    pub fn missing(&self, links: &Links) -> Result<Vec<IpNet>> {
        let routes = links.routes()?;
        let stands = |prefix: &IpNet| {
            routes.iter().any(|route| {
                route.table == MAIN
                    && route.way == Way::Blackhole
                    && route.metric == self.metric
                    && route.destination == *prefix
            })
        };
        Ok(self.prefixes.iter().copied().filter(|prefix| !stands(prefix)).collect())
    }

    /// Takes down those that are there.
    pub fn remove(&self, links: &Links) -> Result<()> {
        let missing = self.missing(links)?;
        for &prefix in self.prefixes.iter().filter(|prefix| !missing.contains(prefix)) {
            links.delete_blackhole(prefix, self.metric)?;
        }
        Ok(())
    }
}
