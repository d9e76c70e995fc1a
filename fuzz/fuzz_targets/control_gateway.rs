//! A gateway's description.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_control::fuzz::gateway(data));
