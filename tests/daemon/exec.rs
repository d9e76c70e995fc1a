//! `latchway exec -- PROGRAM`: whatever the program sends is protected or dropped.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use latchway_netns::Links;
use latchway_netns::skip::{Need, require};
use latchway_netns::watch::{Options, Sniffer};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::gateway::complaint;
use crate::site::{Side, Site, Terms, WIRE};
use crate::{eventually, scenario};

const MARKER: &str = "an inner octet that nobody may see";

/// A program behind the gateway reaches the peer's hosts, protected; what no policy speaks of goes nowhere; its exit code and
/// signals are its own; and when it has ended, nothing of its namespace is left.
#[test]
fn a_program_behind_the_gateway_is_protected_or_dropped() {
    const TEST: &str = "exec::a_program_behind_the_gateway_is_protected_or_dropped";
    scenario(TEST, || {
        if !require(TEST, &[Need::Program("bash"), Need::Program("sleep")]) {
            return;
        }
        let site = Site::start_a(&Terms::default().with_head("exec = \"10.1.0.128/25\""));
        let before = links(&site);
        let sniffer =
            Sniffer::start_with(&site.at(Side::A).outer, WIRE, Options::searching(&[MARKER.as_bytes()]))
                .unwrap();

        let listener = site.at(Side::B).inner.run(|| TcpListener::bind("10.2.0.1:80")).unwrap().unwrap();
        let said = format!("echo '{MARKER}' > /dev/tcp/10.2.0.1/80");
        let status = exec(&site, &["bash", "-c", &said]).status().unwrap();
        assert!(status.success(), "{status}: {}", site.a.log());
        let (mut stream, from) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text.trim_end(), MARKER);
        assert!(from.ip().to_string().starts_with("10.1.0."), "{from}");

        for nowhere in ["10.9.0.1", "192.0.2.2", "198.51.100.1"] {
            let said = format!("echo '{MARKER}' > /dev/udp/{nowhere}/9");
            // Refused by the kernel or dropped by the gateway: it does not matter to the program.
            let _ = exec(&site, &["bash", "-c", &said]).stderr(Stdio::null()).status().unwrap();
        }
        assert_eq!(exec(&site, &["bash", "-c", "exit 7"]).status().unwrap().code(), Some(7));
        let mut sleeps = exec(&site, &["sleep", "60"]).spawn().unwrap();
        eventually("the program runs", || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", sleeps.id())).unwrap();
            name.trim_end() == "sleep"
        });
        assert!(links(&site).len() > before.len(), "its namespace hangs on the gateway's");
        kill(Pid::from_raw(sleeps.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert_eq!(sleeps.wait().unwrap().signal(), Some(15));
        eventually("its namespace is gone", || links(&site) == before);

        let said = complaint(&exec(&site, &["/nonexistent/program"]).output().unwrap());
        assert!(said.contains("/nonexistent/program"), "{said}");
        eventually("nothing is left of it", || links(&site) == before);
        let captured = sniffer.stop().unwrap();
        assert_eq!((captured.pattern_hits, captured.dropped), (vec![0], 0), "inner octets in the clear");
    });
}

/// Without a prefix to take an address from, it is said what to do.
#[test]
fn without_a_prefix_it_is_said_where_to_name_one() {
    scenario("exec::without_a_prefix_it_is_said_where_to_name_one", || {
        let site = Site::start(&Terms::default());
        let said = complaint(&exec(&site, &["true"]).output().unwrap());
        assert!(said.contains("`exec`") && said.contains("--address"), "{said}");
        let mut given = site.a.verb(&["exec", "--address", "10.1.0.128/25"]);
        assert!(given.args(["--", "true"]).status().unwrap().success());
    });
}

fn exec(site: &Site, words: &[&str]) -> Command {
    let mut command = site.a.verb(&["exec"]);
    command.arg("--").args(words);
    command
}

/// The names of all links where the gateway's hosts are.
fn links(site: &Site) -> Vec<String> {
    let links = Links::of(&site.at(Side::A).inner).unwrap().all().unwrap();
    links.into_iter().map(|link| link.name).collect()
}
