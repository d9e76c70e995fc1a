//! Descriptions of two gateways that protect what passes between them, with fresh keys, for one run.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use ipnet::IpNet;
use latchway_control::{
    ActionSpec, ApplicationsSpec, FormSpec, GatewaySpec, LatchTermsSpec, LifetimeSpec, ModeSpec, PairSpec,
    PathSpec, PeerSpec, RuleSpec, SaSpec, Secret, SelectorSpec, TunBackendSpec, TunSpec, UsageSpec,
};
use latchway_esp::Suite;
use latchway_keying::ephemeral;

/// What `latchway describe` is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The folder for a.json and b.json, which hold the keys; it must exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// aes-128-gcm, aes-256-gcm or chacha20-poly1305.
    #[arg(long, default_value = "aes-128-gcm")]
    suite: String,
    /// The two outer addresses, with port.
    #[arg(long, num_args = 2, value_names = ["A", "B"], required = true)]
    outer: Vec<SocketAddr>,
    /// The two inner networks.
    #[arg(long, num_args = 2, value_names = ["A", "B"], required = true)]
    inner: Vec<IpNet>,
    /// The name of the TUN, at both.
    #[arg(long, default_value = "latchway0")]
    tun: String,
    /// One packet per system call, by the plain TUN backend.
    #[arg(long)]
    plain: bool,
    /// Accept that TUN and wire are in one namespace, where nothing guards the inner addresses (see docs/gateway.md).
    #[arg(long)]
    unguarded: bool,
    /// Protect, but do not latch connections.
    #[arg(long)]
    unlatched: bool,
}

/// Why there are no descriptions.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// No suite has this name.
    #[error("{0:?} is no suite; use aes-128-gcm, aes-256-gcm or chacha20-poly1305")]
    Suite(String),
    /// No fresh keys.
    #[error(transparent)]
    Keys(#[from] ephemeral::EphemeralError),
    /// A file could not be written.
    #[error("cannot write {path}: {source}; the folder must exist, and the file must not")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One end of the pair.
struct End<'o> {
    name: &'static str,
    outer: SocketAddr,
    inner: IpNet,
    options: &'o Options,
}

/// Writes a.json and b.json, readable by their owner alone.
///
/// # Errors
/// [`DescribeError`]
pub fn run(options: &Options) -> Result<(), DescribeError> {
    let suite: Suite = options.suite.parse().map_err(|_| DescribeError::Suite(options.suite.clone()))?;
    let (&[outer_a, outer_b], &[inner_a, inner_b]) = (options.outer.as_slice(), options.inner.as_slice())
    else {
        return Ok(());
    };
    let a = End { name: "a", outer: outer_a, inner: inner_a, options };
    let b = End { name: "b", outer: outer_b, inner: inner_b, options };
    let (to_b, to_a) = (fresh_sa(suite)?, fresh_sa(suite)?);
    write(&a, &gateway(&a, &b, pair(&a, &b, suite, (to_a.clone(), to_b.clone()))))?;
    write(&b, &gateway(&b, &a, pair(&b, &a, suite, (to_b, to_a))))
}

/// A fresh SPI and key.
///
/// # Errors
/// Where the system gives no random numbers.
pub fn fresh_sa(suite: Suite) -> Result<SaSpec, ephemeral::EphemeralError> {
    let (spi, key) = ephemeral::direction_octets(suite, |_| true)?;
    Ok(SaSpec { spi: spi.get(), key: Secret::new(hex::encode(key.as_slice())) })
}

fn gateway(end: &End<'_>, peer: &End<'_>, pair: PairSpec) -> GatewaySpec {
    let backend = if end.options.plain { TunBackendSpec::Plain } else { TunBackendSpec::Auto };
    GatewaySpec {
        name: end.name.into(),
        inner: None,
        outer: None,
        unguarded: end.options.unguarded,
        tun: TunSpec { name: end.options.tun.clone(), backend, mtu: None, addresses: vec![], routes: vec![] },
        listen: vec![end.outer.into()],
        identity: identity(end),
        peers: vec![PeerSpec { identity: identity(peer), inner: vec![peer.inner], methods: vec![] }],
        policy: vec![RuleSpec {
            selector: selector(end, peer),
            direction: None,
            action: ActionSpec::Protect,
            latch: !end.options.unlatched,
            terms: LatchTermsSpec::default(),
            applications: ApplicationsSpec::default(),
        }],
        sas: vec![pair],
        control: end.options.out.join(format!("{}.sock", end.name)),
        end_with_stdin: false,
    }
}

fn pair(end: &End<'_>, peer: &End<'_>, suite: Suite, (inbound, outbound): (SaSpec, SaSpec)) -> PairSpec {
    PairSpec {
        peer: identity(peer),
        mode: ModeSpec::Tunnel,
        suite: suite.name().into(),
        inbound,
        outbound,
        header: None,
        form: FormSpec::default(),
        esn: true,
        replay_window: 4096,
        path: PathSpec::udp(end.outer.ip(), peer.outer, 1500),
        selectors: vec![selector(end, peer)],
        soft: LifetimeSpec::default(),
        hard: LifetimeSpec::default(),
        usage: UsageSpec::Active,
    }
}

fn selector(end: &End<'_>, peer: &End<'_>) -> SelectorSpec {
    SelectorSpec::between(end.inner, peer.inner)
}

fn identity(end: &End<'_>) -> String {
    format!("{}.example", end.name)
}

fn write(end: &End<'_>, spec: &GatewaySpec) -> Result<(), DescribeError> {
    let path = end.options.out.join(format!("{}.json", end.name));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let json = zeroize::Zeroizing::new(serde_json::to_vec(spec)?);
        file.write_all(&json)
    };
    write().map_err(|source| DescribeError::Write { path: path.clone(), source })
}
