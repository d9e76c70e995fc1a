//! What is latched never leaves in the clear, whatever becomes of SAs and policy (T13, L-24): sniffers on the wire and on the
//! port through which traffic in the clear leaves.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use latchway_netns::Namespace;
use latchway_netns::watch::{Frame, Mark, Options, Sniffer};
use serde_json::json;

use crate::eventually;
use crate::gateway::scenario;
use crate::load::connect;
use crate::provider::Provider;
use crate::site::{End, Site, Terms};

/// In all that latched flows carry.
const MARKER: &[u8] = b"what a latched flow carries";

/// The ports of latched flows, and of one that begins later.
const LATCHED: u16 = 7001;
const LATER: u16 = 7002;

const HOSTS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)), IpAddr::V4(Ipv4Addr::new(10, 0, 2, 1))];

const BYPASS: &str = "clear0";

/// T13, L-24: through rekeys, and while there is no SA at all, nothing of a latched flow is seen but ESP; with the next SA it
/// goes on.
#[test]
fn t13_l_24_rekeys_and_gaps_leak_nothing() {
    scenario("leak::t13_l_24_rekeys_and_gaps_leak_nothing", || {
        let (site, mut provider, watch) = begin("");
        let mut pair = provider.join();
        let talk = Talk::start(&site.around[0], &site.centre);
        talk.goes_on();
        for _ in 0..10 {
            let old = pair;
            pair = provider.rekey(&old);
            talk.goes_on();
            provider.commit(&old, "remove");
        }
        provider.commit(&pair, "remove");
        let dropped = |end: &End| end.gateway.drops("outbound", "no_outbound_sa");
        let goes_on = || {
            let before = [&site.centre, &site.around[0]].map(|end| (end, dropped(end)));
            eventually("packets meet no SA", || before.iter().all(|(end, count)| dropped(end) > count + 20));
        };
        // What left before arrives meanwhile.
        goes_on();
        let before = watch.esp();
        goes_on();
        assert_eq!(watch.esp(), before, "packets of SAs that are gone");
        provider.join();
        talk.goes_on();
        drop(talk);
        watch.nothing_leaked();
    });
}

/// T13, L-24, L-76: the policy lets everything pass in the clear from now on. The connection ends, and not even the
/// resets of its ends leave in the clear; connections that begin now do.
#[test]
fn t13_l_24_a_policy_turned_bypass_ends_it_and_leaks_nothing() {
    scenario("leak::t13_l_24_a_policy_turned_bypass_ends_it_and_leaks_nothing", || {
        let (site, mut provider, watch) = begin("");
        provider.join();
        let talk = Talk::start(&site.around[0], &site.centre);
        talk.goes_on();
        bypass(&mut provider);
        eventually("the connection ends", || talk.has_ended());
        watch.sees_later(&site);
        drop(talk);
        watch.nothing_leaked();
    });
}

/// T13, L-24, L-77: the same where latches are to be preserved. The connection goes on under its latch.
#[test]
fn t13_l_24_a_policy_turned_bypass_preserves_it_and_leaks_nothing() {
    scenario("leak::t13_l_24_a_policy_turned_bypass_preserves_it_and_leaks_nothing", || {
        let (site, mut provider, watch) = begin("on_policy_change = \"preserve\"");
        provider.join();
        let talk = Talk::start(&site.around[0], &site.centre);
        talk.goes_on();
        bypass(&mut provider);
        watch.sees_later(&site);
        talk.goes_on();
        assert!(!talk.has_ended());
        drop(talk);
        watch.nothing_leaked();
    });
}

fn begin(lines: &str) -> (Site, Provider, Watch) {
    let head = format!("bypass_port = \"{BYPASS}\"\n{lines}");
    let site = Site::start(&[("one.example", 2)], &Terms { head, ..Terms::default() });
    let provider = Provider::between(&site, 0);
    let watch = Watch::start(&site.centre.outer);
    (site, provider, watch)
}

/// Puts a rule before all others, by which everything passes in the clear.
fn bypass(provider: &mut Provider) {
    let selector = json!({"local": "10.0.1.0/24", "remote": "10.0.2.0/24"});
    provider.end(0).must("AddRule", &json!({"rule": {"selector": selector, "action": "bypass"}}));
}

/// Sniffers on the ways by which octets could leave the centre.
struct Watch {
    wire: Sniffer,
    clear: Sniffer,
    since: [Mark; 2],
}

impl Watch {
    fn start(outer: &Namespace) -> Self {
        let watch = |interface| {
            let options = Options { frames: 1 << 18, snap: 80, ..Options::searching(&[MARKER]) };
            Sniffer::start_with(outer, interface, options).unwrap()
        };
        let (wire, clear) = (watch("wire0"), watch(BYPASS));
        let since = [wire.mark(), clear.mark()];
        Self { wire, clear, since }
    }

    /// How many packets of ESP were on the wire so far.
    fn esp(&self) -> usize {
        let frames = self.wire.frames_since(self.since[0]).unwrap();
        frames.iter().filter(|frame| frame.esp().is_some()).count()
    }

    /// A connection that begins now leaves in the clear, and is seen to.
    fn sees_later(&self, site: &Site) {
        let there = site.around[0].at(LATER);
        let begin = || TcpStream::connect_timeout(&there, Duration::from_millis(50));
        let seen = |frame: &Frame| frame.destination_socket() == Some(there);
        eventually("a later connection is seen in the clear", || {
            assert!(site.centre.inner.run(begin).unwrap().is_err(), "nobody is there");
            self.clear.frames_since(self.since[1]).unwrap().iter().any(seen)
        });
    }

    fn nothing_leaked(self) {
        let esp = self.esp();
        let (wire, clear) = (self.wire.stop().unwrap(), self.clear.stop().unwrap());
        let inner = |address: &Option<IpAddr>| address.is_some_and(|address| HOSTS.contains(&address));
        let hosts = |frame: &&Frame| inner(&frame.source) || inner(&frame.destination);
        let leaked: Vec<_> = wire.complete().unwrap().iter().filter(hosts).collect();
        assert_eq!(leaked, Vec::<&Frame>::new(), "on the wire");
        let latched = |frame: &&Frame| frame.ports.is_some_and(|(from, to)| from == LATCHED || to == LATCHED);
        let leaked: Vec<_> = clear.complete().unwrap().iter().filter(latched).collect();
        assert_eq!(leaked, Vec::<&Frame>::new(), "through the bypass port");
        assert_eq!((&wire.pattern_hits, &clear.pattern_hits), (&vec![0], &vec![0]));
        assert!(esp > 10, "the sniffer saw {esp} packets of ESP");
    }
}

/// A TCP connection and datagrams in both directions, a little at a time.
struct Talk {
    stop: Arc<AtomicBool>,
    counts: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Talk {
    fn start(from: &End, to: &End) -> Self {
        let (accepted, connected) = connect(&from.inner, &to.inner, to.at(LATCHED));
        let socket = |end: &End, other: &End| {
            let socket = end.inner.run(|| UdpSocket::bind(end.at(LATCHED))).unwrap().unwrap();
            socket.connect(other.at(LATCHED)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let sockets = [socket(from, to), socket(to, from)];
        let mut talk = Self { stop: Arc::default(), counts: Vec::new(), threads: Vec::new() };
        for (stream, socket) in [accepted, connected].into_iter().zip(sockets) {
            stream.set_nonblocking(true).unwrap();
            talk.thread(stream, socket);
        }
        talk
    }

    /// One end: it says something, and hears what there is, again and again, as long as its connection lives.
    fn thread(&mut self, mut stream: TcpStream, socket: UdpSocket) {
        let (stop, count) = (Arc::clone(&self.stop), Arc::new(AtomicU64::new(0)));
        self.counts.push(Arc::clone(&count));
        self.threads.push(thread::spawn(move || {
            let mut octets = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                let written = stream.write(MARKER);
                let _ = (socket.send(MARKER), socket.recv(&mut octets));
                match stream.read(&mut octets) {
                    Ok(length) => drop(count.fetch_add(length as u64, Ordering::Relaxed)),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
                if written.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock) {
                    break;
                }
                thread::sleep(Duration::from_millis(2));
            }
        }));
    }

    /// Waits until both ends heard more of each other.
    fn goes_on(&self) {
        let heard = || self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = heard();
        let more = MARKER.len() as u64 * 10;
        eventually("both ends hear of each other", || {
            heard().iter().zip(&before).all(|(now, before)| *now > before + more)
        });
    }

    /// Whether an end has lost its connection.
    fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || thread::panicking());
        }
    }
}
