//! Policies as rules of the SPD (RFC 4301 section 4.4.1), and what ties states to them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use latchway_control::{
    Failure, XfrmAction, XfrmDirection, XfrmLevel, XfrmLimits, XfrmMode, XfrmPolicy, XfrmPolicyRow,
    XfrmProtocol, XfrmSelector, XfrmTemplate, XfrmUpper,
};
use latchway_datapath::drop::Direction;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{LatchTerms, Model, Unlatchable};
use latchway_datapath::selector::{AddressRange, IcmpRange, PortRange, Selector, has_ports};
use latchway_datapath::spd::{Action, Around, Latching, Protection, Reqid, Rule, Template};
use latchway_esp::Protocol;
use latchway_keying::Wanted;
use latchway_tagging::Mode;

use crate::gateway::operator::Answer;
use crate::gateway::xfrm::Fault;
use crate::gateway::xfrm::book::{Book, Place};

/// What states have in common that serve the same rules: a reqid of the gateway's own for each combination, beyond those
/// of its configuration.
#[derive(Clone, Debug, Default)]
pub struct Reqids(HashMap<Tie, u32>);

/// What a template names: protocol, mode and reqid, and of a tunnel its ends, ours first. In transport mode the ends are
/// those of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tie {
    pub protocol: XfrmProtocol,
    pub mode: XfrmMode,
    pub reqid: u32,
    pub tunnel: Option<(IpAddr, IpAddr)>,
}

impl Reqids {
    /// The reqid of a combination, the same whenever it is asked for.
    pub fn of(&mut self, tie: Tie) -> Reqid {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX >> 1);
        Reqid(OWN | *self.0.entry(tie).or_insert(next))
    }
}

impl Book {
    /// The rules, in the order in which they decide: by priority, and those of one priority as they came.
    ///
    /// # Errors
    /// [`Failure`], which names what of a policy is not served, and that policy's place.
    pub fn rules(&mut self, tun: &str) -> Result<Vec<Rule>, Fault> {
        let mut reqids = std::mem::take(&mut self.reqids);
        let mut ordered: Vec<_> = self.policies().collect();
        ordered.sort_by_key(|(_, row)| row.policy.priority);
        let mut named = |(place, row): (Place, &Arc<XfrmPolicyRow>)| {
            let rule = rule(&row.policy, tun, &mut reqids).map_err(|failure| (Some(place), failure))?;
            Ok((place, rule))
        };
        let rules = ordered.into_iter().map(&mut named).collect::<Result<Vec<_>, Fault>>();
        self.reqids = reqids;
        let rules = rules?;
        check_bundles(&rules)?;
        Ok(rules.into_iter().map(|(_, rule)| rule).collect())
    }

    /// The policy whose rule wants an SA that is not there.
    pub fn wanting(&mut self, wanted: &Wanted, tun: &str) -> Option<XfrmPolicyRow> {
        let wanted = &wanted.rule.as_ref()?.rule;
        let mut reqids = std::mem::take(&mut self.reqids);
        let mut is =
            |row: &XfrmPolicyRow| rule(&row.policy, tun, &mut reqids).is_ok_and(|rule| rule == *wanted);
        let found = self.policies().find(|(_, row)| is(row)).map(|(_, row)| XfrmPolicyRow::clone(row));
        self.reqids = reqids;
        found
    }
}

/// One policy as a rule.
fn rule(policy: &XfrmPolicy, tun: &str, reqids: &mut Reqids) -> Answer<Rule> {
    if policy.limits != XfrmLimits::default() {
        return Err(unserved(
            "limits of a policy",
            "policies stay until they are deleted; leave `limit` out",
        ));
    }
    through(&policy.selector, tun)?;
    let outbound = policy.direction == XfrmDirection::Out;
    let direction = if outbound { Direction::Outbound } else { Direction::Inbound };
    let action = match (policy.action, policy.templates.as_slice()) {
        (XfrmAction::Block, _) => Action::Discard,
        (XfrmAction::Allow, []) => Action::Bypass,
        (XfrmAction::Allow, [template]) => Action::Protect(protection(template, outbound, reqids)?),
        (XfrmAction::Allow, [within, around]) => Action::Protect(bundle(within, around, outbound, reqids)?),
        (XfrmAction::Allow, _) => return Err(unserved("a bundle of more than two templates", BUNDLE)),
    };
    Ok(Rule::new(selector(&policy.selector, outbound)?, Some(direction), action))
}

fn protection(template: &XfrmTemplate, outbound: bool, reqids: &mut Reqids) -> Answer<Protection> {
    let XfrmTemplate { src, dst, protocol, spi, reqid, mode, level } = *template;
    if level == XfrmLevel::Use {
        return Err(unserved("level use", OPTIONAL));
    }
    if spi != 0 {
        return Err(unserved(
            "an SPI in a template",
            "give the state a reqid of its own, and the template that",
        ));
    }
    let ends = if outbound { (src, dst) } else { (dst, src) };
    let tunnel = mode == XfrmMode::Tunnel;
    if tunnel && (src.is_unspecified() || dst.is_unspecified()) {
        return Err(unserved("a tunnel without ends", "say `src ADDR dst ADDR` of its ends in the template"));
    }
    let tie = Tie { protocol, mode, reqid, tunnel: tunnel.then_some(ends) };
    let template = Template {
        ends: (!src.is_unspecified() && !dst.is_unspecified()).then_some(ends),
        protocol: Some(match protocol {
            XfrmProtocol::Esp => Protocol::Esp,
            XfrmProtocol::Ah => Protocol::Ah,
        }),
        mode: Some(if tunnel { Mode::Tunnel } else { Mode::Transport }),
        around: None,
    };
    // What comes in may be of any reqid where the template has none, as a kernel has it.
    let reqid = (outbound || reqid != 0).then(|| reqids.of(tie));
    let terms = LatchTerms { model: Model::Tag, unlatchable: Unlatchable::Pass, ..LatchTerms::from_bits(0) };
    Ok(Protection { reqid, template: Some(template), latching: Latching::On(terms) })
}

/// ESP with AH in transport mode around it (RFC 4301 section 4.3): the templates as a kernel has them, innermost first.
fn bundle(
    within: &XfrmTemplate,
    around: &XfrmTemplate,
    outbound: bool,
    reqids: &mut Reqids,
) -> Answer<Protection> {
    let is_bundle = (within.protocol, around.protocol, around.mode)
        == (XfrmProtocol::Esp, XfrmProtocol::Ah, XfrmMode::Transport);
    if !is_bundle {
        return Err(unserved("a bundle but of ESP with AH in transport mode around it", BUNDLE));
    }
    let named = |template: &XfrmTemplate| !template.src.is_unspecified() && !template.dst.is_unspecified();
    if named(within) && named(around) && (within.src, within.dst) != (around.src, around.dst) {
        let why = "both travel in one packet; say the ends of the ESP template in the AH template, too";
        return Err(unserved("AH around ESP between other ends", why));
    }
    if !outbound && within.reqid == 0 && around.reqid != 0 {
        let why = "give both templates the reqids of their states, or neither of them one";
        return Err(unserved("ESP of any reqid within AH of one", why));
    }
    let mut protection = protection(within, outbound, reqids)?;
    let Protection { reqid: header, .. } = self::protection(around, outbound, reqids)?;
    if let Some(template) = &mut protection.template {
        template.around = Some(Around { reqid: header });
    }
    Ok(protection)
}

/// That no states are wanted in a bundle by one policy and otherwise by another: they have AH around them, or not (RFC 4301
/// section 4.3).
fn check_bundles(rules: &[(Place, Rule)]) -> Result<(), Fault> {
    let (mut around, mut headers, mut alone) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut unnamed = HashMap::new();
    // Whichever came last is at fault.
    let divided = |one: Place, other: Place| (Some(one.max(other)), divided());
    for (place, rule) in rules {
        let Action::Protect(protection) = rule.action else { continue };
        let wanted = protection.template.and_then(|template| template.around);
        let Some(reqid) = protection.reqid else {
            // What is of any reqid is told apart by its ends alone.
            let what = protection.template.map(|template| (template.protocol, template.mode, template.ends));
            let (first, other) = *unnamed.entry((rule.direction, what)).or_insert((*place, wanted));
            if other != wanted {
                return Err(divided(first, *place));
            }
            continue;
        };
        let name = (rule.direction, reqid);
        let (first, other) = *around.entry(name).or_insert((*place, wanted));
        if other != wanted {
            return Err(divided(first, *place));
        }
        match wanted {
            Some(wanted) => headers.extend(wanted.reqid.map(|reqid| ((rule.direction, reqid), *place))),
            None => drop(alone.insert(name, *place)),
        }
    }
    let both = headers.iter().find_map(|(name, place)| Some((*place, *alone.get(name)?)));
    both.map_or(Ok(()), |(one, other)| Err(divided(one, other)))
}

fn divided() -> Failure {
    Failure::refused(
        "the states of one template are wanted as a bundle by one policy, and alone or in another bundle by another",
        "states have AH around them or not; give those of each policy a reqid of their own",
    )
}

/// That a selector names no device that packets never pass here.
pub fn through(said: &XfrmSelector, tun: &str) -> Answer<()> {
    if said.dev.as_deref().is_some_and(|dev| dev != tun) {
        return Err(unserved(
            "dev of another device",
            "every packet here passes the TUN; name that, or leave it out",
        ));
    }
    Ok(())
}

/// Which flows a selector means, seen from this gateway.
fn selector(said: &XfrmSelector, outbound: bool) -> Answer<Selector> {
    let XfrmSelector { src, dst, protocol, upper, .. } = said;
    let (local, remote) = if outbound { (src, dst) } else { (dst, src) };
    let (mut local_ports, mut remote_ports, mut icmp) = (PortRange::ANY, PortRange::ANY, None);
    match *upper {
        XfrmUpper::Any => {}
        XfrmUpper::Ports(..) if *protocol != 0 && !has_ports(*protocol) => {
            return Err(unserved(
                &format!("a port of protocol {protocol}"),
                "leave it out; ports are read of TCP, UDP and SCTP, and all between the addresses is meant then",
            ));
        }
        XfrmUpper::Ports(sport, dport) => {
            let (own, other) = if outbound { (sport, dport) } else { (dport, sport) };
            (local_ports, remote_ports) = (port(own), port(other));
        }
        XfrmUpper::Icmp(None, Some(_)) => {
            return Err(unserved("a code of any ICMP type", "say `type` in front of it"));
        }
        XfrmUpper::Icmp(kind, code) if [1, 58].contains(protocol) => {
            let range = |value: Option<u8>| value.map_or(0..=u8::MAX, |value| value..=value);
            icmp = Some(IcmpRange::new(&range(kind), &range(code)));
        }
        XfrmUpper::Icmp(..) => {
            return Err(unserved("the type of a mobility header", "leave type and code out"));
        }
        XfrmUpper::Key(_) => {
            return Err(unserved(
                "the key of GRE",
                "leave it out; all GRE between the addresses is meant then",
            ));
        }
    }
    let protocol = Some(*protocol).filter(|protocol| *protocol != 0);
    let between = Selector::between(range(local)?, range(remote)?);
    Ok(Selector { protocol, local_ports, remote_ports, icmp, ..between })
}

/// Which flows a state carries. RFC 4301 section 7.2: certain ports are of a certain protocol.
pub fn of_state(said: &XfrmSelector, outbound: bool) -> Answer<Selector> {
    if said.protocol == 0 && matches!(said.upper, XfrmUpper::Ports(..)) {
        return Err(unserved("a state for ports of any protocol", "say `proto` in front of the ports"));
    }
    selector(said, outbound)
}

/// A flow as an ACQUIRE names it.
pub fn flow(flow: &FlowKey) -> XfrmSelector {
    let host = |address: IpAddr| IpNet::from(address);
    let (local, remote) = (flow.local(), flow.remote());
    let ports = (Some(local.port()), Some(remote.port()));
    XfrmSelector {
        src: host(local.ip()),
        dst: host(remote.ip()),
        protocol: flow.protocol(),
        upper: match flow.protocol() {
            6 | 17 | 33 | 132 => XfrmUpper::Ports(ports.0, ports.1),
            _ => XfrmUpper::Any,
        },
        dev: None,
    }
}

fn port(port: Option<u16>) -> PortRange {
    port.map_or(PortRange::ANY, |port| PortRange::new(&(port..=port)))
}

fn range(prefix: &IpNet) -> Answer<AddressRange> {
    AddressRange::new(prefix.network(), prefix.broadcast())
        .map_err(|error| Failure::bad_call(format!("{prefix}: {error}"), "say a prefix"))
}

/// What a kernel would take, and this gateway does not.
fn unserved(what: &str, why: &str) -> Failure {
    Failure::refused(format!("{what} is not served"), why)
}

const BUNDLE: &str = "say `tmpl proto esp ...` first and `tmpl proto ah ... mode transport` behind it, or one ESP template, whose suite has integrity";

/// Nothing that is to be protected leaves in the clear because something is missing.
const OPTIONAL: &str = "where a state is missing or over, packets would pass in the clear, unnoticed, and nothing here does that;      use level required, and for what may pass in the clear a policy without templates";

/// Beyond every reqid of a configuration.
const OWN: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_xfrm::{Command, Family};

    fn said(protocol: u8, upper: XfrmUpper) -> XfrmSelector {
        let (src, dst) = ("10.1.0.0/24".parse().unwrap(), "10.2.0.0/24".parse().unwrap());
        XfrmSelector { src, dst, protocol, upper, dev: None }
    }

    /// RFC 4301 4.4.1.1: what would select nothing, so that the next rule decides, or more than is said, is refused.
    #[test]
    fn rfc_4301_4_4_1_1_what_cannot_be_selected_is_refused() {
        let dccp = selector(&said(33, XfrmUpper::Ports(None, Some(5001))), true).unwrap_err();
        assert!(format!("{dccp:?}").contains("a port of protocol 33"), "{dccp:?}");
        let code = selector(&said(1, XfrmUpper::Icmp(None, Some(4))), true).unwrap_err();
        assert!(format!("{code:?}").contains("type"), "{code:?}");
        let unreachable = selector(&said(1, XfrmUpper::Icmp(Some(3), Some(4))), true).unwrap();
        assert_eq!(unreachable.icmp, Some(IcmpRange::new(&(3..=3), &(4..=4))));
        assert!(selector(&said(0, XfrmUpper::Ports(None, Some(80))), true).is_ok(), "of whatever has ports");
    }

    #[test]
    fn rfc_4301_7_2_a_state_for_certain_ports_is_for_a_protocol() {
        let error = of_state(&said(0, XfrmUpper::Ports(None, Some(80))), true).unwrap_err();
        assert!(format!("{error:?}").contains("proto"), "{error:?}");
        for good in [said(6, XfrmUpper::Ports(None, Some(80))), said(0, XfrmUpper::Any)] {
            assert!(of_state(&good, true).is_ok());
        }
    }

    fn rules_of(policies: &[&str]) -> Answer<Vec<Rule>> {
        let mut book = Book::default();
        for line in policies {
            let words: Vec<_> = format!("policy add {line}").split(' ').map(str::to_owned).collect();
            let Ok(Command::Apply(step)) = Command::read(&words, Family::Any) else { panic!("{line}") };
            book.step(&step, false, 0)?;
        }
        book.rules("lw0").map_err(|(_, failure)| failure)
    }

    const OUT: &str = "src 10.1.0.0/16 dst 10.2.0.0/16 dir out";
    const ESP: &str = "tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 7 mode tunnel";
    const AH: &str = "tmpl src 192.0.2.1 dst 192.0.2.2 proto ah reqid 8";

    /// RFC 4301 4.3: ESP within AH is served in that order alone, and asks for AH by its reqid.
    #[test]
    fn rfc_4301_4_3_two_templates_are_esp_with_ah_around_it() {
        let [rule] = rules_of(&[&format!("{OUT} {ESP} {AH}")]).unwrap().try_into().unwrap();
        let [bare] = rules_of(&[&format!("{OUT} {ESP}")]).unwrap().try_into().unwrap();
        let (Action::Protect(bundle), Action::Protect(bare)) = (rule.action, bare.action) else { panic!() };
        assert_eq!(bundle.reqid, bare.reqid);
        let around = bundle.template.unwrap().around.unwrap();
        assert!(
            around.reqid.is_some() && around.reqid != bundle.reqid && bare.template.unwrap().around.is_none()
        );
        let any = |template: &str| template.replace(" reqid 7", "").replace(" reqid 8", "");
        let into = OUT.replace("dir out", "dir in");
        rules_of(&[&format!("{into} {} {}", any(ESP), any(AH))]).unwrap();
        for (templates, word) in [
            (format!("{AH} {ESP}"), "proto esp ...` first"),
            (format!("{ESP} {ESP}"), "proto esp ...` first"),
            (format!("{ESP} {AH} mode tunnel"), "mode transport"),
            (format!("{ESP} {AH} {AH}"), "more than two"),
            (format!("{ESP} {}", AH.replace("192.0.2.2", "192.0.2.3")), "other ends"),
            (format!("{} {AH}", any(ESP)), "reqid"),
        ] {
            let error = format!("{:?}", rules_of(&[&format!("{into} {templates}")]).unwrap_err());
            assert!(error.contains(word), "{templates}: {error}");
        }
    }

    /// RFC 4301 4.3: states are in a bundle or not.
    #[test]
    fn rfc_4301_4_3_states_are_of_one_bundle() {
        let whole = format!("{OUT} {ESP} {AH}");
        let beside = |template: &str| format!("src 10.1.0.0/16 dst 10.3.0.0/16 dir out {template}");
        rules_of(&[&whole, &beside(&format!("{ESP} {AH}"))]).unwrap();
        rules_of(&[&whole, &beside(&ESP.replace("reqid 7", "reqid 9"))]).unwrap();
        // What comes in by templates of no reqid is told apart by ends.
        let into = |network: u8, templates: &str| {
            let any = templates.replace(" reqid 7", "").replace(" reqid 8", "");
            format!("src 10.{network}.0.0/16 dst 10.1.0.0/16 dir in {any}")
        };
        let bundled = into(2, &format!("{ESP} {AH}"));
        let elsewhere = ESP.replace("192.0.2.2", "192.0.2.3");
        rules_of(&[&bundled, &into(3, &elsewhere)]).unwrap();
        rules_of(&[&bundled, &into(3, ESP).replace("proto esp", "proto esp reqid 7")]).unwrap();
        let error = format!("{:?}", rules_of(&[&bundled, &into(3, ESP)]).unwrap_err());
        assert!(error.contains("reqid of their own"), "{error}");
        let other = format!("{ESP} {}", AH.replace("reqid 8", "reqid 9"));
        for divided in [ESP, AH, &other] {
            let error = format!("{:?}", rules_of(&[&whole, &beside(divided)]).unwrap_err());
            assert!(error.contains("reqid of their own"), "{error}");
        }
    }

    /// RFC 4301 5.1: nothing is protected only where that happens to be possible, and who asks for it hears why.
    #[test]
    fn rfc_4301_5_1_level_use_is_refused_with_the_reason() {
        for templates in [format!("{ESP} level use"), format!("{ESP} {AH} level use")] {
            let error = format!("{:?}", rules_of(&[&format!("{OUT} {templates}")]).unwrap_err());
            for word in ["level use is not served", "in the clear", "a policy without templates"] {
                assert!(error.contains(word), "{error}");
            }
        }
    }
}
