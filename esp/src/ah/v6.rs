//! What AH covers of an IPv6 header and of the extension headers before AH (RFC 4302 section 3.3.3.1.2 and appendix A2).

use super::covered::zeros;
use crate::crypto::Covering;
use crate::error::BadHeaders;

type Address = [u8; 16];

/// Covers `headers`, which is all that stands before AH, of a packet of `len` bytes.
pub(super) fn cover(headers: &[u8], len: usize, icv: &mut Covering) -> Result<(), BadHeaders> {
    let (fixed, chain) = headers.split_first_chunk::<FIXED_LEN>().ok_or(BadHeaders::Truncated)?;
    let &[_, _, _, _, l, n, next, _, ref addresses @ ..] = fixed;
    let (source, destination) = addresses.split_first_chunk::<16>().ok_or(BadHeaders::Truncated)?;
    let first: Address = destination.try_into().map_err(|_| BadHeaders::Truncated)?;
    let payload_len = u16::from_be_bytes([l, n]);
    if FIXED_LEN + usize::from(payload_len) != len {
        return Err(BadHeaders::Length);
    }
    let (mut last, mut fragments) = (first, 0);
    for header in Chain::new(next, chain) {
        let header = header?;
        match header.kind {
            FRAGMENT => fragments += FRAGMENT_LEN,
            ROUTING => last = Route::of(header.octets)?.last(last),
            _ => {}
        }
    }
    // Zeros for traffic class and flow label, and for the hop limit. A fragment header is as if it were not there.
    let [l, n] = payload_len.checked_sub(fragments).ok_or(BadHeaders::Length)?.to_be_bytes();
    icv.update(&[VERSION, 0, 0, 0, l, n, behind_fragment(next, chain), 0]);
    icv.update(source);
    icv.update(&last);
    let mut via = first;
    for header in Chain::new(next, chain) {
        let header = header?;
        match header.kind {
            FRAGMENT => {}
            ROUTING => {
                let route = Route::of(header.octets)?;
                route.cover(header.next, via, icv);
                via = route.last(via);
            }
            _ => cover_options(&header, icv)?,
        }
    }
    Ok(())
}

/// One extension header.
struct Extension<'h> {
    kind: u8,
    octets: &'h [u8],
    /// What it says comes next, were there no fragment header.
    next: u8,
}

/// The extension headers before AH, which must be where they lead.
struct Chain<'h> {
    kind: u8,
    rest: &'h [u8],
    over: bool,
}

impl<'h> Chain<'h> {
    const fn new(kind: u8, rest: &'h [u8]) -> Self {
        Self { kind, rest, over: false }
    }

    fn step(&mut self) -> Result<Option<Extension<'h>>, BadHeaders> {
        let kind = self.kind;
        let len = match (kind, self.rest) {
            (AH, []) => return Ok(None),
            (HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING, &[_, words, ..]) => (usize::from(words) + 1) * 8,
            (FRAGMENT, &[_, _, offset, more, ..]) => {
                // RFC 4302 appendix A2: one that is a whole packet is passed over; another was to be reassembled.
                if u16::from_be_bytes([offset, more]) & MORE_OR_OFFSET != 0 {
                    return Err(BadHeaders::Fragment);
                }
                usize::from(FRAGMENT_LEN)
            }
            (HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING | FRAGMENT, _) => return Err(BadHeaders::Truncated),
            _ => return Err(BadHeaders::Chain),
        };
        let (octets, rest) = self.rest.split_at_checked(len).ok_or(BadHeaders::Truncated)?;
        self.kind = octets.first().copied().ok_or(BadHeaders::Truncated)?;
        self.rest = rest;
        Ok(Some(Extension { kind, octets, next: behind_fragment(self.kind, rest) }))
    }
}

impl<'h> Iterator for Chain<'h> {
    type Item = Result<Extension<'h>, BadHeaders>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let step = self.step();
        self.over = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

/// What comes next where `next` says so, passing over a fragment header in `rest`.
fn behind_fragment(next: u8, rest: &[u8]) -> u8 {
    match rest {
        &[behind, ..] if next == FRAGMENT => behind,
        _ => next,
    }
}

/// A routing header, taken apart.
struct Route<'h> {
    /// Length and type.
    fields: [u8; 2],
    reserved: &'h [u8],
    addresses: &'h [Address],
    /// How many of them are left to visit.
    left: usize,
}

impl<'h> Route<'h> {
    // RFC 2460 section 4.4; type 2 is the same with one address (RFC 6275 section 6.4). What other types do on the way is
    // not known here, so only where they have done it are they covered, as they are.
    fn of(header: &'h [u8]) -> Result<Self, BadHeaders> {
        let &[_, words, kind, left, ref rest @ ..] = header else { return Err(BadHeaders::Truncated) };
        let (fields, left) = ([words, kind], usize::from(left));
        if !matches!(kind, 0 | 2) {
            let whole = Self { fields, reserved: rest, addresses: &[], left };
            return if left == 0 { Ok(whole) } else { Err(BadHeaders::Route) };
        }
        let (reserved, addresses) = rest.split_at_checked(4).ok_or(BadHeaders::Truncated)?;
        match addresses.as_chunks() {
            (addresses, []) if left <= addresses.len() => Ok(Self { fields, reserved, addresses, left }),
            _ => Err(BadHeaders::Route),
        }
    }

    /// Where the packet is going in the end, if it is on its way to `via`.
    fn last(&self, via: Address) -> Address {
        if self.left == 0 { via } else { self.addresses.last().copied().unwrap_or(via) }
    }

    /// Covers the header as it is when the packet is where it was going: nothing left to visit, and each address that was
    /// visited where the one before it stood.
    fn cover(&self, next: u8, via: Address, icv: &mut Covering) {
        let [words, kind] = self.fields;
        icv.update(&[next, words, kind, 0]);
        icv.update(self.reserved);
        let (visited, to_visit) = self.addresses.split_at(self.addresses.len() - self.left);
        visited.iter().for_each(|address| icv.update(address));
        if let [between @ .., _] = to_visit {
            icv.update(&via);
            between.iter().for_each(|address| icv.update(address));
        }
    }
}

/// Covers a header of options: the contents of those that may change are zeros, their type and length are not.
fn cover_options(header: &Extension<'_>, icv: &mut Covering) -> Result<(), BadHeaders> {
    let &[_, words, ref options @ ..] = header.octets else { return Err(BadHeaders::Truncated) };
    icv.update(&[header.next, words]);
    let mut rest = options;
    while let &[kind, ref behind @ ..] = rest {
        icv.update(&[kind]);
        rest = behind;
        if kind == PAD_1 {
            continue;
        }
        let &[len, ref behind @ ..] = rest else { return Err(BadHeaders::Option) };
        let (data, behind) = behind.split_at_checked(len.into()).ok_or(BadHeaders::Option)?;
        icv.update(&[len]);
        if kind & MAY_CHANGE == 0 {
            icv.update(data)
        } else {
            zeros(icv, data.len())
        }
        rest = behind;
    }
    Ok(())
}

const FIXED_LEN: usize = 40;
const VERSION: u8 = 0x60;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const FRAGMENT_LEN: u16 = 8;
const MORE_OR_OFFSET: u16 = 0xfff9;
const AH: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const PAD_1: u8 = 0;
/// RFC 2460 section 4.2: the third bit of an option's type.
const MAY_CHANGE: u8 = 0x20;
