//! Programs as they are: they work, and each of their sockets is held.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::{Scene, complaint, cookie, lines, scenario};

/// bash, curl and Python reach a server, by sockets that were held before they had an other end.
#[test]
fn t38_programs_work_and_are_held() {
    scenario("programs::t38_programs_work_and_are_held", &["bash", "curl", "python3"], || {
        let scene = Scene::new();
        let listener = scene.namespace.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let port = listener.local_addr().unwrap().port();
        let bash =
            format!("exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
        let url = format!("http://127.0.0.1:{port}/");
        let python = format!("import urllib.request as r; print(r.urlopen('{url}').read().decode())");
        let programs: [&[&str]; 3] =
            [&["bash", "-c", &bash], &["curl", "-sS", &url], &["python3", "-c", &python]];
        let serves = thread::spawn(move || {
            for _ in 0..programs_count() {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    let mut octet = [0];
                    stream.read_exact(&mut octet).unwrap();
                    asked.extend(octet);
                }
                stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
            }
        });
        for words in programs {
            let before = scene.held_in_time();
            let output = scene.run(words);
            assert!(output.status.success(), "{words:?}: {}", complaint(&output));
            assert!(String::from_utf8_lossy(&output.stdout).contains("hello"), "{words:?}");
            let held = scene.held_in_time();
            assert!(held >= before + 2, "{words:?}: the launcher's own, and the program's");
        }
        serves.join().unwrap();
    });
}

/// A server that is started by a shell that is started by Python: each listens with what is required.
#[test]
fn t38_programs_that_programs_start_are_held() {
    scenario("programs::t38_programs_that_programs_start_are_held", &["sh", "python3"], || {
        let scene = Scene::new();
        let inner = "import socket as s; l = s.create_server(('127.0.0.1', 0)); \
                     print('listener cookie', int.from_bytes(l.getsockopt(s.SOL_SOCKET, 57, 8), 'little'))";
        let outer =
            format!("import subprocess as p; p.run(['sh', '-c', '''python3 -c \"{inner}\"'''], check=True)");
        let output = scene.run(&[
            "env",
            "-i",
            &format!("PATH={}", std::env::var("PATH").unwrap()),
            "python3",
            "-c",
            &outer,
        ]);
        assert!(output.status.success(), "{}", complaint(&output));
        let made = lines(&output);
        assert_eq!(made.len(), 1, "{made:?}");
        assert!(scene.holds(cookie(&made[0].1).unwrap()));
    });
}

/// K-1: a program that knows of PF_SHIM sockets has them, and they are held like all others. Without the library it has none.
#[test]
fn k_1_t38_pf_shim_sockets_are_held() {
    scenario("programs::k_1_t38_pf_shim_sockets_are_held", &["python3"], || {
        let scene = Scene::new();
        let library = std::env::current_exe().unwrap().with_file_name("liblatchway_shim.so");
        assert!(library.exists(), "{} is missing", library.display());
        // A gateway on a busy machine may take longer than a call waits.
        let asks = "
import socket as s
def answered(call):
    while True:
        try:
            return call()
        except TimeoutError:
            pass
l = answered(lambda: s.socket(83, s.SOCK_STREAM, 0))
print('required', answered(lambda: l.getsockopt(0x5348, 7)))
print('shim cookie', int.from_bytes(l.getsockopt(s.SOL_SOCKET, 57, 8), 'little'))
";
        let shim = format!("--shim={}", library.display());
        for (options, offered) in [(&["--"][..], false), (&[&shim, "--"], true)] {
            let output = scene
                .namespace
                .run(|| scene.command_with(options, &["python3", "-c", asks]).output())
                .unwrap()
                .unwrap();
            assert_eq!(output.status.success(), offered, "{}", complaint(&output));
            let said = lines(&output);
            if offered {
                assert_eq!(said[0], ("required".into(), "1".into()));
                assert!(scene.holds(cookie(&said[1].1).unwrap()), "{said:?}");
            }
        }
    });
}

const fn programs_count() -> usize {
    3
}
