//! What a peer with the right key puts inside ESP (T01, T02, T15).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_datapath::fuzz_streets::inbound(data));
