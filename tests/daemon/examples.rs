//! The examples of docs/esp-ah.md, as they stand there: each is a gateway that talks to its own mirror image.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use etherparse::{LaxSlicedPacket, TcpOptionElement, TransportSlice};
use latchway_netns::Links;
use latchway_netns::ping::{self, Echo};
use latchway_netns::watch::{Frame, Sniffer};
use socket2::SockRef;

use crate::gateway::bound;
use crate::gateway::{Folder, Gateway, PROGRAM};
use crate::site::{Place, Side, TUN, WIRE, key, places};
use crate::{PATIENCE, eventually, scenario};

/// RFC 4303, RFC 4302, RFC 4301 4.1: without UDP, AH around ESP, and transport mode.
#[test]
fn the_examples_of_modes_and_carriers_talk_to_their_mirror_images() {
    scenario("examples::the_examples_of_modes_and_carriers_talk_to_their_mirror_images", || {
        for (example, protocol) in examples().iter().zip([50, 51, 50]) {
            let ends = Ends::of(example);
            let wire = ends.on_wire();
            ends.pass(if protocol == 50 && example.contains("transport") { "192.0.2.2" } else { "10.2.0.1" });
            let captured = wire.stop().unwrap();
            let protected = captured.frames.iter().filter(|frame| frame.protocol == Some(protocol)).count();
            assert!(protected >= 2, "{example}");
        }
    });
}

/// RFC 2983, RFC 4303 2.6 and 2.7, RFC 9293 3.7.1, RFC 8899: what the path sees, as the last example says it.
#[test]
fn the_example_of_what_the_path_sees_is_seen_on_the_wire() {
    scenario("examples::the_example_of_what_the_path_sees_is_seen_on_the_wire", || {
        let examples = examples();
        assert!(examples[3].contains("mss_clamp = true"));
        let ends = Ends::of(&examples[3]);
        // What leaves is seen packet by packet.
        Links::of(&ends.at(Side::A).outer).unwrap().set_gso_max_size(WIRE, 1500).unwrap();
        let wire = ends.on_wire();
        ends.pass("10.2.0.1");
        let tun = Sniffer::start(&ends.at(Side::B).inner, TUN).unwrap();
        for (inner, outer) in
            [(46 << 2, 46 << 2), (0, 10 << 2), (12 << 2, 12 << 2), (46 << 2 | 2, 46 << 2 | 2)]
        {
            let (start, arrives) = (wire.mark(), tun.mark());
            ends.send(inner);
            wire.wait_for(start, |frame| is_sealed(frame) && frame.bytes[15] == outer, PATIENCE).unwrap();
            let arrived = tun.wait_for(arrives, |frame| frame.ports == Some((7777, 7777)), PATIENCE).unwrap();
            assert_eq!(arrived.bytes[1], inner, "it is what it was");
        }
        let announced = ends.announced(&tun);
        assert_eq!(u64::from(announced), ends.a.rows("mtu explain b.example")[0]["mss_v4"], "not 8960");
        eventually("packets come that carry nothing", || ends.b.drops("inbound", "dummy") >= 2);
        eventually("the path is asked", || ends.a.drops("inbound", "probe_answer") >= 1);
        let captured = wire.stop().unwrap();
        let sealed = captured.frames.iter().filter(|frame| is_sealed(frame));
        let lengths: BTreeSet<_> = sealed.map(|frame| frame.length).collect();
        let longest = *lengths.last().unwrap();
        assert!((14 + 1484..=14 + 1500).contains(&longest), "as long as the path takes: {lengths:?}");
        // Those by which the path is asked whether it takes less are of a length of their own.
        assert!(lengths.len() <= 2, "{lengths:?}");
    });
}

/// The examples, in order.
fn examples() -> Vec<String> {
    let page = include_str!("../../docs/esp-ah.md");
    let mut examples = vec![String::new()];
    for line in page.lines() {
        match line.strip_prefix("    ") {
            Some(line) => examples.last_mut().unwrap().extend([line, "\n"]),
            None if line.is_empty() => examples.last_mut().unwrap().push('\n'),
            None => examples.push(String::new()),
        }
    }
    examples.retain(|example| !example.trim().is_empty());
    assert_eq!(examples.len(), 4);
    examples
}

/// A gateway as an example has it, and its mirror image.
struct Ends {
    places: [Place; 2],
    a: Gateway,
    b: Gateway,
    _folder: Folder,
}

impl Ends {
    fn of(example: &str) -> Self {
        let (places, folder) = (places(), Folder::make());
        let [a, b] = [("a", Side::A), ("b", Side::B)].map(|(name, side)| {
            let place = &places[usize::from(side == Side::B)];
            let mut gateway = Gateway::new(&place.outer, folder.join(name));
            let text = if side == Side::A { example.to_owned() } else { mirrored(example) };
            gateway.configure(&here(&text, place));
            let other = side.other().number();
            for (file, end, number) in [
                ("in", other, 1),
                ("out", side.number(), 1),
                ("ah-in", other, 2),
                ("ah-out", side.number(), 2),
            ] {
                let octets = if number == 2 { 32 } else { 64 };
                gateway.write(&format!("{file}.key"), &key(end, number)[..2 * octets]);
            }
            let state = gateway.folder().join("state");
            assert!(Command::new(PROGRAM).arg("enrol").arg(state).status().unwrap().success());
            gateway.start();
            gateway
        });
        Self { places, a, b, _folder: folder }
    }

    const fn at(&self, side: Side) -> &Place {
        let [a, b] = &self.places;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    /// Where a's packets leave.
    fn on_wire(&self) -> Sniffer {
        Sniffer::start(&self.at(Side::A).outer, WIRE).unwrap()
    }

    /// Waits until echoes return.
    fn pass(&self, destination: &str) {
        let (destination, timeout) = (destination.parse().unwrap(), Duration::from_millis(300));
        let echo = Echo { destination, timeout, ..Echo::default() };
        eventually("an echo returns", || {
            ping::echo(&self.at(Side::A).inner, &echo).is_ok_and(|report| report.received == 1)
        });
    }

    /// Sends one datagram of this class from a's hosts to b's.
    fn send(&self, class: u8) {
        let socket = bound(&self.at(Side::A).inner, (Side::A.address(), 7777));
        SockRef::from(&socket).set_tos_v4(class.into()).unwrap();
        socket.send_to(b"shown", "10.2.0.1:7777").unwrap();
    }

    /// The maximum segment size in the SYN of a connection, as it arrives at b's hosts.
    fn announced(&self, tun: &Sniffer) -> u16 {
        let listener = self.at(Side::B).inner.run(|| TcpListener::bind("10.2.0.1:80")).unwrap().unwrap();
        let start = tun.mark();
        let at: SocketAddr = listener.local_addr().unwrap();
        self.at(Side::A).inner.run(|| TcpStream::connect_timeout(&at, PATIENCE)).unwrap().unwrap();
        let opens = |frame: &Frame| frame.protocol == Some(6) && frame.ports.is_some_and(|(_, to)| to == 80);
        let frame = tun.wait_for(start, opens, PATIENCE).unwrap();
        let sliced = LaxSlicedPacket::from_ip(&frame.bytes).unwrap();
        let Some(TransportSlice::Tcp(segment)) = sliced.transport else { panic!("{frame:?}") };
        assert!(segment.syn());
        let size = segment.options_iterator().find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
            _ => None,
        });
        size.unwrap()
    }
}

/// The same in the namespaces and the folder of a test. The TUN takes more than the path, or no host would send too much.
fn here(example: &str, place: &Place) -> String {
    let inner =
        format!("inner = {{ path = \"{}\" }}\ncontrol = \"control.sock\"", place.inner.proc_path().display());
    let tun = format!("state = \"state\"\n\n[tun]\nname = \"{TUN}\"\nmtu = 9000");
    example.replace("inner = \"branch\"", &inner).replace("state = \"state\"", &tun)
}

/// The same gateway seen from its other end.
fn mirrored(example: &str) -> String {
    let pairs = [
        ("a.example", "b.example"),
        ("10.1.0.", "10.2.0."),
        ("192.0.2.1", "192.0.2.2"),
        ("0x1001", "0x1002"),
        ("0x2001", "0x2002"),
    ];
    pairs.iter().fold(example.to_owned(), |text, (one, other)| {
        text.replace(one, "\0").replace(other, one).replace('\0', other)
    })
}

/// Whether it is ESP in UDP from a.
fn is_sealed(frame: &Frame) -> bool {
    frame.esp().is_some() && frame.source == Some([192, 0, 2, 1].into())
}
