//! What is said on an application's socket.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_control::fuzz::app_message(data));
