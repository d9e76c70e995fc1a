//! What becomes of the connection of a latch that broke: it ends, and the application feels it (L-87, L-100, L-109, R-17).
//!
//! Where the socket is in reach, the kernel is told to end it. Otherwise [`resets`] are what can be said to both ends
//! (L-103).

use latchway_datapath::flow::protocol;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState, LatchTerms, OnConflict};
use latchway_datapath::reset::{Reset, ResetPacket};
use latchway_datapath::time::Time;
use latchway_tagging::ClassId;

use crate::database::{LatchDatabase, LatchView};
use crate::progress::{Progress, Side};
use crate::sock_destroy::{DestroyError, SocketDestroyer};
use crate::sync::Ordering;

/// How the local end of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposed {
    /// Its socket was destroyed: the application sees ECONNABORTED.
    Destroyed,
    /// There is no connected socket here (any more), so nobody to tell.
    NoSuchSocket,
    /// Its terms are to wait until the conflict has passed: nothing is said to anybody.
    Waits,
    /// The latch is neither broken nor closed, or is gone, so that nothing is to end.
    NotBroken,
}

/// What ends a TCP connection at both its ends, said to each in the name of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resets {
    /// To the local end. Where it does not expect just this sequence number, it answers with a challenge ACK (RFC 5961
    /// section 3.2), and that meets the latch and is answered in turn, exactly.
    pub to_local: ResetPacket,
    /// To the remote end, only ever under an SA of this class (L-99); `None` where the connection was bypassed.
    pub to_remote: Option<(ResetPacket, ClassId)>,
}

/// Ends the connection of a broken or closed latch, whose local end is a socket in the destroyer's namespace. The
/// reset that the kernel makes of it meets the latch, and is dropped. Afterwards the latch is CLOSED, and its 5-tuple
/// free for a new connection.
///
/// The socket is seen while the latch holds its 5-tuple, so that a later connection of the same 5-tuple, which has a
/// latch of its own, is never hit.
///
/// # Errors
/// [`DestroyError`]: the socket lives, and the latch stays as it is.
pub fn terminate(
    database: &LatchDatabase,
    sockets: &mut SocketDestroyer,
    latch: LatchId,
    now: Time,
) -> Result<Disposed, DestroyError> {
    let Some(view) = database.inquire(latch).filter(is_out_of_force) else { return Ok(Disposed::NotBroken) };
    if view.waits() {
        return Ok(Disposed::Waits);
    }
    let seen = sockets.see(&view.flow)?;
    // A socket that is opening is another one, where the latched one had been answered.
    let seen = seen.filter(|seen| !seen.opening || view.progress == Progress::LocalOnly);
    if !database.inquire(latch).is_some_and(|view| is_out_of_force(&view)) {
        return Ok(Disposed::NotBroken);
    }
    let disposed = match seen.map(|seen| sockets.destroy_seen(&view.flow, &seen)) {
        Some(Ok(())) => Disposed::Destroyed,
        None | Some(Err(DestroyError::NoSuchSocket)) => Disposed::NoSuchSocket,
        Some(Err(error)) => return Err(error),
    };
    database.ended(latch, now);
    Ok(disposed)
}

/// The resets that end the connection of a latch; `None` where it is not of TCP, is over, or nobody has spoken on it.
#[must_use]
pub fn resets(database: &LatchDatabase, latch: LatchId) -> Option<Resets> {
    let view = database.inquire(latch)?;
    if view.flow.protocol() != protocol::TCP || view.progress.is_over() || view.state == LatchState::Listener
    {
        return None;
    }
    let (sent, received) = database.sides(latch)?;
    if [sent, received] == [Side::default(); 2] {
        return None;
    }
    let (local, remote) = (view.flow.local(), view.flow.remote());
    let to_remote = reset(sent, received).packet(local, remote);
    Some(Resets {
        to_local: reset(received, sent).packet(remote, local)?,
        to_remote: to_remote.zip(view.class),
    })
}

/// What a side says to end a connection: at the end of what it sent, which is what the other expects next if nothing is
/// lost; and acknowledging what the other sent, which is what SYN-SENT looks at (RFC 9293 3.10.7.3).
fn reset(from: Side, to: Side) -> Reset {
    Reset { seq: from.edge, ack: (to != Side::default()).then_some(to.edge) }
}

/// Whether a latch that broke for this reason waits, by these terms, until the reason is gone.
pub(crate) fn comes_back(terms: LatchTerms, reason: Option<BreakReason>) -> bool {
    terms.on_conflict == OnConflict::Wait && reason.is_some_and(BreakReason::can_pass)
}

fn is_out_of_force(view: &LatchView) -> bool {
    matches!(view.state, LatchState::Broken | LatchState::Closed)
}

impl LatchView {
    /// Whether it is broken, and by its terms comes into force again when the conflict has passed.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.state == LatchState::Broken && comes_back(self.terms, self.reason)
    }
}

impl LatchDatabase {
    /// How far the local and the remote side of a latch's connection are.
    fn sides(&self, latch: LatchId) -> Option<(Side, Side)> {
        let found = self.by_id(latch)?;
        let side = |word: u64| Side::unpack(word);
        let sent = side(found.slot.sent.load(Ordering::Relaxed));
        let received = side(found.slot.received.load(Ordering::Relaxed));
        // The same latch still, so that the numbers are of its connection.
        self.by_id(latch).map(|_| (sent, received))
    }
}
