//! Orders of arrival, against a plain set of numbers (T07, T08).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_esp::fuzz::replay(data));
