//! Rooms: everything that leaves one goes to the gateway, and the last process takes it along.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use latchway_guard::{InnerSide, QUEUE, Room};
use latchway_netns::{
    IpNet, Links, Namespace,
    links::MAIN,
    packet,
    skip::{self, Need},
    testing::namespaced,
    watch::{Options, Sniffer},
};
use tun_rs::SyncDevice;

use crate::support::{SOON, net, received, tun, wire};

/// Protected or not, known or not: what a program in a room sends is read by the gateway, and what the gateway writes for the
/// room arrives there.
#[test]
fn all_that_leaves_a_room_goes_to_the_gateway_and_answers_return() {
    scenario("room::all_that_leaves_a_room_goes_to_the_gateway_and_answers_return", |it| {
        let room = it.room();
        let own = ["10.77.1.2", "fd77:77:1::2"].map(address);
        assert_eq!(room.addresses(), own, "the first that are free");
        for (own, others) in
            own.into_iter().zip([["10.77.2.7", "198.51.100.1"], ["fd77:77:2::7", "2001:db8:ff::1"]])
        {
            let socket =
                room.namespace().run(|| UdpSocket::bind(SocketAddr::new(own, 7000))).unwrap().unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            for other in others.map(address) {
                let there = SocketAddr::new(other, 7);
                socket.send_to(b"out of the room", there).unwrap();
                let packet = received(&it.device);
                assert!(packet.0.ends_with(b"out of the room"));
                assert_eq!(packet.addresses(), (own, other));
                let answer = packet::udp(there, SocketAddr::new(own, 7000), b"into the room").unwrap();
                it.device.send(&answer).unwrap();
                let mut buffer = [0; 100];
                assert_eq!(socket.recv_from(&mut buffer).unwrap(), (13, there));
            }
        }
        let changed: Vec<String> = room.changes().iter().map(ToString::to_string).collect();
        assert_eq!(
            changed,
            ["net/ipv4/conf/tun9/forwarding: 1, was 0", "net/ipv6/conf/all/forwarding: 1, was 0"]
        );
        assert!(it.room().changes().is_empty(), "another room finds it so");
    });
}

/// T38: nobody in a room speaks for another: from an address that is not the room's nothing leaves it. And the rules that see
/// to it go with those of the next room.
#[test]
fn t38_from_an_address_that_is_not_its_own_nothing_leaves_a_room() {
    scenario("room::t38_from_an_address_that_is_not_its_own_nothing_leaves_a_room", |it| {
        let (room, other) = (it.room(), it.room());
        let inside = Links::of(room.namespace()).unwrap();
        let foreign = ["10.77.1.77", "fd77:77:1::77"].map(address);
        for address in foreign.into_iter().chain(other.addresses().iter().copied()) {
            inside.add_address("eth0", IpNet::from(address)).unwrap();
        }
        inside.wait_ready("eth0", SOON).unwrap();
        let send = |from: IpAddr, text: &[u8]| {
            let there = if from.is_ipv4() { "10.77.2.7:7" } else { "[fd77:77:2::7]:7" };
            let socket = room.namespace().run(|| UdpSocket::bind(SocketAddr::new(from, 0))).unwrap().unwrap();
            socket.send_to(text, there.parse::<SocketAddr>().unwrap()).unwrap();
        };
        for (own, foreign) in
            [(0, [foreign[0], other.addresses()[0]]), (1, [foreign[1], other.addresses()[1]])]
        {
            foreign.into_iter().for_each(|foreign| send(foreign, b"of another"));
            send(room.addresses()[own], b"its own");
            // One worker forwards what one link brings, in its order.
            assert!(received(&it.device).0.ends_with(b"its own"));
        }
        let links = Links::of(&it.inner).unwrap();
        drop((room, other, inside));
        let deadline = Instant::now() + Duration::from_secs(20);
        while links.all().unwrap().iter().any(|link| link.name.starts_with("room")) {
            assert!(Instant::now() < deadline, "the rooms are still there");
            thread::sleep(Duration::from_millis(10));
        }
        let _next = it.room();
        let rules = links.rules().unwrap().into_iter().filter(|rule| rule.from.is_some()).count();
        assert_eq!(rules, 2, "one for each of its addresses");
    });
}

/// A room has a loopback interface and one way out, of the TUN's MTU.
#[test]
fn a_room_has_nothing_else_in_it() {
    scenario("room::a_room_has_nothing_else_in_it", |it| {
        let room = it.room();
        let links = Links::of(room.namespace()).unwrap();
        let names: Vec<_> =
            links.all().unwrap().into_iter().map(|link| (link.name, link.up, link.mtu)).collect();
        assert_eq!(names, [("lo".to_owned(), true, 65536), ("eth0".to_owned(), true, 1400)]);
        let listed =
            room.spawn(Command::new("cat").arg("/proc/self/net/route").stdout(Stdio::piped())).unwrap();
        let listed = String::from_utf8(listed.wait_with_output().unwrap().stdout).unwrap();
        assert!(listed.lines().skip(1).all(|line| line.starts_with("eth0")), "{listed}");
        assert!(
            room.spawn(&mut Command::new("/no/such/program"))
                .unwrap_err()
                .to_string()
                .contains("starting /no/such")
        );
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                room.enter().unwrap();
                fs::read_link("/proc/thread-self/ns/net").unwrap()
            });
            let there = room.namespace().run(|| fs::read_link("/proc/thread-self/ns/net")).unwrap().unwrap();
            assert_eq!(entered.join().unwrap(), there);
        });
    });
}

/// From room to room, a packet goes by the gateway, whose policy decides; without a TUN it goes nowhere.
#[test]
fn t13_from_room_to_room_there_is_no_way_but_the_gateway() {
    scenario("room::t13_from_room_to_room_there_is_no_way_but_the_gateway", |it| {
        let (one, other) = (it.room(), it.room());
        let sniffer = Sniffer::start_with(
            other.namespace(),
            "eth0",
            Options::searching(&[b"to the other", b"of the host"]),
        )
        .unwrap();
        let links = Links::of(&it.inner).unwrap();
        let send = || {
            for (from, to) in one.addresses().iter().zip(other.addresses()) {
                let socket =
                    one.namespace().run(|| UdpSocket::bind(SocketAddr::new(*from, 0))).unwrap().unwrap();
                let _ = socket.send_to(b"to the other", SocketAddr::new(*to, 7));
            }
        };
        send();
        for pair in one.addresses().iter().zip(other.addresses()) {
            assert_eq!(received(&it.device).addresses(), (*pair.0, *pair.1));
        }
        links.set_down("tun9").unwrap();
        send();
        links.delete("tun9").unwrap();
        send();
        // The inner namespace itself reaches the room.
        for to in other.addresses() {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = it.inner.run(|| UdpSocket::bind(any)).unwrap().unwrap();
            socket.send_to(b"of the host", SocketAddr::new(*to, 7)).unwrap();
        }
        crate::support::seen(&sniffer, b"of the host");
        assert!(!sniffer.contains(b"to the other").unwrap());
    });
}

/// T32: the room lasts as long as a process in it, and leaves nothing.
#[test]
fn t32_a_room_goes_with_its_last_process() {
    scenario("room::t32_a_room_goes_with_its_last_process", |it| {
        let links = Links::of(&it.inner).unwrap();
        let routes = || links.routes().unwrap().into_iter().filter(|route| route.table == MAIN).count();
        let before = routes();
        let rooms = || links.all().unwrap().into_iter().filter(|link| link.name.starts_with("room")).count();
        let room = it.room();
        let mut child = room.spawn(Command::new("sleep").arg("600").stdin(Stdio::null())).unwrap();
        drop(room);
        // It would be gone in a moment.
        thread::sleep(Duration::from_millis(300));
        assert_eq!((rooms(), it.room().addresses()[0]), (1, address("10.77.1.3")));
        child.kill().unwrap();
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while rooms() > 0 {
            assert!(Instant::now() < deadline, "the room of a process that was killed is still there");
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(routes(), before);
        assert_eq!(it.room().addresses()[0], address("10.77.1.2"), "its address is free again");
    });
}

/// Rooms that are made at the same time have different addresses; and when there is none left, that is said.
#[test]
fn no_two_rooms_have_one_address() {
    scenario("room::no_two_rooms_have_one_address", |it| {
        let small = ["10.77.1.0/29", "fd77:77:1::/125"].map(net);
        let made: Vec<Room> = thread::scope(|scope| {
            let make = || Room::make(&it.inner, "tun9", &small).unwrap();
            let makers: Vec<_> = (0..5).map(|_| scope.spawn(make)).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        let mut addresses: Vec<IpAddr> = made.iter().flat_map(|room| room.addresses().to_vec()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 10);
        // 10.77.1.1 is the TUN's, 10.77.1.0 and .7 are none.
        let full = Room::make(&it.inner, "tun9", &small).unwrap_err().to_string();
        assert!(full.contains("no address of 10.77.1.0/29 is free"), "{full}");
    });
}

#[test]
fn a_namespace_with_other_ways_out_has_no_rooms() {
    scenario("room::a_namespace_with_other_ways_out_has_no_rooms", |it| {
        let outside = Namespace::create("outside").unwrap();
        wire((&it.inner, "eth0", &["192.0.2.1/24"]), (&outside, "eth0", &["192.0.2.2/24"]));
        let refused = Room::make(&it.inner, "tun9", &PREFIXES.map(net)).unwrap_err().to_string();
        assert!(refused.contains("has the interface eth0 besides the TUN"), "{refused}");
        let missing = Room::make(&outside, "tun9", &PREFIXES.map(net)).unwrap_err().to_string();
        assert!(missing.contains("looking up tun9 in outside"), "{missing}");
    });
}

struct Inner {
    inner: Namespace,
    device: SyncDevice,
}

impl Inner {
    fn new() -> Self {
        let inner = Namespace::create("inner").unwrap();
        let device = tun(&inner, "tun9");
        let side = InnerSide {
            tun: "tun9".to_owned(),
            addresses: ["10.77.1.1/24", "fd77:77:1::1/64"].map(net).to_vec(),
            mtu: 1400,
            queue: QUEUE,
            gso_max_size: 60_000,
            routes: ["10.77.2.0/24", "fd77:77:2::/64"].map(net).to_vec(),
        };
        side.prepare(&inner).unwrap();
        Self { inner, device }
    }

    fn room(&self) -> Room {
        let prefixes: Vec<IpNet> = PREFIXES.map(net).to_vec();
        Room::make(&self.inner, "tun9", &prefixes).unwrap()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn scenario(name: &str, scenario: impl FnOnce(Inner)) {
    namespaced(name, || {
        if skip::require(name, &[Need::Tun]) {
            scenario(Inner::new());
        }
    });
}

const PREFIXES: [&str; 2] = ["10.77.1.0/24", "fd77:77:1::/64"];
