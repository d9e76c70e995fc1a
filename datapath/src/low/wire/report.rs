//! What the error queue of a wire says (ip(7), IP_RECVERR): ICMP errors about our packets, which anybody may have written.
//!
//! Only "fragmentation needed" (RFC 1191) and "packet too big" (RFC 4443 section 3.2) are handed on, as hints (T18). The rest
//! is taken from the queue and forgotten: nothing that arrives there ends a wire. Of AH over IPv6 Linux tells only what is
//! behind it, so that errors about it reach us where that is ESP, and else not: what such a path takes is found by probing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use latchway_esp::{Protocol, SeqLow, Spi};

use super::control::{Control, messages};
use super::message::receive_error;
use crate::pmtu::Hint;

/// One report from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The path is said to take less.
    Hint(Hint),
    /// The kernel itself refused a packet: this is what the link takes.
    TooLongForLink(u16),
    /// Of no interest.
    Other,
}

/// What the queue quotes of a packet that an ICMP error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quote {
    /// What follows the UDP header.
    Payload,
    /// All of it, from the IP header.
    Packet,
}

/// Takes the next report; `None` when there is none.
#[cold]
pub(super) fn next(fd: BorrowedFd<'_>, quote: Quote) -> Option<Report> {
    let mut octets = [0; QUOTE_LEN];
    let mut control = Control::EMPTY;
    let quoted = receive_error(fd, &mut octets, &mut control).ok()?;
    let error = control.space.get(..quoted.control_len).and_then(ExtendedError::find);
    let octets = octets.get(..quoted.len.min(QUOTE_LEN)).unwrap_or_default();
    Some(error.map_or(Report::Other, |error| error.report(octets, quote)))
}

/// The kernel's `sock_extended_err`, and who sent the ICMP message.
struct ExtendedError {
    errno: u32,
    origin: u8,
    kind: u8,
    code: u8,
    info: u32,
    reporter: Option<IpAddr>,
}

impl ExtendedError {
    fn find(control: &[u8]) -> Option<Self> {
        let is_error = |level, kind| {
            (level, kind) == (libc::IPPROTO_IP, libc::IP_RECVERR)
                || (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        };
        messages(control)
            .find(|message| is_error(message.level, message.kind))
            .and_then(|it| Self::read(it.data))
    }

    fn read(data: &[u8]) -> Option<Self> {
        let (&errno, rest) = data.split_first_chunk::<4>()?;
        let (&[origin, kind, code, _], rest) = rest.split_first_chunk::<4>()?;
        let (&info, rest) = rest.split_first_chunk::<4>()?;
        let offender = rest.get(4..)?;
        let [errno, info] = [errno, info].map(u32::from_ne_bytes);
        Some(Self { errno, origin, kind, code, info, reporter: address(offender) })
    }

    fn report(&self, quoted: &[u8], quote: Quote) -> Report {
        let claimed = u16::try_from(self.info).unwrap_or(u16::MAX);
        if self.origin == ORIGIN_LOCAL && self.errno == libc::EMSGSIZE.unsigned_abs() {
            return Report::TooLongForLink(claimed);
        }
        let says_so = matches!(
            (self.origin, self.kind, self.code),
            (ORIGIN_ICMP, DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED) | (ORIGIN_ICMP6, PACKET_TOO_BIG, _)
        );
        let about = match quote {
            Quote::Payload => about(Protocol::Esp, quoted),
            Quote::Packet => behind_headers(quoted).and_then(|(protocol, octets)| about(protocol, octets)),
        };
        match (says_so, about, self.reporter) {
            (true, Some((protocol, spi, low_seq)), Some(reporter)) => {
                Report::Hint(Hint { spi, protocol, low_seq, claimed, reporter })
            }
            _ => Report::Other,
        }
    }
}

/// SPI and sequence number (RFC 4303 section 2, RFC 4302 section 2), where so much is quoted.
fn about(protocol: Protocol, octets: &[u8]) -> Option<(Protocol, Spi, Option<SeqLow>)> {
    let octets = match protocol {
        Protocol::Esp => octets,
        Protocol::Ah => octets.get(4..)?,
    };
    let (&spi, rest) = octets.split_first_chunk::<4>()?;
    let low_seq = rest.first_chunk().map(|octets| SeqLow(u32::from_be_bytes(*octets)));
    Some((protocol, Spi::new(u32::from_be_bytes(spi))?, low_seq))
}

/// ESP or AH in a packet, behind the IP header and what IPv6 may have in between.
fn behind_headers(packet: &[u8]) -> Option<(Protocol, &[u8])> {
    match packet.first()? >> 4 {
        4 => {
            let fragment_offset = u16::from_be_bytes(*packet.get(6..)?.first_chunk()?) & 0x1fff;
            let protocol = Protocol::from_number(*packet.get(9)?).filter(|_| fragment_offset == 0)?;
            Some((protocol, packet.get(usize::from(packet.first()? & 0xf) * 4..)?))
        }
        6 => {
            let (mut next, mut rest) = (*packet.get(6)?, packet.get(40..)?);
            for _ in 0..MAX_EXTENSIONS {
                if let Some(protocol) = Protocol::from_number(next) {
                    return Some((protocol, rest));
                }
                if !EXTENSIONS.contains(&next) {
                    return None;
                }
                let len = (usize::from(*rest.get(1)?) + 1) * 8;
                (next, rest) = (*rest.first()?, rest.get(len..)?);
            }
            None
        }
        _ => None,
    }
}

/// The address in a socket address, family first.
fn address(octets: &[u8]) -> Option<IpAddr> {
    let (&family, rest) = octets.split_first_chunk::<2>()?;
    match i32::from(u16::from_ne_bytes(family)) {
        libc::AF_INET => rest.get(2..)?.first_chunk::<4>().map(|ip| Ipv4Addr::from(*ip).into()),
        libc::AF_INET6 => rest.get(6..)?.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip).into()),
        _ => None,
    }
}

/// As much of a packet as an ICMP error quotes and is of use.
const QUOTE_LEN: usize = 256;

const ORIGIN_LOCAL: u8 = 1;
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;
const DESTINATION_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG: u8 = 2;

/// Hop-by-hop options, routing header, destination options (RFC 8200 section 4).
const EXTENSIONS: [u8; 3] = [0, 43, 60];
const MAX_EXTENSIONS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(origin: u8, kind: u8, code: u8, info: u32) -> Vec<u8> {
        let errno = libc::EMSGSIZE.to_ne_bytes();
        let fields = [&errno[..], &[origin, kind, code, 0], &info.to_ne_bytes(), &[0; 4]].concat();
        let family = u16::try_from(libc::AF_INET).unwrap().to_ne_bytes();
        [&fields[..], &family, &[0, 0], &[192, 0, 2, 9], &[0; 8]].concat()
    }

    fn report(data: &[u8], quoted: &[u8], quote: Quote) -> Report {
        ExtendedError::read(data).map_or(Report::Other, |error| error.report(quoted, quote))
    }

    fn hint(protocol: Protocol, low_seq: Option<u32>) -> Report {
        Report::Hint(Hint {
            spi: Spi::new(0x1001).unwrap(),
            protocol,
            low_seq: low_seq.map(SeqLow),
            claimed: 1400,
            reporter: "192.0.2.9".parse().unwrap(),
        })
    }

    /// T18: what is quoted is read as far as it goes, and only errors that speak of a size are hints.
    #[test]
    fn t18_errors_about_our_packets_are_hints() {
        let too_big = error(ORIGIN_ICMP, 3, 4, 1400);
        let esp = [0, 0, 0x10, 1, 0, 0, 0, 7, 9, 9];
        assert_eq!(report(&too_big, &esp, Quote::Payload), hint(Protocol::Esp, Some(7)));
        assert_eq!(report(&too_big, &esp[..7], Quote::Payload), hint(Protocol::Esp, None));
        for len in 0..4 {
            assert_eq!(report(&too_big, &esp[..len], Quote::Payload), Report::Other);
        }
        let marker = [0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(report(&too_big, &marker, Quote::Payload), Report::Other, "a key exchange");
        assert_eq!(report(&error(ORIGIN_ICMP, 3, 3, 1400), &esp, Quote::Payload), Report::Other);
        assert_eq!(
            report(&error(ORIGIN_LOCAL, 0, 0, 1280), &esp, Quote::Payload),
            Report::TooLongForLink(1280)
        );
    }

    #[test]
    fn t18_ah_and_extension_headers_are_seen_through() {
        let too_big = error(ORIGIN_ICMP6, 2, 0, 1400);
        let ah = [50, 4, 0, 0, 0, 0, 0x10, 1, 0, 0, 0, 7];
        let mut v4 = vec![0; 24];
        (v4[0], v4[9]) = (0x46, 51);
        v4.extend(ah);
        assert_eq!(report(&too_big, &v4, Quote::Packet), hint(Protocol::Ah, Some(7)));
        v4[7] = 1;
        assert_eq!(report(&too_big, &v4, Quote::Packet), Report::Other, "a later fragment");
        let mut v6 = vec![0; 40];
        (v6[0], v6[6]) = (0x60, 60);
        v6.extend([43, 0, 0, 0, 0, 0, 0, 0, 51, 0, 0, 0, 0, 0, 0, 0]);
        v6.extend(ah);
        assert_eq!(report(&too_big, &v6, Quote::Packet), hint(Protocol::Ah, Some(7)));
        for len in 0..v6.len() - 4 {
            assert_eq!(report(&too_big, &v6[..len], Quote::Packet), Report::Other, "{len}");
        }
        v6[40] = 60;
        v6[48] = 60;
        assert_eq!(report(&too_big, &v6.repeat(2), Quote::Packet), Report::Other, "no end of headers");
    }
}
