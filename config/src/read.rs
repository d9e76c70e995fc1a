//! From text to a [`Config`]: every problem is found before one is reported, and what is read holds no contradiction.

mod ends;
mod latching;
pub mod peer;
mod place;
pub mod policy;
mod sa;
mod shape;
mod tun;
mod wire;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use latchway_esp::Protocol;
use latchway_tagging::{Identity, PeerPattern};
use toml::de::DeTable;

use crate::check;
use crate::document::{Entry, Problems, Scope};
use crate::model::{AppSocket, Applications, Config, LatchTerms, Place, StateDirectory};
use crate::problem::Report;
use crate::range::{AddressRange, merge};
use crate::read::wire::Said;
use crate::reference::{self, root};
use crate::value;

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What the gateway is told.
    pub config: Config,
    /// What someone should know, and what keeps nothing from being used.
    pub warnings: Report,
}

/// Reads a configuration. A gateway without a name is called `main`.
///
/// # Errors
/// Everything that is wrong with it, and the warnings with that. Where it is no TOML, what TOML has to say.
pub fn parse(text: &str) -> Result<Parsed, Report> {
    parse_named(text, DEFAULT_NAME)
}

/// Reads a configuration. A gateway without a name is called `default`, where that is fit for a name.
///
/// # Errors
/// As [`parse`].
pub fn parse_named(text: &str, default: &str) -> Result<Parsed, Report> {
    let mut problems = Problems::new(text);
    if text.len() > LONGEST {
        problems.error(0, "", "the file is larger than 1 MiB", "split what it says between several gateways");
        return Err(problems.into_report());
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(text.len(), |span| span.start);
        problems.error(at, "", format!("this is no TOML: {}", error.message()), "");
    }
    if !errors.is_empty() {
        return Err(problems.into_report());
    }
    let default = if value::is_name(default) { default } else { DEFAULT_NAME };
    let config = read(document.get_ref(), default, &mut problems);
    match config {
        Some(config) if problems.errors() == 0 => Ok(Parsed { config, warnings: problems.into_report() }),
        _ => Err(problems.into_report()),
    }
}

/// What is read of several places, to be compared once all are known.
#[derive(Default)]
pub struct Seen {
    /// By SPI, where the inbound SAs are.
    inbound: HashMap<(Protocol, u32), usize>,
    /// By peer and SPI, where the outbound SAs are.
    outbound: HashMap<(usize, Protocol, u32), usize>,
    /// Where the key files are named.
    key_files: HashMap<PathBuf, usize>,
    /// Where the peers' identities are, and the patterns of identities.
    identities: HashMap<PeerPattern, usize>,
    /// Where the address ranges among them are.
    ranges: Vec<(PeerPattern, usize)>,
    /// Which inner addresses are whose.
    claims: Vec<check::Claim>,
}

/// What is known of the gateway when its peers and policies are read.
pub struct Known<'k> {
    /// Who we are.
    identity: Option<&'k Identity>,
    /// Our own inner networks.
    networks: Option<Vec<AddressRange>>,
    /// The addresses of the TUN.
    own: Vec<IpAddr>,
    /// Where we listen.
    listen: &'k Said,
    /// Whether counter-mode suites are allowed; true where that is not known.
    counter_mode: bool,
    /// Whether policies latch by default.
    latch: bool,
    /// On which terms.
    terms: LatchTerms,
    /// What applications may ask for.
    applications: Applications,
}

fn read(document: &DeTable<'_>, default_name: &str, problems: &mut Problems<'_>) -> Option<Config> {
    let file = &Scope::new(&root::TABLE, String::new(), (document, 0), problems);
    let mut seen = Seen::default();
    let name = file.read_or(&root::NAME, default_name.to_owned(), problems, value::name);
    let identity =
        file.required(&root::IDENTITY, problems).and_then(|entry| value::identity(&entry, problems));
    let place = place::read(file, name.as_deref(), problems);
    let addresses = tun::addresses(file, &mut seen, problems);
    let exec = place::exec(file, &mut seen, problems);
    let tun = tun::read(file, addresses.clone().unwrap_or_default(), problems);
    let bypass_port = place::bypass_port(file, tun.as_ref(), problems);
    let latch = file.read_or(&reference::latching::LATCH, true, problems, Entry::flag);
    let terms = latching::terms(file, LatchTerms::default(), problems);
    let applications = latching::applications(file, Applications::Nothing, problems);
    let latches = latching::limits(file, problems);
    let state = state(file, problems);
    let control = file.read(&root::CONTROL, problems, value::path);
    let app = file.read_or(&root::APP, AppSocket::Beside, problems, value::app_socket);
    let metrics = file.read(&root::METRICS, problems, value::socket_address);
    let audit = file.read_or(&root::AUDIT, true, problems, Entry::flag);
    let answer_discard = file.read_or(&root::ANSWER_DISCARD, true, problems, Entry::flag);
    let user = file.read(&root::USER, problems, value::user);
    let listen = wire::listen(file, problems);

    let state_allows = |state: &Option<StateDirectory>| state.as_ref().is_some_and(|s| s.counter_mode_static);
    let known = Known {
        identity: identity.as_ref(),
        networks: addresses.as_deref().map(|addresses| networks(addresses, exec)),
        own: addresses.iter().flatten().map(IpNet::addr).collect(),
        listen: &listen,
        counter_mode: state.as_ref().is_none_or(state_allows),
        latch: latch.unwrap_or(true),
        terms: terms.unwrap_or_default(),
        applications: applications.unwrap_or_default(),
    };
    let peers = peer::read(file, &known, &mut seen, problems);
    let policies = policy::read(file, &known, &peers, problems);
    check::claims(seen.claims, problems);
    let host = matches!(place, Some(Place::Host { .. }));
    check::policies(&policies, &peers, host, problems);
    check::anybody(&policies, &peers, problems);
    check::bypass(&policies, file, problems);
    check::sockets(control.as_deref(), app.as_ref(), file, problems);
    if host {
        check::looping(&peers, problems);
    }
    if state == Some(None) {
        check::stateless(&peers, problems);
    }
    Some(Config {
        name: name?,
        identity: identity?,
        place: place?,
        tun: tun?,
        bypass_port,
        listen: listen.or_every(&peers),
        peers: peers.read.into_iter().map(|peer| peer.peer).collect(),
        policies: policies.read.into_iter().map(|policy| policy.policy).collect(),
        latch: latch?,
        terms: terms?,
        applications: applications?,
        latches,
        state: state?,
        control,
        app: app?,
        metrics,
        audit: audit?,
        answer_discard: answer_discard?,
        user,
        exec,
    })
}

/// Our own inner networks.
fn networks(addresses: &[IpNet], exec: Option<IpNet>) -> Vec<AddressRange> {
    merge(addresses.iter().copied().chain(exec).map(AddressRange::from).collect())
}

/// The state directory; `None` is a problem.
fn state(file: &Scope<'_>, problems: &mut Problems<'_>) -> Option<Option<StateDirectory>> {
    let counter_mode_static = file.read_or(&root::COUNTER_MODE_STATIC, false, problems, Entry::flag);
    let Some(path) = file.entry(&root::STATE) else {
        if let Some(entry) =
            file.entry(&root::COUNTER_MODE_STATIC).filter(|_| counter_mode_static == Some(true))
        {
            let hint = format!("name a folder: state = {}", root::STATE.example);
            entry.error(
                problems,
                "takes a state directory, without which numbers would come twice (T12)",
                hint,
            );
            return None;
        }
        return counter_mode_static.map(|_| None);
    };
    let path = value::path(&path, problems)?;
    Some(Some(StateDirectory { path, counter_mode_static: counter_mode_static? }))
}

const DEFAULT_NAME: &str = "main";
/// Of a configuration: a hundred bytes for each of ten thousand peers.
pub const LONGEST: usize = 1 << 20;
