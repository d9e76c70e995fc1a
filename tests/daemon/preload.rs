//! `latchway preload` with a real gateway: programs that know nothing of it reach the peer that is required, and no other (T38).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use latchway_netns::skip::{Need, report, require};
use latchway_netns::watch::{Options, Sniffer};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::apps::{NOBODY, app, open};
use crate::site::{Side, Site, Terms, WIRE};
use crate::{PATIENCE, scenario};

const MARKER: &str = "an octet of a program that knows of nothing";

/// What the peer that is there is, and one that is not.
const RIGHT: &str = "peer=2.example,protection=confidential";
const WRONG: &str = "peer=3.example";

/// T38, L-11: as a user without privilege, programs of several kinds get through to the peer that is required, protected. To another
/// peer not one of their packets goes, and they are told at once.
#[test]
fn t38_programs_reach_the_required_peer_and_no_other() {
    const TEST: &str = "preload::t38_programs_reach_the_required_peer_and_no_other";
    scenario(TEST, || {
        let needed = ["bash", "curl", "python3", "cat", "gcc"].map(Need::Program);
        if !require(TEST, &needed) {
            return;
        }
        let site = Site::start_a(&Terms::default().with_third_peer(9));
        open(&site.a);
        let search = Options::searching(&[MARKER.as_bytes()]);
        let sniffer = Sniffer::start_with(&site.at(Side::A).outer, WIRE, search).unwrap();
        let there = SocketAddr::new(Side::B.address(), 80);
        let listener = site.at(Side::B).inner.run(|| TcpListener::bind(there)).unwrap().unwrap();

        let programs = programs(&site, there);
        for program in &programs {
            let Ok(refused) = preload(&site, WRONG, program, Command::output) else {
                return report(TEST, "no other user can be had here");
            };
            assert!(!refused.status.success(), "{program:?}: {refused:?}");
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(
                said.to_lowercase().contains("refused") || said.contains("curl: (7)"),
                "{program:?}: {said}"
            );
        }
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody came");
        listener.set_nonblocking(false).unwrap();

        let count = programs.len();
        let serves = thread::spawn(move || (0..count).for_each(|_| serve(&listener)));
        for program in &programs {
            let output = preload(&site, RIGHT, program, Command::output).unwrap();
            assert!(output.status.success(), "{program:?}: {output:?}\n{}", site.a.log());
            assert!(String::from_utf8_lossy(&output.stdout).contains(MARKER), "{program:?}");
        }
        serves.join().unwrap();
        let captured = sniffer.stop().unwrap();
        assert_eq!((captured.pattern_hits, captured.dropped), (vec![0], 0), "inner octets in the clear");
    });
}

/// T38, L-11: a server that knows of nothing is there for the peer that is required, and for no other.
#[test]
fn t38_servers_are_there_for_the_required_peer_alone() {
    const TEST: &str = "preload::t38_servers_are_there_for_the_required_peer_alone";
    scenario(TEST, || {
        if !require(TEST, &[Need::Program("python3")]) {
            return;
        }
        let site = Site::start_a(&Terms::default().with_third_peer(9));
        open(&site.a);
        let here = SocketAddr::new(Side::A.address(), 8000);
        for (required, there) in [(WRONG, false), (RIGHT, true)] {
            let serves = "import socket as s; l = s.create_server(('10.1.0.1', 8000)); print('up', flush=True); l.accept()";
            let program = ["python3", "-c", serves].map(str::to_owned);
            let started =
                preload(&site, required, &program, |command| command.stdout(Stdio::piped()).spawn());
            let Ok(mut server) = started else { return report(TEST, "no other user can be had here") };
            server.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
            let patience = if there { PATIENCE } else { Duration::from_millis(300) };
            let called = site.at(Side::B).inner.run(|| TcpStream::connect_timeout(&here, patience)).unwrap();
            assert_eq!(called.is_ok(), there, "{required}: {called:?}\n{}", site.a.log());
            kill(Pid::from_raw(server.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
            assert!(server.wait().is_ok());
        }
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
        let Ok(output) = preload(&site, "peer=nobody.example", &program, Command::output) else {
            return report(TEST, "no other user can be had here");
        };
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    });
}

/// T38: whoever is held cannot put words into the mouth of who holds it, which is under no filter.
#[test]
fn t38_the_parent_of_a_program_is_out_of_its_reach() {
    const TEST: &str = "preload::t38_the_parent_of_a_program_is_out_of_its_reach";
    scenario(TEST, || {
        let site = Site::start(&Terms::default());
        open(&site.a);
        let script = "true 3<>/proc/$$/mem && echo own; true 3<>/proc/$PPID/mem && echo parent; exit 0";
        let program = ["bash", "-c", script].map(str::to_owned);
        let Ok(output) = preload(&site, RIGHT, &program, Command::output) else {
            return report(TEST, "no other user can be had here");
        };
        assert_eq!(String::from_utf8_lossy(&output.stdout), "own\n", "{output:?}");
    });
}

/// A request for a page, made by a shell, by curl, by Python, and by a program in C that is linked statically.
fn programs(site: &Site, there: SocketAddr) -> [Vec<String>; 4] {
    let (host, port) = (there.ip(), there.port());
    let shell =
        format!("exec 3<>/dev/tcp/{host}/{port} || exit 1; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
    let python = format!("import urllib.request as r; print(r.urlopen('http://{there}/').read().decode())");
    let made = site.a.folder().join("probe").display().to_string();
    let mut compiler = Command::new("gcc");
    compiler.args(["-static", "-pthread", "-o", &made]);
    compiler.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/preload/probe.c"));
    assert!(compiler.status().unwrap().success(), "gcc -static");
    let words = |words: [&str; 3]| words.map(str::to_owned).to_vec();
    [
        words(["bash", "-c", &shell]),
        words(["curl", "-sS", &format!("http://{there}/")]),
        words(["python3", "-c", &python]),
        [made.as_str(), "get", &host.to_string(), &port.to_string()].map(str::to_owned).to_vec(),
    ]
}

/// Runs or starts a program under a requirement, without privilege.
fn preload<T: Send>(
    site: &Site,
    required: &str,
    program: &[String],
    run: impl FnOnce(&mut Command) -> io::Result<T> + Send,
) -> io::Result<T> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchway"));
    command.args(["preload", "--require", required, "--"]).args(program);
    command.env("LATCHWAY_APP", app(&site.a)).uid(NOBODY).gid(NOBODY);
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    site.at(Side::A).inner.run(|| run(&mut command)).unwrap()
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
