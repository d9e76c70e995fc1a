//! TCP segments kept to what an SA leaves: the maximum segment size of a SYN is lowered, never raised (RFC 9293 section
//! 3.7.1, RFC 4459 section 3.2).
//!
//! For connections whose ends do not hear, or do not heed, that a packet was too big. Only the option's value and the
//! checksum change (RFC 1624); options that cannot be read are left as they are, and so is a SYN that has none.

use latchway_tagging::SaRef;

use crate::gateway::Datapath;
use crate::owned::OwnedOutbound;
use crate::packet::flags;
use crate::ulp::Ulp;

impl OwnedOutbound {
    /// Has what a packet opens or accepts be no longer than what fits, where it opens or accepts a connection.
    pub(crate) fn keep_short(&self, packet: Option<&mut [u8]>) {
        if let Some(packet) = packet {
            clamp(packet, self.max_payload);
        }
    }
}

impl<U: Ulp> Datapath<U> {
    /// The same for what came under an SA, by what is sent back under its partner.
    #[cold]
    pub(crate) fn keep_short(&mut self, inbound: SaRef, packet: Option<&mut [u8]>) {
        let partner = self.snapshot.sad.get(inbound).and_then(|slot| slot.entry.partner);
        if let Some(partner) = partner
            && self.sas.outbound(partner).is_some_and(|owned| owned.clamp_mss)
            && let (Some(packet), Some(most)) = (packet, self.sas.longest_inner(partner))
        {
            clamp(packet, most);
        }
    }
}

/// Lowers what the SYN in `packet` announces to what fits inner packets of `most` octets. Returns whether it did. Anything
/// but a SYN is left alone.
pub(crate) fn clamp(packet: &mut [u8], most: usize) -> bool {
    let Some((at, ip_len)) = tcp_at(packet) else { return false };
    // What a segment may carry does not count options, of either header (RFC 6691 section 2).
    let Ok(most) = u16::try_from(most.saturating_sub(ip_len + TCP_LEN)) else { return false };
    let Some(tcp) = packet.get_mut(at..) else { return false };
    let Some(&[.., offset, flags, _, _, _, _, _, _]) = tcp.first_chunk::<TCP_LEN>() else { return false };
    let len = usize::from(offset >> 4) * 4;
    match tcp.get_mut(..len) {
        Some(header) if flags & flags::SYN != 0 => lower(header, most),
        _ => false,
    }
}

/// Where the TCP header of a packet begins, and the length of its IP header without what may come behind it.
fn tcp_at(packet: &[u8]) -> Option<(usize, usize)> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<IPV4_LEN>()?;
            let is_later_fragment = (header[6] & 0x1f, header[7]) != (0, 0);
            let len = usize::from(header[0] & 0x0f) * 4;
            (header[9] == TCP && !is_later_fragment && len >= IPV4_LEN).then_some((len, IPV4_LEN))
        }
        6 => Some((behind_extensions(packet)?, IPV6_LEN)),
        _ => None,
    }
}

/// Where the TCP header of an IPv6 packet begins (RFC 8200 section 4).
fn behind_extensions(packet: &[u8]) -> Option<usize> {
    let (mut next, mut at) = (*packet.get(6)?, IPV6_LEN);
    for _ in 0..MAX_EXTENSIONS {
        let &[after, len, high, low, ..] = packet.get(at..)? else { return None };
        at += match next {
            TCP => return Some(at),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => 8 + 8 * usize::from(len),
            // Of a datagram's fragments only the first has the header.
            FRAGMENT if u16::from_be_bytes([high, low]) & 0xfff8 == 0 => 8,
            _ => return None,
        };
        next = after;
    }
    None
}

/// Lowers the option of a whole TCP header.
fn lower(header: &mut [u8], most: u16) -> bool {
    let (mut at, mut lowered) = (TCP_LEN, false);
    while let Some(&kind) = header.get(at) {
        let len = match kind {
            END_OF_OPTIONS => break,
            NO_OPERATION => 1,
            _ => usize::from(header.get(at + 1).copied().unwrap_or(0)),
        };
        // One that is no option, or is cut off, is the end of what can be read.
        let is_whole = (kind == NO_OPERATION || len >= 2) && at + len <= header.len();
        if !is_whole {
            break;
        }
        if (kind, len) == (MAXIMUM_SEGMENT_SIZE, 4) {
            lowered |= lower_value(header, at + 2, most).is_some();
        }
        at += len;
    }
    lowered
}

/// RFC 1624 section 3, equation 3. A value at an odd place is in the sum with its octets exchanged (RFC 1071 section 2).
fn lower_value(header: &mut [u8], at: usize, most: u16) -> Option<()> {
    let value: &mut [u8; 2] = header.get_mut(at..)?.first_chunk_mut()?;
    let before = u16::from_be_bytes(*value);
    if before <= most {
        return None;
    }
    *value = most.to_be_bytes();
    let summed = |value: u16| if at.is_multiple_of(2) { value } else { value.swap_bytes() };
    let field: &mut [u8; 2] = header.get_mut(CHECKSUM_AT..)?.first_chunk_mut()?;
    let terms = [!u16::from_be_bytes(*field), !summed(before), summed(most)];
    let sum = terms.into_iter().map(u32::from).sum::<u32>();
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    // Two folds bring what three terms add up to below 2^16.
    *field = (!(sum as u16)).to_be_bytes();
    Some(())
}

/// The body of the fuzz target: any octets, as a packet. A clamped packet differs in values of the option and in the
/// checksum alone, no value is raised, and a second time nothing is left to do.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(data: &[u8]) {
    let Some(([high, low], before)) = data.split_first_chunk() else { return };
    let most = usize::from(u16::from_be_bytes([*high, *low]));
    let mut after = before.to_vec();
    let lowered = clamp(&mut after, most);
    assert_eq!(lowered, after != before, "what is said to be lowered is");
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    // Ten options of four octets each are all that a header holds.
    assert!(changed <= 2 + 2 * 10, "{changed} octets changed");
    assert!(!clamp(&mut after, most), "once is enough");
}

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const TCP_LEN: usize = 20;
const CHECKSUM_AT: usize = 16;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const MAX_EXTENSIONS: usize = 8;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sad::Role;
    use crate::testing::{Host, Open, joined};
    use crate::time::Time;
    use etherparse::{PacketBuilder, SlicedPacket, TcpHeader, TransportSlice};

    /// A TCP packet of one family with these options.
    fn packet(v6: bool, flags: u8, options: &[u8]) -> Vec<u8> {
        let mut tcp = TcpHeader::new(40000, 443, 7, 1000);
        (tcp.syn, tcp.ack) = (flags & flags::SYN != 0, flags & flags::ACK != 0);
        tcp.set_options_raw(options).unwrap();
        let ip = if v6 {
            PacketBuilder::ipv6([1; 16], [2; 16], 64)
        } else {
            PacketBuilder::ipv4([10, 0, 1, 1], [10, 0, 2, 2], 64)
        };
        let mut octets = Vec::new();
        ip.tcp_header(tcp).write(&mut octets, &[]).unwrap();
        octets
    }

    /// Where the TCP header begins, its options, and whether its checksum is right, as a stranger reads them.
    fn read(packet: &[u8]) -> (Vec<u8>, bool) {
        let sliced = SlicedPacket::from_ip(packet).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        let header = tcp.to_header();
        let checksum = match sliced.net.unwrap() {
            etherparse::NetSlice::Ipv4(ip) => {
                header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload())
            }
            etherparse::NetSlice::Ipv6(ip) => {
                header.calc_checksum_ipv6(&ip.header().to_header(), tcp.payload())
            }
            other => panic!("{other:?}"),
        };
        (tcp.options().to_vec(), checksum.unwrap() == header.checksum)
    }

    fn mss(value: u16) -> [u8; 4] {
        let [high, low] = value.to_be_bytes();
        [MAXIMUM_SEGMENT_SIZE, 4, high, low]
    }

    /// Both directions through an SA that clamps, and through one that does not (RFC 9293 3.7.1).
    #[test]
    fn rfc_9293_3_7_1_syns_are_clamped_both_ways_where_that_is_wanted() {
        for clamp_mss in [false, true] {
            let (mut one, mut two) = joined(Open, Open);
            revise(&mut one, clamp_mss);
            let syn = |v6: bool, from: u8, to: u8| {
                let mut octets = packet(v6, flags::SYN, &mss(8960));
                let end = |host: u8| -> Vec<u8> {
                    let v6_end = [&[0xfd, 0, 0, host][..], &[0; 11], &[9]].concat();
                    if v6 { v6_end } else { vec![10, 0, host, 9] }
                };
                let at = if v6 { 8 } else { 12 };
                let ends = [end(from), end(to)].concat();
                octets[at..at + ends.len()].copy_from_slice(&ends);
                octets
            };
            let announced = |packet: &[u8]| {
                let (options, _) = read(packet);
                u16::from_be_bytes([options[2], options[3]])
            };
            for (v6, most) in [(false, 1438 - 40), (true, 1438 - 60)] {
                let expected = if clamp_mss { most } else { 8960 };
                let sent = one.send(&syn(v6, 1, 2), Time::default()).0;
                let arrived = two.receive(&sent[0], Time::default());
                assert_eq!(announced(&arrived[0]), expected, "outbound, IPv6 {v6}");
                let sent = two.send(&syn(v6, 2, 1), Time::default()).0;
                let arrived = one.receive(&sent[0], Time::default());
                assert_eq!(announced(&arrived[0]), expected, "inbound, IPv6 {v6}");
            }
        }
    }

    /// Has the first host's SAs be partners, of which the outbound one clamps or does not.
    fn revise(host: &mut Host<Open>, clamp_mss: bool) {
        let entries: Vec<_> = host.snapshot.sad.iter().map(|slot| (*slot.entry).clone()).collect();
        for mut entry in entries.clone() {
            entry.partner = entries.iter().map(|other| other.sa).find(|&sa| sa != entry.sa);
            if let Role::Outbound { shape, .. } = &mut entry.role {
                shape.sizing.clamp_mss = clamp_mss;
            }
            assert!(host.snapshot.sad.revise(entry.into()));
        }
        host.publish();
    }

    /// RFC 9293 3.7.1: less the headers without their options, of both families, of SYN and SYN-ACK, wherever it stands.
    #[test]
    fn rfc_9293_3_7_1_a_syn_announces_what_fits_and_its_checksum_stays_right() {
        for (v6, headers) in [(false, 40), (true, 60)] {
            for flags in [flags::SYN, flags::SYN | flags::ACK] {
                for before in (0..=u16::MAX).step_by(97) {
                    // At an even place, and at an odd one.
                    let even = [&mss(before)[..], &[1, 3, 3, 7]].concat();
                    let odd = [&[1][..], &mss(before), &[3, 3, 7]].concat();
                    for (options, at) in [(even, 2), (odd, 3)] {
                        let (mut clamped, most) = (packet(v6, flags, &options), 1400);
                        let lowers = usize::from(before) > most - headers;
                        assert_eq!(clamp(&mut clamped, most), lowers, "{before}");
                        let (now, intact) = read(&clamped);
                        let mut expected = options.clone();
                        if lowers {
                            let most = u16::try_from(most - headers).unwrap();
                            expected[at..at + 2].copy_from_slice(&most.to_be_bytes());
                        }
                        assert_eq!((now, intact), (expected, true), "IPv6 {v6}, {before}");
                    }
                }
            }
        }
    }

    /// What is no SYN, or has no such option, is left alone: nothing is added.
    #[test]
    fn rfc_9293_3_7_1_nothing_but_the_option_of_a_syn_is_touched() {
        for v6 in [false, true] {
            let ack = packet(v6, flags::ACK, &mss(9000));
            let none = packet(v6, flags::SYN, &[1, 1, 4, 2]);
            let mut later = packet(false, flags::SYN, &mss(9000));
            later[7] = 1;
            let mut udp = packet(v6, flags::SYN, &mss(9000));
            udp[if v6 { 6 } else { 9 }] = 17;
            for before in [ack, none, later, udp] {
                let mut after = before.clone();
                assert!(!clamp(&mut after, 1400));
                assert_eq!(after, before);
            }
        }
    }

    /// Options that cannot be read end the walk; what came before them is lowered all the same.
    #[test]
    fn malformed_options_are_left_alone() {
        for (options, lowers) in [
            (vec![2, 0, 0x23, 0x28], false),
            (vec![2, 1, 0x23, 0x28], false),
            (vec![2, 3, 0x23, 0x28], false),
            (vec![2, 5, 0x23, 0x28], false),
            (vec![2, 255, 0x23, 0x28], false),
            (vec![1, 1, 1, 2], false),
            (vec![0, 2, 4, 0x23, 0x28, 0, 0, 0], false),
            (vec![9, 0, 2, 4, 0x23, 0x28, 0, 0], false),
            (vec![2, 4, 0x23, 0x28, 9, 0, 0, 0], true),
            (vec![9, 2, 2, 4, 0x23, 0x28, 1, 1], true),
        ] {
            let before = packet(false, flags::SYN, &options);
            let mut after = before.clone();
            assert_eq!(clamp(&mut after, 1400), lowers, "{options:?}");
            assert_eq!(after != before, lowers);
            assert!(read(&after).1, "{options:?}");
        }
        // A header that claims to be longer than the packet, or shorter than a header.
        for offset in [0x00, 0x40, 0xf0] {
            let mut octets = packet(false, flags::SYN, &mss(9000));
            octets[32] = offset;
            let before = octets.clone();
            assert!(!clamp(&mut octets, 1400) && octets == before, "{offset}");
        }
    }

    /// T21: behind IPv6 extension headers, and only in the first fragment.
    #[test]
    fn t21_the_option_is_found_behind_extension_headers() {
        let plain = packet(true, flags::SYN, &mss(9000));
        let with = |next: u8, extension: &[u8]| {
            let mut octets = plain.clone();
            octets[6] = next;
            octets.splice(40..40, extension.iter().copied());
            octets
        };
        let options = [&[6, 1][..], &[0; 14]].concat();
        for next in [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS] {
            assert!(clamp(&mut with(next, &options), 1400), "{next}");
            assert!(!clamp(&mut with(next, &[6, 255]), 1400), "too short");
        }
        assert!(clamp(&mut with(FRAGMENT, &[6, 0, 0, 1, 0, 0, 0, 9]), 1400));
        assert!(!clamp(&mut with(FRAGMENT, &[6, 0, 0, 9, 0, 0, 0, 9]), 1400));
        let chain = [HOP_BY_HOP, 0, 0, 0, 0, 0, 0, 0].repeat(20);
        assert!(!clamp(&mut with(HOP_BY_HOP, &chain), 1400), "a chain without end");
    }

    /// T20: cut off anywhere, it is left alone or lowered, and never read beyond its end.
    #[test]
    fn t20_a_packet_cut_off_anywhere_is_no_harm() {
        for v6 in [false, true] {
            let whole = packet(v6, flags::SYN, &[&[1, 1, 1][..], &mss(9000), &[0]].concat());
            for len in 0..=whole.len() {
                for most in [0, 39, 40, 61, 1400, 70_000] {
                    let mut cut = whole[..len].to_vec();
                    clamp(&mut cut, most);
                }
                fuzz(&[&[5, 120][..], &whole[..len]].concat());
            }
        }
    }

    /// Every octet of a SYN turned into every other value: only the option and the checksum change, and only downwards.
    #[test]
    fn every_mutation_of_a_syn_is_lowered_or_left_alone() {
        for v6 in [false, true] {
            let whole = packet(v6, flags::SYN, &[&mss(1460)[..], &mss(9000), &[1, 3, 3, 7]].concat());
            for place in 0..whole.len() {
                for value in 0..=u8::MAX {
                    let mut data = [&[5, 120][..], &whole].concat();
                    data[2 + place] = value;
                    fuzz(&data);
                }
            }
        }
    }
}
