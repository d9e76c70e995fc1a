//! What a reload would change.

use std::path::Path;

use tempfile::TempDir;

use super::*;

const BASE: &str = r#"
identity = "a.example"
inner = "branch"
addresses = ["10.1.0.1/24"]
listen = ["192.0.2.1:4500"]
state = "state"
[[peer]]
identity = "b.example"
endpoint = "192.0.2.2:4500"
inner = ["10.2.0.0/24"]
[[peer.sa]]
inbound = { spi = 0x1001, key_file = "1.key" }
outbound = { spi = 0x1002, key_file = "2.key" }
[[peer]]
identity = "c.example"
endpoint = "192.0.2.3:4500"
inner = ["10.3.0.0/24"]
[[peer.sa]]
inbound = { spi = 0x2001, key_file = "3.key" }
outbound = { spi = 0x2002, key_file = "4.key" }
"#;

/// Eight keys, each different from the others.
fn keys() -> TempDir {
    use std::os::unix::fs::OpenOptionsExt;
    let folder = TempDir::new().unwrap();
    for number in 1..9 {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.path().join(format!("{number}.key")))
            .unwrap();
        std::io::Write::write_all(&mut file, format!("{number:0>128}").as_bytes()).unwrap();
    }
    folder
}

fn read(text: &str, folder: &Path) -> (Config, Keyring) {
    let config = parse(text).unwrap_or_else(|report| panic!("{}", report.render("file"))).config;
    let keys = read_keys(&config, folder).unwrap();
    (config, keys)
}

/// The lines that tell the change from the base to what `edit` makes of it.
fn changes(edit: impl Fn(String) -> String) -> Vec<String> {
    edited(BASE, edit)
}

/// The same, from another base.
fn edited(base: &str, edit: impl Fn(String) -> String) -> Vec<String> {
    let folder = keys();
    let (old, old_keys) = read(base, folder.path());
    let (new, new_keys) = read(&edit(base.to_owned()), folder.path());
    let changes = compare((&old, &old_keys), (&new, &new_keys));
    let lines: Vec<_> = changes.to_string().lines().map(str::to_owned).collect();
    assert_eq!(changes.is_empty(), lines.is_empty());
    assert_eq!(changes.is_empty_for_reload(), lines.iter().all(|line| line.starts_with("needs a restart")));
    lines
}

fn replace(from: &'static str, to: &'static str) -> Vec<String> {
    assert!(BASE.contains(from));
    changes(|text| text.replace(from, to))
}

#[test]
fn what_says_the_same_is_no_change() {
    assert!(changes(|text| format!("# a comment\n\n{text}")).is_empty());
    assert!(replace("0x1001", "4097").is_empty());
    assert!(replace("[\"10.2.0.0/24\"]", "[\"10.2.0.0/25\", \"10.2.0.128-10.2.0.255\"]").is_empty());
    assert!(
        changes(|text| text.replace("listen = [\"192.0.2.1:4500\"]", "listen = \"192.0.2.1\"")).is_empty()
    );
}

#[test]
fn peers_come_and_go_with_their_sas_and_policies() {
    let gone = changes(|text| text.split("[[peer]]\nidentity = \"c").next().unwrap().to_owned());
    let policy = "policy protect 10.1.0.0/24 <-> 10.3.0.0/24 with fqdn:c.example";
    let sa = "SA 0x00002001 in, 0x00002002 out with fqdn:c.example, aes-256-cbc-hmac-sha-256";
    assert_eq!(gone, ["- peer fqdn:c.example".to_owned(), format!("- {sa}"), format!("- {policy}")]);
    let folder = keys();
    let (new, new_keys) = read(BASE, folder.path());
    let (old, old_keys) = read(BASE.split("[[peer]]\nidentity = \"c").next().unwrap(), folder.path());
    let come = compare((&old, &old_keys), (&new, &new_keys)).to_string();
    assert_eq!(
        come.lines().collect::<Vec<_>>(),
        ["+ peer fqdn:c.example".to_owned(), format!("+ {sa}"), format!("+ {policy}")]
    );
}

#[test]
fn a_peer_that_moves_or_claims_more_is_changed() {
    assert_eq!(
        replace("192.0.2.2:4500", "192.0.2.2:4501"),
        [
            "~ peer fqdn:b.example: endpoint 192.0.2.2:4500 -> 192.0.2.2:4501",
            "~ SA 0x00001001 in, 0x00001002 out with fqdn:b.example, aes-256-cbc-hmac-sha-256: endpoint"
        ]
    );
    let wider = replace("10.2.0.0/24", "10.2.0.0/23");
    assert_eq!(wider[0], "~ peer fqdn:b.example: may claim 10.2.0.0/24 -> 10.2.0.0/23");
    assert!(wider.iter().any(|line| line.starts_with("+ policy")), "{wider:?}");
}

/// An SA of which something is changed that its keys depend on goes and comes; one that keeps its SPIs cannot follow itself.
#[test]
fn a_changed_sa_is_another_one() {
    let fresh = changes(|text| {
        text.replace("0x1001", "0x3001")
            .replace("0x1002", "0x3002")
            .replace("1.key", "5.key")
            .replace("2.key", "6.key")
    });
    let sa = |spis: &str| format!("SA {spis} with fqdn:b.example, aes-256-cbc-hmac-sha-256");
    let expected = [
        format!("- {}", sa("0x00001001 in, 0x00001002 out")),
        format!("+ {}", sa("0x00003001 in, 0x00003002 out")),
    ];
    assert_eq!(fresh, expected);
    for edit in [
        "esn = false",
        "replay_window = 64",
        "suite = \"ah-hmac-sha-512\"",
        "suite = \"aes-128-cbc-hmac-sha-384\"",
        "encapsulation = \"none\"",
        "selectors = { protocol = 6 }",
    ] {
        let native = BASE.replace("listen = [", "listen = [\"native:192.0.2.1\", ");
        let kept = edited(&native, |text| text.replacen("[[peer.sa]]", &format!("[[peer.sa]]\n{edit}"), 1));
        assert_eq!(kept.len(), 4, "{edit}: {kept:#?}");
        let refused = "! an SA with fqdn:b.example was changed and kept its SPI 0x00001001";
        assert!(kept[2].starts_with(refused), "{edit}: {kept:#?}");
    }
}

/// What the keys of an SA do not depend on is said anew of the SA that is there: it keeps its SPIs.
#[test]
fn what_can_be_revised_of_an_sa_is_named_and_the_sa_stays() {
    let sa = "~ SA 0x00001001 in, 0x00001002 out with fqdn:b.example, aes-256-cbc-hmac-sha-256: ";
    let edits = [
        ("mtu = 1400", "mtu"),
        ("from = \"192.0.2.1\"", "from"),
        ("follow = true", "follow"),
        ("keepalive = \"20s\"", "keepalive"),
        ("dscp = 10", "dscp"),
        ("decapsulate_dscp = true", "decapsulate_dscp"),
        ("ecn = \"compatibility\"", "ecn"),
        ("df = \"clear\"", "df"),
        ("tfc = 64", "tfc"),
        ("dummies = \"1s\"", "dummies"),
        ("fragment = \"after\"", "fragment"),
        ("pmtu = \"fixed\"", "pmtu"),
        ("pmtu_floor = 1300", "pmtu_floor"),
        ("probe = { from = \"10.1.0.1\", to = \"10.2.0.1\" }", "probe"),
        ("mss_clamp = true", "mss_clamp"),
        ("soft = { packets = 1 }", "soft"),
        ("hard = { packets = 1 }", "hard"),
        ("mtu = 1400\ntfc = \"mtu\"", "mtu, tfc"),
    ];
    for (edit, named) in edits {
        let lines = changes(|text| text.replacen("[[peer.sa]]", &format!("[[peer.sa]]\n{edit}"), 1));
        assert_eq!(lines, [format!("{sa}{named}")], "{edit}");
    }
    let native = BASE
        .replace("192.0.2.1:4500", "native:192.0.2.1")
        .replace("[[peer.sa]]", "[[peer.sa]]\nencapsulation = \"none\"");
    let ttl = edited(&native, |text| text.replacen("[[peer.sa]]", "[[peer.sa]]\nttl = 9", 1));
    assert_eq!(ttl, [format!("{sa}ttl")]);
    let native = native.replace("192.0.2.", "2001:db8::");
    let native = native.replace(":4500", "");
    let label = edited(&native, |text| text.replacen("[[peer.sa]]", "[[peer.sa]]\nflow_label = \"copy\"", 1));
    assert_eq!(label, [format!("{sa}flow_label")]);
}

/// Equality sees the keys: another key is another SA, another name of its file is not.
#[test]
fn the_content_of_keys_counts() {
    let folder = keys();
    let (old, old_keys) = read(BASE, folder.path());
    let other = BASE.replace("1.key", "5.key");
    let (new, new_keys) = read(&other, folder.path());
    assert_eq!(compare((&old, &old_keys), (&new, &new_keys)).sas_added.len(), 1);
    std::fs::copy(folder.path().join("1.key"), folder.path().join("5.key")).unwrap();
    let (new, new_keys) = read(&other, folder.path());
    assert!(compare((&old, &old_keys), (&new, &new_keys)).is_empty(), "a key moved to another file");
    std::fs::copy(folder.path().join("6.key"), folder.path().join("1.key")).unwrap();
    let (same, new_keys) = read(BASE, folder.path());
    let changes = compare((&old, &old_keys), (&same, &new_keys));
    assert_eq!((changes.sas_removed.len(), changes.sas_added.len(), changes.spis_kept.len()), (1, 1, 2));
    assert!(!changes.to_string().contains("00000000000"), "T40");
}

#[test]
fn policies_come_go_and_change_places() {
    let rules = "[[policy]]\naction = \"discard\"\nlocal_ports = 1\n[[policy]]\naction = \"protect\"\npeer = \"b.example\"\n\
                 [[policy]]\naction = \"protect\"\npeer = \"c.example\"\n";
    let folder = keys();
    let (old, old_keys) = read(&format!("{BASE}{rules}"), folder.path());
    let lines = |edited: &str| {
        let (new, new_keys) = read(&format!("{BASE}{edited}"), folder.path());
        compare((&old, &old_keys), (&new, &new_keys)).to_string()
    };
    assert_eq!(lines(&rules.replace("local_ports = 1", "local_ports = 2")).lines().count(), 2);
    let moved =
        rules.replace("b.example", "x").replace("c.example", "b.example").replace("\"x\"", "\"c.example\"");
    assert_eq!(lines(&moved), "~ the order of the policies\n");
}

#[test]
fn what_takes_a_restart_is_named() {
    for (key, line) in [
        ("name", "name = \"x\""),
        ("bypass_port", "bypass_port = \"x\""),
        ("control", "control = \"x\""),
        ("app", "app = false"),
        ("metrics", "metrics = \"127.0.0.1:1\""),
        ("user", "user = \"x\""),
        ("state or counter_mode_static", "counter_mode_static = true"),
        ("mode, inner, outer or guard", "outer = \"x\""),
    ] {
        assert_eq!(changes(|text| format!("{line}\n{text}")), [format!("needs a restart: {key}")]);
    }
    assert_eq!(replace("a.example", "z.example"), ["needs a restart: identity"]);
    assert_eq!(replace("192.0.2.1:4500", "192.0.2.1:4501"), ["needs a restart: listen"]);
    assert_eq!(replace("10.1.0.1/24", "10.1.0.2/24"), ["needs a restart: addresses"]);
    assert_eq!(changes(|text| format!("{text}[tun]\nmtu = 1400\n")), ["needs a restart: tun"]);
    let latch = changes(|text| format!("latch = false\n{text}"));
    assert_eq!(latch.last().map(String::as_str), Some("~ latch: policies that do not say it do not latch"));
    let exec = changes(|text| format!("exec = \"10.1.0.128/25\"\n{text}"));
    assert_eq!(exec, ["needs a restart: exec"]);
}

/// Every key says of itself when a change of it comes into force, and says the truth.
#[test]
fn the_reference_knows_what_takes_a_restart() {
    use crate::reference::{Change, TABLES};
    let restarts: Vec<_> =
        TABLES[0].keys.iter().filter(|key| key.change == Change::Restart).map(|key| key.name).collect();
    let named = "name identity mode inner outer guard addresses listen state counter_mode_static bypass_port exec control app metrics audit answer_discard user tun latches";
    assert_eq!(restarts.join(" "), named);
}
