//! Host mode: packet filters that let inner and protected addresses pass by the TUN only (T13, T16, T17).
//!
//! Where applications and wire share a namespace, the kernel delivers a clear packet for an inner address from whatever
//! interface it arrives on, and sends one for a protected prefix to wherever the routes of the moment lead. So a table of the
//! `inet` family, `latchway-NAME`, holds three chains before anything of the system's own:
//!
//! * `arriving`, in prerouting, and `delivered`, in input, after the system may have translated addresses: what is
//!   addressed to an inner prefix and did not come by the TUN or the loopback interface is discarded;
//! * `leaving`, in postrouting, where interface and addresses are final and the source not yet translated: what comes from an
//!   inner prefix or goes to a protected one is discarded unless it leaves by the TUN or the loopback interface.
//!
//! Discarded is discarded: no ICMP, no reset, nothing that would tell a hit from a miss. Nor does ARP tell: a table of the
//! `arp` family keeps the system from answering for inner addresses on other interfaces, as it otherwise would. (Of IPv6
//! neighbour discovery it answers only for the addresses of the interface that was asked on.)
//!
//! Interfaces go by name, so that the filters hold while the TUN is gone, and when it is made again. All of them are put up
//! or replaced in one transaction, and stay until they are removed.

mod nftables;
mod rule;

use std::collections::HashMap;

use ipnet::IpNet;
use latchway_netns::Namespace;

pub use self::nftables::Tables;
pub(crate) use self::nftables::changes;
use self::{
    nftables::Table,
    rule::{Chain, Condition, Rule, Side},
};
use crate::{GuardError, Result};

/// The packet filters of one gateway in host mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGuard {
    name: String,
    tun: String,
    /// Our own inner prefixes.
    inner: Vec<IpNet>,
    /// The prefixes that are reached through SAs only.
    protected: Vec<IpNet>,
    mark: Option<u32>,
}

/// How many packets one filter has discarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// What the filter is for, such as `arriving: to 10.77.1.0/24`.
    pub filter: String,
    /// Packets since the filter was put up.
    pub packets: u64,
}

impl HostGuard {
    /// Filters of a gateway of this name, whose TUN has this name.
    pub fn new(name: &str, tun: &str, inner: &[IpNet], protected: &[IpNet]) -> Result<Self> {
        let plain =
            |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
            let rule = format!("1 to {LONGEST_NAME} letters, digits, '-', '_' or '.'");
            return Err(GuardError::Invalid(format!("{name:?} cannot name packet filters: {rule}")));
        }
        if tun.is_empty() || tun.len() > LONGEST_INTERFACE {
            return Err(GuardError::Invalid(format!("{tun:?} cannot name an interface")));
        }
        let (inner, protected) = (distinct(inner), distinct(protected));
        Ok(Self { name: name.to_owned(), tun: tun.to_owned(), inner, protected, mark: None })
    }

    /// Lets packets with this mark go to protected prefixes by any interface: those of the wire sockets, where a peer's outer
    /// address lies in a protected prefix, such as `0.0.0.0/0`. Setting a mark takes CAP_NET_ADMIN (socket(7), SO_MARK), which an
    /// excluded address would not (T17). What comes from an inner address is discarded marked or not.
    #[must_use]
    pub fn with_mark(self, mark: u32) -> Self {
        Self { mark: Some(mark), ..self }
    }

    /// The same filters for other prefixes.
    #[must_use]
    pub fn with_prefixes(&self, inner: &[IpNet], protected: &[IpNet]) -> Self {
        Self { inner: distinct(inner), protected: distinct(protected), ..self.clone() }
    }

    /// Puts the filters up, in place of those of this name that there are, with no moment in between.
    pub fn install(&self, namespace: &Namespace) -> Result<()> {
        self.install_through(&mut Tables::of(namespace)?)
    }

    /// Puts the filters up through a handle that was opened before.
    pub(crate) fn install_through(&self, tables: &mut Tables) -> Result<()> {
        tables.replace(&self.tables())
    }

    /// What of the filters is missing or was altered, in words; empty if they stand as they were put up.
    pub fn missing(&self, namespace: &Namespace) -> Result<Vec<String>> {
        self.differences(&mut Tables::of(namespace)?)
    }

    /// What is missing, through a handle that was opened before.
    pub fn differences(&self, tables: &mut Tables) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for table in self.tables() {
            missing.extend(tables.differences(&table)?);
        }
        Ok(missing)
    }

    /// How many packets each filter has discarded. Filters that are not there are not listed.
    pub fn discarded(&self, namespace: &Namespace) -> Result<Vec<Discarded>> {
        let mut tables = Tables::of(namespace)?;
        let mut discarded = Vec::new();
        for table in self.tables() {
            let found: HashMap<_, _> = tables.counts(&table)?.into_iter().collect();
            for (chain, rule) in
                table.chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)))
            {
                let count = found.get(&(chain.name.to_owned(), rule.comment.clone()));
                discarded.extend(count.map(|&packets| Discarded {
                    filter: format!("{}: {}", chain.name, rule.comment),
                    packets,
                }));
            }
        }
        Ok(discarded)
    }

    /// Takes the filters away, if they are there.
    pub fn remove(&self, namespace: &Namespace) -> Result<()> {
        Tables::of(namespace)?.remove(&self.tables())
    }

    fn tables(&self) -> [Table; 2] {
        let name = format!("latchway-{}", self.name);
        let inet = vec![
            Chain { name: "arriving", hook: rule::PREROUTING, rules: self.towards_us() },
            Chain { name: "delivered", hook: rule::INPUT, rules: self.towards_us() },
            Chain { name: "leaving", hook: rule::POSTROUTING, rules: self.leaving() },
        ];
        let arp = vec![
            Chain {
                name: "asked",
                hook: rule::ARP_INPUT,
                rules: self.arp(Side::Arriving, Condition::ArpTarget, "for"),
            },
            Chain {
                name: "asking",
                hook: rule::ARP_OUTPUT,
                rules: self.arp(Side::Leaving, Condition::ArpSender, "by"),
            },
        ];
        [
            Table { family: rule::INET, name: name.clone(), chains: inet },
            Table { family: rule::ARP, name, chains: arp },
        ]
    }

    fn towards_us(&self) -> Vec<Rule> {
        let drops =
            self.inner.iter().map(|&prefix| Rule::discard(Condition::Destination(prefix), "to", prefix));
        self.own_interfaces(Side::Arriving).into_iter().chain(drops).collect()
    }

    fn leaving(&self) -> Vec<Rule> {
        let mut rules = self.own_interfaces(Side::Leaving);
        rules.extend(
            self.inner.iter().map(|&prefix| Rule::discard(Condition::Source(prefix), "from", prefix)),
        );
        rules.extend(self.mark.map(|mark| Rule::pass(Condition::Mark(mark), format!("marked {mark:#x}"))));
        let on_link = ON_LINK.into_iter().filter(|(_, on_link)| self.covers(on_link));
        rules.extend(
            on_link.map(|(name, prefix)| Rule::pass(Condition::Destination(prefix), name.to_owned())),
        );
        rules.extend(
            self.protected.iter().map(|&prefix| Rule::discard(Condition::Destination(prefix), "to", prefix)),
        );
        rules
    }

    fn arp(&self, side: Side, condition: fn(ipnet::Ipv4Net) -> Condition, what: &str) -> Vec<Rule> {
        let inner = self.inner.iter().filter_map(|prefix| match prefix {
            IpNet::V4(prefix) => Some(Rule::discard(condition(*prefix), what, (*prefix).into())),
            IpNet::V6(_) => None,
        });
        self.own_interfaces(side).into_iter().chain(inner).collect()
    }

    fn own_interfaces(&self, side: Side) -> Vec<Rule> {
        let by = |name: &str| Rule::pass(Condition::Interface(side, name.to_owned()), format!("by {name}"));
        vec![by("lo"), by(&self.tun)]
    }

    /// Whether a protected prefix takes in what never leaves the link, without meaning it: then the link must go on to work, for
    /// the wire needs neighbour discovery and address configuration.
    fn covers(&self, on_link: &IpNet) -> bool {
        self.protected.iter().any(|prefix| prefix != on_link && prefix.contains(on_link))
            && !self.protected.iter().any(|prefix| on_link.contains(prefix))
    }
}

fn distinct(prefixes: &[IpNet]) -> Vec<IpNet> {
    let mut prefixes: Vec<IpNet> = prefixes.iter().map(IpNet::trunc).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

/// What is not forwarded: multicast and broadcast on one link, and addresses of one link.
const ON_LINK: [(&str, IpNet); 4] = [
    (
        "to this link's groups",
        IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(224, 0, 0, 0), 24)),
    ),
    ("to all on this link", IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::BROADCAST, 32))),
    (
        "to this link's IPv6 groups",
        IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16)),
    ),
    (
        "to this link's IPv6 addresses",
        IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
    ),
];

const LONGEST_NAME: usize = 64;
const LONGEST_INTERFACE: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(prefixes: &[&str]) -> Vec<IpNet> {
        prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect()
    }

    fn leaving(protected: &[&str]) -> Vec<String> {
        let guard =
            HostGuard::new("gw", "tun9", &nets(&["10.1.0.0/24"]), &nets(protected)).unwrap().with_mark(7);
        guard.leaving().into_iter().map(|rule| rule.comment).collect()
    }

    /// A default route that is protected leaves the link alone; whoever protects the link's own addresses means it.
    #[test]
    fn the_link_goes_on_to_work_below_a_protected_default_route() {
        let head = ["by lo", "by tun9", "from 10.1.0.0/24", "marked 0x7"];
        assert_eq!(leaving(&["10.2.0.1/24"]), [&head[..], &["to 10.2.0.0/24"]].concat());
        let link = ["to this link's groups", "to all on this link"];
        assert_eq!(leaving(&["0.0.0.0/0"]), [&head[..], &link, &["to 0.0.0.0/0"]].concat());
        let both = leaving(&["::/0", "fe80::/10"]);
        assert_eq!(both, [&head[..], &["to this link's IPv6 groups", "to ::/0", "to fe80::/10"]].concat());
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for (name, tun) in
            [("", "tun9"), ("a b", "tun9"), ("x\0", "tun9"), ("gw", ""), ("gw", "sixteen-letters-")]
        {
            assert!(
                matches!(HostGuard::new(name, tun, &[], &[]), Err(GuardError::Invalid(_))),
                "{name} {tun}"
            );
        }
    }
}
