//! Addresses and prefixes as ip(8) takes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::number::number;
use crate::options::Family;

/// An address with or without a length; without one it is the address alone. `any` is every address of `family`.
pub(crate) fn prefix(word: &str, family: Family) -> Option<IpNet> {
    if ["any", "all", "default"].contains(&word) {
        return family.unspecified().and_then(|address| IpNet::new(address, 0).ok());
    }
    let (address, length) = match word.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (word, None),
    };
    let address = address_of(address, family)?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => whole,
        Some(length) => number(length).or_else(|| mask(length, address))?,
    };
    IpNet::new(address, length).ok()
}

/// An address alone; `any` is none in particular.
pub(crate) fn address(word: &str) -> Option<IpAddr> {
    if word == "any" { Some(Ipv4Addr::UNSPECIFIED.into()) } else { address_of(word, Family::Any) }
}

/// All addresses of a family.
pub(crate) const fn everything(ipv4: bool) -> IpNet {
    if ipv4 {
        IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0))
    } else {
        IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0))
    }
}

fn address_of(word: &str, family: Family) -> Option<IpAddr> {
    let address = if word.contains(':') { IpAddr::V6(word.parse().ok()?) } else { IpAddr::V4(dotted(word)?) };
    family.admits(&address).then_some(address)
}

/// One to four parts from the left; what is not said is 0.
fn dotted(word: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut places = octets.iter_mut();
    for part in word.split('.') {
        *places.next()? = number(part)?;
    }
    Some(octets.into())
}

/// A length said as a mask.
fn mask(word: &str, address: IpAddr) -> Option<u8> {
    if !word.contains('.') || !address.is_ipv4() {
        return None;
    }
    let mask = u32::from(dotted(word)?);
    let length = mask.leading_ones();
    (mask.checked_shl(length).unwrap_or(0) == 0).then(|| u8::try_from(length).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_those_of_ip() {
        for (word, family, is) in [
            ("10.0.0.1", Family::Any, "10.0.0.1/32"),
            ("10/8", Family::Any, "10.0.0.0/8"),
            ("10.1", Family::Any, "10.1.0.0/32"),
            ("10.1.2.3/24", Family::Any, "10.1.2.3/24"),
            ("10.0.0.0/255.255.0.0", Family::Any, "10.0.0.0/16"),
            ("fd00::/64", Family::Any, "fd00::/64"),
            ("::1", Family::V6, "::1/128"),
            ("any", Family::V4, "0.0.0.0/0"),
            ("default", Family::V6, "::/0"),
        ] {
            assert_eq!(prefix(word, family).map(|prefix| prefix.to_string()).as_deref(), Some(is), "{word}");
        }
        for (word, family) in [
            ("any", Family::Any),
            ("10.0.0.0/33", Family::Any),
            ("10.0.0.0.0", Family::Any),
            ("256", Family::Any),
            ("10.0.0.0/255.0.255.0", Family::Any),
            ("fd00::", Family::V4),
            ("10.0.0.0", Family::V6),
            ("", Family::Any),
            ("fd00::/255.0.0.0", Family::Any),
        ] {
            assert_eq!(prefix(word, family), None, "{word}");
        }
    }
}
