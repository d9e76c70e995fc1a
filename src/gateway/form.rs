//! In what form an SA's packets travel: from a description, and as it is shown.

use std::sync::Arc;
use std::time::Duration;

use latchway_control::{
    DfSpec, DiscoverySpec, EcnSpec, FlowLabelSpec, FormSpec, FragmentSpec, HeaderView, ProbeSpec, TfcSpec,
};
use latchway_datapath::arrival::Carrier;
use latchway_datapath::outer::{Df, Dscp, Ecn, FlowLabel, OuterPolicy};
use latchway_datapath::pmtu::{Discovery, Fragment, Pmtu, ProbeEnds, Sizing};
use latchway_datapath::sad::{Follow, Shape, Tfc};
use latchway_esp::Align;
use latchway_keying::SaView;
use latchway_tagging::Mode;

use crate::gateway::convert::SpecError;
use crate::gateway::rows::milliseconds;

/// What packets look like, of SAs of a mode that travel so.
///
/// # Errors
/// [`SpecError::Form`] where a value cannot be.
pub fn shape(form: &FormSpec, mode: Mode, carrier: Carrier) -> Result<Shape, SpecError> {
    let usual = if carrier == Carrier::Native { OuterPolicy::NATIVE } else { OuterPolicy::UDP };
    let df = form.df.map_or(usual.df, |df| match df {
        DfSpec::Copy => Df::Copy,
        DfSpec::Set => Df::Set,
        DfSpec::Clear => Df::Clear,
    });
    let flow_label = form.flow_label.map_or(usual.flow_label, |label| match label {
        FlowLabelSpec::Zero => FlowLabel::Zero,
        FlowLabelSpec::Copy => FlowLabel::Copy,
        FlowLabelSpec::Hash => FlowLabel::Hash,
    });
    let ecn = match form.ecn {
        EcnSpec::Normal => Ecn::Normal,
        EcnSpec::Compatibility => Ecn::Compatibility,
    };
    let ttl = form.ttl.unwrap_or(usual.ttl);
    if ttl == 0 {
        return Err(SpecError::Form("a `ttl` of 0 reaches nobody; use 1 to 255"));
    }
    let (dscp, decapsulate_dscp) = (dscp(form)?, form.decapsulate_dscp);
    let tfc = tfc(form, mode)?;
    let wait = |milliseconds: Option<u64>| match milliseconds {
        Some(0) => Err(SpecError::Form(
            "`dummies` and `keepalive` are at least a millisecond; leave them out for none",
        )),
        given => Ok(given.map(Duration::from_millis)),
    };
    Ok(Shape {
        outer: OuterPolicy { dscp, ecn, df, ttl, flow_label, decapsulate_dscp },
        tfc,
        sizing: sizing(form, mode),
        dummies: wait(form.dummies)?,
        keepalive: wait(form.keepalive)?,
    })
}

/// What becomes of packets from elsewhere.
pub const fn follow(form: &FormSpec) -> Follow {
    if form.follow { Follow::Follow } else { Follow::Fixed }
}

/// How long AH headers are a multiple of.
pub const fn align(form: &FormSpec) -> Align {
    if form.align8 { Align::Eight } else { Align::Rfc }
}

/// The form of SAs, as it would be described.
pub fn shown(shape: &Shape, carrier: Carrier, follow: Follow, align: Align) -> FormSpec {
    let Shape { outer, tfc, sizing, dummies, keepalive } = shape;
    let (dscp, dscp_map) = match &outer.dscp {
        Dscp::Copy => (None, Vec::new()),
        Dscp::Set(code_point) => (Some(*code_point), Vec::new()),
        Dscp::Map(map) => {
            (None, (0..).zip(map.iter().copied()).filter(|(inner, outer)| inner != outer).collect())
        }
    };
    let native = carrier == Carrier::Native;
    FormSpec {
        dscp,
        dscp_map,
        decapsulate_dscp: outer.decapsulate_dscp,
        ecn: match outer.ecn {
            Ecn::Normal => EcnSpec::Normal,
            Ecn::Compatibility => EcnSpec::Compatibility,
        },
        df: Some(match outer.df {
            Df::Copy => DfSpec::Copy,
            Df::Set => DfSpec::Set,
            Df::Clear => DfSpec::Clear,
        }),
        ttl: native.then_some(outer.ttl),
        flow_label: native.then_some(match outer.flow_label {
            FlowLabel::Zero => FlowLabelSpec::Zero,
            FlowLabel::Copy => FlowLabelSpec::Copy,
            FlowLabel::Hash => FlowLabelSpec::Hash,
        }),
        tfc: if *tfc == Tfc::Mtu { TfcSpec::Mtu } else { TfcSpec::None },
        tfc_multiple: if let Tfc::Multiple(octets) = tfc { Some(*octets) } else { None },
        dummies: dummies.map(milliseconds),
        keepalive: keepalive.map(milliseconds),
        follow: follow == Follow::Follow,
        fragment: Some(match sizing.fragment {
            Fragment::Before => FragmentSpec::Before,
            Fragment::After => FragmentSpec::After,
        }),
        pmtu: Some(match sizing.pmtu.discovery {
            Discovery::Off => DiscoverySpec::Fixed,
            Discovery::Hints => DiscoverySpec::Learn,
            Discovery::Probes => DiscoverySpec::Probe,
        }),
        pmtu_floor: Some(sizing.pmtu.floor),
        probe: sizing.pmtu.probe.map(|ProbeEnds { from, to }| ProbeSpec { from, to }),
        mss_clamp: sizing.clamp_mss,
        align8: align == Align::Eight,
    }
}

/// The AH around an SA, of a bundle.
pub fn header(sa: &SaView) -> HeaderView {
    HeaderView { spi: sa.spi.get(), suite: sa.suite.to_string() }
}

fn dscp(form: &FormSpec) -> Result<Dscp, SpecError> {
    let known = |code_point: &u8| *code_point < 64;
    let pairs = || form.dscp_map.iter();
    if !form.dscp.iter().chain(pairs().flat_map(|(inner, outer)| [inner, outer])).all(known) {
        return Err(SpecError::Form("a DSCP is 0 to 63"));
    }
    match form.dscp {
        Some(_) if !form.dscp_map.is_empty() => Err(SpecError::Form("give `dscp` or `dscp_map`, not both")),
        Some(code_point) => Ok(Dscp::Set(code_point)),
        None if form.dscp_map.is_empty() => Ok(Dscp::Copy),
        None => {
            let mapped = |inner: u8| pairs().find(|(from, _)| *from == inner).map_or(inner, |(_, to)| *to);
            Ok(Dscp::Map(Arc::new(std::array::from_fn(|inner| u8::try_from(inner).map_or(0, mapped)))))
        }
    }
}

fn tfc(form: &FormSpec, mode: Mode) -> Result<Tfc, SpecError> {
    let tfc = match (form.tfc, form.tfc_multiple) {
        (TfcSpec::None, None) => Tfc::None,
        (TfcSpec::None, Some(octets)) if octets > 1 => Tfc::Multiple(octets),
        (TfcSpec::Mtu, None) => Tfc::Mtu,
        _ => return Err(SpecError::Form("give `tfc`, or a `tfc_multiple` of 2 octets or more")),
    };
    if tfc != Tfc::None && mode == Mode::Transport {
        return Err(SpecError::Form(
            "only in tunnel mode the peer can tell the padding of `tfc` from the payload",
        ));
    }
    Ok(tfc)
}

fn sizing(form: &FormSpec, mode: Mode) -> Sizing {
    let usual = Pmtu::default();
    Sizing {
        pmtu: Pmtu {
            discovery: match form.pmtu {
                Some(DiscoverySpec::Fixed) => Discovery::Off,
                Some(DiscoverySpec::Learn) => Discovery::Hints,
                Some(DiscoverySpec::Probe) => Discovery::Probes,
                None => usual.discovery,
            },
            floor: form.pmtu_floor.unwrap_or(usual.floor),
            probe: form.probe.map(|ProbeSpec { from, to }| ProbeEnds { from, to }),
        },
        fragment: match form.fragment {
            None | Some(FragmentSpec::Before) if mode == Mode::Tunnel => Fragment::Before,
            _ => Fragment::After,
        },
        clamp_mss: form.mss_clamp,
    }
}
