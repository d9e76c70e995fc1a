//! Packets under SAs of every mode, carrier and protocol: sent, received, and forged (T01, T02, T03, T20, T21, T22).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_datapath::fuzz_streets::modes(data));
