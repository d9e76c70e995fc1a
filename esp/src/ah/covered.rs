//! What the ICV of AH covers, in the order in which it does (RFC 4302 section 3.3.3).

use super::{v4, v6};
use crate::crypto::Covering;
use crate::error::BadHeaders;
use crate::number::EsnHigh;
use crate::suite::{AH_FIXED_LEN, Lengths};

/// Feeds what the ICV covers of `packet`, a whole IP packet whose AH stands at `at`. Nothing is copied but fixed headers, so
/// no chain of extension headers is too long.
pub(crate) fn cover(
    packet: &[u8],
    at: usize,
    lengths: &Lengths,
    high: Option<EsnHigh>,
    icv: &mut Covering,
) -> Result<(), BadHeaders> {
    let (before, from) = packet.split_at_checked(at).ok_or(BadHeaders::Truncated)?;
    match before.first().map(|first| first >> 4) {
        Some(4) => v4::cover(before, packet.len(), icv)?,
        Some(6) => v6::cover(before, packet.len(), icv)?,
        Some(_) => return Err(BadHeaders::Version),
        None => return Err(BadHeaders::Truncated),
    }
    let (fields, rest) = from.split_at_checked(AH_FIXED_LEN).ok_or(BadHeaders::Truncated)?;
    let field = lengths.iv + lengths.icv;
    // The padding of the ICV's field is covered as it is (RFC 4302 section 3.3.3.2.1), and so is all behind the header.
    let rest = rest.get(field..).ok_or(BadHeaders::Truncated)?;
    icv.update(fields);
    zeros(icv, field);
    icv.update(rest);
    // RFC 4302 section 3.3.3.2.2: the high half stands behind the payload.
    if let Some(high) = high {
        icv.update(&high.0.to_be_bytes());
    }
    Ok(())
}

/// Covers so many zeros, in the place of what routers may change.
pub(super) fn zeros(icv: &mut Covering, mut count: usize) {
    while let Some(rest) = count.checked_sub(ZEROS.len()) {
        icv.update(&ZEROS);
        count = rest;
    }
    icv.update(ZEROS.get(..count).unwrap_or_default());
}

const ZEROS: [u8; 64] = [0; 64];
