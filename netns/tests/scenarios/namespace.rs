//! Namespaces: separate, entered by threads, gone with their last holder.

use std::{fs, net::UdpSocket};

use latchway_netns::{Error, Links, Namespace, sysctl, testing::namespaced};

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
