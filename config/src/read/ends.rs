//! Between whom an SA is: where it sends from, and what it may carry (RFC 4301 sections 4.1 and 4.4.2.1).

use std::net::{IpAddr, SocketAddr};

use latchway_tagging::Mode;

use super::peer::Reader;
use super::policy;
use super::sa::{Kind, Owned};
use super::wire::NoSource;
use crate::document::{Entry, Scope};
use crate::model::Encapsulation;
use crate::range::{AddressRange, Selector, holds};
use crate::reference::sa;
use crate::value;

impl Reader<'_, '_> {
    /// The address that the file names to send from, and the one that is sent from, where that is known to be one.
    pub fn source(
        &mut self,
        table: &Scope<'_>,
        kind: Option<Kind>,
        owned: &Owned<'_>,
    ) -> (Option<IpAddr>, Option<IpAddr>) {
        let from = table.read(&sa::FROM, self.problems, value::address);
        let (Some(kind), Some(endpoint)) = (kind, owned.endpoint) else { return (from, None) };
        let native = kind.encapsulation == Encapsulation::None;
        let source = match self.known.listen.source((native, endpoint.is_ipv4()), from) {
            Ok(source) => source,
            Err(wrong) => {
                self.no_source(table, (kind, endpoint), from, wrong);
                return (from, None);
            }
        };
        let single = source.filter(|address| !address.is_unspecified());
        if source.is_some() && single.is_none() && (native || kind.mode == Mode::Transport) {
            let example = if native { "native:192.0.2.1" } else { "192.0.2.1:4500" };
            let hint =
                format!("name the address of ours that it sends from in `listen`, for example \"{example}\"");
            let message = "takes a single address of ours, and `listen` names none";
            self.problems.error(table.at(), table.name(), message, hint);
        }
        (from, single)
    }

    /// Nothing listens where the SA would send from.
    fn no_source(
        &mut self,
        table: &Scope<'_>,
        (kind, endpoint): (Kind, SocketAddr),
        from: Option<IpAddr>,
        wrong: NoSource,
    ) {
        let example = from.map_or_else(
            || if endpoint.is_ipv4() { "192.0.2.1".to_owned() } else { "2001:db8::1".to_owned() },
            |from| from.to_string(),
        );
        let native = kind.encapsulation == Encapsulation::None;
        let listen = if native { format!("\"native:{example}\"") } else { format!("\"{example}\"") };
        let entry = table.entry(&sa::FROM);
        let at = entry.as_ref().map_or((table.at(), table.name()), |entry| (entry.at(), entry.path()));
        let (message, hint) = match (wrong, from) {
            (NoSource::Family, _) => (
                "is of another address family than the peer's endpoint".to_owned(),
                "name a `listen` address of the endpoint's family".to_owned(),
            ),
            (NoSource::Nowhere, Some(from)) => (
                format!("{from} is no `listen` address"),
                format!("name {from} there, or one of the addresses there here"),
            ),
            (NoSource::Carrier | NoSource::Nowhere, _) if native => (
                "sends without UDP, and no `listen` address receives that".to_owned(),
                format!(
                    "add {listen} to `listen`, with an address of ours; or write encapsulation = \"udp\""
                ),
            ),
            (NoSource::Carrier | NoSource::Nowhere, _) => (
                "sends in UDP, and no `listen` address receives that".to_owned(),
                format!("add {listen} to `listen`; or write encapsulation = \"none\""),
            ),
        };
        self.problems.error(at.0, at.1, message, hint);
    }

    /// What the SA may carry: in transport mode, what is between its ends.
    pub fn selectors(
        &mut self,
        table: &Scope<'_>,
        (kind, source): (Option<Kind>, Option<IpAddr>),
        owned: &Owned<'_>,
    ) -> Option<Vec<Selector>> {
        if kind?.mode == Mode::Transport {
            return self.between_ends(table, source?, owned);
        }
        let before = self.problems.errors();
        let Some(entry) = table.entry(&sa::SELECTORS) else {
            let local = self.known.networks.as_ref()?;
            if owned.ranges.is_empty() {
                return None;
            }
            let selector = Selector::between(local.clone(), owned.ranges.to_vec());
            let fits = policy::fits(&selector, (table.at(), table.name()), self.problems);
            return fits.then(|| vec![selector]);
        };
        let selectors = self.written_selectors(&entry, (self.known.networks.as_deref(), owned.ranges));
        (self.problems.errors() == before).then_some(selectors)
    }

    fn written_selectors(
        &mut self,
        entry: &Entry<'_>,
        ranges: (Option<&[AddressRange]>, &[AddressRange]),
    ) -> Vec<Selector> {
        if entry.is_empty_list() {
            entry.error(self.problems, "is empty", "remove it for everything that the peer may claim");
        }
        let read = |item: &Entry<'_>| policy::sa_selector(item, ranges, self.problems);
        entry.items().iter().filter_map(read).collect()
    }

    /// RFC 4301 section 4.1: the ends of a transport-mode SA are those of what it carries.
    fn between_ends(&mut self, table: &Scope<'_>, ours: IpAddr, owned: &Owned<'_>) -> Option<Vec<Selector>> {
        let before = self.problems.errors();
        let theirs = owned.endpoint?.ip();
        let (local, remote) = (AddressRange::new(ours, ours)?, AddressRange::new(theirs, theirs)?);
        if !holds(owned.ranges, &remote) && !owned.ranges.is_empty() {
            let message = format!(
                "in transport mode the peer's address is its inner one, and it may not claim {theirs}"
            );
            let hint = format!("add \"{theirs}\" to its `inner`");
            self.problems.error(table.at(), table.name(), message, hint);
        }
        let Some(entry) = table.entry(&sa::SELECTORS) else {
            return Some(vec![Selector::between(vec![local], vec![remote])]);
        };
        let selectors = self.written_selectors(&entry, (Some(&[local]), &[remote]));
        if let Some(stray) = selectors.iter().find(|selector| selector.local != [local]) {
            let message = format!(
                "in transport mode nothing else is carried than between {ours} and {theirs}: {stray}"
            );
            entry.error(self.problems, message, "remove `local` and `remote`, or use tunnel mode");
        }
        (self.problems.errors() == before).then_some(selectors)
    }
}
