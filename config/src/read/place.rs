//! Where the gateway stands: split or host mode, and what belongs to one of them alone.

use ipnet::IpNet;

use super::Seen;
use crate::check::{Claim, Owner};
use crate::document::{Entry, Problems, Scope};
use crate::model::{Guard, NamespaceRef, Place, Tun};
use crate::reference::{Key, namespace, root};
use crate::value;

/// The namespaces.
pub fn read(file: &Scope<'_>, name: Option<&str>, problems: &mut Problems<'_>) -> Option<Place> {
    match mode(file, problems)? {
        Mode::Split => {
            only_in(Mode::Host, file, &root::GUARD, problems);
            let inner = match file.entry(&root::INNER) {
                None => name.map(|name| NamespaceRef::Named(name.to_owned())),
                Some(entry) => namespace(&entry, problems),
            };
            let outer = file.read_or(&root::OUTER, NamespaceRef::Own, problems, namespace);
            let (inner, outer) = (inner?, outer?);
            if inner == outer || (inner.path().is_some() && inner.path() == outer.path()) {
                let entry = file.entry(&root::INNER).or_else(|| file.entry(&root::OUTER))?;
                let hint = "name two namespaces, or write mode = \"host\" for a gateway with one";
                entry.error(problems, "inner and outer namespace are one", hint);
                return None;
            }
            Some(Place::Split { inner, outer })
        }
        Mode::Host => {
            only_in(Mode::Split, file, &root::INNER, problems);
            only_in(Mode::Split, file, &root::OUTER, problems);
            let guard = file.read_or(&root::GUARD, Guard::Install, problems, value::word(&GUARDS));
            Some(Place::Host { guard: guard? })
        }
    }
}

/// The TUN for BYPASS traffic.
pub fn bypass_port(file: &Scope<'_>, tun: Option<&Tun>, problems: &mut Problems<'_>) -> Option<String> {
    only_in(Mode::Split, file, &root::BYPASS_PORT, problems);
    let entry = file.entry(&root::BYPASS_PORT)?;
    let port = value::interface(&entry, problems)?;
    if tun.is_some_and(|tun| tun.name == port) {
        entry.error(problems, "is the name of the TUN", "choose another name for one of them");
    }
    Some(port)
}

/// The prefix of the programs that are started behind the gateway.
pub fn exec(file: &Scope<'_>, seen: &mut Seen, problems: &mut Problems<'_>) -> Option<IpNet> {
    only_in(Mode::Split, file, &root::EXEC, problems);
    let entry = file.entry(&root::EXEC)?;
    let prefix = value::prefix(&entry, problems)?;
    if prefix.max_prefix_len() - prefix.prefix_len() < 2 {
        entry.error(
            problems,
            "has no room for programs",
            "give it four addresses at least, for example a /24",
        );
        return None;
    }
    seen.claims.push(Claim::new(prefix.into(), Owner::Ourselves, &entry));
    Some(prefix)
}

fn mode(file: &Scope<'_>, problems: &mut Problems<'_>) -> Option<Mode> {
    file.read_or(&root::MODE, Mode::Split, problems, value::word(&MODES))
}

/// Refuses a key that says nothing in the other mode.
fn only_in(mode: Mode, file: &Scope<'_>, key: &'static Key, problems: &mut Problems<'_>) {
    let (Some(entry), Some(chosen)) = (file.entry(key), chosen(file)) else { return };
    if mode != chosen {
        let (message, hint) = match mode {
            Mode::Split => ("says nothing in host mode", "remove it, or write mode = \"split\""),
            Mode::Host => ("says nothing in split mode", "remove it, or write mode = \"host\""),
        };
        entry.error(problems, message, hint);
    }
}

/// The mode, where it is a known one; whether it is, someone else reports.
fn chosen(file: &Scope<'_>) -> Option<Mode> {
    file.entry(&root::MODE).map_or(Some(Mode::Split), |entry| {
        let text = entry.as_text()?;
        MODES.iter().find(|(word, _)| *word == text).map(|&(_, mode)| mode)
    })
}

fn namespace(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<NamespaceRef> {
    if !entry.is_table() {
        return match entry.text(problems)? {
            "own" => Some(NamespaceRef::Own),
            _ => namespace_name(entry, problems).map(NamespaceRef::Named),
        };
    }
    let table = entry.table(&namespace::TABLE, problems)?;
    let ways = (table.entry(&namespace::NAME), table.entry(&namespace::PATH), table.entry(&namespace::PID));
    match ways {
        (Some(name), None, None) => namespace_name(&name, problems).map(NamespaceRef::Named),
        (None, Some(path), None) => {
            let file = value::path(&path, problems)?;
            if file.is_relative() {
                path.error(problems, "is relative", "write the path from / on");
                return None;
            }
            Some(NamespaceRef::Path(file))
        }
        (None, None, Some(pid)) => {
            let number = pid.number(1..=u64::from(u32::MAX >> 1), problems)?;
            u32::try_from(number).ok().map(NamespaceRef::Pid)
        }
        _ => {
            let hint =
                "write one of { name = \"branch\" }, { path = \"/run/netns/branch\" } and { pid = 1234 }";
            entry.error(problems, "does not say one namespace", hint);
            None
        }
    }
}

fn namespace_name(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let name = entry.text(problems)?;
    let is_file = !matches!(name, "" | "." | "..") && name.len() <= 255;
    if !is_file || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        let hint = "write a name as `ip netns` lists it, or { path = \"/run/netns/branch\" }";
        entry.error(problems, format!("{} is no name of a namespace", crate::problem::quote(name)), hint);
        return None;
    }
    Some(name.to_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Split,
    Host,
}

static MODES: [(&str, Mode); 2] = [("split", Mode::Split), ("host", Mode::Host)];
static GUARDS: [(&str, Guard); 2] = [("install", Guard::Install), ("preset", Guard::Preset)];
