//! Security associations: one direction's keys and numbers, and what they do to a packet (RFC 4303 sections 3.3
//! and 3.4).
//!
//! Outbound: [`OutboundSa::take`], then [`OutboundSa::seal`]. Inbound, in this order: [`InboundSa::check`],
//! [`InboundSa::open`], [`InboundSa::commit`], [`Opened::decapsulate`]. Every packet with a valid ICV burns its
//! number, also one whose trailer turns out to be bad.

use crate::error::ConfigError;
use crate::key::KeyMaterial;
use crate::number::{EsnHigh, SeqNum, Spi};
use crate::sequence::SequenceKind;
use crate::suite::Suite;

pub use self::inbound::{InboundConfig, InboundSa, Opened};
pub use self::outbound::{OutboundConfig, OutboundSa};

mod doubt;
mod header;
mod inbound;
mod outbound;

/// What holds for both directions before an SA is made.
fn agree(spi: Spi, suite: Suite, keys: &KeyMaterial) -> Result<(), ConfigError> {
    if spi.is_reserved() {
        return Err(ConfigError::ReservedSpi(spi));
    }
    if keys.suite() != suite {
        return Err(ConfigError::SuiteMismatch { suite, keys: keys.suite() });
    }
    Ok(())
}

/// The half that enters the ICV beside the header, where numbers are extended (RFC 4303 section 2.2.1).
#[inline]
fn high_half(sequence: SequenceKind, seq: SeqNum) -> Option<EsnHigh> {
    match sequence {
        SequenceKind::Seq32 => None,
        SequenceKind::Extended => Some(seq.high()),
    }
}
