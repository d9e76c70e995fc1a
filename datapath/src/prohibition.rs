//! What an inner sender is told whose packet policy discards: that communication is administratively prohibited (RFC 4301
//! section 5.1.1 a).
//!
//! It can be turned off, and is limited: who forges the address of another host behind the gateway would have it hear of
//! packets that it never sent.

use crate::answer::Answer;
use crate::drop::{Direction, DropReason};
use crate::gateway::Datapath;
use crate::icmp_error::{is_group, may_be_told};
use crate::limit::Limit;
use crate::outbound::Outbound;
use crate::oversize::Oversize;
use crate::packet::IpPacket;
use crate::refusal::prohibited;
use crate::segment::SuperPacket;
use crate::time::Time;
use crate::ulp::Ulp;

/// Of what inner senders are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// That policy discards their packets.
    pub discard: bool,
}

impl Default for Answers {
    fn default() -> Self {
        Self { discard: true }
    }
}

/// Writes the messages, so many per second and no more.
pub(crate) struct Prohibition {
    answers: Answers,
    limit: Limit,
}

impl Prohibition {
    pub(crate) const fn new(answers: Answers) -> Self {
        Self { answers, limit: Limit::full() }
    }

    /// Whether the sender of a packet that was dropped for `reason` is to be told.
    #[inline]
    pub(crate) const fn concerns(&self, reason: DropReason) -> bool {
        self.answers.discard && matches!(reason, DropReason::PolicyDiscard | DropReason::NoPolicy)
    }

    /// Writes the message about a packet. Returns whether there is one to be sent.
    fn write(
        &mut self,
        packet: &IpPacket<'_>,
        (settings, now): (&Oversize, Time),
        answer: &mut Answer,
    ) -> bool {
        let (from, to) = (packet.flow().local().ip(), packet.flow().remote().ip());
        let source = settings.source(to);
        if !may_be_told(packet) || is_group(to) || is_group(source) || !self.limit.allows(now) {
            return false;
        }
        let error = prohibited(from.is_ipv4());
        answer.write(|out| error.write(out, (source, from), packet.octets()))
    }
}

impl<U: Ulp> Datapath<U> {
    /// The same datapath, which tells inner senders of this.
    #[must_use]
    pub fn answering(mut self, answers: Answers) -> Self {
        self.prohibition = Prohibition::new(answers);
        self
    }

    /// Tells the sender of a super-packet that policy discarded it, if that is allowed.
    #[cold]
    pub(crate) fn prohibit(&mut self, octets: &mut [u8]) -> Outbound {
        let Ok(super_packet) = SuperPacket::parse(octets) else { return Outbound::Dropped };
        // The sender knows packets, and of a super-packet what the first of them would have been.
        let first = super_packet.segments().write_next(&mut self.scratch).unwrap_or(0);
        let packet = self.scratch.get(..first).unwrap_or_default();
        let Ok(packet) = IpPacket::parse(packet, Direction::Outbound) else {
            return Outbound::Dropped;
        };
        let settings = (self.too_big.settings(), self.now);
        if self.prohibition.write(&packet, settings, &mut self.answer) {
            self.counters.told_prohibited.add(1);
            return Outbound::Answered;
        }
        Outbound::Dropped
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::time::Duration;

    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use latchway_netns::packet;

    use super::*;
    use crate::selector::{AddressRange, Selector};
    use crate::send_batch::SendBatch;
    use crate::spd::{Action, Rule, Spd};
    use crate::testing::{Host, Open};
    use crate::virtio::VNET_HDR_LEN;

    const NOW: Time = Time::from_nanos(1_000_000_000);
    const ENDS: [[&str; 2]; 2] =
        [["10.0.1.10:4000", "10.9.9.9:53"], ["[fd00:1::10]:4000", "[2001:db8:9::9]:53"]];

    fn udp([from, to]: [&str; 2]) -> Vec<u8> {
        packet::udp(from.parse().unwrap(), to.parse().unwrap(), &[7; 700]).unwrap()
    }

    fn host(answers: Answers) -> Host<Open> {
        let mut host = Host::new(1, 2, Open);
        host.datapath = host.datapath.answering(answers);
        host
    }

    fn told(host: &mut Host<Open>, packet: &[u8], now: Time) -> Option<Vec<u8>> {
        host.datapath.begin(now);
        let mut octets = [&[0; VNET_HDR_LEN][..], packet].concat();
        match host.datapath.outbound(&mut octets, &mut SendBatch::new()) {
            Outbound::Answered => Some(host.datapath.answer().to_vec()),
            outcome => {
                assert_eq!(outcome, Outbound::Dropped);
                None
            }
        }
    }

    /// What a stranger reads: from whom, to whom, type and code, and what is quoted.
    fn read(message: &[u8]) -> (IpAddr, IpAddr, (u8, u8), Vec<u8>) {
        let sliced = SlicedPacket::from_ip(message).unwrap();
        match (sliced.net.unwrap(), sliced.transport.unwrap()) {
            (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                let kind = (icmp.type_u8(), icmp.code_u8());
                (header.source.into(), header.destination.into(), kind, icmp.payload().to_vec())
            }
            (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
                let header = ip.header().to_header();
                assert!(icmp.is_checksum_valid(header.source, header.destination));
                let kind = (icmp.type_u8(), icmp.code_u8());
                (header.source.into(), header.destination.into(), kind, icmp.payload().to_vec())
            }
            other => panic!("{other:?}"),
        }
    }

    /// RFC 4301 5.1.1 a: whether a rule discards a packet or none speaks of it, its sender hears so; the packet is a drop.
    #[test]
    fn rfc_4301_5_1_1_who_sends_what_policy_discards_is_told() {
        for (ends, expected) in ENDS.into_iter().zip([(3, 13), (1, 1)]) {
            let [from, to] = ends.map(|end| end.parse::<SocketAddr>().unwrap().ip());
            for reason in [DropReason::NoPolicy, DropReason::PolicyDiscard] {
                let mut host = host(Answers::default());
                if reason == DropReason::PolicyDiscard {
                    let any = |range| Rule::new(Selector::between(range, range), None, Action::Discard);
                    host.snapshot.spd =
                        Spd::new([AddressRange::ANY_V4, AddressRange::ANY_V6].map(any).into());
                    host.publish();
                }
                let sent = udp(ends);
                let (source, destination, kind, quoted) = read(&told(&mut host, &sent, NOW).unwrap());
                assert_eq!((source, destination, kind), (to, from, expected));
                assert!(sent.starts_with(&quoted) && quoted.len() > 500);
                assert_eq!(host.drops(), [(Direction::Outbound, reason, 1)]);
                assert_eq!(host.datapath.counters().told_prohibited.get(), 1);
            }
        }
    }

    /// RFC 4301 5.1.1: an operator may turn it off.
    #[test]
    fn rfc_4301_5_1_1_nobody_is_told_where_that_is_turned_off() {
        let mut host = host(Answers { discard: false });
        for ends in ENDS {
            assert_eq!(told(&mut host, &udp(ends), NOW), None);
        }
        assert_eq!(host.dropped(Direction::Outbound, DropReason::NoPolicy), 2);
    }

    /// RFC 4301 5.1.1, RFC 1122 3.2.2, RFC 4443 2.4: not about errors, nor to or about groups, nor without end.
    #[test]
    fn rfc_4301_5_1_1_messages_are_limited_and_errors_are_not_answered() {
        let mut host = host(Answers::default());
        for [from, _] in ENDS {
            let group = if from.starts_with('[') { "[ff05::2]:53" } else { "239.1.2.3:53" };
            assert_eq!(told(&mut host, &udp([from, group]), NOW), None);
        }
        let error = told(&mut host, &udp(ENDS[0]), NOW).unwrap();
        assert_eq!(told(&mut host, &error, NOW), None);
        let mut answered = |now| (0..1000).filter(|_| told(&mut host, &udp(ENDS[0]), now).is_some()).count();
        assert_eq!((answered(NOW), answered(NOW + Duration::from_millis(3))), (49, 3));
    }
}
