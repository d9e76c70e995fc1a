//! How far an SCTP association is (RFC 9260 sections 5, 8.5 and 9), as far as a bystander needs it.
//!
//! Each side of an association is known by the tag that it chose for itself. What does not carry its receiver's tag changes
//! nothing. An association on other addresses of its ends is another flow, with a latch of its own.

use latchway_datapath::drop::Direction;
use latchway_datapath::packet::{SctpPacket, chunk};

use super::{Progress, Side, Sides};

impl Progress {
    /// The progress after an SCTP packet, and how far its sender is then.
    pub(crate) fn after_packet(
        self,
        direction: Direction,
        packet: &SctpPacket,
        Sides { sender, receiver }: Sides,
    ) -> (Self, Side) {
        let chosen = Side::of_tag(packet.initiate_tag);
        match packet.chunk {
            chunk::INIT => (self.after_init(direction), if self.is_open() { sender } else { chosen }),
            _ if !is_of_association(packet, sender, receiver) => (self, sender),
            chunk::INIT_ACK if self.is_half_open() => (self, chosen),
            chunk::ABORT | chunk::SHUTDOWN_COMPLETE => (Self::Ended, sender),
            // Whoever echoes or accepts a cookie has received one: the remote side is the one to prove itself.
            chunk::COOKIE_ECHO | chunk::COOKIE_ACK
                if self.is_half_open() && direction == Direction::Inbound && sender != Side::default() =>
            {
                (Self::Both, sender)
            }
            _ => (self, sender),
        }
    }

    /// INIT begins an association, or comes again until it is answered. On one that is open it begins nothing yet: its
    /// sender may have been started anew, and the other side decides (RFC 9260 5.2.2).
    const fn after_init(self, direction: Direction) -> Self {
        match self {
            Self::Untracked => Self::begun(direction),
            _ => self,
        }
    }

    const fn is_open(self) -> bool {
        !matches!(self, Self::Untracked | Self::LocalOnly | Self::RemoteOnly)
    }
}

/// RFC 9260 section 8.5: the receiver's tag, or where the T bit says that the sender has none for it, the sender's own.
const fn is_of_association(packet: &SctpPacket, sender: Side, receiver: Side) -> bool {
    let reflected =
        matches!(packet.chunk, chunk::ABORT | chunk::SHUTDOWN_COMPLETE) && packet.flags & T_BIT != 0;
    let tag = if reflected { sender.edge } else { receiver.edge };
    tag != 0 && packet.verification_tag == tag
}

const T_BIT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Inbound, Outbound};

    const LOCAL: u32 = 7;
    const REMOTE: u32 = 9;

    struct Association {
        progress: Progress,
        local: Side,
        remote: Side,
    }

    impl Association {
        fn new() -> Self {
            Self { progress: Progress::Untracked, local: Side::default(), remote: Side::default() }
        }

        /// A packet of `chunk` with these verification and initiate tags.
        fn see(
            &mut self,
            direction: Direction,
            chunk: u8,
            verification_tag: u32,
            initiate_tag: u32,
        ) -> Progress {
            self.see_flags(direction, (chunk, 0), verification_tag, initiate_tag)
        }

        fn see_flags(
            &mut self,
            direction: Direction,
            (chunk, flags): (u8, u8),
            verification_tag: u32,
            initiate_tag: u32,
        ) -> Progress {
            let (sender, receiver) = match direction {
                Outbound => (self.local, self.remote),
                Inbound => (self.remote, self.local),
            };
            let packet = SctpPacket { verification_tag, chunk, flags, initiate_tag };
            let (progress, side) = self.progress.after_packet(direction, &packet, Sides { sender, receiver });
            self.progress = progress;
            match direction {
                Outbound => self.local = side,
                Inbound => self.remote = side,
            }
            progress
        }

        fn open(first: Direction) -> Self {
            let mut association = Self::new();
            let (second, one, other) = match first {
                Outbound => (Inbound, LOCAL, REMOTE),
                Inbound => (Outbound, REMOTE, LOCAL),
            };
            assert_eq!(association.see(first, chunk::INIT, 0, one), Progress::begun(first));
            assert_eq!(association.see(second, chunk::INIT_ACK, one, other), Progress::begun(first));
            association.see(first, chunk::COOKIE_ECHO, other, 0);
            association.see(second, chunk::COOKIE_ACK, one, 0);
            assert_eq!(association.progress, Progress::Both, "{first:?}");
            association
        }
    }

    #[test]
    fn l_102_rfc_9260_5_1_an_association_opens_from_either_side_by_its_four_ways() {
        Association::open(Outbound);
        Association::open(Inbound);
    }

    #[test]
    fn l_102_rfc_9260_5_1_only_what_the_remote_side_proves_opens_an_association() {
        let mut association = Association::new();
        association.see(Inbound, chunk::INIT, 0, REMOTE);
        assert_eq!(
            association.see(Inbound, chunk::COOKIE_ECHO, LOCAL, 0),
            Progress::RemoteOnly,
            "of nothing"
        );
        association.see(Outbound, chunk::INIT_ACK, REMOTE, LOCAL);
        assert_eq!(association.see(Inbound, chunk::COOKIE_ECHO, LOCAL + 1, 0), Progress::RemoteOnly);
        assert_eq!(association.see(Outbound, chunk::COOKIE_ECHO, REMOTE, 0), Progress::RemoteOnly);
        assert_eq!(association.see(Inbound, chunk::COOKIE_ECHO, LOCAL, 0), Progress::Both);
    }

    #[test]
    fn l_102_rfc_9260_8_5_1_an_association_ends_only_by_its_own_tags() {
        for chunk in [chunk::ABORT, chunk::SHUTDOWN_COMPLETE] {
            for (direction, own, others) in [(Inbound, REMOTE, LOCAL), (Outbound, LOCAL, REMOTE)] {
                for (flags, tag, ends) in [
                    (0, others, true),
                    (0, own, false),
                    (T_BIT, own, true),
                    (T_BIT, others, false),
                    (0, 0, false),
                    (T_BIT, 1234, false),
                ] {
                    let mut association = Association::open(Outbound);
                    let progress = association.see_flags(direction, (chunk, flags), tag, 0);
                    assert_eq!(progress == Progress::Ended, ends, "{chunk} {direction:?} {flags} {tag}");
                }
            }
        }
        let mut refused = Association::new();
        refused.see(Outbound, chunk::INIT, 0, LOCAL);
        assert_eq!(refused.see_flags(Inbound, (chunk::ABORT, T_BIT), 0, 0), Progress::LocalOnly, "of no tag");
        assert_eq!(refused.see(Inbound, chunk::ABORT, LOCAL, 0), Progress::Ended);
    }

    #[test]
    fn rfc_9260_5_2_an_init_on_an_open_association_changes_nothing() {
        for direction in [Inbound, Outbound] {
            let mut association = Association::open(Outbound);
            assert_eq!(association.see(direction, chunk::INIT, 0, 77), Progress::Both);
            assert_eq!((association.local, association.remote), (Side::of_tag(LOCAL), Side::of_tag(REMOTE)));
            assert_eq!(association.see(Inbound, chunk::ABORT, LOCAL, 0), Progress::Ended);
        }
    }
}
