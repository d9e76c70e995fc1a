//! An IP packet authenticated by someone with the key (T22).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_esp::fuzz::ah_with_key(data));
