//! `latchway preload` with a real gateway: programs that know nothing of it reach the peer that is required, and no other (T38).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::thread;

use latchway_netns::skip::{Need, report, require};
use latchway_netns::watch::{Options, Sniffer};

use crate::apps::{NOBODY, app, open};
use crate::gateway::complaint;
use crate::scenario;
use crate::site::{Side, Site, Terms, WIRE};

const MARKER: &str = "an octet of a program that knows of nothing";

/// T38, L-11: as a user without privilege, programs of several kinds get through to the peer that is required, protected. To another
/// peer not one of their packets goes, and they are told at once.
#[test]
fn t38_programs_reach_the_required_peer_and_no_other() {
    const TEST: &str = "preload::t38_programs_reach_the_required_peer_and_no_other";
    scenario(TEST, || {
        let needed = ["bash", "curl", "python3", "cat"].map(Need::Program);
        if !require(TEST, &needed) {
            return;
        }
        let site = Site::start_a(&Terms::default().with_third_peer(9));
        open(&site.a);
        let search = Options::searching(&[MARKER.as_bytes()]);
        let sniffer = Sniffer::start_with(&site.at(Side::A).outer, WIRE, search).unwrap();
        let there = SocketAddr::new(Side::B.address(), 80);
        let listener = site.at(Side::B).inner.run(|| TcpListener::bind(there)).unwrap().unwrap();

        for program in programs(there) {
            let refused = Some(preload(&site, "peer=3.example", &program)).and_then(Result::ok);
            let Some(refused) = refused else { return report(TEST, "no other user can be had here") };
            assert!(!refused.status.success(), "{program:?}: {refused:?}");
            let said = complaint(&refused);
            assert!(
                said.to_lowercase().contains("refused") || said.contains("curl: (7)"),
                "{program:?}: {said}"
            );
        }
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody came");
        listener.set_nonblocking(false).unwrap();

        let count = programs(there).len();
        let serves = thread::spawn(move || (0..count).for_each(|_| serve(&listener)));
        for program in programs(there) {
            let output = preload(&site, "peer=2.example,protection=confidential", &program).unwrap();
            assert!(output.status.success(), "{program:?}: {}\n{}", complaint(&output), site.a.log());
            assert!(String::from_utf8_lossy(&output.stdout).contains(MARKER), "{program:?}");
        }
        serves.join().unwrap();
        let captured = sniffer.stop().unwrap();
        assert_eq!((captured.pattern_hits, captured.dropped), (vec![0], 0), "inner octets in the clear");
    });
}

/// T38: an identity that no entry of the PAD allows is refused before anything is started.
#[test]
fn t38_what_the_gateway_forbids_starts_nothing() {
    const TEST: &str = "preload::t38_what_the_gateway_forbids_starts_nothing";
    scenario(TEST, || {
        let site = Site::start(&Terms::default());
        open(&site.a);
        let program = vec!["echo".to_owned(), "started".to_owned()];
        let Ok(output) = preload(&site, "peer=nobody.example", &program) else {
            return report(TEST, "no other user can be had here");
        };
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    });
}

/// A request for a page, made by a shell, by curl and by Python.
fn programs(there: SocketAddr) -> [Vec<String>; 3] {
    let (host, port) = (there.ip(), there.port());
    let shell =
        format!("exec 3<>/dev/tcp/{host}/{port} || exit 1; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
    let python = format!("import urllib.request as r; print(r.urlopen('http://{there}/').read().decode())");
    let words = |words: [&str; 3]| words.map(str::to_owned).to_vec();
    [
        words(["bash", "-c", &shell]),
        words(["curl", "-sS", &format!("http://{there}/")]),
        words(["python3", "-c", &python]),
    ]
}

/// Runs a program under a requirement, without privilege.
fn preload(site: &Site, required: &str, program: &[String]) -> std::io::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchway"));
    command.args(["preload", "--require", required, "--"]).args(program);
    command.env("LATCHWAY_APP", app(&site.a)).uid(NOBODY).gid(NOBODY);
    site.at(Side::A).inner.run(|| command.output()).unwrap()
}

/// Gives a page to one caller.
fn serve(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        asked.extend(octet);
    }
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{MARKER}", MARKER.len()).unwrap();
}
