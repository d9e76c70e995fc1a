//! Values as people write them: identities, addresses, ranges, protocols, names.

use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use latchway_tagging::{AuthMethod, Identity, PeerPattern};

use crate::document::{Entry, Problems};
use crate::model::AppSocket;
use crate::range::{AddressRange, PortRange};

/// An identity (RFC 4301 section 4.4.3.1), with its kind in front, or of the kind that it looks like.
pub fn identity(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Identity> {
    let identity = entry.nonempty(problems)?.parse().ok();
    if identity.is_none() {
        entry.not(problems, "no identity");
    }
    identity
}

/// An identity, or a pattern of identities.
pub fn pattern(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<PeerPattern> {
    let pattern = entry.nonempty(problems)?.parse().ok();
    if pattern.is_none() {
        entry.not(problems, "no identity, and no pattern of identities");
    }
    pattern
}

/// A method of authentication.
pub fn method(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<AuthMethod> {
    let text = entry.text(problems)?;
    let method = AuthMethod::ALL.into_iter().find(|method| method.name() == text);
    if method.is_none() {
        let names = AuthMethod::ALL.map(|method| format!("\"{}\"", method.name()));
        let message = format!("{} is no method", crate::problem::quote(text));
        entry.error(problems, message, format!("use {}", names.join(" or ")));
    }
    method
}

/// A unicast address, perhaps with a port; RFC 3948 section 2.1 has the port where it has none.
pub fn endpoint(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<SocketAddr> {
    let text = entry.text(problems)?;
    let address = text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, NAT_T_PORT)));
    let usable = |address: &SocketAddr| {
        let ip = address.ip();
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        address.port() != 0 && unmapped(&ip) && !ip.is_multicast() && !broadcast
    };
    let address = address.filter(usable);
    if address.is_none() {
        entry.not(problems, "no address that packets are sent to or received at");
    }
    address
}

/// Whether packets are sent to the address, and to no one else.
pub fn is_unicast(address: &IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    unmapped(address) && !address.is_unspecified() && !address.is_multicast() && !broadcast
}

/// A duration of at least `least`: a whole number and its unit.
pub fn duration(least: Duration, entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Duration> {
    let text = entry.text(problems)?;
    let split = text.find(|c: char| !c.is_ascii_digit()).and_then(|at| text.split_at_checked(at));
    let read = split.and_then(|(number, unit)| {
        let number: u32 = number.parse().ok()?;
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
        unit.checked_mul(number)
    });
    let Some(duration) = read else {
        let units: Vec<_> = UNITS.iter().map(|(name, _)| *name).collect();
        let hint = format!("write a whole number and its unit, of {}, for example \"20s\"", units.join(", "));
        entry.error(problems, format!("{} is no duration", crate::problem::quote(text)), hint);
        return None;
    };
    if !(least..=LONGEST_DURATION).contains(&duration) {
        let hint = format!("choose {} milliseconds to one day", least.as_millis());
        entry.error(problems, "the time is too short or too long", hint);
        return None;
    }
    Some(duration)
}

/// An address with its port.
pub fn socket_address(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<SocketAddr> {
    let address = entry.text(problems)?.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    if address.is_none() {
        entry.not(problems, "no address with a port");
    }
    address
}

/// An address.
pub fn address(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<IpAddr> {
    let address = entry.text(problems)?.parse().ok().filter(unmapped);
    if address.is_none() {
        entry.not(problems, "no address");
    }
    address
}

/// An address of an interface with the prefix of its network.
pub fn interface_address(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<IpNet> {
    let prefix = entry.text(problems)?.parse::<IpNet>().ok().filter(|prefix| unmapped(&prefix.addr()));
    let Some(prefix) = prefix else {
        entry.not(problems, "no address with a prefix length");
        return None;
    };
    let address = prefix.addr();
    let is_host = match prefix {
        IpNet::V4(v4) if v4.prefix_len() < 31 => v4.addr() != v4.network() && v4.addr() != v4.broadcast(),
        _ => true,
    };
    if !is_host || address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        let hint = prefix.hosts().next().map_or_else(String::new, |host| {
            format!("an interface has the address of a host, for example \"{host}/{}\"", prefix.prefix_len())
        });
        entry.error(problems, format!("{prefix} is no host's address"), hint);
        return None;
    }
    Some(prefix)
}

/// A prefix; what lies behind its length is nought.
pub fn prefix(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<IpNet> {
    let prefix = entry.text(problems)?.parse::<IpNet>().ok().filter(|prefix| unmapped(&prefix.addr()));
    match prefix {
        Some(prefix) if prefix == prefix.trunc() => return Some(prefix),
        Some(prefix) => {
            let hint = format!("the prefix is \"{}\"", prefix.trunc());
            entry.error(problems, format!("{prefix} has bits behind its prefix length"), hint);
        }
        None => entry.not(problems, "no prefix"),
    }
    None
}

/// A range of addresses: a prefix, "first-last", or one address.
pub fn address_range(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<AddressRange> {
    let text = entry.text(problems)?;
    if text.contains('/') {
        return prefix(entry, problems).map(AddressRange::from);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let end = |text: &str| text.trim().parse::<IpAddr>().ok().filter(unmapped);
    let range = end(first).zip(end(last));
    match range.map(|(first, last)| AddressRange::new(first, last)) {
        Some(Some(range)) => return Some(range),
        Some(None) => {
            let hint = "write the lower end first, both ends of one address family";
            entry.error(problems, "the range has no addresses", hint);
        }
        None => entry.not(problems, "no range of addresses"),
    }
    None
}

/// A range of ports: a number, or "first-last".
pub fn port_range(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<PortRange> {
    if entry.is_number() {
        let port = u16::try_from(entry.number(0..=u64::from(u16::MAX), problems)?).ok()?;
        return PortRange::new(port, port);
    }
    let text = entry.text(problems)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let ends = first.trim().parse().ok().zip(last.trim().parse().ok());
    let range = ends.and_then(|(first, last)| PortRange::new(first, last));
    if range.is_none() {
        entry.not(problems, "no range of ports");
    }
    range
}

/// A range of octets: a number, or "first-last".
pub fn octet_range(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<(u8, u8)> {
    if entry.is_number() {
        let octet = u8::try_from(entry.number(0..=u64::from(u8::MAX), problems)?).ok()?;
        return Some((octet, octet));
    }
    let text = entry.text(problems)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let ends = first.trim().parse().ok().zip(last.trim().parse().ok());
    let range = ends.filter(|(first, last): &(u8, u8)| first <= last);
    if range.is_none() {
        entry.not(problems, "no range of numbers up to 255");
    }
    range
}

/// An upper-layer protocol, by name or number.
pub fn protocol(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<u8> {
    if entry.is_number() {
        return u8::try_from(entry.number(0..=255, problems)?).ok();
    }
    let text = entry.text(problems)?;
    let named = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    if named.is_none() {
        let names: Vec<_> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
        let hint = format!("use {}, or the number of a protocol", names.join(", "));
        entry.error(problems, format!("{} is no protocol", crate::problem::quote(text)), hint);
    }
    named.map(|&(_, number)| number)
}

/// The name of a protocol, or its number.
pub fn protocol_name(number: u8) -> String {
    let named = PROTOCOLS.iter().find(|&&(_, named)| named == number);
    named.map_or_else(|| format!("protocol {number}"), |(name, _)| (*name).to_owned())
}

/// Whether the packet paths know ports of the protocol.
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP)
}

/// Whether the packet paths know types of the protocol's messages.
pub const fn has_icmp_types(protocol: u8) -> bool {
    matches!(protocol, ICMP | ICMPV6 | MOBILITY)
}

/// One of a few words.
pub fn word<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl FnOnce(&Entry<'_>, &mut Problems<'_>) -> Option<T> {
    move |entry, problems| {
        let text = entry.text(problems)?;
        let meant = words.iter().find(|(word, _)| *word == text);
        if meant.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let hint = format!("use {}", words.join(" or "));
            entry.error(problems, format!("{} is unknown here", crate::problem::quote(text)), hint);
        }
        meant.map(|&(_, meaning)| meaning)
    }
}

/// The name of an interface, as the kernel takes one.
pub fn interface(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let name = entry.text(problems)?;
    let hint = match name {
        "lo" | "all" | "default" | "." | ".." => "the name means something else: choose another",
        "" => "write a name of 1 to 15 characters",
        _ if name.len() > LONGEST_INTERFACE => "an interface name has 15 characters at most: shorten it",
        _ if !name.chars().all(|c| c.is_ascii_graphic() && !"/:%".contains(c)) => {
            "use letters, digits, `-`, `_` and `.`"
        }
        _ => return Some(name.to_owned()),
    };
    entry.error(problems, format!("{} is no name of an interface", crate::problem::quote(name)), hint);
    None
}

/// A name that is fit to be part of a path.
pub fn name(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let name = entry.text(problems)?;
    if !is_name(name) {
        let hint = "use 1 to 32 letters, digits, `.`, `_` and `-`; begin with a letter or a digit";
        entry.error(
            problems,
            format!("{} is not fit for the path of a socket", crate::problem::quote(name)),
            hint,
        );
        return None;
    }
    Some(name.to_owned())
}

/// A name of a rule of the policy.
pub fn rule_name(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let name = entry.text(problems)?;
    if !is_name(name) {
        let hint = "use 1 to 32 letters, digits, `.`, `_` and `-`; begin with a letter or a digit";
        entry.error(problems, format!("{} is no name of a policy", crate::problem::quote(name)), hint);
        return None;
    }
    Some(name.to_owned())
}

/// Whether a name is fit to be part of a path.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.len() <= 32 && name.chars().all(fits) && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// A path, without its useless parts.
pub fn path(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<PathBuf> {
    Some(tidy(Path::new(entry.nonempty(problems)?)))
}

/// Where applications are served: a path, or whether at all.
pub fn app_socket(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<AppSocket> {
    if entry.as_text().is_some() {
        return path(entry, problems).map(AppSocket::At);
    }
    entry.flag(problems).map(|served| if served { AppSocket::Beside } else { AppSocket::Nowhere })
}

/// A user of the system.
pub fn user(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let user = entry.nonempty(problems)?;
    if user.len() > 32 || user.contains([':', '/']) || user.contains(char::is_whitespace) {
        entry.not(problems, "no name of a user");
        return None;
    }
    Some(user.to_owned())
}

/// Two ways to write a path become one, as far as that is certain: `./in.key` is `in.key`.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}

/// Whether an address is not an IPv4 address in an IPv6 one's clothes, which a policy for IPv6 would let pass (T15).
fn unmapped(address: &IpAddr) -> bool {
    !matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

const UNITS: [(&str, Duration); 4] = [
    ("ms", Duration::from_millis(1)),
    ("s", Duration::from_secs(1)),
    ("m", Duration::from_secs(60)),
    ("h", Duration::from_secs(3600)),
];
const LONGEST_DURATION: Duration = Duration::from_secs(86_400);
const NAT_T_PORT: u16 = 4500;
/// IFNAMSIZ without the NUL at the end.
const LONGEST_INTERFACE: usize = 15;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Mobility Header (RFC 6275), whose types RFC 4301 4.4.1.1 selects likewise.
const MOBILITY: u8 = 135;
/// By their names.
const PROTOCOLS: [(&str, u8); 7] =
    [("tcp", TCP), ("udp", UDP), ("icmp", ICMP), ("icmpv6", ICMPV6), ("sctp", 132), ("gre", 47), ("esp", 50)];
