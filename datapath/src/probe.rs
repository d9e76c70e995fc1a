//! What asks whether a packet of some size passes: an ICMP echo request of exactly that size through the tunnel (RFC 792,
//! RFC 4443 section 4.1), from an inner address on our side to one on the peer's.
//!
//! What comes back is believed because an SA of the peer authenticated it, and is known by what nobody can guess. Besides the
//! answer itself, an ICMP error about the request will do: it, too, has met the request behind the tunnel. Neither reaches
//! the inner hosts.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use zerocopy::{FromBytes, IntoBytes};

use crate::checksum::Sum;
use crate::flow::protocol;
use crate::packet::{Fragment, FragmentId, IpPacket, Upper};
use crate::pmtu::ProbeEnds;
use crate::segment::header::{DONT_FRAGMENT, Ipv4, Ipv6};

/// One request, and how its answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) ends: ProbeEnds,
    /// The size that it asks about, in octets of outer packet.
    pub(crate) size: u16,
    /// The octets that it has as an outer packet, which padding may leave a few below that.
    pub(crate) octets: u16,
    secret: Secret,
    /// The fragments in which its answer comes.
    fragments: Option<FragmentId>,
}

/// What only who received the request knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Secret {
    /// Identifier and sequence number.
    id: [u8; 4],
    nonce: [u8; 16],
}

/// Where secrets come from: a keyed hash of a counter, under a key of the system's.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    key: RandomState,
    drawn: u64,
}

impl Secrets {
    fn draw(&mut self) -> Secret {
        let word = |part: u8| self.key.hash_one((self.drawn, part)).to_ne_bytes();
        let ([a, b, c, d, ..], one, two) = (word(0), word(1), word(2));
        self.drawn += 1;
        let mut nonce = [0; 16];
        for (to, from) in nonce.iter_mut().zip(one.into_iter().chain(two)) {
            *to = from;
        }
        Secret { id: [a, b, c, d], nonce }
    }
}

impl Probe {
    pub(crate) fn new(ends: ProbeEnds, (size, octets): (u16, u16), secrets: &mut Secrets) -> Self {
        Self { ends, size, octets, secret: secrets.draw(), fragments: None }
    }

    /// Writes the request as an inner packet of `len` octets to the front of `out`. DF is set, so that nothing on the way
    /// cuts it, inside or outside of the tunnel.
    pub(crate) fn write(&self, len: usize, out: &mut [u8]) -> Option<usize> {
        let packet = out.get_mut(..len)?;
        packet.fill(0);
        match (self.ends.from, self.ends.to) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (ip, icmp) = packet.split_at_mut_checked(size_of::<Ipv4>())?;
                self.write_request(ECHO_V4.request, Sum::ZERO, icmp)?;
                let mut header = Ipv4 {
                    version_ihl: 0x45,
                    tos: 0,
                    total_len: u16::try_from(len).ok()?.into(),
                    id: 0.into(),
                    fragment: DONT_FRAGMENT.into(),
                    ttl: 64,
                    protocol: protocol::ICMP,
                    checksum: [0; 2],
                    source: source.octets(),
                    destination: destination.octets(),
                };
                header.checksum = Sum::ZERO.bytes(header.as_bytes()).checksum();
                ip.copy_from_slice(header.as_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (ip, icmp) = packet.split_at_mut_checked(size_of::<Ipv6>())?;
                let payload_len = u16::try_from(icmp.len()).ok()?;
                let pseudo = Sum::pseudo_v6(source, destination, protocol::ICMPV6).u16(payload_len);
                self.write_request(ECHO_V6.request, pseudo, icmp)?;
                let header = Ipv6 {
                    version_class_label: (6 << 28).into(),
                    payload_len: payload_len.into(),
                    next_header: protocol::ICMPV6,
                    hop_limit: 64,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                ip.copy_from_slice(header.as_bytes());
            }
            _ => return None,
        }
        Some(len)
    }

    /// Whether an authenticated packet says that the request arrived, or is the rest of one that did.
    pub(crate) fn is_answered_by(&mut self, packet: &IpPacket<'_>) -> bool {
        let flow = packet.flow();
        if flow.local().ip() != self.ends.from {
            return false;
        }
        match *packet.upper() {
            Upper::LaterFragment(Fragment { id, .. }) => {
                let is_icmp = matches!(flow.protocol(), protocol::ICMP | protocol::ICMPV6);
                is_icmp && self.fragments == Some(id) && flow.remote().ip() == self.ends.to
            }
            Upper::FirstFragment(Fragment { id, .. }) => {
                let is_answer = self.is_answer(packet);
                if is_answer {
                    self.fragments = Some(id);
                }
                is_answer
            }
            Upper::Icmp { .. } => self.is_answer(packet) || self.is_error_about(packet),
            _ => false,
        }
    }

    fn write_request(&self, kind: u8, pseudo: Sum, icmp: &mut [u8]) -> Option<()> {
        let (header, body) = icmp.split_first_chunk_mut::<8>()?;
        let Secret { id: [a, b, c, d], nonce } = self.secret;
        *header = [kind, 0, 0, 0, a, b, c, d];
        *body.first_chunk_mut()? = nonce;
        let [high, low] = pseudo.bytes(icmp).checksum();
        (*icmp.get_mut(2)?, *icmp.get_mut(3)?) = (high, low);
        Some(())
    }

    fn is_answer(&self, packet: &IpPacket<'_>) -> bool {
        let Some((icmp, echo)) = message(packet.octets()) else { return false };
        packet.flow().remote().ip() == self.ends.to && self.is_in(icmp, echo.answer)
    }

    /// Whether it is an ICMP error that encloses the request (RFC 792, RFC 4443 section 3).
    fn is_error_about(&self, packet: &IpPacket<'_>) -> bool {
        let Some((icmp, echo)) = message(packet.octets()) else { return false };
        let Some((header, enclosed)) = icmp.split_first_chunk::<8>() else { return false };
        let Some((about, _)) = message(enclosed) else { return false };
        echo.errors.contains(&header[0])
            && ends(enclosed) == Some((self.ends.from, self.ends.to))
            && self.is_in(about, echo.request)
    }

    /// Whether an ICMP message of this type has the secret; one that is quoted may be cut off behind its header.
    fn is_in(&self, icmp: &[u8], kind: u8) -> bool {
        let Some((&[of, code, _, _, a, b, c, d], body)) = icmp.split_first_chunk::<8>() else { return false };
        let nonce = body.get(..body.len().min(self.secret.nonce.len())).unwrap_or_default();
        (of, code) == (kind, 0) && [a, b, c, d] == self.secret.id && self.secret.nonce.starts_with(nonce)
    }
}

/// The types of a family's ICMP.
struct Echo {
    request: u8,
    answer: u8,
    errors: &'static [u8],
}

const ECHO_V4: Echo = Echo { request: 8, answer: 0, errors: &[3, 11, 12] };
const ECHO_V6: Echo = Echo { request: 128, answer: 129, errors: &[1, 2, 3, 4] };

/// The ICMP message in a packet, as far as the packet goes, and what its types mean.
fn message(packet: &[u8]) -> Option<(&[u8], &'static Echo)> {
    match packet.first()? >> 4 {
        4 => {
            let (ip, _) = Ipv4::ref_from_prefix(packet).ok()?;
            let at = usize::from(ip.version_ihl & 15) * 4;
            Some((packet.get(at..).filter(|_| ip.protocol == protocol::ICMP)?, &ECHO_V4))
        }
        6 => {
            let (ip, payload) = Ipv6::ref_from_prefix(packet).ok()?;
            let icmp = match (ip.next_header, payload) {
                (protocol::ICMPV6, icmp) | (FRAGMENT, [protocol::ICMPV6, _, _, _, _, _, _, _, icmp @ ..]) => {
                    icmp
                }
                _ => return None,
            };
            Some((icmp, &ECHO_V6))
        }
        _ => None,
    }
}

/// From whom to whom a packet is.
fn ends(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    if packet.first()? >> 4 == 4 {
        let (ip, _) = Ipv4::ref_from_prefix(packet).ok()?;
        return Some((ip.source.into(), ip.destination.into()));
    }
    let (ip, _) = Ipv6::ref_from_prefix(packet).ok()?;
    Some((ip.source.into(), ip.destination.into()))
}

const FRAGMENT: u8 = 44;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drop::Direction;
    use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

    fn probe(v6: bool) -> Probe {
        let end = |host: u8| -> IpAddr {
            let text = if v6 { format!("fd00:{host}::9") } else { format!("10.0.{host}.9") };
            text.parse().unwrap()
        };
        let ends = ProbeEnds { from: end(1), to: end(2) };
        Probe::new(ends, (1500, 1497), &mut Secrets::default())
    }

    fn request(probe: &Probe, len: usize) -> Vec<u8> {
        let mut out = vec![0xaa; 2000];
        assert_eq!(probe.write(len, &mut out), Some(len));
        assert!(out[len..].iter().all(|&octet| octet == 0xaa), "nothing behind it");
        out.truncate(len);
        out
    }

    /// What a host makes of a request: the addresses and the type exchanged, the rest as it was.
    fn answer(probe: &Probe, request: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        match (probe.ends.from, probe.ends.to, SlicedPacket::from_ip(request).unwrap().transport) {
            (IpAddr::V4(from), IpAddr::V4(to), Some(TransportSlice::Icmpv4(icmp))) => {
                let Icmpv4Type::EchoRequest(echo) = icmp.icmp_type() else { panic!("{icmp:?}") };
                let builder = PacketBuilder::ipv4(to.octets(), from.octets(), 64);
                builder.icmpv4_echo_reply(echo.id, echo.seq).write(&mut octets, icmp.payload()).unwrap();
            }
            (IpAddr::V6(from), IpAddr::V6(to), Some(TransportSlice::Icmpv6(icmp))) => {
                let Icmpv6Type::EchoRequest(echo) = icmp.icmp_type() else { panic!("{icmp:?}") };
                let builder = PacketBuilder::ipv6(to.octets(), from.octets(), 64);
                builder.icmpv6_echo_reply(echo.id, echo.seq).write(&mut octets, icmp.payload()).unwrap();
            }
            other => panic!("{other:?}"),
        }
        octets
    }

    fn hears(probe: &mut Probe, packet: &[u8]) -> bool {
        probe.is_answered_by(&IpPacket::parse(packet, Direction::Inbound).unwrap())
    }

    /// RFC 792, RFC 4443 4.1: of every length, and right to a stranger.
    #[test]
    fn rfc_792_a_request_has_exactly_the_octets_asked_for() {
        for v6 in [false, true] {
            let probe = probe(v6);
            let least = if v6 { 40 + 24 } else { 20 + 24 };
            for len in least..=1600 {
                let octets = request(&probe, len);
                let sliced = SlicedPacket::from_ip(&octets).unwrap();
                match (sliced.net.unwrap(), sliced.transport.unwrap()) {
                    (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
                        let header = ip.header().to_header();
                        assert_eq!(header.header_checksum, header.calc_header_checksum());
                        assert!(header.dont_fragment && Sum::ZERO.bytes(icmp.slice()).is_intact());
                    }
                    (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
                        let header = ip.header().to_header();
                        assert!(icmp.is_checksum_valid(header.source, header.destination));
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(IpPacket::parse(&octets, Direction::Outbound).unwrap().octets().len(), len);
            }
            assert_eq!(probe.write(least - 1, &mut [0; 200]), None, "no room for the secret");
            assert_eq!(probe.write(1500, &mut [0; 200]), None);
        }
    }

    /// T18: the answer proves it; who does not know the secret cannot make one.
    #[test]
    fn t18_an_answer_is_known_by_what_nobody_can_guess() {
        for v6 in [false, true] {
            let mut probe = probe(v6);
            let octets = answer(&probe, &request(&probe, 1400));
            assert!(hears(&mut probe, &octets));
            assert!(!hears(&mut probe.clone(), &request(&probe, 1400)), "a request is no answer");
            let icmp = if v6 { 40 } else { 20 };
            // Type, code, identifier, sequence number, nonce; not the checksum, which ESP made needless.
            for place in (icmp..icmp + 2).chain(icmp + 4..icmp + 24) {
                let mut forged = octets.clone();
                forged[place] ^= 1;
                assert!(!hears(&mut probe, &forged), "octet {place}");
            }
            for place in if v6 { [8, 39] } else { [12, 19] } {
                let mut forged = octets.clone();
                forged[place] ^= 1;
                assert!(!hears(&mut probe, &forged), "another's address");
            }
            let mut secrets = Secrets::default();
            let others: Vec<_> =
                (0..100).map(|_| Probe::new(probe.ends, (1500, 1497), &mut secrets)).collect();
            for mut other in others.iter().copied() {
                assert!(!hears(&mut other, &octets));
            }
            assert!(others.windows(2).all(|two| two[0].secret.nonce != two[1].secret.nonce));
        }
    }

    /// An answer in fragments is one by its first, and the rest of it goes the same way.
    #[test]
    fn an_answer_in_fragments_is_taken_whole() {
        let mut probe = probe(false);
        let mut octets = answer(&probe, &request(&probe, 1400));
        octets[6] = 0;
        let mut fragments = crate::refragment::Fragments::of(&octets, 600).unwrap();
        let (mut out, mut last, mut taken) = (vec![0; 600], Vec::new(), 0);
        while let Some(len) = fragments.write_next(&mut out) {
            last = out[..len].to_vec();
            assert!(hears(&mut probe, &last), "fragment {taken}");
            taken += 1;
        }
        assert_eq!(taken, 3);
        // RFC 791 section 3.2: identifications are of a protocol, and the host's own datagrams have some, too.
        for (place, octet) in [(5, last[5] ^ 1), (9, protocol::UDP)] {
            let mut other = last.clone();
            other[place] = octet;
            assert!(!hears(&mut probe, &other), "of another datagram");
        }
        let mut probe = super::tests::probe(true);
        let whole = answer(&probe, &request(&probe, 1400));
        let fragment = |offset: u16, more: u16, data: &[u8]| {
            let [high, low] = (offset | more).to_be_bytes();
            let mut octets = whole[..40].to_vec();
            octets[6] = FRAGMENT;
            octets[4..6].copy_from_slice(&u16::try_from(8 + data.len()).unwrap().to_be_bytes());
            octets.extend([58, 0, high, low, 0, 0, 0, 7]);
            octets.extend(data);
            octets
        };
        assert!(!hears(&mut probe, &fragment(600, 0, &whole[640..])), "before the first: not known yet");
        assert!(hears(&mut probe, &fragment(0, 1, &whole[40..640])));
        assert!(hears(&mut probe, &fragment(600, 0, &whole[640..])));
    }

    /// A router behind the peer that sends the request back has met it: RFC 792, RFC 4443 3.2.
    #[test]
    fn an_error_about_the_request_proves_that_it_passed() {
        for v6 in [false, true] {
            let mut probe = probe(v6);
            let request = request(&probe, 1400);
            let from = probe.ends.from;
            let error = |kind: u8, quoted: &[u8]| {
                let mut octets = Vec::new();
                let body = [&[0; 4][..], quoted].concat();
                if v6 {
                    let builder = PacketBuilder::ipv6([9; 16], ip_octets(from), 64);
                    builder.icmpv6_raw(kind, 0, [0; 4]).write(&mut octets, &body[4..]).unwrap();
                } else {
                    let builder = PacketBuilder::ipv4([10, 0, 2, 1], ip_octets(from), 64);
                    builder.icmpv4_raw(kind, 0, [0; 4]).write(&mut octets, &body[4..]).unwrap();
                }
                octets
            };
            let (kind, least) = if v6 { (2, 48) } else { (3, 28) };
            for quoted in [least, least + 8, least + 16, 500] {
                let octets = error(kind, &request[..quoted]);
                assert!(hears(&mut probe.clone(), &octets), "{quoted}");
                let mut forged = request[..quoted].to_vec();
                forged[least - 1] ^= 1;
                assert!(!hears(&mut probe.clone(), &error(kind, &forged)), "another request");
            }
            assert!(!hears(&mut probe.clone(), &error(kind, &request[..least - 1])), "too little is quoted");
            assert!(!hears(&mut probe, &error(if v6 { 130 } else { 5 }, &request)), "no error");
        }
    }

    fn ip_octets<const N: usize>(address: IpAddr) -> [u8; N] {
        match address {
            IpAddr::V4(address) => address.octets().as_slice().try_into().unwrap(),
            IpAddr::V6(address) => address.octets().as_slice().try_into().unwrap(),
        }
    }
}
