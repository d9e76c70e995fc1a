//! What AH covers of an IPv4 header (RFC 4302 section 3.3.3.1.1 and appendix A1).

use super::covered::zeros;
use crate::crypto::Covering;
use crate::error::BadHeaders;

/// Covers `header`, which is all that stands before AH, of a packet of `len` bytes.
pub(super) fn cover(header: &[u8], len: usize, icv: &mut Covering) -> Result<(), BadHeaders> {
    let (fixed, options) = header.split_first_chunk::<FIXED_LEN>().ok_or(BadHeaders::Truncated)?;
    let &[version_ihl, _, l, n, i, d, flags, offset, _, protocol, _, _, s, r, c, e, ..] = fixed;
    if usize::from(version_ihl & 0x0f) * 4 != header.len() || protocol != AH {
        return Err(BadHeaders::Chain);
    }
    if usize::from(u16::from_be_bytes([l, n])) != len {
        return Err(BadHeaders::Length);
    }
    // RFC 4302 section 3.3.4: AH is applied to whole packets, and an offset would not be noticed.
    if u16::from_be_bytes([flags, offset]) & MORE_OR_OFFSET != 0 {
        return Err(BadHeaders::Fragment);
    }
    let [w, x, y, z] = destination(fixed, options)?;
    // Zeros for DSCP and ECN, flags and offset, TTL, checksum.
    icv.update(&[version_ihl, 0, l, n, i, d, 0, 0, 0, protocol, 0, 0, s, r, c, e, w, x, y, z]);
    let mut rest = options;
    while let Some((option, behind)) = next_option(rest)? {
        if is_immutable(option) {
            icv.update(option)
        } else {
            zeros(icv, option.len())
        }
        rest = behind;
    }
    Ok(())
}

/// Where the packet is going in the end: where a source route leads, or the header's destination (RFC 4302 section
/// 3.3.3.1.1.1).
fn destination(fixed: &[u8; FIXED_LEN], options: &[u8]) -> Result<[u8; 4], BadHeaders> {
    let mut rest = options;
    while let Some((option, behind)) = next_option(rest)? {
        if let &[LOOSE_ROUTE | STRICT_ROUTE, _, pointer, ref route @ ..] = option {
            let last = route.chunks_exact(4).next_back().and_then(|last| last.first_chunk());
            // RFC 791 section 3.1: the pointer counts from 1, and a route that is used up is no route.
            return match last {
                Some(last) if usize::from(pointer) <= option.len() => Ok(*last),
                _ => fixed.last_chunk().copied().ok_or(BadHeaders::Truncated),
            };
        }
        rest = behind;
    }
    fixed.last_chunk().copied().ok_or(BadHeaders::Truncated)
}

/// An option and what is behind it.
type Split<'o> = (&'o [u8], &'o [u8]);

/// The first option, whole, and what is behind it; behind the end of the list all is one (RFC 791 section 3.1).
fn next_option(options: &[u8]) -> Result<Option<Split<'_>>, BadHeaders> {
    let len = match options {
        [] => return Ok(None),
        [END, ..] => options.len(),
        [NO_OPERATION, ..] => 1,
        &[_, len, ..] if len >= 2 => usize::from(len),
        _ => return Err(BadHeaders::Option),
    };
    options.split_at_checked(len).map(Some).ok_or(BadHeaders::Option)
}

// RFC 4302 appendix A1. Section 3.3.3.1: what is not known is zeroed whole.
const fn is_immutable(option: &[u8]) -> bool {
    matches!(
        option,
        [
            END | NO_OPERATION | SECURITY | EXTENDED_SECURITY | COMMERCIAL_SECURITY | ROUTER_ALERT | DIRECTED,
            ..
        ]
    )
}

const FIXED_LEN: usize = 20;
const AH: u8 = 51;
const MORE_OR_OFFSET: u16 = 0x3fff;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const SECURITY: u8 = 0x80 | 2;
const LOOSE_ROUTE: u8 = 0x80 | 3;
const EXTENDED_SECURITY: u8 = 0x80 | 5;
const COMMERCIAL_SECURITY: u8 = 0x80 | 6;
const STRICT_ROUTE: u8 = 0x80 | 9;
const ROUTER_ALERT: u8 = 0x80 | 20;
/// Sender Directed Multi-Destination Delivery (RFC 1770).
const DIRECTED: u8 = 0x80 | 21;
