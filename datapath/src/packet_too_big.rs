//! What an inner sender is told when its packet does not fit the SA: Packet Too Big (RFC 4443 section 3.2), or
//! Destination Unreachable, fragmentation needed (RFC 1191 section 4), as RFC 4301 section 8.2.1 asks for.
//!
//! The message is written by the gateway itself and goes to the inner host alone, so nobody on the wire can cause or
//! forge one (T18). Its MTU is the largest inner packet of the SA that would have carried the packet.

use std::net::IpAddr;

use crate::answer::Answer;
use crate::drop::Direction;
use crate::icmp_error::{IcmpError, is_group, may_be_told};
use crate::limit::Limit;
use crate::oversize::Oversize;
use crate::packet::IpPacket;
use crate::time::Time;

/// Writes the messages, so many per second and no more.
pub(crate) struct PacketTooBig {
    settings: Oversize,
    limit: Limit,
}

/// No host believes less (RFC 8201 section 4, RFC 1191 section 3).
pub(crate) const LEAST_MTU_V6: usize = 1280;
const LEAST_MTU_V4: usize = 68;

impl PacketTooBig {
    pub(crate) const fn new(settings: Oversize) -> Self {
        Self { settings, limit: Limit::full() }
    }

    pub(crate) const fn settings(&self) -> &Oversize {
        &self.settings
    }

    /// Writes the message about a packet of which at most `mtu` octets would have fitted. Returns whether there is one to
    /// be sent: not all packets may be answered, and none that is no larger than every packet must be able to be.
    pub(crate) fn write(&mut self, packet: &[u8], mtu: usize, now: Time, answer: &mut Answer) -> bool {
        let Ok(parsed) = IpPacket::parse(packet, Direction::Outbound) else { return false };
        let (from, to) = (parsed.flow().local().ip(), parsed.flow().remote().ip());
        let packet = parsed.octets();
        let mtu = mtu.max(if from.is_ipv4() { LEAST_MTU_V4 } else { LEAST_MTU_V6 });
        let source = self.settings.source(to);
        if packet.len() <= mtu || !may_be_answered(&parsed) || is_group(source) || !self.limit.allows(now) {
            return false;
        }
        answer.write(|out| too_big(from, mtu).write(out, (source, from), packet))
    }
}

/// Nobody is told that DF was set where it was not (RFC 4301 section 8.2.1 case 2). To multicast, Packet Too Big is the
/// exception that IPv6 makes (RFC 4443 section 2.4e.3).
fn may_be_answered(packet: &IpPacket<'_>) -> bool {
    let may = match packet.flow().remote().ip() {
        to @ IpAddr::V4(_) => {
            !is_group(to) && packet.octets().get(6).is_some_and(|flags| flags & DONT_FRAGMENT != 0)
        }
        IpAddr::V6(_) => true,
    };
    may && may_be_told(packet)
}

/// Destination Unreachable (3), fragmentation needed and DF set (4), with the next hop's MTU (RFC 1191 section 4); or
/// Packet Too Big (RFC 4443 section 3.2).
fn too_big(sender: IpAddr, mtu: usize) -> IcmpError {
    if sender.is_ipv4() {
        let [high, low] = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
        IcmpError { kind: 3, code: 4, rest: [0, 0, high, low] }
    } else {
        IcmpError { kind: 2, code: 0, rest: u32::try_from(mtu).unwrap_or(u32::MAX).to_be_bytes() }
    }
}

/// DF, in the octet that has it (RFC 791 section 3.1).
const DONT_FRAGMENT: u8 = 0x40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Sum;
    use etherparse::{Icmpv4Slice, Icmpv6Slice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
    use std::net::Ipv6Addr;

    const V4: ([u8; 4], [u8; 4]) = ([10, 0, 1, 1], [10, 0, 2, 2]);
    const NOW: Time = Time::from_nanos(1_000_000_000);

    fn udp_v4(from: [u8; 4], to: [u8; 4], len: usize) -> Vec<u8> {
        let mut octets = Vec::new();
        PacketBuilder::ipv4(from, to, 64).udp(7, 8).write(&mut octets, &vec![5; len - 28]).unwrap();
        octets
    }

    fn udp_v6(from: &str, to: &str, len: usize) -> Vec<u8> {
        let mut octets = Vec::new();
        let [from, to] = [from, to].map(|address| address.parse::<Ipv6Addr>().unwrap().octets());
        PacketBuilder::ipv6(from, to, 64).udp(7, 8).write(&mut octets, &vec![5; len - 48]).unwrap();
        octets
    }

    /// The message about a packet, as a stranger reads it: source, destination, MTU, and what it quotes.
    fn about(packet: &[u8], mtu: usize, settings: Oversize) -> Option<(IpAddr, IpAddr, u32, Vec<u8>)> {
        let (mut writer, mut answer) = (PacketTooBig::new(settings), Answer::default());
        writer.write(packet, mtu, NOW, &mut answer).then(|| read(answer.octets()))
    }

    fn read(message: &[u8]) -> (IpAddr, IpAddr, u32, Vec<u8>) {
        let sliced = SlicedPacket::from_ip(message).unwrap();
        match (sliced.net.unwrap(), sliced.transport.unwrap()) {
            (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                assert!(is_intact_v4(&icmp), "checksum");
                assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 4));
                let mtu = u32::from_be_bytes(icmp.bytes5to8());
                (header.source.into(), header.destination.into(), mtu, icmp.payload().to_vec())
            }
            (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
                let header = ip.header().to_header();
                assert!(is_intact_v6(&icmp, header.source, header.destination), "checksum");
                assert_eq!((icmp.type_u8(), icmp.code_u8()), (2, 0));
                let mtu = u32::from_be_bytes(icmp.bytes5to8());
                (header.source.into(), header.destination.into(), mtu, icmp.payload().to_vec())
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_intact_v4(icmp: &Icmpv4Slice<'_>) -> bool {
        Sum::ZERO.bytes(icmp.slice()).is_intact()
    }

    fn is_intact_v6(icmp: &Icmpv6Slice<'_>, source: [u8; 16], destination: [u8; 16]) -> bool {
        icmp.is_checksum_valid(source, destination)
    }

    #[test]
    fn rfc_1191_4_an_ipv4_sender_is_told_the_mtu_and_what_packet_it_was() {
        let packet = udp_v4(V4.0, V4.1, 1400);
        let (source, destination, mtu, quoted) = about(&packet, 1300, Oversize::default()).unwrap();
        assert_eq!((source, destination, mtu), (V4.1.into(), V4.0.into(), 1300));
        assert_eq!(quoted, packet[..548], "as much as 576 octets hold (RFC 1812 4.3.2.3)");
        let own = Oversize { source_v4: Some([10, 0, 1, 254].into()), ..Oversize::default() };
        assert_eq!(about(&packet, 1300, own).unwrap().0, IpAddr::from([10, 0, 1, 254]));
        assert_eq!(about(&packet, 20, Oversize::default()).unwrap().2, 68);
    }

    #[test]
    fn rfc_4443_3_2_an_ipv6_sender_is_told_the_mtu_and_what_packet_it_was() {
        let packet = udp_v6("fd00::1", "fd01::2", 1400);
        let (source, destination, mtu, quoted) = about(&packet, 1300, Oversize::default()).unwrap();
        assert_eq!(
            (source.to_string(), destination.to_string(), mtu),
            ("fd01::2".into(), "fd00::1".into(), 1300)
        );
        assert_eq!(quoted, packet[..1232], "as much as 1280 octets hold (RFC 4443 2.4c)");
        let own = Oversize { source_v6: Some("fd00::fe".parse().unwrap()), ..Oversize::default() };
        assert_eq!(about(&packet, 1300, own).unwrap().0.to_string(), "fd00::fe");
        let group = udp_v6("fd00::1", "ff05::2", 1400);
        assert!(about(&group, 1300, own).is_some(), "RFC 4443 2.4e.3, the exception");
    }

    /// T18, RFC 8201 section 4: nobody is told less than 1280, and who sends no more is told nothing.
    #[test]
    fn t18_no_ipv6_sender_is_told_less_than_1280() {
        let packet = udp_v6("fd00::1", "fd01::2", 1400);
        assert_eq!(about(&packet, 900, Oversize::default()).unwrap().2, 1280);
        assert_eq!(about(&udp_v6("fd00::1", "fd01::2", 1280), 900, Oversize::default()), None);
    }

    #[test]
    fn rfc_1122_3_2_2_and_rfc_4443_2_4e_some_packets_are_never_answered() {
        let icmp = |kind: u8| {
            let mut octets = udp_v4(V4.0, V4.1, 1400);
            (octets[9], octets[20]) = (1, kind);
            octets
        };
        for kind in [3, 4, 5, 11, 12] {
            assert_eq!(about(&icmp(kind), 1300, Oversize::default()), None, "ICMP {kind}");
            let mut first = icmp(kind);
            first[6] |= 0x20;
            assert_eq!(about(&first, 1300, Oversize::default()), None, "a first fragment of ICMP {kind}");
        }
        let mut without_df = udp_v4(V4.0, V4.1, 1400);
        without_df[6] = 0;
        assert_eq!(about(&without_df, 1300, Oversize::default()), None, "DF is clear");
        assert!(about(&icmp(8), 1300, Oversize::default()).is_some(), "an echo request is no error");
        let mut later = udp_v4(V4.0, V4.1, 1400);
        later[7] = 100;
        assert_eq!(about(&later, 1300, Oversize::default()), None, "a later fragment");
        for (from, to) in [
            ([0, 0, 0, 0], V4.1),
            ([127, 0, 0, 1], V4.1),
            ([224, 0, 1, 1], V4.1),
            ([255; 4], V4.1),
            ([240, 0, 0, 1], V4.1),
            (V4.0, [224, 0, 1, 1]),
            (V4.0, [255; 4]),
        ] {
            assert_eq!(about(&udp_v4(from, to, 1400), 1300, Oversize::default()), None, "{from:?} {to:?}");
        }
        for (from, to) in
            [("::", "fd01::2"), ("ff05::1", "fd01::2"), ("::1", "fd01::2"), ("fd00::1", "ff05::2")]
        {
            assert_eq!(about(&udp_v6(from, to, 1400), 1300, Oversize::default()), None, "{from} {to}");
        }
        let mut icmp_v6 = udp_v6("fd00::1", "fd01::2", 1400);
        icmp_v6[6] = 58;
        for (kind, answered) in [(1, false), (2, false), (127, false), (128, true), (129, true), (137, false)]
        {
            icmp_v6[40] = kind;
            assert_eq!(about(&icmp_v6, 1300, Oversize::default()).is_some(), answered, "ICMPv6 {kind}");
        }
    }

    #[test]
    fn rfc_4443_2_4f_messages_are_limited() {
        let packet = udp_v4(V4.0, V4.1, 1400);
        let (mut writer, mut answer) = (PacketTooBig::new(Oversize::default()), Answer::default());
        let sent = (0..1000).filter(|_| writer.write(&packet, 1300, NOW, &mut answer)).count();
        assert_eq!(sent, 50, "a burst");
    }
}
