//! What protects a socket's flow, and who is on its other end: one look at the Latch Database and one question to the key
//! manager.

use latchway_control::HeldView;
use latchway_control::app::{AnswerKind, ProtectionView, StrengthView, Unbindable};
use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{LatchState, Unlatchable};
use latchway_datapath::spd::{Action, Protection};
use latchway_esp::Suite;
use latchway_keying::{FlowInquiry, Inquiry, Parameters, Party, RuleView, Suites};
use latchway_tagging::{AuthMethod, Class, Mode, Transforms};
use latchway_ulp_shim::FlowView;

use crate::gateway::app::Applications;
use crate::gateway::app::descriptor::Facts;
use crate::gateway::operator::Answer;
use crate::gateway::rows::{latch_state, protection};
use crate::gateway::state::answers::stopped;
use crate::gateway::state::held::{bypass, held};

/// An answer, and why nothing passes, or nothing protects it.
type Said = (AnswerKind, Option<String>);

impl Applications {
    /// What protects the flow of a socket. Where it cannot be told, nothing does.
    ///
    /// # Errors
    /// The key manager does not answer.
    pub fn protection(&self, facts: &Facts) -> Answer<ProtectionView> {
        let required = self.requiring.holds(&facts.cookie);
        let unsaid = |said| Ok(ProtectionView { required, ..self.unsaid(said) });
        let Some(remote) = facts.remote else { return unsaid((AnswerKind::Unconnected, None)) };
        if remote.ip().is_loopback() || remote.ip() == facts.local.ip() {
            return unsaid((AnswerKind::Clear, Some("it does not leave this host".into())));
        }
        if facts.astray.is_some() {
            let text = "it is bound to a device that leads around the gateway";
            return Ok(self.unsaid((AnswerKind::Clear, Some(text.into()))));
        }
        let flow = FlowKey::new(facts.protocol, facts.local, remote);
        let tracked = self.state.database.flow(&flow);
        let inquiry = self.state.keying.inquire_flow(flow).map_err(stopped)?;
        Ok(ProtectionView { required, ..self.said(tracked.as_ref(), &inquiry) })
    }

    /// What is to be said of what is known of a flow.
    pub fn said(&self, tracked: Option<&FlowView>, inquiry: &FlowInquiry) -> ProtectionView {
        let said = match &inquiry.latch {
            Some(latch) => latched(latch),
            None => self.unlatched(tracked, inquiry),
        };
        self.view(said, inquiry)
    }

    /// Of a flow without a latch, policy says what becomes of it; of one that no packet was seen of, nothing is said but that
    /// nothing is known to protect it.
    fn unlatched(&self, tracked: Option<&FlowView>, inquiry: &FlowInquiry) -> Said {
        let Some(tracked) = tracked else {
            let text =
                "no packet of it has come to the gateway: it stays on this host, goes another way, or is new";
            return (AnswerKind::Clear, Some(text.into()));
        };
        let dropped = |reason: DropReason| (AnswerKind::Dropped, Some(reason.info().name.to_owned()));
        match inquiry.rule.as_ref().map(|rule| rule.rule.action) {
            None => dropped(DropReason::NoPolicy),
            Some(Action::Discard) => dropped(DropReason::PolicyDiscard),
            Some(Action::Bypass) if self.state.bypass.is_none() => dropped(DropReason::NoBypassPort),
            Some(Action::Bypass) => (AnswerKind::Clear, None),
            Some(Action::Protect(protection)) if is_stale(tracked, &protection) => {
                dropped(DropReason::MidStream)
            }
            Some(Action::Protect(_)) if inquiry.parameters.is_none() => dropped(DropReason::NoOutboundSa),
            Some(Action::Protect(protection)) if !comes_in_alike(&protection, inquiry.inbound) => {
                (AnswerKind::Clear, Some("what comes in is not protected as what goes out is".into()))
            }
            Some(Action::Protect(_)) => (AnswerKind::Protected, None),
        }
    }

    /// Peer and strength are of what protects the flow, and so are told only where something does: of another, they would be
    /// what its next packet might leave under.
    fn view(&self, said: Said, inquiry: &FlowInquiry) -> ProtectionView {
        let latch = inquiry.latch.as_ref().map(|inquiry| &inquiry.latch);
        let number = inquiry.rule.as_ref().map(|rule| rule.number.raw());
        let mut view = ProtectionView {
            latch: latch.map(|latch| latch.id.to_string()),
            state: latch.map(|latch| latch_state(latch.state)),
            rule: number,
            policy: inquiry.rule.as_ref().map(policy_name),
            ..self.unsaid(said)
        };
        let is_held =
            matches!(view.answer, AnswerKind::Latched | AnswerKind::Protected | AnswerKind::Suspended);
        match &inquiry.parameters {
            Some(Parameters::Latched { id, class, peer, local }) if is_held => {
                view.group = inquiry.group.map(latchway_tagging::GroupId::raw);
                let is_protected = matches!(view.answer, AnswerKind::Latched | AnswerKind::Protected);
                let is_fit = inquiry.latch.as_ref().is_some_and(|latch| latch.fit_for_channel_binding);
                let held = held(*id, class, peer, local);
                view.audit = Some(audit(view.answer, &held));
                (view.binding, view.unbindable) = match binding((is_protected, is_fit), peer, local) {
                    Ok(text) => (Some(text), None),
                    Err(why) => (None, Some(why)),
                };
                view.information = Some(protection(class));
                view.class = Some(id.raw());
                view.inbound = strength(&class.algorithms.inbound);
                view.outbound = strength(&class.algorithms.outbound);
                view.options_protected = protects_options(class);
                view.held = Some(held);
            }
            Some(Parameters::Bypass) => view.held = Some(bypass()),
            Some(
                Parameters::Latched { .. }
                | Parameters::Wanted
                | Parameters::Indeterminate
                | Parameters::Forgotten(_),
            )
            | None => {}
        }
        view
    }

    fn unsaid(&self, (answer, reason): Said) -> ProtectionView {
        ProtectionView {
            answer,
            latch: None,
            state: None,
            class: None,
            group: None,
            rule: None,
            held: None,
            inbound: None,
            outbound: None,
            options_protected: false,
            policy: None,
            information: None,
            audit: None,
            binding: None,
            unbindable: Some(Unbindable::Clear),
            reason,
            required: false,
            boot: self.boot,
        }
    }
}

/// Of a flow with a latch.
fn latched(inquiry: &Inquiry) -> Said {
    let latch = &inquiry.latch;
    match (latch.state, &inquiry.parameters) {
        (LatchState::Established, Parameters::Latched { .. }) => (AnswerKind::Latched, None),
        (LatchState::Established, Parameters::Bypass) => {
            (AnswerKind::Clear, Some("bypass was granted to it".into()))
        }
        (state, _) => {
            let why = latch.reason.map_or_else(|| state.name().to_owned(), |reason| reason.name().to_owned());
            (AnswerKind::Suspended, Some(why))
        }
    }
}

/// Whether policy wants a latch now of a connection that began without: none is taken up in the middle (R-12).
fn is_stale(flow: &FlowView, protection: &Protection) -> bool {
    let Some(terms) = protection.latching.terms() else { return false };
    let may_pass = flow.passed && terms.unlatchable == Unlatchable::Pass;
    flow.flow.protocol() == protocol::TCP && !may_pass
}

/// Whether nothing of a flow comes in but under what this leaves under (RFC 4301 section 4.4.1: rules have directions).
fn comes_in_alike(outbound: &Protection, inbound: Option<Action>) -> bool {
    match inbound {
        Some(Action::Protect(inbound)) => inbound.reqid == outbound.reqid,
        Some(Action::Bypass) => false,
        Some(Action::Discard) | None => true,
    }
}

/// What a channel can be bound to (Q-16, C-15), or why there is nothing.
fn binding((is_protected, is_fit): (bool, bool), peer: &Party, local: &Party) -> Result<String, Unbindable> {
    if !is_protected {
        return Err(Unbindable::Clear);
    }
    if peer.record.method == AuthMethod::Manual {
        return Err(Unbindable::Manual);
    }
    if !is_fit {
        return Err(Unbindable::Inferred);
    }
    local.channel_binding().ok_or(Unbindable::NoLocalKey)
}

/// What a rule is called.
fn policy_name(view: &RuleView) -> String {
    view.rule.name.as_deref().map_or_else(|| format!("rule {}", view.number), str::to_owned)
}

/// Who is there and how that is known, in one line (Q-16).
fn audit(answer: AnswerKind, held: &HeldView) -> String {
    let peer = held.peer.as_ref();
    let name = quoted(peer.map_or("nobody", |peer| peer.asserted.as_str()));
    let method = peer.and_then(|peer| peer.method).map_or("unknown", |method| method.name());
    format!("peer={name} method={method} protection=\"{}\" answer={answer}", held.protection)
}

/// A name as one word: it may have anything in it that its owner liked, and nothing of that is to look like what follows.
fn quoted(name: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '"' | '\\');
    if !name.is_empty() && name.chars().all(is_plain) {
        return name.to_owned();
    }
    let said = name.chars().map(|letter| match letter {
        ' ' => " ".to_owned(),
        letter if is_plain(letter) => letter.to_string(),
        letter => letter.escape_unicode().to_string(),
    });
    format!("\"{}\"", said.collect::<String>())
}

/// Whether the header of the inner packet and its options are protected in both directions (RFC 4301 section 4.1).
fn protects_options(class: &Class) -> bool {
    let has_header = |transforms: &Transforms| transforms.authentication_header.is_some();
    class.mode == Mode::Tunnel
        || (has_header(&class.algorithms.inbound) && has_header(&class.algorithms.outbound))
}

/// How strong these algorithms are; of a bundle, ESP hides, and the better of both keeps whole.
fn strength(transforms: &Transforms) -> Option<StrengthView> {
    let within = Transforms { authentication_header: None, ..*transforms };
    let header = Transforms { encryption: None, integrity: None, ..*transforms };
    let suite =
        |wanted: &Transforms| Suite::all().find(|suite| Suites::both(*suite).algorithms().inbound == *wanted);
    let lengths = [suite(&within), suite(&header)].into_iter().flatten().map(Suite::icv_len);
    let icv = u16::try_from(lengths.max()? * 8).ok()?;
    Some(StrengthView { key_bits: transforms.encryption.map_or(0, |cipher| cipher.key_bits), icv_bits: icv })
}

#[cfg(test)]
mod tests {
    use super::*;

    use latchway_datapath::spd::Reqid;

    /// Q-16: whoever chooses a name does not choose what a log says of it.
    #[test]
    fn q_16_a_name_in_a_line_for_logs_is_one_word() {
        assert_eq!(quoted("fqdn:2.example"), "fqdn:2.example");
        assert_eq!(
            quoted("CN=x method=certificate protection=\"AES\" answer=latched"),
            r#""CN=x method=certificate protection=\u{22}AES\u{22} answer=latched""#
        );
        assert_eq!(quoted("a\u{2028}b\u{202e}c\\\n"), r#""a\u{2028}b\u{202e}c\u{5c}\u{a}""#);
        assert_eq!(quoted(""), "\"\"");
    }

    #[test]
    fn what_comes_in_in_the_clear_is_not_protected() {
        let protect = |number| Protection { reqid: Some(Reqid(number)), ..Protection::LATCHED };
        let (one, other) = (1, 2);
        assert!(comes_in_alike(&protect(one), Some(Action::Protect(protect(one)))));
        assert!(!comes_in_alike(&protect(one), Some(Action::Protect(protect(other)))));
        assert!(!comes_in_alike(&protect(one), Some(Action::Bypass)));
        assert!(comes_in_alike(&protect(one), Some(Action::Discard)) && comes_in_alike(&protect(one), None));
    }
}
