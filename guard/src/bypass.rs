//! The port of what is bypassed: a TUN where the wire is, by which BYPASS traffic of inner hosts leaves and returns.
//!
//! The kernel of that namespace forwards what the gateway writes to it, and routes what is for an inner prefix into it; what
//! happens to either is for the gateway's policy to say. A namespace that did not forward before forwards between the port
//! and the outside only: it does not become a router between its other interfaces.
//!
//! Reverse path filters need no change: the route to an inner source leads into the port that it comes from, and a strict
//! filter outside discards inner sources from there, as it should.

use std::{fs, io};

use ipnet::IpNet;
use latchway_netns::{
    Error, Links, Namespace,
    links::{Family, Link},
    sysctl,
};

use crate::{
    Blackholes, GuardError, ROUTE_METRIC, Result, SettingChange,
    setting::{is_on, set},
    steering::{Steering, family},
};

/// What the port is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BypassPort {
    /// The TUN's name. It needs no address.
    pub tun: String,
    /// Its MTU.
    pub mtu: u32,
    /// How many packets may wait for the gateway.
    pub queue: u32,
    /// The inner prefixes: what arrives for them is given to the gateway.
    pub inner: Vec<IpNet>,
    /// The interfaces by which bypassed traffic leaves and returns.
    pub outside: Vec<String>,
}

impl BypassPort {
    /// Brings the namespace of the wire to this state. The TUN exists and this process has it open. Says which settings had
    /// to be changed; a second time, none.
    pub fn prepare(&self, outer: &Namespace) -> Result<Vec<SettingChange>> {
        if let Some(own) = self.outside.iter().find(|name| **name == self.tun || *name == "lo") {
            return Err(GuardError::Invalid(format!("{own} is no interface to the outside")));
        }
        let links = Links::of(outer)?;
        for name in &self.outside {
            links.link(name)?;
        }
        Blackholes::new(self.inner.iter().copied()).install(&links)?;
        self.configure(&links)?;
        let mut changes = Vec::new();
        for version in [Family::V4, Family::V6] {
            if self.inner.iter().any(|prefix| family(prefix) == version) {
                self.forward(outer, &links, version, &mut changes)?;
            }
        }
        for &prefix in &self.inner {
            links.add_route(prefix, None, &self.tun, ROUTE_METRIC)?;
        }
        Ok(changes)
    }

    /// Ends the forwarding, and sets back what [`prepare`](Self::prepare) said it had changed. The blackholes stay.
    pub fn remove(&self, outer: &Namespace, changes: &[SettingChange]) -> Result<()> {
        for change in changes.iter().rev() {
            // Settings of an interface go with it.
            if sysctl::read(outer, &change.key).is_ok() {
                change.undo(outer)?;
            }
        }
        let links = Links::of(outer)?;
        for version in [Family::V4, Family::V6] {
            if !forwards(outer, &links, version, &self.tun)? {
                Steering { tun: &self.tun, family: version }.remove(&links)?;
            }
        }
        Ok(())
    }

    /// Quiet, sized and up. A TUN that is so already is not touched.
    fn configure(&self, links: &Links) -> Result<()> {
        let (tun, link) = (&self.tun, links.link(&self.tun)?);
        let as_wanted = |link: &Link| link.up && link.mtu == self.mtu && link.queue == self.queue;
        if as_wanted(&link) && links.is_quiet_ipv6(tun)? {
            return Ok(());
        }
        links.set_down(tun)?;
        links.quiet_ipv6(tun)?;
        links.set_mtu(tun, self.mtu)?;
        links.set_queue(tun, self.queue)?;
        Ok(links.set_up(tun)?)
    }

    fn forward(
        &self,
        outer: &Namespace,
        links: &Links,
        version: Family,
        changes: &mut Vec<SettingChange>,
    ) -> Result<()> {
        let steering = Steering { tun: &self.tun, family: version };
        // Ours from the last run, or none had forwarded.
        if steering.stands(links)? || !forwards(outer, links, version, &self.tun)? {
            steering.install(links, &self.inner)?;
        }
        match version {
            Family::V4 => {
                for name in self.outside.iter().chain([&self.tun]) {
                    set(outer, format!("net/ipv4/conf/{name}/forwarding"), "1", changes)?;
                }
            }
            Family::V6 => {
                // There is one switch for all interfaces, and an interface that forwards heeds router advertisements only
                // if told to in so many words: it would lose its address and default route (accept_ra).
                for name in interfaces(outer)? {
                    let key = format!("net/ipv6/conf/{name}/accept_ra");
                    if sysctl::read(outer, &key)? == "1" {
                        set(outer, key, "2", changes)?;
                    }
                }
                set(outer, ALL_IPV6.to_owned(), "1", changes)?;
            }
        }
        Ok(())
    }
}

/// Whether a namespace forwards between other interfaces than ours: then it was a router before, and may remain one.
fn forwards(outer: &Namespace, links: &Links, version: Family, tun: &str) -> Result<bool> {
    match version {
        Family::V6 => is_on(outer, ALL_IPV6),
        Family::V4 => {
            for link in links.all()?.iter().filter(|link| link.name != "lo" && link.name != tun) {
                if is_on(outer, &format!("net/ipv4/conf/{}/forwarding", link.name))? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// The interfaces that have IPv6 settings, and the defaults of those to come.
fn interfaces(namespace: &Namespace) -> Result<Vec<String>> {
    let list = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir("/proc/sys/net/ipv6/conf")?;
        entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
    };
    let attempt = || format!("listing the interfaces with IPv6 in {}", namespace.label());
    let names = namespace.run(list)?.map_err(|source| Error::refused(attempt(), source))?;
    Ok(names.into_iter().filter(|name| name != "all" && name != "lo").collect())
}

const ALL_IPV6: &str = "net/ipv6/conf/all/forwarding";
