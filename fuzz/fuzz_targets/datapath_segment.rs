//! A virtio header and a super-packet, as a TUN would hand them over (T28).

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_datapath::fuzz_offload::segment(data));
