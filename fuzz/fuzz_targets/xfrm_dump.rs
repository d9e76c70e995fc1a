//! What `ip xfrm state` and `ip xfrm policy` print.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_xfrm::fuzz::dump(data));
