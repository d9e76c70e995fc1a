//! A datagram from the wire, by someone without the key (T03).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_datapath::fuzz_streets::wire(data));
