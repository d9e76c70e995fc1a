//! What the sender of a packet that was dropped is told: one packet to the inner host, in place of the one that it sent.

use crate::icmp_error::LONGEST;

/// Room for one answer, written in place.
pub(crate) struct Answer {
    octets: Box<[u8; LONGEST]>,
    len: usize,
}

impl Default for Answer {
    fn default() -> Self {
        Self { octets: Box::new([0; LONGEST]), len: 0 }
    }
}

impl Answer {
    /// The answer last written.
    pub(crate) fn octets(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }

    /// Lets `write` write an answer and say how long it is. Returns whether there is one.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.len = write(&mut *self.octets).unwrap_or(0);
        self.len > 0
    }
}
