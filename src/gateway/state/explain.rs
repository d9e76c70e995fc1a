//! What would become of a packet, and why.

use std::net::SocketAddr;

use latchway_control::{Explanation, Failure, SaUsed, Verdict, call};
use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::FlowKey;
use latchway_keying::{PairId, Question, Verdict as Judged};
use latchway_tagging::ClassId;
use latchway_ulp_shim::{LatchState, LatchView};

use crate::gateway::operator::Answer;
use crate::gateway::rows::{direction, latch_state, policy_row};
use crate::gateway::state::State;
use crate::gateway::state::answers::stopped;

impl State {
    /// What would become of a packet: by its flow's latch first, and where there is none, by the policy.
    pub(super) fn explain_packet(&self, packet: &call::Explain) -> Answer<Explanation> {
        if packet.local.is_ipv4() != packet.remote.is_ipv4() {
            let hint = "give two addresses of one family";
            return Err(Failure::bad_call("no packet has addresses of two families", hint));
        }
        let side = |address, port: Option<u16>| SocketAddr::new(address, port.unwrap_or(0));
        let (local, remote) =
            (side(packet.local, packet.local_port), side(packet.remote, packet.remote_port));
        let flow = FlowKey::new(packet.protocol, local, remote);
        let latch = self.database.find(&flow).and_then(|id| self.database.inquire(id));
        let required = latch.as_ref().and_then(|latch| latch.class);
        let question = Question { flow, direction: direction(packet.direction), required };
        let judged = self.keying.explain(question).map_err(stopped)?;
        let mut explained = Explanation {
            flow: flow.to_string(),
            direction: packet.direction,
            verdict: Verdict::Drop,
            policy: judged.rule.as_ref().map(policy_row),
            sa: None,
            latch: latch.as_ref().map(|latch| latch_state(latch.state)),
            mtu: None,
            drop: None,
            why: Vec::new(),
        };
        explained.tell_latch(latch.as_ref());
        explained.tell_passed_over(&judged);
        explained.tell_verdict(&judged.verdict, self.bypass.is_some());
        explained.tell_size(packet.octets);
        explained.tell_state(latch.as_ref());
        Ok(explained)
    }
}

/// Says step by step how a verdict comes about.
trait Tell {
    fn tell_latch(&mut self, latch: Option<&LatchView>);
    fn tell_passed_over(&mut self, judged: &latchway_keying::Explanation);
    fn tell_verdict(&mut self, verdict: &Judged, bypass_port: bool);
    fn tell_size(&mut self, octets: Option<u32>);
    fn tell_state(&mut self, latch: Option<&LatchView>);
}

impl Tell for Explanation {
    fn tell_latch(&mut self, latch: Option<&LatchView>) {
        self.why.push(match latch {
            Some(latch) => {
                let to = match latch.class {
                    Some(class) => format!(", to class {}", class.raw()),
                    None if latch.bypass => ", to bypass".to_owned(),
                    None => String::new(),
                };
                format!("the flow has a latch in state {}{to}: the policy is not asked", latch.state.name())
            }
            None => "the flow has no latch: the policy decides".into(),
        });
    }

    fn tell_passed_over(&mut self, judged: &latchway_keying::Explanation) {
        let rules = judged.rules_passed_over.iter();
        self.why.extend(rules.map(|(number, miss)| format!("rule {number} {miss}")));
        if let Some(rule) = &judged.rule {
            self.why.push(format!("rule {} is the first that matches", rule.number));
        }
        let sas = judged.sas_passed_over.iter();
        self.why.extend(sas.map(|(owner, miss)| format!("{owner} {miss}")));
        if judged.more > 0 {
            self.why.push(format!("{} more were passed over", judged.more));
        }
    }

    fn tell_verdict(&mut self, verdict: &Judged, bypass_port: bool) {
        match verdict {
            Judged::Protected(carrier) => {
                self.verdict = Verdict::Protect;
                self.mtu = carrier.max_inner.and_then(|most| u32::try_from(most).ok());
                self.why.push(format!("{} with {} carries it", carrier.owner, carrier.peer));
                self.sa = Some(SaUsed {
                    pair: carrier.owner.pair().map(PairId::raw),
                    spi: carrier.spi.get(),
                    suite: carrier.suite.to_string(),
                    peer: carrier.peer.to_string(),
                    class: carrier.class.map(ClassId::raw),
                });
            }
            Judged::Bypassed if !bypass_port => self.tell_drop(DropReason::NoBypassPort),
            Judged::Bypassed => {
                self.verdict = Verdict::Bypass;
                self.why.push("it passes in the clear".into());
            }
            Judged::Dropped(reason) => self.tell_drop(*reason),
        }
    }

    fn tell_size(&mut self, octets: Option<u32>) {
        if let (Some(octets), Some(mtu)) = (octets, self.mtu)
            && octets > mtu
        {
            self.why.push(format!("{octets} octets are more than the {mtu} that fit in one packet"));
            self.why.push(DropReason::TooBig.info().text.into());
        }
    }

    fn tell_state(&mut self, latch: Option<&LatchView>) {
        let Some(latch) = latch else { return };
        if matches!(latch.state, LatchState::Broken | LatchState::Closed) {
            self.why.push(format!("a latch in state {} lets nothing pass", latch.state.name()));
            (self.sa, self.mtu) = (None, None);
            self.tell_drop(DropReason::LatchBroken);
        } else if latch.state == LatchState::Larval {
            (self.sa, self.mtu) = (None, None);
            self.tell_drop(DropReason::LatchLarval);
        } else if latch.bypass {
            (self.sa, self.mtu, self.drop, self.verdict) = (None, None, None, Verdict::Bypass);
            self.why.push("it was granted bypass: it passes in the clear".into());
        }
    }
}

/// Says that a packet is dropped.
trait TellDrop {
    fn tell_drop(&mut self, reason: DropReason);
}

impl TellDrop for Explanation {
    fn tell_drop(&mut self, reason: DropReason) {
        self.verdict = Verdict::Drop;
        self.drop = Some(reason.info().name.into());
        self.why.push(format!("it is dropped as {}: {}", reason.info().name, reason.info().text));
    }
}
