//! Why packets are dropped: one table, from which counters, command line, JSON, docs and tests come.
//!
//! A drop is a value. "Late" (`too_old`) is never confused with "forged" (`icv_mismatch`), and nothing is dropped
//! silently. RFC 4301 section 5 and RFC 4303 section 3.4 name which drops are auditable.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which street a packet was on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the wire to the TUN.
    Inbound,
    /// From the TUN to the wire.
    Outbound,
}

/// How much a drop should worry an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Not an error: traffic that ends here by design.
    Info,
    /// Expected now and then; in numbers, a sign of loss, reordering or exhaustion.
    Warn,
    /// A defect of a packet or of its sender.
    Error,
    /// An auditable event in the words of RFC 4301 and RFC 4303.
    Audit,
}

/// What the table says of one reason.
#[derive(Clone, Copy, Debug)]
pub struct DropInfo {
    /// The stable name, as counters, JSON and tests use it.
    pub name: &'static str,
    /// The section that calls for the drop.
    pub section: &'static str,
    /// How much it should worry an operator.
    pub severity: Severity,
    /// The closest counter of /proc/net/xfrm_stat, or "-".
    pub linux: &'static str,
    /// One sentence for people.
    pub text: &'static str,
}

macro_rules! drop_reasons {
    ($($variant:ident $name:literal $section:literal $severity:ident $linux:literal $text:literal;)*) => {
        /// The verdict on one packet that goes no further.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $text] $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The row of the table.
            #[must_use]
            pub const fn info(self) -> DropInfo {
                match self {
                    $(Self::$variant => DropInfo {
                        name: $name,
                        section: $section,
                        severity: Severity::$severity,
                        linux: $linux,
                        text: $text,
                    },)*
                }
            }
        }
    };
}

drop_reasons! {
    Runt "runt" "RFC 4303 2" Error "XfrmInHdrError" "Shorter than the headers it must have.";
    BadIpHeader "bad_ip_header" "RFC 4301 5" Error "XfrmInHdrError" "An IP or upper-layer header that contradicts itself.";
    BadOffload "bad_offload" "-" Error "-" "A super-packet from the TUN whose virtio header contradicts the packet.";
    LinkLocal "link_local" "RFC 4291 2.5.6" Info "-" "Link-local traffic of the inner hosts, which no gateway forwards.";
    FragmentUnresolved "fragment_unresolved" "RFC 4301 7" Audit "-" "A later fragment whose first fragment was not seen.";
    FragmentConflict "fragment_conflict" "RFC 4301 7" Audit "-" "A first fragment whose identification is in use under another SA.";
    Keepalive "keepalive" "RFC 3948 2.3" Info "-" "A NAT keepalive, which has done its work on the way.";
    NonEsp "non_esp" "RFC 3948 2.2" Warn "-" "A key exchange message (non-ESP marker), and no key exchange runs here.";
    ReservedSpi "reserved_spi" "RFC 4303 2.1" Audit "XfrmInNoStates" "An SPI from 1 to 255, which no SA may have.";
    NoSa "no_sa" "RFC 4303 3.4.2" Audit "XfrmInNoStates" "No SA has this SPI.";
    SaPending "sa_pending" "RFC 5660 2.3" Info "-" "The SA is not in force yet: latches that it conflicts with are being broken first.";
    Replayed "replayed" "RFC 4303 3.4.3" Warn "XfrmInStateSeqError" "This sequence number was received before.";
    TooOld "too_old" "RFC 4303 3.4.3" Warn "XfrmInStateSeqError" "The sequence number lies below the replay window.";
    IcvMismatch "icv_mismatch" "RFC 4303 3.4.4" Audit "XfrmInStateProtoError" "The integrity check failed: forged or damaged.";
    BadLength "bad_length" "RFC 4303 2.4" Error "XfrmInStateProtoError" "The protected part is not a whole number of the cipher's blocks.";
    BadPadding "bad_padding" "RFC 4303 2.4" Error "XfrmInStateProtoError" "Authentic, but the padding is not what ESP prescribes.";
    Dummy "dummy" "RFC 4303 2.6" Info "-" "A dummy packet sent for traffic-flow confidentiality.";
    BadNextHeader "bad_next_header" "RFC 4303 2.6" Error "XfrmInStateProtoError" "Authentic, but not an IP packet as tunnel mode prescribes.";
    SelectorMismatch "selector_mismatch" "RFC 4301 5.2" Audit "XfrmInTmplMismatch" "The inner packet is not one that its SA may carry.";
    NoPolicy "no_policy" "RFC 4301 5.1" Audit "XfrmInNoPols" "No policy matches, so the packet is discarded.";
    PolicyDiscard "policy_discard" "RFC 4301 5.1" Audit "XfrmOutPolBlock" "A policy says DISCARD.";
    Unprotected "unprotected" "RFC 4301 5.2" Audit "XfrmInNoPols" "Arrived in the clear where policy demands protection.";
    NoBypassPort "no_bypass_port" "RFC 4301 5.1" Warn "-" "Policy says BYPASS, but this gateway has no bypass port.";
    NoOutboundSa "no_outbound_sa" "RFC 4301 5.1" Warn "XfrmOutNoStates" "Policy demands protection and no SA offers it; one was asked for.";
    SeqExhausted "seq_exhausted" "RFC 4303 3.3.3" Audit "XfrmOutStateSeqError" "Every sequence number of the SA was used.";
    NumbersUnreserved "numbers_unreserved" "RFC 8221 3" Error "-" "The SA's next sequence numbers are not on record yet: a static key waits for its state directory.";
    HardExpired "hard_expired" "RFC 4301 4.4.2.1" Warn "XfrmOutStateExpired" "The SA's hard lifetime is over and nothing replaced it.";
    TooBig "too_big" "RFC 4301 8.2" Info "-" "Larger than the path allows after encapsulation.";
    LatchMismatch "latch_mismatch" "RFC 5660 2.4" Audit "-" "Protected by an SA that does not match the connection's latch.";
    LatchUnprotected "latch_unprotected" "RFC 5660 2.4" Audit "-" "Arrived in the clear for a latched connection.";
    StaleVersion "stale_version" "latching-04 2.1" Warn "-" "Opened before the latch last changed.";
    LatchLarval "latch_larval" "latching-04 2" Info "-" "The connection's latch is still being established.";
    LatchBroken "latch_broken" "RFC 5660 2.3" Info "-" "The connection's latch is broken or closed.";
    MidStream "mid_stream" "latching-04 2" Warn "-" "Part of a connection that policy wants latched and whose beginning was not seen.";
    FlowTableFull "flow_table_full" "latching-04 2" Warn "-" "No room to remember another flow, so none is let in.";
    NoBuffer "no_buffer" "-" Warn "XfrmInBufferError" "No room in a send buffer.";
    Truncated "truncated" "-" Error "XfrmInBufferError" "A datagram longer than the receive buffer.";
    TunDown "tun_down" "-" Warn "-" "The TUN is set down, so it takes nothing until it is up again.";
    IoFull "io_full" "-" Warn "XfrmInBufferError" "The socket or the TUN took no more.";
    IoError "io_error" "-" Error "XfrmInError" "The socket or the TUN refused the packet.";
}

impl DropReason {
    /// The reason's place in the table, to index a counter.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

/// One counter with one writer: a relaxed load and store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker calls this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The count so far, from any thread.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker moved and dropped. Written by that worker, read by anyone.
#[derive(Debug)]
pub struct Counters {
    inbound: Street,
    outbound: Street,
    /// Messages to inner senders whose packet did not fit its SA (RFC 4301 8.2.1 cases 1 and 3). The packets are drops,
    /// `too_big`, besides.
    pub told_too_big: Counter,
    /// Inner IPv4 packets that were sealed in fragments (RFC 4301 8.2.1 case 2). Each fragment counts as a packet.
    pub fragmented: Counter,
}

/// The counts of one direction.
#[derive(Debug)]
pub struct Street {
    /// Inner packets that passed every check. Those that the system then took no more are drops (`io_full`, `io_error`)
    /// besides.
    pub packets: Counter,
    /// Their octets, inner headers included.
    pub octets: Counter,
    drops: Vec<Counter>,
}

impl Counters {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inbound: Street::new(),
            outbound: Street::new(),
            told_too_big: Counter::default(),
            fragmented: Counter::default(),
        }
    }

    /// The counts of one direction.
    #[inline]
    #[must_use]
    pub const fn street(&self, direction: Direction) -> &Street {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Street {
    fn new() -> Self {
        let drops = DropReason::ALL.iter().map(|_| Counter::default()).collect();
        Self { packets: Counter::default(), octets: Counter::default(), drops }
    }

    /// Counts `n` packets dropped for `reason`. Only the owning worker calls this.
    #[inline]
    pub fn drop(&self, reason: DropReason, n: u64) {
        if let Some(counter) = self.drops.get(reason.index()) {
            counter.add(n);
        }
    }

    /// How many packets were dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason.index()).map_or(0, Counter::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_stable_unique_and_snake_case() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.info().name).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }

    #[test]
    fn every_reason_has_a_counter_of_its_own_in_each_direction() {
        let counters = Counters::new();
        for (place, &reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
            counters.street(Direction::Inbound).drop(reason, 1 + place as u64);
        }
        for (place, &reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(counters.street(Direction::Inbound).dropped(reason), 1 + place as u64);
            assert_eq!(counters.street(Direction::Outbound).dropped(reason), 0);
        }
    }
}
