//! The facts: each measures, compares with what it promises, and returns what it measured.

pub mod clear;
pub mod expiry;
pub mod latch;
pub mod ping;
pub mod rekey;
pub mod takeover;
pub mod transfer;
pub mod unlatched;
pub mod wire;

mod forgery;
mod on_wire;
