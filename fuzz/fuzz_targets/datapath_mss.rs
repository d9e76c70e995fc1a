//! A packet whose segments are to be kept short (T20).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_datapath::fuzz_streets::mss(data));
