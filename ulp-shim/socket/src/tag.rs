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
#[non_exhaustive]
pub enum Unknown {
    /// Its flow had no latch.
    Unlatched,
    /// It came before its flow had the latch that it has, or too close to that moment to tell: the first of a flow that the
    /// remote side begins always does.
    Earlier,
    /// The system did not say when it came, where to and whether in pieces, or its clock was set meanwhile. So it may be of
    /// the first after that was asked for.
    Unstamped,
    /// It came in pieces, each of which may have come another way.
    InPieces,
    /// It came by another device than the gateway's: nobody judged it.
    OtherDevice,
    /// It came to an IPv6 address of the gateway's own device, or from one of this host: programs of this host can make up
    /// datagrams that look like it.
    Forgeable,
    /// The gateway could not be asked.
    Unasked(Error),
}
