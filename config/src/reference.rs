//! The reference: every key that a configuration may have. What is read, what is refused as unknown, what hints say,
//! the manual and the commented example all come from here.

/// A table of the file, and the keys that belong into it.
pub struct Table {
    /// The keys above it, ended by a dot; empty for the file itself.
    pub path: &'static str,
    /// How it is written.
    pub heading: &'static str,
    /// What it is.
    pub meaning: &'static str,
    /// Its keys.
    pub keys: &'static [&'static Key],
}

/// A key.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub shape: &'static str,
    /// What holds where it is missing; `None` where it must be there.
    pub default: Option<&'static str>,
    /// A value that it could have, in TOML.
    pub example: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// When a change of it comes into force.
    pub change: Change,
}

/// When a change of a key comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// With a reload.
    Reload,
    /// With a new start of the gateway.
    Restart,
}

/// Declares keys, one constant for each.
macro_rules! keys {
    ($($key:ident = $name:literal, $shape:literal, $default:expr, $example:literal, $change:ident, $text:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub static $key: Key = Key {
                name: $name,
                shape: $shape,
                default: $default,
                example: $example,
                meaning: $text,
                change: Change::$change,
            };
        )*
    };
}

/// Declares a table and its keys, and behind them those that it shares with other tables.
macro_rules! table {
    (
        $(#[doc = $doc:literal])* mod $module:ident: $path:literal, $heading:literal, $meaning:literal;
        $($key:ident = $name:literal, $shape:literal, $default:expr, $example:literal, $change:ident, $text:literal;)*
        $(.. $shared:ident { $($same:ident),* })*
    ) => {
        $(#[doc = $doc])*
        pub mod $module {
            use super::{Change, Key, Table};
            keys! { $($key = $name, $shape, $default, $example, $change, $text;)* }
            /// The table.
            pub static TABLE: Table = Table {
                path: $path,
                heading: $heading,
                meaning: $meaning,
                keys: &[$(&$key,)* $($(&super::$shared::$same,)*)*],
            };
        }
    };
}

/// How connections are latched: said for the file, and for a policy that is to differ.
pub mod latching {
    use super::{Change, Key};
    keys! {
        LATCH = "latch", "true or false", Some(r#"`true`; of a policy, what is said for the file"#), "true", Reload,
            "Whether protect policies latch connections: a connection keeps the peer and the protection that it began with, or ends.";
        MODEL = "model", r#""strict" or "tag""#, Some(r#"`"strict"`; of a policy, what is said for the file"#), r#""strict""#, Reload,
            "What counts as a conflict with a latch. `strict`: an SA of another peer that covers the connection, from its proposal on; it is narrowed, refused, or the latch breaks before it is used. `tag`: a packet alone, so that SAs of several peers may cover the same addresses. This and the four keys below are for rules that latch. A change is for new latches: those that are there keep their terms.";
        ON_CONFLICT = "on_conflict", r#""terminate", "drop-newcomer", "reject-newcomer" or "wait""#, Some(r#"`"terminate"`; of a policy, what is said for the file"#), r#""terminate""#, Reload,
            "What becomes of a latched connection whose addresses another peer claims. `terminate`: it ends. `drop-newcomer`: it stands, and the newcomer's packets are dropped. `reject-newcomer`: it stands, and the newcomer's SA is refused. `wait`: it is suspended until the conflict is gone. A peer of lesser standing is refused whatever is said here.";
        ON_POLICY_CHANGE = "on_policy_change", r#""break" or "preserve""#, Some(r#"`"break"`; of a policy, what is said for the file"#), r#""break""#, Reload,
            "What becomes of a latch when the policy says otherwise: it breaks, or the connection goes on as it began.";
        UNLATCHABLE = "unlatchable", r#""refuse" or "pass""#, Some(r#"`"refuse"`; of a policy, what is said for the file"#), r#""refuse""#, Reload,
            "What becomes of a connection that cannot be latched, since the table of latches is full or SAs are in conflict: it is refused, or it passes, protected and without a latch.";
        STICKY = "sticky", "true or false", Some(r#"`false`; of a policy, what is said for the file"#), "false", Reload,
            "Whether a UDP flow that is idle for too long stays latched for as long as a socket has its addresses and ports.";
        APPLICATIONS = "applications", r#""nothing", "more" or "bypass""#, Some(r#"`"nothing"`; of a policy, what is said for the file"#), r#""nothing""#, Reload,
            "What applications may ask for beyond the policy, each for its own connections: `nothing`; `more` protection than it says, or a certain peer; or that and, where they are privileged, traffic in the clear (`bypass`).";
    }
}

/// What selects fewer packets than addresses do: of a policy, and of an SA.
pub mod flows {
    use super::{Change, Key};
    keys! {
        PROTOCOL = "protocol", "a name or a number", Some("any"), r#""tcp""#, Reload,
            "The upper-layer protocol: `tcp`, `udp`, `icmp`, `icmpv6` or a number up to 255.";
        ICMP = "icmp", r#"a table, or "opaque""#, Some("any"), "{ type = 8 }", Reload,
            "What ICMP or ICMPv6 messages, as `protocol` says: see `icmp = { ... }`. `opaque`: no message, but every packet that shows no type, since it is none.";
        LOCAL_PORTS = "local_ports", r#"a port, a range of ports, a list of them, or "opaque""#, Some("any"), "443", Reload,
            "Ports of the local side, as 443, \"8000-8080\" or a list of these. Protocols without ports have none. `opaque`: no port, but every packet that shows none, since its protocol has none that are read here, as ESP, GRE and ICMP; any is both (RFC 4301 section 4.4.1). In `selectors`, `opaque` is also for the later fragments of TCP, UDP or SCTP that a peer keeps to an SA of their own (section 7.2).";
        REMOTE_PORTS = "remote_ports", r#"a port, a range of ports, a list of them, or "opaque""#, Some("any"), r#"[443, "8000-8080"]"#, Reload,
            "Ports of the remote side, written likewise. A packet shows the ports of both sides, or of none.";
    }
}

table! {
    /// The file itself.
    mod root: "", "The file", "What the gateway is and where it stands. These keys come before the first `[table]`.";
    NAME = "name", "a string", Some("the file's name without `.toml`"), r#""branch-office""#, Restart,
        "What the gateway is called. Its sockets, its namespace and its rules carry the name, so that several gateways live on one machine. 1 to 32 letters, digits, `.`, `_`, `-`; the first a letter or a digit.";
    IDENTITY = "identity", "a string", None, r#""a.example""#, Restart,
        "Who we are to our peers. A domain name, a mail address, an IP address; or with its kind in front: `fqdn:`, `email:`, `address:`, `dn:` (a distinguished name), `keyid:` and `publickey:` (both in hexadecimal).";
    MODE = "mode", r#""split" or "host""#, Some(r#""split""#), r#""split""#, Restart,
        "`split`: the TUN is in the inner namespace, the wire in the outer one. `host`: both are in the namespace of the process, and a guard keeps clear packets from the inner addresses.";
    INNER = "inner", "a string or a table", Some("`/run/netns/NAME` of the gateway's name, made if it is not there"), r#""branch""#, Restart,
        "In split mode, the namespace of the inner hosts: a name as `ip netns` has it (made if it is not there), `\"own\"` for that of the process, `{ pid = 1234 }` for a running container's, or `{ path = \"/run/netns/x\" }`.";
    OUTER = "outer", "a string or a table", Some(r#""own""#), r#""own""#, Restart,
        "In split mode, the namespace of the wire, written like `inner`.";
    GUARD = "guard", r#""install" or "preset""#, Some(r#""install""#), r#""install""#, Restart,
        "In host mode, what keeps clear packets from the inner addresses: `install` lets the gateway make the nf_tables rules and blackhole routes, `preset` says that they are there, and the gateway refuses to start where they are not.";
    ADDRESSES = "addresses", "a list of addresses with prefix length", Some("none"), r#"["10.1.0.1/24", "fd00:1::1/64"]"#, Restart,
        "The addresses of the TUN. Their networks are our own inner networks.";
    LISTEN = "listen", "a list of addresses, with or without port", Some("every address of the families of the peers' endpoints, port 4500"), r#"["192.0.2.1:4500", "[2001:db8::1]:4500"]"#, Restart,
        "Where protected packets are received, and sent from. At most 16. An address is for ESP in UDP (RFC 3948), at port 4500 where none is given; `\"native:192.0.2.1\"` is for ESP and AH as they are, IP protocols 50 and 51, which SAs with `encapsulation = \"none\"` take.";
    STATE = "state", "a path", Some("none"), r#""/var/lib/latchway/branch-office""#, Restart,
        "The folder in which sequence numbers outlive the gateway, relative to the folder of this file. Without it numbers begin anew at each start: peers that go on refuse our packets as replays, and we accept replays of theirs.";
    COUNTER_MODE_STATIC = "counter_mode_static", "true or false", Some("false"), "false", Restart,
        "Allow counter-mode suites (AES-GCM, ChaCha20-Poly1305) with keys from files, which RFC 8221 section 3 forbids: one number used twice under one key gives both packets away, and lets anyone forge more. It takes `state`, and a disk that is never set back to an older state.";
    BYPASS_PORT = "bypass_port", "an interface name", Some("none"), r#""latchway0-out""#, Restart,
        "In split mode, the TUN made in the outer namespace through which traffic of bypass policies leaves and enters.";
    EXEC = "exec", "a prefix", Some("none"), r#""10.1.1.0/24""#, Restart,
        "In split mode, the prefix that programs started by `latchway exec` get their addresses from. It belongs to our own inner networks.";
    CONTROL = "control", "a path", Some("`/run/latchway/NAME/control.sock`"), r#""/run/latchway/branch-office/control.sock""#, Restart,
        "The operator's socket, relative to the folder of this file.";
    APP = "app", "a path, or true or false", Some("`app.sock` beside the operator's socket"), r#""/run/latchway/branch-office/app.sock""#, Restart,
        "The socket on which applications ask who is on the other ends of their own sockets, and what protects them; any user may. Relative to the folder of this file. `false`: there is none.";
    METRICS = "metrics", "an address with port", Some("none"), r#""127.0.0.1:9450""#, Restart,
        "Where metrics are offered to Prometheus.";
    AUDIT = "audit", "true or false", Some("true"), "true", Restart,
        "Whether auditable drops (RFC 4301 section 5, RFC 4302 and RFC 4303 section 4) are logged and told as events, each with the time, the SPI, the sequence number, the addresses or the flow: ten a second of each direction at most. They are counted all the same.";
    ANSWER_DISCARD = "answer_discard", "true or false", Some("true"), "true", Restart,
        "Whether inner senders are told, by an ICMP error, that policy discards their packets (RFC 4301 section 5.1.1): fifty at once and a thousand a second at most.";
    USER = "user", "a string", Some("whoever starts it"), r#""latchway""#, Restart,
        "The user that the gateway goes on as, once everything stands.";
    TUN = "tun", "a table", Some("see [tun]"), "", Restart,
        "The device towards the inner hosts; see `[tun]`.";
    LATCHES = "latches", "a table", Some("see [latches]"), "", Restart,
        "How many latches there may be, and for how long; see `[latches]`.";
    PEER = "peer", "a list of tables", Some("none"), "", Reload,
        "The peers; see `[[peer]]`.";
    POLICY = "policy", "a list of tables", Some("protect, between our own inner networks and those of each peer"), "", Reload,
        "The policy; see `[[policy]]`.";
    .. latching { LATCH, MODEL, ON_CONFLICT, ON_POLICY_CHANGE, UNLATCHABLE, STICKY, APPLICATIONS }
}

table! {
    /// `inner` and `outer`, written as tables.
    mod namespace: "", "inner = { ... }", "A namespace by something other than its name. One of:";
    NAME = "name", "a string", Some("none"), r#""branch""#, Restart,
        "`/run/netns/NAME`, made if it is not there; what a string alone means.";
    PATH = "path", "a path", Some("none"), r#""/run/netns/branch""#, Restart,
        "The namespace that this file stands for. It must be absolute.";
    PID = "pid", "a whole number", Some("none"), "1234", Restart,
        "The namespace that this process is in.";
}

table! {
    /// `[tun]`.
    mod tun: "tun.", "[tun]", "The device towards the inner hosts.";
    NAME = "name", "an interface name", Some(r#""latchway0""#), r#""latchway0""#, Restart,
        "Its name, of at most 15 characters.";
    BACKEND = "backend", r#""auto", "offload" or "plain""#, Some(r#""auto""#), r#""auto""#, Restart,
        "`offload`: many packets with each system call, by segmentation offload. `plain`: one. `auto`: offload where the kernel can.";
    MTU = "mtu", "a whole number", Some("what the paths leave"), "1400", Restart,
        "Its MTU: 576 to 65535, with an IPv6 address 1280 at least.";
    PREMADE = "premade", "true or false", Some("false"), "false", Restart,
        "Someone made it already, perhaps for an unprivileged user: the gateway attaches to it, and leaves its addresses, its MTU and its routes alone.";
    PERSISTENT = "persistent", "true or false", Some("true"), "true", Restart,
        "It stays when the gateway goes, so that what is sent to it has nowhere else to go.";
}

table! {
    /// `[latches]`.
    mod latches: "latches.", "[latches]", "How many latches there may be, and for how long.";
    CAPACITY = "capacity", "a whole number", Some("65536"), "65536", Restart,
        "How many flows are remembered at a time, 64 to 16777216; each takes some 170 octets. New ones beyond are refused.";
    HALF_OPEN = "half_open", "a whole number", Some("a quarter of `capacity`"), "16384", Restart,
        "How many of them only one side may have spoken on.";
    HALF_OPEN_PER_PEER = "half_open_per_peer", "a whole number", Some("a quarter of `half_open`"), "4096", Restart,
        "How many of these one peer may have, so that its flood leaves room for others.";
    UDP_IDLE = "udp_idle", "a whole number", Some("300"), "300", Restart,
        "For how many seconds an idle UDP flow is remembered: 120 (RFC 4787) to 86400.";
    TCP_IDLE = "tcp_idle", "a whole number", Some("7440"), "7440", Restart,
        "For how many seconds an idle TCP connection is remembered: 7440 (RFC 5382) to 2592000.";
    LARVAL = "larval", "a whole number", Some("75"), "75", Restart,
        "For how many seconds a latch waits for its first SA: 5 to 600.";
}

table! {
    /// `[[peer]]`.
    mod peer: "peer.", "[[peer]]", "A peer, or a kind of peers: who it is, where it is, and what it may claim. Once for each. The first that speaks of a peer decides, so that the special ones come before the general ones.";
    IDENTITY = "identity", "a string", None, r#""b.example""#, Reload,
        "Who it is, written like our own `identity`; no two peers have one identity. For peers that a provider of SAs serves it may be a pattern: every domain name below another (`*.branch.example`), every mail address at a domain (`*@example.com`), every distinguished name below another (`dn:*,O=Example,C=DE`), a range of addresses (`192.0.2.0/24`, `192.0.2.1-192.0.2.9`), or `any`, which comes last and is for anybody with a key of their own (RFC 5386).";
    METHODS = "methods", "a string or a list of them", Some("by hand; for `any`, btns and leap-of-faith"), r#"["certificate", "public-key"]"#, Reload,
        "How it may prove its identity: `certificate`, `public-key`, `pre-shared-key`, `manual` (keys from files, or from a provider that proves nothing), `leap-of-faith`, `btns`. In this order, from the highest, is its standing: who stands lower never takes over what a connection is latched to.";
    STANDING = "standing", "a string", Some("that of the method"), r#""pre-shared-key""#, Reload,
        "The highest standing that it has, however it proves itself: the name of a method.";
    ENDPOINT = "endpoint", "an address, with or without port", Some("none"), r#""192.0.2.2:4500""#, Reload,
        "Where it is reached; the port is 4500 where none is given. A peer with SAs must have one. In tunnel mode its SAs go on, and lead to where it is now.";
    INNER = "inner", "an address range or a list of them", None, r#"["10.2.0.0/24", "fd00:2::/64"]"#, Reload,
        "The inner addresses that it may claim, as prefixes or as \"first-last\". They overlap neither those of another peer nor our own inner networks.";
    SHARED = "shared", "true or false", Some("false"), "false", Reload,
        "Its inner addresses may overlap those of other peers that are shared: one after the other uses them, as with addresses that are given out for a time. What `any` may claim is nobody else's.";
    SA = "sa", "a table or a list of tables", Some("none"), "", Reload,
        "The SAs with it; see `[[peer.sa]]`.";
}

table! {
    /// `[[peer.sa]]`.
    mod sa: "peer.sa.", "[[peer.sa]]", "A pair of SAs with the peer above it, one for each direction. A short one is written `sa = { ... }`. Where and how packets travel, how they are made to fit, and how long the pair lasts can be changed while it goes on, with its numbers and latches. A change of what protects or of what is carried (`suite`, `mode`, `encapsulation`, `inbound`, `outbound`, `ah`, `align`, `esn`, `replay_window`, `selectors`) makes another pair: choose new SPIs and new keys for it.";
    SUITE = "suite", "a string", Some(r#""aes-256-cbc-hmac-sha-256""#), r#""aes-256-cbc-hmac-sha-256""#, Reload,
        "How packets are protected. Keys in files are used for long, and no key exchange limits what one of them gives away: the default has the long key, at some cost in speed (RFC 8221 sections 3 and 5).";
    MODE = "mode", r#""tunnel" or "transport""#, Some(r#""tunnel""#), r#""tunnel""#, Reload,
        "`tunnel`: whole packets travel in new ones. `transport`: their payload is protected and they keep their own header, so that nothing is carried but what is between our own address and the peer's endpoint.";
    ENCAPSULATION = "encapsulation", r#""udp" or "none""#, Some("`\"udp\"`; with AH, `\"none\"`"), r#""udp""#, Reload,
        "`udp`: ESP travels in UDP (RFC 3948), through NATs. `none`: ESP and AH are IP packets of their own, for peers that know nothing else; `listen` then takes a `native:` address. There is no AH in UDP.";
    INBOUND = "inbound", "a table", None, r#"{ spi = 0x1001, key_file = "in.key" }"#, Reload,
        "The SA for what we receive; see `inbound = { ... }`.";
    OUTBOUND = "outbound", "a table", None, r#"{ spi = 0x1002, key_file = "out.key" }"#, Reload,
        "The SA for what we send, written like `inbound`.";
    AH = "ah", "a table", Some("none"), r#"{ suite = "ah-hmac-sha-256", inbound = { spi = 0x2001, key_file = "ah-in.key" }, outbound = { spi = 0x2002, key_file = "ah-out.key" } }"#, Reload,
        "AH around ESP, of which both ends have both (a bundle, RFC 4301 section 4.3); see `ah = { ... }`. For AH alone, name a suite of AH as `suite`.";
    ALIGN = "align", "4 or 8", Some("4"), "8", Reload,
        "What the length of an AH header over IPv4 is a multiple of: 4 octets (RFC 4302 section 2.2), or 8, as a Linux kernel has it without `align4`. Over IPv6 it is 8.";
    ESN = "esn", "true or false", Some("true"), "true", Reload,
        "Whether sequence numbers have 64 bits. Both ends must say the same.";
    REPLAY_WINDOW = "replay_window", r#"a whole number or "off""#, Some("4096"), "4096", Reload,
        "How many packets late a packet may come: 32 to 65536. `\"off\"` accepts replays.";
    MTU = "mtu", "a whole number", Some("1500"), "1500", Reload,
        "The largest outer packet on the path: 576 to 65535, over IPv6 1280 at least.";
    FROM = "from", "an address", Some("the first `listen` address of the endpoint's family"), r#""192.0.2.1""#, Reload,
        "The `listen` address to send from.";
    FOLLOW = "follow", "true or false", Some("false"), "true", Reload,
        "Whether the peer may move: what it authenticates from another address or port, newer than anything else, changes where we send. Without it such packets are dropped. Not in transport mode, where the peer's address is that of what is carried.";
    KEEPALIVE = "keepalive", "a duration", Some("none"), r#""20s""#, Reload,
        "In UDP, how long nothing is sent before an octet keeps the NAT in between open (RFC 3948 section 4). For whoever is behind it.";
    DSCP = "dscp", r#""copy", a whole number or a table"#, Some(r#""copy""#), "{ 46 = 46, 0 = 10 }", Reload,
        "In tunnel mode, the DSCP of the outer header: the inner one, always the same (0 to 63), or by a table from the inner one, which is copied where it is not in it (RFC 2983). What is not always the same tells the path what traffic there is.";
    DECAPSULATE_DSCP = "decapsulate_dscp", "true or false", Some("false"), "false", Reload,
        "In tunnel mode, whether the outer DSCP of what we receive becomes the inner one (RFC 2983). The outer one is not authenticated.";
    ECN = "ecn", r#""normal" or "compatibility""#, Some(r#""normal""#), r#""normal""#, Reload,
        "In tunnel mode, what becomes of ECN: `normal` copies it, `compatibility` is for peers that do not give it back (RFC 6040).";
    DF = "df", r#""copy", "set" or "clear""#, Some("`\"set\"` in UDP, `\"copy\"` without"), r#""set""#, Reload,
        "In tunnel mode, the outer DF bit: the inner one, set, or clear (RFC 4301 section 8.1).";
    TTL = "ttl", "a whole number", Some("64"), "64", Reload,
        "In tunnel mode without UDP, the outer TTL or hop limit.";
    FLOW_LABEL = "flow_label", r#""zero", "copy" or "hash""#, Some("`\"hash\"`; in UDP, `\"zero\"`"), r#""hash""#, Reload,
        "In tunnel mode over IPv6 without UDP, the flow label: zero, the inner one, or one for each inner flow (RFC 6438), by which the path can tell them apart.";
    TFC = "tfc", r#""none", "mtu" or a whole number"#, Some(r#""none""#), r#""mtu""#, Reload,
        "In tunnel mode, how long packets are made, so that their length says less (RFC 4303 section 2.7): as long as they are, as the path takes, or a multiple of so many octets.";
    DUMMIES = "dummies", "a duration", Some("none"), r#""1s""#, Reload,
        "How long nothing is sent before a packet goes that carries nothing, and that nobody can tell from others (RFC 4303 section 2.6).";
    FRAGMENT = "fragment", r#""before" or "after""#, Some("`\"before\"`; in transport mode, `\"after\"`"), r#""before""#, Reload,
        "Where packets are cut that are too long and may be cut: before they are sealed, or after, so that the peer puts them together before it opens them (RFC 4301 section 8.2.1).";
    PMTU = "pmtu", r#""fixed", "learn" or "probe""#, Some(r#""learn""#), r#""learn""#, Reload,
        "How we learn that the path takes less than `mtu`. `fixed`: not at all. `learn`: where an ICMP error says so, which anybody can write, it is tried, and the answer believed. `probe`: it is tried from time to time as well, for paths that send no errors.";
    PMTU_FLOOR = "pmtu_floor", "a whole number", Some("1280"), "1280", Reload,
        "The length of inner packet that always fits, whatever is learnt: 576 to `mtu`.";
    PROBE = "probe", "a table", Some("inner hosts that were heard of lately"), r#"{ to = "10.2.0.1" }"#, Reload,
        "Between whom it is tried what the path takes; see `probe = { ... }`.";
    MSS_CLAMP = "mss_clamp", "true or false", Some("false"), "true", Reload,
        "Whether TCP connections are told, as they begin, to send segments that fit.";
    SELECTORS = "selectors", "a table or a list of tables", Some("everything between our own inner networks and those of the peer"), r#"[{ local = "10.1.0.0/24", remote = "10.2.0.0/24" }]"#, Reload,
        "The inner flows that it may carry, each a table of `local`, `remote`, `protocol`, `local_ports` and `remote_ports` as in `[[policy]]`; ports take a protocol here. Where one has no `local` or `remote`, it is our own inner networks, or those of the peer.";
    SOFT = "soft", "a table", Some("none"), "{ octets = 900_000_000_000, seconds = 79_200 }", Reload,
        "When a warning is given that its life ends: a table of bounds, each below that of `hard`.";
    HARD = "hard", "a table", Some("none"), "{ octets = 1_000_000_000_000, seconds = 86_400 }", Reload,
        "When its life ends: a table of bounds. Nothing replaces it by itself.";
}

table! {
    /// `ah`.
    mod ah: "peer.sa.", "ah = { ... }", "The AH of a bundle.";
    SUITE = "suite", "a string", None, r#""ah-hmac-sha-256""#, Reload,
        "Its integrity algorithm: a suite of AH.";
    INBOUND = "inbound", "a table", None, r#"{ spi = 0x2001, key_file = "ah-in.key" }"#, Reload,
        "The AH SA for what we receive, written like that of ESP. SPIs of AH and of ESP have nothing to do with each other.";
    OUTBOUND = "outbound", "a table", None, r#"{ spi = 0x2002, key_file = "ah-out.key" }"#, Reload,
        "The AH SA for what we send.";
}

table! {
    /// `probe`.
    mod probe: "peer.sa.", "probe = { ... }", "The inner ends of packets that try what a path takes: echo requests (RFC 792, RFC 4443).";
    FROM = "from", "an address", Some("an address of the TUN that the SA carries"), r#""10.1.0.1""#, Reload,
        "In whose name we ask. The answers are ours, and are not delivered.";
    TO = "to", "an address", None, r#""10.2.0.1""#, Reload,
        "Who answers: an inner address of the peer's that answers echo requests, such as its own.";
}

table! {
    /// `icmp`.
    mod icmp: "", "icmp = { ... }", "ICMP or ICMPv6 messages (RFC 4301 section 4.4.1.1).";
    TYPE = "type", "a number or a range of them", None, "8", Reload,
        "Their types, 0 to 255, as 8 or \"3-4\".";
    CODE = "code", "a number or a range of them", Some("any"), "0", Reload,
        "Their codes, of a single type: 0 to 255, as 0 or \"0-3\".";
}

table! {
    /// `inbound` and `outbound`.
    mod direction: "peer.sa.", "inbound = { ... }", "One SA of a pair.";
    SPI = "spi", "a whole number", None, "0x1001", Reload,
        "Its SPI, 256 to 4294967295, decimal or hexadecimal. No other SA of this direction has it.";
    KEY_FILE = "key_file", "a path", None, r#""in.key""#, Reload,
        "The file with its key in hexadecimal, relative to the folder of this file: a regular file, owned by the gateway's user or by root, that nobody else may read. No other SA has the same file, or the same key.";
}

table! {
    /// `soft` and `hard`.
    mod lifetime: "peer.sa.", "soft = { ... }", "Bounds of an SA's life; what is missing is no bound.";
    OCTETS = "octets", "a whole number", Some("none"), "1_000_000_000_000", Reload,
        "Octets that were encrypted.";
    PACKETS = "packets", "a whole number", Some("none"), "1_000_000_000", Reload,
        "Inner packets.";
    SECONDS = "seconds", "a whole number", Some("none"), "86_400", Reload,
        "Seconds since it was installed.";
    SINCE_FIRST_USE = "since_first_use", "a whole number", Some("none"), "28_800", Reload,
        "Seconds since it carried its first packet; an SA that is not used lasts.";
}

table! {
    /// `[[policy]]`.
    mod policy: "policy.", "[[policy]]", "A rule of the policy. The first that matches a packet decides; what none matches is discarded. Without any rule, everything between our own inner networks and those of each peer is protected.";
    ACTION = "action", r#""protect", "bypass" or "discard""#, None, r#""protect""#, Reload,
        "`protect`: by an SA, or dropped. `bypass`: in the clear, through the bypass port. `discard`: dropped.";
    NAME = "name", "a string", Some("none"), r#""office-b""#, Reload,
        "What it is called in what applications are told, and in JSON; without one it goes by its number.";
    PEER = "peer", "a string", Some("any"), r#""b.example""#, Reload,
        "The peer that a protect rule is about: its `identity` in `[[peer]]`.";
    LOCAL = "local", "an address range or a list of them", Some("any"), r#""10.1.0.0/24""#, Reload,
        "Addresses behind this gateway: prefixes, \"first-last\", or single addresses.";
    REMOTE = "remote", "an address range or a list of them", Some("what `peer` may claim, or any"), r#"["10.2.0.0/25", "10.2.0.200-10.2.0.207"]"#, Reload,
        "Addresses on the other side.";
    DIRECTION = "direction", r#""inbound" or "outbound""#, Some("both"), r#""outbound""#, Reload,
        "The direction of the packets.";
    .. flows { PROTOCOL, ICMP, LOCAL_PORTS, REMOTE_PORTS }
    .. latching { LATCH, MODEL, ON_CONFLICT, ON_POLICY_CHANGE, UNLATCHABLE, STICKY, APPLICATIONS }
}

table! {
    /// An entry of `selectors`.
    mod selector: "peer.sa.selectors.", "selectors = [{ ... }]", "Flows that an SA may carry.";
    LOCAL = "local", "an address range or a list of them", Some("our own inner networks"), r#""10.1.0.0/24""#, Reload,
        "Addresses behind this gateway.";
    REMOTE = "remote", "an address range or a list of them", Some("what the peer may claim"), r#""10.2.0.0/24""#, Reload,
        "Addresses behind the peer, within what it may claim.";
    .. flows { PROTOCOL, ICMP, LOCAL_PORTS, REMOTE_PORTS }
}

/// Every table, in the order of the manual.
pub static TABLES: [&Table; 13] = [
    &root::TABLE,
    &namespace::TABLE,
    &tun::TABLE,
    &latches::TABLE,
    &peer::TABLE,
    &sa::TABLE,
    &direction::TABLE,
    &ah::TABLE,
    &probe::TABLE,
    &lifetime::TABLE,
    &selector::TABLE,
    &icmp::TABLE,
    &policy::TABLE,
];
