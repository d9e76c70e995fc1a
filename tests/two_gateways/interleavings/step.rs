//! What may happen next.

use latchway_datapath::latching::{LatchTerms, OnConflict, OnPolicyChange};
use latchway_keying::PeerGone;

/// One thing that happens. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A peer's SAs are proposed and installed.
    Join { peer: usize, place: Option<usize>, weak: bool, narrowed: bool, standby: bool },
    /// A pair gets a successor.
    Rekey { pair: usize },
    /// A pair is told to send, to send no more, or to go.
    Turn { pair: usize, turn: Turn },
    /// The policy of one place, or of both, is another: as configured, or by a rule made by hand.
    Policy { place: usize, policy: Policy, by_hand: bool },
    /// A rule made by hand is taken back.
    Unrule,
    /// The key manager does what time brings, and hears what the datapath told.
    Poll,
    /// The worker ends its batch and begins another.
    Batch,
    /// The worker waits for packets.
    Rest,
    /// Time passes.
    Wait { seconds: u64 },
    /// A packet comes under the inbound SA of a pair, past or present.
    Inbound { pair: usize, flow: usize, kind: Kind, fresh: bool },
    /// One comes in the clear.
    Unprotected { flow: usize, kind: Kind },
    /// An inner host sends one.
    Outbound { flow: usize, kind: Kind, fresh: bool },
    /// Somebody comes who may hold latches.
    Holder,
    /// A holder asks for a latch of one connection.
    Connect { holder: usize, flow: usize, wish: Wish, on_conflict: Option<OnConflict> },
    /// A holder awaits connections.
    Listen { holder: usize, picky: bool, on_conflict: Option<OnConflict> },
    /// A holder lets go of a latch, its own or not.
    Release { holder: usize, latch: usize },
    /// An administrator closes a latch.
    Close { latch: usize },
    /// A connection whose latch broke is ended, as the gateway does when it is told.
    Dispose { latch: usize },
    /// A holder dies.
    Death { holder: usize },
    /// Handles of latches that are gone are tried.
    Stale { latch: usize },
    /// A peer is known to be gone.
    Gone { peer: usize, why: PeerGone },
    /// The key manager ends and is rebuilt.
    Recover,
}

/// What becomes of a pair.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    Activate,
    Retire,
    Drain,
    Remove,
}

/// What policy says of one place.
#[derive(Clone, Copy, Debug)]
pub enum Policy {
    Latched(LatchTerms),
    Unlatched,
    Bypass,
    Discard,
}

/// What is asked with a latch.
#[derive(Clone, Copy, Debug)]
pub enum Wish {
    Nothing,
    Peer(usize),
    Strong(usize),
    Bypass,
}

/// Packets. All numbers are those of a connection on which nobody says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Syn,
    SynAck,
    Ack,
    Fin,
    /// Acknowledges a FIN.
    LastAck,
    Reset,
}

impl Step {
    /// One of them.
    pub fn random(random: &mut fastrand::Rng) -> Self {
        let (pair, flow, latch, holder) =
            (random.usize(..8), random.usize(..FLOWS), random.usize(..16), random.usize(..4));
        let (peer, kind, fresh) = (peer(random), kind(random), random.u8(..4) > 0);
        match random.u8(..100) {
            0..8 => Self::Join {
                peer,
                place: Some(random.usize(..4)).filter(|place| *place < 2),
                weak: random.u8(..5) == 0,
                narrowed: random.u8(..4) == 0,
                standby: random.u8(..5) == 0,
            },
            8..10 => Self::Rekey { pair },
            10..14 => Self::Turn { pair, turn: turn(random) },
            14..17 => Self::Policy {
                place: random.usize(..3),
                policy: Policy::random(random),
                by_hand: random.bool(),
            },
            17..18 => Self::Unrule,
            18..32 => Self::Poll,
            32..42 => Self::Batch,
            42..44 => Self::Rest,
            44..46 => Self::Wait { seconds: [1, 1, 5, 12, 80, 150, 300][random.usize(..7)] },
            46..62 => Self::Inbound { pair, flow, kind, fresh },
            62..64 => Self::Unprotected { flow, kind },
            64..80 => Self::Outbound { flow, kind, fresh },
            80..82 => Self::Holder,
            82..87 => Self::Connect { holder, flow, wish: wish(random), on_conflict: override_of(random) },
            87..89 => Self::Listen { holder, picky: random.bool(), on_conflict: override_of(random) },
            89..91 => Self::Release { holder, latch },
            91..92 => Self::Close { latch },
            92..94 => Self::Dispose { latch },
            94..96 => Self::Death { holder },
            96..97 => Self::Stale { latch },
            97..98 => Self::Gone { peer, why: gone(random) },
            _ => Self::Recover,
        }
    }
}

impl Policy {
    /// One of them, most often one that latches.
    pub fn random(random: &mut fastrand::Rng) -> Self {
        match random.u8(..10) {
            0 => Self::Unlatched,
            1 => Self::Bypass,
            2 => Self::Discard,
            _ => Self::Latched(terms(random)),
        }
    }
}

/// Terms of latches that are never made by passing what could not be latched.
pub fn terms(random: &mut fastrand::Rng) -> LatchTerms {
    let terms = LatchTerms::from_bits(random.u32(..1 << LatchTerms::BITS));
    let keeps = random.u8(..3) == 0;
    let on_policy_change = if keeps { OnPolicyChange::Preserve } else { OnPolicyChange::Break };
    LatchTerms { on_policy_change, unlatchable: Default::default(), ..terms }
}

/// How many connections may be meant: two places, TCP and UDP.
pub const FLOWS: usize = 6;

fn peer(random: &mut fastrand::Rng) -> usize {
    [0, 0, 0, 0, 1, 1, 2][random.usize(..7)]
}

fn kind(random: &mut fastrand::Rng) -> Kind {
    use Kind::{Ack, Fin, LastAck, Reset, Syn, SynAck};
    [Syn, Syn, Syn, SynAck, SynAck, Ack, Ack, Ack, Ack, Fin, LastAck, Reset][random.usize(..12)]
}

fn turn(random: &mut fastrand::Rng) -> Turn {
    [Turn::Activate, Turn::Retire, Turn::Drain, Turn::Remove][random.usize(..4)]
}

fn wish(random: &mut fastrand::Rng) -> Wish {
    let peer = peer(random);
    [Wish::Nothing, Wish::Peer(peer), Wish::Strong(peer), Wish::Bypass][random.usize(..4)]
}

fn override_of(random: &mut fastrand::Rng) -> Option<OnConflict> {
    random.bool().then(|| terms(random).on_conflict)
}

fn gone(random: &mut fastrand::Rng) -> PeerGone {
    [PeerGone::Dead, PeerGone::InitialContact, PeerGone::Withdrawn][random.usize(..3)]
}
