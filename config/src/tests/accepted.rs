//! Files that are right, and what is read of them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use latchway_esp::{Align, AntiReplay, Spi, Suite, WindowSize};
use latchway_tagging::{AuthMethod, Identity, Mode, PeerPattern};

use super::*;

const TUNNEL: &str = include_str!("../../../examples/tunnel.toml");

fn read(text: &str) -> Config {
    parse(text).unwrap_or_else(|report| panic!("{}", report.render("file"))).config
}

fn ranges(list: &[(&str, &str)]) -> Vec<AddressRange> {
    let range =
        |(first, last): &(&str, &str)| AddressRange::new(first.parse().unwrap(), last.parse().unwrap());
    list.iter().map(|ends| range(ends).unwrap()).collect()
}

/// Every example can be used, and nobody is warned of anything.
#[test]
fn examples_parse_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["bypass.toml", "container.toml", "gateway.toml", "host.toml", "tunnel.toml"]);
    for (file, name) in files.iter().zip(names) {
        let parsed =
            parse(&fs::read_to_string(file).unwrap()).unwrap_or_else(|r| panic!("{}", r.render(name)));
        assert!(parsed.warnings.is_empty(), "{}", parsed.warnings.render(name));
    }
}

/// What the quick start and the front page tell people to write is taken as it stands.
#[test]
fn the_files_that_people_begin_with_parse_without_a_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (page, files) in [("docs/quick-start.md", 2), ("docs/esp-ah.md", 4), ("README.md", 1)] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let mut found = 0;
        for file in text.split("\n\n    identity = ").skip(1) {
            let (identity, rest) = file.split_once('\n').unwrap();
            let indented = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
            let lines: Vec<_> = indented.map(str::trim).collect();
            let parsed = parse(&format!("identity = {identity}\n{}", lines.join("\n")));
            let parsed = parsed.unwrap_or_else(|r| panic!("{}", r.render(page)));
            assert!(parsed.warnings.is_empty(), "{}", parsed.warnings.render(page));
            found += 1;
        }
        assert_eq!(found, files, "{page}");
    }
}

/// The manual shows the tunnel of the example.
#[test]
fn the_tunnel_of_the_manual_is_that_of_the_examples() {
    let lines: Vec<_> = TUNNEL.lines().skip(1).collect();
    assert!(documentation::manual().contains(&lines.join("\n")));
    assert!(lines.len() <= 12, "ten lines and a half");
}

/// What a file of ten lines means, all defaults written out.
#[test]
fn ten_lines_are_a_tunnel() {
    let (own, theirs) = (ranges(&[("10.1.0.0", "10.1.0.255")]), ranges(&[("10.2.0.0", "10.2.0.255")]));
    let direction = |spi, file: &str| SaDirection {
        spi: Spi::new(spi).unwrap(),
        key_file: KeyFile { path: file.into(), at: Position::default() },
    };
    let peer = PeerPattern::Exact(Identity::Fqdn("b.example".into()));
    let expected = Config {
        name: "main".into(),
        identity: Identity::Fqdn("a.example".into()),
        place: Place::Split { inner: NamespaceRef::Named("branch".into()), outer: NamespaceRef::Own },
        tun: Tun {
            name: "latchway0".into(),
            backend: Backend::Auto,
            mtu: None,
            addresses: vec!["10.1.0.1/24".parse().unwrap()],
            premade: false,
            persistent: true,
        },
        bypass_port: None,
        listen: vec![Listen::Udp("192.0.2.1:4500".parse().unwrap())],
        peers: vec![Peer {
            identity: peer.clone(),
            methods: vec![AuthMethod::Manual],
            standing: None,
            shared: false,
            endpoint: Some("192.0.2.2:4500".parse().unwrap()),
            inner: vec!["10.2.0.0/24".parse().unwrap()],
            sas: vec![Sa {
                mode: Mode::Tunnel,
                encapsulation: Encapsulation::Udp,
                suite: Suite::AES_256_CBC_HMAC_SHA_256,
                inbound: direction(0x1001, "in.key"),
                outbound: direction(0x1002, "out.key"),
                header: None,
                align: Align::Rfc,
                esn: true,
                anti_replay: AntiReplay::Window(WindowSize::new(4096).unwrap()),
                mtu: 1500,
                from: None,
                follow: false,
                keepalive: None,
                outer: Outer::default(),
                hiding: Hiding::default(),
                sizing: Sizing::default(),
                selectors: vec![Selector::between(own.clone(), theirs.clone())],
                soft: Lifetime::default(),
                hard: Lifetime::default(),
            }],
        }],
        policies: vec![Policy {
            name: None,
            selector: Selector::between(own, theirs),
            direction: None,
            action: Action::Protect,
            latch: true,
            terms: LatchTerms::default(),
            applications: Applications::Nothing,
            peer: Some(peer),
        }],
        latch: true,
        terms: LatchTerms::default(),
        applications: Applications::Nothing,
        latches: Latches::default(),
        state: Some(StateDirectory { path: "/var/lib/latchway/branch".into(), counter_mode_static: false }),
        control: None,
        app: AppSocket::Beside,
        metrics: None,
        audit: true,
        answer_discard: true,
        user: None,
        exec: None,
    };
    let config = read(TUNNEL);
    assert_eq!(config, expected);
    assert_eq!(config.peers[0].sas[0].outbound.key_file.at, Position { line: 12, column: 95 });
    assert_eq!(config.networks(), ["10.1.0.0/24".parse().unwrap()]);
    assert_eq!(config.protected(), ["10.2.0.0/24".parse().unwrap()]);
}

#[test]
fn a_gateway_is_called_like_its_file_unless_it_has_a_name() {
    let called = |text: &str, file: &str| {
        let config = parse_named(text, file).unwrap().config;
        (config.name, config.place)
    };
    let inner =
        |name: &str| Place::Split { inner: NamespaceRef::Named(name.into()), outer: NamespaceRef::Own };
    assert_eq!(called("identity = \"a\"", "east"), ("east".into(), inner("east")));
    assert_eq!(called("identity = \"a\"", "a b"), ("main".into(), inner("main")));
    assert_eq!(called("identity = \"a\"\nname = \"x-1.y_2\"", "east").0, "x-1.y_2");
}

#[test]
fn identities_have_their_kinds_in_front_or_look_like_them() {
    let fqdn = |name: &str| Identity::Fqdn(name.into());
    for (text, identity) in [
        ("a.example", fqdn("a.example")),
        ("fqdn:10.0.0.1", fqdn("10.0.0.1")),
        ("10.0.0.1", Identity::Address("10.0.0.1".parse().unwrap())),
        ("2001:db8::1", Identity::Address("2001:db8::1".parse().unwrap())),
        ("address:2001:db8::1", Identity::Address("2001:db8::1".parse().unwrap())),
        ("someone@a.example", Identity::Email("someone@a.example".into())),
        ("dn:CN=a,O=\u{e4}", Identity::DistinguishedName("CN=a,O=\u{e4}".into())),
        ("keyid:00ff", Identity::KeyId(vec![0, 255])),
        ("publickey:30", Identity::PublicKey(vec![0x30])),
    ] {
        let read = read(&format!("identity = \"{text}\""));
        assert_eq!(read.identity, identity);
        // As an identity is shown, so it can be written.
        assert_eq!(identity.to_string().parse(), Ok(identity));
    }
    for text in [
        "a..b",
        "a b",
        "@a",
        "a@",
        "x:y",
        "address:a",
        "keyid:",
        "keyid:0",
        "dn:",
        "::ffff:10.0.0.1",
        "\u{e4}.example",
    ] {
        assert!(parse(&format!("identity = \"{text}\"")).is_err(), "{text}");
    }
}

#[test]
fn namespaces_have_four_ways_to_be_named() {
    let place = |lines: &str| read(&format!("identity = \"a\"\n{lines}")).place;
    let split = |inner, outer| Place::Split { inner, outer };
    let named = |name: &str| NamespaceRef::Named(name.into());
    assert_eq!(place("inner = \"x\"\nouter = \"y\""), split(named("x"), named("y")));
    assert_eq!(place("inner = { name = \"x\" }"), split(named("x"), NamespaceRef::Own));
    assert_eq!(place("inner = { pid = 7 }"), split(NamespaceRef::Pid(7), NamespaceRef::Own));
    let path = NamespaceRef::Path("/run/x".into());
    assert_eq!(place("inner = \"own\"\nouter = { path = \"/run/x\" }"), split(NamespaceRef::Own, path));
    assert_eq!(place("mode = \"host\""), Place::Host { guard: Guard::Install });
    assert_eq!(place("mode = \"host\"\nguard = \"preset\""), Place::Host { guard: Guard::Preset });
    assert_eq!(NamespaceRef::Pid(7).path(), Some(PathBuf::from("/proc/7/ns/net")));
}

#[test]
fn who_does_not_say_where_to_listen_listens_on_the_families_of_the_peers() {
    let listen = |endpoints: &[&str]| -> Vec<SocketAddr> {
        let head = "identity = \"a\"\naddresses = [\"10.0.0.1/24\"]\n".to_owned();
        let text = endpoints.iter().enumerate().fold(head, |text, (number, endpoint)| {
            format!("{text}[[peer]]\nidentity = \"p{number}\"\ninner = \"10.{}.0.0/16\"\nendpoint = \"{endpoint}\"\n", number + 1)
        });
        read(&text).listen.iter().map(Listen::socket_address).collect()
    };
    let addresses =
        |list: &[&str]| list.iter().map(|address| address.parse().unwrap()).collect::<Vec<SocketAddr>>();
    assert_eq!(listen(&[]), addresses(&["0.0.0.0:4500"]));
    assert_eq!(listen(&["192.0.2.1"]), addresses(&["0.0.0.0:4500"]));
    assert_eq!(listen(&["2001:db8::1"]), addresses(&["[::]:4500"]));
    assert_eq!(listen(&["[2001:db8::1]:7", "192.0.2.1:7"]), addresses(&["0.0.0.0:4500", "[::]:4500"]));
}

#[test]
fn selectors_are_lists_of_ranges() {
    let text = r#"
        identity = "a"
        addresses = ["10.1.0.1/24", "fd00:1::1/64"]
        latch = false
        [[peer]]
        identity = "b"
        inner = ["10.2.0.0-10.2.1.255", "fd00:2::/64"]
        [[policy]]
        action = "protect"
        peer = "fqdn:b"
        protocol = "TCP"
        local = ["10.1.0.7", "fd00:1::/64"]
        local_ports = [443, "8000 - 8080"]
        direction = "outbound"
        [[policy]]
        action = "protect"
        protocol = 17
        latch = true
        [[policy]]
        action = "discard"
    "#;
    let config = read(text);
    assert_eq!(config.peers[0].inner, ["10.2.0.0/23".parse().unwrap(), "fd00:2::/64".parse().unwrap()]);
    let [first, second, third] = config.policies.as_slice() else { panic!() };
    let both = ranges(&[("10.2.0.0", "10.2.1.255"), ("fd00:2::", "fd00:2::ffff:ffff:ffff:ffff")]);
    assert_eq!(first.selector.remote, both);
    let shown = "protect, unlatched, outbound tcp 10.1.0.7/32,fd00:1::/64 port 443,8000-8080 <-> 10.2.0.0/23,fd00:2::/64 with fqdn:b";
    assert_eq!(first.to_string(), shown);
    // Two ranges of ports for each of two families, of which none is mixed.
    let simple: Vec<_> = first.selector.simple().collect();
    assert_eq!((simple.len(), first.selector.combinations()), (4, 8));
    assert!(simple.iter().all(|simple| simple.local.is_ipv4() == simple.remote.is_ipv4()));
    assert_eq!((first.latch, second.latch, third.latch), (false, true, false));
    assert_eq!(second.to_string(), "protect udp 0.0.0.0/0,::/0 <-> 0.0.0.0/0,::/0");
    assert_eq!(third.to_string(), "discard 0.0.0.0/0,::/0 <-> 0.0.0.0/0,::/0");
}

#[test]
fn sas_say_everything_else_themselves() {
    let text =
        TUNNEL.replace("sa = { ", "[[peer.sa]]\n").replace(", outbound", "\noutbound").replace(" } }", " }");
    let more = r#"
        suite = "aes-128-cbc-hmac-sha-256"
        esn = false
        replay_window = "off"
        mtu = 1400
        from = "192.0.2.1"
        selectors = [{ protocol = "icmp" }, { protocol = "tcp", remote = "10.2.0.1", remote_ports = 22 }]
        soft = { octets = 1, seconds = 5 }
        hard = { octets = 2, packets = 0x10, since_first_use = 3 }
    "#;
    let sa = read(&format!("{text}{more}")).peers.remove(0).sas.remove(0);
    assert_eq!(
        (sa.suite, sa.esn, sa.anti_replay, sa.mtu),
        (Suite::AES_128_CBC_HMAC_SHA_256, false, AntiReplay::Off, 1400)
    );
    assert_eq!(sa.from, Some("192.0.2.1".parse().unwrap()));
    assert_eq!(sa.soft, Lifetime { octets: Some(1), seconds: Some(5), ..Lifetime::default() });
    assert_eq!(
        sa.hard,
        Lifetime { octets: Some(2), packets: Some(16), since_first_use: Some(3), ..Lifetime::default() }
    );
    let shown: Vec<_> = sa.selectors.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["icmp 10.1.0.0/24 <-> 10.2.0.0/24", "tcp 10.1.0.0/24 <-> 10.2.0.1/32 port 22"]);
}

/// A rule has a name where it was given one, and is another where that is.
#[test]
fn a_policy_may_have_a_name() {
    let named = |name: &str| {
        let text = format!("{TUNNEL}\n[[policy]]\naction = \"protect\"\nname = \"{name}\"\n");
        read(&text).policies.into_iter().next().unwrap()
    };
    assert_eq!(named("office-b").name.as_deref(), Some("office-b"));
    assert!(named("office-b").to_string().starts_with("office-b: protect"), "{}", named("office-b"));
    assert_ne!(named("office-b"), named("office-c"));
}

/// RFC 4301 4.4.1: OPAQUE in policies, for what shows no ports or no type; 7.2: in SAs, for later fragments, too.
#[test]
fn rfc_4301_4_4_1_opaque_is_a_word_for_what_cannot_be_seen() {
    let text = r#"
        [[policy]]
        action = "protect"
        local_ports = "opaque"
        remote_ports = "opaque"
        [[policy]]
        action = "protect"
        icmp = "opaque"
        [[policy]]
        action = "protect"
        protocol = "udp"
        remote_ports = 53
    "#;
    let sa = r#"[{ protocol = "udp", local_ports = "opaque", remote_ports = "opaque" }, { protocol = "icmp", icmp = "opaque" }]"#;
    let config =
        read(&format!("{}\n{text}", TUNNEL.replace("sa = { ", &format!("sa = {{ selectors = {sa}, "))));
    let shown: Vec<_> = config.policies.iter().map(|policy| policy.selector.to_string()).collect();
    let everything = "0.0.0.0/0,::/0";
    assert_eq!(
        shown,
        [
            format!("{everything} port opaque <-> {everything} port opaque"),
            format!("type opaque {everything} <-> {everything}"),
            format!("udp {everything} <-> {everything} port 53"),
        ]
    );
    assert_eq!(config.policies[0].selector.simple().next().unwrap().local_ports, PortRange::Opaque);
    let selectors = &config.peers[0].sas[0].selectors;
    assert_eq!(selectors[1].icmp, Some(IcmpRange::Opaque));
    assert_eq!(
        selectors[0].to_string(),
        "udp 10.1.0.0/24 port opaque <-> 10.2.0.0/24 port opaque",
        "{selectors:?}"
    );
}

#[test]
fn programs_addresses_belong_to_our_own_networks() {
    let config = read("identity = \"a\"\naddresses = [\"10.1.0.1/24\"]\nexec = \"10.1.1.0/24\"");
    assert_eq!(config.networks(), ["10.1.0.0/23".parse().unwrap()]);
    let nested = read("identity = \"a\"\naddresses = [\"10.1.0.1/16\"]\nexec = \"10.1.1.0/24\"");
    assert_eq!(nested.networks(), ["10.1.0.0/16".parse().unwrap()]);
}

/// RFC 4301 4.4.3.1: each type of an identity, with what such a peer is allowed.
#[test]
fn rfc_4301_4_4_3_1_peers_are_of_every_type_the_special_before_the_general() {
    let text = r#"
        identity = "a.example"
        addresses = ["10.1.0.1/24"]
        [[peer]]
        identity = "b.branch.example"
        inner = "10.2.0.0/24"
        [[peer]]
        identity = "*.branch.example"
        methods = ["pre-shared-key", "certificate"]
        standing = "pre-shared-key"
        inner = "10.3.0.0/16"
        shared = true
        [[peer]]
        identity = "*@example.com"
        methods = "public-key"
        inner = "10.3.7.0/24"
        shared = true
        [[peer]]
        identity = "dn:*,O=Example,C=DE"
        inner = "10.4.0.0/16"
        [[peer]]
        identity = "192.0.2.0/24"
        inner = "10.5.0.0/16"
        [[peer]]
        identity = "keyid:00ff"
        inner = "10.6.0.0/16"
        [[peer]]
        identity = "any"
        inner = "10.9.0.0/16"
    "#;
    let config = read(text);
    let shown: Vec<_> = config.peers.iter().map(|peer| peer.identity.to_string()).collect();
    let expected = [
        "fqdn:b.branch.example",
        "fqdn:*.branch.example",
        "email:*@example.com",
        "dn:*,O=Example,C=DE",
        "address:192.0.2.0-192.0.2.255",
        "keyid:00ff",
        "any",
    ];
    assert_eq!(shown, expected);
    let methods: Vec<_> = config.peers.iter().map(|peer| peer.methods.as_slice()).collect();
    assert_eq!(methods[0], [AuthMethod::Manual]);
    assert_eq!(methods[1], [AuthMethod::PreSharedKey, AuthMethod::Certificate]);
    assert_eq!(methods[2], [AuthMethod::PublicKey]);
    assert_eq!(methods[6], [AuthMethod::Btns, AuthMethod::LeapOfFaith], "RFC 5386");
    assert_eq!(config.peers[1].standing, Some(AuthMethod::PreSharedKey));
    assert!(config.peers[1].shared && config.peers[2].shared && !config.peers[0].shared);
}

/// L-76, L-109 to L-114: the terms of a file, and of policies that say otherwise.
#[test]
fn latches_have_the_terms_of_their_policy_or_of_the_file() {
    let text = r#"
        identity = "a"
        addresses = ["10.1.0.1/24"]
        bypass_port = "out0"
        on_conflict = "wait"
        applications = "more"
        sticky = true
        [latches]
        capacity = 100000
        half_open = 1000
        half_open_per_peer = 1000
        udp_idle = 120
        tcp_idle = 7440
        larval = 5
        [[peer]]
        identity = "b"
        inner = "10.2.0.0/24"
        [[policy]]
        action = "protect"
        peer = "b"
        protocol = "tcp"
        model = "tag"
        on_conflict = "drop-newcomer"
        on_policy_change = "preserve"
        unlatchable = "pass"
        sticky = false
        applications = "bypass"
        [[policy]]
        action = "protect"
        peer = "b"
        protocol = "udp"
        [[policy]]
        action = "protect"
        peer = "b"
        latch = false
        [[policy]]
        action = "bypass"
        remote = "10.7.0.0/24"
        [[policy]]
        action = "discard"
    "#;
    let config = read(text);
    let terms: Vec<_> = config.policies.iter().map(|policy| (policy.terms, policy.applications)).collect();
    let own = LatchTerms {
        model: Model::Tag,
        on_conflict: OnConflict::DropNewcomer,
        on_policy_change: OnPolicyChange::Preserve,
        unlatchable: Unlatchable::Pass,
        sticky: false,
    };
    let file = LatchTerms { on_conflict: OnConflict::Wait, sticky: true, ..LatchTerms::default() };
    let none = LatchTerms::default();
    let expected = [
        (own, Applications::Bypass),
        (file, Applications::More),
        (none, Applications::More),
        (none, Applications::More),
        (none, Applications::Nothing),
    ];
    assert_eq!(terms, expected);
    let shown = config.policies[0].to_string();
    let says = ", by tag, dropping newcomers, preserved when policy changes, passing what cannot be latched, applications may ask for bypass";
    assert!(shown.ends_with(says), "{shown}");
    let Latches { capacity, half_open, half_open_per_peer, udp_idle, tcp_idle, larval } = config.latches;
    assert_eq!((capacity, half_open, half_open_per_peer), (Some(100_000), Some(1000), Some(1000)));
    assert_eq!((udp_idle, tcp_idle, larval), (Some(120), Some(7440), Some(5)));
}
