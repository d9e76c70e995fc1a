//! The folder where system calls, atomics and unsafe code live.

pub mod apart;
pub mod publish;
pub mod socket_facts;
pub mod tun;
pub mod wire;

mod sync;
