//! The scenario of latching-04 2.4, with a real IMAP server: a peer holds a connection and vanishes, and another peer comes to
//! its address and sends on the very same 5-tuple (L-106 to L-110, T37 d). It never gets the session of the first.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::time::Duration;

use etherparse::{LaxSlicedPacket, TransportSlice};
use latchway_netns::packet::{self, Segment};
use latchway_netns::skip::{self, Need, require};
use latchway_netns::watch::{Direction, Frame, Mark, Sniffer};
use latchway_netns::{Links, inject};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::gateway::{Folder, scenario};
use crate::provider::{Pair, Provider};
use crate::site::{End, Site, TUN, Terms};
use crate::{PATIENCE, eventually};

/// The only port that the client sends from, so that who follows it has the same 5-tuple.
const CLIENT: u16 = 40_143;
const IMAP: u16 = 143;

/// How long somebody waits for an answer that must not come: the kernel sends a SYN twice in this time.
const IN_VAIN: Duration = Duration::from_millis(1500);

/// L-107, L-109: by default the SA of the second peer ends the connection of the first, and the server knows.
#[test]
fn l_109_by_default_the_connection_of_the_first_ends() {
    scene("imap::l_109_by_default_the_connection_of_the_first_ends", "", |scene| {
        scene.vanish();
        scene.expire();
        let flow = scene.latch().unwrap()["flow"].clone();
        let offer = scene.providers[1].propose(0).unwrap();
        assert_eq!(offer["breaks"], json!([flow]), "the provider is told before it promises anything (L-72)");
        assert!(!scene.server.ended("one"), "a proposal changes nothing");
        scene.providers[1].join();
        eventually("the server's side ends", || scene.server.ended("one"));
        scene.second_begins_anew();
    });
}

/// L-110: the connection of the first stays where the newcomer's packets are dropped, and goes on when it returns.
#[test]
fn l_110_a_newcomer_is_dropped() {
    scene("imap::l_110_a_newcomer_is_dropped", "on_conflict = \"drop-newcomer\"", |scene| {
        scene.vanish();
        scene.expire();
        scene.providers[1].join();
        scene.second_gets_nothing();
        scene.return_with_new_sas();
        scene.goes_on();
    });
}

/// L-107, L-110: the connection of the first stays where the newcomer's SA is refused.
#[test]
fn l_110_a_newcomer_is_rejected() {
    scene("imap::l_110_a_newcomer_is_rejected", "on_conflict = \"reject-newcomer\"", |scene| {
        scene.vanish();
        scene.expire();
        let refusal = scene.providers[1].propose(0).unwrap_err();
        assert!(refusal.contains("Refused"), "{refusal}");
        scene.second_gets_nothing();
        scene.return_with_new_sas();
        scene.goes_on();
    });
}

/// R-9, L-110: the connection of the first waits, and is told nothing, until the newcomer's SAs are gone.
#[test]
fn l_110_the_connection_of_the_first_waits() {
    scene("imap::l_110_the_connection_of_the_first_waits", "on_conflict = \"wait\"", |scene| {
        scene.vanish();
        scene.expire();
        let newcomer = scene.providers[1].join();
        eventually("the latch is broken", || scene.latch().unwrap()["state"] == "broken");
        scene.second_gets_nothing();
        scene.providers[1].commit(&newcomer, "remove");
        scene.return_with_new_sas();
        eventually("the latch is restored", || scene.latch().unwrap()["state"] == "established");
        scene.goes_on();
    });
}

/// L-108, L-109: told apart by tags, both peers have SAs at once; the second one's first packet on the 5-tuple ends the
/// connection of the first.
#[test]
fn l_108_by_tags_a_packet_of_the_second_ends_it() {
    scene("imap::l_108_by_tags_a_packet_of_the_second_ends_it", "model = \"tag\"", |scene| {
        scene.vanish();
        assert_eq!(scene.providers[1].propose(0).unwrap()["breaks"], json!([]));
        scene.providers[1].join();
        assert_eq!(scene.latch().unwrap()["state"], "established");
        assert!(!scene.server.ended("one"), "SAs do not conflict");
        let _ = Session::open(&scene.site.around[1], &scene.site.centre);
        eventually("the server's side ends", || scene.server.ended("one"));
        scene.second_begins_anew();
    });
}

/// L-108, L-110: told apart by tags, the second one's packets are dropped, whatever they are.
#[test]
fn l_108_by_tags_a_newcomer_is_dropped() {
    let terms = "model = \"tag\"\non_conflict = \"drop-newcomer\"";
    scene("imap::l_108_by_tags_a_newcomer_is_dropped", terms, |scene| {
        scene.vanish();
        scene.providers[1].join();
        scene.second_gets_nothing();
        scene.return_as_before();
        scene.goes_on();
    });
}

/// A server and two peers, one of which has a session.
struct Scene {
    site: Site,
    server: Server,
    /// Who makes SAs with the first peer and with the second.
    providers: [Provider; 2],
    /// The first peer's SAs.
    pair: Pair,
    session: Session,
    /// What the first one's host says.
    heard: Sniffer,
    since: Mark,
}

/// Dovecot, in the place of a gateway's hosts.
struct Server {
    master: Child,
    folder: Folder,
}

/// One connection to it.
struct Session {
    stream: BufReader<TcpStream>,
    commands: u32,
}

/// Two gateways of one inner network, and a session of the first one's host; then whatever comes.
fn scene(test: &str, lines: &str, body: impl FnOnce(&mut Scene)) {
    scenario(test, || {
        if !has_other_users() {
            return skip::report(
                test,
                "an IMAP server gives up root for other users, whom there are none of here",
            );
        }
        if require(test, &[Need::Program("dovecot")]) {
            let peer = "shared = true".to_owned();
            let terms = Terms { head: lines.to_owned(), peer, ..Terms::default() };
            let site = Site::start(&[("one.example", 2), ("two.example", 2)], &terms);
            let mut providers = [0, 1].map(|number| Provider::between(&site, number));
            let pair = providers[0].join();
            let server = Server::start(&site.centre);
            let heard = Sniffer::start(&site.around[0].inner, TUN).unwrap();
            let since = heard.mark();
            let mut session = Session::open_within(PATIENCE, &site.around[0], &site.centre).unwrap();
            assert!(session.says("LOGIN one secret").unwrap().starts_with("OK"));
            assert!(session.says("SELECT INBOX").unwrap().starts_with("OK"));
            body(&mut Scene { site, server, providers, pair, session, heard, since });
        }
    });
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the latch: {:?}", self.latch());
        }
    }
}

/// Whether there are other users than root: in most user namespaces there are none (user_namespaces(7)).
fn has_other_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().nth(2).is_some_and(|count| count != "1")
}

impl Scene {
    /// The first peer's battery runs out.
    fn vanish(&self) {
        Links::of(&self.site.around[0].outer).unwrap().set_down("wire0").unwrap();
    }

    /// The SAs with the first peer end.
    fn expire(&mut self) {
        let remove = json!({"remove": [self.pair.numbers[0]]});
        self.providers[0].end(0).must("Commit", &remove);
        assert_eq!(self.latch().unwrap()["state"], "established", "a latch outlives its SAs (L-24)");
    }

    /// The first peer is back, and knows of nothing.
    fn return_as_before(&self) {
        let links = Links::of(&self.site.around[0].outer).unwrap();
        links.set_up("wire0").unwrap();
        links.wait_ready("wire0", PATIENCE).unwrap();
    }

    /// The first peer is back, and other SAs are agreed on with it.
    fn return_with_new_sas(&mut self) {
        self.return_as_before();
        let old = self.pair.numbers[1];
        self.pair = self.providers[0].join();
        self.providers[0].end(1).must("Commit", &json!({"remove": [old]}));
    }

    /// What keeps the first one's connection.
    fn latch(&self) -> Option<Value> {
        let remote = self.site.around[0].at(CLIENT).to_string();
        self.site.centre.gateway.rows("latch list").into_iter().find(|row| row["remote"] == remote)
    }

    /// The session of the first goes on where it was.
    fn goes_on(&mut self) {
        assert!(self.session.says("NOOP").unwrap().starts_with("OK"));
        assert!(!self.server.ended("one"), "the server saw an end");
        let latch = self.latch().unwrap();
        assert_eq!((&latch["state"], &latch["peer"]), (&json!("established"), &json!("fqdn:one.example")));
    }

    /// The second has a connection on the same 5-tuple, of which the server knows nothing: it is asked for who it is.
    fn second_begins_anew(&self) {
        let mut begun = None;
        eventually("the second one's connection begins", || {
            begun = Session::open(&self.site.around[1], &self.site.centre).ok();
            begun.is_some()
        });
        let mut begun = begun.unwrap();
        let answer = begun.says("SELECT INBOX").unwrap();
        assert!(answer.starts_with("BAD"), "{answer}");
        let latch = self.latch().unwrap();
        assert_eq!((&latch["state"], &latch["peer"]), (&json!("established"), &json!("fqdn:two.example")));
        assert!(begun.says("LOGIN two secret").unwrap().starts_with("OK"));
    }

    /// Neither a new connection of the second on the same 5-tuple nor what it says as if the first one's were its own meets the
    /// server.
    fn second_gets_nothing(&self) {
        let (two, centre) = (&self.site.around[1], &self.site.centre);
        assert!(Session::open(two, centre).is_err());
        let (sequence, acknowledged) = self.position();
        let forged = Segment {
            sequence,
            acknowledgement: Some(acknowledged),
            psh: true,
            window: 512,
            payload: b"c99 LOGOUT\r\n",
            ..Segment::default()
        };
        let forged = packet::tcp(two.at(CLIENT), centre.at(IMAP), &forged).unwrap();
        let dropped = || {
            let rows = [two, centre].map(|end| end.gateway.rows("drops")).concat();
            rows.iter().map(|row| row["packets"].as_u64().unwrap()).sum::<u64>()
        };
        let before = dropped();
        inject::as_application(&two.inner, &forged).unwrap();
        eventually("what the second one forged is dropped", || dropped() > before);
        assert!(!self.server.ended("one"), "the second one spoke for the first");
    }

    /// With what number the first one's host goes on, and what it acknowledged.
    fn position(&self) -> (u32, u32) {
        let frames = self.heard.frames_since(self.since).unwrap();
        let own = |frame: &&Frame| frame.direction == Direction::Outbound && frame.protocol == Some(6);
        let last = frames.iter().rfind(own).unwrap();
        let parsed = LaxSlicedPacket::from_ip(&last.bytes).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = parsed.transport else { panic!("{last:?}") };
        let headers = 20 + usize::from(tcp.data_offset()) * 4;
        let payload = u32::try_from(last.length - headers).unwrap();
        (tcp.sequence_number() + payload, tcp.acknowledgment_number())
    }
}

impl Server {
    /// With accounts of any name, all of one password.
    fn start(end: &End) -> Self {
        let folder = Folder::make();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.join("mail")).unwrap();
        fs::set_permissions(folder.join("mail"), Permissions::from_mode(0o777)).unwrap();
        let file = folder.join("dovecot.conf");
        let place = folder.as_ref().display().to_string();
        fs::write(&file, CONFIGURATION.replace("PLACE", &place).replace("ADDRESS", &end.host().to_string()))
            .unwrap();
        let said = File::create(folder.join("said")).unwrap();
        let spawn = || Command::new("dovecot").arg("-F").arg("-c").arg(&file).stderr(said).spawn();
        let master = end.inner.run(spawn).unwrap().unwrap();
        let server = Self { master, folder };
        let answers = || end.inner.run(|| TcpStream::connect(end.at(IMAP)).is_ok()).unwrap();
        eventually("the server listens", answers);
        server
    }

    /// What it says so far.
    fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        read("said") + &read("log")
    }

    /// Whether the session of an account has ended, as it sees it.
    fn ended(&self, account: &str) -> bool {
        let of = format!("imap({account})");
        self.log().lines().any(|line| line.contains(&of) && line.contains("Disconnected"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server:\n{}", self.log());
        }
        // It ends its children before it ends.
        let _ = kill(Pid::from_raw(self.master.id() as i32), Signal::SIGTERM);
        let _ = self.master.wait();
    }
}

impl Session {
    /// A connection from a host to the server's, which may get no answer.
    fn open(from: &End, to: &End) -> io::Result<Self> {
        Self::open_within(IN_VAIN, from, to)
    }

    /// A connection from a host to the server's, greeted.
    fn open_within(time: Duration, from: &End, to: &End) -> io::Result<Self> {
        let (own, there) = (from.at(CLIENT), to.at(IMAP));
        let stream = from.inner.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&own.into())?;
            socket.connect_timeout(&there.into(), time)?;
            Ok::<TcpStream, io::Error>(socket.into())
        });
        let stream = stream.unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut session = Self { stream: BufReader::new(stream), commands: 0 };
        let greeting = session.line()?;
        assert!(greeting.starts_with("* OK"), "{greeting}");
        Ok(session)
    }

    /// What the server answers to a command: the line that ends the answer, without its tag.
    fn says(&mut self, command: &str) -> io::Result<String> {
        self.commands += 1;
        let tag = format!("c{} ", self.commands);
        write!(self.stream.get_mut(), "{tag}{command}\r\n")?;
        loop {
            if let Some(answer) = self.line()?.strip_prefix(&tag) {
                return Ok(answer.to_owned());
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

/// One account, `secret`; INBOX where anybody may write.
const CONFIGURATION: &str = "\
base_dir = PLACE/run
state_dir = PLACE/state
log_path = PLACE/log
protocols = imap
listen = ADDRESS
ssl = no
disable_plaintext_auth = no
mail_location = maildir:PLACE/mail/%u
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=PLACE/mail/%u
}
service imap-login {
  inet_listener imap {
    port = 143
  }
  inet_listener imaps {
    port = 0
  }
}
";
