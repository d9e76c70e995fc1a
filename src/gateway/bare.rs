//! `latchway run --tun NAME --listen ADDRESS`: a gateway without a file. Its policy is empty, so everything is discarded
//! until `latchway xfrm` says otherwise; addresses and routes of the TUN are for whoever runs it to give.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crossbeam::channel::{Receiver, bounded};
use latchway_config::Listen;
use latchway_control::Mode;
use latchway_datapath::low::tun::BackendChoice;
use latchway_datapath::prohibition::Answers;
use latchway_datapath::selector::AddressRange;
use latchway_guard::Lock;
use latchway_keying::{Pad, PadEntry, PeerPattern};
use latchway_netns::Namespace;
use latchway_tagging::{AuthMethod, Identity, PadEntryId};
use latchway_ulp_shim::Limits;

use crate::gateway::assemble::assemble;
use crate::gateway::configuration::ReloadError;
use crate::gateway::convert::SpecError;
use crate::gateway::daemon::{tell, told_of_record, watch_signals};
use crate::gateway::plan::{Plan, TunPlan, TunSettings};
use crate::gateway::ports::Ports;
use crate::gateway::records::Records;
use crate::gateway::running::{Asked, Running, Sockets};
use crate::gateway::serve::make_room_for_callers;
use crate::gateway::state::State;
use crate::gateway::{GatewayError, announce, configured, folders, harden};

/// What a gateway without a file is told.
#[derive(Debug, clap::Args)]
pub struct Bare {
    /// Run without a file, with this TUN: everything is discarded until `latchway xfrm` adds policies and states. Its
    /// addresses and routes are given by ip(8).
    #[arg(long, value_name = "NAME", requires = "listen")]
    tun: Option<String>,
    /// Where protected packets come to, for --tun; may be said several times.
    ///
    /// ADDRESS receives ESP and AH themselves, and ESP in UDP at port 4500; ADDRESS:PORT only ESP in UDP; native:ADDRESS only
    /// ESP and AH themselves.
    #[arg(long, value_name = "ADDRESS", requires = "tun")]
    listen: Vec<Listening>,
    /// What the gateway is called, for --tun; its control socket is in /run/latchway/NAME. That of the TUN where it is missing.
    #[arg(long, value_name = "NAME", requires = "tun", value_parser = label)]
    name: Option<String>,
    /// The network namespace where the TUN is, by name or path, for --tun.
    #[arg(long, value_name = "NAMESPACE", requires = "tun")]
    inner: Option<String>,
    /// The network namespace where protected packets are, by name or path, for --tun.
    #[arg(long, value_name = "NAMESPACE", requires = "tun")]
    outer: Option<String>,
    /// A TUN in the outer namespace, for --tun: the port by which packets leave and enter that policy lets pass in the clear.
    #[arg(long, value_name = "NAME", requires = "tun")]
    bypass: Option<String>,
    /// Where sequence numbers of counter-mode keys are on record, for --tun; `latchway enrol` makes it.
    #[arg(long, value_name = "FOLDER", requires = "tun", value_hint = clap::ValueHint::DirPath)]
    state_dir: Option<PathBuf>,
    /// Offer no socket to applications, for --tun.
    #[arg(long, requires = "tun")]
    no_app: bool,
}

/// What one --listen stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening(Vec<Listen>);

impl FromStr for Listening {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let native = text.strip_prefix("native:").and_then(|address| address.parse::<IpAddr>().ok());
        if let Some(address) = native {
            return single(address).map(|address| Self(vec![Listen::Native(address)]));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            let udp = SocketAddr::new(address, USUAL_PORT);
            return single(address).map(|address| Self(vec![Listen::Native(address), Listen::Udp(udp)]));
        }
        let address: SocketAddr =
            text.parse().map_err(|_| "say ADDRESS, ADDRESS:PORT or native:ADDRESS".to_owned())?;
        if address.port() == 0 {
            return Err("port 0 is any port, which no peer and no state could name; say which".to_owned());
        }
        single(address.ip()).map(|_| Self(vec![Listen::Udp(address)]))
    }
}

impl Bare {
    /// The name of the TUN, where there is to be a gateway without a file.
    pub const fn tun(&self) -> Option<&String> {
        self.tun.as_ref()
    }
}

/// Runs it until it is told to end.
///
/// # Errors
/// [`ReloadError`]
pub fn run(tun: &str, options: &Bare, control: Option<&Path>) -> Result<(), ReloadError> {
    Ok(run_bare(tun, options, control)?)
}

fn run_bare(tun: &str, options: &Bare, control: Option<&Path>) -> Result<(), GatewayError> {
    harden::keep_memory_private()?;
    make_room_for_callers()?;
    let plan = plan(tun, options)?;
    let usual = || Path::new(folders::RUN).join(&plan.name).join("control.sock");
    let control = control.map_or_else(usual, Path::to_path_buf);
    let app = (!options.no_app).then(|| configured::beside(&control));
    let sockets: Vec<PathBuf> = app.iter().chain([&control]).cloned().collect();
    folders::prepare(&sockets, None)?;
    if let Some(state) = options.state_dir.as_ref().filter(|state| !state.is_dir()) {
        return Err(GatewayError::NoState(state.clone()));
    }
    let _lock = Lock::tun(&plan.inner, tun)?;
    let ports = Ports::open(&plan)?;
    let folder = control.parent().map(Path::to_path_buf);
    let write = options.state_dir.clone().into_iter().chain(folder).collect();
    let hardened = harden::apply(&harden::Plan { write, sockets, ..harden::Plan::default() })?;
    tell(&format!("keeps {hardened}"));
    let (asked, questions) = bounded(QUESTIONS);
    watch_signals(asked.clone())?;
    let assembled = assemble(&plan, ports)?;
    let state = Arc::clone(&assembled.state);
    let records = records(options.state_dir.as_deref(), &state)?;
    let sockets = Sockets { control: &control, app: app.as_deref(), is_app_wanted: false };
    let running = Running::start(assembled, &sockets, asked)?;
    announce()?;
    let outcome = wait(&questions);
    drop(state);
    running.end()?;
    if let Some(Err(error)) = records.map(|records| records.close()) {
        tell(&error.to_string());
    }
    outcome
}

/// There is nothing to reload.
fn wait(questions: &Receiver<Asked>) -> Result<(), GatewayError> {
    loop {
        match questions.recv() {
            Ok(Asked::Reload) => tell(&ReloadError::NoFile.to_string()),
            Ok(Asked::Worker(Err(error))) => return Err(GatewayError::Worker(error)),
            Ok(Asked::End | Asked::Worker(Ok(()))) | Err(_) => return Ok(()),
        }
    }
}

fn records(folder: Option<&Path>, state: &State) -> Result<Option<Arc<Records>>, GatewayError> {
    let Some(folder) = folder else { return Ok(None) };
    let events = Arc::clone(state.events());
    let records = Arc::new(Records::open(folder, move |health| told_of_record(health, &events))?);
    state.xfrm().recorded_in(Arc::clone(&records));
    Ok(Some(records))
}

fn plan(tun: &str, options: &Bare) -> Result<Plan, GatewayError> {
    let listen: Vec<Listen> = options.listen.iter().flat_map(|listening| listening.0.clone()).collect();
    let own = listen.first().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Listen::ip);
    let identity = Identity::Address(own);
    let (inner, outer) = (namespace(options.inner.as_deref())?, namespace(options.outer.as_deref())?);
    let split = !inner.is_same(&outer);
    if options.bypass.is_some() && !split {
        return Err(GatewayError::OneNamespace);
    }
    Ok(Plan {
        name: options.name.clone().unwrap_or_else(|| tun.to_owned()),
        mode: if split { Mode::Split } else { Mode::Unguarded },
        exec: Vec::new(),
        inner,
        outer,
        tun: TunPlan {
            name: tun.to_owned(),
            backend: BackendChoice::Auto,
            persistent: false,
            // What the kernel gives a TUN stays, but for how much it sends at once.
            settings: Some(TunSettings { mtu: USUAL_MTU, addresses: Vec::new(), routes: Vec::new() }),
        },
        bypass: options.bypass.clone(),
        listen,
        pad: anybody(&identity)?,
        identity,
        rules: Vec::new(),
        limits: Limits::default(),
        audit: false,
        answers: Answers::default(),
    })
}

/// As a kernel has it: whoever has the key of a state is who its outer address says, and may claim whatever policy lets
/// the state carry.
pub fn anybody(local: &Identity) -> Result<Pad, SpecError> {
    let everywhere = [
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::BROADCAST)),
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::from_bits(u128::MAX))),
    ];
    let range = |(first, last): (IpAddr, IpAddr)| {
        AddressRange::new(first, last).map_err(|error| SpecError::Range(first.to_string(), error))
    };
    let ranges = everywhere.into_iter().map(range).collect::<Result<Vec<_>, _>>()?;
    let entry = |(number, (first, last)): (u32, (IpAddr, IpAddr))| PadEntry {
        id: PadEntryId(number),
        name: format!("xfrm-{}", if first.is_ipv4() { "ipv4" } else { "ipv6" }),
        peer: PeerPattern::Addresses { first, last },
        methods: vec![AuthMethod::Manual],
        standing: None,
        ranges: ranges.clone(),
        local: local.clone(),
    };
    Ok(Pad::new((0..).zip(everywhere).map(entry).collect())?)
}

fn namespace(name: Option<&str>) -> Result<Namespace, GatewayError> {
    Ok(match name {
        None => Namespace::current()?,
        Some(path) if path.contains('/') => Namespace::from_path(path)?,
        Some(name) => Namespace::from_path(Path::new("/run/netns").join(name))?,
    })
}

/// A name that is that of a folder, too.
fn label(name: &str) -> Result<String, String> {
    let fits = |octet: u8| octet.is_ascii_graphic() && octet != b'/';
    if name.is_empty() || name.starts_with('.') || name.len() > MOST_NAME || !name.bytes().all(fits) {
        return Err(format!(
            "the control socket is in a folder of that name: use 1 to {MOST_NAME} letters, digits and signs, no `/` and \
             no `.` in front; `--control PATH` puts the socket elsewhere"
        ));
    }
    Ok(name.to_owned())
}

/// States say by their addresses of which direction they are, so that each must be a single one.
fn single(address: IpAddr) -> Result<IpAddr, String> {
    if address.is_unspecified() || address.is_multicast() {
        Err("say one address of this host, once for each: states are told apart by it".to_owned())
    } else {
        Ok(address)
    }
}

/// Questions that may wait for the one who runs the gateway.
const QUESTIONS: usize = 16;

/// The path of a socket has room for it.
const MOST_NAME: usize = 64;

/// Of ESP in UDP (RFC 3948).
const USUAL_PORT: u16 = 4500;
const USUAL_MTU: u16 = 1500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_listened_on_as_it_is_said() {
        let read = |text: &str| text.parse::<Listening>().map(|listening| listening.0);
        let [v4, v6]: [IpAddr; 2] = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        let udp = |address: &str| Listen::Udp(address.parse().unwrap());
        assert_eq!(read("192.0.2.1"), Ok(vec![Listen::Native(v4), udp("192.0.2.1:4500")]));
        assert_eq!(read("2001:db8::1"), Ok(vec![Listen::Native(v6), udp("[2001:db8::1]:4500")]));
        assert_eq!(read("192.0.2.1:500"), Ok(vec![udp("192.0.2.1:500")]));
        assert_eq!(read("native:192.0.2.1"), Ok(vec![Listen::Native(v4)]));
        for wrong in ["0.0.0.0", "[::]:4500", "224.0.0.1", "somewhere", "native:somewhere", "192.0.2.1:0", ""]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_one_folder_under_run() {
        let long = "x".repeat(65);
        for wrong in ["", "a/b", "/etc", "..", ".", ".hidden", "a b", "a\n", &long] {
            assert!(label(wrong).is_err(), "{wrong:?}");
        }
        for good in ["lw0", "office-a", "Office_7.b", "a:b"] {
            assert_eq!(label(good).as_deref(), Ok(good));
        }
    }

    #[test]
    fn anybody_may_be_a_peer_by_hand_alone() {
        let pad = anybody(&Identity::Address("192.0.2.1".parse().unwrap())).unwrap();
        for peer in ["192.0.2.2", "2001:db8::2"] {
            let peer = Identity::Address(peer.parse().unwrap());
            assert!(pad.authorise(&peer, AuthMethod::Manual).is_ok());
            assert!(pad.authorise(&peer, AuthMethod::Certificate).is_err());
        }
    }
}
