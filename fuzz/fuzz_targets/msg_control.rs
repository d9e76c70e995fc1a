//! Ancillary data of messages.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway::fuzz::msg_control(data));
