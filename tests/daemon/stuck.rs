//! Descriptors that do not let themselves be closed, and more of them than anybody needs (T40): harm for whoever passes them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use latchway_netns::skip::{Need, report, require};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;

use crate::apps::{NOBODY, app, open};
use crate::gateway::Folder;
use crate::site::{Site, Terms};
use crate::{PATIENCE, eventually, scenario};

/// A file system with one file, whose server never answers one process that it closed the file.
struct Stuck {
    ending: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
    closed: Receiver<()>,
    file: Option<File>,
}

impl Stuck {
    /// The file, open, to be closed by this process never; `None` where no such file system can be had.
    fn make(folder: &Path, by: Pid) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let (ending, (tell, closed)) = (Arc::new(AtomicBool::new(false)), channel());
        // Mounted where nobody else sees it, and gone with whoever has the file open.
        let folder = folder.to_path_buf();
        let told = Arc::clone(&ending);
        let mounted = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS).ok()?;
            let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).ok()?;
            let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
            mount(Some("stuck"), &folder, Some("fuse"), MsFlags::empty(), Some(options.as_str())).ok()?;
            let serving = thread::spawn(move || serve(device, by, &told, &tell));
            Some((serving, File::open(folder.join("file")).unwrap()))
        });
        let (serving, file) = mounted.join().unwrap()?;
        Some(Self { ending, serving: Some(serving), closed, file: Some(file) })
    }
}

impl Drop for Stuck {
    /// Without a server, whatever waits for it ends.
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        let _ = self.serving.take().map(JoinHandle::join);
        self.file = None;
    }
}

/// Answers the kernel (linux/fuse.h) until it is to end.
fn serve(mut device: File, by: Pid, ending: &AtomicBool, closed: &Sender<()>) {
    let mut request = vec![0; 1 << 17];
    while !ending.load(Ordering::Acquire) {
        let mut polled = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut polled, PollTimeout::from(20_u8)).is_ok_and(|ready| ready > 0) {
            continue;
        }
        let Ok(_) = device.read(&mut request) else { return };
        let opcode = u32::from_ne_bytes(request[4..8].try_into().unwrap());
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        // A regular file with number 2, that all may read.
        let file = [words(&[2, 0]), vec![0; 52], words(&[0o100_444, 1]), vec![0; 20]].concat();
        let answer = match opcode {
            LOOKUP => Ok([words(&[2, 0]), vec![0; 32], file].concat()),
            GETATTR => Ok([vec![0; 16], file].concat()),
            OPEN => Ok(vec![0; 16]),
            INIT => Ok([words(&[7, 31, 0, 0, 0, 4096]), vec![0; 40]].concat()),
            // Whoever else closes it, so a copy of this test on its way to be a program, is let go.
            FLUSH if is_of(by, &request) => {
                closed.send(()).unwrap();
                continue;
            }
            FORGET => continue,
            FLUSH => Ok(Vec::new()),
            _ => Err(nix::libc::ENOSYS),
        };
        let (error, body) = answer.map_or_else(|error| (-error, Vec::new()), |body| (0, body));
        let length = u32::try_from(16 + body.len()).unwrap();
        let head = [words(&[length, error.cast_unsigned()]), request[8..16].to_vec()].concat();
        // Whoever asked may be gone.
        let _ = device.write(&[head, body].concat());
    }
}

/// Whether a thread of this process asks.
fn is_of(process: Pid, request: &[u8]) -> bool {
    let thread = u32::from_ne_bytes(request[32..36].try_into().unwrap());
    Path::new(&format!("/proc/{process}/task/{thread}")).exists()
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const FLUSH: u32 = 25;
const INIT: u32 = 26;

fn pass(stream: &UnixStream, octets: &[u8], passed: &File) {
    let number = [passed.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&number)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(octets)], &rights, MsgFlags::empty(), None).unwrap();
}

fn heard(mut stream: &UnixStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut said, mut octet) = (Vec::new(), [1]);
    while stream.read(&mut octet).unwrap() == 1 && octet != [0] {
        said.extend(octet);
    }
    String::from_utf8(said).unwrap()
}

/// What the threads of this name have open beside what is the standard.
fn open_in(pid: impl std::fmt::Display, name: &str) -> Vec<Vec<String>> {
    let entries = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
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

/// T40: a descriptor whose closing never ends holds up whoever passed it, and nothing of the gateway's: killed, it leaves its
/// lock, its TUN and its ports to the next.
#[test]
fn t40_a_descriptor_that_is_never_closed_holds_nothing_of_the_gateways() {
    const TEST: &str = "stuck::t40_a_descriptor_that_is_never_closed_holds_nothing_of_the_gateways";
    scenario(TEST, || {
        let mut site = Site::start(&Terms::default());
        let folder = Folder::make();
        let Some(stuck) = Stuck::make(folder.as_ref(), site.a.pid()) else {
            return report(TEST, "no file system can be served here (/dev/fuse)");
        };
        let file = stuck.file.as_ref().unwrap();
        let stream = UnixStream::connect(app(&site.a)).unwrap();
        pass(&stream, b"{\"method\":\"org.latchway.App.Protection\"}\0", file);
        assert!(heard(&stream).contains("NotASocket"));
        stuck.closed.recv_timeout(PATIENCE).unwrap();
        // With a call that is never whole, it is closed as well.
        let half = UnixStream::connect(app(&site.a)).unwrap();
        pass(&half, b"{", file);
        assert_eq!(heard(&half), "");
        stuck.closed.recv_timeout(PATIENCE).unwrap();
        site.a.shown("status");

        site.a.signal(Signal::SIGKILL);
        let lock = format!("{}.lock", site.a.control().display());
        eventually("its lock is free", || {
            let lock = File::open(&lock).unwrap();
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok()
        });
        site.a.start();
        site.a.shown("status");
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
        let held: usize = open_in(site.a.pid(), "hands").iter().map(Vec::len).sum();
        assert!(held < 128 + 256 + 64, "{held} descriptors");
        // What is not said to its end is not waited for.
        taker.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "200");
        assert!(taker.wait().unwrap().success());
    });
}
