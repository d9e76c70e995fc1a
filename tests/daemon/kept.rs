//! What a gateway gives up, whom it tells how it is, and what callers of every kind cannot do to it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};

use nix::sys::signal::Signal;

use crate::scenario;
use crate::site::{Side, Site, Terms};
use crate::traffic::Load;

/// What a gateway needs no more, it has given up: capabilities but one, and most system calls; for good.
#[test]
fn a_gateway_keeps_one_capability_and_few_system_calls() {
    scenario("kept::a_gateway_keeps_one_capability_and_few_system_calls", || {
        const NET_ADMIN: u64 = 1 << 12;
        let site = Site::start(&Terms::default());
        let status = fs::read_to_string(format!("/proc/{}/status", site.a.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().to_owned()
        };
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), NET_ADMIN, "{set}");
        }
        assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));
    });
}

/// systemd is told when a gateway stands, reloads, stands again and ends; and metrics are there for whoever asks.
#[test]
fn whoever_supervises_is_told() {
    scenario("kept::whoever_supervises_is_told", || {
        let mut site = Site::prepare(&Terms::default());
        site.configure(Side::A, &Terms::default().with_head("metrics = \"127.0.0.1:9450\""));
        let socket = site.a.folder().join("notify");
        let systemd = UnixDatagram::bind(&socket).unwrap();
        systemd.set_read_timeout(Some(crate::PATIENCE)).unwrap();
        let until = |wanted: &str| {
            let mut octets = [0; 4096];
            loop {
                let length = systemd.recv(&mut octets).unwrap();
                if String::from_utf8_lossy(&octets[..length]).contains(wanted) {
                    return;
                }
            }
        };
        site.a.with("NOTIFY_SOCKET", &socket);
        site.a.with("WATCHDOG_USEC", "1000000");
        site.a.start();
        site.b.start();
        until("READY=1");
        until("WATCHDOG=1");
        site.passes();
        let mut stream = site.a.place().run(|| TcpStream::connect("127.0.0.1:9450")).unwrap().unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("\nlatchway_"), "{text}");
        assert!(text.trim_end().ends_with("# EOF"), "{text}");
        site.a.signal(Signal::SIGHUP);
        until("RELOADING=1");
        until("READY=1");
        site.a.signal(Signal::SIGTERM);
        until("STOPPING=1");
        assert!(site.a.ended().success());
    });
}

/// T40: callers that go away at every octet, say what is no call, or never end, harm neither packets nor other callers.
#[test]
fn t40_hostile_callers_harm_nobody() {
    scenario("kept::t40_hostile_callers_harm_nobody", || {
        let mut site = Site::start(&Terms::default());
        let load = Load::start(&site);
        let call = b"{\"method\":\"org.latchway.Control.Sas\",\"parameters\":{},\"more\":true}\0";
        for length in 0..=call.len() {
            let mut stream = UnixStream::connect(site.a.control()).unwrap();
            stream.write_all(&call[..length]).unwrap();
            if length % 2 == 0 {
                stream.shutdown(Shutdown::Write).unwrap();
            }
        }
        let noise: Vec<u8> = (0..=255_u8).cycle().take(1 << 16).collect();
        let deep = [b"{\"a\":".repeat(20_000), vec![0]].concat();
        let endless = vec![b' '; 2 << 20];
        for said in [&noise[..], &deep, &endless, b"\0\0\0", b"[]\0", b"null\0", b"{\"method\":7}\0"] {
            let mut stream = UnixStream::connect(site.a.control()).unwrap();
            // It may be hung up on before it is through.
            let _ = stream.write_all(said);
        }
        let silent: Vec<_> = (0..100).map(|_| UnixStream::connect(site.a.control())).collect();
        assert_eq!(site.a.shown("status")["name"], "gateway1");
        drop(silent);
        assert!(site.a.runs());
        load.end().is_whole();
        assert!(!site.a.log().contains("panicked"), "{}", site.a.log());
    });
}
