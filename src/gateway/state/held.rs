//! What connections are held to, and who is on their ends, in the words of control.sock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use base64ct::{Base64, Encoding};
use latchway_config::Listen;
use latchway_control::{HeldView, IdentityView, ModeSpec, TunnelView};
use latchway_datapath::sad::Path;
use latchway_keying::{Nat, Party};
use latchway_tagging::{Class, ClassId, Identity, Mode};

use crate::gateway::rows::{
    anchor_view, certificate_view, method_word, protection, suite_name, unix_milliseconds,
};

/// The parameters of a class, and who the two ends are.
pub fn held(id: ClassId, class: &Class, peer: &Party, local: &Party) -> HeldView {
    HeldView {
        class: Some(id.raw()),
        protection: protection(class),
        mode: Some(match class.mode {
            Mode::Tunnel => ModeSpec::Tunnel,
            Mode::Transport => ModeSpec::Transport,
        }),
        inbound_suite: Some(suite_name(&class.algorithms.inbound).into()),
        outbound_suite: Some(suite_name(&class.algorithms.outbound).into()),
        replay_checked: Some(class.replay_checked),
        peer: Some(party(peer)),
        // Nobody proved to us who we are.
        identity: Some(IdentityView { method: None, ..party(local) }),
    }
}

/// A connection that passes in the clear by right (L-112).
pub fn bypass() -> HeldView {
    HeldView {
        class: None,
        protection: "bypass".into(),
        mode: None,
        inbound_suite: None,
        outbound_suite: None,
        replay_checked: None,
        peer: None,
        identity: None,
    }
}

/// Where an SA leads; `listen` are the wire sockets in their order.
pub fn tunnel(path: &Path, nat: Option<Nat>, listen: &[Listen]) -> TunnelView {
    let nat = nat.unwrap_or_default();
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    TunnelView {
        local: listen.get(path.wire).map_or(nowhere, Listen::socket_address),
        remote: path.to,
        local_nat: nat.local,
        remote_nat: nat.remote,
        local_inner: nat.local_inner,
        remote_inner: nat.remote_inner,
    }
}

fn party(party: &Party) -> IdentityView {
    let evidence = party.evidence.as_ref();
    let certificate = evidence.and_then(|evidence| evidence.certificate.as_ref());
    let anchor = evidence.and_then(|evidence| evidence.anchor.as_ref());
    let key = evidence.and_then(|evidence| evidence.public_key.as_ref());
    IdentityView {
        asserted: party.record.asserted.to_string(),
        kind: kind(&party.record.asserted).into(),
        method: Some(method_word(party.record.method)),
        entry: party.entry.clone(),
        certificate: certificate.map(certificate_view),
        certificate_der: certificate.map(|certificate| Base64::encode_string(certificate.der())),
        trust_anchor: anchor.map(anchor_view),
        public_key: key.map(|key| Base64::encode_string(key.der())),
        authenticated: evidence.and_then(|evidence| evidence.authenticated_at).map(unix_milliseconds),
    }
}

const fn kind(identity: &Identity) -> &'static str {
    match identity {
        Identity::Fqdn(_) => "fqdn",
        Identity::Email(_) => "mail",
        Identity::Address(_) => "address",
        Identity::DistinguishedName(_) => "distinguished-name",
        Identity::KeyId(_) => "key-id",
        Identity::PublicKey(_) => "public-key",
    }
}
