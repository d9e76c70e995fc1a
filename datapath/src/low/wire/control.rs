//! Control messages (cmsg(3)), written and read as octets: a header of length, level and type, the data, and padding.

/// Room for the control messages of one datagram, aligned as their headers must be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control {
    pub(super) space: [u8; CONTROL_LEN],
}

/// Room enough for what is asked of the kernel here; the headers of an IPv6 packet (RFC 8200 section 4) take the most.
pub(super) const CONTROL_LEN: usize = 1024;

const HEADER_LEN: usize = size_of::<libc::cmsghdr>();
const ALIGN: usize = size_of::<usize>();
const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());
// Length, level, type: on every Linux, as the kernel has it.
const _: () = assert!(HEADER_LEN == size_of::<usize>() + 8);

/// One control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) level: i32,
    pub(super) kind: i32,
    pub(super) data: &'a [u8],
}

impl Control {
    pub(super) const EMPTY: Control = Control { space: [0; CONTROL_LEN] };
}

/// Appends a message to `used` octets. Returns how many are used now; as many as before where there is no room.
#[inline]
pub(super) fn put(space: &mut [u8], used: usize, message: Message<'_>) -> usize {
    let len = HEADER_LEN + message.data.len();
    let end = used + len.next_multiple_of(ALIGN);
    let Some(room) = space.get_mut(used..end) else { return used };
    let (header, data) = room.split_at_mut(HEADER_LEN);
    let fields = [&len.to_ne_bytes()[..], &message.level.to_ne_bytes(), &message.kind.to_ne_bytes()];
    for (to, from) in header.iter_mut().zip(fields.into_iter().flatten()) {
        *to = *from;
    }
    if let Some(data) = data.get_mut(..message.data.len()) {
        data.copy_from_slice(message.data);
    }
    end
}

/// The messages in what the kernel wrote.
#[inline]
pub(super) fn messages(space: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = space;
    std::iter::from_fn(move || {
        let (&len, after) = rest.split_first_chunk::<{ size_of::<usize>() }>()?;
        let (&level, after) = after.split_first_chunk::<4>()?;
        let (&kind, _) = after.split_first_chunk::<4>()?;
        let len = usize::from_ne_bytes(len);
        let data = rest.get(HEADER_LEN..len)?;
        rest = rest.get(len.checked_next_multiple_of(ALIGN)?..).unwrap_or_default();
        Some(Message { level: i32::from_ne_bytes(level), kind: i32::from_ne_bytes(kind), data })
    })
}

impl Message<'_> {
    /// Its data as a number: an int, or an octet as IPv4 has it.
    #[inline]
    pub(super) fn number(&self) -> Option<i32> {
        match self.data {
            [octet] => Some(i32::from(*octet)),
            data => data.first_chunk().map(|octets| i32::from_ne_bytes(*octets)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read() {
        let mut control = Control::EMPTY;
        let one = Message { level: 0, kind: 1, data: &[7] };
        let two = Message { level: 41, kind: 67, data: &5i32.to_ne_bytes() };
        let used = put(&mut control.space, 0, one);
        let used = put(&mut control.space, used, two);
        assert_eq!(used % ALIGN, 0);
        let read: Vec<_> = messages(&control.space[..used]).collect();
        assert_eq!(read, [one, two]);
        assert_eq!((read[0].number(), read[1].number()), (Some(7), Some(5)));
        assert_eq!(put(&mut control.space[..used], used, one), used, "no room");
    }

    /// T03: lengths that lie end the reading.
    #[test]
    fn lengths_that_lie_are_survived() {
        for len in [0, 1, HEADER_LEN - 1, HEADER_LEN + 9, usize::MAX, usize::MAX - 7] {
            let mut octets = [0; HEADER_LEN + 8];
            octets[..ALIGN].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(messages(&octets).count(), 0, "{len}");
        }
        for cut in 0..HEADER_LEN {
            assert_eq!(messages(&[0xff; HEADER_LEN][..cut]).count(), 0);
        }
    }
}
