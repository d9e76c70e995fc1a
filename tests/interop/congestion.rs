//! Congestion that routers mark between a Linux kernel and us arrives with the inner packet, whichever of both seals it.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use latchway_netns::relay::Relay;
use latchway_netns::watch::{Direction, Frame, Sniffer};
use latchway_netns::{Links, Namespace, links};
use socket2::SockRef;

use crate::case::{Case, Family};
use crate::guest::{ECHO, Guest, guest};
use crate::site::{Site, TUN, WIRE};
use crate::suite::Suite;
use crate::{PATIENCE, eventually, scenario};

/// RFC 6040 section 4, RFC 3168 section 5 (T27): a router marks what is able to be marked. The far end makes the inner packet
/// say so, in both directions, in UDP and without, in ESP and AH, over both families.
#[test]
fn what_routers_mark_is_told_to_the_inner_hosts() {
    let test = "congestion::what_routers_mark_is_told_to_the_inner_hosts";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let cases = cases();
        let (site, _router, lies) = marked(&mut guest, &cases);
        for case in &cases {
            for sent in [ECT_0, ECT_1, CE] {
                assert_eq!(heard_by_the_kernel(&site, &mut guest, case, sent), CE, "{case}: {sent} to it");
                assert_eq!(heard_by_us(&site, &mut guest, case, sent), CE, "{case}: {sent} from it");
            }
            // Nobody may mark what is not able to be marked.
            assert_eq!(heard_by_the_kernel(&site, &mut guest, case, NOT_ECT), NOT_ECT, "{case}");
            assert_eq!(heard_by_us(&site, &mut guest, case, NOT_ECT), NOT_ECT, "{case}");
        }
        // RFC 6040 section 4.2: where somebody does, the inner host could not be told of the congestion, and the packet is lost.
        lies.store(true, Ordering::Relaxed);
        for (dropped, case) in (1..).zip(&cases) {
            assert_eq!(
                heard_by_the_kernel(&site, &mut guest, case, NOT_ECT),
                NOT_ECT,
                "{case}: the kernel takes it"
            );
            say_as_the_kernel(&mut guest, case, NOT_ECT);
            eventually("what cannot be marked inside is dropped", || {
                site.gateway.drops("inbound", "ecn_ce_not_ect") == dropped
            });
        }
    });
}

/// The wire of each kind that a mark can be on.
fn cases() -> [Case; 4] {
    let suite = Suite::named("aes-128-gcm");
    let native = |number, outer, inner| {
        let case = Case::new(number, suite.clone());
        Case { udp: false, outer, inner, ..case }
    };
    let ah = Case { suite: Suite::named("ah-hmac-sha-256"), ..native(4, Family::V4, Family::V4) };
    [Case::new(1, suite.clone()), native(2, Family::V4, Family::V6), native(3, Family::V6, Family::V4), ah]
}

/// A gateway that is the other end of all these, behind a router that sees congestion: while it `lies` in every packet, else
/// in those that say that they can be marked.
fn marked(guest: &mut Guest, cases: &[Case]) -> (Site, (Namespace, Relay), Arc<AtomicBool>) {
    let [outer, router] = ["gateway", "router"].map(|label| Namespace::create(label).unwrap());
    links::veth(&outer, WIRE, &router, "near").unwrap();
    guest.join(&router, "far");
    Links::of(&router).unwrap().set_up("near").unwrap();
    Links::of(&outer).unwrap().set_up(WIRE).unwrap();
    Site::address(&outer);
    let lies = Arc::new(AtomicBool::new(false));
    let lying = Arc::clone(&lies);
    let relay =
        Relay::start(&router, ["near", "far"], move |frame| mark(frame, lying.load(Ordering::Relaxed)));
    let batch: String = cases.iter().map(Case::kernel).collect();
    guest.ip(&batch);
    let peers: Vec<_> = cases.iter().map(Case::peer).collect();
    (Site::run(&outer, &peers, false), (router, relay.unwrap()), lies)
}

/// The mark of what a host of ours sends to the stranger's, as that hears it.
fn heard_by_the_kernel(site: &Site, guest: &mut Guest, case: &Case, sent: u8) -> u8 {
    let (to, from) = case.ends();
    let (family, level, wanted) = if to.is_ipv4() {
        ("AF_INET", "IPPROTO_IP", "IP_RECVTOS")
    } else {
        ("AF_INET6", "IPPROTO_IPV6", "IPV6_RECVTCLASS")
    };
    // Stands before it returns, and goes with what it hears.
    guest.run(&format!(
        "rm -f /run/heard; cat >/run/hear.py <<'END'\nimport os, socket\ns = socket.socket(socket.{family}, socket.SOCK_DGRAM)\n\
         s.setsockopt(socket.{level}, socket.{wanted}, 1)\ns.bind(('{to}', {MARKED}))\ns.settimeout(20)\n\
         if os.fork() == 0:\n    data = s.recvmsg(99, 99)[1][0][2]\n    open('/run/hearing', 'w').write(str(data[0] & 3))\n    \
         os.rename('/run/hearing', '/run/heard')\nEND\npython3 /run/hear.py >/dev/null 2>&1 </dev/null"
    ));
    let socket = site.inner.run(|| UdpSocket::bind((from, 0))).unwrap().unwrap();
    set_mark(&socket, from, sent);
    socket.send_to(b"hello", (to, MARKED)).unwrap();
    let heard =
        guest.run("for n in $(seq 100); do cat /run/heard 2>/dev/null && exit; sleep 0.1; done; exit 1");
    heard.trim().parse().unwrap()
}

/// The mark of what the stranger's host sends to ours, as that hears it.
fn heard_by_us(site: &Site, guest: &mut Guest, case: &Case, sent: u8) -> u8 {
    let tun = Sniffer::start(&site.inner, TUN).unwrap();
    let mark = tun.mark();
    say_as_the_kernel(guest, case, sent);
    let theirs = case.ends().0;
    let from_them = |frame: &Frame| {
        let ports = frame.ports.is_some_and(|ports| ports.1 == MARKED);
        ports && frame.source == Some(theirs) && frame.direction == Direction::Inbound
    };
    let frame = tun.wait_for(mark, from_them, PATIENCE).unwrap();
    if theirs.is_ipv4() { frame.bytes[1] & 3 } else { frame.bytes[1] >> 4 & 3 }
}

fn say_as_the_kernel(guest: &mut Guest, case: &Case, mark: u8) {
    let (from, to) = case.ends();
    let (family, level, class) = if to.is_ipv4() {
        ("AF_INET", "IPPROTO_IP", "IP_TOS")
    } else {
        ("AF_INET6", "IPPROTO_IPV6", "IPV6_TCLASS")
    };
    guest.run(&format!(
        "python3 -c \"import socket; s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.bind(('{from}', 0)); \
         s.setsockopt(socket.{level}, socket.{class}, {mark}); s.sendto(b'hello from afar', ('{to}', {MARKED}))\""
    ));
}

fn set_mark(socket: &UdpSocket, from: IpAddr, mark: u8) {
    let socket = SockRef::from(socket);
    let set = if from.is_ipv4() { socket.set_tos_v4(mark.into()) } else { socket.set_tclass_v6(mark.into()) };
    set.unwrap();
}

/// Marks what IPsec has sealed: all of it, or what is able to be marked.
fn mark(frame: &mut [u8], all: bool) {
    match frame.get(12..14) {
        Some(&[0x08, 0x00]) if [ESP, AH, UDP].contains(&frame[23]) => {
            if all || frame[15] & CE != NOT_ECT {
                frame[15] |= CE;
            }
            complete(frame);
        }
        Some(&[0x86, 0xdd]) if frame[20] == ESP && (all || frame[15] >> 4 & CE != NOT_ECT) => {
            frame[15] |= CE << 4;
        }
        _ => {}
    }
}

/// Makes the header's checksum anew. That of UDP was left to the device, and may as well be none (RFC 768).
fn complete(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let words = frame[14..34].chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    if frame[23] == UDP {
        frame[40..42].fill(0);
    }
}

const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;
const ESP: u8 = 50;
const AH: u8 = 51;
const UDP: u8 = 17;
/// No echo server is asked.
const MARKED: u16 = ECHO + 1000;
