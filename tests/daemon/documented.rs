//! The ten lines that the documentation promises, as they stand there.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use latchway_netns::ping::{self, Echo};
use latchway_netns::skip::{Need, require};
use latchway_netns::{Namespace, NamespaceRef, testing};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use crate::gateway::{Folder, Gateway, PROGRAM};
use crate::site::{Side, Site, Terms, key, wire};
use crate::{PATIENCE, scenario};

/// Two gateways of the ten lines in docs/configuration.md, one of them mirrored, carry ping and TCP, with keys made by hand;
/// and both verbs' sockets are where clients look for them.
#[test]
fn the_ten_lines_of_the_documentation_are_a_tunnel() {
    scenario("documented::the_ten_lines_of_the_documentation_are_a_tunnel", || {
        testing::in_private_run(|| {
            // State directories, too, are this test's alone.
            let flags = MsFlags::empty();
            mount(Some("none"), "/var/lib", Some("tmpfs"), flags, None::<&str>).unwrap();
            fs::create_dir("/var/lib/latchway").unwrap();
            tunnel();
        });
    });
}

fn tunnel() {
    let ten_lines = ten_lines();
    let (left, right) = (Namespace::create("a").unwrap(), Namespace::create("b").unwrap());
    wire(&left, &right);
    let folder = Folder::make();
    let gateway = |place, name: &str, file, text: &str| {
        let control = format!("/run/latchway/{name}/control.sock");
        let gateway = Gateway::new(place, folder.join(name)).of_file(file, control);
        gateway.configure(text);
        gateway
    };
    let mut a = gateway(&left, "a", "a.toml", &ten_lines);
    let mut b = gateway(&right, "b", "b.toml", &mirrored(&ten_lines));
    for (gateway, inbound, outbound) in [(&a, 1, 2), (&b, 2, 1)] {
        gateway.write("in.key", &key(inbound, 1));
        gateway.write("out.key", &key(outbound, 1));
    }
    assert!(
        a.refused().contains("latchway enrol /var/lib/latchway/branch"),
        "a store is made knowingly (T12)"
    );
    for folder in ["branch", "office"] {
        let folder = format!("/var/lib/latchway/{folder}");
        assert!(Command::new(PROGRAM).args(["enrol", &folder]).status().unwrap().success());
    }
    a.start();
    b.start();
    let hosts = |name: &str| NamespaceRef::Name(name.into()).open().unwrap();
    let (here, there) = (hosts("branch"), hosts("office"));
    let echo =
        Echo { destination: "10.2.0.1".parse().unwrap(), count: 5, timeout: PATIENCE, ..Echo::default() };
    let report = ping::echo(&here, &echo).unwrap();
    assert_eq!(report.received, 5, "{report:?}");
    let listener = there.run(|| TcpListener::bind("10.2.0.1:80")).unwrap().unwrap();
    let mut stream = here.run(|| TcpStream::connect("10.2.0.1:80")).unwrap().unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    stream.write_all(b"latchway").unwrap();
    let mut octets = [0; 8];
    accepted.read_exact(&mut octets).unwrap();
    assert_eq!(&octets, b"latchway");
    let status = a.shown("status");
    assert_eq!(status["name"], "a", "named after its file");
    assert_eq!(status["tun"]["up"], true, "privileges that are given up take no sight");
    assert!(status["tun"]["mtu"].as_u64() > Some(1280), "{status}");
    assert_eq!(a.rows("latch list")[0]["peer"], "fqdn:b.example");
    assert!(fs::metadata("/var/lib/latchway/branch").unwrap().is_dir());
    for gateway in [&mut a, &mut b] {
        assert!(gateway.end_by(Signal::SIGTERM).success(), "{}", gateway.log());
    }
}

/// The first example of docs/configuration.md.
fn ten_lines() -> String {
    let page = include_str!("../../docs/configuration.md");
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let lines = example.lines().filter(|line| !line.trim().is_empty() && *line != "[[peer]]").count();
    assert!(lines <= 10, "ten lines are promised:\n{example}");
    example.to_owned()
}

/// The same tunnel from its other end.
fn mirrored(text: &str) -> String {
    let pairs = [
        ("a.example", "b.example"),
        ("10.1.0.1/24", "10.2.0.1/24"),
        ("[\"10.2.0.0/24\"]", "[\"10.1.0.0/24\"]"),
        ("192.0.2.1:4500", "192.0.2.2:4500"),
        ("0x1001", "0x1002"),
        ("branch", "office"),
    ];
    let swap = |line: &str| {
        pairs.iter().fold(line.to_owned(), |line, (one, other)| {
            line.replace(one, "\0").replace(other, one).replace('\0', other)
        })
    };
    // The inner network of the peer is the only prefix of its kind, so it is not swapped back.
    text.lines().map(|line| swap(line) + "\n").collect()
}

/// R-18: the page says that whether the other end latches is not negotiated, and how it is learnt.
#[test]
fn r_18_the_page_says_how_to_learn_whether_the_other_end_latches() {
    let page = include_str!("../../docs/latching.md").replace('\n', " ");
    for says in [
        "The other end need not latch",
        "cannot be asked",
        "Only the application's own protocol can find that out",
    ] {
        assert!(page.contains(says), "{says}");
    }
}

/// A container is named by the process id of its first process, and the gateway's TUN is what it has of a network.
#[test]
fn a_container_is_named_by_a_process_of_it() {
    const TEST: &str = "documented::a_container_is_named_by_a_process_of_it";
    scenario(TEST, || {
        if !require(TEST, &[Need::Program("sleep")]) {
            return;
        }
        let site = Site::prepare(&Terms::default());
        let container = &site.at(Side::A).inner;
        let mut first = container.run(|| Command::new("sleep").arg("600").spawn()).unwrap().unwrap();
        let text = Terms::default().text(Side::A, container);
        let by_path = format!("path = \"{}\"", container.proc_path().display());
        assert!(text.contains(&by_path));
        site.a.configure(&text.replace(&by_path, &format!("pid = {}", first.id())));
        drop(site.started());
        first.kill().unwrap();
        first.wait().unwrap();
    });
}
