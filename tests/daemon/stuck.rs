//! Descriptors that applications pass, and more of them than anybody needs (T40): harm for whoever passes them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use latchway_netns::skip::{Need, report, require};

use crate::apps::{NOBODY, app, open};
use crate::site::{Site, Terms};
use crate::{PATIENCE, eventually, scenario};

fn heard(mut stream: &UnixStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut said, mut octet) = (Vec::new(), [1]);
    while stream.read(&mut octet).unwrap() == 1 && octet != [0] {
        said.extend(octet);
    }
    String::from_utf8(said).unwrap()
}

/// What the threads of this name have open beside what is the standard. One that ends meanwhile has nothing.
fn open_in(pid: impl std::fmt::Display, name: &str) -> Vec<Vec<String>> {
    let entries =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut all = Vec::new();
    for task in entries(Path::new(&format!("/proc/{pid}/task"))) {
        if fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name) {
            let numbers = entries(&task.join("fd"));
            let others = numbers.filter(|path| !["0", "1", "2"].iter().any(|number| path.ends_with(number)));
            all.push(
                others.filter_map(|path| Some(fs::read_link(path).ok()?.display().to_string())).collect(),
            );
        }
    }
    all
}

/// T40: what takes descriptors off a connection has nothing of the gateway's that it could keep.
#[test]
fn t40_what_takes_descriptors_has_its_connection_alone() {
    scenario("stuck::t40_what_takes_descriptors_has_its_connection_alone", || {
        let site = Site::start(&Terms::default());
        let streams: Vec<_> = (0..3).map(|_| UnixStream::connect(app(&site.a)).unwrap()).collect();
        for mut stream in &streams {
            stream.write_all(b"{\"method\":\"org.latchway.App.Gateway\"}\0").unwrap();
            assert!(heard(stream).contains("gateway1"));
        }
        let open = open_in(site.a.pid(), "hands");
        assert_eq!(open.len(), streams.len());
        for open in open {
            assert!(open.len() == 1 && open[0].starts_with("socket:"), "{open:?}");
        }
    });
}

/// A user without privilege who takes what can be had, says how many connections were given up, and how many stand.
const TAKES: &str = r#"
import os, socket, sys
app = sys.argv[1]
null = os.open("/dev/null", os.O_RDONLY)
streams = []
for _ in range(200):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(app)
    try:
        socket.send_fds(stream, [b"{"], [null] * 64)
    except OSError:
        pass
    streams.append(stream)
print("taken", flush=True)
sys.stdin.readline()
ended = 0
for stream in streams:
    stream.settimeout(20)
    try:
        while stream.recv(4096):
            pass
    except ConnectionError:
        pass
    ended += 1
print(ended, flush=True)
"#;

/// T40: one user takes its own places and no other's, and no descriptor that the operator or a record needs.
#[test]
fn t40_a_user_who_takes_all_it_can_keeps_nobody_out() {
    const TEST: &str = "stuck::t40_a_user_who_takes_all_it_can_keeps_nobody_out";
    scenario(TEST, || {
        if !require(TEST, &[Need::Program("python3")]) {
            return;
        }
        let site = Site::start(&Terms::default());
        open(&site.a);
        let mut program = Command::new("python3");
        program.args(["-c", TAKES]).arg(app(&site.a)).uid(NOBODY).gid(NOBODY);
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut taker) = program.spawn() else { return report(TEST, "no other user can be had here") };
        let mut lines = BufReader::new(taker.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "taken");
        // Root is answered on app.sock, the operator on the other, and files are opened.
        let mut stream = UnixStream::connect(app(&site.a)).unwrap();
        stream.write_all(b"{\"method\":\"org.latchway.App.Gateway\"}\0").unwrap();
        assert!(heard(&stream).contains("gateway1"));
        site.a.shown("status");
        site.a.read("reload");
        let open = fs::read_dir(format!("/proc/{}/fd", site.a.pid())).unwrap().count();
        assert!(open < 400, "{open} descriptors");
        // A thread has its name a moment before it lets go of what is not its own.
        eventually("no more than the bounds are held", || {
            open_in(site.a.pid(), "hands").iter().map(Vec::len).sum::<usize>() < 128 + 256 + 64
        });
        // What is not said to its end is not waited for.
        taker.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "200");
        assert!(taker.wait().unwrap().success());
    });
}
