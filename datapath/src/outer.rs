//! The fields of outer headers: where they come from, and what they do to the inner header on the way in (RFC 4301
//! section 5.1.2, RFC 6040, RFC 2983).
//!
//! All packets of one super-packet have one traffic class, so this is worked out once for all of them. The inner TTL is
//! nobody's here: decrementing it is part of forwarding (RFC 4301 section 5.1.2.1, note 2), which the system does when it
//! routes into and out of the TUN.

use std::sync::Arc;

use crate::checksum::Sum;
use crate::drop::DropReason;
use crate::send_batch::Marks;

/// How the fields of an SA's outer headers are made, and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OuterPolicy {
    /// Where the DSCP comes from (RFC 2983).
    pub dscp: Dscp,
    /// What becomes of ECN (RFC 6040).
    pub ecn: Ecn,
    /// Where the DF bit comes from (RFC 4301 section 8.1).
    pub df: Df,
    /// The outer TTL or hop limit.
    pub ttl: u8,
    /// Where the flow label of an outer IPv6 header comes from (RFC 6438).
    pub flow_label: FlowLabel,
    /// Whether the inner DSCP of what is received is replaced by the outer one (RFC 2983).
    pub decapsulate_dscp: bool,
}

/// Where the outer DSCP comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dscp {
    /// From the inner header (RFC 4301 5.1.2).
    #[default]
    Copy,
    /// Always this one, so that inner traffic cannot be told apart by it.
    Set(u8),
    /// From the inner one by a table.
    Map(Arc<[u8; 64]>),
}

/// What becomes of ECN on the way out (RFC 6040 section 4.1, and 4.3 for who may want which).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ecn {
    /// The outer field is the inner one.
    #[default]
    Normal,
    /// The outer field says that the transport knows nothing of ECN: for peers that cannot carry it back.
    Compatibility,
}

/// Where the outer DF bit comes from (RFC 4301 section 8.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Df {
    /// From the inner header; an IPv6 packet counts as having it.
    Copy,
    /// Always set.
    #[default]
    Set,
    /// Always clear.
    Clear,
}

/// Where the flow label of an outer IPv6 header comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowLabel {
    /// It is zero.
    #[default]
    Zero,
    /// From an inner IPv6 header; else zero.
    Copy,
    /// From the inner flow, so that the packets of each take one path (RFC 6438 section 3).
    Hash,
}

impl OuterPolicy {
    /// What is usual in UDP: fields are copied as far as RFC 6040 and RFC 2983 say, DF is set.
    pub const UDP: Self = Self {
        dscp: Dscp::Copy,
        ecn: Ecn::Normal,
        df: Df::Set,
        ttl: 64,
        flow_label: FlowLabel::Zero,
        decapsulate_dscp: false,
    };

    /// What is usual without UDP: DF is the inner one, and flows are told apart by their label.
    pub const NATIVE: Self = Self { df: Df::Copy, flow_label: FlowLabel::Hash, ..Self::UDP };
}

impl OuterPolicy {
    /// What the outer header of a packet is to say.
    #[inline]
    pub(crate) fn marks(&self, inner: &[u8]) -> Marks {
        let class = traffic_class(inner);
        let may_fragment = match self.df {
            Df::Set => false,
            Df::Clear => true,
            Df::Copy => !has_df(inner),
        };
        Marks { traffic_class: self.dscp.outer(class) | self.ecn.outer(class), may_fragment }
    }

    /// What becomes of the traffic class of a received packet, which came within the class `outer`. Returns whether the two
    /// never come together by themselves.
    ///
    /// # Errors
    /// [`DropReason::EcnCeNotEct`]
    #[inline]
    pub(crate) fn decapsulate(&self, packet: &mut [u8], outer: u8) -> Result<bool, DropReason> {
        // What says nothing of congestion changes nothing: the usual case.
        if outer & ECN == 0 && !self.decapsulate_dscp {
            return Ok(false);
        }
        let inner = traffic_class(packet);
        let (ecn, unusual) = decapsulated_ecn(inner & ECN, outer & ECN).ok_or(DropReason::EcnCeNotEct)?;
        let dscp = if self.decapsulate_dscp { outer } else { inner } & !ECN;
        set_traffic_class(packet, dscp | ecn);
        Ok(unusual)
    }
}

impl Dscp {
    /// In the place that it has in the traffic class.
    #[inline]
    fn outer(&self, class: u8) -> u8 {
        match self {
            Self::Copy => class & !ECN,
            Self::Set(dscp) => dscp << 2,
            Self::Map(table) => table.get(usize::from(class >> 2)).copied().unwrap_or_default() << 2,
        }
    }
}

impl Ecn {
    /// RFC 6040 figure 3.
    #[inline]
    const fn outer(self, class: u8) -> u8 {
        match self {
            Self::Normal => class & ECN,
            Self::Compatibility => NOT_ECT,
        }
    }
}

/// What the header of a packet that is its own outer one says, in transport mode: nothing of it is set.
pub(crate) fn own_marks(packet: &[u8]) -> Marks {
    Marks { traffic_class: traffic_class(packet), may_fragment: !has_df(packet) }
}

/// RFC 6040 figure 4: the field that goes on, and whether the combination is one that it marks as unused; `None` where the
/// packet is to be dropped. The outer field is not authentic: whoever marks packets so could drop them as well.
const fn decapsulated_ecn(inner: u8, outer: u8) -> Option<(u8, bool)> {
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some((NOT_ECT, outer != NOT_ECT)),
        (CE, _) => Some((CE, outer == ECT_1)),
        (_, CE) => Some((CE, false)),
        (ECT_0, ECT_1) => Some((ECT_1, false)),
        (ECT_1, ECT_0) => Some((ECT_1, true)),
        _ => Some((inner, false)),
    }
}

/// DSCP and ECN of an IP packet (RFC 2474 section 3, RFC 3168 section 5).
#[inline]
pub(crate) fn traffic_class(packet: &[u8]) -> u8 {
    match *packet {
        [first, second, ..] if first >> 4 == 6 => first << 4 | second >> 4,
        [_, class, ..] => class,
        _ => 0,
    }
}

/// The checksum of an IPv4 header follows (RFC 1624).
fn set_traffic_class(packet: &mut [u8], class: u8) {
    match packet {
        [first, second, ..] if *first >> 4 == 6 => {
            *first = 0x60 | class >> 4;
            *second = class << 4 | *second & 0x0f;
        }
        [first, old, _, _, _, _, _, _, _, _, high, low, ..] => {
            let sum = Sum::replaced([*high, *low], [*first, *old], [*first, class]);
            (*old, [*high, *low]) = (class, sum);
        }
        _ => {}
    }
}

/// An IPv6 packet is never fragmented on its way (RFC 8200 section 5).
pub(crate) fn has_df(packet: &[u8]) -> bool {
    match *packet {
        [first, _, _, _, _, _, flags, ..] if first >> 4 == 4 => flags & DONT_FRAGMENT != 0,
        _ => true,
    }
}

/// The bits of the traffic class that are ECN's, and what they say (RFC 3168 section 5).
const ECN: u8 = 3;
const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

const DONT_FRAGMENT: u8 = 0x40;

impl Default for OuterPolicy {
    fn default() -> Self {
        Self::UDP
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Ipv4HeaderSlice, PacketBuilder};

    fn packets(class: u8) -> [Vec<u8>; 2] {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1, 2).write(&mut v4, b"x").unwrap();
        v4[1] = class;
        let mut header = Ipv4HeaderSlice::from_slice(&v4).unwrap().to_header();
        header.header_checksum = header.calc_header_checksum();
        v4[10..12].copy_from_slice(&header.header_checksum.to_be_bytes());
        PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64).udp(1, 2).write(&mut v6, b"x").unwrap();
        v6[0] = 0x60 | class >> 4;
        v6[1] |= class << 4;
        [v4, v6]
    }

    /// T27, RFC 6040 figure 4, row by row: inner Not-ECT, ECT(0), ECT(1), CE against outer in the same order.
    #[test]
    fn t27_rfc_6040_4_2_the_whole_table_of_decapsulation() {
        let order = [NOT_ECT, ECT_0, ECT_1, CE];
        let table = [
            [Some((NOT_ECT, false)), Some((NOT_ECT, true)), Some((NOT_ECT, true)), None],
            [Some((ECT_0, false)), Some((ECT_0, false)), Some((ECT_1, false)), Some((CE, false))],
            [Some((ECT_1, false)), Some((ECT_1, true)), Some((ECT_1, false)), Some((CE, false))],
            [Some((CE, false)), Some((CE, false)), Some((CE, true)), Some((CE, false))],
        ];
        for (inner, row) in order.into_iter().zip(table) {
            for (outer, expected) in order.into_iter().zip(row) {
                for dscp in [0, 0x2e << 2] {
                    for packet in packets(dscp | inner) {
                        let mut received = packet.clone();
                        let unusual = OuterPolicy::UDP.decapsulate(&mut received, 0x08 << 2 | outer);
                        assert_eq!(unusual.ok(), expected.map(|(_, unusual)| unusual), "{inner} in {outer}");
                        let class = expected.map_or(dscp | inner, |(ecn, _)| dscp | ecn);
                        let [v4, v6] = packets(class);
                        assert!(received == v4 || received == v6, "{inner} in {outer}: {received:x?}");
                    }
                }
            }
        }
    }

    /// T27, RFC 6040 figure 3.
    #[test]
    fn t27_rfc_6040_4_1_the_whole_table_of_encapsulation() {
        let compatible = OuterPolicy { ecn: Ecn::Compatibility, ..OuterPolicy::UDP };
        for class in 0..=255 {
            for packet in packets(class) {
                assert_eq!(OuterPolicy::UDP.marks(&packet).traffic_class, class);
                assert_eq!(compatible.marks(&packet).traffic_class, class & !ECN);
            }
        }
    }

    /// RFC 2983 sections 3 and 5: copied, fixed, by a table; and taken back where that is asked for. T27: by a fixed DSCP
    /// nothing inner shows.
    #[test]
    fn rfc_2983_dscp_is_copied_set_or_mapped() {
        let mut table = [0; 64];
        (table[46], table[10]) = (34, 8);
        let policy = |dscp| OuterPolicy { dscp, ..OuterPolicy::UDP };
        for (inner, mapped) in [(46, 34), (10, 8), (12, 0)] {
            for packet in packets(inner << 2 | ECT_0) {
                let class = |dscp| policy(dscp).marks(&packet).traffic_class;
                assert_eq!(class(Dscp::Copy), inner << 2 | ECT_0);
                assert_eq!(class(Dscp::Set(26)), 26 << 2 | ECT_0);
                assert_eq!(class(Dscp::Map(Arc::new(table))), mapped << 2 | ECT_0);
                let mut received = packet.clone();
                let pipe = OuterPolicy { decapsulate_dscp: true, ..OuterPolicy::UDP };
                assert_eq!(pipe.decapsulate(&mut received, 26 << 2), Ok(false));
                assert!(packets(26 << 2 | ECT_0).contains(&received));
            }
        }
    }

    /// RFC 4301 section 8.1.
    #[test]
    fn rfc_4301_8_1_df_is_copied_set_or_cleared() {
        let [mut v4, v6] = packets(0);
        let may = |df, packet: &[u8]| OuterPolicy { df, ..OuterPolicy::UDP }.marks(packet).may_fragment;
        for (flags, copied) in [(0x40, false), (0, true)] {
            v4[6] = flags;
            assert_eq!([Df::Copy, Df::Set, Df::Clear].map(|df| may(df, &v4)), [copied, false, true]);
        }
        assert_eq!([Df::Copy, Df::Set, Df::Clear].map(|df| may(df, &v6)), [false, false, true]);
    }
}
