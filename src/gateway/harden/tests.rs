//! A process that has given up its privileges: what ends it, what fails, and what a gateway still can.
//!
//! Each test runs itself once more as another process, whose one thread that does anything hardens itself and does a deed.

use std::env;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use latchway_datapath::arrival::Carrier;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::low::wire::{NativeSocket, ReceiveBuffer, SendReport, Wire, WireSocket};
use latchway_datapath::send_batch::{Marks, SendBatch, Target};
use latchway_netns::{Links, Namespace, packet, skip};
use latchway_ulp_shim::{DestroyError, SocketDestroyer};
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::*;

/// Says to a copy of a test what it is to do.
const DEED: &str = "LATCHWAY_TEST_DEED";
const FOLDER: &str = "LATCHWAY_TEST_FOLDER";

/// How a copy ends that has done what it was to do, and where the kernel lacks a protection.
const DONE: i32 = 42;
const LACKING: i32 = 77;

#[test]
fn t33_what_only_an_intruder_does_ends_the_process() {
    const TEST: &str = "t33_what_only_an_intruder_does_ends_the_process";
    const DEEDS: [&str; 10] = [
        "exec",
        "fork",
        "trace",
        "mount",
        "unmount",
        "change root",
        "unshare",
        "enter a namespace",
        "change user",
        "change group",
    ];
    perform(TEST, |deed, world| {
        let root = CString::new("/bin/true").unwrap();
        let _ = match deed {
            "exec" => nix::unistd::execv(&root, &[&root]).map(drop).map_err(io::Error::from),
            "fork" => Command::new("/bin/true").status().map(drop),
            "trace" => nix::sys::ptrace::traceme().map_err(io::Error::from),
            "mount" => nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REMOUNT, None::<&str>)
                .map_err(io::Error::from),
            "unmount" => nix::mount::umount("/proc").map_err(io::Error::from),
            "change root" => nix::unistd::chroot("/").map_err(io::Error::from),
            "unshare" => nix::sched::unshare(CloneFlags::CLONE_NEWUSER).map_err(io::Error::from),
            "enter a namespace" => {
                nix::sched::setns(&world.namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
            }
            "change user" => nix::unistd::setuid(nix::unistd::getuid()).map_err(io::Error::from),
            "change group" => nix::unistd::setgid(nix::unistd::getgid()).map_err(io::Error::from),
            other => unreachable!("{other}"),
        };
    });
    for deed in DEEDS {
        let Some(status) = in_another_process(TEST, deed, &Folder::new(deed)) else { return };
        assert_eq!(status.signal(), Some(Signal::SIGSYS as i32), "{deed}: {status}");
    }
}

#[test]
fn t33_what_is_not_on_the_list_fails() {
    const TEST: &str = "t33_what_is_not_on_the_list_fails";
    const DEEDS: [&str; 9] = [
        "signal another process",
        "open a network socket",
        "listen for names",
        "read the password file",
        "write beside the folder",
        "read beside the folder",
        "write the configuration",
        "make a device",
        "dump core",
    ];
    perform(TEST, |deed, world| {
        let outcome = match deed {
            "signal another process" => nix::sys::signal::kill(Pid::parent(), None).map_err(io::Error::from),
            "open a network socket" => UdpSocket::bind("127.0.0.1:0").map(drop),
            "listen for names" => TcpListener::bind("[::1]:0").map(drop),
            "read the password file" => fs::read("/etc/passwd").map(drop),
            "write beside the folder" => fs::write(world.folder.join("beside"), "x"),
            "read beside the folder" => fs::read_dir(&world.folder).map(drop),
            "write the configuration" => fs::write(world.folder.join("config/file"), "x"),
            "make a device" => nix::sys::stat::mknod(
                &world.folder.join("state/device"),
                nix::sys::stat::SFlag::S_IFCHR,
                nix::sys::stat::Mode::S_IRUSR,
                nix::sys::stat::makedev(1, 5),
            )
            .map_err(io::Error::from),
            "dump core" => nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 1, 1)
                .map_err(io::Error::from),
            other => unreachable!("{other}"),
        };
        let error = outcome.expect_err(deed).raw_os_error().map(Errno::from_raw);
        assert!(matches!(error, Some(Errno::ENOSYS | Errno::EACCES | Errno::EPERM)), "{deed}: {error:?}");
    });
    for deed in DEEDS {
        let Some(status) = in_another_process(TEST, deed, &Folder::new(deed)) else { return };
        assert_eq!(status.code(), Some(DONE), "{deed}: {status}");
    }
}

#[test]
fn a_gateway_still_can_what_it_needs() {
    const TEST: &str = "a_gateway_still_can_what_it_needs";
    perform(TEST, |deed, world| match deed {
        "run threads" => {
            let (send, receive) = mpsc::channel();
            let work = move || {
                thread::sleep(Duration::from_millis(1));
                send.send(vec![0_u8; 1 << 20].len()).unwrap();
            };
            let threads: Vec<_> = (0..4)
                .map(|_| thread::Builder::new().name("worker".into()).spawn(work.clone()).unwrap())
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(receive.iter().take(4).sum::<usize>(), 4 << 20);
        }
        "read the configuration again" => {
            let read = fs::read_to_string(world.folder.join("config/file")).unwrap();
            assert_eq!(read, "configuration");
            assert_eq!(fs::read_dir(world.folder.join("config")).unwrap().count(), 1);
        }
        "reserve numbers on disk" => {
            let (new, old) = (world.folder.join("state/new"), world.folder.join("state/old"));
            let mut file = File::create(&new).unwrap();
            file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
            file.lock().unwrap();
            file.write_all(b"numbers").unwrap();
            file.sync_all().unwrap();
            fs::rename(&new, &old).unwrap();
            File::open(world.folder.join("state")).unwrap().sync_all().unwrap();
            assert_eq!(fs::read(&old).unwrap(), b"numbers");
            fs::remove_file(&old).unwrap();
        }
        "serve the control socket" => {
            let path = world.folder.join("state/control.sock");
            let listener = UnixListener::bind(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let client = thread::spawn({
                let path = path.clone();
                move || UnixStream::connect(path).unwrap().write_all(b"call").unwrap()
            });
            let (mut stream, _) = listener.accept().unwrap();
            nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials).unwrap();
            let mut call = String::new();
            stream.read_to_string(&mut call).unwrap();
            client.join().unwrap();
            assert_eq!(call, "call");
            fs::remove_file(path).unwrap();
        }
        "move packets" => world.wires.iter_mut().for_each(assert_moves_packets),
        "ask sock_diag" => {
            // Nobody has this connection; without CAP_NET_ADMIN the answer would be another.
            let flow = FlowKey::new(6, "127.0.0.1:9".parse().unwrap(), "127.0.0.1:10".parse().unwrap());
            let error = world.destroyer.destroy(&flow).unwrap_err();
            assert!(matches!(error, DestroyError::NoSuchSocket), "{error}");
        }
        "change what another namespace routes" => {
            Links::of(&world.inner).unwrap().set_mtu("lo", 1400).unwrap();
        }
        "wait for signals" => {
            let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGHUP]).unwrap();
            nix::sys::signal::raise(Signal::SIGHUP).unwrap();
            assert_eq!(signals.forever().next(), Some(signal_hook::consts::SIGHUP));
        }
        "draw random numbers" => getrandom::fill(&mut [0; 32]).unwrap(),
        other => unreachable!("{other}"),
    });
    for deed in [
        "run threads",
        "read the configuration again",
        "reserve numbers on disk",
        "serve the control socket",
        "move packets",
        "ask sock_diag",
        "change what another namespace routes",
        "wait for signals",
        "draw random numbers",
    ] {
        let Some(status) = in_another_process(TEST, deed, &Folder::new(deed)) else { return };
        assert_eq!(status.code(), Some(DONE), "{deed}: {status}");
    }
}

/// As release builds end: the message first, a trace as far as files can be read, then SIGABRT, from whichever thread.
#[test]
fn a_panic_is_told_and_ends_the_process() {
    const TEST: &str = "a_panic_is_told_and_ends_the_process";
    perform(TEST, |_, _| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            tell(panic);
            process::abort();
        }));
        let worker = thread::Builder::new().name("worker".into()).spawn(|| panic!("beyond help")).unwrap();
        let _ = worker.join();
    });
    let folder = Folder::new("panic");
    let Some(mut command) = another_process(TEST, "panic", &folder) else { return };
    let ended = command.env("RUST_BACKTRACE", "1").output().unwrap();
    let Some(status) = unless_lacking(TEST, ended.status) else { return };
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}: {told}");
    assert!(told.contains("thread 'worker'") && told.contains("beyond help"), "{told}");
    assert!(told.contains("stack backtrace:"), "{told}");
}

/// As the kernel sees it, from outside: the user, its groups, capabilities, and what binds them.
#[test]
fn t33_the_kernel_confirms_what_was_given_up() {
    const TEST: &str = "t33_the_kernel_confirms_what_was_given_up";
    perform(TEST, |_, _| {
        println!("hardened {}", nix::unistd::gettid());
        io::stdin().lock().read_line(&mut String::new()).unwrap();
    });
    let folder = Folder::new("seen");
    let Some(mut command) = another_process(TEST, "wait", &folder) else { return };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let thread = said.find_map(|line| Some(line.split_once("hardened ")?.1.to_owned()));
    let path = format!("/proc/{}/task/{}/status", child.id(), thread.unwrap());
    let status = fs::read_to_string(path).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // CAP_DAC_READ_SEARCH and CAP_NET_ADMIN.
    let left = format!("{:016x}", 1 << 2 | 1 << 12);
    let (nobody, none) = (vec![UNPRIVILEGED.to_string(); 4].join(" "), format!("{:016x}", 0));
    assert_eq!([field("CapPrm:"), field("CapEff:")], [left.clone(), left]);
    assert_eq!([field("CapInh:"), field("CapBnd:"), field("CapAmb:")], [none.clone(), none.clone(), none]);
    assert_eq!([field("Uid:"), field("Gid:"), field("Groups:")], [nobody.clone(), nobody, String::new()]);
    assert_eq!([field("NoNewPrivs:"), field("Seccomp:"), field("Seccomp_filters:")], ["1", "2", "2"]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().rev().nth(2), Some("0"), "{core}");
    assert_eq!(fs::metadata(format!("/proc/{}/environ", child.id())).unwrap().uid(), 0, "not dumpable");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(DONE));
    assert_eq!(fs::metadata(folder.0.join("state")).unwrap().uid(), UNPRIVILEGED, "the state is the user's");
    assert_eq!(fs::metadata(folder.0.join("config")).unwrap().uid(), 0);
}

#[test]
fn threads_that_run_already_are_refused() {
    let error = apply(&Plan::default()).unwrap_err();
    assert!(matches!(error, HardenError::Threads(2..)), "{error}");
}

#[test]
fn a_protection_that_is_missing_is_noted_or_where_required_an_error() {
    let lacking = || Err::<(), _>("the kernel has none");
    let mut gaps = Gaps { required: false, missing: Vec::new() };
    assert_eq!(gaps.note("system calls are not filtered", lacking()).unwrap(), None);
    let applied =
        Applied { user: None, capabilities: Vec::new(), syscalls: false, files: true, missing: gaps.missing };
    let text = applied.to_string();
    assert_eq!(text, "no capabilities, files confined; system calls are not filtered: the kernel has none");
    let mut gaps = Gaps { required: true, missing: Vec::new() };
    let error = gaps.note("system calls are not filtered", lacking()).unwrap_err();
    assert!(error.to_string().contains("requires every protection"), "{error}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let plan = Plan { read: vec!["/no/such/folder".into()], ..Plan::default() };
    let error = files::Bounds::new(&plan).err().unwrap().to_string();
    assert!(error.contains("/no/such/folder") && error.contains("must be there"), "{error}");
}

/// A user of no meaning, by its numbers.
const UNPRIVILEGED: u32 = 61_234;

/// What was opened before privileges were given up.
struct World {
    folder: PathBuf,
    namespace: Namespace,
    inner: Namespace,
    wires: [Wire; 2],
    destroyer: SocketDestroyer,
}

/// In the copy of a test: hardens the process and does its deed. In the test itself: nothing.
fn perform(test: &str, deeds: impl FnOnce(&str, &mut World)) {
    let Ok(deed) = env::var(DEED) else { return };
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap());
    let inner = Namespace::create("inner").unwrap();
    Links::of(&inner).unwrap().set_up("lo").unwrap();
    let wires = inner.run(|| -> [Wire; 2] {
        let address = "127.0.0.1".parse().unwrap();
        let udp = WireSocket::bind((address, 0).into()).unwrap();
        [udp.into(), NativeSocket::bind(address).unwrap().into()]
    });
    let mut world = World {
        folder: folder.clone(),
        namespace: Namespace::current().unwrap(),
        inner,
        wires: wires.unwrap(),
        destroyer: SocketDestroyer::open().unwrap(),
    };
    let plan = Plan {
        required: true,
        user: Some(format!("{UNPRIVILEGED}:{UNPRIVILEGED}")),
        read: vec![folder.join("config")],
        write: vec![folder.join("state")],
        sockets: Vec::new(),
    };
    let applied = match give_up(&plan) {
        Ok(applied) => applied,
        Err(HardenError::Missing(_)) => end(LACKING),
        Err(error) => panic!("{test}: {error}"),
    };
    assert_eq!(applied.capabilities, ["CAP_DAC_READ_SEARCH", "CAP_NET_ADMIN"]);
    assert!(applied.files && applied.syscalls && applied.missing.is_empty(), "{applied}");
    deeds(&deed, &mut world);
    end(DONE);
}

/// Packets leave, those that may be cut and others, and arrive.
fn assert_moves_packets(wire: &mut Wire) {
    let to = wire.local_addr();
    let packet = match wire.carrier() {
        Carrier::Udp => vec![7; 60],
        Carrier::Native => packet::raw(to.ip(), to.ip(), 50, &[7; 40]).unwrap(),
    };
    let mut batch = SendBatch::new();
    for may_fragment in [false, true, false] {
        let marks = Marks { traffic_class: 2, may_fragment };
        batch.reserve(Target { marks, ..Target::new(to, 0) }, 60).unwrap().copy_from_slice(&packet);
        batch.commit(60);
    }
    assert_eq!(wire.send(&batch, 0), SendReport { sent: 3, ..SendReport::default() });
    let (mut buffer, mut arrived) = (ReceiveBuffer::new(), 0);
    while arrived < 180 {
        for place in 0..wire.receive(&mut buffer).unwrap() {
            arrived += buffer.train(place).unwrap().0.len();
        }
    }
    assert_eq!(wire.next_hint(), None);
}

/// Ends the copy of a test, and nothing but that. `process::exit` first unmaps the main thread's signal stack, whichever
/// thread calls it (rust-lang/rust#161018), and the test's thread is another. The main thread may stand on that stack
/// still: glibc changes the user in every thread by a signal, and does not wait for the handlers to return. A gateway
/// changes users while it has one thread, and ends by returning from `main`.
fn end(code: i32) -> ! {
    signal_hook::low_level::exit(code)
}

/// How the copy of a test that does this deed ends.
fn in_another_process(test: &str, deed: &str, folder: &Folder) -> Option<ExitStatus> {
    unless_lacking(test, another_process(test, deed, folder)?.status().unwrap())
}

/// `None` where the kernel lacks a protection.
fn unless_lacking(test: &str, status: ExitStatus) -> Option<ExitStatus> {
    if status.code() == Some(LACKING) {
        skip::report(test, "the kernel lacks Landlock or filters of system calls");
        return None;
    }
    Some(status)
}

/// `None` where the machine does not let processes be hardened.
fn another_process(test: &str, deed: &str, folder: &Folder) -> Option<Command> {
    if !nix::unistd::geteuid().is_root() {
        skip::report(test, "only root has something to give up");
        return None;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    let name = format!("gateway::harden::tests::{test}");
    command.args(["--exact", &name, "--nocapture"]);
    command.env(DEED, deed).env(FOLDER, &folder.0);
    Some(command)
}

/// A folder that goes with the test, as root makes it for a gateway.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            env::temp_dir().join(format!("latchway-harden-{}-{}", name.replace(' ', "-"), process::id()));
        let private = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path).unwrap();
        fs::create_dir(&path).unwrap();
        private(&path.join("config"));
        private(&path.join("state"));
        fs::write(path.join("config/file"), "configuration").unwrap();
        fs::set_permissions(path.join("config/file"), fs::Permissions::from_mode(0o600)).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
