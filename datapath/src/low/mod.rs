//! The folder where system calls, atomics and unsafe code live (architecture, sections 4 to 6).

pub mod publish;
pub mod tun;
pub mod wire;

mod sync;
