//! Who sent a datagram, and what protected it (Q-49, N-6, N-17): certain, or not known.

use crate::error::Error;
use crate::protection::Protection;

/// What is known of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatagramTag {
    /// It came from this peer, under this protection.
    Certain(Protection),
    /// It may have come from anybody.
    Unknown(Unknown),
}

/// Why nothing is certain of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Its flow had no latch.
    Unlatched,
    /// The gateway could not be asked.
    Unasked(Error),
}
