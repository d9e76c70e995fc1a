//! What becomes of connections, as both libraries tell it while it happens (K-10, K-12).

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use latchway_netns::skip::report;
use latchway_socket::{EventKind, Gateway};
use serde_json::json;

use crate::pair::{Side, Site, Terms};
use crate::programs::{Program, app, in_c};
use crate::provider::Asks;
use crate::{PATIENCE, scenario};

/// K-10, K-12, C-18: a connection that is latched, has new keys, breaks because its peer is gone, and is closed by that: one of Rust
/// with another, which its program ends itself, and one of C without privilege.
#[test]
fn k_10_k_12_both_libraries_tell_what_becomes_of_a_connection() {
    const TEST: &str = "events::k_10_k_12_both_libraries_tell_what_becomes_of_a_connection";
    scenario(TEST, || {
        let site = Site::start(&Terms::default());
        let there = SocketAddr::new(Side::B.address(), 80);
        let listener = site.at(Side::B).inner.run(|| TcpListener::bind(there)).unwrap().unwrap();
        let at_a = &site.at(Side::A).inner;
        let dial = || {
            let stream = at_a.run(|| TcpStream::connect(there)).unwrap().unwrap();
            (stream, listener.accept().unwrap().0)
        };
        let ((brief, brief_there), (lasts, _there)) = (dial(), dial());
        let gateway = Gateway::at(&app(&site.a)).with_timeout(PATIENCE);
        let mut events = gateway.watch([brief.as_fd(), lasts.as_fd()]).unwrap();
        let mut next = || {
            let event = events.next_within(PATIENCE).unwrap().expect("an event");
            (event.socket.unwrap(), event.kind, event.answer)
        };
        for number in [0, 1] {
            let (socket, kind, answer) = next();
            assert_eq!((socket, kind), (number, EventKind::Established));
            assert!(answer.unwrap().latched().is_some());
        }
        let watches = in_c("tests/socket/c/watches.c", &site.a);
        let (host, port) = (there.ip().to_string(), there.port().to_string());
        let Some(mut program) = Program::start(&watches, &[&host, &port], at_a, &site.a) else {
            return report(TEST, "no other user can be had here");
        };
        let _programs_there = listener.accept().unwrap();
        assert!(program.until("established").contains("socket 0, state 1"));

        drop((brief, brief_there));
        let (socket, kind, _) = next();
        assert!(socket == 0 && matches!(&kind, EventKind::Closed(_)), "{kind:?}");

        for side in [Side::A, Side::B] {
            site.configure(side, &Terms::default().with_sas(&[2]));
        }
        site.b.shown("reload");
        site.a.shown("reload");
        let (socket, kind, answer) = next();
        assert_eq!((socket, kind), (1, EventKind::Rekeyed));
        assert!(answer.unwrap().latched().is_some(), "C-18");
        program.until("rekeyed");

        Asks::of(&site.a).must("PeerGone", &json!({"peer": "2.example", "reason": "dead"}));
        let (socket, kind, _) = next();
        let EventKind::Broken(reason) = kind else { panic!("{kind:?}") };
        assert_eq!((socket, &*reason.to_string()), (1, "peer-gone"));
        let (socket, kind, _) = next();
        assert!(socket == 1 && matches!(&kind, EventKind::Closed(_)), "{kind:?}");
        assert!(program.until("broken").contains("socket 0"));
        assert!(program.until("closed").contains("socket 0"));
        program.succeeded();
        drop(lasts);
    });
}
