//! A script for a kernel, word for word, drives two gateways without a file; and what is listed, watched and imported.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use latchway_netns::Links;
use latchway_netns::ping::{self, Echo};

use crate::gateway::{Folder, Gateway, PROGRAM};
use crate::site::{Place, Side, TUN, places};
use crate::{PATIENCE, eventually, scenario};

/// Two gateways without a file, and their hosts.
pub struct Bare {
    pub places: [Place; 2],
    pub gateways: [Gateway; 2],
    _folder: Folder,
}

impl Bare {
    pub fn start() -> Self {
        Self::prepare(false).started()
    }

    /// The same, with numbers on record.
    pub fn start_recorded() -> Self {
        Self::prepare(true).started()
    }

    fn prepare(recorded: bool) -> Self {
        let (places, folder) = (places(), Folder::make());
        let gateways = [Side::A, Side::B].map(|side| {
            let place = &places[usize::from(side.number()) - 1];
            let inner = place.inner.proc_path().display().to_string();
            let listen = format!("192.0.2.{}", side.number());
            let mut words = vec!["--tun", TUN, "--listen", &listen, "--inner", &inner];
            let state = folder.join(&format!("{}.state", side.number())).display().to_string();
            if recorded {
                done(&Command::new(PROGRAM).args(["enrol", &state]).output().unwrap());
                words.extend(["--state-dir", &state]);
            }
            Gateway::new(&place.outer, folder.join(&side.number().to_string())).bare(&words)
        });
        Self { places, gateways, _folder: folder }
    }

    fn started(mut self) -> Self {
        [Side::A, Side::B].into_iter().for_each(|side| self.bring_up(side));
        self
    }

    /// Starts a gateway. Addresses and routes are the script's own business.
    pub fn bring_up(&mut self, side: Side) {
        let (own, far) = (side.number(), side.other().number());
        let place = usize::from(own) - 1;
        self.gateways[place].start();
        let links = Links::of(&self.places[place].inner).unwrap();
        links.add_address(TUN, format!("10.{own}.0.1/24").parse().unwrap()).unwrap();
        links.set_up(TUN).unwrap();
        links.wait_ready(TUN, PATIENCE).unwrap();
        links.add_route(format!("10.{far}.0.0/24").parse().unwrap(), None, TUN, 0).unwrap();
    }

    /// Says the same script to both, as `ip -batch -` would hear it. What differs is where the hosts are.
    pub fn script(&self, states: &str) {
        for (side, gateway) in [Side::A, Side::B].into_iter().zip(&self.gateways) {
            let (own, far) = (side.number(), side.other().number());
            let out = format!("src 192.0.2.{own} dst 192.0.2.{far} proto esp reqid 7 mode tunnel");
            let into = format!("src 192.0.2.{far} dst 192.0.2.{own} proto esp reqid 7 mode tunnel");
            let text = format!(
                "xfrm state flush\nxfrm policy flush\n{states}\n\
                 xfrm policy add src 10.{own}.0.0/24 dst 10.{far}.0.0/24 dir out tmpl {out}\n\
                 xfrm policy add src 10.{far}.0.0/24 dst 10.{own}.0.0/24 dir in tmpl {into}\n\
                 xfrm policy add src 10.{far}.0.0/24 dst 10.{own}.0.0/24 dir fwd tmpl {into}\n"
            );
            done(&said(gateway, &["-batch", "-"], &text));
        }
    }

    pub fn passes(&self) -> bool {
        self.passes_between(Side::A.address(), Side::B.address())
    }

    /// Whether an echo from a's hosts returns.
    pub fn passes_between(&self, source: IpAddr, destination: IpAddr) -> bool {
        let timeout = Duration::from_millis(300);
        let echo = Echo { source: Some(source), destination, timeout, ..Echo::default() };
        ping::echo(&self.places[0].inner, &echo).is_ok_and(|report| report.received == 1)
    }
}

/// `latchway xfrm` with these words, and this on its standard input.
pub fn said(gateway: &Gateway, words: &[&str], input: &str) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("--control").arg(gateway.control()).arg("xfrm").args(words);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn shown(gateway: &Gateway, words: &str) -> String {
    done(&said(gateway, &words.split(' ').collect::<Vec<_>>(), ""))
}

pub fn complains(gateway: &Gateway, words: &[&str]) -> String {
    crate::gateway::complaint(&said(gateway, words, ""))
}

/// Whoever watches, with `monitor` or a part of it.
pub struct Monitor {
    child: Child,
    told: mpsc::Receiver<String>,
}

impl Monitor {
    /// Watches, from the moment on at which it is heard that it does: until then what happens is not told.
    pub fn of(gateway: &Gateway, objects: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.arg("--control").arg(gateway.control()).args(["xfrm", "monitor", "policy"]).args(objects);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (tell, told) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let monitor = Self { child, told };
        eventually("the monitor tells of a policy", || {
            done(&said(
                gateway,
                &["policy", "update", "dst", "203.0.113.0/24", "dir", "out", "action", "block"],
                "",
            ));
            monitor
                .told
                .recv_timeout(Duration::from_millis(300))
                .is_ok_and(|line| line.contains("203.0.113.0/24"))
        });
        monitor
    }

    /// Waits for a line, and returns what was heard up to it.
    pub fn until(&self, wanted: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let line = self.told.recv_timeout(PATIENCE);
            heard.push(line.unwrap_or_else(|_| panic!("no {wanted:?} came: {heard:?}")));
            if heard.last().unwrap().contains(wanted) {
                return heard;
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// States of both directions, with keys of this octet.
fn states(key: u8, encap: &str) -> String {
    let state = |src: u8, dst: u8| {
        let keys = [32, 64].map(|digits| format!("{key:02x}{src}{dst}").repeat(16)[..digits].to_owned());
        format!(
            "xfrm state add src 192.0.2.{src} dst 192.0.2.{dst} proto esp spi 0x10{src}{dst} reqid 7 mode tunnel \
             replay-window 64 flag esn enc 'cbc(aes)' 0x{} auth-trunc 'hmac(sha256)' 0x{} 128 {encap}",
            keys[0], keys[1]
        )
    };
    format!("{}\n{}", state(1, 2), state(2, 1))
}

/// RFC 3948 and RFC 4303: in UDP and as protocol 50, with latches of pairs.
#[test]
fn a_script_for_a_kernel_drives_two_gateways() {
    scenario("xfrm::a_script_for_a_kernel_drives_two_gateways", || {
        let bare = Bare::start();
        assert!(!bare.passes(), "an empty policy discards everything");
        let [a, _] = &bare.gateways;
        eventually("the echo is counted", || a.drops("outbound", "no_policy") > 0);
        for (key, encap) in [(0xa1, "encap espinudp 4500 4500 0.0.0.0"), (0xb2, "")] {
            bare.script(&states(key, encap));
            eventually(&format!("an echo returns {encap}"), || bare.passes());
            let latches = a.rows("latch list");
            let held = |row: &&serde_json::Value| row["state"] == "established";
            assert!(latches.iter().filter(held).any(|row| row["peer"] == "address:192.0.2.2"), "{latches:?}");
            let listed = shown(a, "state list");
            assert_eq!(listed.contains("encap type espinudp"), !encap.is_empty(), "{listed}");
            assert!(
                listed.contains("<<Keys hidden>>") && !listed.contains(&format!("{key:02x}12")),
                "{listed}"
            );
            assert!(shown(a, "-s state list").contains("lifetime current:"));
        }
        assert_eq!(shown(a, "state count"), "\t SAD count 2\n");
        assert_eq!(shown(a, "policy count"), "\t SPD IN  1 OUT 1 FWD 1\n");
        done(&said(a, &["state", "deleteall", "dst", "192.0.2.2"], ""));
        assert!(!bare.passes(), "without its state nothing leaves");
    });
}

/// T12, T40, RFC 8221 section 3: what is refused says what to do; what was listed with its keys can be imported; and who
/// watches hears.
#[test]
fn what_is_listed_is_imported_and_what_happens_is_watched() {
    scenario("xfrm::what_is_listed_is_imported_and_what_happens_is_watched", || {
        let bare = Bare::start();
        let [a, _] = &bare.gateways;
        let monitor = Monitor::of(a, &["SA"]);
        let fresh = "aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128";
        let state =
            format!("state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x999 reqid 1 mode tunnel {fresh}");
        let words: Vec<_> = state.split(' ').collect();
        let refused = complains(a, &words);
        assert!(refused.contains("--ephemeral-keys") && refused.contains("--state-dir"), "{refused}");
        assert!(!refused.contains("0c0d0e"), "T40: {refused}");
        let asserted: Vec<_> = ["--ephemeral-keys"].into_iter().chain(words.iter().copied()).collect();
        let added = said(a, &asserted, "");
        assert!(String::from_utf8_lossy(&added.stderr).contains("4096"), "{added:?}");
        done(&added);
        assert!(complains(a, &asserted).contains("exists already"));
        monitor.until("src 192.0.2.1 dst 192.0.2.2");
        done(&said(a, &["state", "flush"], ""));
        assert!(complains(a, &asserted).contains("installed before"), "a key is fresh once");
        bare.script(&states(0xc3, "encap espinudp 4500 4500 0.0.0.0"));
        let listed = shown(a, "--show-keys state list") + &shown(a, "policy list");
        assert!(a.log().contains("keys of all states were shown"), "{}", a.log());
        done(&said(a, &["state", "flush"], ""));
        done(&said(a, &["policy", "flush"], ""));
        done(&said(a, &["import", "-"], &listed));
        let again = shown(a, "--show-keys state list") + &shown(a, "policy list");
        assert_eq!(again, listed);
    });
}
