//! What is said of a state: ID, ALGO-LIST and the rest.

use std::net::IpAddr;

use ipnet::IpNet;
use latchway_control::{
    Secret, XfrmAlgorithm, XfrmAlgorithmKind, XfrmEncap, XfrmLimits, XfrmMode, XfrmProtocol, XfrmState,
    XfrmStateFlag, XfrmStateId,
};
use zeroize::Zeroizing;

use crate::error::{GrammarError, Quoted};
use crate::limit::limit;
use crate::number::number;
use crate::options::Family;
use crate::prefix::{address, prefix};
use crate::selector::Said;
use crate::words::{Words, abbreviates};

/// What was said of an ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) src: Option<IpNet>,
    pub(crate) dst: Option<IpNet>,
    pub(crate) protocol: Option<XfrmProtocol>,
    pub(crate) spi: Option<u32>,
}

/// What was said of a state so far.
#[derive(Default)]
struct Draft {
    id: Option<Id>,
    reqid: u32,
    mode: XfrmMode,
    seq: u32,
    replay_window: Option<u32>,
    /// Low and high half, inbound and outbound.
    replay: [u32; 4],
    flags: Vec<XfrmStateFlag>,
    algorithms: Vec<XfrmAlgorithm>,
    selector: Option<Said>,
    limits: XfrmLimits,
    encap: Option<XfrmEncap>,
    tfcpad: u32,
}

impl Id {
    /// Reads for as long as words belong to an ID. At least one must.
    pub(crate) fn read(words: &mut Words<'_>, family: Family) -> Result<Self, GrammarError> {
        let (mut id, mut any) = (Self::default(), false);
        while let Some(word) = words.peek().filter(|word| ["src", "dst", "proto", "spi"].contains(word)) {
            words.next();
            any = true;
            match word {
                "src" => id.src = Some(words.value(ADDRESS, |word| prefix(word, family))?),
                "dst" => id.dst = Some(words.value(ADDRESS, |word| prefix(word, family))?),
                "proto" => id.protocol = protocol(words)?,
                _ => id.spi = Some(words.value("an SPI", number)?),
            }
        }
        if !any {
            return Err(GrammarError::Unknown(Quoted::new(words.need("ID")?)));
        }
        let mixed = id.src.zip(id.dst).is_some_and(|(src, dst)| src.addr().is_ipv4() != dst.addr().is_ipv4());
        if mixed {
            return Err(GrammarError::Conflict("src and dst must be of one address family"));
        }
        Ok(id)
    }

    /// What names a state.
    pub(crate) fn state(&self) -> Result<XfrmStateId, GrammarError> {
        let Self { src, dst, protocol, spi } = *self;
        Ok(XfrmStateId {
            src: src.map(|prefix| prefix.addr()),
            dst: dst.ok_or(missing("the receiver's address", "dst ADDR"))?.addr(),
            protocol: protocol.ok_or(missing("the protocol", "proto esp` or `proto ah"))?,
            spi: spi.filter(|spi| *spi != 0).ok_or(missing("the SPI", "spi SPI"))?,
        })
    }
}

/// A state to be added or updated.
pub(crate) fn state(words: &mut Words<'_>, family: Family) -> Result<XfrmState, GrammarError> {
    let mut draft = Draft::default();
    while let Some(word) = words.peek() {
        if !draft.item(word, words, family)? && !draft.unserved(word, words)? {
            if draft.id.is_some() {
                return Err(GrammarError::Unknown(Quoted::new(word)));
            }
            draft.id = Some(Id::read(words, family)?);
        }
    }
    draft.whole(family)
}

impl Draft {
    /// Reads what begins with this word. Returns whether anything does.
    fn item(&mut self, word: &str, words: &mut Words<'_>, family: Family) -> Result<bool, GrammarError> {
        if let Some(kind) = kind(word) {
            words.next();
            self.algorithm(kind, words)?;
            return Ok(true);
        }
        let [seq, seq_hi, oseq, oseq_hi] = &mut self.replay;
        let counter = match word {
            "reqid" => Some(&mut self.reqid),
            "seq" => Some(&mut self.seq),
            "replay-seq" => Some(seq),
            "replay-seq-hi" => Some(seq_hi),
            "replay-oseq" => Some(oseq),
            "replay-oseq-hi" => Some(oseq_hi),
            "tfcpad" => Some(&mut self.tfcpad),
            _ => None,
        };
        if let Some(counter) = counter {
            words.next();
            *counter = words.value("a number below 2^32", number)?;
            return Ok(true);
        }
        if !["mode", "replay-window", "flag", "extra-flag", "sel", "limit", "encap"].contains(&word) {
            return Ok(false);
        }
        words.next();
        match word {
            "mode" => self.mode = mode(words)?,
            "replay-window" => self.replay_window = Some(words.value("a number of packets", number)?),
            "flag" => self.flags(words)?,
            "extra-flag" => self.extra_flags(words)?,
            "sel" => self.selector = Some(Said::read(words, Family::Any)?),
            "limit" => limit(&mut self.limits, words)?,
            _ => self.encap = Some(encap(words)?),
        }
        let _ = family;
        Ok(true)
    }

    /// Reads what makes no difference here, or refuses it by name.
    fn unserved(&mut self, word: &str, words: &mut Words<'_>) -> Result<bool, GrammarError> {
        match word {
            "mark" | "output-mark" | "if_id" | "offload" | "coa" | "ctx" => {
                words.next();
                meaningless(word, words)?;
                Ok(true)
            }
            "comp" => Err(COMPRESSION),
            _ => Ok(false),
        }
    }

    fn algorithm(&mut self, kind: XfrmAlgorithmKind, words: &mut Words<'_>) -> Result<(), GrammarError> {
        use XfrmAlgorithmKind::{Aead, Auth, AuthTrunc, Enc};
        let collides = |other: XfrmAlgorithmKind| match kind {
            Aead => true,
            Enc => matches!(other, Enc | Aead),
            Auth | AuthTrunc => matches!(other, Auth | AuthTrunc | Aead),
        };
        if self.algorithms.iter().any(|algorithm| collides(algorithm.kind)) {
            return Err(GrammarError::Conflict(
                "a state has one enc and one auth or auth-trunc, or one aead alone",
            ));
        }
        let name = words.value("an ALGO-NAME of at most 63 letters, digits and ( ) , . _ -", |word| {
            let is_part = |octet: u8| octet.is_ascii_alphanumeric() || b"(),._-".contains(&octet);
            let begins = word.starts_with(|first: char| first.is_ascii_alphabetic());
            (begins && word.len() <= MOST_NAME && word.bytes().all(is_part)).then(|| word.to_owned())
        })?;
        let key =
            words.value("an ALGO-KEYMAT: 0x with hexadecimal digits, or text, of at most 512 octets", key)?;
        let bits = match kind {
            Aead => Some(words.value("an ALGO-ICV-LEN in bits", number)?),
            AuthTrunc => Some(words.value("an ALGO-TRUNC-LEN in bits", number)?),
            Enc | Auth => None,
        };
        self.algorithms.push(XfrmAlgorithm { kind, name, key, bits });
        Ok(())
    }

    fn flags(&mut self, words: &mut Words<'_>) -> Result<(), GrammarError> {
        let some = flags(words)?;
        if some.contains(&XfrmStateFlag::WildRecv) {
            return Err(GrammarError::Refused { what: "flag wildrecv", why: MOBILE });
        }
        self.flags.extend(some);
        Ok(())
    }

    fn extra_flags(&mut self, words: &mut Words<'_>) -> Result<(), GrammarError> {
        let read = |word: &str| match word {
            "dont-encap-dscp" => Some(Some(XfrmStateFlag::DontEncapDscp)),
            "oseq-may-wrap" => Some(None),
            _ => None,
        };
        let some = match numbered(words) {
            Some(mask) => extra_flags_of(mask?)?,
            None => words.flags(read),
        };
        for flag in some {
            self.flags.push(flag.ok_or(GrammarError::Refused {
                what: "extra-flag oseq-may-wrap",
                why: "under one key no sequence number comes twice (RFC 4303 section 3.3.3); use flag esn",
            })?);
        }
        Ok(())
    }

    fn whole(mut self, family: Family) -> Result<XfrmState, GrammarError> {
        let id = self.id.unwrap_or_default();
        let XfrmStateId { src, dst, protocol, spi } = id.state()?;
        let src = src.ok_or(missing("the sender's address", "src ADDR"))?;
        self.flags.sort_unstable();
        self.flags.dedup();
        self.check(protocol)?;
        let [seq, seq_hi, oseq, oseq_hi] = self.replay.map(u64::from);
        Ok(XfrmState {
            src,
            dst,
            protocol,
            spi,
            reqid: self.reqid,
            mode: self.mode,
            seq: self.seq,
            replay_window: self.replay_window,
            replay_seq: seq_hi << 32 | seq,
            replay_oseq: oseq_hi << 32 | oseq,
            flags: self.flags,
            algorithms: self.algorithms,
            selector: self.selector.map(|said| said.whole(family)),
            limits: self.limits,
            encap: self.encap,
            tfcpad: self.tfcpad,
        })
    }

    /// What ip(8) itself checks.
    fn check(&self, protocol: XfrmProtocol) -> Result<(), GrammarError> {
        let has = |kinds: &[XfrmAlgorithmKind]| {
            self.algorithms.iter().any(|algorithm| kinds.contains(&algorithm.kind))
        };
        let encrypts = has(&[XfrmAlgorithmKind::Enc, XfrmAlgorithmKind::Aead]);
        match protocol {
            XfrmProtocol::Esp if !encrypts => Err(GrammarError::Missing {
                what: "the encryption of an ESP state",
                usage: "enc ALGO-NAME ALGO-KEYMAT` or `aead ALGO-NAME ALGO-KEYMAT ALGO-ICV-LEN",
            }),
            XfrmProtocol::Ah if encrypts => {
                Err(GrammarError::Conflict("an AH state has auth or auth-trunc, and neither enc nor aead"))
            }
            XfrmProtocol::Ah if self.algorithms.is_empty() => Err(GrammarError::Missing {
                what: "the integrity algorithm of an AH state",
                usage: "auth-trunc ALGO-NAME ALGO-KEYMAT ALGO-TRUNC-LEN",
            }),
            XfrmProtocol::Ah if self.encap.is_some() => {
                Err(GrammarError::Conflict("encap is of proto esp alone"))
            }
            _ => Ok(()),
        }
    }
}

/// FLAG-LIST of a state.
pub(crate) fn flags(words: &mut Words<'_>) -> Result<Vec<XfrmStateFlag>, GrammarError> {
    let plain = XfrmStateFlag::ALL.iter().filter(|flag| **flag != XfrmStateFlag::DontEncapDscp);
    if let Some(mask) = numbered(words) {
        let mask = mask?;
        return Ok(plain
            .enumerate()
            .filter(|(place, _)| mask >> place & 1 == 1)
            .map(|(_, flag)| *flag)
            .collect());
    }
    let known: Vec<_> = plain.copied().collect();
    Ok(words.flags(|word| known.iter().copied().find(|flag| flag.name() == word)))
}

/// A FLAG-LIST that is a number.
pub(crate) fn numbered(words: &mut Words<'_>) -> Option<Result<u8, GrammarError>> {
    words
        .peek()
        .is_some_and(|word| word.len() > 2 && word.starts_with("0x"))
        .then(|| words.value("a mask of flags", number))
}

fn extra_flags_of(mask: u8) -> Result<Vec<Option<XfrmStateFlag>>, GrammarError> {
    if mask & !3 != 0 {
        return Err(GrammarError::Conflict("there are two extra flags, 0x1 and 0x2"));
    }
    let both = [(1, Some(XfrmStateFlag::DontEncapDscp)), (2, None)];
    Ok(both.into_iter().filter(|(bit, _)| mask & bit != 0).map(|(_, flag)| flag).collect())
}

/// MODE, abbreviated or not.
pub(crate) fn mode(words: &mut Words<'_>) -> Result<XfrmMode, GrammarError> {
    let word = words.need(MODES)?;
    let is = |keyword: &str| abbreviates(word, keyword);
    if is("transport") {
        Ok(XfrmMode::Transport)
    } else if is("tunnel") {
        Ok(XfrmMode::Tunnel)
    } else if is("ro") || is("in_trigger") {
        Err(GrammarError::Refused { what: "mode ro or in_trigger", why: MOBILE })
    } else if is("beet") {
        Err(GrammarError::Refused {
            what: "mode beet",
            why: "a bound end-to-end tunnel was never standardised; use mode tunnel, or transport between the ends",
        })
    } else {
        Err(GrammarError::Wrong { word: Quoted::new(word), wanted: MODES })
    }
}

/// XFRM-PROTO; `ipsec-any` is none in particular.
pub(crate) fn protocol(words: &mut Words<'_>) -> Result<Option<XfrmProtocol>, GrammarError> {
    let word = words.need(PROTOCOLS)?;
    match word {
        "esp" => Ok(Some(XfrmProtocol::Esp)),
        "ah" => Ok(Some(XfrmProtocol::Ah)),
        "ipsec-any" => Ok(None),
        "comp" => Err(COMPRESSION),
        "route2" | "hao" => Err(GrammarError::Refused { what: "proto route2 or hao", why: MOBILE }),
        _ => Err(GrammarError::Wrong { word: Quoted::new(word), wanted: PROTOCOLS }),
    }
}

/// What is behind a keyword that makes no difference here, which is refused where it would.
pub(crate) fn meaningless(keyword: &str, words: &mut Words<'_>) -> Result<(), GrammarError> {
    let refuse = |what, why| Err(GrammarError::Refused { what, why });
    match keyword {
        "mark" | "output-mark" => {
            words.value::<u32>("a MARK", number)?;
            let mask = if words.take("mask") { words.value("a MASK", number)? } else { u32::MAX };
            let why = "no packet has a mark before this gateway or behind it; leave it out";
            if mask == 0 { Ok(()) } else { refuse("mark and output-mark", why) }
        }
        "if_id" => {
            let id: u32 = words.value("an IF-ID", number)?;
            if id == 0 { Ok(()) } else { refuse("if_id", "there are no xfrm interfaces here; leave it out") }
        }
        // Hardware makes it faster, and nothing else.
        "offload" => {
            words.take("packet");
            words.take("crypto");
            while ["dev", "dir"].iter().any(|word| words.take(word)) {
                words.need("DEV or DIR")?;
            }
            Ok(())
        }
        "coa" => refuse("coa", MOBILE),
        _ => refuse("ctx", "there are no security contexts here; leave it out"),
    }
}

fn kind(word: &str) -> Option<XfrmAlgorithmKind> {
    XfrmAlgorithmKind::ALL.iter().copied().find(|kind| kind.name() == word)
}

fn encap(words: &mut Words<'_>) -> Result<XfrmEncap, GrammarError> {
    let word = words.need("espinudp")?;
    match word {
        "espinudp" => {}
        "espinudp-nonike" => {
            return Err(GrammarError::Refused {
                what: "encap espinudp-nonike",
                why: "it is of drafts before RFC 3948; use espinudp at both ends",
            });
        }
        "espintcp" => {
            return Err(GrammarError::Refused {
                what: "encap espintcp",
                why: "this gateway has no TCP encapsulation (RFC 9329); use espinudp",
            });
        }
        _ => return Err(GrammarError::Wrong { word: Quoted::new(word), wanted: "espinudp" }),
    }
    let sport = words.value("a source port", number)?;
    let dport = words.value("a destination port", number)?;
    let oa: IpAddr = words.value("an original address, 0.0.0.0 where it is not known", address)?;
    Ok(XfrmEncap { sport, dport, oa })
}

/// ALGO-KEYMAT, in hexadecimal from here on.
pub(crate) fn key(word: &str) -> Option<Secret> {
    let octets = match word.strip_prefix("0x").filter(|digits| !digits.is_empty()) {
        Some(digits) if digits.len() % 2 == 1 => {
            let even = Zeroizing::new(format!("0{digits}"));
            Zeroizing::new(hex::decode(even.as_bytes()).ok()?)
        }
        Some(digits) => Zeroizing::new(hex::decode(digits).ok()?),
        None => Zeroizing::new(word.as_bytes().to_vec()),
    };
    (octets.len() <= MOST_KEY).then(|| Secret::new(hex::encode(&*octets)))
}

const fn missing(what: &'static str, usage: &'static str) -> GrammarError {
    GrammarError::Missing { what, usage }
}

const COMPRESSION: GrammarError = GrammarError::Refused {
    what: "IP payload compression (comp)",
    why: "compressed lengths tell of what was encrypted; leave it out at both ends",
};
const MOBILE: &str = "this gateway does nothing of Mobile IPv6";
const ADDRESS: &str = "an address";
const MODES: &str = "transport or tunnel";
const PROTOCOLS: &str = "esp or ah";

/// As long as the kernel's field.
const MOST_NAME: usize = 63;

/// As many octets as ip(8) takes.
const MOST_KEY: usize = 512;
