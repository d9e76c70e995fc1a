//! Notices what became of the guards: the TUN set down or deleted, a route flapped, a filter removed (T13).
//!
//! The kernel tells of changes; whatever it tells, all guards are looked at, so that a notice lost or misread costs nothing.
//! They are looked at after each wait without a notice as well. All handles are opened at the start: later, noticing takes
//! no privilege for routes and links, and CAP_NET_ADMIN for filters; putting back takes CAP_NET_ADMIN; neither takes the
//! right to enter namespaces.

use std::{
    fmt,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use latchway_netns::{Links, Namespace, netlink::Changes};
use nix::sys::socket::SockProtocol;

use crate::{
    Blackholes, HostGuard, InnerSide, Missing, ROUTE_METRIC, Result,
    host::{Tables, changes},
};

/// The guards of one gateway, and where they stand.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// The namespace of the TUN, and what it is to be like.
    pub inner: (Namespace, InnerSide),
    /// The namespace of the wire, and its blackholes; in host mode, none.
    pub outer: Option<(Namespace, Blackholes)>,
    /// The filters of the TUN's namespace, in host mode.
    pub host: Option<HostGuard>,
}

/// What is to be guarded, where a gateway's configuration changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// What the inner side reaches through the TUN.
    pub routes: Vec<IpNet>,
    /// Our own inner prefixes.
    pub inner: Vec<IpNet>,
    /// The prefixes that are reached through SAs only.
    pub protected: Vec<IpNet>,
}

/// A guard that does not stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Something of the inner side.
    Inner(Missing),
    /// The blackhole of a prefix in the namespace of the wire.
    Outer(IpNet),
    /// Something of the filters of host mode, in words.
    Filter(String),
}

/// What became of a guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It does not stand any more.
    Lost(Lack),
    /// It stands again.
    Back(Lack),
}

/// Watches the guards.
#[derive(Debug)]
pub struct Monitor {
    guarded: Guarded,
    inner: Links,
    outer: Option<Links>,
    host: Option<Tables>,
    changes: Vec<Changes>,
    lacking: Vec<Lack>,
}

impl Monitor {
    /// Starts to watch. What does not stand already is [lacking](Self::lacking), and no change.
    pub fn new(guarded: Guarded) -> Result<Self> {
        let inner = Links::of(&guarded.inner.0)?;
        let outer = guarded.outer.as_ref().map(|(outer, _)| Links::of(outer)).transpose()?;
        let host = guarded.host.as_ref().map(|_| Tables::of(&guarded.inner.0)).transpose()?;
        // Before the first look, so that no change falls between looking and waiting.
        let mut told = vec![of_routes(&guarded.inner.0)?];
        if let Some((outer, _)) = &guarded.outer {
            told.push(of_routes(outer)?);
        }
        if host.is_some() {
            told.extend(changes(&guarded.inner.0)?);
        }
        let mut monitor = Self { guarded, inner, outer, host, changes: told, lacking: Vec::new() };
        monitor.lacking = monitor.look()?;
        Ok(monitor)
    }

    /// What did not stand when last looked at.
    pub fn lacking(&self) -> &[Lack] {
        &self.lacking
    }

    /// Waits until something changes or time is up, and says what has become of the guards since last time.
    pub fn wait(&mut self, within: Duration) -> Result<Vec<Change>> {
        let (started, told) = (Instant::now(), self.changes.iter().collect::<Vec<_>>());
        let attempt =
            |source| latchway_netns::Error::refused("waiting for changes of links and routes", source);
        if Changes::wait(&told, within).map_err(attempt)? {
            // Changes come in swarms; to look at each would be work without end on a busy host.
            while started.elapsed() < within.min(SWARM) && Changes::wait(&told, PAUSE).map_err(attempt)? {}
        }
        self.compare()
    }

    /// Puts back what is lacking, as far as it can be: a TUN that was deleted cannot be, and its filters and blackholes are
    /// all the more. Says what has become of the guards since last time.
    pub fn restore(&mut self) -> Result<Vec<Change>> {
        let lacking = self.discard()?;
        let inner: Vec<Missing> = lacking.into_iter().filter_map(Lack::of_inner).collect();
        if !inner.contains(&Missing::Tun) && !inner.is_empty() {
            self.guarded.inner.1.bring_about(&self.inner, &inner)?;
        }
        self.compare()
    }

    /// Puts back what discards, filters and blackholes, and leaves the TUN as it is: somebody may want it so. Says what has
    /// become of the guards since last time.
    pub fn hold(&mut self) -> Result<Vec<Change>> {
        self.discard()?;
        self.compare()
    }

    /// Puts back what does not depend on anything. Says what was lacking.
    fn discard(&mut self) -> Result<Vec<Lack>> {
        let lacking = self.look()?;
        if let (Some(guard), Some(tables)) = (&self.guarded.host, &mut self.host)
            && lacking.iter().any(|lack| matches!(lack, Lack::Filter(_)))
        {
            guard.install_through(tables)?;
        }
        if let (Some((_, blackholes)), Some(links)) = (&self.guarded.outer, &self.outer) {
            blackholes.install(links)?;
        }
        self.guarded.inner.1.blackholes().install(&self.inner)?;
        Ok(lacking)
    }

    /// Guards these prefixes from here on, and puts up what that takes: routes of the inner side, blackholes of the outer one,
    /// filters. The TUN itself is left alone. What is no longer asked for stays up until it is
    /// [withdrawn](Self::withdraw).
    pub fn extend(&mut self, prefixes: &Prefixes) -> Result<()> {
        let guarded = &mut self.guarded;
        let side = &mut guarded.inner.1;
        let before = std::mem::replace(&mut side.routes, prefixes.routes.clone());
        // Inside a prefix that is guarded the route comes before its blackhole, or packets would be lost in between. Should
        // the TUN go just then, the wider blackhole discards.
        for &route in side.routes.iter().filter(|route| is_inside(route, &before)) {
            self.inner.add_route(route, None, &side.tun, ROUTE_METRIC)?;
        }
        if let Some((_, blackholes)) = &mut guarded.outer {
            *blackholes = Blackholes::new(prefixes.inner.iter().copied());
        }
        if let (Some(guard), Some(tables)) = (&mut guarded.host, &mut self.host) {
            *guard = guard.with_prefixes(&prefixes.inner, &prefixes.protected);
            guard.install_through(tables)?;
        }
        if let (Some((_, blackholes)), Some(links)) = (&guarded.outer, &self.outer) {
            blackholes.install(links)?;
        }
        guarded.inner.1.bring_about(&self.inner, &[])?;
        self.lacking = self.look()?;
        Ok(())
    }

    /// Takes down the routes and blackholes of the inner side that lead to these prefixes, as far as they are there and not
    /// guarded any more.
    pub fn withdraw(&mut self, routes: &[IpNet]) -> Result<()> {
        let side = &self.guarded.inner.1;
        let gone = routes.iter().copied().filter(|prefix| !side.routes.contains(prefix));
        // For the same reason as above, what stays inside a guarded prefix loses its blackhole first.
        let (inside, outside): (Vec<IpNet>, Vec<IpNet>) =
            gone.partition(|prefix| is_inside(prefix, &side.routes));
        Blackholes::new(inside.iter().copied()).remove(&self.inner)?;
        for &prefix in inside.iter().chain(&outside) {
            let removed = self.inner.delete_route(prefix, None, &side.tun, ROUTE_METRIC);
            removed.or_else(
                |error| if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) },
            )?;
        }
        Blackholes::new(outside).remove(&self.inner)
    }

    fn compare(&mut self) -> Result<Vec<Change>> {
        let now = self.look()?;
        let lost = now.iter().filter(|lack| !self.lacking.contains(lack)).cloned().map(Change::Lost);
        let back = self.lacking.iter().filter(|lack| !now.contains(lack)).cloned().map(Change::Back);
        let changes = back.chain(lost).collect();
        self.lacking = now;
        Ok(changes)
    }

    fn look(&mut self) -> Result<Vec<Lack>> {
        let (_, side) = &self.guarded.inner;
        let mut lacking: Vec<Lack> = side.lacking(&self.inner)?.into_iter().map(Lack::Inner).collect();
        if let (Some((_, blackholes)), Some(links)) = (&self.guarded.outer, &self.outer) {
            lacking.extend(blackholes.missing(links)?.into_iter().map(Lack::Outer));
        }
        if let (Some(guard), Some(tables)) = (&self.guarded.host, &mut self.host) {
            lacking.extend(guard.differences(tables)?.into_iter().map(Lack::Filter));
        }
        Ok(lacking)
    }
}

impl Lack {
    fn of_inner(self) -> Option<Missing> {
        match self {
            Self::Inner(missing) => Some(missing),
            Self::Outer(_) | Self::Filter(_) => None,
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(missing) => missing.fmt(f),
            Self::Outer(prefix) => write!(f, "the blackhole route of {prefix} where the wire is"),
            Self::Filter(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(lack) => write!(f, "lost {lack}"),
            Self::Back(lack) => write!(f, "{lack} is back"),
        }
    }
}

/// Whether a prefix is part of a wider one.
fn is_inside(prefix: &IpNet, others: &[IpNet]) -> bool {
    others.iter().any(|other| other != prefix && other.contains(prefix))
}

fn of_routes(namespace: &Namespace) -> Result<Changes> {
    let subscribed = namespace.run(|| Changes::subscribe(SockProtocol::NetlinkRoute, ROUTE_CHANGES))?;
    let attempt = || format!("subscribing to changes in {}", namespace.label());
    Ok(subscribed.map_err(|source| latchway_netns::Error::refused(attempt(), source))?)
}

/// rtnetlink(7): RTMGRP_LINK, and of both IP versions RTMGRP_IFADDR and RTMGRP_ROUTE.
const ROUTE_CHANGES: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// No notice for so long ends a swarm of them.
const PAUSE: Duration = Duration::from_millis(5);

/// A swarm is not waited for longer than this.
const SWARM: Duration = Duration::from_millis(100);
