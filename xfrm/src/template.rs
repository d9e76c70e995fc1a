//! TMPL: which states a policy wants.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use latchway_control::{XfrmLevel, XfrmMode, XfrmTemplate};

use crate::error::{GrammarError, Quoted};
use crate::number::number;
use crate::options::Family;
use crate::state::{Id, mode};
use crate::words::Words;

/// One TMPL, behind its keyword.
pub(crate) fn template(words: &mut Words<'_>) -> Result<XfrmTemplate, GrammarError> {
    let (mut id, mut reqid, mut wanted, mut level) = (None, 0, XfrmMode::default(), XfrmLevel::default());
    words.peek().map_or_else(|| words.clone().need("TMPL").map(drop), |_| Ok(()))?;
    let mut said = 0;
    while let Some(word) = words.peek() {
        match word {
            "mode" | "reqid" | "level" => {
                words.next();
                match word {
                    "mode" => wanted = mode(words)?,
                    "reqid" => reqid = words.value("a REQID", number)?,
                    _ => {
                        level = words.value("required or use", |word| {
                            XfrmLevel::ALL.iter().copied().find(|level| level.name() == word)
                        })?
                    }
                }
            }
            "src" | "dst" | "proto" | "spi" if id.is_none() => id = Some(Id::read(words, Family::Any)?),
            _ if said == 0 => return Err(GrammarError::Unknown(Quoted::new(word))),
            _ => break,
        }
        said += 1;
    }
    whole(id.unwrap_or_default(), reqid, wanted, level)
}

fn whole(id: Id, reqid: u32, mode: XfrmMode, level: XfrmLevel) -> Result<XfrmTemplate, GrammarError> {
    let protocol = id.protocol.ok_or(GrammarError::Missing {
        what: "the protocol of a template",
        usage: "proto esp` or `proto ah",
    })?;
    let ipv4 = id.src.or(id.dst).is_none_or(|prefix| prefix.addr().is_ipv4());
    let none: IpAddr = if ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let end = |prefix: Option<ipnet::IpNet>| prefix.map_or(none, |prefix| prefix.addr());
    let spi = id.spi.unwrap_or(0);
    Ok(XfrmTemplate { src: end(id.src), dst: end(id.dst), protocol, spi, reqid, mode, level })
}
