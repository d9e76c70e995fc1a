//! What a provider hands in to make an offer real: SPIs, keys and paths of both directions.

use std::net::{IpAddr, SocketAddr};

use latchway_datapath::arrival::Carrier;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::lifetime::Limits;
use latchway_datapath::sad::{Follow, InsertError, Path, Scope, Shape, Usage};
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_esp::{
    Align, AntiReplay, ConfigError, InboundConfig, InboundSa, KeyMaterial, OutboundConfig, OutboundSa,
    Protocol, ReceivedTop, Reservation, SeqNum, SequenceKind, ShownTop, Spi, Suite,
};
use latchway_tagging::{Mode, WorkerId};

use crate::proposal::Proposal;

/// Both directions of a pair.
#[derive(Debug)]
pub struct Keys {
    /// Of what we receive; the SPI is ours.
    pub inbound: SaKeys,
    /// Whether our inbound SA refuses replays, and how far back it looks.
    pub anti_replay: AntiReplay,
    /// Of what we send; the SPI is the peer's.
    pub outbound: SaKeys,
    /// Of the AH around both, of a bundle (RFC 4301 section 4.3).
    pub header: Option<HeaderKeys>,
    /// How long a header of AH is a multiple of.
    pub align: Align,
    /// Where it is sent.
    pub path: Path,
    /// What packets look like from outside, and what becomes of outer headers that arrive.
    pub shape: Shape,
    /// What becomes of packets from elsewhere than the path leads to.
    pub follow: Follow,
    /// What inner packets have to meet besides the selectors.
    pub scope: Scope,
    /// Where the keys come from.
    pub origin: KeyOrigin,
    /// Where the numbers go on, of keys that are on record and may have been used before.
    pub resumption: Option<Resumption>,
    /// The worker that will own both SAs.
    pub worker: WorkerId,
    /// What becomes of the pair when nothing stands against it any more.
    pub start: Start,
}

/// The AH of a bundle: both directions. It carries what ESP does, and ends with it.
#[derive(Debug)]
pub struct HeaderKeys {
    /// Of what we receive; the SPI is ours.
    pub inbound: SaKeys,
    /// Of what we send; the SPI is the peer's.
    pub outbound: SaKeys,
}

/// One direction of a pair.
#[derive(Debug)]
pub struct SaKeys {
    /// What packets carry.
    pub spi: Spi,
    /// The secret, for this SA alone.
    pub material: KeyMaterial,
    /// How wide the numbers are.
    pub sequence: SequenceKind,
    /// The soft and hard lifetime.
    pub limits: Limits,
}

/// Where both SAs go on under keys whose numbers are on record (T12): no number is taken twice, nor accepted twice. The
/// record says that neither key serves anything else.
#[derive(Debug)]
pub struct Resumption {
    /// The first number that the outbound SA takes.
    pub next: SeqNum,
    /// How far it may count.
    pub reservation: Reservation,
    /// Numbers up to this one count as received.
    pub after: SeqNum,
    /// Where the inbound SA tells what it received.
    pub top: ReceivedTop,
    /// The same of the AH around both, of a bundle.
    pub header: Option<Box<Resumption>>,
}

impl Resumption {
    /// The same, of which no number can be taken.
    pub(crate) fn idle(self) -> Self {
        let reservation = Reservation::new(SeqNum(self.next.0.saturating_sub(1)));
        let header = self.header.map(|header| Box::new(header.idle()));
        Self { reservation, header, ..self }
    }
}

/// The cryptographic state of a pair.
pub(crate) struct Built {
    pub(crate) inbound: InboundSa,
    pub(crate) outbound: OutboundSa,
    /// How far the first of them comes.
    pub(crate) received: Received,
    /// Of the AH around both.
    pub(crate) header: Option<(InboundSa, OutboundSa)>,
}

/// What an inbound SA receives, for who looks on.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    after: SeqNum,
    top: ShownTop,
}

impl Received {
    /// How many numbers were passed whose packets did not come, of which so many did (RFC 4303 section 3.4.3). `None` once the SA
    /// is gone.
    pub(crate) fn lost(&self, came: u64) -> Option<u64> {
        let passed = self.top.seq()?.0.saturating_sub(self.after.0);
        Some(passed.saturating_sub(came))
    }
}

/// Where keys come from, which decides what they may be used for (RFC 8221 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Made for this SA, used once and never stored: by a key exchange or for one run.
    Ephemeral,
    /// Placed by hand or stored, so that a restart uses them again.
    Static,
}

/// How a pair begins once it is settled (L-74).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Receives, but does not send until it is activated: the peer may not have it yet.
    Standby,
    /// In force.
    Active,
}

/// Why an offer cannot be made real. Nothing changed then but that the ticket is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// The ticket is not one of this key manager, or not any more.
    #[error("the ticket was used, has expired or is of another gateway; propose again")]
    TicketSpent,
    /// T12: after a restart, numbers would begin at 1 again under the same key.
    #[error(
        "{0} must not be used with static keys (RFC 8221 section 3): a restart repeats sequence numbers, and with them \
         nonces, under the same key, which gives away plaintext and lets packets be forged; use a key exchange or the \
         ephemeral provider, or a suite of AES-CBC with HMAC-SHA-2"
    )]
    StaticCounterMode(Suite),
    /// The keys are of another suite than was offered, and the class would lie.
    #[error("{offered} was offered and the keys are for {given}; propose the suite that the keys are for")]
    OtherSuite {
        /// The suite of the offer.
        offered: Suite,
        /// The suite of the keys.
        given: Suite,
    },
    /// Type of protection is part of the class (L-6).
    #[error("the offer and the keys differ in whether AH goes around ESP; propose what will be installed")]
    OtherNesting,
    /// RFC 3948 knows ESP alone.
    #[error("there is no AH in UDP (RFC 3948); give a path without UDP, or use ESP alone")]
    HeaderInUdp,
    /// Whoever writes outer headers, or carries what is between the ends, knows his own end.
    #[error(
        "the path must begin at a single address of ours, in transport mode and without UDP; listen on that address"
    )]
    NoSource,
    /// RFC 4301 section 4.1: the ends of a transport-mode SA are those of what it carries.
    #[error(
        "in transport mode nothing else is carried than between {0} and {1}; propose that, or use tunnel mode"
    )]
    TransportEnds(IpAddr, IpAddr),
    /// Whoever relays one packet of a peer from elsewhere would stop a pair that carries nothing between other ends (T34).
    #[error(
        "in transport mode the peer's address is that of what is carried, so that it cannot move: leave `follow` out, or use \
         tunnel mode"
    )]
    TransportMoves,
    /// Replay checking is part of the class (L-10).
    #[error("the offer and the keys differ in whether replays are checked; propose what will be installed")]
    OtherReplay,
    /// An inbound SA has this SPI (T31).
    #[error("an inbound SA has SPI {0} already; choose another")]
    DuplicateSpi(Spi),
    /// An SPI that is about to be free, but not yet.
    #[error(
        "SPI {0} stays with the SA that is being replaced until what is under way has arrived; a new key needs a new SPI, \
         at both ends"
    )]
    DrainingSpi(Spi),
    /// Packets of a deleted SA with this SPI may be under way.
    #[error("SPI {0} was deleted a moment ago and rests; choose another")]
    RestingSpi(Spi),
    /// To the receiver an SPI names one SA (RFC 4301 section 4.1).
    #[error("an outbound SA to {1} has SPI {0} already; the peer must choose another")]
    DuplicateOutbound(Spi, SocketAddr),
    /// T11: under one key, numbers begin at 1 once, and one end seals (RFC 4106 section 2, RFC 7634 section 2).
    #[error(
        "the key of SPI {0} was installed before, or serves the other direction too; make a fresh one for each SA, since \
         nonces would repeat under it"
    )]
    RepeatedKey(Spi),
    /// No SA can be made of this.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The SAD does not take the SA.
    #[error(transparent)]
    Insert(#[from] InsertError),
    /// Every slot of the SAD is taken or rests.
    #[error("the SAD is full; remove pairs that are no longer needed, and wait for their slots to rest")]
    Full,
    /// A connection was latched since the offer, to a peer that does not give way (L-70, L-110).
    #[error(
        "a connection of {} with {} was latched meanwhile and does not give way to this pair; propose again to see why",
        .0.local(), .0.remote()
    )]
    LatchStands(FlowKey),
    /// The pair was removed before it came into force.
    #[error(
        "the pair was removed while latches were being looked after; propose again if it is still wanted"
    )]
    Removed,
}

impl SaKeys {
    /// One direction from octets, which are the suite's key followed by its salt, without limits. Wiping the original
    /// is the caller's part.
    ///
    /// # Errors
    /// [`InstallError`] where the SPI is 0 to 255 or the octets are not as many as the suite takes.
    pub fn from_octets(
        spi: u32,
        suite: Suite,
        octets: &[u8],
        sequence: SequenceKind,
    ) -> Result<Self, InstallError> {
        let spi = Spi::new(spi).filter(|spi| !spi.is_reserved()).ok_or(InsertError::ReservedSpi)?;
        let material = KeyMaterial::new(suite, octets)?;
        Ok(Self { spi, material, sequence, limits: Limits::default() })
    }
}

impl Keys {
    /// Both SAs, and those of the AH around them.
    pub(crate) fn each(&self) -> impl Iterator<Item = &SaKeys> {
        let header = self.header.iter().flat_map(|header| [&header.inbound, &header.outbound]);
        [&self.inbound, &self.outbound].into_iter().chain(header)
    }

    /// Whether the keys are those that were offered, and may be used so.
    pub(crate) fn check(&self, terms: &Proposal) -> Result<(), InstallError> {
        if self.header.is_some() != terms.header.is_some() {
            return Err(InstallError::OtherNesting);
        }
        let header = terms.header.iter().flat_map(|suites| [suites.inbound, suites.outbound]);
        let offered = [terms.suites.inbound, terms.suites.outbound].into_iter().chain(header);
        for (keys, offered) in self.each().zip(offered) {
            let given = keys.material.suite();
            if given != offered {
                return Err(InstallError::OtherSuite { offered, given });
            }
            // RFC 8221 section 3: no counter modes with manual keys (T12), unless a record keeps numbers from repeating.
            if self.origin == KeyOrigin::Static && self.resumption.is_none() && given.is_counter_mode() {
                return Err(InstallError::StaticCounterMode(given));
            }
        }
        if terms.replay_checked == matches!(self.anti_replay, AntiReplay::Off) {
            return Err(InstallError::OtherReplay);
        }
        check_follow(self.follow, terms)?;
        check_path(&self.path, terms)
    }

    /// Whether cryptographic state can be made of them. Nothing of what is on record is taken.
    pub(crate) fn check_config(&self) -> Result<(), ConfigError> {
        let check = |keys: (&SaKeys, &SaKeys), resumption: Option<&Resumption>| {
            let (after, next) = resumption.map_or((SeqNum(0), SeqNum(1)), |on| (on.after, on.next));
            InboundSa::resume_after(self.inbound_config(keys.0, None), after)?;
            OutboundSa::resume_at(outbound_config(keys.1, None), next).map(drop)
        };
        let resumption = self.resumption.as_ref();
        check((&self.inbound, &self.outbound), resumption)?;
        let Some(header) = &self.header else { return Ok(()) };
        check((&header.inbound, &header.outbound), resumption.and_then(|on| on.header.as_deref()))
    }

    /// The cryptographic state of all SAs. What is on record can be taken once.
    pub(crate) fn build(&self) -> Result<Built, ConfigError> {
        let resumption = self.resumption.as_ref();
        let (inbound, outbound, received) = self.build_pair((&self.inbound, &self.outbound), resumption)?;
        let of_header = resumption.and_then(|on| on.header.as_deref());
        let header = self.header.as_ref();
        let header = header.map(|header| self.build_pair((&header.inbound, &header.outbound), of_header));
        let header = header.transpose()?.map(|(inbound, outbound, _)| (inbound, outbound));
        Ok(Built { inbound, outbound, received, header })
    }

    fn build_pair(
        &self,
        (inbound, outbound): (&SaKeys, &SaKeys),
        resumption: Option<&Resumption>,
    ) -> Result<(InboundSa, OutboundSa, Received), ConfigError> {
        let (after, top) =
            resumption.map_or_else(|| (SeqNum(0), ReceivedTop::new()), |on| (on.after, on.top.clone()));
        let received = Received { after, top: top.show() };
        let inbound = self.inbound_config(inbound, Some(top));
        let (inbound, outbound) = match resumption {
            None => (InboundSa::new(inbound)?, OutboundSa::new(outbound_config(outbound, None))?),
            Some(Resumption { next, reservation, .. }) => {
                let outbound = outbound_config(outbound, Some(reservation.clone()));
                (InboundSa::resume_after(inbound, after)?, OutboundSa::resume_at(outbound, *next)?)
            }
        };
        Ok((inbound.aligned(self.align), outbound.aligned(self.align), received))
    }

    const fn inbound_config<'k>(&self, keys: &'k SaKeys, top: Option<ReceivedTop>) -> InboundConfig<'k> {
        let SaKeys { spi, ref material, sequence, .. } = *keys;
        let (suite, anti_replay) = (material.suite(), self.anti_replay);
        InboundConfig { spi, suite, keys: material, sequence, anti_replay, top }
    }
}

/// Whether the path is one for such SAs.
pub(crate) fn check_path(path: &Path, terms: &Proposal) -> Result<(), InstallError> {
    let Path { from, to, carrier, .. } = *path;
    let ah = terms.header.is_some() || terms.suites.outbound.protocol() == Protocol::Ah;
    if ah && carrier == Carrier::Udp {
        return Err(InstallError::HeaderInUdp);
    }
    let transport = terms.mode == Mode::Transport;
    if from.is_unspecified() && (transport || carrier == Carrier::Native) {
        return Err(InstallError::NoSource);
    }
    let is_end = |range: AddressRange, end| AddressRange::new(end, end) == Ok(range);
    let between_ends = |selector: &Selector| is_end(selector.local, from) && is_end(selector.remote, to.ip());
    if transport && !terms.selectors.iter().all(between_ends) {
        return Err(InstallError::TransportEnds(from, to.ip()));
    }
    Ok(())
}

/// Whether a peer may be followed.
pub(crate) fn check_follow(follow: Follow, terms: &Proposal) -> Result<(), InstallError> {
    match (follow, terms.mode) {
        (Follow::Follow, Mode::Transport) => Err(InstallError::TransportMoves),
        _ => Ok(()),
    }
}

const fn outbound_config(keys: &SaKeys, reservation: Option<Reservation>) -> OutboundConfig<'_> {
    let SaKeys { spi, ref material, sequence, .. } = *keys;
    OutboundConfig { spi, suite: material.suite(), keys: material, sequence, reservation }
}

impl From<Start> for Usage {
    fn from(start: Start) -> Self {
        match start {
            Start::Standby => Self::Standby,
            Start::Active => Self::Active,
        }
    }
}
