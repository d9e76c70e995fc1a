//! A datagram on the NAT traversal port (RFC 3948, T03).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_esp::fuzz::classify(data));
