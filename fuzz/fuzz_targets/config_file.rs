//! A gateway's configuration file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| latchway_config::fuzz::file(data));
