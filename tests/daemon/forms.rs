//! In what mode and form packets travel, as the file says it: native tunnels of every family, AH, bundles, transport mode.

use std::net::IpAddr;
use std::time::Duration;

use latchway_netns::Links;
use latchway_netns::ping::{self, Echo};
use latchway_netns::watch::Sniffer;

use crate::site::{Side, Site, TUN, Terms, WIRE};
use crate::{PATIENCE, eventually, scenario};

/// How two gateways talk, and what is to be seen of it.
struct Form<'t> {
    /// Keys of the pair of SAs.
    terms: &'t str,
    /// Outer and inner addresses, with their prefix lengths: `N` is the end's number.
    outer: &'static str,
    inner: &'static str,
    /// What `sa list` says.
    shown: &'static [&'static str],
    /// The IP protocol on the wire.
    protocol: u8,
}

const ESP: u8 = 50;
const AH: u8 = 51;
const V4: &str = "192.0.2.N/24";
const V6: &str = "2001:db8::N/64";
const IN_V4: &str = "10.N.0.1/24";
const IN_V6: &str = "fd00:N::1/64";

impl Form<'_> {
    /// Has both ends talk so, and looks at the wire.
    fn holds(&self) {
        let site = Site::prepare(&Terms::default());
        for side in [Side::A, Side::B] {
            let links = Links::of(&site.at(side).outer).unwrap();
            if self.outer != V4 {
                links.add_address(WIRE, at(self.outer, side).parse().unwrap()).unwrap();
                links.wait_ready(WIRE, PATIENCE).unwrap();
            }
            let gateway = if side == Side::A { &site.a } else { &site.b };
            gateway.configure(&self.text(side, &site));
            for end in [1, 2] {
                gateway.write(&format!("esp{end}.key"), &octets(end, self.key_octets()));
                gateway.write(&format!("ah{end}.key"), &octets(end + 2, 32));
            }
        }
        let sniffer = Sniffer::start(&site.at(Side::B).outer, WIRE).unwrap();
        let Site { mut a, mut b, places, .. } = site;
        a.start();
        b.start();
        let echo = Echo {
            source: Some(address(self.inner, Side::A)),
            destination: address(self.inner, Side::B),
            timeout: Duration::from_millis(500),
            ..Echo::default()
        };
        eventually(self.terms, || {
            ping::echo(&places[0].inner, &echo).is_ok_and(|report| report.received == 1)
        });
        let text = a.read("sa list");
        assert!(self.shown.iter().all(|part| text.contains(part)), "{}: {text}", self.terms);
        let captured = sniffer.stop().unwrap();
        let frames = captured.complete().unwrap();
        let count = frames.iter().filter(|frame| frame.protocol == Some(self.protocol)).count();
        assert!(count >= 2, "{}: {frames:?}", self.terms);
        let bare = frames.iter().filter(|frame| matches!(frame.protocol, Some(1 | 17)));
        assert_eq!(bare.count(), 0, "{}: {frames:?}", self.terms);
        assert!(a.end_by(nix::sys::signal::Signal::SIGTERM).success());
        assert!(b.end_by(nix::sys::signal::Signal::SIGTERM).success());
    }

    fn text(&self, side: Side, site: &Site) -> String {
        let (own, far) = (side.number(), side.other().number());
        let (outer, inner) = (address(self.outer, side), at(self.inner, side));
        let endpoint = address(self.outer, side.other());
        let theirs = address(self.inner, side.other());
        let terms = self.terms.replace("OWN", &own.to_string()).replace("FAR", &far.to_string());
        format!(
            "name = \"gateway{own}\"\nidentity = \"{own}.example\"\ninner = {{ path = \"{}\" }}\n\
             addresses = [\"{inner}\"]\nlisten = [\"native:{outer}\"]\ncontrol = \"control.sock\"\n\n\
             [tun]\nname = \"{TUN}\"\n\n[[peer]]\nidentity = \"{far}.example\"\nendpoint = \"{endpoint}\"\n\
             inner = [\"{theirs}\"]\n\n[[peer.sa]]\nencapsulation = \"none\"\n\
             inbound = {{ spi = 0x{far}001, key_file = \"esp{far}.key\" }}\n\
             outbound = {{ spi = 0x{own}001, key_file = \"esp{own}.key\" }}\n{terms}\n",
            site.at(side).inner.proc_path().display()
        )
    }

    /// Of AH alone, the key of HMAC-SHA-256; else that and a key of AES-256.
    fn key_octets(&self) -> u8 {
        if self.terms.contains("suite = \"ah-") && !self.terms.contains("ah = ") { 32 } else { 64 }
    }
}

fn at(pattern: &str, side: Side) -> String {
    pattern.replace('N', &side.number().to_string())
}

fn address(pattern: &str, side: Side) -> IpAddr {
    at(pattern, side).split('/').next().unwrap().parse().unwrap()
}

fn octets(end: u8, count: u8) -> String {
    [end]
        .into_iter()
        .chain((1..count).map(|n| n.wrapping_mul(11)))
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

const AH_KEYS: &str = "inbound = { spi = 0xFAR002, key_file = \"ahFAR.key\" }, \
                       outbound = { spi = 0xOWN002, key_file = \"ahOWN.key\" }";

/// RFC 4301 5.1.2: both families over both.
#[test]
fn native_tunnels_carry_both_families_over_both() {
    scenario("forms::native_tunnels_carry_both_families_over_both", || {
        for (outer, inner) in [(V4, IN_V4), (V6, IN_V4), (V4, IN_V6), (V6, IN_V6)] {
            let shown = &["tunnel  ", "aes-256-cbc-hmac-sha-256"];
            Form { terms: "", outer, inner, shown, protocol: ESP }.holds();
        }
    });
}

/// RFC 4302, and RFC 4301 4.3: AH alone, and around ESP.
#[test]
fn rfc_4302_ah_stands_alone_and_around_esp() {
    scenario("forms::rfc_4302_ah_stands_alone_and_around_esp", || {
        let alone = "suite = \"ah-hmac-sha-256\"\n";
        let bundle = format!("ah = {{ suite = \"ah-hmac-sha-256\", {AH_KEYS} }}\n");
        for (outer, inner) in [(V4, IN_V4), (V6, IN_V6)] {
            Form { terms: alone, outer, inner, shown: &["ah-hmac-sha-256"], protocol: AH }.holds();
            let shown = &["aes-256-cbc-hmac-sha-256 in ah-hmac-sha-256"];
            Form { terms: &bundle, outer, inner, shown, protocol: AH }.holds();
        }
    });
}

/// RFC 4301 4.1: what is between the gateways' own addresses, which the TUN has as well.
#[test]
fn rfc_4301_4_1_transport_mode_is_between_the_gateways_themselves() {
    scenario("forms::rfc_4301_4_1_transport_mode_is_between_the_gateways_themselves", || {
        for (outer, inner) in [(V4, "192.0.2.N/32"), (V6, "2001:db8::N/128")] {
            let esp = "mode = \"transport\"\n";
            Form { terms: esp, outer, inner, shown: &["transport"], protocol: ESP }.holds();
            let ah = "mode = \"transport\"\nsuite = \"ah-hmac-sha-256\"\n";
            Form { terms: ah, outer, inner, shown: &["transport", "ah-hmac-sha-256"], protocol: AH }.holds();
        }
    });
}
