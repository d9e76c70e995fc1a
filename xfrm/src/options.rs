//! The options of ip(8) in front of the object, and ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{GrammarError, Quoted};
use crate::words::abbreviates;

/// A whole command line: options, and the words behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invocation {
    /// What was said in front.
    pub options: Options,
    /// The object, the command and all that is behind it.
    pub words: Vec<String>,
}

/// The options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-s`: how many times more is wanted.
    pub statistics: u8,
    /// `-4`, `-6`, `-family`: of which addresses is spoken.
    pub family: Family,
    /// `-o`: a line each.
    pub oneline: bool,
    /// `-t`, `-ts`: when events happened.
    pub timestamp: bool,
    /// `-batch`: where commands come from, one a line.
    pub batch: Option<Source>,
    /// `-force`: go on behind a command of a batch that failed.
    pub force: bool,
    /// `--show-keys`: keys are shown, which the gateway logs.
    pub show_keys: bool,
    /// `--ephemeral-keys`: the keys of counter-mode suites are said to be fresh.
    pub ephemeral_keys: bool,
}

/// Where a batch comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input.
    Input,
    /// A file.
    File(String),
}

/// An address family that is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// None.
    #[default]
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Whether an address is of it.
    #[must_use]
    pub const fn admits(self, address: &IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    pub(crate) const fn unspecified(self) -> Option<IpAddr> {
        match self {
            Self::Any => None,
            Self::V4 => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            Self::V6 => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        }
    }
}

impl Invocation {
    /// Reads the options in front.
    ///
    /// # Errors
    /// [`GrammarError`]
    pub fn read(words: impl IntoIterator<Item = String>) -> Result<Self, GrammarError> {
        let mut options = Options::default();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next_if(|word| word.starts_with('-')) {
            if word == "--" {
                break;
            }
            if let Some(wanted) = options.set(&word)? {
                let missing = || GrammarError::Incomplete { after: Quoted::new(&word), wanted };
                let value = words.next().ok_or_else(missing)?;
                options.give(wanted, value)?;
            }
        }
        Ok(Self { options, words: words.collect() })
    }
}

impl Options {
    /// Sets an option. Returns what must come behind it.
    fn set(&mut self, word: &str) -> Result<Option<&'static str>, GrammarError> {
        match word {
            "--show-keys" => self.show_keys = true,
            "--ephemeral-keys" => self.ephemeral_keys = true,
            "-4" => self.family = Family::V4,
            "-6" => self.family = Family::V6,
            _ => return self.abbreviated(word),
        }
        Ok(None)
    }

    fn abbreviated(&mut self, word: &str) -> Result<Option<&'static str>, GrammarError> {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or(word);
        let is = |keyword: &str| abbreviates(name, keyword);
        if is("family") {
            return Ok(Some(FAMILY));
        } else if is("statistics") || is("stats") {
            self.statistics = self.statistics.saturating_add(1);
        } else if is("details") || is("human-readable") || is("color") || name.starts_with("color=") {
            // Nothing here is shorter or longer for it.
        } else if is("oneline") {
            self.oneline = true;
        } else if is("timestamp") || is("tshort") {
            self.timestamp = true;
        } else if is("batch") {
            return Ok(Some(FILE));
        } else if is("force") {
            self.force = true;
        } else if is("json") {
            return Err(GrammarError::Refused {
                what: "-json",
                why: "ip-xfrm(8) has no JSON; use `latchway sa list --json` and `latchway policy list --json`",
            });
        } else if is("netns") {
            return Err(GrammarError::Refused {
                what: "-netns",
                why: "a gateway is chosen by its control socket: `latchway --control PATH xfrm ...`",
            });
        } else {
            return Err(GrammarError::Unknown(Quoted::new(word)));
        }
        Ok(None)
    }

    fn give(&mut self, wanted: &'static str, value: String) -> Result<(), GrammarError> {
        if wanted == FILE {
            let source = if value == "-" { Source::Input } else { Source::File(value) };
            self.batch = Some(source);
            return Ok(());
        }
        self.family = match value.as_str() {
            "inet" => Family::V4,
            "inet6" => Family::V6,
            _ => return Err(GrammarError::Wrong { word: Quoted::new(&value), wanted: FAMILY }),
        };
        Ok(())
    }
}

const FILE: &str = "a file, or - for standard input";
const FAMILY: &str = "inet or inet6";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Invocation, GrammarError> {
        Invocation::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_those_of_ip() {
        let line = read("-s -stat -6 -o --ephemeral-keys state list").unwrap();
        assert_eq!(line.words, ["state", "list"]);
        let Options { statistics, family, oneline, ephemeral_keys, .. } = line.options;
        assert_eq!((statistics, family, oneline, ephemeral_keys), (2, Family::V6, true, true));
        assert_eq!(read("-b -").unwrap().options.batch, Some(Source::Input));
        assert_eq!(read("-batch x -f inet").unwrap().options.batch, Some(Source::File("x".into())));
        assert!(read("-force -batch x").unwrap().options.force);
    }

    #[test]
    fn options_that_are_not_are_named() {
        for line in ["-x", "-batch", "-family", "-f ipx", "-json", "-netns"] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
