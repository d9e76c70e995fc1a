//! An ESP packet by someone with the key (T01 to T03).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_esp::fuzz::open_with_key(data));
