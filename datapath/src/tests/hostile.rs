//! What nobody honest sends: every length, trains of any size, headers that lie (T03, T04, T21).

use latchway_esp::Suite;
use latchway_tagging::Mode;

use super::{NOW, udp};
use crate::arrival::{Arrival, Carrier};
use crate::drop::Direction;
use crate::fuzz_streets;
use crate::testing::{Host, Open, SaOptions, arrival, joined_by, outer};

fn dropped(host: &Host<Open>) -> u64 {
    host.drops().iter().map(|(_, _, count)| count).sum()
}

/// All short lengths, all near the longest, and some of each size in between.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=300).chain((301..65_400).step_by(977)).chain(65_400..=65_535)
}

/// T03, T04: a datagram or packet of any length is one drop and no more, with an SPI that we have and with any other.
#[test]
fn t03_t04_any_length_is_one_drop() {
    for carrier in [Carrier::Udp, Carrier::Native] {
        let options = SaOptions { carrier, ..SaOptions::new(0x1001, 0) };
        let (_, mut two) = joined_by(&options);
        for fill in [0u8, 0x45, 0xff] {
            for len in lengths() {
                let mut octets = vec![fill; len];
                if let Some(spi) = octets.first_chunk_mut::<4>().filter(|_| fill == 0) {
                    *spi = 0x1001u32.to_be_bytes();
                }
                let before = dropped(&two);
                assert!(two.receive_as(&octets, &arrival(1, len, &options), NOW).is_empty());
                assert_eq!(dropped(&two), before + 1, "{carrier:?} {fill:#x} {len}");
            }
        }
    }
}

/// T04: a train is cut as it says, the last datagram being shorter or not; those that are good among the others pass.
#[test]
fn t04_a_train_of_any_size_is_cut_as_it_says() {
    let options = SaOptions::new(0x1001, 0);
    let (mut one, mut two) = joined_by(&options);
    for segment_size in [1, 2, 7, 8, 60, 77, 1000, 65_535, usize::MAX] {
        let good = one.send(&udp("10.0.1.1:1000", "10.0.2.2:2000", b"good"), NOW).0.remove(0);
        for rest in [0, 1, 59] {
            let segment = if segment_size == 77 { good.len() } else { segment_size };
            let train = [&good[..], &good, &vec![0xee; rest]].concat();
            let before = dropped(&two);
            let passed = two.receive_as(&train, &Arrival::udp(segment, outer(1)), NOW).len() as u64;
            let datagrams = train.len().div_ceil(segment) as u64;
            assert_eq!(passed + dropped(&two) - before, datagrams, "{segment}");
            assert_eq!(passed, u64::from(segment == good.len() && rest == 0), "once, and not again");
        }
    }
    let train = [0xee; 10];
    two.receive_as(&train, &Arrival::udp(0, outer(1)), NOW);
}

/// T03, T21: every octet of an outer header, whatever it says: the packet is dropped by name, or what is inside passes as it was
/// sent, where the octet is one that no key covers. AH covers more.
#[test]
fn t03_t21_headers_that_lie_change_nothing_inside() {
    let ah: Suite = "ah-hmac-sha-256".parse().unwrap();
    for suite in [Suite::AES_128_GCM, ah] {
        for mode in [Mode::Tunnel, Mode::Transport] {
            for outer_v6 in [false, true] {
                let carrier = Carrier::Native;
                let options = SaOptions { suite, mode, outer_v6, carrier, ..SaOptions::new(0x1001, 0) };
                let (mut one, mut two) = joined_by(&options);
                let ends = match (mode, outer_v6) {
                    (Mode::Tunnel, _) => ["10.0.1.1:7", "10.0.2.2:7"],
                    (Mode::Transport, false) => ["192.0.2.1:7", "192.0.2.2:7"],
                    (Mode::Transport, true) => ["[2001:db8::1]:7", "[2001:db8::2]:7"],
                };
                let packet = udp(ends[0], ends[1], b"what was sent");
                let header_len = if outer_v6 { 40 } else { 20 };
                for place in 0..header_len + 12 {
                    for lie in [0, 1, 4, 0x0f, 0x40, 0x46, 0x4f, 0x65, 0x7f, 0x80, 0xff] {
                        let mut sealed = one.send(&packet, NOW).0.remove(0);
                        sealed[place] = lie;
                        let before = dropped(&two);
                        let passed = two.receive_as(&sealed, &arrival(1, sealed.len(), &options), NOW);
                        assert_eq!(passed.len() as u64 + dropped(&two) - before, 1, "{place} {lie:#x}");
                        for inner in passed {
                            assert_eq!(inner.len(), packet.len(), "{place} {lie:#x}");
                            let behind = if mode == Mode::Tunnel { 2 } else { header_len };
                            assert_eq!(inner[behind..], packet[behind..], "{place} {lie:#x}");
                        }
                    }
                }
            }
        }
    }
}

/// T03, T04: the fuzzer's body, over what the corpus does not hold: all short inputs of one octet, and cuts of good packets.
#[test]
fn t03_cuts_of_good_packets_are_dropped() {
    for carrier in [Carrier::Udp, Carrier::Native] {
        let options = SaOptions { carrier, ..SaOptions::new(0x1002, 0) };
        let (mut one, _) = joined_by(&options);
        let sealed = one.send(&udp("10.0.1.1:7", "10.0.2.2:7", b"what was sent"), NOW).0.remove(0);
        assert_eq!(one.dropped(Direction::Outbound, crate::drop::DropReason::NoOutboundSa), 0);
        for len in 0..sealed.len() {
            fuzz_streets::wire(&sealed[..len]);
        }
    }
}
