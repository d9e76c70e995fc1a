//! The two security protocols (RFC 4301 section 3.2). Each has its own space of SPIs (RFC 4301 section 4.1).

use std::fmt;

/// Which of the two protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The Encapsulating Security Payload (RFC 4303).
    Esp,
    /// The Authentication Header (RFC 4302).
    Ah,
}

impl Protocol {
    /// Its number in the IP header that is in front of it (RFC 4303 section 2, RFC 4302 section 2).
    pub const fn number(self) -> u8 {
        match self {
            Self::Esp => 50,
            Self::Ah => 51,
        }
    }

    /// The one that an IP header's protocol number means.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            50 => Some(Self::Esp),
            51 => Some(Self::Ah),
            _ => None,
        }
    }

    /// Its name in configuration and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Esp => "esp",
            Self::Ah => "ah",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
