//! The provider of the demo and the benchmarks: fresh random keys for the two ends of one tunnel, made in memory, used
//! for one run and shown to nobody (RFC 8221 section 3 forbids counter modes any other key that no exchange made).

use getrandom::Error;
use latchway_datapath::lifetime::Limits;
use latchway_datapath::sad::{Follow, Path, Scope, Shape};
use latchway_esp::{Align, AntiReplay, KeyMaterial, SequenceKind, Spi, Suite};
use latchway_tagging::WorkerId;
use zeroize::Zeroizing;

use crate::install::{InstallError, KeyOrigin, Keys, SaKeys, Start};

/// What both directions of the tunnel have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// How packets are protected.
    pub suite: Suite,
    /// How wide the numbers are.
    pub sequence: SequenceKind,
    /// Whether both ends refuse replays.
    pub anti_replay: AntiReplay,
    /// The soft and hard lifetime.
    pub limits: Limits,
    /// How both ends begin.
    pub start: Start,
}

/// One end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Where it sends.
    pub path: Path,
    /// The worker that owns its SAs.
    pub worker: WorkerId,
}

/// Why no keys could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EphemeralError {
    /// The system gave no random octets.
    #[error("the system gives no random numbers ({0}); no keys were made")]
    NoRandomness(Error),
    /// Draw after draw, the SPI was in use or reserved.
    #[error("no free SPI was found; remove SAs that are no longer needed")]
    NoFreeSpi,
    /// No SA can be made of this.
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// Makes the keys of the two ends: what one seals with, the other opens with, and either direction has a key and an
/// SPI of its own. `is_free` says whether an SPI is unused at both ends, as [`Keying::is_free`](crate::Keying::is_free)
/// does for one.
///
/// # Errors
/// [`EphemeralError`]; nothing is left of what was made until then.
pub fn keys(
    tunnel: &Tunnel,
    ends: (End, End),
    is_free: impl Fn(Spi) -> bool,
) -> Result<(Keys, Keys), EphemeralError> {
    let one = draw_spi(&mut getrandom::fill, &is_free)?;
    let other = draw_spi(&mut getrandom::fill, |spi| spi != one && is_free(spi))?;
    let (one_inbound, other_outbound) = direction(tunnel, one)?;
    let (other_inbound, one_outbound) = direction(tunnel, other)?;
    Ok((end(tunnel, ends.0, one_inbound, one_outbound), end(tunnel, ends.1, other_inbound, other_outbound)))
}

/// A fresh SPI and key for one direction between gateways in two processes: the octets, key before salt, go to both
/// ends and nowhere else.
///
/// # Errors
/// [`EphemeralError`]
pub fn direction_octets(
    suite: Suite,
    is_free: impl Fn(Spi) -> bool,
) -> Result<(Spi, Zeroizing<Vec<u8>>), EphemeralError> {
    Ok((draw_spi(&mut getrandom::fill, is_free)?, key_octets(suite)?))
}

fn key_octets(suite: Suite) -> Result<Zeroizing<Vec<u8>>, EphemeralError> {
    let mut octets = Zeroizing::new(vec![0; suite.key_len() + suite.salt_len()]);
    getrandom::fill(&mut octets).map_err(EphemeralError::NoRandomness)?;
    Ok(octets)
}

/// One direction, as its receiver and as its sender hold it.
fn direction(tunnel: &Tunnel, spi: Spi) -> Result<(SaKeys, SaKeys), EphemeralError> {
    let Tunnel { suite, sequence, limits, .. } = *tunnel;
    let octets = key_octets(suite)?;
    let hold = || -> Result<SaKeys, EphemeralError> {
        let material = KeyMaterial::new(suite, &octets).map_err(InstallError::from)?;
        Ok(SaKeys { spi, material, sequence, limits })
    };
    Ok((hold()?, hold()?))
}

fn end(tunnel: &Tunnel, end: End, inbound: SaKeys, outbound: SaKeys) -> Keys {
    Keys {
        inbound,
        anti_replay: tunnel.anti_replay,
        outbound,
        header: None,
        align: Align::Rfc,
        path: end.path,
        shape: Shape::default(),
        follow: Follow::Fixed,
        scope: Scope::Selectors,
        origin: KeyOrigin::Ephemeral,
        resumption: None,
        worker: end.worker,
        start: tunnel.start,
    }
}

/// A random SPI that is neither reserved (RFC 4303 section 2.1) nor in use (T31).
fn draw_spi(
    fill: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
    is_free: impl Fn(Spi) -> bool,
) -> Result<Spi, EphemeralError> {
    for _ in 0..DRAWS {
        let mut octets = [0; 4];
        fill(&mut octets).map_err(EphemeralError::NoRandomness)?;
        let spi = Spi::new(u32::from_be_bytes(octets));
        if let Some(spi) = spi.filter(|spi| !spi.is_reserved() && is_free(*spi)) {
            return Ok(spi);
        }
    }
    Err(EphemeralError::NoFreeSpi)
}

/// After so many draws, more than half of all SPIs must be taken, or the source gives no randomness.
const DRAWS: usize = 64;

#[cfg(test)]
mod tests {
    use latchway_esp::{EspHeader, NextHeader};

    use super::*;
    use crate::testing::path;

    fn tunnel(suite: Suite) -> Tunnel {
        let anti_replay = AntiReplay::Window(latchway_esp::WindowSize::MIN);
        let (sequence, limits) = (SequenceKind::Extended, Limits::default());
        Tunnel { suite, sequence, anti_replay, limits, start: Start::Active }
    }

    fn ends() -> (End, End) {
        let end = |port| End { path: path(port), worker: WorkerId(0) };
        (end(1), end(2))
    }

    #[test]
    fn what_one_end_seals_only_the_other_opens_in_every_suite() {
        for suite in Suite::RECOMMENDED {
            let (one, other) = keys(&tunnel(suite), ends(), |_| true).unwrap();
            assert_eq!((one.origin, other.origin), (KeyOrigin::Ephemeral, KeyOrigin::Ephemeral));
            let (one, other) = (one.build().unwrap(), other.build().unwrap());
            let (one_in, mut one_out, mut other_in) = (one.inbound, one.outbound, other.inbound);
            let mut packet = vec![0; one_out.sealed_len(100)];
            let seq = one_out.take(1).unwrap().next_seq().unwrap();
            one_out.seal(seq, NextHeader::IPV4, &mut packet, 100).unwrap();
            let header = EspHeader::parse(&packet).unwrap();
            assert_eq!(header.spi, other_in.spi());
            assert_ne!(one_in.spi(), other_in.spi());
            // Directions have keys of their own: what was sealed does not open at its sender.
            let own = one_in.check(header.seq).unwrap();
            assert!(one_in.open(own, &mut packet.clone()).is_err());
            let seq = other_in.check(header.seq).unwrap();
            let (_, verified) = other_in.open(seq, &mut packet).unwrap();
            other_in.commit(verified).unwrap();
            one_in.check(header.seq).unwrap();
        }
    }

    #[test]
    fn t31_reserved_and_taken_spis_are_drawn_again() {
        let mut source = [0_u32, 1, 255, 4096, 256].into_iter();
        let mut fill = |octets: &mut [u8]| {
            octets.copy_from_slice(&source.next().unwrap().to_be_bytes());
            Ok(())
        };
        let spi = draw_spi(&mut fill, |spi| spi.get() != 4096).unwrap();
        assert_eq!(spi.get(), 256);
        let none = draw_spi(&mut |_| Ok(()), |_| true);
        assert_eq!(none, Err(EphemeralError::NoFreeSpi));
    }

    /// T40.
    #[test]
    fn ephemeral_keys_are_shown_by_nothing() {
        let (one, _) = keys(&tunnel(Suite::AES_128_GCM), ends(), |_| true).unwrap();
        assert_eq!(format!("{one:?}").matches("octets: \"redacted\"").count(), 2);
    }
}
