//! What an inner sender is told when the connection that it speaks on is over (latching-04 sections 2.1 and 2.3; L-87,
//! L-103, R-13): a reset for TCP, and for UDP that communication is prohibited.
//!
//! The answer comes in the name of the remote end and goes to the inner host alone. It tells a socket that the gateway
//! cannot reach otherwise, such as one behind another host, or one whose latch went with the gateway's last process (L-40).

use crate::answer::Answer;
use crate::drop::{Direction, DropReason};
use crate::flow::protocol;
use crate::gateway::{Datapath, context};
use crate::icmp_error::{IcmpError, is_group, may_be_told};
use crate::limit::Limit;
use crate::outbound::Outbound;
use crate::packet::{IpPacket, Upper};
use crate::reset::Reset;
use crate::segment::SuperPacket;
use crate::time::Time;
use crate::ulp::Ulp;

impl<U: Ulp> Datapath<U> {
    /// Whether the sender of a super-packet that was dropped is told that its connection is over.
    #[cold]
    pub(crate) fn refuse_over(&mut self, octets: &mut [u8], reason: DropReason) -> Outbound {
        let Ok(super_packet) = SuperPacket::parse(octets) else { return Outbound::Dropped };
        self.tell_over(super_packet.packet(), reason)
    }

    /// Drops one super-packet of an inner host, because the gateway ends (L-40).
    pub fn turn_away(&mut self, octets: &mut [u8]) -> Outbound {
        let street = self.counters.street(Direction::Outbound);
        let Ok(super_packet) = SuperPacket::parse(octets) else {
            street.drop(DropReason::BadOffload, 1);
            return Outbound::Dropped;
        };
        street.drop(DropReason::Ending, super_packet.segment_count() as u64);
        self.tell_over(super_packet.packet(), DropReason::Ending)
    }

    fn tell_over(&mut self, octets: &[u8], reason: DropReason) -> Outbound {
        let Ok(packet) = IpPacket::parse(octets, Direction::Outbound) else { return Outbound::Dropped };
        let context = context(&self.snapshot, self.version, self.now);
        let is_over = self.ulp.is_over(&packet, reason, &context);
        if is_over && refuse(&packet, self.now, (&mut self.refusals, &mut self.answer)) {
            self.counters.told_over.add(1);
            return Outbound::Answered;
        }
        Outbound::Dropped
    }
}

/// Whether a packet dropped for `reason` may be of a connection that is over.
pub(crate) const fn may_be_over(reason: DropReason) -> bool {
    matches!(reason, DropReason::LatchBroken | DropReason::MidStream | DropReason::RequirementUnmet)
}

/// Writes the answer to a packet. Returns whether there is one to be sent.
fn refuse(packet: &IpPacket<'_>, now: Time, (limit, answer): (&mut Limit, &mut Answer)) -> bool {
    let (local, remote) = (packet.flow().local(), packet.flow().remote());
    if !may_be_told(packet) || is_group(remote.ip()) {
        return false;
    }
    match *packet.upper() {
        Upper::Tcp(segment) => {
            let Some(reset) = Reset::answering(&segment) else { return false };
            limit.allows(now) && answer.write(|out| reset.write(out, remote, local))
        }
        Upper::Udp | Upper::FirstFragment(_) if packet.flow().protocol() == protocol::UDP => {
            let error = prohibited(local.is_ipv4());
            let between = (remote.ip(), local.ip());
            limit.allows(now) && answer.write(|out| error.write(out, between, packet.octets()))
        }
        _ => false,
    }
}

/// Destination Unreachable, communication administratively prohibited (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1).
pub(crate) const fn prohibited(v4: bool) -> IcmpError {
    let (kind, code) = if v4 { (3, 13) } else { (1, 1) };
    IcmpError { kind, code, rest: [0; 4] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FlowKey;
    use crate::packet::{Authenticated, Unprotected};
    use crate::prohibition::Answers;
    use crate::send_batch::SendBatch;
    use crate::spd::Action;
    use crate::testing::Host;
    use crate::ulp::Context;
    use crate::virtio::VNET_HDR_LEN;
    use latchway_netns::packet::{self, Segment};
    use latchway_tagging::{Feedback, OutboundTag};
    use std::time::Duration;

    const NOW: Time = Time::from_nanos(1_000_000_000);

    /// An upper layer that drops everything for a reason.
    struct Shut(DropReason, bool);

    impl Ulp for Shut {
        fn outbound(&mut self, _: &IpPacket<'_>, _: &Context<'_>) -> Result<OutboundTag, DropReason> {
            Err(self.0)
        }

        fn feedback(&mut self, _: &FlowKey, _: Feedback, _: &Context<'_>) -> Result<(), DropReason> {
            Err(self.0)
        }

        fn inbound(&mut self, _: &Authenticated<'_>, _: &Context<'_>) -> Result<(), DropReason> {
            Err(self.0)
        }

        fn unprotected(
            &mut self,
            _: &Unprotected<'_>,
            _: Option<Action>,
            _: &Context<'_>,
        ) -> Result<(), DropReason> {
            Err(self.0)
        }

        fn is_over(&self, _: &IpPacket<'_>, reason: DropReason, _: &Context<'_>) -> bool {
            assert!(reason == self.0 || reason == DropReason::Ending);
            self.1
        }
    }

    const ENDS: [[&str; 2]; 2] =
        [["10.0.1.10:40000", "10.0.2.20:80"], ["[fd00:1::10]:40000", "[fd00:2::20]:80"]];
    const GROUPS: [[&str; 2]; 2] =
        [["10.0.1.10:40000", "239.1.2.3:80"], ["[fd00:1::10]:40000", "[ff05::2]:80"]];

    const DATA: Segment<'_> = Segment {
        sequence: 1000,
        acknowledgement: Some(2000),
        window: 512,
        payload: b"data",
        syn: false,
        fin: false,
        rst: false,
        psh: false,
    };

    fn tcp([from, to]: [&str; 2], segment: &Segment<'_>) -> Vec<u8> {
        packet::tcp(from.parse().unwrap(), to.parse().unwrap(), segment).unwrap()
    }

    fn udp([from, to]: [&str; 2]) -> Vec<u8> {
        packet::udp(from.parse().unwrap(), to.parse().unwrap(), b"hello").unwrap()
    }

    fn framed(packet: &[u8]) -> Vec<u8> {
        [&[0; VNET_HDR_LEN][..], packet].concat()
    }

    /// What the sender of a packet is told that is dropped for a reason.
    fn told(host: &mut Host<Shut>, packet: &[u8], now: Time) -> Option<Vec<u8>> {
        host.datapath.begin(now);
        match host.datapath.outbound(&mut framed(packet), &mut SendBatch::new()) {
            Outbound::Answered => Some(host.datapath.answer().to_vec()),
            outcome => {
                assert_eq!(outcome, Outbound::Dropped);
                None
            }
        }
    }

    fn host(reason: DropReason, over: bool) -> Host<Shut> {
        let mut host = Host::new(1, 2, Shut(reason, over));
        host.datapath = host.datapath.answering(Answers { discard: false });
        host
    }

    /// L-87, L-103, RFC 5961 3.2: whoever speaks on a connection that is over is reset, by what its TCP must take.
    #[test]
    fn l_87_l_103_a_segment_of_a_connection_that_is_over_is_answered_by_a_reset() {
        for reason in [DropReason::LatchBroken, DropReason::MidStream, DropReason::RequirementUnmet] {
            for ends @ [local, remote] in ENDS {
                let mut host = host(reason, true);
                let reset = |reset: Reset| {
                    let packet = reset.packet(remote.parse().unwrap(), local.parse().unwrap());
                    Some(packet.unwrap().octets().to_vec())
                };
                let exact = reset(Reset { seq: 2000, ack: None });
                for segment in [DATA, Segment { payload: b"", ..DATA }, Segment { fin: true, ..DATA }] {
                    assert_eq!(told(&mut host, &tcp(ends, &segment), NOW), exact);
                }
                let syn = Segment { syn: true, acknowledgement: None, payload: b"", ..DATA };
                let refused = reset(Reset { seq: 0, ack: Some(1001) });
                assert_eq!(told(&mut host, &tcp(ends, &syn), NOW), refused);
                assert_eq!(host.drops(), [(Direction::Outbound, reason, 4)]);
                assert_eq!(host.datapath.counters().told_over.get(), 4);
            }
        }
    }

    /// L-103: a datagram is answered by an ICMP error that quotes it, as RFC 1812 5.2.7.1 and RFC 4443 3.1 have it.
    #[test]
    fn l_103_a_datagram_of_a_flow_that_is_over_is_prohibited() {
        for (ends @ [local, remote], expected) in ENDS.into_iter().zip([[3, 13], [1, 1]]) {
            let datagram = udp(ends);
            let answer = told(&mut host(DropReason::LatchBroken, true), &datagram, NOW).unwrap();
            let header_len = if datagram[0] >> 4 == 4 { 20 } else { 40 };
            let (ip, icmp) = answer.split_at(header_len);
            assert_eq!((&icmp[..2], &icmp[8..]), (&expected[..], &datagram[..]));
            let parsed = IpPacket::parse(&answer, Direction::Inbound).unwrap();
            let expected = [local, remote].map(|end| end.parse::<std::net::SocketAddr>().unwrap().ip());
            assert_eq!([parsed.flow().local().ip(), parsed.flow().remote().ip()], expected);
            assert_eq!(ip.len() + icmp.len(), answer.len());
        }
    }

    /// Resets, errors and packets to groups are never answered (RFC 9293 3.5.2, RFC 1122 3.2.2, RFC 4443 2.4e).
    #[test]
    fn rfc_1122_3_2_2_what_must_not_be_answered_is_not() {
        let mut host = host(DropReason::LatchBroken, true);
        for ends in ENDS {
            let rst = Segment { rst: true, ..DATA };
            assert_eq!(told(&mut host, &tcp(ends, &rst), NOW), None);
            assert_eq!(told(&mut host, &tcp(ends, &Segment { acknowledgement: None, ..rst }), NOW), None);
            let [from, to] = ends.map(|end| end.parse::<std::net::SocketAddr>().unwrap().ip());
            assert_eq!(told(&mut host, &packet::echo_request(from, to, 1, 1, b"").unwrap(), NOW), None);
            assert_eq!(told(&mut host, &packet::raw(from, to, 132, &[0; 16]).unwrap(), NOW), None);
        }
        for ends in GROUPS {
            assert_eq!(told(&mut host, &udp(ends), NOW), None);
            assert_eq!(told(&mut host, &tcp(ends, &DATA), NOW), None);
        }
        assert_eq!(host.datapath.counters().told_over.get(), 0);
    }

    /// L-38: where the upper layer does not say that it is over, nobody hears anything; nor for any other reason.
    #[test]
    fn l_38_nothing_is_said_of_a_connection_that_is_not_over() {
        let [ends, _] = ENDS;
        for reason in [DropReason::LatchBroken, DropReason::MidStream] {
            assert_eq!(told(&mut host(reason, false), &tcp(ends, &DATA), NOW), None);
        }
        let others = DropReason::ALL.iter().filter(|&&reason| !may_be_over(reason));
        for &reason in others {
            assert_eq!(told(&mut host(reason, true), &tcp(ends, &DATA), NOW), None, "{reason}");
        }
    }

    /// RFC 4443 2.4f: a flood of such packets is answered only so often, and dropped all the same.
    #[test]
    fn t41_answers_are_limited() {
        let (mut host, [ends, _]) = (host(DropReason::MidStream, true), ENDS);
        let mut answered =
            |now| (0..1000).filter(|_| told(&mut host, &tcp(ends, &DATA), now).is_some()).count();
        assert_eq!((answered(NOW), answered(NOW + Duration::from_millis(3))), (50, 3));
        assert_eq!(host.dropped(Direction::Outbound, DropReason::MidStream), 2000);
    }

    /// L-40: when the gateway ends, nothing leaves, and whose connection is over is told.
    #[test]
    fn l_40_at_the_end_everything_is_turned_away() {
        let [ends, _] = ENDS;
        for over in [true, false] {
            let mut host = host(DropReason::LatchBroken, over);
            let outcome = host.datapath.turn_away(&mut framed(&tcp(ends, &DATA)));
            assert_eq!(outcome, if over { Outbound::Answered } else { Outbound::Dropped });
            assert_eq!(host.drops(), [(Direction::Outbound, DropReason::Ending, 1)]);
            assert_eq!(host.datapath.turn_away(&mut [0; 3]), Outbound::Dropped);
            assert_eq!(host.dropped(Direction::Outbound, DropReason::BadOffload), 1);
        }
    }
}
