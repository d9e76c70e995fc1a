//! The ancillary data of a message, and where in it a token lies (section 2.3.4).
//!
//! What lies there is a reference: 16 octets that mean something to this process alone. It stands under `SOL_SOCKET` with a type
//! that the kernel does not have, so that nothing else is taken for one, and a message that is sent on with it is refused.

use crate::failure::Failure;

/// What a message refers to: the number of a token that the process keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference(pub u64);

/// Ancillary data that refers to a token.
pub fn token(reference: Reference) -> Vec<u8> {
    message(LEVEL, TYPE, &[MAGIC, reference.0.to_ne_bytes()].concat())
}

/// The reference in ancillary data; none where there is none.
pub fn find(control: &[u8]) -> Result<Option<Reference>, Failure> {
    let mut at = 0;
    while let Some(message) = message_at(control, at)? {
        if message.is_ours() {
            return Ok(message.reference());
        }
        at = message.next;
    }
    Ok(None)
}

/// The messages of ancillary data, in their order.
pub fn messages(control: &[u8]) -> Result<Vec<Message<'_>>, Failure> {
    let (mut messages, mut at) = (Vec::new(), 0);
    while let Some(message) = message_at(control, at)? {
        at = message.next;
        messages.push(message);
    }
    Ok(messages)
}

/// A message of its own.
pub fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    let length = HEADER.saturating_add(data.len());
    let mut whole = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), data].concat();
    whole.resize(length.next_multiple_of(align_of::<usize>()), 0);
    whole
}

/// One message of ancillary data: `struct cmsghdr` and what is behind it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'c> {
    /// Whose it is: `SOL_SOCKET`, `IPPROTO_IP` and so on.
    pub level: i32,
    /// What it is, of that level.
    pub kind: i32,
    /// What it says.
    pub data: &'c [u8],
    /// All of it: the header, what it says, and the octets that follow to fill it up.
    pub whole: &'c [u8],
    /// Where the next one begins.
    next: usize,
}

impl Message<'_> {
    /// Whether it is a reference.
    pub const fn is_ours(&self) -> bool {
        self.level == LEVEL && self.kind == TYPE && self.data.len() == REFERENCE
    }

    fn reference(&self) -> Option<Reference> {
        let (magic, number) = self.data.split_first_chunk::<8>()?;
        let number = u64::from_ne_bytes(*number.first_chunk()?);
        (*magic == MAGIC).then_some(Reference(number))
    }
}

/// The message that begins there; none behind the last one. What is cut off or contradicts itself is refused, and nothing
/// behind it is guessed at.
fn message_at(control: &[u8], at: usize) -> Result<Option<Message<'_>>, Failure> {
    let rest = control.get(at..).unwrap_or_default();
    let Some((header, _)) = rest.split_first_chunk::<HEADER>() else { return Ok(None) };
    let [length @ .., l0, l1, l2, l3, k0, k1, k2, k3] = header;
    let length = length.first_chunk().map_or(0, |length| usize::from_ne_bytes(*length));
    if length == 0 {
        return Ok(None);
    }
    let data = rest.get(HEADER..length).ok_or(BROKEN)?;
    let padded = length.checked_next_multiple_of(align_of::<usize>()).ok_or(BROKEN)?;
    let next = at.saturating_add(padded).min(control.len());
    let (level, kind) = (i32::from_ne_bytes([*l0, *l1, *l2, *l3]), i32::from_ne_bytes([*k0, *k1, *k2, *k3]));
    let whole = control.get(at..next).unwrap_or_default();
    Ok(Some(Message { level, kind, data, whole, next }))
}

/// The length of `struct cmsghdr`: its length, level and type.
const HEADER: usize = size_of::<usize>() + 2 * size_of::<i32>();
/// The magic and the number.
const REFERENCE: usize = 16;
const LEVEL: i32 = libc::SOL_SOCKET;
/// A type of `SOL_SOCKET` that no kernel has.
const TYPE: i32 = 0x4c57;
const MAGIC: [u8; 8] = *b"latchway";

const BROKEN: Failure = Failure::new(
    libc::EINVAL,
    "the ancillary data is not whole; what is behind its last message must be zeros",
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    #[test]
    fn the_layout_is_that_of_the_system() {
        assert_eq!(HEADER, size_of::<libc::cmsghdr>());
        assert_eq!(token(Reference(7)).len(), HEADER + REFERENCE);
        assert_eq!((HEADER + REFERENCE) % align_of::<libc::cmsghdr>(), 0);
    }

    /// a token is found among what the system says.
    #[test]
    fn q_49_a_token_is_found_among_other_messages() {
        let others =
            [message(libc::IPPROTO_IP, libc::IP_TTL, &[64, 0, 0, 0]), message(1, 2, b"xyz")].concat();
        assert_eq!(find(&others), Ok(None));
        let with = [token(Reference(7)), others.clone()].concat();
        assert_eq!(find(&with), Ok(Some(Reference(7))));
        let behind = [others, token(Reference(8))].concat();
        assert_eq!(find(&behind), Ok(Some(Reference(8))));
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        for length in [1, HEADER - 1, HEADER + REFERENCE + 1, usize::MAX, usize::MAX - 7] {
            let mut control = token(Reference(1));
            control[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(find(&control).unwrap_err().errno(), libc::EINVAL, "{length}");
        }
        // Ours by its type, but not by what is in it.
        assert_eq!(find(&message(LEVEL, TYPE, &[0; REFERENCE])), Ok(None));
        assert_eq!(find(&message(LEVEL, TYPE, b"latchway")), Ok(None));
    }

    /// Whatever octets there are: no panic, and what is in front of them is found.
    #[test]
    fn any_ancillary_data_is_read_or_refused() {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
        let config = Config { cases: 2048, failure_persistence: None, ..Config::default() };
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            (any::<i32>(), any::<i32>(), prop::collection::vec(any::<u8>(), 0..24))
                .prop_map(|(l, k, d)| message(l, k, &d)),
            Just(vec![0; 32]),
        ];
        let controls = prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat());
        let check = |control: Vec<u8>| {
            let _ = (find(&control), crate::address::Told::read(&control));
            let with = [token(Reference(3)), control].concat();
            prop_assert_eq!(find(&with), Ok(Some(Reference(3))));
            Ok(())
        };
        TestRunner::new_with_rng(config, rng).run(&controls, check).unwrap();
    }
}
