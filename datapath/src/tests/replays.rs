//! Numbers that come again, late, far ahead and around a wrap, as VPP tests them, for ESP in UDP, ESP as packets of its own, and
//! AH (RFC 4303 section 3.4.3 and appendix A2, RFC 4302 section 3.4.3 and appendix B2; T08, T10).
//!
//! The places that a low half can have are a to g: in case A of appendix A2.2 the window lies in one subspace of 2^32
//! numbers, and the number is in it (a), above it (b) or below it (c); in case B the window spans two, and the number is in
//! its upper part (d), above it (e), or in its lower part (f), which the first subspace has not (g).

use latchway_esp::{AntiReplay, SequenceKind, Suite, WindowSize};

use super::{NOW, v4};
use crate::arrival::{Arrival, Carrier};
use crate::drop::{Direction, DropReason};
use crate::event::Event;
use crate::testing::{Host, Open, SaOptions, arrival, inbound_entry, outbound_entry_at, outer};

const WIDTHS: [SequenceKind; 2] = [SequenceKind::Seq32, SequenceKind::Extended];
/// How many numbers have the same high half.
const SUBSPACE: u64 = 1 << 32;

/// A receiver, and what its peer would send it.
struct Receiver {
    two: Host<Open>,
    options: SaOptions,
}

impl Receiver {
    fn new(options: SaOptions) -> Self {
        let mut two = Host::new(2, 1, Open);
        two.insert(inbound_entry(2, 1, &options));
        two.publish();
        Self { two, options }
    }

    /// One for each protocol and carrier, with a window of so many packets, or none.
    fn each(window: Option<u32>, sequence: SequenceKind) -> Vec<Self> {
        let anti_replay =
            window.map_or(AntiReplay::Off, |size| AntiReplay::Window(WindowSize::new(size).unwrap()));
        let kinds = [
            ("aes-128-gcm", Carrier::Udp),
            ("aes-128-cbc-hmac-sha-256", Carrier::Native),
            ("ah-hmac-sha-256", Carrier::Native),
        ];
        let options = kinds.map(|(suite, carrier)| SaOptions {
            suite: suite.parse::<Suite>().unwrap(),
            carrier,
            sequence,
            anti_replay,
            ..SaOptions::new(0x1001, 0)
        });
        options.into_iter().map(Self::new).collect()
    }

    /// The peer's packet of this number.
    fn packet(&self, number: u64) -> Vec<u8> {
        let mut one = Host::new(1, 2, Open);
        one.insert(outbound_entry_at(1, 2, &self.options, number));
        one.publish();
        one.send(&v4(), NOW).0.remove(0)
    }

    /// How many packets pass of those that arrive, in one train where they come by UDP.
    fn arrive(&mut self, packets: &[Vec<u8>]) -> usize {
        if self.options.carrier == Carrier::Udp {
            let train = Arrival::udp(packets[0].len(), outer(1));
            return self.two.receive_as(&packets.concat(), &train, NOW).len();
        }
        let passes = |packet: &Vec<u8>| {
            let arrival = arrival(1, packet.len(), &self.options);
            self.two.receive_as(packet, &arrival, NOW).len()
        };
        packets.iter().map(passes).sum()
    }

    /// Takes this number, and on the way to it as few others as a receiver needs to follow.
    fn reaches(&mut self, top: u64) {
        (1..)
            .map(|step| step * (SUBSPACE / 2 - 100_000))
            .take_while(|number| *number < top)
            .for_each(|number| self.takes(number));
        self.takes(top);
    }

    fn takes(&mut self, number: u64) {
        let passed = self.arrive(&[self.packet(number)]);
        assert_eq!(passed, 1, "{number:#x}, {:?}: {:?}", self.options.suite, self.two.drops());
    }

    /// Drops what arrives, as many packets as there are, by this name and no other.
    fn refuses_all(&mut self, packets: &[Vec<u8>], reason: DropReason) {
        let (before, all) = (self.dropped(reason), self.dropped_at_all());
        assert_eq!(self.arrive(packets), 0, "{reason}");
        let count = packets.len() as u64;
        let drops = self.two.drops();
        assert_eq!(self.dropped(reason), before + count, "{reason}, {:?}: {drops:?}", self.options.suite);
        assert_eq!(self.dropped_at_all(), all + count, "{reason} and nothing else: {drops:?}");
    }

    fn refuses(&mut self, number: u64, reason: DropReason) {
        self.refuses_all(&[self.packet(number)], reason);
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.two.dropped(Direction::Inbound, reason)
    }

    fn dropped_at_all(&self) -> u64 {
        self.two.drops().iter().map(|(_, _, count)| count).sum()
    }
}

/// The same packet with its last octet changed.
fn forged(mut packet: Vec<u8>) -> Vec<u8> {
    *packet.last_mut().unwrap() ^= 1;
    packet
}

/// T08: what was received is refused when it comes again, and of many of one number that arrive together the first passes.
#[test]
fn t08_of_one_number_the_first_passes() {
    for sequence in WIDTHS {
        for mut receiver in Receiver::each(Some(64), sequence) {
            let run: Vec<_> = (1..34).map(|number| receiver.packet(number)).collect();
            assert_eq!(receiver.arrive(&run), 33);
            receiver.refuses_all(&run, DropReason::Replayed);
            assert_eq!(receiver.arrive(&vec![receiver.packet(35); 8]), 1);
            assert_eq!(receiver.dropped(DropReason::Replayed), 33 + 7);
        }
    }
}

/// T08: a jump beyond the window is followed, what is in the window then is taken, and what is behind it is late.
#[test]
fn t08_a_jump_is_followed_and_leaves_the_rest_behind() {
    for sequence in WIDTHS {
        for mut receiver in Receiver::each(Some(64), sequence) {
            receiver.takes(35);
            receiver.takes(257);
            receiver.refuses(257, DropReason::Replayed);
            for inside in [200, 194] {
                receiver.takes(inside);
            }
            for behind in [193, 36, 35, 17] {
                receiver.refuses(behind, DropReason::TooOld);
            }
        }
    }
}

/// T08, T09: what does not verify moves no window, and what is too short for that is told apart.
#[test]
fn t08_forged_packets_and_runts_move_nothing() {
    for sequence in WIDTHS {
        for mut receiver in Receiver::each(Some(64), sequence) {
            receiver.takes(257);
            receiver.refuses_all(&vec![forged(receiver.packet(350)); 17], DropReason::IcvMismatch);
            if receiver.options.carrier == Carrier::Udp {
                let runt = receiver.packet(350)[..20].to_vec();
                receiver.refuses_all(&vec![runt; 17], DropReason::Runt);
            }
            receiver.takes(234);
            receiver.refuses(193, DropReason::TooOld);
            receiver.takes(350);
        }
    }
}

/// T10, RFC 4303 appendix A2.2: the two cases of the window on both sides of a wrap, and the beginning, where there is no
/// subspace below. Behind the window a low half looks like one of the next subspace; it is late all the same, or forged.
#[test]
fn t10_both_cases_of_the_window_on_both_sides_of_a_wrap() {
    for mut receiver in Receiver::each(Some(64), SequenceKind::Extended) {
        receiver.takes(5);
        receiver.refuses(SUBSPACE - 10, DropReason::TooOld);
        for wrap in [SUBSPACE, 2 * SUBSPACE] {
            // Case A: the window lies in the subspace that ends.
            receiver.takes(wrap - SUBSPACE / 2);
            receiver.takes(wrap - 20);
            receiver.takes(wrap - 83);
            receiver.refuses(wrap - 84, DropReason::TooOld);
            // Case B: it spans both.
            receiver.takes(wrap + 5);
            receiver.takes(wrap);
            receiver.takes(wrap - 1);
            receiver.takes(wrap - 58);
            receiver.refuses(wrap - 59, DropReason::TooOld);
            for again in [wrap + 5, wrap, wrap - 1, wrap - 20, wrap - 58] {
                receiver.refuses(again, DropReason::Replayed);
            }
            receiver.refuses_all(&[forged(receiver.packet(wrap - 59))], DropReason::IcvMismatch);
            receiver.refuses_all(&[forged(receiver.packet(wrap + 6))], DropReason::IcvMismatch);
            receiver.takes(wrap + 6);
            // Case A again, in the subspace that begins.
            receiver.takes(wrap + 1000);
            receiver.takes(wrap + 937);
            for late in [wrap + 936, wrap + 6, wrap - 1] {
                receiver.refuses(late, DropReason::TooOld);
            }
        }
    }
}

/// RFC 4303 section 3.3.3, T10: 32 bits of numbers end; of 64 the low half begins again, and the peer knows it.
#[test]
fn t10_numbers_of_32_bits_end_and_those_of_64_go_on() {
    for sequence in WIDTHS {
        for mut receiver in Receiver::each(Some(64), sequence) {
            let mut one = Host::new(1, 2, Open);
            one.insert(outbound_entry_at(1, 2, &receiver.options, SUBSPACE - 2));
            one.publish();
            receiver.takes(SUBSPACE / 2);
            let sent: Vec<_> = (0..4).flat_map(|_| one.send(&v4(), NOW).0).collect();
            assert_eq!(receiver.arrive(&sent), sent.len());
            let asked = one.events.try_iter().filter(|event| matches!(event, Event::Acquire { .. })).count();
            let exhausted = one.dropped(Direction::Outbound, DropReason::SeqExhausted);
            let expected = if sequence == SequenceKind::Seq32 { (2, 2, 1) } else { (4, 0, 0) };
            assert_eq!((sent.len(), exhausted, asked), expected, "{:?}", receiver.options.suite);
        }
    }
}

/// T08: twice, late and far ahead, for windows of every size that others have.
#[test]
fn t08_every_size_of_window_is_kept_to() {
    for size in [32, 64, 128, 256, 512, 1024, 2048, 4096, 65536] {
        for sequence in WIDTHS {
            for mut receiver in Receiver::each(Some(size), sequence) {
                let width = u64::from(size);
                for top in [width + 10, 20 * width + 7] {
                    receiver.takes(top);
                    receiver.refuses(top, DropReason::Replayed);
                    receiver.takes(top - width + 1);
                    receiver.refuses(top - width + 1, DropReason::Replayed);
                    receiver.refuses(top - width, DropReason::TooOld);
                }
            }
        }
    }
}

/// T10: the half that is not sent is right for each packet of a train, whatever came before it; and without a window, too,
/// where what is no more than 2^30 below the highest number is of its subspace.
#[test]
fn t10_the_high_half_is_right_for_each_packet_of_a_train() {
    for mut receiver in Receiver::each(Some(64), SequenceKind::Extended) {
        receiver.takes(SUBSPACE - 100);
        receiver.takes(SUBSPACE - 3);
        let train =
            [SUBSPACE - 3, SUBSPACE - 80, SUBSPACE - 1, SUBSPACE + 1, SUBSPACE - 2, SUBSPACE + 1, SUBSPACE];
        let train = train.map(|number| receiver.packet(number));
        assert_eq!(receiver.arrive(&train), 4);
        let refused = [DropReason::Replayed, DropReason::TooOld].map(|reason| receiver.dropped(reason));
        assert_eq!(refused, [2, 1], "{:?}", receiver.options.suite);
    }
    for mut receiver in Receiver::each(None, SequenceKind::Extended) {
        receiver.takes(SUBSPACE / 2);
        for number in [SUBSPACE - 3, SUBSPACE + 1, SUBSPACE - 3, SUBSPACE + 1, SUBSPACE + 2 - SUBSPACE / 4] {
            receiver.takes(number);
        }
        receiver.takes(2 * SUBSPACE - SUBSPACE / 4);
        receiver.takes(2 * SUBSPACE + 5);
        assert_eq!(receiver.dropped_at_all(), 0);
    }
}

/// Receivers of each kind that have taken this number as their highest, with the smallest window and one of 4096.
fn at(top: u64) -> Vec<Receiver> {
    let sizes = [64, 4096].into_iter();
    let mut receivers: Vec<_> =
        sizes.flat_map(|size| Receiver::each(Some(size), SequenceKind::Extended)).collect();
    receivers.iter_mut().for_each(|receiver| receiver.reaches(top));
    receivers
}

impl Receiver {
    const fn window(&self) -> u64 {
        match self.options.anti_replay {
            AntiReplay::Window(size) => size.get() as u64,
            AntiReplay::Off => 0,
        }
    }

    /// Takes the packet of this number once it is not forged, and never again.
    fn takes_once(&mut self, number: u64) {
        self.refuses_all(&[forged(self.packet(number))], DropReason::IcvMismatch);
        self.takes(number);
        self.refuses(number, DropReason::Replayed);
    }
}

/// RFC 4303 appendix A2.2, T10.
#[test]
fn t10_a_within_a_window_in_one_subspace() {
    for top in [5000, SUBSPACE - 1, 3 * SUBSPACE + 5000] {
        for mut receiver in at(top) {
            for below in [1, receiver.window() / 2, receiver.window() - 1] {
                receiver.takes_once(top - below);
            }
            receiver.refuses(top - receiver.window(), DropReason::TooOld);
        }
    }
}

/// RFC 4303 appendix A2.2, T10.
#[test]
fn t10_b_above_a_window_in_one_subspace() {
    for top in [5000, 3 * SUBSPACE + 5000] {
        for mut receiver in at(top) {
            for ahead in [1, 10_000, SUBSPACE / 2, SUBSPACE - 6000] {
                receiver.takes_once(top + ahead);
            }
        }
    }
}

/// RFC 4303 appendix A2.2, T10: it is of the next subspace, unless it is late.
#[test]
fn t10_c_below_a_window_in_one_subspace() {
    for top in [5000, SUBSPACE - 1, 3 * SUBSPACE + 5000] {
        for mut receiver in at(top) {
            let below = top - receiver.window();
            receiver.refuses(below, DropReason::TooOld);
            receiver.refuses_all(&[forged(receiver.packet(below + SUBSPACE))], DropReason::IcvMismatch);
            receiver.takes_once(below + SUBSPACE);
        }
    }
}

/// RFC 4303 appendix A2.2, T10.
#[test]
fn t10_d_in_the_upper_part_of_a_window_in_two_subspaces() {
    for mut receiver in at(2 * SUBSPACE + 50) {
        for low in [49, 1, 0] {
            receiver.takes_once(2 * SUBSPACE + low);
        }
    }
}

/// RFC 4303 appendix A2.2, T10.
#[test]
fn t10_e_above_a_window_in_two_subspaces() {
    for mut receiver in at(2 * SUBSPACE + 50) {
        for low in [51, 60, SUBSPACE / 2] {
            receiver.takes_once(2 * SUBSPACE + low);
        }
    }
    for mut receiver in at(2 * SUBSPACE + 50) {
        // Nothing is further ahead than what has the place just below the window.
        receiver.takes_once(3 * SUBSPACE + 50 - receiver.window());
    }
}

/// RFC 4303 appendix A2.2, T10: it is of the subspace before.
#[test]
fn t10_f_in_the_lower_part_of_a_window_in_two_subspaces() {
    for mut receiver in at(2 * SUBSPACE + 50) {
        for number in [2 * SUBSPACE - 1, 2 * SUBSPACE + 51 - receiver.window()] {
            receiver.takes_once(number);
        }
        receiver.refuses(2 * SUBSPACE + 50 - receiver.window(), DropReason::TooOld);
    }
}

/// RFC 4303 appendix A2.2, T10: the subspace before the first is none, and whatever is sent from there is refused before it is
/// opened.
#[test]
fn t10_g_where_there_is_no_lower_part() {
    for mut receiver in at(50) {
        for number in [SUBSPACE - 1, SUBSPACE + 51 - receiver.window()] {
            receiver.refuses(number, DropReason::TooOld);
        }
        receiver.takes_once(SUBSPACE + 50 - receiver.window());
    }
}
