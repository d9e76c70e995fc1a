//! What an operator or a provider of SAs may ask of a gateway, a method for each call.

use std::ops::ControlFlow;

use latchway_control::{
    CaptureSpec, CloseLatch, Commit, ConnectSpec, Drops, Explanation, Failure, FindLatch, FlowRow,
    InquireLatch, InstallSpec, LatchDetail, LatchNamed, LatchRow, ListenSpec, Method, MtuView, Offered,
    PairAdded, PairSpec, PeerForgotten, PeerGoneSpec, PeerRow, PolicyRow, ProposalSpec, RekeySpec,
    ReleaseLatch, Reloaded, RuleAdded, SaRow, ShowKeys, ShownKeys, StatusView, WatchLatches, Whois,
    WhoisAnswer, XfrmPolicyRow, XfrmStateRow, call,
};
use latchway_keying::{Alerts, Holder};

use crate::gateway::capturing::Capturing;
use crate::gateway::xfrm::Watching;

/// An answer, or why there is none and what to do.
pub type Answer<T> = Result<T, Failure>;

/// Takes the rows of a list one by one, until it breaks: a list may be long, and who asked for it gone.
pub type Rows<'a, R> = &'a mut dyn FnMut(R) -> ControlFlow<()>;

/// A gateway as control.sock shows it. Calls come from several threads at once. What a gateway does not answer itself is
/// answered as Varlink has it: the method is not implemented.
pub trait Gateway: Send + Sync {
    /// How it is and what it moved.
    fn status(&self) -> Answer<StatusView>;

    /// What it dropped and why.
    fn drops(&self) -> Answer<Drops>;

    /// Its SAs, two of a pair after each other.
    fn sas(&self, _rows: Rows<'_, SaRow>) -> Answer<()> {
        not_implemented::<call::Sas, _>()
    }

    /// Its policy, in its order.
    fn policies(&self, _rows: Rows<'_, PolicyRow>) -> Answer<()> {
        not_implemented::<call::Policies, _>()
    }

    /// Its peers.
    fn peers(&self, _rows: Rows<'_, PeerRow>) -> Answer<()> {
        not_implemented::<call::Peers, _>()
    }

    /// Its latches.
    fn latches(&self, _rows: Rows<'_, LatchRow>) -> Answer<()> {
        not_implemented::<call::Latches, _>()
    }

    /// The flows that it tracks.
    fn flows(&self, _rows: Rows<'_, FlowRow>) -> Answer<()> {
        not_implemented::<call::Flows, _>()
    }

    /// What would become of a packet.
    fn explain(&self, _packet: &call::Explain) -> Answer<Explanation> {
        not_implemented::<call::Explain, _>()
    }

    /// How long the packets to a peer may be.
    fn mtu(&self, _peer: &call::Mtu) -> Answer<MtuView> {
        not_implemented::<call::Mtu, _>()
    }

    /// Reads the configuration again.
    fn reload(&self, _how: call::Reload) -> Answer<Reloaded> {
        not_implemented::<call::Reload, _>()
    }

    /// Proposes and installs a pair of SAs by hand.
    fn add_pair(&self, _pair: &PairSpec) -> Answer<PairAdded> {
        not_implemented::<PairSpec, _>()
    }

    /// Removes a pair.
    fn delete_pair(&self, _pair: u64) -> Answer<()> {
        not_implemented::<call::DeletePair, _>()
    }

    /// Adds a rule by hand.
    fn add_rule(&self, _rule: &call::AddRule) -> Answer<RuleAdded> {
        not_implemented::<call::AddRule, _>()
    }

    /// Removes a rule.
    fn delete_rule(&self, _number: u64) -> Answer<()> {
        not_implemented::<call::DeleteRule, _>()
    }

    /// Asks whether a pair would be accepted (L-69).
    fn propose(&self, _proposal: &ProposalSpec) -> Answer<Offered> {
        not_implemented::<ProposalSpec, _>()
    }

    /// Makes an offer real.
    fn install(&self, _keys: &InstallSpec) -> Answer<PairAdded> {
        not_implemented::<InstallSpec, _>()
    }

    /// Makes a successor of a pair.
    fn rekey(&self, _keys: &RekeySpec) -> Answer<PairAdded> {
        not_implemented::<RekeySpec, _>()
    }

    /// Changes which pairs are used, and the policy, in one step.
    fn commit(&self, _transaction: &Commit) -> Answer<()> {
        not_implemented::<Commit, _>()
    }

    /// Makes the caller one who may hold latches: until the reading end of its alerts is dropped (L-21).
    fn hold(&self) -> Answer<Alerts> {
        not_implemented::<ListenSpec, _>()
    }

    /// Releases what a holder has, at once: it is gone (L-21).
    fn let_go(&self, _holder: Holder) {}

    /// Makes a listener's latch (L-46).
    fn listen_latch(&self, _asked: &ListenSpec, _holder: Holder) -> Answer<LatchNamed> {
        not_implemented::<ListenSpec, _>()
    }

    /// Makes a connection's latch (L-54).
    fn connect_latch(&self, _asked: &ConnectSpec, _holder: Holder) -> Answer<LatchNamed> {
        not_implemented::<ConnectSpec, _>()
    }

    /// Releases a latch of this holder (L-64).
    fn release_latch(&self, _latch: &str, _holder: Holder) -> Answer<()> {
        not_implemented::<ReleaseLatch, _>()
    }

    /// All that is known of a latch (L-67), and who holds it; nobody where it was inferred from packets.
    fn inquire_latch(&self, _latch: &str) -> Answer<(LatchDetail, Option<Holder>)> {
        not_implemented::<InquireLatch, _>()
    }

    /// The latch of a connection or a listener.
    fn find_latch(&self, _flow: &FindLatch) -> Answer<LatchNamed> {
        not_implemented::<FindLatch, _>()
    }

    /// Closes a latch, whoever holds it.
    fn close_latch(&self, _latch: &str) -> Answer<()> {
        not_implemented::<CloseLatch, _>()
    }

    /// Lets a holder hear of every latch, or of its own alone.
    fn watch_latches(&self, _holder: Holder, _all: bool) -> Answer<()> {
        not_implemented::<WatchLatches, _>()
    }

    /// Breaks the latches of a peer that is gone.
    fn peer_gone(&self, _peer: &PeerGoneSpec) -> Answer<PeerForgotten> {
        not_implemented::<PeerGoneSpec, _>()
    }

    /// Shows the keys of SAs (T40).
    fn show_keys(&self) -> Answer<ShownKeys> {
        not_implemented::<ShowKeys, _>()
    }

    /// Shows packets from here on.
    fn capture(&self, _wanted: &CaptureSpec) -> Answer<Capturing> {
        not_implemented::<CaptureSpec, _>()
    }

    /// Changes states and policies as ip-xfrm(8) does, all the steps or none.
    fn xfrm_apply(&self, _asked: &call::XfrmApply) -> Answer<call::XfrmApplied> {
        not_implemented::<call::XfrmApply, _>()
    }

    /// The states as ip-xfrm(8) knows them, newest first.
    fn xfrm_states(&self, _keys: bool, _rows: Rows<'_, XfrmStateRow>) -> Answer<()> {
        not_implemented::<call::XfrmStates, _>()
    }

    /// The policies as ip-xfrm(8) knows them, newest first.
    fn xfrm_policies(&self, _rows: Rows<'_, XfrmPolicyRow>) -> Answer<()> {
        not_implemented::<call::XfrmPolicies, _>()
    }

    /// What happens to them from here on.
    fn xfrm_watch(&self) -> Answer<Watching> {
        not_implemented::<call::XfrmMonitor, _>()
    }

    /// Who is on the other end of a connection.
    fn whois(&self, _ends: &Whois) -> Answer<WhoisAnswer> {
        not_implemented::<Whois, _>()
    }
}

fn not_implemented<M: Method, T>() -> Answer<T> {
    Err(Failure::method_not_implemented(M::NAME))
}
