//! SELECTOR and UPSPEC.

use ipnet::IpNet;
use latchway_control::{XfrmSelector, XfrmUpper};

use crate::error::GrammarError;
use crate::number::number;
use crate::options::Family;
use crate::prefix::{everything, prefix};
use crate::protocol;
use crate::words::Words;

/// What was said of a selector, before what was not said is filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) src: Option<IpNet>,
    pub(crate) dst: Option<IpNet>,
    pub(crate) dev: Option<String>,
    pub(crate) protocol: Option<u8>,
    sport: Option<u16>,
    dport: Option<u16>,
    kind: Option<u8>,
    code: Option<u8>,
    key: Option<u32>,
    words: usize,
}

impl Said {
    /// Reads for as long as words belong to a selector. At least one must.
    pub(crate) fn read(words: &mut Words<'_>, family: Family) -> Result<Self, GrammarError> {
        let mut said = Self::default();
        let mut upper = false;
        let mut closed = false;
        while let Some(word) = words.peek() {
            let of_upper = ["proto", "sport", "dport", "type", "code", "key"].contains(&word);
            if !of_upper && !["src", "dst", "dev"].contains(&word) || of_upper && closed {
                break;
            }
            // One UPSPEC, all of a piece.
            closed |= upper && !of_upper;
            upper |= of_upper;
            words.next();
            said.item(word, words, family)?;
            said.words += 1;
        }
        if said.words == 0 {
            let word = words.need("SELECTOR")?;
            return Err(GrammarError::Unknown(crate::error::Quoted::new(word)));
        }
        said.check()?;
        Ok(said)
    }

    fn item(&mut self, word: &str, words: &mut Words<'_>, family: Family) -> Result<(), GrammarError> {
        match word {
            "src" => self.src = Some(words.value(PREFIX, |word| prefix(word, family))?),
            "dst" => self.dst = Some(words.value(PREFIX, |word| prefix(word, family))?),
            "dev" => self.dev = Some(words.need("DEV")?).filter(|name| *name != "none").map(str::to_owned),
            "proto" => self.protocol = Some(words.value("a protocol", protocol::protocol)?),
            "sport" => self.sport = Some(words.value("a port", number)?),
            "dport" => self.dport = Some(words.value("a port", number)?),
            "type" => self.kind = Some(words.value("a type", number)?),
            "code" => self.code = Some(words.value("a code", number)?),
            _ => self.key = Some(words.value("a number or four of them with dots", gre_key)?),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), GrammarError> {
        let protocol = self.protocol.unwrap_or(0);
        let ports = [0, protocol::TCP, protocol::UDP, protocol::SCTP, protocol::DCCP].contains(&protocol);
        let types = [protocol::ICMP, protocol::ICMPV6, protocol::MOBILITY].contains(&protocol);
        if (self.sport.is_some() || self.dport.is_some()) && !ports {
            return Err(GrammarError::Conflict("sport and dport are of proto tcp, udp, sctp or dccp alone"));
        }
        if (self.kind.is_some() || self.code.is_some()) && !types {
            return Err(GrammarError::Conflict(
                "type and code are of proto icmp, ipv6-icmp or mobility-header alone",
            ));
        }
        if self.key.is_some() && protocol != protocol::GRE {
            return Err(GrammarError::Conflict("key is of proto gre alone"));
        }
        let mixed =
            self.src.zip(self.dst).is_some_and(|(src, dst)| src.addr().is_ipv4() != dst.addr().is_ipv4());
        if mixed {
            return Err(GrammarError::Conflict("src and dst must be of one address family"));
        }
        Ok(())
    }

    /// The selector; what was not said is anything of the same address family, and that is IPv4 where nothing says.
    pub(crate) fn whole(self, family: Family) -> XfrmSelector {
        let said = self.src.or(self.dst).map(|prefix| prefix.addr().is_ipv4());
        let ipv4 = said.unwrap_or(family != Family::V6);
        let any = everything(ipv4);
        let (src, dst) = (self.src.unwrap_or(any), self.dst.unwrap_or(any));
        let upper = self.upper();
        XfrmSelector { src, dst, protocol: self.protocol.unwrap_or(0), upper, dev: self.dev }
    }

    /// What was said of the upper layer. A port of 0 is any.
    pub(crate) fn upper(&self) -> XfrmUpper {
        let (sport, dport) = (self.sport.filter(|port| *port != 0), self.dport.filter(|port| *port != 0));
        match (self.key, self.kind.is_some() || self.code.is_some(), sport.is_some() || dport.is_some()) {
            (Some(key), _, _) => XfrmUpper::Key(key),
            (_, true, _) => XfrmUpper::Icmp(self.kind, self.code),
            (_, _, true) => XfrmUpper::Ports(sport, dport),
            _ => XfrmUpper::Any,
        }
    }
}

fn gre_key(word: &str) -> Option<u32> {
    if word.contains('.') {
        prefix(word, Family::V4).and_then(|prefix| match prefix.addr() {
            std::net::IpAddr::V4(address) => Some(address.into()),
            std::net::IpAddr::V6(_) => None,
        })
    } else {
        number(word)
    }
}

const PREFIX: &str = "an address or a prefix (of one family; `any` only after -4 or -6)";
