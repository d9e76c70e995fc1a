//! Verbs that change a gateway by hand: SAs and policy.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueHint};
use latchway_control::call::AddRule;
use latchway_control::{
    ActionSpec, ApplicationsSpec, ConflictSpec, DirectionSpec, EncapsulationSpec, FormSpec, IcmpSpec,
    LatchTermsSpec, LifetimeSpec, MessagesSpec, ModeSpec, ModelSpec, PairSpec, PathSpec, PolicyChangeSpec,
    PortsSpec, RangeSpec, RuleSpec, SaSpec, Secret, SelectorSpec, UnlatchableSpec, UsageSpec,
};
use latchway_esp::Suite;

use crate::cli::ask::Form;
use crate::cli::failure::Failure;
use crate::cli::packet::protocol_number;
use crate::cli::secret;

/// What `latchway sa add` is told.
#[derive(Debug, Args)]
pub struct PairOptions {
    /// A pair as org.latchway.Control.AddPair takes it, in JSON and with its keys; `-` is standard input.
    #[arg(value_hint = ValueHint::FilePath, conflicts_with_all = ["Flags", "Narrower"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: Option<Flags>,
    #[command(flatten)]
    narrower: Narrower,
    #[command(flatten)]
    pub form: Form,
}

#[derive(Debug, Args)]
struct Flags {
    /// The identity of the peer.
    #[arg(long, value_name = "IDENTITY", required = false, required_unless_present = "file")]
    peer: String,
    /// How packets are protected.
    #[arg(long, required = false, required_unless_present = "file", value_parser = suites())]
    suite: Suite,
    /// The SPI of what we receive, as 0x1001 or 4097.
    #[arg(long, value_name = "SPI", required = false, required_unless_present = "file", value_parser = spi)]
    inbound_spi: u32,
    /// The file with the key of what we receive, in hexadecimal; `-` is standard input. Where both are `-`, the
    /// inbound key comes first, each on a line of its own.
    #[arg(long, value_name = "FILE", required = false, required_unless_present = "file", value_hint = ValueHint::FilePath)]
    inbound_key: PathBuf,
    /// The SPI of what we send.
    #[arg(long, value_name = "SPI", required = false, required_unless_present = "file", value_parser = spi)]
    outbound_spi: u32,
    /// The file with the key of what we send.
    #[arg(long, value_name = "FILE", required = false, required_unless_present = "file", value_hint = ValueHint::FilePath)]
    outbound_key: PathBuf,
    /// Our address: one that the gateway listens on.
    #[arg(long, value_name = "ADDRESS", required = false, required_unless_present = "file")]
    from: IpAddr,
    /// The peer's address and UDP port.
    #[arg(long, value_name = "ADDRESS:PORT", required = false, required_unless_present = "file")]
    to: SocketAddr,
    /// The largest outer IP packet.
    #[arg(long, value_name = "OCTETS", default_value = "1500")]
    mtu: u16,
    /// Sequence numbers of 32 bits, not 64.
    #[arg(long)]
    no_esn: bool,
    /// The size of the replay window in packets; 0 turns the check off.
    #[arg(long, value_name = "PACKETS", default_value = "4096")]
    replay_window: u32,
    /// The pair ends after so many octets.
    #[arg(long, value_name = "OCTETS")]
    hard_octets: Option<u64>,
    /// The pair ends after so many packets.
    #[arg(long, value_name = "PACKETS")]
    hard_packets: Option<u64>,
    /// The pair ends after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    hard_seconds: Option<u64>,
    /// The pair ends so many seconds after its first packet.
    #[arg(long, value_name = "SECONDS")]
    hard_use_seconds: Option<u64>,
    /// Protect whole packets, or the payload of those between both addresses.
    #[arg(long, default_value = "tunnel", value_parser = words(ModeSpec::ALL, ModeSpec::name))]
    mode: ModeSpec,
    /// Send in UDP, or as an IP protocol of its own, for which the port of `--to` says nothing.
    #[arg(long, default_value = "udp", value_parser = words(EncapsulationSpec::ALL, EncapsulationSpec::name))]
    encapsulation: EncapsulationSpec,
    /// Send to where the peer's newest packet came from.
    #[arg(long)]
    follow: bool,
    /// Keep TCP connections to segments that fit.
    #[arg(long)]
    mss_clamp: bool,
    /// Receive only, until a commit activates the pair.
    #[arg(long)]
    standby: bool,
    /// Addresses behind this gateway: prefixes, addresses or ranges, as 10.1.0.0/24,10.1.2.1-10.1.2.9.
    #[arg(
        long,
        value_name = "RANGES",
        required = false,
        required_unless_present = "file",
        value_delimiter = ','
    )]
    local: Vec<RangeSpec>,
    /// Addresses behind the peer.
    #[arg(
        long,
        value_name = "RANGES",
        required = false,
        required_unless_present = "file",
        value_delimiter = ','
    )]
    remote: Vec<RangeSpec>,
}

/// What selects fewer flows than addresses do.
#[derive(Debug, Args)]
struct Narrower {
    /// The upper-layer protocol by name or number; any where it is missing.
    #[arg(long, value_parser = protocol)]
    protocol: Option<u8>,
    /// ICMP messages by their types or one type's codes, as 8, 3-4, 3/0-3, or `opaque` for what is none; any where they are
    /// missing. Takes a protocol.
    #[arg(long, value_name = "TYPES", value_parser = icmp)]
    icmp: Option<IcmpSpec>,
    /// Local ports, as 80 or 80,8000-8080, or `opaque` for what shows none; any where they are missing.
    #[arg(long, value_name = "PORTS", value_parser = ports)]
    local_ports: Option<PortsSpec>,
    /// Remote ports, in the same way.
    #[arg(long, value_name = "PORTS", value_parser = ports)]
    remote_ports: Option<PortsSpec>,
}

/// What `latchway policy add` is told.
#[derive(Debug, Args)]
pub struct RuleOptions {
    /// What becomes of packets: ESP and nothing less, in the clear, or nothing.
    #[arg(value_parser = words(ActionSpec::ALL, ActionSpec::name))]
    action: ActionSpec,
    /// Addresses behind this gateway: prefixes, addresses or ranges, as 10.1.0.0/24,10.1.2.1-10.1.2.9.
    #[arg(long, value_name = "RANGES", required = true, value_delimiter = ',')]
    local: Vec<RangeSpec>,
    /// Addresses behind the peer.
    #[arg(long, value_name = "RANGES", required = true, value_delimiter = ',')]
    remote: Vec<RangeSpec>,
    #[command(flatten)]
    narrower: Narrower,
    /// The direction it speaks of; both where it is missing.
    #[arg(long, value_parser = words(DirectionSpec::ALL, DirectionSpec::name))]
    direction: Option<DirectionSpec>,
    /// Do not latch connections under this rule; for `protect`.
    #[arg(long)]
    unlatched: bool,
    /// What counts as a conflict with a latch: an SA that covers its connection, or a packet alone.
    #[arg(long, default_value = "strict", value_parser = words(ModelSpec::ALL, ModelSpec::name))]
    model: ModelSpec,
    /// What becomes of a latched connection whose addresses another peer claims.
    #[arg(long, default_value = "terminate", value_parser = words(ConflictSpec::ALL, ConflictSpec::name))]
    on_conflict: ConflictSpec,
    /// What becomes of a latch that a change of policy would alter.
    #[arg(long, default_value = "break", value_parser = words(PolicyChangeSpec::ALL, PolicyChangeSpec::name))]
    on_policy_change: PolicyChangeSpec,
    /// What becomes of a connection that cannot be latched.
    #[arg(long, default_value = "refuse", value_parser = words(UnlatchableSpec::ALL, UnlatchableSpec::name))]
    unlatchable: UnlatchableSpec,
    /// Keep an idle UDP flow latched for as long as a socket has it.
    #[arg(long)]
    sticky: bool,
    /// What applications may ask for beyond the rule.
    #[arg(long, default_value = "nothing", value_parser = words(ApplicationsSpec::ALL, ApplicationsSpec::name))]
    applications: ApplicationsSpec,
    /// The number of the rule that it is to stand before; otherwise it stands behind the rules made by hand, which
    /// stand before those of the configuration.
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    #[command(flatten)]
    pub form: Form,
}

impl PairOptions {
    /// The pair, with its keys.
    ///
    /// # Errors
    /// Where the keys cannot be read, or the file is no description of a pair.
    pub fn pair(&self) -> Result<PairSpec, Failure> {
        match (&self.flags, &self.file) {
            (Some(flags), _) => flags.pair(&self.narrower),
            (None, Some(path)) => {
                let text = secret::read_all(path)?;
                serde_json::from_slice(&text).map_err(|error| {
                    let what = format!("{} describes no pair of SAs: {error}", path.display());
                    Failure::new(
                        what,
                        "see docs/cli.md, or give the parts as flags: `latchway sa add --help`",
                    )
                })
            }
            (None, None) => Err(Failure::new("no pair was given", "see `latchway sa add --help`")),
        }
    }
}

impl Flags {
    fn pair(&self, narrower: &Narrower) -> Result<PairSpec, Failure> {
        let [inbound, outbound] = secret::read_pair(&self.inbound_key, &self.outbound_key)?;
        let sa = |spi, key: &str| SaSpec { spi, key: Secret::new(key.to_owned()) };
        Ok(PairSpec {
            peer: self.peer.clone(),
            suite: self.suite.name().into(),
            inbound: sa(self.inbound_spi, &inbound),
            outbound: sa(self.outbound_spi, &outbound),
            esn: !self.no_esn,
            replay_window: self.replay_window,
            mode: self.mode,
            header: None,
            form: FormSpec { follow: self.follow, mss_clamp: self.mss_clamp, ..FormSpec::default() },
            path: PathSpec {
                encapsulation: self.encapsulation,
                ..PathSpec::udp(self.from, self.to, self.mtu)
            },
            selectors: vec![narrower.selector(&self.local, &self.remote)],
            soft: LifetimeSpec::default(),
            hard: LifetimeSpec {
                octets: self.hard_octets,
                packets: self.hard_packets,
                milliseconds: self.hard_seconds.map(|seconds| seconds.saturating_mul(1000)),
                milliseconds_since_first_use: self
                    .hard_use_seconds
                    .map(|seconds| seconds.saturating_mul(1000)),
            },
            usage: if self.standby { UsageSpec::Standby } else { UsageSpec::Active },
        })
    }
}

impl Narrower {
    fn selector(&self, local: &[RangeSpec], remote: &[RangeSpec]) -> SelectorSpec {
        SelectorSpec {
            local: local.into(),
            remote: remote.into(),
            protocol: self.protocol,
            icmp: self.icmp,
            local_ports: self.local_ports.clone(),
            remote_ports: self.remote_ports.clone(),
        }
    }
}

impl RuleOptions {
    /// The call that adds the rule.
    pub fn call(&self) -> AddRule {
        let rule = RuleSpec {
            selector: self.narrower.selector(&self.local, &self.remote),
            direction: self.direction,
            action: self.action,
            latch: self.action == ActionSpec::Protect && !self.unlatched,
            terms: LatchTermsSpec {
                model: self.model,
                on_conflict: self.on_conflict,
                on_policy_change: self.on_policy_change,
                unlatchable: self.unlatchable,
                sticky: self.sticky,
            },
            applications: self.applications,
        };
        AddRule { rule, before: self.before }
    }
}

/// One word of a closed set, which completions then know.
pub fn words<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(move |&word| name(word)))
        .try_map(move |text| all.iter().copied().find(|&word| name(word) == text).ok_or("no such word"))
}

/// The name of a suite.
pub fn suites() -> impl TypedValueParser<Value = Suite> {
    PossibleValuesParser::new(Suite::all().map(Suite::name)).try_map(|text| text.parse::<Suite>())
}

/// An SPI, in either way of writing.
fn spi(text: &str) -> Result<u32, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let number = number.filter(|number| *number > RESERVED);
    number.ok_or_else(|| {
        format!("an SPI is a number from {} to 0xffffffff; those below are reserved", RESERVED + 1)
    })
}

/// A protocol by name or number.
pub fn protocol(text: &str) -> Result<u8, String> {
    protocol_number(text).map_err(|error| error.to_string())
}

fn ports(text: &str) -> Result<PortsSpec, String> {
    if text == OPAQUE {
        return Ok(PortsSpec::OPAQUE);
    }
    let ranges = text.split(',').map(range).collect::<Option<Vec<_>>>();
    match ranges.as_deref() {
        None => {
            Err("write a port, as 80, first and last, as 8000-8080, several, as 80,8000-8080, or `opaque`"
                .into())
        }
        Some(&[(first, last)]) => Ok(PortsSpec::Between(first, last)),
        Some(several) => Ok(PortsSpec::Several(several.into())),
    }
}

fn icmp(text: &str) -> Result<IcmpSpec, String> {
    if text == OPAQUE {
        return Ok(IcmpSpec::OPAQUE);
    }
    let (types, codes) = text.split_once('/').unwrap_or((text, "0-255"));
    let messages = range(types).zip(range(codes)).map(|(types, codes)| MessagesSpec { types, codes });
    let messages = messages.map(IcmpSpec::Messages);
    messages.ok_or_else(|| "write a type, as 8, types, as 3-4, a type's codes, as 3/0-3, or `opaque`".into())
}

/// First and last, or one number.
fn range<T: FromStr + PartialOrd>(text: &str) -> Option<(T, T)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    first.parse().ok().zip(last.parse().ok()).filter(|(first, last)| first <= last)
}

/// What cannot be seen (RFC 4301 4.4.1).
const OPAQUE: &str = "opaque";

/// The last reserved SPI (RFC 4303 2.1).
const RESERVED: u32 = 255;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Pairs {
        #[command(flatten)]
        options: PairOptions,
    }

    #[derive(Debug, Parser)]
    struct Rules {
        #[command(flatten)]
        options: RuleOptions,
    }

    fn pair(words: &str) -> Result<PairOptions, String> {
        let words = std::iter::once("add").chain(words.split_whitespace());
        Pairs::try_parse_from(words).map(|parsed| parsed.options).map_err(|error| error.to_string())
    }

    fn rule(words: &str) -> Result<RuleOptions, String> {
        let words = std::iter::once("add").chain(words.split_whitespace());
        Rules::try_parse_from(words).map(|parsed| parsed.options).map_err(|error| error.to_string())
    }

    const FLAGS: &str = "--peer b.example --suite aes-128-gcm --inbound-spi 0x1001 --outbound-spi 4098 --from 192.0.2.1 \
                         --to 192.0.2.2:4500 --local 10.1.0.0/24 --remote 10.2.0.1 --hard-seconds 60 --no-esn";

    #[test]
    fn a_pair_comes_from_flags_with_its_keys_from_files() {
        let path = std::env::temp_dir().join(format!("latchway-add-{}", std::process::id()));
        fs::write(&path, "c0ffee\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let keys = format!("--inbound-key {0} --outbound-key {0}", path.display());
        let made = pair(&format!("{FLAGS} {keys}")).unwrap().pair().unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!((made.inbound.spi, made.outbound.spi), (0x1001, 4098));
        assert_eq!((made.inbound.key.expose(), made.esn, made.replay_window), ("c0ffee", false, 4096));
        assert_eq!(made.selectors[0].remote, ["10.2.0.1/32".parse().unwrap()]);
        assert_eq!(made.hard.milliseconds, Some(60_000));
        assert!(!format!("{made:?}").contains("c0ffee"), "T40");
    }

    #[test]
    fn a_pair_comes_from_a_file_alone_or_from_all_flags() {
        assert!(pair("pair.json").is_ok());
        assert!(pair("pair.json --json").is_ok());
        let missing = pair("--peer b.example").unwrap_err();
        for flag in
            ["--suite", "--inbound-spi", "--inbound-key", "--outbound-key", "--from", "--to", "--local"]
        {
            assert!(missing.contains(flag), "{flag}: {missing}");
        }
        assert!(pair("").is_err());
        assert!(pair("pair.json --peer b.example").unwrap_err().contains("cannot be used with"));
    }

    #[test]
    fn bad_values_say_what_is_expected() {
        for (flags, says) in [
            ("--inbound-spi 255", "reserved"),
            ("--inbound-spi 0x1_0", "an SPI is a number"),
            ("--suite rot13", "aes-128-gcm"),
            ("--local 10.1.0.0/33", "write a prefix"),
            ("--protocol tpc", "no protocol"),
            ("--protocol tcp --local-ports 90-80", "first and last"),
            ("--remote-ports 80,opaque", "`opaque`"),
            ("--icmp 3/0-256", "a type's codes"),
        ] {
            let error = pair(flags).unwrap_err();
            assert!(error.contains(says), "{flags}: {error}");
        }
    }

    /// T40: what a file holds instead of a pair is not quoted.
    #[test]
    fn t40_a_bad_file_is_not_quoted() {
        let path = std::env::temp_dir().join(format!("latchway-bad-pair-{}", std::process::id()));
        fs::write(
            &path,
            r#"{"peer":"b","suite":"aes-128-gcm","inbound":{"spi":"c0ffee00c0ffee00","key":"c0ffee01"}}"#,
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = format!("{:?}", pair(path.to_str().unwrap()).unwrap().pair().unwrap_err());
        fs::remove_file(&path).unwrap();
        assert!(!error.contains("c0ffee") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn a_rule_comes_from_flags() {
        let call = rule(
            "discard --local 10.1.0.0/24 --remote 10.2.0.0/24 --protocol tcp --remote-ports 80 --before 3",
        )
        .unwrap()
        .call();
        assert_eq!((call.before, call.rule.action, call.rule.latch), (Some(3), ActionSpec::Discard, false));
        let ports = Some(PortsSpec::Between(80, 80));
        assert_eq!((call.rule.selector.protocol, call.rule.selector.remote_ports), (Some(6), ports));
        let call = rule("protect --local fd01::/64 --remote fd02::/64 --direction inbound").unwrap().call();
        assert_eq!((call.rule.direction, call.rule.latch), (Some(DirectionSpec::Inbound), true));
        let call = rule(
            "bypass --local 10.1.0.0/24,10.1.2.1-10.1.2.9 --local fd01::/64 --remote 10.2.0.1,fd02::/64 --protocol icmp --icmp 3/0-3",
        );
        let SelectorSpec { local, remote, icmp, .. } = call.unwrap().call().rule.selector;
        assert_eq!((local.len(), remote[0].to_string()), (3, "10.2.0.1".to_owned()));
        assert_eq!(icmp, Some(IcmpSpec::Messages(MessagesSpec { types: (3, 3), codes: (0, 3) })));
        let call = rule(
            "discard --local 0.0.0.0/0 --remote 0.0.0.0/0 --local-ports opaque --remote-ports 22,80-90 --icmp 8",
        );
        let SelectorSpec { local_ports, remote_ports, icmp, .. } = call.unwrap().call().rule.selector;
        assert_eq!(local_ports, Some(PortsSpec::OPAQUE));
        assert_eq!(remote_ports, Some(PortsSpec::Several(vec![(22, 22), (80, 90)])));
        assert_eq!(icmp, Some(IcmpSpec::Messages(MessagesSpec { types: (8, 8), codes: (0, 255) })));
        assert!(rule("drop --local 10.1.0.0/24 --remote 10.2.0.0/24").unwrap_err().contains("discard"));
        assert!(rule("protect --local 10.1.0.0/24").unwrap_err().contains("--remote"));
    }
}
