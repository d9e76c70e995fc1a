//! The verbs that talk to a running gateway, over its control socket.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use latchway_control::call::{
    DeletePair, DeleteRule, Drops, Flows, Latches, Mtu, Peers, Policies, Reload, Sas, Status,
};
use latchway_control::{CloseLatch, GoneSpec, InquireLatch, PeerGoneSpec, ReleaseLatch};

use crate::cli::ask::{ExplainOptions, Form, ListOptions, change, list, show};
use crate::cli::change::{PairOptions, RuleOptions, words};
use crate::cli::failure::Failure;
use crate::cli::{capture, events, keys, latch, prove, top, whois, xfrm};

/// What to say to a gateway.
#[derive(Debug, Subcommand)]
pub enum Talk {
    /// Read the configuration again, and apply what differs: all of it or nothing.
    Reload {
        /// Only say what would change.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Show how a gateway is and what it moved.
    Status(Form),
    /// Security associations.
    #[command(subcommand)]
    Sa(SaVerb),
    /// The policy.
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Peers.
    #[command(subcommand)]
    Peer(PeerVerb),
    /// Latches.
    #[command(subcommand)]
    Latch(LatchVerb),
    /// Flows.
    #[command(subcommand)]
    Flow(FlowVerb),
    /// Show what a gateway dropped, and why.
    Drops(Form),
    /// Print what happens, as it happens, one line each.
    Events(events::Options),
    /// Say what would become of a packet: which policy, SA, latch and MTU it would meet, and why.
    Explain(ExplainOptions),
    /// How long packets may be.
    #[command(subcommand)]
    Mtu(MtuVerb),
    /// Say who is on the other end of a connection, and what binds it to them.
    Whois(whois::Options),
    /// Say of every socket of a process whether it is latched, and succeed if all that leave the host are.
    Prove(prove::Options),
    /// Keys of SAs, for who dissects captures.
    #[command(subcommand)]
    Keys(keys::KeysVerb),
    /// Write packets on both sides of the transform, with what became of each, into a file that Wireshark opens.
    Capture(capture::Options),
    /// Say to a gateway what ip-xfrm(8) says to a kernel: states and policies, in its grammar.
    Xfrm(xfrm::Options),
    /// Watch a gateway: peers, SAs, flows, drops, and how fast they move.
    Top(top::Options),
}

#[derive(Debug, Subcommand)]
pub enum SaVerb {
    /// List the SAs, two of a pair after each other.
    List(ListOptions),
    /// Add a pair of SAs by hand.
    ///
    /// From a file that describes it, or from flags. Keys come from files of mode 0600 or from standard input, never
    /// from the command line. A reload leaves the pair alone.
    Add(Box<PairOptions>),
    /// Remove a pair of SAs.
    Delete {
        /// The number of the pair, as `latchway sa list` shows it.
        pair: u64,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
pub enum MtuVerb {
    /// Say how long the packets to a peer may be: the sum of headers, padding and check values, for each SA.
    Explain {
        /// The identity of the peer, or its name in the configuration.
        peer: String,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
pub enum PolicyVerb {
    /// List the rules in their order: the first that matches decides.
    List(ListOptions),
    /// Add a rule by hand. A reload leaves it alone.
    Add(RuleOptions),
    /// Remove a rule.
    Delete {
        /// The number of the rule, as `latchway policy list` shows it.
        number: u64,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
pub enum PeerVerb {
    /// List the peers, what each may claim, and what they moved.
    List(ListOptions),
    /// Say that a peer is gone: its latches break, and its pairs are removed.
    Gone {
        /// The identity of the peer.
        #[arg(value_name = "IDENTITY")]
        peer: String,
        /// How that is known.
        #[arg(long, default_value = "dead", value_parser = words(GoneSpec::ALL, GoneSpec::name))]
        reason: GoneSpec,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
pub enum LatchVerb {
    /// List the latches.
    List(ListOptions),
    /// Latch what will connect to an address and port of ours, with what it must have.
    ///
    /// The latch is this verb's: it stays, prints what becomes of it and of the connections it lets in, and gives it up when it
    /// is ended by a signal. With --owner it belongs to a process instead, and the verb ends at once.
    Listen(latch::ListenOptions),
    /// Latch a connection before its first packet, with what it must have.
    ///
    /// The latch is this verb's: it stays, prints what becomes of it, and gives it up when it is ended by a signal. With --owner
    /// it belongs to a process instead, and the verb ends at once.
    Connect(latch::ConnectOptions),
    /// Give up a latch that a process owns.
    Release {
        /// The handle of the latch, as `latchway latch list` shows it.
        #[arg(value_name = "LATCH")]
        latch: String,
        #[command(flatten)]
        form: Form,
    },
    /// Show all that is known of a latch.
    Inquire {
        /// The handle of the latch, as `latchway latch list` shows it.
        #[arg(value_name = "LATCH")]
        latch: String,
        #[command(flatten)]
        form: Form,
    },
    /// Show the latch of a connection, or of a listener.
    Find(latch::FindOptions),
    /// Close a latch, whoever owns it: its connection is reset.
    Close {
        /// The handle of the latch, as `latchway latch list` shows it.
        #[arg(value_name = "LATCH")]
        latch: String,
        #[command(flatten)]
        form: Form,
    },
    /// Print what becomes of latches, as it happens, one line each.
    Watch(latch::WatchOptions),
}

#[derive(Debug, Subcommand)]
pub enum FlowVerb {
    /// List the flows that the gateway tracks, latched or not.
    List(ListOptions),
}

impl Talk {
    /// Says it to the gateway whose control socket this is, or to the only one that runs here.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn run(self, control: Option<&Path>) -> Result<ExitCode, Failure> {
        match self {
            Self::Reload { dry_run, form } => show(control, &Reload { dry_run }, form),
            Self::Status(form) => show(control, &Status {}, form),
            Self::Drops(form) => show(control, &Drops {}, form),
            Self::Events(options) => events::run(control, &options),
            Self::Explain(options) => show(control, &options.call(), options.form),
            Self::Keys(verb) => keys::run(control, &verb),
            Self::Capture(options) => capture::run(control, &options),
            Self::Mtu(MtuVerb::Explain { peer, form }) => show(control, &Mtu { peer }, form),
            Self::Xfrm(options) => xfrm::run(control, &options),
            Self::Top(options) => top::run(control, &options),
            Self::Sa(SaVerb::List(options)) => list(control, &Sas { limit: options.limit }, options.form),
            Self::Sa(SaVerb::Add(options)) => {
                change(control, &options.pair()?, options.form, |added| format!("pair {} added", added.pair))
            }
            Self::Sa(SaVerb::Delete { pair, form }) => {
                change(control, &DeletePair { pair }, form, |_| format!("pair {pair} deleted"))
            }
            Self::Policy(PolicyVerb::List(options)) => {
                list(control, &Policies { limit: options.limit }, options.form)
            }
            Self::Policy(PolicyVerb::Add(options)) => {
                change(control, &options.call(), options.form, |added| format!("rule {} added", added.number))
            }
            Self::Policy(PolicyVerb::Delete { number, form }) => {
                change(control, &DeleteRule { number }, form, |_| format!("rule {number} deleted"))
            }
            Self::Peer(PeerVerb::List(options)) => {
                list(control, &Peers { limit: options.limit }, options.form)
            }
            Self::Peer(PeerVerb::Gone { peer, reason, form }) => {
                let gone = peer.clone();
                change(control, &PeerGoneSpec { peer, reason }, form, |went| {
                    let pairs = went.pairs.len();
                    format!("{gone} is gone: {} latches broke, {pairs} pairs were removed", went.latches)
                })
            }
            Self::Latch(LatchVerb::List(options)) => {
                list(control, &Latches { limit: options.limit }, options.form)
            }
            Self::Latch(LatchVerb::Listen(options)) => options.run(control),
            Self::Latch(LatchVerb::Connect(options)) => options.run(control),
            Self::Latch(LatchVerb::Release { latch, form }) => {
                let done = format!("latch {latch} released");
                change(control, &ReleaseLatch { latch }, form, |_| done)
            }
            Self::Latch(LatchVerb::Inquire { latch, form }) => show(control, &InquireLatch { latch }, form),
            Self::Latch(LatchVerb::Find(options)) => show(control, &options.call(), options.form),
            Self::Latch(LatchVerb::Close { latch, form }) => {
                let done = format!("latch {latch} closed");
                change(control, &CloseLatch { latch }, form, |_| done)
            }
            Self::Latch(LatchVerb::Watch(options)) => latch::watch(control, &options),
            Self::Prove(options) => prove::run(control, &options),
            Self::Whois(options) => show(control, &options.call(), options.form),
            Self::Flow(FlowVerb::List(options)) => {
                list(control, &Flows { limit: options.limit }, options.form)
            }
        }
    }
}
