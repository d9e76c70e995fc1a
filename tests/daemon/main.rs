//! The daemon as its operator meets it: gateways run from configuration files, every verb and every signal, what a reload
//! does and what it leaves alone.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod apps;
mod captured;
mod checked;
mod documented;
mod events;
mod examples;
mod exec;
mod explained;
mod forms;
#[path = "../support/process.rs"]
mod gateway;
mod kept;
mod latches;
mod narrow;
mod outer;
mod preload;
mod proven;
mod reload;
mod required;
mod routed;
mod schema;
mod scripted;
mod selectors;
mod sharing;
mod shown;
mod signals;
mod site;
mod stuck;
mod traffic;
mod unreachable;
mod users;
mod xfrm;
mod xfrm_forms;
mod xfrm_life;

use crate::gateway::{PATIENCE, eventually, scenario};
