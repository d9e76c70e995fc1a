//! How long an inner packet becomes on its way, and how long it may be to fit: exact, for one SA (RFC 4303 section 2, RFC
//! 4302 section 2, RFC 3948 section 2).
//!
//! The one place where lengths of different layers are added up. What leaves, what an inner sender is told, what `mtu
//! explain` prints and what the tests measure are compared with it (T23).

use latchway_esp::{Align, HEADER_LEN, Suite};
use latchway_tagging::Mode;

use crate::arrival::Carrier;
use crate::sad::{Path, Role, SadEntry, Tfc};

/// What surrounds the inner packets of an outbound SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fitting {
    /// The suite of ESP, where there is ESP.
    esp: Option<Suite>,
    /// The length of the AH header, where there is AH.
    ah: usize,
    mode: Mode,
    carrier: Carrier,
    outer_v6: bool,
    tfc: Tfc,
}

/// The octets of one packet as it leaves, layer by layer from the outside in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The outer IP header; none in transport mode, where the packet keeps its own.
    pub outer_header: usize,
    /// The UDP header.
    pub udp: usize,
    /// The authentication header.
    pub ah: usize,
    /// SPI and sequence number.
    pub esp_header: usize,
    /// The initialisation vector.
    pub iv: usize,
    /// The inner packet, header first.
    pub inner: usize,
    /// What is added to hide its length (RFC 4303 section 2.7).
    pub tfc: usize,
    /// What makes the payload end where it must (RFC 4303 section 2.4).
    pub padding: usize,
    /// Pad length and next header.
    pub trailer: usize,
    /// The integrity check value.
    pub icv: usize,
}

impl Fitting {
    /// Of an SA with this suite, on this path.
    #[must_use]
    pub const fn new(suite: Suite, mode: Mode, path: &Path) -> Self {
        let (carrier, outer_v6) = (path.carrier, path.to.is_ipv6());
        let plain = Self { esp: None, ah: 0, mode, carrier, outer_v6, tfc: Tfc::None };
        match suite.ah_len(outer_v6) {
            Some(ah) => Self { ah, ..plain },
            None => Self { esp: Some(suite), ..plain },
        }
    }

    /// The same with AH by this suite around it, or AH aligned like this (RFC 4301 section 4.3, RFC 4302 section 2.6).
    #[must_use]
    pub const fn within(self, ah: Suite, align: Align) -> Self {
        match ah.ah_len(self.outer_v6 || matches!(align, Align::Eight)) {
            Some(ah) => Self { ah, ..self },
            None => self,
        }
    }

    /// The same with an AH header of this length.
    #[must_use]
    pub const fn behind(self, ah: usize) -> Self {
        Self { ah, ..self }
    }

    /// Of an outbound SA with this suite; `None` for an inbound one.
    #[must_use]
    pub fn of(entry: &SadEntry, suite: Suite) -> Option<Self> {
        match &entry.role {
            Role::Outbound { path, shape, .. } => Some(Self::new(suite, entry.mode, path).hiding(shape.tfc)),
            Role::Inbound { .. } => None,
        }
    }

    /// The same, hiding lengths.
    #[must_use]
    pub const fn hiding(self, tfc: Tfc) -> Self {
        Self { tfc, ..self }
    }

    /// The outer packet's octets around an inner packet of `inner_len`, of which in transport mode the first `front` are
    /// its own header. Lengths that no packet has saturate.
    #[inline]
    #[must_use]
    pub const fn outer_len(&self, inner_len: usize, front: usize) -> usize {
        let front = self.in_front(front);
        let payload = inner_len.saturating_sub(front);
        let sealed = match self.esp {
            Some(suite) => suite.sealed_len(payload),
            None => payload,
        };
        sealed.saturating_add(front + self.outer_header() + self.udp() + self.ah)
    }

    /// The longest inner packet that an outer one of `mtu` octets has room for, where in transport mode its own header is
    /// `front` octets; 0 where there is none.
    #[inline]
    #[must_use]
    pub const fn max_inner(&self, mtu: usize, front: usize) -> usize {
        let front = self.in_front(front);
        let payload = match (mtu.checked_sub(front + self.outer_header() + self.udp() + self.ah), self.esp) {
            (Some(room), Some(suite)) => suite.max_payload(room),
            (room, _) => room,
        };
        match payload {
            Some(payload) if payload + front < LONGEST => payload + front,
            Some(_) => LONGEST,
            None => 0,
        }
    }

    /// The length that a packet of `inner_len` is given where lengths are hidden: never more than fits.
    #[inline]
    #[must_use]
    pub const fn hidden_len(&self, inner_len: usize, max_inner: usize) -> usize {
        let wanted = match self.tfc {
            Tfc::None => inner_len,
            Tfc::Mtu => max_inner,
            Tfc::Multiple(step) => match inner_len.checked_next_multiple_of(step as usize) {
                Some(wanted) => wanted,
                None => inner_len,
            },
        };
        let most = if wanted < max_inner { wanted } else { max_inner };
        if most > inner_len { most } else { inner_len }
    }

    /// The octets of a packet as it leaves on a path that takes `mtu`.
    #[must_use]
    pub const fn parts(&self, inner_len: usize, mtu: usize) -> Parts {
        let front = self.usual_front();
        let hidden = self.hidden_len(inner_len, self.max_inner(mtu, front));
        let total = self.outer_len(hidden, front);
        let (udp, outer_header) = (self.udp(), self.outer_header());
        let (inner, tfc) = (inner_len, hidden - inner_len);
        let around = Parts { outer_header, udp, ah: self.ah, inner, tfc, ..Parts::NONE };
        let Some(suite) = self.esp else { return around };
        let unpadded = Parts {
            esp_header: HEADER_LEN,
            iv: suite.iv_len(),
            trailer: TRAILER_LEN,
            icv: suite.icv_len(),
            ..around
        };
        Parts { padding: total.saturating_sub(unpadded.total()), ..unpadded }
    }

    /// The octets of an inner packet's own header where it has neither options nor extension headers: in transport mode it
    /// is of the outer family.
    #[must_use]
    pub const fn usual_front(&self) -> usize {
        if self.outer_v6 { IPV6_LEN } else { IPV4_LEN }
    }

    /// Tunnel or transport (RFC 4301 section 4.1).
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    const fn in_front(&self, front: usize) -> usize {
        match self.mode {
            Mode::Tunnel => 0,
            Mode::Transport => front,
        }
    }

    const fn outer_header(&self) -> usize {
        match self.mode {
            Mode::Tunnel => self.usual_front(),
            Mode::Transport => 0,
        }
    }

    const fn udp(&self) -> usize {
        match self.carrier {
            Carrier::Udp => UDP_LEN,
            Carrier::Native => 0,
        }
    }
}

impl Parts {
    const NONE: Self = Self {
        outer_header: 0,
        udp: 0,
        ah: 0,
        esp_header: 0,
        iv: 0,
        inner: 0,
        tfc: 0,
        padding: 0,
        trailer: 0,
        icv: 0,
    };

    /// The whole outer packet.
    #[must_use]
    pub const fn total(&self) -> usize {
        let Self { outer_header, udp, ah, esp_header, iv, inner, tfc, padding, trailer, icv } = *self;
        outer_header + udp + ah + esp_header + iv + inner + tfc + padding + trailer + icv
    }
}

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
/// Pad length and next header (RFC 4303 section 2).
const TRAILER_LEN: usize = 2;

/// The most that an IPv4 packet can have, and an IPv6 payload.
const LONGEST: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_esp::{Integrity, Protocol};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    /// Every suite x mode x carrier x family that there is, ESP with and without AH around it, and how long its header is.
    fn fittings() -> Vec<(Fitting, Suite, Mode, Carrier, bool, usize)> {
        let mut all = Vec::new();
        for suite in Suite::all() {
            for (mode, carrier, v6) in places() {
                let to: SocketAddr =
                    if v6 { (Ipv6Addr::LOCALHOST, 4500).into() } else { (Ipv4Addr::LOCALHOST, 4500).into() };
                let path = Path { carrier, ..Path::udp(0, to, 1500) };
                let fitting = Fitting::new(suite, mode, &path);
                if suite.protocol() == Protocol::Esp {
                    all.push((fitting, suite, mode, carrier, v6, 0));
                    if carrier == Carrier::Native {
                        // RFC 4302 2.6: 12 octets and an ICV of 16, which makes 28; over IPv6 a multiple of 8.
                        for (align, ah) in [(Align::Rfc, if v6 { 32 } else { 28 }), (Align::Eight, 32)] {
                            let around = fitting.within(Suite::ah(Integrity::HmacSha256), align);
                            all.push((around, suite, mode, carrier, v6, ah));
                        }
                    }
                } else if carrier == Carrier::Native {
                    let plain = 12 + suite.iv_len() + suite.icv_len();
                    let ah = if v6 { plain.next_multiple_of(8) } else { plain.next_multiple_of(4) };
                    all.push((fitting, suite, mode, carrier, v6, ah));
                    let eight = plain.next_multiple_of(8);
                    all.push((fitting.within(suite, Align::Eight), suite, mode, carrier, v6, eight));
                }
            }
        }
        all
    }

    fn places() -> impl Iterator<Item = (Mode, Carrier, bool)> {
        let modes = [Mode::Tunnel, Mode::Transport].into_iter();
        let carriers = [Carrier::Udp, Carrier::Native];
        modes
            .flat_map(move |mode| carriers.map(|carrier| (mode, carrier)))
            .flat_map(|(mode, carrier)| [false, true].map(|v6| (mode, carrier, v6)))
    }

    /// T23: written out from RFC 4303 section 2, RFC 4302 section 2 and RFC 3948 section 2, not computed by the code under
    /// test.
    #[test]
    fn t23_every_payload_has_the_length_of_its_layers() {
        let mut cases = 0;
        for (fitting, suite, mode, carrier, v6, ah) in fittings() {
            let ip = if v6 { 40 } else { 20 };
            let udp = if carrier == Carrier::Udp { 8 } else { 0 };
            for payload in 1..=1500_usize {
                let inner = if mode == Mode::Tunnel { payload } else { ip + payload };
                let within = match suite.protocol() {
                    Protocol::Esp => {
                        let aligned = (payload + 2).next_multiple_of(suite.pad_alignment());
                        4 + 4 + suite.iv_len() + aligned + suite.icv_len()
                    }
                    Protocol::Ah => payload,
                };
                let expected = ip + udp + ah + within;
                assert_eq!(fitting.outer_len(inner, ip), expected, "{suite} {mode:?} {carrier:?} {payload}");
                let parts = fitting.parts(inner, usize::MAX);
                assert_eq!((parts.total(), parts.inner, parts.ah), (expected, inner, ah));
                assert!(parts.padding < suite.pad_alignment().max(1));
                cases += 1;
            }
        }
        assert!(cases > 1500 * 500, "{cases}");
    }

    /// T06: what fits is the longest that fits, at every size of path around an MTU.
    #[test]
    fn t06_the_longest_packet_that_fits_is_exact() {
        for (fitting, suite, ..) in fittings() {
            for front in [fitting.usual_front(), fitting.usual_front() + 8, 60] {
                for mtu in (500..=640).chain(1280 - 64..=1500 + 64) {
                    let most = fitting.max_inner(mtu, front);
                    assert!(fitting.outer_len(most, front) <= mtu, "{suite} {mtu}");
                    assert!(fitting.outer_len(most + 1, front) > mtu, "{suite} {mtu}");
                }
            }
            for mtu in [0, 1, 19] {
                assert_eq!(fitting.max_inner(mtu, fitting.usual_front()), 0);
            }
            assert_eq!(fitting.max_inner(usize::MAX, 20), 65_535);
        }
    }

    /// RFC 4303 2.7: what hides a length neither shortens a packet nor makes one that does not fit.
    #[test]
    fn rfc_4303_2_7_hidden_lengths_fit() {
        for (fitting, suite, ..) in fittings() {
            let steps = [Tfc::None, Tfc::Mtu, Tfc::Multiple(0), Tfc::Multiple(1), Tfc::Multiple(256)];
            for tfc in steps {
                let fitting = fitting.hiding(tfc);
                for inner in (40..=1600).step_by(7) {
                    let front = fitting.usual_front();
                    let most = fitting.max_inner(1500, front);
                    let hidden = fitting.hidden_len(inner, most);
                    assert!(hidden >= inner, "{suite} {tfc:?} {inner}");
                    assert!(hidden == inner || fitting.outer_len(hidden, front) <= 1500);
                    if inner <= most {
                        match tfc {
                            Tfc::Mtu => assert_eq!(hidden, most),
                            Tfc::Multiple(256) => {
                                assert!(hidden.is_multiple_of(256) || hidden == most, "{inner} {hidden}");
                            }
                            _ => assert_eq!(hidden, inner),
                        }
                    }
                    assert_eq!(fitting.parts(inner, 1500).total(), fitting.outer_len(hidden, front));
                }
            }
        }
    }
}
