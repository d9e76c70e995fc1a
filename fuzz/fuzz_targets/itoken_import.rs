//! Texts that are said to be identities.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_socket::fuzz::itoken_import(data));
