//! What is required before connect(), through both libraries, as whoever is on the wire between sees it (Q-44, L-33).

use std::net::{SocketAddr, TcpListener};

use latchway_netns::skip::report;
use latchway_netns::watch::{Frame, Sniffer};
use latchway_socket::{ErrorKind, Gateway, PeerIdentity, Requirement};
use nix::errno::Errno;

use crate::pair::{Side, Site, Terms, WIRE};
use crate::programs::{Program, app, in_c};
use crate::{PATIENCE, scenario};

/// Q-44, L-33: with the peer that is there it connects; with another one that policy knows, connect() is refused, and not one packet
/// is on the wire.
#[test]
fn q_44_l_33_connect_is_to_whom_is_required_in_rust_and_in_c() {
    const TEST: &str = "first::q_44_l_33_connect_is_to_whom_is_required_in_rust_and_in_c";
    scenario(TEST, || {
        let site = Site::start(&Terms::default().with_third_peer(7));
        let there = SocketAddr::new(Side::B.address(), 80);
        let _listener = site.at(Side::B).inner.run(|| TcpListener::bind(there)).unwrap().unwrap();
        let (inner, gateway) = (&site.at(Side::A).inner, Gateway::at(&app(&site.a)).with_timeout(PATIENCE));
        let wire = Sniffer::start(&site.at(Side::A).outer, WIRE).unwrap();
        let from_a = |frame: &Frame| frame.esp().is_some() && frame.source == "192.0.2.1".parse().ok();
        let named = |name: &str| PeerIdentity::asserting(&name.parse().unwrap()).unwrap();
        let connect = |peer: &PeerIdentity| {
            inner.run(|| gateway.connect(there, &Requirement::new().peer(peer))).unwrap()
        };
        let start = wire.mark();
        let refused = connect(&named("3.example")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::System(Errno::ECONNREFUSED as i32), "{refused}");
        let asks = in_c("tests/socket/c/first.c", &site.a);
        let (host, port) = (there.ip().to_string(), there.port().to_string());
        let run = |peer: &str| {
            let text = format!("latchway-itoken:1;id=fqdn:{peer};method=manual");
            Program::start(&asks, &[&host, &port, &text], inner, &site.a)
        };
        let Some(program) = run("3.example") else { return report(TEST, "no other user can be had here") };
        assert_eq!(program.succeeded(), [format!("refused: errno {}", Errno::ECONNREFUSED as i32)]);
        assert!(!wire.frames_since(start).unwrap().iter().any(from_a));
        assert!(site.a.drops("outbound", "requirement_unmet") >= 2);

        let (_stream, protection) = connect(&named("2.example")).unwrap();
        assert_eq!(protection.peer_identity().asserted().to_string(), "fqdn:2.example");
        assert!(protection.required());
        let said = run("2.example").unwrap().succeeded();
        assert!(said[0].starts_with("connected: ") && said[0].contains("2.example"), "{said:?}");
        // What was said was sealed, so that this sees what it is asked for.
        assert!(wire.frames_since(start).unwrap().iter().any(from_a));
    });
}
