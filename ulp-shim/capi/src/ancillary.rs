//! The ancillary data of a message, and where in it a token lies (section 2.3.4).
//!
//! What lies there is a reference: 16 octets that mean something to this process alone. It stands under `SOL_SOCKET` with a type
//! that the kernel does not have, so that a message with a demand, sent by a plain sendmsg(), is refused with EINVAL and never
//! goes out as if nothing were demanded.

use crate::failure::Failure;

/// What a message refers to: the number of a token that the process keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference(pub u64);

/// How much room a token takes in ancillary data.
pub const SPACE: usize = HEADER + REFERENCE;

/// Puts a reference into ancillary data, in the place of one that is there already, and gives the length that is then in use.
/// What is behind the last message that is there must be zeros, as CMSG_NXTHDR(3) wants it; ENOBUFS where there is no room.
pub fn put(control: &mut [u8], reference: Reference) -> Result<usize, Failure> {
    let mut at = 0;
    let mut ours = None;
    while let Some(message) = message_at(control, at)? {
        if message.is_ours() {
            ours = ours.or(Some(at));
        }
        at = message.next;
    }
    let (place, used) = match ours {
        Some(place) => (place, at),
        None => (at, at.saturating_add(SPACE)),
    };
    let room = control.get_mut(place..).and_then(|rest| rest.get_mut(..SPACE)).ok_or(NO_ROOM)?;
    room.copy_from_slice(&message(LEVEL, TYPE, &[MAGIC, reference.0.to_ne_bytes()].concat()));
    Ok(used)
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

const NO_ROOM: Failure = Failure::new(
    libc::ENOBUFS,
    "there is no room for a token in msg_control; add IPSEC_LATCHWAY_PTOKEN_SPACE octets, all zero, to msg_controllen",
);
const BROKEN: Failure = Failure::new(
    libc::EINVAL,
    "the ancillary data is not whole; what is behind its last message must be zeros",
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    /// The same without references.
    fn without(control: &[u8]) -> Result<Vec<u8>, Failure> {
        let others = messages(control)?.into_iter().filter(|message| !message.is_ours());
        Ok(others.flat_map(|message| message.whole.to_vec()).collect())
    }

    #[test]
    fn the_layout_is_that_of_the_system() {
        assert_eq!(HEADER, size_of::<libc::cmsghdr>());
        assert_eq!(SPACE % align_of::<libc::cmsghdr>(), 0);
    }

    /// behind what is there, replaced where one is there, taken out again.
    #[test]
    fn q_48_a_token_is_put_behind_what_is_there() {
        let others =
            [message(libc::IPPROTO_IP, libc::IP_TTL, &[64, 0, 0, 0]), message(1, 2, b"xyz")].concat();
        let mut control = others.clone();
        control.resize(others.len() + SPACE, 0);
        assert_eq!(find(&control), Ok(None));
        assert_eq!(put(&mut control, Reference(7)), Ok(control.len()));
        assert_eq!(find(&control), Ok(Some(Reference(7))));
        assert_eq!(put(&mut control, Reference(8)), Ok(control.len()), "there is room for one");
        assert_eq!(find(&control), Ok(Some(Reference(8))));
        assert_eq!(without(&control), Ok(others));
    }

    /// too little room, and nothing is written.
    #[test]
    fn q_50_without_room_nothing_is_put() {
        for room in 0..SPACE {
            let mut control = vec![0; room];
            assert_eq!(put(&mut control, Reference(1)).unwrap_err().errno(), libc::ENOBUFS);
            assert_eq!(control, vec![0; room]);
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        for length in [1, HEADER - 1, SPACE + 1, usize::MAX, usize::MAX - 7] {
            let mut control = [0; SPACE];
            control[..8].copy_from_slice(&length.to_ne_bytes());
            let before = control;
            assert_eq!(put(&mut control, Reference(1)).unwrap_err().errno(), libc::EINVAL, "{length}");
            assert_eq!(find(&control).unwrap_err().errno(), libc::EINVAL);
            assert_eq!(without(&control).unwrap_err().errno(), libc::EINVAL);
            assert_eq!(control, before);
        }
        // Ours by its type, but not by what is in it.
        assert_eq!(find(&message(LEVEL, TYPE, &[0; REFERENCE])), Ok(None));
        assert_eq!(find(&message(LEVEL, TYPE, b"latchway")), Ok(None));
    }

    /// Whatever octets there are: no panic, and what was put is found.
    #[test]
    fn any_ancillary_data_is_read_or_refused() {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
        let config = Config { cases: 2048, failure_persistence: None, ..Config::default() };
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            (any::<i32>(), any::<i32>(), prop::collection::vec(any::<u8>(), 0..24))
                .prop_map(|(l, k, d)| message(l, k, &d)),
            Just(vec![0; SPACE]),
        ];
        let controls = prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat());
        let check = |mut control: Vec<u8>| {
            let kept = without(&control);
            if let Ok(used) = put(&mut control, Reference(3)) {
                let used = control.get(..used).unwrap_or_default();
                prop_assert_eq!(find(used), Ok(Some(Reference(3))));
                prop_assert_eq!(without(used), kept);
            }
            Ok(())
        };
        TestRunner::new_with_rng(config, rng).run(&controls, check).unwrap();
    }
}
