//! What is said on a control socket.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_control::fuzz::message(data));
