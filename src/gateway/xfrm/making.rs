//! States as SAs: which direction they have, which wire is theirs, and what their flags mean here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use latchway_config::Listen;
use latchway_control::{Failure, XfrmLimits, XfrmMode, XfrmSelector, XfrmState, XfrmStateFlag};
use latchway_datapath::arrival::Carrier;
use latchway_datapath::lifetime::{Bounds, Limits};
use latchway_datapath::outer::{Df, Dscp, Ecn, OuterPolicy};
use latchway_datapath::sad::{Follow, Path, Peer, Shape, Tfc};
use latchway_datapath::selector::Selector;
use latchway_datapath::spd::Reqid;
use latchway_esp::{Align, AntiReplay, SeqNum, SequenceKind, WindowSize};
use latchway_keying::{KeyOrigin, NewSingle, RevisedEnd, Revision, SaKeys, SingleId, Way};
use latchway_tagging::{Identity, Mode, WorkerId};

use crate::gateway::operator::Answer;
use crate::gateway::records::{RecordFault, Records};
use crate::gateway::xfrm::book::Held;
use crate::gateway::xfrm::rules::{Reqids, Tie, of_state, through};

/// What SAs are made with.
pub struct Making<'x> {
    /// Who the gateway is.
    pub identity: &'x Identity,
    /// What its wires are bound to, by number.
    pub listen: &'x [Listen],
    /// The TUN that every packet passes.
    pub tun: &'x str,
    /// Where numbers are on record, if anywhere.
    pub records: Option<&'x Arc<Records>>,
}

/// Where a state runs, seen from here.
struct Ends {
    outbound: bool,
    local: IpAddr,
    remote: IpAddr,
}

impl Making<'_> {
    /// The SA that a state is.
    pub fn single(&self, held: &Held, reqids: &mut Reqids) -> Answer<NewSingle> {
        let state = &held.spec;
        let ends = self.ends(state)?;
        let (suite, octets) =
            latchway_xfrm::suite(state).map_err(|error| Failure::refused(error.to_string(), ALGORITHMS))?;
        let sequence =
            if state.has(XfrmStateFlag::Esn) { SequenceKind::Extended } else { SequenceKind::Seq32 };
        let keys = SaKeys::from_octets(state.spi, suite, &octets, sequence)
            .map_err(|error| Failure::refused(error.to_string(), "choose an SPI from 256 on"))?;
        let keys = SaKeys { limits: limits(&state.limits)?, ..keys };
        let way = self.way(state, &ends)?;
        let new = NewSingle {
            peer: Identity::Address(ends.remote),
            local: self.identity.clone(),
            mode: mode(state),
            selectors: selectors(state, &ends, self.tun)?,
            reqid: reqid(state, &ends, reqids),
            keys,
            // As a kernel has it, in IPv4.
            align: if state.has(XfrmStateFlag::Align4) { Align::Rfc } else { Align::Eight },
            origin: if held.ephemeral { KeyOrigin::Ephemeral } else { KeyOrigin::Static },
            worker: WorkerId(0),
            way,
        };
        self.check_numbers(&new, held)?;
        Ok(new)
    }

    /// What is said anew of a state.
    pub fn revision(&self, single: SingleId, state: &XfrmState) -> Answer<Revision> {
        let ends = self.ends(state)?;
        let end = match self.way(state, &ends)? {
            Way::Inbound { from, outer, .. } => RevisedEnd::Inbound(from, outer),
            Way::Outbound { path, shape, .. } => RevisedEnd::Outbound(path, shape),
        };
        Ok(Revision {
            single,
            selectors: selectors(state, &ends, self.tun)?,
            limits: limits(&state.limits)?,
            end,
        })
    }

    /// Whether a state protects what we send: its source is ours.
    pub fn is_outbound(&self, state: &XfrmState) -> bool {
        self.ends(state).is_ok_and(|ends| ends.outbound)
    }

    /// A state whose destination is ours is inbound, and one whose source is ours outbound.
    fn ends(&self, state: &XfrmState) -> Answer<Ends> {
        let is_ours = |address: IpAddr| self.listen.iter().any(|listen| listen.ip() == address);
        let (src, dst) = (state.src, state.dst);
        match (is_ours(dst), is_ours(src)) {
            (true, _) => Ok(Ends { outbound: false, local: dst, remote: src }),
            (false, true) => Ok(Ends { outbound: true, local: src, remote: dst }),
            (false, false) => Err(Failure::refused(
                format!(
                    "this gateway listens neither at {src} nor at {dst}, so that the state is of no direction"
                ),
                "give `latchway run` that address with --listen",
            )),
        }
    }

    fn way(&self, state: &XfrmState, ends: &Ends) -> Answer<Way> {
        let Ends { outbound, local, remote } = *ends;
        let carrier = if state.encap.is_some() { Carrier::Udp } else { Carrier::Native };
        let port = state.encap.map_or(0, |encap| if outbound { encap.dport } else { encap.sport });
        let own = state.encap.map(|encap| if outbound { encap.sport } else { encap.dport });
        let wire = self.wire(local, own)?;
        let path = Path { wire, from: local, to: SocketAddr::new(remote, port), mtu: MTU, carrier };
        let outer = outer(state, carrier);
        if outbound {
            let tfc = match u16::try_from(state.tfcpad) {
                Ok(0) => Tfc::None,
                Ok(octets) => Tfc::Multiple(octets),
                Err(_) => Tfc::Mtu,
            };
            let shape = Shape { outer, tfc, ..Shape::default() };
            let next = SeqNum(state.replay_oseq.saturating_add(1));
            return Ok(Way::Outbound { path, shape, next, reservation: None });
        }
        let anti_replay = match state.window() {
            0 => AntiReplay::Off,
            // The kernel takes smaller ones; a larger one takes whatever they would.
            size => WindowSize::new(size.max(32)).map(AntiReplay::Window).map_err(|_| {
                Failure::refused(
                    format!("a replay window of {size} packets cannot be had"),
                    "use 32 to 65536, or 0 to turn the check off",
                )
            })?,
        };
        let from = Peer { follow: Follow::Fixed, ..path.peer() };
        Ok(Way::Inbound { anti_replay, from, outer, after: SeqNum(state.replay_seq), top: None })
    }

    /// The wire that is bound to an address, and in UDP to a port.
    fn wire(&self, local: IpAddr, port: Option<u16>) -> Answer<usize> {
        let is = |listen: &Listen| match (*listen, port) {
            (Listen::Udp(address), Some(port)) => address == SocketAddr::new(local, port),
            (Listen::Native(address), None) => address == local,
            _ => false,
        };
        self.listen.iter().position(is).ok_or_else(|| match port {
            Some(port) => Failure::refused(
                format!("this gateway has no UDP socket at port {port} of {local}"),
                "give `latchway run` that address and port with --listen",
            ),
            None => Failure::refused(
                format!("this gateway receives no ESP or AH without UDP at {local}"),
                "give `latchway run` the address with --listen, without a port; or use `encap espinudp`",
            ),
        })
    }

    /// The same SAs, whose keys are bound to the record from now on, or noted as used. To be called when nothing else stands
    /// against them: a key that was refused is bound to nothing.
    pub fn enrolled(&self, news: Vec<NewSingle>) -> Result<Vec<NewSingle>, RecordFault> {
        match self.records {
            Some(records) => records.resume_singles(news),
            None => Ok(news),
        }
    }

    /// Has the numbers of counter-mode keys go on where the record says (T12). They are not bound by that yet.
    pub fn rehearsed(&self, news: Vec<NewSingle>) -> Result<Vec<NewSingle>, RecordFault> {
        match self.records {
            Some(records) => records.rehearse_singles(news),
            None => Ok(news),
        }
    }

    /// Whether what is said of a state's numbers can be (T12).
    fn check_numbers(&self, new: &NewSingle, held: &Held) -> Answer<()> {
        let suite = new.keys.material.suite();
        if held.ephemeral || !suite.is_counter_mode() {
            return Ok(());
        }
        if self.records.is_none() {
            return Err(Failure::refused(
                format!(
                    "{suite} must not be used with keys that may have been used before (RFC 8221 section 3)"
                ),
                FRESH,
            ));
        }
        if held.spec.replay_oseq > 0 || held.spec.replay_seq > 0 {
            return Err(Failure::refused(
                "where the numbers of a key on record go on is for the record to say",
                "leave replay-seq and replay-oseq out; or assert by --ephemeral-keys that nobody uses the key any more",
            ));
        }
        Ok(())
    }
}

/// Where packets may go and come from. In transport mode these are the ends alone.
fn selectors(state: &XfrmState, ends: &Ends, tun: &str) -> Answer<Vec<Selector>> {
    state.selector.as_ref().map_or(Ok(()), |said| through(said, tun))?;
    let any = |ipv4: bool| {
        let all = if ipv4 { "0.0.0.0/0" } else { "::/0" };
        all.parse::<IpNet>().map_err(|error| Failure::failed(error.to_string(), "report this"))
    };
    if state.mode == XfrmMode::Transport {
        let said = state.selector.clone().unwrap_or(XfrmSelector {
            src: state.src.into(),
            dst: state.dst.into(),
            protocol: 0,
            upper: Default::default(),
            dev: None,
        });
        let holds = |prefix: &IpNet, end: IpAddr| prefix.prefix_len() == 0 || prefix.contains(&end);
        if !(holds(&said.src, state.src) && holds(&said.dst, state.dst)) {
            return Err(Failure::refused(
                "the state's selector leaves out its own ends, which are those of every packet in transport mode",
                "say the ends in `sel`, or no addresses there; or use mode tunnel",
            ));
        }
        let between = XfrmSelector { src: state.src.into(), dst: state.dst.into(), ..said };
        return Ok(vec![of_state(&between, ends.outbound)?]);
    }
    if let Some(said) = &state.selector {
        return Ok(vec![of_state(said, ends.outbound)?]);
    }
    let own = state.dst.is_ipv4();
    let families = if state.has(XfrmStateFlag::AfUnspec) { vec![own, !own] } else { vec![own] };
    let whole = |ipv4: bool| {
        let all = XfrmSelector {
            src: any(ipv4)?,
            dst: any(ipv4)?,
            protocol: 0,
            upper: Default::default(),
            dev: None,
        };
        of_state(&all, ends.outbound)
    };
    families.into_iter().map(whole).collect()
}

fn reqid(state: &XfrmState, ends: &Ends, reqids: &mut Reqids) -> Reqid {
    let tunnel = (state.mode == XfrmMode::Tunnel).then_some((ends.local, ends.remote));
    reqids.of(Tie { protocol: state.protocol, mode: state.mode, reqid: state.reqid, tunnel })
}

const fn mode(state: &XfrmState) -> Mode {
    match state.mode {
        XfrmMode::Transport => Mode::Transport,
        XfrmMode::Tunnel => Mode::Tunnel,
    }
}

/// What flags say of the outer header.
fn outer(state: &XfrmState, carrier: Carrier) -> OuterPolicy {
    let usual = match carrier {
        Carrier::Udp => OuterPolicy::UDP,
        Carrier::Native => OuterPolicy::NATIVE,
    };
    OuterPolicy {
        dscp: if state.has(XfrmStateFlag::DontEncapDscp) { Dscp::Set(0) } else { usual.dscp },
        ecn: if state.has(XfrmStateFlag::NoEcn) { Ecn::Compatibility } else { usual.ecn },
        df: if state.has(XfrmStateFlag::NoPmtuDisc) { Df::Clear } else { usual.df },
        decapsulate_dscp: state.has(XfrmStateFlag::DecapDscp),
        ..usual
    }
}

fn limits(said: &XfrmLimits) -> Answer<Limits> {
    let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
    let soft = Bounds {
        octets: said.byte_soft,
        packets: said.packet_soft,
        time: seconds(said.time_soft),
        since_first_use: seconds(said.time_use_soft),
    };
    let hard = Bounds {
        octets: said.byte_hard,
        packets: said.packet_hard,
        time: seconds(said.time_hard),
        since_first_use: seconds(said.time_use_hard),
    };
    Limits::new(soft, hard).map_err(|error| Failure::refused(error.to_string(), "say other limits"))
}

/// What is said to whoever brings a counter-mode key by hand.
pub const FRESH: &str = "say --ephemeral-keys if the key was made for this and nobody used it before, run the gateway with \
     --state-dir, or use cbc(aes) with hmac(sha256)";

const ALGORITHMS: &str = "docs/xfrm.md lists the algorithms";

/// The largest outer packet; what a path takes is found out.
const MTU: u16 = 1500;

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_control::XfrmStep;
    use latchway_xfrm::{Command, Family};

    fn selectors_of(words: &str) -> Answer<Vec<Selector>> {
        let key = "auth-trunc hmac(sha256) 0x000102030405060708090a0b0c0d0e0f 128";
        let line = format!("state add src 192.0.2.1 dst 192.0.2.2 proto ah spi 256 {key} {words}");
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let Ok(Command::Apply(XfrmStep::AddState(state))) = Command::read(&words, Family::Any) else {
            panic!("{line}")
        };
        let ends = Ends { outbound: true, local: state.src, remote: state.dst };
        selectors(&state, &ends, "lw0")
    }

    /// RFC 4301 4.4.2.1: an SA carries what was said, and never more.
    #[test]
    fn a_selector_is_kept_to_or_refused() {
        let whole = selectors_of("mode transport").unwrap();
        for same in ["sel src 0.0.0.0/0 dst 0.0.0.0/0", "sel src 192.0.2.0/24 dst 192.0.2.2 dev lw0"] {
            assert_eq!(selectors_of(&format!("mode transport {same}")).unwrap(), whole, "{same}");
        }
        for wrong in [
            "mode transport sel src 10.0.0.1 dst 192.0.2.2",
            "mode tunnel sel src 10.0.0.0/8 dst 10.0.0.0/8 dev eth7",
        ] {
            assert!(selectors_of(wrong).is_err(), "{wrong}");
        }
    }
}
