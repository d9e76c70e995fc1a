//! What can go wrong, in three families that never mix: an operator's configuration ([`ConfigError`]), the bytes of a
//! packet ([`ParseError`], [`OpenError`], [`BadHeaders`], [`BadPadding`]), and the state of an SA ([`ReplayError`], [`SealError`],
//! [`TakeError`]).

use thiserror::Error;

use crate::number::Spi;
use crate::protocol::Protocol;
use crate::suite::Suite;

/// A security association that cannot be built; the text says what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The name is none of [`Suite::name`].
    #[error(
        "unknown suite: use aes-128-gcm, aes-256-gcm, chacha20-poly1305, aes-128-cbc-hmac-sha-256, \
         aes-256-cbc-hmac-sha-256, or another of the manual's names"
    )]
    UnknownSuite,
    /// Key material is the key followed by the salt (RFC 4106 section 8.1, RFC 7634 section 2), or the encryption key
    /// followed by the integrity key (RFC 7296 section 2.17).
    #[error("{suite} takes {needed} bytes of key material ({}), not {got}: give exactly {needed}", suite.key_layout())]
    KeyLength {
        /// The suite asked for.
        suite: Suite,
        /// Bytes it takes.
        needed: usize,
        /// Bytes given.
        got: usize,
    },
    /// The key material was made for another suite than the SA names.
    #[error("the SA names {suite} but its key material was made for {keys}: use one suite for both")]
    SuiteMismatch {
        /// The suite of the SA.
        suite: Suite,
        /// The suite of the key material.
        keys: Suite,
    },
    /// SPIs 1 to 255 are IANA's (RFC 4303 section 2.1).
    #[error("SPI {0} is reserved: choose one of 0x00000100 or more")]
    ReservedSpi(Spi),
    /// The window is smaller than RFC 4303 section 3.4.3 demands, or larger than this crate keeps.
    #[error("a replay window of {0} packets is not supported: choose 32 to 65536, 4096 where unsure")]
    WindowSize(u32),
    /// Sequence numbers begin at 1 (RFC 4303 section 2.2), and without extended numbers end at 2^32 - 1.
    #[error("sequence number {0} is outside the SA's range: resume between 1 and the SA's last number")]
    ResumeOutOfRange(u64),
    /// A reservation serves one SA, for two would take its numbers twice (T11).
    #[error("the reservation of numbers belongs to another SA already: reserve numbers for each SA")]
    ReservationInUse,
    /// IVs must be unpredictable (RFC 3602 section 3).
    #[error("the system gives no random numbers, and the suite's IVs need some: try again when it does")]
    NoRandomness,
}

/// Bytes that are no ESP packet (RFC 4303 section 2), or no AH (RFC 4302 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Too short for a header.
    #[error("{got} bytes where the header takes {needed}")]
    Runt {
        /// Bytes a header takes.
        needed: usize,
        /// Bytes there are.
        got: usize,
    },
    /// SPI 0 must not appear on the wire (RFC 4303 section 2.1).
    #[error("SPI 0 is for local use and must not be sent")]
    SpiZero,
    /// An authentication header's length does not hold its own fields (RFC 4302 section 2.2).
    #[error("an authentication header of {0} bytes does not hold its fields")]
    AhLength(usize),
    /// IANA has given no meaning to these SPIs yet (RFC 4303 section 2.1).
    #[error("SPI {0} is reserved")]
    SpiReserved(Spi),
}

/// A packet that was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The buffer does not hold the sealed packet.
    #[error("a buffer of {got} bytes where the sealed packet takes {needed}")]
    NoRoom {
        /// Bytes the sealed packet takes.
        needed: usize,
        /// Bytes the buffer has.
        got: usize,
    },
    /// The packet is longer than the cipher's counter reaches.
    #[error("the payload is longer than the cipher allows")]
    TooLong,
    /// An SA of the other protocol was asked (RFC 4301 section 4.1).
    #[error("the SA is of {0}")]
    WrongProtocol(Protocol),
    /// What stands before AH cannot be read, so that nobody could tell what is covered.
    #[error(transparent)]
    Headers(#[from] BadHeaders),
}

/// A packet that was not opened; nothing in it may be used (RFC 4303 section 3.4.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Too short to hold header, IV, trailer and ICV.
    #[error("{got} bytes where the smallest packet of the suite has {needed}")]
    Runt {
        /// Bytes of the smallest packet.
        needed: usize,
        /// Bytes there are.
        got: usize,
    },
    /// What is protected is not a whole number of the cipher's blocks (RFC 4303 section 2.4).
    #[error("{got} protected bytes where the cipher has blocks of {block}")]
    Unaligned {
        /// Bytes of a block.
        block: usize,
        /// Bytes there are.
        got: usize,
    },
    /// The integrity check value is not the packet's.
    #[error("the integrity check value does not match")]
    IcvMismatch,
    /// The packet is authentic, and its extended number lies below the replay window (RFC 4303 section 3.4.3).
    #[error("the extended sequence number lies below the replay window")]
    Late,
    /// An SA of the other protocol was asked (RFC 4301 section 4.1).
    #[error("the SA is of {0}")]
    WrongProtocol(Protocol),
    /// AH itself cannot be read.
    #[error(transparent)]
    Header(#[from] ParseError),
    /// AH is not as long as the SA's, which adds no more padding than it must (RFC 4302 section 3.3.3.2.1).
    #[error("an authentication header of {got} bytes where the SA's takes {needed}")]
    AhLength {
        /// Bytes the SA's takes.
        needed: usize,
        /// Bytes it says it has.
        got: usize,
    },
    /// What stands before AH cannot be read, so that nobody could tell what is covered.
    #[error(transparent)]
    Headers(#[from] BadHeaders),
}

/// IP headers of which AH cannot tell what it covers (RFC 4302 section 3.3.3.1, T22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadHeaders {
    /// Neither IPv4 nor IPv6.
    #[error("the IP version is neither 4 nor 6")]
    Version,
    /// A header ends behind the packet.
    #[error("a header ends behind the packet")]
    Truncated,
    /// The IP header's length is not the packet's.
    #[error("the length in the IP header is not the packet's")]
    Length,
    /// A part of a packet, which was to be reassembled first (RFC 4302 section 3.4.1).
    #[error("the packet is a fragment")]
    Fragment,
    /// An option ends behind its header.
    #[error("an option ends behind its header")]
    Option,
    /// The headers do not lead to AH, or over one that is not known.
    #[error("the headers before AH do not lead to it")]
    Chain,
    /// A routing header goes nowhere, or changes on its way as nobody can foresee.
    #[error("where a routing header leads cannot be foreseen")]
    Route,
}

/// A number the anti-replay service refuses (RFC 4303 section 3.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// A packet with this number was accepted before.
    #[error("the sequence number was received before")]
    Replayed,
    /// The number lies left of the window, so that nothing is known about it.
    #[error("the sequence number lies below the replay window")]
    TooOld,
    /// The first packet of an SA has the number 1 (RFC 4303 section 2.2).
    #[error("sequence number 0 is never sent")]
    Zero,
}

/// An authenticated packet whose trailer contradicts itself (RFC 4303 sections 2.4 and 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadPadding {
    /// The pad length counts more bytes than precede it.
    #[error("a pad length of {pad} where {available} bytes precede it")]
    Length {
        /// What the pad length field says.
        pad: u8,
        /// Bytes in front of it.
        available: usize,
    },
    /// The padding is not 1, 2, 3, ...
    #[error("the padding is not 1, 2, 3, ...")]
    Contents,
}

/// The counter cannot give that many numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TakeError {
    /// The SA must be replaced (RFC 4303 section 3.3.3).
    #[error("the SA has {remaining} sequence numbers left: replace it")]
    Exhausted {
        /// How many numbers are left to [`crate::SeqCounter::take`].
        remaining: u64,
    },
    /// The SA goes on once its [`crate::Reservation`] is raised (T12).
    #[error("{reserved} of the SA's sequence numbers are reserved: raise the reservation")]
    Unreserved {
        /// How many numbers may be taken as it is.
        reserved: u64,
    },
}
