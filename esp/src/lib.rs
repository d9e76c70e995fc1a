//! Bytes to protected bytes: ESP and AH, suites, replay windows, extended sequence numbers.
//!
//! Covers RFC 4303 and RFC 4302 with the suites of RFC 8221: AES-GCM, AES-CCM, AES-GMAC and ChaCha20-Poly1305, with explicit
//! and implicit IVs, and AES-CBC, AES-CTR or NULL with HMAC or AES-CMAC; and the demultiplexing of RFC 3948. Sans-IO: no
//! clock, no threads, no allocation once a security association exists. The order of a receiver is held by types: only
//! [`InboundSa::open`] and [`InboundSa::verify`] make a [`Verified`] number, only a [`Verified`] number moves the window, and a
//! [`FreshSeq`] seals one packet.
//!
//! ```
//! use latchway_esp::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let octets = [7; 20];
//! let (suite, sequence) = (Suite::AES_128_GCM, SequenceKind::Extended);
//! let keys = &KeyMaterial::new(suite, &octets)?;
//! let spi = Spi::new(0xc0de_cafe).ok_or("SPI 0")?;
//! let anti_replay = AntiReplay::Window(WindowSize::default());
//! let mut sender = OutboundSa::new(OutboundConfig { spi, suite, keys, sequence, reservation: None })?;
//! let mut receiver = InboundSa::new(InboundConfig { spi, suite, keys, sequence, anti_replay, top: None })?;
//!
//! let payload = b"an IPv4 packet";
//! let mut packet = vec![0; sender.sealed_len(payload.len())];
//! packet[sender.payload_offset()..][..payload.len()].copy_from_slice(payload);
//! let seq = sender.take(1)?.next_seq().ok_or("one was taken")?;
//! let len = sender.seal(seq, NextHeader::IPV4, &mut packet, payload.len())?;
//!
//! let seq = receiver.check(EspHeader::parse(&packet)?.seq)?;
//! let (opened, verified) = receiver.open(seq, &mut packet[..len])?;
//! receiver.commit(verified)?;
//! assert_eq!(opened.decapsulate()?.payload, payload);
//! assert_eq!(receiver.check(seq.low()), Err(ReplayError::Replayed));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod ah;
mod crypto;
mod error;
mod esn;
mod header;
mod key;
mod number;
mod protocol;
mod replay;
mod reservation;
mod sa;
mod sequence;
mod suite;
mod trailer;
mod udp_encap;

#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;

#[cfg(test)]
mod tests;

pub use ah::{AhHeader, AhVerified, Align};
pub use error::{
    BadHeaders, BadPadding, ConfigError, OpenError, ParseError, ReplayError, SealError, TakeError,
};
pub use esn::infer;
pub use header::EspHeader;
pub use key::{KeyMaterial, ShownKey};
pub use number::{EsnHigh, FreshSeq, FreshSeqs, SeqLow, SeqNum, Spi, Verified};
pub use protocol::Protocol;
pub use replay::{AntiReplay, ReplayWindow, WindowSize};
pub use reservation::{ReceivedTop, Reservation, ShownTop};
pub use sa::{InboundConfig, InboundSa, Opened, OutboundConfig, OutboundSa};
pub use sequence::{SeqCounter, SequenceKind};
pub use suite::{AesKey, Cipher, Combined, HEADER_LEN, IcvLen, Integrity, Suite};
pub use trailer::{Decapsulated, NextHeader, PaddingContents};
pub use udp_encap::{Encapsulated, classify};
