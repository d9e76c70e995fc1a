//! The device towards the inner hosts, and its addresses.

use std::collections::HashSet;

use ipnet::IpNet;

use super::Seen;
use crate::check::{Claim, Owner};
use crate::document::{Entry, Problems, Scope};
use crate::model::{Backend, Tun};
use crate::reference::{root, tun};
use crate::value;

/// The addresses; `None` is a problem.
pub fn addresses(file: &Scope<'_>, seen: &mut Seen, problems: &mut Problems<'_>) -> Option<Vec<IpNet>> {
    let Some(entry) = file.entry(&root::ADDRESSES) else { return Some(Vec::new()) };
    let (mut twice, mut addresses) = (HashSet::new(), Vec::new());
    let before = problems.errors();
    for item in entry.items() {
        let Some(address) = value::interface_address(&item, problems) else { continue };
        if !twice.insert(address.addr()) {
            item.error(problems, format!("{} is there already", address.addr()), "remove one of them");
        }
        seen.claims.push(Claim::new(address.into(), Owner::Ourselves, &item));
        addresses.push(address);
    }
    (problems.errors() == before).then_some(addresses)
}

/// The device. Without a table all of it is as its defaults are.
pub fn read(file: &Scope<'_>, addresses: Vec<IpNet>, problems: &mut Problems<'_>) -> Option<Tun> {
    let default = Tun {
        name: DEFAULT_NAME.to_owned(),
        backend: Backend::Auto,
        mtu: None,
        addresses,
        premade: false,
        persistent: true,
    };
    let Some(entry) = file.entry(&root::TUN) else { return Some(default) };
    let table = entry.table(&tun::TABLE, problems)?;
    let name = table.read_or(&tun::NAME, default.name, problems, value::interface);
    let backend = table.read_or(&tun::BACKEND, default.backend, problems, value::word(&BACKENDS));
    let smallest =
        if default.addresses.iter().any(|a| a.addr().is_ipv6()) { SMALLEST_V6 } else { SMALLEST_V4 };
    let mtu = table.read(&tun::MTU, problems, |entry, problems| mtu(entry, smallest, problems));
    let premade = table.read_or(&tun::PREMADE, default.premade, problems, Entry::flag);
    let persistent = table.read_or(&tun::PERSISTENT, default.persistent, problems, Entry::flag);
    Some(Tun {
        name: name?,
        backend: backend?,
        mtu,
        addresses: default.addresses,
        premade: premade?,
        persistent: persistent?,
    })
}

/// An MTU from `smallest` on.
pub fn mtu(entry: &Entry<'_>, smallest: u16, problems: &mut Problems<'_>) -> Option<u16> {
    u16::try_from(entry.number(u64::from(smallest)..=u64::from(u16::MAX), problems)?).ok()
}

const DEFAULT_NAME: &str = "latchway0";
static BACKENDS: [(&str, Backend); 3] =
    [("auto", Backend::Auto), ("offload", Backend::Offload), ("plain", Backend::Plain)];
/// What every host takes (RFC 791 section 3.1).
pub const SMALLEST_V4: u16 = 576;
/// What every link has (RFC 8200 section 5).
pub const SMALLEST_V6: u16 = 1280;
/// What the length field of an IPv4 packet can say.
pub const LARGEST: u16 = u16::MAX;
