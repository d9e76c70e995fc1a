//! AH, by a peer that has the key and by one that has not (T22).

use super::{keys, spi};
use crate::ah::{AhHeader, Align};
use crate::error::{OpenError, SealError};
use crate::number::{FreshSeqs, SeqNum};
use crate::protocol::Protocol;
use crate::replay::AntiReplay;
use crate::sa::{InboundConfig, InboundSa, OutboundConfig, OutboundSa};
use crate::sequence::SequenceKind;
use crate::suite::Suite;
use crate::trailer::NextHeader;

/// T22: an IP packet of any headers is authenticated, changed in one byte, and verified.
///
/// Input: one byte of choices, the number (8 bytes), where to change a byte and by what (3 bytes), the packet. As it is, the
/// packet is verified first; then its headers are led to AH, which is put behind them.
pub fn ah_with_key(input: &[u8]) {
    let Some((&[choices, a, b, c, d, e, f, g, h, at_high, at_low, change], packet)) =
        input.split_first_chunk()
    else {
        return;
    };
    let scene = Scene::of(choices);
    let number = SeqNum((u64::from_be_bytes([a, b, c, d, e, f, g, h]) & scene.sequence.last().0).max(1));
    let place = usize::from(u16::from_be_bytes([at_high, at_low]));
    let (sender, receiver) = (scene.sender(), scene.receiver());
    assert!(receiver.verify(number, packet, place).is_err(), "a stranger's packet was verified");

    let Some((mut packet, at)) = led_to_ah(packet, &sender) else { return };
    let before = packet.clone();
    let Some(seq) = FreshSeqs::new(number.0, 1).next_seq() else { return };
    let header_len = sender.ah_len(is_v6(&packet));
    match sender.authenticate(seq, &mut packet, at, NextHeader(6)) {
        Ok(()) => {}
        Err(SealError::Headers(reason)) => {
            assert!(
                matches!(receiver.verify(number, &packet, at), Err(OpenError::Headers(told)) if told == reason)
            );
            return;
        }
        Err(other) => unreachable!("{other}"),
    }
    assert_eq!(packet.get(..at), before.get(..at));
    assert_eq!(packet.get(at + header_len..), before.get(at + header_len..));
    let header = packet.get(at..).map(AhHeader::parse);
    assert!(matches!(header, Some(Ok(header)) if header.len == header_len && header.seq == number.low()));

    let place = place % packet.len();
    if let Some(byte) = packet.get_mut(place) {
        *byte ^= change;
    }
    match receiver.verify(number, &packet, at) {
        Ok((verified, seq)) => {
            assert!(change == 0 || place < at, "a change behind the IP headers was not noticed");
            assert_eq!((verified.payload, verified.authenticated_len), (at + header_len, packet.len()));
            assert_eq!(*seq.get(), number);
        }
        Err(_) => assert_ne!(change, 0, "an unchanged packet was not verified"),
    }
}

struct Scene {
    suite: Suite,
    sequence: SequenceKind,
    align: Align,
}

impl Scene {
    fn of(choices: u8) -> Self {
        let all = Suite::all().filter(|suite| suite.protocol() == Protocol::Ah).collect::<Vec<_>>();
        let suite = all.into_iter().cycle().nth((choices & 0x3f).into()).unwrap_or(Suite::AH_HMAC_SHA_256);
        let sequence = if choices & 0x80 == 0 { SequenceKind::Seq32 } else { SequenceKind::Extended };
        let align = if choices & 0x40 == 0 { Align::Rfc } else { Align::Eight };
        Self { suite, sequence, align }
    }

    fn sender(&self) -> OutboundSa {
        let Self { suite, sequence, align } = *self;
        let config = OutboundConfig { spi: spi(), suite, keys: &keys(suite), sequence, reservation: None };
        match OutboundSa::new(config) {
            Ok(sa) => sa.aligned(align),
            Err(error) => unreachable!("{error}"),
        }
    }

    fn receiver(&self) -> InboundSa {
        let Self { suite, sequence, align } = *self;
        let anti_replay = AntiReplay::Off;
        let config =
            InboundConfig { spi: spi(), suite, keys: &keys(suite), sequence, anti_replay, top: None };
        match InboundSa::new(config) {
            Ok(sa) => sa.aligned(align),
            Err(error) => unreachable!("{error}"),
        }
    }
}

/// The packet with room for AH where its headers end, which lead to it, and with its new length; and that place.
fn led_to_ah(packet: &[u8], sender: &OutboundSa) -> Option<(Vec<u8>, usize)> {
    let mut packet = packet.to_vec();
    let v6 = is_v6(&packet);
    let at = if v6 { end_of_chain(&mut packet)? } else { usize::from(packet.first()? & 0x0f) * 4 };
    if !v6 {
        *packet.first_mut()? = packet.first()? & 0x0f | 0x40;
        *packet.get_mut(9)? = Protocol::Ah.number();
    }
    let payload = packet.get(at..)?.to_vec();
    packet.truncate(at);
    packet.resize(at + sender.ah_len(v6), 0);
    packet.extend(payload);
    let (field, counted) = if v6 { (4, packet.len().checked_sub(40)?) } else { (2, packet.len()) };
    let counted = u16::try_from(counted).ok()?.to_be_bytes();
    packet.get_mut(field..)?.first_chunk_mut().map(|field| *field = counted)?;
    Some((packet, at))
}

/// Where the extension headers end that are there; what would come behind them is AH.
fn end_of_chain(packet: &mut [u8]) -> Option<usize> {
    let (mut kind_at, mut at) = (6, 40);
    loop {
        let len = match *packet.get(kind_at)? {
            0 | 43 | 60 => packet.get(at + 1).map(|words| (usize::from(*words) + 1) * 8),
            44 => Some(8),
            _ => None,
        };
        match len.filter(|len| at + len <= packet.len()) {
            Some(len) => (kind_at, at) = (at, at + len),
            None => {
                *packet.get_mut(kind_at)? = Protocol::Ah.number();
                return Some(at);
            }
        }
    }
}

fn is_v6(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6)
}
