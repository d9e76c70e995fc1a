//! The programs of `examples/sockets`, run by users without privilege behind real gateways.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;

use latchway_netns::skip::report;
use serde_json::json;

use crate::binding::key;
use crate::gateway::Folder;
use crate::programs::{Program, example, in_c};
use crate::provider::Provider;
use crate::site::{End, Site, Terms};
use crate::{PATIENCE, scenario};

/// A gateway in the centre and two around it, with SAs between.
fn site() -> Site {
    let site = Site::start(&[("b.example", 2), ("c.example", 3)], &Terms::default());
    for number in 0..2 {
        Provider::between(&site, number).join();
    }
    site
}

/// A connection from an end to the centre.
fn dial(end: &End, to: SocketAddr) -> TcpStream {
    let stream = end.inner.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What comes back of what is said.
fn echoed(mut stream: TcpStream) -> String {
    // Whoever refuses may have closed before.
    let _ = stream.write_all(b"latchway");
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut octets = Vec::new();
    let _ = stream.read_to_end(&mut octets);
    String::from_utf8(octets).unwrap()
}

/// Q-46, N-15, N-18: the server with a list, in Rust and in C: who is on it is served, who has come under another
/// identity is not, and nothing but identities decides.
#[test]
fn q_46_n_15_the_echo_server_serves_whom_it_knows() {
    const TEST: &str = "examples::q_46_n_15_the_echo_server_serves_whom_it_knows";
    scenario(TEST, || {
        let site = site();
        let centre = &site.centre;
        let [b, c] = &site.around[..] else { panic!() };
        let in_c = in_c("examples/sockets/echo.c", &centre.gateway);
        for (port, program) in [(7001, example("echo")), (7002, in_c)] {
            let at = centre.at(port);
            let (both, host, port) = (at.to_string(), at.ip().to_string(), port.to_string());
            let mut arguments = if program.ends_with("echo") { vec![&*both] } else { vec![&*host, &*port] };
            arguments.extend(["fqdn:b.example", "fqdn:d.example"]);
            let Some(mut server) = Program::start(&program, &arguments, &centre.inner, &centre.gateway)
            else {
                return report(TEST, "no other user can be had here");
            };
            server.until("listening");
            assert_eq!(echoed(dial(b, at)), "latchway");
            assert!(server.until("accepted").contains("b.example"));
            assert_eq!(echoed(dial(c, at)), "");
            assert!(server.until("refused").contains("c.example"));
        }
    });
}

/// Q-42, N-15: each request is in the log under who has proven to have made it.
#[test]
fn q_42_the_http_server_logs_who_asked() {
    const TEST: &str = "examples::q_42_the_http_server_logs_who_asked";
    scenario(TEST, || {
        let site = site();
        let centre = &site.centre;
        let at = centre.at(8080);
        let program = example("http_audit");
        let Some(mut server) = Program::start(&program, &[&at.to_string()], &centre.inner, &centre.gateway)
        else {
            return report(TEST, "no other user can be had here");
        };
        server.until("listening");
        for (end, name) in site.around.iter().zip(["b.example", "c.example"]) {
            let asked = |path: &str| {
                let mut stream = dial(end, at);
                write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answer
            };
            let answer = asked("/");
            assert!(
                answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!("you are fqdn:{name}")),
                "{answer}"
            );
            let line = server.until("GET / ");
            assert!(line.contains(name) && line.ends_with("\"GET / HTTP/1.1\""), "{line}");
            assert!(asked("/binding").starts_with("HTTP/1.1 404 "), "nobody has proven a key here");
            server.until("/binding");
        }
    });
}

/// P-13, C-10, C-29, Q-5, L-11: whoever is met first is taken on faith and kept; later it must be that one again, also when every
/// gateway and the program were started anew; with another key under the same name there is no connection.
#[test]
fn p_13_c_29_who_was_taken_on_faith_is_required_from_then_on() {
    const TEST: &str = "examples::p_13_c_29_who_was_taken_on_faith_is_required_from_then_on";
    scenario(TEST, || {
        let (kept, program) = (Folder::make(), example("leap"));
        // A user without privilege may write in it.
        fs::set_permissions(&kept, Permissions::from_mode(0o777)).unwrap();
        let file = kept.join("b.example");
        let run = |site: &Site| {
            let to = site.around[0].at(7).to_string();
            let arguments = [file.to_str().unwrap(), &to, "hello there"];
            Program::start(&program, &arguments, &site.centre.inner, &site.centre.gateway)
        };
        let site = taken_on_faith(1);
        let Some(first) = run(&site) else { return report(TEST, "no other user can be had here") };
        let first = first.succeeded();
        assert!(first[0].starts_with("met for the first time: fqdn:b.example"), "{first:?}");
        assert_eq!(first[1], "hello there");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("latchway-itoken:1;id=fqdn:b.example;method=leap-of-faith;key="), "{text}");
        assert!(run(&site).unwrap().succeeded()[0].starts_with("met again: fqdn:b.example"));
        drop(site);

        let site = taken_on_faith(1);
        let again = run(&site).unwrap().succeeded();
        assert!(again[0].starts_with("met again: fqdn:b.example"), "after a start of everything: {again:?}");
        drop(site);

        let site = taken_on_faith(2);
        let (status, said) = run(&site).unwrap().ended();
        assert!(!status.success() && said.is_empty(), "{said:?}");
        assert!(site.centre.gateway.drops("outbound", "requirement_unmet") >= 1, "its SYN did not leave");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        // It was not the way that was at fault.
        assert_eq!(echoed(dial(&site.centre, site.around[0].at(7))), "latchway");
    });
}

/// The centre, and b.example with a key that nobody vouches for, where connections are answered with what they say.
fn taken_on_faith(number: u8) -> Site {
    let terms = Terms { peer: "methods = [\"leap-of-faith\"]\n".to_owned(), ..Terms::default() };
    let site = Site::start(&[("b.example", 2)], &terms);
    let mut provider = Provider::between(&site, 0);
    provider.proofs[0] = json!({"method": "leap-of-faith", "evidence": key(number)});
    provider.join();
    let b = &site.around[0];
    let listener = b.inner.run(|| TcpListener::bind(b.at(7))).unwrap().unwrap();
    // Until the test ends.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut octets) = (stream.unwrap(), Vec::new());
            // Whoever came may be gone.
            let _ = stream.read_to_end(&mut octets);
            let _ = stream.write_all(&octets);
        }
    });
    site
}
