//! What went wrong in other implementations of IPsec and tunnels, and must not happen here, in our words: rows T01 to T41.

/// One of them.
pub struct Threat {
    /// As tests cite it.
    pub number: &'static str,
    /// What must not happen, or must.
    pub text: &'static str,
    /// What tests do not show.
    pub not_shown: Option<&'static str>,
    /// Why it cannot happen here, where it cannot.
    pub not_applicable: Option<&'static str>,
}

const fn threat(number: &'static str, text: &'static str) -> Threat {
    Threat { number, text, not_shown: None, not_applicable: None }
}

const fn in_part(number: &'static str, text: &'static str, not_shown: &'static str) -> Threat {
    Threat { number, text, not_shown: Some(not_shown), not_applicable: None }
}

const fn elsewhere(number: &'static str, text: &'static str, reason: &'static str) -> Threat {
    Threat { number, text, not_shown: None, not_applicable: Some(reason) }
}

/// All of them.
pub const THREATS: &[Threat] = &[
    threat(
        "T01",
        "A pad length is not believed before it is held against what precedes it, also behind a right ICV.",
    ),
    threat(
        "T02",
        "Inner lengths that contradict each other neither loop, nor reach beyond the packet, nor let what follows it pass as a part of it.",
    ),
    threat(
        "T03",
        "No packet is too short: every length, on every carrier, is a drop or a packet, keepalives and markers included.",
    ),
    threat(
        "T04",
        "No datagram ends a worker or stops another, however long, and however many the kernel joined.",
    ),
    in_part(
        "T05",
        "What failed to verify leaves no plaintext behind.",
        "that memory is owned and not shared while it is decrypted, the borrow checker says; there is no run under Miri",
    ),
    threat(
        "T06",
        "The longest packet with the most padding and the longest ICV stays within its buffer and its path.",
    ),
    threat("T07", "No window of an absurd size, and none that is off without having been asked for."),
    threat(
        "T08",
        "No number is accepted twice in whatever order numbers come, and what is forged moves no window.",
    ),
    in_part(
        "T09",
        "Two workers do not accept one number.",
        "an SA is one worker's: shown is that it is given away once",
    ),
    threat(
        "T10",
        "The high half of a number is not guessed wrong: near wraps, after losses, with anti-replay off.",
    ),
    threat("T11", "No nonce and no IV comes twice under a key, and IVs of CBC cannot be foretold."),
    in_part(
        "T12",
        "A key that is used again after a restart does not begin at 1 again.",
        "that a whole disk was put back to an older state cannot be told from here, which docs/static-keys.md says; nor is it tested",
    ),
    threat(
        "T13",
        "Nothing leaves in the clear that policy protects: not at expiry, at a rekey or reload, when the gateway is killed, nor when its devices go.",
    ),
    threat(
        "T14",
        "A rekey or a reload loses, doubles and misorders nothing, and what is told of an old SA does not hit its successor.",
    ),
    threat("T15", "A peer does not send from addresses that are not its own."),
    threat("T16", "From the outside nobody can tell whether an inner address is there, nor speak to it."),
    threat("T17", "Who can change routes on the link does not lead traffic past the tunnel."),
    threat("T18", "Forged ICMP errors shrink no path; they have it asked at most."),
    threat(
        "T19",
        "ICMP errors about protected packets go where those came from, protected, and nobody speaks of connections that are not its own.",
    ),
    threat(
        "T20",
        "Fragments neither pass policy by, nor overlap, nor take more memory than they may, nor panic anything.",
    ),
    threat("T21", "Extension headers hide nothing from policy, and no chain of them is walked for ever."),
    threat(
        "T22",
        "AH covers what it must whatever options and extension headers there are, and what routers change breaks nothing.",
    ),
    threat("T23", "No length is computed other than it then is on the wire."),
    threat("T24", "Key, salt, IV and ICV stand where the RFCs have them, for every suite."),
    in_part(
        "T25",
        "How long a comparison takes says nothing about an ICV.",
        "comparisons are those of the crates `subtle` and `ring`, which take as long wherever the difference lies; shown is that the answers do not differ; time is not measured",
    ),
    threat("T26", "Nothing is encrypted without integrity."),
    threat(
        "T27",
        "ECN and DSCP are carried over as the tables say, and no further than they are configured to.",
    ),
    threat("T28", "What the kernel's offloads join and cut is what was sent."),
    in_part(
        "T29",
        "The packets of a flow do not overtake each other.",
        "one worker carries all traffic, so order is that of its batches",
    ),
    threat("T30", "The fast search of the SPD finds nothing other than the rules in their order say."),
    threat("T31", "SPI 0 and reserved SPIs are no SA's, nor is one SPI two SAs'."),
    threat(
        "T32",
        "What goes while packets are under way leaves nothing behind, and a full queue loses no buffer.",
    ),
    threat("T33", "Keys and memory of what is gone are gone, too, and an intruder finds few ways on."),
    threat("T34", "A peer's address changes only by what is authentic and new."),
    elsewhere("T35", "TCP encapsulation (RFC 9329) is framed rightly.", "there is no encapsulation in TCP"),
    threat("T36", "Lifetimes end SAs once, in time, whatever becomes of the wall clock."),
    threat(
        "T37",
        "A latched connection never changes its peer or its protection, and none is latched to the wrong one.",
    ),
    in_part(
        "T38",
        "Each socket of a program that knows nothing of it is held to what is required, or refused.",
        "a hostile program may have other processes of its user send for it; `latchway exec` is for those",
    ),
    threat("T39", "A C interface survives wrong handles and threads."),
    threat("T40", "Keys are shown by nothing, and control takes no harm from whoever speaks to it."),
    in_part(
        "T41",
        "A flood of what is dropped is bounded in memory, in records and in answers.",
        "how much of good traffic a flood costs is not measured",
    ),
];
