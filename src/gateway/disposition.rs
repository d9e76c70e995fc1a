//! What follows when a latch breaks: the connection ends, so that its application learns of it (L-100, L-109).

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::Receiver;
use latchway_datapath::event::Event;
use latchway_ulp_shim::SocketDestroyer;

use crate::gateway::state::State;

/// Ends connections whose latch broke, until the key manager forwards no more events.
pub fn start(
    mut sockets: SocketDestroyer,
    events: Receiver<Event>,
    state: &Arc<State>,
) -> io::Result<JoinHandle<()>> {
    let state = Arc::downgrade(state);
    thread::Builder::new().name("disposition".into()).spawn(move || {
        for event in events {
            let Some(state) = state.upgrade() else { return };
            state.tell(&event);
            if let Event::LatchBroken { flow, .. } = event {
                state.terminate(&flow, &mut sockets);
            }
        }
    })
}
