//! Keys of SAs, for who explicitly asks to see them (T40).

use latchway_control::{EventKind, EventView, KeyedSa, Secret, ShownKeys};
use latchway_datapath::drop::Direction;
use latchway_esp::{Protocol, SequenceKind, ShownKey};
use latchway_keying::ShownSa;
use zeroize::Zeroizing;

use crate::gateway::daemon::tell;
use crate::gateway::operator::Answer;
use crate::gateway::state::State;
use crate::gateway::state::answers::stopped;

impl State {
    /// All of them. That they were shown is logged and told first.
    pub(super) fn shown_keys(&self) -> Answer<ShownKeys> {
        self.say_keys_are_shown("the keys of all SAs were shown to somebody on control.sock");
        let pairs = self.keying.keys().map_err(stopped)?;
        let mut sas: Vec<_> = pairs.iter().map(keyed).collect();
        sas.extend(self.xfrm.keyed());
        Ok(ShownKeys { sas })
    }

    /// In the log, and to whoever hears events.
    pub(super) fn say_keys_are_shown(&self, said: &str) {
        tell(said);
        self.events().publish(EventView::new(EventKind::KeysShown, said));
    }
}

fn keyed(sa: &ShownSa) -> KeyedSa {
    let (own, peer) = (sa.path.from, sa.path.to.ip());
    let (source, destination) = match sa.direction {
        Direction::Inbound => (peer, own),
        Direction::Outbound => (own, peer),
    };
    let (encryption, integrity) = in_hexadecimal(&sa.key);
    KeyedSa {
        protocol: sa.key.suite().protocol().name().into(),
        source,
        destination,
        spi: sa.spi.get(),
        suite: sa.key.suite().name().into(),
        esn: sa.sequence == SequenceKind::Extended,
        encryption,
        integrity,
    }
}

/// Either key, with the salt behind the one that it belongs to.
pub fn in_hexadecimal(key: &ShownKey) -> (Secret, Secret) {
    let salted = |key: &[u8], salt: &[u8]| Secret::new(hex::encode(Zeroizing::new([key, salt].concat())));
    match key.suite().protocol() {
        Protocol::Esp => (salted(key.encryption_key(), key.salt()), salted(key.integrity_key(), &[])),
        Protocol::Ah => (salted(&[], &[]), salted(key.integrity_key(), key.salt())),
    }
}
