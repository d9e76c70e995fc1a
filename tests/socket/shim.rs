//! PF_SHIM sockets of a program in C, and the real daemon (rows K-1 to K-12).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use latchway_netns::Namespace;
use latchway_netns::skip::report;

use serde_json::Value;

use crate::pair::{Side, Site, Terms};
use crate::programs::{Program, in_c_with_shim};
use crate::scenario;

/// K-1 to K-12: without privilege a program connects by a handle to the peer that it requires and to no other, learns who is
/// there and what protects it, and is told of new keys and of the end.
#[test]
fn k_1_to_k_12_a_program_with_a_pf_shim_socket_and_the_daemon() {
    const TEST: &str = "shim::k_1_to_k_12_a_program_with_a_pf_shim_socket_and_the_daemon";
    scenario(TEST, || {
        let terms = || Terms::default().with_third_peer(9);
        let site = Site::start(&terms());
        let there = SocketAddr::new(Side::B.address(), 80);
        let echo = echo_once(&site.at(Side::B).inner, there);
        let (host, port) = (there.ip().to_string(), there.port().to_string());
        let program = in_c_with_shim("tests/socket/c/shim.c", &site.a);
        let Some(mut program) = Program::start(&program, &[&host, &port], &site.at(Side::A).inner, &site.a)
        else {
            return report(TEST, "no other user can be had here");
        };
        program.until("event: 1 ");
        for side in [Side::A, Side::B] {
            site.configure(side, &terms().with_sas(&[2]));
        }
        site.b.shown("reload");
        site.a.shown("reload");
        program.until("event: 8 ");
        // It ends with its latch.
        let latches = site.a.rows("latch list");
        let of_tcp = |flow: &Value| flow.as_str().is_some_and(|flow| flow.starts_with("tcp "));
        let latch = latches.iter().find(|row| of_tcp(&row["flow"])).expect("there is one");
        site.a.shown(&format!("latch close {}", latch["latch"].as_str().unwrap()));
        program.until("event: 4 ");
        let said = program.succeeded();
        let of = |what: &str| {
            let line = said.iter().find_map(|line| line.strip_prefix(&format!("{what}: ")));
            line.unwrap_or_else(|| panic!("{what}: {said:#?}"))
        };
        assert_eq!(of("nobody.example"), "errno 13", "K-6: the PAD knows of none");
        assert_eq!((of("peer"), of("own")), ("fqdn:2.example", "fqdn:1.example"));
        assert_eq!(of("kept"), "latchway-itoken:1;id=fqdn:2.example;method=manual");
        assert!(of("audit").contains("2.example"), "{said:#?}");
        assert_eq!(of("held"), "1 256 128 1 3");
        echo.join().unwrap();
    });
}

/// Answers one connection with what it says. Of whom nobody was to come, nobody is accepted.
fn echo_once(namespace: &Namespace, address: SocketAddr) -> JoinHandle<()> {
    let listener = namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
    thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
        let mut octets = [0; 8];
        stream.read_exact(&mut octets).unwrap();
        stream.write_all(&octets).unwrap();
        // Until the other side is done.
        let _ = stream.read(&mut octets);
    })
}
