//! What a program can try: every socket is held, or refused.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::libc;

use crate::{Scene, complaint, cookie, lines, scenario};

/// T38: static, threads, fork, vfork, an empty environment, calls without a C library, dup and SCM_RIGHTS.
#[test]
fn t38_every_socket_of_a_static_program_and_its_children_is_held() {
    const TEST: &str = "held::t38_every_socket_of_a_static_program_and_its_children_is_held";
    scenario(TEST, &[], || {
        let scene = Scene::new();
        let output = scene.attempt(&["children"]);
        assert!(output.status.success(), "{}", complaint(&output));
        let made = lines(&output);
        for (what, count) in
            [("thread", 4), ("fork", 4), ("socket", 4), ("raw", 1), ("copy", 1), ("passed", 1)]
        {
            let made: Vec<_> = made.iter().filter(|(made, _)| made == what).collect();
            assert_eq!(made.len(), count, "{what}: {made:?}");
            assert!(
                made.iter().all(|(_, came)| cookie(came).is_some_and(|cookie| scene.holds(cookie))),
                "{made:?}"
            );
        }
    });
}

/// T38: what cannot be held is refused, and what leads to no network is not touched.
#[test]
fn t38_what_cannot_be_held_is_refused() {
    scenario("held::t38_what_cannot_be_held_is_refused", &[], || {
        let (scene, refused) = (Scene::new(), |errno: i32| format!("errno {errno}"));
        let came = lines(&scene.attempt(&["refused"]));
        let of = |what: &str| came.iter().find(|(tried, _)| tried == what).unwrap().1.clone();
        for what in ["raw4", "raw6", "ping", "sctp", "packet", "vsock"] {
            assert_eq!(of(what), refused(libc::EACCES), "{what}");
        }
        assert_eq!(of("mptcp"), refused(libc::EPROTONOSUPPORT));
        for what in ["io_uring", "io_uring_enter", "io_uring_register"] {
            assert_eq!(of(what), refused(libc::ENOSYS), "{what}");
        }
        for what in ["ptrace", "pidfd_getfd"] {
            assert_eq!(of(what), refused(libc::EPERM), "{what}");
        }
        assert_eq!(of("fastopen"), refused(libc::EOPNOTSUPP));
        for what in ["unix", "netlink"] {
            let cookie = cookie(&of(what)).unwrap();
            assert!(!scene.holds(cookie), "{what}");
        }
    });
}

/// T38: by other architectures' numbers nothing is made.
#[test]
#[cfg(target_arch = "x86_64")]
fn t38_calls_of_other_architectures_end_the_program() {
    scenario("held::t38_calls_of_other_architectures_end_the_program", &[], || {
        let scene = Scene::new();
        for which in ["i386", "x32"] {
            let output = scene.attempt(&["foreign", which]);
            // SIGSYS; a kernel without i386 has no such call, and says so by SIGSEGV.
            let signal = output.status.signal();
            assert!(signal == Some(31) || (which == "i386" && signal == Some(11)), "{which}: {output:?}");
            assert!(lines(&output).is_empty(), "{which}");
        }
    });
}

/// T38: a connection that was accepted and then is connected elsewhere is held before that.
#[test]
fn t38_what_was_accepted_is_held_before_it_connects() {
    scenario("held::t38_what_was_accepted_is_held_before_it_connects", &[], || {
        let scene = Scene::new();
        let other = scene.namespace.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let port = other.local_addr().unwrap().port().to_string();
        let came = lines(&scene.attempt(&["reconnect", &port]));
        let [(listener, listening), (reconnected, again)] = came.as_slice() else { panic!("{came:?}") };
        assert_eq!((listener.as_str(), reconnected.as_str()), ("listener", "reconnected"));
        let (listening, again) = (cookie(listening).unwrap(), cookie(again).unwrap());
        assert!(scene.holds(listening) && scene.holds(again) && listening != again);
    });
}

/// T38: a program that left for another network, or for none, gets none of ours.
#[test]
fn t38_no_socket_goes_to_another_namespace() {
    scenario("held::t38_no_socket_goes_to_another_namespace", &[], || {
        let came = lines(&Scene::new().attempt(&["elsewhere"]));
        assert_eq!(came, [("elsewhere".to_owned(), format!("errno {}", libc::EACCES))]);
    });
}

/// Sockets are made as they were asked for.
#[test]
fn sockets_have_the_flags_that_were_asked_for() {
    scenario("held::sockets_have_the_flags_that_were_asked_for", &[], || {
        let came = lines(&Scene::new().attempt(&["flags"]));
        let said = |what: &str, came: &str| (what.to_owned(), came.to_owned());
        assert_eq!(came, [said("plain", "0 0"), said("both", "1 1")]);
    });
}

/// T38: nothing is inherited that leads to a network.
#[test]
fn t38_inherited_sockets_are_refused() {
    scenario("held::t38_inherited_sockets_are_refused", &[], || {
        let scene = Scene::new();
        let listener = scene.namespace.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let mut command = scene.command(&["/bin/echo", "started"]);
        command.stdin(Stdio::from(OwnedFd::from(listener)));
        let output = scene.namespace.run(|| command.output()).unwrap().unwrap();
        assert_eq!(output.status.code(), Some(125));
        assert!(output.stdout.is_empty());
        let said = complaint(&output);
        assert!(
            said.contains("descriptor 0 is a socket of the Internet") && said.contains("close it"),
            "{said}"
        );
    });
}

/// T38: refused by the gateway, the program has no socket, and nobody hears from it.
#[test]
fn t38_what_the_gateway_refuses_is_no_socket() {
    scenario("held::t38_what_the_gateway_refuses_is_no_socket", &["bash"], || {
        use crate::fake_app::Act;
        let first = std::sync::atomic::AtomicBool::new(true);
        let scene = Scene::with(move |_, yes| {
            let first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
            if first { yes } else { vec![Act::Refuse("PolicyForbids")] }
        });
        let listener = scene.namespace.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        let said = format!("echo out > /dev/tcp/127.0.0.1/{}", listener.local_addr().unwrap().port());
        let output = scene.run(&["bash", "-c", &said]);
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains("Permission denied"), "{}", complaint(&output));
        assert!(complaint(&output).contains("the program is refused a socket: the fake gateway says no"));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

/// T38: without its supervisor a program gets no more sockets.
#[test]
fn t38_without_its_supervisor_a_program_gets_no_sockets() {
    scenario("held::t38_without_its_supervisor_a_program_gets_no_sockets", &[], || {
        let scene = Scene::new();
        let mut command = scene.command(&[scene.probe.to_str().unwrap(), "wait"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut launcher = scene.namespace.run(|| command.spawn()).unwrap().unwrap();
        let (mut stdin, mut stdout) = (launcher.stdin.take().unwrap(), launcher.stdout.take().unwrap());
        let mut before = Vec::new();
        while before.last() != Some(&b'\n') {
            let mut octet = [0];
            stdout.read_exact(&mut octet).unwrap();
            before.extend(octet);
        }
        assert!(before.starts_with(b"before cookie "));
        launcher.kill().unwrap();
        launcher.wait().unwrap();
        stdin.write_all(b"x").unwrap();
        let mut after = String::new();
        stdout.read_to_string(&mut after).unwrap();
        assert_eq!(after.trim_end(), format!("after errno {}", libc::ENOSYS));
    });
}
