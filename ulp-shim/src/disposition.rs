//! What becomes of the connection of a latch that broke: it ends, and the application feels it (L-100, L-109, R-17).

use latchway_datapath::flow::FlowKey;
use latchway_datapath::time::Time;

use crate::database::LatchDatabase;
use crate::sock_destroy::{DestroyError, SocketDestroyer};
use latchway_datapath::latching::LatchState;

/// How the local end of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposed {
    /// Its socket was destroyed: the application sees ECONNABORTED.
    Destroyed,
    /// There is no connected socket any more, so nobody to tell.
    NoSuchSocket,
    /// The flow has no broken or closed latch, so that nothing is to end.
    NotBroken,
}

/// Ends the connection of a broken or closed latch, whose local end is a socket in the destroyer's namespace. The
/// reset that the kernel makes of it meets the latch, and is dropped. Afterwards the latch is CLOSED, and its 5-tuple
/// free for a new connection.
///
/// # Errors
/// [`DestroyError`]: the socket lives, and the latch stays as it is.
pub fn terminate(
    database: &LatchDatabase,
    sockets: &mut SocketDestroyer,
    flow: &FlowKey,
    now: Time,
) -> Result<Disposed, DestroyError> {
    let ended = |view: &crate::LatchView| matches!(view.state, LatchState::Broken | LatchState::Closed);
    let Some(latch) = database.find(flow).and_then(|id| database.inquire(id)).filter(ended) else {
        return Ok(Disposed::NotBroken);
    };
    let disposed = match sockets.destroy(flow) {
        Ok(()) => Disposed::Destroyed,
        Err(DestroyError::NoSuchSocket) => Disposed::NoSuchSocket,
        Err(error) => return Err(error),
    };
    database.ended(latch.id, now);
    Ok(disposed)
}
