//! The latch of a connection: state, peer, protection, and the tag of its last inbound packet (L-91).

use std::fmt;

use latchway_control::{LatchRow, LatchState, TagView};
use serde::Serialize;

use crate::demo::cast::Cast;
use crate::demo::connection::Connection;
use crate::demo::failure::{Failure, expect};
use crate::demo::network::BOB;

/// The latch as alice's gateway shows it.
#[derive(Debug, Serialize)]
pub struct Latched {
    flow: String,
    state: String,
    peer: String,
    protection: String,
    class: u32,
    last_tag: TagView,
}

/// Reads the latch of a connection and compares it with the SAs that carry it.
pub fn show(cast: &Cast, connection: &Connection) -> Result<Latched, Failure> {
    let association = cast.association()?;
    Connection::say(&connection.bob, &connection.alice, b"one more inbound packet")?;
    let latch = connection.expect_latch(&cast.alice)?;
    let inbound = Cast::sa(&cast.alice, association.spis[1])?;
    let suite = association.suite.name();
    let expected =
        format!("ESTABLISHED with {} by {suite}, class {}", BOB.identity, inbound.class.unwrap_or_default());
    let holds = latch.state == LatchState::Established
        && latch.peer.contains(BOB.identity)
        && latch.protection.contains(suite)
        && Some(latch.class) == inbound.class;
    expect(holds, &expected, || format!("{latch:?}"))?;
    let tag = latch.last_tag.filter(|tag| tag.class == latch.class);
    let missing = || {
        Failure::unmet(
            "a tag of the same class from the last inbound packet",
            format!("{:?}", latch.last_tag),
        )
    };
    let last_tag = tag.ok_or_else(missing)?;
    let LatchRow { flow, state, peer, protection, class, .. } = latch;
    Ok(Latched { flow, state: state.to_string(), peer, protection, class, last_tag })
}

impl fmt::Display for Latched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flow, state, peer, protection, class, last_tag } = self;
        write!(f, "{flow}: {state}, {peer}, {protection}, class {class}; last inbound tag: ")?;
        let TagView { class, sa_index, generation, version } = last_tag;
        write!(f, "class {class}, SA {sa_index}.{generation}, state {version}")
    }
}
