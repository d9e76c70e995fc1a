//! Namespaces: separate, entered by threads, gone with their last holder.

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    process::{Command, Stdio},
};

use latchway_netns::{
    Error, Links, Namespace, NamespaceRef, sysctl,
    testing::{in_private_run, namespaced},
};

#[test]
fn a_new_namespace_has_loopback_and_nothing_else() {
    namespaced("namespace::a_new_namespace_has_loopback_and_nothing_else", || {
        let space = Namespace::create("fresh").unwrap();
        let interfaces = space.run(|| fs::read_to_string("/proc/thread-self/net/dev")).unwrap().unwrap();
        let names: Vec<&str> = interfaces
            .lines()
            .skip(2)
            .filter_map(|line| line.trim().split_once(':'))
            .map(|found| found.0)
            .collect();
        assert_eq!(names, ["lo"]);
        assert!(Links::of(&space).unwrap().link("lo").unwrap().up);
        space.run(|| UdpSocket::bind("127.0.0.1:0").map(drop)).unwrap().unwrap();
    });
}

#[test]
fn a_closure_moves_only_its_own_thread() {
    namespaced("namespace::a_closure_moves_only_its_own_thread", || {
        let here = || fs::read_link("/proc/thread-self/ns/net").unwrap();
        let (before, space) = (here(), Namespace::create("other").unwrap());
        let inside = space.run(here).unwrap();
        assert_ne!(inside, before);
        assert_eq!(here(), before);
        let again = space.clone();
        let entered = std::thread::spawn(move || {
            again.enter_on_this_thread().unwrap();
            (here(), Namespace::current().unwrap().run(here).unwrap())
        });
        assert_eq!(entered.join().unwrap(), (inside.clone(), inside));
    });
}

#[test]
fn a_panic_inside_is_an_error_outside() {
    namespaced("namespace::a_panic_inside_is_an_error_outside", || {
        let space = Namespace::create("panicking").unwrap();
        match space.run(|| panic!("number {}", 7)) {
            Err(Error::Panicked { namespace, message }) => {
                assert_eq!((namespace.as_str(), message.as_str()), ("panicking", "number 7"));
            }
            Err(other) => panic!("another error: {other}"),
            Ok(()) => panic!("no error"),
        }
    });
}

#[test]
fn other_processes_find_it_by_path_while_it_is_held() {
    namespaced("namespace::other_processes_find_it_by_path_while_it_is_held", || {
        let space = Namespace::create("held").unwrap();
        let path = space.proc_path();
        let reopened = Namespace::from_path(&path).unwrap();
        let here = || fs::read_link("/proc/thread-self/ns/net").unwrap();
        assert_eq!(reopened.run(here).unwrap(), space.run(here).unwrap());
        assert_eq!(reopened.label(), path.display().to_string());
        let missing = Namespace::from_path("/proc/self/no-such-namespace").unwrap_err();
        assert!(missing.to_string().contains("no-such-namespace"));
    });
}

#[test]
fn a_descriptor_of_something_else_is_refused_on_entry() {
    namespaced("namespace::a_descriptor_of_something_else_is_refused_on_entry", || {
        let file = fs::File::open("/dev/null").unwrap();
        let refused = Namespace::from_fd(file.into(), "no namespace").run(|| ()).unwrap_err();
        assert!(refused.to_string().contains("entering the network namespace no namespace"), "{refused}");
    });
}

#[test]
fn settings_are_one_namespaces_own() {
    namespaced("namespace::settings_are_one_namespaces_own", || {
        let (one, other) = (Namespace::create("one").unwrap(), Namespace::create("other").unwrap());
        sysctl::write(&one, "net/ipv4/ip_forward", "1").unwrap();
        assert_eq!(sysctl::read(&one, "net/ipv4/ip_forward").unwrap(), "1");
        assert_eq!(sysctl::read(&other, "net/ipv4/ip_forward").unwrap(), "0");
        let unknown = sysctl::write(&one, "net/ipv4/no_such_setting", "1").unwrap_err();
        assert!(unknown.to_string().contains("net/ipv4/no_such_setting to 1 in one"), "{unknown}");
        assert!(matches!(sysctl::write(&one, "net/../kernel/hostname", "x"), Err(Error::Malformed(_))));
        assert!(matches!(sysctl::read(&one, "kernel/hostname"), Err(Error::Malformed(_))));
    });
}

/// A namespace is opened by name, path, pid, or as our own; a missing name can be made, as ip-netns(8) makes it.
#[test]
fn a_namespace_is_opened_by_whatever_names_it() {
    namespaced("namespace::a_namespace_is_opened_by_whatever_names_it", || {
        in_private_run(|| {
            let name = NamespaceRef::Name("inside".to_owned());
            let missing = name.open().unwrap_err().to_string();
            assert!(
                missing.contains("There is no /run/netns") && missing.contains("ip netns add"),
                "{missing}"
            );
            let first = name.open_or_make().unwrap();
            assert!(first.made && Links::of(&first.namespace).unwrap().link("lo").unwrap().up);
            let again = name.open_or_make().unwrap();
            assert!(!again.made && again.namespace.is_same(&first.namespace));
            assert_eq!(first.namespace.label(), "inside");
            let path = NamespaceRef::Path("/run/netns/inside".into());
            assert!(path.open().unwrap().is_same(&first.namespace));
            let other = NamespaceRef::Name("other".to_owned());
            assert!(other.open().unwrap_err().to_string().contains("ip netns add other"));
            assert!(!other.open_or_make().unwrap().namespace.is_same(&first.namespace));

            let mut sleeper =
                first.namespace.run(|| Command::new("sleep").arg("60").spawn()).unwrap().unwrap();
            assert!(NamespaceRef::Pid(sleeper.id()).open().unwrap().is_same(&first.namespace));
            sleeper.kill().unwrap();
            sleeper.wait().unwrap();
            let ended = NamespaceRef::Pid(sleeper.id()).open().unwrap_err().to_string();
            assert!(ended.contains(&format!("There is no process {}", sleeper.id())), "{ended}");
            assert!(NamespaceRef::Own.open().unwrap().is_same(&Namespace::current().unwrap()));

            name.delete().unwrap();
            other.delete().unwrap();
            assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);
            assert!(name.delete().is_err() && NamespaceRef::Own.delete().is_err());
        });
    });
}

/// What names no namespace is refused with a word on what would.
#[test]
fn what_is_no_namespace_is_refused_on_opening() {
    namespaced("namespace::what_is_no_namespace_is_refused_on_opening", || {
        in_private_run(|| {
            let refused = |reference: NamespaceRef| reference.open_or_make().unwrap_err().to_string();
            for name in ["", ".", "..", "a/b", &"x".repeat(256)] {
                assert!(refused(NamespaceRef::Name(name.to_owned())).contains("cannot name"), "{name}");
            }
            assert!(refused(NamespaceRef::Pid(0)).contains("pid 0"));
            for path in ["/dev/null", "/proc/self/ns/no-such", "/proc/self/ns/uts", "/"] {
                assert!(refused(NamespaceRef::Path(path.into())).contains("/proc/PID/ns/net"), "{path}");
            }
            // What a crash between the two steps of making one leaves behind.
            fs::create_dir("/run/netns").unwrap();
            fs::write("/run/netns/half", "").unwrap();
            let half = NamespaceRef::Name("half".to_owned());
            assert!(refused(half.clone()).contains("file of another kind"));
            half.delete().unwrap();
            assert!(half.open_or_make().unwrap().made);
            // A symbolic link is not followed when a name is made.
            std::os::unix::fs::symlink("/run/elsewhere", "/run/netns/link").unwrap();
            assert!(refused(NamespaceRef::Name("link".to_owned())).contains("File exists"));
            assert!(!Path::new("/run/elsewhere").exists());
        });
    });
}

/// What is made here ip-netns(8) lists and deletes, and what it makes is opened here.
#[test]
fn a_named_namespace_is_what_ip_netns_knows() {
    namespaced("namespace::a_named_namespace_is_what_ip_netns_knows", || {
        if !latchway_netns::skip::require("ip_netns", &[latchway_netns::skip::Need::Program("ip")]) {
            return;
        }
        in_private_run(|| {
            let reference = NamespaceRef::Name("known".to_owned());
            let made = reference.open_or_make().unwrap().namespace;
            let listed =
                Command::new("ip").args(["netns", "list"]).stderr(Stdio::inherit()).output().unwrap();
            assert!(String::from_utf8(listed.stdout).unwrap().contains("known"));
            assert!(Command::new("ip").args(["netns", "delete", "known"]).status().unwrap().success());
            assert!(Command::new("ip").args(["netns", "add", "theirs"]).status().unwrap().success());
            let theirs = NamespaceRef::Name("theirs".to_owned());
            assert!(!theirs.open_or_make().unwrap().made && !theirs.open().unwrap().is_same(&made));
            theirs.delete().unwrap();
        });
    });
}
