//! strongSwan's own ESP in userspace, kernel-libipsec, as the peer.
//!
//! Two of its daemons agree on keys for every proposal. Then one of them goes, and a gateway of ours comes to its address
//! with the keys that the other has in its log.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use latchway_esp::Suite;
use latchway_netns::{Links, Namespace, links, skip};

use crate::case::{Family, Peer};
use crate::gateway::Folder;
use crate::guest::{fetched, host};
use crate::site::{Site, WIRE};
use crate::{PATIENCE, eventually, scenario, talk};

/// RFC 3948, RFC 4303: every proposal that libipsec has, with traffic that either side begins.
#[test]
fn libipsec_goes_on_with_us() {
    scenario("strongswan::libipsec_goes_on_with_us", || {
        let root = fetched("strongswan");
        if !root.exists() {
            skip::report(
                "strongswan::libipsec_goes_on_with_us",
                "no strongSwan: run `tests/interop/fetch strongswan`",
            );
            return;
        }
        let street = street();
        let folder = Folder::make();
        let [theirs, stand_in] = ["strongswan", "stand-in"].map(|name| joined(&street, name));
        let mut theirs = Charon::start(&root, &folder, theirs, Side::Theirs);
        let stand_in = Charon::start(&root, &folder, stand_in, Side::Ours);
        let proposals = PROPOSALS.map(|(proposal, _)| proposal);
        [&theirs, &stand_in].into_iter().for_each(|charon| charon.load(&proposals));
        for proposal in proposals {
            theirs.initiate(proposal);
        }
        drop(stand_in);
        // Its namespace takes it away in the end, which is not to wait for.
        host(&street, "while ip link show stand-in; do ip link delete stand-in || true; done 2>/dev/null");

        let peers: Vec<_> =
            theirs.children().iter().enumerate().filter_map(|(place, child)| child.peer(place)).collect();
        let ours = joined(&street, "gateway");
        Site::address(&ours);
        let site = Site::run(&ours, &peers, false);
        let hosts: Vec<_> = (0..PROPOSALS.len()).map(|place| Side::Theirs.host(place)).collect();
        talk::serve(&theirs.place, &hosts);
        host(&theirs.place, "ip neighbour flush all");
        let known: Vec<_> = (0..PROPOSALS.len()).filter(|&place| is_ours(PROPOSALS[place].1)).collect();
        let ends: Vec<_> = known.iter().map(|&place| (Side::Theirs.host(place), Family::V4.host())).collect();
        let failures =
            talk::both_ways(&site.inner, &ends, talk::Sizes::Any, |talks| talk::talk(&theirs.place, talks));
        for (&place, failures) in known.iter().zip(&failures) {
            let verdict = if failures.is_empty() { "passes".to_owned() } else { failures.join("; ") };
            eprintln!("{:24} {}  {verdict}", PROPOSALS[place].0, PROPOSALS[place].1);
        }
        theirs.end();
        assert!(failures.iter().all(Vec::is_empty), "see above");
        assert_eq!(known.len(), peers.len());
    });
}

/// Which of the two a daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Theirs,
    Ours,
}

impl Side {
    fn address(self) -> IpAddr {
        match self {
            Self::Theirs => Ipv4Addr::new(10, 9, 0, 2).into(),
            Self::Ours => Family::V4.gateway(),
        }
    }

    /// Its host for a proposal. We have one for all of them.
    fn host(self, place: usize) -> IpAddr {
        match self {
            Self::Theirs => Ipv4Addr::new(10, 21, place as u8, 1).into(),
            Self::Ours => Family::V4.host(),
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Theirs => Self::Ours,
            Self::Ours => Self::Theirs,
        }
    }
}

/// One of strongSwan's daemons.
struct Charon {
    side: Side,
    root: PathBuf,
    folder: PathBuf,
    place: Namespace,
    child: Child,
}

impl Charon {
    /// Starts one where nothing of it is installed: in a mount namespace its folders lie over the system's.
    fn start(root: &Path, folder: &Folder, place: Namespace, side: Side) -> Self {
        let folder = folder.join(&format!("{side:?}"));
        fs::create_dir(&folder).unwrap();
        host(&place, &format!("ip address add {}/16 dev {WIRE}", side.address()));
        for number in 0..PROPOSALS.len() {
            host(&place, &format!("ip address replace {}/32 dev lo", side.host(number)));
        }
        Links::of(&place).unwrap().wait_ready(WIRE, PATIENCE).unwrap();
        fs::write(folder.join("strongswan.conf"), settings(&folder)).unwrap();
        let script = format!(
            "mount --make-rprivate / && mount -t overlay overlay -o lowerdir={}/usr/lib:/usr/lib /usr/lib && \
             mount -t tmpfs tmpfs /run && exec /usr/lib/ipsec/charon",
            root.display()
        );
        let said = File::create(folder.join("said")).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "bash", "-c", &script])
            .env("STRONGSWAN_CONF", folder.join("strongswan.conf"));
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        let child = place.run(|| command.spawn()).unwrap().unwrap();
        let charon = Self { side, root: root.to_owned(), folder, place, child };
        // Its socket is there before it listens.
        eventually("strongSwan listens", || UnixStream::connect(charon.folder.join("vici")).is_ok());
        charon
    }

    /// Tells it of the other one, with a child SA for each of these proposals.
    fn load(&self, proposals: &[&str]) {
        let (own, other) = (self.side.address(), self.side.other().address());
        let children: String = proposals.iter().enumerate().map(|(place, proposal)| {
            let [local, remote] = [self.side, self.side.other()].map(|side| side.host(place));
            format!("{proposal} {{\nlocal_ts = {local}/32\nremote_ts = {remote}/32\nesp_proposals = {proposal}\n}}\n")
        }).collect();
        let text = format!(
            "connections {{\npeer {{\nversion = 2\nlocal_addrs = {own}\nremote_addrs = {other}\nmobike = no\n\
             proposals = aes128gcm16-prfsha256-x25519\nlocal {{\nauth = psk\nid = {own}\n}}\n\
             remote {{\nauth = psk\nid = {other}\n}}\nchildren {{\n{children}}}\n}}\n}}\n\
             secrets {{\nike {{\nsecret = 0x{}\n}}\n}}\n",
            "5e".repeat(32)
        );
        fs::write(self.folder.join("swanctl.conf"), text).unwrap();
        self.swanctl(&["--load-all", "--file", &self.folder.join("swanctl.conf").display().to_string()]);
    }

    fn initiate(&self, child: &str) {
        self.swanctl(&["--initiate", "--child", child]);
    }

    fn swanctl(&self, words: &[&str]) {
        let socket = format!("unix://{}", self.folder.join("vici").display());
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--target", &self.child.id().to_string()])
            .arg(self.root.join("usr/sbin/swanctl"));
        command
            .args(words)
            .args(["--uri", &socket])
            .env("STRONGSWAN_CONF", self.folder.join("strongswan.conf"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}\n{}", self.log());
    }

    /// What it agreed on, in the order of the proposals.
    fn children(&self) -> Vec<Agreed> {
        let mut children: Vec<Agreed> = Vec::new();
        let mut key: Option<(bool, bool)> = None;
        for line in
            self.log().lines().filter_map(|line| line.split_once("[CHD] ")).map(|(_, line)| line.trim())
        {
            let hexadecimal = || {
                line.split_once(": ").map(|(_, octets)| octets.split("  ").next().unwrap().replace(' ', ""))
            };
            if line.ends_with("CREATED => INSTALLING") {
                children.push(Agreed::default());
            }
            let Some(child) = children.last_mut() else { continue };
            match (&line.split(' ').collect::<Vec<_>>()[..], key) {
                (
                    [what @ ("encryption" | "integrity"), whose @ ("initiator" | "responder"), "key", ..],
                    _,
                ) => {
                    key = Some((*what == "encryption", *whose == "initiator"));
                }
                (["SPI", spi, "src", from, ..], _) => {
                    let spi = u32::from_str_radix(spi.trim_start_matches("0x").trim_end_matches(','), 16);
                    let way = usize::from(*from != self.side.address().to_string());
                    child.spis[way] = spi.unwrap();
                }
                ([place, ..], Some((encryption, initiator))) if place.ends_with(':') => {
                    let keys = &mut child.keys[usize::from(!initiator)];
                    let half = if encryption { &mut keys.0 } else { &mut keys.1 };
                    half.push_str(&hexadecimal().unwrap());
                }
                _ => key = None,
            }
        }
        assert_eq!(children.len(), PROPOSALS.len(), "{}", self.log());
        children
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Charon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = fs::read_to_string(self.folder.join("said")).unwrap_or_default();
            eprintln!("{:?}:\n{said}{}", self.side, self.log());
        }
        self.end();
    }
}

/// What both daemons agreed on. First what the initiator sends with, which they are.
#[derive(Debug, Default)]
struct Agreed {
    spis: [u32; 2],
    /// Of encryption and of integrity, in hexadecimal.
    keys: [(String, String); 2],
}

impl Agreed {
    /// The peer that they are to us, if we have the suite.
    fn peer(&self, place: usize) -> Option<Peer> {
        let suite = PROPOSALS[place].1;
        let sas = [0, 1].map(|way| (self.spis[way], format!("{}{}", self.keys[way].0, self.keys[way].1)));
        let network = format!("{}/32", Side::Theirs.host(place));
        let peer = (Side::Theirs.address(), &*network);
        is_ours(suite)
            .then(|| Peer::new(&format!("{place}.example"), peer, (suite, sas), true, "esn = false"))
    }
}

fn is_ours(suite: &str) -> bool {
    Suite::all().any(|one| one.name() == suite)
}

/// A bridge in a namespace of its own.
fn street() -> Namespace {
    let street = Namespace::create("street").unwrap();
    host(&street, "ip link add bridge type bridge && ip link set bridge up");
    street
}

/// A namespace on the bridge.
fn joined(street: &Namespace, name: &str) -> Namespace {
    let namespace = Namespace::create(name).unwrap();
    links::veth(street, name, &namespace, WIRE).unwrap();
    host(street, &format!("ip link set {name} master bridge up"));
    Links::of(&namespace).unwrap().set_up(WIRE).unwrap();
    namespace
}

/// Level 4 of `chd` puts keys into the log.
fn settings(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "charon {{\nload = random nonce aes sha1 sha2 hmac gcm ccm ctr cmac chapoly curve25519 openssl kdf kernel-libipsec \
         kernel-netlink socket-default vici\nplugins {{\nvici {{\nsocket = unix://{folder}/vici\n}}\n}}\n\
         filelog {{\nlog {{\npath = {folder}/log\ndefault = 1\nchd = 4\nflush_line = yes\n}}\n}}\n}}\n"
    )
}

/// Proposals, and what we call them. libipsec has no extended sequence numbers.
const PROPOSALS: [(&str, &str); 13] = [
    ("aes128gcm16", "aes-128-gcm"),
    ("aes192gcm16", "aes-192-gcm"),
    ("aes256gcm16", "aes-256-gcm"),
    ("aes128gcm12", "aes-128-gcm-12"),
    ("aes128gcm8", "aes-128-gcm-8"),
    ("aes128ccm16", "aes-128-ccm"),
    ("chacha20poly1305", "chacha20-poly1305"),
    ("aes128-sha1", "aes-128-cbc-hmac-sha-1"),
    ("aes128-sha256", "aes-128-cbc-hmac-sha-256"),
    ("aes256-sha384", "aes-256-cbc-hmac-sha-384"),
    ("aes256-sha512", "aes-256-cbc-hmac-sha-512"),
    ("aes128ctr-sha256", "aes-128-ctr-hmac-sha-256"),
    ("null-sha256", "null-hmac-sha-256"),
];
