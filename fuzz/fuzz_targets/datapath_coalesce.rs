//! Packets merged into super-packets and taken apart again (T28).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_datapath::fuzz_offload::coalesce(data));
