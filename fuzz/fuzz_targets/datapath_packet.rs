//! An inner packet (T02, T21).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_datapath::fuzz_streets::packet(data));
