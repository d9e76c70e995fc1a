//! A script of `ip xfrm` commands.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_xfrm::fuzz::batch(data));
