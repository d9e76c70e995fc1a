//! Why packets are dropped: one table, from which counters, command line, JSON, docs and tests come.
//!
//! A drop is a value. "Late" (`too_old`) is never confused with "forged" (`icv_mismatch`), and nothing is dropped
//! silently. RFC 4301 section 5 and RFC 4303 section 3.4 name which drops are auditable.

#[cfg(test)]
mod documentation;

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
    /// On which of the streets it happens.
    pub directions: &'static [Direction],
    /// One sentence for people.
    pub text: &'static str,
    /// What whoever runs the gateway can do about it.
    pub remedy: &'static str,
}

const INBOUND: &[Direction] = &[Direction::Inbound];
const OUTBOUND: &[Direction] = &[Direction::Outbound];
const BOTH: &[Direction] = &[Direction::Inbound, Direction::Outbound];

macro_rules! drop_reasons {
    ($($variant:ident $name:literal $section:literal $severity:ident $directions:ident $linux:literal
        $text:literal $remedy:literal;)*) => {
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
                        directions: $directions,
                        text: $text,
                        remedy: $remedy,
                    },)*
                }
            }
        }
    };
}

drop_reasons! {
    Runt "runt" "RFC 4303 2" Error BOTH "XfrmInHdrError"
        "Shorter than the headers it must have."
        "In numbers: capture on the side it comes from, and look for what cuts packets short.";
    BadIpHeader "bad_ip_header" "RFC 4301 5" Error BOTH "XfrmInHdrError"
        "An IP or upper-layer header that contradicts itself."
        "In numbers: capture on the side it comes from. IPv6 packets with mapped IPv4 addresses count here, too.";
    BadOffload "bad_offload" "-" Error BOTH "-"
        "A super-packet from the TUN whose virtio header contradicts the packet."
        "Try `tun = { backend = \"plain\" }`, and report it: the kernel should not make such packets.";
    LinkLocal "link_local" "RFC 4291 2.5.6" Info BOTH "-"
        "Link-local traffic of the inner hosts, which no gateway forwards."
        "Nothing: router solicitations and multicast name lookups of the inner hosts end here.";
    FragmentUnresolved "fragment_unresolved" "RFC 4301 7" Audit BOTH "-"
        "A later fragment whose first fragment did not come in time, or for which there was no room to wait."
        "Look for loss or reordering before the gateway; let senders keep to the inner MTU, so that they do not fragment.";
    FragmentTiny "fragment_tiny" "RFC 1858 3" Audit BOTH "-"
        "A first fragment without the whole upper-layer header, so that policy cannot judge the datagram."
        "Look for the sender by a capture: no host cuts that short, but who wants to pass by a filter does.";
    FragmentOverlap "fragment_overlap" "RFC 5722 4" Audit BOTH "-"
        "A fragment that repeats or contradicts octets of its datagram, or one of a datagram where another did."
        "A few come from networks that duplicate packets. In numbers somebody tries to pass by a filter.";
    FragmentConflict "fragment_conflict" "RFC 4301 7" Audit BOTH "-"
        "A first fragment whose identification is in use under another SA."
        "A few are chance. In numbers fragments are flooded: let senders keep to the inner MTU, so that they need none.";
    Keepalive "keepalive" "RFC 3948 2.3" Info INBOUND "-"
        "A NAT keepalive, which has done its work on the way."
        "Nothing: a peer behind a NAT keeps its mapping open.";
    NonEsp "non_esp" "RFC 3948 2.2" Warn INBOUND "-"
        "A key exchange message (non-ESP marker), and no key exchange runs here."
        "Turn the key exchange of the peer off for this gateway, or drive it by a provider of SAs.";
    ReservedSpi "reserved_spi" "RFC 4303 2.1" Audit INBOUND "XfrmInNoStates"
        "An SPI from 1 to 255, which no SA may have."
        "Find the sender by a capture on the wire: no gateway sends such an SPI.";
    NoSa "no_sa" "RFC 4303 3.4.2" Audit INBOUND "XfrmInNoStates"
        "No SA has this SPI."
        "Compare the SPIs of both ends (`sa list`): what one sends under, the other receives under. Else strangers are probing.";
    SaPending "sa_pending" "RFC 5660 2.3" Info INBOUND "-"
        "The SA is not in force yet: latches that it conflicts with are being broken first."
        "Nothing: it lasts for milliseconds. The peer sends again.";
    Replayed "replayed" "RFC 4303 3.4.3" Warn INBOUND "XfrmInStateSeqError"
        "This sequence number was received before."
        "A few come from networks that duplicate packets. Many: the peer was restarted and counts from 1 again; give it a state directory, or both ends new keys.";
    TooOld "too_old" "RFC 4303 3.4.3" Warn INBOUND "XfrmInStateSeqError"
        "The sequence number lies below the replay window."
        "Raise `replay_window` if the path reorders widely. After a restart of the peer, as for `replayed`.";
    IcvMismatch "icv_mismatch" "RFC 4303 3.4.4" Audit INBOUND "XfrmInStateProtoError"
        "The integrity check failed: forged or damaged."
        "Compare keys, suite and `esn` of both ends; if they agree, somebody forges packets or something damages them.";
    BadLength "bad_length" "RFC 4303 2.4" Error INBOUND "XfrmInStateProtoError"
        "The protected part is not a whole number of the cipher's blocks."
        "Compare the suites of both ends.";
    BadPadding "bad_padding" "RFC 4303 2.4" Error INBOUND "XfrmInStateProtoError"
        "Authentic, but the padding is not what ESP prescribes."
        "Report it to the maker of the peer: its packet is authentic and wrong.";
    ProbeAnswer "probe_answer" "RFC 8899 4.1" Info INBOUND "-"
        "An answer to a packet by which the gateway itself asked what the path takes."
        "Nothing: it has told the gateway what it asked. `latchway mtu explain` shows what that is.";
    Dummy "dummy" "RFC 4303 2.6" Info INBOUND "-"
        "A dummy packet sent for traffic-flow confidentiality."
        "Nothing: the peer hides how much it sends.";
    BadNextHeader "bad_next_header" "RFC 4303 2.6" Error INBOUND "XfrmInStateProtoError"
        "Authentic, but not an IP packet as tunnel mode prescribes."
        "Set the peer to tunnel mode.";
    EncapsulationMismatch "encapsulation_mismatch" "RFC 3948 2.1" Audit INBOUND "XfrmInStateMismatch"
        "In UDP where its SA travels without, or without where its SA travels in UDP."
        "Set both ends to the same: UDP encapsulation, or IP protocols 50 and 51.";
    OuterMismatch "outer_mismatch" "RFC 4301 4.4.2.1" Audit INBOUND "XfrmInStateMismatch"
        "Authentic, but from an address that is not the peer's."
        "Has the peer another address, or a NAT before it? Say so in the configuration, or let its address be followed.";
    BundleMismatch "bundle_mismatch" "RFC 4301 4.3" Audit INBOUND "XfrmInTmplMismatch"
        "Protected by one SA of a bundle alone, or by two that are not one bundle."
        "Compare both ends: AH around ESP, or one of them only.";
    Fragment "fragment" "RFC 4303 3.4.1" Audit INBOUND "-"
        "A fragment of a protected packet, which was not put together."
        "In numbers: capture on the wire; the kernel puts together what arrives whole.";
    EcnCeNotEct "ecn_ce_not_ect" "RFC 6040 4.2" Warn INBOUND "-"
        "Marked for congestion on its way, and its sender could not be told but by loss."
        "In numbers: look for congestion on the path, or for a router that marks what it must not.";
    TransportEnds "transport_ends" "RFC 4301 4.1" Audit BOTH "XfrmInStateMismatch"
        "In transport mode, and not between the ends of its SA."
        "Use tunnel mode for what is forwarded, or name the SA's ends as they are on the packets.";
    TransportFragment "transport_fragment" "RFC 4303 3.3.4" Warn OUTBOUND "-"
        "A fragment that transport mode would have to protect, which takes whole packets only."
        "Lower the MTU of the TUN or let senders keep to it, or use tunnel mode.";
    TransportHeader "transport_header" "RFC 3948 2.1" Warn OUTBOUND "-"
        "IP options or extension headers that transport mode cannot carry in UDP."
        "Use tunnel mode for such packets, or IP protocols 50 and 51.";
    PolicyMismatch "policy_mismatch" "RFC 4301 5.2" Audit INBOUND "XfrmInTmplMismatch"
        "Authentic, but not protected as policy says that it must be."
        "`explain` names the rule: compare its reqid and template with those of the SA.";
    SelectorMismatch "selector_mismatch" "RFC 4301 5.2" Audit INBOUND "XfrmInTmplMismatch"
        "The inner packet is not one that its SA may carry."
        "Compare the ranges of both ends: the peer sends from or to addresses that its SA here may not carry (`sa list --json`).";
    NoPolicy "no_policy" "RFC 4301 5.1" Audit BOTH "XfrmInNoPols"
        "No policy matches, so the packet is discarded."
        "Ask `explain` about the packet, and add a rule if it should pass.";
    PolicyDiscard "policy_discard" "RFC 4301 5.1" Audit BOTH "XfrmOutPolBlock"
        "A policy says DISCARD."
        "Nothing if the rule is meant so; `explain` names it.";
    Unprotected "unprotected" "RFC 4301 5.2" Audit INBOUND "XfrmInNoPols"
        "Arrived in the clear where policy demands protection."
        "Find who sends in the clear to inner addresses: a peer whose tunnel is down, or somebody who tries.";
    NoBypassPort "no_bypass_port" "RFC 4301 5.1" Warn OUTBOUND "-"
        "Policy says BYPASS, but this gateway has no bypass port."
        "Name one by `bypass_port`, or take the bypass rule out.";
    NoOutboundSa "no_outbound_sa" "RFC 4301 5.1" Warn OUTBOUND "XfrmOutNoStates"
        "Policy demands protection and no SA offers it; one was asked for."
        "`sa list` and `explain`: give the peer an SA whose selectors cover the packet, or wait for the provider that was asked.";
    SeqExhausted "seq_exhausted" "RFC 4303 3.3.3" Audit OUTBOUND "XfrmOutStateSeqError"
        "Every sequence number of the SA was used."
        "Replace the pair: new keys, new SPIs. Give it a soft lifetime, so that it is told of earlier.";
    NumbersUnreserved "numbers_unreserved" "RFC 8221 3" Error OUTBOUND "-"
        "The SA's next sequence numbers are not on record yet: a static key waits for its state directory."
        "Look at the state directory: is the disk full, read-only, or gone? `status` says so. Sealing goes on as soon as it can be written.";
    HardExpired "hard_expired" "RFC 4301 4.4.2.1" Warn BOTH "XfrmOutStateExpired"
        "The SA's hard lifetime is over and nothing replaced it."
        "Replace the pair: new keys, new SPIs. A soft lifetime warns before.";
    TooBig "too_big" "RFC 4301 8.2" Info OUTBOUND "-"
        "Larger than the path allows after encapsulation."
        "Nothing: the sender is told what fits. If it does not heed that, lower the MTU of the TUN, or let ICMP pass to it.";
    LatchMismatch "latch_mismatch" "RFC 5660 2.4" Audit BOTH "-"
        "Protected by an SA that does not match the connection's latch."
        "Somebody else's SA, or the same peer under other protection, spoke on a connection. `latch list` and `events` say whose it was; open it anew.";
    LatchUnprotected "latch_unprotected" "RFC 5660 2.4" Audit INBOUND "-"
        "Arrived in the clear for a latched connection."
        "Find who sends in the clear to inner addresses; the connection itself is unharmed.";
    StaleVersion "stale_version" "latching-04 2.1" Warn INBOUND "-"
        "Opened before the latch last changed."
        "Nothing: the packet came just when the latch changed. The peer sends again.";
    LatchLarval "latch_larval" "latching-04 2" Info BOTH "-"
        "The connection's latch is still being established."
        "Nothing if it is short. Else `explain` says why the flow gets no SA.";
    LatchBarred "latch_barred" "latching-04 2.1" Warn BOTH "-"
        "The connection cannot be latched: SAs of more than one kind cover it, or policy is about to change."
        "`sa list` shows whose SAs overlap. Narrow them, or give the rule the `tag` model, which tells them apart packet by packet.";
    ListenerRefused "listener_refused" "latching-04 2.1" Audit INBOUND "-"
        "A listener does not take the connection: its SA is not what the listener demands, or the holder cannot be told."
        "`latch list` shows the listener and what it demands. If its holder does not read its events, end it.";
    RequirementUnmet "requirement_unmet" "latching-04 2" Audit BOTH "-"
        "What protects the flow, if anything does, is not what its socket requires."
        "`explain` says which SA the flow gets. Make policy and SAs give what the application requires, or have it require less.";
    OwnerUnknown "owner_unknown" "latching-04 2" Warn BOTH "-"
        "While applications require something of their sockets, the flow's own socket could not be told."
        "Nothing if it is rare: the socket was closed before its packet was looked at. Else see whether sock_diag works in the inner namespace.";
    LatchBroken "latch_broken" "RFC 5660 2.3" Info BOTH "-"
        "The connection's latch is broken or closed."
        "Open the connection anew. `latch list` says what broke it.";
    MidStream "mid_stream" "latching-04 2" Warn BOTH "-"
        "Part of a connection that policy wants latched and whose beginning was not seen."
        "Open the connection anew: it is older than the gateway, or its beginning went another way. Look for asymmetric routes.";
    Ending "ending" "latching-04 2" Info BOTH "-"
        "The gateway ends, and lets nothing more pass."
        "Nothing if it was told to end: latched connections are reset before it does.";
    FlowTableFull "flow_table_full" "latching-04 2" Warn BOTH "-"
        "No room to remember another flow, so none is let in."
        "`status` says how many latches there are and how many are half open: look for a scan or a flood in `flow list`.";
    NoBuffer "no_buffer" "-" Warn BOTH "XfrmInBufferError"
        "No room in a send buffer."
        "In numbers, report it with `status --json`.";
    Truncated "truncated" "-" Error INBOUND "XfrmInBufferError"
        "A datagram longer than the receive buffer."
        "Look for a sender of oversized datagrams on the wire: no peer needs them.";
    TunDown "tun_down" "-" Warn BOTH "-"
        "The TUN is set down, so it takes nothing until it is up again."
        "`ip link set NAME up` for the TUN, and find out who set it down.";
    IoFull "io_full" "-" Warn BOTH "XfrmInBufferError"
        "The socket or the TUN took no more."
        "More arrives than the socket or the inner hosts take: `top` says from whom. Short bursts are usual.";
    IoError "io_error" "-" Error BOTH "XfrmInError"
        "The socket or the TUN refused the packet."
        "Is there a route to the peer, and is the link up (`ip route get` in the outer namespace)? A packet filter may refuse it, too.";
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
    /// Answers to inner senders whose connection is over (L-87, L-103). The packets are drops besides.
    pub told_over: Counter,
    /// Messages to inner senders whose packets policy discards (RFC 4301 5.1.1). The packets are drops besides.
    pub told_prohibited: Counter,
    /// Inner IPv4 packets that were sealed in fragments (RFC 4301 8.2.1 case 2). Each fragment counts as a packet.
    pub fragmented: Counter,
    /// Inner and outer ECN fields that no tunnel makes, where the packet went on (RFC 6040 4.2).
    pub ecn_unusual: Counter,
    /// Unauthenticated messages that the path of an SA takes less than it is thought to (RFC 4301 8.2, T18).
    pub mtu_hints: Counter,
    /// Packets by which the gateway asked what a path takes.
    pub mtu_probes: Counter,
    /// Packets that answered them.
    pub mtu_probes_answered: Counter,
    /// Peers that were found elsewhere by an authenticated packet (RFC 7296 2.23).
    pub peers_moved: Counter,
    /// NAT keepalives sent (RFC 3948 2.3, 4).
    pub keepalives: Counter,
    /// Dummy packets sent (RFC 4303 2.6).
    pub dummies: Counter,
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
            told_over: Counter::default(),
            told_prohibited: Counter::default(),
            fragmented: Counter::default(),
            ecn_unusual: Counter::default(),
            mtu_hints: Counter::default(),
            mtu_probes: Counter::default(),
            mtu_probes_answered: Counter::default(),
            peers_moved: Counter::default(),
            keepalives: Counter::default(),
            dummies: Counter::default(),
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
