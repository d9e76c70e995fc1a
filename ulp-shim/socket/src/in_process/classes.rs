//! What protects a flow, and who is on its other end, in the words of applications (L-12, L-28 to L-31, Q-33 to Q-43).

use latchway_control::ModeSpec;
use latchway_control::app::Unbindable;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::LatchState;
use latchway_esp::Suite;
use latchway_keying::{Evidence, FlowInquiry, Inquiry, KeyManagerClient, Parameters, Party, Stopped, Suites};
use latchway_tagging::{Class, ClassId, IdentityRecord, Mode, Transforms};

use super::demands::{Demands, method, protects_options};
use crate::answer::{Answer, Unlatched};
use crate::error::{Error, ErrorKind, Result};
use crate::identity::{Anchor, PeerIdentity, printable, sha256};
use crate::protection::{Facts, Protection};
use crate::strength::Strength;

/// Asks the key manager what classes stand for. Only where a connection begins, or somebody wants to know: never for each
/// packet.
#[derive(Clone, Debug)]
pub(super) struct Classes {
    keying: KeyManagerClient,
    /// The number of the gateway's start, by which its answers are told from those of another.
    boot: u64,
}

/// What is known of a protection beside its class.
#[derive(Default)]
struct Beside {
    latch: Option<String>,
    group: Option<u32>,
    rule: Option<u64>,
}

impl Classes {
    pub(super) const fn new(keying: KeyManagerClient, boot: u64) -> Self {
        Self { keying, boot }
    }

    /// The key manager, to be asked for more.
    pub(super) const fn keying(&self) -> &KeyManagerClient {
        &self.keying
    }

    /// What protects a flow.
    ///
    /// # Errors
    /// The key manager does not answer.
    pub(super) fn of_flow(&self, flow: &FlowKey) -> Result<Answer> {
        let inquiry = self.keying.inquire_flow(*flow).map_err(stopped)?;
        let Some(latch) = &inquiry.latch else {
            return Ok(Answer::Unlatched(Unlatched::Dropped("it has no latch, and nothing passes".into())));
        };
        Ok(match (latch.latch.state, &latch.parameters) {
            (LatchState::Established, Parameters::Latched { id, class, peer, local }) => {
                Answer::Latched(self.protection(*id, class, (peer, local), beside(&inquiry, latch)))
            }
            (state, _) => {
                let reason = latch.latch.reason.map_or_else(|| state.name(), |reason| reason.name());
                Answer::Unlatched(Unlatched::Suspended { reason: Some(reason.to_owned()) })
            }
        })
    }

    /// What protected a datagram that came under an SA of this class, on this flow. `None` where the class is known no more.
    pub(super) fn of_datagram(&self, class: ClassId, flow: &FlowKey) -> Option<Protection> {
        let inquiry = self.keying.inquire_flow(*flow).ok()?;
        if let Some(latch) = &inquiry.latch
            && let Parameters::Latched { id, class: of, peer, local } = &latch.parameters
            && *id == class
        {
            return Some(self.protection(class, of, (peer, local), beside(&inquiry, latch)));
        }
        let of = self.keying.class(class).ok()??;
        let party = |id| {
            let record = self.keying.identity(id).ok()??;
            Some(Party { id, record, entry: None, evidence: self.keying.evidence(id).ok()? })
        };
        Some(self.protection(class, &of, (&party(of.peer)?, &party(of.local)?), Beside::default()))
    }

    /// Whether a class is what is required; `None` where the class is known no more.
    pub(super) fn meets(&self, class: ClassId, demands: &Demands) -> Option<bool> {
        let record = |id| self.keying.identity(id).ok().flatten();
        let class = self.keying.class(class).ok()??;
        Some(demands.met_by(&class, &record(class.peer)?, &record(class.local)?))
    }

    fn protection(
        &self,
        id: ClassId,
        class: &Class,
        (peer, local): (&Party, &Party),
        beside: Beside,
    ) -> Protection {
        let algorithms = &class.algorithms;
        let both = |of: fn(&Transforms) -> Strength| of(&algorithms.inbound).min(of(&algorithms.outbound));
        let (inbound_suite, outbound_suite) = (name(&algorithms.inbound), name(&algorithms.outbound));
        let mode = match class.mode {
            Mode::Tunnel => ModeSpec::Tunnel,
            Mode::Transport => ModeSpec::Transport,
        };
        let peer_identity = identity(&peer.record, peer.evidence.as_ref());
        let information = format!("{mode} {inbound_suite} in, {outbound_suite} out");
        let audit = format!("peer={} protection=\"{information}\"", peer_identity.audit());
        Protection::of(Facts {
            // Nobody proved to us who we are.
            local: Some(PeerIdentity { method: None, ..identity(&local.record, None) }),
            confidential: both(|of| Strength::of_key_bits(of.encryption.map_or(0, |cipher| cipher.key_bits))),
            integrity: both(|of| Strength::of_icv_bits(icv_bits(of))),
            mode,
            options_protected: protects_options(class),
            replay_checked: class.replay_checked,
            inbound_suite,
            outbound_suite,
            policy_name: beside.rule.map(|rule| format!("rule {rule}")),
            audit: audit.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect(),
            information: Some(information),
            // SAs are given by hand, whose peers prove no key.
            binding: Err(Unbindable::Manual),
            latch: beside.latch,
            class: Some(id.raw()),
            group: beside.group,
            rule: beside.rule,
            boot: self.boot,
            required: false,
            peer: peer_identity,
        })
    }
}

/// That the key manager ended.
pub(super) fn stopped(stopped: Stopped) -> Error {
    Error::new(ErrorKind::Failed, stopped.to_string())
}

fn beside(inquiry: &FlowInquiry, latch: &Inquiry) -> Beside {
    Beside {
        latch: Some(latch.latch.id.to_string()),
        group: inquiry.group.map(latchway_tagging::GroupId::raw),
        rule: inquiry.rule.as_ref().map(|rule| rule.number.raw()),
    }
}

fn identity(record: &IdentityRecord, evidence: Option<&Evidence>) -> PeerIdentity {
    let certificate = evidence.and_then(|evidence| evidence.certificate.as_ref());
    let key = evidence.and_then(|evidence| evidence.public_key.as_ref()).map(|key| key.der());
    let anchor = evidence.and_then(|evidence| evidence.anchor.as_ref());
    PeerIdentity {
        asserted: record.asserted.clone(),
        method: Some(method(record.method)),
        anchor: anchor.map(|anchor| Anchor { subject: anchor.subject.clone(), key: anchor.key.0 }),
        key: key.map(sha256),
        subject: certificate.and_then(|certificate| printable(certificate.subject())),
        authority: certificate.and_then(|certificate| printable(certificate.issuer())),
        public_key: key.map(<[u8]>::to_vec),
    }
}

/// The suite that has these algorithms.
fn suite(transforms: &Transforms) -> Option<Suite> {
    Suite::all().find(|suite| Suites::both(*suite).algorithms().inbound == *transforms)
}

/// The name of the suite; of a bundle, of what ESP does in it.
fn name(transforms: &Transforms) -> String {
    let within = Transforms { authentication_header: None, ..*transforms };
    suite(transforms).or_else(|| suite(&within)).map_or("unknown", Suite::name).to_owned()
}

/// Of a bundle, the better of both keeps whole.
fn icv_bits(transforms: &Transforms) -> u16 {
    let within = Transforms { authentication_header: None, ..*transforms };
    let header = Transforms { encryption: None, integrity: None, ..*transforms };
    let lengths = [suite(&within), suite(&header)].into_iter().flatten().map(Suite::icv_len);
    lengths.max().and_then(|octets| u16::try_from(octets * 8).ok()).unwrap_or_default()
}
