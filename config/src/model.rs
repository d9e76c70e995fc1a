//! What a gateway is told. A [`Config`] that was read from a file holds no contradiction: what a reader need not
//! check again is said with each field.

mod listen;
mod sa;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use latchway_tagging::{AuthMethod, Identity, PeerPattern};

use crate::range::{AddressRange, Selector};

pub use self::listen::Listen;
pub(crate) use self::listen::NATIVE;
pub use self::sa::{
    Df, Discovery, Dscp, Ecn, Encapsulation, FlowLabel, Fragment, Header, Hiding, KeyFile, Lifetime, Outer,
    Probe, Sa, SaDirection, Sizing, Tfc,
};

/// A gateway's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the gateway is called: fit to be a part of a path.
    pub name: String,
    /// Who we are to our peers.
    pub identity: Identity,
    /// The namespaces it stands in.
    pub place: Place,
    /// The device towards the inner hosts.
    pub tun: Tun,
    /// The TUN in the outer namespace through which BYPASS traffic leaves and enters; there where a policy says
    /// BYPASS.
    pub bypass_port: Option<String>,
    /// What the wire sockets are bound to: one to 16, none twice.
    pub listen: Vec<Listen>,
    /// The peers (RFC 4301 section 4.4.3, the PAD): each is spoken of by the first that may, and none in vain. No inner
    /// address is in two, unless both are shared.
    pub peers: Vec<Peer>,
    /// The policy (RFC 4301 section 4.4.1, the SPD), first match first.
    pub policies: Vec<Policy>,
    /// Whether PROTECT policies latch where they say nothing of it. Policies have it applied already.
    pub latch: bool,
    /// On which terms they do, where they say nothing of it. Policies have them applied already.
    pub terms: LatchTerms,
    /// What applications may ask for beyond a policy that says nothing of it. Policies have it applied already.
    pub applications: Applications,
    /// How many latches there may be, and for how long.
    pub latches: Latches,
    /// Where sequence numbers outlive the gateway; there where an SA has a counter-mode suite.
    pub state: Option<StateDirectory>,
    /// The operator's socket; `None` is the place that its clients look at.
    pub control: Option<PathBuf>,
    /// The socket of applications.
    pub app: AppSocket,
    /// Where metrics are offered; `None` is nowhere.
    pub metrics: Option<SocketAddr>,
    /// Whether auditable drops are logged.
    pub audit: bool,
    /// Whether inner senders are told that policy discards their packets.
    pub answer_discard: bool,
    /// The user to go on as once everything stands.
    pub user: Option<String>,
    /// Where the addresses of programs come from that are started behind the gateway. Part of our own networks.
    pub exec: Option<IpNet>,
}

/// Where applications ask about their sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AppSocket {
    /// Beside the operator's socket.
    #[default]
    Beside,
    /// Here.
    At(PathBuf),
    /// Nowhere.
    Nowhere,
}

impl Config {
    /// Our own inner networks: those of the TUN's addresses and of [`Config::exec`], without what lies in another.
    #[must_use]
    pub fn networks(&self) -> Vec<IpNet> {
        let networks = self.tun.addresses.iter().chain(&self.exec).map(IpNet::trunc).collect();
        IpNet::aggregate(&networks)
    }

    /// Every prefix that must not be met in the clear: what any peer may claim.
    #[must_use]
    pub fn protected(&self) -> Vec<IpNet> {
        IpNet::aggregate(&self.peers.iter().flat_map(|peer| peer.inner.iter().copied()).collect())
    }

    /// The peer, or the kind of peers, that is called so.
    #[must_use]
    pub fn peer(&self, identity: &PeerPattern) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.identity == *identity)
    }
}

/// The namespaces of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The TUN in one namespace, the wire sockets in another.
    Split {
        /// Where the inner hosts are.
        inner: NamespaceRef,
        /// Where the wire is. Not the inner one.
        outer: NamespaceRef,
    },
    /// Both in the namespace of the process.
    Host {
        /// What keeps clear packets from the inner addresses.
        guard: Guard,
    },
}

/// What keeps clear packets from the inner addresses where inner and outer namespace are one (T16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Rules and routes that the gateway installs.
    #[default]
    Install,
    /// Rules and routes that are there already, installed by someone with the privilege to; the gateway looks.
    Preset,
}

/// Which network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamespaceRef {
    /// That of the process.
    Own,
    /// `/run/netns/NAME`, made if it is not there.
    Named(String),
    /// The one that this file stands for.
    Path(PathBuf),
    /// The one that this process is in.
    Pid(u32),
}

/// The device towards the inner hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tun {
    /// Its name: fit for an interface.
    pub name: String,
    /// How it is driven.
    pub backend: Backend,
    /// Its MTU; `None` is what the paths leave.
    pub mtu: Option<u16>,
    /// Its addresses, with the prefix of their network.
    pub addresses: Vec<IpNet>,
    /// Someone else made it: it is not made, and its addresses and routes are left as they are.
    pub premade: bool,
    /// It stays when the gateway goes, so that traffic has nowhere else to go (T13).
    pub persistent: bool,
}

/// How the TUN is driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// Super-packets where the kernel can.
    #[default]
    Auto,
    /// Super-packets, or fail.
    Offload,
    /// One packet per system call.
    Plain,
}

/// An entry of the PAD (RFC 4301 section 4.4.3), with the SAs that were agreed upon by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is, or what kind of peers it is; one identity alone where it has SAs.
    pub identity: PeerPattern,
    /// How such a peer may prove its identity (RFC 4301 section 4.4.3.2), each once, in the order of standing. By hand is
    /// among them where it has SAs.
    pub methods: Vec<AuthMethod>,
    /// The highest standing that it has, however it proves itself.
    pub standing: Option<AuthMethod>,
    /// Where it is reached; there where it has SAs, and we listen on an address of its family.
    pub endpoint: Option<SocketAddr>,
    /// The inner addresses that it may claim (T15).
    pub inner: Vec<IpNet>,
    /// Others that are shared, too, may claim them as well: one after the other uses them.
    pub shared: bool,
    /// The SAs with it, in pairs.
    pub sas: Vec<Sa>,
}

/// A place in the text of a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line; the first is 1.
    pub line: usize,
    /// The column, in characters; the first is 1.
    pub column: usize,
}

/// A rule of the SPD (RFC 4301 section 4.4.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// What it is called, where it has a name.
    pub name: Option<String>,
    /// The flows it speaks of.
    pub selector: Selector,
    /// The direction it speaks of; `None` is both.
    pub direction: Option<Direction>,
    /// What it wants.
    pub action: Action,
    /// Whether a PROTECT rule latches connections; false where the action is another.
    pub latch: bool,
    /// On which terms it does; the usual ones where it does not.
    pub terms: LatchTerms,
    /// What applications may ask for beyond it; nothing where it discards.
    pub applications: Applications,
    /// The peer that a PROTECT rule is about; its ranges were the selector's where it named none.
    pub peer: Option<PeerPattern>,
}

/// The terms on which connections are latched (draft-ietf-btns-connection-latching-04).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LatchTerms {
    /// What counts as a conflict.
    pub model: Model,
    /// What becomes of a connection whose addresses another peer claims (L-109, L-110).
    pub on_conflict: OnConflict,
    /// What becomes of a latch that a change of policy would alter (L-76).
    pub on_policy_change: OnPolicyChange,
    /// What becomes of a connection that cannot be latched (L-81, L-83).
    pub unlatchable: Unlatchable,
    /// Whether a UDP flow that is idle for too long stays latched for as long as a socket has it.
    pub sticky: bool,
}

/// What counts as a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Model {
    /// An SA that covers a latched flow (section 2.1).
    #[default]
    Strict,
    /// A packet alone (section 2.2).
    Tag,
}

/// What becomes of a latched connection whose addresses another peer claims (section 2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnConflict {
    /// It ends.
    #[default]
    Terminate,
    /// It stands, and the newcomer's packets are dropped.
    DropNewcomer,
    /// It stands, and the newcomer's SA is refused.
    RejectNewcomer,
    /// It is suspended until the conflict is gone.
    Wait,
}

/// What becomes of a latch that a change of policy would alter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnPolicyChange {
    /// It breaks.
    #[default]
    Break,
    /// It stands.
    Preserve,
}

/// What becomes of a connection that cannot be latched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unlatchable {
    /// It does not come about.
    #[default]
    Refuse,
    /// It passes without a latch.
    Pass,
}

/// What applications may ask for beyond a policy (section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Applications {
    /// Nothing (L-36).
    #[default]
    Nothing,
    /// More protection, or a certain peer (L-111).
    More,
    /// That, and for privileged ones traffic in the clear (L-112).
    Bypass,
}

/// How many latches there may be, and for how long: within what RFC 4787 and RFC 5382 want. What says nothing is left to the
/// gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latches {
    /// Flows at a time.
    pub capacity: Option<u32>,
    /// Those of them that only one side has spoken on. Not more than the capacity.
    pub half_open: Option<u32>,
    /// Those of one peer. Not more than all.
    pub half_open_per_peer: Option<u32>,
    /// Seconds for which an idle UDP flow is remembered.
    pub udp_idle: Option<u64>,
    /// Seconds for which an idle TCP connection is remembered.
    pub tcp_idle: Option<u64>,
    /// Seconds for which a latch waits for its SA.
    pub larval: Option<u64>,
}

/// A direction, seen from the inner hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the wire.
    Inbound,
    /// To the wire.
    Outbound,
}

/// PROTECT, BYPASS or DISCARD (RFC 4301 section 4.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// ESP, and nothing less.
    Protect,
    /// In the clear.
    Bypass,
    /// Not at all.
    Discard,
}

/// Where sequence numbers outlive the gateway (T12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDirectory {
    /// The folder, relative to that of the configuration.
    pub path: PathBuf,
    /// The operator takes it upon them to use counter-mode suites with keys from files, against RFC 8221 section 3.
    pub counter_mode_static: bool,
}

impl NamespaceRef {
    /// The file that stands for the namespace; `None` is our own.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Own => None,
            Self::Named(name) => Some(Path::new("/run/netns").join(name)),
            Self::Path(path) => Some(path.clone()),
            Self::Pid(pid) => Some(PathBuf::from(format!("/proc/{pid}/ns/net"))),
        }
    }
}

impl Peer {
    /// What it may claim, as ranges.
    #[must_use]
    pub fn ranges(&self) -> Vec<AddressRange> {
        self.inner.iter().map(|&prefix| prefix.into()).collect()
    }
}
