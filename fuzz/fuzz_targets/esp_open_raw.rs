//! A datagram by someone without the key (T03, T04).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_esp::fuzz::open_raw(data));
