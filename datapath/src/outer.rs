//! The fields of outer headers: where they come from, and what they do to the inner header on the way in.

use std::sync::Arc;

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

impl Default for OuterPolicy {
    fn default() -> Self {
        Self::UDP
    }
}
